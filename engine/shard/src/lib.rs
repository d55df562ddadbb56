//! The pure state machine of Keyshard: every decision about money, and nothing else.
//!
//! A [`Shard`] owns some access keys of the paying account. It is given [`Input`]s and the time, and answers with
//! [`Output`]s; it does no I/O, reads no clock and starts no thread, so one seed can replay its whole life. Whoever
//! drives it ([`keyshard-engine`'s worker](../keyshard_engine/index.html)) does three things, in this order, for ever:
//!
//! 1. [`Shard::handle`] everything that has come in, then [`Input::Tick`];
//! 2. [`Shard::poll_output`] until it is empty, carrying out each output in turn;
//! 3. wait for the next input, or until [`Shard::next_wake`].
//!
//! What the shard promises (numbers as in `ARCHITECTURE.md`):
//! - P1, P7 [`News::Accepted`], [`News::Finalized`] and [`News::Failed`] only after their record was reported
//!   [`Input::Durable`]: no restart takes them back;
//! - P2 no transaction leaves ([`Output::Send`]) before its [`Record::Signed`] was reported [`Input::Durable`];
//! - P3 one (access key, nonce) is signed once, for one set of transfers;
//! - P4 a transfer is signed again only when its earlier attempt has failed on chain at FINAL or is proven dead ([`Proof`]);
//! - P5 [`News::Finalized`] only at FINAL success, [`News::Failed`] only when no attempt lives and none will follow;
//! - P8 everything has a bound, in [`limits`].
mod attempt;
mod batch;
mod blame;
mod endpoints;
pub mod histogram;
mod key;
pub mod limits;
pub mod meter;
pub mod mutants;
mod record;
mod registry;
mod replay;
#[doc(hidden)]
pub mod rig;
mod settled;
mod shard;
mod time;
mod transfer;
mod tx;

use std::{sync::Arc, time::Duration};

pub use attempt::Proof;
pub use endpoints::{EndpointIndex, EndpointSet, Trust};
pub use histogram::Histogram;
pub use key::AccessKey;
pub use near_primitives::{hash::CryptoHash, types::AccountId};
pub use record::{Closed, Lsn, Record, RecordError};
pub use replay::{Contradiction, Recovered, RecoveredAttempt, RecoveredTransfer, Recovery, recover};
pub use settled::{Carried, RecoveredSettled};
pub use shard::{Cancel, Settings, Shard, Stats};
pub use time::Instant;
pub use transfer::{BatchId, IdempotencyKey, Transfer, TransferId};
pub use tx::Signer;

/// What happens to a shard.
#[derive(Debug, Clone)]
pub enum Input {
    /// A validated transfer came through a ring. It waits in the shard until it settles.
    Accept(Arc<Transfer>),
    /// Every record up to and including this one is on disk.
    Durable(Lsn),
    /// The answer to a [`Output::Send`] or [`Output::Query`]. Late answers to questions long dropped are ignored.
    Reply {
        /// The id that the question carried.
        id: AskId,
        /// What came back.
        reply: Reply,
    },
    /// A final block, as this endpoint told. Where two must agree ([`Trust::Two`]), it counts once two have told the same.
    Head {
        /// The block.
        head: Head,
        /// Who told.
        endpoint: EndpointIndex,
    },
    /// The chain's limits, when they were read again. The validity period stays what it was: it is part of the genesis. One
    /// believed too short could pay twice, one too long would keep the dead from being known to be dead.
    Limits(ChainLimits),
    /// Repeat everything that is open in the journal, so that older records are not needed any more.
    Checkpoint,
    /// Everything that was at hand has been given: close batches, let timers fire.
    Tick,
}

/// What a shard wants done, in the order it wants it.
#[derive(Debug)]
pub enum Output {
    /// Append this record to the journal; report [`Input::Durable`] when it is on disk.
    Append {
        /// Its number: one more than the shard's last.
        lsn: Lsn,
        /// What to append.
        record: Record,
    },
    /// Send these bytes to a node (`send_tx`) and answer when it is executed as far as `wait`, or could not be.
    Send {
        /// To be repeated in the reply.
        id: AskId,
        /// Hash of the transaction: an answer about another is none.
        hash: CryptoHash,
        /// The signed transaction, borsh.
        bytes: Arc<[u8]>,
        /// How long the node shall hold the answer.
        wait: Level,
        /// Endpoints whose word is doubted, or had already; another is better, if there is one.
        avoid: EndpointSet,
    },
    /// Ask a node something that changes nothing.
    Query {
        /// To be repeated in the reply.
        id: AskId,
        /// The question.
        query: Query,
    },
    /// So much of an answer to [`Query::Allowance`] was not needed.
    GiveBack {
        /// Raw token units.
        units: u128,
    },
    /// Something the outside may know about these transfers.
    Tell {
        /// The transfers, all of the same news.
        transfers: Box<[TransferId]>,
        /// The news.
        news: News,
    },
}

