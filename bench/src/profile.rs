//! Profiles: loads that somebody described, with the limits that they are judged by, as data.
use std::{fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    plan::Phase,
    report::{Check, Run},
    script::{Kind, Skew},
    text::{count, number, percent, time_ms},
};

/// The profiles that come with this program: their names and their text.
const SHIPPED: [(&str, &str); 17] = [
    ("sandbox-50tps", include_str!("../profiles/sandbox-50tps.toml")),
    ("sandbox-60tps", include_str!("../profiles/sandbox-60tps.toml")),
    ("testnet-200tps", include_str!("../profiles/testnet-200tps.toml")),
    ("sandbox-90tps", include_str!("../profiles/sandbox-90tps.toml")),
    ("node-local", include_str!("../profiles/node-local.toml")),
    ("node-sandbox-ci", include_str!("../profiles/node-sandbox-ci.toml")),
    ("node-sandbox-10m", include_str!("../profiles/node-sandbox-10m.toml")),
    ("node-sandbox-50tps", include_str!("../profiles/node-sandbox-50tps.toml")),
    ("node-sandbox-smoke", include_str!("../profiles/node-sandbox-smoke.toml")),
    ("node-testnet", include_str!("../profiles/node-testnet.toml")),
    ("node-testnet-light", include_str!("../profiles/node-testnet-light.toml")),
    ("node-testnet-generated", include_str!("../profiles/node-testnet-generated.toml")),
    ("node-benchmark", include_str!("../profiles/node-benchmark.toml")),
    ("node-testing-sandbox", include_str!("../profiles/node-testing-sandbox.toml")),
    ("node-testing-testnet", include_str!("../profiles/node-testing-testnet.toml")),
    ("smoke", include_str!("../profiles/smoke.toml")),
    ("fresh-receivers", include_str!("../profiles/fresh-receivers.toml")),
];

/// A load with its limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What it is, in a line.
    pub title: String,
    /// Where its numbers come from.
    pub source: String,
    /// Phases, one after the other. Rates are requests a second.
    #[serde(rename = "phase")]
    pub phases: Vec<Phase>,
    /// Kinds of requests. Default: single transfers.
    #[serde(default = "singles", rename = "kind")]
    pub kinds: Vec<Kind>,
    /// What each transfer pays, in the token's units, as text: it may be beyond 64 bits.
    #[serde(default = "one_million")]
    pub amount: String,
    /// How receivers are drawn.
    #[serde(default = "uniform")]
    pub skew: Skew,
    /// Share of the transfers that go to accounts nobody has heard of, 0 to 1.
    #[serde(default)]
    pub fresh: f64,
    /// How long after it was due a request is given up, in seconds.
    #[serde(default = "a_minute")]
    pub timeout_s: f64,
    /// What it is judged by.
    #[serde(default)]
    pub limits: Limits,
}

/// What a profile is judged by. What is not given is not judged; that nothing is paid twice, lost or wrong always is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Least share of the transfers that are accepted and paid once, in percent.
    pub success_percent: Option<f64>,
    /// Largest 95th percentile of the time from when a request was due until it had ended.
    pub p95_ms: Option<f64>,
    /// The same for the 99th.
    pub p99_ms: Option<f64>,
    /// Largest share of requests that time out, in percent.
    pub etimedout_percent: Option<f64>,
    /// Largest share of requests whose connection breaks, in percent.
    pub econnreset_percent: Option<f64>,
    /// Least transfers a second that land in the sustained part.
    pub landed_per_s: Option<f64>,
    /// Least requests altogether. Shrinks with `--scale-time`.
    pub requests: Option<u64>,
    /// Largest share of requests that are not answered 2xx, in percent.
    pub error_percent: Option<f64>,
}

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// There is none of this name, and no such file.
    #[error("there is no profile {0:?}, and no such file; the profiles are: {names}", names = names().join(", "))]
    Unknown(String),
    /// The file cannot be read.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// Its text is no profile.
    #[error("{name} is no profile: {why}")]
    Shape {
        /// Which one.
        name: String,
        /// What is wrong.
        why: String,
    },
}

