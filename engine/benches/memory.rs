//! How much memory a running service needs for a million transfers that it has accepted and cannot pay, since the node stands still.
//!
//! `cargo bench -p keyshard-engine --bench memory`. Each case is a process of its own: a whole engine, whose node answers until the
//! engine has started and then nothing any more. `MEMORY_TRANSFERS` (1,000,000) go through a door, `MEMORY_REQUEST` (1) a request,
//! each to a receiver of its own: every other one is an implicit account of 64 characters, the others have names. Once all are
//! on the disk, nobody waits for them any more. With `MEMORY_CASE` only that case: see [`Case::ALL`].
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark prints, and may panic")]
mod common;

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use common::{cpu_seconds, status_mb};
use keyshard_engine::{Config, Door, Engine, IdempotencyKey, NewTransfer, Refused, StoragePolicy, Ticket};
use keyshard_sandbox::{Config as SandboxConfig, Sandbox};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use uuid::Uuid;

const KEYS: usize = 12;
const SHARDS: usize = 2;

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is accepted.
struct Case {
    name: &'static str,
    /// With a memo and an idempotency key.
    named: bool,
    /// Whether the receivers have to be asked about: then all wait for that, else they wait in the queue.
    storage: StoragePolicy,
}

impl Case {
    const ALL: [Case; 4] = [
        Case { name: "queued", named: false, storage: StoragePolicy::Always },
        Case { name: "queued-named", named: true, storage: StoragePolicy::Always },
        Case { name: "unasked", named: false, storage: StoragePolicy::Auto },
        Case { name: "unasked-named", named: true, storage: StoragePolicy::Auto },
    ];
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let only = std::env::var("MEMORY_CASE").ok();
    if let Ok(node) = std::env::var("MEMORY_NODE") {
        let case = Case::ALL.iter().find(|case| Some(case.name) == only.as_deref()).unwrap();
        return measure(case, &node, &runtime);
    }
    println!(
        "{:>14} {:>10} {:>10} {:>10} {:>12} {:>18}",
        "case", "before MB", "after MB", "peak MB", "B a transfer", "CPU us a transfer"
    );
    for case in Case::ALL.iter().filter(|case| only.as_deref().is_none_or(|only| only == case.name)) {
        let sandbox = Sandbox::start(SandboxConfig { keys: KEYS, ..SandboxConfig::default() }).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.env("MEMORY_NODE", sandbox.rpc_url()).env("MEMORY_CASE", case.name);
        child.env("MEMORY_KEYS", sandbox.credentials().keys.join(","));
        let status = child.status().unwrap();
        assert!(status.success(), "{}: {status}", case.name);
    }
}

/// One case, in this process.
fn measure(case: &Case, node: &str, runtime: &tokio::runtime::Runtime) {
    let number = |name: &str, default: usize| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (transfers, request) = (number("MEMORY_TRANSFERS", 1_000_000), number("MEMORY_REQUEST", 1));
    let data = tempfile::tempdir().unwrap();
    let stands_still = Arc::new(AtomicBool::new(false));
    let node = runtime.block_on(in_front_of(node, stands_still.clone()));
    let (engine, mut doors) = runtime.block_on(Engine::start(config(case, &node, data.path()))).unwrap();
    stands_still.store(true, Relaxed);
    let mut door = doors.remove(0);
    let (before, cpu) = (status_mb("VmRSS"), cpu_seconds());
    let mut tickets = Vec::new();
    for n in (0..transfers).step_by(request) {
        let request = n..(n + request).min(transfers);
        tickets.push(submit(&mut door, || request.clone().map(|n| transfer(case, n)).collect()));
        if tickets.len() == 1_000 {
            let tickets = std::mem::take(&mut tickets);
            runtime.spawn(async move {
                for ticket in tickets {
                    ticket.durable().await;
                }
            });
        }
    }
    for ticket in tickets {
        runtime.block_on(ticket.durable());
    }
    let cpu = cpu_seconds() - cpu;
    // The allocator gives back what is free within this time.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(engine.pending(), transfers, "nothing settles");
    let after = status_mb("VmRSS");
    println!(
        "{:>14} {before:>10.0} {after:>10.0} {:>10.0} {:>12.0} {:>18.2}",
        case.name,
        status_mb("VmHWM"),
        (after - before) * 1024.0 * 1024.0 / transfers as f64,
        cpu * 1e6 / transfers as f64,
    );
    // To wait for what is open would be in vain.
    drop(data);
    std::process::exit(0);
}

fn submit(door: &mut Door, request: impl Fn() -> Vec<NewTransfer>) -> Ticket {
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        match door.submit(request()) {
            Ok(ticket) => return ticket,
            Err(Refused::Full { .. }) => std::thread::sleep(Duration::from_millis(1)),
            Err(refused) => unreachable!("{refused:?}"),
        }
        assert!(Instant::now() < deadline, "no room for a minute");
    }
}

fn transfer(case: &Case, n: usize) -> NewTransfer {
    let receiver = if n.is_multiple_of(2) { format!("{n:064x}") } else { format!("customer-{n}.near") };
    NewTransfer {
        receiver: receiver.parse().unwrap(),
        amount: 1_000_000 + n as u128,
        memo: case.named.then(|| format!("payment {n}")),
        key: case.named.then(|| IdempotencyKey { name: Uuid::new_v4().to_string().into(), of: 1 }),
    }
}

fn config(case: &Case, node: &str, data: &std::path::Path) -> Config {
    let keys = std::env::var("MEMORY_KEYS").unwrap();
    Config { storage: case.storage, shards: Some(SHARDS), ..common::config(node, keys.split(','), data) }
}

/// Passes on what comes for a node, until that is to stand still: then it takes everything and answers nothing.
async fn in_front_of(node: &str, stands_still: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let node = node.trim_start_matches("http://").to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_node, mut to_node) = TcpStream::connect(&node).await.unwrap().into_split();
            let (mut from_client, mut to_client) = client.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_node, &mut to_client).await });
            let stands_still = stands_still.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                    if !stands_still.load(Relaxed) && to_node.write_all(&bytes[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    url
}