/// Number of a question; never used twice in one life.
pub type AskId = u64;

/// A question that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// `tx`: how far is this transaction, answered when it is as far as `wait`.
    Status {
        /// Its hash.
        hash: CryptoHash,
        /// How long the node shall hold the answer.
        wait: Level,
        /// As in [`Output::Send`].
        avoid: EndpointSet,
    },
    /// What P4 needs, all from ONE node and in this order: its sync status, the key at FINAL
    /// (`view_access_key`), then `tx` with `wait_until: NONE`.
    Fate {
        /// The signing key, `ed25519:...`.
        public_key: Arc<str>,
        /// The transaction.
        hash: CryptoHash,
        /// As in [`Output::Send`].
        avoid: EndpointSet,
    },
    /// `storage_balance_of` at the token: may this account receive?
    Registration {
        /// The receiver.
        account: AccountId,
    },
    /// `ft_balance_of` the paying account.
    TokenBalance,
    /// Not for a node, but for whoever keeps the limit on spending, which is one for all shards: how much may be signed now?
    Allowance {
        /// Fewer are of no use, raw token units.
        least: u128,
        /// More are not needed.
        most: u128,
    },
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// No answer that says anything: timed out, connection lost, 5xx. A transaction may have landed.
    Lost {
        /// For a person.
        why: Box<str>,
    },
    /// Certainly nothing left: no node can be reached, or the circuit breakers are open.
    NotSent {
        /// For a person.
        why: Box<str>,
        /// When it may be worth trying again.
        retry_after: Duration,
    },
    /// The node refused. It is no proof that the transaction cannot run.
    Refused {
        /// Its reason.
        refusal: Refusal,
        /// Who said so.
        endpoint: EndpointIndex,
    },
    /// To [`Output::Send`] and [`Query::Status`].
    Status {
        /// How far it is.
        status: Status,
        /// Who said so.
        endpoint: EndpointIndex,
    },
    /// To [`Query::Fate`].
    Fate(Fate),
    /// To [`Query::Registration`]: is the account registered (or the token without NEP-145)?
    Registration(bool),
    /// To [`Query::TokenBalance`]: raw token units.
    TokenBalance(u128),
    /// To [`Query::Allowance`]: so many raw token units, which now count as spent.
    Allowance(u128),
    /// To [`Query::Allowance`]: none now.
    NoAllowance {
        /// For a person.
        why: Box<str>,
        /// When there may be.
        retry_after: Duration,
    },
    /// To [`Query::TokenBalance`]: the token cannot be asked (no contract, no such method, a panic).
    TokenUnavailable(Box<str>),
}

/// Why a node refused a transaction, as far as it changes what the shard does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `InvalidNonce`. Also said of a transaction that itself took the nonce, and against a head that may fork.
    InvalidNonce {
        /// Nonce of the key at that node's head, if it said so.
        key_nonce: Option<u64>,
    },
    /// `Expired`, or `InvalidChain`: also said by a node that merely lags.
    Expired,
    /// The account lacks NEAR (`NotEnoughBalance`, `LackBalanceForState`): the same bytes run once it is funded.
    NotEnoughNear(Box<str>),
    /// The key is absent or may not sign this.
    Key(Box<str>),
    /// May pass: congestion, a node in trouble, an account not yet there.
    Live(Box<str>),
    /// These bytes can never run under the rules of this epoch: limits, size, signature.
    Permanent(Box<str>),
    /// Anything else; proves nothing.
    Other(Box<str>),
}

impl Refusal {
    /// For a person.
    pub fn text(&self) -> &str {
        match self {
            Self::InvalidNonce { .. } => "InvalidNonce",
            Self::Expired => "Expired",
            Self::NotEnoughNear(text)
            | Self::Key(text)
            | Self::Live(text)
            | Self::Permanent(text)
            | Self::Other(text) => text,
        }
    }
}

/// How far a transaction is, as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// `final_execution_status`; `None` for `NONE` and for words this version does not know.
    pub level: Option<Level>,
    /// What its receipt did.
    pub execution: Execution,
    /// Gas that the receipt burnt, when it ran.
    pub gas_burnt: Option<u64>,
}

/// What the receipt of a transaction did. Final only when [`Status::level`] is [`Level::Final`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Execution {
    /// It has not run yet, or the answer does not say.
    Pending,
    /// All actions ran.
    Success,
    /// It ran and was undone as a whole; the nonce is used.
    Failed {
        /// The action that failed, counted from 0; `None` when the chain names none.
        index: Option<u64>,
        /// Why.
        failure: Failure,
    },
    /// An `InvalidTxError` recorded on chain. Proves nothing: the same bytes may run later (near-facts section 2).
    Invalid(Box<str>),
}