fn singles() -> Vec<Kind> {
    vec![Kind::of(1)]
}

fn one_million() -> String {
    "1000000".into()
}

fn uniform() -> Skew {
    Skew::Uniform
}

fn a_minute() -> f64 {
    60.0
}

/// Names of the profiles that come with this program.
pub fn names() -> Vec<&'static str> {
    SHIPPED.iter().map(|(name, _)| *name).collect()
}

impl Profile {
    /// The profile of this name, or of this file.
    pub fn load(name: &str) -> Result<Self, ProfileError> {
        if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) {
            return Self::parse(name, text);
        }
        let path = PathBuf::from(name);
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(name, &text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ProfileError::Unknown(name.into())),
            Err(error) => Err(ProfileError::File(path, error)),
        }
    }

    /// Reads its text.
    pub fn parse(name: &str, text: &str) -> Result<Self, ProfileError> {
        let shape = |why: String| ProfileError::Shape { name: name.to_owned(), why };
        let profile: Self = toml::from_str(text).map_err(|error| shape(error.to_string()))?;
        profile.amount().map_err(shape)?;
        if !(0.0..=1.0).contains(&profile.fresh) {
            return Err(shape("fresh must be 0 to 1".into()));
        }
        Ok(profile)
    }

    /// What each transfer pays.
    pub fn amount(&self) -> Result<u128, String> {
        let amount: u128 = self.amount.parse().map_err(|_| format!("amount {:?} is no whole number", self.amount))?;
        if amount > 0 { Ok(amount) } else { Err("amount must be above 0".into()) }
    }
}

impl Limits {
    /// Holds a run against the limits. `time` is by how much phases were shortened.
    pub fn check(&self, run: &Run, time: f64) -> Vec<Check> {
        let share = |count: u64| count as f64 / run.requests.offered.max(1) as f64 * 100.0;
        let answered = |name: &str| share(run.requests.answers.get(name).copied().unwrap_or(0));
        let mut checks = Vec::new();
        let mut at_most = |name: &str, limit: Option<f64>, value: f64, show: fn(f64) -> String| {
            if let Some(limit) = limit {
                checks.push(Check {
                    name: name.into(),
                    limit: format!("<= {}", show(limit)),
                    value: show(value),
                    ok: value <= limit,
                });
            }
        };
        let in_percent: fn(f64) -> String = |value| percent(value / 100.0);
        at_most("P95", self.p95_ms, run.latency_all.percentile_ms(95.0), time_ms);
        at_most("P99", self.p99_ms, run.latency_all.percentile_ms(99.0), time_ms);
        at_most("ETIMEDOUT", self.etimedout_percent, answered("ETIMEDOUT"), in_percent);
        at_most("ECONNRESET", self.econnreset_percent, answered("ECONNRESET"), in_percent);
        at_most("errors", self.error_percent, share(run.requests.offered - run.requests.ok), in_percent);
        let mut at_least = |name: &str, limit: Option<f64>, value: f64, show: fn(f64) -> String| {
            if let Some(limit) = limit {
                checks.push(Check {
                    name: name.into(),
                    limit: format!(">= {}", show(limit)),
                    value: show(value),
                    ok: value >= limit,
                });
            }
        };
        at_least("success", self.success_percent, run.transfers.success() * 100.0, in_percent);
        at_least("landed a second", self.landed_per_s, run.landed_per_s, number);
        let requests = self.requests.map(|requests| (requests as f64 * time).floor());
        at_least("requests", requests, run.requests.offered as f64, |value| count(value as u64));
        checks.push(nothing_wrong(run));
        checks
    }
}

