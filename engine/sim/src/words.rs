//! What a node says, in the shard's words: the table of the engine's courier, for the chain's own types.
use keyshard_shard::{Failure, Level, Refusal};
use near_primitives::errors::{
    ActionErrorKind, CompilationError, FunctionCallError, InvalidAccessKeyError, InvalidTxError, MethodResolveError,
};

use keyshard_sandbox::history::Progress;

/// Why a node refuses a transaction.
pub(crate) fn refusal(error: &InvalidTxError) -> Refusal {
    let text = || Box::from(error.to_string());
    match error {
        InvalidTxError::InvalidNonce { ak_nonce, .. } => Refusal::InvalidNonce { key_nonce: Some(*ak_nonce) },
        InvalidTxError::Expired | InvalidTxError::InvalidChain => Refusal::Expired,
        InvalidTxError::NotEnoughBalance { .. } | InvalidTxError::LackBalanceForState { .. } => {
            Refusal::NotEnoughNear(text())
        }
        InvalidTxError::InvalidAccessKeyError(InvalidAccessKeyError::NotEnoughAllowance { .. }) => {
            Refusal::Live(text())
        }
        InvalidTxError::InvalidAccessKeyError(_) => Refusal::Key(text()),
        InvalidTxError::ShardCongested { .. }
        | InvalidTxError::ShardStuck { .. }
        | InvalidTxError::SignerDoesNotExist { .. }
        | InvalidTxError::NonceTooLarge { .. }
        | InvalidTxError::NotEnoughGasKeyBalance { .. }
        | InvalidTxError::StorageError(_) => Refusal::Live(text()),
        InvalidTxError::InvalidSignerId { .. }
        | InvalidTxError::InvalidReceiverId { .. }
        | InvalidTxError::InvalidSignature
        | InvalidTxError::CostOverflow
        | InvalidTxError::ActionsValidation(_)
        | InvalidTxError::TransactionSizeExceeded { .. }
        | InvalidTxError::InvalidTransactionVersion => Refusal::Permanent(text()),
        _ => Refusal::Other(text()),
    }
}

/// Why a receipt failed.
pub(crate) fn failure(kind: &ActionErrorKind) -> Failure {
    match kind {
        ActionErrorKind::FunctionCallError(FunctionCallError::ExecutionError(text)) => {
            Failure::Execution(text.as_str().into())
        }
        ActionErrorKind::FunctionCallError(FunctionCallError::MethodResolveError(
            MethodResolveError::MethodNotFound,
        )) => Failure::MethodMissing,
        ActionErrorKind::FunctionCallError(FunctionCallError::CompilationError(
            CompilationError::CodeDoesNotExist { .. },
        )) => Failure::TokenMissing("the token account holds no contract".into()),
        ActionErrorKind::AccountDoesNotExist { account_id } => {
            Failure::TokenMissing(format!("the account {account_id} does not exist").into())
        }
        other => Failure::Other(other.to_string().into()),
    }
}

/// How far a transaction is.
pub(crate) fn level(progress: Progress) -> Option<Level> {
    match progress {
        Progress::None => None,
        Progress::Included => Some(Level::Included),
        Progress::ExecutedOptimistic => Some(Level::ExecutedOptimistic),
        Progress::IncludedFinal => Some(Level::IncludedFinal),
        Progress::Executed => Some(Level::Executed),
        Progress::Final => Some(Level::Final),
    }
}

/// What a question waits for.
pub(crate) fn progress(level: Level) -> Progress {
    match level {
        Level::Included => Progress::Included,
        Level::ExecutedOptimistic => Progress::ExecutedOptimistic,
        Level::IncludedFinal => Progress::IncludedFinal,
        Level::Executed => Progress::Executed,
        Level::Final => Progress::Final,
    }
}
