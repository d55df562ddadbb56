//! Every recorded exchange of a real node, asked again of a running sandbox: the same kind of request must come back
//! with the same HTTP status, content type, keys, JSON types, error names and contract messages. Values that depend on
//! the chain's own history (hashes, heights, nonces, balances) may differ.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{ACCOUNT, Answer, FT, Node, encoded, ft_transfer, join, sign_as};
use keyshard_sandbox::Config;
use near_crypto::{KeyType, PublicKey, SecretKey};
use near_primitives::action::Action;
use near_primitives::hash::CryptoHash;
use near_primitives::serialize::from_base64;
use near_primitives::transaction::SignedTransaction;
use serde_json::{Map, Value, json};

/// Recordings that the sandbox does not answer alike, and why.
const NOT_SUPPORTED: &[(&str, &str)] = &[];

/// Lists that a real node fills and the sandbox leaves empty.
const MAY_BE_EMPTY: &[&str] = &["proof"];

/// How much the gas of a recorded call may differ, in parts of a thousand: the real one depends on the shape of the
/// trie, which is not modelled.
const GAS_TOLERANCE_PERMILLE: u64 = 25;

#[derive(Debug)]
struct Recording {
    /// As `037-send-final`.
    name: String,
    request: Value,
    http_status: u16,
    content_type: Option<String>,
    response: Value,
}

fn recordings() -> Vec<Recording> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/neard");
    let mut all: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut file: Value = serde_json::from_str(&text).unwrap();
            Recording {
                name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
                request: file["request"].take(),
                http_status: u16::try_from(file["http_status"].as_u64().unwrap()).unwrap(),
                content_type: file["content_type"].as_str().map(str::to_owned),
                response: file["response"].take(),
            }
        })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

#[tokio::test]
async fn recorded_requests_are_answered_alike() {
    let recordings = recordings();
    assert_eq!(recordings.len(), 95);
    let mut stage = Stage::set().await;
    let mut differences = Vec::new();
    for recording in &recordings {
        if NOT_SUPPORTED.iter().any(|(name, _)| *name == recording.name) {
            continue;
        }
        let Some(answer) = stage.play(recording).await else {
            differences.push(format!("{}: not played, and not in NOT_SUPPORTED", recording.name));
            continue;
        };
        let found = differ(recording, &answer);
        if !found.is_empty() {
            differences.push(format!("{}:\n  {}\n  body {}", recording.name, found.join("\n  "), answer.body));
        }
    }
    for (name, _) in NOT_SUPPORTED {
        assert!(recordings.iter().any(|recording| recording.name == *name), "{name} is not a recording");
    }
    assert!(differences.is_empty(), "{} recordings differ\n{}", differences.len(), differences.join("\n"));
}

/// The sandbox, and what the recorded sequence builds on.
struct Stage {
    node: Node,
    /// Of the transaction that 038 sends and 039-045 ask about.
    async_tx: Option<Arc<SignedTransaction>>,
    /// Of the transaction that 030 sends and 031-032 ask about.
    none_tx: Option<Arc<SignedTransaction>>,
    /// Of the one that 033 sends, whose nonce 034 uses again.
    included_tx: Option<Arc<SignedTransaction>>,
    /// Refused for its nonce: 060-062.
    stale_tx: Option<Arc<SignedTransaction>>,
    /// Of a nonce far too large: 063-064.
    large_tx: Option<Arc<SignedTransaction>>,
    /// A reference block that 094 makes too old.
    old_block: CryptoHash,
    call_key: SecretKey,
}

impl Stage {
    async fn set() -> Self {
        let node = Node::start(Config { block_ms: 120, ..Config::default() });
        let call_key = SecretKey::from_seed(KeyType::ED25519, "a function-call key");
        // Three blocks, so that "final" is not genesis.
        while node.rpc("block", json!({"finality": "final"})).await.unwrap()["header"]["height"] == 0 {
            node.rpc("sandbox_patch_state", json!({"records": []})).await.unwrap();
        }
        let old_block = node.final_hash().await;
        Self {
            node,
            async_tx: None,
            none_tx: None,
            included_tx: None,
            stale_tx: None,
            large_tx: None,
            old_block,
            call_key,
        }
    }

