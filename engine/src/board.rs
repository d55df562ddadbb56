//! What the outside may see of a transfer: a concurrent map, written by the shards, read by the doors.
use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use crossbeam::queue::SegQueue;
use dashmap::DashMap;
use keyshard_shard::{BatchId, CryptoHash, Instant, Level, News, Recovered, TransferId};
use near_primitives::types::AccountId;
use uuid::Uuid;

use crate::door::{NewTransfer, Waiting};

/// The states of a transfer. They only move forward (P7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobStatus {
    /// Accepted, in no transaction yet.
    Queued,
    /// In a signed transaction whose fate is open.
    Processing,
    /// Executed successfully in a block that is not final yet.
    Submitted,
    /// Executed successfully at FINAL. For ever.
    Finalized,
    /// Will never be paid. For ever.
    Failed,
}

impl JobStatus {
    /// The word in the API: `queued`, `processing`, `submitted`, `finalized`, `failed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Submitted => "submitted",
            Self::Finalized => "finalized",
            Self::Failed => "failed",
        }
    }

    /// Whether it stays so for ever.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Finalized | Self::Failed)
    }
}

/// One transfer as the outside sees it. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// When it was accepted.
    pub created_at_ms: u64,
    /// Where it is.
    pub status: JobStatus,
    /// Who receives.
    pub receiver: AccountId,
    /// Raw token units.
    pub amount: u128,
    /// As given.
    pub memo: Option<Box<str>>,
    /// Transactions it has been in.
    pub attempts: u32,
    /// The last of them, as the Node service names it: `batch-<ms>-<n>`.
    pub batch_id: Option<String>,
    /// Why it is not settled, or why it failed.
    pub last_error: Option<Box<str>>,
    /// Hash of the last transaction, base58.
    pub tx_hash: Option<String>,
    /// When the last transaction was signed.
    pub submitted_at_ms: Option<u64>,
    /// When anything last changed.
    pub updated_at_ms: u64,
    /// How far the node says the transaction is executed: `EXECUTED_OPTIMISTIC`, `FINAL`, ...
    pub execution_status: Option<&'static str>,
}

/// How many remembered transfers are in each status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// [`JobStatus::Queued`]
    pub queued: u64,
    /// [`JobStatus::Processing`]
    pub processing: u64,
    /// [`JobStatus::Submitted`]
    pub submitted: u64,
    /// [`JobStatus::Finalized`]
    pub finalized: u64,
    /// [`JobStatus::Failed`]
    pub failed: u64,
}

/// What the board keeps of a transfer.
struct Entry {
    created_at: Instant,
    updated_at: Instant,
    status: JobStatus,
    receiver: AccountId,
    amount: u128,
    memo: Option<Box<str>>,
    attempts: u32,
    sent: Option<(CryptoHash, BatchId)>,
    level: Option<Level>,
    last_error: Option<Box<str>>,
    /// Who waits for it; gone once it is answerable.
    waiting: Option<Arc<Waiting>>,
}

/// What news did to the board.
#[derive(Default)]
pub(crate) struct Told {
    /// Transfers that settled with it.
    pub(crate) settled: usize,
    /// Requests of the transfers whose acceptance is durable now, once a transfer.
    durable: Vec<Arc<Waiting>>,
    /// Requests of the transfers that are answerable now, once a transfer.
    answerable: Vec<Arc<Waiting>>,
}

impl Told {
    /// Tells the requests whose transfers became answerable.
    pub(crate) fn wake(self) {
        for waiting in self.durable {
            waiting.one_is_durable();
        }
        for waiting in self.answerable {
            waiting.one_is_answerable();
        }
    }
}

/// The board.
pub(crate) struct Board {
    jobs: DashMap<TransferId, Entry, foldhash::fast::RandomState>,
    by_hash: DashMap<CryptoHash, Vec<TransferId>, foldhash::fast::RandomState>,
    counts: [AtomicU64; 5],
    /// Settled ones, oldest first.
    settled: SegQueue<TransferId>,
    settled_count: AtomicUsize,
    settled_kept: usize,
    wait_until: Level,
    clock: crate::clock::Clock,
}

