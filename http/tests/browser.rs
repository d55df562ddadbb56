//! The dashboard of the real binary in a real browser: a transfer sent from its form becomes final on it, its numbers are those of
//! `/metrics` with load and at rest, it names bottlenecks that were made on purpose, and anybody can use it.
//!
//! `cargo test -p keyshard --test browser -- --ignored --nocapture` needs node, npm and its registry, Chromium (`KEYSHARD_CHROMIUM`
//! names another than `/usr/bin/chromium`) and, for the slow disk, strace. Pictures are left in `KEYSHARD_PICTURES`, if that names
//! a directory.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod common;
#[path = "exactly_once/proxy.rs"]
#[allow(dead_code, reason = "it can do more than is needed here")]
mod proxy;
#[path = "exactly_once/random.rs"]
#[allow(dead_code, reason = "as above")]
mod random;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::LazyLock,
    time::Duration,
};

use common::{
    get,
    serving::{Serving, Stage, post},
    until,
};
use proxy::{Faults, Proxy};
use serde_json::{Value, json};

/// Transfers of a request of the load, and the pause between two requests: far below what the chain takes.
const REQUEST: usize = 20;
const PAUSE: Duration = Duration::from_millis(200);
/// The most that one transfer may be.
const MOST: u128 = 10u128.pow(30);
const QUICK: (&str, &str) = ("WAIT_UNTIL", "ExecutedOptimistic");

/// What the browser is driven by, installed once.
static DRIVER: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = common::chain::directory("browser-driver");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    for file in ["package.json", "package-lock.json", ".npmrc", "drive.mjs"] {
        fs::copy(source.join(file), directory.join(file)).unwrap();
    }
    run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&directory));
    directory
});

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}");
    text
}

/// Gives the driver its orders and waits until it has carried them out. Returns what it said.
async fn drive(service: &Serving, what: &str, mut orders: Value) -> String {
    orders["do"] = what.into();
    orders["base"] = service.base.as_str().into();
    orders["chromium"] = std::env::var("KEYSHARD_CHROMIUM").unwrap_or_else(|_| "/usr/bin/chromium".into()).into();
    let driving = tokio::task::spawn_blocking(move || {
        run(Command::new("node").arg("drive.mjs").arg(orders.to_string()).current_dir(&*DRIVER))
    });
    let said = driving.await.unwrap();
    assert!(said.trim_end().ends_with("ok"), "{said}");
    println!("{what}: {said}");
    said
}

/// Sends transfers until it is dropped.
struct Load(tokio::task::JoinHandle<()>);

