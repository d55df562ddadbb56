//! What a journal says has settled: for the history, which may not have it yet.
//!
//! This looks at all records there are, also at those that a later repetition has replaced: that a transfer settled stays
//! true, and a repetition does not repeat it.
use std::sync::Arc;

use foldhash::HashMap;
use near_primitives::hash::CryptoHash;

use crate::{BatchId, Closed, Instant, Record, Transfer, TransferId, replay::Kept};

/// A transfer that has settled, as far as the journal still tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveredSettled {
    /// As it was accepted.
    pub transfer: Transfer,
    /// When.
    pub accepted_at: Instant,
    /// When it settled.
    pub settled_at: Instant,
    /// Paid, or why it never will be.
    pub outcome: Result<(), Box<str>>,
    /// The last transaction that carried it; the one that paid it, if it is paid.
    pub carried: Option<Carried>,
    /// Transactions that carried it before, in their order.
    pub tried: Vec<CryptoHash>,
}

/// A transfer's place in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// The transaction.
    pub hash: CryptoHash,
    /// Its name.
    pub batch: BatchId,
    /// Position of the transfer among those it carries.
    pub position: u16,
}

/// What settled in these records, the oldest first. One whose acceptance is in no record any more is left out: segments
/// are deleted only when what settled in them is in the history.
pub(crate) fn settled<'a, I: Iterator<Item = &'a Kept>>(records: impl Fn() -> I) -> Vec<RecoveredSettled> {
    let others = || {
        records().filter_map(|kept| match kept {
            Kept::Other(record) => Some(&**record),
            Kept::Accepted { .. } => None,
        })
    };
    let mut landed = HashMap::<CryptoHash, Instant>::default();
    let mut found = HashMap::<TransferId, Found>::default();
    for record in others() {
        match record {
            Record::Closed { hash, how: Closed::Landed, at } => {
                landed.insert(*hash, *at);
            }
            Record::Failed { id, reason, at } => {
                found.insert(*id, Found::new(*at, Err(reason.clone())));
            }
            _ => {}
        }
    }
    for record in others() {
        if let Record::Signed { hash, transfers, .. } = record
            && let Some(at) = landed.get(hash)
        {
            for id in transfers {
                found.entry(*id).or_insert_with(|| Found::new(*at, Ok(())));
            }
        }
    }
    if found.is_empty() {
        return Vec::new();
    }
    for kept in records() {
        match kept {
            Kept::Accepted { transfer, at, tried } => {
                if let Some(found) = found.get_mut(&transfer.id) {
                    tried.iter().for_each(|hash| found.carried_by(*hash, None));
                    found.accepted.get_or_insert_with(|| (transfer.clone(), *at));
                }
            }
            Kept::Other(record) => {
                let Record::Signed { hash, batch, transfers, .. } = &**record else { continue };
                for (position, id) in (0..).zip(transfers) {
                    if let Some(found) = found.get_mut(id) {
                        found.carried_by(*hash, Some(Carried { hash: *hash, batch: *batch, position }));
                    }
                }
            }
        }
    }
    let mut settled: Vec<RecoveredSettled> = found.into_values().filter_map(Found::finish).collect();
    settled.sort_unstable_by_key(|settled| (settled.settled_at, settled.transfer.id));
    settled
}

struct Found {
    settled_at: Instant,
    outcome: Result<(), Box<str>>,
    accepted: Option<(Arc<Transfer>, Instant)>,
    /// All that carried it, in their order, once each.
    hashes: Vec<CryptoHash>,
    last: Option<Carried>,
}

impl Found {
    fn new(settled_at: Instant, outcome: Result<(), Box<str>>) -> Self {
        Self { settled_at, outcome, accepted: None, hashes: Vec::new(), last: None }
    }

    fn carried_by(&mut self, hash: CryptoHash, carried: Option<Carried>) {
        if !self.hashes.contains(&hash) {
            self.hashes.push(hash);
            self.last = carried;
        }
    }

    fn finish(mut self) -> Option<RecoveredSettled> {
        let (transfer, accepted_at) = self.accepted?;
        let carried = self.last;
        if carried.is_some() {
            self.hashes.pop();
        }
        let Self { settled_at, outcome, hashes: tried, .. } = self;
        Some(RecoveredSettled {
            transfer: Arc::unwrap_or_clone(transfer),
            accepted_at,
            settled_at,
            outcome,
            carried,
            tried,
        })
    }
}
