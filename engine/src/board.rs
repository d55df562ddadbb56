//! What the outside may see of a transfer: a concurrent map, written by the shards, read by the doors.
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use dashmap::DashMap;
use foldhash::HashMap;
use keyshard_shard::{AccountId, CryptoHash, IdempotencyKey, Instant, Level, News, Recovered, Transfer, TransferId};

use crate::{
    clock::Clock,
    door::{NewTransfer, Waiting},
    history::Settled,
    job::{Counts, Job, JobStatus},
    listing::Rank,
};

mod entry;
mod table;

use entry::{Carrier, Entry, Why};
use table::Table;

/// What news did to the board.
#[derive(Default)]
pub(crate) struct Told {
    /// Transfers that settled with it.
    pub(crate) settled: usize,
    /// Requests of the transfers whose acceptance is durable now, once a transfer.
    durable: Woken,
    /// Requests of the transfers that are answerable now, once a transfer.
    answerable: Woken,
    /// By status: by how much there are more with it, or fewer.
    moved: [i64; STATUSES],
}

/// Requests, and for how many transfers in a row each.
#[derive(Default)]
struct Woken(Vec<(Arc<Waiting>, u32)>);

impl Woken {
    /// Neighbours are mostly of one request: that is touched once.
    fn push(&mut self, waiting: &Arc<Waiting>) {
        match self.0.last_mut() {
            Some((last, times)) if Arc::ptr_eq(last, waiting) => *times += 1,
            _ => self.0.push((waiting.clone(), 1)),
        }
    }
}

impl Extend<Arc<Waiting>> for Woken {
    fn extend<I: IntoIterator<Item = Arc<Waiting>>>(&mut self, all: I) {
        for waiting in all {
            match self.0.last_mut() {
                Some((last, times)) if Arc::ptr_eq(last, &waiting) => *times += 1,
                _ => self.0.push((waiting, 1)),
            }
        }
    }
}

impl Told {
    /// Tells the requests whose transfers became answerable.
    pub(crate) fn wake(self) {
        for (waiting, times) in self.durable.0 {
            waiting.are_durable(times);
        }
        for (waiting, times) in self.answerable.0 {
            waiting.are_answerable(times);
        }
    }

    /// Statuses only move forward: one that is behind is no news.
    fn advance(&mut self, entry: &mut Entry, status: JobStatus) {
        if status > entry.status {
            self.moved[entry.status as usize] -= 1;
            self.moved[status as usize] += 1;
            entry.status = status;
        }
    }
}

const STATUSES: usize = 5;

/// The board.
pub(crate) struct Board {
    jobs: Table,
    /// Those that carried anything that is on the board.
    carriers: DashMap<CryptoHash, Arc<Carrier>, foldhash::fast::RandomState>,
    counts: [AtomicU64; STATUSES],
    wait_until: Level,
    clock: Clock,
}

/// A transfer's name.
pub(crate) struct Name(Arc<Transfer>);

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.key.as_ref().map_or("", |key: &IdempotencyKey| &key.name)
    }
}

impl Board {
    pub(crate) fn new(wait_until: Level, clock: Clock) -> Self {
        Self { jobs: Table::new(), carriers: DashMap::default(), counts: Default::default(), wait_until, clock }
    }

