//! Whether a backlog grows: transfers offered and not yet executed, looked at once a block. Pure.
//!
//! Between blocks the backlog rises like a saw's tooth; right after each block it tells how far the system is behind.
use serde::{Deserialize, Serialize};

/// Growth that is taken for none, as a share of the offered rate: over a minute it adds 0.6 s to the answer time.
const TOLERATED: f64 = 0.01;
/// What a few batches more or less in a block make of the slope: the shorter the look, the more.
const BLUR: f64 = 0.2;
/// Blocks below which nothing can be said.
const MIN_BLOCKS: usize = 4;

/// The backlog right after a block.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The block's time, in seconds since the load began.
    pub seconds: f64,
    /// Transfers offered until then, whose request was not turned away.
    pub offered: f64,
    /// Transfers executed until then, as the chain shows.
    pub executed: f64,
}

impl Sample {
    /// Offered and not executed.
    pub fn backlog(&self) -> f64 {
        self.offered - self.executed
    }
}

/// How a backlog went.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// Transfers by which it grows each second.
    pub growth_per_s: f64,
    /// Growth that is still taken for none: blocks are coarse.
    pub tolerated_per_s: f64,
    /// Transfers executed each second.
    pub executed_per_s: f64,
    /// Transfers offered each second.
    pub offered_per_s: f64,
    /// Blocks that were looked at.
    pub blocks: usize,
}

impl Trend {
    /// The trend of the samples from `from` until `until`, in seconds. `None` if there are too few.
    pub fn of(samples: &[Sample], from: f64, until: f64) -> Option<Self> {
        let inside: Vec<Sample> =
            samples.iter().copied().filter(|sample| (from..=until).contains(&sample.seconds)).collect();
        let (first, last) = (inside.first()?, inside.last()?);
        let seconds = last.seconds - first.seconds;
        if inside.len() < MIN_BLOCKS || seconds <= 0.0 {
            return None;
        }
        let slope = |value: fn(&Sample) -> f64| slope(inside.iter().map(|sample| (sample.seconds, value(sample))));
        let offered_per_s = slope(|sample| sample.offered);
        Some(Self {
            growth_per_s: slope(Sample::backlog),
            tolerated_per_s: offered_per_s * TOLERATED.max(BLUR / seconds),
            executed_per_s: slope(|sample| sample.executed),
            offered_per_s,
            blocks: inside.len(),
        })
    }

    /// Whether the backlog does not grow.
    pub fn stable(&self) -> bool {
        self.growth_per_s <= self.tolerated_per_s
    }
}

/// Slope of the straight line nearest to the points (least squares).
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let count = points.clone().count() as f64;
    let (mut x, mut y) = (0.0, 0.0);
    for point in points.clone() {
        x += point.0 / count;
        y += point.1 / count;
    }
    let (mut above, mut below) = (0.0, 0.0);
    for point in points {
        above += (point.0 - x) * (point.1 - y);
        below += (point.0 - x) * (point.0 - x);
    }
    if below > 0.0 { above / below } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks every 0.6 s for `seconds`; each executes what was offered 1.2 s before, up to the capacity, in whole
    /// hundreds.
    fn samples(rate: f64, capacity: f64, seconds: f64) -> Vec<Sample> {
        let mut executed = 0.0;
        let blocks = (seconds / 0.6) as usize;
        (1..=blocks)
            .map(|block| {
                let at = block as f64 * 0.6;
                let ready = ((at - 1.2).max(0.0) * rate - executed).max(0.0);
                let hundreds = if block % 3 == 0 { 1.0 } else { 0.0 };
                executed += ready.min(((capacity * 0.6 / 100.0).floor() + hundreds) * 100.0);
                Sample { seconds: at, offered: rate * at, executed }
            })
            .collect()
    }

    /// On average, what the model above can do.
    fn landed(capacity: f64) -> f64 {
        ((capacity * 0.6 / 100.0).floor() + 1.0 / 3.0) * 100.0 / 0.6
    }

    #[test]
    fn below_capacity_it_is_stable_and_above_it_grows() {
        let capacity = landed(700.0);
        for (share, seconds, stable) in
            [(0.5, 8.0, true), (0.97, 8.0, true), (1.1, 8.0, false), (0.98, 60.0, true), (1.03, 60.0, false)]
        {
            let trend = Trend::of(&samples(capacity * share, 700.0, seconds), 2.5, seconds).unwrap();
            assert_eq!(trend.stable(), stable, "{share} for {seconds} s: {trend:?}");
            let expected = (capacity * share).min(capacity);
            assert!((trend.executed_per_s / expected - 1.0).abs() < 0.05, "{trend:?}");
        }
    }

    #[test]
    fn too_few_blocks_say_nothing() {
        assert_eq!(Trend::of(&samples(100.0, 700.0, 1.5), 0.0, 1.5), None);
        assert_eq!(Trend::of(&[], 0.0, 9.0), None);
        assert_eq!(Trend::of(&samples(100.0, 700.0, 9.0), 20.0, 30.0), None);
    }
}
