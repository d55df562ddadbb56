//! What a shard writes to the journal: enough to know, after a crash, everything that may still be on its way.
use std::sync::Arc;

use near_primitives::hash::CryptoHash;

use crate::{BatchId, Instant, Proof, Transfer, TransferId};

/// Number of a record within its shard, from 1, without gaps.
pub type Lsn = u64;

/// One journal record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A transfer was accepted (P1).
    Accepted {
        /// The whole transfer.
        transfer: Transfer,
        /// When.
        at: Instant,
    },
    /// A transaction was signed; its bytes may leave once this is durable (P2, P3).
    Signed {
        /// The signing key, `ed25519:...`.
        public_key: Arc<str>,
        /// Its nonce.
        nonce: u64,
        /// Hash of the transaction.
        hash: CryptoHash,
        /// Height of its reference block.
        reference_height: u64,
        /// The signed transaction, borsh.
        bytes: Arc<[u8]>,
        /// Its name.
        batch: BatchId,
        /// The transfers it carries, in the order of their actions; none for a fence.
        transfers: Box<[TransferId]>,
    },
    /// The fate of a transaction is known for ever.
    Closed {
        /// Which.
        hash: CryptoHash,
        /// How.
        how: Closed,
    },
    /// A transfer will never be paid (P5).
    Failed {
        /// Which.
        id: TransferId,
        /// Why.
        reason: Box<str>,
    },
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// Success at FINAL: all its transfers are paid.
    Landed,
    /// Failure at FINAL: none of its transfers is paid, the nonce is used.
    Failed {
        /// The action that failed.
        index: Option<u64>,
        /// Why.
        why: Box<str>,
    },
    /// It can never run.
    Dead(Proof),
}
