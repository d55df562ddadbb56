//! Finds groups by what comes in no order: the names of transfers, and the hashes of transactions.
//!
//! An entry put into its place in a tree of millions costs a page read and a page written. So entries are first kept in
//! memory, and beside that on the disk in the order in which they came. Once there are many, one slice after the other, of
//! the [`SLICES`] into which all values of a hash are divided, is merged with the sorted rows on the disk, and then the next
//! again: a page that is written takes many entries at once.
use std::collections::BTreeSet;

use keyshard_shard::CryptoHash;
use parking_lot::RwLock;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use super::{
    error::StoreError,
    filter::Filter,
    rows::{self, Row},
};

/// As they came, by turn at that time and number.
const RECENT: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("recent");
/// In order, each row by its first entry.
const SORTED: TableDefinition<(u64, u64, u64), &[u8]> = TableDefinition::new("sorted");

/// By the first byte of the hash.
const SLICES: u64 = 256;

/// Entries in memory, some 40 bytes each. The more, the more go into a page at once. Few in tests, which are to see merges.
const RECENT_MAX: usize = if cfg!(test) { 40 } else { 500_000 };

/// Entries in a sorted row: as many as a page of the store holds.
const SORTED_ROW: usize = if cfg!(test) { 3 } else { 168 };

/// Entries in a row as they came: 16 pages.
const RECENT_ROW: usize = if cfg!(test) { 7 } else { 2_720 };

/// Half of a SHA-256, and the place of a group. Nobody can find two names whose halves are the same.
pub(super) type Entry = [u64; 3];

/// The first two numbers of an entry.
pub(super) type Half = [u64; 2];

/// The part in memory. Read by many, written by whoever holds the [`Progress`].
pub(super) struct Index {
    /// By the first byte of the hash.
    slices: Box<[RwLock<Slice>]>,
}

#[derive(Default)]
struct Slice {
    /// What is not in the sorted rows yet.
    recent: BTreeSet<Entry>,
    /// Of the sorted rows. Not there before the slice's first merge in this life, so that a start need not read all.
    filter: Option<Filter>,
}

/// What is known of a hash without a look at the disk.
pub(super) struct Known {
    /// Places that are not in order on the disk.
    pub(super) places: Vec<u64>,
    /// Whether there may be others that are, see [`sorted`].
    pub(super) and_sorted: bool,
}

/// What became of an addition: to be told to [`Index::committed`].
pub(super) struct Added {
    progress: Progress,
    /// Of the slices that had their turn; `None` of one that is as it was.
    filters: Vec<Option<Filter>>,
}

impl Added {
    /// The number of slices merged so far, to be stored with what was added.
    pub(super) fn turn(&self) -> u64 {
        self.progress.turn
    }
}

/// How far merging has come.
#[derive(Clone)]
pub(super) struct Progress {
    /// Slices merged so far, over and over.
    turn: u64,
    /// Number of the next row of what came.
    row: u64,
    /// Entries in memory.
    recent: usize,
}

/// By the name of a transfer.
pub(super) fn of_name(name: &str) -> Half {
    // No transaction begins so, and hashes of transactions are looked up here too.
    halve(&CryptoHash::hash_bytes(&[b"name ", name.as_bytes()].concat()))
}

/// By the hash of a transaction.
pub(super) fn of_transaction(hash: &CryptoHash) -> Half {
    halve(hash)
}

fn halve(hash: &CryptoHash) -> Half {
    let mut numbers = hash.0.as_chunks().0.iter().map(|number| u64::from_be_bytes(*number));
    std::array::from_fn(|_| numbers.next().unwrap_or_default())
}

fn slice(entry: &Entry) -> u64 {
    entry[0] >> (u64::BITS - SLICES.ilog2())
}

/// Makes the tables.
pub(super) fn create(write: &WriteTransaction) -> Result<(), StoreError> {
    write.open_table(RECENT)?;
    write.open_table(SORTED)?;
    Ok(())
}

/// Appends the places on the disk that are in order.
pub(super) fn sorted(read: &ReadTransaction, half: Half, places: &mut Vec<u64>) -> Result<(), StoreError> {
    let sorted = read.open_table(SORTED)?;
    let [a, b] = half;
    // Backwards, as far as to the row that begins before it: that may have it at its end.
    for row in sorted.range(..=(a, b, u64::MAX))?.rev() {
        let (first, bytes) = row?;
        places.extend(Row::<3>::open(bytes.value())?.beginning_with(&half).map(|[_, _, place]| place));
        if first.value() < (a, b, 0) {
            break;
        }
    }
    Ok(())
}

