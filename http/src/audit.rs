//! `keyshard audit`: holds what journal and history say against what the chain says.
//!
//! Every transaction that ever carried a transfer is asked about, once, at FINAL. `finalized` must be exactly one success
//! with that receiver, amount and memo at that position; `failed` must be none; open ones may have landed already, once.
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
};

use keyshard_engine::history::{History, Settled};
use keyshard_shard::{Closed, CryptoHash, Record, Transfer, TransferId};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    config::Offline,
    data_dir::DataDir,
    evidence::{Payment, Sight, Witness},
};

/// Transfers of the history that are looked at together: bounds the memory.
const CHUNK: usize = 10_000;
/// Most differences, and transfers that could not be checked, that are named.
const SHOWN: usize = 1_000;

/// What is known here of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    id: TransferId,
    payment: Payment,
    accepted_at_ms: u64,
    says: Says,
    /// Every transaction that ever carried it, with its position if that is known.
    carried: Vec<(CryptoHash, Option<u16>)>,
    /// Those of them that ended without paying it.
    ended: HashSet<CryptoHash>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// Paid by this one.
    Finalized(CryptoHash),
    Failed,
    Open,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Difference {
    /// The job.
    job: Uuid,
    /// The transaction, base58, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    /// What journal and history say.
    keyshard: String,
    /// What the chain says.
    chain: String,
}

/// What one transfer turned out to be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Judgement {
    differences: Vec<Difference>,
    /// Transactions that could not be asked about, and why.
    unchecked: Vec<(CryptoHash, String)>,
    /// Open here, paid on chain.
    ahead: bool,
}

/// The result of an audit.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Transfers that are finalized, on chain as well.
    finalized: u64,
    /// Transfers that have failed, on chain as well.
    failed: u64,
    /// Transfers that are open, and not on chain.
    open: u64,
    /// Transfers that are open here and paid on chain: the next start finds out.
    open_and_landed: u64,
    /// Transfers of which at least one transaction could not be checked.
    unchecked: u64,
    /// Transfers with a difference.
    different: u64,
    /// Transactions asked about.
    transactions: u64,
    /// The first differences.
    differences: Vec<Difference>,
    /// The first transactions that could not be checked, with the reason.
    not_checked: Vec<String>,
    /// What is no difference and should be known.
    warnings: Vec<String>,
}

impl Report {
    /// 0: no difference. 1: at least one. 2: none, but not everything could be checked.
    pub(crate) fn exit_code(&self) -> u8 {
        match (self.different, self.unchecked) {
            (1.., _) => 1,
            (0, 1..) => 2,
            (0, 0) => 0,
        }
    }

    fn add(&mut self, claim: &Claim, judgement: Judgement) {
        let Judgement { differences, unchecked, ahead } = judgement;
        if !differences.is_empty() {
            self.different += 1;
            let room = SHOWN.saturating_sub(self.differences.len());
            self.differences.extend(differences.into_iter().take(room));
        } else if !unchecked.is_empty() {
            self.unchecked += 1;
            let room = SHOWN.saturating_sub(self.not_checked.len());
            let id = Uuid::from_u128(claim.id.0);
            let lines = unchecked.into_iter().map(|(hash, why)| format!("{id} {hash}: {why}"));
            self.not_checked.extend(lines.take(room));
        } else {
            match claim.says {
                Says::Finalized(_) => self.finalized += 1,
                Says::Failed => self.failed += 1,
                Says::Open if ahead => self.open_and_landed += 1,
                Says::Open => self.open += 1,
            }
        }
    }
}

/// Audits the data directory of a stopped service. The error is for people: nothing can be said then.
pub(crate) async fn audit(config: Offline) -> Result<Report, String> {
    let Offline { account, token, rpc, trust, data_dir } = config;
    if !data_dir.exists() {
        return Err(format!("there is no data directory {}: check DATA_DIR", data_dir.display()));
    }
    let directory = DataDir::lock(&data_dir)?;
    let entries = directory.journal()?;
    if entries.is_empty() && !directory.has_history() {
        return Err(format!("{} holds no journal and no history: check DATA_DIR", data_dir.display()));
    }
    let witness = Witness::new(rpc, trust, account, token).await?;
    directory.check_chain(&entries, witness.genesis())?;
    let mut journal = Journal::of(entries.into_iter().map(|entry| entry.record));

    let mut report = Report::default();
    if directory.has_history() {
        let history = directory.history(witness.genesis())?;
        of_history(&history, &mut journal.claims, &witness, &mut report).await?;
    }
    let mut claims: Vec<Claim> = journal.claims.into_values().collect();
    claims.sort_unstable_by_key(|claim| claim.id);
    check(&claims, &witness, &mut report).await;
    report.warnings = match witness.nonces().await {
        Ok(on_chain) => foreign_use(&journal.nonces, &on_chain),
        Err(error) => vec![format!("the access keys could not be asked about: {error}")],
    };
    Ok(report)
}

