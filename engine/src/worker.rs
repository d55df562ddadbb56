//! One shard's thread: drains its rings, feeds the pure shard, carries out what it decides, sleeps when there is nothing.
//!
//! The loop is the root future of a current-thread runtime, and the calls to the nodes are tasks beside it on the same
//! thread. So an answer needs no hop between threads, and a door that wakes the thread takes no lock.
use std::{sync::Arc, time::Duration};

use keyshard_shard::{Input, Lsn, Output, Query, Record, Reply, Shard, TransferId};
use rtrb::Consumer;

use crate::{
    Denied, Shared,
    clock::Clock,
    courier::Courier,
    health::{Report, Told},
    journal::{Appender, Journal},
    ring::{Bell, Piece},
    steering::Mailbox,
    trace,
    watch::{RECENT, RECENT_AT_ONCE},
};

/// Pieces taken from one ring in one round: a busy ring does not keep the shard from its answers.
const PIECES_PER_ROUND: usize = 256;

/// Pause between two reports to the outside, when nothing else wakes the shard.
const REPORT_PAUSE: Duration = Duration::from_secs(1);

/// Everything a shard's thread owns.
pub(crate) struct Worker {
    pub(crate) shard: Shard,
    pub(crate) courier: Courier,
    /// The rings of its keys: those of the first key, one a door, then those of the second.
    pub(crate) rings: Vec<Consumer<Piece>>,
    /// Rings of one key.
    pub(crate) doors: usize,
    pub(crate) bell: Bell,
    pub(crate) ledger: Ledger,
    pub(crate) clock: Clock,
    pub(crate) shared: Arc<Shared>,
    /// Where it reports.
    pub(crate) report: Arc<Report>,
    /// The last transfers that there was news of, the latest last: at most [`RECENT`].
    pub(crate) recent: Vec<TransferId>,
    /// Where it finds a person's orders.
    pub(crate) orders: Mailbox,
}

/// A shard's side of the journal.
pub(crate) struct Ledger {
    journal: Arc<Journal>,
    appender: Appender,
    index: usize,
    /// What is reported as durable to the shard.
    durable: Lsn,
    /// An append that the journal had no room for. Nothing is carried out before it.
    held: Option<Output>,
    /// The segment that was being written when the last repetition began.
    began: u64,
    /// Its last record, until that is durable.
    ends_with: Option<Lsn>,
    /// The segment in which a repetition began that is durable since the last round.
    complete: Option<u64>,
    /// The segment from which on everything open is to be repeated again.
    repeat_at: u64,
}

impl Ledger {
    pub(crate) fn new(journal: Arc<Journal>, appender: Appender, index: usize) -> Self {
        let began = journal.segment();
        let repeat_at = u64::MAX;
        Self { journal, appender, index, durable: 0, held: None, began, ends_with: None, complete: None, repeat_at }
    }

    /// Returns whether the journal took the record.
    fn append(&mut self, lsn: Lsn, record: &Record) -> bool {
        let segment = self.journal.segment();
        if self.appender.append(lsn, record).is_err() {
            return false;
        }
        match record {
            Record::Begin { .. } => self.began = segment,
            Record::End => self.ends_with = Some(lsn),
            _ => {}
        }
        true
    }

    /// What has become durable since the last call.
    fn news(&mut self) -> Option<Lsn> {
        let durable = self.appender.durable();
        if durable == self.durable {
            return None;
        }
        self.durable = durable;
        if self.ends_with.is_some_and(|end| end <= durable) {
            self.ends_with = None;
            let now = self.journal.segment();
            // Not before as much has been written as the repetition itself took: it must not become the main work.
            self.repeat_at = now + 1 + (now - self.began);
            self.complete = Some(self.began);
        }
        Some(durable)
    }

    /// A repetition is durable, and so is all that the shard wrote before it. Only when the board has been told what
    /// follows from that, such as that a transfer failed, does anybody but the old segments know of it.
    fn settle_up(&mut self, shared: &Shared) {
        if self.held.is_none()
            && let Some(began) = self.complete.take()
            && shared.checkpoints.reached(self.index, began, || shared.unsaved.told_so_far())
        {
            shared.unsaved.wake();
        }
    }

    /// Whether everything that is open is to be repeated, so that old segments can go.
    fn is_repetition_due(&mut self) -> bool {
        let due = self.journal.segment() >= self.repeat_at;
        if due {
            self.repeat_at = u64::MAX;
        }
        due
    }
}

