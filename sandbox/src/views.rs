//! The JSON shapes of a node's answers, borrowed from the chain and written straight into the response.

use near_primitives::account::AccessKey;
use near_primitives::action::Action;
use near_primitives::errors::ActionError;
use near_primitives::hash::CryptoHash;
use near_primitives::transaction::SignedTransaction;
use near_primitives::views::{AccessKeyView, ActionView};
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::chain::Chain;
use crate::credentials;
use crate::gas::{self, GAS_PRICE};
use crate::history::{Block, Cause, Details, Outcome, Progress, ReceiptRecord, Record};

/// The protocol whose rules and shapes these are.
pub const PROTOCOL_VERSION: u32 = 84;
/// The chain's name, as that of the recorded node.
pub const CHAIN_ID: &str = "localnet";

impl Serialize for Progress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::None => "NONE",
            Self::Included => "INCLUDED",
            Self::ExecutedOptimistic => "EXECUTED_OPTIMISTIC",
            Self::IncludedFinal => "INCLUDED_FINAL",
            Self::Executed => "EXECUTED",
            Self::Final => "FINAL",
        })
    }
}

/// A decimal string, for balances.
struct Text<T>(T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use base64::display::Base64Display;
        use base64::engine::general_purpose::STANDARD;
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// A sequence whose items are made while writing.
struct Each<'a, T, F>(&'a [T], F);

impl<'a, T, F, V> Serialize for Each<'a, T, F>
where
    F: Fn(&'a T) -> V,
    V: Serialize,
{
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_seq(Some(self.0.len()))?;
        for item in self.0 {
            out.serialize_element(&(self.1)(item))?;
        }
        out.end()
    }
}

struct ActionJson<'a>(&'a Action);

impl Serialize for ActionJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Call<'a> {
            args: Base64<'a>,
            deposit: Text<u128>,
            gas: u64,
            method_name: &'a str,
        }
        match self.0 {
            Action::FunctionCall(call) => {
                let mut out = serializer.serialize_map(Some(1))?;
                let view = Call {
                    args: Base64(&call.args),
                    deposit: Text(call.deposit.as_yoctonear()),
                    gas: call.gas.as_gas(),
                    method_name: &call.method_name,
                };
                out.serialize_entry("FunctionCall", &view)?;
                out.end()
            }
            other => ActionView::from(other.clone()).serialize(serializer),
        }
    }
}

/// A signed transaction, as inside a status or a chunk.
pub(crate) struct TxJson<'a>(pub(crate) &'a SignedTransaction, pub(crate) CryptoHash);

impl Serialize for TxJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tx = self.0;
        let mut out = serializer.serialize_map(Some(8))?;
        out.serialize_entry("signer_id", tx.transaction.signer_id())?;
        out.serialize_entry("public_key", tx.transaction.public_key())?;
        out.serialize_entry("nonce", &tx.transaction.nonce().nonce())?;
        out.serialize_entry("receiver_id", tx.transaction.receiver_id())?;
        out.serialize_entry("actions", &Each(tx.transaction.actions(), ActionJson))?;
        out.serialize_entry("priority_fee", &0)?;
        out.serialize_entry("signature", &tx.signature)?;
        out.serialize_entry("hash", &self.1)?;
        out.end()
    }
}

struct StatusJson<'a>(&'a Result<Vec<u8>, ActionError>);

impl Serialize for StatusJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Failure<'a> {
            #[serde(rename = "ActionError")]
            error: &'a ActionError,
        }
        let mut out = serializer.serialize_map(Some(1))?;
        match self.0 {
            Ok(value) => out.serialize_entry("SuccessValue", &Base64(value))?,
            Err(error) => out.serialize_entry("Failure", &Failure { error })?,
        }
        out.end()
    }
}

#[derive(Serialize)]
struct GasEntry {
    cost: &'static str,
    cost_category: &'static str,
    gas_used: Text<u64>,
}

#[derive(Serialize)]
struct Metadata {
    version: u32,
    gas_profile: Option<Vec<GasEntry>>,
}

#[derive(Serialize)]
struct OutcomeJson<'a, S> {
    block_hash: CryptoHash,
    id: CryptoHash,
    outcome: OutcomeBody<'a, S>,
    /// Merkle proofs are not made here.
    proof: [(); 0],
}

#[derive(Serialize)]
struct OutcomeBody<'a, S> {
    executor_id: &'a str,
    gas_burnt: u64,
    logs: &'a [String],
    metadata: Metadata,
    receipt_ids: &'a [CryptoHash],
    status: S,
    tokens_burnt: Text<u128>,
}