impl Board {
    pub(crate) fn new(wait_until: Level, settled_kept: usize, clock: crate::clock::Clock) -> Self {
        Self {
            jobs: DashMap::default(),
            by_hash: DashMap::default(),
            counts: Default::default(),
            settled: SegQueue::new(),
            settled_count: AtomicUsize::new(0),
            settled_kept,
            wait_until,
            clock,
        }
    }

    /// A door took it in.
    pub(crate) fn accepted(&self, id: Uuid, new: &NewTransfer, waiting: &Arc<Waiting>) {
        let now = self.clock.now();
        let entry = Entry {
            created_at: now,
            updated_at: now,
            status: JobStatus::Queued,
            receiver: new.receiver.clone(),
            amount: new.amount,
            memo: new.memo.as_deref().map(Into::into),
            attempts: 0,
            sent: None,
            level: None,
            last_error: None,
            waiting: Some(waiting.clone()),
        };
        self.jobs.insert(TransferId(id.as_u128()), entry);
        self.count(JobStatus::Queued).fetch_add(1, Ordering::Relaxed);
    }

    /// What former lives left open. Nobody waits for it any more. Returns how many transfers that are.
    pub(crate) fn recovered(&self, recovered: &Recovered) -> usize {
        let now = self.clock.now();
        let batches: foldhash::HashMap<CryptoHash, BatchId> =
            recovered.attempts.iter().map(|attempt| (attempt.hash, attempt.batch)).collect();
        for open in &recovered.transfers {
            let sent = open.carried_by.and_then(|hash| Some((hash, *batches.get(&hash)?)));
            let status = if sent.is_some() { JobStatus::Processing } else { JobStatus::Queued };
            let entry = Entry {
                created_at: open.accepted_at,
                updated_at: now,
                status,
                receiver: open.transfer.receiver.clone(),
                amount: open.transfer.amount,
                memo: open.transfer.memo.clone(),
                attempts: u32::from(sent.is_some()),
                sent,
                level: None,
                last_error: Some("the service was restarted; its outcome is being found out".into()),
                waiting: None,
            };
            self.jobs.insert(open.transfer.id, entry);
            self.count(status).fetch_add(1, Ordering::Relaxed);
        }
        for attempt in &recovered.attempts {
            self.by_hash.insert(attempt.hash, attempt.transfers.to_vec());
        }
        recovered.transfers.len()
    }

    /// A shard has news of these. Whoever waits for them is woken by [`Told::wake`], when all books agree.
    #[must_use]
    pub(crate) fn tell(&self, ids: &[TransferId], news: &News) -> Told {
        let now = self.clock.now();
        let mut told = Told::default();
        for id in ids {
            let Some(mut entry) = self.jobs.get_mut(id) else { continue };
            let before = entry.sent;
            self.apply(&mut entry, news, now, &mut told);
            drop(entry);
            if let (News::Signed { .. }, Some((hash, _))) = (news, before) {
                self.unlink(&hash, id);
            }
        }
        match news {
            News::Signed { hash, .. } => {
                self.by_hash.insert(*hash, ids.to_vec());
            }
            News::Finalized | News::Failed { .. } => {
                self.retire(ids);
                told.settled = ids.len();
            }
            News::Accepted | News::Reached { .. } | News::Delayed { .. } => {}
        }
        told
    }

    fn apply(&self, entry: &mut Entry, news: &News, now: Instant, told: &mut Told) {
        assert!(!entry.status.is_settled(), "P7: news of a transfer that has settled: {news:?}");
        match news {
            // Nothing that can be seen has changed.
            News::Accepted => return told.durable.extend(entry.waiting.clone()),
            News::Signed { hash, batch, .. } => {
                entry.sent = Some((*hash, *batch));
                entry.level = None;
                entry.attempts += 1;
                self.advance(entry, JobStatus::Processing);
            }
            News::Reached { level } => {
                entry.level = Some(*level);
                entry.last_error = None;
                if *level >= Level::ExecutedOptimistic {
                    self.advance(entry, JobStatus::Submitted);
                }
                if *level >= self.wait_until {
                    told.answerable.extend(entry.waiting.take());
                }
            }
            News::Finalized => {
                entry.level = Some(Level::Final);
                entry.last_error = None;
                self.advance(entry, JobStatus::Finalized);
                told.answerable.extend(entry.waiting.take());
            }
            News::Failed { reason } => {
                entry.last_error = Some(reason.clone());
                self.advance(entry, JobStatus::Failed);
                told.answerable.extend(entry.waiting.take());
            }
            News::Delayed { reason } => entry.last_error = Some(reason.clone()),
        }
        entry.updated_at = now;
    }

