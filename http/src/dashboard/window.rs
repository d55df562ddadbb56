//! The last minute: what was counted in it.
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use keyshard_engine::{Calls, Histogram, KeyState, Meter, Watch, journal, rpc::Outcome};

/// What is looked back on for latencies.
const MINUTE: Duration = Duration::from_mins(1);
/// What is looked back on for rates: short enough to be live.
const LATELY: Duration = Duration::from_secs(5);
/// What is looked back on for whether keys are full: they are free for a moment again and again.
const KEYS: Duration = Duration::from_secs(10);
/// Samples that make a part of them one.
const SAMPLES_ENOUGH: u32 = 5;
/// Calls that a node answers at once: how long they take says how quick it is.
const PLAIN: [&str; 3] = ["block", "query", "status"];

/// Numbers since the start, at one moment.
pub(super) struct Sample {
    at: Instant,
    meter: Meter,
    journal: journal::Stats,
    calls: Vec<Calls>,
    rejected: u64,
    keys_full: bool,
}

/// Samples of the last minute, the oldest first.
#[derive(Default)]
pub(super) struct Window(VecDeque<Sample>);

/// Transfers a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) accepted: f64,
    pub(super) executed: f64,
    pub(super) finalized: f64,
    pub(super) failed: f64,
    /// Requests that were refused.
    pub(super) rejected: f64,
}

/// What was counted in the last minute.
pub(super) struct Minute {
    pub(super) meter: Meter,
    pub(super) sync_time: Histogram,
    pub(super) group_records: Histogram,
    /// Times of calls that a node answers at once.
    pub(super) plain: Histogram,
    pub(super) calls: u64,
    /// Those without an answer to use: unknown, or never left.
    pub(super) lost: u64,
}

/// Whether a key in this state is one that could carry something, now or in a moment.
fn signs(state: KeyState) -> bool {
    !matches!(state, KeyState::Retired | KeyState::Quarantined)
}

impl Sample {
    pub(super) fn new(at: Instant, watch: &Watch, rejected: u64) -> Self {
        let mut working = watch.keys.iter().filter(|key| signs(key.state)).peekable();
        let keys_full =
            working.peek().is_some() && watch.batching.waiting > 0 && working.all(|key| key.state != KeyState::Free);
        Self {
            at,
            meter: watch.meter.clone(),
            journal: watch.journal.clone(),
            calls: watch.calls.clone(),
            rejected,
            keys_full,
        }
    }
}

