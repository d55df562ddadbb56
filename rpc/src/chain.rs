//! Lean answers about the chain: status, blocks, protocol limits. Hashes are text as the node wrote it; gas is in
//! gas units.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json;
use crate::wire::{Parse, Unreadable};

/// `status`: who the node is and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The network, e.g. `mainnet`.
    pub chain_id: String,
    /// The protocol version in force.
    pub protocol_version: u32,
    /// Hash of the genesis; `None` from nodes that do not tell.
    pub genesis_hash: Option<String>,
    /// The node's software, e.g. `2.10.0`; empty if it does not tell.
    pub node_version: String,
    /// Height of its head, which may not be final.
    pub latest_block_height: u64,
    /// Hash of its head.
    pub latest_block_hash: String,
    /// Time of its head, RFC 3339 UTC.
    pub latest_block_time: String,
    /// It is catching up: do not believe that what it does not know does not exist.
    pub syncing: bool,
    /// The oldest block it still has.
    pub earliest_block_height: Option<u64>,
}

/// `block`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Height.
    pub height: u64,
    /// Hash.
    pub hash: String,
    /// Hash of the parent.
    pub prev_hash: String,
    /// Block time, nanoseconds since 1970.
    pub timestamp_nanosec: u64,
    /// Gas price, yoctoNEAR per gas unit.
    pub gas_price: u128,
    /// Epoch.
    pub epoch_id: String,
    /// Hash of the last final block as of this one.
    pub last_final_block: String,
    /// One per shard.
    pub chunks: Vec<Chunk>,
}

/// A shard's part of a [`Block`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "WireChunk")]
pub struct Chunk {
    /// The shard. Ids change with a resharding.
    pub shard_id: u64,
    /// Height of the block that included it; lower than the block's when the shard missed its chunk.
    pub height_included: u64,
    /// Gas used.
    pub gas_used: u64,
    /// Gas limit.
    pub gas_limit: u64,
    /// Gas of receipts that wait in this shard's queue: the sign of congestion. 0 from nodes that do not tell.
    pub delayed_receipts_gas: u128,
}

/// `EXPERIMENTAL_protocol_config`: the limits in force. They change with protocol upgrades: read them at start and
/// again every epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtocolConfig {
    /// The protocol version in force.
    pub protocol_version: u32,
    /// The network.
    pub chain_id: String,
    /// Blocks per epoch.
    pub epoch_length: u64,
    /// Gas limit of a chunk (its value at genesis).
    pub gas_limit: u64,
    /// Lowest gas price, yoctoNEAR per gas unit.
    pub min_gas_price: u128,
    /// A transaction is valid while `height of the previous block <= height of its reference block + this`.
    pub transaction_validity_period: u64,
    /// Actions a transaction may have.
    pub max_actions_per_receipt: u64,
    /// Sum of gas that the actions of a transaction may attach.
    pub max_total_prepaid_gas: u64,
    /// Gas that one function call may burn.
    pub max_gas_burnt: u64,
    /// Bytes of a transaction, without its signature.
    pub max_transaction_size: u64,
}

/// `gas_price`, yoctoNEAR per gas unit.
#[derive(Deserialize, Debug)]
pub(crate) struct GasPrice {
    #[serde(deserialize_with = "json::u128")]
    pub(crate) gas_price: u128,
}

/// `health` and other methods whose result carries nothing to read.
#[derive(Debug)]
pub(crate) struct Empty;

/// `broadcast_tx_async`: the hash of what was sent.
#[derive(Debug)]
pub(crate) struct TxHash(pub(crate) String);

impl Parse for GasPrice {
    fn parse(result: &RawValue) -> Result<Self, Unreadable> {
        Ok(serde_json::from_str(result.get())?)
    }
}

impl Parse for Empty {
    fn parse(_: &RawValue) -> Result<Self, Unreadable> {
        Ok(Empty)
    }
}

impl Parse for TxHash {
    fn parse(result: &RawValue) -> Result<Self, Unreadable> {
        Ok(TxHash(serde_json::from_str(result.get())?))
    }
}

