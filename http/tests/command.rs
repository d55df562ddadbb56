//! The `keyshard` command as its user meets it.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::path::Path;

use common::{
    chain::{amount_in, balance, directory, reaches},
    client, get,
    program::Program,
};
use keyshard_sandbox::{Config, Credentials, Sandbox};
use serde_json::Value;

fn sandbox(block_ms: u64) -> Sandbox {
    Sandbox::start(Config { block_ms, keys: 2, receivers: 5, ..Config::default() }).unwrap()
}

/// `keyshard serve` at this sandbox, on any free port.
fn serve(directory: &Path, credentials: &Credentials, more: &[(&str, &str)]) -> Program {
    let keys = serde_json::to_string(&credentials.keys).unwrap();
    let own = [
        ("NEAR_ENV", "sandbox"),
        ("NODE_URL", credentials.rpc.as_str()),
        ("MASTER_ACCOUNT_PRIVATE_KEYS", keys.as_str()),
        ("PORT", "0"),
    ];
    let environment: Vec<_> = own.iter().chain(more).copied().collect();
    Program::start(directory, &["serve"], &environment)
}

/// The address in the line `HTTP server listening`.
fn base(program: &mut Program) -> String {
    let line = program.line_with("HTTP server listening");
    let address = line.split("address=").nth(1).unwrap_or_else(|| panic!("{line}"));
    format!("http://{}", address.trim())
}

/// URL and body of the curl line in `text` that begins like this, as a shell would take them apart.
fn curl(text: &str, beginning: &str) -> (String, Option<String>) {
    let start = text.find(beginning).unwrap_or_else(|| panic!("no {beginning:?} in\n{text}"));
    let command = text[start..].replace("\\\n", " ");
    let command = command.lines().next().unwrap();
    let url = command.split(' ').find(|word| word.starts_with("http://")).unwrap().to_owned();
    let body = command.split_once("-d '").map(|(_, rest)| rest.split_once('\'').unwrap().0.to_owned());
    assert!(body.is_none() || command.contains("-H 'content-type: application/json'"), "{command}");
    (url, body)
}

async fn post(url: &str, body: String) -> Value {
    let request = client().post(url).header("content-type", "application/json").body(body);
    request.send().await.unwrap().json().await.unwrap()
}

#[tokio::test]
async fn dev_starts_everything_and_its_lines_work_as_printed() {
    let directory = directory("dev");
    let arguments = ["dev", "--port", "0", "--rpc-port", "0", "--block-ms", "100", "--keys", "2", "--receivers", "3"];
    // A node and keys of some real network in the environment must not be used.
    let environment = [("NODE_URL", "http://127.0.0.1:1"), ("MASTER_ACCOUNT_PRIVATE_KEY", "ed25519:x")];
    let mut program = Program::start(&directory, &arguments, &environment);
    program.line_with("Ctrl-C ends both");
    let banner = program.output();
    for line in ["HTTP server listening", "NEAR connection initialized successfully", "Server ready to accept requests"]
    {
        assert!(banner.contains(line), "{banner}");
    }
    let banner = &banner[banner.find("Keyshard is ready").unwrap()..];
    let parts: Vec<&str> = banner.split("curl -s ").collect();
    assert_eq!(parts.len(), 4, "{banner}");

    let (url, body) = curl(parts[3], "http://");
    let ask_balance = || async { amount_in(&post(&url, body.clone().unwrap()).await) };
    let before = ask_balance().await;
    let (url, body) = curl(parts[1], "http://");
    let answer = post(&url, body.unwrap()).await;
    assert_eq!(answer["success"], true, "{answer}");
    let (url, _) = curl(parts[2], "http://");
    let (base, path) = url.split_once("/transfer/").unwrap();
    assert_eq!(path, "JOB_ID");
    reaches(base, answer["jobId"].as_str().unwrap(), "finalized").await;
    assert_eq!(ask_balance().await, before + 1_000_000);

    program.signal("INT");
    assert!(program.end().success(), "{}", program.output());
    assert!(!program.output().contains("ed25519:"), "{}", program.output());
}

