//! A limit on what may be signed in a stretch of time. It is one for all shards, so each asks for every batch.
//!
//! A transfer counts once, when it is first signed, whatever becomes of its transaction.
use std::collections::VecDeque;

use super::{Asker, Shard};
use crate::{Instant, Output, Query, Reply, limits, mutants::Mutant, transfer::Open};

/// What this shard has of the limit. Between two batches nothing: what a batch did not take is given back.
#[derive(Debug, Default)]
pub(super) struct Spending {
    /// May be signed now, raw token units.
    pub(super) left: u128,
    asked: bool,
    /// The limit is used up, as far as is known until then, and why.
    dry: Option<(Instant, Box<str>)>,
}

impl Spending {
    /// Why transfers wait for more, if they do.
    pub(super) fn why_dry(&self, now: Instant) -> Option<&str> {
        self.dry.as_ref().filter(|(until, _)| *until > now).map(|(_, why)| &**why)
    }
}

/// What those at the front of a queue, as many as fit into a transaction, take of the limit: the first, and all together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    first: u128,
    all: u128,
}

impl Due {
    pub(super) fn of(queue: &VecDeque<Open>, full: usize) -> Self {
        let due = |open: &Open| if open.counted { 0 } else { open.transfer.amount };
        let all = queue.iter().take(full).fold(0u128, |sum, open| sum.saturating_add(due(open)));
        Self { first: queue.front().map_or(0, due), all }
    }
}

impl Shard {
    /// What may be signed of transfers that do not count yet.
    pub(super) fn allowance(&self) -> Option<u128> {
        let left = self.spending.as_ref()?.left;
        if Mutant::AllowanceIgnored.is_chosen() { None } else { Some(left) }
    }

    /// Whether the first of them may be signed now. Asks for more of the limit where there is not enough for all.
    pub(super) fn may_spend(&mut self, now: Instant, due: Due) -> bool {
        let Some(spending) = &mut self.spending else { return true };
        if due.all <= spending.left {
            return true;
        }
        if spending.asked {
            return false;
        }
        if let Some((until, _)) = spending.dry
            && until > now
        {
            let covered = due.first <= spending.left;
            if !covered {
                self.wake(until);
            }
            return covered;
        }
        spending.asked = true;
        spending.dry = None;
        let (least, most) = (due.first.saturating_sub(spending.left).max(1), due.all - spending.left);
        let id = self.new_ask(Asker::Allowance);
        self.put(Output::Query { id, query: Query::Allowance { least, most } });
        false
    }

    pub(super) fn allowance_answered(&mut self, now: Instant, reply: Reply) {
        let Some(spending) = &mut self.spending else { return };
        spending.asked = false;
        match reply {
            Reply::Allowance(units) => spending.left = spending.left.saturating_add(units),
            Reply::NoAllowance { why, retry_after } => {
                let pause = retry_after.clamp(limits::ALLOWANCE_PAUSE_MIN, limits::ALLOWANCE_PAUSE_MAX);
                spending.dry = Some((now + pause, why));
            }
            _ => {}
        }
    }

    /// What no batch has taken could be signed much later, when it would not be counted.
    pub(super) fn give_back(&mut self) {
        if let Some(spending) = &mut self.spending
            && !spending.asked
            && spending.left > 0
        {
            let units = std::mem::take(&mut spending.left);
            self.put(Output::GiveBack { units });
        }
    }
}