    /// A door took these in, for one request.
    pub(crate) fn accepted<'a>(&self, transfers: impl IntoIterator<Item = &'a Arc<Transfer>>, waiting: &Arc<Waiting>) {
        let (now, mut count) = (self.clock.now(), 0);
        for transfer in transfers {
            self.jobs.insert(Entry { waiting: Some(waiting.clone()), ..Entry::new(transfer.clone(), now, now) });
            count += 1;
        }
        self.counts[JobStatus::Queued as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// What former lives left open. Nobody waits for it any more. Returns how many transfers that are.
    pub(crate) fn recovered(&self, recovered: &Recovered) -> usize {
        let (now, mut told) = (self.clock.now(), Told::default());
        let why = Arc::new(Why("the service was restarted; its outcome is being found out".into()));
        let mut tried: HashMap<CryptoHash, Vec<TransferId>> = HashMap::default();
        for open in &recovered.transfers {
            for hash in &open.tried {
                tried.entry(*hash).or_default().push(open.transfer.id);
            }
        }
        for (hash, transfers) in tried {
            self.carriers.insert(hash, Carrier::new(hash, None, transfers.into()));
        }
        for open in &recovered.transfers {
            let mut entry = Entry {
                last_error: Some(why.clone()),
                durable: true,
                ..Entry::new(open.transfer.clone(), open.accepted_at, now)
            };
            if !open.tried.is_empty() {
                let carriers = open.tried.iter().filter_map(|hash| Some(self.carriers.get(hash)?.clone()));
                entry.rare().tried.extend(carriers);
            }
            self.jobs.insert(entry);
        }
        self.counts[JobStatus::Queued as usize].fetch_add(recovered.transfers.len() as u64, Ordering::Relaxed);
        for attempt in &recovered.attempts {
            let carrier = Carrier::new(attempt.hash, Some(attempt.batch), attempt.transfers.clone());
            self.carry(&carrier, &mut told, |_| {});
        }
        self.count(&told);
        recovered.transfers.len()
    }

    /// Whether a transfer with this body is the one on the board; `None` if that is not there.
    pub(crate) fn is_same(&self, id: TransferId, new: &NewTransfer) -> Option<bool> {
        self.jobs.get(id).map(|entry| new.is_same_as(&entry.transfer))
    }

    /// How many the request had in which it was named as a whole.
    pub(crate) fn of(&self, id: TransferId) -> Option<u32> {
        self.jobs.get(id)?.transfer.key.as_ref().map(|key| key.of)
    }

    /// Another request waits for this one. What has come about already is told at once.
    pub(crate) fn join(&self, id: TransferId, waiting: &Arc<Waiting>) {
        assert!(self.watch(id, waiting), "P6: a transfer with a name on the board is not on the board");
    }

    /// As [`Self::join`], if it is on the board. Returns whether it is.
    pub(crate) fn watch(&self, id: TransferId, waiting: &Arc<Waiting>) -> bool {
        let Some(mut entry) = self.jobs.get(id) else { return false };
        let answerable = entry.is_answerable(self.wait_until);
        if !answerable {
            entry.rare().joined.push(waiting.clone());
        }
        if entry.durable {
            waiting.are_durable(1);
        }
        if answerable {
            waiting.are_answerable(1);
        }
        true
    }

    /// A shard has news of these. Whoever waits for them is woken by [`Told::wake`], when all books agree.
    #[must_use]
    pub(crate) fn tell(&self, ids: &[TransferId], news: &News) -> Told {
        let now = self.clock.now();
        let mut told = Told::default();
        if let News::Signed { hash, batch, .. } = news {
            self.carry(&Carrier::new(*hash, Some(*batch), ids.into()), &mut told, |entry| {
                assert_open(entry, news);
                entry.level = None;
                entry.updated_at = now;
            });
        } else {
            let why = match news {
                News::Failed { reason } | News::Delayed { reason } => Some(Arc::new(Why(reason.clone()))),
                _ => None,
            };
            for id in ids {
                if let Some(mut entry) = self.jobs.get(*id) {
                    self.apply(&mut entry, news, why.as_ref(), now, &mut told);
                }
            }
        }
        if matches!(news, News::Finalized | News::Failed { .. }) {
            told.settled = ids.len();
        }
        self.count(&told);
        told
    }

    /// A transaction carries these.
    fn carry(&self, carrier: &Arc<Carrier>, told: &mut Told, each: impl Fn(&mut Entry)) {
        // A fence of a former life carries nothing, and nothing would take it from here.
        if carrier.transfers.is_empty() {
            return;
        }
        self.carriers.insert(carrier.hash, carrier.clone());
        for (position, id) in (0..).zip(&carrier.transfers) {
            match self.jobs.get(*id) {
                Some(mut entry) => {
                    each(&mut entry);
                    entry.carried_by(carrier, position);
                    told.advance(&mut entry, JobStatus::Processing);
                }
                None => self.leave(carrier),
            }
        }
    }

    fn apply(&self, entry: &mut Entry, news: &News, why: Option<&Arc<Why>>, now: Instant, told: &mut Told) {
        assert_open(entry, news);
        match news {
            // Nothing that can be seen has changed.
            News::Accepted => {
                entry.durable = true;
                return entry.waiting().for_each(|waiting| told.durable.push(waiting));
            }
            // What a transaction carries is told of by `carry`.
            News::Signed { .. } => {}
            News::Reached { level } => {
                entry.level = Some(*level);
                entry.last_error = None;
                if *level >= Level::ExecutedOptimistic {
                    told.advance(entry, JobStatus::Submitted);
                }
                if *level >= self.wait_until {
                    entry.answer(told);
                }
            }
            News::Finalized => {
                entry.level = Some(Level::Final);
                entry.last_error = None;
                told.advance(entry, JobStatus::Finalized);
                entry.answer(told);
            }
            News::Failed { .. } => {
                entry.level = None;
                entry.last_error = why.cloned();
                told.advance(entry, JobStatus::Failed);
                entry.answer(told);
            }
            News::Delayed { .. } => entry.last_error = why.cloned(),
        }
        entry.updated_at = now;
    }

    /// For the history: one that has settled.
    ///
    /// # Panics
    /// If it is not on the board, or has not settled.
    pub(crate) fn settled(&self, id: TransferId) -> Settled {
        let Some(entry) = self.jobs.get(id) else { panic!("{id:?} has settled and is not on the board") };
        entry.settled()
    }

    /// What its client calls it.
    pub(crate) fn name(&self, id: TransferId) -> Option<Name> {
        let transfer = &self.jobs.get(id)?.transfer;
        transfer.key.is_some().then(|| Name(transfer.clone()))
    }

    /// The history has it: the board need not.
    pub(crate) fn evict(&self, id: TransferId) {
        if let Some(entry) = self.jobs.remove(id) {
            entry.carriers().for_each(|carrier| self.leave(carrier));
        }
    }

    /// One that this transaction carried is not on the board.
    fn leave(&self, carrier: &Carrier) {
        if carrier.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.carriers.remove(&carrier.hash);
        }
    }

    pub(crate) fn job(&self, id: TransferId) -> Option<Job> {
        self.jobs.get(id).map(|entry| entry.job())
    }

    /// The newest that are wanted, at most `limit`, all below `before`; the newest first. Walks the whole board.
    pub(crate) fn newest(
        &self,
        before: Option<Rank>,
        limit: usize,
        wanted: impl Fn(JobStatus, &AccountId) -> bool,
    ) -> Vec<Rank> {
        let mut newest: BinaryHeap<Reverse<Rank>> = BinaryHeap::with_capacity(limit + 1);
        self.jobs.for_each(|entry| {
            let rank = Rank::of(entry.transfer.id);
            let is_too_old = newest.len() == limit && newest.peek().is_some_and(|Reverse(oldest)| rank < *oldest);
            if is_too_old || before.is_some_and(|before| rank >= before) {
                return;
            }
            if wanted(entry.status, &entry.transfer.receiver) {
                newest.push(Reverse(rank));
                if newest.len() > limit {
                    newest.pop();
                }
            }
        });
        newest.into_sorted_vec().into_iter().map(|Reverse(rank)| rank).collect()
    }

    /// All that this transaction carried, each with its position if it is the last that carried it.
    pub(crate) fn jobs_by_hash(&self, hash: &CryptoHash) -> Vec<(u16, Job)> {
        let Some(carrier) = self.carriers.get(hash).map(|carrier| carrier.clone()) else { return Vec::new() };
        let job = |id: &TransferId| {
            let entry = self.jobs.get(*id)?;
            let is_last = entry.carrier.as_ref().is_some_and(|last| last.hash == *hash);
            Some((if is_last { entry.position } else { u16::MAX }, entry.job()))
        };
        carrier.transfers.iter().filter_map(job).collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        let [queued, processing, submitted, finalized, failed] =
            [0, 1, 2, 3, 4].map(|i: usize| self.counts[i].load(Ordering::Relaxed));
        Counts { queued, processing, submitted, finalized, failed }
    }

    /// Hashes of the transactions that carry transfers which have not settled. Walks the whole board: for the end only.
    pub(crate) fn open_hashes(&self) -> Vec<String> {
        let mut hashes = Vec::new();
        self.jobs.for_each(|entry| {
            if let Some(carrier) = entry.carrier.as_ref().filter(|_| !entry.status.is_settled()) {
                hashes.push(carrier.hash);
            }
        });
        hashes.sort_unstable();
        hashes.dedup();
        hashes.iter().map(ToString::to_string).collect()
    }

    fn count(&self, told: &Told) {
        for (count, moved) in self.counts.iter().zip(told.moved) {
            if moved != 0 {
                // Wraps around, which for a negative one is right.
                count.fetch_add(moved as u64, Ordering::Relaxed);
            }
        }
    }
}

