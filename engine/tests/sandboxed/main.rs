//! The engine against an embedded sandbox: what it refuses to start with, what it lands, how it drains.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]
mod endpoints;
mod history;
mod idempotency;
mod restart;
mod start;
mod transfers;

use std::time::Duration;

use keyshard_engine::{Config, Level, StoragePolicy, rpc};
use keyshard_sandbox::{Config as SandboxConfig, Sandbox};

/// A quick sandbox, and a directory for the engine's journal.
struct Node {
    sandbox: Sandbox,
    data: tempfile::TempDir,
}

impl std::ops::Deref for Node {
    type Target = Sandbox;

    fn deref(&self) -> &Sandbox {
        &self.sandbox
    }
}

fn sandbox(keys: usize) -> Node {
    sandbox_with_blocks(keys, Duration::from_millis(100))
}

fn sandbox_with_blocks(keys: usize, time: Duration) -> Node {
    let block_ms = time.as_millis() as u64;
    let sandbox = Sandbox::start(SandboxConfig { block_ms, keys, ..SandboxConfig::default() }).unwrap();
    Node { sandbox, data: tempfile::tempdir().unwrap() }
}

/// An engine configuration for its account, keys and token.
fn config(node: &Node) -> Config {
    let credentials = node.credentials();
    Config {
        account: credentials.account.parse().unwrap(),
        token: credentials.ft.parse().unwrap(),
        keys: credentials.keys.iter().map(|key| key.parse().unwrap()).collect(),
        rpc: rpc::Config::new(vec![rpc::Endpoint::new(&node.rpc_url()).unwrap()]),
        trust: None,
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
        spend_limits: Vec::new(),
        doors: 2,
        shards: Some(2),
        data_dir: node.data.path().into(),
        journal_sync: true,
        segment_bytes: 1 << 20,
        settled_kept: 100_000,
        webhooks: false,
        history_retention: Duration::from_hours(720),
    }
}
