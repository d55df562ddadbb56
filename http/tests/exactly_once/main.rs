//! Every transfer is paid exactly once, and its client is told the truth: judged by the chain's blocks and by what
//! clients were told alone, never by the service's own counters.
//!
//! `KEYSHARD_LOAD_SECONDS`, `KEYSHARD_LOAD_RATE`, `KEYSHARD_KILL_ROUNDS` and `KEYSHARD_SEED` make the loads longer, denser and
//! different.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test")]

mod audit;
mod customers;
mod load;
mod proxy;
mod random;
mod service;
mod stage;

mod faults;
mod kills;
mod limits;
mod loads;
mod storage;
