//! `keyshard import`: brings over the Node service's jobs. What the chain proves to be paid goes into the history; all else
//! is listed for a human, and nothing is ever paid.
//!
//! The file alone proves nothing. Its `failed` includes jobs that were paid (its reconciler failed every job after ten
//! minutes), its `queued` and `processing` jobs may have been sent any number of times (each start paid them again, each
//! worker of a cluster for itself), and a hash that it names is only the last of those that were signed. So a job is
//! resolved by one thing only: a transaction of our account to our token, successful at FINAL, with an `ft_transfer` to its
//! receiver, of its amount, with its memo, that no other job is resolved by.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    fs::File,
    io::{BufReader, BufWriter, Write as _},
    path::PathBuf,
};

use chrono::DateTime;
use keyshard_engine::history::{History, Settled};
use keyshard_shard::{BatchId, Carried, CryptoHash, Instant, Transfer, TransferId};
use near_primitives::types::AccountId;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    config::Offline,
    data_dir::DataDir,
    evidence::{Payment, Sight, Witness},
    json::Iso,
    node_jobs::{self, NodeFile, NodeJob},
};

/// Jobs put into the history in one go.
const PUT_AT_ONCE: usize = 1_000;
/// Most jobs, and line numbers, that the summary names: the file has all of them.
const SHOWN: usize = 20;

/// What the Node service knows.
const STATUSES: [&str; 5] = ["queued", "processing", "submitted", "finalized", "failed"];

/// What is asked for.
pub(crate) struct Options {
    /// The Node service's `jobs.jsonl`.
    pub(crate) file: PathBuf,
    /// Change nothing.
    pub(crate) dry_run: bool,
    /// Where jobs for a human are listed.
    pub(crate) unresolved: PathBuf,
}

/// What is known of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    /// The history has it already.
    Known,
    /// It is paid by the `ft_transfer` at this position of this transaction, and by those of `also` once more.
    Paid { hash: CryptoHash, position: u16, also: Vec<CryptoHash> },
    /// A human has to look.
    Open(Why, String),
}

/// Why a job is not resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Why {
    /// Its creation is not in the file.
    Partial,
    /// Its receiver, amount or memo is none that a token could have taken, or its id is no UUID.
    NotATransfer,
    /// The file names no transaction of it.
    NoTransaction,
    /// The transaction failed: others may have paid it.
    TransactionFailed,
    /// No node knows the transaction (any more).
    TransactionUnknown,
    /// The transaction does not pay it, or pays another job that is the same.
    NotInTransaction,
    /// The nodes gave no clear answer.
    Unclear,
    /// The history has this id with another receiver, amount or memo.
    DiffersFromHistory,
}

/// A job as far as it can be a transfer.
struct Payable {
    id: Uuid,
    receiver: AccountId,
    payment: Payment,
}

/// What came of it.
pub(crate) struct Summary {
    /// By the status in the file: jobs, resolved now, known before, open.
    table: BTreeMap<String, [usize; 4]>,
    reasons: BTreeMap<&'static str, usize>,
    /// The first lines of those that are open.
    shown: Vec<String>,
    open: usize,
    doubled: Vec<String>,
    file: (u64, u64, Vec<u64>),
    dry_run: bool,
    list: PathBuf,
}

impl Summary {
    /// Whether a human has to look.
    pub(crate) fn needs_a_human(&self) -> bool {
        let (_, malformed, _) = self.file;
        self.open > 0 || malformed > 0
    }
}

