//! What the outside may see of a transfer: a concurrent map, written by the shards, read by the doors.
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use dashmap::DashMap;
use keyshard_shard::{Carried, CryptoHash, Instant, Level, News, Recovered, Transfer, TransferId};
use uuid::Uuid;

use crate::{
    clock::Clock,
    door::{NewTransfer, Waiting},
    history::Settled,
    job::{Counts, Job, JobStatus},
};

/// What the board keeps of a transfer.
struct Entry {
    transfer: Transfer,
    created_at: Instant,
    updated_at: Instant,
    status: JobStatus,
    /// The last transaction that carried it.
    carried: Option<Carried>,
    /// Transactions that carried it before.
    tried: Vec<CryptoHash>,
    level: Option<Level>,
    last_error: Option<Box<str>>,
    /// Whether its acceptance is on the disk.
    durable: bool,
    /// The request that waits for it; gone once it is answerable.
    waiting: Option<Arc<Waiting>>,
    /// Further requests that joined by its idempotency key.
    joined: Vec<Arc<Waiting>>,
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
    /// By transaction: all that it carried and that are on the board.
    by_hash: DashMap<CryptoHash, Vec<TransferId>, foldhash::fast::RandomState>,
    counts: [AtomicU64; 5],
    wait_until: Level,
    clock: Clock,
}

impl Board {
    pub(crate) fn new(wait_until: Level, clock: Clock) -> Self {
        Self { jobs: DashMap::default(), by_hash: DashMap::default(), counts: Default::default(), wait_until, clock }
    }

    /// A door took it in.
    pub(crate) fn accepted(&self, id: Uuid, new: &NewTransfer, waiting: &Arc<Waiting>) {
        let now = self.clock.now();
        let entry = Entry { waiting: Some(waiting.clone()), ..Entry::new(new.clone().accepted_as(id), now, now) };
        self.jobs.insert(entry.transfer.id, entry);
        self.count(JobStatus::Queued).fetch_add(1, Ordering::Relaxed);
    }

    /// What former lives left open. Nobody waits for it any more. Returns how many transfers that are.
    pub(crate) fn recovered(&self, recovered: &Recovered) -> usize {
        let now = self.clock.now();
        for open in &recovered.transfers {
            let entry = Entry {
                tried: open.tried.clone(),
                last_error: Some("the service was restarted; its outcome is being found out".into()),
                durable: true,
                ..Entry::new(open.transfer.clone(), open.accepted_at, now)
            };
            self.link(&open.tried, open.transfer.id);
            self.jobs.insert(open.transfer.id, entry);
            self.count(JobStatus::Queued).fetch_add(1, Ordering::Relaxed);
        }
        for attempt in &recovered.attempts {
            for (position, id) in (0..).zip(&attempt.transfers) {
                if let Some(mut entry) = self.jobs.get_mut(id) {
                    entry.carried = Some(Carried { hash: attempt.hash, batch: attempt.batch, position });
                    self.advance(&mut entry, JobStatus::Processing);
                }
            }
            self.by_hash.entry(attempt.hash).or_default().extend_from_slice(&attempt.transfers);
        }
        recovered.transfers.len()
    }

    /// Whether a transfer with this body is the one on the board; `None` if that is not there.
    pub(crate) fn is_same(&self, id: TransferId, new: &NewTransfer) -> Option<bool> {
        self.jobs.get(&id).map(|entry| new.is_same_as(&entry.transfer))
    }

    /// How many the request had in which it was named as a whole.
    pub(crate) fn of(&self, id: TransferId) -> Option<u32> {
        self.jobs.get(&id)?.transfer.key.as_ref().map(|key| key.of)
    }

    /// Another request waits for this one. What has come about already is told at once.
    pub(crate) fn join(&self, id: TransferId, waiting: &Arc<Waiting>) {
        let Some(mut entry) = self.jobs.get_mut(&id) else {
            panic!("P6: a transfer with a name on the board is not on the board");
        };
        let answerable = entry.is_answerable(self.wait_until);
        if !answerable {
            entry.joined.push(waiting.clone());
        }
        if entry.durable {
            waiting.one_is_durable();
        }
        if answerable {
            waiting.one_is_answerable();
        }
    }

    /// A shard has news of these. Whoever waits for them is woken by [`Told::wake`], when all books agree.
    #[must_use]
    pub(crate) fn tell(&self, ids: &[TransferId], news: &News) -> Told {
        let now = self.clock.now();
        let mut told = Told::default();
        for (position, id) in (0..).zip(ids) {
            let Some(mut entry) = self.jobs.get_mut(id) else { continue };
            self.apply(&mut entry, news, position, now, &mut told);
        }
        match news {
            News::Signed { hash, .. } => {
                self.by_hash.insert(*hash, ids.to_vec());
            }
            News::Finalized | News::Failed { .. } => told.settled = ids.len(),
            News::Accepted | News::Reached { .. } | News::Delayed { .. } => {}
        }
        told
    }