    /// Brings about the recorded situation and asks the recorded question; none if it does not know how.
    async fn play(&mut self, recording: &Recording) -> Option<Answer> {
        let request = &recording.request;
        let body = &request["body"];
        let method = request["body"]["method"].as_str().unwrap_or_default();
        let number: u32 = recording.name[..3].parse().unwrap();
        match number {
            31 => return Some(self.ask_just_sent(body).await),
            93 => return Some(self.ask_just_patched(body).await),
            // The envelope's own errors, and plain GETs: as they are.
            1 | 2 | 86..=91 => return Some(self.raw(number, request).await),
            _ => {}
        }
        let mut body = body.clone();
        let params = &mut body["params"];
        match method {
            "status"
            | "health"
            | "gas_price"
            | "no_such_method"
            | "EXPERIMENTAL_protocol_config"
            | "sandbox_patch_state"
            | "sandbox_fast_forward" => {}
            "block" => {
                let block = self.final_block().await;
                substitute_block(params, &block);
            }
            "chunk" => {
                let block = self.final_block().await;
                if let Some(id) = params.get_mut("chunk_id") {
                    *id = block["chunks"][0]["chunk_hash"].clone();
                }
                substitute_block(params, &block);
            }
            "query" => self.substitute_query(number, params),
            "changes" => {
                let tx = self.async_tx.clone()?;
                let status = self.node.rpc("tx", by_hash(&tx, "FINAL")).await.unwrap();
                params["block_id"] = status["transaction_outcome"]["block_hash"].clone();
                params["keys"][0]["public_key"] = json!(tx.transaction.public_key().to_string());
            }
            "tx" | "EXPERIMENTAL_tx_status" => {
                if number == 32 {
                    // Recorded 5 s after the send.
                    self.node.rpc("tx", by_hash(self.none_tx.as_ref()?, "FINAL")).await.unwrap();
                }
                self.substitute_tx(number, params)?;
            }
            "send_tx" | "broadcast_tx_async" | "broadcast_tx_commit" => self.substitute_send(number, params).await?,
            _ => return None,
        }
        Some(self.node.http("POST", "/", Some("application/json"), body.to_string().into_bytes()).await)
    }

    async fn raw(&self, number: u32, request: &Value) -> Answer {
        let method = request["http_method"].as_str().unwrap();
        let path = request["path"].as_str().unwrap();
        let body = match number {
            86 => request["body"]["raw"].as_str().unwrap().as_bytes().to_vec(),
            // Recorded cut.
            91 => json!({"jsonrpc": "2.0", "id": 1, "method": "status", "params": ["x".repeat(3 << 20)]})
                .to_string()
                .into_bytes(),
            _ if request.get("body").is_none() => Vec::new(),
            _ => request["body"].to_string().into_bytes(),
        };
        let kind = match number {
            1 | 2 | 90 => None,
            89 => Some("text/plain"),
            _ => Some("application/json"),
        };
        self.node.http(method, path, kind, body).await
    }

    async fn final_block(&self) -> Value {
        self.node.rpc("block", json!({"finality": "final"})).await.unwrap()
    }

    fn substitute_query(&self, number: u32, params: &mut Value) {
        let key = self.node.keys[0].public_key();
        match number {
            16 => params["public_key"] = json!(key),
            19 => params[0] = json!(format!("access_key/{ACCOUNT}/{key}")),
            _ => {}
        }
    }

    fn substitute_tx(&mut self, number: u32, params: &mut Value) -> Option<()> {
        let tx = match number {
            31 | 32 => self.none_tx.clone()?,
            39..=42 => self.async_tx.clone()?,
            62 => self.stale_tx.clone()?,
            64 => self.large_tx.clone()?,
            // An unknown hash is one.
            82 | 83 => return Some(()),
            _ => return None,
        };
        if params.is_array() {
            params[0] = json!(tx.get_hash());
        } else if params.get("tx_hash").is_some() {
            params["tx_hash"] = json!(tx.get_hash());
        } else {
            params["signed_tx_base64"] = json!(encoded(&tx));
        }
        Some(())
    }

