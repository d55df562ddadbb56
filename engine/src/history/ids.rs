//! Finds groups by the ids of their transfers.
//!
//! An id begins with the time at which it was given, and what was accepted together settles within seconds. So each commit
//! adds a row for each 4 ms in which its ids were given. Few rows are to be looked at for an id, and what is written lies
//! together. Ids of another making are found all the same, from a row for each.
use redb::{ReadableTable, Table, TableDefinition};

use super::{
    error::StoreError,
    rows::{self, Row},
};

/// By the time of the ids, and the highest place in the row: the row goes with the group that lies there.
pub(super) const IDS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("ids");

/// The last 64 bits of an id, most of them random, and the place of its group.
pub(super) type Entry = [u64; 2];

/// Of an id (RFC 9562, version 7): the first 48 bits are its time in milliseconds.
pub(super) fn time(id: u128) -> u64 {
    (id >> 82) as u64
}

/// What is left of an id beside its time.
pub(super) fn rest(id: u128) -> u64 {
    id as u64
}

/// Adds a row for ids of one time; at least one, in order.
pub(super) fn add(table: &mut Table<(u64, u64), &[u8]>, time: u64, entries: &[Entry]) -> Result<(), StoreError> {
    let highest = entries.iter().map(|entry| entry[1]).max().unwrap_or_default();
    table.insert((time, highest), rows::encode(entries).as_slice())?;
    Ok(())
}

/// All rows of this time, one after the other, each in order.
pub(super) fn of_time(
    table: &impl ReadableTable<(u64, u64), &'static [u8]>,
    time: u64,
) -> Result<Vec<Vec<Entry>>, StoreError> {
    let rows = table.range((time, 0)..=(time, u64::MAX))?;
    rows.map(|row| Ok(Row::open(row?.1.value())?.entries().collect())).collect()
}

/// Places of the groups that this id may be in.
pub(super) fn places(table: &impl ReadableTable<(u64, u64), &'static [u8]>, id: u128) -> Result<Vec<u64>, StoreError> {
    let mut places = Vec::new();
    for row in table.range((time(id), 0)..=(time(id), u64::MAX))? {
        let (_, bytes) = row?;
        places.extend(Row::<2>::open(bytes.value())?.beginning_with(&[rest(id)]).map(|[_, place]| place));
    }
    Ok(places)
}

/// The group at this place is forgotten, which held these.
pub(super) fn forget(table: &mut Table<(u64, u64), &[u8]>, place: u64, ids: &[u128]) -> Result<(), StoreError> {
    let mut times: Vec<u64> = ids.iter().map(|id| time(*id)).collect();
    times.sort_unstable();
    times.dedup();
    for time in times {
        table.remove((time, place))?;
    }
    Ok(())
}
