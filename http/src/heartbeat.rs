//! What the log says of a running service every ten seconds, in the Node service's words; and its memory, if asked for.
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use keyshard_engine::Engine;
use tokio::time::{MissedTickBehavior, interval};

use crate::{process, service::Shared};

const EVERY: Duration = Duration::from_secs(10);
const MEMORY_EVERY: Duration = Duration::from_secs(30);

/// Logs until it is dropped.
pub(crate) async fn beat(shared: Arc<Shared>, engine: Engine, memory: bool) {
    tokio::join!(numbers(&shared, &engine), async {
        if memory {
            self::memory().await;
        }
    });
}

async fn numbers(shared: &Shared, engine: &Engine) {
    let mut clock = interval(EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock.tick().await;
    let (mut since, mut before) = (Instant::now(), engine.counts().finalized);
    loop {
        clock.tick().await;
        let sum = |count: fn(&crate::metrics::Stats) -> u64| shared.stats.iter().map(|stats| count(stats)).sum::<u64>();
        let batching = engine.batching();
        tracing::info!(
            activeRequests = sum(|stats| stats.active.load(Relaxed)),
            rejectedRequests = sum(|stats| stats.rejected.load(Relaxed)),
            connections = shared.connections.load(Relaxed),
            pendingJobs = engine.pending(),
            waitingJobs = batching.waiting,
            transactionsInFlight = batching.in_flight,
            "Concurrency statistics"
        );
        let (now, finalized) = (Instant::now(), engine.counts().finalized);
        let rate = per_second(finalized.saturating_sub(before), now - since);
        (since, before) = (now, finalized);
        tracing::info!(currentTps = rate, windowSeconds = EVERY.as_secs(), "Throughput update");
    }
}

/// With one decimal.
fn per_second(count: u64, during: Duration) -> f64 {
    (count as f64 / during.as_secs_f64().max(0.001) * 10.0).round() / 10.0
}

async fn memory() {
    let mut clock = interval(MEMORY_EVERY);
    loop {
        clock.tick().await;
        let (resident, heap) = process::memory();
        tracing::info!(rssBytes = resident, heapBytes = heap, "Memory usage");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_one_decimal() {
        for (count, ms, rate) in [(0, 10_000, 0.0), (7_594, 10_003, 759.2), (1, 10_000, 0.1), (5, 0, 5_000.0)] {
            assert!((per_second(count, Duration::from_millis(ms)) - rate).abs() < 1e-9, "{count} in {ms} ms");
        }
    }
}
