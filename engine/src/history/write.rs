//! What changes the store: puts settled transfers, forgets the oldest.
use std::sync::atomic::Ordering;

use keyshard_shard::{CryptoHash, Instant};
use redb::{ReadableDatabase as _, ReadableTable as _, Table};
use uuid::Uuid;

use super::{
    History, HistoryError, Settled,
    error::StoreError,
    group::{self, Group},
    ids::{self, IDS},
    index, outbox,
    store::{self, COUNT, GROUPS, HORIZON, KEYED, NUMBERS, TURN},
};

/// A place begins with the microsecond in which its group settled. The rest tells apart those of one microsecond, and runs
/// over into the next should they be too many.
const PLACE_BITS: u32 = 12;

/// One of a batch. In their order, they are in the order of the rows of ids.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    time: u64,
    rest: u64,
    /// Which of the batch.
    index: u32,
}

struct Tables<'a> {
    groups: Table<'a, u64, &'static [u8]>,
    ids: Table<'a, (u64, u64), &'static [u8]>,
    numbers: Table<'a, &'static str, u64>,
}

impl History {
    /// Puts these. They are on the disk when this returns. One that is there already stays as it is; if it settled in another
    /// way, this is an error and nothing of the batch is put. Only one thread may put or prune at a time; another waits.
    ///
    /// Those that settled in one transaction take the least room and time when they lie together in the batch.
    pub fn put(&self, batch: &[Settled]) -> Result<(), HistoryError> {
        if batch.is_empty() {
            return Ok(());
        }
        let keyed = batch.iter().any(|settled| settled.transfer.key.is_some());
        if keyed {
            self.keyed.store(true, Ordering::Release);
        }
        let announcing = self.announcing.load(Ordering::Acquire);
        let mut progress = self.progress.lock();
        let (added, entries) = self.guarded("write to", || {
            let mut write = self.database.begin_write()?;
            write.set_quick_repair(true);
            let mut tables = Tables::open(&write)?;
            let mut outbox = if announcing { Some(outbox::Tables::open(&write)?) } else { None };
            let (entries, horizon) = tables.put(batch, outbox.as_mut())?;
            let added = self.index.add(&write, &progress, &entries, horizon)?;
            tables.numbers.insert(TURN, added.turn())?;
            if keyed {
                tables.numbers.insert(KEYED, 1)?;
            }
            drop((tables, outbox));
            write.commit()?;
            Ok((added, entries))
        })?;
        self.index.committed(&mut progress, added, &entries);
        if announcing {
            self.bell.notify_one();
        }
        Ok(())
    }

    /// Forgets what settled before this moment, the oldest first, until `limit` of them are gone: what settled in one
    /// transaction goes together. Returns how many that are.
    pub fn prune(&self, before: Instant, limit: usize) -> Result<usize, HistoryError> {
        let end = place(before);
        let _progress = self.progress.lock();
        self.guarded("write to", || {
            let groups = self.database.begin_read()?.open_table(GROUPS)?;
            if groups.range(..end)?.next().transpose()?.is_none() {
                return Ok(0);
            }
            let mut write = self.database.begin_write()?;
            write.set_quick_repair(true);
            let gone = Tables::open(&write)?.prune(end, limit)?;
            write.commit()?;
            Ok(gone)
        })
    }
}

impl<'a> Tables<'a> {
    fn open(write: &'a redb::WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self { groups: write.open_table(GROUPS)?, ids: write.open_table(IDS)?, numbers: write.open_table(NUMBERS)? })
    }

    /// Puts what is not there. Returns what the index is to take, and the horizon.
    fn put(
        &mut self,
        batch: &[Settled],
        mut outbox: Option<&mut outbox::Tables<'_>>,
    ) -> Result<(Vec<index::Entry>, u64), StoreError> {
        let candidates = (0..).zip(batch).map(|(index, settled)| {
            let id = settled.transfer.id.0;
            Candidate { time: ids::time(id), rest: ids::rest(id), index }
        });
        let mut candidates: Vec<Candidate> = candidates.collect();
        candidates.sort_unstable();
        self.leave_out_known(batch, &mut candidates)?;

        let horizon = store::number(&self.numbers, HORIZON)?;
        let mut is_new = vec![false; batch.len()];
        for candidate in &candidates {
            is_new[candidate.index as usize] = true;
        }
        let indices: Vec<usize> = (0..batch.len()).filter(|index| is_new[*index]).collect();
        let new: Vec<&Settled> = indices.iter().map(|index| &batch[*index]).collect();
        let (mut entries, mut places, mut indices) = (Vec::new(), vec![0; batch.len()], indices.into_iter());
        for members in group::cut(&new) {
            let place = self.free(place(members[0].settled_at).max(horizon))?;
            let group = group::encode(members);
            self.groups.insert(place, group.as_slice())?;
            if let Some(outbox) = &mut outbox {
                outbox.add(&mut self.numbers, &group, members.len(), members[0].settled_at.as_millis())?;
            }
            for index in indices.by_ref().take(members.len()) {
                places[index] = place;
            }
            index_entries(members, place, &mut entries);
        }
        for together in candidates.chunk_by(|a, b| a.time == b.time) {
            let row: Vec<ids::Entry> =
                together.iter().map(|candidate| [candidate.rest, places[candidate.index as usize]]).collect();
            ids::add(&mut self.ids, together[0].time, &row)?;
        }
        let count = store::number(&self.numbers, COUNT)?;
        self.numbers.insert(COUNT, count + new.len() as u64)?;
        Ok((entries, horizon))
    }

