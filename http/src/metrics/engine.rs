//! What the engine measures, as metrics: one `Watch`, the same that the dashboard shows.
use std::time::Duration;

use keyshard_engine::{Batching, Endpoint, Health, Histogram, Holdings, Key, KeyState, Watch, rpc::Outcome};

use super::Page;

const BREAKER_STATES: [&str; 3] = ["closed", "half-open", "open"];
/// From microseconds to seconds.
const SECONDS: f64 = 1e6;
/// What is counted is shown as it is.
const AS_IT_IS: f64 = 1.0;

/// A number of each of several: name, help and value.
type Of<T> = (&'static str, &'static str, fn(&T) -> u64);

/// Writes all of it.
pub(super) fn write(page: &mut Page, watch: &Watch) {
    transfers(page, watch);
    transactions(page, watch);
    keys(page, watch);
    journal(page, watch);
    nodes(page, watch);
    holdings(page, &watch.holdings);
}

fn transfers(page: &mut Page, watch: &Watch) {
    let meter = &watch.meter;
    for (name, help, value) in [
        ("accepted", "Transfers accepted", meter.accepted),
        ("executed", "Transfers that a node said have run, not finally", meter.executed),
        ("finalized", "Transfers paid at FINAL", meter.finalized),
        ("failed", "Transfers that will never be paid", meter.failed),
    ] {
        page.one(&format!("keyshard_transfers_{name}_total"), "counter", help, value);
    }
    page.one("keyshard_tokens_paid_total", "counter", "Token units paid at FINAL", meter.paid);
    let waiting = watch.batching.waiting;
    page.one("keyshard_transfers_waiting", "gauge", "Transfers that wait for a batch", waiting);
    page.one("keyshard_transfers_pending_max", "gauge", "Transfers that may be accepted and open", watch.pending_max);
    let help = "Settled transfers that are not saved in the history yet";
    page.one("keyshard_transfers_unsaved", "gauge", help, watch.unsaved);
    let name = "keyshard_queue_transfers";
    page.family(name, "gauge", "Transfers that wait in a shard, by what they wait for");
    for (shard, queues) in watch.queues.iter().enumerate() {
        let shard = shard.to_string();
        for (queue, transfers) in [
            ("ready", queues.ready),
            ("apart", queues.apart),
            ("later", queues.later),
            ("unregistered", queues.unregistered),
        ] {
            page.sample(name, &[("shard", &shard), ("queue", queue)], transfers);
        }
    }
    let name = "keyshard_stage_seconds";
    page.family(name, "histogram", "Time that transfers took from stage to stage");
    for (stage, histogram) in meter.stages.named() {
        page.histogram(name, &[("stage", stage)], histogram, SECONDS);
    }
    let name = "keyshard_condition";
    page.family(name, "gauge", "1 while this keeps transfers from going out");
    for condition in &watch.health.conditions {
        page.sample(name, &[("name", condition.name)], 1);
    }
}

fn transactions(page: &mut Page, watch: &Watch) {
    let Batching { transfers, batches, in_flight, .. } = watch.batching;
    let help = "Transfers put into signed transactions, repeated ones included";
    page.one("keyshard_batched_transfers_total", "counter", help, transfers);
    page.one("keyshard_batches_total", "counter", "Transactions signed", batches);
    page.one("keyshard_transactions_in_flight", "gauge", "Transactions whose end is not known yet", in_flight);
    let name = "keyshard_transactions_dead_total";
    page.family(name, "counter", "Transactions proven dead, whose transfers were signed anew");
    for (proof, deaths) in [("overtaken", watch.deaths_overtaken), ("expired", watch.deaths_expired)] {
        page.sample(name, &[("proof", proof)], deaths);
    }
    let help = "Transactions that failed on chain and were undone as a whole";
    page.one("keyshard_transactions_undone_total", "counter", help, watch.meter.undone);
    histogram(page, "keyshard_batch_transfers", "Transfers in a transaction", &watch.meter.batch_size, AS_IT_IS);
    let help = "Gas that a transaction burnt when it paid its transfers";
    histogram(page, "keyshard_batch_gas", help, &watch.meter.batch_gas, AS_IT_IS);
}

fn keys(page: &mut Page, watch: &Watch) {
    let help = "Transactions of one key that may be waiting for a block";
    page.one("keyshard_key_in_flight_max", "gauge", help, watch.window);
    let gauges: [Of<Key>; 5] = [
        ("keyshard_key_in_flight", "Transactions of a key that may be waiting for a block", |key| key.in_flight as u64),
        ("keyshard_key_open_transactions", "Transactions of a key whose end is not known", |key| key.open as u64),
        ("keyshard_key_nonce", "The last nonce used", |key| key.nonce),
        ("keyshard_key_nonce_lag", "Nonces from the oldest open transaction to the last one used", |key| key.nonce_lag),
        ("keyshard_ring_requests", "Requests in the rings of a key, not taken by its shard yet", |key| key.ring as u64),
    ];
    for (name, help, value) in gauges {
        page.family(name, "gauge", help);
        for key in &watch.keys {
            page.sample(name, &[("key", key.short())], value(key));
        }
    }
    let name = "keyshard_key_state";
    page.family(name, "gauge", "1 for the state that a key is in");
    for key in &watch.keys {
        for state in KeyState::ALL {
            page.sample(name, &[("key", key.short()), ("state", state.as_str())], u8::from(key.state == state));
        }
    }
}

