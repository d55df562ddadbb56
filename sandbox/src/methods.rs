//! The JSON-RPC methods: parameters in, an answer or an error out.

use std::sync::Arc;
use std::time::Duration;

use near_crypto::PublicKey;
use near_primitives::account::AccessKey;
use near_primitives::errors::InvalidTxError;
use near_primitives::hash::CryptoHash;
use near_primitives::serialize::from_base64;
use near_primitives::transaction::SignedTransaction;
use near_primitives::types::AccountId;
use near_primitives::views::AccessKeyView;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::chain::{Block, Chain, Known, Patch, Progress};
use crate::credentials;
use crate::gas::GAS_PRICE;
use crate::server::Node;
use crate::state::Account;
use crate::token::{self, Fault};
use crate::views::{self, CHAIN_ID, PROTOCOL_VERSION, TxStatus};

/// How long a request may wait for a transaction before `TIMEOUT_ERROR` (nearcore's `polling_config.timeout`).
pub const POLLING_TIMEOUT: Duration = Duration::from_secs(10);
/// Most requests that wait for a transaction at the same time; more are refused unread with HTTP 503.
pub const MAX_WAITING: usize = 10_000;
/// Most keys in one `changes` request, and records in one `sandbox_patch_state`.
const MAX_ITEMS: usize = 10_000;

/// A JSON-RPC error with its HTTP status.
#[derive(Debug)]
pub(crate) struct RpcError {
    pub(crate) http_status: u16,
    name: &'static str,
    cause: Value,
    code: i32,
    message: &'static str,
    data: Value,
}

impl Serialize for RpcError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({"name": self.name, "cause": self.cause, "code": self.code, "message": self.message, "data": self.data})
            .serialize(serializer)
    }
}

impl RpcError {
    /// The request cannot be understood.
    pub(crate) fn parse(text: impl Into<String>) -> Self {
        let text = text.into();
        Self {
            http_status: 400,
            name: "REQUEST_VALIDATION_ERROR",
            cause: json!({"name": "PARSE_ERROR", "info": {"error_message": text}}),
            code: -32_700,
            message: "Parse error",
            data: json!(text),
        }
    }

    fn args(text: impl std::fmt::Display) -> Self {
        Self::parse(format!("Failed parsing args: {text}"))
    }

    fn method_not_found(method: &str) -> Self {
        Self {
            http_status: 400,
            name: "REQUEST_VALIDATION_ERROR",
            cause: json!({"name": "METHOD_NOT_FOUND", "info": {"method_name": method}}),
            code: -32_601,
            message: "Method not found",
            data: json!(method),
        }
    }

    fn handler(cause: &'static str, info: Value, data: impl Into<Value>) -> Self {
        Self {
            http_status: 200,
            name: "HANDLER_ERROR",
            cause: json!({"name": cause, "info": info}),
            code: -32_000,
            message: "Server error",
            data: data.into(),
        }
    }

    fn internal(text: &str) -> Self {
        Self {
            http_status: 500,
            name: "INTERNAL_ERROR",
            cause: json!({"name": "INTERNAL_ERROR", "info": {"error_message": text}}),
            code: -32_000,
            message: "Server error",
            data: json!(text),
        }
    }

    fn timeout() -> Self {
        Self {
            http_status: 408,
            name: "HANDLER_ERROR",
            cause: json!({"name": "TIMEOUT_ERROR"}),
            code: -32_000,
            message: "Server error",
            data: json!("Timeout"),
        }
    }

    fn invalid_transaction(error: &InvalidTxError) -> Self {
        let data = json!({"TxExecutionError": {"InvalidTxError": error}});
        Self::handler("INVALID_TRANSACTION", json!({}), data)
    }

    fn unknown_transaction(hash: &CryptoHash) -> Self {
        let info = json!({"requested_transaction_hash": hash});
        Self::handler("UNKNOWN_TRANSACTION", info, format!("Transaction {hash} doesn't exist"))
    }
}

/// A result as JSON text.
type Answer = Result<Vec<u8>, RpcError>;

fn answer(value: &impl Serialize) -> Answer {
    serde_json::to_vec(value).map_err(|error| RpcError::internal(&error.to_string()))
}

