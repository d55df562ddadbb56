//! The engine: takes transfers at its doors, lands each of them on NEAR exactly once, tells what became of them.
//!
//! Every decision about money is made by the pure state machine in [`keyshard_shard`]; this crate gives it threads
//! ([`worker`](self)), rings, a way to the nodes and a board for the outside. See `ARCHITECTURE.md`.
mod allowance;
mod backlog;
mod base64;
mod board;
mod checkpoints;
mod clock;
mod config;
mod courier;
mod door;
mod health;
pub mod history;
mod job;
pub mod journal;
mod listing;
#[cfg(test)]
#[cfg(feature = "loom")]
mod models;
mod names;
mod outbox;
mod parts;
mod purse;
#[doc(hidden)]
pub mod rig;
mod ring;
mod small_file;
mod start;
mod steering;
mod sync;
mod tally;
mod trace;
mod unsaved;
mod watch;
mod worker;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use keyshard_shard::{AccessKey, Cancel, Input, News, Recovered, Settings, Shard, TransferId};
use uuid::Uuid;

pub use allowance::{Allowance, Denied, Period, Spent};
pub use config::{Config, HISTORY_RETENTION_MIN, StartError};
pub use door::{Door, NewTransfer, Refused, Ticket};
pub use health::{Batching, Condition, Endpoint, Health};
pub use job::{Counts, Job, JobStatus};
pub use keyshard_rpc as rpc;
pub use keyshard_shard::{
    AccountId, Histogram, IdempotencyKey, Level, StoragePolicy, Trust,
    meter::{KeyState, Meter, Queues, Stages},
};
pub use listing::{Filter, Page};
pub use outbox::Outbox;
pub use purse::Holdings;
pub use ring::Bell;
pub use steering::{Cancelled, Orders, Pause};
pub use watch::{Calls, Key, Watch};

/// What names a node's chain in journal and history: its genesis, or a hash of its id where nobody tells it.
pub fn chain_name(status: &keyshard_rpc::Status) -> keyshard_shard::CryptoHash {
    courier::Chain::of(status).name()
}

/// What nodes say, in the shard's words: the simulator's nodes are understood by the same functions.
#[doc(hidden)]
pub mod words {
    pub use crate::courier::{failure, refusal};
}

use backlog::Backlog;
use board::Board;
use checkpoints::Checkpoints;
use clock::Clock;
use courier::Courier;
use door::{UNSAVED_MAX, Waiting};
use health::Report;
use history::{History, HistoryError, Keeper};
use journal::Journal;
use names::Names;
use purse::Purse;
use start::Preflight;
use steering::Steering;
use unsaved::Unsaved;
use watch::Shards;
use worker::{Ledger, Worker};

/// A running engine. Cheap to clone; all clones are the same engine, and it stops with the last of them.
#[derive(Clone)]
pub struct Engine(Arc<Running>);

/// What threads share. Nothing here is locked on the path of a transfer but the map's own shards.
pub(crate) struct Shared {
    pub(crate) board: Board,
    /// Names of what is on the board.
    pub(crate) names: Names,
    pub(crate) history: Arc<History>,
    /// What is to go from the board to the history.
    pub(crate) unsaved: Unsaved,
    pub(crate) clock: Clock,
    pub(crate) backlog: Backlog,
    pub(crate) checkpoints: Checkpoints,
    /// What may be signed; absent where nothing limits it.
    pub(crate) spending: Option<Allowance>,
    stopped: AtomicBool,
}

impl Shared {
    /// Puts what former lives left open on the board: before the doors open.
    pub(crate) fn new(
        wait_until: Level,
        max_pending: usize,
        clock: Clock,
        history: History,
        shards: usize,
        recovered: &Recovered,
    ) -> Self {
        let (board, names) = (Board::new(wait_until, clock), Names::new());
        let open = board.recovered(recovered);
        for open in &recovered.transfers {
            if open.transfer.key.is_some() {
                names.recovered(&open.transfer);
            }
        }
        Self {
            board,
            names,
            history: Arc::new(history),
            unsaved: Unsaved::default(),
            clock,
            backlog: Backlog::new(max_pending, open),
            checkpoints: Checkpoints::new(shards),
            spending: None,
            stopped: AtomicBool::new(false),
        }
    }

