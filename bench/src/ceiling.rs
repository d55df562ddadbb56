//! What the node alone lands: batches of 100 transfers, built and signed beforehand, pushed straight at it. The yardstick.
//!
//! A metered node is kept busy with a fixed number of batches in flight, each answered once executed. One without a limit
//! of gas takes whatever comes with its next block: there the number of batches that no block has taken yet is bounded,
//! as a node's pool is.
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use near_crypto::SecretKey;
use serde::Deserialize;
use serde_json::json;
use tokio::task::LocalSet;

use crate::{
    chain::{Watch, watch::Scope},
    load::{Live, Log, Record},
    machine::Clocks,
    measure,
    plan::Plan,
    progress::Progress,
    report::Run,
    script::{Draw, Kind, Script},
    signed::{self, Ready},
    stand::Stand,
    trial::{self, TrialError},
};

/// Most bytes of signed transactions that are held ready.
const MAX_READY_BYTES: usize = 256 << 20;
/// What a transfer takes there, in base64 and with its share of the rest.
const BYTES_A_TRANSFER: usize = 200;
/// Transfers a second for which a metered node's batches are held ready: no such node comes near.
const METERED_MAX: f64 = 3_000.0;
/// Batches that no block has taken yet, at most, where blocks are unlimited: a pool holds 100 MB.
const MAX_IN_POOL: u64 = 4_000;
/// Connections for those.
const LANES: usize = 4;
/// Pause between two looks at what blocks have taken.
const LOOK: Duration = Duration::from_millis(25);
/// Longest wait for the chain to settle.
const SETTLE: Duration = Duration::from_mins(1);
/// Final blocks without anything new after which what has landed is all.
const QUIET: u64 = 3;

/// How it is measured.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// For how long batches are sent.
    pub seconds: f64,
    /// Transfers a batch.
    pub batch: u32,
    /// Batches in flight at a metered node, over all keys.
    pub in_flight: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { seconds: 12.0, batch: 100, in_flight: 24 }
    }
}

/// What the senders share.
struct Shared {
    client: reqwest::Client,
    url: String,
    start: Instant,
    end: Instant,
    log: RefCell<Log>,
    sent: Cell<u64>,
    /// Batches that blocks have taken.
    taken: Cell<u64>,
}

/// Measures it with the stand's keys; nothing else may use them meanwhile. `None` without keys.
pub async fn run(
    stand: &Stand,
    draw: Draw,
    settings: Settings,
    progress: &Progress,
) -> Result<Option<Run>, TrialError> {
    let Some(payer) = stand.payer.clone().filter(|_| !stand.keys.is_empty() && !draw.receivers.is_empty()) else {
        return Ok(None);
    };
    let failed = |why: &str| TrialError::System(std::io::Error::other(why.to_owned()));
    progress.begin("ceiling");
    progress.note("signing");
    let batch = settings.batch.max(1);
    let room = MAX_READY_BYTES / (batch as usize * BYTES_A_TRANSFER);
    let wanted = if stand.metered { (settings.seconds * METERED_MAX / f64::from(batch)).ceil() as usize } else { room };
    let count = wanted.clamp(1, room);
    let plan = Plan::steady(count as f64 / settings.seconds, settings.seconds).map_err(|e| failed(&e.to_string()))?;
    let draw = Draw { fresh: 0.0, ..draw };
    let script = Script::new(plan, vec![Kind::of(batch)], draw, trial::tag()).map_err(|e| failed(&e.to_string()))?;
    let script = Arc::new(script);
    let until = if stand.metered { "EXECUTED_OPTIMISTIC" } else { "NONE" };
    let (ready, nonces) = signed::sign(stand, &payer, &stand.keys, &script, until).await?;

    let after = stand.node.last_final().await?.height;
    let (start, began_unix_ns) = trial::beginning();
    let scope =
        Scope { token: stand.token.clone(), payer: Some(payer.clone()), began_unix_ns, every: stand.look_every };
    let watch = Watch::start(stand.node.clone(), scope, &script, after, stand.metered)?;
    let processes = stand.processes();
    let clocks = Clocks::now(&processes);
    let clocked = Instant::now();
    let shared = Rc::new(Shared {
        client: reqwest::Client::builder()
            .no_proxy()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(usize::MAX)
            .timeout(Duration::from_secs(30))
            .build()
            .map_err(|error| failed(&error.to_string()))?,
        url: stand.node.url().to_owned(),
        start,
        end: start + Duration::from_secs_f64(settings.seconds),
        log: RefCell::new(Log { records: vec![Record::NEVER; count], ..Log::default() }),
        sent: Cell::new(0),
        taken: Cell::new(0),
    });
    tokio::time::sleep_until(start.into()).await;
    let live = Live { stop: AtomicBool::new(false), ..Live::default() };
    let sending = async {
        if stand.metered {
            keep_busy(&shared, ready, stand.keys.len(), settings.in_flight).await;
        } else {
            fill_the_pool(&shared, ready, stand, &payer, &nonces).await;
        }
    };
    let local = LocalSet::new();
    let mut sending = std::pin::pin!(local.run_until(sending));
    loop {
        tokio::select! {
            () = &mut sending => break,
            () = tokio::time::sleep(Duration::from_millis(200)) => {
                if progress.interrupted() {
                    return Err(TrialError::Interrupted);
                }
                let offered = shared.sent.get() * u64::from(batch);
                live.offered.store(offered, std::sync::atomic::Ordering::Relaxed);
                live.accepted.store(offered, std::sync::atomic::Ordering::Relaxed);
                progress.load(start.elapsed(), script.plan(), &live, watch.seen().landed);
            }
        }
    }
    let usage = Clocks::now(&processes).since(&clocks, clocked.elapsed().as_secs_f64(), &processes);
    let mut log = shared.log.take();
    log.seconds = start.elapsed().as_secs_f64();
    watch.look();
    let jobs = trial::settle_chain(&script, &log, &watch, progress, SETTLE, QUIET).await?;
    let seen = watch.end();
    let mut run = measure::run(&script, &log, &seen, Some(settings.seconds));
    run.name = "ceiling".into();
    run.transfers = trial::count(&script, &log, &seen, &jobs);
    run.usage = usage;
    // Due was whenever there was room: these say nothing.
    run.to_chain = crate::latency::Latency::default();
    run.send_lag = crate::latency::Latency::default();
    if run.complaints.is_empty() && run.transfers.r#final == 0 {
        run.complaints.push("nothing landed".into());
    }
    Ok(Some(run))
}

