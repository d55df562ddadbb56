//! What a load looked like over time: latencies, bins, blocks, backlog. Made of what was recorded, when it is over. Pure.
use std::collections::BTreeMap;

use crate::{
    backlog::{Sample, Trend},
    chain::{Seen, State},
    latency::Latencies,
    load::{Answer, Log},
    report::{Bin, BlockRow, Requests, Run, Transactions},
    script::Script,
};

/// Bins that a report has at most: more cannot be told apart on a page.
const MAX_BINS: f64 = 900.0;
/// At the beginning of its sustained part a load finds a system that is not yet at its pace: this share of it, at most so
/// many seconds, does not count for rates and trend.
const WARM_UP: (f64, f64) = (0.3, 5.0);

/// Everything of a run that follows from its records. What became of the transfers is counted elsewhere.
pub fn run(script: &Script, log: &Log, seen: &Seen, closed_s: Option<f64>) -> Run {
    let seconds = closed_s.unwrap_or(script.plan().seconds());
    let (from, until) = if closed_s.is_some() { (0.0, seconds) } else { script.plan().sustained() };
    // A load that was ended early has no more than that.
    let last_due = log.records.iter().filter(|record| record.answer != Answer::Never).map(|record| record.due_us).max();
    let until = until.min(last_due.unwrap_or(0) as f64 / 1e6 + 0.001).max(from);
    let window = (from + ((until - from) * WARM_UP.0).min(WARM_UP.1), until);
    let samples = samples(script, log, seen);
    let trend = Trend::of(&samples, window.0, window.1);
    let per_request = script.transfers() as f64 / script.requests() as f64;
    let mut run = Run {
        offered_per_s: if closed_s.is_some() { 0.0 } else { script.plan().rate_at(window.1 - 0.001) * per_request },
        seconds,
        window_s: window,
        landed_per_s: trend
            .map_or_else(|| landed_between(seen, window) / (window.1 - window.0).max(1e-9), |t| t.executed_per_s),
        trend,
        requests: requests(log),
        to_chain: seen.to_chain.to_report(),
        blocks: blocks(seen, &samples),
        transactions: transactions(seen),
        complaints: log.complaints.clone(),
        wrong: seen.wrongs.clone(),
        ..Run::default()
    };
    latencies(script, log, &mut run);
    bins(script, log, &executions(seen), &mut run);
    run
}

/// The part that needs no chain: requests, latencies and bins of a load without payments.
pub fn requests_alone(script: &Script, log: &Log, seconds: f64) -> Run {
    let mut run = Run { seconds, window_s: (0.0, seconds), requests: requests(log), ..Run::default() };
    latencies(script, log, &mut run);
    bins(script, log, &[], &mut run);
    run
}

fn requests(log: &Log) -> Requests {
    let mut requests = Requests::default();
    for record in log.records.iter().filter(|record| record.answer != Answer::Never) {
        requests.offered += 1;
        requests.ok += u64::from(matches!(record.answer, Answer::Status(200..=299)));
        *requests.answers.entry(record.answer.to_string()).or_default() += 1;
    }
    requests
}

fn latencies(script: &Script, log: &Log, run: &mut Run) {
    let [mut ok, mut all, mut refused, mut lag] = [(); 4].map(|()| Latencies::new());
    for (request, record) in (0..).zip(&log.records) {
        if record.answer == Answer::Never {
            continue;
        }
        let sent = if record.sent_us == 0 { record.ended_us } else { record.sent_us };
        lag.record(std::time::Duration::from_micros(sent.saturating_sub(record.due_us)));
        if script.kind(request).transfers == 0 {
            continue;
        }
        let latency = record.latency();
        all.record(latency);
        match record.answer {
            Answer::Status(200..=299) => ok.record(latency),
            Answer::Status(_) => refused.record(latency),
            _ => {}
        }
    }
    run.latency = ok.to_report();
    run.latency_all = all.to_report();
    run.latency_refused = refused.to_report();
    run.send_lag = lag.to_report();
}

/// Executed transfers of the load with their time, in the order of time.
fn executions(seen: &Seen) -> Vec<(f64, u64)> {
    let succeeded =
        seen.transactions.iter().filter(|tx| matches!(tx.state, State::Final(true) | State::Executed(true)));
    let mut all: Vec<_> = succeeded.filter_map(|tx| Some((tx.executed?.seconds, u64::from(tx.own)))).collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all
}

fn landed_between(seen: &Seen, (from, until): (f64, f64)) -> f64 {
    let inside = executions(seen).into_iter().filter(|(at, _)| (from..until).contains(at));
    inside.map(|(_, count)| count).sum::<u64>() as f64
}