    /// Statuses only move forward: one that is behind is no news.
    fn advance(&self, entry: &mut Entry, status: JobStatus) {
        if status > entry.status {
            self.count(entry.status).fetch_sub(1, Ordering::Relaxed);
            self.count(status).fetch_add(1, Ordering::Relaxed);
            entry.status = status;
        }
    }

    /// Remembers the settled ones, and forgets the oldest above the bound.
    fn retire(&self, ids: &[TransferId]) {
        for id in ids {
            self.settled.push(*id);
        }
        let mut count = self.settled_count.fetch_add(ids.len(), Ordering::Relaxed) + ids.len();
        while count > self.settled_kept {
            let Some(oldest) = self.settled.pop() else { break };
            count = self.settled_count.fetch_sub(1, Ordering::Relaxed) - 1;
            if let Some((id, entry)) = self.jobs.remove(&oldest) {
                self.count(entry.status).fetch_sub(1, Ordering::Relaxed);
                if let Some((hash, _)) = entry.sent {
                    self.unlink(&hash, &id);
                }
            }
        }
    }

    fn unlink(&self, hash: &CryptoHash, id: &TransferId) {
        if let Some(mut ids) = self.by_hash.get_mut(hash) {
            ids.retain(|other| other != id);
        }
        self.by_hash.remove_if(hash, |_, ids| ids.is_empty());
    }

    pub(crate) fn job(&self, id: Uuid) -> Option<Job> {
        let id = TransferId(id.as_u128());
        self.jobs.get(&id).map(|entry| entry.job(id))
    }

    pub(crate) fn jobs_by_hash(&self, hash: &CryptoHash) -> Vec<Job> {
        let ids = self.by_hash.get(hash).map(|ids| ids.clone()).unwrap_or_default();
        ids.into_iter().filter_map(|id| self.jobs.get(&id).map(|entry| entry.job(id))).collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        let [queued, processing, submitted, finalized, failed] =
            [0, 1, 2, 3, 4].map(|i: usize| self.counts[i].load(Ordering::Relaxed));
        Counts { queued, processing, submitted, finalized, failed }
    }

    /// Hashes of the transactions that carry transfers which have not settled. Walks the whole board: for the end only.
    pub(crate) fn open_hashes(&self) -> Vec<String> {
        let mut hashes: Vec<CryptoHash> = self
            .jobs
            .iter()
            .filter(|entry| !entry.status.is_settled())
            .filter_map(|entry| entry.sent.map(|(hash, _)| hash))
            .collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.iter().map(ToString::to_string).collect()
    }

    fn count(&self, status: JobStatus) -> &AtomicU64 {
        &self.counts[status as usize]
    }
}

impl Entry {
    fn job(&self, id: TransferId) -> Job {
        Job {
            id: Uuid::from_u128(id.0),
            created_at_ms: self.created_at.as_millis(),
            status: self.status,
            receiver: self.receiver.clone(),
            amount: self.amount,
            memo: self.memo.clone(),
            attempts: self.attempts,
            batch_id: self.sent.map(|(_, batch)| batch.to_string()),
            last_error: self.last_error.clone(),
            tx_hash: self.sent.map(|(hash, _)| hash.to_string()),
            submitted_at_ms: self.sent.map(|(_, batch)| batch.at.as_millis()),
            updated_at_ms: self.updated_at.as_millis(),
            execution_status: self.level.map(Level::as_str),
        }
    }
}
