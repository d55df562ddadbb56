//! What the benchmarks of a whole engine share: its configuration, and what a process has taken so far.
#![allow(dead_code, clippy::unwrap_used, reason = "not every benchmark uses all of it, and they may panic")]
use std::{path::Path, time::Duration};

use keyshard_engine::{Config, Level, StoragePolicy, rpc};

/// An engine of `test.near` at this node, with these keys; receivers are taken as registered.
pub(crate) fn config<'a>(node: &str, keys: impl IntoIterator<Item = &'a str>, data: &Path) -> Config {
    Config {
        account: "test.near".parse().unwrap(),
        token: "ft.test.near".parse().unwrap(),
        keys: keys.into_iter().map(|key| key.parse().unwrap()).collect(),
        rpc: rpc::Config::new(vec![rpc::Endpoint::new(node).unwrap()]),
        trust: None,
        wait_until: Level::Final,
        storage: StoragePolicy::Never,
        storage_deposit: None,
        max_pending: 10_000_000,
        window: 8,
        max_actions: None,
        max_batch: None,
        linger: Duration::from_millis(100),
        max_attempts: 5,
        retry_base: Duration::from_secs(1),
        spend_limits: Vec::new(),
        doors: 1,
        shards: Some(1),
        data_dir: data.to_owned(),
        journal_sync: true,
        segment_bytes: 64 << 20,
        settled_kept: 100_000,
        webhooks: false,
        history_retention: Duration::from_hours(720),
    }
}

/// CPU time of this process so far, in seconds (`/proc/self/stat`, 100 ticks a second): what it takes when nobody shares the
/// machine.
pub(crate) fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let ticks = fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// A line of `/proc/self/status`, in MiB.
pub(crate) fn status_mb(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}
