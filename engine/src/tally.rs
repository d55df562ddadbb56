//! A histogram that one thread counts and others read.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use keyshard_shard::Histogram;

/// Counts like a [`Histogram`]. Its numbers are no part of any protocol: the models of those need not see them.
pub(crate) struct Tally {
    bounds: &'static [u64],
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Tally {
    /// See [`Histogram::new`].
    pub(crate) fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub(crate) fn record(&self, value: u64) {
        self.counts[Histogram::bucket(self.bounds, value)].fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// What has been counted.
    pub(crate) fn read(&self) -> Histogram {
        let counts = self.counts.iter().map(|count| count.load(Relaxed)).collect();
        Histogram::from_counts(self.bounds, counts, u128::from(self.sum.load(Relaxed)))
    }
}
