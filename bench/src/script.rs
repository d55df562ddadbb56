//! What each request asks for: its transfers, their receivers, amounts and memos. All of it follows from a seed, so that
//! nothing has to be remembered to know what a memo on the chain stands for. Pure.
use std::{collections::HashSet, fmt, io::Write as _, time::Duration};

use serde::{Deserialize, Serialize};

use crate::plan::Plan;

/// Most transfers in one request: a thousand are about 100 kB, and a service takes 10 MB.
pub const MAX_BATCH: u32 = 10_000;
/// Most transfers of a whole script: each costs a byte or two of memory.
pub const MAX_TRANSFERS: u64 = 200_000_000;

/// A kind of request, and how often it comes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// How often, in relation to the other kinds.
    pub weight: f64,
    /// Transfers in the request; 0 is a `GET /health`.
    pub transfers: u32,
    /// Whether all of them go to one receiver.
    #[serde(default)]
    pub one_receiver: bool,
}

impl Kind {
    /// Requests with so many transfers each.
    pub fn of(transfers: u32) -> Self {
        Self { weight: 1.0, transfers, one_receiver: false }
    }
}

/// How receivers are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Skew {
    /// All alike.
    Uniform,
    /// The n-th is drawn in proportion to `1 / n^s`: with `s` = 1, the first of 100 gets a fifth of all.
    Zipf(f64),
}

impl std::str::FromStr for Skew {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let exponent = match text.split_once(':') {
            None if text == "uniform" => return Ok(Self::Uniform),
            None if text == "zipf" => 1.0,
            Some(("zipf", exponent)) => exponent.parse().map_err(|_| format!("{exponent:?} is not a number"))?,
            _ => return Err("must be uniform, zipf or zipf:EXPONENT".into()),
        };
        if (0.0..=10.0).contains(&exponent) { Ok(Self::Zipf(exponent)) } else { Err("exponents are 0 to 10".into()) }
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform => f.write_str("uniform"),
            Self::Zipf(exponent) => write!(f, "zipf:{exponent}"),
        }
    }
}

/// What the transfers are drawn from.
#[derive(Debug, Clone)]
pub struct Draw {
    /// Accounts that exist and are registered with the token.
    pub receivers: Vec<String>,
    /// How they are drawn.
    pub skew: Skew,
    /// Share of the transfers that go to an account that nobody has heard of, 0 to 1: it has to be registered first.
    pub fresh: f64,
    /// What each transfer pays, in the token's units.
    pub amount: u128,
    /// Everything drawn follows from this.
    pub seed: u64,
}

/// One transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Who is paid.
    pub receiver: String,
    /// What, in the token's units.
    pub amount: u128,
}

/// The requests of one load.
#[derive(Debug)]
pub struct Script {
    plan: Plan,
    kinds: Vec<Kind>,
    /// Upper end of each kind's share of the numbers from 0 to 1.
    shares: Vec<f64>,
    draw: Draw,
    /// Upper end of each receiver's share of the numbers from 0 to 1; empty if all are alike.
    receiver_shares: Vec<f64>,
    /// Begins every memo: no other load on the same chain has it.
    tag: String,
    /// Transfers before each request, and all of them at the end.
    offsets: Vec<u64>,
}

/// Why a script cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// No kind of request, or weights that mean nothing.
    #[error("there must be kinds of requests, with weights above 0 and at most {MAX_BATCH} transfers each")]
    Kinds,
    /// Nobody to pay.
    #[error("there is no receiver: give --receivers, or --fresh 100 to pay accounts that nobody has heard of")]
    Receivers,
    /// More than can be remembered.
    #[error("{0} transfers are more than the {MAX_TRANSFERS} that fit into memory: shorten it or lower the rate")]
    TooLong(u64),
}

impl Script {
    /// `tag` must be unlike that of any other load on the same chain, and have no `-` in it.
    pub fn new(plan: Plan, kinds: Vec<Kind>, draw: Draw, tag: String) -> Result<Self, ScriptError> {
        let total: f64 = kinds.iter().map(|kind| kind.weight).sum();
        let usable = |kind: &Kind| kind.weight > 0.0 && kind.weight.is_finite() && kind.transfers <= MAX_BATCH;
        if kinds.is_empty() || !kinds.iter().all(usable) {
            return Err(ScriptError::Kinds);
        }
        if draw.receivers.is_empty() && draw.fresh < 1.0 {
            return Err(ScriptError::Receivers);
        }
        let shares = shares(kinds.iter().map(|kind| kind.weight / total));
        let receiver_shares = match draw.skew {
            Skew::Uniform => Vec::new(),
            Skew::Zipf(exponent) => {
                let weights: Vec<f64> = (1..=draw.receivers.len()).map(|n| (n as f64).powf(-exponent)).collect();
                let total: f64 = weights.iter().sum();
                self::shares(weights.iter().map(|weight| weight / total))
            }
        };
        let mut script = Self { plan, kinds, shares, draw, receiver_shares, tag, offsets: Vec::new() };
        let mut offset = 0;
        script.offsets.reserve_exact(script.plan.requests() as usize + 1);
        for request in 0..script.plan.requests() {
            script.offsets.push(offset);
            offset += u64::from(script.kind(request).transfers);
            if offset > MAX_TRANSFERS {
                return Err(ScriptError::TooLong(offset));
            }
        }
        script.offsets.push(offset);
        Ok(script)
    }

