//! What has settled and is not in the history yet: a queue from the shards to the history thread, and how to wake it.
use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::Thread,
    time::Duration,
};

use crossbeam::{queue::SegQueue, utils::CachePadded};
use keyshard_shard::TransferId;

/// The queue. Positions in it are counted from the start of the engine, so that a count says what is saved.
#[derive(Default)]
pub(crate) struct Unsaved {
    /// As they settled together: the history keeps them so.
    queue: SegQueue<Box<[TransferId]>>,
    /// Counted before they are pushed: whoever reads this knows of everything that is in the queue.
    told: CachePadded<AtomicU64>,
    saved: CachePadded<AtomicU64>,
    asleep: AtomicBool,
    stopped: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Unsaved {
    /// These have settled, and the board holds them.
    pub(crate) fn push(&self, ids: &[TransferId]) {
        if ids.is_empty() {
            return;
        }
        self.told.fetch_add(ids.len() as u64, Ordering::SeqCst);
        self.queue.push(ids.into());
        // After the count, as `sleep` looks at the count after it has said that it sleeps: one of the two sees the other.
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// How many have settled so far. All of them are saved once [`Self::saved_so_far`] is as high.
    pub(crate) fn told_so_far(&self) -> u64 {
        self.told.load(Ordering::SeqCst)
    }

    /// How many are saved so far, in the order of the queue.
    pub(crate) fn saved_so_far(&self) -> u64 {
        self.saved.load(Ordering::SeqCst)
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        // In this order it is never less than none.
        let saved = self.saved_so_far();
        (self.told_so_far() - saved) as usize
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next ones, until they are `limit` or more. For the one thread that saves.
    pub(crate) fn take(&self, limit: usize) -> Vec<TransferId> {
        let mut ids = Vec::new();
        while ids.len() < limit
            && let Some(together) = self.queue.pop()
        {
            ids.extend(together);
        }
        ids
    }

    /// So many of those taken are on the disk.
    pub(crate) fn saved(&self, count: usize) {
        self.saved.fetch_add(count as u64, Ordering::SeqCst);
    }

    /// The thread that saves.
    pub(crate) fn serve(&self, thread: Thread) {
        let _ = self.thread.set(thread);
        // It may have gone to sleep before anyone could wake it.
        self.wake();
    }

    /// Sleeps until there is something or it is time to stop, at most for `limit`.
    pub(crate) fn sleep(&self, limit: Duration) {
        self.asleep.store(true, Ordering::SeqCst);
        if self.is_empty() && !self.is_stopped() {
            std::thread::park_timeout(limit);
        }
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Nothing will be pushed any more.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Lets the thread look around, though nothing was pushed.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}
