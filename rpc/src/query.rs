//! Lean answers about accounts: balances, access keys, view calls. Ids, keys and hashes are text as the node wrote
//! it; amounts are yoctoNEAR.

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::fate::Refusal;
use crate::json::{self, bounded};
use crate::wire::{Parse, Unreadable};

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