/// Runs one method. Waits where the method waits.
pub(crate) async fn call(node: &Node, method: &str, params: Option<&RawValue>) -> Answer {
    match method {
        "send_tx" => {
            let (tx, wait) = send_params(params)?;
            send(node, tx, wait).await
        }
        "broadcast_tx_commit" => {
            let (tx, _) = send_params(params)?;
            send(node, tx, Progress::ExecutedOptimistic).await
        }
        "broadcast_tx_async" => {
            let (tx, _) = send_params(params)?;
            let hash = tx.get_hash();
            let _ = node.chain.borrow_mut().submit(tx);
            answer(&hash)
        }
        "tx" => tx_status(node, params, false).await,
        "EXPERIMENTAL_tx_status" => tx_status(node, params, true).await,
        "sandbox_patch_state" => {
            let patches = patch_params(params)?;
            let mut head = node.head.subscribe();
            node.chain.borrow_mut().patch(patches);
            let _ = head.changed().await;
            answer(&json!({}))
        }
        "sandbox_fast_forward" => {
            #[derive(Deserialize)]
            struct Params {
                delta_height: u64,
            }
            let params: Params = from_params(params)?;
            node.fast_forward(params.delta_height).map_err(RpcError::args)?;
            answer(&json!({}))
        }
        _ => read(node, method, params),
    }
}

/// Methods that only look.
fn read(node: &Node, method: &str, params: Option<&RawValue>) -> Answer {
    let chain = &*node.chain.borrow();
    match method {
        "status" => answer(&status(node)),
        "health" => answer(&Value::Null),
        "gas_price" => answer(&json!({"gas_price": GAS_PRICE.to_string()})),
        "network_info" => answer(&json!({
            "active_peers": [],
            "known_producers": [],
            "num_active_peers": 0,
            "peer_max_count": 40,
            "received_bytes_per_sec": 0,
            "sent_bytes_per_sec": 0,
        })),
        "block" => {
            let reference = block_params(params)?;
            answer(&views::block(chain, find_block(chain, &reference)?))
        }
        "chunk" => chunk(chain, params),
        "EXPERIMENTAL_protocol_config" => {
            find_block(chain, &block_params(params)?)?;
            answer(&views::protocol_config(chain))
        }
        "genesis_config" | "EXPERIMENTAL_genesis_config" => answer(&genesis_config(chain)),
        "validators" => answer(&validators(node)),
        "changes" | "EXPERIMENTAL_changes" => changes(chain, params),
        "query" => query(chain, params),
        _ => Err(RpcError::method_not_found(method)),
    }
}

// --- transactions ---

async fn send(node: &Node, tx: Arc<SignedTransaction>, wait: Progress) -> Answer {
    let submitted = node.chain.borrow_mut().submit(Arc::clone(&tx));
    if wait == Progress::None {
        // A real node answers before it looks: an invalid transaction vanishes.
        return answer(&json!({"final_execution_status": "NONE"}));
    }
    match submitted {
        Ok(()) => {}
        // Perhaps it was this very transaction that used the nonce.
        Err(InvalidTxError::InvalidNonce { .. })
            if !matches!(node.chain.borrow().known(&tx.get_hash()), Known::Unknown) => {}
        Err(error) => return Err(RpcError::invalid_transaction(&error)),
    }
    poll(node, tx.get_hash(), Some(&tx), wait, false).await
}

async fn tx_status(node: &Node, params: Option<&RawValue>, receipts: bool) -> Answer {
    let (hash, tx, wait) = tx_params(params)?;
    if let Some(tx) = &tx
        && matches!(node.chain.borrow().known(&hash), Known::Unknown)
    {
        node.chain.borrow().check(tx, true).map_err(|error| RpcError::invalid_transaction(&error))?;
    }
    poll(node, hash, tx.as_deref(), wait, receipts).await
}

