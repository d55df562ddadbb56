//! What the page is told every second. Amounts of tokens are strings: they may be larger than what JavaScript counts exactly. Times in
//! the past are milliseconds since the Unix epoch, durations seconds.
use keyshard_engine::{Engine, Histogram, Job, Key, Stages, Watch};
use serde::Serialize;

use super::{
    bottleneck::{Verdict, bottleneck},
    window::{Rates, Window},
};
use crate::mock;

/// Transfers that are shown.
pub(super) const RECENT: usize = 50;

/// One moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Snapshot {
    /// When it was made.
    pub(super) at: u64,
    pub(super) uptime_seconds: f64,
    /// Whether transfers are accepted.
    pub(super) ready: bool,
    /// What mock mode says of itself.
    pub(super) mock: Option<&'static str>,
    pub(super) place: Place,
    pub(super) bottleneck: Verdict,
    /// The point of the chart that belongs to this moment.
    pub(super) point: Point,
    /// Transfers a second, over the last five.
    pub(super) rates: RatesView,
    /// Since start; the same numbers as the counters in `/metrics`.
    pub(super) totals: Totals,
    /// Accepted and not settled, and how many may be.
    pub(super) pending: usize,
    pub(super) pending_max: usize,
    /// Of these, those that wait for a batch.
    pub(super) waiting: usize,
    /// Settled, not in the history yet.
    pub(super) unsaved: usize,
    /// Open client connections.
    pub(super) connections: usize,
    /// Latency of the last minute.
    pub(super) stages: Vec<Stage>,
    pub(super) journal: Journal,
    pub(super) rpc: Rpc,
    /// Transfers in a transaction: on average over the last minute, and the most there may be.
    pub(super) batch_mean: Option<f64>,
    pub(super) batch_max: usize,
    pub(super) keys: Vec<Lane>,
    /// Most transactions of one key that may be in flight.
    pub(super) window: usize,
    /// In which part of the last ten seconds no key was free while transfers waited.
    pub(super) keys_full: f64,
    pub(super) queues: Vec<QueuesView>,
    pub(super) block_height: u64,
    pub(super) block_seconds: f64,
    pub(super) endpoints: Vec<EndpointView>,
    pub(super) conditions: Vec<ConditionView>,
    pub(super) holdings: HoldingsView,
    /// Those that changed last, the latest first.
    pub(super) recent: Vec<Transfer>,
}

/// Who pays what, and where.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Place {
    pub(super) account: String,
    pub(super) token: String,
    pub(super) chain_id: String,
    /// A transaction's page begins with this, its hash follows.
    pub(super) explorer: &'static str,
    /// What the token calls its unit, and the decimal places of that.
    pub(super) symbol: Option<String>,
    pub(super) decimals: Option<u8>,
}

/// Transfers a second at one moment, for the chart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Point {
    pub(super) at: u64,
    pub(super) accepted: f64,
    pub(super) executed: f64,
    #[serde(rename = "final")]
    pub(super) finalized: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct RatesView {
    pub(super) accepted: f64,
    pub(super) executed: f64,
    #[serde(rename = "final")]
    pub(super) finalized: f64,
    pub(super) failed: f64,
    /// Requests refused with 503.
    pub(super) rejected: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Totals {
    pub(super) accepted: u64,
    pub(super) executed: u64,
    #[serde(rename = "final")]
    pub(super) finalized: u64,
    pub(super) failed: u64,
    pub(super) transactions: u64,
    pub(super) dead: u64,
    pub(super) undone: u64,
    /// Requests refused with 503.
    pub(super) rejected: u64,
}

/// How long transfers took in one stage; see `keyshard_stage_seconds` in `METRICS.md`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Stage {
    pub(super) name: &'static str,
    /// Transfers.
    pub(super) count: u64,
    pub(super) p50: Option<f64>,
    pub(super) p95: Option<f64>,
    pub(super) p99: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Journal {
    /// One write and one sync, over the last minute.
    pub(super) sync_p50: Option<f64>,
    pub(super) sync_p95: Option<f64>,
    /// Syncs in the last minute.
    pub(super) syncs: u64,
    /// Records that share a sync, on average.
    pub(super) group_mean: Option<f64>,
}

/// Calls to the nodes, over the last minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rpc {
    pub(super) calls: u64,
    /// Those without an answer to use.
    pub(super) lost: u64,
    /// Calls that a node answers at once, and how long they took.
    pub(super) plain: u64,
    pub(super) plain_p50: Option<f64>,
    pub(super) plain_p95: Option<f64>,
}

