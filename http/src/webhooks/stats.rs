//! What webhooks have come to, in numbers.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use keyshard_engine::history::Outboxed;

use super::post::Failure;
use crate::{json::Iso, metrics::Page};

const RESULTS: [&str; 5] = ["delivered", "refused", "redirected", "timeout", "unreachable"];

/// Written by the deliverer, read by whoever wants to know.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// Tries, by [`RESULTS`].
    tries: [AtomicU64; RESULTS.len()],
    waiting: AtomicU64,
    dead: AtomicU64,
    /// When the oldest that waits settled; 0: none waits.
    oldest_ms: AtomicU64,
    failing: AtomicU64,
}

impl Stats {
    pub(super) fn tried(&self, result: &Result<(), Failure>) {
        let index = match result {
            Ok(()) => 0,
            Err(Failure::Refused(_)) => 1,
            Err(Failure::Redirected(_)) => 2,
            Err(Failure::Silent) => 3,
            Err(Failure::Unreachable) => 4,
        };
        self.tries[index].fetch_add(1, Relaxed);
    }

    pub(super) fn fill(&self, outboxed: &Outboxed, failing: bool) {
        self.waiting.store(outboxed.waiting, Relaxed);
        self.dead.store(outboxed.dead, Relaxed);
        self.oldest_ms.store(outboxed.oldest_ms.unwrap_or(0), Relaxed);
        self.failing.store(failing.into(), Relaxed);
    }

    /// As Prometheus text.
    pub(crate) fn write(&self, page: &mut Page) {
        let name = "keyshard_webhook_deliveries_total";
        page.family(name, "counter", "Tries to deliver a webhook event, by result");
        for (result, count) in RESULTS.into_iter().zip(&self.tries) {
            page.sample(name, &[("result", result)], count.load(Relaxed));
        }
        let oldest_ms = self.oldest_ms.load(Relaxed);
        let age = if oldest_ms == 0 { 0.0 } else { Iso::now().0.saturating_sub(oldest_ms) as f64 / 1_000.0 };
        for (name, help, value) in [
            ("keyshard_webhook_outbox", "Webhook events that wait for their delivery", self.waiting.load(Relaxed)),
            ("keyshard_webhook_dead", "Webhook events that were given up and can be replayed", self.dead.load(Relaxed)),
            (
                "keyshard_webhook_endpoint_failing",
                "1 while the receiver of webhooks takes nothing and is tried with one event at a time",
                self.failing.load(Relaxed),
            ),
        ] {
            page.family(name, "gauge", help);
            page.sample(name, &[], value);
        }
        let name = "keyshard_webhook_oldest_seconds";
        page.family(name, "gauge", "Time since the oldest transfer settled whose webhook event waits");
        page.sample(name, &[], age);
    }
}
