//! `keyshard provision` and `keyshard keys` against the sandbox.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
#[path = "exactly_once/proxy.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with another test")]
mod proxy;
#[path = "exactly_once/random.rs"]
#[allow(dead_code, reason = "shared with another test")]
mod random;

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use common::{
    chain::{balance, directory},
    client,
    program::Program,
    until,
};
use keyshard_sandbox::{Config, Credentials, Sandbox};
use proxy::{Faults, Proxy, WAYS};
use serde_json::{Value, json};

/// A sandbox, a directory, and the settings of an operator who has one key.
struct Place {
    sandbox: Sandbox,
    directory: PathBuf,
    settings: Vec<(String, String)>,
}

impl Place {
    fn new(name: &str, keys: usize) -> Self {
        let sandbox = Sandbox::start(Config { block_ms: 50, keys, receivers: 3, ..Config::default() }).unwrap();
        let settings = [
            ("NEAR_ENV", "sandbox"),
            ("NODE_URL", sandbox.credentials().rpc.as_str()),
            ("MASTER_ACCOUNT_PRIVATE_KEY", sandbox.credentials().secret.as_str()),
            ("MASTER_ACCOUNT_PRIVATE_KEYS_FILE", "keys"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { sandbox, directory: directory(name), settings }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    fn start(&self, arguments: &[&str]) -> Program {
        let settings: Vec<_> = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Program::start(&self.directory, arguments, &settings)
    }

    /// Runs it to its end. No secret may show.
    fn run(&self, line: &str) -> (Option<i32>, String) {
        let (code, output) = self.start(&line.split(' ').collect::<Vec<_>>()).end_with_output();
        for secret in fs::read_to_string(self.file()).unwrap_or_default().lines().filter(|line| !line.starts_with('#'))
        {
            assert!(!output.contains(secret), "{output}");
        }
        assert!(!output.contains(&self.credentials().secret), "{output}");
        (code, output)
    }

    fn runs(&self, line: &str) -> String {
        let (code, output) = self.run(line);
        assert_eq!(code, Some(0), "{line}\n{output}");
        output
    }

    fn credentials(&self) -> &Credentials {
        self.sandbox.credentials()
    }

    fn file(&self) -> PathBuf {
        self.directory.join("keys")
    }

    /// Public keys of the file.
    fn written(&self) -> BTreeSet<String> {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        let keys = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        keys.map(|key| key.parse::<near_crypto::SecretKey>().unwrap().public_key().to_string()).collect()
    }

    /// Public keys and nonces on the chain, without the sandbox's own.
    async fn on_chain(&self) -> Vec<(String, u64)> {
        let own: BTreeSet<String> = std::iter::once(&self.credentials().secret)
            .chain(&self.credentials().keys)
            .map(|key| key.parse::<near_crypto::SecretKey>().unwrap().public_key().to_string())
            .collect();
        let question =
            json!({ "request_type": "view_access_key_list", "finality": "final", "account_id": "test.near" });
        let list = ask(&self.credentials().rpc, "query", question).await;
        let keys =
            list["result"]["keys"].as_array().unwrap().iter().map(|key| {
                (key["public_key"].as_str().unwrap().to_owned(), key["access_key"]["nonce"].as_u64().unwrap())
            });
        keys.filter(|(key, _)| !own.contains(key)).collect()
    }

    async fn chain_keys(&self) -> BTreeSet<String> {
        self.on_chain().await.into_iter().map(|(key, _)| key).collect()
    }

    async fn account(&self, id: &str) -> Option<u128> {
        let question = json!({ "request_type": "view_account", "finality": "final", "account_id": id });
        let answer = ask(&self.credentials().rpc, "query", question).await;
        answer["result"]["amount"].as_str().map(|amount| amount.parse().unwrap())
    }
}

async fn ask(rpc: &str, method: &str, params: Value) -> Value {
    let question = json!({ "jsonrpc": "2.0", "id": "test", "method": method, "params": params });
    client().post(rpc).json(&question).send().await.unwrap().json().await.unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_topped_up_and_pay() {
    let mut place = Place::new("provision-keys", 2);
    let output = place.runs("provision keys --count 5 --dry-run");
    assert!(output.contains("0 of 5 are there, 5 will be added") && output.contains("Dry run"), "{output}");
    let (code, output) = place.run("provision keys --count 5");
    assert_eq!(code, Some(3), "{output}");
    assert!(output.contains("--yes") && output.contains("altogether"), "{output}");
    assert!(place.chain_keys().await.is_empty() && place.written().is_empty());

    for (count, before) in [(5, 0), (7, 5)] {
        let output = place.runs(&format!("provision keys --count {count} --yes"));
        assert!(output.contains(&format!("{before} of {count} are there")), "{output}");
        assert!(output.contains(&format!("{count} keys of keys are full-access keys")), "{output}");
        assert_eq!(place.written().len(), count);
        assert_eq!(place.chain_keys().await, place.written());
        assert_eq!(mode(&place.file()), 0o600);
    }
    for count in [7, 3] {
        let output = place.runs(&format!("provision keys --count {count}"));
        assert!(output.contains("nothing is missing"), "{output}");
    }
    // A secret whose key is not there, as an interrupted run leaves it, is used before a new one is made.
    let left = near_crypto::SecretKey::from_seed(near_crypto::KeyType::ED25519, "left");
    let text = fs::read_to_string(place.file()).unwrap();
    fs::write(place.file(), format!("{text}{left}\n")).unwrap();
    let output = place.runs("provision keys --count 9 --yes");
    assert!(output.contains("7 of 9 are there, 2 will be added") && output.contains("1 that the file has already"));
    assert_eq!((place.written().len(), place.chain_keys().await), (9, place.written()));
    assert!(place.written().contains(&left.public_key().to_string()));

    place.set("PORT", "0");
    let mut service = place.start(&["serve"]);
    service.line_with("Access keys are those of MASTER_ACCOUNT_PRIVATE_KEYS_FILE (keys)");
    let line = service.line_with("HTTP server listening");
    let base = format!("http://{}", line.split("address=").nth(1).unwrap().trim());
    service.line_with("Server ready to accept requests");
    let request = client().post(format!("{base}/send-ft")).header("content-type", "application/json");
    let answer = request.body(r#"{"receiverId":"user1.test.near","amount":"5"}"#).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["success"], true);
    assert!(place.on_chain().await.iter().any(|(_, nonce)| nonce % 1_000_000 == 1), "one of the new keys has signed");

    // The service keeps its keys for itself; without another one, nobody may sign.
    let (code, output) = place.run("provision keys --count 10 --yes");
    assert_eq!(code, Some(0), "{output}");
    place.settings.retain(|(name, _)| name != "MASTER_ACCOUNT_PRIVATE_KEY");
    let (code, output) = place.run("provision keys --count 11 --yes");
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("the service that runs on ./data pays with every key"), "{output}");
    let retired = place.written().first().unwrap().clone();
    let (code, output) = place.run(&format!("keys retire {retired} --yes"));
    assert!(code == Some(1) && output.contains("a service runs on ./data: stop it first"), "{output}");
    let output = place.runs("keys list --json");
    let listed: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert!(listed.as_array().unwrap().iter().all(|key| key["inFlight"].is_null()), "{listed}");

    service.signal("TERM");
    assert!(service.end().success(), "{}", service.output());
    let output = place.runs(&format!("keys retire {retired} --yes"));
    assert!(output.contains("it was taken out of keys"), "{output}");
    assert_eq!((place.written().len(), place.chain_keys().await), (9, place.written()));
    assert!(!place.written().contains(&retired));
    assert!(place.runs(&format!("keys retire {retired} --yes")).contains("is no key of test.near"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_file_that_others_can_read_is_refused() {
    let place = Place::new("provision-modes", 1);
    place.runs("provision keys --count 1 --yes");
    fs::set_permissions(place.file(), fs::Permissions::from_mode(0o640)).unwrap();
    for line in ["provision keys --count 2 --yes", "serve"] {
        let (code, output) = place.run(line);
        assert!(code == Some(1) && output.contains("(mode 640): run chmod 600 keys"), "{output}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_on_chain_without_its_secret_however_often_it_is_killed() {
    let mut place = Place::new("provision-killed", 1);
    let proxy = Proxy::start(&place.credentials().rpc, 7).await;
    place.set("NODE_URL", &proxy.url());
    // Killed at its first, second, .. send: before the node has it, while it has it, after.
    for (round, faults) in [
        Faults { lose_requests: 1.0, sends_only: true, ..Faults::default() },
        Faults { sends_only: true, lose_answers: 1.0, ways: WAYS.to_vec(), ..Faults::default() },
        Faults { sends_only: true, delay_answers: 1.0, delay: Duration::from_secs(1), ..Faults::default() },
    ]
    .into_iter()
    .enumerate()
    {
        proxy.set(faults);
        let before = proxy.counts("send_tx").requests;
        let count = 4 * (round + 1);
        let mut program = place.start(&["provision", "keys", "--count", &count.to_string(), "--yes"]);
        program.line_with("altogether");
        until("it sends", || async { (proxy.counts("send_tx").requests > before).then_some(()) }).await;
        drop(program);
        proxy.set(Faults::default());
        let (chain, written) = (place.chain_keys().await, place.written());
        assert!(chain.is_subset(&written), "{chain:?} {written:?}");
        assert_eq!(written.len(), count, "written before it was sent");
    }
    place.runs("provision keys --count 14 --yes");
    assert_eq!((place.written().len(), place.chain_keys().await), (14, place.written()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_are_made_once_although_answers_get_lost() {
    const NEAR: u128 = 1_000_000_000_000_000_000_000_000;
    let mut place = Place::new("provision-accounts", 3);
    let keys = place.credentials().keys.join(",");
    place.set("MASTER_ACCOUNT_PRIVATE_KEYS", &keys);
    let proxy = Proxy::start(&place.credentials().rpc, 11).await;
    place.set("NODE_URL", &proxy.url());
    let line = "provision accounts --count 12 --prefix bench --balance 2.5";
    assert!(place.runs(&format!("{line} --dry-run")).contains("12 of 12 bench-*.test.near will be made"));
    let file = place.directory.join("bench.keys.jsonl");
    assert!(!file.exists() && place.account("bench-1.test.near").await.is_none());

    let before = place.account("test.near").await.unwrap();
    let mut program = place.start(&format!("{line} --yes").split(' ').collect::<Vec<_>>());
    program.line_with("altogether");
    let faults = Faults { lose_answers: 0.3, lose_requests: 0.2, ways: WAYS.to_vec(), ..Faults::default() };
    proxy.set(Faults { sends_only: true, ..faults });
    let (code, output) = program.end_with_output();
    proxy.set(Faults::default());
    assert_eq!(code, Some(0), "{output}");
    let counts = proxy.counts("send_tx");
    assert!(counts.lost_requests + counts.swallowed.values().sum::<usize>() > 0, "{counts:?}");
    place.runs(&format!("{line} --yes"));
    assert_eq!(mode(&file), 0o600);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 12);
    for (line, number) in text.lines().zip(1..) {
        let line: Value = serde_json::from_str(line).unwrap();
        let name = format!("bench-{number}.test.near");
        assert_eq!(line["account_id"], name.as_str());
        assert_eq!(place.account(&name).await, Some(5 * NEAR / 2), "{name}");
        let question = json!({
            "request_type": "view_access_key", "finality": "final", "account_id": name, "public_key": line["public_key"],
        });
        let key = ask(&place.credentials().rpc, "query", question).await;
        assert_eq!(key["result"]["permission"], "FullAccess", "{key}");
    }
    let spent = before - place.account("test.near").await.unwrap();
    assert!((30 * NEAR..31 * NEAR).contains(&spent), "{spent}");
    assert!(place.runs(line).contains("nothing is missing"));

    // The file of accounts is also the list of those to register.
    let list = "provision storage --accounts bench.keys.jsonl";
    assert!(place.runs(&format!("{list} --dry-run")).contains("12 of 12 will be registered"));
    assert!(place.runs(&format!("{list} --yes")).contains("12 accounts registered"));
    assert!(place.runs(list).contains("nothing is missing"));
    fs::write(place.directory.join("more"), "user1.test.near\nnew.test.near # implicit or not\nbench-3.test.near\n")
        .unwrap();
    let output = place.runs("provision storage --accounts more --yes");
    assert!(output.contains("1 of 3 will be registered"), "{output}");
    let (code, output) = place.run("provision storage --accounts nowhere --yes");
    assert!(code == Some(1) && output.contains("nowhere cannot be read"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_deployed_initialised_and_paid_out() {
    let mut place = Place::new("provision-token", 1);
    place.set("FT_CONTRACT", "coin.test.near");
    fs::write(place.directory.join("coin.wasm"), [b"\0asm\x01\0\0\0".as_slice(), &vec![7; 50_000]].concat()).unwrap();
    fs::write(place.directory.join("text"), "no wasm").unwrap();
    let (code, output) = place.run("provision token --yes");
    assert!(code == Some(1) && output.contains("give one with --wasm"), "{output}");
    let (code, output) = place.run("provision token --wasm text --yes");
    assert!(code == Some(1) && output.contains("not a compiled contract"), "{output}");
    let line = "provision token --wasm coin.wasm --supply 1000";
    let output = place.runs(&format!("{line} --dry-run"));
    assert!(
        output.contains("make the account, give it 5 NEAR") && output.contains("call new_default_meta"),
        "{output}"
    );
    assert_eq!(place.account("coin.test.near").await, None);
    let output = place.runs(&format!("{line} --yes"));
    assert!(output.contains("test.near holds 1000 of it"), "{output}");
    assert_eq!(balance(&place.credentials().rpc, "coin.test.near", "test.near").await, 1_000);
    assert!(place.runs(line).contains("nothing is missing"));
    // The sandbox's token mints nothing; nothing else is spoilt by asking.
    let (code, output) = place.run("provision token --mint ft_mint --hold 2000 --yes");
    assert!(code == Some(1) && output.contains("no such method"), "{output}");

    // On an account that is there, in two steps.
    place.runs("provision accounts --count 1 --prefix other --balance 3 --file other.keys --yes");
    place.set("FT_CONTRACT", "other-1.test.near");
    let (code, output) = place.run("provision token --wasm coin.wasm --yes");
    assert!(code == Some(1) && output.contains("full-access key"), "{output}");
    let home = place.directory.join("home/.near-credentials/sandbox");
    fs::create_dir_all(&home).unwrap();
    fs::copy(place.directory.join("other.keys"), home.join("other-1.test.near.json")).unwrap();
    place.set("HOME", place.directory.join("home").to_str().unwrap());
    let output = place.runs("provision token --wasm coin.wasm --init none --yes");
    assert!(output.contains("not initialized") || output.contains("not initialised"), "{output}");
    place.runs("provision token --init new --init-args {\"owner_id\":\"$ACCOUNT\",\"total_supply\":\"$SUPPLY\",\"metadata\":{\"spec\":\"ft-1.0.0\",\"name\":\"N\",\"symbol\":\"S\",\"decimals\":6}} --supply 7 --yes");
    assert_eq!(balance(&place.credentials().rpc, "other-1.test.near", "test.near").await, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_are_needed_are_not_retired() {
    let mut place = Place::new("provision-retire", 1);
    let public = |secret: &str| secret.parse::<near_crypto::SecretKey>().unwrap().public_key().to_string();
    let (master, other) = (public(&place.credentials().secret), public(&place.credentials().keys[0]));
    let (code, output) = place.run(&format!("keys retire {other} --yes"));
    assert!(code == Some(1) && output.contains("there is no data directory ./data"), "{output}");
    let (code, output) = place.run(&format!("keys retire {master} --without-data-dir --yes"));
    assert!(code == Some(1) && output.contains("the key that goes cannot sign for it"), "{output}");
    let (code, output) = place.run("keys retire ed25519:nonsense --yes");
    assert!(code == Some(2), "{output}");

    // A service that is stopped while its transaction is in flight: the proxy takes what it sends and passes nothing on.
    let keys = place.credentials().keys.join(",");
    let mut proxy = Proxy::start(&place.credentials().rpc, 3).await;
    place.set("NODE_URL", &proxy.url());
    place.set("PORT", "0");
    place.set("DRAIN_TIMEOUT_MS", "100");
    place.set("MASTER_ACCOUNT_PRIVATE_KEYS", &keys);
    place.settings.retain(|(name, _)| name != "MASTER_ACCOUNT_PRIVATE_KEYS_FILE");
    let mut service = place.start(&["serve"]);
    let line = service.line_with("HTTP server listening");
    let base = format!("http://{}", line.split("address=").nth(1).unwrap().trim());
    service.line_with("Server ready to accept requests");
    // From now on the node gets nothing that pays.
    proxy.set(Faults { lose_requests: 1.0, sends_only: true, ..Faults::default() });
    let before = proxy.counts("send_tx").requests;
    let url = format!("{base}/send-ft");
    let asking = tokio::spawn(async move {
        let request = client().post(url).header("content-type", "application/json").header("prefer", "respond-async");
        request.body(r#"{"receiverId":"user1.test.near","amount":"5"}"#).send().await.unwrap().status().as_u16()
    });
    until("it is sent", || async { (proxy.counts("send_tx").requests > before).then_some(()) }).await;
    assert_eq!(asking.await.unwrap(), 202);
    service.signal("TERM");
    assert!(service.end().success(), "{}", service.output());
    proxy.set(Faults::default());
    proxy.set_open(true).await;

    let (code, output) = place.run(&format!("keys retire {other} --yes"));
    assert!(code == Some(1) && output.contains("1 transactions of this key are in flight"), "{output}");
    let output = place.runs("keys list --json");
    let listed: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    let of = |key: &str| listed.as_array().unwrap().iter().find(|listed| listed["publicKey"] == key).unwrap().clone();
    assert_eq!((of(&other)["inFlight"].as_u64(), of(&other)["pays"].as_bool()), (Some(1), Some(true)), "{listed}");
    assert_eq!((of(&master)["inFlight"].as_u64(), of(&master)["permission"].as_str()), (Some(0), Some("full-access")));
    assert!(place.runs("keys list").contains("in flight 1"));

    // Its next life settles it; then the key may go, and the master key is the last one.
    let mut service = place.start(&["serve"]);
    service.line_with("Server ready to accept requests");
    until("it is paid", || async {
        (balance(&place.credentials().rpc, "ft.test.near", "user1.test.near").await == 5).then_some(())
    })
    .await;
    let line = service.seen.iter().find(|line| line.contains("HTTP server listening")).unwrap().clone();
    let base = format!("http://{}", line.split("address=").nth(1).unwrap().trim());
    until("it is settled", || async {
        let (_, metrics) = common::get(&base, "/metrics").await;
        metrics.contains("\nft_service_pending_jobs 0\n").then_some(())
    })
    .await;
    service.signal("TERM");
    assert!(service.end().success(), "{}", service.output());
    place.runs(&format!("keys retire {other} --yes"));
    let (code, output) = place.run(&format!("keys retire {master} --yes"));
    assert!(code == Some(1) && output.contains("is the last full-access key of test.near"), "{output}");
}

#[test]
fn help_names_flags_and_exit_codes() {
    let directory = directory("provision-help");
    for (arguments, says) in [
        (&["provision", "--help"][..], &["keys", "accounts", "storage", "token"][..]),
        (&["provision", "keys", "--help"], &["--count", "--dry-run", "--yes", "3 nobody agreed"]),
        (&["provision", "accounts", "--help"], &["--prefix", "benchmark-user", "--balance"]),
        (&["provision", "storage", "--help"], &["--accounts <FILE|->"]),
        (&["provision", "token", "--help"], &["--wasm", "--init-args", "$SUPPLY", "The sandbox runs no wasm"]),
        (&["keys", "list", "--help"], &["--json", "Exit code"]),
        (&["keys", "retire", "--help"], &["never one with transactions in flight", "--without-data-dir"]),
        (&["check", "--help"], &["2 at least one failure"]),
    ] {
        let (code, output) = Program::start(&directory, arguments, &[]).end_with_output();
        assert_eq!(code, Some(0), "{output}");
        assert!(says.iter().all(|text| output.contains(text)), "{arguments:?}\n{output}");
    }
}