    /// When requests are due.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How many requests there are.
    pub fn requests(&self) -> u64 {
        self.plan.requests()
    }

    /// How many transfers there are in all requests.
    pub fn transfers(&self) -> u64 {
        self.offsets.last().copied().unwrap_or(0)
    }

    /// When a request is due, since the beginning.
    pub fn due(&self, request: u64) -> Duration {
        self.plan.instant(request)
    }

    /// What kind of request it is.
    pub fn kind(&self, request: u64) -> &Kind {
        let drawn = unit(mix(self.draw.seed ^ 0x6b69_6e64, request));
        let at = self.shares.partition_point(|share| *share <= drawn).min(self.kinds.len() - 1);
        &self.kinds[at]
    }

    /// The numbers of a request's transfers.
    pub fn numbers(&self, request: u64) -> std::ops::Range<u64> {
        self.offsets[request as usize]..self.offsets[request as usize + 1]
    }

    /// The request that a transfer belongs to.
    pub fn request_of(&self, transfer: u64) -> u64 {
        self.offsets.partition_point(|before| *before <= transfer) as u64 - 1
    }

    /// A transfer of a request; `place` counts from 0.
    pub fn transfer(&self, request: u64, place: u32) -> Transfer {
        let place = if self.kind(request).one_receiver { 0 } else { place };
        let drawn = mix(mix(self.draw.seed, request), u64::from(place));
        let receiver = if unit(mix(drawn, 1)) < self.draw.fresh {
            // An implicit account: 64 hexadecimal digits that nobody holds the key of.
            let [a, b, c, d] = [2, 3, 4, 5].map(|part| mix(drawn, part));
            format!("{a:016x}{b:016x}{c:016x}{d:016x}")
        } else if self.receiver_shares.is_empty() {
            let at = (u128::from(drawn) * self.draw.receivers.len() as u128) >> 64;
            self.draw.receivers[at as usize].clone()
        } else {
            let at = self.receiver_shares.partition_point(|share| *share <= unit(drawn));
            self.draw.receivers[at.min(self.draw.receivers.len() - 1)].clone()
        };
        Transfer { receiver, amount: self.draw.amount }
    }

    /// The memo of a transfer, by its number.
    pub fn memo(&self, number: u64) -> String {
        format!("{}-{number}", self.tag)
    }

    /// The number of the transfer that a memo names, if it is of this load.
    pub fn number_of(&self, memo: &str) -> Option<u64> {
        let rest = memo.strip_prefix(self.tag.as_str())?.strip_prefix('-')?;
        let number: u64 = rest.parse().ok().filter(|number| *number < self.transfers())?;
        // "+7" and "007" parse as well, and are nobody's memo.
        (rest.len() == number.checked_ilog10().map_or(1, |log| log as usize + 1)).then_some(number)
    }

