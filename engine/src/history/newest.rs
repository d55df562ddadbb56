//! Settled transfers in the order of their ids, the newest first, a bounded number at a time.
use redb::{ReadableDatabase as _, ReadableTable};

use super::{
    History, HistoryError, Settled,
    error::StoreError,
    group::Group,
    ids::{self, IDS},
    rows::Row,
    store::{self, GROUPS, NUMBERS},
};
use crate::listing::Rank;

/// What a look has found.
pub(crate) struct Sheet {
    /// The newest first.
    pub(crate) found: Vec<Settled>,
    /// The last that was looked at; `None` if there is nothing older.
    pub(crate) end: Option<Rank>,
}

impl History {
    /// Looks at transfers from the newest below `before` on, until `limit` are found that are wanted, or `looks` are looked at.
    ///
    /// What was accepted within 4 ms is put in order at once: that is at most what a few requests hold.
    pub(crate) fn newest(
        &self,
        before: Option<Rank>,
        limit: usize,
        looks: usize,
        wanted: impl Fn(&Settled) -> bool,
    ) -> Result<Sheet, HistoryError> {
        self.guarded("read", || {
            let read = self.database.begin_read()?;
            let (groups, numbers) = (read.open_table(GROUPS)?, read.open_table(NUMBERS)?);
            let ids = read.open_table(IDS)?;
            let (mut found, mut left) = (Vec::new(), looks);
            for (first, last) in stretches(before) {
                let mut last = Some(last);
                while let Some(until) = last
                    && let Some((row, _)) = ids.range((first, 0)..=(until, u64::MAX))?.next_back().transpose()?
                {
                    let time = row.value().0;
                    for (rank, place) in of_time(&ids, &groups, &numbers, time, before)? {
                        let settled = match store::group(&groups, &numbers, place)? {
                            Some(bytes) => Group::open(bytes.value())?.find(rank.id().0)?,
                            None => None,
                        };
                        found.extend(settled.filter(&wanted));
                        left -= 1;
                        if left == 0 || found.len() == limit {
                            return Ok(Sheet { found, end: Some(rank) });
                        }
                    }
                    last = time.checked_sub(1);
                }
            }
            Ok(Sheet { found, end: None })
        })
    }
}

/// The times of ids below this rank, from the newest on: first and last of each stretch.
fn stretches(before: Option<Rank>) -> impl Iterator<Item = (u64, u64)> {
    let beyond = ids::time(Rank::BEYOND);
    let (usual, foreign) = ((0, beyond - 1), (beyond, ids::time(u128::MAX)));
    let (usual, foreign) = match before.map(|before| ids::time(before.id().0)) {
        None => (Some(usual), foreign),
        Some(time) if time < beyond => (Some((0, time)), foreign),
        Some(time) => (None, (beyond, time)),
    };
    usual.into_iter().chain([foreign])
}

/// All transfers of this time below this rank, the newest first, and the places of their groups.
fn of_time(
    ids: &impl ReadableTable<(u64, u64), &'static [u8]>,
    groups: &impl ReadableTable<u64, &'static [u8]>,
    numbers: &impl ReadableTable<&'static str, u64>,
    time: u64,
    before: Option<Rank>,
) -> Result<Vec<(Rank, u64)>, StoreError> {
    let mut places: Vec<u64> = Vec::new();
    for row in ids.range((time, 0)..=(time, u64::MAX))? {
        places.extend(Row::<2>::open(row?.1.value())?.entries().map(|[_, place]| place));
    }
    places.sort_unstable();
    places.dedup();
    let mut all = Vec::new();
    for place in places {
        let Some(bytes) = store::group(groups, numbers, place)? else { continue };
        let members = Group::open(bytes.value())?.ids()?.into_iter().filter(|id| ids::time(*id) == time);
        let ranks = members.map(|id| Rank::of(keyshard_shard::TransferId(id)));
        all.extend(ranks.filter(|rank| before.is_none_or(|before| *rank < before)).map(|rank| (rank, place)));
    }
    all.sort_unstable_by(|a, b| b.cmp(a));
    Ok(all)
}
