//! What the paying account holds, read now and then, and how long its tokens last.
use std::{collections::VecDeque, time::Duration};

use keyshard_shard::Instant;
use parking_lot::Mutex;
use serde::Deserialize;

/// Pause between two readings: two calls each.
pub(crate) const READ_EVERY: Duration = Duration::from_secs(30);
/// Readings from which the rate of spending is taken: five minutes.
const READINGS: usize = 10;
/// Within less, a rate says nothing.
const RATE_AFTER: Duration = Duration::from_secs(10);
/// Longest symbol that is shown, in characters; a token may call itself anything.
const SYMBOL_MAX: usize = 16;
/// More decimals than an amount has digits say nothing.
const DECIMALS_MAX: u8 = 38;

/// What the account holds, as far as it has been read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Raw token units.
    pub tokens: Option<u128>,
    /// When they were read, in milliseconds since the Unix epoch.
    pub read_at_ms: u64,
    /// How long the tokens last at the rate of the last minutes; `None` while nothing is spent, or too little is known.
    pub runway: Option<Duration>,
    /// Spendable yoctoNEAR.
    pub near: Option<u128>,
    /// What the token calls its unit (NEP-148): bounded, without control characters.
    pub symbol: Option<String>,
    /// Decimal places of that unit.
    pub decimals: Option<u8>,
}

/// Where one shard writes what it reads.
#[derive(Default)]
pub(crate) struct Purse(Mutex<Readings>);

#[derive(Default)]
struct Readings {
    tokens: VecDeque<Reading>,
    near: Option<u128>,
    symbol: Option<String>,
    decimals: Option<u8>,
}

struct Reading {
    at: Instant,
    tokens: u128,
    /// Units paid at FINAL by then, since start.
    paid: u128,
}

/// `ft_metadata` (NEP-148).
#[derive(Deserialize)]
struct Metadata {
    symbol: String,
    decimals: u8,
}

impl Purse {
    /// So many tokens are there, and so many units have been paid so far.
    pub(crate) fn holds(&self, at: Instant, tokens: u128, paid: u128) {
        let mut readings = self.0.lock();
        if readings.tokens.len() == READINGS {
            readings.tokens.pop_front();
        }
        readings.tokens.push_back(Reading { at, tokens, paid });
    }

    pub(crate) fn holds_near(&self, near: u128) {
        self.0.lock().near = Some(near);
    }

    /// What the token answered to `ft_metadata`.
    pub(crate) fn is_called(&self, answer: &[u8]) {
        let Ok(Metadata { symbol, decimals }) = serde_json::from_slice(answer) else { return };
        let symbol: String = symbol.chars().filter(|c| !c.is_control()).take(SYMBOL_MAX).collect();
        let mut readings = self.0.lock();
        readings.symbol = (!symbol.is_empty()).then_some(symbol);
        readings.decimals = (decimals <= DECIMALS_MAX).then_some(decimals);
    }

    /// What is known now, when so many units have been paid.
    pub(crate) fn look(&self, now: Instant, paid: u128) -> Holdings {
        let readings = self.0.lock();
        let last = readings.tokens.back();
        let runway = readings.tokens.front().zip(last).and_then(|(first, last)| {
            let time = now.since(first.at);
            let spent = paid.saturating_sub(first.paid);
            if time < RATE_AFTER || spent == 0 {
                return None;
            }
            let left = last.tokens.saturating_sub(paid.saturating_sub(last.paid));
            let seconds = left as f64 / (spent as f64 / time.as_secs_f64());
            // Longer than a duration can be: as good as for ever.
            Duration::try_from_secs_f64(seconds).ok()
        });
        Holdings {
            tokens: last.map(|last| last.tokens),
            read_at_ms: last.map_or(0, |last| last.at.as_millis()),
            runway,
            near: readings.near,
            symbol: readings.symbol.clone(),
            decimals: readings.decimals,
        }
    }
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn the_runway_is_what_is_left_at_the_present_rate() {
        let purse = Purse::default();
        assert_eq!(purse.look(at(1), 0), Holdings::default());
        purse.holds(at(100), 1_000, 50);
        assert_eq!(purse.look(at(130), 50).runway, None, "nothing is spent");
        assert_eq!(purse.look(at(105), 80).runway, None, "too short to tell");
        // 3 a second; 940 are left.
        assert_eq!(purse.look(at(120), 110).runway, Some(Duration::from_secs_f64(940.0 / 3.0)));
        purse.holds(at(130), 5_000, 140);
        let seen = purse.look(at(130), 140);
        assert_eq!((seen.tokens, seen.read_at_ms), (Some(5_000), 130_000));
        assert_eq!(seen.runway, Some(Duration::from_secs_f64(5_000.0 / 3.0)), "more came in");
    }

    #[test]
    fn old_readings_go() {
        let purse = Purse::default();
        for n in 0..100 {
            purse.holds(at(n), 100, 0);
        }
        assert_eq!(purse.0.lock().tokens.len(), READINGS);
    }

    #[test]
    fn what_a_token_calls_itself_is_bounded() {
        for (answer, symbol, decimals) in [
            (r#"{"symbol":"USDC","decimals":6,"name":"x"}"#.to_owned(), Some("USDC"), Some(6)),
            (format!(r#"{{"symbol":"{}","decimals":200}}"#, "x".repeat(99)), Some("xxxxxxxxxxxxxxxx"), None),
            (r#"{"symbol":"\u0007","decimals":0}"#.to_owned(), None, Some(0)),
            ("[]".to_owned(), None, None),
        ] {
            let purse = Purse::default();
            purse.is_called(answer.as_bytes());
            let seen = purse.look(at(0), 0);
            assert_eq!((seen.symbol.as_deref(), seen.decimals), (symbol, decimals), "{answer}");
        }
    }
}
