//! All transfers, the newest first, a page at a time: what is on the board merged with what is in the history.
//!
//! The order is that of the ids, which begin with the time of acceptance and never change: a page that begins below the last
//! id of the page before it neither repeats nor leaves out anything, whatever is accepted, settles or is forgotten meanwhile.
use std::collections::BTreeMap;

use keyshard_shard::TransferId;
use near_primitives::types::AccountId;
use uuid::Uuid;

use crate::{
    Shared,
    history::{HistoryError, Sheet},
    job::{Job, JobStatus},
};

/// Transfers of the history that one page may look at, found or not: some tens of milliseconds of work.
pub(crate) const LOOKS_MAX: usize = if cfg!(test) { 7 } else { 10_000 };

/// Which transfers are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Those with this status; `None`: with any.
    pub status: Option<JobStatus>,
    /// Those to this account; `None`: to any.
    pub receiver: Option<AccountId>,
}

/// Some of the transfers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The newest first.
    pub jobs: Vec<Job>,
    /// Where the next page begins: below this id. `None` if there is nothing more.
    pub next: Option<Uuid>,
}

/// Place of a transfer in the order: the higher, the newer.
///
/// Ids that were imported from elsewhere may begin with chance instead of the time. Nearly all of them lie beyond any time
/// that can have been: these come after all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(u128);

impl Rank {
    /// 2100-01-01, as an id begins.
    pub(crate) const BEYOND: u128 = 4_102_444_800_000 << 80;

    pub(crate) fn of(id: TransferId) -> Self {
        Self(id.0.wrapping_sub(Self::BEYOND))
    }

    pub(crate) fn id(self) -> TransferId {
        TransferId(self.0.wrapping_add(Self::BEYOND))
    }
}

impl Filter {
    /// Whether one like this is wanted.
    pub(crate) fn takes(&self, status: JobStatus, receiver: &AccountId) -> bool {
        self.status.is_none_or(|wanted| wanted == status)
            && self.receiver.as_ref().is_none_or(|wanted| wanted == receiver)
    }
}

impl Shared {
    /// At most `limit` of those that are wanted, from the newest below `before` on. There may be fewer even though there are
    /// more further on: `next` tells.
    pub(crate) fn list(&self, filter: &Filter, limit: usize, before: Option<TransferId>) -> Result<Page, HistoryError> {
        self.list_at_most(filter, limit, before, LOOKS_MAX)
    }

    fn list_at_most(
        &self,
        filter: &Filter,
        limit: usize,
        before: Option<TransferId>,
        looks: usize,
    ) -> Result<Page, HistoryError> {
        let before = before.map(Rank::of);
        // One more tells whether there are more. The board first: what leaves it is in the history by then.
        let wanted = limit + 1;
        let open = self.board.newest(before, wanted, |status, receiver| filter.takes(status, receiver));
        let board_end = open.last().copied().filter(|_| open.len() == wanted);
        let Sheet { found, end } = self.history.newest(before, wanted, looks, |settled| {
            let status = if settled.outcome.is_ok() { JobStatus::Finalized } else { JobStatus::Failed };
            filter.takes(status, &settled.transfer.receiver)
        })?;
        let mut jobs: BTreeMap<Rank, Job> = BTreeMap::new();
        for rank in open {
            // What has gone from the board since is among what was found.
            if let Some(job) = self.board.job(rank.id()).filter(|job| filter.takes(job.status, &job.receiver)) {
                jobs.insert(rank, job);
            }
        }
        // Of one that is in both, what the history says is later.
        jobs.extend(found.into_iter().map(|settled| (Rank::of(settled.transfer.id), settled.into())));
        // Below this, one of the two was not looked at.
        let end = board_end.max(end);
        let mut seen = jobs.into_iter().rev().take_while(|(rank, _)| end.is_none_or(|end| *rank >= end));
        let page: Vec<(Rank, Job)> = seen.by_ref().take(limit).collect();
        let more = seen.next().is_some();
        let last = page.last().map(|(rank, _)| *rank).filter(|_| page.len() == limit);
        let next = if more { last } else { end.map(|end| last.map_or(end, |last| last.min(end))) };
        let next = next.map(|rank| Uuid::from_u128(rank.id().0));
        Ok(Page { jobs: page.into_iter().map(|(_, job)| job).collect(), next })
    }
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests;
