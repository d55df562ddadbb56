//! `keyshard check`: each thing that can go wrong, made to go wrong.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use common::{chain::directory, odd_node, odd_node::Oddity, program::Program};
use keyshard_sandbox::{Config, Credentials, Sandbox};
use serde_json::Value;

/// A sandbox on which everything is as it should be.
struct Place {
    sandbox: Sandbox,
    directory: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let sandbox = Sandbox::start(Config { block_ms: 50, keys: 2, receivers: 2, ..Config::default() }).unwrap();
        Self { sandbox, directory: directory(name) }
    }

    fn credentials(&self) -> &Credentials {
        self.sandbox.credentials()
    }

    fn start(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Program {
        let keys = self.credentials().keys.join(",");
        let own = [
            ("NEAR_ENV", "sandbox"),
            ("NODE_URL", self.credentials().rpc.as_str()),
            ("MASTER_ACCOUNT_PRIVATE_KEYS", keys.as_str()),
            ("PORT", "0"),
        ];
        let environment: Vec<_> = own.iter().chain(settings).copied().collect();
        Program::start(&self.directory, arguments, &environment)
    }

    /// The exit code, and findings as `(level, about, text)`.
    fn check(&self, settings: &[(&str, &str)]) -> (i32, Vec<(String, String, String)>) {
        let (code, output) = self.start(&["check", "--json"], settings).end_with_output();
        for key in &self.credentials().keys {
            assert!(!output.contains(key), "{output}");
        }
        let line = output.lines().last().unwrap_or_default();
        let findings: Vec<Value> = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {output}"));
        let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
        let findings = findings.iter().map(|one| (text(one, "level"), text(one, "about"), text(one, "text"))).collect();
        (code.unwrap(), findings)
    }

    /// Exactly one of these findings is like this, and the exit code follows from the worst.
    fn finds(&self, settings: &[(&str, &str)], level: &str, about: &str, says: &str) {
        let (code, findings) = self.check(settings);
        let found = findings.iter().filter(|(a, b, text)| a == level && b == about && text.contains(says)).count();
        assert!(found >= 1, "no {level} {about} {says:?} in {findings:#?}");
        let worst = ["fail", "warn"].iter().position(|level| findings.iter().any(|(a, _, _)| a == level));
        assert_eq!(code, worst.map_or(0, |place| 2 - i32::try_from(place).unwrap()), "{findings:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_well() {
    let place = Place::new("check-well");
    let (code, findings) = place.check(&[]);
    let bad: Vec<_> =
        findings.iter().filter(|(level, about, _)| level != "ok" && about != "disk" && about != "files").collect();
    assert!(bad.is_empty() && code <= 1, "{findings:#?}");
    for (about, says) in [
        ("settings", "test.near pays ft.test.near with 2 keys of MASTER_ACCOUNT_PRIVATE_KEYS"),
        ("node", "localnet, block"),
        ("clock", "ms old by this machine's clock"),
        ("protocol", "100 actions and 300 Tgas"),
        ("keys", "2 full-access keys sign for test.near"),
        ("balance", "at full load"),
        ("token", "ft.test.near is"),
        ("tokens", "units of ft.test.near"),
        ("storage", "each new receiver costs 0.00125 NEAR"),
        ("data", "the first start makes it"),
        ("disk", "a sync of"),
        ("disk", "GiB are free"),
        ("files", "open files allow"),
    ] {
        assert!(findings.iter().any(|(_, a, text)| a == about && text.contains(says)), "{about} {says} {findings:#?}");
    }
    assert!(!place.directory.join("data").exists(), "a look makes nothing");
    let (code, output) = place.start(&["check"], &[("WAIT_UNTIL", "soon")]).end_with_output();
    assert!(code == Some(2) && output.contains("FAIL  settings     WAIT_UNTIL is \"soon\""), "{output}");
    assert!(output.contains("ok    token"), "the rest is looked at all the same: {output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_nodes_and_keys() {
    let place = Place::new("check-keys");
    let credentials = place.credentials();
    let stranger = near_crypto::SecretKey::from_seed(near_crypto::KeyType::ED25519, "stranger").to_string();
    let mixed = format!("{stranger},{}", credentials.keys[0]);
    let rpc = credentials.rpc.as_str();
    let silent = format!("{rpc},http://127.0.0.1:1");
    let second = odd_node::start(rpc, Oddity::None).await;
    let two = format!("{rpc},{second}");
    let other = Sandbox::start(Config { keys: 1, receivers: 1, ..Config::default() }).unwrap();
    let networks = format!("{rpc},{}", other.credentials().rpc);
    let taken = rpc.rsplit(':').next().unwrap();
    for (settings, level, about, says) in [
        (&[("MASTER_ACCOUNT_PRIVATE_KEYS", "")][..], "fail", "settings", "MASTER_ACCOUNT_PRIVATE_KEYS is not set"),
        (&[("MASTER_ACCOUNT", "No One")][..], "fail", "settings", "not a NEAR account id"),
        (&[("TPS", "5")][..], "warn", "settings", "no effect in Keyshard: TPS"),
        (&[("SKIP_NEAR_INIT", "true")][..], "warn", "settings", "nothing is really paid"),
        (&[("NODE_URL", "http://127.0.0.1:1")][..], "fail", "node", "127.0.0.1:1/ does not answer"),
        (&[("RPC_URLS", silent.as_str())][..], "warn", "node", "127.0.0.1:1/ does not answer"),
        (&[("RPC_URLS", silent.as_str())][..], "warn", "trust", "fewer can be used"),
        (&[("RPC_URLS", two.as_str())][..], "ok", "trust", "two endpoints must agree"),
        (&[("RPC_TRUST", "two")][..], "fail", "trust", "add another to RPC_URLS"),
        (&[("RPC_URLS", networks.as_str())][..], "fail", "chain", "mixes networks"),
        (&[("MAX_ACTIONS_PER_TX", "500")][..], "warn", "protocol", "the chain allows 100"),
        (&[("MASTER_ACCOUNT", "nobody.near")][..], "fail", "account", "nobody.near does not exist on localnet"),
        (&[("MASTER_ACCOUNT_PRIVATE_KEYS", stranger.as_str())][..], "fail", "keys", "is not a key of test.near"),
        (&[("MASTER_ACCOUNT_PRIVATE_KEYS", mixed.as_str())][..], "warn", "keys", "is not a key of test.near"),
        (&[("MASTER_ACCOUNT_PRIVATE_KEYS", mixed.as_str())][..], "warn", "keys", "one key is one queue"),
        (&[("FT_CONTRACT", "user1.test.near")][..], "fail", "token", "the account holds no contract"),
        (&[("FT_CONTRACT", "nobody.test.near")][..], "fail", "token", "the account does not exist"),
        (&[("STORAGE_MIN_DEPOSIT", "7")][..], "fail", "storage", "registrations would fail"),
        (&[("STORAGE_DEPOSIT", "never")][..], "ok", "storage", "never registered"),
        (&[("PORT", taken)][..], "fail", "port", "is taken by another program"),
        (&[("HOST", "203.0.113.1"), ("PORT", "3999")][..], "fail", "port", "cannot listen on 203.0.113.1:3999"),
    ] {
        place.finds(settings, level, about, says);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_is_poor_and_holds_no_token() {
    let place = Place::new("check-poor");
    let own = [("MASTER_ACCOUNT_PRIVATE_KEY", place.credentials().secret.as_str())];
    let mut made =
        place.start(&["provision", "accounts", "--count", "2", "--prefix", "poor", "--balance", "0.1", "--yes"], &own);
    assert!(made.end().success(), "{}", made.output());
    let text = fs::read_to_string(place.directory.join("poor.keys.jsonl")).unwrap();
    let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let key = line["private_key"].as_str().unwrap();
    let poor = [("MASTER_ACCOUNT", "poor-1.test.near"), ("MASTER_ACCOUNT_PRIVATE_KEYS", key)];
    place.finds(&poor, "warn", "balance", "at full load 1 keys with 8 transactions each lock");
    place.finds(&poor, "fail", "sender", "poor-1.test.near is not registered with ft.test.near");
    place.finds(&poor, "warn", "tokens", "transfers wait until it does");
    let window = [poor[0], poor[1], ("MAX_IN_FLIGHT_PER_KEY", "1")];
    place.finds(&window, "ok", "balance", "at full load");

    // Without a NEAR at all.
    let mut made = place.start(&["provision", "accounts", "--count", "1", "--prefix", "broke", "--yes"], &own);
    assert!(made.end().success(), "{}", made.output());
    let text = fs::read_to_string(place.directory.join("broke.keys.jsonl")).unwrap();
    let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let broke = [
        ("MASTER_ACCOUNT", "broke-1.test.near"),
        ("MASTER_ACCOUNT_PRIVATE_KEYS", line["private_key"].as_str().unwrap()),
    ];
    place.finds(&broke, "fail", "balance", "one full transaction locks");

    // A contract at the paying account, here that of the token itself.
    let contract = [("MASTER_ACCOUNT", "ft.test.near")];
    place.finds(&contract, "warn", "account", "holds a contract");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_directories() {
    let place = Place::new("check-files");
    let path = |name: &str| place.directory.join(name);
    let chmod = |name: &str, bits| fs::set_permissions(path(name), fs::Permissions::from_mode(bits)).unwrap();
    fs::create_dir(path("data")).unwrap();
    for (bits, says) in [(0o777, "others can write to ./data (mode 777)"), (0o755, "others can read ./data (mode 755)")]
    {
        chmod("data", bits);
        place.finds(&[], "warn", "data", says);
    }
    fs::write(path("file"), "").unwrap();
    place.finds(&[("DATA_DIR", "file")], "fail", "data", "is not a directory");
    place.finds(&[("DATA_DIR", "/proc/none")], "fail", "disk", "cannot write to /proc");

    let key = place.credentials().keys[0].clone();
    fs::write(path("keys"), format!("{key}\n")).unwrap();
    chmod("keys", 0o644);
    let file = [("MASTER_ACCOUNT_PRIVATE_KEYS_FILE", "keys")];
    place.finds(&file, "fail", "settings", "run chmod 600 keys");
    chmod("keys", 0o600);
    place.finds(&file, "ok", "settings", "with 1 keys of MASTER_ACCOUNT_PRIVATE_KEYS_FILE (keys)");
    place.finds(&file, "warn", "settings", "MASTER_ACCOUNT_PRIVATE_KEYS not used for paying");
    fs::write(path(".env"), format!("MASTER_ACCOUNT_PRIVATE_KEY={key}\n")).unwrap();
    chmod(".env", 0o644);
    place.finds(&[], "warn", "key files", "run chmod 600 .env");

    // The journal of another chain, beside a service that runs.
    let mut service = place.start(&["serve"], &[]);
    service.line_with("Server ready to accept requests");
    place.finds(&[], "ok", "data", "a service runs on ./data");
    service.signal("TERM");
    assert!(service.end().success(), "{}", service.output());
    place.finds(&[], "ok", "journal", "0 transactions are in flight");
    let other = Sandbox::start(Config { keys: 2, receivers: 1, seed: 5, ..Config::default() }).unwrap();
    place.finds(&[("NODE_URL", &other.credentials().rpc)], "fail", "journal", "is of another chain");
}
