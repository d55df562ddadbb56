//! Lean answers of the methods that only read. Account ids, keys and hashes are text as the node wrote it;
//! amounts are yoctoNEAR, gas is gas units, heights and nonces are plain numbers.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::fate::Refusal;
use crate::json::{self, bounded};
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

/// `view_account`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Account {
    /// Spendable balance.
    #[serde(deserialize_with = "json::u128")]
    pub amount: u128,
    /// Staked balance.
    #[serde(deserialize_with = "json::u128")]
    pub locked: u128,
    /// Hash of its contract; 32 ones (`1111…`) for none.
    pub code_hash: String,
    /// Bytes of storage it pays for.
    #[serde(deserialize_with = "json::u64")]
    pub storage_usage: u64,
    /// The block of this view.
    pub block_height: u64,
    /// The block of this view.
    pub block_hash: String,
}

/// `view_access_key`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AccessKey {
    /// The last nonce used, as of the *end* of this block.
    #[serde(deserialize_with = "json::u64")]
    pub nonce: u64,
    /// What it may sign.
    pub permission: Permission,
    /// The block of this view.
    pub block_height: u64,
    /// The block of this view.
    pub block_hash: String,
}

/// `view_access_key_list`: all keys of an account at one block.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AccessKeyList {
    /// The keys.
    pub keys: Vec<AccessKeyInfo>,
    /// The block of this view.
    pub block_height: u64,
    /// The block of this view.
    pub block_hash: String,
}

/// One key of an [`AccessKeyList`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "WireKeyInfo")]
pub struct AccessKeyInfo {
    /// `ed25519:…` or `secp256k1:…`.
    pub public_key: String,
    /// The last nonce used.
    pub nonce: u64,
    /// What it may sign.
    pub permission: Permission,
}

/// What an access key may sign.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(remote = "Self")]
pub enum Permission {
    /// Everything. `ft_transfer` needs it: a function-call key may not attach its 1 yoctoNEAR.
    FullAccess,
    /// One function call to one contract, without deposit.
    FunctionCall {
        /// What it may still spend on gas; `None` for no limit.
        #[serde(default, deserialize_with = "opt_u128")]
        allowance: Option<u128>,
        /// The contract.
        receiver_id: String,
        /// The methods; empty for all.
        #[serde(default)]
        method_names: Vec<String>,
    },
    /// A permission this version does not know: raw JSON text, bounded.
    #[serde(skip)]
    Other(String),
}

/// `call_function`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CallResult {
    /// What the method returned, usually JSON.
    pub result: Vec<u8>,
    /// Its log lines.
    #[serde(default)]
    pub logs: Vec<String>,
    /// The block of this view.
    pub block_height: u64,
    /// The block of this view.
    pub block_hash: String,
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

/// `changes` of one access key in one block.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AccessKeyChanges {
    /// The block.
    pub block_hash: String,
    /// In order.
    pub changes: Vec<AccessKeyChange>,
}

/// One change of an access key.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "WireChange")]
pub struct AccessKeyChange {
    /// What changed it: a transaction is *named*, which tells who moved the nonce.
    pub cause: ChangeCause,
    /// The nonce after the change; `None` when the key was deleted (or the change is of a kind this version does
    /// not know).
    pub nonce: Option<u64>,
}

/// What changed an access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeCause {
    /// The transaction with this hash was turned into a receipt, and consumed its nonce.
    Transaction {
        /// Base58.
        tx_hash: String,
    },
    /// A receipt added, deleted or refunded the key.
    Receipt {
        /// Base58.
        receipt_hash: String,
    },
    /// Another cause, by its name.
    Other(String),
}

/// `gas_price`, yoctoNEAR per gas unit.
#[derive(Deserialize)]
pub(crate) struct GasPrice {
    #[serde(deserialize_with = "json::u128")]
    pub(crate) gas_price: u128,
}

/// `health` and other methods whose result carries nothing to read.
pub(crate) struct Empty;

