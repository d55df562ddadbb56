//! The engine against an embedded sandbox: what it refuses to start with, what it lands, how it drains.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]
mod start;
mod transfers;

use std::time::Duration;

use keyshard_engine::{Config, Level, StoragePolicy, rpc};
use keyshard_sandbox::{Config as SandboxConfig, Sandbox};

/// A quick sandbox.
fn sandbox(keys: usize) -> Sandbox {
    Sandbox::start(SandboxConfig { block_ms: 100, keys, ..SandboxConfig::default() }).unwrap()
}

/// An engine configuration for its account, keys and token.
fn config(sandbox: &Sandbox) -> Config {
    let credentials = sandbox.credentials();
    Config {
        account: credentials.account.parse().unwrap(),
        token: credentials.ft.parse().unwrap(),
        keys: credentials.keys.iter().map(|key| key.parse().unwrap()).collect(),
        rpc: rpc::Config::new(vec![rpc::Endpoint::new(&sandbox.rpc_url()).unwrap()]),
        wait_until: Level::Final,
        storage: StoragePolicy::Auto,
        storage_deposit: None,
        max_pending: 20_000,
        window: 8,
        max_actions: None,
        max_batch: None,
        linger: Duration::from_millis(50),
        max_attempts: 3,
        retry_base: Duration::from_millis(100),
        doors: 2,
        shards: Some(2),
        settled_kept: 100_000,
    }
}
