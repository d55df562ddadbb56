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
                let grown = self
                    .config
                    .open_base
                    .saturating_mul(1 << doublings)
                    .min(self.config.open_max);
                grown.mul_f64(1.0 - self.config.jitter * self.share())
            }
        };
        self.enter(State::Open {
            until: now.saturating_add(period),
        });
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
