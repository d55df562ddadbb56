//! `keyshard import`: what the chain proves goes into the history, everything else to a human, nothing is paid.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeMap;

use common::{by_hand, serving::Stage};
use serde_json::{Value, json};

/// Lines of a `jobs.jsonl` as the Node service writes them.
#[derive(Default)]
struct Jobs(String);

impl Jobs {
    fn line(mut self, line: &str) -> Self {
        self.0 += line;
        self.0 += "\n";
        self
    }

    fn created(self, id: &str, receiver: &str, amount: &str, memo: Option<&str>) -> Self {
        let mut job = json!({
            "id": id, "createdAt": "2025-10-13T18:47:14.567Z", "status": "queued",
            "receiverId": receiver, "amount": amount, "attempts": 0,
        });
        if let Some(memo) = memo {
            job["memo"] = memo.into();
        }
        self.line(&json!({ "type": "job", "action": "create", "job": job }).to_string())
    }

    fn patched(self, id: &str, patch: &Value) -> Self {
        self.line(&json!({ "type": "job", "action": "update", "jobId": id, "patch": patch }).to_string())
    }

    fn processing(self, id: &str, batch: &str) -> Self {
        self.patched(id, &json!({ "status": "processing", "attempts": 1, "batchId": batch }))
    }

    fn submitted(self, id: &str, batch: &str, hash: &str) -> Self {
        self.processing(id, batch).patched(id, &json!({ "status": "submitted", "txHash": hash, "batchId": batch }))
    }
}

fn id(n: u32) -> String {
    format!("67e55044-10b1-426f-9247-bb680e5fe0{n:02}")
}

/// Runs it; exit code and output.
fn import(stage: &Stage, more: &[&str]) -> (Option<i32>, String) {
    let mut program = stage.run(&[&["import", "jobs.jsonl"], more].concat());
    let status = program.end();
    (status.code(), program.output())
}