/// Imports a file. The error is for people, and nothing was changed but what the summary of another run would tell.
pub(crate) async fn import(config: Offline, options: &Options) -> Result<Summary, String> {
    let path = options.file.display();
    let opened = File::open(&options.file).map_err(|error| format!("cannot open {path}: {error}"))?;
    let file = node_jobs::read(BufReader::new(opened)).map_err(|error| format!("cannot read {path}: {error}"))?;
    // A dry run makes nothing, not even a directory to lock.
    let directory =
        if options.dry_run && !config.data_dir.exists() { None } else { Some(DataDir::lock(&config.data_dir)?) };
    let Offline { account, token, rpc, trust, .. } = config;
    let witness = Witness::new(rpc, trust, account, token).await?;
    let genesis = witness.genesis();
    if let Some(directory) = &directory {
        directory.check_chain(&directory.journal()?, genesis)?;
    }
    let history = match &directory {
        Some(directory) if !options.dry_run || directory.has_history() => Some(directory.history(genesis)?),
        _ => None,
    };

    let mut findings = first_look(&file.jobs, history.as_ref())?;
    let todo = |(index, job): (usize, &NodeJob)| findings[index].is_none().then(|| job.hashes.clone());
    let hashes: BTreeSet<CryptoHash> = file.jobs.iter().enumerate().filter_map(todo).flatten().collect();
    let sights = witness.ask(hashes).await;
    let taken = taken(&sights, history.as_ref())?;
    resolve(&file.jobs, &sights, taken, &mut findings);

    if let (Some(history), false) = (&history, options.dry_run) {
        save(history, &file.jobs, &findings, &sights)?;
    }
    if !options.dry_run {
        list(&options.unresolved, &file.jobs, &findings)
            .map_err(|error| format!("cannot write {}: {error}", options.unresolved.display()))?;
    }
    Ok(summary(file, &findings, options))
}

/// What needs no chain: what the history has, and what is no transfer.
fn first_look(jobs: &[NodeJob], history: Option<&History>) -> Result<Vec<Option<Finding>>, String> {
    let look = |job: &NodeJob| -> Result<Option<Finding>, String> {
        let payable = match Payable::of(job) {
            Ok(payable) => payable,
            Err((why, detail)) => return Ok(Some(Finding::Open(why, detail.into()))),
        };
        let Some(history) = history else { return Ok(None) };
        let known = history.job(payable.id).map_err(|error| error.to_string())?;
        Ok(known.map(|known| {
            let Transfer { receiver, amount, memo, .. } = &known.transfer;
            let memo = memo.as_deref().unwrap_or_default();
            let same = *receiver == payable.receiver
                && (*amount, memo) == (payable.payment.amount, payable.payment.memo.as_str());
            if same {
                return Finding::Known;
            }
            Finding::Open(
                Why::DiffersFromHistory,
                format!("the history has it as {amount} to {receiver} (memo {memo:?})"),
            )
        }))
    };
    jobs.iter().map(look).collect()
}

/// Places in these transactions that jobs of the history are resolved by.
fn taken(
    sights: &HashMap<CryptoHash, Sight>,
    history: Option<&History>,
) -> Result<HashSet<(CryptoHash, usize)>, String> {
    let mut taken = HashSet::new();
    let Some(history) = history else { return Ok(taken) };
    for hash in sights.iter().filter(|(_, sight)| matches!(sight, Sight::Landed(_))).map(|(hash, _)| hash) {
        for (position, settled) in history.by_hash(hash).map_err(|error| error.to_string())? {
            if settled.carried.is_some_and(|carried| carried.hash == *hash) {
                taken.insert((*hash, usize::from(position)));
            }
        }
    }
    Ok(taken)
}

/// Finds for each job what it is resolved by, each place at most once. Pure.
fn resolve(
    jobs: &[NodeJob],
    sights: &HashMap<CryptoHash, Sight>,
    mut taken: HashSet<(CryptoHash, usize)>,
    findings: &mut [Option<Finding>],
) {
    let mut take = |hash: &CryptoHash, job: &NodeJob| {
        let Some(Sight::Landed(payments)) = sights.get(hash) else { return None };
        let wanted = Payable::of(job).ok()?.payment;
        let mut places = payments.iter().enumerate().filter(|(_, payment)| payment.as_ref() == Some(&wanted));
        let (place, _) = places.find(|(place, _)| !taken.contains(&(*hash, *place)))?;
        taken.insert((*hash, place));
        u16::try_from(place).ok()
    };
    let open = |findings: &[Option<Finding>]| -> Vec<usize> {
        (0..jobs.len()).filter(|index| findings[*index].is_none()).collect()
    };
    // Those that have the least choice first; of a job's transactions the last first.
    let mut order = open(findings);
    order.sort_by_key(|index| jobs[*index].hashes.len());
    for index in order {
        let job = &jobs[index];
        let paid = job.hashes.iter().rev().find_map(|hash| Some((*hash, take(hash, job)?)));
        findings[index] = paid.map(|(hash, position)| Finding::Paid { hash, position, also: Vec::new() });
    }
    // Left-over places that only this job has a hash for: the Node service paid it again.
    for (job, finding) in jobs.iter().zip(findings.iter_mut()) {
        if let Some(Finding::Paid { hash, also, .. }) = finding {
            also.extend(job.hashes.iter().filter(|other| *other != hash && take(other, job).is_some()));
        }
    }
    // The Node service noted the hash of a batch job by job: where it was killed in between, batch mates know it.
    let mut of_batch: HashMap<&str, BTreeSet<CryptoHash>> = HashMap::new();
    for job in jobs {
        if let (Some(batch), Some(hash)) = (job.batch(), job.hashes.last()) {
            of_batch.entry(batch).or_default().insert(*hash);
        }
    }
    for index in open(findings) {
        let job = &jobs[index];
        let hashes = job.batch().and_then(|batch| of_batch.get(batch)).into_iter().flatten();
        let paid = hashes.copied().find_map(|hash| Some((hash, take(&hash, job)?)));
        findings[index] = Some(match paid {
            Some((hash, position)) => Finding::Paid { hash, position, also: Vec::new() },
            None => unresolved(job, sights),
        });
    }
}