    async fn substitute_send(&mut self, number: u32, params: &mut Value) -> Option<()> {
        let text = if params.is_array() { &params[0] } else { &params["signed_tx_base64"] };
        let text = text.as_str().unwrap().to_owned();
        if matches!(number, 71 | 72) {
            return Some(());
        }
        let tx = match number {
            43 | 44 => self.async_tx.clone()?,
            61 => self.stale_tx.clone()?,
            _ => self.again(number, &decode(&text)).await,
        };
        match number {
            30 => self.none_tx = Some(Arc::clone(&tx)),
            33 => self.included_tx = Some(Arc::clone(&tx)),
            38 => self.async_tx = Some(Arc::clone(&tx)),
            60 => self.stale_tx = Some(Arc::clone(&tx)),
            63 => self.large_tx = Some(Arc::clone(&tx)),
            _ => {}
        }
        let text = json!(encoded(&tx));
        if params.is_array() {
            params[0] = text;
        } else {
            params["signed_tx_base64"] = text;
        }
        Some(())
    }

    /// The recorded transaction, signed for this chain: same receiver and actions, and the fault that was recorded.
    async fn again(&self, number: u32, recorded: &SignedTransaction) -> Arc<SignedTransaction> {
        let transaction = &recorded.transaction;
        let mut actions = transaction.actions().to_vec();
        let mut block = self.node.final_hash().await;
        let mut signer = ACCOUNT;
        // One key a recorded situation, so that they do not wait for each other.
        let index = match number {
            30..=37 => 0,
            38 => 1,
            46..=50 => 2,
            51..=59 => 3,
            _ => 4,
        };
        let mut key = self.node.keys[index].clone();
        let used = self.node.nonce(index).await;
        let mut nonce = used + 1;
        match number {
            34 => nonce = self.included_tx.as_ref().unwrap().transaction.nonce().nonce(),
            60 => nonce = used,
            63 => nonce = 1_000_000_000_000_000,
            65 => block = CryptoHash::hash_bytes(b"never a block"),
            68 => key = SecretKey::from_seed(KeyType::ED25519, "a key of nobody"),
            69 => {
                signer = "nobody.test.near";
                nonce = 1;
            }
            74 | 77 => replace_key(&mut actions, &self.call_key),
            75 | 76 => {
                key = self.call_key.clone();
                nonce = 1_000_000_000;
            }
            95 => block = self.old_block,
            _ => {}
        }
        let tx = sign_as(signer, &key, nonce, transaction.receiver_id().as_str(), block, actions);
        if number == 70 {
            let other = self.node.keys[5].sign(tx.get_hash().as_ref());
            return Arc::new(SignedTransaction::new(other, tx.transaction.clone()));
        }
        tx
    }

    /// 031: right after a send, before the next block. A block may come in between; then it is tried again.
    async fn ask_just_sent(&mut self, body: &Value) -> Answer {
        for _ in 0..20 {
            let tx = self.node.sign(6, FT, vec![ft_transfer("user1.test.near", "1")]).await;
            self.node.rpc("sandbox_patch_state", json!({"records": []})).await.unwrap();
            self.node.send(&tx, "NONE").await.unwrap();
            let answer = self.node.rpc_full(body["method"].as_str().unwrap(), by_hash(&tx, "NONE")).await;
            if answer.json().get("error").is_some() {
                return answer;
            }
        }
        panic!("twenty transactions were included faster than they could be asked for");
    }

    /// 093: right after a patch, which is not final yet. Two blocks may come in between; then it is tried again.
    async fn ask_just_patched(&mut self, body: &Value) -> Answer {
        for number in 0..20 {
            let mut params = body["params"].clone();
            if number > 0 {
                let key = fresh_key(number);
                params["public_key"] = json!(key);
                let access_key = json!({"nonce": 7, "permission": "FullAccess"});
                let record = json!({"account_id": params["account_id"], "public_key": key, "access_key": access_key});
                self.node.rpc("sandbox_patch_state", json!({"records": [{"AccessKey": record}]})).await.unwrap();
            }
            let answer = self.node.rpc_full("query", params).await;
            if answer.json()["result"].get("error").is_some() {
                return answer;
            }
        }
        panic!("twenty patches were final before they could be asked for");
    }
}

