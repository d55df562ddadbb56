//! A raw JSON-RPC client for NEAR: pooled connections, several endpoints, a circuit breaker for each, and
//! errors that say what became of the request.
//!
//! # Shape
//! - [`Client`] is what the rest of the program sees: one method per JSON-RPC method (`methods.rs`), one
//!   connection pool per endpoint, [`Answer`]s that name the endpoint that gave them.
//! - [`endpoints`] chooses the endpoint, [`breaker`] decides whether it may be used. Both are pure: time is an
//!   argument and jitter comes from a seed.
//! - [`Error`] carries a [`Fate`]: the request never left, its outcome is unknown, or a node refused it.
//! - Answers are lean structs (`chain.rs`, `query.rs`, `tx.rs`). Unknown fields are skipped and unknown enum variants keep
//!   their raw JSON text, so a protocol upgrade breaks no parse. Account ids, keys and hashes are strings here;
//!   this crate does not depend on `near-primitives`.
//!
//! # Threads
//! A [`Client`] belongs to one thread: its state sits in `RefCell`s (it is `!Sync`) and tasks of one current-thread
//! tokio runtime share it as `Rc<Client>`. There is no lock. Every engine shard has a client, a pool and breakers
//! of its own. The client does not bound the number of concurrent calls: its caller's windows do.
//!
//! # Retries
//! The client asks another endpoint by itself in exactly one case: when it is certain that no byte of the request
//! reached a node ([`Fate::NeverLeft`]). Every other retry is the caller's decision.
//!
//! # Use
//! ```no_run
//! use std::rc::Rc;
//! use keyshard_rpc::{BlockRef, Client, Config, Route};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let (config, warnings) = Config::from_settings(None, "http://127.0.0.1:3030", None, None)?;
//! let client = Rc::new(Client::new(config)?);
//! client.probe_endpoints().await;
//! let block = client.block(Route::Any, BlockRef::Final).await?;
//! // A second question to the same node:
//! let keys = client.view_access_key_list(Route::Only(block.endpoint), BlockRef::Final, "test.near").await?;
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

pub mod breaker;
mod chain;
mod client;
mod config;
pub mod endpoints;
mod fate;
mod fees;
mod invalid_tx;
mod json;
mod methods;
mod query;
mod request;
mod transaction;
mod tx;
mod wire;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod recordings;

pub use chain::{Block, Chunk, ProtocolConfig, Status};
pub use client::{Answer, Client, Observed, Outcome};
pub use config::{Config, ConfigError, ENDPOINTS_MAX, Endpoint, Timeouts};
pub use endpoints::{EndpointHealth, EndpointId, Route};
pub use fate::{Error, Fate, Refusal};
pub use fees::{Fee, Fees};
pub use invalid_tx::{AccessKeyError, ActionsValidationError, Class, DepositShortfall, InvalidTx};
pub use query::{
    AccessKey, AccessKeyChange, AccessKeyChanges, AccessKeyInfo, AccessKeyList, Account, CallResult, ChangeCause,
    Permission,
};
pub use request::{BlockRef, SendUntil, WaitUntil};
pub use transaction::{Action, Transaction, TxDetails};
pub use tx::{ActionErrorKind, ExecutionResult, ExecutionStatus, FunctionCallError, TxOutcome, TxStatus};
