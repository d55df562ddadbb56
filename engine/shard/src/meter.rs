//! What a shard measures: how long transfers take from stage to stage, how large transactions are. Plain numbers of one
//! thread, merged by whoever shows them.
use std::{collections::VecDeque, sync::Arc};

use crate::{
    Instant, Lsn,
    attempt::Attempt,
    histogram::{COUNT_BOUNDS, GAS_BOUNDS, Histogram},
    transfer::Open,
};

/// How long transfers took, each counted once a stage and attempt; in microseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stages {
    /// Taken from the ring until its acceptance is on the disk.
    pub durable: Histogram,
    /// Accepted, or undone with its transaction, until it is in a (new) signed transaction.
    pub signed: Histogram,
    /// Signed until the transaction leaves: its record is on the disk.
    pub sent: Histogram,
    /// Sent until a node says that it has run.
    pub executed: Histogram,
    /// Run until it is known to be FINAL.
    pub last: Histogram,
    /// Accepted until paid at FINAL.
    pub total: Histogram,
}

impl Default for Stages {
    fn default() -> Self {
        let [durable, signed, sent, executed, last, total] = std::array::from_fn(|_| Histogram::of_times());
        Self { durable, signed, sent, executed, last, total }
    }
}

impl Stages {
    /// Each with its name, in their order.
    pub fn named(&self) -> [(&'static str, &Histogram); 6] {
        [
            ("durable", &self.durable),
            ("signed", &self.signed),
            ("sent", &self.sent),
            ("executed", &self.executed),
            ("final", &self.last),
            ("total", &self.total),
        ]
    }

    /// Adds what another shard measured.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.durable, &other.durable),
            (&mut self.signed, &other.signed),
            (&mut self.sent, &other.sent),
            (&mut self.executed, &other.executed),
            (&mut self.last, &other.last),
            (&mut self.total, &other.total),
        ] {
            mine.add(theirs);
        }
    }
}

/// Measurements of one shard since start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    /// Latency by stage.
    pub stages: Stages,
    /// Transfers in a transaction.
    pub batch_size: Histogram,
    /// Gas that a transaction burnt, when it landed.
    pub batch_gas: Histogram,
    /// Transfers accepted.
    pub accepted: u64,
    /// Transfers that a node said have run; one whose block was abandoned counts again.
    pub executed: u64,
    /// Transfers paid at FINAL.
    pub finalized: u64,
    /// Transfers that will never be paid.
    pub failed: u64,
    /// Token units paid at FINAL.
    pub paid: u128,
    /// Transactions that failed on chain, and were undone as a whole.
    pub undone: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            stages: Stages::default(),
            batch_size: Histogram::new(COUNT_BOUNDS),
            batch_gas: Histogram::new(GAS_BOUNDS),
            accepted: 0,
            executed: 0,
            finalized: 0,
            failed: 0,
            paid: 0,
            undone: 0,
        }
    }
}

impl Meter {
    /// Adds what another shard measured.
    pub fn add(&mut self, other: &Self) {
        self.stages.add(&other.stages);
        self.batch_size.add(&other.batch_size);
        self.batch_gas.add(&other.batch_gas);
        self.accepted += other.accepted;
        self.executed += other.executed;
        self.finalized += other.finalized;
        self.failed += other.failed;
        self.paid = self.paid.saturating_add(other.paid);
        self.undone += other.undone;
    }

    /// These go into a transaction.
    pub(crate) fn signed(&mut self, now: Instant, transfers: &[Open]) {
        if transfers.is_empty() {
            return;
        }
        self.batch_size.record(transfers.len() as u64);
        let waits = |open: &Open| if open.tried.is_empty() { open.accepted_at } else { open.since };
        by_time(transfers.iter().map(waits), |since, times| {
            self.stages.signed.record_time(now.since(since), times);
        });
    }

    /// The transaction leaves for the first time.
    pub(crate) fn sent(&mut self, now: Instant, attempt: &mut Attempt) {
        if attempt.sent_at.is_none() {
            attempt.sent_at = Some(now);
            self.stages.sent.record_time(now.since(attempt.batch.at), attempt.transfers.len() as u64);
        }
    }