/// The list for a human: reasons by id.
fn unresolved(stage: &Stage) -> BTreeMap<String, Value> {
    let text = std::fs::read_to_string(stage.directory.join("unresolved.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (line["id"].as_str().unwrap().to_owned(), line)).collect()
}

#[tokio::test]
async fn what_is_proven_is_known_and_what_is_not_goes_to_a_human() {
    let stage = Stage::new("import", 50, &[]);
    let credentials = stage.credentials();
    let (user1, user2) = ("user1.test.near", "user2.test.near");
    let paid = by_hand::pay(credentials, 0, &[(user1, 1, "a"), (user2, 2, "")]).await;
    let undone = by_hand::pay(credentials, 0, &[(user1, 4, "d"), ("nobody.test.near", 4, "d")]).await;
    let unknown = "8nSEn5Jd5HW2RhJUzEjXKVdLdJnbXyU5FTzcpLGCGcuW";
    let (batch, other) = ("batch-1760381234600-9", "batch-1760381234700-1");
    let jobs = Jobs::default()
        .created(&id(1), user1, "1", Some("a"))
        .created(&id(2), user2, "2", None)
        .submitted(&id(1), batch, &paid)
        .processing(&id(2), batch)
        // What the Node service's reconciler did to jobs that were paid.
        .patched(&id(1), &json!({ "status": "failed", "lastError": "Timeout waiting for finalization" }))
        .created(&id(3), user1, "1", Some("a"))
        .submitted(&id(3), "batch-1760381234600-10", &paid)
        .created(&id(4), user1, "4", Some("d"))
        .submitted(&id(4), other, &undone)
        .created(&id(5), user1, "5", None)
        .created(&id(6), user1, "6", None)
        .patched(&id(6), &json!({ "status": "failed", "attempts": 5, "lastError": "fetch failed" }))
        .created(&id(7), user1, "7", None)
        .submitted(&id(7), other, unknown)
        .patched(&id(8), &json!({ "status": "finalized", "txHash": paid }))
        .created(&id(9), user2, "2", Some("another memo"))
        .submitted(&id(9), batch, &paid)
        .line(r#"{"type":"job","action":"create","job":{"id":"67e5"#);
    std::fs::write(stage.directory.join("jobs.jsonl"), jobs.0).unwrap();

    let (code, output) = import(&stage, &["--dry-run"]);
    assert_eq!(code, Some(2), "{output}");
    assert!(output.contains("dry run: nothing was changed"), "{output}");
    assert!(!stage.data().exists() && !stage.directory.join("unresolved.jsonl").exists());

    for proven in [2, 0] {
        let (code, output) = import(&stage, &[]);
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains(&format!("{proven} jobs are in the history now")), "{output}");
        assert!(output.contains("1 of 23 lines cannot be read: 23."), "{output}");
        let listed = unresolved(&stage);
        let why: Vec<(&str, &str)> =
            listed.iter().map(|(id, line)| (&id[id.len() - 1..], line["why"].as_str().unwrap())).collect();
        let expected = [
            ("3", "not-in-transaction"),
            ("4", "transaction-failed"),
            ("5", "no-transaction"),
            ("6", "no-transaction"),
            ("7", "transaction-unknown"),
            ("8", "partial"),
            ("9", "not-in-transaction"),
        ];
        assert_eq!(why, expected, "{output}");
        let four = &listed[&id(4)];
        assert_eq!((&four["receiver"], &four["amount"], &four["memo"]), (&json!(user1), &json!("4"), &json!("d")));
        assert_eq!(four["txHashes"], json!([undone]));
    }

    // Known to whoever asks, under the old ids; and nothing is paid again, nor for the first time.
    let serving = stage.serve();
    for (n, amount, memo) in [(1, "1", json!("a")), (2, "2", Value::Null)] {
        let (status, answer) = serving.get(&format!("/transfer/{}", id(n))).await;
        assert_eq!((status, &answer["job"]["status"]), (200, &json!("finalized")), "{answer}");
        assert_eq!((&answer["job"]["amount"], &answer["job"]["memo"]), (&json!(amount), &memo));
        assert_eq!((&answer["job"]["txHash"], &answer["job"]["batchId"]), (&json!(paid), &json!(batch)));
        assert_eq!(answer["job"]["createdAt"], "2025-10-13T18:47:14.567Z");
    }
    let (_, answer) = serving.get(&format!("/transfer/tx/{paid}")).await;
    let ids: Vec<&str> = answer["transfers"].as_array().unwrap().iter().map(|t| t["jobId"].as_str().unwrap()).collect();
    assert_eq!(ids, [id(1), id(2)]);
    for n in 3..10 {
        assert_eq!(serving.get(&format!("/transfer/{}", id(n))).await.0, 404);
    }
    let (code, output) = import(&stage, &[]);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("is in use by another process"), "{output}");
    let new = serving.send(&json!({ "receiverId": "user9.test.near", "amount": "1" }), &[]).await;
    assert_eq!(new.status, 200, "{new:?}");
    for (user, amount) in [(user1, 1), (user2, 2), ("user9.test.near", 1)] {
        assert_eq!(stage.balance(user).await, amount, "{user}");
    }
    serving.stop();
}

#[tokio::test]
async fn exit_0_when_everything_is_proven() {
    let stage = Stage::new("import-all", 50, &[]);
    let (user1, user2) = ("user1.test.near", "user2.test.near");
    let first = by_hand::pay(stage.credentials(), 0, &[(user1, 1, ""), (user2, 2, "m")]).await;
    // Paid again, as the Node service does after a lost answer.
    let second = by_hand::pay(stage.credentials(), 1, &[(user1, 1, "")]).await;
    let jobs = Jobs::default()
        .created(&id(1), user1, "1", None)
        .created(&id(2), user2, "2", Some("m"))
        .submitted(&id(1), "batch-1760381234600-1", &first)
        .submitted(&id(2), "batch-1760381234600-1", &first)
        .submitted(&id(1), "batch-1760381234600-2", &second);
    std::fs::write(stage.directory.join("jobs.jsonl"), jobs.0).unwrap();
    for proven in [2, 0] {
        let (code, output) = import(&stage, &["--unresolved", "for-a-human.jsonl"]);
        assert_eq!(code, Some(0), "{output}");
        assert!(output.contains(&format!("{proven} jobs are in the history now")), "{output}");
        assert_eq!(std::fs::read(stage.directory.join("for-a-human.jsonl")).unwrap(), b"");
        let twice = format!("paid more than once by the Node service: {:?} by {second} and {first}", id(1));
        assert_eq!(output.contains(&twice), proven == 2, "{output}");
    }
    std::fs::remove_file(stage.directory.join("jobs.jsonl")).unwrap();
    let (code, output) = import(&stage, &[]);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.starts_with("keyshard: cannot open jobs.jsonl"), "{output}");
}