/// One access key.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Lane {
    pub(super) key: String,
    pub(super) shard: usize,
    pub(super) state: &'static str,
    /// Requests in its rings.
    pub(super) ring: usize,
    pub(super) in_flight: usize,
    pub(super) open: usize,
    pub(super) nonce: u64,
    pub(super) nonce_lag: u64,
}

/// What waits in a shard, by what for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct QueuesView {
    pub(super) ready: usize,
    pub(super) apart: usize,
    pub(super) later: usize,
    pub(super) unregistered: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct EndpointView {
    pub(super) name: String,
    pub(super) breaker: &'static str,
    pub(super) height: u64,
    pub(super) lag: u64,
    pub(super) syncing: bool,
    pub(super) calls: u64,
    pub(super) failures: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct ConditionView {
    pub(super) name: &'static str,
    pub(super) detail: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HoldingsView {
    /// Token units.
    pub(super) tokens: Option<String>,
    pub(super) read_at: u64,
    /// `None` while none are spent.
    pub(super) runway_seconds: Option<f64>,
    /// yoctoNEAR.
    pub(super) near: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Transfer {
    pub(super) id: String,
    pub(super) status: &'static str,
    pub(super) receiver: String,
    pub(super) amount: String,
    pub(super) tx_hash: Option<String>,
    pub(super) attempts: u32,
    pub(super) created_at: u64,
    pub(super) updated_at: u64,
    /// Why it is not settled, or why it failed.
    pub(super) error: Option<String>,
}

/// What the front end knows beside the engine.
pub(super) struct Front {
    pub(super) at: u64,
    pub(super) uptime_seconds: f64,
    pub(super) connections: usize,
    pub(super) rejected: u64,
    pub(super) mock: bool,
}

impl Snapshot {
    /// Without an engine: nothing is known but that.
    pub(super) fn starting(front: &Front) -> Self {
        let snapshot = Self { point: Point { at: front.at, ..Point::default() }, ..Self::of_front(front) };
        Self { bottleneck: bottleneck(&snapshot), ..snapshot }
    }

    /// Of this moment, whose sample is in the window.
    pub(super) fn new(front: &Front, engine: &Engine, watch: &Watch, window: &Window) -> Self {
        let place = engine.place();
        let snapshot = Self {
            ready: true,
            place: Place {
                account: place.account.to_string(),
                token: place.token.to_string(),
                explorer: explorer(&place.chain_id),
                chain_id: place.chain_id.clone(),
                symbol: watch.holdings.symbol.clone(),
                decimals: watch.holdings.decimals,
            },
            recent: engine.recent(RECENT).into_iter().map(Transfer::of).collect(),
            ..Self::of_watch(front, watch, window)
        };
        Self { bottleneck: bottleneck(&snapshot), ..snapshot }
    }

    fn of_front(front: &Front) -> Self {
        Self {
            at: front.at,
            uptime_seconds: front.uptime_seconds,
            connections: front.connections,
            mock: front.mock.then_some(mock::NOTICE),
            totals: Totals { rejected: front.rejected, ..Totals::default() },
            ..Self::default()
        }
    }

    fn of_watch(front: &Front, watch: &Watch, window: &Window) -> Self {
        let Rates { accepted, executed, finalized, failed, rejected } = window.rates();
        let minute = window.minute();
        let meter = &watch.meter;
        let mean = |histogram: &Histogram| {
            let count = histogram.count();
            (count > 0).then(|| histogram.sum() as f64 / count as f64)
        };
        Self {
            point: Point { at: front.at, accepted, executed, finalized },
            rates: RatesView { accepted, executed, finalized, failed, rejected },
            totals: Totals {
                accepted: meter.accepted,
                executed: meter.executed,
                finalized: meter.finalized,
                failed: meter.failed,
                transactions: watch.batching.batches,
                dead: watch.deaths_overtaken + watch.deaths_expired,
                undone: meter.undone,
                rejected: front.rejected,
            },
            pending: watch.pending,
            pending_max: watch.pending_max,
            waiting: watch.batching.waiting,
            unsaved: watch.unsaved,
            stages: minute.as_ref().map_or_else(|| stages(&Stages::default()), |minute| stages(&minute.meter.stages)),
            journal: minute
                .as_ref()
                .map(|minute| Journal {
                    sync_p50: seconds(&minute.sync_time, 0.5),
                    sync_p95: seconds(&minute.sync_time, 0.95),
                    syncs: minute.sync_time.count(),
                    group_mean: mean(&minute.group_records),
                })
                .unwrap_or_default(),
            rpc: minute
                .as_ref()
                .map(|minute| Rpc {
                    calls: minute.calls,
                    lost: minute.lost,
                    plain: minute.plain.count(),
                    plain_p50: seconds(&minute.plain, 0.5),
                    plain_p95: seconds(&minute.plain, 0.95),
                })
                .unwrap_or_default(),
            batch_mean: minute.as_ref().and_then(|minute| mean(&minute.meter.batch_size)),
            batch_max: watch.batching.max_batch,
            keys: watch.keys.iter().map(Lane::of).collect(),
            window: watch.window,
            keys_full: window.keys_full(),
            queues: watch
                .queues
                .iter()
                .map(|queues| QueuesView {
                    ready: queues.ready,
                    apart: queues.apart,
                    later: queues.later,
                    unregistered: queues.unregistered,
                })
                .collect(),
            block_height: watch.health.final_height,
            block_seconds: watch.block_time.as_secs_f64(),
            endpoints: watch
                .health
                .endpoints
                .iter()
                .map(|endpoint| EndpointView {
                    name: endpoint.name.clone(),
                    breaker: endpoint.breaker,
                    height: endpoint.height,
                    lag: endpoint.lag,
                    syncing: endpoint.syncing,
                    calls: endpoint.calls,
                    failures: endpoint.failures,
                })
                .collect(),
            conditions: watch
                .health
                .conditions
                .iter()
                .map(|condition| ConditionView { name: condition.name, detail: condition.detail.clone() })
                .collect(),
            holdings: HoldingsView {
                tokens: watch.holdings.tokens.map(|tokens| tokens.to_string()),
                read_at: watch.holdings.read_at_ms,
                runway_seconds: watch.holdings.runway.map(|runway| runway.as_secs_f64()),
                near: watch.holdings.near.map(|near| near.to_string()),
            },
            ..Self::of_front(front)
        }
    }

    /// A stage of the last minute.
    pub(super) fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}

/// Of chains that nobody explores, the service itself tells.
fn explorer(chain_id: &str) -> &'static str {
    match chain_id {
        "mainnet" => "https://nearblocks.io/txns/",
        "testnet" => "https://testnet.nearblocks.io/txns/",
        _ => "/transfer/tx/",
    }
}

fn stages(stages: &Stages) -> Vec<Stage> {
    let stage = |(name, histogram): (&'static str, &Histogram)| Stage {
        name,
        count: histogram.count(),
        p50: seconds(histogram, 0.5),
        p95: seconds(histogram, 0.95),
        p99: seconds(histogram, 0.99),
    };
    stages.named().map(stage).into()
}

fn seconds(histogram: &Histogram, share: f64) -> Option<f64> {
    histogram.quantile(share).map(|us| us / 1e6)
}

impl Lane {
    fn of(key: &Key) -> Self {
        Self {
            key: key.short().to_owned(),
            shard: key.shard,
            state: key.state.as_str(),
            ring: key.ring,
            in_flight: key.in_flight,
            open: key.open,
            nonce: key.nonce,
            nonce_lag: key.nonce_lag,
        }
    }
}

impl Transfer {
    fn of(job: Job) -> Self {
        Self {
            id: job.id.to_string(),
            status: job.status.as_str(),
            receiver: job.receiver.to_string(),
            amount: job.amount.to_string(),
            tx_hash: job.tx_hash.map(|hash| hash.to_string()),
            attempts: job.attempts,
            created_at: job.created_at_ms,
            updated_at: job.updated_at_ms,
            error: job.last_error.map(String::from),
        }
    }
}
