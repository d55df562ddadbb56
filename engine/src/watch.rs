//! Everything that the engine measures, at one moment: `/metrics` and the dashboard are both made from it.
use std::{sync::Arc, time::Duration};

use foldhash::HashMap;
use keyshard_rpc::{Observed, Outcome};
use keyshard_shard::{
    Histogram, TransferId,
    meter::{KeyState, Meter, Queues},
};

use crate::{Batching, Counts, Health, Holdings, Job, health::Report, journal};

/// Transfers that a shard remembers to have had news of. Each has about five in its life.
pub(crate) const RECENT: usize = 256;
/// So many of those that it had news of at once: a single transaction may carry hundreds, and others are wanted as well.
pub(crate) const RECENT_AT_ONCE: usize = 8;

/// Everything that the engine measures. What shards measure is at most a second old.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Transfers by status: the open ones, and what has settled since start.
    pub counts: Counts,
    /// Accepted transfers that have not settled.
    pub pending: usize,
    /// How many there may be.
    pub pending_max: usize,
    /// Settled transfers that are not in the history yet.
    pub unsaved: usize,
    /// What the batching achieved.
    pub batching: Batching,
    /// What hinders it, and how its endpoints are.
    pub health: Health,
    /// What all shards measured, added up.
    pub meter: Meter,
    /// By shard: what waits there.
    pub queues: Vec<Queues>,
    /// By access key.
    pub keys: Vec<Key>,
    /// Transactions of one key that may be waiting for a block.
    pub window: usize,
    /// Transactions proven dead because another took their nonce.
    pub deaths_overtaken: u64,
    /// Transactions proven dead because they expired unused.
    pub deaths_expired: u64,
    /// Calls to the nodes, by method.
    pub calls: Vec<Calls>,
    /// The journal's numbers.
    pub journal: journal::Stats,
    /// What the account holds.
    pub holdings: Holdings,
    /// The time from block to block, as far as it was seen.
    pub block_time: Duration,
}

/// One access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// `ed25519:...`
    pub public_key: Arc<str>,
    /// The shard that owns it.
    pub shard: usize,
    /// Whether it takes new transactions.
    pub state: KeyState,
    /// Requests in its rings that the shard has not taken yet; a large request is several.
    pub ring: usize,
    /// Transactions that may be waiting for a block: at most [`Watch::window`].
    pub in_flight: usize,
    /// Transactions whose end is not known.
    pub open: usize,
    /// The last nonce used.
    pub nonce: u64,
    /// Nonces from the oldest transaction whose end is not known to the last one used.
    pub nonce_lag: u64,
}

impl Key {
    /// How it is shown: the first characters, enough to tell the keys of an account apart.
    pub fn short(&self) -> &str {
        const SHOWN: usize = "ed25519:".len() + 8;
        self.public_key.get(..SHOWN).unwrap_or(&self.public_key)
    }
}

/// Calls of one JSON-RPC method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calls {
    /// The method.
    pub method: &'static str,
    /// How many ended how, in the order of [`Outcome::ALL`].
    pub outcomes: [u64; Outcome::ALL.len()],
    /// How long they took, in microseconds. Of `send_tx` and `tx` most of it is the node waiting for the chain.
    pub took: Histogram,
}

impl Calls {
    fn new(method: &'static str) -> Self {
        Self { method, outcomes: Default::default(), took: Histogram::of_times() }
    }

    /// Counts one.
    pub(crate) fn count(all: &mut Vec<Self>, call: Observed) {
        let calls = Self::of(all, call.method);
        calls.outcomes[call.outcome as usize] += 1;
        if let Some(took) = call.took {
            calls.took.record_time(took, 1);
        }
    }

    fn of<'a>(all: &'a mut Vec<Self>, method: &'static str) -> &'a mut Self {
        let at = all.iter().position(|calls| calls.method == method).unwrap_or_else(|| {
            all.push(Self::new(method));
            all.len() - 1
        });
        &mut all[at]
    }

    fn add(all: &mut Vec<Self>, other: &Self) {
        let calls = Self::of(all, other.method);
        for (count, other) in calls.outcomes.iter_mut().zip(other.outcomes) {
            *count += other;
        }
        calls.took.add(&other.took);
    }
}

/// What the shards reported, put together.
#[derive(Default)]
pub(crate) struct Shards {
    pub(crate) meter: Meter,
    pub(crate) queues: Vec<Queues>,
    pub(crate) keys: Vec<Key>,
    pub(crate) window: usize,
    pub(crate) deaths_overtaken: u64,
    pub(crate) deaths_expired: u64,
    pub(crate) calls: Vec<Calls>,
    pub(crate) block_time: Duration,
}