/// Waits, block by block, until the transaction has come as far as `wait`.
async fn poll(node: &Node, hash: CryptoHash, tx: Option<&SignedTransaction>, wait: Progress, receipts: bool) -> Answer {
    let deadline = Instant::now() + POLLING_TIMEOUT;
    let mut head = node.head.subscribe();
    let _counted = node.wait_slot();
    let mut looked = false;
    loop {
        {
            let chain = node.chain.borrow();
            match chain.known(&hash) {
                Known::Here(record, details) => {
                    let progress = chain.progress_of(record, details);
                    if progress.satisfies(wait) {
                        return answer(&TxStatus { chain: &chain, record, details, receipts });
                    }
                }
                Known::Forgotten => {
                    return Err(RpcError::internal("the transaction was executed, but its details are forgotten"));
                }
                Known::Unknown => {
                    // Validity changes with every block; the signature was checked at the door.
                    if let Some(tx) = tx
                        && looked
                    {
                        chain.check(tx, false).map_err(|error| RpcError::invalid_transaction(&error))?;
                    }
                    if wait == Progress::None {
                        return Err(RpcError::unknown_transaction(&hash));
                    }
                }
            }
        }
        looked = true;
        match tokio::time::timeout_at(deadline, head.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(RpcError::timeout()),
        }
    }
}

#[derive(Deserialize)]
struct SendParams<'a> {
    #[serde(borrow)]
    signed_tx_base64: std::borrow::Cow<'a, str>,
    #[serde(default)]
    wait_until: Wait,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Wait {
    None,
    Included,
    #[default]
    ExecutedOptimistic,
    IncludedFinal,
    Executed,
    Final,
}

impl From<Wait> for Progress {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::None => Self::None,
            Wait::Included => Self::Included,
            Wait::ExecutedOptimistic => Self::ExecutedOptimistic,
            Wait::IncludedFinal => Self::IncludedFinal,
            Wait::Executed => Self::Executed,
            Wait::Final => Self::Final,
        }
    }
}

fn send_params(params: Option<&RawValue>) -> Result<(Arc<SignedTransaction>, Progress), RpcError> {
    let text = params.map_or("null", RawValue::get);
    if is_array(text) {
        let (tx,): (std::borrow::Cow<'_, str>,) = serde_json::from_str(text).map_err(RpcError::args)?;
        return Ok((decode(&tx)?, Progress::ExecutedOptimistic));
    }
    let params: SendParams<'_> = serde_json::from_str(text).map_err(RpcError::args)?;
    Ok((decode(&params.signed_tx_base64)?, params.wait_until.into()))
}

type TxParams = (CryptoHash, Option<Arc<SignedTransaction>>, Progress);

fn tx_params(params: Option<&RawValue>) -> Result<TxParams, RpcError> {
    #[derive(Deserialize)]
    struct Named {
        tx_hash: CryptoHash,
        #[serde(rename = "sender_account_id")]
        _sender: AccountId,
        #[serde(default)]
        wait_until: Wait,
    }
    let text = params.map_or("null", RawValue::get);
    if is_array(text) {
        let items: Vec<String> = serde_json::from_str(text).map_err(RpcError::args)?;
        return match items.as_slice() {
            [tx] => {
                let tx = decode(tx)?;
                Ok((tx.get_hash(), Some(tx), Progress::ExecutedOptimistic))
            }
            [hash, sender] => {
                let hash = hash.parse().map_err(RpcError::args)?;
                sender.parse::<AccountId>().map_err(RpcError::args)?;
                Ok((hash, None, Progress::ExecutedOptimistic))
            }
            _ => Err(RpcError::args("expected a transaction, or its hash and its sender's account")),
        };
    }
    if let Ok(params) = serde_json::from_str::<SendParams<'_>>(text) {
        let tx = decode(&params.signed_tx_base64)?;
        return Ok((tx.get_hash(), Some(tx), params.wait_until.into()));
    }
    let named: Named = serde_json::from_str(text).map_err(RpcError::args)?;
    Ok((named.tx_hash, None, named.wait_until.into()))
}

fn decode(text: &str) -> Result<Arc<SignedTransaction>, RpcError> {
    let bytes = from_base64(text)
        .map_err(|error| RpcError::args(format!("the value could not decoded from base64 due to: {error}")))?;
    let tx = borsh::from_slice::<SignedTransaction>(&bytes)
        .map_err(|error| RpcError::args(format!("the value could not decoded from borsh due to: {error}")))?;
    Ok(Arc::new(tx))
}

