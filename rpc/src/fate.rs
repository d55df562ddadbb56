//! What became of a request that got no answer to use: the error type of this crate.

use std::fmt;
use std::time::Duration;

use crate::endpoints::EndpointId;
use crate::invalid_tx::InvalidTx;

/// A call that gave no answer to use.
///
/// `message` is for people: bounded, free of control characters and of credentials. Decide by `fate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What may come next.
    pub fate: Fate,
    /// The endpoint that was asked last; `None` if none could be asked.
    pub endpoint: Option<EndpointId>,
    /// What happened, for a person.
    pub message: String,
    /// The pause the endpoint asked for, or the time until a breaker lets a call pass again.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fate {
            Fate::NeverLeft => write!(f, "not sent: {}", self.message),
            Fate::Unknown => write!(f, "outcome unknown: {}", self.message),
            Fate::Refused(_) => write!(f, "refused: {}", self.message),
        }
    }
}

impl std::error::Error for Error {}

/// What is known about a request that got no answer to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Certainly no byte of the request reached a node: every breaker is open, or the connection was never made
    /// (refused, DNS, TLS handshake, connect timeout).
    NeverLeft,
    /// It may have been processed, entirely or not at all: timeouts (ours, or the node's `TIMEOUT_ERROR`), resets,
    /// 429, 5xx, `INTERNAL_ERROR`, and bodies that are no JSON-RPC answer. For a transaction: sending the same bytes
    /// again is safe, signing again is not.
    Unknown,
    /// The node answered that it will not do it, and why. That is what *the node said*, from its own, perhaps
    /// lagging, view of the chain: it is not proof that a transaction can never run. Also a refused `send_tx` may
    /// have been accepted and forwarded before the node changed its mind while polling.
    Refused(Refusal),
}

/// The reason of a node for refusing a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `INVALID_TRANSACTION`. What it proves is said by [`InvalidTx::class`].
    InvalidTx(InvalidTx),
    /// `UNKNOWN_TRANSACTION`: waiting in a pool, dropped, or never seen; the node cannot tell which.
    UnknownTransaction,
    /// `DOES_NOT_TRACK_SHARD` or `UNAVAILABLE_SHARD`: another node has to be asked.
    DoesNotTrackShard,
    /// `UNKNOWN_ACCOUNT` at the block that was asked for.
    UnknownAccount,
    /// The account has no such access key at the block that was asked for.
    UnknownAccessKey,
    /// `UNKNOWN_BLOCK`: not (yet) known to this node, or skipped.
    UnknownBlock,
    /// The account has no contract.
    NoContractCode,
    /// A view call ran and failed: the contract's panic or the virtual machine's words.
    ContractError(String),
    /// The node does not know this JSON-RPC method.
    MethodNotFound,
    /// The node could not read the request.
    Parse(String),
    /// Any other error the node names.
    Other {
        /// `cause.name`, or `HTTP_400` and the like when a request was turned away before JSON-RPC.
        name: String,
        /// Its words, bounded.
        message: String,
    },
}

impl Refusal {
    /// The node's name for it, for logs and metrics. Bounded in number except for [`Refusal::Other`].
    pub fn name(&self) -> &str {
        match self {
            Refusal::InvalidTx(_) => "INVALID_TRANSACTION",
            Refusal::UnknownTransaction => "UNKNOWN_TRANSACTION",
            Refusal::DoesNotTrackShard => "DOES_NOT_TRACK_SHARD",
            Refusal::UnknownAccount => "UNKNOWN_ACCOUNT",
            Refusal::UnknownAccessKey => "UNKNOWN_ACCESS_KEY",
            Refusal::UnknownBlock => "UNKNOWN_BLOCK",
            Refusal::NoContractCode => "NO_CONTRACT_CODE",
            Refusal::ContractError(_) => "CONTRACT_EXECUTION_ERROR",
            Refusal::MethodNotFound => "METHOD_NOT_FOUND",
            Refusal::Parse(_) => "PARSE_ERROR",
            Refusal::Other { name, .. } => name,
        }
    }
}
