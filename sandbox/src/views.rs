//! The JSON shapes of blocks, chunks, changes and the protocol's configuration.

use near_primitives::account::AccessKey;
use near_primitives::hash::CryptoHash;
use near_primitives::views::AccessKeyView;
use serde_json::{Value, json};

use crate::chain::Chain;
use crate::credentials;
use crate::gas::{self, GAS_PRICE};
use crate::history::{Block, Cause};
use crate::outcomes::{ReceiptJson, TxJson};
use crate::state::KeyId;

/// The protocol whose rules and shapes these are.
pub const PROTOCOL_VERSION: u32 = 84;
/// The chain's name, as that of the recorded node.
pub const CHAIN_ID: &str = "localnet";

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
pub(crate) fn key_changes(block: &Block, wanted: impl Fn(&KeyId) -> bool) -> Value {
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