#[derive(Serialize)]
struct SuccessReceiptId {
    #[serde(rename = "SuccessReceiptId")]
    id: CryptoHash,
}

fn receipt_outcome<'a>(
    chain: &Chain,
    receipt: &'a ReceiptRecord,
    outcome: &'a Outcome,
) -> OutcomeJson<'a, StatusJson<'a>> {
    // A real node splits this by host function; nothing is metered here, so it is one entry.
    let profile = (outcome.contract_gas > 0).then_some(GasEntry {
        cost: "WASM_INSTRUCTION",
        cost_category: "WASM_HOST_COST",
        gas_used: Text(outcome.contract_gas),
    });
    OutcomeJson {
        block_hash: block_hash(chain, outcome.height),
        id: receipt.id,
        outcome: OutcomeBody {
            executor_id: receipt.receiver.as_str(),
            gas_burnt: outcome.gas_burnt,
            logs: &outcome.logs,
            metadata: Metadata { version: 3, gas_profile: Some(profile.into_iter().collect()) },
            receipt_ids: &outcome.receipt_ids,
            status: StatusJson(&outcome.result),
            tokens_burnt: Text(outcome.tokens_burnt),
        },
        proof: [],
    }
}

fn block_hash(chain: &Chain, height: u64) -> CryptoHash {
    chain.history.block_at(height).map(|block| block.hash).unwrap_or_default()
}

struct ReceiptJson<'a>(&'a SignedTransaction, &'a ReceiptRecord);

impl Serialize for ReceiptJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(tx, receipt) = self;
        let actions = match receipt.transfer {
            None => {
                serde_json::to_value(Each(tx.transaction.actions(), ActionJson)).map_err(serde::ser::Error::custom)?
            }
            Some(amount) => json!([{"Transfer": {"deposit": amount.to_string()}}]),
        };
        json!({
            "predecessor_id": receipt.predecessor,
            "priority": 0,
            "receipt": {"Action": {
                "actions": actions,
                "gas_price": receipt.gas_price.to_string(),
                "input_data_ids": [],
                "is_promise_yield": false,
                "output_data_receivers": [],
                "signer_id": tx.transaction.signer_id(),
                "signer_public_key": tx.transaction.public_key(),
            }},
            "receipt_id": receipt.id,
            "receiver_id": receipt.receiver,
        })
        .serialize(serializer)
    }
}

/// The answer to `tx` and `send_tx` for a transaction on chain; `receipts` as `EXPERIMENTAL_tx_status` adds them.
pub(crate) struct TxStatus<'a> {
    pub(crate) chain: &'a Chain,
    pub(crate) record: &'a Record,
    pub(crate) details: &'a Details,
    pub(crate) receipts: bool,
}

impl Serialize for TxStatus<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { chain, record, details, receipts } = *self;
        let progress = chain.history.progress_of(record, details);
        let mut out = serializer.serialize_map(None)?;
        out.serialize_entry("final_execution_status", &progress)?;
        // Seen in the head's chunk, but the chunk counts as not yet applied: a real node knows no outcome then.
        if progress == Progress::Included && record.height == chain.head().height {
            return out.end();
        }
        let tx = &*details.tx;
        match details.receipts.first().and_then(|receipt| receipt.outcome.as_ref()) {
            Some(outcome) => out.serialize_entry("status", &StatusJson(&outcome.result))?,
            None => out.serialize_entry("status", "Started")?,
        }
        out.serialize_entry("transaction", &TxJson(tx, record.hash))?;
        let first = details.receipts.first().map(|receipt| receipt.id).unwrap_or_default();
        let outcome = OutcomeJson {
            block_hash: block_hash(chain, record.height),
            id: record.hash,
            outcome: OutcomeBody {
                executor_id: tx.transaction.signer_id().as_str(),
                gas_burnt: details.send_gas,
                logs: &[],
                metadata: Metadata { version: 1, gas_profile: None },
                receipt_ids: &[first],
                status: SuccessReceiptId { id: first },
                tokens_burnt: Text(u128::from(details.send_gas) * GAS_PRICE),
            },
            proof: [],
        };
        out.serialize_entry("transaction_outcome", &outcome)?;
        let outcomes: Vec<_> = details
            .receipts
            .iter()
            .filter_map(|receipt| Some(receipt_outcome(chain, receipt, receipt.outcome.as_ref()?)))
            .collect();
        out.serialize_entry("receipts_outcome", &outcomes)?;
        if receipts {
            out.serialize_entry("receipts", &Each(&details.receipts, |receipt| ReceiptJson(tx, receipt)))?;
        }
        out.end()
    }
}