/// Why nothing resolves a job.
fn unresolved(job: &NodeJob, sights: &HashMap<CryptoHash, Sight>) -> Finding {
    let Some(hash) = job.hashes.last() else {
        let detail = match (job.status.as_deref(), job.attempts) {
            (Some("queued"), Some(0)) => {
                "never sent as far as the file tells; but a start of the Node service sends it before it writes anything down"
            }
            _ => "it may have been sent in a transaction that the file does not name",
        };
        return Finding::Open(Why::NoTransaction, detail.into());
    };
    let (why, detail) = match sights.get(hash) {
        Some(Sight::Undone(why)) => {
            (Why::TransactionFailed, format!("{hash} failed ({why}); earlier or later ones may have paid it"))
        }
        Some(Sight::Unknown { .. }) => {
            (Why::TransactionUnknown, format!("no node knows {hash}; an archival node may (RPC_URLS)"))
        }
        Some(Sight::Landed(_)) => {
            (Why::NotInTransaction, format!("{hash} succeeded, but no ft_transfer of it is left for this job"))
        }
        Some(Sight::Foreign(what)) => (Why::NotInTransaction, format!("{hash} is {what}")),
        Some(Sight::Unclear(why)) => (Why::Unclear, format!("{hash}: {why}")),
        None => (Why::Unclear, format!("{hash} was not asked about")),
    };
    Finding::Open(why, detail)
}

/// Puts what is paid into the history.
fn save(
    history: &History,
    jobs: &[NodeJob],
    findings: &[Option<Finding>],
    sights: &HashMap<CryptoHash, Sight>,
) -> Result<(), String> {
    let now = Instant::from_micros(Iso::now().0.saturating_mul(1_000));
    let settled: Vec<Settled> =
        jobs.iter().zip(findings).filter_map(|(job, finding)| settled(job, finding.as_ref()?, sights, now)).collect();
    settled.chunks(PUT_AT_ONCE).try_for_each(|batch| history.put(batch)).map_err(|error| error.to_string())
}

/// A job as the history keeps it. It counts as settled now, so that it stays known for as long as others do.
fn settled(job: &NodeJob, finding: &Finding, sights: &HashMap<CryptoHash, Sight>, now: Instant) -> Option<Settled> {
    let Finding::Paid { hash, position, also } = finding else { return None };
    let Payable { id, receiver, payment } = Payable::of(job).ok()?;
    let from_ms = |ms: u64| Instant::from_micros(ms.saturating_mul(1_000));
    let created = job.created_at.as_deref().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
    let created = created.and_then(|at| u64::try_from(at.timestamp_millis()).ok());
    let batch = job.batch_time();
    let accepted_at = created.or(batch.map(|(at, _)| at)).map_or(now, from_ms);
    let (at, number) = batch.map_or((accepted_at, 0), |(at, number)| (from_ms(at), number));
    let undone = |other: &&CryptoHash| matches!(sights.get(other), Some(Sight::Undone(_))) || also.contains(other);
    Some(Settled {
        transfer: Transfer {
            id: TransferId(id.as_u128()),
            receiver,
            amount: payment.amount,
            memo: job.memo.as_ref().and_then(Value::as_str).map(Into::into),
            key: None,
        },
        accepted_at,
        settled_at: now,
        outcome: Ok(()),
        carried: Some(Carried { hash: *hash, batch: BatchId { at, number }, position: *position }),
        tried: job.hashes.iter().filter(undone).copied().collect(),
    })
}

