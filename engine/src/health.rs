//! What the engine says about itself: each shard reports now and then, readers merge the reports.
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use keyshard_shard::{
    Condition as ShardCondition, Instant, Stats, TransferId,
    meter::{KeyView, Meter, Queues},
};
use parking_lot::{Mutex, MutexGuard};

use crate::watch::Calls;

/// Numbers of the batching since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Batching {
    /// Transfers that went into transactions, again-sent ones included.
    pub transfers: u64,
    /// Transactions signed.
    pub batches: u64,
    /// Transfers that wait for a batch now.
    pub waiting: usize,
    /// Transactions whose end is not known yet.
    pub in_flight: usize,
    /// Transactions that were proven dead, so that their transfers were signed anew.
    pub deaths: u64,
    /// The bounds in force: most transfers in one transaction.
    pub max_batch: usize,
    /// Longest wait for batch mates, in milliseconds.
    pub linger_ms: u64,
}

/// Something that keeps transfers from going out. They stay accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// A stable word: `not-enough-tokens`, `not-enough-near`, `token-unavailable`, `no-final-block`, `key-refused`,
    /// `recovering`, `history-behind`, `spend-limit`, `paused`, `key-quarantined`, `no-key`.
    pub name: &'static str,
    /// For a person: what it is and what to do.
    pub detail: String,
}

/// One endpoint, seen from its circuit breakers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Scheme, host, port and path; never a secret.
    pub name: String,
    /// `closed`, `open` or `half-open`, the worst of all shards.
    pub breaker: &'static str,
    /// Height of its latest block that was seen.
    pub height: u64,
    /// Blocks it was behind the best of the others when it told; the most that any shard saw.
    pub lag: u64,
    /// Whether it said that it is syncing.
    pub syncing: bool,
    /// Calls made.
    pub calls: u64,
    /// Calls that counted as failures.
    pub failures: u64,
}

/// The state of the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// What hinders it; empty is well.
    pub conditions: Vec<Condition>,
    /// The nodes it uses.
    pub endpoints: Vec<Endpoint>,
    /// Height of the last block it knows.
    pub final_height: u64,
}

/// Where one shard reports. Nothing on the path of a transfer waits for it: the shard writes at most every
/// [`REPORT_EVERY`], readers only copy.
#[derive(Default)]
pub(crate) struct Report {
    last_us: AtomicU64,
    inner: Mutex<Told>,
}

/// What a shard reports.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) stats: Stats,
    pub(crate) full_batch: usize,
    pub(crate) conditions: Vec<ShardCondition>,
    pub(crate) endpoints: Vec<keyshard_rpc::EndpointHealth>,
    pub(crate) meter: Meter,
    pub(crate) queues: Queues,
    /// Each with the pieces in its rings.
    pub(crate) keys: Vec<(KeyView, usize)>,
    pub(crate) window: usize,
    pub(crate) block_time: Duration,
    pub(crate) calls: Vec<Calls>,
    /// The last transfers that there was news of, the latest last.
    pub(crate) recent: Vec<TransferId>,
}

const REPORT_EVERY: Duration = Duration::from_millis(100);

impl Report {
    /// Whether it is time for another report.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now.since(Instant::from_micros(self.last_us.load(Ordering::Relaxed))) >= REPORT_EVERY
    }

    pub(crate) fn update(&self, now: Instant, told: Told) {
        self.last_us.store(now.as_micros(), Ordering::Relaxed);
        let mut inner = self.inner.lock();
        for condition in told.conditions.iter().filter(|condition| !inner.conditions.contains(condition)) {
            let Condition { name, detail } = describe(condition);
            tracing::warn!(condition = name, "{detail}");
        }
        *inner = told;
    }

    /// The last report.
    pub(crate) fn read(&self) -> MutexGuard<'_, Told> {
        self.inner.lock()
    }
}