impl Index {
    /// Reads what is not in order on the disk. `turn` is what [`Added::turn`] said at the last commit.
    pub(super) fn load(read: &ReadTransaction, turn: u64) -> Result<(Self, Progress), StoreError> {
        // Nothing was ever merged: that is known of the sorted rows.
        let filter = || (turn == 0).then(|| Filter::of(&[]));
        let mut slices: Vec<Slice> = (0..SLICES).map(|_| Slice { filter: filter(), ..Slice::default() }).collect();
        let mut row = 0;
        read.open_table(SORTED)?;
        for found in read.open_table(RECENT)?.range::<(u64, u64)>(..)? {
            let (key, bytes) = found?;
            let (then, number) = key.value();
            row = row.max(number + 1);
            for entry in Row::open(bytes.value())?.entries() {
                let slice = slice(&entry);
                // When that slice's turn came next, it went into the sorted rows.
                let merged = then + slice.wrapping_sub(then) % SLICES;
                if merged >= turn {
                    slices[slice as usize].recent.insert(entry);
                }
            }
        }
        let progress = Progress { turn, row, recent: slices.iter().map(|slice| slice.recent.len()).sum() };
        Ok((Self { slices: slices.into_iter().map(RwLock::new).collect() }, progress))
    }

    /// Adds these in a transaction, and merges what has become too much. Once it is committed, [`Self::committed`] is to be
    /// called. `horizon` is the first place that is not forgotten.
    pub(super) fn add(
        &self,
        write: &WriteTransaction,
        before: &Progress,
        new: &[Entry],
        horizon: u64,
    ) -> Result<Added, StoreError> {
        let (mut progress, mut filters) = (before.clone(), Vec::new());
        if new.is_empty() {
            return Ok(Added { progress, filters });
        }
        while progress.recent + new.len() > RECENT_MAX && progress.turn < before.turn + SLICES {
            let (merged, filter) = self.merge(write, progress.turn % SLICES, horizon)?;
            progress.recent -= merged;
            progress.turn += 1;
            filters.push(filter);
        }
        let mut recent = write.open_table(RECENT)?;
        for row in new.chunks(RECENT_ROW) {
            recent.insert((progress.turn, progress.row), rows::encode(row).as_slice())?;
            progress.row += 1;
        }
        if before.turn < progress.turn
            && let Some(merged) = (progress.turn + 1).checked_sub(SLICES)
        {
            // All slices have had their turn since.
            recent.retain_in(..(merged, 0), |_, _| false)?;
        }
        progress.recent += new.len();
        Ok(Added { progress, filters })
    }

    /// Moves a slice's entries into the sorted rows. Returns how many that were, and what filters these rows.
    fn merge(&self, write: &WriteTransaction, slice: u64, horizon: u64) -> Result<(usize, Option<Filter>), StoreError> {
        let recent = &self.slices[slice as usize].read().recent;
        if recent.is_empty() {
            return Ok((0, None));
        }
        let mut sorted = write.open_table(SORTED)?;
        let shift = u64::BITS - SLICES.ilog2();
        let (first, last) = (slice << shift, (slice << shift) | (u64::MAX >> SLICES.ilog2()));
        let range = (first, 0, 0)..=(last, u64::MAX, u64::MAX);
        let mut entries: Vec<Entry> = Vec::new();
        for row in sorted.range(range.clone())? {
            entries.extend(Row::<3>::open(row?.1.value())?.entries());
        }
        entries.extend(recent.iter());
        // What is pruned needs no entry.
        entries.retain(|entry| entry[2] >= horizon);
        #[expect(clippy::stable_sort_primitive, reason = "these are two sorted runs, and only this sort finds that")]
        entries.sort();
        entries.dedup();
        sorted.retain_in(range, |_, _| false)?;
        for row in entries.chunks(SORTED_ROW) {
            let [a, b, place] = row[0];
            sorted.insert((a, b, place), rows::encode(row).as_slice())?;
        }
        Ok((recent.len(), Some(Filter::of(&entries))))
    }

    /// What [`Self::add`] did is on the disk. `progress` is what it was given, and becomes what it came to.
    pub(super) fn committed(&self, progress: &mut Progress, added: Added, new: &[Entry]) {
        for (turn, filter) in (progress.turn..).zip(added.filters) {
            let mut slice = self.slices[(turn % SLICES) as usize].write();
            slice.recent = BTreeSet::new();
            slice.filter = filter.or(slice.filter.take());
        }
        *progress = added.progress;
        let mut sorted = new.to_vec();
        sorted.sort_unstable();
        for entries in sorted.chunk_by(|a, b| slice(a) == slice(b)) {
            let recent = &mut self.slices[slice(&entries[0]) as usize].write().recent;
            let known = recent.len();
            recent.extend(entries);
            // Some may have been there already.
            progress.recent -= known + entries.len() - recent.len();
        }
    }

    /// What is known of a hash. To be asked before a transaction is begun that looks for [`sorted`] places: what is not
    /// known here any more is there by then.
    pub(super) fn look(&self, half: Half) -> Known {
        let [a, b] = half;
        let (first, last) = ([a, b, 0], [a, b, u64::MAX]);
        let slice = self.slices[slice(&first) as usize].read();
        Known {
            places: slice.recent.range(first..=last).map(|entry| entry[2]).collect(),
            and_sorted: slice.filter.as_ref().is_none_or(|filter| filter.may_have(half)),
        }
    }
}
