//! What it costs that everything is on the disk before it is sent or promised: settled transfers a second with
//! `JOURNAL_SYNC=always` and with `off`, by turns, in one run.
//!
//! `cargo bench -p keyshard-engine --bench durability`. Engine and sandbox (no limit a block) share this process and the
//! machine; requests go straight to a door, which is never empty. `DURABILITY_PAIRS` (5), `DURABILITY_SECONDS` (8, of which
//! the first quarter does not count), `DURABILITY_REQUEST` (10 transfers in one), `DURABILITY_BLOCK_MS` (50: with longer
//! ones the keys' windows are the bound, and there is nothing to see).
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and may panic")]
mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use common::cpu_seconds;
use keyshard_engine::{Config, Door, Engine, IdempotencyKey, NewTransfer, Refused};
use keyshard_sandbox::{Config as SandboxConfig, Sandbox};
use uuid::Uuid;

const KEYS: usize = 12;
const MAX_PENDING: usize = 50_000;

struct Run {
    settled_per_s: f64,
    /// CPU seconds of the whole process, a second.
    cores: f64,
}

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let number = |name: &str, default: u64| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (pairs, seconds) = (number("DURABILITY_PAIRS", 5), number("DURABILITY_SECONDS", 8));
    let (request, block_ms) = (number("DURABILITY_REQUEST", 10) as usize, number("DURABILITY_BLOCK_MS", 50));
    println!("{pairs} pairs of {seconds} s, {request} transfers a request, {block_ms} ms a block, {KEYS} keys");
    let mut all = [Vec::new(), Vec::new()];
    let mut ratios = Vec::new();
    for pair in 0..pairs {
        // Whoever comes second finds the machine as the first left it: they take turns.
        let mut rates = [0.0; 2];
        for turn in 0..2 {
            let sync = (pair + turn) % 2 == 0;
            let run = run(sync, Duration::from_secs(seconds), request, block_ms);
            let name = if sync { "always" } else { "off" };
            println!("  {name:>6} {:>7.0} settled/s, {:.2} cores", run.settled_per_s, run.cores);
            rates[usize::from(!sync)] = run.settled_per_s;
            all[usize::from(!sync)].push(run.settled_per_s);
        }
        ratios.push(rates[0] / rates[1]);
    }
    let [always, off] = all.map(median);
    println!("median: always {always:.0}/s, off {off:.0}/s; median of the pairs' ratios {:.3}", median(ratios));
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

fn run(sync: bool, length: Duration, request: usize, block_ms: u64) -> Run {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let data = tempfile::tempdir().unwrap();
    let sandbox =
        Sandbox::start(SandboxConfig { block_ms, keys: KEYS, unlimited: true, ..SandboxConfig::default() }).unwrap();
    let credentials = sandbox.credentials();
    let keys = credentials.keys.iter().map(String::as_str);
    let own = common::config(&sandbox.rpc_url(), keys, data.path());
    let config = Config { max_pending: MAX_PENDING, journal_sync: sync, ..own };
    let (engine, mut doors) = runtime.block_on(Engine::start(config)).unwrap();
    let (stop, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let client = {
        let (mut door, stop, accepted) = (doors.remove(0), stop.clone(), accepted.clone());
        std::thread::spawn(move || {
            while !stop.load(Relaxed) {
                submit(&mut door, request, &accepted);
            }
        })
    };
    // What is open does not count: whatever was accepted besides has settled.
    let settled = || accepted.load(Relaxed).saturating_sub(engine.pending());
    let warm_up = length / 4;
    std::thread::sleep(warm_up);
    let (from, cpu, begun) = (settled(), cpu_seconds(), Instant::now());
    std::thread::sleep(length.saturating_sub(warm_up));
    let (to, cpu, elapsed) = (settled(), cpu_seconds() - cpu, begun.elapsed().as_secs_f64());
    stop.store(true, Relaxed);
    client.join().unwrap();
    let drained = runtime.block_on(engine.drain(Duration::from_mins(1)));
    assert_eq!(drained.open, 0, "everything settles");
    Run { settled_per_s: (to - from) as f64 / elapsed, cores: cpu / elapsed }
}

fn submit(door: &mut Door, request: usize, accepted: &AtomicUsize) {
    let transfers = (0..request).map(|n| NewTransfer {
        receiver: format!("user{}.test.near", 1 + n % 100).parse().unwrap(),
        amount: 1_000,
        memo: Some("a payment".to_owned()),
        key: Some(IdempotencyKey { name: Uuid::new_v4().to_string().into(), of: 1 }),
    });
    match door.submit(transfers.collect()) {
        Ok(_) => {
            accepted.fetch_add(request, Relaxed);
        }
        Err(Refused::Full { .. }) => std::thread::sleep(Duration::from_millis(1)),
        Err(refused) => unreachable!("{refused:?}"),
    }
}