impl Parse for Status {
    fn parse(result: &RawValue) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Wire {
            chain_id: String,
            protocol_version: u32,
            #[serde(default)]
            genesis_hash: Option<String>,
            #[serde(default)]
            version: Version,
            sync_info: SyncInfo,
        }
        #[derive(Deserialize, Default)]
        struct Version {
            #[serde(default)]
            version: String,
        }
        #[derive(Deserialize)]
        struct SyncInfo {
            latest_block_hash: String,
            latest_block_height: u64,
            latest_block_time: String,
            syncing: bool,
            #[serde(default)]
            earliest_block_height: Option<u64>,
        }
        let wire: Wire = serde_json::from_str(result.get())?;
        Ok(Status {
            chain_id: wire.chain_id,
            protocol_version: wire.protocol_version,
            genesis_hash: wire.genesis_hash,
            node_version: wire.version.version,
            latest_block_height: wire.sync_info.latest_block_height,
            latest_block_hash: wire.sync_info.latest_block_hash,
            latest_block_time: wire.sync_info.latest_block_time,
            syncing: wire.sync_info.syncing,
            earliest_block_height: wire.sync_info.earliest_block_height,
        })
    }
}

impl Parse for Block {
    fn parse(result: &RawValue) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Wire {
            header: Header,
            chunks: Vec<Chunk>,
        }
        #[derive(Deserialize)]
        struct Header {
            height: u64,
            hash: String,
            prev_hash: String,
            #[serde(deserialize_with = "json::u64")]
            timestamp_nanosec: u64,
            #[serde(deserialize_with = "json::u128")]
            gas_price: u128,
            epoch_id: String,
            last_final_block: String,
        }
        let Wire { header, chunks } = serde_json::from_str(result.get())?;
        Ok(Block {
            height: header.height,
            hash: header.hash,
            prev_hash: header.prev_hash,
            timestamp_nanosec: header.timestamp_nanosec,
            gas_price: header.gas_price,
            epoch_id: header.epoch_id,
            last_final_block: header.last_final_block,
            chunks,
        })
    }
}

impl Parse for ProtocolConfig {
    fn parse(result: &RawValue) -> Result<Self, Unreadable> {
        #[derive(Deserialize)]
        struct Wire {
            protocol_version: u32,
            chain_id: String,
            epoch_length: u64,
            #[serde(deserialize_with = "json::u64")]
            gas_limit: u64,
            #[serde(deserialize_with = "json::u128")]
            min_gas_price: u128,
            transaction_validity_period: u64,
            runtime_config: Runtime,
        }
        #[derive(Deserialize)]
        struct Runtime {
            wasm_config: Wasm,
        }
        #[derive(Deserialize)]
        struct Wasm {
            limit_config: Limits,
        }
        #[derive(Deserialize)]
        #[expect(clippy::struct_field_names, reason = "the node's names")]
        struct Limits {
            max_actions_per_receipt: u64,
            #[serde(deserialize_with = "json::u64")]
            max_total_prepaid_gas: u64,
            #[serde(deserialize_with = "json::u64")]
            max_gas_burnt: u64,
            max_transaction_size: u64,
        }
        let wire: Wire = serde_json::from_str(result.get())?;
        let limits = wire.runtime_config.wasm_config.limit_config;
        Ok(ProtocolConfig {
            protocol_version: wire.protocol_version,
            chain_id: wire.chain_id,
            epoch_length: wire.epoch_length,
            gas_limit: wire.gas_limit,
            min_gas_price: wire.min_gas_price,
            transaction_validity_period: wire.transaction_validity_period,
            max_actions_per_receipt: limits.max_actions_per_receipt,
            max_total_prepaid_gas: limits.max_total_prepaid_gas,
            max_gas_burnt: limits.max_gas_burnt,
            max_transaction_size: limits.max_transaction_size,
        })
    }
}

#[derive(Deserialize)]
struct WireChunk {
    shard_id: u64,
    height_included: u64,
    #[serde(deserialize_with = "json::u64")]
    gas_used: u64,
    #[serde(deserialize_with = "json::u64")]
    gas_limit: u64,
    #[serde(default)]
    congestion_info: Option<WireCongestion>,
}

#[derive(Deserialize)]
struct WireCongestion {
    #[serde(default, deserialize_with = "json::u128")]
    delayed_receipts_gas: u128,
}

impl From<WireChunk> for Chunk {
    fn from(wire: WireChunk) -> Self {
        Chunk {
            shard_id: wire.shard_id,
            height_included: wire.height_included,
            gas_used: wire.gas_used,
            gas_limit: wire.gas_limit,
            delayed_receipts_gas: wire.congestion_info.map_or(0, |info| info.delayed_receipts_gas),
        }
    }
}
