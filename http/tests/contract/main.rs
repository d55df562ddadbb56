//! What operators and clients of the Node service rely on, held against the running binary: one file a topic.
//!
//! `KEYSHARD_BINARY=target/release/keyshard cargo test -p keyshard --test contract` tests another build of it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

#[path = "../common/mod.rs"]
mod common;
mod support;

mod answers;
mod bodies;
mod cross_origin;
mod environment;
mod health;
mod keys;
mod log;
mod metrics;
mod mock;
mod not_found;
mod overload;
mod pipeline;
mod refusals;
mod restart;