#[tokio::test]
async fn sandbox_writes_its_credentials_and_serve_uses_them() {
    let directory = directory("sandbox");
    let file = directory.join("credentials.json");
    let arguments =
        ["sandbox", "--rpc-port", "0", "--block-ms", "100", "--keys", "2", "--write-credentials", "credentials.json"];
    let mut node = Program::start(&directory, &arguments, &[]);
    node.line_with("Ctrl-C ends it");
    let credentials: Credentials = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let keys = credentials.keys.join(",");
    let text = format!(
        "# comes from the file\nNODE_URL={}\nMASTER_ACCOUNT_PRIVATE_KEYS='{keys}'\nPORT=1\nWAIT_UNTIL=Executed\n",
        credentials.rpc
    );
    std::fs::write(directory.join(".env"), text).unwrap();
    let mut service = Program::start(&directory, &["serve"], &[("NEAR_ENV", "sandbox"), ("PORT", "0")]);
    let base = base(&mut service);
    service.line_with("Server ready to accept requests");
    let body = r#"{"receiverId":"user1.test.near","amount":"2"}"#.to_owned();
    assert_eq!(post(&format!("{base}/send-ft"), body).await["success"], true);
    for program in [&mut service, &mut node] {
        program.signal("TERM");
        assert!(program.end().success(), "{}", program.output());
    }
    assert!(service.output().contains("HTTP server closed"));
}

#[tokio::test]
async fn sigterm_finishes_what_was_accepted() {
    let directory = directory("sigterm");
    let sandbox = sandbox(300);
    let credentials = sandbox.credentials();
    let mut service = serve(&directory, credentials, &[]);
    let base = base(&mut service);
    service.line_with("Server ready to accept requests");
    // WAIT_UNTIL is Final, so this is answered several blocks later.
    let body = r#"{"transfers":[{"receiverId":"user1.test.near","amount":"5"},{"receiverId":"user2.test.near","amount":"6"}]}"#;
    let url = format!("{base}/send-ft");
    let answer = tokio::spawn(async move { post(&url, body.to_owned()).await });
    common::until("it is accepted", || async {
        get(&base, "/metrics").await.1.contains("\nft_service_pending_jobs 2\n").then_some(())
    })
    .await;
    service.signal("TERM");
    let answer = answer.await.unwrap();
    assert_eq!(answer["success"], true, "{answer}");
    assert_eq!(answer["results"][1]["status"], "FINAL", "{answer}");
    assert_eq!(service.end().code(), Some(0), "{}", service.output());
    let output = service.output();
    let place = |text: &str| output.find(text).unwrap_or_else(|| panic!("no {text:?} in\n{output}"));
    assert!(place("Received shutdown signal, shutting down gracefully") < place("HTTP server closed"));
    place("every accepted transfer is settled");
    assert!(client().get(format!("{base}/health")).send().await.is_err());
    for (user, amount) in [("user1.test.near", 5), ("user2.test.near", 6)] {
        assert_eq!(balance(&credentials.rpc, &credentials.ft, user).await, amount);
    }
}

#[tokio::test]
async fn what_does_not_settle_in_time_is_promised_and_named() {
    let directory = directory("deadline");
    // The first block after this start is far away.
    let sandbox = sandbox(15_000);
    let mut service = serve(&directory, sandbox.credentials(), &[("DRAIN_TIMEOUT_MS", "200")]);
    let base = base(&mut service);
    service.line_with("Server ready to accept requests");
    let url = format!("{base}/send-ft");
    let body = r#"{"receiverId":"user1.test.near","amount":"5"}"#.to_owned();
    let answer = tokio::spawn(async move { post(&url, body).await });
    common::until("it is accepted", || async {
        get(&base, "/metrics").await.1.contains("\nft_service_pending_jobs 1\n").then_some(())
    })
    .await;
    service.signal("TERM");
    assert_eq!(answer.await.unwrap()["status"], "processing");
    assert_eq!(service.end().code(), Some(0), "{}", service.output());
    let line = service.seen.iter().find(|line| line.contains("not everything settled")).cloned();
    assert!(line.unwrap_or_default().contains("open=1"), "{}", service.output());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let directory = directory("twice");
    let sandbox = sandbox(15_000);
    let mut service = serve(&directory, sandbox.credentials(), &[("DRAIN_TIMEOUT_MS", "600000")]);
    let base = base(&mut service);
    service.line_with("Server ready to accept requests");
    let url = format!("{base}/send-ft");
    let body = r#"{"receiverId":"user1.test.near","amount":"5"}"#.to_owned();
    let answer =
        tokio::spawn(
            async move { client().post(url).header("content-type", "application/json").body(body).send().await },
        );
    common::until("it is accepted", || async {
        get(&base, "/metrics").await.1.contains("\nft_service_pending_jobs 1\n").then_some(())
    })
    .await;
    service.signal("INT");
    service.line_with("Received shutdown signal");
    service.signal("INT");
    assert_eq!(service.end().code(), Some(130), "{}", service.output());
    assert!(answer.await.unwrap().is_err());
}

