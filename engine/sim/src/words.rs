//! What a node says, in the shard's words. The chain's own errors go the way they go in the service: as JSON, through the
//! client's types, by the courier's table.
use keyshard_engine::{rpc, words};
use keyshard_sandbox::history::Progress;
use keyshard_shard::{Failure, Level, Refusal};
use near_primitives::errors::{ActionErrorKind, InvalidTxError};
use serde::{Serialize, de::DeserializeOwned};

/// Why a node refuses a transaction.
pub(crate) fn refusal(error: &InvalidTxError) -> Refusal {
    words::refusal(&read::<rpc::InvalidTx>(error))
}

/// Why a receipt failed.
pub(crate) fn failure(kind: &ActionErrorKind) -> Failure {
    words::failure(&read::<rpc::ActionErrorKind>(kind))
}

#[expect(clippy::expect_used, reason = "what the chain's types write, the client's types must read")]
fn read<T: DeserializeOwned>(said: &impl Serialize) -> T {
    let json = serde_json::to_string(said).expect("JSON of an error");
    serde_json::from_str(&json).expect("an error that the client reads")
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

#[cfg(test)]
mod tests {
    use near_primitives::errors::{CompilationError, FunctionCallError, InvalidAccessKeyError, MethodResolveError};

    use super::*;

    #[test]
    fn errors_of_the_chain_are_understood() {
        let nonce = InvalidTxError::InvalidNonce { tx_nonce: 3, ak_nonce: 7 };
        assert_eq!(refusal(&nonce), Refusal::InvalidNonce { key_nonce: Some(7) });
        assert_eq!(refusal(&InvalidTxError::Expired), Refusal::Expired);
        assert_eq!(refusal(&InvalidTxError::InvalidChain), Refusal::Expired);
        let stuck = InvalidTxError::ShardStuck { shard_id: 0, missed_chunks: 1 };
        assert!(matches!(refusal(&stuck), Refusal::Live(_)));
        let key = InvalidTxError::InvalidAccessKeyError(InvalidAccessKeyError::RequiresFullAccess);
        assert!(matches!(refusal(&key), Refusal::Key(_)));
        assert!(matches!(refusal(&InvalidTxError::InvalidSignature), Refusal::Permanent(_)));

        let failed = |error| failure(&ActionErrorKind::FunctionCallError(error));
        let panic = "Smart contract panicked: no".to_owned();
        assert_eq!(failed(FunctionCallError::ExecutionError(panic.clone())), Failure::Execution(panic.into()));
        let missing = FunctionCallError::MethodResolveError(MethodResolveError::MethodNotFound);
        assert_eq!(failed(missing), Failure::MethodMissing);
        let account_id = crate::chain::account("nobody.near");
        let code = CompilationError::CodeDoesNotExist { account_id: account_id.clone() };
        assert!(matches!(failed(FunctionCallError::CompilationError(code)), Failure::TokenMissing(_)));
        assert!(matches!(failure(&ActionErrorKind::AccountDoesNotExist { account_id }), Failure::TokenMissing(_)));
        assert!(matches!(
            failure(&ActionErrorKind::TriesToStake {
                account_id: crate::chain::account("nobody.near"),
                stake: near_primitives::types::Balance::ZERO,
                locked: near_primitives::types::Balance::ZERO,
                balance: near_primitives::types::Balance::ZERO,
            }),
            Failure::Other(_)
        ));
    }
}
