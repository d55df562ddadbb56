//! A transfer, its id, and what the shard remembers about it while it is open.
use std::{fmt, sync::Arc};

use borsh::{BorshDeserialize, BorshSerialize};
use near_primitives::{hash::CryptoHash, types::AccountId};

use crate::Instant;

/// Id of a transfer: the 128 bits of its UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct TransferId(pub u128);

/// One payment, as it was accepted.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Transfer {
    /// Its id.
    pub id: TransferId,
    /// Who receives. Never the paying account: the token would refuse it and undo its whole batch.
    pub receiver: AccountId,
    /// Raw token units, more than zero.
    pub amount: u128,
    /// Passed on to the token; absent is sent as an empty string, as the Node service does.
    pub memo: Option<Box<str>>,
    /// What its client calls it, if anything (P6).
    pub key: Option<IdempotencyKey>,
}

/// A client's own name for a transfer: whoever sends the same name again means the same transfer.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct IdempotencyKey {
    /// The name. That of item `i` of a request that was named as a whole is `name#i`.
    pub name: Box<str>,
    /// Transfers in the request that was named as a whole; 1 when the name is the transfer's own.
    pub of: u32,
}

/// Name of a signed batch, printed as the Node service does: `batch-<ms>-<n>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, BorshSerialize, BorshDeserialize)]
pub struct BatchId {
    /// When it was signed.
    pub at: Instant,
    /// Number of the batch; unique within one life of the engine.
    pub number: u64,
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch-{}-{}", self.at.as_millis(), self.number)
    }
}

/// A transfer that has not settled. It is in exactly one place: a queue of the shard, or one attempt (P4).
#[derive(Debug, Clone)]
pub(crate) struct Open {
    /// Shared with the outside: there may be a million of them.
    pub(crate) transfer: Arc<Transfer>,
    /// When it was accepted, in this life or a former one.
    pub(crate) accepted_at: Instant,
    /// Since when it waits for a batch.
    pub(crate) since: Instant,
    /// Transactions that carried it and ended without paying it. Mostly none.
    pub(crate) tried: Box<[CryptoHash]>,
    /// How often an attempt failed on chain and named it.
    pub(crate) blamed: u32,
    /// A batch mate took it down before.
    pub(crate) undone: bool,
    /// It travels without batch mates: it, or its receiver, has failed before.
    pub(crate) alone: bool,
    /// It was signed before, so that it counts against the limit on spending already.
    pub(crate) counted: bool,
}

const _: () = assert!(size_of::<Open>() <= 48, "there may be a million");

impl Open {
    pub(crate) fn new(transfer: impl Into<Arc<Transfer>>, now: Instant) -> Self {
        Self {
            transfer: transfer.into(),
            accepted_at: now,
            since: now,
            tried: Box::default(),
            blamed: 0,
            undone: false,
            alone: false,
            counted: false,
        }
    }
}