/// `broadcast_tx_async`: the hash of what was sent.
pub(crate) struct TxHash(pub(crate) String);

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::known_or(deserializer, |known| Self::deserialize(known), Permission::Other)
    }
}

fn opt_u128<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u128>, D::Error> {
    #[derive(Deserialize)]
    struct Amount(#[serde(deserialize_with = "json::u128")] u128);
    Ok(Option::<Amount>::deserialize(deserializer)?.map(|amount| amount.0))
}

/// The `result` of a `query`, which for two kinds of failure is `{"error": "..", ..}` with HTTP 200.
fn query<'a, T: Deserialize<'a>>(result: &'a RawValue) -> Result<T, Unreadable> {
    #[derive(Deserialize)]
    struct Failed {
        error: String,
    }
    serde_json::from_str(result.get()).map_err(|why| match serde_json::from_str::<Failed>(result.get()) {
        Ok(Failed { error }) => Unreadable::Refused(legacy_refusal(&error), error),
        Err(_) => why.into(),
    })
}

/// The refusal behind the text of a legacy query error (nearcore `chain/jsonrpc`, kept for old clients).
fn legacy_refusal(error: &str) -> Refusal {
    if error.starts_with("access key ") && error.contains(" does not exist") {
        Refusal::UnknownAccessKey
    } else if error.contains("CompilationError(CodeDoesNotExist") {
        Refusal::NoContractCode
    } else if error.starts_with("account ") && error.contains(" does not exist") {
        Refusal::UnknownAccount
    } else {
        Refusal::ContractError(bounded(error))
    }
}

impl Parse for Account {
    fn parse(result: &RawValue) -> Result<Self, Unreadable> {
        query(result)
    }
}

impl Parse for AccessKey {
    fn parse(result: &RawValue) -> Result<Self, Unreadable> {
        query(result)
    }
}

impl Parse for AccessKeyList {
    fn parse(result: &RawValue) -> Result<Self, Unreadable> {
        query(result)
    }
}

impl Parse for CallResult {
    fn parse(result: &RawValue) -> Result<Self, Unreadable> {
        query(result)
    }
}

impl Parse for AccessKeyChanges {
    fn parse(result: &RawValue) -> Result<Self, Unreadable> {
        Ok(serde_json::from_str(result.get())?)
    }
}

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

#[derive(Deserialize)]
struct WireKeyInfo {
    public_key: String,
    access_key: WireKey,
}

#[derive(Deserialize)]
struct WireKey {
    #[serde(deserialize_with = "json::u64")]
    nonce: u64,
    permission: Permission,
}

impl From<WireKeyInfo> for AccessKeyInfo {
    fn from(wire: WireKeyInfo) -> Self {
        AccessKeyInfo {
            public_key: wire.public_key,
            nonce: wire.access_key.nonce,
            permission: wire.access_key.permission,
        }
    }
}

#[derive(Deserialize)]
struct WireChange {
    cause: WireCause,
    #[serde(default)]
    change: Option<WireChanged>,
}

#[derive(Deserialize)]
struct WireCause {
    r#type: String,
    #[serde(default)]
    tx_hash: Option<String>,
    #[serde(default)]
    receipt_hash: Option<String>,
}

#[derive(Deserialize)]
struct WireChanged {
    #[serde(default)]
    access_key: Option<WireNonce>,
}

#[derive(Deserialize)]
struct WireNonce {
    #[serde(deserialize_with = "json::u64")]
    nonce: u64,
}

impl From<WireChange> for AccessKeyChange {
    fn from(wire: WireChange) -> Self {
        let cause = match (wire.cause.r#type.as_str(), wire.cause.tx_hash, wire.cause.receipt_hash) {
            ("transaction_processing", Some(tx_hash), _) => ChangeCause::Transaction { tx_hash },
            (_, _, Some(receipt_hash)) => ChangeCause::Receipt { receipt_hash },
            (name, ..) => ChangeCause::Other(bounded(name)),
        };
        let nonce = wire.change.and_then(|change| change.access_key).map(|key| key.nonce);
        AccessKeyChange { cause, nonce }
    }
}