    /// Takes out of a batch, which is in order, what has settled before.
    fn leave_out_known(&self, batch: &[Settled], candidates: &mut Vec<Candidate>) -> Result<(), StoreError> {
        let mut known = vec![false; candidates.len()];
        let mut start = 0;
        for together in candidates.chunk_by(|a, b| a.time == b.time) {
            for row in ids::of_time(&self.ids, together[0].time)? {
                let mut row = row.as_slice();
                for (n, candidate) in (start..).zip(together) {
                    row = &row[row.iter().take_while(|entry| entry[0] < candidate.rest).count()..];
                    for entry in row.iter().take_while(|entry| entry[0] == candidate.rest) {
                        let now = &batch[candidate.index as usize];
                        if let Some(bytes) = store::group(&self.groups, &self.numbers, entry[1])?
                            && let Some(before) = Group::open(bytes.value())?.find(now.transfer.id.0)?
                        {
                            same_end(&before, now)?;
                            known[n] = true;
                        }
                    }
                }
            }
            for alike in together.chunk_by(|a, b| a.rest == b.rest) {
                for (n, candidate) in (start..).zip(alike) {
                    let now = &batch[candidate.index as usize];
                    let before = alike[..n - start].iter().map(|earlier| &batch[earlier.index as usize]);
                    for before in before.filter(|before| before.transfer.id == now.transfer.id) {
                        same_end(before, now)?;
                        known[n] = true;
                    }
                }
                start += alike.len();
            }
        }
        let mut known = known.into_iter();
        candidates.retain(|_| known.next() != Some(true));
        Ok(())
    }

    /// The first free place from this one on.
    fn free(&self, from: u64) -> Result<u64, StoreError> {
        let (mut first, mut last) = (from, from | ((1 << PLACE_BITS) - 1));
        loop {
            match self.groups.range(first..=last)?.next_back().transpose()? {
                None => return Ok(first),
                Some((taken, _)) if taken.value() < last => return Ok(taken.value() + 1),
                Some(_) => (first, last) = (last + 1, last + (1 << PLACE_BITS)),
            }
        }
    }

    fn prune(&mut self, end: u64, limit: usize) -> Result<usize, StoreError> {
        let mut gone = 0;
        while gone < limit {
            let Some((place, ids)) = self.oldest(end)? else { break };
            self.groups.remove(place)?;
            ids::forget(&mut self.ids, place, &ids)?;
            self.numbers.insert(HORIZON, place + 1)?;
            gone += ids.len();
        }
        let count = store::number(&self.numbers, COUNT)?;
        self.numbers.insert(COUNT, count.saturating_sub(gone as u64))?;
        Ok(gone)
    }

    /// The first group before this place, and the ids in it.
    fn oldest(&self, end: u64) -> Result<Option<(u64, Vec<u128>)>, StoreError> {
        let Some((place, bytes)) = self.groups.range(..end)?.next().transpose()? else { return Ok(None) };
        Ok(Some((place.value(), Group::open(bytes.value())?.ids()?)))
    }
}

/// Where what settles at this moment may lie.
pub(super) fn place(at: Instant) -> u64 {
    at.as_micros().min((1 << (u64::BITS - PLACE_BITS - 1)) - 1) << PLACE_BITS
}

/// All by which a group is to be found, except ids.
fn index_entries(members: &[&Settled], place: u64, entries: &mut Vec<index::Entry>) {
    let mut add = |[a, b]: index::Half| entries.push([a, b, place]);
    if let Some(carried) = &members[0].carried {
        add(index::of_transaction(&carried.hash));
    }
    let mut tried: Vec<&CryptoHash> = members.iter().flat_map(|member| &member.tried).collect();
    tried.sort_unstable();
    tried.dedup();
    for hash in tried {
        add(index::of_transaction(hash));
    }
    for key in members.iter().filter_map(|member| member.transfer.key.as_ref()) {
        add(index::of_name(&key.name));
    }
}

fn same_end(before: &Settled, now: &Settled) -> Result<(), StoreError> {
    if before.outcome.is_ok() == now.outcome.is_ok() {
        return Ok(());
    }
    let words = |settled: &Settled| match &settled.outcome {
        Ok(()) => "finalized".to_owned(),
        Err(why) => format!("failed ({why})"),
    };
    let id = Uuid::from_u128(now.transfer.id.0);
    Err(StoreError::Refused(HistoryError::SettledTwice { id, before: words(before), now: words(now) }))
}
