//! The status of a transaction as `send_tx` and `tx` tell it, cut down to what decides its fate.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::invalid_tx::InvalidTx;
use crate::json::{self, bounded};
use crate::wire::{Parse, Unreadable};

/// How far a transaction has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxStatus {
    /// Decide by this first: an outcome below [`ExecutionStatus::Final`] can still vanish in a fork.
    pub execution_status: ExecutionStatus,
    /// `None` when the node told the status alone, as it does for `NONE` and `INCLUDED`.
    pub outcome: Option<TxOutcome>,
}

/// nearcore's `TxExecutionStatus` in an answer. It may be further than what was waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutionStatus {
    /// Nothing is known; also the answer of a node that does not track the shard.
    None,
    /// In a chunk that the node has seen.
    Included,
    /// Executed in blocks that are not final.
    ExecutedOptimistic,
    /// In a final block, receipts perhaps not executed.
    IncludedFinal,
    /// The transaction is final and executed, the receipts' blocks perhaps not final.
    Executed,
    /// All of it is in final blocks.
    Final,
    /// A status this version does not know.
    Other(String),
}

impl ExecutionStatus {
    /// As on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            ExecutionStatus::None => "NONE",
            ExecutionStatus::Included => "INCLUDED",
            ExecutionStatus::ExecutedOptimistic => "EXECUTED_OPTIMISTIC",
            ExecutionStatus::IncludedFinal => "INCLUDED_FINAL",
            ExecutionStatus::Executed => "EXECUTED",
            ExecutionStatus::Final => "FINAL",
            ExecutionStatus::Other(text) => text,
        }
    }

    fn from_wire(text: &str) -> Self {
        match text {
            "NONE" => ExecutionStatus::None,
            "INCLUDED" => ExecutionStatus::Included,
            "EXECUTED_OPTIMISTIC" => ExecutionStatus::ExecutedOptimistic,
            "INCLUDED_FINAL" => ExecutionStatus::IncludedFinal,
            "EXECUTED" => ExecutionStatus::Executed,
            "FINAL" => ExecutionStatus::Final,
            other => ExecutionStatus::Other(bounded(other)),
        }
    }
}

/// What a transaction did. Hashes are base58.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxOutcome {
    /// The transaction this is about. Compare it with the one asked for.
    pub transaction_hash: String,
    /// The block that included the transaction.
    pub block_hash: String,
    /// What its receipt did.
    pub result: ExecutionResult,
    /// Gas burnt to turn the transaction into a receipt.
    pub gas_burnt_tx: u64,
    /// Gas burnt by the receipt (all actions together); `None` until it has run.
    pub gas_burnt_receipt: Option<u64>,
    /// Receipt outcomes in the answer, refunds included.
    pub receipts: usize,
}

/// What the transaction's one receipt did: the outcome whose id is `transaction_outcome.outcome.receipt_ids[0]`.
///
/// The top-level `status` follows the chain of returned promises instead, and is read only for a transaction that
/// has no receipt because it was invalid on chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutionResult {
    /// All actions took effect. The bytes are the last action's return value: empty for `ft_transfer`, and empty
    /// for a receipt that handed its value on to a promise (`SuccessReceiptId`), whose own actions stand whatever
    /// the promise does.
    Success(Vec<u8>),
    /// The receipt has no outcome yet, or one this version cannot read as success or failure.
    Pending,
    /// The receipt ran and was undone as a whole; the nonce is consumed.
    ActionError {
        /// The first action that failed; later ones were not tried. `None` when no single action is to blame.
        index: Option<u64>,
        /// Why.
        kind: ActionErrorKind,
    },
    /// A producer included an invalid transaction: no receipt, no nonce consumed. The same bytes may still execute
    /// in another block, so this alone is no proof that they never do.
    InvalidTx(InvalidTx),
    /// A failure this version does not know: raw JSON text, bounded.
    OtherFailure(String),
}

/// nearcore's `ActionErrorKind`, the part that transfers of tokens meet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(remote = "Self")]
pub enum ActionErrorKind {
    /// The contract call failed.
    #[serde(rename = "FunctionCallError")]
    FunctionCall(FunctionCallError),
    /// The receiver of the transaction (the token contract) does not exist.
    AccountDoesNotExist {
        /// The account.
        account_id: String,
    },
    /// The account would not hold enough for its storage.
    LackBalanceForState {
        /// The account.
        account_id: String,
        /// What is missing, in yoctoNEAR.
        #[serde(deserialize_with = "json::u128")]
        amount: u128,
    },
    /// A receipt made by the contract is invalid. Raw JSON text.
    #[serde(rename = "NewReceiptValidationError", deserialize_with = "json::raw_text")]
    NewReceiptValidation(String),
    /// A kind this version does not know: raw JSON text, bounded.
    #[serde(skip)]
    Other(String),
}

/// nearcore's `FunctionCallError`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionCallError {
    /// Every panic, host error, trap and running out of gas, in the virtual machine's words.
    Execution(String),
    /// The contract has no such method.
    MethodNotFound,
    /// The account has no contract.
    CodeDoesNotExist,
    /// A kind this version does not know: raw JSON text, bounded.
    Other(String),
}

impl<'de> Deserialize<'de> for ActionErrorKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::known_or(deserializer, |known| Self::deserialize(known), ActionErrorKind::Other)
    }
}