    /// A node says that the transaction has run. What a former life sent is not timed: nobody knows when.
    pub(crate) fn executed(&mut self, now: Instant, attempt: &mut Attempt) {
        if attempt.executed_at.is_none() {
            attempt.executed_at = Some(now);
            let transfers = attempt.transfers.len() as u64;
            self.executed += transfers;
            if let Some(sent_at) = attempt.sent_at {
                self.stages.executed.record_time(now.since(sent_at), transfers);
            }
        }
    }

    /// The transaction has paid its transfers.
    pub(crate) fn landed(&mut self, now: Instant, attempt: &mut Attempt, gas_burnt: Option<u64>) {
        self.executed(now, attempt);
        if attempt.is_fence() {
            return;
        }
        if let Some(gas) = gas_burnt {
            self.batch_gas.record(gas);
        }
        let transfers = &attempt.transfers;
        self.finalized += transfers.len() as u64;
        if let (Some(executed_at), true) = (attempt.executed_at, attempt.sent_at.is_some()) {
            self.stages.last.record_time(now.since(executed_at), transfers.len() as u64);
        }
        by_time(transfers.iter().map(|open| open.accepted_at), |accepted_at, times| {
            self.stages.total.record_time(now.since(accepted_at), times);
        });
        let amount = transfers.iter().fold(0u128, |sum, open| sum.saturating_add(open.transfer.amount));
        self.paid = self.paid.saturating_add(amount);
    }
}

/// Those that come at the same time mostly stand together: they are counted at once.
fn by_time(times: impl Iterator<Item = Instant>, mut count: impl FnMut(Instant, u64)) {
    let mut run: Option<(Instant, u64)> = None;
    for time in times {
        match &mut run {
            Some((of, length)) if *of == time => *length += 1,
            _ => {
                if let Some((of, length)) = run.replace((time, 1)) {
                    count(of, length);
                }
            }
        }
    }
    if let Some((of, length)) = run {
        count(of, length);
    }
}

/// Acceptances whose record is not durable yet, together where they came together.
#[derive(Debug, Default)]
pub(crate) struct Undurable(VecDeque<(Lsn, Instant, u64)>);

impl Undurable {
    /// One was accepted with this record.
    pub(crate) fn accepted(&mut self, now: Instant, lsn: Lsn) {
        match self.0.back_mut() {
            Some((last, at, count)) if *at == now => {
                *last = lsn;
                *count += 1;
            }
            _ => self.0.push_back((lsn, now, 1)),
        }
    }

    /// All up to this record are on the disk.
    pub(crate) fn durable(&mut self, now: Instant, lsn: Lsn, stage: &mut Histogram) {
        while let Some((_, at, count)) = self.0.pop_front_if(|(last, ..)| *last <= lsn) {
            stage.record_time(now.since(at), count);
        }
    }
}

/// One access key of a shard, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyView {
    /// `ed25519:...`
    pub public_key: Arc<str>,
    /// Whether it takes new transactions.
    pub state: KeyState,
    /// Transactions that may be waiting for a block: at most the window.
    pub in_flight: usize,
    /// Transactions whose end is not known.
    pub open: usize,
    /// The last nonce used.
    pub nonce: u64,
    /// Nonces from the oldest transaction whose end is not known to the last one used; 0 if every end is known.
    pub nonce_lag: u64,
}

/// Whether a key takes new transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// It does.
    Free,
    /// As many are in flight as may be.
    Full,
    /// A node refused it; it rests for a while.
    Resting,
    /// Somebody ordered that it signs nothing.
    Quarantined,
    /// Not configured any more: its transactions are followed to their end.
    Retired,
}

impl KeyState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Free, Self::Full, Self::Resting, Self::Quarantined, Self::Retired];

    /// `free`, `full`, `resting`, `quarantined`, `retired`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Full => "full",
            Self::Resting => "resting",
            Self::Quarantined => "quarantined",
            Self::Retired => "retired",
        }
    }
}

/// Transfers of a shard that wait, by what they wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queues {
    /// A batch.
    pub ready: usize,
    /// A batch of their own: they, or their receivers, have failed before, or were undone with others.
    pub apart: usize,
    /// The next try, after a failure that named them.
    pub later: usize,
    /// To know whether their receivers are registered.
    pub unregistered: usize,
}
