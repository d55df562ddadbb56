//! The HTTP front end and the `keyshard` command: the drop-in API of the Node.js service over the Keyshard engine.
//!
//! One thread, one listener, one runtime, one way into the engine: see [`server`]. A request goes through `router`,
//! `send_ft` (body, [`validate`], `idempotency`, engine, `outcome`) or `transfers` and `listing` (everything that can be asked).
//! What settles is told by [`webhooks`], which have a thread of their own. `openapi` describes it all.
//! `connections` knows which of a thread's connections are idle, `io` bounds how long a client may stop reading, [`tls`] encrypts.
//!
//! While the service is stopped, `import` (of the Node service's jobs, read by `node_jobs`) and `audit` open its `data_dir`
//! and hold it against the chain's `evidence`.
#![forbid(unsafe_code)]

pub mod access;
pub mod cli;
pub mod config;
pub mod cors;
pub mod env;
pub mod env_file;
pub mod keys;
mod local;
pub mod log;
pub mod run;
pub mod secret;
pub mod server;
pub mod tls;
pub mod validate;

mod admin;
mod audit;
mod body;
mod check;
mod connections;
mod content;
mod dashboard;
mod data_dir;
#[cfg(feature = "profiling")]
mod debug;
mod dev;
mod evidence;
mod files;
mod heartbeat;
mod idempotency;
mod import;
mod inflate;
mod io;
mod json;
mod key_file;
mod key_sources;
mod listing;
mod metrics;
mod mock;
mod near_amount;
mod near_credentials;
mod node_jobs;
mod openapi;
mod outcome;
mod prefer;
mod private_file;
mod probe;
mod process;
mod provision;
mod ready;
mod reload;
mod router;
mod send_ft;
mod service;
mod transfers;
pub mod webhooks;