/// Checks everything in the history, and takes out of the journal's claims what it has.
async fn of_history(
    history: &History,
    journal: &mut HashMap<TransferId, Claim>,
    witness: &Witness,
    report: &mut Report,
) -> Result<(), String> {
    let mut chunk = Vec::with_capacity(CHUNK);
    let mut all = history.scan().map_err(|error| error.to_string())?;
    loop {
        let next = all.next().transpose().map_err(|error| error.to_string())?;
        let last = next.is_none();
        if let Some(settled) = next {
            let mut claim = Claim::of_history(settled);
            if let Some(other) = journal.remove(&claim.id)
                && let Some(difference) = claim.merge(other)
            {
                report.add(&claim, Judgement { differences: vec![difference], ..Judgement::default() });
                continue;
            }
            chunk.push(claim);
        }
        if chunk.len() == CHUNK || last {
            check(&chunk, witness, report).await;
            chunk.clear();
        }
        if last {
            return Ok(());
        }
    }
}

async fn check(claims: &[Claim], witness: &Witness, report: &mut Report) {
    let hashes: BTreeSet<CryptoHash> =
        claims.iter().flat_map(|claim| claim.carried.iter().map(|(hash, _)| *hash)).collect();
    report.transactions += hashes.len() as u64;
    let sights = witness.ask(hashes).await;
    for claim in claims {
        report.add(claim, judge(claim, &sights));
    }
}

/// What a journal tells.
#[derive(Default)]
struct Journal {
    claims: HashMap<TransferId, Claim>,
    /// Highest nonce of each key.
    nonces: HashMap<String, u64>,
}

impl Journal {
    /// From all records that are left, also those that a later repetition has replaced: they were true.
    fn of(records: impl Iterator<Item = Record>) -> Self {
        let mut journal = Self::default();
        let (mut signed, mut closed, mut failed) = (Vec::new(), HashMap::new(), HashSet::new());
        for record in records {
            match record {
                Record::Accepted { transfer, at, tried } => {
                    let claim = journal
                        .claims
                        .entry(transfer.id)
                        .or_insert_with(|| Claim::new(&transfer, at.as_millis(), Says::Open));
                    for hash in tried {
                        claim.carry(hash, None);
                        claim.ended.insert(hash);
                    }
                }
                Record::Signed { public_key, nonce, hash, transfers, .. } => {
                    let highest = journal.nonces.entry(public_key.to_string()).or_default();
                    *highest = nonce.max(*highest);
                    signed.push((hash, transfers));
                }
                Record::Nonce { public_key, nonce } => {
                    let highest = journal.nonces.entry(public_key.to_string()).or_default();
                    *highest = nonce.max(*highest);
                }
                Record::Closed { hash, how, .. } => {
                    closed.insert(hash, how);
                }
                Record::Failed { id, .. } => {
                    failed.insert(id);
                }
                Record::Begin { .. } | Record::End => {}
            }
        }
        for (hash, transfers) in signed {
            for (position, id) in (0..).zip(transfers) {
                // One whose acceptance is not there any more has settled: the history knows it.
                let Some(claim) = journal.claims.get_mut(&id) else { continue };
                claim.carry(hash, Some(position));
                match closed.get(&hash) {
                    Some(Closed::Landed) => claim.says = Says::Finalized(hash),
                    Some(Closed::Failed { .. } | Closed::Dead(_)) => {
                        claim.ended.insert(hash);
                    }
                    None => {}
                }
            }
        }
        for id in failed {
            if let Some(claim) = journal.claims.get_mut(&id) {
                claim.says = Says::Failed;
            }
        }
        journal
    }
}

