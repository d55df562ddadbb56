//! What the board keeps of one transfer. There may be a million: what is the same for all of a transaction is kept once, and what
//! few have is apart.
use std::sync::{Arc, OnceLock, atomic::AtomicUsize};

use keyshard_shard::{BatchId, Carried, CryptoHash, Instant, Level, Transfer, TransferId};
use uuid::Uuid;

use super::Told;
use crate::{
    door::Waiting,
    history::Settled,
    job::{Job, JobStatus},
};

pub(super) struct Entry {
    /// Shared with the shard, and with the names.
    pub(super) transfer: Arc<Transfer>,
    pub(super) created_at: Instant,
    pub(super) updated_at: Instant,
    /// The last transaction that carried it.
    pub(super) carrier: Option<Arc<Carrier>>,
    pub(super) last_error: Option<Arc<Why>>,
    /// The request that waits for it; gone once it is answerable.
    pub(super) waiting: Option<Arc<Waiting>>,
    pub(super) rare: Option<Box<Rare>>,
    /// Its position among those that the last transaction carries.
    pub(super) position: u16,
    pub(super) status: JobStatus,
    pub(super) level: Option<Level>,
    /// Whether its acceptance is on the disk.
    pub(super) durable: bool,
}

/// Every transfer has an entry, and a pointer to it.
const _: () = assert!(size_of::<Entry>() <= 64);

/// What few transfers have.
#[derive(Default)]
pub(super) struct Rare {
    /// Transactions that carried it before.
    pub(super) tried: Vec<Arc<Carrier>>,
    /// Further requests that joined by its idempotency key.
    pub(super) joined: Vec<Arc<Waiting>>,
}

/// A transaction.
pub(super) struct Carrier {
    pub(super) hash: CryptoHash,
    /// Not known of one that carried nothing that is still open, and ended in a former life.
    pub(super) batch: Option<BatchId>,
    /// What it carried.
    pub(super) transfers: Box<[TransferId]>,
    /// So many of them are on the board.
    pub(super) left: AtomicUsize,
    /// Its hash and its batch in words, once anybody has asked: the same for all that it carried.
    words: OnceLock<Words>,
}

struct Words {
    hash: Arc<str>,
    batch: Option<Arc<str>>,
}

/// Why a transfer is not settled, or why it failed: mostly the same for all of a transaction.
pub(super) struct Why(pub(super) Box<str>);

impl Carrier {
    pub(super) fn new(hash: CryptoHash, batch: Option<BatchId>, transfers: Box<[TransferId]>) -> Arc<Self> {
        let left = AtomicUsize::new(transfers.len());
        Arc::new(Self { hash, batch, transfers, left, words: OnceLock::new() })
    }

    fn words(&self) -> &Words {
        let batch = || self.batch.map(|batch| batch.to_string().into());
        self.words.get_or_init(|| Words { hash: self.hash.to_string().into(), batch: batch() })
    }
}

impl Entry {
    pub(super) fn new(transfer: Arc<Transfer>, created_at: Instant, updated_at: Instant) -> Self {
        Self {
            transfer,
            created_at,
            updated_at,
            carrier: None,
            last_error: None,
            waiting: None,
            rare: None,
            position: 0,
            status: JobStatus::Queued,
            level: None,
            durable: false,
        }
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Transactions that carried it before.
    pub(super) fn tried(&self) -> &[Arc<Carrier>] {
        self.rare.as_ref().map_or(&[], |rare| &rare.tried)
    }

    /// Every transaction that carried it.
    pub(super) fn carriers(&self) -> impl Iterator<Item = &Arc<Carrier>> {
        self.carrier.iter().chain(self.tried())
    }

    /// Every request that waits for it.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Arc<Waiting>> {
        self.waiting.iter().chain(self.rare.iter().flat_map(|rare| &rare.joined))
    }

    /// A transaction carries it.
    pub(super) fn carried_by(&mut self, carrier: &Arc<Carrier>, position: u16) {
        if let Some(before) = self.carrier.replace(carrier.clone()) {
            self.rare().tried.push(before);
        }
        self.position = position;
    }

    pub(super) fn is_answerable(&self, wait_until: Level) -> bool {
        self.status.is_settled() || self.level.is_some_and(|level| level >= wait_until)
    }

    /// Whoever waits for it need not any more.
    pub(super) fn answer(&mut self, told: &mut Told) {
        told.answerable.extend(self.waiting.take());
        if let Some(rare) = &mut self.rare {
            told.answerable.extend(rare.joined.drain(..));
        }
    }

    fn carried(&self) -> Option<Carried> {
        let carrier = self.carrier.as_ref()?;
        Some(Carried { hash: carrier.hash, batch: carrier.batch?, position: self.position })
    }

    fn why(&self) -> Option<Box<str>> {
        self.last_error.as_ref().map(|why| why.0.clone())
    }

    /// For the history.
    ///
    /// # Panics
    /// If it has not settled.
    pub(super) fn settled(&self) -> Settled {
        let outcome = match self.status {
            JobStatus::Finalized => Ok(()),
            JobStatus::Failed => Err(self.why().unwrap_or_default()),
            open => panic!("{:?} has not settled, it is {}", self.transfer.id, open.as_str()),
        };
        Settled {
            transfer: (*self.transfer).clone(),
            accepted_at: self.created_at,
            settled_at: self.updated_at,
            outcome,
            carried: self.carried(),
            tried: self.tried().iter().map(|carrier| carrier.hash).collect(),
        }
    }

    pub(super) fn job(&self) -> Job {
        let (transfer, carried) = (&self.transfer, self.carried());
        Job {
            id: Uuid::from_u128(transfer.id.0),
            key: transfer.key.as_ref().map(|key| key.name.clone()),
            created_at_ms: self.created_at.as_millis(),
            status: self.status,
            receiver: transfer.receiver.clone(),
            amount: transfer.amount,
            memo: transfer.memo.clone(),
            attempts: self.carriers().count() as u32,
            batch_id: self.carrier.as_ref().and_then(|carrier| carrier.words().batch.clone()),
            last_error: self.why(),
            tx_hash: self.carrier.as_ref().or(self.tried().last()).map(|carrier| carrier.words().hash.clone()),
            submitted_at_ms: carried.map(|carried| carried.batch.at.as_millis()),
            updated_at_ms: self.updated_at.as_millis(),
            execution_status: self.level.map(Level::as_str),
        }
    }
}

impl From<Settled> for Job {
    fn from(settled: Settled) -> Self {
        let status = if settled.outcome.is_ok() { JobStatus::Finalized } else { JobStatus::Failed };
        let Settled { transfer, accepted_at, settled_at, outcome, carried, tried } = settled;
        let attempts = tried.len() as u32 + u32::from(carried.is_some());
        Job {
            id: Uuid::from_u128(transfer.id.0),
            key: transfer.key.map(|key| key.name),
            created_at_ms: accepted_at.as_millis(),
            status,
            receiver: transfer.receiver,
            amount: transfer.amount,
            memo: transfer.memo,
            attempts,
            batch_id: carried.map(|carried| carried.batch.to_string().into()),
            execution_status: outcome.is_ok().then_some(Level::Final.as_str()),
            last_error: outcome.err(),
            tx_hash: carried.map(|carried| carried.hash).or(tried.last().copied()).map(|hash| hash.to_string().into()),
            submitted_at_ms: carried.map(|carried| carried.batch.at.as_millis()),
            updated_at_ms: settled_at.as_millis(),
        }
    }
}