/// A public key that no one else has.
fn fresh_key(number: usize) -> PublicKey {
    SecretKey::from_seed(KeyType::ED25519, &format!("fresh {number}")).public_key()
}

fn by_hash(tx: &SignedTransaction, wait: &str) -> Value {
    json!({"tx_hash": tx.get_hash(), "sender_account_id": ACCOUNT, "wait_until": wait})
}

fn decode(text: &str) -> SignedTransaction {
    borsh::from_slice(&from_base64(text).unwrap()).unwrap()
}

fn substitute_block(params: &mut Value, block: &Value) {
    if let Some(first) = params.get_mut(0) {
        *first = block["header"]["hash"].clone();
    }
    if let Some(id) = params.get_mut("block_id") {
        if id.is_string() {
            *id = block["header"]["hash"].clone();
        } else if id.as_u64().unwrap() < 1_000_000 {
            *id = block["header"]["height"].clone();
        }
    }
}

fn replace_key(actions: &mut [Action], key: &SecretKey) {
    for action in actions {
        match action {
            Action::AddKey(add) => add.public_key = key.public_key(),
            Action::DeleteKey(delete) => delete.public_key = key.public_key(),
            _ => {}
        }
    }
}

// --- comparing ---

fn differ(recording: &Recording, answer: &Answer) -> Vec<String> {
    let mut found = Vec::new();
    if answer.status != recording.http_status {
        found.push(format!("HTTP status {} instead of {}", answer.status, recording.http_status));
    }
    if answer.content_type != recording.content_type {
        found.push(format!("content type {:?} instead of {:?}", answer.content_type, recording.content_type));
    }
    if let Some(text) = recording.response.get("not_json") {
        if answer.body != text.as_str().unwrap() {
            found.push(format!("text {:?} instead of {text}", answer.body));
        }
    } else {
        match serde_json::from_str(&answer.body) {
            Ok(ours) => compare("", &recording.response, &ours, &mut found),
            Err(error) => found.push(format!("not JSON: {error}")),
        }
    }
    found
}

/// Fields whose text must be the same: names, kinds, and what the contract says.
const SAME_TEXT: &[&str] = &[
    "name",
    "data",
    "error",
    "message",
    "type",
    "cost_category",
    "final_execution_status",
    "ExecutionError",
    "SuccessValue",
    "method_name",
    "args",
    "error_message",
    "permission",
    "executor_id",
    "predecessor_id",
    "receiver_id",
    "jsonrpc",
    "account_id",
    "requested_account_id",
];

fn compare(path: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    let field = path.rsplit('.').next().unwrap_or_default();
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => compare_objects(path, theirs, ours, found),
        (Value::Array(theirs), Value::Array(ours)) => compare_arrays(path, theirs, ours, found),
        (Value::String(theirs), Value::String(ours)) => {
            if SAME_TEXT.contains(&field) && words(theirs) != words(ours) {
                found.push(format!("{path}: {ours:?} instead of {theirs:?}"));
            }
        }
        (Value::Number(theirs), Value::Number(ours)) => {
            let same_kind = theirs.is_f64() == ours.is_f64();
            if !same_kind || (matches!(field, "code" | "index" | "version" | "limit") && theirs != ours) {
                found.push(format!("{path}: {ours} instead of {theirs}"));
            }
            if field == "gas_burnt" {
                let (theirs, ours) = (theirs.as_u64().unwrap(), ours.as_u64().unwrap());
                if theirs.abs_diff(ours) > theirs / 1_000 * GAS_TOLERANCE_PERMILLE {
                    found.push(format!("{path}: gas {ours} instead of {theirs}"));
                }
            }
        }
        (Value::Bool(_), Value::Bool(_)) | (Value::Null, Value::Null) => {}
        _ => found.push(format!("{path}: {ours} instead of {theirs}")),
    }
}

/// A text without hashes, and without what a parser of another version says about the same bytes.
fn words(text: &str) -> Vec<&str> {
    let text = text.split(" due to: ").next().unwrap_or_default();
    text.split_whitespace().filter(|word| !(40..=52).contains(&word.len())).collect()
}

