//! The history thread: takes what has settled from the board, saves it, and only then lets the board and the journal let
//! go of it.
use std::{
    collections::VecDeque,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use keyshard_shard::TransferId;

use super::{HistoryError, Settled, abort};
use crate::{Shared, clock::Clock, journal::Journal};

/// Transfers in one commit: more in one save no time, and the board has to hold them that long.
const COMMIT: usize = 25_000;

/// How long a commit may gather: nobody waits for it, a commit by itself costs half a millisecond of CPU, and each takes the
/// disk from the journal for a while.
const LINGER: Duration = Duration::from_millis(200);

/// Pause between two looks for what is old enough to be forgotten.
const PRUNE_PAUSE: Duration = Duration::from_mins(1);

/// Transfers forgotten at once: what has settled meanwhile waits for that.
const PRUNE_AT_ONCE: usize = 20_000;

/// The running thread. Ends it when dropped, after everything that had settled by then is saved.
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Body {
    shared: Arc<Shared>,
    journal: Arc<Journal>,
    clock: Clock,
    retention: Duration,
    /// Saved ones that are still on the board, the oldest first.
    kept: VecDeque<TransferId>,
    settled_kept: usize,
    pruned: Instant,
}

impl Keeper {
    pub(crate) fn start(
        shared: Arc<Shared>,
        journal: Arc<Journal>,
        clock: Clock,
        retention: Duration,
        settled_kept: usize,
    ) -> std::io::Result<Self> {
        // The first look is due at once.
        let pruned = Instant::now().checked_sub(PRUNE_PAUSE).unwrap_or_else(Instant::now);
        let body =
            Body { shared: shared.clone(), journal, clock, retention, kept: VecDeque::new(), settled_kept, pruned };
        let thread = std::thread::Builder::new()
            .name("history".into())
            .spawn(crate::or_abort("the history thread", move || body.run()))?;
        shared.unsaved.serve(thread.thread().clone());
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.unsaved.stop();
        if let Some(thread) = self.thread.take() {
            // Its panic would have ended the process.
            let _ = thread.join();
        }
    }
}

impl Body {
    fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            let stop = shared.unsaved.is_stopped();
            if !stop && shared.unsaved.len() < COMMIT {
                // Cut short by the end only: whoever adds to the queue wakes nobody who is not asleep.
                std::thread::park_timeout(LINGER);
            }
            let result = self.round().and_then(|()| if stop { Ok(()) } else { self.prune() });
            if let Err(error) = result {
                abort(&error);
            }
            if shared.unsaved.is_empty() {
                if stop {
                    return;
                }
                shared.unsaved.sleep(PRUNE_PAUSE);
            }
        }
    }

    /// Saves what has gathered.
    fn round(&mut self) -> Result<(), HistoryError> {
        let shared = self.shared.clone();
        let ids = shared.unsaved.take(COMMIT);
        let settled: Vec<Settled> = ids.iter().map(|id| shared.board.settled(*id)).collect();
        shared.history.put(&settled)?;
        shared.unsaved.saved(ids.len());
        self.kept.extend(ids);
        let above = self.kept.len().saturating_sub(self.settled_kept);
        for id in self.kept.drain(..above) {
            match shared.board.name(id) {
                Some(name) => shared.names.evict(&name, id, || shared.board.evict(id)),
                None => shared.board.evict(id),
            }
        }
        while let Some(segment) = shared.checkpoints.due(shared.unsaved.saved_so_far()) {
            // A segment too many does no harm: the next repetition tries again.
            if let Err(error) = self.journal.forget_before(segment) {
                tracing::warn!("old journal segments could not be deleted: {error}");
            }
        }
        Ok(())
    }

    fn prune(&mut self) -> Result<(), HistoryError> {
        if self.pruned.elapsed() < PRUNE_PAUSE {
            return Ok(());
        }
        let before = self.clock.now().as_micros().saturating_sub(self.retention.as_micros() as u64);
        let before = keyshard_shard::Instant::from_micros(before);
        let gone = self.shared.history.prune(before, PRUNE_AT_ONCE)?;
        let events = self.shared.history.forget_dead(before.as_millis(), PRUNE_AT_ONCE)?;
        if events > 0 {
            tracing::warn!(events, "webhook events that nobody replayed within HISTORY_RETENTION are forgotten");
        }
        if gone < PRUNE_AT_ONCE {
            self.pruned = Instant::now();
        }
        Ok(())
    }
}