/// One line of the list for a human.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    id: &'a str,
    receiver: Option<&'a str>,
    amount: Option<&'a str>,
    memo: Option<&'a Value>,
    why: Why,
    detail: &'a str,
    status: Option<&'a str>,
    attempts: Option<u64>,
    tx_hashes: Vec<String>,
    created_at: Option<&'a str>,
    last_error: Option<&'a str>,
}

/// Writes all jobs that are not resolved, one a line.
fn list(path: &PathBuf, jobs: &[NodeJob], findings: &[Option<Finding>]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for (job, finding) in jobs.iter().zip(findings) {
        if let Some(Finding::Open(why, detail)) = finding {
            let listed = Listed {
                id: &job.id,
                receiver: job.receiver.as_deref(),
                amount: job.amount.as_deref(),
                memo: job.memo.as_ref(),
                why: *why,
                detail,
                status: job.status.as_deref(),
                attempts: job.attempts,
                tx_hashes: job.hashes.iter().map(ToString::to_string).collect(),
                created_at: job.created_at.as_deref(),
                last_error: job.last_error.as_deref(),
            };
            serde_json::to_writer(&mut file, &listed)?;
            file.write_all(b"\n")?;
        }
    }
    file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
}

fn summary(file: NodeFile, findings: &[Option<Finding>], options: &Options) -> Summary {
    let NodeFile { jobs, lines, malformed, malformed_lines } = file;
    let mut summary = Summary {
        table: BTreeMap::new(),
        reasons: BTreeMap::new(),
        shown: Vec::new(),
        open: 0,
        doubled: Vec::new(),
        file: (lines, malformed, malformed_lines),
        dry_run: options.dry_run,
        list: options.unresolved.clone(),
    };
    for (job, finding) in jobs.iter().zip(findings) {
        let status = job.status.as_deref().filter(|status| STATUSES.contains(status)).unwrap_or("(other)");
        let row = summary.table.entry(status.to_owned()).or_default();
        row[0] += 1;
        match finding {
            Some(Finding::Known) => row[2] += 1,
            Some(Finding::Paid { hash, also, .. }) => {
                row[1] += 1;
                if !also.is_empty() {
                    let also: Vec<String> = also.iter().map(ToString::to_string).collect();
                    summary.doubled.push(format!("{:?} by {hash} and {}", job.id, also.join(", ")));
                }
            }
            Some(Finding::Open(why, detail)) => {
                row[3] += 1;
                summary.open += 1;
                *summary.reasons.entry(why.as_str()).or_default() += 1;
                if summary.shown.len() < SHOWN {
                    summary.shown.push(format!("{:?}: {}: {detail}", job.id, why.as_str()));
                }
            }
            None => {}
        }
    }
    summary
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lines, malformed, malformed_lines) = &self.file;
        writeln!(f, "{:<12}{:>10}{:>10}{:>14}{:>14}", "in the file", "jobs", "proven", "known before", "for a human")?;
        let mut all = [0; 4];
        for (status, row) in &self.table {
            let [jobs, proven, known, open] = row;
            writeln!(f, "{status:<12}{jobs:>10}{proven:>10}{known:>14}{open:>14}")?;
            all.iter_mut().zip(row).for_each(|(all, row)| *all += row);
        }
        let [jobs, proven, known, open] = all;
        writeln!(f, "{:<12}{jobs:>10}{proven:>10}{known:>14}{open:>14}", "all")?;
        for (why, count) in &self.reasons {
            writeln!(f, "for a human: {count} {why}")?;
        }
        for line in &self.shown {
            writeln!(f, "  {line}")?;
        }
        if self.open > self.shown.len() {
            writeln!(f, "  and {} more", self.open - self.shown.len())?;
        }
        for line in self.doubled.iter().take(SHOWN) {
            writeln!(f, "paid more than once by the Node service: {line}")?;
        }
        if self.doubled.len() > SHOWN {
            writeln!(f, "paid more than once by the Node service: {} more", self.doubled.len() - SHOWN)?;
        }
        if *malformed > 0 {
            let named: Vec<String> = malformed_lines.iter().take(SHOWN).map(ToString::to_string).collect();
            let more = if *malformed > named.len() as u64 { ", ..." } else { "" };
            writeln!(
                f,
                "{malformed} of {lines} lines cannot be read: {}{more}. A job may be known by such a line alone",
                named.join(", ")
            )?;
        }
        match (self.dry_run, self.open) {
            (true, _) => write!(f, "dry run: nothing was changed"),
            (false, 0) => write!(f, "{proven} jobs are in the history now; {} is empty", self.list.display()),
            (false, _) => write!(
                f,
                "{proven} jobs are in the history now; {} lists the {open} that need a human. Nothing was paid",
                self.list.display()
            ),
        }
    }
}

