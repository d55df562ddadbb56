//! The one place that reads the time for the shards.
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use keyshard_shard::Instant;

/// The wall clock at start plus a monotonic clock since: it tells the time of day and never goes back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started_at: Duration,
    started: std::time::Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let started_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started_at, started: std::time::Instant::now() }
    }

    pub(crate) fn now(&self) -> Instant {
        Instant::from_micros((self.started_at + self.started.elapsed()).as_micros() as u64)
    }
}
