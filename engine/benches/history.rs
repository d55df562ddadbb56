//! Settles transfers through the doors, the board and the history, and says what that costs: rates, CPU of the history's
//! thread, memory, lookups.
//!
//! `HISTORY_TRANSFERS=10000000 cargo bench -p keyshard-engine --bench history` (1,000,000 unless told), without idempotency
//! keys and then with one for each transfer; `HISTORY_KEYS=0` or `1` is one of the two. `HISTORY_DIR` is where the stores are
//! made, and left.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and may panic")]
use std::{
    path::Path,
    time::{Duration, Instant},
};

use keyshard_engine::{IdempotencyKey, NewTransfer, Refused, rig::Rig};
use keyshard_shard::{BatchId, CryptoHash, News, Recovered, TransferId};
use uuid::Uuid;

/// Transfers in a request, and in a transaction.
const BATCH: usize = 100;
/// What stays on the board.
const KEPT: usize = 100_000;
const STEPS: usize = 10;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<usize>().unwrap());
    let transfers = number("HISTORY_TRANSFERS").unwrap_or(1_000_000);
    let temporary = tempfile::tempdir().unwrap();
    let directory = std::env::var_os("HISTORY_DIR").map_or(temporary.path().into(), std::path::PathBuf::from);
    for keyed in [false, true] {
        if number("HISTORY_KEYS").is_none_or(|asked| (asked == 1) == keyed) {
            run(&directory.join(if keyed { "keyed" } else { "not-keyed" }), transfers, keyed);
        }
    }
}

fn run(directory: &Path, transfers: usize, keyed: bool) {
    let (mut rig, mut doors) = Rig::start(directory, 1, 20_000, KEPT, Recovered::default()).unwrap();
    println!(
        "{transfers} transfers, {}, {BATCH} a transaction; at first {}",
        if keyed { "each with an idempotency key" } else { "no idempotency keys" },
        rss()
    );

    let begun = Instant::now();
    let (mut step_begun, mut waited, mut step_cpu) = (Instant::now(), Duration::ZERO, cpu());
    let mut samples = Vec::new();
    let step = (transfers / STEPS / BATCH).max(1);
    for batch in 0..transfers / BATCH {
        let ids = loop {
            // Names that the store cannot foresee, as clients make them.
            let key = || keyed.then(|| IdempotencyKey { name: Uuid::new_v4().to_string().into(), of: 1 });
            let new = |n: usize| NewTransfer {
                receiver: format!("user{n}.test.near").parse().unwrap(),
                amount: 1_000_000,
                memo: Some(format!("payment {n}")),
                key: key(),
            };
            let request: Vec<NewTransfer> = (0..BATCH).map(|n| new(batch * BATCH + n)).collect();
            match doors[0].submit(request) {
                Ok(_) => {}
                Err(Refused::Full { .. }) => {
                    let pause = Duration::from_millis(20);
                    std::thread::sleep(pause);
                    waited += pause;
                    continue;
                }
                Err(refused) => panic!("{refused:?}"),
            }
            let taken = rig.take();
            samples.push((taken[0].id, taken[0].key.clone()));
            break taken.iter().map(|transfer| transfer.id).collect::<Vec<TransferId>>();
        };
        let hash = CryptoHash::hash_bytes(&batch.to_le_bytes());
        let at = keyshard_shard::Instant::from_micros(1);
        rig.tell(&ids, &News::Accepted);
        rig.tell(&ids, &News::Signed { hash, batch: BatchId { at, number: batch as u64 }, at });
        rig.tell(&ids, &News::Finalized);
        if (batch + 1) % step == 0 {
            let rate = (step * BATCH) as f64 / step_begun.elapsed().as_secs_f64();
            println!(
                "{:>9} settled, {rate:>6.0}/s, {:.2} us of CPU each, held back {:>4.1} s, {:>6} unsaved; {}; {}",
                (batch + 1) * BATCH,
                cpu().saturating_sub(step_cpu).as_secs_f64() * 1e6 / (step * BATCH) as f64,
                waited.as_secs_f64(),
                rig.unsaved(),
                rss(),
                lookups(&rig, &samples, keyed),
            );
            (step_begun, waited, step_cpu) = (Instant::now(), Duration::ZERO, cpu());
        }
    }
    while rig.unsaved() > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    println!(
        "all saved: {:.0}/s, {:.2} us of CPU of the history thread each; {}; {:.0} MB on the disk",
        transfers as f64 / begun.elapsed().as_secs_f64(),
        cpu().as_secs_f64() * 1e6 / transfers as f64,
        rss(),
        disk(directory) / 1e6
    );
    drop((rig, doors));
    let opened = Instant::now();
    let (rig, _doors) = Rig::start(directory, 1, 20_000, KEPT, Recovered::default()).unwrap();
    println!("opened again in {:.1} ms; {}", opened.elapsed().as_secs_f64() * 1e3, lookups(&rig, &samples, keyed));
}

/// Microseconds of lookups that hit, by id, by hash and by key, and of one that misses by key.
fn lookups(rig: &Rig, samples: &[(TransferId, Option<IdempotencyKey>)], keyed: bool) -> String {
    const TRIES: usize = 1_000;
    let time = |look: &dyn Fn(usize)| {
        let begun = Instant::now();
        (0..TRIES).for_each(|i| look(i.wrapping_mul(7_919) % samples.len()));
        begun.elapsed().as_secs_f64() * 1e6 / TRIES as f64
    };
    let engine = rig.engine();
    let id = time(&|i| assert!(engine.job(Uuid::from_u128(samples[i].0.0)).is_some()));
    let hash = time(&|i| {
        let hash = CryptoHash::hash_bytes(&i.to_le_bytes()).to_string();
        assert_eq!(engine.jobs_by_hash(&hash).len(), BATCH);
    });
    let key = time(&|i| {
        let found = samples[i].1.as_ref().and_then(|key| engine.job_by_key(&key.name));
        assert_eq!(found.is_some(), keyed);
    });
    let miss = time(&|_| assert!(engine.job_by_key(&Uuid::new_v4().to_string()).is_none()));
    format!("id {id:.1} us, hash of {BATCH} {hash:.0} us, key {key:.1} us, unknown key {miss:.1} us")
}

/// Memory of this process as the system counts it, and the part that is no file's.
fn rss() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    format!("{} MB resident", of("VmRSS:"))
}

/// CPU time of the history's thread, in the kernel too.
fn cpu() -> Duration {
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        if std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "history") {
            // The first number is nanoseconds on a CPU.
            let times = std::fs::read_to_string(task.join("schedstat")).unwrap();
            return Duration::from_nanos(times.split_whitespace().next().unwrap().parse().unwrap());
        }
    }
    Duration::ZERO
}

fn disk(directory: &Path) -> f64 {
    std::fs::metadata(directory.join("history/history.redb")).map_or(0.0, |file| file.len() as f64)
}