/// A hash as the node writes it.
fn derived(parent: &CryptoHash, salt: u64) -> CryptoHash {
    crate::runtime::child_id(parent, u64::MAX, salt)
}

/// 64 bytes that look like a signature: blocks are not signed here.
fn no_signature(of: &CryptoHash) -> String {
    let mut bytes = [0_u8; 64];
    bytes[..32].copy_from_slice(&derived(of, 100).0);
    bytes[32..].copy_from_slice(&derived(of, 101).0);
    format!("ed25519:{}", bs58::encode(bytes).into_string())
}

/// `block`.
pub(crate) fn block(chain: &Chain, block: &Block) -> Value {
    let ancestor = |levels: usize| {
        let mut at = block;
        for _ in 0..levels {
            match chain.history.parent(at) {
                Some(parent) => at = parent,
                None => return CryptoHash::default(),
            }
        }
        at.hash
    };
    json!({
        "author": credentials::ACCOUNT,
        "chunks": [chunk_header(chain, block, block.height)],
        "header": {
            "approvals": [no_signature(&block.prev_hash)],
            "block_body_hash": derived(&block.hash, 1),
            "block_merkle_root": derived(&block.hash, 2),
            "block_ordinal": block.ordinal,
            "challenges_result": [],
            "challenges_root": CryptoHash::default(),
            "chunk_endorsements": [[1]],
            "chunk_headers_root": derived(&block.hash, 3),
            "chunk_mask": [true],
            "chunk_receipts_root": derived(&block.hash, 4),
            "chunk_tx_root": derived(&block.tx_root, 5),
            "chunks_included": 1,
            "epoch_id": epoch_id(chain, block.height),
            "epoch_sync_data_hash": null,
            "gas_price": GAS_PRICE.to_string(),
            "hash": block.hash,
            "height": block.height,
            "last_ds_final_block": ancestor(1),
            "last_final_block": ancestor(2),
            "latest_protocol_version": PROTOCOL_VERSION,
            "next_bp_hash": derived(&chain.history.genesis_hash(), 6),
            "next_epoch_id": epoch_id(chain, block.height.saturating_add(chain.epoch_length())),
            "outcome_root": derived(&block.prev_hash, 7),
            "prev_hash": block.prev_hash,
            "prev_height": block.prev_height,
            "prev_state_root": derived(&block.prev_hash, 8),
            "random_value": derived(&block.hash, 9),
            "rent_paid": "0",
            "signature": no_signature(&block.hash),
            "timestamp": block.timestamp_nanos,
            "timestamp_nanosec": block.timestamp_nanos.to_string(),
            "total_supply": chain.total_supply().to_string(),
            "validator_proposals": [],
            "validator_reward": "0",
        },
    })
}

fn chunk_header(chain: &Chain, block: &Block, height_included: u64) -> Value {
    let delayed = chain.history.parent(block).map_or(0, |parent| parent.delayed_gas);
    json!({
        "balance_burnt": (u128::from(block.prev_gas_used) * GAS_PRICE).to_string(),
        "bandwidth_requests": {"V1": {"requests": []}},
        "chunk_hash": block.chunk_hash,
        "congestion_info": {
            "allowed_shard": 0,
            "buffered_receipts_gas": "0",
            "delayed_receipts_gas": delayed.to_string(),
            "receipt_bytes": 0,
        },
        "encoded_length": 8,
        "encoded_merkle_root": derived(&block.chunk_hash, 1),
        "gas_limit": chain.gas_limit(),
        "gas_used": block.prev_gas_used,
        "height_created": block.height,
        "height_included": height_included,
        "outcome_root": derived(&block.prev_hash, 7),
        "outgoing_receipts_root": derived(&block.prev_hash, 10),
        "prev_block_hash": block.prev_hash,
        "prev_state_root": derived(&block.prev_hash, 8),
        "rent_paid": "0",
        "shard_id": 0,
        "signature": no_signature(&block.chunk_hash),
        "tx_root": block.tx_root,
        "validator_proposals": [],
        "validator_reward": "0",
    })
}