impl Shards {
    pub(crate) fn of(reports: &[Arc<Report>]) -> Self {
        let mut all = Self::default();
        for (shard, report) in reports.iter().enumerate() {
            let told = report.read();
            all.meter.add(&told.meter);
            all.queues.push(told.queues);
            all.keys.extend(told.keys.iter().map(|(key, ring)| Key {
                public_key: key.public_key.clone(),
                shard,
                state: key.state,
                ring: *ring,
                in_flight: key.in_flight,
                open: key.open,
                nonce: key.nonce,
                nonce_lag: key.nonce_lag,
            }));
            all.window = all.window.max(told.window);
            all.deaths_overtaken += told.stats.deaths_overtaken;
            all.deaths_expired += told.stats.deaths_expired;
            told.calls.iter().for_each(|calls| Calls::add(&mut all.calls, calls));
            all.block_time = all.block_time.max(told.block_time);
        }
        all.calls.sort_unstable_by_key(|calls| calls.method);
        all
    }
}

/// Token units that all shards have paid.
pub(crate) fn paid(reports: &[Arc<Report>]) -> u128 {
    reports.iter().fold(0u128, |sum, report| sum.saturating_add(report.read().meter.paid))
}

/// The transfers that shards last had news of, the latest first: at most so many, and few of one transaction. None that has left the
/// board.
pub(crate) fn recent(reports: &[Arc<Report>], limit: usize, job: impl Fn(TransferId) -> Option<Job>) -> Vec<Job> {
    let mut ids: Vec<TransferId> = reports.iter().flat_map(|report| report.read().recent.clone()).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut jobs: Vec<Job> = ids.into_iter().filter_map(job).collect();
    jobs.sort_by_key(|job| std::cmp::Reverse((job.updated_at_ms, job.id)));
    let mut of_one: HashMap<Option<Arc<str>>, usize> = HashMap::default();
    jobs.retain(|job| {
        let count = of_one.entry(job.tx_hash.clone()).or_default();
        *count += 1;
        *count <= RECENT_AT_ONCE
    });
    jobs.truncate(limit);
    jobs
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use keyshard_shard::Instant;
    use uuid::Uuid;

    use super::*;
    use crate::{JobStatus, health::Told};

    #[test]
    fn calls_are_counted_by_method_and_outcome_and_added_up() {
        let (mut one, mut other) = (Vec::new(), Vec::new());
        let took = Some(Duration::from_millis(3));
        Calls::count(&mut one, Observed { method: "tx", outcome: Outcome::Answered, took });
        Calls::count(&mut one, Observed { method: "tx", outcome: Outcome::NeverLeft, took: None });
        Calls::count(&mut other, Observed { method: "block", outcome: Outcome::Unknown, took });
        Calls::count(&mut other, Observed { method: "tx", outcome: Outcome::Refused, took });
        for calls in &other {
            Calls::add(&mut one, calls);
        }
        let seen: Vec<_> = one.iter().map(|calls| (calls.method, calls.outcomes, calls.took.count())).collect();
        assert_eq!(seen, [("tx", [1, 1, 0, 1], 2), ("block", [0, 0, 1, 0], 1)]);
    }

    #[test]
    fn the_latest_come_first_and_few_of_one_transaction() {
        let report = Arc::new(Report::default());
        let ids: Vec<TransferId> = (1..=30).chain(5..=6).map(TransferId).collect();
        report.update(Instant::from_micros(1), Told { recent: ids, ..Told::default() });
        // The first ten are each in a transaction of their own, the others in one; the last has left the board.
        let job = |id: TransferId| {
            let hash = if id.0 <= 10 { id.0.to_string() } else { "one".to_owned() };
            (id.0 < 30).then(|| Job {
                id: Uuid::from_u128(id.0),
                key: None,
                created_at_ms: 0,
                status: JobStatus::Processing,
                receiver: "user.near".parse().unwrap(),
                amount: 1,
                memo: None,
                attempts: 1,
                batch_id: None,
                last_error: None,
                tx_hash: Some(hash.into()),
                submitted_at_ms: None,
                updated_at_ms: id.0 as u64,
                execution_status: None,
            })
        };
        let seen: Vec<u128> = recent(&[report], 12, job).iter().map(|job| job.id.as_u128()).collect();
        assert_eq!(seen, [29, 28, 27, 26, 25, 24, 23, 22, 10, 9, 8, 7]);
    }

    #[test]
    fn outcomes_are_counted_in_their_order() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
    }
}
