//! A transaction with what it does, as `tx` shows it beside its status: for proving what was paid.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json;
use crate::tx::TxStatus;
use crate::wire::{Parse, Unreadable};

/// The answer to [`Client::tx_details`](crate::Client::tx_details).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxDetails {
    /// How far it has come, and what its receipt did.
    pub status: TxStatus,
    /// `None` when the node told the status alone.
    pub transaction: Option<Transaction>,
}

/// What was signed, as far as the node shows it (without its reference block).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Base58. Not computed from the rest: the node says so.
    pub hash: String,
    /// Who signed.
    pub signer_id: String,
    /// With which key, `ed25519:…`.
    pub public_key: String,
    /// The key's nonce.
    pub nonce: u64,
    /// Where the actions run.
    pub receiver_id: String,
    /// In order.
    pub actions: Vec<Action>,
}

/// One action of a [`Transaction`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A contract call.
    FunctionCall {
        /// The method.
        method_name: String,
        /// Its arguments, usually JSON.
        args: Vec<u8>,
        /// Attached yoctoNEAR.
        deposit: u128,
    },
    /// Any other.
    Other,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow, default)]
    transaction: Option<WireTransaction<'a>>,
}

#[derive(Deserialize)]
struct WireTransaction<'a> {
    hash: String,
    signer_id: String,
    public_key: String,
    #[serde(deserialize_with = "json::u64")]
    nonce: u64,
    receiver_id: String,
    #[serde(borrow)]
    actions: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
enum WireAction<'a> {
    FunctionCall {
        method_name: String,
        #[serde(borrow)]
        args: Cow<'a, str>,
        #[serde(deserialize_with = "json::u128")]
        deposit: u128,
    },
}

impl Parse for TxDetails {
    fn parse(result: &RawValue) -> Result<Self, Unreadable> {
        let status = TxStatus::parse(result)?;
        let wire: Wire = serde_json::from_str(result.get())?;
        let transaction = match wire.transaction {
            None => None,
            Some(WireTransaction { hash, signer_id, public_key, nonce, receiver_id, actions }) => {
                let actions = actions.into_iter().map(action).collect::<Result<_, _>>()?;
                Some(Transaction { hash, signer_id, public_key, nonce, receiver_id, actions })
            }
        };
        Ok(TxDetails { status, transaction })
    }
}

fn action(raw: &RawValue) -> Result<Action, Unreadable> {
    let Ok(WireAction::FunctionCall { method_name, args, deposit }) = serde_json::from_str(raw.get()) else {
        return Ok(Action::Other);
    };
    let args = BASE64.decode(args.as_bytes());
    let args = args.map_err(|_| Unreadable::Garbage("arguments of a call that are not base64".to_owned()))?;
    Ok(Action::FunctionCall { method_name, args, deposit })
}
