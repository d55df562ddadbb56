//! What a person may order: sign nothing, use a key no more, take a transfer back.
use std::collections::VecDeque;

use super::Shard;
use crate::{CryptoHash, Instant, TransferId, mutants::Mutant, transfer::Open};

/// What became of the wish to take a transfer back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancel {
    /// It will never be paid. [`News::Failed`](crate::News::Failed) follows once that is durable.
    Done,
    /// Too late: this transaction carries it.
    Signed(CryptoHash),
    /// It is not in this shard, or has settled.
    NotHere,
}

impl Shard {
    /// From now on nothing new is signed, or again. What is signed is followed to its end, and transfers are accepted.
    pub fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// From now on this key signs nothing new, or again. Its transactions are followed to their end.
    /// Returns whether the key is one of this shard's.
    pub fn quarantine(&mut self, public_key: &str, quarantined: bool) -> bool {
        let key = self.keys.iter_mut().find(|key| **key.public_key() == *public_key);
        key.map(|key| key.quarantined = quarantined).is_some()
    }

    /// Takes a transfer back if no live transaction carries it (P4, P5); it then fails for good.
    pub fn cancel(&mut self, now: Instant, id: TransferId, reason: &str) -> Cancel {
        let is = |open: &Open| open.transfer.id == id;
        if let Some(attempt) = self.attempts.values().find(|attempt| attempt.transfers.iter().any(is)) {
            if Mutant::CancelInFlight.is_chosen() {
                if let Some(open) = attempt.transfers.iter().find(|open| is(open)).cloned() {
                    self.fail(now, &open, reason.into());
                }
                return Cancel::Done;
            }
            return Cancel::Signed(attempt.hash);
        }
        let take = |queue: &mut VecDeque<Open>| queue.iter().position(is).and_then(|at| queue.remove(at));
        let mut found = take(&mut self.ready).or_else(|| take(&mut self.lone));
        found = found.or_else(|| self.parts.iter_mut().find_map(take));
        self.parts.retain(|part| !part.is_empty());
        let later = self.later.iter().find(|(_, open)| is(open)).map(|(at, _)| *at);
        found = found.or_else(|| later.and_then(|at| self.later.remove(&at)));
        found = found.or_else(|| self.registry.take(id));
        let Some(open) = found else { return Cancel::NotHere };
        self.fail(now, &open, reason.into());
        Cancel::Done
    }
}