    fn apply(&self, entry: &mut Entry, news: &News, position: u16, now: Instant, told: &mut Told) {
        assert!(!entry.status.is_settled(), "P7: news of a transfer that has settled: {news:?}");
        match news {
            // Nothing that can be seen has changed.
            News::Accepted => {
                entry.durable = true;
                return told.durable.extend(entry.waiting.iter().chain(&entry.joined).cloned());
            }
            News::Signed { hash, batch, .. } => {
                let carried = Carried { hash: *hash, batch: *batch, position };
                entry.tried.extend(entry.carried.replace(carried).map(|before| before.hash));
                entry.level = None;
                self.advance(entry, JobStatus::Processing);
            }
            News::Reached { level } => {
                entry.level = Some(*level);
                entry.last_error = None;
                if *level >= Level::ExecutedOptimistic {
                    self.advance(entry, JobStatus::Submitted);
                }
                if *level >= self.wait_until {
                    entry.answer(told);
                }
            }
            News::Finalized => {
                entry.level = Some(Level::Final);
                entry.last_error = None;
                self.advance(entry, JobStatus::Finalized);
                entry.answer(told);
            }
            News::Failed { reason } => {
                entry.level = None;
                entry.last_error = Some(reason.clone());
                self.advance(entry, JobStatus::Failed);
                entry.answer(told);
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

    /// For the history: one that has settled.
    ///
    /// # Panics
    /// If it is not on the board, or has not settled.
    pub(crate) fn settled(&self, id: TransferId) -> Settled {
        let Some(entry) = self.jobs.get(&id) else { panic!("{id:?} has settled and is not on the board") };
        let outcome = match entry.status {
            JobStatus::Finalized => Ok(()),
            JobStatus::Failed => Err(entry.last_error.clone().unwrap_or_default()),
            open => panic!("{id:?} has not settled, it is {}", open.as_str()),
        };
        Settled {
            transfer: entry.transfer.clone(),
            accepted_at: entry.created_at,
            settled_at: entry.updated_at,
            outcome,
            carried: entry.carried,
            tried: entry.tried.clone(),
        }
    }

    /// What its client calls it.
    pub(crate) fn name(&self, id: TransferId) -> Option<Box<str>> {
        self.jobs.get(&id)?.transfer.key.as_ref().map(|key| key.name.clone())
    }

    /// The history has it: the board need not.
    pub(crate) fn evict(&self, id: TransferId) {
        if let Some((id, entry)) = self.jobs.remove(&id) {
            for hash in entry.hashes() {
                self.unlink(&hash, id);
            }
        }
    }

    fn link(&self, hashes: &[CryptoHash], id: TransferId) {
        for hash in hashes {
            self.by_hash.entry(*hash).or_default().push(id);
        }
    }

    fn unlink(&self, hash: &CryptoHash, id: TransferId) {
        if let Some(mut ids) = self.by_hash.get_mut(hash) {
            ids.retain(|other| *other != id);
        }
        self.by_hash.remove_if(hash, |_, ids| ids.is_empty());
    }

    pub(crate) fn job(&self, id: TransferId) -> Option<Job> {
        self.jobs.get(&id).map(|entry| entry.job())
    }

    /// All that this transaction carried, each with its position if it is the last that carried it.
    pub(crate) fn jobs_by_hash(&self, hash: &CryptoHash) -> Vec<(u16, Job)> {
        let ids = self.by_hash.get(hash).map(|ids| ids.clone()).unwrap_or_default();
        let job = |id| {
            let entry = self.jobs.get(&id)?;
            let carried = entry.carried.filter(|carried| carried.hash == *hash);
            Some((carried.map_or(u16::MAX, |carried| carried.position), entry.job()))
        };
        ids.into_iter().filter_map(job).collect()
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
            .filter_map(|entry| entry.carried.map(|carried| carried.hash))
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
    fn new(transfer: Transfer, created_at: Instant, updated_at: Instant) -> Self {
        Self {
            transfer,
            created_at,
            updated_at,
            status: JobStatus::Queued,
            carried: None,
            tried: Vec::new(),
            level: None,
            last_error: None,
            durable: false,
            waiting: None,
            joined: Vec::new(),
        }
    }

    fn is_answerable(&self, wait_until: Level) -> bool {
        self.status.is_settled() || self.level.is_some_and(|level| level >= wait_until)
    }

    /// Whoever waits for it need not any more.
    fn answer(&mut self, told: &mut Told) {
        told.answerable.extend(self.waiting.take());
        told.answerable.append(&mut self.joined);
    }

    /// Every transaction that carried it.
    fn hashes(&self) -> impl Iterator<Item = CryptoHash> + '_ {
        self.carried.iter().map(|carried| carried.hash).chain(self.tried.iter().copied())
    }

    fn job(&self) -> Job {
        let (transfer, carried) = (&self.transfer, self.carried);
        Job {
            id: Uuid::from_u128(transfer.id.0),
            key: transfer.key.as_ref().map(|key| key.name.clone()),
            created_at_ms: self.created_at.as_millis(),
            status: self.status,
            receiver: transfer.receiver.clone(),
            amount: transfer.amount,
            memo: transfer.memo.clone(),
            attempts: self.hashes().count() as u32,
            batch_id: carried.map(|carried| carried.batch.to_string()),
            last_error: self.last_error.clone(),
            tx_hash: carried.map(|carried| carried.hash).or(self.tried.last().copied()).map(|hash| hash.to_string()),
            submitted_at_ms: carried.map(|carried| carried.batch.at.as_millis()),
            updated_at_ms: self.updated_at.as_millis(),
            execution_status: self.level.map(Level::as_str),
        }
    }
}

impl From<Settled> for Job {
    fn from(settled: Settled) -> Self {
        let status = if settled.outcome.is_ok() { JobStatus::Finalized } else { JobStatus::Failed };
        let entry = Entry {
            status,
            carried: settled.carried,
            tried: settled.tried,
            level: settled.outcome.is_ok().then_some(Level::Final),
            last_error: settled.outcome.err(),
            ..Entry::new(settled.transfer, settled.accepted_at, settled.settled_at)
        };
        entry.job()
    }
}
