//! The door, the board and the history as clients see them: which name is which transfer, and what has become of it. A
//! small stand-in for the engine's own, with the same order of what is durable first.
use std::collections::{BTreeMap, HashMap};

use keyshard_shard::{Level, News, RecoveredSettled, Transfer, TransferId};

use crate::promises::{is_far_enough, payment_of};

/// What is known of a transfer.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) payment: usize,
    transfer: Transfer,
    /// Its acceptance is safe.
    pub(crate) durable: bool,
    /// It is as far as callers wait, or its end is known.
    pub(crate) answerable: bool,
    /// Its end was told in this life.
    pub(crate) settled_here: bool,
    /// Requests that wait for it.
    pub(crate) waiting: Vec<usize>,
}

/// Settled transfers on disk.
#[derive(Default)]
pub(crate) struct History {
    durable: BTreeMap<TransferId, Transfer>,
    /// Not on the disk yet.
    fresh: Vec<Transfer>,
}

impl History {
    fn put(&mut self, transfer: Transfer) {
        self.fresh.push(transfer);
    }

    /// Everything so far is on the disk when this returns.
    pub(crate) fn sync(&mut self) {
        for transfer in self.fresh.drain(..) {
            self.durable.insert(transfer.id, transfer);
        }
    }

    /// The process ended.
    pub(crate) fn crash(&mut self) {
        self.fresh.clear();
    }
}

/// Why a door refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// 503: nothing was taken.
    Full,
    /// 422: a name is in use for something else.
    Conflict,
}

/// The way in, and the board.
#[derive(Default)]
pub(crate) struct Door {
    jobs: HashMap<TransferId, Job>,
    names: HashMap<String, TransferId>,
    /// Accepted and not settled.
    pub(crate) pending: usize,
    max_pending: usize,
    wait_until: Option<Level>,
}

impl Door {
    /// The door of a new life. `forgetful`: it forgets the names (a known bug).
    pub(crate) fn new(
        max_pending: usize,
        wait_until: Level,
        open: &[Transfer],
        settled: &[RecoveredSettled],
        history: &mut History,
        forgetful: bool,
    ) -> Self {
        let mut door = Self { max_pending, wait_until: Some(wait_until), ..Self::default() };
        for settled in settled {
            history.put(settled.transfer.clone());
        }
        history.sync();
        for transfer in history.durable.values() {
            door.note(transfer, true);
        }
        for transfer in open {
            door.note(transfer, false);
        }
        if forgetful {
            door.names.clear();
        }
        door.pending = open.len();
        door
    }

    fn note(&mut self, transfer: &Transfer, settled: bool) {
        let Some(payment) = transfer.memo.as_deref().and_then(payment_of) else { return };
        if let Some(key) = &transfer.key {
            self.names.insert(key.name.to_string(), transfer.id);
        }
        let job = Job {
            payment,
            transfer: transfer.clone(),
            durable: true,
            answerable: settled,
            settled_here: false,
            waiting: Vec::new(),
        };
        self.jobs.insert(transfer.id, job);
    }

    /// All transfers of a request, or none. Returns their ids, and those that are new. A name that is known means the
    /// transfer that it meant before.
    pub(crate) fn submit(
        &mut self,
        request: usize,
        transfers: Vec<Transfer>,
    ) -> Result<(Vec<TransferId>, Vec<Transfer>), Refused> {
        let mut ids = Vec::new();
        let mut new = Vec::new();
        for transfer in transfers {
            let known = transfer.key.as_ref().and_then(|key| self.names.get(&*key.name));
            match known.and_then(|id| self.jobs.get(id)) {
                Some(job) if Transfer { id: job.transfer.id, ..transfer.clone() } == job.transfer => {
                    ids.push(job.transfer.id);
                }
                Some(_) => return Err(Refused::Conflict),
                None => {
                    ids.push(transfer.id);
                    new.push(transfer);
                }
            }
        }
        if self.pending + new.len() > self.max_pending && !new.is_empty() {
            return Err(Refused::Full);
        }
        self.pending += new.len();
        for transfer in &new {
            self.note(transfer, false);
            if let Some(job) = self.jobs.get_mut(&transfer.id) {
                job.durable = false;
            }
        }
        for id in &ids {
            if let Some(job) = self.jobs.get_mut(id) {
                job.waiting.push(request);
            }
        }
        Ok((ids, new))
    }

    /// Nothing more is taken.
    pub(crate) fn close(&mut self) {
        self.max_pending = 0;
    }

    /// What is known of a transfer.
    pub(crate) fn job(&self, id: TransferId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// A shard has news of a transfer. Returns the requests that may be answered now.
    pub(crate) fn tell(&mut self, id: TransferId, news: &News, history: &mut History) -> Vec<usize> {
        let Some(job) = self.jobs.get_mut(&id) else { return Vec::new() };
        match news {
            News::Accepted => job.durable = true,
            News::Finalized | News::Failed { .. } => {
                job.settled_here = true;
                job.answerable = true;
                self.pending -= 1;
                history.put(job.transfer.clone());
            }
            News::Signed { .. } | News::Reached { .. } | News::Delayed { .. } => {}
        }
        job.answerable |= self.wait_until.is_some_and(|level| is_far_enough(news, level));
        job.waiting.clone()
    }
}