impl Why {
    fn as_str(self) -> &'static str {
        match self {
            Self::Partial => "partial",
            Self::NotATransfer => "not-a-transfer",
            Self::NoTransaction => "no-transaction",
            Self::TransactionFailed => "transaction-failed",
            Self::TransactionUnknown => "transaction-unknown",
            Self::NotInTransaction => "not-in-transaction",
            Self::Unclear => "unclear",
            Self::DiffersFromHistory => "differs-from-history",
        }
    }
}

impl Payable {
    fn of(job: &NodeJob) -> Result<Self, (Why, &'static str)> {
        let (Some(receiver), Some(amount)) = (&job.receiver, &job.amount) else {
            return Err((Why::Partial, "its creation is not in the file: receiver or amount are not known"));
        };
        let no = |why| (Why::NotATransfer, why);
        let receiver: AccountId = receiver.parse().map_err(|_| no("its receiver is no account id"))?;
        let digits = amount.bytes().all(|byte| byte.is_ascii_digit());
        let amount = amount.parse().ok().filter(|_| digits).ok_or(no("its amount is not in decimal digits"))?;
        let memo = job.memo_text().ok_or(no("its memo is no text"))?.to_owned();
        let id = Uuid::try_parse(&job.id).ok().filter(|id| id.to_string() == job.id);
        let id = id.ok_or(no("its id is no UUID, so Keyshard could not be asked for it"))?;
        Ok(Self { id, payment: Payment { receiver: receiver.to_string(), amount, memo }, receiver })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u8) -> CryptoHash {
        CryptoHash([n; 32])
    }

    fn job(id: u128, status: &str, amount: &str, batch: &str, hashes: &[u8]) -> NodeJob {
        NodeJob {
            id: Uuid::from_u128(id).to_string(),
            status: Some(status.into()),
            receiver: Some("alice.near".into()),
            amount: Some(amount.into()),
            attempts: Some(1),
            batch_id: (!batch.is_empty()).then(|| batch.into()),
            hashes: hashes.iter().map(|n| hash(*n)).collect(),
            ..NodeJob::default()
        }
    }

    fn landed(amounts: &[u128]) -> Sight {
        let pay = |amount: &u128| Some(Payment { receiver: "alice.near".into(), amount: *amount, memo: String::new() });
        Sight::Landed(amounts.iter().map(pay).collect())
    }

    fn found(jobs: &[NodeJob], sights: &[(u8, Sight)]) -> Vec<Finding> {
        let mut findings = first_look(jobs, None).unwrap();
        let sights = sights.iter().map(|(n, sight)| (hash(*n), sight.clone())).collect();
        resolve(jobs, &sights, HashSet::new(), &mut findings);
        findings.into_iter().map(Option::unwrap).collect()
    }

    fn paid(n: u8, position: u16) -> Finding {
        Finding::Paid { hash: hash(n), position, also: Vec::new() }
    }

    fn why(finding: &Finding) -> Option<Why> {
        match finding {
            Finding::Open(why, _) => Some(*why),
            _ => None,
        }
    }

    #[test]
    fn one_place_resolves_one_job() {
        let jobs =
            [job(1, "submitted", "5", "", &[1]), job(2, "failed", "5", "", &[1]), job(3, "finalized", "5", "", &[1])];
        let findings = found(&jobs, &[(1, landed(&[5, 4, 5]))]);
        assert_eq!(findings[..2], [paid(1, 0), paid(1, 2)]);
        assert_eq!(why(&findings[2]), Some(Why::NotInTransaction));
    }