    /// Writes the JSON body of a request; nothing for `GET /health`.
    pub fn body(&self, request: u64, body: &mut Vec<u8>) {
        let numbers = self.numbers(request);
        match numbers.end - numbers.start {
            0 => {}
            1 => self.one(request, 0, numbers.start, body),
            _ => {
                body.extend_from_slice(br#"{"transfers":["#);
                for (place, number) in (0..).zip(numbers) {
                    if place > 0 {
                        body.push(b',');
                    }
                    self.one(request, place, number, body);
                }
                body.extend_from_slice(b"]}");
            }
        }
    }

    fn one(&self, request: u64, place: u32, number: u64, body: &mut Vec<u8>) {
        let Transfer { receiver, amount } = self.transfer(request, place);
        // Nothing here needs escaping: account ids and tags have no such letters. Writing to memory cannot fail.
        let _ = write!(body, r#"{{"receiverId":"{receiver}","amount":"{amount}","memo":"{}-{number}"}}"#, self.tag);
    }

    /// How many different receivers are paid, up to a bound that keeps this cheap.
    pub fn receivers_in_sight(&self) -> usize {
        let some = self.requests().min(10_000);
        let all = (0..some).flat_map(|request| {
            (0..self.kind(request).transfers).map(move |place| self.transfer(request, place).receiver)
        });
        all.collect::<HashSet<_>>().len()
    }
}

/// Running sums: the upper end of each share.
fn shares(parts: impl Iterator<Item = f64>) -> Vec<f64> {
    parts
        .scan(0.0, |sum, part| {
            *sum += part;
            Some(*sum)
        })
        .collect()
}

/// A number that looks like chance and follows from two others (splitmix64's finaliser).
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let mut z = a ^ b.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The same as a number from 0 up to, but not including, 1.
fn unit(drawn: u64) -> f64 {
    (drawn >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn draw(receivers: usize, skew: Skew, fresh: f64) -> Draw {
        let receivers = (1..=receivers).map(|n| format!("user{n}.near")).collect();
        Draw { receivers, skew, fresh, amount: 7, seed: 1 }
    }

    fn script(requests: u32, kinds: Vec<Kind>, draw: Draw) -> Script {
        Script::new(Plan::steady(f64::from(requests), 1.0).unwrap(), kinds, draw, "tag".into()).unwrap()
    }

    fn body(script: &Script, request: u64) -> String {
        let mut body = Vec::new();
        script.body(request, &mut body);
        String::from_utf8(body).unwrap()
    }

    #[test]
    fn bodies_are_what_the_contract_asks_for() {
        let one = script(3, vec![Kind::of(1)], draw(1, Skew::Uniform, 0.0));
        assert_eq!(body(&one, 2), r#"{"receiverId":"user1.near","amount":"7","memo":"tag-2"}"#);
        let two = script(3, vec![Kind::of(2)], draw(1, Skew::Uniform, 0.0));
        let parts = [2, 3].map(|n| format!(r#"{{"receiverId":"user1.near","amount":"7","memo":"tag-{n}"}}"#));
        assert_eq!(body(&two, 1), format!(r#"{{"transfers":[{}]}}"#, parts.join(",")));
        assert_eq!(body(&script(1, vec![Kind::of(0)], draw(1, Skew::Uniform, 0.0)), 0), "");
    }

    #[test]
    fn memos_name_transfers_and_nothing_else_does() {
        let script = script(100, vec![Kind::of(1), Kind::of(3), Kind::of(0)], draw(5, Skew::Uniform, 0.0));
        for request in 0..script.requests() {
            for number in script.numbers(request) {
                assert_eq!(script.number_of(&format!("tag-{number}")), Some(number));
                assert_eq!(script.request_of(number), request);
            }
        }
        let beyond = format!("tag-{}", script.transfers());
        for memo in ["", "tag", "tag-", "tag-+1", "tag-01", "tag-x", "gat-1", "tag1", beyond.as_str()] {
            assert_eq!(script.number_of(memo), None, "{memo}");
        }
    }

    #[test]
    fn kinds_come_as_often_as_their_weights_say() {
        let kinds = vec![Kind { weight: 85.0, ..Kind::of(1) }, Kind { weight: 15.0, ..Kind::of(0) }];
        let script = script(100_000, kinds, draw(5, Skew::Uniform, 0.0));
        let share = script.transfers() as f64 / script.requests() as f64;
        assert!((share - 0.85).abs() < 0.01, "{share}");
    }

    #[test]
    fn receivers_are_skewed_or_not() {
        let count = |skew| {
            let script = script(50_000, vec![Kind::of(1)], draw(100, skew, 0.0));
            let mut counts: HashMap<String, usize> = HashMap::new();
            for request in 0..script.requests() {
                *counts.entry(script.transfer(request, 0).receiver).or_default() += 1;
            }
            let first = counts["user1.near"] as f64 / 50_000.0;
            (counts.len(), first)
        };
        let (receivers, first) = count(Skew::Uniform);
        assert!(receivers == 100 && (first - 0.01).abs() < 0.003, "{first}");
        let (receivers, first) = count(Skew::Zipf(1.0));
        assert!(receivers == 100 && (first - 0.193).abs() < 0.01, "{first}");
    }

    #[test]
    fn fresh_receivers_are_new_accounts_each() {
        let script = script(1_000, vec![Kind::of(2)], draw(5, Skew::Uniform, 0.5));
        let mut fresh = HashSet::new();
        for request in 0..script.requests() {
            for place in 0..2 {
                let receiver = script.transfer(request, place).receiver;
                if receiver.len() == 64 {
                    assert!(receiver.bytes().all(|byte| byte.is_ascii_hexdigit()), "{receiver}");
                    assert!(fresh.insert(receiver));
                }
            }
        }
        assert!((900..1_100).contains(&fresh.len()), "{}", fresh.len());
        let one = Kind { one_receiver: true, ..Kind::of(15) };
        let script = self::script(10, vec![one], draw(100, Skew::Uniform, 0.0));
        assert!((0..15).all(|place| script.transfer(3, place) == script.transfer(3, 0)));
    }

    #[test]
    fn skews_are_read_as_they_are_written() {
        for text in ["uniform", "zipf:1", "zipf:0.5"] {
            assert_eq!(text.parse::<Skew>().unwrap().to_string(), text);
        }
        for text in ["", "zipf:", "zipf:11", "zipf:NaN", "gauss"] {
            assert!(text.parse::<Skew>().is_err(), "{text}");
        }
    }

    #[test]
    fn scripts_that_mean_nothing_are_refused() {
        let plan = || Plan::steady(10.0, 1.0).unwrap();
        let error = |kinds, draw| Script::new(plan(), kinds, draw, "tag".into()).unwrap_err();
        assert_eq!(error(vec![], draw(1, Skew::Uniform, 0.0)), ScriptError::Kinds);
        assert_eq!(error(vec![Kind::of(MAX_BATCH + 1)], draw(1, Skew::Uniform, 0.0)), ScriptError::Kinds);
        assert_eq!(error(vec![Kind::of(1)], draw(0, Skew::Uniform, 0.5)), ScriptError::Receivers);
    }
}