fn patch_params(params: Option<&RawValue>) -> Result<Vec<Patch>, RpcError> {
    #[derive(Deserialize)]
    struct Params {
        records: Vec<Record>,
    }
    #[derive(Deserialize)]
    enum Record {
        AccessKey { account_id: AccountId, public_key: PublicKey, access_key: AccessKeyView },
        Account { account_id: AccountId, account: AccountRecord },
    }
    #[derive(Deserialize)]
    struct AccountRecord {
        amount: near_primitives::types::Balance,
        #[serde(default)]
        locked: Option<near_primitives::types::Balance>,
        #[serde(default)]
        code_hash: Option<CryptoHash>,
        storage_usage: u64,
    }
    let params: Params = from_params(params)?;
    if params.records.len() > MAX_ITEMS {
        return Err(RpcError::args(format!("at most {MAX_ITEMS} records")));
    }
    Ok(params
        .records
        .into_iter()
        .map(|record| match record {
            Record::AccessKey { account_id, public_key, access_key } => {
                Patch::AccessKey(account_id, public_key, AccessKey::from(access_key))
            }
            Record::Account { account_id, account } => Patch::Account(
                account_id,
                Account {
                    amount: account.amount.as_yoctonear(),
                    locked: account.locked.map_or(0, |locked| locked.as_yoctonear()),
                    code_hash: account.code_hash.unwrap_or_default(),
                    storage_usage: account.storage_usage,
                },
            ),
        })
        .collect())
}

// --- blocks ---

/// Which block a request means.
#[derive(Clone, Debug)]
enum BlockRef {
    Finality(Finality),
    Height(u64),
    Hash(CryptoHash),
    /// `sync_checkpoint`: genesis, or the earliest that is here.
    Earliest,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Finality {
    Optimistic,
    NearFinal,
    Final,
}

fn block_id(value: &Value) -> Result<BlockRef, RpcError> {
    match value {
        Value::Number(height) => match height.as_u64() {
            Some(height) => Ok(BlockRef::Height(height)),
            None => Err(RpcError::args(format!("invalid block height {height}"))),
        },
        Value::String(hash) => Ok(BlockRef::Hash(hash.parse().map_err(RpcError::args)?)),
        _ => Err(RpcError::args("block_id must be a height or a hash")),
    }
}

/// The block that named parameters refer to.
fn block_ref(params: &Value) -> Result<BlockRef, RpcError> {
    if let Some(id) = params.get("block_id").filter(|id| !id.is_null()) {
        return block_id(id);
    }
    if let Some(finality) = params.get("finality") {
        return Finality::deserialize(finality).map(BlockRef::Finality).map_err(RpcError::args);
    }
    match params.get("sync_checkpoint").and_then(Value::as_str) {
        Some("genesis" | "earliest_available") => Ok(BlockRef::Earliest),
        _ => Err(RpcError::args("no variant of enum BlockReference found in flattened data")),
    }
}

fn block_params(params: Option<&RawValue>) -> Result<BlockRef, RpcError> {
    match &from_params::<Value>(params)? {
        Value::Array(items) => match items.as_slice() {
            [id] => block_id(id),
            _ => Err(RpcError::args("expected one block id")),
        },
        named => block_ref(named),
    }
}

fn locate<'a>(chain: &'a Chain, reference: &BlockRef) -> Option<&'a Block> {
    match reference {
        BlockRef::Finality(Finality::Optimistic) => Some(chain.head()),
        BlockRef::Finality(Finality::NearFinal) => Some(chain.near_final_block()),
        BlockRef::Finality(Finality::Final) => Some(chain.final_block()),
        BlockRef::Height(height) => chain.block_at(*height),
        BlockRef::Hash(hash) => chain.block_by_hash(hash),
        BlockRef::Earliest => Some(chain.earliest_block()),
    }
}

fn find_block<'a>(chain: &'a Chain, reference: &BlockRef) -> Result<&'a Block, RpcError> {
    locate(chain, reference).ok_or_else(|| unknown_block(chain, reference))
}

fn unknown_block(chain: &Chain, reference: &BlockRef) -> RpcError {
    let what = match reference {
        BlockRef::Height(height) => format!("BLOCK HEIGHT: {height}"),
        BlockRef::Hash(hash) => format!("BLOCK: {hash}"),
        _ => "BLOCK".into(),
    };
    let text = format!("DB Not Found Error: {what} \n Cause: Unknown");
    let mut error = RpcError::handler("UNKNOWN_BLOCK", json!({}), text);
    // Below the head it will never be there.
    if matches!(reference, BlockRef::Height(height) if *height < chain.head().height) {
        error.http_status = 422;
    }
    error
}