impl Claim {
    fn new(transfer: &Transfer, accepted_at_ms: u64, says: Says) -> Self {
        let payment = Payment {
            receiver: transfer.receiver.to_string(),
            amount: transfer.amount,
            memo: transfer.memo.as_deref().unwrap_or_default().to_owned(),
        };
        Self { id: transfer.id, payment, accepted_at_ms, says, carried: Vec::new(), ended: HashSet::new() }
    }

    fn of_history(settled: Settled) -> Self {
        let says = match (&settled.outcome, settled.carried) {
            (Ok(()), Some(carried)) => Says::Finalized(carried.hash),
            // Nothing that is paid was not carried: found as a difference.
            (Ok(()), None) => Says::Finalized(CryptoHash::default()),
            (Err(_), _) => Says::Failed,
        };
        let mut claim = Self::new(&settled.transfer, settled.accepted_at.as_millis(), says);
        for hash in settled.tried {
            claim.carry(hash, None);
            claim.ended.insert(hash);
        }
        if let Some(carried) = settled.carried {
            claim.carry(carried.hash, Some(carried.position));
            if claim.says == Says::Failed {
                claim.ended.insert(carried.hash);
            }
        }
        claim
    }

    fn carry(&mut self, hash: CryptoHash, position: Option<u16>) {
        match self.carried.iter_mut().find(|(known, _)| *known == hash) {
            Some((_, known)) => *known = known.or(position),
            None => self.carried.push((hash, position)),
        }
    }

    /// Takes over what the journal knows of the same transfer. They must not contradict each other.
    fn merge(&mut self, journal: Self) -> Option<Difference> {
        // The journal may end before it settled.
        let same_end = journal.says == Says::Open || journal.says == self.says;
        if journal.payment != self.payment || !same_end {
            return Some(self.differs(
                None,
                format!(
                    "{} in the history: {}; {} in the journal: {}",
                    self.says, self.payment, journal.says, journal.payment
                ),
                "nothing: it was not asked".into(),
            ));
        }
        for (hash, position) in journal.carried {
            self.carry(hash, position);
        }
        self.ended.extend(journal.ended);
        None
    }

    fn differs(&self, hash: Option<CryptoHash>, keyshard: String, chain: String) -> Difference {
        Difference { job: Uuid::from_u128(self.id.0), hash: hash.map(|hash| hash.to_string()), keyshard, chain }
    }
}

/// Holds a claim against what was seen of its transactions. Pure.
fn judge(claim: &Claim, sights: &HashMap<CryptoHash, Sight>) -> Judgement {
    let mut judgement = Judgement::default();
    let mut paid: Vec<CryptoHash> = Vec::new();
    let mut differ = |hash, keyshard: String, chain: String| {
        judgement.differences.push(claim.differs(Some(hash), keyshard, chain));
    };
    for (hash, position) in &claim.carried {
        let says_paid = claim.says == Says::Finalized(*hash);
        // Without a record of its end it may be anything still.
        let says_unpaid = !says_paid && (claim.ended.contains(hash) || claim.says != Says::Open);
        let expected = || match (says_paid, says_unpaid) {
            (true, _) => format!("finalized by it: {}", claim.payment),
            (_, true) => format!("{}, and not paid by it: {}", claim.says, claim.payment),
            _ => format!("open: {}", claim.payment),
        };
        match sights.get(hash) {
            Some(Sight::Landed(payments)) => {
                let wanted = |payment: &Option<Payment>| payment.as_ref() == Some(&claim.payment);
                let at = position.map(|position| payments.get(usize::from(position)).and_then(Option::as_ref));
                // Of those that ended unpaid in a former segment the position is not kept.
                let pays = at.map_or_else(|| payments.iter().any(wanted), |at| at == Some(&claim.payment));
                if pays {
                    paid.push(*hash);
                }
                match at.flatten() {
                    _ if pays && !says_unpaid => {}
                    _ if pays => differ(*hash, expected(), "success at FINAL, and pays it".into()),
                    Some(payment) => differ(*hash, expected(), format!("success at FINAL, and pays {payment}")),
                    None => differ(*hash, expected(), "success at FINAL, and has no such ft_transfer".into()),
                }
            }
            Some(Sight::Undone(why)) if says_paid => differ(*hash, expected(), format!("failed at FINAL: {why}")),
            Some(Sight::Undone(_)) => {}
            Some(Sight::Foreign(what)) => differ(*hash, expected(), format!("it is {what}")),
            Some(sight @ Sight::Unknown { .. }) => match (says_paid, sight.never_ran(claim.accepted_at_ms)) {
                (true, true) => differ(*hash, expected(), "not known, to nodes that would know it".into()),
                (false, true) => {}
                // Open ones need not be on chain.
                (false, false) if !says_unpaid => {}
                (_, false) => judgement.unchecked.push((*hash, "no node remembers it".into())),
            },
            Some(Sight::Unclear(why)) => judgement.unchecked.push((*hash, why.clone())),
            None => judgement.unchecked.push((*hash, "it was not asked about".into())),
        }
    }
    if let Says::Finalized(hash) = claim.says
        && !claim.carried.iter().any(|(known, _)| *known == hash)
    {
        judgement.differences.push(claim.differs(None, "finalized, by no transaction".into(), "nothing to ask".into()));
    }
    if paid.len() > 1 {
        let all: Vec<String> = paid.iter().map(ToString::to_string).collect();
        let chain = format!("paid {} times: {}", paid.len(), all.join(", "));
        judgement.differences.push(claim.differs(None, format!("{}: {}", claim.says, claim.payment), chain));
    }
    judgement.ahead = claim.says == Says::Open && !paid.is_empty();
    judgement
}