impl Window {
    /// Takes the next sample, and forgets what is older than a minute.
    pub(super) fn push(&mut self, sample: Sample) {
        let at = sample.at;
        while self.0.front().is_some_and(|oldest| at.duration_since(oldest.at) > MINUTE) {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// The last sample and the oldest of this time.
    fn ends(&self, time: Duration) -> Option<(&Sample, &Sample)> {
        let last = self.0.back()?;
        let first = self.0.iter().find(|sample| last.at.duration_since(sample.at) <= time)?;
        Some((first, last))
    }

    /// Rates of the last seconds.
    pub(super) fn rates(&self) -> Rates {
        self.ends(LATELY).map(|(first, last)| rates(first, last)).unwrap_or_default()
    }

    /// In which part of the last ten seconds no key was free while transfers waited; 0 until there are some samples.
    pub(super) fn keys_full(&self) -> f64 {
        let Some((first, _)) = self.ends(KEYS) else { return 0.0 };
        let (mut full, mut all) = (0u32, 0u32);
        for sample in self.0.iter().filter(|sample| sample.at >= first.at) {
            full += u32::from(sample.keys_full);
            all += 1;
        }
        if all < SAMPLES_ENOUGH { 0.0 } else { f64::from(full) / f64::from(all) }
    }

    /// What was counted in the last minute; `None` before there are two samples.
    pub(super) fn minute(&self) -> Option<Minute> {
        let (first, last) = self.ends(MINUTE).filter(|(first, last)| first.at < last.at)?;
        let mut minute = Minute {
            meter: since(&last.meter, &first.meter),
            sync_time: last.journal.sync_time.since(&first.journal.sync_time),
            group_records: last.journal.group_records.since(&first.journal.group_records),
            plain: Histogram::of_times(),
            calls: 0,
            lost: 0,
        };
        for calls in &last.calls {
            let before = first.calls.iter().find(|before| before.method == calls.method);
            for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
                let count = calls.outcomes[at] - before.map_or(0, |before| before.outcomes[at]);
                minute.calls += count;
                minute.lost += if matches!(outcome, Outcome::Unknown | Outcome::NeverLeft) { count } else { 0 };
            }
            if PLAIN.contains(&calls.method) {
                minute.plain.add(&before.map_or_else(|| calls.took.clone(), |before| calls.took.since(&before.took)));
            }
        }
        Some(minute)
    }
}

fn rates(first: &Sample, last: &Sample) -> Rates {
    let seconds = last.at.duration_since(first.at).as_secs_f64();
    if seconds == 0.0 {
        return Rates::default();
    }
    let rate = |last: u64, first: u64| last.saturating_sub(first) as f64 / seconds;
    Rates {
        accepted: rate(last.meter.accepted, first.meter.accepted),
        executed: rate(last.meter.executed, first.meter.executed),
        finalized: rate(last.meter.finalized, first.meter.finalized),
        failed: rate(last.meter.failed, first.meter.failed),
        rejected: rate(last.rejected, first.rejected),
    }
}

/// What was measured between two moments.
fn since(last: &Meter, first: &Meter) -> Meter {
    let mut meter = last.clone();
    let stages = &mut meter.stages;
    for (now, then) in [
        (&mut stages.durable, &first.stages.durable),
        (&mut stages.signed, &first.stages.signed),
        (&mut stages.sent, &first.stages.sent),
        (&mut stages.executed, &first.stages.executed),
        (&mut stages.last, &first.stages.last),
        (&mut stages.total, &first.stages.total),
        (&mut meter.batch_size, &first.batch_size),
        (&mut meter.batch_gas, &first.batch_gas),
    ] {
        *now = now.since(then);
    }
    meter
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(start: Instant, second: u64, finalized: u64, keys_full: bool) -> Sample {
        let mut meter = Meter { finalized, accepted: 2 * finalized, ..Meter::default() };
        meter.stages.total.record_many(1_000, finalized);
        let journal = journal::Stats {
            groups: 0,
            records: 0,
            bytes: 0,
            segment: 1,
            group_records: Histogram::of_times(),
            sync_time: Histogram::of_times(),
        };
        let mut took = Histogram::of_times();
        took.record_many(5_000, second);
        let calls = vec![Calls { method: "block", outcomes: [second, 0, second / 2, 0], took }];
        Sample { at: start + Duration::from_secs(second), meter, journal, calls, rejected: 3 * second, keys_full }
    }

    #[test]
    fn rates_are_of_the_last_seconds() {
        let (mut window, start) = (Window::default(), Instant::now());
        assert_eq!(window.rates(), Rates::default());
        window.push(sample(start, 0, 0, false));
        assert_eq!(window.rates(), Rates::default(), "one moment has no rate");
        window.push(sample(start, 10, 1_000, false));
        assert_eq!(window.rates(), Rates::default(), "nothing is known of the last seconds");
        window.push(sample(start, 12, 1_100, false));
        let rates = window.rates();
        assert_eq!((rates.finalized, rates.accepted, rates.rejected), (50.0, 100.0, 3.0));
    }

    #[test]
    fn the_minute_holds_what_was_counted_in_it() {
        let (mut window, start) = (Window::default(), Instant::now());
        window.push(sample(start, 0, 100, false));
        assert!(window.minute().is_none());
        for second in 1..=100 {
            window.push(sample(start, second, 100 + second, false));
        }
        assert_eq!(window.0.len(), 61);
        let minute = window.minute().unwrap();
        assert_eq!(minute.meter.stages.total.count(), 60);
        assert_eq!((minute.calls, minute.lost, minute.plain.count()), (60 + 30, 30, 60));
    }

    #[test]
    fn keys_are_full_in_a_part_of_the_time() {
        let (mut window, start) = (Window::default(), Instant::now());
        assert!(window.keys_full() < 1e-9);
        for second in 0..30 {
            assert!(second > 4 || window.keys_full() < 1e-9, "too few to tell");
            window.push(sample(start, second, 0, !(10..23).contains(&second)));
            assert!(second != 4 || window.keys_full() > 0.999);
        }
        assert!((window.keys_full() - 7.0 / 11.0).abs() < 1e-9, "{}", window.keys_full());
    }
}
