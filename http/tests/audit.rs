//! `keyshard audit`: clean after runs and kills, and it finds every difference that is made on purpose.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{collections::BTreeMap, path::Path};

use common::{
    by_hand,
    chain::reaches,
    odd_node::{self, Oddity},
    program::Program,
    serving::Stage,
};
use keyshard_engine::history::{History, Settled};
use keyshard_shard::{BatchId, Carried, CryptoHash, Instant, Transfer, TransferId};
use serde_json::{Value, json};
use uuid::Uuid;

const ASYNC: (&str, &str) = ("prefer", "respond-async");

/// Runs it with `--json`; exit code and report.
fn audit(stage: &Stage) -> (Option<i32>, Value) {
    let mut program = stage.run(&["audit", "--json"]);
    let status = program.end();
    let output = program.output();
    (status.code(), serde_json::from_str(&output).unwrap_or_else(|_| panic!("{output}")))
}

/// The journal's files and what is in them.
fn journal(data: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

#[tokio::test]
async fn clean_while_open_after_a_kill_and_when_all_has_settled() {
    let stage = Stage::new("audit-clean", 400, &[("STORAGE_DEPOSIT", "never"), ("JOB_RETRY_BASE_MS", "10")]);
    let serving = stage.serve();
    let mut transfers: Vec<Value> =
        (1..=8).map(|n| json!({ "receiverId": format!("user{n}.test.near"), "amount": n.to_string() })).collect();
    transfers.insert(3, json!({ "receiverId": "nobody.test.near", "amount": "9" }));
    let settled = serving.send(&json!({ "transfers": transfers }), &[]).await;
    assert_eq!(settled.status, 500, "{settled:?}");
    // Everything but the one is told at `WAIT_UNTIL`, which is FINAL.
    let while_serving = stage.run(&["audit"]).end_with_output();
    assert_eq!(while_serving.0, Some(3), "{}", while_serving.1);
    assert!(while_serving.1.contains("is in use by another process"), "{}", while_serving.1);
    let open = serving.send(&json!({ "receiverId": "user1.test.near", "amount": "1" }), &[ASYNC]).await;
    assert_eq!(open.status, 202, "{open:?}");
    serving.kill();

    let before = journal(&stage.data());
    let (code, report) = audit(&stage);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!((&report["finalized"], &report["failed"]), (&json!(8), &json!(1)), "{report}");
    let still_open = report["open"].as_u64().unwrap() + report["open_and_landed"].as_u64().unwrap();
    assert_eq!((still_open, &report["warnings"]), (1, &json!([])), "{report}");
    assert!(journal(&stage.data()) == before, "an audit changes nothing");

    let serving = stage.serve();
    reaches(&serving.base, &open.ids()[0], "finalized").await;
    serving.stop();
    let (code, output) = stage.run(&["audit"]).end_with_output();
    assert_eq!(code, Some(0), "{output}");
    for line in ["           9  finalized, once on chain", "           1  failed, not on chain", "no difference"] {
        assert!(output.lines().any(|found| found == line), "{output}");
    }
}

/// A settled transfer as the history would have it.
fn settled(id: u128, amount: u128, paid_by: &str, position: u16) -> Settled {
    let at = Instant::from_micros(1_760_381_234_567_000);
    Settled {
        transfer: Transfer {
            id: TransferId(id),
            receiver: "user1.test.near".parse().unwrap(),
            amount,
            memo: Some("m".into()),
            key: None,
        },
        accepted_at: at,
        settled_at: at,
        outcome: Ok(()),
        carried: Some(Carried { hash: paid_by.parse().unwrap(), batch: BatchId { at, number: 1 }, position }),
        tried: Vec::new(),
    }
}

/// Puts these into the stage's history.
async fn put(stage: &Stage, all: &[Settled]) {
    let genesis: CryptoHash = by_hand::genesis(&stage.credentials().rpc).await.parse().unwrap();
    History::open(&stage.data().join("history"), genesis).unwrap().put(all).unwrap();
}

#[tokio::test]
async fn every_kind_of_difference_is_found() {
    let stage = Stage::new("audit-differs", 50, &[]);
    let user1 = "user1.test.near";
    let pay = async |amount, key| {
        by_hand::pay(stage.credentials(), key, &[(user1, 100, "first"), (user1, amount, "m")]).await
    };
    let (one, two, three) = (pay(1, 0).await, pay(2, 1).await, pay(2, 0).await);
    let undone = by_hand::pay(stage.credentials(), 1, &[("nobody.test.near", 5, "m")]).await;
    let never = "8nSEn5Jd5HW2RhJUzEjXKVdLdJnbXyU5FTzcpLGCGcuW";
    let failed = Settled { outcome: Err("why".into()), ..settled(5, 1, &one, 1) };
    let doubled = Settled { tried: vec![three.parse().unwrap()], ..settled(6, 2, &two, 1) };
    let tried = Settled { tried: vec![undone.parse().unwrap(), never.parse().unwrap()], ..settled(7, 1, &one, 1) };
    put(
        &stage,
        &[
            settled(1, 1, &one, 1),
            settled(2, 11, &one, 1),
            settled(3, 1, &one, 0),
            settled(4, 5, &undone, 0),
            failed,
            doubled,
            tried,
            settled(8, 1, never, 0),
            settled(9, 1, &one, 2),
        ],
    )
    .await;
    let (code, report) = audit(&stage);
    assert_eq!(code, Some(1), "{report}");
    assert_eq!((&report["finalized"], &report["different"], &report["unchecked"]), (&json!(2), &json!(7), &json!(0)));
    let mut found: BTreeMap<String, Vec<(Option<&str>, &str)>> = BTreeMap::new();
    for difference in report["differences"].as_array().unwrap() {
        let told = (difference["hash"].as_str(), difference["chain"].as_str().unwrap());
        found.entry(difference["job"].as_str().unwrap().to_owned()).or_default().push(told);
    }
    for (id, hash, says) in [
        (2, Some(one.as_str()), "success at FINAL, and pays 1 to user1.test.near (memo \"m\")"),
        (3, Some(one.as_str()), "pays 100 to user1.test.near (memo \"first\")"),
        (4, Some(undone.as_str()), "failed at FINAL"),
        (5, Some(one.as_str()), "success at FINAL, and pays it"),
        (6, Some(three.as_str()), "success at FINAL, and pays it"),
        (6, None, "paid 2 times"),
        (8, Some(never), "not known, to nodes that would know it"),
        (9, Some(one.as_str()), "has no such ft_transfer"),
    ] {
        let told = found.get_mut(&Uuid::from_u128(id).to_string()).unwrap_or_else(|| panic!("{id}: {report}"));
        let place = told.iter().position(|(found, text)| *found == hash && text.contains(says));
        told.remove(place.unwrap_or_else(|| panic!("{id} {says}: {report}")));
    }
    assert!(found.values().all(Vec::is_empty), "{found:?}");
    let (code, output) = stage.run(&["audit"]).end_with_output();
    assert_eq!(code, Some(1), "{output}");
    let line = format!("difference: {} {one}: Keyshard says finalized by it: 11 to {user1}", Uuid::from_u128(2));
    assert!(output.contains(&line) && output.ends_with("there are differences"), "{output}");
}

#[tokio::test]
async fn a_stranger_with_one_of_the_keys_is_named() {
    let stage = Stage::new("audit-stranger", 50, &[]);
    let serving = stage.serve();
    // Of each key something is signed, or it would not be known here.
    for _ in 0..2 {
        let many: Vec<Value> = (0..300).map(|_| json!({ "receiverId": "user1.test.near", "amount": "1" })).collect();
        assert_eq!(serving.send(&json!({ "transfers": many }), &[]).await.status, 200);
    }
    serving.stop();
    let (code, report) = audit(&stage);
    assert_eq!((code, &report["finalized"], &report["warnings"]), (Some(0), &json!(600), &json!([])), "{report}");
    for key in 0..2 {
        by_hand::pay(stage.credentials(), key, &[("user2.test.near", 7, "by hand")]).await;
    }
    let (code, report) = audit(&stage);
    assert_eq!(code, Some(0), "{report}");
    let warnings = report["warnings"].as_array().unwrap();
    assert!(!warnings.is_empty(), "{report}");
    for warning in warnings {
        assert!(warning.as_str().unwrap().starts_with("somebody else uses ed25519:"), "{report}");
    }
}

#[tokio::test]
async fn what_no_node_remembers_cannot_be_checked_and_one_liar_is_not_believed() {
    let sandbox = Stage::new("audit-nodes", 50, &[]);
    let rpc = sandbox.credentials().rpc.clone();
    let paid = by_hand::pay(sandbox.credentials(), 0, &[("user1.test.near", 1, "m")]).await;
    put(&sandbox, &[settled(1, 1, &paid, 0)]).await;
    let forgetful = odd_node::start(&rpc, Oddity::Forgets).await;
    let liar = odd_node::start(&rpc, Oddity::Lies).await;
    let second = odd_node::start(&rpc, Oddity::None).await;
    for (nodes, code, says) in [
        (vec![&rpc], 0, "no difference"),
        (vec![&forgetful], 2, "no node remembers it"),
        (vec![&liar], 1, "a lie"),
        (vec![&rpc, &liar], 2, "the nodes disagree"),
        (vec![&rpc, &forgetful], 2, "only one node still knows it"),
        (vec![&rpc, &second], 0, "no difference"),
    ] {
        let nodes: Vec<&str> = nodes.into_iter().map(String::as_str).collect();
        let settings = [("NEAR_ENV", "sandbox"), ("RPC_URLS", &nodes.join(",")), ("DATA_DIR", "data")];
        // In a thread of its own, since the odd nodes answer from this one.
        let directory = sandbox.directory.clone();
        let settings = settings.map(|(name, value)| (name, value.to_owned()));
        let run = move || {
            let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
            Program::start(&directory, &["audit"], &settings).end_with_output()
        };
        let (found, output) = tokio::task::spawn_blocking(run).await.unwrap();
        assert_eq!(found, Some(code), "{nodes:?}\n{output}");
        assert!(output.contains(says), "{nodes:?}\n{output}");
    }
}

#[tokio::test]
async fn what_cannot_be_done_says_why_and_exits_3() {
    let stage = Stage::new("audit-not", 50, &[]);
    let (code, output) = stage.run(&["audit"]).end_with_output();
    assert_eq!(code, Some(3), "{output}");
    assert!(output.starts_with("keyshard: there is no data directory data"), "{output}");
    assert!(!stage.data().exists());
    std::fs::create_dir(stage.data()).unwrap();
    let (code, output) = stage.run(&["audit"]).end_with_output();
    assert_eq!(code, Some(3), "{output}");
    assert!(output.contains("holds no journal and no history"), "{output}");

    // A journal of another chain: another sandbox has another genesis, as it began at another time.
    let serving = stage.serve();
    assert_eq!(serving.send(&json!({ "receiverId": "user1.test.near", "amount": "1" }), &[]).await.status, 200);
    serving.stop();
    let other = Stage::new("audit-other", 50, &[]);
    let settings = [("NEAR_ENV", "sandbox"), ("NODE_URL", other.credentials().rpc.as_str()), ("DATA_DIR", "data")];
    std::fs::write(stage.directory.join("jobs.jsonl"), "").unwrap();
    for (arguments, failure) in [(&["audit"][..], 3), (&["import", "jobs.jsonl"], 1)] {
        let (code, output) = Program::start(&stage.directory, arguments, &settings).end_with_output();
        assert_eq!(code, Some(failure), "{output}");
        assert!(output.contains("is of another chain"), "{output}");
    }
}