impl<'de> Deserialize<'de> for FunctionCallError {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        enum Known {
            #[serde(rename = "ExecutionError")]
            Execution(String),
            #[serde(rename = "MethodResolveError")]
            MethodResolve(Method),
            #[serde(rename = "CompilationError")]
            Compilation(Compilation),
        }
        #[derive(Deserialize)]
        enum Method {
            MethodNotFound,
        }
        #[derive(Deserialize)]
        enum Compilation {
            CodeDoesNotExist {},
        }
        json::known_or(
            deserializer,
            |known| {
                Ok(match Known::deserialize(known)? {
                    Known::Execution(text) => FunctionCallError::Execution(bounded(&text)),
                    Known::MethodResolve(Method::MethodNotFound) => FunctionCallError::MethodNotFound,
                    Known::Compilation(Compilation::CodeDoesNotExist {}) => FunctionCallError::CodeDoesNotExist,
                })
            },
            FunctionCallError::Other,
        )
    }
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    final_execution_status: Cow<'a, str>,
    #[serde(borrow, default)]
    status: Option<&'a RawValue>,
    #[serde(borrow, default)]
    transaction_outcome: Option<WireOutcome<'a>>,
    #[serde(borrow, default)]
    receipts_outcome: Vec<WireOutcome<'a>>,
}

#[derive(Deserialize)]
struct WireOutcome<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    block_hash: Cow<'a, str>,
    #[serde(borrow)]
    outcome: WireExecution<'a>,
}

#[derive(Deserialize)]
struct WireExecution<'a> {
    receipt_ids: Vec<String>,
    #[serde(deserialize_with = "json::u64")]
    gas_burnt: u64,
    #[serde(borrow)]
    status: &'a RawValue,
}

impl Parse for TxStatus {
    fn parse(result: &RawValue) -> Result<Self, Unreadable> {
        let wire: Wire = serde_json::from_str(result.get())?;
        let execution_status = ExecutionStatus::from_wire(&wire.final_execution_status);
        let Some(tx) = &wire.transaction_outcome else {
            return Ok(TxStatus { execution_status, outcome: None });
        };
        let receipt_id = tx.outcome.receipt_ids.first();
        let receipt = receipt_id.and_then(|id| wire.receipts_outcome.iter().find(|receipt| receipt.id == *id));
        let result = match receipt {
            Some(receipt) => read_status(receipt.outcome.status)?,
            None => [Some(tx.outcome.status), wire.status]
                .into_iter()
                .flatten()
                .find_map(invalid_on_chain)
                .unwrap_or(ExecutionResult::Pending),
        };
        let outcome = TxOutcome {
            transaction_hash: tx.id.clone().into_owned(),
            block_hash: tx.block_hash.clone().into_owned(),
            result,
            gas_burnt_tx: tx.outcome.gas_burnt,
            gas_burnt_receipt: receipt.map(|receipt| receipt.outcome.gas_burnt),
            receipts: wire.receipts_outcome.len(),
        };
        Ok(TxStatus { execution_status, outcome: Some(outcome) })
    }
}

/// The status of the receipt's outcome. The *presence* of `SuccessValue` is what counts: it is `""` for
/// `ft_transfer`.
fn read_status(status: &RawValue) -> Result<ExecutionResult, Unreadable> {
    #[derive(Deserialize)]
    enum Known<'a> {
        #[serde(borrow)]
        SuccessValue(Cow<'a, str>),
        SuccessReceiptId(serde::de::IgnoredAny),
        Failure(&'a RawValue),
    }
    match serde_json::from_str(status.get()) {
        Ok(Known::SuccessValue(value)) => match BASE64.decode(value.as_bytes()) {
            Ok(bytes) => Ok(ExecutionResult::Success(bytes)),
            Err(_) => Err(Unreadable::Garbage("a SuccessValue that is not base64".to_owned())),
        },
        Ok(Known::SuccessReceiptId(_)) => Ok(ExecutionResult::Success(Vec::new())),
        Ok(Known::Failure(failure)) => Ok(read_failure(failure)),
        // "Unknown" is nearcore's word for an outcome that is not there yet. A variant of a later protocol is taken
        // for the same: to read it as a failure could pay twice, to read it as success could pay never.
        Err(_) => Ok(ExecutionResult::Pending),
    }
}

fn read_failure(failure: &RawValue) -> ExecutionResult {
    #[derive(Deserialize)]
    enum Known {
        ActionError {
            #[serde(default)]
            index: Option<u64>,
            kind: ActionErrorKind,
        },
        InvalidTxError(InvalidTx),
    }
    match serde_json::from_str(failure.get()) {
        Ok(Known::ActionError { index, kind }) => ExecutionResult::ActionError { index, kind },
        Ok(Known::InvalidTxError(error)) => ExecutionResult::InvalidTx(error),
        Err(_) => ExecutionResult::OtherFailure(bounded(failure.get())),
    }
}

/// `Failure(InvalidTxError)` of a transaction that made no receipt.
fn invalid_on_chain(status: &RawValue) -> Option<ExecutionResult> {
    let result = read_status(status).ok()?;
    matches!(result, ExecutionResult::InvalidTx(_) | ExecutionResult::OtherFailure(_)).then_some(result)
}