/// That nothing was paid twice, lost, or paid wrongly.
pub fn nothing_wrong(run: &Run) -> Check {
    let mut wrongs = run.transfers.wrongs();
    if !run.wrong.is_empty() {
        wrongs.push("paid to another receiver or of another amount than asked for".into());
    }
    let ok = wrongs.is_empty();
    let value = if ok { "nothing".into() } else { wrongs.join(", ") };
    Check { name: "doubled, lost or wrong".into(), limit: "nothing".into(), value, ok }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{latency::Latencies, ledger::Counts, plan::Plan, report::Requests};

    #[test]
    fn every_shipped_profile_is_one() {
        for name in names() {
            let profile = Profile::load(name).unwrap_or_else(|error| panic!("{error}"));
            let plan = Plan::new(profile.phases.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!profile.title.is_empty() && !profile.source.is_empty(), "{name}");
            assert!(profile.phases.iter().any(|phase| phase.sustained), "{name}: no phase is the sustained one");
            assert!(profile.kinds.iter().map(|kind| kind.weight).sum::<f64>() > 0.0, "{name}");
            Plan::scaled(profile.phases, 0.01).unwrap_or_else(|error| panic!("{name} scaled: {error}"));
            assert!(plan.requests() > 0);
        }
    }

    #[test]
    fn the_scenarios_are_those_of_the_analysis() {
        for (name, rate, seconds, all) in [
            ("sandbox-50tps", 50.0, 600.0, 720.0),
            ("sandbox-60tps", 60.0, 600.0, 720.0),
            ("testnet-200tps", 200.0, 600.0, 780.0),
            ("sandbox-90tps", 90.0, 600.0, 1_140.0),
        ] {
            let profile = Profile::load(name).unwrap();
            let sustained = profile.phases.iter().find(|phase| phase.sustained).unwrap();
            assert!((sustained.rate - rate).abs() < 1e-9 && (sustained.seconds - seconds).abs() < 1e-9, "{name}");
            let total: f64 = profile.phases.iter().map(|phase| phase.seconds).sum();
            assert!((total - all).abs() < 1e-9, "{name}");
        }
    }

    #[test]
    fn what_is_no_profile_is_refused_with_the_reason() {
        let phase = "[[phase]]\nname = \"a\"\nseconds = 1\nrate = 1\n";
        let head = "title = \"t\"\nsource = \"s\"\n";
        for (text, why) in [
            (format!("{head}{phase}unknown = 1\n"), "unknown"),
            (head.to_owned(), "phase"),
            (format!("{head}amount = \"1.5\"\n{phase}"), "amount"),
            (format!("{head}fresh = 2\n{phase}"), "fresh"),
        ] {
            let error = Profile::parse("mine", &text).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("mine"), "{error}");
        }
        assert!(Profile::load("no-such").unwrap_err().to_string().contains("sandbox-50tps"));
    }

    #[test]
    fn runs_are_held_against_limits() {
        let mut latencies = Latencies::new();
        (0..100).for_each(|ms| latencies.record(std::time::Duration::from_millis(ms * 100)));
        let answers = [("200", 94), ("ETIMEDOUT", 6)].map(|(name, count)| (name.to_owned(), count));
        let run = Run {
            landed_per_s: 49.0,
            latency_all: latencies.to_report(),
            requests: Requests { offered: 100, ok: 94, answers: answers.into() },
            transfers: Counts { offered: 100, succeeded: 94, ..Counts::default() },
            ..Run::default()
        };
        let limits = Limits {
            success_percent: Some(90.0),
            p95_ms: Some(9_700.0),
            p99_ms: Some(9_700.0),
            etimedout_percent: Some(5.0),
            econnreset_percent: Some(0.0),
            landed_per_s: Some(50.0),
            requests: Some(1_000),
            error_percent: Some(10.0),
        };
        let checks = limits.check(&run, 0.1);
        let failed: Vec<_> = checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect();
        assert_eq!(failed, ["P99", "ETIMEDOUT", "landed a second"], "{checks:?}");
        assert_eq!(checks.len(), 9);
        let doubled = Run { transfers: Counts { doubled: 1, ..run.transfers }, ..run };
        assert!(!Limits::default().check(&doubled, 1.0)[0].ok);
    }
}
