//! The files in `deploy/` against the program: settings that it knows, time enough to drain, probes that are answered.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use common::{get, http, start};
use keyshard::{config::Config, env::Env};
use near_crypto::{KeyType, SecretKey};

/// What comes after `DRAIN_TIMEOUT_MS`.
const CLOSING: Duration = Duration::from_secs(2);
/// Who it runs as in containers.
const USER: &str = "65532";

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Lines that are no comments.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.starts_with('#'))
}

/// What follows this in the lines that begin with it.
fn after<'a>(text: &'a str, begin: &str) -> Vec<&'a str> {
    lines(text).filter_map(|line| line.strip_prefix(begin)).map(str::trim).collect()
}

fn is_variable(name: &str) -> bool {
    name.len() > 2 && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Every environment variable that is set, and to what.
fn variables() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut add = |name: &str, value: &str| found.push((name.to_owned(), value.trim_matches('"').to_owned()));
    for (name, begin) in [("Dockerfile", "ENV "), ("keyshard.service", "Environment=")] {
        let text = file(name);
        for setting in after(&text, begin) {
            let (variable, value) = setting.split_once('=').unwrap();
            add(variable, value);
        }
    }
    for line in lines(&file("compose.yaml")) {
        if let Some((name, value)) = line.split_once(':').filter(|(name, _)| is_variable(name)) {
            add(name, value.trim());
        }
    }
    let kubernetes = file("kubernetes.yaml");
    let mut lines = lines(&kubernetes).peekable();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("- name: ").filter(|name| is_variable(name)) {
            add(name, lines.peek().and_then(|line| line.strip_prefix("value: ")).unwrap());
        }
    }
    found
}

#[test]
fn every_setting_is_one_of_the_program() {
    let help = Command::new(env!("CARGO_BIN_EXE_keyshard")).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let known: BTreeSet<&str> = help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
    let set = variables();
    for (name, _) in &set {
        assert!(known.contains(name.as_str()), "{name} is not in keyshard serve --help");
    }
    // It was all found.
    for expected in ["HOST", "DATA_DIR", "MASTER_ACCOUNT", "MASTER_ACCOUNT_PRIVATE_KEYS_FILE", "DRAIN_TIMEOUT_MS"] {
        assert!(set.iter().any(|(name, _)| name == expected), "{expected} is nowhere set: {set:?}");
    }
}

#[test]
fn there_is_time_to_drain() {
    let mut env: Env =
        [("MASTER_ACCOUNT_PRIVATE_KEY", SecretKey::from_seed(KeyType::ED25519, "a").to_string())].into_iter().collect();
    let mut longest = Config::from_env(&env).unwrap_or_else(|error| panic!("{error}")).drain_timeout;
    for (_, value) in variables().iter().filter(|(name, _)| name == "DRAIN_TIMEOUT_MS") {
        env.set("DRAIN_TIMEOUT_MS", value);
        longest = longest.max(Config::from_env(&env).unwrap_or_else(|error| panic!("{error}")).drain_timeout);
    }
    let seconds = |text: &str| text.trim_end_matches('s').parse::<u64>().unwrap();
    for (name, begin, count) in [
        ("compose.yaml", "stop_grace_period:", 2),
        ("keyshard.service", "TimeoutStopSec=", 1),
        ("kubernetes.yaml", "terminationGracePeriodSeconds:", 1),
    ] {
        let text = file(name);
        let allowed = after(&text, begin);
        assert_eq!(allowed.len(), count, "{name}");
        for allowed in allowed {
            assert!(Duration::from_secs(seconds(allowed)) > longest + CLOSING, "{name}: {allowed}");
        }
    }
}

#[tokio::test]
async fn probes_ask_what_is_answered() {
    let (_server, base) = start(http());
    let kubernetes = file("kubernetes.yaml");
    let probes = after(&kubernetes, "httpGet: {path: ");
    assert_eq!(probes.len(), 3);
    for probe in probes {
        let path = probe.split(',').next().unwrap();
        // Nothing is ready here; what is not known is 404.
        let expected = if path == "/health" { 200 } else { 503 };
        assert_eq!(get(&base, path).await.0, expected, "{path}");
    }
}

#[test]
fn one_user_one_replica_and_the_ports_that_are_listened_on() {
    let (docker, kubernetes, compose) = (file("Dockerfile"), file("kubernetes.yaml"), file("compose.yaml"));
    assert_eq!(after(&docker, "USER "), [format!("{USER}:{USER}")]);
    for begin in ["runAsUser:", "runAsGroup:", "fsGroup:"] {
        assert_eq!(after(&kubernetes, begin), [USER], "{begin}");
    }
    assert_eq!(after(&kubernetes, "replicas:"), ["1"]);
    assert_eq!(after(&docker, "EXPOSE "), after(&docker, "ENV PORT="));
    assert_eq!(after(&kubernetes, "containerPort:"), after(&docker, "ENV PORT="));
    assert!(compose.contains(r#""127.0.0.1:3000:3000""#));
    assert_eq!(after(&docker, "STOPSIGNAL "), ["SIGTERM"]);
}