fn journal(page: &mut Page, watch: &Watch) {
    let journal = &watch.journal;
    page.one("keyshard_journal_records_total", "counter", "Records in the journal since start", journal.records);
    page.one("keyshard_journal_bytes_total", "counter", "Bytes in the journal since start", journal.bytes);
    page.one("keyshard_journal_segment", "gauge", "The journal's segment that is being written", journal.segment);
    let help = "Records that share one write and one sync";
    histogram(page, "keyshard_journal_group_records", help, &journal.group_records, AS_IT_IS);
    let help = "Time to write and sync a group of records";
    histogram(page, "keyshard_journal_sync_seconds", help, &journal.sync_time, SECONDS);
}

fn nodes(page: &mut Page, watch: &Watch) {
    let Health { endpoints, final_height, .. } = &watch.health;
    page.one("keyshard_block_height", "gauge", "Height of the last block known", final_height);
    page.one("keyshard_block_seconds", "gauge", "Time from block to block", watch.block_time.as_secs_f64());
    let name = "keyshard_endpoint_breaker";
    page.family(name, "gauge", "1 for the state that the circuit breaker of an endpoint is in");
    for endpoint in endpoints {
        for state in BREAKER_STATES {
            let labels = [("endpoint", endpoint.name.as_str()), ("state", state)];
            page.sample(name, &labels, u8::from(endpoint.breaker == state));
        }
    }
    let help = "Height of the last block that an endpoint told of";
    let height: Of<Endpoint> = ("keyshard_endpoint_block_height", help, |endpoint| endpoint.height);
    let calls: Of<Endpoint> = ("keyshard_endpoint_calls_total", "Calls to an endpoint", |endpoint| endpoint.calls);
    let help = "Calls to an endpoint that its circuit breaker counts as failures";
    let failures: Of<Endpoint> = ("keyshard_endpoint_failures_total", help, |endpoint| endpoint.failures);
    for (kind, (name, help, value)) in [("gauge", height), ("counter", calls), ("counter", failures)] {
        page.family(name, kind, help);
        for endpoint in endpoints {
            page.sample(name, &[("endpoint", endpoint.name.as_str())], value(endpoint));
        }
    }
    let name = "keyshard_rpc_calls_total";
    page.family(name, "counter", "Calls to the nodes by JSON-RPC method and how they ended");
    for calls in &watch.calls {
        for (outcome, count) in Outcome::ALL.into_iter().zip(calls.outcomes) {
            page.sample(name, &[("method", calls.method), ("outcome", outcome.as_str())], count);
        }
    }
    let name = "keyshard_rpc_call_seconds";
    page.family(name, "histogram", "Time that calls took; of send_tx and tx mostly the node waiting for the chain");
    for calls in &watch.calls {
        page.histogram(name, &[("method", calls.method)], &calls.took, SECONDS);
    }
}

fn holdings(page: &mut Page, holdings: &Holdings) {
    let Holdings { tokens, read_at_ms, runway, near, .. } = holdings;
    let mut gauge = |name: &str, help: &str, value: Option<f64>| {
        page.family(name, "gauge", help);
        if let Some(value) = value {
            // As Prometheus writes infinity.
            let text = if value.is_infinite() { "+Inf".to_owned() } else { value.to_string() };
            page.sample(name, &[], text);
        }
    };
    gauge("keyshard_token_balance", "Token units that the account holds", tokens.map(|tokens| tokens as f64));
    let seconds = tokens.map(|_| runway.as_ref().map_or(f64::INFINITY, Duration::as_secs_f64));
    let help = "How long the tokens last at the rate of the last minutes; +Inf while none are spent";
    gauge("keyshard_token_runway_seconds", help, seconds);
    gauge("keyshard_account_near", "NEAR that the account can spend", near.map(|near| near as f64 / 1e24));
    let read_at = tokens.map(|_| *read_at_ms as f64 / 1e3);
    gauge("keyshard_holdings_read_seconds", "When the balance was read, in seconds since the Unix epoch", read_at);
}

fn histogram(page: &mut Page, name: &str, help: &str, histogram: &Histogram, unit: f64) {
    page.family(name, "histogram", help);
    page.histogram(name, &[], histogram, unit);
}