impl Worker {
    /// Runs until the engine stops.
    pub(crate) async fn run(mut self) {
        while !self.shared.is_stopped() {
            let now = self.clock.now();
            if let Some(lsn) = self.ledger.news() {
                self.shard.handle(now, Input::Durable(lsn));
            }
            if self.ledger.is_repetition_due() {
                self.shard.handle(now, Input::Checkpoint);
            }
            // What the journal has no room for must not grow.
            let more = self.ledger.held.is_none() && self.drain_rings();
            while let Some(order) = self.orders.pop() {
                order.give(&mut self.shard, self.clock);
            }
            while let Some(input) = self.courier.poll() {
                self.shard.handle(now, input);
            }
            self.shard.handle(now, Input::Tick);
            self.carry_out();
            if self.report.is_due(now) {
                self.report();
            }
            // The calls to the nodes run on this thread, too: they get their turn however busy the rings are.
            tokio::task::yield_now().await;
            if more {
                continue;
            }
            let due = self.shard.next_wake().map_or(REPORT_PAUSE, |at| at.since(self.clock.now()));
            let _ = tokio::time::timeout(due.min(REPORT_PAUSE), self.bell.rung()).await;
        }
    }

    fn report(&mut self) {
        let (now, shard) = (self.clock.now(), &self.shard);
        let in_rings = |key: usize| {
            let rings = self.rings.iter().skip(key * self.doors).take(self.doors);
            rings.map(Consumer::slots).sum::<usize>()
        };
        let keys = shard.keys(now).into_iter().enumerate();
        self.report.update(
            now,
            Told {
                stats: shard.stats(),
                full_batch: shard.full_batch(),
                conditions: shard.conditions(now),
                endpoints: self.courier.endpoints(),
                meter: shard.meter().clone(),
                queues: shard.queues(),
                keys: keys.map(|(index, key)| (key, in_rings(index))).collect(),
                window: shard.window(),
                block_time: shard.block_time(),
                calls: self.courier.calls(),
                recent: self.recent.clone(),
            },
        );
    }

    /// Keeps the last ones in mind.
    fn remember(&mut self, transfers: &[TransferId]) {
        self.recent.extend(&transfers[transfers.len().saturating_sub(RECENT_AT_ONCE)..]);
        let surplus = self.recent.len().saturating_sub(RECENT);
        self.recent.drain(..surplus);
    }

    /// Returns whether a ring may hold more.
    fn drain_rings(&mut self) -> bool {
        let (now, mut more) = (self.clock.now(), false);
        for ring in &mut self.rings {
            for _ in 0..PIECES_PER_ROUND {
                match ring.pop() {
                    Ok(Piece::One(transfer)) => self.shard.handle(now, Input::Accept(transfer)),
                    Ok(Piece::Many(transfers)) => {
                        for transfer in transfers {
                            self.shard.handle(now, Input::Accept(transfer));
                        }
                    }
                    Err(_) => break,
                }
            }
            more |= !ring.is_empty();
        }
        more
    }

    /// How much may be signed now.
    fn allowance(&self, least: u128, most: u128) -> Reply {
        let Some(spending) = &self.shared.spending else { return Reply::Allowance(most) };
        match spending.take_some(least, most) {
            Ok(units) => Reply::Allowance(units),
            Err(denied) => {
                let retry_after = match &denied {
                    Denied::Spent(spent) => spent.retry_after.unwrap_or(Duration::MAX),
                    Denied::Disk(_) => Duration::ZERO,
                };
                Reply::NoAllowance { why: denied.to_string().into(), retry_after }
            }
        }
    }

    fn carry_out(&mut self) {
        while let Some(output) = self.ledger.held.take().or_else(|| self.shard.poll_output()) {
            match output {
                Output::Append { lsn, record } => {
                    if !self.ledger.append(lsn, &record) {
                        self.ledger.held = Some(Output::Append { lsn, record });
                        break;
                    }
                    trace::appended(&record);
                }
                Output::Send { id, hash, bytes, wait, avoid } => {
                    trace::sent(&hash);
                    self.courier.send(id, hash, bytes, wait, avoid);
                }
                Output::Query { id, query: Query::Allowance { least, most } } => {
                    self.courier.deliver(Input::Reply { id, reply: self.allowance(least, most) });
                }
                Output::Query { id, query } => self.courier.query(id, query),
                Output::GiveBack { units } => {
                    if let Some(spending) = &self.shared.spending {
                        spending.give_back(units);
                    }
                }
                Output::Tell { transfers, news } => {
                    self.shared.tell(&transfers, &news);
                    trace::told(&self.shared.board, &transfers, &news);
                    self.remember(&transfers);
                }
            }
        }
        self.ledger.settle_up(&self.shared);
        self.ledger.appender.flush();
    }
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use std::path::Path;

    use keyshard_shard::{
        AccessKey, ChainLimits, CryptoHash, Level, Recovered, Settings, Signer, StoragePolicy, TransferId, Trust,
    };
    use near_crypto::{KeyType, SecretKey};
    use uuid::Uuid;