fn chunk(chain: &Chain, params: Option<&RawValue>) -> Answer {
    let params: Value = from_params(params)?;
    let (hash, place) = match &params {
        Value::Array(items) => match items.as_slice() {
            [Value::String(hash)] => (Some(hash.as_str()), None),
            [Value::Array(place)] if place.len() == 2 => (None, Some((&place[0], &place[1]))),
            _ => return Err(RpcError::args("expected [chunk_id] or [[block_id, shard_id]]")),
        },
        named => (named.get("chunk_id").and_then(Value::as_str), named.get("block_id").zip(named.get("shard_id"))),
    };
    let unknown = |hash: &CryptoHash| {
        let text = format!("Chunk Missing (unavailable on the node): ChunkHash(`{hash}`) \n Cause: Unknown");
        RpcError::handler("UNKNOWN_CHUNK", json!({"chunk_hash": hash}), text)
    };
    let block = match (hash, place) {
        (Some(hash), _) => {
            let hash = hash.parse().map_err(RpcError::args)?;
            chain.block_by_chunk(&hash).ok_or_else(|| unknown(&hash))?
        }
        (None, Some((block, shard))) => {
            let block = find_block(chain, &block_id(block)?)?;
            if shard.as_u64() != Some(0) {
                let text = format!("Shard id {shard} does not exist");
                return Err(RpcError::handler("INVALID_SHARD_ID", json!({"shard_id": shard}), text));
            }
            block
        }
        (None, None) => return Err(RpcError::args("expected chunk_id, or block_id and shard_id")),
    };
    if !block.detailed {
        return Err(unknown(&block.chunk_hash));
    }
    answer(&views::chunk(chain, block, hash.is_some()))
}

fn changes(chain: &Chain, params: Option<&RawValue>) -> Answer {
    #[derive(Deserialize)]
    struct Key {
        account_id: AccountId,
        public_key: PublicKey,
    }
    let params: Value = from_params(params)?;
    let reference = block_ref(&params)?;
    let block = find_block(chain, &reference)?;
    if !block.detailed {
        return Err(garbage_collected(block));
    }
    let kind = params.get("changes_type").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "single_access_key_changes" => {
            let keys = params.get("keys").cloned().unwrap_or_default();
            let keys: Vec<Key> = serde_json::from_value(keys).map_err(RpcError::args)?;
            if keys.len() > MAX_ITEMS {
                return Err(RpcError::args(format!("at most {MAX_ITEMS} keys")));
            }
            let wanted: std::collections::HashSet<_> =
                keys.into_iter().map(|key| (key.account_id, key.public_key)).collect();
            answer(&views::key_changes(block, |id| wanted.contains(id)))
        }
        "all_access_key_changes" => {
            let accounts = params.get("account_ids").cloned().unwrap_or_default();
            let accounts: Vec<AccountId> = serde_json::from_value(accounts).map_err(RpcError::args)?;
            if accounts.len() > MAX_ITEMS {
                return Err(RpcError::args(format!("at most {MAX_ITEMS} accounts")));
            }
            let wanted: std::collections::HashSet<_> = accounts.into_iter().collect();
            answer(&views::key_changes(block, |(account, _)| wanted.contains(account)))
        }
        _ => Err(RpcError::args(format!("changes_type `{kind}` is not supported by the sandbox"))),
    }
}

fn garbage_collected(block: &Block) -> RpcError {
    let info = json!({"block_hash": block.hash, "block_height": block.height});
    let text = format!(
        "The data for block #{} is garbage collected on this node, use an archival node to fetch historical data",
        block.height
    );
    RpcError::handler("GARBAGE_COLLECTED_BLOCK", info, text)
}

// --- query ---

enum Query {
    Account(AccountId),
    AccessKey(AccountId, PublicKey),
    AccessKeys(AccountId),
    Call(AccountId, String, Vec<u8>),
}

