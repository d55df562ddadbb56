//! What the engine must be told to start, and why it may refuse to.
use std::{path::PathBuf, time::Duration};

use keyshard_shard::{Level, StoragePolicy, Trust};
use near_crypto::SecretKey;
use near_primitives::types::AccountId;

/// Everything the engine needs. Has no `Debug`: it holds the keys.
pub struct Config {
    /// The account that pays: signer of every transaction, owner of the tokens.
    pub account: AccountId,
    /// The NEP-141 contract.
    pub token: AccountId,
    /// Full-access keys of `account`. Keys that are not on chain are left out with a warning; none left is an error.
    pub keys: Vec<SecretKey>,
    /// Endpoints, time-outs and circuit breakers of the JSON-RPC clients (one client a shard).
    pub rpc: keyshard_rpc::Config,
    /// Whose word ends a transaction; `None`: two endpoints must agree where there are two or more. While only one of them
    /// can be reached, transfers go out and callers are answered on its word, but nothing becomes `finalized`; and nothing
    /// new is signed once the last block that two agreed on is older than a quarter of the validity period.
    pub trust: Option<Trust>,
    /// How far a transfer must be executed before its caller is answered.
    pub wait_until: Level,
    /// What is done about receivers that are not registered with the token (NEP-145).
    pub storage: StoragePolicy,
    /// Deposit that registers one receiver, in yoctoNEAR; `None` asks the token (`storage_balance_bounds`).
    pub storage_deposit: Option<u128>,
    /// Most transfers accepted and not settled at any time (P8). More are refused at the door.
    pub max_pending: usize,
    /// Transactions of one key that may be in flight and not executed.
    pub window: usize,
    /// Most actions in one transaction; `None` takes the chain's own limit.
    pub max_actions: Option<usize>,
    /// Most transfers in one transaction; `None` leaves it to actions, gas and bytes.
    pub max_batch: Option<usize>,
    /// How long a transfer may wait for batch mates while other batches are in flight.
    pub linger: Duration,
    /// How often a transfer may fail on chain, as the one that the failure names, before it is given up.
    pub max_attempts: u32,
    /// Most that is signed in any such stretch of time, raw token units; the rest waits. A transfer counts once, when it is
    /// first signed, whatever becomes of it.
    pub spend_limits: Vec<(crate::Period, u128)>,
    /// Pause before such a transfer is tried again, times the attempts made.
    pub retry_base: Duration,
    /// Where the journal lives, and the history in `history` beneath it.
    pub data_dir: PathBuf,
    /// Whether records are synced to disk before anything relies on them. Off is for measuring only: then a power loss
    /// may lose or double transfers.
    pub journal_sync: bool,
    /// Size of a journal segment in bytes, 8 KiB to 1 GiB.
    pub segment_bytes: usize,
    /// Front-end threads: one [`crate::Door`] is made for each.
    pub doors: usize,
    /// Shard threads; `None` chooses by cores and keys.
    pub shards: Option<usize>,
    /// Settled transfers that stay in memory besides the history on the disk: a cache.
    pub settled_kept: usize,
    /// Whether every transfer that settles gets an event in the [`crate::Outbox`], until that is delivered.
    pub webhooks: bool,
    /// How long the history knows a settled transfer, and so its idempotency key; at least [`HISTORY_RETENTION_MIN`].
    pub history_retention: Duration,
}

/// P6: whoever sends an idempotency key again within this time after the transfer settled means the same transfer.
pub const HISTORY_RETENTION_MIN: Duration = Duration::from_hours(24);

/// Why the engine does not start. Each text says what is wrong and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is missing or out of its range.
    #[error("{0}")]
    Config(String),
    /// No endpoint answered.
    #[error("no NEAR node answered: {0}. Check NODE_URL or RPC_URLS and that the node is up and synced")]
    Unreachable(String),
    /// The paying account is not on chain.
    #[error(
        "account {account} does not exist on {chain_id}: check MASTER_ACCOUNT and that NODE_URL points at the right network"
    )]
    NoAccount {
        /// The account asked for.
        account: AccountId,
        /// The chain the node is on.
        chain_id: String,
    },
    /// None of the configured keys can sign.
    #[error("{0}")]
    NoKeys(String),
    /// The token account holds no NEP-141 contract.
    #[error("{token} is not a fungible token: {why}. Check FT_CONTRACT")]
    NoToken {
        /// The account asked for.
        token: AccountId,
        /// What it answered.
        why: String,
    },
    /// The journal cannot be read or written.
    #[error("{0}")]
    Journal(String),
    /// The history of settled transfers cannot be read or written.
    #[error("{0}")]
    History(#[from] crate::history::HistoryError),
    /// The journal is of another chain: this node's was wiped, or it is another network.
    #[error(
        "the journal in {dir} is of another chain: its genesis is {journal}, the node's is {node}. If the chain was wiped \
         (a sandbox that was started anew), move {dir} away or choose another DATA_DIR; otherwise check NODE_URL"
    )]
    OtherChain {
        /// The data directory.
        dir: String,
        /// Genesis that the journal knows.
        journal: String,
        /// Genesis of the node's chain.
        node: String,
    },
    /// What was spent of a limit, or what a person has ordered, cannot be read.
    #[error("{0}")]
    Kept(String),
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}

impl From<crate::journal::JournalError> for StartError {
    fn from(error: crate::journal::JournalError) -> Self {
        Self::Journal(error.to_string())
    }
}