/// Keys whose nonce on chain is above everything that was ever signed here: somebody else uses them.
fn foreign_use(ours: &HashMap<String, u64>, on_chain: &HashMap<String, u64>) -> Vec<String> {
    let mut warnings: Vec<String> = ours
        .iter()
        .filter_map(|(key, highest)| {
            let nonce = on_chain.get(key).filter(|nonce| *nonce > highest)?;
            Some(format!(
                "somebody else uses {key}: its nonce on chain is {nonce}, the highest that Keyshard signed here is {highest}"
            ))
        })
        .collect();
    warnings.sort_unstable();
    warnings
}

impl fmt::Display for Says {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finalized(_) => "finalized",
            Self::Failed => "failed",
            Self::Open => "open",
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Difference { job, hash, keyshard, chain } in &self.differences {
            let hash = hash.as_deref().unwrap_or("-");
            writeln!(f, "difference: {job} {hash}: Keyshard says {keyshard}; the chain says {chain}")?;
        }
        for line in &self.not_checked {
            writeln!(f, "cannot be checked: {line}")?;
        }
        for line in &self.warnings {
            writeln!(f, "warning: {line}")?;
        }
        for (what, count) in [
            ("finalized, once on chain", self.finalized),
            ("failed, not on chain", self.failed),
            ("open, not on chain yet", self.open),
            ("open here, paid on chain (the next start finds out)", self.open_and_landed),
            ("cannot be checked", self.unchecked),
            ("different", self.different),
            ("transactions asked about", self.transactions),
        ] {
            writeln!(f, "{count:>12}  {what}")?;
        }
        f.write_str(match self.exit_code() {
            0 => "no difference",
            1 => "there are differences",
            _ => "no difference found, but not everything could be checked: an archival node may know more (RPC_URLS)",
        })
    }
}

#[cfg(test)]
mod tests {
    use keyshard_shard::{BatchId, Carried, Instant, Proof};

    use super::*;

    fn hash(n: u8) -> CryptoHash {
        CryptoHash([n; 32])
    }

    fn transfer(id: u128) -> Transfer {
        Transfer { id: TransferId(id), receiver: "alice.near".parse().unwrap(), amount: 5, memo: None, key: None }
    }

    fn claim(says: Says, carried: &[(u8, Option<u16>)], ended: &[u8]) -> Claim {
        let mut claim = Claim::new(&transfer(1), 1_000, says);
        claim.carried = carried.iter().map(|(n, position)| (hash(*n), *position)).collect();
        claim.ended = ended.iter().map(|n| hash(*n)).collect();
        claim
    }

    fn landed(amounts: &[u128]) -> Sight {
        let pay = |amount: &u128| Some(Payment { receiver: "alice.near".into(), amount: *amount, memo: String::new() });
        Sight::Landed(amounts.iter().map(pay).collect())
    }

    fn undone() -> Sight {
        Sight::Undone("x".into())
    }