    /// A shard has news of these.
    pub(crate) fn tell(&self, ids: &[TransferId], news: &News) {
        let told = self.board.tell(ids, news);
        if told.settled > 0 {
            self.unsaved.push(ids);
            self.backlog.settled(told.settled);
        }
        told.wake();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}

struct Running {
    shared: Arc<Shared>,
    /// The public keys that it was started with, `ed25519:...`.
    keys: Vec<Arc<str>>,
    reports: Vec<Arc<Report>>,
    bells: Vec<Bell>,
    threads: Vec<JoinHandle<()>>,
    linger: Duration,
    purse: Arc<Purse>,
    place: Place,
    /// Ends after the shards, and before the journal.
    keeper: Option<Keeper>,
    steering: Steering,
    /// Ends last.
    journal: Arc<Journal>,
}

/// Who pays what, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The paying account.
    pub account: AccountId,
    /// The token.
    pub token: AccountId,
    /// The chain, as its nodes call it: `mainnet`, `testnet`, ...
    pub chain_id: String,
}

/// What [`Engine::drain`] left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// Transfers that had not settled when the deadline came (0 = everything settled).
    pub open: usize,
    /// Transactions that were still open: their hashes, base58, for whoever has to look them up.
    pub hashes: Vec<String>,
}

impl Engine {
    /// Checks the configuration against the node, starts the shard threads, opens one door for every
    /// front-end thread. Must run inside a tokio runtime.
    pub async fn start(mut config: Config) -> Result<(Engine, Vec<Door>), StartError> {
        start::check_retention(&config)?;
        // The lock first: two processes must not even look at the same keys.
        let (mut journal, mut recovered) = start::open_journal(&config)?;
        let preflight = start::preflight(&mut config).await?;
        start::check_chain(&config, &recovered, preflight.chain.name())?;
        let history = start::open_history(&config, &mut recovered, preflight.chain.name())?;
        let clock = Clock::new();
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let key_count = preflight.keys.len();
        let shards = config.shards.unwrap_or((cores.len() / 2).max(1)).clamp(1, key_count);
        let shared = Shared::new(config.wait_until, config.max_pending, clock, history, shards, &recovered);
        let shared = Arc::new(Shared { spending: start::spending(&config)?, ..shared });

        let bells: Vec<Bell> = (0..shards).map(|_| Bell::default()).collect();
        let orders = start::orders(&config, &preflight.keys)?;
        let steering = Steering::new(config.data_dir.join(start::ORDERS_FILE), orders.clone(), &bells);
        let reports: Vec<Arc<Report>> = (0..shards).map(|_| Arc::default()).collect();
        let weights: Vec<u64> = preflight.keys.iter().map(|key| ring::weight(key.public_key())).collect();
        let key_bells: Vec<Bell> = (0..key_count).map(|key| bells[key % shards].clone()).collect();
        let mesh = ring::mesh(config.doors, key_count);
        let doors = mesh
            .producers
            .into_iter()
            .map(|producers| Door::new(shared.clone(), producers, weights.clone(), key_bells.clone()))
            .collect();

        let Preflight { keys, limits, head, endpoint, epoch, chain, storage, storage_deposit } = preflight;
        let life = recovered.life + 1;
        let names: Vec<Arc<str>> = keys.iter().map(|key| key.public_key().clone()).collect();
        let shard_of_key = |name: &str| names.iter().position(|other| **other == *name).map_or(0, |key| key % shards);
        let shard_of_transfer = |id: TransferId| ring::rendezvous(&weights, id.0) % shards;
        let recovered = recovered.split(shards, shard_of_key, shard_of_transfer);

        let mut parts: Vec<(Vec<AccessKey>, Vec<_>)> = (0..shards).map(|_| Default::default()).collect();
        for (i, (key, rings)) in keys.into_iter().zip(mesh.consumers).enumerate() {
            parts[i % shards].0.push(key);
            parts[i % shards].1.extend(rings);
        }
        for (part, recovered) in parts.iter_mut().zip(&recovered) {
            retire_missing(&mut part.0, recovered);
        }
        let appenders = journal.start(bells.clone(), journal::abort())?;
        let journal = Arc::new(journal);
        let trust = start::trust(&config)?;
        // Pinning helps only where every thread can have a core of its own.
        let pin = cores.len() > shards + config.doors;
        let keeper =
            Keeper::start(shared.clone(), journal.clone(), clock, config.history_retention, config.settled_kept)?;
        let mut running = Running {
            shared,
            keys: names,
            reports,
            bells,
            threads: Vec::new(),
            linger: config.linger,
            purse: Arc::default(),
            place: Place { account: config.account.clone(), token: config.token.clone(), chain_id: chain.id.clone() },
            keeper: Some(keeper),
            steering,
            journal: journal.clone(),
        };
        let parts = parts.into_iter().zip(recovered).zip(appenders);
        for (index, (((keys, rings), recovered), appender)) in parts.enumerate() {
            let ledger = Ledger::new(journal.clone(), appender, index);
            let settings = Settings {
                account: config.account.clone(),
                token: config.token.clone(),
                trust,
                wait_until: config.wait_until,
                storage,
                storage_deposit,
                window: config.window,
                max_actions: config.max_actions.unwrap_or(usize::MAX),
                max_batch: config.max_batch.unwrap_or(usize::MAX),
                linger: config.linger,
                max_attempts: config.max_attempts,
                retry_base: config.retry_base,
                spend_limited: !config.spend_limits.is_empty(),
                index,
                shards,
                seed: Uuid::new_v4().as_u128() as u64,
                life,
                genesis: chain.name(),
            };
            let mut rpc = config.rpc.clone();
            rpc.seed = settings.seed;
            let (bell, report) = (running.bells[index].clone(), running.reports[index].clone());
            let (mailbox, orders) = (running.steering.mailbox(index), orders.clone());
            let (shared, epoch, chain) = (running.shared.clone(), epoch.clone(), chain.clone());
            // One is enough to read what all of them spend.
            let purse = (index == 0).then(|| (running.purse.clone(), running.reports.clone()));
            let (core, doors) = (pin.then(|| cores[index]), config.doors);
            let body = move || {
                if let Some(core) = core
                    && !core_affinity::set_for_current(core)
                {
                    tracing::warn!(shard = index, "the shard's thread could not be pinned to a core");
                }
                let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                    Ok(runtime) => runtime,
                    Err(error) => panic!("shard {index}: no runtime: {error}"),
                };
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, async move {
                    let client = match keyshard_rpc::Client::new(rpc) {
                        Ok(client) => client,
                        Err(error) => panic!("shard {index}: no client: {error}"),
                    };
                    let courier = Courier::new(client, &settings, chain, bell.clone());
                    let mut shard = Shard::new(settings, limits, keys);
                    orders.give(&mut shard);
                    shard.take_over(clock.now(), recovered);
                    shard.handle(clock.now(), Input::Head { head, endpoint });
                    courier.follow(epoch);
                    if let Some((purse, reports)) = purse {
                        courier.watch_purse(purse, move || watch::paid(&reports), clock);
                    }
                    let recent = Vec::new();
                    Worker {
                        shard,
                        courier,
                        rings,
                        doors,
                        bell,
                        ledger,
                        clock,
                        shared,
                        report,
                        recent,
                        orders: mailbox,
                    }
                    .run()
                    .await;
                });
            };
            let thread = std::thread::Builder::new().name(format!("shard-{index}")).spawn(or_abort("a shard", body))?;
            running.threads.push(thread);
        }
        Ok((Engine(Arc::new(running)), doors))
    }

    /// A transfer by its id, until the history has forgotten it. May block for a read of the disk, as may the next two, when
    /// it has left the board.
    pub fn job(&self, id: Uuid) -> Option<Job> {
        // The board first: what leaves it is in the history by then.
        self.0
            .shared
            .board
            .job(TransferId(id.as_u128()))
            .or_else(|| self.past(|history| history.job(id)).map(Job::from))
    }

    /// All transfers that this transaction (base58 hash) carried, in the order of its actions; after them those that it
    /// carried without paying them. Each names the last transaction that carried it.
    pub fn jobs_by_hash(&self, hash: &str) -> Vec<Job> {
        let Ok(hash) = hash.parse() else { return Vec::new() };
        let mut jobs = self.0.shared.board.jobs_by_hash(&hash);
        for (position, settled) in self.past(|history| history.by_hash(&hash)) {
            if !jobs.iter().any(|(_, job)| job.id.as_u128() == settled.transfer.id.0) {
                jobs.push((position, settled.into()));
            }
        }
        jobs.sort_by_key(|(position, _)| *position);
        jobs.into_iter().map(|(_, job)| job).collect()
    }

    /// A transfer by its idempotency key; that of item `i` of a request named `K` as a whole is `K#i`.
    pub fn job_by_key(&self, name: &str) -> Option<Job> {
        let shared = &self.0.shared;
        let on_board = shared.names.get(name).and_then(|id| shared.board.job(id));
        on_board.or_else(|| self.past(|history| history.by_key(name)).map(Job::from))
    }

    /// At most `limit` of the transfers that are wanted, the newest below `before` first. Looks at a bounded number of them:
    /// there may be fewer on a page even though there are more, as [`Page::next`] tells. Blocks for milliseconds, on reads of
    /// the disk as well: not for a thread that serves others.
    pub fn list(&self, filter: &Filter, limit: usize, before: Option<Uuid>) -> Page {
        let before = before.map(|id| TransferId(id.as_u128()));
        self.0.shared.list(filter, limit, before).unwrap_or_else(|error| history::abort(&error))
    }

    /// A disk that does not answer ends the process: not to know a transfer would be a lie.
    fn past<T>(&self, read: impl FnOnce(&History) -> Result<T, HistoryError>) -> T {
        read(&self.0.shared.history).unwrap_or_else(|error| history::abort(&error))
    }

    /// Events of what settles, if `Config::webhooks` asks for them.
    pub fn outbox(&self) -> Outbox {
        Outbox::of(Arc::clone(&self.0.shared.history))
    }

    /// How many transfers are in each status: the open ones, and what has settled since start.
    pub fn counts(&self) -> Counts {
        self.0.shared.board.counts()
    }

    /// Accepted transfers that have not settled.
    pub fn pending(&self) -> usize {
        self.0.shared.backlog.open()
    }

    /// What the batching achieved so far.
    pub fn batching(&self) -> Batching {
        health::batching(&self.0.reports, self.0.linger)
    }

    /// What hinders the engine now, if anything, and how its endpoints are.
    pub fn health(&self) -> Health {
        let mut health = health::health(&self.0.reports);
        let unsaved = self.0.shared.unsaved.len();
        if unsaved > UNSAVED_MAX {
            let detail = format!(
                "{unsaved} settled transfers wait to be saved in the history: nothing new is accepted until the disk has \
                 caught up"
            );
            health.conditions.push(Condition { name: "history-behind", detail });
        }
        health
    }

    /// Everything that is measured.
    pub fn watch(&self) -> Watch {
        let Running { shared, reports, purse, journal, .. } = &*self.0;
        let shards = Shards::of(reports);
        let Shards { meter, queues, keys, window, deaths_overtaken, deaths_expired, calls, block_time } = shards;
        Watch {
            counts: self.counts(),
            pending: self.pending(),
            pending_max: shared.backlog.limit(),
            unsaved: shared.unsaved.len(),
            batching: self.batching(),
            health: self.health(),
            holdings: purse.look(shared.clock.now(), meter.paid),
            meter,
            queues,
            keys,
            window,
            deaths_overtaken,
            deaths_expired,
            calls,
            journal: journal.stats(),
            block_time,
        }
    }

    /// Transfers that changed lately, the latest first: at most so many, as of a moment ago. Of many that changed at once, a few.
    /// Those that have left the board for the history are not among them.
    pub fn recent(&self, limit: usize) -> Vec<Job> {
        watch::recent(&self.0.reports, limit, |id| self.0.shared.board.job(id))
    }

    /// Who pays what, and where.
    pub fn place(&self) -> &Place {
        &self.0.place
    }

    /// The public keys that it was started with, `ed25519:...`.
    pub fn keys(&self) -> &[Arc<str>] {
        &self.0.keys
    }

    /// What a person has ordered.
    pub fn orders(&self) -> Orders {
        self.0.steering.orders()
    }

    /// From now on nothing new is signed, through restarts, until [`Self::resume`]. Transfers are accepted, what is signed is
    /// followed to its end. May wait for the disk. The error is for people; nothing has changed then.
    pub fn pause(&self, reason: &str) -> Result<(), String> {
        self.0.steering.pause(Some((reason, self.0.shared.clock.now().as_millis())))
    }

    /// Ends a pause.
    pub fn resume(&self) -> Result<(), String> {
        self.0.steering.pause(None)
    }

    /// From now on this key signs nothing new, or again. As [`Self::pause`]; `None`: no such key.
    pub fn quarantine(&self, public_key: &str, quarantined: bool) -> Option<Result<(), String>> {
        let key = self.0.keys.iter().find(|key| ***key == *public_key)?;
        Some(self.0.steering.quarantine(key, quarantined))
    }

    /// Takes a transfer back if no live transaction carries it. Returns when that is durable.
    pub async fn cancel(&self, id: Uuid, reason: &str) -> Cancelled {
        let transfer = TransferId(id.as_u128());
        let waiting = Arc::new(Waiting::new(1));
        if self.0.shared.board.watch(transfer, &waiting) {
            let told = self.0.steering.cancel(transfer, reason).await;
            if told.contains(&Cancel::Done) {
                waiting.answerable().await;
                return self.job(id).map_or(Cancelled::Unknown, Cancelled::Done);
            }
        }
        match self.job(id) {
            None => Cancelled::Unknown,
            Some(job) if job.status == JobStatus::Queued => Cancelled::NotYet,
            Some(job) => Cancelled::TooLate(job),
        }
    }

    /// Refuses new transfers from now on and waits until everything accepted has settled, or until `limit` is over.
    pub async fn drain(&self, limit: Duration) -> Drained {
        let shared = &self.0.shared;
        let _ = tokio::time::timeout(limit, shared.backlog.drain()).await;
        let open = self.pending();
        let hashes = if open == 0 { Vec::new() } else { shared.board.open_hashes() };
        Drained { open, hashes }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.bells.iter().for_each(Bell::ring);
        for thread in self.threads.drain(..) {
            // A shard's panic has aborted the process already.
            let _ = thread.join();
        }
        // What they told last is saved, too.
        self.keeper.take();
    }
}

/// Adds the keys of open transactions that are no longer configured: they sign nothing new.
fn retire_missing(keys: &mut Vec<AccessKey>, recovered: &Recovered) {
    for attempt in &recovered.attempts {
        if !keys.iter().any(|key| *key.public_key() == attempt.public_key) {
            tracing::warn!(
                key = &*attempt.public_key,
                "an access key with open transactions is not configured any more; they are followed to their end"
            );
            keys.push(AccessKey::retired(attempt.public_key.clone()));
        }
    }
}

/// A broken promise ends the process, at once and as a whole: going on with a shard less would leave its transfers
/// hanging, and whatever broke may be wrong everywhere.
pub(crate) fn or_abort(who: &'static str, body: impl FnOnce() + Send + 'static) -> impl FnOnce() + Send + 'static {
    move || {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err() {
            tracing::error!("{who} broke a promise; the process ends here");
            std::process::abort();
        }
    }
}
