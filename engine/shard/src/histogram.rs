//! Counts values by size, in fixed buckets: what Prometheus calls a histogram.
use std::time::Duration;

/// How often values of which size were seen. Adding one writes two plain numbers; nothing is shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    /// Upper bounds of the buckets, inclusive, ascending.
    bounds: &'static [u64],
    /// One a bound, and one for what is above all of them.
    counts: Box<[u64]>,
    sum: u128,
}

/// Bounds for durations, in microseconds: 100 µs to 5 minutes, closest where a chain's blocks and a node's answers lie.
pub const TIME_BOUNDS: &[u64] = &[
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    300_000,
    500_000,
    700_000,
    1_000_000,
    1_500_000,
    2_000_000,
    3_000_000,
    5_000_000,
    7_000_000,
    10_000_000,
    20_000_000,
    60_000_000,
    300_000_000,
];

/// Bounds for how many go together.
pub const COUNT_BOUNDS: &[u64] = &[1, 2, 5, 10, 20, 30, 40, 50, 60, 80, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

/// Bounds for the gas of a transaction, in gas: 1 Tgas to the 1,000 Tgas that one may attach.
pub const GAS_BOUNDS: &[u64] = &[
    1_000_000_000_000,
    2_000_000_000_000,
    5_000_000_000_000,
    10_000_000_000_000,
    20_000_000_000_000,
    50_000_000_000_000,
    100_000_000_000_000,
    150_000_000_000_000,
    200_000_000_000_000,
    250_000_000_000_000,
    300_000_000_000_000,
    500_000_000_000_000,
    1_000_000_000_000_000,
];

impl Histogram {
    /// An empty one with these upper bounds, ascending.
    pub fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1].into(), sum: 0 }
    }

    /// An empty one for durations.
    pub fn of_times() -> Self {
        Self::new(TIME_BOUNDS)
    }

    /// One whose numbers were counted elsewhere: one count a bound, and one more.
    ///
    /// # Panics
    /// If there are more or fewer.
    pub fn from_counts(bounds: &'static [u64], counts: Box<[u64]>, sum: u128) -> Self {
        assert_eq!(counts.len(), bounds.len() + 1, "one count a bucket");
        Self { bounds, counts, sum }
    }

    /// Which bucket a value falls into.
    pub fn bucket(bounds: &[u64], value: u64) -> usize {
        bounds.partition_point(|bound| *bound < value)
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_many(value, 1);
    }

    /// Counts a value so many times.
    pub fn record_many(&mut self, value: u64, times: u64) {
        self.counts[Self::bucket(self.bounds, value)] += times;
        self.sum += u128::from(value) * u128::from(times);
    }

    /// Counts a duration so many times, in microseconds.
    pub fn record_time(&mut self, time: Duration, times: u64) {
        self.record_many(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), times);
    }

    /// The upper bounds.
    pub fn bounds(&self) -> &'static [u64] {
        self.bounds
    }

    /// How many values are in each bucket, not added up; the last is for what is above every bound.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// All values added up.
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds what another one counted.
    ///
    /// # Panics
    /// If it has other bounds.
    pub fn add(&mut self, other: &Self) {
        assert!(
            std::ptr::eq(self.bounds, other.bounds) || self.bounds == other.bounds,
            "histograms of different things"
        );
        for (count, other) in self.counts.iter_mut().zip(&other.counts) {
            *count += other;
        }
        self.sum += other.sum;
    }

    /// What was counted since an earlier state of this one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let counts = self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then)).collect();
        Self { bounds: self.bounds, counts, sum: self.sum.saturating_sub(earlier.sum) }
    }

    /// The value that this share (0 to 1) of all values does not exceed, as well as the buckets tell it: between two bounds they
    /// are taken to be spread evenly, and what is above all bounds counts as the highest. `None` if there is no value.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let wanted = share.clamp(0.0, 1.0) * count as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (bound, inside) in self.bounds.iter().zip(&self.counts) {
            let (upper, inside) = (*bound as f64, *inside as f64);
            if inside > 0.0 && below + inside >= wanted {
                return Some(lower + (upper - lower) * ((wanted - below) / inside));
            }
            below += inside;
            lower = upper;
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_whose_bound_they_do_not_exceed() {
        let mut histogram = Histogram::new(&[1, 10, 100]);
        for value in [0, 1, 2, 10, 11, 100, 101, u64::MAX] {
            histogram.record(value);
        }
        assert_eq!(histogram.counts(), [2, 2, 2, 2]);
        assert_eq!((histogram.count(), histogram.sum()), (8, 225 + u128::from(u64::MAX)));
        histogram.record_time(Duration::from_micros(7), 3);
        assert_eq!(histogram.counts(), [2, 5, 2, 2]);
    }

    #[test]
    fn bounds_ascend() {
        for bounds in [TIME_BOUNDS, COUNT_BOUNDS, GAS_BOUNDS] {
            assert!(bounds.windows(2).all(|pair| pair[0] < pair[1]), "{bounds:?}");
        }
    }

    #[test]
    fn sums_and_differences() {
        let mut earlier = Histogram::of_times();
        earlier.record(150);
        let mut later = earlier.clone();
        later.record_many(1_000_000, 2);
        let since = later.since(&earlier);
        assert_eq!((since.count(), since.sum()), (2, 2_000_000));
        earlier.add(&since);
        assert_eq!(earlier, later);
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let mut histogram = Histogram::new(&[10, 20, 40]);
        assert_eq!(histogram.quantile(0.5), None);
        histogram.record_many(15, 10);
        for (share, value) in [(0.0, 10.0), (0.5, 15.0), (1.0, 20.0)] {
            assert_eq!(histogram.quantile(share), Some(value), "{share}");
        }
        histogram.record_many(1_000, 10);
        assert_eq!(histogram.quantile(0.5), Some(20.0));
        assert_eq!(histogram.quantile(0.99), Some(40.0), "no more is known than that it is above");
    }
}
