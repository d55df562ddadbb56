//! When all shards have repeated what they have open, the segments before it are not needed any more.
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use crossbeam::utils::CachePadded;
use parking_lot::Mutex;

use crate::journal::Journal;

/// How far each shard's last durable repetition reaches back.
pub(crate) struct Checkpoints {
    /// By shard: the segment in which its last complete repetition began; 0 before the first.
    began: Box<[CachePadded<AtomicU64>]>,
    /// Segments before this one were given up.
    forgotten: AtomicU64,
    /// The threads that delete or did; there are as many as there were segments to delete.
    deleting: Mutex<Vec<JoinHandle<()>>>,
}

impl Checkpoints {
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            began: (0..shards).map(|_| CachePadded::default()).collect(),
            forgotten: AtomicU64::new(0),
            deleting: Mutex::default(),
        }
    }

    /// A shard's repetition that began in this segment is durable. Deletes what is not needed any more, on a thread of
    /// its own: the shard does not wait for the file system.
    pub(crate) fn reached(&self, shard: usize, segment: u64, journal: &Arc<Journal>) {
        self.began[shard].store(segment, Ordering::SeqCst);
        let oldest = self.began.iter().map(|began| began.load(Ordering::SeqCst)).min().unwrap_or_default();
        if oldest <= self.forgotten.fetch_max(oldest, Ordering::SeqCst) {
            return;
        }
        let journal = journal.clone();
        let forget = move || {
            // A segment too many does no harm: the next repetition tries again.
            if let Err(error) = journal.forget_before(oldest) {
                tracing::warn!("old journal segments could not be deleted: {error}");
            }
        };
        match std::thread::Builder::new().name("journal-forget".into()).spawn(forget) {
            Ok(thread) => {
                let mut deleting = self.deleting.lock();
                deleting.retain(|thread| !thread.is_finished());
                deleting.push(thread);
            }
            Err(error) => tracing::warn!("old journal segments could not be deleted: {error}"),
        }
    }

    /// Waits for what is being deleted: it holds the journal.
    pub(crate) fn finish(&self) {
        for thread in self.deleting.lock().drain(..) {
            // Its panic, if it had one, was logged where it happened.
            let _ = thread.join();
        }
    }
}