/// The backlog after each block: due, and neither turned away nor executed.
fn samples(script: &Script, log: &Log, seen: &Seen) -> Vec<Sample> {
    // Changes of what is offered: up when it is due, down when it turns out that it was not taken. A request that nobody
    // answered may have been taken: it counts unless its transfers never came.
    let mut changes: Vec<(f64, f64)> = Vec::with_capacity(log.records.len());
    for (request, record) in (0..).zip(&log.records) {
        let numbers = script.numbers(request);
        let count = (numbers.end - numbers.start) as f64;
        if record.answer == Answer::Never || count == 0.0 {
            continue;
        }
        changes.push((record.due_us as f64 / 1e6, count));
        if !matches!(record.answer, Answer::Status(200..=299)) {
            let unpaid = numbers.filter(|number| seen.landings[*number as usize] == 0).count() as f64;
            changes.push((record.ended_us as f64 / 1e6, -unpaid));
        }
    }
    changes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let executions = executions(seen);
    let (mut changed, mut done) = (changes.iter().peekable(), executions.iter().peekable());
    let (mut offered, mut executed) = (0.0, 0.0);
    let mut samples = Vec::with_capacity(seen.blocks.len());
    for block in &seen.blocks {
        while let Some((_, count)) = changed.next_if(|(at, _)| *at <= block.seconds) {
            offered += count;
        }
        while let Some((_, count)) = done.next_if(|(at, _)| *at <= block.seconds) {
            executed += *count as f64;
        }
        samples.push(Sample { seconds: block.seconds, offered, executed });
    }
    samples
}

fn blocks(seen: &Seen, samples: &[Sample]) -> Vec<BlockRow> {
    let (mut included, mut landed): (BTreeMap<u64, u64>, BTreeMap<u64, u64>) = Default::default();
    for transaction in &seen.transactions {
        *included.entry(transaction.height).or_default() += 1;
        if let (Some(block), State::Final(true) | State::Executed(true)) = (transaction.executed, transaction.state) {
            *landed.entry(block.height).or_default() += u64::from(transaction.own);
        }
    }
    let row = |(block, sample): (&crate::chain::Block, &Sample)| BlockRow {
        height: block.height,
        seconds: block.seconds,
        transactions: included.get(&block.height).copied().unwrap_or(0),
        landed: landed.get(&block.height).copied().unwrap_or(0),
        backlog: sample.backlog(),
    };
    seen.blocks.iter().zip(samples).map(row).collect()
}

fn transactions(seen: &Seen) -> Transactions {
    let count = |state: State| seen.transactions.iter().filter(|transaction| transaction.state == state).count() as u64;
    let landed = seen.transactions.iter().filter(|transaction| transaction.state == State::Final(true));
    Transactions {
        landed: count(State::Final(true)),
        failed: count(State::Final(false)),
        deposits: landed.map(|transaction| u64::from(transaction.deposits)).sum(),
        sizes: seen.batch_sizes(),
    }
}

fn bins(script: &Script, log: &Log, executions: &[(f64, u64)], run: &mut Run) {
    let ended = log.records.iter().map(|record| record.ended_us).max().unwrap_or(0) as f64 / 1e6;
    let end = ended.max(executions.last().map_or(0.0, |(at, _)| *at)).max(run.seconds);
    run.bin_s = (end / MAX_BINS).ceil().max(1.0);
    let count = (end / run.bin_s).floor() as usize + 1;
    let at = |seconds: f64| ((seconds / run.bin_s).max(0.0) as usize).min(count - 1);
    let mut bins: Vec<Bin> =
        (0..count).map(|place| Bin { seconds: place as f64 * run.bin_s, ..Bin::default() }).collect();
    let mut latencies: Vec<Vec<u64>> = vec![Vec::new(); count];
    for (request, record) in (0..).zip(&log.records) {
        let transfers = u64::from(script.kind(request).transfers);
        if record.answer == Answer::Never || transfers == 0 {
            continue;
        }
        let due = at(record.due_us as f64 / 1e6);
        bins[due].offered += transfers;
        let ended = &mut bins[at(record.ended_us as f64 / 1e6)];
        match record.answer {
            Answer::Status(200..=299) => {
                ended.accepted += transfers;
                latencies[due].push(record.ended_us.saturating_sub(record.due_us));
            }
            Answer::Status(_) => ended.refused += transfers,
            _ => ended.unanswered += transfers,
        }
    }
    for (seconds, transfers) in executions.iter().copied() {
        bins[at(seconds)].landed += transfers;
    }
    for (bin, mut latencies) in bins.iter_mut().zip(latencies) {
        latencies.sort_unstable();
        let rank = |share: f64| {
            let rank = (latencies.len() as f64 * share).ceil() as usize;
            latencies.get(rank.saturating_sub(1)).map_or(0.0, |us| *us as f64 / 1_000.0)
        };
        (bin.p50_ms, bin.p95_ms, bin.p99_ms) = (rank(0.5), rank(0.95), rank(0.99));
    }
    run.bins = bins;
}
