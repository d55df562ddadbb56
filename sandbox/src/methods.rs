//! The JSON-RPC methods: parameters in, an answer or an error out.

use near_crypto::PublicKey;
use near_primitives::account::{AccessKey, AccessKeyPermission};
use near_primitives::hash::CryptoHash;
use near_primitives::types::{AccountId, Balance};
use near_primitives::views::AccessKeyView;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::blocks::{block_params, changes, chunk, find_block};
use crate::chain::{Chain, Patch};
use crate::credentials;
use crate::gas::GAS_PRICE;
use crate::history::Progress;
use crate::query::query;
use crate::rpc_error::RpcError;
use crate::server::Node;
use crate::state::Account;
use crate::transactions::{send, send_params, tx_status};
use crate::views::{self, CHAIN_ID, PROTOCOL_VERSION};

/// Most keys in one `changes` request, and records in one `sandbox_patch_state`.
pub(crate) const MAX_ITEMS: usize = 10_000;

/// A result as JSON text.
pub(crate) type Answer = Result<Vec<u8>, RpcError>;

/// A result as it goes out.
pub(crate) fn answer(value: &impl Serialize) -> Answer {
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
        amount: Balance,
        #[serde(default)]
        locked: Option<Balance>,
        #[serde(default)]
        code_hash: Option<CryptoHash>,
        storage_usage: u64,
    }
    let params: Params = from_params(params)?;
    if params.records.len() > MAX_ITEMS {
        return Err(RpcError::args(format!("at most {MAX_ITEMS} records")));
    }
    params
        .records
        .into_iter()
        .map(|record| match record {
            Record::AccessKey { account_id, public_key, access_key } => {
                let key = AccessKey::from(access_key);
                match key.permission {
                    AccessKeyPermission::FullAccess | AccessKeyPermission::FunctionCall(_) => {
                        Ok(Patch::AccessKey(account_id, public_key, key))
                    }
                    _ => Err(RpcError::args("gas keys are not supported by the sandbox")),
                }
            }
            Record::Account { account_id, account } => Ok(Patch::Account(
                account_id,
                Account {
                    amount: account.amount.as_yoctonear(),
                    locked: account.locked.map_or(0, |locked| locked.as_yoctonear()),
                    code_hash: account.code_hash.unwrap_or_default(),
                    storage_usage: account.storage_usage,
                },
            )),
        })
        .collect()
}

/// `status`, also `GET /status`.
pub(crate) fn status(node: &Node) -> Value {
    let chain = node.chain.borrow();
    let (head, earliest) = (chain.head(), chain.history.earliest_block());
    json!({
        "chain_id": CHAIN_ID,
        "genesis_hash": chain.history.genesis_hash(),
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

/// Parameters of a fixed form.
pub(crate) fn from_params<T: DeserializeOwned>(params: Option<&RawValue>) -> Result<T, RpcError> {
    serde_json::from_str(params.map_or("null", RawValue::get)).map_err(RpcError::args)
}

/// Whether parameters are positional.
pub(crate) fn is_array(text: &str) -> bool {
    text.trim_start().starts_with('[')
}