    #[test]
    fn who_has_the_least_choice_is_first_and_what_is_left_was_paid_again() {
        let twice = job(1, "finalized", "5", "", &[1, 2]);
        let once = job(2, "finalized", "5", "", &[2]);
        let sights = [(1, landed(&[5])), (2, landed(&[5]))];
        assert_eq!(found(&[twice.clone(), once], &sights), [paid(1, 0), paid(2, 0)]);
        assert_eq!(found(&[twice], &sights), [Finding::Paid { hash: hash(2), position: 0, also: vec![hash(1)] }]);
    }

    #[test]
    fn batch_mates_know_the_transaction() {
        let jobs = [
            job(1, "submitted", "1", "batch-7-1-part2", &[1]),
            job(2, "processing", "2", "batch-7-1", &[]),
            job(3, "processing", "2", "batch-7-1", &[]),
            job(4, "processing", "2", "batch-7-2", &[]),
            job(5, "queued", "2", "", &[]),
        ];
        let findings = found(&jobs, &[(1, landed(&[1, 2]))]);
        assert_eq!(findings[..2], [paid(1, 0), paid(1, 1)]);
        assert!(findings[2..].iter().all(|finding| why(finding) == Some(Why::NoTransaction)), "{findings:?}");
    }

    #[test]
    fn nothing_but_success_proves_anything() {
        for (sight, expected) in [
            (Sight::Undone("x".into()), Why::TransactionFailed),
            (Sight::Unknown { since_ms: Some(0) }, Why::TransactionUnknown),
            (Sight::Foreign("x".into()), Why::NotInTransaction),
            (Sight::Unclear("x".into()), Why::Unclear),
            (landed(&[6]), Why::NotInTransaction),
        ] {
            for status in ["queued", "processing", "submitted", "finalized", "failed"] {
                let findings = found(&[job(1, status, "5", "", &[1])], &[(1, sight.clone())]);
                assert_eq!(why(&findings[0]), Some(expected), "{status} {sight:?}");
            }
        }
    }

    #[test]
    fn what_is_no_transfer_is_for_a_human() {
        let partial = NodeJob { amount: None, ..job(1, "finalized", "", "", &[1]) };
        let no_uuid = NodeJob { id: "job-1".into(), ..job(1, "finalized", "5", "", &[1]) };
        let memo = NodeJob { memo: Some(7.into()), ..job(1, "finalized", "5", "", &[1]) };
        let account = NodeJob { receiver: Some("A".into()), ..job(1, "finalized", "5", "", &[1]) };
        let floating = job(1, "finalized", "1e5", "", &[1]);
        for (job, expected) in [
            (partial, Why::Partial),
            (no_uuid, Why::NotATransfer),
            (memo, Why::NotATransfer),
            (account, Why::NotATransfer),
            (floating, Why::NotATransfer),
        ] {
            assert_eq!(why(&found(&[job], &[(1, landed(&[5]))])[0]), Some(expected));
        }
    }

    #[test]
    fn the_history_gets_what_the_file_knows() {
        let mut job = job(7, "failed", "5", "batch-1760381234600-9", &[1, 2, 3]);
        job.created_at = Some("2025-10-13T18:47:14.567Z".into());
        job.memo = Some("m".into());
        let sights = [(hash(1), Sight::Undone(String::new())), (hash(2), landed(&[5]))].into();
        let now = Instant::from_micros(9);
        let kept = settled(&job, &paid(3, 4), &sights, now).unwrap();
        assert_eq!(kept.transfer.id.0, 7);
        assert_eq!((kept.transfer.memo.as_deref(), kept.transfer.amount), (Some("m"), 5));
        assert_eq!((kept.accepted_at.as_millis(), kept.settled_at), (1_760_381_234_567, now));
        let carried = kept.carried.unwrap();
        assert_eq!((carried.hash, carried.position), (hash(3), 4));
        assert_eq!(carried.batch.to_string(), "batch-1760381234600-9");
        assert_eq!(kept.tried, [hash(1)]);
        assert!(settled(&job, &Finding::Known, &sights, now).is_none());
    }
}
