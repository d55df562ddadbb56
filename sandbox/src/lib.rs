//! An embedded single-node NEAR stand-in: it validates real signed transactions and answers as nearcore's JSON-RPC.
//!
//! It exists so that newcomers need nothing else and tests need no network. [`Sandbox::start`] runs one in this process;
//! [`chain::Chain`] is the same chain without clock, thread or I/O. Its answers are held to those of a recorded `neard`
//! (protocol 84). What it is not: there is no wasm (every contract behaves as the standard NEP-141 token), one shard,
//! one validator, a constant gas price, no staking, no meta transactions, no merkle proofs, no block signatures, and no
//! disk: a stopped sandbox is gone.

pub mod chain;
pub mod config;
pub mod credentials;
pub mod gas;
pub mod genesis;
pub mod history;
pub mod pool;
pub mod server;
pub mod state;
pub mod token;

mod blocks;
mod methods;
mod query;
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
