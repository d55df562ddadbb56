//! How long a start takes after a kill that left a million transfers open, and how much memory.
//!
//! `RECOVERY_TRANSFERS=1000000 cargo bench -p keyshard-engine --bench recovery`. The journal is written by real shards to
//! real files, `RECOVERY_DIR` names their directory. Then two processes start on copies of it: one goes through the steps of
//! a start one by one, the other is a whole engine in front of a sandbox.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic, reason = "a benchmark prints, and may panic")]
mod common;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use common::{cpu_seconds, status_mb};
use keyshard_engine::{
    Bell, Config, Engine,
    journal::{self, Journal, Log, Options, RealDisk},
    rpc,
};
use keyshard_sandbox::{Config as SandboxConfig, Sandbox};
use keyshard_shard::{
    AccessKey, ChainLimits, CryptoHash, Head, Input, Level, Lsn, Output, Query, Recovery, Reply, Settings, Shard,
    Signer, StoragePolicy, Transfer, TransferId, Trust,
};
use near_crypto::SecretKey;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use uuid::Uuid;

const KEYS: usize = 12;
const SHARDS: usize = 2;
const LIMITS: ChainLimits = ChainLimits {
    max_actions: 100,
    max_total_prepaid_gas: 1_000_000_000_000_000,
    max_gas_burnt: 1_000_000_000_000_000,
    max_transaction_size: 1_572_864,
    validity_blocks: 86_400,
};

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    match std::env::var("RECOVERY_STEP").as_deref() {
        Ok("steps") => steps(&PathBuf::from(std::env::var_os("RECOVERY_DIR").unwrap())),
        Ok("engine") => runtime().block_on(engine(&PathBuf::from(std::env::var_os("RECOVERY_DIR").unwrap()))),
        _ => runtime().block_on(all()),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn all() {
    let transfers = std::env::var("RECOVERY_TRANSFERS").map_or(1_000_000, |text| text.parse().unwrap());
    let temporary = tempfile::tempdir().unwrap();
    let directory = std::env::var_os("RECOVERY_DIR").map_or(temporary.path().into(), PathBuf::from);
    let sandbox = Sandbox::start(SandboxConfig { keys: KEYS, ..SandboxConfig::default() }).unwrap();
    let begun = Instant::now();
    let open = write(&directory.join("1"), transfers, &sandbox, genesis(&sandbox.rpc_url()).await);
    let bytes = copy(&directory.join("1"), &directory.join("2"));
    println!(
        "a journal of {} MB: {transfers} transfers are open, {} of them in {} transactions of {KEYS} keys and {SHARDS} \
         shards; written in {:.1} s",
        bytes >> 20,
        open.carried,
        open.transactions,
        begun.elapsed().as_secs_f64()
    );
    child("steps", &directory.join("1"), &[]).await;

    let keys = sandbox.credentials().keys.join(",");
    let (node, mut seen) = Watched::start(&sandbox.rpc_url()).await;
    let started = now_us();
    child("engine", &directory.join("2"), &[("RECOVERY_NODE", &node), ("RECOVERY_KEYS", &keys)]).await;
    let seen = seen.borrow_and_update().clone();
    let since = |at: Option<u64>| at.map_or(f64::NAN, |at| (at - started) as f64 / 1e6);
    println!(
        "a whole engine, from the start of its process: first question to the node after {:.2} s, first question about an \
         open transaction after {:.2} s",
        since(seen.first),
        since(seen.transaction)
    );
}

/// Runs this program again, for one step.
async fn child(step: &str, directory: &Path, more: &[(&str, &str)]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env("RECOVERY_STEP", step).env("RECOVERY_DIR", directory).envs(more.iter().copied());
    let status = tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap();
    assert!(status.success(), "{step}: {status}");
}

/// What a journal holds.
struct Open {
    carried: usize,
    transactions: usize,
}

/// Accepts so many transfers with real shards until their windows are full, and keeps what they write.
fn write(directory: &Path, transfers: usize, sandbox: &Sandbox, genesis: CryptoHash) -> Open {
    let keys: Vec<SecretKey> = sandbox.credentials().keys.iter().map(|key| key.parse().unwrap()).collect();
    let options = Options { sync: journal::Sync::Off, ..Options::default() };
    let (mut log, _) = Log::open(Arc::new(RealDisk::lock(directory).unwrap()), options).unwrap();
    let mut open = Open { carried: 0, transactions: 0 };
    let mut bytes = Vec::new();
    for index in 0..SHARDS {
        let mine = keys.iter().skip(index).step_by(SHARDS).map(|key| AccessKey::new(Signer::new(key.clone()), 1_000));
        let mut shard = Shard::new(settings(sandbox, index, 1, genesis), LIMITS, mine.collect());
        let now = instant();
        shard.take_over(now, keyshard_shard::Recovered::default());
        let head = Head { height: 1_000, hash: genesis, timestamp_nanos: 1 };
        shard.handle(now, Input::Head { head, endpoint: 0 });
        for n in (index..transfers).step_by(SHARDS) {
            shard.handle(now, Input::Accept(transfer(n).into()));
            if n % 1_000 == index {
                shard.handle(now, Input::Tick);
            }
            while let Some(output) = shard.poll_output() {
                match output {
                    Output::Append { lsn, record } => {
                        bytes.clear();
                        record.encode(&mut bytes);
                        log.push(index as u16, lsn, (&bytes, &[])).unwrap();
                        if log.gathered() > 1 << 20 {
                            log.commit().unwrap();
                            log.prepare_next();
                        }
                        shard.handle(now, Input::Durable(lsn));
                        if let keyshard_shard::Record::Signed { transfers, .. } = record {
                            open.transactions += 1;
                            open.carried += transfers.len();
                        }
                    }
                    // Everybody may receive, and there is enough for all.
                    Output::Query { id, query: Query::Registration { .. } } => {
                        shard.handle(now, Input::Reply { id, reply: Reply::Registration(true) });
                    }
                    Output::Query { id, query: Query::TokenBalance } => {
                        shard.handle(now, Input::Reply { id, reply: Reply::TokenBalance(u128::MAX) });
                    }
                    _ => {}
                }
            }
        }
    }
    assert!(open.transactions > 0, "nothing was signed");
    log.commit().unwrap();
    open
}

fn transfer(n: usize) -> Transfer {
    Transfer {
        id: TransferId(Uuid::new_v4().as_u128()),
        receiver: format!("user{}.test.near", 1 + n % 100).parse().unwrap(),
        amount: 1_000_000 + n as u128,
        memo: Some(format!("payment {n}").into()),
        key: Some(keyshard_shard::IdempotencyKey { name: Uuid::new_v4().to_string().into(), of: 1 }),
    }
}

fn settings(sandbox: &Sandbox, index: usize, life: u64, genesis: CryptoHash) -> Settings {
    let credentials = sandbox.credentials();
    let (account, token) = (credentials.account.parse().unwrap(), credentials.ft.parse().unwrap());
    shard_settings(account, token, index, life, genesis)
}

fn shard_settings(
    account: keyshard_shard::AccountId,
    token: keyshard_shard::AccountId,
    index: usize,
    life: u64,
    genesis: CryptoHash,
) -> Settings {
    Settings {
        account,
        token,
        trust: Trust::One,
        wait_until: Level::Final,
        storage: StoragePolicy::Never,
        storage_deposit: 0,
        window: 8,
        max_actions: 100,
        max_batch: 100,
        linger: Duration::ZERO,
        max_attempts: 5,
        retry_base: Duration::from_secs(1),
        spend_limited: false,
        index,
        shards: SHARDS,
        seed: 7,
        life,
        genesis,
    }
}

fn instant() -> keyshard_shard::Instant {
    keyshard_shard::Instant::from_micros(1_000_000)
}

/// One step of a start after the other.
fn steps(directory: &Path) {
    let begun = Instant::now();
    let (mut last, mut cpu_before) = (begun, 0.0);
    let mut step = |name: &str| {
        let (elapsed, cpu) = (last.elapsed().as_secs_f64(), cpu_seconds());
        let peak = status_mb("VmHWM");
        println!("{name:>28} {elapsed:>7.3} s, {:>5.2} s of CPU, {peak:>6.0} MB at most", cpu - cpu_before);
        (last, cpu_before) = (Instant::now(), cpu);
    };
    let mut recovery = Recovery::default();
    let take = |entry: journal::Entry| recovery.push(entry.shard, entry.record);
    let (mut journal, _) = Journal::open_into(directory, Options::default(), take).unwrap();
    step("open, read, decode");
    let mut recovered = recovery.finish().unwrap();
    step("recover");
    recovered.settled.clear();
    let life = recovered.life + 1;
    let genesis = recovered.genesis.unwrap();
    let mut names: Vec<Arc<str>> = recovered.nonces.keys().cloned().collect();
    names.sort_unstable();
    let shard_of_key = |name: &str| names.iter().position(|other| **other == *name).unwrap() % SHARDS;
    let parts = recovered.split(SHARDS, shard_of_key, |id| (id.0 % SHARDS as u128) as usize);
    step("split");
    let bells: Vec<Bell> = (0..SHARDS).map(|_| Bell::default()).collect();
    let appenders = journal.start(bells.clone(), journal::abort()).unwrap();
    let account = || "test.near".parse().unwrap();
    let threads: Vec<_> = parts
        .into_iter()
        .zip(appenders)
        .zip(bells)
        .enumerate()
        .map(|(index, ((part, mut appender), bell))| {
            let keys = names.iter().skip(index).step_by(SHARDS).map(|name| AccessKey::retired(name.clone())).collect();
            let settings = shard_settings(account(), account(), index, life, genesis);
            std::thread::spawn(move || {
                let mut shard = Shard::new(settings, LIMITS, keys);
                shard.take_over(instant(), part);
                let taken_over = begun.elapsed();
                shard.handle(instant(), Input::Tick);
                let mut held: Option<(Lsn, keyshard_shard::Record)> = None;
                let runtime = runtime();
                loop {
                    if let Some((lsn, record)) = held.take()
                        && appender.append(lsn, &record).is_err()
                    {
                        held = Some((lsn, record));
                        runtime.block_on(bell.rung());
                        continue;
                    }
                    match shard.poll_output() {
                        Some(Output::Append { lsn, record }) => held = Some((lsn, record)),
                        Some(Output::Query { .. }) => break,
                        Some(_) => {}
                        None => panic!("no question"),
                    }
                }
                (taken_over, begun.elapsed())
            })
        })
        .collect();
    let times: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    step("take over, repeat, ask");
    let latest = |of: fn(&(Duration, Duration)) -> Duration| times.iter().map(of).max().unwrap().as_secs_f64();
    println!(
        "{:>28} {:>7.3} s, taken over by {:.3} s",
        "first question of a shard by",
        latest(|times| times.1),
        latest(|times| times.0)
    );
}

/// A whole engine, until it has asked.
async fn engine(directory: &Path) {
    let node = std::env::var("RECOVERY_NODE").unwrap();
    let keys = std::env::var("RECOVERY_KEYS").unwrap();
    let config = Config { shards: Some(SHARDS), ..common::config(&node, keys.split(','), directory) };
    let (engine, _doors) = Engine::start(config).await.unwrap();
    println!("{:>28} {:>6.0} MB at most", "an engine has started:", status_mb("VmHWM"));
    let deadline = Instant::now() + Duration::from_mins(1);
    while engine.pending() == 0 || TcpStream::connect(node.trim_start_matches("http://")).await.is_err() {
        assert!(Instant::now() < deadline);
    }
    // Until the shards have asked about what is open, which the node's side sees.
    tokio::time::sleep(Duration::from_secs(15)).await;
    println!("{:>28} {:>6.0} MB at most, {} transfers open", "after 15 s:", status_mb("VmHWM"), engine.pending());
    // What is open would take minutes to pay.
    std::process::exit(0);
}

/// When a node was asked, in microseconds since the Unix epoch.
#[derive(Debug, Clone, Default)]
struct Seen {
    first: Option<u64>,
    /// About a transaction.
    transaction: Option<u64>,
}

/// Stands in front of a node and looks at what comes.
struct Watched;

impl Watched {
    async fn start(node: &str) -> (String, watch::Receiver<Seen>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let node = node.trim_start_matches("http://").to_owned();
        let (seen, watched) = watch::channel(Seen::default());
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(pass(client, node.clone(), seen.clone()));
            }
        });
        (url, watched)
    }
}

async fn pass(client: TcpStream, node: String, seen: watch::Sender<Seen>) {
    let Ok(server) = TcpStream::connect(node).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
        let now = now_us();
        let asks = |method: &str| bytes[..count].windows(method.len()).any(|window| window == method.as_bytes());
        let transaction = asks("\"method\":\"tx\"") || asks("\"method\":\"send_tx\"");
        seen.send_modify(|seen| {
            seen.first.get_or_insert(now);
            if transaction {
                seen.transaction.get_or_insert(now);
            }
        });
        if to_server.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

async fn genesis(node: &str) -> CryptoHash {
    let client = rpc::Client::new(rpc::Config::new(vec![rpc::Endpoint::new(node).unwrap()])).unwrap();
    let (_, status) = client.probe_endpoints().await.into_iter().next().unwrap();
    status.unwrap().genesis_hash.unwrap().parse().unwrap()
}

fn copy(from: &Path, to: &Path) -> u64 {
    std::fs::create_dir_all(to).unwrap();
    let files = std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap()).sum()
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}
