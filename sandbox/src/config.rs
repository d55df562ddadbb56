//! What a sandbox is started with.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

/// How to start a [`crate::Sandbox`]. `Config::default()` is a good start for a test: any free port, 600 ms blocks.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address to listen on. Default 127.0.0.1; the node has no authentication, so leave it there.
    pub host: IpAddr,
    /// Port of the JSON-RPC server; 0 takes any free one.
    pub rpc_port: u16,
    /// Time between two blocks, in milliseconds (at least 1). The real chain takes about 600.
    pub block_ms: u64,
    /// Full-access keys of `test.near` besides its master key.
    pub keys: usize,
    /// How many accounts `user1.test.near`, `user2.test.near`, .. exist and are registered with the token.
    pub receivers: usize,
    /// No gas, compute or size limit a block: for measuring what is in front of the node.
    pub unlimited: bool,
    /// How many blocks after its reference block a transaction may still be included.
    pub transaction_validity_period: u64,
    /// Blocks an epoch, as reported; nothing else depends on it.
    pub epoch_length: u64,
    /// When the chain began, since 1970; none: now. Sandboxes with the same time and seed have the same genesis, and each
    /// begins at the height that the chain would have by now: above those before it, whose transactions are expired or
    /// unknown to it.
    pub since: Option<Duration>,
    /// All keys derive from this number. The default is fixed, so that a restarted sandbox has the same keys. They are
    /// as public as this source: never use them on a real network.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            rpc_port: 0,
            block_ms: 600,
            keys: 12,
            receivers: 100,
            unlimited: false,
            transaction_validity_period: 1000,
            epoch_length: 5000,
            since: None,
            seed: 0,
        }
    }
}

/// Most access keys that [`Config::keys`] may ask for: `view_access_key_list` answers them all at once.
pub const MAX_KEYS: usize = 10_000;
/// Most accounts that [`Config::receivers`] may ask for: each costs about 1 KiB of memory.
pub const MAX_RECEIVERS: usize = 1_000_000;

impl Config {
    /// Why this configuration cannot work, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.block_ms == 0 {
            return Some("block_ms must be at least 1".into());
        }
        if self.transaction_validity_period == 0 || self.epoch_length == 0 {
            return Some("transaction_validity_period and epoch_length must be at least 1".into());
        }
        if self.keys > MAX_KEYS {
            return Some(format!("at most {MAX_KEYS} keys, not {}", self.keys));
        }
        if self.receivers > MAX_RECEIVERS {
            return Some(format!("at most {MAX_RECEIVERS} receivers, not {}", self.receivers));
        }
        None
    }
}