fn describe(condition: &ShardCondition) -> Condition {
    let (name, detail) = match condition {
        ShardCondition::NotEnoughTokens(why) => ("not-enough-tokens", why.to_string()),
        ShardCondition::NotEnoughNear(why) => {
            ("not-enough-near", format!("the account lacks NEAR for gas and deposits, send NEAR to it: {why}"))
        }
        ShardCondition::TokenUnavailable(why) => ("token-unavailable", format!("the token does not answer: {why}")),
        ShardCondition::Recovering(open) => (
            "recovering",
            format!("{open} transactions of a former run are being looked up; nothing new is signed yet"),
        ),
        ShardCondition::Unprovable(hashes) => {
            let hashes: Vec<String> = hashes.iter().map(ToString::to_string).collect();
            (
                "no-proof",
                format!(
                    "transactions that can be proven neither paid nor dead, because the node no longer holds their blocks; \
                     their transfers wait. Add an archival node to RPC_URLS: {}",
                    hashes.join(", ")
                ),
            )
        }
        ShardCondition::StaleHead => (
            "no-final-block",
            "no node shows a final block young enough to sign against; transfers wait until one does".to_owned(),
        ),
        ShardCondition::SpendLimit(why) => ("spend-limit", format!("transfers wait: {why}")),
        ShardCondition::Paused => {
            ("paused", "nothing new is signed, as ordered: POST /admin/resume ends it".to_owned())
        }
        ShardCondition::NoKey => (
            "no-key",
            "all keys of a shard are in quarantine, so its transfers wait: release one, or restart with other keys"
                .to_owned(),
        ),
        ShardCondition::KeyQuarantined { public_key } => {
            ("key-quarantined", format!("access key {public_key} signs nothing new, as ordered"))
        }
        ShardCondition::KeyRefused { public_key, why } => {
            ("key-refused", format!("the node refuses access key {public_key}, it rests: {why}"))
        }
    };
    Condition { name, detail }
}

pub(crate) fn batching(reports: &[std::sync::Arc<Report>], linger: Duration) -> Batching {
    let mut batching = Batching { linger_ms: linger.as_millis() as u64, ..Batching::default() };
    for report in reports {
        let (stats, full_batch) = {
            let told = report.read();
            (told.stats, told.full_batch)
        };
        batching.transfers += stats.transfers_signed;
        batching.batches += stats.batches_signed;
        batching.waiting += stats.waiting;
        batching.in_flight += stats.attempts;
        batching.deaths += stats.deaths_overtaken + stats.deaths_expired;
        batching.max_batch = batching.max_batch.max(full_batch);
    }
    batching
}

pub(crate) fn health(reports: &[std::sync::Arc<Report>]) -> Health {
    let mut health = Health::default();
    for report in reports {
        let told = report.read();
        for condition in told.conditions.iter().map(describe) {
            if !health.conditions.contains(&condition) {
                health.conditions.push(condition);
            }
        }
        for (i, seen) in told.endpoints.iter().enumerate() {
            let height = seen.latest_height.unwrap_or_default();
            health.final_height = health.final_height.max(height);
            let breaker = seen.breaker.as_str();
            match health.endpoints.get_mut(i) {
                Some(endpoint) => {
                    endpoint.height = endpoint.height.max(height);
                    endpoint.breaker = worse(endpoint.breaker, breaker);
                    endpoint.lag = endpoint.lag.max(seen.lag);
                    endpoint.syncing |= seen.syncing;
                    endpoint.calls += seen.calls;
                    endpoint.failures += seen.failures;
                }
                None => health.endpoints.push(Endpoint {
                    name: seen.name.clone(),
                    breaker,
                    height,
                    lag: seen.lag,
                    syncing: seen.syncing,
                    calls: seen.calls,
                    failures: seen.failures,
                }),
            }
        }
    }
    health
}

fn worse(a: &'static str, b: &'static str) -> &'static str {
    ["open", "half-open"].into_iter().find(|state| a == *state || b == *state).unwrap_or("closed")
}
