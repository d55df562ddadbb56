//! The circuit breaker of one endpoint: a pure state machine over time (`Duration` since an arbitrary origin).
//!
//! Closed: calls pass and their verdicts are counted. Open: no call passes until the open period ends. Half-open:
//! the period has ended and a single probe may pass; its verdict closes the breaker or opens it for longer.

use std::time::Duration;

/// How a [`Breaker`] decides. The defaults suit a NEAR RPC node: it answers in milliseconds and recovers in
/// seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// This many failures in a row open the breaker. At least 1.
    pub consecutive_failures: u32,
    /// Number of latest calls whose failure rate is watched, 1 to [`MAX_WINDOW`].
    pub window: u32,
    /// The failure rate counts only once the window holds this many calls.
    pub min_calls: u32,
    /// A failure rate at or above this share (0 to 1) opens the breaker.
    pub failure_rate: f64,
    /// First open period; it doubles with each opening in a row.
    pub open_base: Duration,
    /// Longest open period, jitter included.
    pub open_max: Duration,
    /// The period is shortened by a random share of up to this much (0 to 1), so that many clients do not come
    /// back at once.
    pub jitter: f64,
    /// A `Retry-After` longer than this is cut to it: one header must not switch an endpoint off for hours.
    pub retry_after_max: Duration,
}

/// The largest [`Config::window`]: the verdicts are the bits of one `u64`.
pub const MAX_WINDOW: u32 = 64;

impl Default for Config {
    fn default() -> Self {
        Config {
            consecutive_failures: 5,
            window: 32,
            min_calls: 16,
            failure_rate: 0.5,
            open_base: Duration::from_secs(1),
            open_max: Duration::from_secs(30),
            jitter: 0.3,
            retry_after_max: Duration::from_mins(1),
        }
    }
}

/// What a call says about the health of its endpoint. A node's refusal of a request is a [`Verdict::Success`]: the
/// node did its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The endpoint answered.
    Success,
    /// Connect or transport error, our own timeout, 5xx, or an answer that is no JSON-RPC answer.
    Failure,
    /// 429, or an answer that asks for a pause (`Retry-After`, if it was given).
    Throttled(Option<Duration>),
    /// The call was given up before anything was learnt.
    Abandoned,
}

/// The state as seen from outside at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// No call passes.
    Open,
    /// One probe may pass, or is under way.
    HalfOpen,
}

impl BreakerState {
    /// Lower-case name for logs, metrics and `/health`.
    pub fn as_str(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half-open",
        }
    }
}

/// Leave to make one call; goes back to [`Breaker::record`] with the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permit {
    era: u64,
}

/// The breaker. See the module documentation.
#[derive(Debug)]
pub struct Breaker {
    config: Config,
    state: State,
    /// Grows with every change of state: verdicts of calls that began in an earlier era are ignored.
    era: u64,
    /// Latest verdicts, newest in bit 0, a set bit is a failure.
    window: u64,
    /// Verdicts held in `window`.
    filled: u32,
    consecutive: u32,
    /// Openings since the last success.
    openings: u32,
    random: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Duration },
    Probing,
}

impl Breaker {
    /// A closed breaker. Settings out of range are moved into it. `seed` drives the jitter.
    pub fn new(config: Config, seed: u64) -> Self {
        let unit = |share: f64| if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        let window = config.window.clamp(1, MAX_WINDOW);
        let config = Config {
            consecutive_failures: config.consecutive_failures.max(1),
            window,
            min_calls: config.min_calls.clamp(1, window),
            failure_rate: unit(config.failure_rate).max(f64::MIN_POSITIVE),
            open_max: config.open_max.max(config.open_base),
            jitter: unit(config.jitter),
            ..config
        };
        Breaker {
            config,
            state: State::Closed,
            era: 0,
            window: 0,
            filled: 0,
            consecutive: 0,
            openings: 0,
            random: seed,
        }
    }