fn query(chain: &Chain, params: Option<&RawValue>) -> Answer {
    let params: Value = from_params(params)?;
    let (reference, wanted) = match &params {
        Value::Array(items) => {
            let [Value::String(path), Value::String(data)] = items.as_slice() else {
                return Err(RpcError::args("expected [path, data]"));
            };
            (BlockRef::Finality(Finality::Optimistic), query_path(path, data)?)
        }
        named => (block_ref(named)?, query_named(named)?),
    };
    let block = locate(chain, &reference).ok_or_else(|| {
        let shown = match &reference {
            BlockRef::Height(height) => json!({"block_id": height}),
            BlockRef::Hash(hash) => json!({"block_id": hash}),
            _ => json!({}),
        };
        let text = "Block either has never been observed on the node or has been garbage collected";
        RpcError::handler("UNKNOWN_BLOCK", json!({"block_reference": shown}), text)
    })?;
    if !chain.state.can_view(block.height) {
        return Err(garbage_collected(block));
    }
    let at = block.height;
    let account = |id: &AccountId| {
        chain.state.accounts.at(at, id).ok_or_else(|| {
            let info = json!({"block_hash": block.hash, "block_height": block.height, "requested_account_id": id});
            RpcError::handler("UNKNOWN_ACCOUNT", info, format!("account {id} does not exist while viewing"))
        })
    };
    // Two errors are old enough to come as results.
    let legacy =
        |text: String| json!({"error": text, "logs": [], "block_hash": block.hash, "block_height": block.height});
    let result = match wanted {
        Query::Account(id) => {
            let account = account(&id)?;
            json!({
                "amount": account.amount.to_string(),
                "block_hash": block.hash,
                "block_height": block.height,
                "code_hash": account.code_hash,
                "locked": account.locked.to_string(),
                "storage_paid_at": 0,
                "storage_usage": account.storage_usage,
            })
        }
        Query::AccessKey(id, public_key) => match chain.state.keys.at(at, &(id, public_key.clone())) {
            Some(key) => {
                let mut view = json!(views::access_key(key));
                view["block_hash"] = json!(block.hash);
                view["block_height"] = json!(block.height);
                view
            }
            None => legacy(format!("access key {public_key} does not exist while viewing")),
        },
        Query::AccessKeys(id) => {
            account(&id)?;
            let keys: Vec<_> = chain
                .state
                .keys_at(at, &id)
                .map(|(public_key, key)| json!({"access_key": views::access_key(key), "public_key": public_key}))
                .collect();
            json!({"block_hash": block.hash, "block_height": block.height, "keys": keys})
        }
        Query::Call(id, method, args) => {
            let failed = |text: &str| legacy(format!("wasm execution failed with error: {text}"));
            if !account(&id)?.has_code() {
                failed(&format!("CompilationError(CodeDoesNotExist {{ account_id: \"{id}\" }})"))
            } else {
                match token::view(chain.token_at(at, &id), Some(at), &method, &args) {
                    Ok(value) => json!({
                        "block_hash": block.hash,
                        "block_height": block.height,
                        "logs": [],
                        "result": value,
                    }),
                    Err(Fault::MethodNotFound) => failed("MethodResolveError(MethodNotFound)"),
                    Err(Fault::Panic(text)) => failed(&format!("HostError(GuestPanic {{ panic_msg: {text:?} }})")),
                    Err(Fault::Host(_, debug)) => failed(&debug),
                }
            }
        }
    };
    answer(&result)
}

fn query_named(params: &Value) -> Result<Query, RpcError> {
    fn field<T: DeserializeOwned>(params: &Value, name: &str) -> Result<T, RpcError> {
        let value = params.get(name).ok_or_else(|| RpcError::args(format!("missing field `{name}`")))?;
        serde_json::from_value(value.clone()).map_err(RpcError::args)
    }
    let kind: String = field(params, "request_type")?;
    match kind.as_str() {
        "view_account" => Ok(Query::Account(field(params, "account_id")?)),
        "view_access_key" => Ok(Query::AccessKey(field(params, "account_id")?, field(params, "public_key")?)),
        "view_access_key_list" => Ok(Query::AccessKeys(field(params, "account_id")?)),
        "call_function" => {
            let args: String = field(params, "args_base64")?;
            let args = from_base64(&args).map_err(RpcError::args)?;
            Ok(Query::Call(field(params, "account_id")?, field(params, "method_name")?, args))
        }
        _ => Err(RpcError::args(format!("request_type `{kind}` is not supported by the sandbox"))),
    }
}

