//! Events of what has settled, until they are delivered: one a transfer, kept in parcels of what settled together.
//!
//! A parcel is put in the commit that puts its group, so there is no transfer without its event and none the other way round.
//! It holds a copy of the group: what is forgotten of the history does not concern it. Whoever delivers takes parcels that
//! are due, and says what became of them: delivered and gone, to be tried again later, or dead. The dead are kept until they
//! are revived, or as old as what the history forgets.
//!
//! | table | key | value |
//! |---|---|---|
//! | `parcels` | number | sealed: [`Head`], then the group as in `groups`, of what is left of it |
//! | `due` | millisecond from which on it may be tried, number | |
//! | `dead` | number | as `parcels` |
//! | `numbers` | `parcel` (the next), `waiting` and `dead` (events), `failing` (since when nobody takes any, ms; 0: not) | |
use std::{collections::BTreeSet, sync::atomic::Ordering};

use borsh::{BorshDeserialize, BorshSerialize};
use redb::{ReadableDatabase as _, ReadableTable, Table, TableDefinition, WriteTransaction};
use uuid::Uuid;

use super::{
    History, HistoryError, Settled,
    error::StoreError,
    group::{self, Group},
    sealed,
    store::{GROUPS, NUMBERS},
};

const PARCELS: TableDefinition<u64, &[u8]> = TableDefinition::new("parcels");
const DUE: TableDefinition<(u64, u64), ()> = TableDefinition::new("due");
const DEAD: TableDefinition<u64, &[u8]> = TableDefinition::new("dead");

const NEXT: &str = "parcel";
const WAITING: &str = "waiting";
const DEAD_EVENTS: &str = "dead";
const FAILING: &str = "failing";

/// Parcels that one commit revives, or makes anew.
const AT_ONCE: usize = 1_000;

/// Events of transfers that settled together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// Its name in the outbox.
    pub number: u64,
    /// From when on it may be tried, in milliseconds since the Unix epoch.
    pub due_ms: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was tried first.
    pub first_try_ms: Option<u64>,
    /// Those of which no event was delivered yet.
    pub settled: Vec<Settled>,
}

/// What became of a parcel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which.
    pub number: u64,
    /// What is left of it: nothing if it is delivered.
    pub left: Vec<Settled>,
    /// When what is left is due again; of a dead one, when it died.
    pub at_ms: u64,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was tried first.
    pub first_try_ms: Option<u64>,
    /// Why what is left is not to be tried again.
    pub dead: Option<String>,
}

/// Parcels that may be tried now, and when the next one may be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The longest due first.
    pub parcels: Vec<Parcel>,
    /// When there is more: in the past if there are more than were asked for.
    pub next_ms: Option<u64>,
}

/// How full an outbox is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outboxed {
    /// Events that wait for their delivery.
    pub waiting: u64,
    /// Events that were given up, until they are revived.
    pub dead: u64,
    /// When the oldest one that waits settled, in milliseconds since the Unix epoch.
    pub oldest_ms: Option<u64>,
    /// Since when nobody takes any.
    pub failing_since_ms: Option<u64>,
}

/// Which events are to be delivered once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// The dead.
    Dead,
    /// Of all that the history knows to have settled since, in milliseconds since the Unix epoch.
    Since(u64),
    /// Of this transfer.
    Of(Uuid),
}

#[derive(BorshSerialize, BorshDeserialize)]
struct Head {
    /// When it is due, or when it died.
    at_ms: u64,
    attempts: u32,
    first_try_ms: Option<u64>,
    /// Why it died.
    dead: Option<Box<str>>,
}

/// The tables while they are written to.
pub(super) struct Tables<'a> {
    parcels: Table<'a, u64, &'static [u8]>,
    due: Table<'a, (u64, u64), ()>,
    dead: Table<'a, u64, &'static [u8]>,
}

impl<'a> Tables<'a> {
    pub(super) fn open(write: &'a WriteTransaction) -> Result<Self, StoreError> {
        Ok(Self { parcels: write.open_table(PARCELS)?, due: write.open_table(DUE)?, dead: write.open_table(DEAD)? })
    }

