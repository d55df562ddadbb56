//! Counts what is accepted and not settled, refuses what is too much of it, and knows when a drain is over.
use crossbeam::utils::CachePadded;

use crate::{
    door::Refused,
    sync::{
        Notify,
        atomic::{AtomicUsize, Ordering},
    },
};

/// In the count: nothing is accepted any more. One word for both, so that whoever counts knows whether it was in time.
const DRAINING: usize = 1 << (usize::BITS - 1);

/// Transfers accepted and not settled.
pub(crate) struct Backlog {
    open: CachePadded<AtomicUsize>,
    limit: usize,
    /// Told when nothing is open while draining.
    empty: Notify,
}

impl Backlog {
    /// `open` transfers are there already, at most `limit` are admitted.
    pub(crate) fn new(limit: usize, open: usize) -> Self {
        Self { open: CachePadded::new(AtomicUsize::new(open)), limit, empty: Notify::new() }
    }

    /// Counts so many transfers more, or refuses them. Returns how many were open before.
    pub(crate) fn admit(&self, requested: usize) -> Result<usize, Refused> {
        let fits =
            |open| (open & DRAINING == 0 && requested <= self.limit.saturating_sub(open)).then(|| open + requested);
        // What is refused is never counted: nobody else is refused for it, no drain waits for it.
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fits)
            .map_err(|open| if open & DRAINING == 0 { self.full(open, requested) } else { Refused::Draining })
    }

    /// A refusal for want of room while so many are open.
    pub(crate) fn full(&self, pending: usize, requested: usize) -> Refused {
        Refused::Full { pending, requested, limit: self.limit }
    }

    /// So many transfers settled, or were not accepted after all.
    pub(crate) fn settled(&self, transfers: usize) {
        if transfers == 0 {
            return;
        }
        let before = self.open.fetch_sub(transfers, Ordering::AcqRel);
        assert!(before & !DRAINING >= transfers, "more transfers settled than were accepted");
        if before == DRAINING | transfers {
            self.empty.notify_waiters();
        }
    }

    /// How many may be open.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// How many are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire) & !DRAINING
    }

    /// Admits nothing from now on. Returns when nothing is open.
    pub(crate) async fn drain(&self) {
        self.open.fetch_or(DRAINING, Ordering::AcqRel);
        loop {
            let told = self.empty.notified();
            let mut told = std::pin::pin!(told);
            // Listening before looking, so that the last one cannot slip through.
            told.as_mut().enable();
            if self.open() == 0 {
                return;
            }
            told.await;
        }
    }
}
