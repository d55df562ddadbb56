//! Sending transactions and asking what became of them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use near_primitives::errors::InvalidTxError;
use near_primitives::hash::CryptoHash;
use near_primitives::serialize::from_base64;
use near_primitives::transaction::SignedTransaction;
use near_primitives::types::AccountId;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::history::{Known, Progress};
use crate::methods::{Answer, answer, is_array};
use crate::outcomes::TxStatus;
use crate::rpc_error::RpcError;
use crate::server::Node;

/// How long a request may wait for a transaction before `TIMEOUT_ERROR` (nearcore's `polling_config.timeout`).
pub const POLLING_TIMEOUT: Duration = Duration::from_secs(10);

/// `send_tx` and its older forms.
pub(crate) async fn send(node: &Node, tx: Arc<SignedTransaction>, wait: Progress) -> Answer {
    let submitted = node.chain.borrow_mut().submit(Arc::clone(&tx));
    if wait == Progress::None {
        // A real node answers before it looks: an invalid transaction vanishes.
        return answer(&json!({"final_execution_status": "NONE"}));
    }
    match submitted {
        Ok(()) => {}
        // Perhaps it was this very transaction that used the nonce.
        Err(InvalidTxError::InvalidNonce { .. })
            if !matches!(node.chain.borrow().history.known(&tx.get_hash()), Known::Unknown) => {}
        Err(error) => return Err(RpcError::invalid_transaction(&error)),
    }
    poll(node, tx.get_hash(), Some(&tx), wait, false).await
}

/// `tx` and `EXPERIMENTAL_tx_status`, which adds `receipts`.
pub(crate) async fn tx_status(node: &Node, params: Option<&RawValue>, receipts: bool) -> Answer {
    let (hash, tx, wait) = tx_params(params)?;
    if let Some(tx) = &tx
        && matches!(node.chain.borrow().history.known(&hash), Known::Unknown)
    {
        node.chain.borrow().check(tx, true).map_err(|error| RpcError::invalid_transaction(&error))?;
    }
    poll(node, hash, tx.as_deref(), wait, receipts).await
}

/// Waits, block by block, until the transaction has come as far as `wait`.
async fn poll(node: &Node, hash: CryptoHash, tx: Option<&SignedTransaction>, wait: Progress, receipts: bool) -> Answer {
    let deadline = Instant::now() + POLLING_TIMEOUT;
    let mut head = node.head.subscribe();
    let mut looked = false;
    loop {
        {
            let chain = node.chain.borrow();
            match chain.history.known(&hash) {
                Known::Here(record, details) => {
                    let progress = chain.history.progress_of(record, details);
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
    signed_tx_base64: Cow<'a, str>,
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

/// The transaction and how far to wait for it.
pub(crate) fn send_params(params: Option<&RawValue>) -> Result<(Arc<SignedTransaction>, Progress), RpcError> {
    let text = params.map_or("null", RawValue::get);
    if is_array(text) {
        let (tx,): (Cow<'_, str>,) = serde_json::from_str(text).map_err(RpcError::args)?;
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