    /// Adds the events of a group: its bytes, and how many are in it.
    pub(super) fn add(
        &mut self,
        numbers: &mut Table<'_, &'static str, u64>,
        group: &[u8],
        events: usize,
        due_ms: u64,
    ) -> Result<(), StoreError> {
        let number = known(numbers, NEXT)?;
        numbers.insert(NEXT, number + 1)?;
        let head = Head { at_ms: due_ms, attempts: 0, first_try_ms: None, dead: None };
        self.insert(numbers, number, &head, group, events as u64)
    }

    fn insert(
        &mut self,
        numbers: &mut Table<'_, &'static str, u64>,
        number: u64,
        head: &Head,
        group: &[u8],
        events: u64,
    ) -> Result<(), StoreError> {
        let row = encode(head, group);
        let counted = if head.dead.is_some() {
            self.dead.insert(number, row.as_slice())?;
            DEAD_EVENTS
        } else {
            self.parcels.insert(number, row.as_slice())?;
            self.due.insert((head.at_ms, number), ())?;
            WAITING
        };
        let count = known(numbers, counted)? + events;
        numbers.insert(counted, count)?;
        Ok(())
    }

    /// Takes one out that waits; `None` if it is not there.
    fn remove(
        &mut self,
        numbers: &mut Table<'_, &'static str, u64>,
        number: u64,
    ) -> Result<Option<(Head, Vec<u8>)>, StoreError> {
        let Some(row) = self.parcels.remove(number)?.map(|row| row.value().to_vec()) else { return Ok(None) };
        let (head, group) = decode(&row)?;
        self.due.remove((head.at_ms, number))?;
        let count = known(numbers, WAITING)?.saturating_sub(Group::open(group)?.len());
        numbers.insert(WAITING, count)?;
        let group = group.to_vec();
        Ok(Some((head, group)))
    }
}

impl History {
    /// From now on every transfer that is put gets an event. What is there already does not.
    pub fn announce(&self) -> Result<(), HistoryError> {
        let _progress = self.progress.lock();
        self.guarded("write to", || {
            let mut write = self.database.begin_write()?;
            write.set_quick_repair(true);
            drop(Tables::open(&write)?);
            Ok(write.commit()?)
        })?;
        self.announcing.store(true, Ordering::Release);
        Ok(())
    }

    /// Whether [`Self::announce`] was called.
    pub fn is_announcing(&self) -> bool {
        self.announcing.load(Ordering::Acquire)
    }

    /// Returns when events may have come since the last call. For one task.
    pub async fn announced(&self) {
        self.bell.notified().await;
    }

    /// Parcels that are due, without those that are named: at most `limit`.
    pub fn due(&self, now_ms: u64, without: &BTreeSet<u64>, limit: usize) -> Result<Due, HistoryError> {
        self.guarded("read", || {
            let read = self.database.begin_read()?;
            let (parcels, due) = (read.open_table(PARCELS)?, read.open_table(DUE)?);
            let mut found = Due::default();
            for row in due.range::<(u64, u64)>(..)? {
                let (at_ms, number) = row?.0.value();
                if without.contains(&number) {
                    continue;
                }
                if at_ms > now_ms || found.parcels.len() == limit {
                    found.next_ms = Some(at_ms);
                    break;
                }
                let lost = || StoreError::Damaged(format!("parcel {number} is due and is not there"));
                let row = parcels.get(number)?.ok_or_else(lost)?;
                let (head, group) = decode(row.value())?;
                found.parcels.push(Parcel {
                    number,
                    due_ms: at_ms,
                    attempts: head.attempts,
                    first_try_ms: head.first_try_ms,
                    settled: Group::open(group)?.all()?,
                });
            }
            Ok(found)
        })
    }

