//! Nodes: reachable, synced, of one chain, with enough of its past, and in time.
use chrono::{DateTime, Utc};
use keyshard_engine::{
    Trust,
    rpc::{Client, EndpointId, Route, Status},
};

use super::{Report, Wanted};
use crate::provision::node::Node;

/// The newest protocol that this was built for: that of the near-primitives release.
const PROTOCOL_KNOWN: u32 = near_primitives::version::PROTOCOL_VERSION;
/// An endpoint this many blocks behind the best one is not used.
const LAG_MAX: u64 = 15;
/// A head this old says that the node stands still, or that this machine's clock is wrong.
const HEAD_AGE_MAX_MS: i64 = 15_000;
/// Blocks are made in the past: a head from further in the future than this is a wrong clock.
const FUTURE_MAX_MS: i64 = 3_000;
/// A validity period below this leaves little time to find out what became of a transaction: two minutes of 0.6 s blocks.
const PERIOD_MIN: u64 = 200;

/// Checks every endpoint. `None` if none can be used.
pub(super) async fn look(wanted: &Wanted, report: &mut Report) -> Option<Node> {
    let client = match Client::new(wanted.offline.rpc.clone()) {
        Ok(client) => client,
        Err(error) => {
            report.fail("node", error.to_string());
            return None;
        }
    };
    let mut answered: Vec<(EndpointId, String, Status)> = Vec::new();
    let mut silent = Vec::new();
    for (id, answer) in client.probe_endpoints().await {
        let name = client.endpoint_name(id);
        match answer {
            Ok(status) => answered.push((id, name, status)),
            Err(error) => silent.push(format!("{name} does not answer: {error}. Check NODE_URL or RPC_URLS")),
        }
    }
    let usable = answered.iter().filter(|(_, _, status)| !status.syncing).count();
    for text in silent {
        if usable == 0 { report.fail("node", text) } else { report.warn("node", text) }
    }
    trust(wanted, usable, report);
    let best = answered.iter().map(|(_, _, status)| status.latest_block_height).max().unwrap_or_default();
    let mut mixed = false;
    for (_, name, status) in &answered {
        let height = status.latest_block_height;
        let first = &answered[0];
        if keyshard_engine::chain_name(status) != keyshard_engine::chain_name(&first.2) {
            mixed = true;
            report.fail(
                "chain",
                format!(
                    "RPC_URLS mixes networks: {} is on {}, {name} is on {} (or on another genesis of it). Leave one out",
                    first.1, first.2.chain_id, status.chain_id
                ),
            );
        } else if status.syncing {
            let text = format!("{name} is syncing, it is at block {height}: wait until it has caught up");
            if usable == 0 { report.fail("node", text) } else { report.warn("node", text) }
        } else if best.saturating_sub(height) > LAG_MAX {
            report.warn("node", format!("{name} is {} blocks behind the best: it will not be used", best - height));
        } else {
            let version = &status.node_version;
            report.ok("node", format!("{name}: {}, block {height}, version {version}", status.chain_id));
        }
    }
    if usable == 0 || mixed {
        return None;
    }
    let node = match Node::connect(wanted.offline.rpc.clone()).await {
        Ok(node) => node,
        Err(error) => {
            report.fail("node", error);
            return None;
        }
    };
    let statuses = answered.iter().filter(|(_, _, status)| !status.syncing);
    for (id, name, status) in statuses {
        clock(name, &status.latest_block_time, Utc::now(), report);
        past(name, status, node.limits.transaction_validity_period, report);
        if let Ok(answer) = client.protocol_config(Route::Only(*id)).await {
            let (told, ours) = (answer.value.transaction_validity_period, node.limits.transaction_validity_period);
            if told != ours {
                report.fail("chain", format!("RPC_URLS disagree about the validity period: {name} says {told} blocks, another {ours}. Leave the wrong one out"));
            }
        }
    }
    limits(wanted, &node, report);
    Some(node)
}

fn trust(wanted: &Wanted, usable: usize, report: &mut Report) {
    let endpoints = wanted.offline.rpc.endpoints.len();
    match (wanted.offline.trust, endpoints) {
        (Some(Trust::Two), 1) => report.fail(
            "trust",
            "two endpoints must agree (RPC_TRUST=two), but only one is configured: add another to RPC_URLS",
        ),
        (_, 1) => report.ok("trust", "one endpoint: what it says of final blocks is believed"),
        (Some(Trust::One), _) => report.ok("trust", "each endpoint is believed (RPC_TRUST=one)"),
        (None | Some(Trust::Two), _) if usable < 2 => report.warn(
            "trust",
            "two endpoints must agree and fewer can be used: transfers go out and stay submitted until another answers",
        ),
        (None | Some(Trust::Two), _) => report.ok("trust", "two endpoints must agree before a transfer is finalized"),
    }
}

