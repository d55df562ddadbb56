//! When all shards have repeated what they have open, and what settled before is in the history, older segments are not
//! needed any more.
use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

use crossbeam::utils::CachePadded;
use parking_lot::Mutex;

/// How far each shard's last durable repetition reaches back.
pub(crate) struct Checkpoints {
    /// By shard: the segment in which its last complete repetition began; 0 before the first.
    began: Box<[CachePadded<AtomicU64>]>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Both numbers grow from one to the next.
    due: VecDeque<Due>,
    /// The segment of the last one ever added.
    segment: u64,
}

/// Once so many transfers are saved, the segments before this one may go.
struct Due {
    saved: u64,
    segment: u64,
}

impl Checkpoints {
    pub(crate) fn new(shards: usize) -> Self {
        Self { began: (0..shards).map(|_| CachePadded::default()).collect(), waiting: Mutex::default() }
    }

    /// A shard's repetition that began in this segment is durable, and the board knows of everything that settled before
    /// it; `told` says how many transfers that are so far. Returns whether segments may go once these are saved.
    pub(crate) fn reached(&self, shard: usize, segment: u64, told: impl FnOnce() -> u64) -> bool {
        let mut waiting = self.waiting.lock();
        self.began[shard].store(segment, Ordering::SeqCst);
        let oldest = self.began.iter().map(|began| began.load(Ordering::SeqCst)).min().unwrap_or_default();
        if oldest <= waiting.segment {
            return false;
        }
        waiting.segment = oldest;
        // Read now: every shard whose repetition counts has told what settled before it.
        waiting.due.push_back(Due { saved: told(), segment: oldest });
        true
    }

    /// The segments before this one may go, now that so many transfers are saved. Answers each only once.
    pub(crate) fn due(&self, saved: u64) -> Option<u64> {
        let due = &mut self.waiting.lock().due;
        if due.front()?.saved > saved {
            return None;
        }
        due.pop_front().map(|due| due.segment)
    }
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use super::*;

    #[test]
    fn segments_go_when_all_shards_have_repeated_and_what_settled_is_saved() {
        let checkpoints = Checkpoints::new(2);
        assert!(!checkpoints.reached(0, 3, || 10), "shard 1 has not repeated");
        assert!(checkpoints.reached(1, 2, || 12));
        assert_eq!(checkpoints.due(11), None, "one that settled is not saved");
        assert!(checkpoints.reached(1, 5, || 20));
        assert_eq!(checkpoints.due(12), Some(2));
        assert_eq!(checkpoints.due(19), None);
        assert_eq!(checkpoints.due(25), Some(3));
        assert_eq!(checkpoints.due(u64::MAX), None, "each only once");
        assert!(!checkpoints.reached(1, 6, || 30), "shard 0 still needs segment 3");
    }
}