    /// Puts down what became of parcels, and since when nobody takes any. On the disk when this returns.
    pub fn dispatched(&self, outcomes: &[Outcome], failing_since_ms: Option<u64>) -> Result<(), HistoryError> {
        self.change_outbox(|outbox, numbers| {
            for outcome in outcomes {
                let Outcome { number, left, at_ms, attempts, first_try_ms, dead } = outcome;
                if outbox.remove(numbers, *number)?.is_none() || left.is_empty() {
                    continue;
                }
                let head = Head {
                    at_ms: *at_ms,
                    attempts: *attempts,
                    first_try_ms: *first_try_ms,
                    dead: dead.as_deref().map(Into::into),
                };
                let group = group::encode(&left.iter().collect::<Vec<_>>());
                outbox.insert(numbers, *number, &head, &group, left.len() as u64)?;
            }
            numbers.insert(FAILING, failing_since_ms.unwrap_or(0))?;
            Ok(())
        })
    }

    /// Gives up what has been due since `until_ms` or longer, without those that are named; at most so many parcels. Returns
    /// how many events that are, and whether there may be more.
    pub fn bury(
        &self,
        until_ms: u64,
        without: &BTreeSet<u64>,
        why: &str,
        now_ms: u64,
    ) -> Result<(u64, bool), HistoryError> {
        self.change_outbox(|outbox, numbers| {
            let mut old = Vec::new();
            for row in outbox.due.range(..=(until_ms, u64::MAX))? {
                let (_, number) = row?.0.value();
                if !without.contains(&number) {
                    old.push(number);
                }
                if old.len() == AT_ONCE {
                    break;
                }
            }
            let mut events = 0;
            for number in &old {
                if let Some((head, group)) = outbox.remove(numbers, *number)? {
                    let count = Group::open(&group)?.len();
                    let head = Head { at_ms: now_ms, dead: Some(why.into()), ..head };
                    outbox.insert(numbers, *number, &head, &group, count)?;
                    events += count;
                }
            }
            Ok((events, old.len() == AT_ONCE))
        })
    }

    /// Forgets the events that were given up before this moment, of at most so many parcels. Returns how many events that are.
    pub(super) fn forget_dead(&self, before_ms: u64, limit: usize) -> Result<u64, HistoryError> {
        if !self.announcing.load(Ordering::Acquire) {
            return Ok(0);
        }
        let is_old = |row: &[u8]| Ok::<_, StoreError>(decode(row)?.0.at_ms < before_ms);
        let any = self.guarded("read", || match self.database.begin_read()?.open_table(DEAD)?.first()? {
            Some((_, row)) => is_old(row.value()),
            None => Ok(false),
        })?;
        if !any {
            return Ok(0);
        }
        self.change_outbox(|outbox, numbers| {
            let mut events = 0;
            for _ in 0..limit {
                // Numbers grow with time, so the oldest come first, or nearly so.
                let Some(count) = outbox.dead.first()?.map(|(_, row)| {
                    let (head, group) = decode(row.value())?;
                    let count = if head.at_ms < before_ms { Some(Group::open(group)?.len()) } else { None };
                    Ok::<_, StoreError>(count)
                }) else {
                    break;
                };
                let Some(count) = count? else { break };
                outbox.dead.pop_first()?;
                events += count;
            }
            let left = known(numbers, DEAD_EVENTS)?.saturating_sub(events);
            numbers.insert(DEAD_EVENTS, left)?;
            Ok(events)
        })
    }

    /// Puts events into the outbox once more, due at once. Returns how many.
    pub fn replay(&self, which: Replay, now_ms: u64) -> Result<u64, HistoryError> {
        let events = match which {
            Replay::Dead => self.revive(now_ms),
            Replay::Of(id) => match self.job(id)? {
                Some(settled) => {
                    let group = group::encode(&[&settled]);
                    self.change_outbox(|outbox, numbers| outbox.add(numbers, &group, 1, now_ms)).map(|()| 1)
                }
                None => Ok(0),
            },
            Replay::Since(ms) => self.again_since(ms, now_ms),
        }?;
        self.bell.notify_one();
        Ok(events)
    }