fn compare_objects(path: &str, theirs: &Map<String, Value>, ours: &Map<String, Value>, found: &mut Vec<String>) {
    for (key, value) in theirs {
        match ours.get(key) {
            Some(own) => compare(&format!("{path}.{key}"), value, own, found),
            None => found.push(format!("{path}: no {key}")),
        }
    }
    for key in ours.keys().filter(|key| !theirs.contains_key(*key)) {
        found.push(format!("{path}: {key} is too much"));
    }
}

fn compare_arrays(path: &str, theirs: &[Value], ours: &[Value], found: &mut Vec<String>) {
    let field = path.rsplit('.').next().unwrap_or_default();
    if ours.is_empty() && !theirs.is_empty() && !MAY_BE_EMPTY.contains(&field) {
        found.push(format!("{path}: empty instead of {} items", theirs.len()));
    }
    if theirs.is_empty() && !ours.is_empty() {
        found.push(format!("{path}: {} items instead of none", ours.len()));
    }
    // What happened in the transaction must have happened here, in the same order; other lists are samples.
    let ordered = ["receipts_outcome", "receipts", "actions", "logs", "receipt_ids"].contains(&field);
    if ordered {
        if ours.len() != theirs.len() {
            found.push(format!("{path}: {} items instead of {}", ours.len(), theirs.len()));
        }
        for (index, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
            let path = format!("{path}[{index}].{}", if field == "logs" { "ExecutionError" } else { "" });
            compare(&path, theirs, ours, found);
        }
        return;
    }
    for (index, own) in ours.iter().enumerate() {
        let alike = |theirs: &&Value| {
            let mut found = Vec::new();
            compare(&format!("{path}[]"), theirs, own, &mut found);
            found.is_empty()
        };
        if !theirs.is_empty() && !theirs.iter().any(|theirs| alike(&theirs)) {
            let mut why = Vec::new();
            compare(&format!("{path}[{index}]"), &theirs[0], own, &mut why);
            found.push(format!("{path}[{index}]: like none of the recorded: {}", why.join("; ")));
        }
    }
}

#[test]
fn the_comparison_sees_differences() {
    let theirs = json!({"a": {"name": "X"}, "list": [{"n": 1}], "f": 0.5, "logs": ["x"], "gas_burnt": 1_000_000});
    let cases = [
        json!({"a": {"name": "Y"}, "list": [{"n": 1}], "f": 0.5, "logs": ["x"], "gas_burnt": 1_000_000}),
        json!({"a": {"name": "X"}, "list": [{"n": "1"}], "f": 0.5, "logs": ["x"], "gas_burnt": 1_000_000}),
        json!({"a": {"name": "X"}, "list": [], "f": 0.5, "logs": ["x"], "gas_burnt": 1_000_000}),
        json!({"a": {"name": "X"}, "list": [{"n": 1}], "f": 1, "logs": ["x"], "gas_burnt": 1_000_000}),
        json!({"a": {"name": "X"}, "list": [{"n": 1}], "f": 0.5, "logs": ["y"], "gas_burnt": 1_000_000}),
        json!({"a": {"name": "X"}, "list": [{"n": 1}], "f": 0.5, "logs": ["x"], "gas_burnt": 1_100_000}),
        json!({"a": {"name": "X"}, "list": [{"n": 1}], "f": 0.5, "logs": ["x"]}),
        json!({"a": {"name": "X", "more": 1}, "list": [{"n": 1}], "f": 0.5, "logs": ["x"], "gas_burnt": 1_000_000}),
    ];
    for ours in cases {
        let mut found = Vec::new();
        compare("", &theirs, &ours, &mut found);
        assert_eq!(found.len(), 1, "{ours}: {found:?}");
    }
    let mut found = Vec::new();
    compare("", &theirs, &theirs.clone(), &mut found);
    assert_eq!(found, [] as [String; 0]);
}

#[tokio::test]
async fn many_requests_share_a_connection_and_order_is_kept() {
    let node = Node::fast();
    let asks = (0..50).map(|id| {
        let body = json!({"jsonrpc": "2.0", "id": id, "method": "gas_price", "params": [null]}).to_string();
        node.http("POST", "/", Some("application/json; charset=utf-8"), body.into_bytes())
    });
    for (id, answer) in join(asks).await.into_iter().enumerate() {
        assert_eq!(answer.json()["id"], id);
    }
}
