//! `query`: accounts, access keys and contract views, at the head or at a past block.

use near_crypto::PublicKey;
use near_primitives::serialize::from_base64;
use near_primitives::types::AccountId;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::blocks::{BlockRef, Finality, block_ref, garbage_collected, locate};
use crate::chain::Chain;
use crate::methods::{Answer, answer, from_params};
use crate::rpc_error::RpcError;
use crate::token::{self, Fault};
use crate::views;

enum Query {
    Account(AccountId),
    AccessKey(AccountId, PublicKey),
    AccessKeys(AccountId),
    Call(AccountId, String, Vec<u8>),
}

/// `query`.
pub(crate) fn query(chain: &Chain, params: Option<&RawValue>) -> Answer {
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
        RpcError::handler("UNKNOWN_BLOCK", &json!({"block_reference": shown}), text)
    })?;
    if !chain.state.can_view(block.height) {
        return Err(garbage_collected(block));
    }
    let at = block.height;
    let account = |id: &AccountId| {
        chain.state.accounts.at(at, id).ok_or_else(|| {
            let info = json!({"block_hash": block.hash, "block_height": block.height, "requested_account_id": id});
            RpcError::handler("UNKNOWN_ACCOUNT", &info, format!("account {id} does not exist while viewing"))
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
            if account(&id)?.has_code() {
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
            } else {
                failed(&format!("CompilationError(CodeDoesNotExist {{ account_id: \"{id}\" }})"))
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