/// `ActionErrorKind`, as far as it changes what the shard does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// `FunctionCallError.ExecutionError`: the contract panicked, trapped or ran out of gas.
    Execution(Box<str>),
    /// The token contract is gone: no account, no code.
    TokenMissing(Box<str>),
    /// The contract is there and has no such method.
    MethodMissing,
    /// Anything else.
    Other(Box<str>),
}

/// What one node knows about a transaction in doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// Nonce of the key at the node's final block; `None` when the key is not on chain.
    pub key_nonce: Option<u64>,
    /// Height of that final block.
    pub final_height: u64,
    /// Oldest block the node still holds: it knows nothing of transactions before it.
    pub earliest_height: u64,
    /// What it says of the transaction, asked after the above.
    pub known: Known,
    /// The node.
    pub endpoint: EndpointIndex,
}

/// What a node says of a transaction hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It is on its chain.
    Yes(Status),
    /// `UNKNOWN_TRANSACTION`.
    No,
    /// It does not track the shard, so it cannot say.
    Untracked,
}

/// What the outside may know. Levels and states only move forward; the driver's board holds them to that (P7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// Its acceptance is durable (P1).
    Accepted,
    /// Signed into a transaction, not yet sent.
    Signed {
        /// The transaction.
        hash: CryptoHash,
        /// The batch.
        batch: BatchId,
        /// When.
        at: Instant,
    },
    /// The transaction is this far and nothing failed. From [`Level::ExecutedOptimistic`] on the transfer has run, but not finally.
    Reached {
        /// How far.
        level: Level,
    },
    /// Paid, at FINAL.
    Finalized,
    /// Will never be paid.
    Failed {
        /// Why, for a person.
        reason: Box<str>,
    },
    /// Still open, and this is why.
    Delayed {
        /// Why, for a person.
        reason: Box<str>,
    },
}

/// How far a transaction is executed (`final_execution_status`, nearcore `TxExecutionStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// In a block, or at least in a chunk.
    Included,
    /// Included, and every receipt but refunds has run; nothing is final.
    ExecutedOptimistic,
    /// In a final block; receipts may not have run.
    IncludedFinal,
    /// In a final block, and every receipt but refunds has run.
    Executed,
    /// In a final block, and all receipts are in final blocks.
    Final,
}

impl Level {
    /// The word on the wire, e.g. `EXECUTED_OPTIMISTIC`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Included => "INCLUDED",
            Self::ExecutedOptimistic => "EXECUTED_OPTIMISTIC",
            Self::IncludedFinal => "INCLUDED_FINAL",
            Self::Executed => "EXECUTED",
            Self::Final => "FINAL",
        }
    }
}

/// A final block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its height.
    pub height: u64,
    /// Its hash: the reference block of what is signed next.
    pub hash: CryptoHash,
    /// Its own time stamp, nanoseconds since the Unix epoch.
    pub timestamp_nanos: u64,
}

/// The chain's limits, read from `EXPERIMENTAL_protocol_config`, never assumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChainLimits {
    /// `max_actions_per_receipt`
    pub max_actions: usize,
    /// `max_total_prepaid_gas` of one transaction, in gas.
    pub max_total_prepaid_gas: u64,
    /// `max_gas_burnt` of one function call, in gas.
    pub max_gas_burnt: u64,
    /// `max_transaction_size`, in bytes, without the signature.
    pub max_transaction_size: usize,
    /// `transaction_validity_period`, in blocks.
    pub validity_blocks: u64,
}

/// What is done about receivers that are not registered with the token (NEP-145).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoragePolicy {
    /// Ask the token; a `storage_deposit` goes in front of the first transfer to an unregistered receiver.
    Auto,
    /// Do not ask; a `storage_deposit` goes in front of every receiver, once a transaction. The token refunds needless ones.
    Always,
    /// Never pay for storage: a transfer to an unregistered receiver fails.
    Never,
}

/// Something that keeps transfers from going out. They stay accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The paying account holds too few tokens for the next transfer.
    NotEnoughTokens(Box<str>),
    /// The paying account holds too little NEAR for gas and deposits.
    NotEnoughNear(Box<str>),
    /// The token contract does not answer.
    TokenUnavailable(Box<str>),
    /// So many transactions of a former life have not been asked about yet.
    Recovering(usize),
    /// Some transactions can be proven neither paid nor dead: no node holds the blocks in which they may have run.
    Unprovable(Vec<CryptoHash>),
    /// No final block young enough to sign against.
    StaleHead,
    /// The limit on spending is used up.
    SpendLimit(Box<str>),
    /// A person has ordered that nothing new is signed.
    Paused,
    /// None of the shard's keys may sign anything, because a person has ordered so.
    NoKey,
    /// A person has ordered that this key signs nothing new.
    KeyQuarantined {
        /// `ed25519:...`
        public_key: Arc<str>,
    },
    /// A key was refused and rests.
    KeyRefused {
        /// `ed25519:...`
        public_key: Arc<str>,
        /// What the node said.
        why: Box<str>,
    },
}