#[test]
fn a_start_that_cannot_work_says_why_and_exits_1() {
    let directory = directory("start");
    let sandbox = sandbox(100);
    let credentials = sandbox.credentials();
    let stranger = near_crypto::SecretKey::from_seed(near_crypto::KeyType::ED25519, "stranger").to_string();
    let taken = sandbox.rpc_url().rsplit(':').next().unwrap().to_owned();
    for (settings, says) in [
        (&[("MASTER_ACCOUNT_PRIVATE_KEYS", "")][..], "MASTER_ACCOUNT_PRIVATE_KEYS is not set"),
        (&[("WAIT_UNTIL", "soon")][..], "WAIT_UNTIL is \"soon\""),
        (&[("NODE_URL", "http://127.0.0.1:1")][..], "no NEAR node answered"),
        (&[("MASTER_ACCOUNT", "nobody.near")][..], "nobody.near does not exist"),
        (&[("MASTER_ACCOUNT_PRIVATE_KEYS", stranger.as_str())][..], "test.near"),
        (&[("FT_CONTRACT", "user1.test.near")][..], "not a fungible token"),
        (&[("PORT", taken.as_str())][..], "choose another port"),
    ] {
        let mut service = serve(&directory, credentials, settings);
        let status = service.end();
        let output = service.output();
        assert_eq!(status.code(), Some(1), "{settings:?}\n{output}");
        let line = service.seen.iter().find(|line| line.starts_with("keyshard: ")).cloned().unwrap_or_default();
        assert!(line.contains(says), "{settings:?}\n{output}");
        assert!(!output.contains(&stranger) && !output.contains(&credentials.keys[0]), "{output}");
    }
}

#[test]
fn a_taken_port_is_named_with_the_way_to_another() {
    let directory = directory("taken");
    let sandbox = sandbox(100);
    let taken = sandbox.rpc_url().rsplit(':').next().unwrap().to_owned();
    for (arguments, says) in [
        (["dev", "--port", &taken, "--rpc-port", "0"], "PORT (or --port)"),
        (["dev", "--port", "0", "--rpc-port", &taken], "--rpc-port"),
        (["sandbox", "--keys", "1", "--rpc-port", &taken], "--rpc-port"),
    ] {
        let mut program = Program::start(&directory, &arguments, &[]);
        assert_eq!(program.end().code(), Some(1));
        let output = program.output();
        assert!(output.contains(&format!("127.0.0.1:{taken} is taken")) && output.contains(says), "{output}");
    }
}

#[test]
fn without_a_command_it_helps() {
    let directory = directory("help");
    for (arguments, says) in [
        (&[][..], "keyshard dev"),
        (&["--help"][..], "Commands:"),
        (&["serve", "--help"][..], "MASTER_ACCOUNT_PRIVATE_KEYS"),
        (&["dev", "--help"][..], "--receivers"),
        (&["import", "--help"][..], "2 some jobs need a human"),
        (&["audit", "--help"][..], "3 it could not be done"),
    ] {
        let mut program = Program::start(&directory, arguments, &[]);
        assert!(program.end().success());
        assert!(program.output().contains(says), "{}", program.output());
    }
}
