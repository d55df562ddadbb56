//! Known bugs of payment services, to be compiled in (feature `mutants`) and chosen one at a time: the simulator must
//! catch each of them, or it would not catch the next one either.

/// A known bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mutant {
    /// A lost answer is taken to say that nothing was sent.
    TimeoutMeansNotSent,
    /// `InvalidNonce` is taken as proof that the transaction cannot run.
    ResignOnInvalidNonce,
    /// `Expired` is taken as proof that the transaction cannot run.
    ResignOnExpired,
    /// A question that gets no answer makes its transfers `failed`.
    FailedOnQueryError,
    /// Acceptance is told before its record is durable.
    AcknowledgeBeforeSync,
    /// Transactions leave before their record is durable.
    SendBeforeSync,
    /// A failed sync is taken for a good one. Lives in the driver.
    IgnoreFailedSync,
    /// A new life queues what was in flight as if it had never been signed.
    RequeueInFlight,
    /// A new life counts nonces from what the chain shows and forgets those it has signed.
    NonceReused,
    /// A restart forgets which idempotency keys were used. Lives in the driver.
    IdempotencyForgotten,
    /// The failed action's position is taken for the transfer's, as if there were no deposits before it.
    IndexOffByOne,
    /// An `InvalidTxError` recorded on chain is taken as proof that the transaction cannot run.
    InvalidTxErrorIsProof,
    /// What looks executed is taken as settled before it is FINAL.
    FinalBeforeFinal,
    /// What is taken back is told `failed` although a live transaction carries it.
    CancelInFlight,
    /// More is signed than the limit on spending lets out.
    AllowanceIgnored,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::TimeoutMeansNotSent,
        Self::ResignOnInvalidNonce,
        Self::ResignOnExpired,
        Self::FailedOnQueryError,
        Self::AcknowledgeBeforeSync,
        Self::SendBeforeSync,
        Self::IgnoreFailedSync,
        Self::RequeueInFlight,
        Self::NonceReused,
        Self::IdempotencyForgotten,
        Self::IndexOffByOne,
        Self::InvalidTxErrorIsProof,
        Self::FinalBeforeFinal,
        Self::CancelInFlight,
        Self::AllowanceIgnored,
    ];

    /// Whether this thread's shards have this bug. Never without the feature.
    pub fn is_chosen(self) -> bool {
        #[cfg(feature = "mutants")]
        return CHOSEN.get() == Some(self);
        #[cfg(not(feature = "mutants"))]
        false
    }
}

#[cfg(feature = "mutants")]
thread_local! {
    static CHOSEN: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Gives the shards of this thread a bug, or mends them.
#[cfg(feature = "mutants")]
pub fn choose(mutant: Option<Mutant>) {
    CHOSEN.set(mutant);
}