    use super::*;
    use crate::{JobStatus, NewTransfer, courier::Chain, history::History, journal};

    fn settings() -> Settings {
        Settings {
            account: "test.near".parse().unwrap(),
            token: "ft.test.near".parse().unwrap(),
            wait_until: Level::Final,
            storage: StoragePolicy::Never,
            storage_deposit: 0,
            window: 1,
            max_actions: 100,
            max_batch: 100,
            linger: Duration::ZERO,
            max_attempts: 1,
            retry_base: Duration::ZERO,
            spend_limited: false,
            trust: Trust::One,
            index: 0,
            shards: 1,
            seed: 1,
            life: 1,
            genesis: CryptoHash::default(),
        }
    }

    /// A worker whose node is never asked.
    fn worker(directory: &Path) -> Worker {
        let mut journal = Journal::open(directory, journal::Options::default()).unwrap().0;
        let bell = Bell::default();
        let appender = journal.start(vec![bell.clone()], journal::abort()).unwrap().remove(0);
        let history = History::open(&directory.join("history"), CryptoHash::default()).unwrap();
        let clock = Clock::new();
        let limits = ChainLimits {
            max_actions: 100,
            max_total_prepaid_gas: 300_000_000_000_000,
            max_gas_burnt: 300_000_000_000_000,
            max_transaction_size: 1_500_000,
            validity_blocks: 86_400,
        };
        let key = AccessKey::new(Signer::new(SecretKey::from_seed(KeyType::ED25519, "key")), 1);
        let endpoint = keyshard_rpc::Endpoint::new("http://127.0.0.1:9").unwrap();
        let client = keyshard_rpc::Client::new(keyshard_rpc::Config::new(vec![endpoint])).unwrap();
        let chain = Chain { id: "localnet".into(), genesis: None };
        Worker {
            shard: Shard::new(settings(), limits, vec![key]),
            courier: Courier::new(client, &settings(), chain, bell.clone()),
            rings: Vec::new(),
            doors: 0,
            recent: Vec::new(),
            bell,
            ledger: Ledger::new(Arc::new(journal), appender, 0),
            clock,
            shared: Arc::new(Shared::new(Level::Final, 10, clock, history, 1, &Recovered::default())),
            report: Arc::default(),
            orders: Mailbox::default(),
        }
    }

    /// That a transfer failed is told only when its record is durable, and the same sync may make a whole repetition
    /// durable that has left it out. Old segments must not go before the board, and so the history, knows of it.
    #[tokio::test]
    async fn a_repetition_counts_only_when_what_was_durable_before_it_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let mut worker = worker(directory.path());
        let now = worker.clock.now();
        let new = NewTransfer { receiver: "nobody.near".parse().unwrap(), amount: 1, memo: None, key: None };
        let accept = |worker: &mut Worker, id: u128| {
            let waiting = crate::door::Waiting::nobody();
            worker.shared.backlog.admit(1).unwrap();
            let transfer = Arc::new(new.clone().accepted_as(Uuid::from_u128(id)));
            worker.shared.board.accepted([&transfer], &waiting);
            worker.shard.handle(now, Input::Accept(transfer));
        };
        worker.shard.take_over(now, Recovered::default());
        accept(&mut worker, 1);
        worker.shard.handle(now, Input::Tick);
        let mut last = 0;
        while let Some(output) = worker.shard.poll_output() {
            match output {
                Output::Append { lsn, record } => {
                    assert!(worker.ledger.append(lsn, &record));
                    last = lsn;
                }
                // Not registered, and nobody pays for it: it fails.
                Output::Query { id, .. } => {
                    worker.shard.handle(now, Input::Reply { id, reply: Reply::Registration(false) });
                }
                other => panic!("{other:?}"),
            }
        }
        worker.shard.handle(now, Input::Checkpoint);
        while let Some(output) = worker.shard.poll_output() {
            let Output::Append { lsn, record } = output else { panic!("{output:?}") };
            assert!(worker.ledger.append(lsn, &record));
            last = lsn;
        }
        worker.ledger.appender.flush();
        while worker.ledger.appender.durable() < last {
            worker.bell.rung().await;
        }

        let status = |worker: &Worker| worker.shared.board.job(TransferId(1)).unwrap().status;
        let durable = worker.ledger.news();
        assert_eq!(durable, Some(last), "all at once");
        assert_eq!(status(&worker), JobStatus::Queued);
        assert_eq!(worker.shared.checkpoints.due(u64::MAX), None, "nobody knows of the failure yet");
        worker.shard.handle(now, Input::Durable(last));
        worker.carry_out();
        assert_eq!(status(&worker), JobStatus::Failed);
        assert_eq!(worker.shared.checkpoints.due(0), None, "the history does not have it yet");
        assert_eq!(worker.shared.checkpoints.due(1), Some(1));
    }
}
