//! Hostile and broken requests: a clear refusal, and the node goes on.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use common::{ACCOUNT, FT, Node, call, encoded, ft_transfer, join, sign_as};
use keyshard_sandbox::{Config, Sandbox, StartError};
use serde_json::json;

/// Sends raw bytes and reads until the node closes or `enough` bytes came.
fn raw(node: &Node, bytes: &[u8], enough: usize) -> String {
    let address = node.sandbox.rpc_url().replace("http://", "");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The node may answer and close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut part = [0; 4_096];
    while answer.len() < enough {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(count) => answer.extend_from_slice(&part[..count]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn broken_http_and_json_are_refused_and_disturb_nothing() {
    let node = Node::fast();
    assert!(raw(&node, b"\x00\x01garbage\r\n\r\n", 12).starts_with("HTTP/1.1 400"));
    // A chunked body without a stated length, over the limit.
    let mut chunked =
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..40 {
        chunked.extend_from_slice(b"10000\r\n");
        chunked.resize(chunked.len() + 0x1_0000, b' ');
        chunked.extend_from_slice(b"\r\n");
    }
    assert!(raw(&node, &chunked, 12).starts_with("HTTP/1.1 413"));
    // Half a request, then the client is gone; and one that stays silent.
    let address = node.sandbox.rpc_url().replace("http://", "");
    let mut gone = TcpStream::connect(&address).unwrap();
    gone.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{").unwrap();
    drop(gone);
    let silent = TcpStream::connect(&address).unwrap();
    for body in
        ["", "null", "[]", "7", "{}", "\"x\"", r#"{"jsonrpc":"1.0","id":1,"method":"status"}"#, &"[".repeat(100_000)]
    {
        let answer = node.http("POST", "/", Some("application/json"), body.as_bytes().to_vec()).await;
        assert_eq!(answer.status, 400, "{body:.20}: {answer:?}");
    }
    let answer = node.http("POST", "/", Some("application/json"), vec![0xff, 0xfe]).await;
    assert_eq!(answer.status, 400);
    assert_eq!(node.http("GET", "/nothing", None, Vec::new()).await.status, 404);
    assert_eq!(node.http("DELETE", "/", None, Vec::new()).await.status, 405);
    let answer = node.http("POST", "/", None, b"{}".to_vec()).await;
    assert_eq!(answer.status, 415);
    assert_eq!(node.rpc("health", json!([])).await.unwrap(), json!(null));
    drop(silent);
}

#[tokio::test]
async fn wrong_parameters_are_parse_errors() {
    let node = Node::fast();
    let cases = [
        ("send_tx", json!({})),
        ("send_tx", json!([])),
        ("send_tx", json!(null)),
        ("send_tx", json!({"signed_tx_base64": 1})),
        ("send_tx", json!({"signed_tx_base64": "AAAA", "wait_until": "SOMETIME"})),
        ("send_tx", json!({"signed_tx_base64": ""})),
        ("broadcast_tx_async", json!(["!"])),
        ("tx", json!(["a", "b", "c"])),
        ("tx", json!(["not a hash", ACCOUNT])),
        ("tx", json!({"tx_hash": "11111111111111111111111111111111", "sender_account_id": "NOT AN ACCOUNT"})),
        ("block", json!([])),
        ("block", json!({"finality": "soon"})),
        ("block", json!({"block_id": -1})),
        ("block", json!({"block_id": 1.5})),
        ("block", json!({"block_id": "O0Il"})),
        ("chunk", json!([])),
        ("query", json!(["access_key"])),
        ("query", json!(["access_key/test.near/ed25519:short", ""])),
        ("query", json!({"finality": "final", "request_type": "view_state", "account_id": FT, "prefix_base64": ""})),
        ("query", json!({"finality": "final", "request_type": "view_account", "account_id": "a".repeat(65)})),
        (
            "query",
            json!({"finality": "final", "request_type": "call_function", "account_id": FT, "method_name": "x", "args_base64": "#"}),
        ),
        ("changes", json!({"changes_type": "data_changes", "finality": "final"})),
        ("sandbox_patch_state", json!({"records": [{"Contract": {"account_id": FT, "code": ""}}]})),
        ("sandbox_fast_forward", json!({"delta_height": 0})),
        ("sandbox_fast_forward", json!({"delta_height": u64::MAX})),
        ("sandbox_fast_forward", json!({"delta_height": -1})),
    ];
    for (method, params) in cases {
        let answer = node.rpc_full(method, params.clone()).await;
        assert_eq!(answer.status, 400, "{method} {params}: {}", answer.body);
        assert_eq!(answer.json()["error"]["cause"]["name"], "PARSE_ERROR", "{method} {params}");
    }
}

#[tokio::test]
async fn old_and_unknown_blocks_are_told_apart() {
    let node = Node::start(Config { block_ms: 10, ..Config::default() });
    let view =
        |block: serde_json::Value| json!({"request_type": "view_account", "account_id": ACCOUNT, "block_id": block});
    node.rpc("sandbox_fast_forward", json!({"delta_height": 100})).await.unwrap();
    let skipped = node.rpc_full("block", json!({"block_id": 50})).await;
    assert_eq!((skipped.status, skipped.json()["error"]["cause"]["name"].clone()), (422, json!("UNKNOWN_BLOCK")));
    let unknown = node.rpc("query", view(json!(999_999_999))).await.unwrap_err();
    assert_eq!(unknown["cause"]["name"], "UNKNOWN_BLOCK");
    while node.rpc("status", json!([])).await.unwrap()["sync_info"]["latest_block_height"].as_u64().unwrap() < 130 {
        node.rpc("sandbox_patch_state", json!({"records": []})).await.unwrap();
    }
    let old = node.rpc("query", view(json!(1))).await.unwrap_err();
    assert_eq!(old["cause"]["name"], "GARBAGE_COLLECTED_BLOCK");
    assert!(node.rpc("block", json!({"block_id": 1})).await.is_ok(), "its header is still there");
}

#[tokio::test]
async fn the_loser_of_a_nonce_hears_of_it_while_it_waits() {
    let node = Node::start(Config { block_ms: 150, ..Config::default() });
    let block = node.final_hash().await;
    let rivals: Vec<_> = ["user1.test.near", "user2.test.near"]
        .iter()
        .map(|user| sign_as(ACCOUNT, &node.keys[0], 1, FT, block, vec![ft_transfer(user, "1")]))
        .collect();
    let answers = join(rivals.iter().map(|tx| node.send(tx, "FINAL"))).await;
    let (won, lost): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 1));
    let error = lost[0].as_ref().unwrap_err();
    assert_eq!(
        error["data"]["TxExecutionError"]["InvalidTxError"]["InvalidNonce"],
        json!({"tx_nonce": 1, "ak_nonce": 1})
    );
    assert_eq!(node.balance("user1.test.near").await + node.balance("user2.test.near").await, 1);
}

#[tokio::test]
async fn a_contract_meets_bad_arguments_with_its_own_words() {
    let node = Node::fast();
    let said = |sent: &serde_json::Value| {
        sent["status"]["Failure"]["ActionError"]["kind"]["FunctionCallError"]["ExecutionError"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let cases = [
        (json!({"receiver_id": "user1.test.near", "amount": 5}), "invalid type: integer `5`, expected a string"),
        (json!({"receiver_id": "user1.test.near", "amount": "-1"}), "invalid digit found in string"),
        (json!({"receiver_id": "user1.test.near", "amount": "1e21"}), "invalid digit found in string"),
        (
            json!({"receiver_id": "user1.test.near", "amount": "340282366920938463463374607431768211456"}),
            "number too large",
        ),
        (json!({"receiver_id": "NOT VALID", "amount": "1"}), "NOT VALID"),
        (json!({"amount": "1"}), "missing field `receiver_id`"),
    ];
    let key = &node.keys[0];
    let block = node.final_hash().await;
    let txs: Vec<_> = (1..)
        .zip(&cases)
        .map(|(nonce, (args, _))| {
            sign_as(ACCOUNT, key, nonce, FT, block, vec![call("ft_transfer", args.clone(), 5_000_000_000_000, 1)])
        })
        .collect();
    // One request carries them all in order of their nonces; then each is asked for.
    for tx in &txs {
        node.rpc("broadcast_tx_async", json!([encoded(tx)])).await.unwrap();
    }
    for (tx, (args, expected)) in txs.iter().zip(&cases) {
        let sent = node
            .rpc("tx", json!({"tx_hash": tx.get_hash(), "sender_account_id": ACCOUNT, "wait_until": "EXECUTED"}))
            .await
            .unwrap();
        let said = said(&sent);
        assert!(
            said.starts_with("Smart contract panicked: Failed to deserialize input from JSON. Error: `"),
            "{args}: {said}"
        );
        assert!(said.contains(expected), "{args}: {said}");
    }
}

#[test]
fn starting_says_what_is_wrong() {
    let first = Sandbox::start(Config::default()).unwrap();
    let port = first.rpc_url().rsplit(':').next().unwrap().parse().unwrap();
    assert!(matches!(Sandbox::start(Config { rpc_port: port, ..Config::default() }), Err(StartError::Listen { .. })));
    for config in [
        Config { block_ms: 0, ..Config::default() },
        Config { keys: 1_000_000, ..Config::default() },
        Config { transaction_validity_period: 1_000_000, ..Config::default() },
    ] {
        assert!(matches!(Sandbox::start(config), Err(StartError::Config(_))));
    }
    // Stopping frees the port.
    first.stop();
    let again = Sandbox::start(Config { rpc_port: port, ..Config::default() }).unwrap();
    assert!(again.rpc_url().ends_with(&port.to_string()));
}

#[test]
fn the_handle_may_be_shared() {
    fn shared<T: Send + Sync>() {}
    shared::<Sandbox>();
}
