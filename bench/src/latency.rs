//! Latency histograms: HDR, in microseconds, three digits, up to an hour.
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest latency that is told apart.
const MAX_US: u64 = 3_600_000_000;
/// The percentiles that reports show.
const SHOWN: [f64; 8] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 100.0];

/// Counts latencies.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

/// A histogram as it is written down: every value that was counted, and the percentiles people ask for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// How many were counted.
    pub count: u64,
    /// Their mean.
    pub mean_ms: f64,
    /// Percentile and latency that so many percent do not exceed.
    pub percentiles_ms: Vec<(f64, f64)>,
    /// Upper end of each bucket in microseconds, and how many fell into it.
    pub buckets_us: Vec<(u64, u64)>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    /// None yet.
    #[expect(clippy::expect_used, reason = "1 < 2 * MAX_US and 3 digits are within the bounds of the crate")]
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, MAX_US, 3).expect("bounds"))
    }

    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that this share, 0 to 1, does not exceed; in milliseconds, 0 if none was counted.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1_000.0
    }

    /// To be written down.
    pub fn to_report(&self) -> Latency {
        if self.0.is_empty() {
            return Latency::default();
        }
        Latency {
            count: self.0.len(),
            mean_ms: self.0.mean() / 1_000.0,
            percentiles_ms: SHOWN.map(|percent| (percent, self.quantile_ms(percent / 100.0))).to_vec(),
            buckets_us: self
                .0
                .iter_recorded()
                .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
                .collect(),
        }
    }
}

impl Latency {
    /// One of the percentiles that are kept; 0 without any.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        let found = self.percentiles_ms.iter().find(|(kept, _)| (kept - percent).abs() < 1e-9);
        found.map_or(0.0, |(_, ms)| *ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_buckets_tell_what_was_counted() {
        let mut latencies = Latencies::new();
        for ms in 1..=1_000 {
            latencies.record(Duration::from_millis(ms));
        }
        let report = latencies.to_report();
        assert_eq!((report.count, report.buckets_us.iter().map(|(_, count)| count).sum::<u64>()), (1_000, 1_000));
        for (percent, ms) in [(50.0, 500.0), (99.0, 990.0), (100.0, 1_000.0)] {
            let found = report.percentile_ms(percent);
            assert!((found / ms - 1.0).abs() < 0.002, "{percent}: {found}");
        }
        assert!((report.mean_ms - 500.5).abs() < 1.0);
    }

    #[test]
    fn nothing_and_too_much_are_fine() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.to_report(), Latency::default());
        latencies.record(Duration::ZERO);
        latencies.record(Duration::from_secs(1_000_000));
        assert_eq!(latencies.count(), 2);
        assert!(latencies.quantile_ms(1.0) >= 3_599_000.0);
    }
}
