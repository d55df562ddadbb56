//! `SKIP_NEAR_INIT=true` and `MOCK_NEAR=true`: no network, nothing is paid, and everything settles; restarts included.
use serde_json::{Value, json};

use crate::{
    common::{
        chain::{directory, reaches},
        client, get,
        program::Program,
        send, until,
    },
    support::listening,
};

/// The service in mock mode; it has neither keys nor a node.
fn serve(directory: &std::path::Path, settings: &[(&str, &str)]) -> (Program, String) {
    let own = [("PORT", "0"), ("JOURNAL_SEGMENT_BYTES", "8388608")];
    let environment: Vec<_> = own.iter().chain(settings).copied().collect();
    let mut program = Program::start(directory, &["serve"], &environment);
    let base = listening(&mut program);
    program.line_with("Server ready to accept requests");
    (program, base)
}

fn id_in(answer: &str) -> String {
    let body: Value = serde_json::from_str(answer).unwrap();
    body["jobId"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

const SMOKE: &str = r#"{"receiverId":"smoke.test.near","amount":"1"}"#;

#[tokio::test]
async fn smoke_restart_ends_finalized() {
    let directory = directory("contract-smoke");
    let (mut program, base) = serve(&directory, &[("SKIP_NEAR_INIT", "true")]);
    let (status, answer) = send(&base, SMOKE).await;
    assert_eq!(status, 200, "{answer}");
    let id = id_in(&answer);
    program.signal("TERM");
    assert!(program.end().success(), "{}", program.output());
    let (_program, base) = serve(&directory, &[("SKIP_NEAR_INIT", "true")]);
    reaches(&base, &id, "finalized").await;
}

#[tokio::test]
async fn a_restart_after_a_crash_finds_what_was_open_and_finishes_it() {
    let directory = directory("contract-mock-crash");
    let (mut program, base) = serve(&directory, &[("SKIP_NEAR_INIT", "TRUE")]);
    let request = client().post(format!("{base}/send-ft")).header("content-type", "application/json");
    let request = request.header("prefer", "respond-async").header("idempotency-key", "smoke").body(SMOKE);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let id = id_in(&answer.text().await.unwrap());
    until("it is signed", || async {
        let (_, job) = get(&base, &format!("/transfer/{id}")).await;
        job.contains("txHash").then_some(())
    })
    .await;
    program.signal("KILL");
    assert!(!program.end().success());
    let (program, base) = serve(&directory, &[("SKIP_NEAR_INIT", "TRUE")]);
    assert!(program.output().contains("Pending jobs re-queued from persistence count=1"), "{}", program.output());
    reaches(&base, &id, "finalized").await;
    let (_, again) = get(&base, "/transfer/key/smoke").await;
    assert!(again.contains(&id), "{again}");
}

#[tokio::test]
async fn it_says_that_nothing_is_paid_and_touches_nothing_real() {
    let directory = directory("contract-mock-told");
    let settings = [
        ("MOCK_NEAR", "true"),
        ("NODE_URL", "http://127.0.0.1:1"),
        ("MASTER_ACCOUNT", "payer.near"),
        ("MASTER_ACCOUNT_PRIVATE_KEY", "not a key"),
        ("FT_CONTRACT", "token.near"),
        ("WAIT_UNTIL", "Included"),
    ];
    let (mut program, base) = serve(&directory, &settings);
    let (_, health) = get(&base, "/health").await;
    let health: Value = serde_json::from_str(&health).unwrap();
    assert_eq!(health["status"], "ok");
    assert!(health["mock"].as_str().unwrap().contains("nothing is paid"), "{health}");
    assert!(get(&base, "/metrics").await.1.contains("\nkeyshard_mock 1\n"));
    let transfers: Vec<Value> = (0..50)
        .map(|n| json!({ "receiverId": format!("new{n}.near"), "amount": "1000000000000000000000000" }))
        .collect();
    let (status, answer) = send(&base, json!({ "transfers": transfers }).to_string()).await;
    assert_eq!(status, 200, "{answer}");
    program.signal("TERM");
    assert!(program.end().success());
    let output = program.output();
    assert!(output.contains("MOCK_NEAR=true: mock mode") && output.contains("NOTHING IS PAID"), "{output}");
    let unused = "not used in mock mode: FT_CONTRACT, MASTER_ACCOUNT, MASTER_ACCOUNT_PRIVATE_KEY, NODE_URL";
    assert!(output.contains(unused), "{output}");
    assert!(!output.contains("not a key"));
    assert!(directory.join("data/mock").is_dir() && !directory.join("data/history").exists());
}