    /// How full the outbox is.
    pub fn outboxed(&self) -> Result<Outboxed, HistoryError> {
        self.guarded("read", || {
            let read = self.database.begin_read()?;
            let numbers = read.open_table(NUMBERS)?;
            let oldest = match read.open_table(PARCELS) {
                Ok(parcels) => match parcels.first()? {
                    Some((_, row)) => {
                        Group::open(decode(row.value())?.1)?.all()?.first().map(|s| s.settled_at.as_millis())
                    }
                    None => None,
                },
                // Nothing was ever announced.
                Err(redb::TableError::TableDoesNotExist(_)) => None,
                Err(error) => return Err(error.into()),
            };
            Ok(Outboxed {
                waiting: known(&numbers, WAITING)?,
                dead: known(&numbers, DEAD_EVENTS)?,
                oldest_ms: oldest,
                failing_since_ms: Some(known(&numbers, FAILING)?).filter(|since| *since > 0),
            })
        })
    }

    fn revive(&self, now_ms: u64) -> Result<u64, HistoryError> {
        let mut events = 0;
        loop {
            let (count, more) = self.change_outbox(|outbox, numbers| {
                let (mut count, mut parcels) = (0, 0);
                while parcels < AT_ONCE {
                    let Some(row) = outbox.dead.pop_first()?.map(|(_, row)| row.value().to_vec()) else { break };
                    let (_, group) = decode(&row)?;
                    let group_events = Group::open(group)?.len();
                    outbox.add(numbers, group, group_events as usize, now_ms)?;
                    (count, parcels) = (count + group_events, parcels + 1);
                }
                let left = known(numbers, DEAD_EVENTS)?.saturating_sub(count);
                numbers.insert(DEAD_EVENTS, left)?;
                Ok((count, parcels == AT_ONCE))
            })?;
            events += count;
            if !more {
                return Ok(events);
            }
        }
    }

    fn again_since(&self, since_ms: u64, now_ms: u64) -> Result<u64, HistoryError> {
        let (mut events, mut from) = (0, super::write::place(keyshard_shard::Instant::from_micros(since_ms * 1_000)));
        loop {
            let (count, next) = self.change_outbox(|outbox, numbers| {
                let groups = self.database.begin_read()?.open_table(GROUPS)?;
                let (mut count, mut last) = (0, None);
                for row in groups.range(from..)?.take(AT_ONCE) {
                    let (place, bytes) = row?;
                    let group_events = Group::open(bytes.value())?.len();
                    outbox.add(numbers, bytes.value(), group_events as usize, now_ms)?;
                    (count, last) = (count + group_events, Some(place.value()));
                }
                Ok((count, last.and_then(|last| last.checked_add(1))))
            })?;
            events += count;
            match next {
                Some(next) => from = next,
                None => return Ok(events),
            }
        }
    }

    fn change_outbox<T>(
        &self,
        change: impl FnOnce(&mut Tables<'_>, &mut Table<'_, &'static str, u64>) -> Result<T, StoreError>,
    ) -> Result<T, HistoryError> {
        let _progress = self.progress.lock();
        self.guarded("write to", || {
            let mut write = self.database.begin_write()?;
            write.set_quick_repair(true);
            let changed = change(&mut Tables::open(&write)?, &mut write.open_table(NUMBERS)?)?;
            write.commit()?;
            Ok(changed)
        })
    }
}

/// A number that the store need not know: 0 then.
fn known(numbers: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, StoreError> {
    Ok(numbers.get(name)?.map_or(0, |number| number.value()))
}

#[expect(clippy::expect_used, reason = "writing to a Vec cannot fail, and this type has no failing serialiser")]
fn encode(head: &Head, group: &[u8]) -> Vec<u8> {
    let mut bytes = sealed::begin(64 + group.len());
    head.serialize(&mut bytes).expect("writing to memory");
    bytes.extend_from_slice(group);
    sealed::finish(&mut bytes);
    bytes
}

fn decode(row: &[u8]) -> Result<(Head, &[u8]), String> {
    let mut body = sealed::open(row)?;
    let head = Head::deserialize(&mut body).map_err(|error| format!("a parcel that cannot be read: {error}"))?;
    Ok((head, body))
}
