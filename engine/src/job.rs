//! A transfer as the outside sees it.
use std::sync::Arc;

use near_primitives::types::AccountId;
use uuid::Uuid;

/// The states of a transfer. They only move forward (P7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobStatus {
    /// Accepted, in no transaction yet.
    Queued,
    /// In a signed transaction whose fate is open.
    Processing,
    /// Executed successfully in a block that is not final yet.
    Submitted,
    /// Executed successfully at FINAL. For ever.
    Finalized,
    /// Will never be paid. For ever.
    Failed,
}

impl JobStatus {
    /// The word in the API: `queued`, `processing`, `submitted`, `finalized`, `failed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Submitted => "submitted",
            Self::Finalized => "finalized",
            Self::Failed => "failed",
        }
    }

    /// Whether it stays so for ever.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Finalized | Self::Failed)
    }
}

/// One transfer as the outside sees it. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// What its client calls it: its idempotency key.
    pub key: Option<Box<str>>,
    /// When it was accepted.
    pub created_at_ms: u64,
    /// Where it is.
    pub status: JobStatus,
    /// Who receives.
    pub receiver: AccountId,
    /// Raw token units.
    pub amount: u128,
    /// As given.
    pub memo: Option<Box<str>>,
    /// Transactions it has been in.
    pub attempts: u32,
    /// The last of them, as the Node service names it: `batch-<ms>-<n>`.
    pub batch_id: Option<Arc<str>>,
    /// Why it is not settled, or why it failed.
    pub last_error: Option<Box<str>>,
    /// Hash of the last transaction, base58.
    pub tx_hash: Option<Arc<str>>,
    /// When the last transaction was signed.
    pub submitted_at_ms: Option<u64>,
    /// When anything last changed.
    pub updated_at_ms: u64,
    /// How far the node says the transaction is executed: `EXECUTED_OPTIMISTIC`, `FINAL`, ... None of one that has failed.
    pub execution_status: Option<&'static str>,
}

/// How many transfers are in each status: the open ones, and what has settled since start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// [`JobStatus::Queued`]
    pub queued: u64,
    /// [`JobStatus::Processing`]
    pub processing: u64,
    /// [`JobStatus::Submitted`]
    pub submitted: u64,
    /// [`JobStatus::Finalized`]
    pub finalized: u64,
    /// [`JobStatus::Failed`]
    pub failed: u64,
}
