//! What a person has ordered: sign nothing, use a key no more, take a transfer back. Orders outlive a restart.
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use crossbeam::queue::SegQueue;
use keyshard_shard::{Cancel, Shard, TransferId};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::{Job, clock::Clock, ring::Bell, small_file};

/// Longest reason for a pause that is kept, in bytes: the 500 characters that may be given.
const MAX_REASON_BYTES: usize = 2_000;
const VERSION: u32 = 1;

/// The orders that are in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Orders {
    version: u32,
    /// Nothing new is signed; why and since when.
    pub paused: Option<Pause>,
    /// Keys that sign nothing new, `ed25519:...`.
    pub quarantined: BTreeSet<String>,
}

/// Nothing new is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// What the person said.
    pub reason: String,
    /// Milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// What became of the wish to take a transfer back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancelled {
    /// It is `failed`, durably, and will never be paid.
    Done(Job),
    /// It is in a signed transaction, or has settled: this is how it stands.
    TooLate(Job),
    /// It is not known.
    Unknown,
    /// It is on its way to its shard: ask again.
    NotYet,
}

/// An order to one shard.
pub(crate) enum Order {
    Pause(bool),
    Quarantine(Arc<str>, bool),
    Cancel(TransferId, Box<str>, oneshot::Sender<Cancel>),
}

/// Where a shard finds its orders.
pub(crate) type Mailbox = Arc<SegQueue<Order>>;

/// Keeps the orders and passes them on.
pub(crate) struct Steering {
    path: PathBuf,
    orders: Mutex<Orders>,
    /// One for each shard.
    shards: Vec<(Mailbox, Bell)>,
}

/// The orders that an earlier process was given. The error is for people.
pub(crate) fn orders(path: &Path) -> Result<Orders, String> {
    let orders = small_file::read::<Orders>(path).and_then(|orders| match orders {
        Some(Orders { version, .. }) if version != VERSION => {
            Err(format!("it has version {version}, this program knows version {VERSION}"))
        }
        orders => Ok(orders.unwrap_or_default()),
    });
    orders.map_err(|why| {
        format!(
            "{} holds what was ordered (pause, keys in quarantine) and cannot be read: {why}. Mend it, or move it away to start \
             without orders",
            path.display()
        )
    })
}

impl Order {
    /// Carries it out.
    pub(crate) fn give(self, shard: &mut Shard, clock: Clock) {
        match self {
            Self::Pause(paused) => shard.pause(paused),
            Self::Quarantine(key, quarantined) => {
                shard.quarantine(&key, quarantined);
            }
            Self::Cancel(id, reason, answer) => {
                let _ = answer.send(shard.cancel(clock.now(), id, &reason));
            }
        }
    }
}

impl Orders {
    /// Tells a shard that begins.
    pub(crate) fn give(&self, shard: &mut Shard) {
        shard.pause(self.paused.is_some());
        for key in &self.quarantined {
            shard.quarantine(key, true);
        }
    }
}

impl Steering {
    pub(crate) fn new(path: PathBuf, orders: Orders, bells: &[Bell]) -> Self {
        let shards = bells.iter().map(|bell| (Mailbox::default(), bell.clone())).collect();
        Self { path, orders: Mutex::new(orders), shards }
    }

    pub(crate) fn mailbox(&self, shard: usize) -> Mailbox {
        self.shards[shard].0.clone()
    }

    pub(crate) fn orders(&self) -> Orders {
        self.orders.lock().clone()
    }

    pub(crate) fn pause(&self, paused: Option<(&str, u64)>) -> Result<(), String> {
        let pause = paused.map(|(reason, since_ms)| {
            let end = reason.floor_char_boundary(MAX_REASON_BYTES);
            Pause { reason: reason[..end].to_owned(), since_ms }
        });
        self.change(|orders| orders.paused = pause)?;
        self.tell(|| Order::Pause(paused.is_some()));
        Ok(())
    }

    pub(crate) fn quarantine(&self, key: &Arc<str>, quarantined: bool) -> Result<(), String> {
        self.change(|orders| {
            if quarantined {
                orders.quarantined.insert(key.to_string());
            } else {
                orders.quarantined.remove(&**key);
            }
        })?;
        self.tell(|| Order::Quarantine(key.clone(), quarantined));
        Ok(())
    }

    /// Each shard's answer.
    pub(crate) async fn cancel(&self, id: TransferId, reason: &str) -> Vec<Cancel> {
        let mut answers = Vec::with_capacity(self.shards.len());
        self.tell(|| {
            let (answer, told) = oneshot::channel();
            answers.push(told);
            Order::Cancel(id, reason.into(), answer)
        });
        let mut told = Vec::with_capacity(answers.len());
        for answer in answers {
            // Without an answer the engine is stopping.
            told.push(answer.await.unwrap_or(Cancel::NotHere));
        }
        told
    }

    /// On the disk first: what is in force must be so after a restart.
    fn change(&self, change: impl FnOnce(&mut Orders)) -> Result<(), String> {
        let mut orders = self.orders.lock();
        let mut changed = Orders { version: VERSION, ..orders.clone() };
        change(&mut changed);
        small_file::replace(&self.path, &changed)
            .map_err(|error| format!("{} cannot be written, so nothing was changed: {error}", self.path.display()))?;
        *orders = changed;
        Ok(())
    }

    fn tell(&self, mut order: impl FnMut() -> Order) {
        for (mailbox, bell) in &self.shards {
            mailbox.push(order());
            bell.ring();
        }
    }
}