fn assert_open(entry: &Entry, news: &News) {
    assert!(!entry.status.is_settled(), "P7: news of a transfer that has settled: {news:?}");
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use keyshard_shard::BatchId;

    use super::*;

    #[test]
    fn a_transaction_is_forgotten_with_the_last_transfer_that_it_carried() {
        let board = Board::new(Level::Final, Clock::new());
        let waiting = Waiting::nobody();
        let transfers = [1, 2].map(|id| {
            let receiver = "user.near".parse().unwrap();
            Arc::new(Transfer { id: TransferId(id), receiver, amount: 1, memo: None, key: None })
        });
        board.accepted(&transfers, &waiting);
        let ids = [TransferId(1), TransferId(2)];
        let at = Instant::from_micros(1);
        let [first, second] = [b"1", b"2"].map(|name| CryptoHash::hash_bytes(name));
        let carry = |hash, ids: &[TransferId]| {
            let _ = board.tell(ids, &News::Signed { hash, batch: BatchId { at, number: 1 }, at });
        };
        carry(first, &ids);
        carry(second, &ids[1..]);
        let _ = board.tell(&ids, &News::Delayed { reason: "slow".into() });
        assert_eq!((board.counts().queued, board.counts().processing), (0, 2));
        assert_eq!(board.open_hashes().len(), 2);
        let seen = |hash| board.jobs_by_hash(hash).into_iter().map(|(at, job)| (at, job.id.as_u128(), job.attempts));
        assert!(seen(&first).eq([(0, 1, 1), (u16::MAX, 2, 2)]), "the second has gone on to another");
        assert!(seen(&second).eq([(0, 2, 2)]));
        let _ = board.tell(&ids, &News::Finalized);
        assert_eq!((board.settled(ids[1]).tried, board.settled(ids[0]).tried), (vec![first], vec![]));
        board.evict(ids[0]);
        assert!(seen(&first).eq([(u16::MAX, 2, 2)]));
        board.evict(ids[1]);
        assert!(board.carriers.is_empty());
        assert_eq!(board.job(ids[1]), None);
        assert_eq!(board.counts().finalized, 2, "since the start");
    }
}
