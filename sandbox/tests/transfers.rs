//! Transfers over HTTP: they land once, their answers come when asked for, and a bad one undoes its whole batch.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{ACCOUNT, FT, Node, ft_transfer, join, sign_as};
use near_primitives::serialize::to_base64;
use serde_json::json;

#[tokio::test]
async fn a_batch_lands_once() {
    let node = Node::fast();
    let before = (node.balance("user1.test.near").await, node.balance("user2.test.near").await);
    let tx = node.sign(0, FT, vec![ft_transfer("user1.test.near", "5"), ft_transfer("user2.test.near", "7")]).await;
    let sent = node.send(&tx, "FINAL").await.unwrap();
    assert_eq!(sent["final_execution_status"], "FINAL");
    assert_eq!(sent["status"]["SuccessValue"], "");
    assert_eq!(sent["receipts_outcome"][0]["outcome"]["logs"].as_array().unwrap().len(), 2);
    assert_eq!(node.balance("user1.test.near").await, before.0 + 5);
    assert_eq!(node.balance("user2.test.near").await, before.1 + 7);
    // The same bytes again: the status, not a second payment, although the nonce is used.
    let again = node.send(&tx, "EXECUTED_OPTIMISTIC").await.unwrap();
    assert_eq!(again["transaction_outcome"], sent["transaction_outcome"]);
    assert_eq!(node.balance("user1.test.near").await, before.0 + 5);
}

#[tokio::test]
async fn all_keys_at_once() {
    let node = Node::fast();
    let block = node.final_hash().await;
    let txs: Vec<_> = node
        .keys
        .iter()
        .map(|key| sign_as(ACCOUNT, key, 1, FT, block, vec![ft_transfer("user3.test.near", "1"); 20]))
        .collect();
    let sends = txs.iter().map(|tx| node.send(tx, "FINAL"));
    let mut blocks = std::collections::BTreeSet::new();
    for sent in join(sends).await {
        let sent = sent.unwrap();
        assert_eq!(sent["status"]["SuccessValue"], "");
        blocks.insert(sent["transaction_outcome"]["block_hash"].to_string());
    }
    assert_eq!(node.balance("user3.test.near").await, 240);
    assert!(blocks.len() < 12, "they share blocks");
}

#[tokio::test]
async fn one_bad_transfer_undoes_its_batch() {
    let node = Node::fast();
    let before = node.balance("user1.test.near").await;
    let actions = vec![
        ft_transfer("user1.test.near", "1"),
        ft_transfer("nobody.test.near", "1"),
        ft_transfer("user2.test.near", "1"),
    ];
    let tx = node.sign(0, FT, actions).await;
    let sent = node.send(&tx, "FINAL").await.unwrap();
    let error = &sent["status"]["Failure"]["ActionError"];
    assert_eq!(error["index"], 1);
    assert_eq!(
        error["kind"]["FunctionCallError"]["ExecutionError"],
        "Smart contract panicked: The account nobody.test.near is not registered"
    );
    // The undone action's log stays.
    assert_eq!(sent["receipts_outcome"][0]["outcome"]["logs"].as_array().unwrap().len(), 1);
    assert_eq!(node.balance("user1.test.near").await, before);
}

#[tokio::test]
async fn final_views_lag_optimistic_ones() {
    let node = Node::start(keyshard_sandbox::Config { block_ms: 300, ..Default::default() });
    let tx = node.sign(0, FT, vec![ft_transfer("user1.test.near", "9")]).await;
    node.send(&tx, "EXECUTED_OPTIMISTIC").await.unwrap();
    let args = to_base64(br#"{"account_id":"user1.test.near"}"#);
    let at = |finality: &str| {
        json!({"request_type": "call_function", "finality": finality, "account_id": FT, "method_name": "ft_balance_of",
            "args_base64": args})
    };
    let head = node.rpc("query", at("optimistic")).await.unwrap();
    let last_final = node.rpc("query", at("final")).await.unwrap();
    assert_eq!(head["result"], json!(br#""9""#.to_vec()));
    assert_eq!(last_final["result"], json!(br#""0""#.to_vec()));
    assert_eq!(head["block_height"].as_u64().unwrap() - last_final["block_height"].as_u64().unwrap(), 2);
}