/// A fixed number of batches in flight: the next of a key goes out when one of it has been executed.
async fn keep_busy(shared: &Rc<Shared>, ready: Vec<Ready>, keys: usize, in_flight: usize) {
    let mut queues: Vec<Vec<Ready>> = (0..keys).map(|_| Vec::new()).collect();
    for batch in ready.into_iter().rev() {
        queues[batch.key].push(batch);
    }
    let mut senders = Vec::new();
    let window = in_flight.div_ceil(keys).max(1);
    for queue in queues {
        let queue = Rc::new(RefCell::new(queue));
        for _ in 0..window {
            let (shared, queue) = (Rc::clone(shared), Rc::clone(&queue));
            senders.push(tokio::task::spawn_local(async move {
                while Instant::now() < shared.end {
                    let Some(batch) = queue.borrow_mut().pop() else { break };
                    shared.send(batch).await;
                }
            }));
        }
    }
    for sender in senders {
        let _ = sender.await;
    }
}

/// As many batches as a pool holds, over a few connections, each key's in its order.
async fn fill_the_pool(shared: &Rc<Shared>, ready: Vec<Ready>, stand: &Stand, payer: &str, nonces: &[u64]) {
    let total = ready.len() as u64;
    let mut lanes: Vec<Vec<Ready>> = (0..LANES).map(|_| Vec::new()).collect();
    for batch in ready.into_iter().rev() {
        lanes[batch.key % LANES].push(batch);
    }
    let senders: Vec<_> = lanes
        .into_iter()
        .map(|mut lane| {
            let shared = Rc::clone(shared);
            tokio::task::spawn_local(async move {
                while let Some(batch) = lane.pop().filter(|_| Instant::now() < shared.end) {
                    while shared.sent.get() >= shared.taken.get() + MAX_IN_POOL {
                        tokio::time::sleep(LOOK).await;
                    }
                    shared.send(batch).await;
                }
            })
        })
        .collect();
    let before: u64 = nonces.iter().sum();
    while senders.iter().any(|sender| !sender.is_finished()) {
        if let Some(now) = nonces_now(stand, payer).await {
            shared.taken.set(now.saturating_sub(before).min(total));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// All nonces of the stand's keys together.
async fn nonces_now(stand: &Stand, payer: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct List {
        keys: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        public_key: String,
        access_key: Key,
    }
    #[derive(Deserialize)]
    struct Key {
        nonce: u64,
    }
    let question = json!({ "request_type": "view_access_key_list", "finality": "optimistic", "account_id": payer });
    let List { keys } = stand.node.call("query", question).await.ok()?;
    let own: Vec<String> =
        stand.keys.iter().filter_map(|text| Some(text.parse::<SecretKey>().ok()?.public_key().to_string())).collect();
    Some(keys.iter().filter(|entry| own.contains(&entry.public_key)).map(|entry| entry.access_key.nonce).sum())
}

impl Shared {
    async fn send(&self, Ready { number, body, .. }: Ready) {
        let us = |at: Instant| at.saturating_duration_since(self.start).as_micros() as u64;
        let due = Instant::now();
        self.sent.set(self.sent.get() + 1);
        let (answer, complaint) = signed::send(&self.client, &self.url, body).await;
        let mut log = self.log.borrow_mut();
        log.records[number as usize] =
            Record { due_us: us(due), sent_us: us(due), ended_us: us(Instant::now()), answer };
        if let Some(complaint) = complaint.filter(|_| log.complaints.len() < 3) {
            log.complaints.push(complaint);
        }
    }
}