impl Load {
    fn start(service: &Serving) -> Self {
        let base = service.base.clone();
        Self(tokio::spawn(async move {
            for round in 0usize.. {
                let transfer = |i: usize| {
                    let receiver = format!("user{}.test.near", 1 + (round + i) % 20);
                    json!({ "receiverId": receiver, "amount": format!("{}", 10u128.pow(21) * (1 + i as u128)) })
                };
                let body = json!({ "transfers": (0..REQUEST).map(transfer).collect::<Vec<_>>() });
                let answer = post(&base, &body, &[("prefer", "respond-async")]).await;
                assert!([200, 202, 503].contains(&answer.status), "{answer:?}");
                tokio::time::sleep(PAUSE).await;
            }
        }))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn at_rest(service: &Serving) {
    until("everything has settled and is reported", || async {
        let page = get(&service.base, "/metrics").await.1;
        let rests =
            ["\nft_service_pending_jobs 0\n", "\nkeyshard_transactions_in_flight 0\n", "\nkeyshard_token_balance "];
        rests.iter().all(|line| page.contains(line)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs node, npm, Chromium and strace"]
async fn in_a_browser() {
    let stage = Stage::new("browser", 200, &[QUICK]);
    let service = stage.serve();
    drive(&service, "send", json!({ "receiver": "user7.test.near" })).await;
    assert_eq!(stage.balance("user7.test.near").await, 1_500_000_000_000_000_000_000_000);
    let load = Load::start(&service);
    drive(&service, "numbers", json!({ "resting": false })).await;
    let pictures = std::env::var_os("KEYSHARD_PICTURES").map_or_else(|| stage.directory.clone(), PathBuf::from);
    drive(&service, "look", json!({ "pictures": pictures, "pause": 2_000 })).await;
    drop(load);
    at_rest(&service).await;
    drive(&service, "numbers", json!({ "resting": true })).await;
    service.stop();

    slow_node().await;
    one_key().await;
    no_tokens().await;
    slow_disk().await;
    with_a_key().await;
}

async fn slow_node() {
    let stage = Stage::new("browser-node", 200, &[QUICK]);
    let proxy = Proxy::start(&stage.credentials().rpc, 1).await;
    let service = stage.serve_with(&[("NODE_URL", &proxy.url())]);
    proxy.set(Faults { delay_answers: 1.0, delay: Duration::from_millis(1_200), ..Faults::default() });
    let _load = Load::start(&service);
    let says = "^The node takes 1\\.\\d s to answer a simple question\\.$";
    drive(&service, "verdict", json!({ "where": "rpc", "says": says })).await;
}

async fn one_key() {
    let stage = Stage::new("browser-keys", 600, &[QUICK, ("MAX_IN_FLIGHT_PER_KEY", "1"), ("MAX_BATCH_SIZE", "10")]);
    let key = json!([stage.credentials().keys[0]]).to_string();
    let service = stage.serve_with(&[("MASTER_ACCOUNT_PRIVATE_KEYS", &key)]);
    let _load = Load::start(&service);
    let says = "^The only key is full while the chain executes in .*; \\d+ transfers wait for one\\.$";
    drive(&service, "verdict", json!({ "where": "keys", "says": says })).await;
}

/// The account pays all that it has, and is to pay one more.
async fn no_tokens() {
    let stage = Stage::new("browser-tokens", 200, &[QUICK]);
    let service = stage.serve();
    let all = stage.balance("test.near").await;
    let parts = (0..all / MOST).map(|_| MOST).chain([all % MOST]).filter(|part| *part > 0);
    let pay = |amount: u128| json!({ "receiverId": "user1.test.near", "amount": amount.to_string() });
    let everything = json!({ "transfers": parts.map(pay).collect::<Vec<_>>() });
    let asynchronous = ("prefer", "respond-async");
    assert_eq!(service.send(&everything, &[asynchronous]).await.status, 202);
    until("everything is paid", || async { (stage.balance("test.near").await == 0).then_some(()) }).await;
    assert_eq!(service.send(&pay(1), &[asynchronous]).await.status, 202);
    drive(&service, "verdict", json!({ "where": "balance", "says": "enough|tokens" })).await;
}

/// Every `fdatasync` takes 200 ms longer: another program stands between the service and its disk.
async fn slow_disk() {
    struct Tracer(Child);
    impl Drop for Tracer {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let stage = Stage::new("browser-disk", 200, &[QUICK]);
    let service = stage.serve();
    let log = stage.directory.join("strace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_exit=200000", "-o"]);
    strace.arg(&log).args(["-p", &service.program.id().to_string()]);
    let _tracer = Tracer(strace.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let load = Load::start(&service);
    let says = "^The disk takes 0\\.\\d s to sync the journal, and nothing leaves before\\.$";
    drive(&service, "verdict", json!({ "where": "journal", "says": says })).await;
    assert!(fs::read_to_string(&log).unwrap().contains("(DELAYED)"), "the disk was slow by itself");
    drop(load);
}

async fn with_a_key() {
    let stage = Stage::new("browser-key", 200, &[QUICK, ("API_KEYS_FILE", "api-keys")]);
    let (code, output) = stage.run(&["api-keys", "add", "--name", "page", "--scopes", "send,read"]).end_with_output();
    assert_eq!(code, Some(0), "{output}");
    let key = output.lines().find(|line| line.starts_with("ks_")).unwrap().to_owned();
    let service = stage.serve();
    drive(&service, "key", json!({ "key": key, "receiver": "user3.test.near" })).await;
}
