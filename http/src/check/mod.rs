//! `keyshard check`: reads the configuration as `serve` does, looks at nodes, account, token and machine, and says what will
//! go wrong and how to mend it. Changes nothing.
mod access;
mod account;
mod machine;
mod nodes;
mod token;

use std::{fmt, process::ExitCode, sync::Arc};

use keyshard_engine::StoragePolicy;
use near_crypto::PublicKey;
use serde::Serialize;

use crate::{
    cli::say,
    config::{Config, Offline},
    env::Env,
    mock,
    tls::Tls,
};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// It will work, and not as well as it could, or not for long.
    Warn,
    /// It will not work.
    Fail,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        })
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    /// What it is about, one word.
    pub(crate) about: &'static str,
    /// What is so, and how to mend it.
    pub(crate) text: String,
}

/// All lines, in the order they were found.
#[derive(Debug, Default)]
pub(crate) struct Report {
    findings: Vec<Finding>,
    /// Whether to show each as it is found.
    live: bool,
}

impl Report {
    fn add(&mut self, level: Level, about: &'static str, text: impl Into<String>) {
        let finding = Finding { level, about, text: text.into() };
        if self.live {
            say(&format!("{:<5} {about:<12} {}", finding.level, finding.text));
        }
        self.findings.push(finding);
    }

    pub(crate) fn ok(&mut self, about: &'static str, text: impl Into<String>) {
        self.add(Level::Ok, about, text);
    }

    pub(crate) fn warn(&mut self, about: &'static str, text: impl Into<String>) {
        self.add(Level::Warn, about, text);
    }

    pub(crate) fn fail(&mut self, about: &'static str, text: impl Into<String>) {
        self.add(Level::Fail, about, text);
    }

    /// 0: all ok. 1: warnings, no failure. 2: at least one failure.
    fn exit_code(&self) -> u8 {
        match self.findings.iter().map(|finding| finding.level).max() {
            None | Some(Level::Ok) => 0,
            Some(Level::Warn) => 1,
            Some(Level::Fail) => 2,
        }
    }
}

/// What is checked against the chain, also if something else in the configuration is wrong.
struct Wanted {
    offline: Offline,
    /// Public halves of the configured keys.
    keys: Vec<PublicKey>,
    /// Transactions of one key at a time.
    window: usize,
    max_actions: Option<usize>,
    max_batch: Option<usize>,
    storage: StoragePolicy,
    storage_deposit: Option<u128>,
    /// Size of a journal file.
    segment_bytes: usize,
    /// Where it listens, and for how many.
    listen: Option<(String, u16, usize)>,
    /// What its connections are encrypted with.
    tls: Option<Arc<Tls>>,
}

/// Checks everything. The exit code says how bad it is.
pub(crate) async fn check(env: &Env, json: bool) -> ExitCode {
    let mut report = Report { live: !json, ..Report::default() };
    if let Some(wanted) = settings(env, &mut report) {
        machine::look(env, &wanted, &mut report);
        if let Some(node) = nodes::look(&wanted, &mut report).await {
            machine::journal(&wanted, &node, &mut report);
            let checked = account::look(&wanted, &node, &mut report).await;
            let checked = match checked {
                Ok(()) => token::look(&wanted, &node, &mut report).await,
                Err(error) => Err(error),
            };
            if let Err(error) = checked {
                report.fail("node", format!("{error}. Check NODE_URL or RPC_URLS"));
            }
        }
    }
    let code = report.exit_code();
    if json {
        say(&serde_json::to_string(&report.findings).unwrap_or_default());
    } else {
        let count = |level| report.findings.iter().filter(|finding| finding.level == level).count();
        say(&format!("\n{} ok, {} warnings, {} failures", count(Level::Ok), count(Level::Warn), count(Level::Fail)));
    }
    ExitCode::from(code)
}

/// Reads the configuration. `None` if not even nodes and accounts can be told from it.
fn settings(env: &Env, report: &mut Report) -> Option<Wanted> {
    if let Some(name) = mock::asked_for(env) {
        report.warn(
            "settings",
            format!("{name} asks for mock mode: nothing is really paid; the rest is checked as without it"),
        );
    }
    let mut real = env.clone();
    for name in ["SKIP_NEAR_INIT", "MOCK_NEAR"] {
        real.remove(name);
    }
    let config = match Config::from_env(&real) {
        Ok(config) => Some(config),
        Err(error) => {
            report.fail("settings", error.to_string());
            None
        }
    };
    let offline = match Offline::from_env(&real) {
        Ok(offline) => offline,
        Err(error) => {
            // Said already, if it is the first that is wrong.
            if config.is_some() {
                report.fail("settings", error.to_string());
            }
            return None;
        }
    };
    let Some(config) = config else {
        return Some(Wanted {
            offline,
            keys: Vec::new(),
            window: 1,
            max_actions: None,
            max_batch: None,
            storage: StoragePolicy::Auto,
            storage_deposit: None,
            segment_bytes: 64 << 20,
            listen: None,
            tls: None,
        });
    };
    for note in &config.notes {
        report.warn("settings", note.clone());
    }
    let Config { http, engine, keys_from, .. } = config;
    report.ok(
        "settings",
        format!("{} pays {} with {} keys of {keys_from}", engine.account, engine.token, engine.keys.len()),
    );
    access::look(&http, report);
    Some(Wanted {
        offline,
        keys: engine.keys.iter().map(near_crypto::SecretKey::public_key).collect(),
        window: engine.window,
        max_actions: engine.max_actions,
        max_batch: engine.max_batch,
        storage: engine.storage,
        storage_deposit: engine.storage_deposit,
        segment_bytes: engine.segment_bytes,
        tls: http.tls,
        listen: Some((http.host, http.port, http.max_connections)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes() {
        let mut report = Report::default();
        assert_eq!(report.exit_code(), 0);
        report.ok("a", "b");
        assert_eq!(report.exit_code(), 0);
        report.warn("a", "b");
        assert_eq!(report.exit_code(), 1);
        report.fail("a", "b");
        report.ok("a", "b");
        assert_eq!(report.exit_code(), 2);
    }
}
