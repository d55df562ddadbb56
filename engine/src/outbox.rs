//! The way out for whoever delivers events of what has settled: see `history/outbox.rs`.
use std::{collections::BTreeSet, sync::Arc};

use crate::history::{self, Due, History, HistoryError, Outboxed, Outcome, Replay};

/// Events of what has settled, one a transfer, until they are delivered. All but [`Self::announced`] read or write the disk
/// and may block; a disk that fails ends the process.
#[derive(Clone)]
pub struct Outbox(Arc<History>);

impl Outbox {
    /// That of a history which announces what it is given ([`History::announce`]).
    pub fn of(history: Arc<History>) -> Self {
        Self(history)
    }

    /// Whether what settles gets events: somebody delivers them.
    pub fn is_served(&self) -> bool {
        self.0.is_announcing()
    }

    /// Returns when events may have come since the last call. For one task.
    pub async fn announced(&self) {
        self.0.announced().await;
    }

    /// See [`History::due`].
    pub fn due(&self, now_ms: u64, without: &BTreeSet<u64>, limit: usize) -> Due {
        or_abort(self.0.due(now_ms, without, limit))
    }

    /// See [`History::dispatched`].
    pub fn dispatched(&self, outcomes: &[Outcome], failing_since_ms: Option<u64>) {
        or_abort(self.0.dispatched(outcomes, failing_since_ms));
    }

    /// See [`History::bury`].
    pub fn bury(&self, until_ms: u64, without: &BTreeSet<u64>, why: &str, now_ms: u64) -> (u64, bool) {
        or_abort(self.0.bury(until_ms, without, why, now_ms))
    }

    /// See [`History::replay`].
    pub fn replay(&self, which: Replay, now_ms: u64) -> u64 {
        or_abort(self.0.replay(which, now_ms))
    }

    /// See [`History::outboxed`].
    pub fn fill(&self) -> Outboxed {
        or_abort(self.0.outboxed())
    }
}

fn or_abort<T>(result: Result<T, HistoryError>) -> T {
    result.unwrap_or_else(|error| history::abort(&error))
}