/// Whether the head of a node is of this moment, by this machine's clock.
fn clock(name: &str, head_time: &str, now: DateTime<Utc>, report: &mut Report) {
    let Ok(head) = DateTime::parse_from_rfc3339(head_time) else {
        report.warn("clock", format!("{name} does not tell the time of its head"));
        return;
    };
    let age_ms = now.signed_duration_since(head).num_milliseconds();
    let seconds = age_ms.abs() / 1_000;
    if age_ms > HEAD_AGE_MAX_MS {
        report.warn(
            "clock",
            format!("the head of {name} is {seconds} s old: the chain or the node stands still, or this machine's clock is ahead (NTP)"),
        );
    } else if age_ms < -FUTURE_MAX_MS {
        report
            .warn("clock", format!("the head of {name} is {seconds} s in the future: set this machine's clock (NTP)"));
    } else {
        report.ok("clock", format!("the head of {name} is {age_ms} ms old by this machine's clock"));
    }
}

/// Whether a node still has every block since which an open transaction may have been signed.
fn past(name: &str, status: &Status, period: u64, report: &mut Report) {
    let Some(earliest) = status.earliest_block_height else { return };
    let kept = status.latest_block_height.saturating_sub(earliest);
    // A young chain has all that there is.
    if kept < period && earliest > 1 {
        report.warn(
            "history",
            format!(
                "{name} has the last {kept} blocks only, transactions may live for {period}: what became of one could not be \
                 proven after a longer stop. Use a node that keeps more (gc_num_epochs_to_keep), or an archival one"
            ),
        );
    }
}

fn limits(wanted: &Wanted, node: &Node, report: &mut Report) {
    let limits = &node.limits;
    let period = limits.transaction_validity_period;
    if limits.protocol_version > PROTOCOL_KNOWN {
        report.warn(
            "protocol",
            format!(
                "the chain is at protocol {}, this was built for {PROTOCOL_KNOWN}: look for a newer release",
                limits.protocol_version
            ),
        );
    }
    if period < PERIOD_MIN {
        report.warn(
            "protocol",
            format!("transactions live for {period} blocks only: raise transaction_validity_period in the genesis, or expect more of them to be signed again"),
        );
    }
    if let Some(most) = wanted.max_actions.filter(|most| *most as u64 > limits.max_actions_per_receipt) {
        report.warn(
            "protocol",
            format!("MAX_ACTIONS_PER_TX is {most}, the chain allows {}: that is used", limits.max_actions_per_receipt),
        );
    }
    report.ok(
        "protocol",
        format!(
            "version {}, {} actions and {} Tgas a transaction, which is valid for {period} blocks",
            limits.protocol_version,
            limits.max_actions_per_receipt,
            limits.max_total_prepaid_gas / 1_000_000_000_000
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Level;

    #[test]
    fn clocks() {
        let now = DateTime::parse_from_rfc3339("2026-11-24T10:00:00Z").unwrap().to_utc();
        for (head, level, says) in [
            ("2026-11-24T09:59:59.000000000Z", Level::Ok, "1000 ms old"),
            ("2026-11-24T09:59:00Z", Level::Warn, "60 s old"),
            ("2026-11-24T10:00:02Z", Level::Ok, "-2000 ms"),
            ("2026-11-24T10:10:00Z", Level::Warn, "600 s in the future"),
            ("yesterday", Level::Warn, "does not tell"),
        ] {
            let mut report = Report::default();
            clock("n", head, now, &mut report);
            assert!(report.findings[0].level == level && report.findings[0].text.contains(says), "{report:?}");
        }
    }

    #[test]
    fn pasts() {
        let status = |earliest| Status {
            chain_id: "testnet".into(),
            protocol_version: 84,
            genesis_hash: None,
            node_version: String::new(),
            latest_block_height: 10_000,
            latest_block_hash: String::new(),
            latest_block_time: String::new(),
            syncing: false,
            earliest_block_height: earliest,
        };
        for (earliest, findings) in [(None, 0), (Some(0), 0), (Some(9_000), 0), (Some(9_001), 1)] {
            let mut report = Report::default();
            past("n", &status(earliest), 1_000, &mut report);
            assert_eq!(report.findings.len(), findings, "{earliest:?}");
        }
    }
}
