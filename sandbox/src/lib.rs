//! An embedded single-node NEAR stand-in: it validates real signed transactions and answers as nearcore's JSON-RPC.
//!
//! It exists so that newcomers need nothing else and tests need no network. [`Sandbox::start`] runs one in this process;
//! [`chain::Chain`] is the same chain without clock, thread or I/O; the simulator (`engine/sim`) runs it, so that the rules
//! there are the rules here. Its answers are held to those of a recorded `neard`
//! (protocol 84, `tests/conformance.rs`).
//!
//! What it is not:
//! - no wasm: whatever code an account has, it behaves as the standard NEP-141 token, unusable until initialised;
//!   `ft_transfer_call` and `storage_unregister` panic with a plain message;
//! - gas inside contracts is looked up, not metered, and reported as one profile entry ([`gas`]); its price is constant;
//! - one shard, one validator, no forks, no merkle proofs, no signatures on blocks;
//! - refused: staking, deleting accounts, meta transactions, global contracts, gas keys, `view_code`, `view_state`;
//! - no disk: a stopped sandbox is gone. Its keys derive from a number ([`Config::seed`]) and are no secret.

pub mod chain;
pub mod config;
pub mod credentials;
pub mod gas;
pub mod genesis;
pub mod history;
pub mod past;
pub mod pool;
pub mod server;
pub mod state;
pub mod token;

mod blocks;
mod methods;
mod outcomes;
mod query;
mod receipts;
mod rpc_error;
mod runtime;
mod transactions;
mod validity;
mod views;

pub use config::Config;
pub use credentials::Credentials;
pub use server::{Sandbox, StartError};
pub use transactions::POLLING_TIMEOUT;
pub use views::{CHAIN_ID, PROTOCOL_VERSION};