    /// The state at `now`.
    pub fn state(&self, now: Duration) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open,
            State::Open { .. } | State::Probing => BreakerState::HalfOpen,
        }
    }

    /// Whether [`Breaker::admit`] would let a call pass at `now`.
    pub fn ready(&self, now: Duration) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } => now >= until,
            State::Probing => false,
        }
    }

    /// Whether nothing is wrong with the endpoint as far as is known.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// How long until a call may pass; zero when one may pass now, `None` while a probe is under way.
    pub fn wait(&self, now: Duration) -> Option<Duration> {
        match self.state {
            State::Closed => Some(Duration::ZERO),
            State::Open { until } => Some(until.saturating_sub(now)),
            State::Probing => None,
        }
    }

    /// Lets a call pass, or not. In the half-open state the call that passes is the probe.
    pub fn admit(&mut self, now: Duration) -> Option<Permit> {
        if !self.ready(now) {
            return None;
        }
        if matches!(self.state, State::Open { .. }) {
            self.enter(State::Probing);
        }
        Some(Permit { era: self.era })
    }

    /// Takes the verdict of a call that was let pass. Every permit must come back, [`Verdict::Abandoned`] if need
    /// be: a probe that never reports would keep the breaker half-open for good.
    pub fn record(&mut self, now: Duration, permit: Permit, verdict: Verdict) {
        if permit.era != self.era {
            return;
        }
        match (verdict, self.state) {
            (_, State::Open { .. }) | (Verdict::Abandoned, State::Closed) => {}
            (Verdict::Abandoned, State::Probing) => self.enter(State::Open { until: now }),
            (Verdict::Success, State::Probing) => self.close(),
            (Verdict::Success, State::Closed) => {
                self.count(false);
                self.consecutive = 0;
                self.openings = 0;
            }
            (Verdict::Failure, State::Probing) => self.open(now, None),
            (Verdict::Failure, State::Closed) => {
                self.count(true);
                self.consecutive = self.consecutive.saturating_add(1);
                if self.consecutive >= self.config.consecutive_failures || self.rate_exceeded() {
                    self.open(now, None);
                }
            }
            (Verdict::Throttled(pause), _) => self.open(now, pause),
        }
    }

    fn count(&mut self, failed: bool) {
        self.window = (self.window << 1) | u64::from(failed);
        self.filled = (self.filled + 1).min(self.config.window);
    }

    fn rate_exceeded(&self) -> bool {
        let mask = u64::MAX >> (MAX_WINDOW - self.filled.max(1));
        let failures = (self.window & mask).count_ones();
        self.filled >= self.config.min_calls && f64::from(failures) >= self.config.failure_rate * f64::from(self.filled)
    }

    fn close(&mut self) {
        self.enter(State::Closed);
        self.window = 0;
        self.filled = 0;
        self.consecutive = 0;
        self.openings = 0;
    }

    /// Opens for the growing, jittered period, or for the pause the endpoint asked for if that is given.
    fn open(&mut self, now: Duration, pause: Option<Duration>) {
        let doublings = self.openings.min(16);
        self.openings = self.openings.saturating_add(1);
        let period = match pause {
            Some(pause) if !pause.is_zero() => pause.min(self.config.retry_after_max),
            _ => {
                let grown = self.config.open_base.saturating_mul(1 << doublings).min(self.config.open_max);
                grown.mul_f64(1.0 - self.config.jitter * self.share())
            }
        };
        self.enter(State::Open { until: now.saturating_add(period) });
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.era += 1;
    }

    /// The next random share in [0, 1): splitmix64.
    fn share(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BreakerState::{Closed, HalfOpen, Open};
    use Verdict::{Abandoned, Failure, Success, Throttled};

    /// No jitter, so that times are exact; the rate rule needs 4 calls, the row rule 3.
    fn config() -> Config {
        Config {
            consecutive_failures: 3,
            window: 8,
            min_calls: 4,
            failure_rate: 0.5,
            open_base: ms(1000),
            open_max: ms(5000),
            jitter: 0.0,
            retry_after_max: ms(60_000),
        }
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// One call at `at`: let pass if `verdict` is given, held back otherwise; then the state.
    type Step = (u64, Option<Verdict>, BreakerState);

    fn replay(name: &str, config: Config, steps: &[Step]) -> Breaker {
        let mut breaker = Breaker::new(config, 7);
        for (number, &(at, verdict, state)) in steps.iter().enumerate() {
            let now = ms(at);
            assert_eq!(breaker.ready(now), verdict.is_some(), "{name}, step {number}: ready");
            match (breaker.admit(now), verdict) {
                (Some(permit), Some(verdict)) => breaker.record(now, permit, verdict),
                (None, None) => {}
                (admitted, _) => panic!("{name}, step {number}: admitted {admitted:?}"),
            }
            assert_eq!(breaker.state(now), state, "{name}, step {number}: state");
        }
        breaker
    }

    #[test]
    fn moves_as_the_table_says() {
        let (ok, bad) = (Some(Success), Some(Failure));
        let table: &[(&str, &[Step])] = &[
            ("successes keep it closed", &[(0, ok, Closed), (1, ok, Closed), (2, ok, Closed), (3, ok, Closed)]),
            ("opens after 3 failures in a row", &[(0, bad, Closed), (1, bad, Closed), (2, bad, Open), (3, None, Open)]),
            (
                "a success breaks the row but not the rate",
                &[(0, bad, Closed), (1, bad, Closed), (2, ok, Closed), (3, bad, Open)],
            ),
            (
                "rate below half stays closed",
                &[
                    (0, ok, Closed),
                    (1, ok, Closed),
                    (2, bad, Closed),
                    (3, ok, Closed),
                    (4, bad, Closed),
                    (5, ok, Closed),
                ],
            ),
            ("too few calls for a rate", &[(0, bad, Closed), (1, ok, Closed), (2, bad, Closed)]),
            (
                "half-open after the period, a good probe closes it",
                &[
                    (0, bad, Closed),
                    (0, bad, Closed),
                    (0, bad, Open),
                    (999, None, Open),
                    (1000, ok, Closed),
                    (1001, bad, Closed),
                ],
            ),
            (
                "a bad probe doubles the period, up to the cap",
                &[
                    (0, bad, Closed),
                    (0, bad, Closed),
                    (0, bad, Open),
                    (1000, bad, Open),
                    (2999, None, Open),
                    (3000, bad, Open),
                    (6999, None, Open),
                    (7000, bad, Open),
                    (11_999, None, Open),
                    (12_000, bad, Open),
                    (16_999, None, Open),
                    (17_000, ok, Closed),
                ],
            ),
            (
                "a success resets the growth",
                &[
                    (0, bad, Closed),
                    (0, bad, Closed),
                    (0, bad, Open),
                    (1000, bad, Open),
                    (3000, ok, Closed),
                    (3000, bad, Closed),
                    (3000, bad, Closed),
                    (3000, bad, Open),
                    (3999, None, Open),
                    (4000, ok, Closed),
                ],
            ),
            (
                "an abandoned probe leaves room for the next one",
                &[
                    (0, bad, Closed),
                    (0, bad, Closed),
                    (0, bad, Open),
                    (1000, Some(Abandoned), HalfOpen),
                    (1000, ok, Closed),
                ],
            ),
            (
                "abandoned calls do not count",
                &[(0, bad, Closed), (0, bad, Closed), (0, Some(Abandoned), Closed), (0, bad, Open)],
            ),
            (
                "Retry-After opens for the time stated",
                &[(0, Some(Throttled(Some(ms(7000)))), Open), (6999, None, Open), (7000, ok, Closed)],
            ),
            (
                "Retry-After is bounded",
                &[(0, Some(Throttled(Some(ms(86_400_000)))), Open), (59_999, None, Open), (60_000, ok, Closed)],
            ),
            (
                "throttled without a time, or with zero: the growing period",
                &[
                    (0, Some(Throttled(None)), Open),
                    (999, None, Open),
                    (1000, Some(Throttled(Some(Duration::ZERO))), Open),
                    (2999, None, Open),
                    (3000, ok, Closed),
                ],
            ),
        ];
        for (name, steps) in table {
            replay(name, config(), steps);
        }
    }

    #[test]
    fn half_open_admits_one_probe() {
        let mut breaker = replay("open", config(), &[(0, Some(Throttled(None)), Open)]);
        let probe = breaker.admit(ms(1000)).expect("the probe");
        assert_eq!((breaker.admit(ms(1000)), breaker.wait(ms(1000))), (None, None));
        assert_eq!((breaker.admit(ms(9000)), breaker.state(ms(9000))), (None, HalfOpen));
        breaker.record(ms(9000), probe, Success);
        assert_eq!(breaker.state(ms(9000)), Closed);
    }

    #[test]
    fn verdicts_of_an_earlier_era_are_ignored() {
        let mut breaker = Breaker::new(config(), 7);
        let early: Vec<Permit> = (0..6).map(|_| breaker.admit(ms(0)).unwrap()).collect();
        for &permit in &early[..3] {
            breaker.record(ms(1), permit, Failure);
        }
        assert_eq!((breaker.state(ms(1)), breaker.wait(ms(1))), (Open, Some(ms(1000))));
        // Neither a late success closes it nor a late failure prolongs it.
        breaker.record(ms(2), early[3], Success);
        breaker.record(ms(3), early[4], Failure);
        assert_eq!((breaker.state(ms(3)), breaker.wait(ms(3))), (Open, Some(ms(998))));
        let probe = breaker.admit(ms(1001)).unwrap();
        breaker.record(ms(1002), early[5], Failure);
        breaker.record(ms(1003), probe, Success);
        assert_eq!(breaker.state(ms(1003)), Closed);
    }

    #[test]
    fn the_window_forgets() {
        let mut breaker = Breaker::new(Config { window: 4, ..config() }, 7);
        for verdict in [Failure, Success, Success, Success, Success, Failure, Success] {
            let permit = breaker.admit(ms(0)).unwrap();
            breaker.record(ms(0), permit, verdict);
        }
        assert_eq!(breaker.state(ms(0)), Closed, "1 of the last 4 failed");
        let permit = breaker.admit(ms(0)).unwrap();
        breaker.record(ms(0), permit, Failure);
        assert_eq!(breaker.state(ms(0)), Open, "2 of the last 4 failed");
    }

    #[test]
    fn jitter_shortens_and_differs_by_seed() {
        let config = Config { consecutive_failures: 1, jitter: 0.3, ..config() };
        let wait = |seed| {
            let mut breaker = Breaker::new(config, seed);
            let permit = breaker.admit(ms(0)).unwrap();
            breaker.record(ms(0), permit, Failure);
            breaker.wait(ms(0)).unwrap()
        };
        let waits: Vec<Duration> = (0..50).map(wait).collect();
        assert!(waits.iter().all(|wait| (ms(700)..=ms(1000)).contains(wait)), "{waits:?}");
        assert!(waits.iter().any(|wait| *wait != waits[0]), "all seeds wait the same");
        assert_eq!(wait(3), waits[3], "a seed decides");
    }

    #[test]
    fn settings_out_of_range_are_moved_into_it() {
        let config = Config {
            consecutive_failures: 0,
            window: 1000,
            min_calls: 0,
            failure_rate: f64::NAN,
            jitter: 9.0,
            open_base: ms(10),
            open_max: ms(1),
            ..config()
        };
        let mut breaker = Breaker::new(config, 7);
        for _ in 0..200 {
            let permit = breaker.admit(ms(0)).unwrap();
            breaker.record(ms(0), permit, Success);
        }
        assert_eq!(breaker.state(ms(0)), Closed, "only failures open it");
        let permit = breaker.admit(ms(0)).unwrap();
        breaker.record(ms(0), permit, Failure);
        assert!(breaker.wait(ms(0)).unwrap() <= ms(10));
    }
}