/// `chunk`, of a block whose details are still there. By hash, a real node says that it is included at height 0.
pub(crate) fn chunk(chain: &Chain, block: &Block, by_hash: bool) -> Value {
    let transactions: Vec<_> = (block.first_tx..block.first_tx + block.tx_count)
        .filter_map(|seq| chain.history.details(seq))
        .map(|(record, details)| TxJson(&details.tx, record.hash))
        .collect();
    let receipts: Vec<_> = chain
        .history
        .parent(block)
        .map(|parent| parent.outgoing.as_slice())
        .unwrap_or_default()
        .iter()
        .filter_map(|(seq, index)| {
            let (_, details) = chain.history.details(*seq)?;
            Some(ReceiptJson(&details.tx, details.receipts.get(*index as usize)?))
        })
        .collect();
    json!({
        "author": credentials::ACCOUNT,
        "header": chunk_header(chain, block, if by_hash { 0 } else { block.height }),
        "receipts": receipts,
        "transactions": transactions,
    })
}

/// The state after a block; made up, as there is no trie.
pub(crate) fn state_root(block: &Block) -> CryptoHash {
    derived(&block.hash, 8)
}

/// Genesis and first epoch share the default id; the second is named by the genesis block, as on a real chain.
pub(crate) fn epoch_id(chain: &Chain, height: u64) -> CryptoHash {
    match height.saturating_sub(1) / chain.epoch_length() {
        0 => CryptoHash::default(),
        1 => chain.history.genesis_hash(),
        epoch => derived(&chain.history.genesis_hash(), epoch),
    }
}

/// First height of the epoch.
pub(crate) fn epoch_start(chain: &Chain, height: u64) -> u64 {
    height.saturating_sub(1) / chain.epoch_length() * chain.epoch_length() + 1
}

/// An access key, as in `view_access_key`.
pub(crate) fn access_key(key: &AccessKey) -> AccessKeyView {
    key.clone().into()
}

/// `single_access_key_changes` of a block, for the wanted keys.
pub(crate) fn key_changes(block: &Block, wanted: impl Fn(&crate::state::KeyId) -> bool) -> Value {
    let changes: Vec<_> = block
        .key_changes
        .iter()
        .filter(|change| wanted(&change.id))
        .map(|change| {
            let cause = match change.cause {
                Cause::Transaction(hash) => json!({"type": "transaction_processing", "tx_hash": hash}),
                Cause::Receipt(hash) => json!({"type": "receipt_processing", "receipt_hash": hash}),
                Cause::Patch => json!({"type": "migration"}),
            };
            let (kind, mut body) = match &change.key {
                Some(key) => ("access_key_update", json!({"access_key": access_key(key)})),
                None => ("access_key_deletion", json!({})),
            };
            body["account_id"] = json!(change.id.0);
            body["public_key"] = json!(change.id.1);
            json!({"cause": cause, "change": body, "type": kind})
        })
        .collect();
    json!({"block_hash": block.hash, "changes": changes})
}

/// `EXPERIMENTAL_protocol_config`: the recorded one, with what this chain does differently.
pub(crate) fn protocol_config(chain: &Chain) -> Value {
    let mut config: Value = serde_json::from_str(include_str!("protocol_config.json")).unwrap_or_default();
    config["chain_id"] = json!(CHAIN_ID);
    config["protocol_version"] = json!(PROTOCOL_VERSION);
    config["epoch_length"] = json!(chain.epoch_length());
    config["gas_limit"] = json!(chain.gas_limit());
    config["min_gas_price"] = json!(GAS_PRICE.to_string());
    config["max_gas_price"] = json!(GAS_PRICE.to_string());
    config["genesis_time"] = json!(time(chain.history.genesis_nanos()));
    config["transaction_validity_period"] = json!(chain.validity_period());
    if chain.gas_limit() == u64::MAX {
        config["runtime_config"]["congestion_control_config"]["max_tx_gas"] = json!(u64::MAX);
        config["runtime_config"]["witness_config"]["combined_transactions_size_limit"] = json!(u64::MAX);
    } else {
        debug_assert_eq!(config["gas_limit"], json!(gas::CHUNK_GAS_LIMIT));
    }
    config
}

/// RFC 3339 in UTC with nanoseconds, from nanoseconds since 1970.
pub(crate) fn time(nanos: u64) -> String {
    let seconds = nanos / 1_000_000_000;
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days to date, after Howard Hinnant's `civil_from_days`; years begin in March there.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60,
        nanos % 1_000_000_000
    )
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(time(951_827_696_000_000_007), "2000-02-29T12:34:56.000000007Z");
        // Recording 001: latest_block_time of block 604.
        assert_eq!(time(1_795_418_278_493_999_295), "2026-11-23T07:17:58.493999295Z");
    }
}