/// The old form: a path, and base58 data for calls.
fn query_path(path: &str, data: &str) -> Result<Query, RpcError> {
    let account = |text: &str| text.parse::<AccountId>().map_err(RpcError::args);
    match *path.split('/').collect::<Vec<_>>().as_slice() {
        ["account", id] => Ok(Query::Account(account(id)?)),
        ["access_key", id] => Ok(Query::AccessKeys(account(id)?)),
        ["access_key", id, key] => Ok(Query::AccessKey(account(id)?, key.parse().map_err(RpcError::args)?)),
        ["call", id, method] => {
            let args = bs58::decode(data).into_vec().map_err(RpcError::args)?;
            Ok(Query::Call(account(id)?, method.to_owned(), args))
        }
        _ => Err(RpcError::args(format!("unknown query path `{path}`"))),
    }
}

// --- the node itself ---

/// `status`, also `GET /status`.
pub(crate) fn status(node: &Node) -> Value {
    let chain = node.chain.borrow();
    let (head, earliest) = (chain.head(), chain.earliest_block());
    json!({
        "chain_id": CHAIN_ID,
        "genesis_hash": chain.genesis_hash(),
        "latest_protocol_version": PROTOCOL_VERSION,
        "node_key": node.public_key.to_string(),
        "node_public_key": node.public_key.to_string(),
        "protocol_version": PROTOCOL_VERSION,
        "rpc_addr": node.address.to_string(),
        "sync_info": {
            "earliest_block_hash": earliest.hash,
            "earliest_block_height": earliest.height,
            "earliest_block_time": views::time(earliest.timestamp_nanos),
            "epoch_id": views::epoch_id(&chain, head.height),
            "epoch_start_height": views::epoch_start(&chain, head.height),
            "latest_block_hash": head.hash,
            "latest_block_height": head.height,
            "latest_block_time": views::time(head.timestamp_nanos),
            "latest_state_root": views::state_root(head),
            "syncing": false,
        },
        "uptime_sec": node.uptime_s(),
        "validator_account_id": credentials::ACCOUNT,
        "validator_public_key": node.public_key.to_string(),
        "validators": [{"account_id": credentials::ACCOUNT}],
        "version": {
            "build": "keyshard-sandbox",
            "commit": "",
            "rustc_version": env!("CARGO_PKG_RUST_VERSION"),
            "version": env!("CARGO_PKG_VERSION"),
        },
    })
}

fn validators(node: &Node) -> Value {
    let chain = node.chain.borrow();
    let height = chain.head().height;
    let account: Option<AccountId> = credentials::ACCOUNT.parse().ok();
    let stake = account.and_then(|id| chain.account(&id).map(|account| account.locked)).unwrap_or(0).to_string();
    json!({
        "current_fishermen": [],
        "current_proposals": [],
        "current_validators": [{
            "account_id": credentials::ACCOUNT,
            "is_slashed": false,
            "num_expected_blocks": height,
            "num_expected_chunks": height,
            "num_expected_chunks_per_shard": [height],
            "num_expected_endorsements": height,
            "num_expected_endorsements_per_shard": [height],
            "num_produced_blocks": height,
            "num_produced_chunks": height,
            "num_produced_chunks_per_shard": [height],
            "num_produced_endorsements": height,
            "num_produced_endorsements_per_shard": [height],
            "public_key": node.public_key.to_string(),
            "shards": [0],
            "shards_endorsed": [0],
            "stake": stake,
        }],
        "epoch_height": height / chain.epoch_length(),
        "epoch_start_height": views::epoch_start(&chain, height),
        "next_fishermen": [],
        "next_validators": [{
            "account_id": credentials::ACCOUNT,
            "public_key": node.public_key.to_string(),
            "shards": [0],
            "stake": stake,
        }],
        "prev_epoch_kickout": [],
    })
}

fn genesis_config(chain: &Chain) -> Value {
    let mut config = views::protocol_config(chain);
    if let Some(fields) = config.as_object_mut() {
        fields.remove("runtime_config");
        fields.insert("total_supply".into(), json!(chain.total_supply().to_string()));
        fields.insert("validators".into(), json!([]));
    }
    config
}

// --- parameters ---

fn from_params<T: DeserializeOwned>(params: Option<&RawValue>) -> Result<T, RpcError> {
    serde_json::from_str(params.map_or("null", RawValue::get)).map_err(RpcError::args)
}

fn is_array(text: &str) -> bool {
    text.trim_start().starts_with('[')
}