    const GONE: Sight = Sight::Unknown { since_ms: Some(5_000) };
    const NEVER: Sight = Sight::Unknown { since_ms: Some(0) };

    /// Differences, transactions that could not be checked, whether it is paid and still open here.
    fn judged(claim: &Claim, sights: &[(u8, Sight)]) -> (usize, usize, bool) {
        let sights = sights.iter().map(|(n, sight)| (hash(*n), sight.clone())).collect();
        let Judgement { differences, unchecked, ahead } = judge(claim, &sights);
        (differences.len(), unchecked.len(), ahead)
    }

    #[test]
    fn finalized_is_one_success_that_pays_it() {
        let claim = claim(Says::Finalized(hash(2)), &[(1, None), (2, Some(1))], &[1]);
        for (first, second, expected) in [
            (undone(), landed(&[9, 5]), (0, 0)),
            (NEVER, landed(&[9, 5]), (0, 0)),
            (GONE, landed(&[9, 5]), (0, 1)),
            (undone(), landed(&[5, 9]), (1, 0)),
            (undone(), landed(&[5]), (1, 0)),
            (undone(), Sight::Landed(vec![None, None]), (1, 0)),
            (undone(), undone(), (1, 0)),
            (undone(), NEVER, (1, 0)),
            (undone(), GONE, (0, 1)),
            (undone(), Sight::Foreign("x".into()), (1, 0)),
            (undone(), Sight::Unclear("x".into()), (0, 1)),
            // Not paid by it after all, and therefore doubled.
            (landed(&[5]), landed(&[9, 5]), (2, 0)),
            (landed(&[7]), landed(&[9, 5]), (1, 0)),
        ] {
            let sights = [(1, first), (2, second)];
            assert_eq!(judged(&claim, &sights), (expected.0, expected.1, false), "{sights:?}");
        }
        assert_eq!(judged(&claim, &[(1, undone())]), (0, 1, false), "not asked is not checked");
    }

    #[test]
    fn failed_is_no_success() {
        let claim = claim(Says::Failed, &[(1, None), (2, Some(0))], &[1, 2]);
        for (first, second, expected) in [
            (undone(), undone(), (0, 0)),
            (NEVER, undone(), (0, 0)),
            (GONE, undone(), (0, 1)),
            (undone(), landed(&[5]), (1, 0)),
            (landed(&[5]), undone(), (1, 0)),
        ] {
            let sights = [(1, first), (2, second)];
            assert_eq!(judged(&claim, &sights), (expected.0, expected.1, false), "{sights:?}");
        }
        assert_eq!(judged(&Claim::new(&transfer(1), 1_000, Says::Failed), &[]), (0, 0, false), "never sent");
    }

    #[test]
    fn open_may_be_anything_but_paid_twice_or_wrong() {
        let open = claim(Says::Open, &[(1, Some(0)), (2, Some(0))], &[1]);
        for (first, second, expected) in [
            (undone(), NEVER, (0, 0, false)),
            (undone(), GONE, (0, 0, false)),
            (undone(), undone(), (0, 0, false)),
            (undone(), landed(&[5]), (0, 0, true)),
            (undone(), landed(&[6]), (1, 0, false)),
            (landed(&[5]), NEVER, (1, 0, true)),
            (landed(&[5]), landed(&[5]), (2, 0, true)),
            (GONE, NEVER, (0, 1, false)),
        ] {
            let sights = [(1, first), (2, second)];
            assert_eq!(judged(&open, &sights), expected, "{sights:?}");
        }
    }

    #[test]
    fn finalized_by_nothing_is_a_difference() {
        let settled = Settled {
            transfer: transfer(1),
            accepted_at: Instant::from_micros(1),
            settled_at: Instant::from_micros(2),
            outcome: Ok(()),
            carried: None,
            tried: Vec::new(),
        };
        assert_eq!(judged(&Claim::of_history(settled), &[]), (1, 0, false));
    }

    fn signed(n: u8, nonce: u64, transfers: &[u128]) -> Record {
        Record::Signed {
            public_key: "ed25519:a".into(),
            nonce,
            hash: hash(n),
            reference_height: 1,
            bytes: [].into(),
            batch: BatchId { at: Instant::from_micros(1), number: 1 },
            transfers: transfers.iter().map(|id| TransferId(*id)).collect(),
        }
    }

    #[test]
    fn a_journal_is_read_as_a_whole() {
        let at = Instant::from_micros(1_000_000);
        let accepted = |id, tried: &[u8]| Record::Accepted {
            transfer: transfer(id).into(),
            at,
            tried: tried.iter().map(|n| hash(*n)).collect(),
        };
        let closed = |n, how| Record::Closed { hash: hash(n), how, at };
        let dead = Closed::Dead(Proof::Expired { final_height: 3 });
        let records = [
            Record::Begin { life: 1, shards: 1, genesis: hash(7) },
            Record::Nonce { public_key: "ed25519:b".into(), nonce: 3 },
            accepted(1, &[]),
            accepted(2, &[]),
            accepted(3, &[]),
            signed(1, 11, &[1, 2, 9]),
            closed(1, dead),
            signed(2, 12, &[2, 1]),
            closed(2, Closed::Landed),
            signed(3, 10, &[3]),
            closed(3, Closed::Failed { index: Some(0), why: "x".into() }),
            Record::Failed { id: TransferId(3), reason: "x".into(), at },
            accepted(4, &[4]),
            signed(5, 9, &[4]),
        ];
        let journal = Journal::of(records.into_iter());
        assert_eq!(journal.nonces, [("ed25519:a".to_owned(), 12), ("ed25519:b".to_owned(), 3)].into());
        let of = |id| journal.claims[&TransferId(id)].clone();
        let shown = |id| (of(id).says, of(id).carried, of(id).ended);
        assert_eq!(
            shown(1),
            (Says::Finalized(hash(2)), vec![(hash(1), Some(0)), (hash(2), Some(1))], [hash(1)].into())
        );
        assert_eq!(shown(2).1, [(hash(1), Some(1)), (hash(2), Some(0))]);
        assert_eq!(shown(3), (Says::Failed, vec![(hash(3), Some(0))], [hash(3)].into()));
        assert_eq!(shown(4), (Says::Open, vec![(hash(4), None), (hash(5), Some(0))], [hash(4)].into()));
        assert_eq!((journal.claims.len(), of(1).accepted_at_ms), (4, 1_000));
    }

    #[test]
    fn journal_and_history_must_agree() {
        let settled = |amount| Settled {
            transfer: Transfer { amount, ..transfer(1) },
            accepted_at: Instant::from_micros(1),
            settled_at: Instant::from_micros(2),
            outcome: Ok(()),
            carried: Some(Carried {
                hash: hash(2),
                batch: BatchId { at: Instant::from_micros(1), number: 1 },
                position: 0,
            }),
            tried: Vec::new(),
        };
        for (amount, journal, agree) in [
            (5, claim(Says::Finalized(hash(2)), &[(2, Some(0))], &[]), true),
            (5, claim(Says::Open, &[(1, Some(0)), (2, Some(0))], &[1]), true),
            (6, claim(Says::Finalized(hash(2)), &[(2, Some(0))], &[]), false),
            (5, claim(Says::Finalized(hash(1)), &[(1, Some(0))], &[]), false),
            (5, claim(Says::Failed, &[(1, Some(0))], &[1]), false),
        ] {
            let mut history = Claim::of_history(settled(amount));
            assert_eq!(history.merge(journal.clone()).is_none(), agree, "{journal:?}");
            if agree {
                assert_eq!(history.carried.len(), journal.carried.len());
            }
        }
    }

    #[test]
    fn a_nonce_that_nobody_here_took_is_named() {
        let keys = |pairs: &[(&str, u64)]| pairs.iter().map(|(key, nonce)| ((*key).to_owned(), *nonce)).collect();
        let ours = keys(&[("a", 5), ("b", 5), ("c", 5), ("gone", 5)]);
        let warnings = foreign_use(&ours, &keys(&[("a", 5), ("b", 6), ("c", 4), ("new", 9)]));
        assert!(warnings.len() == 1 && warnings[0].contains(" b:"), "{warnings:?}");
    }

    #[test]
    fn exit_codes() {
        for (different, unchecked, code) in [(0, 0, 0), (1, 0, 1), (1, 1, 1), (0, 1, 2)] {
            assert_eq!(Report { unchecked, different, ..Report::default() }.exit_code(), code);
        }
    }
}
