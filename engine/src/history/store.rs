//! The store itself: opens it, and finds settled transfers by id, hash and name.
use std::{
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use keyshard_shard::CryptoHash;
use parking_lot::Mutex;
use redb::{Database, ReadTransaction, ReadableDatabase as _, ReadableTable, TableDefinition};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    HistoryError, Settled,
    error::{FORMAT, StoreError},
    group::Group,
    ids::{self, IDS},
    index::{self, Index, Known, Progress},
};

/// Groups by place.
pub(super) const GROUPS: TableDefinition<u64, &[u8]> = TableDefinition::new("groups");
const ABOUT: TableDefinition<&str, &[u8]> = TableDefinition::new("about");
pub(super) const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");

/// Transfers there are.
pub(super) const COUNT: &str = "count";
/// The first place that is not forgotten: indices may name older ones, and no group is ever put below it.
pub(super) const HORIZON: &str = "horizon";
/// How far the index has come.
pub(super) const TURN: &str = "turn";
/// Not 0 once any name was stored.
pub(super) const KEYED: &str = "keyed";

const FILE: &str = "history.redb";

/// Memory that the store may use for pages: index pages of millions of transfers, and the pages of one commit.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Position of a transfer in a transaction that was given up: nobody remembers it.
const UNKNOWN_POSITION: u16 = u16::MAX;

/// An open history. Reads may run beside each other and beside a write.
pub struct History {
    pub(super) database: Database,
    pub(super) directory: PathBuf,
    /// Whether any name was ever stored.
    pub(super) keyed: AtomicBool,
    pub(super) index: Index,
    /// Held by whoever writes.
    pub(super) progress: Mutex<Progress>,
    /// Whether what is put gets an event.
    pub(super) announcing: AtomicBool,
    /// Rung when it got one.
    pub(super) bell: Notify,
}

impl History {
    /// Whether there is a history in this directory.
    pub fn is_there(directory: &Path) -> bool {
        directory.join(FILE).exists()
    }

    /// Opens the history in this directory, which is made if it is not there. `genesis` names the chain: a history is of one
    /// chain only. Blocks; a store that cannot be trusted is not touched.
    pub fn open(directory: &Path, genesis: CryptoHash) -> Result<Self, HistoryError> {
        let failed = |action| move |error| HistoryError::disk(directory, action, error);
        let path = directory.join(FILE);
        if !path.try_exists().map_err(failed("look for"))? {
            Self::create(directory, &path, genesis)?;
        }
        Self::load(directory, Some(genesis))
    }

    /// Opens the history that is in this directory, of whatever chain it is.
    pub fn open_any(directory: &Path) -> Result<Self, HistoryError> {
        Self::load(directory, None)
    }

    fn load(directory: &Path, genesis: Option<CryptoHash>) -> Result<Self, HistoryError> {
        let path = directory.join(FILE);
        // The store trusts its pages, and panics at some that it cannot have written.
        let opened = catch_unwind(|| redb::Builder::new().set_cache_size(CACHE_BYTES).open(&path));
        let database = opened
            .map_err(|_| HistoryError::damaged(directory, "it cannot be opened"))?
            .map_err(|error| HistoryError::store(directory, "open", error))?;
        let (keyed, index, progress) = guarded(directory, "read", || {
            let read = database.begin_read()?;
            check(&read, directory, genesis)?;
            let numbers = read.open_table(NUMBERS)?;
            let (index, progress) = Index::load(&read, number(&numbers, TURN)?)?;
            Ok((number(&numbers, KEYED)? > 0, index, progress))
        })?;
        let (keyed, progress) = (AtomicBool::new(keyed), Mutex::new(progress));
        let (announcing, bell) = (AtomicBool::new(false), Notify::new());
        Ok(Self { database, directory: directory.into(), keyed, index, progress, announcing, bell })
    }

    /// Makes an empty history beside its place and moves it there: either it is whole or it is not there.
    fn create(directory: &Path, path: &Path, genesis: CryptoHash) -> Result<(), HistoryError> {
        let failed = |action| move |error| HistoryError::disk(directory, action, error);
        if !directory.try_exists().map_err(failed("look for"))? {
            std::fs::create_dir_all(directory).map_err(failed("create the directory of"))?;
            let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed("sync the parent of"))?;
        }
        let unfinished = path.with_extension("new");
        match std::fs::remove_file(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed("make")(error)),
            _ => {}
        }
        let make = || -> Result<(), StoreError> {
            let database = redb::Builder::new().create(&unfinished)?;
            let write = database.begin_write()?;
            write.open_table(GROUPS)?;
            write.open_table(IDS)?;
            index::create(&write)?;
            for name in [COUNT, HORIZON, TURN, KEYED] {
                write.open_table(NUMBERS)?.insert(name, 0)?;
            }
            write.open_table(ABOUT)?.insert("format", FORMAT.as_bytes())?;
            write.open_table(ABOUT)?.insert("genesis", genesis.as_ref())?;
            Ok(write.commit()?)
        };
        make().map_err(|error| HistoryError::store(directory, "make", error))?;
        std::fs::rename(&unfinished, path).map_err(failed("make"))?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync the directory of"))
    }

    /// A settled transfer by its id.
    pub fn job(&self, id: Uuid) -> Result<Option<Settled>, HistoryError> {
        let id = id.as_u128();
        self.guarded("read", || {
            let read = self.database.begin_read()?;
            let (groups, numbers) = (read.open_table(GROUPS)?, read.open_table(NUMBERS)?);
            for place in ids::places(&read.open_table(IDS)?, id)? {
                if let Some(bytes) = group(&groups, &numbers, place)?
                    && let Some(settled) = Group::open(bytes.value())?.find(id)?
                {
                    return Ok(Some(settled));
                }
            }
            Ok(None)
        })
    }

    /// All settled transfers that this transaction carried, in the order of its actions; after them those that it carried
    /// without paying them. With each its position.
    pub fn by_hash(&self, hash: &CryptoHash) -> Result<Vec<(u16, Settled)>, HistoryError> {
        let mut all = self.guarded("read", || {
            let Some((read, places)) = self.look(index::of_transaction(hash))? else { return Ok(Vec::new()) };
            let (groups, numbers) = (read.open_table(GROUPS)?, read.open_table(NUMBERS)?);
            let mut all = Vec::new();
            for place in places {
                let Some(bytes) = group(&groups, &numbers, place)? else { continue };
                let known = all.len();
                for settled in Group::open(bytes.value())?.all()? {
                    match settled.carried.filter(|carried| carried.hash == *hash) {
                        Some(carried) => all.push((carried.position, settled)),
                        None if settled.tried.contains(hash) => all.push((UNKNOWN_POSITION, settled)),
                        None => {}
                    }
                }
                if all.len() == known {
                    return Err(StoreError::Damaged(format!("a transfer of transaction {hash} is not where it was")));
                }
            }
            Ok(all)
        })?;
        all.sort_by_key(|(position, settled)| (*position, settled.transfer.id));
        Ok(all)
    }

    /// The settled transfer that its client called so. Reads nothing from the disk as long as no name was ever stored.
    pub fn by_key(&self, name: &str) -> Result<Option<Settled>, HistoryError> {
        if !self.keyed.load(Ordering::Acquire) {
            return Ok(None);
        }
        self.guarded("read", || {
            let Some((read, places)) = self.look(index::of_name(name))? else { return Ok(None) };
            let (groups, numbers) = (read.open_table(GROUPS)?, read.open_table(NUMBERS)?);
            // One that was forgotten and used again is the later transfer's.
            for place in places.into_iter().rev() {
                if let Some(bytes) = group(&groups, &numbers, place)? {
                    let found = Group::open(bytes.value())?.named(name)?;
                    let lost = || StoreError::Damaged(format!("the transfer named {name:?} is not where it was"));
                    return found.ok_or_else(lost).map(Some);
                }
            }
            Ok(None)
        })
    }

    /// Whether any name was ever stored.
    #[cfg(all(test, not(feature = "loom")))]
    pub(super) fn is_keyed(&self) -> bool {
        self.keyed.load(Ordering::Acquire)
    }

    /// Every settled transfer, the oldest first, as they are now: what is put or pruned meanwhile changes nothing.
    pub fn scan(&self) -> Result<Iter, HistoryError> {
        let groups =
            self.guarded("read", || Ok(self.database.begin_read()?.open_table(GROUPS)?.range::<u64>(..)?))?;
        Ok(Iter { groups, group: Vec::new().into_iter(), directory: self.directory.clone() })
    }

    /// How many there are.
    pub fn len(&self) -> Result<u64, HistoryError> {
        self.guarded("read", || number(&self.database.begin_read()?.open_table(NUMBERS)?, COUNT))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> Result<bool, HistoryError> {
        Ok(self.len()? == 0)
    }

    /// The places that the index knows, in order, and a view of the store in which to look there; `None` if it knows none.
    fn look(&self, half: index::Half) -> Result<Option<(ReadTransaction, Vec<u64>)>, StoreError> {
        let Known { mut places, and_sorted } = self.index.look(half);
        if places.is_empty() && !and_sorted {
            return Ok(None);
        }
        let read = self.database.begin_read()?;
        if and_sorted {
            index::sorted(&read, half, &mut places)?;
        }
        places.sort_unstable();
        places.dedup();
        Ok((!places.is_empty()).then_some((read, places)))
    }

    pub(super) fn guarded<T>(
        &self,
        action: &'static str,
        access: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, HistoryError> {
        guarded(&self.directory, action, access)
    }
}

/// Settled transfers, the oldest first. See [`History::scan`].
pub struct Iter {
    groups: redb::Range<'static, u64, &'static [u8]>,
    group: std::vec::IntoIter<Settled>,
    directory: PathBuf,
}

impl Iterator for Iter {
    type Item = Result<Settled, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(settled) = self.group.next() {
            return Some(Ok(settled));
        }
        let next = guarded(&self.directory, "read", || {
            let Some(group) = self.groups.next().transpose()? else { return Ok(None) };
            Ok(Some(Group::open(group.1.value())?.all()?))
        });
        self.group = match next {
            Ok(group) => group?.into_iter(),
            Err(error) => return Some(Err(error)),
        };
        // No group is empty.
        self.group.next().map(Ok)
    }
}

/// A number that the store knows by name.
pub(super) fn number(numbers: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, StoreError> {
    let number = numbers.get(name)?.map(|number| number.value());
    number.ok_or_else(|| StoreError::Damaged(format!("it does not know its {name}")))
}

/// The group to which an index leads; `None` if it is forgotten.
pub(super) fn group<'a>(
    groups: &'a impl ReadableTable<u64, &'static [u8]>,
    numbers: &impl ReadableTable<&'static str, u64>,
    place: u64,
) -> Result<Option<redb::AccessGuard<'a, &'static [u8]>>, StoreError> {
    let group = groups.get(place)?;
    if group.is_none() && place >= number(numbers, HORIZON)? {
        return Err(StoreError::Damaged(format!("the transfers at {place} are gone")));
    }
    Ok(group)
}

/// Is it ours, of this version, of this chain?
fn check(read: &ReadTransaction, directory: &Path, genesis: Option<CryptoHash>) -> Result<(), StoreError> {
    let about = read.open_table(ABOUT)?;
    let value = |name| Ok::<_, StoreError>(about.get(name)?.map(|value| value.value().to_vec()).unwrap_or_default());
    let directory = || directory.display().to_string();
    let format = String::from_utf8_lossy(&value("format")?).into_owned();
    if format != FORMAT {
        return Err(StoreError::Refused(HistoryError::Format { directory: directory(), found: format }));
    }
    let found = <[u8; 32]>::try_from(value("genesis")?).map_err(|_| "it names no chain".to_owned())?;
    if let Some(genesis) = genesis.filter(|genesis| found != genesis.0) {
        let (found, node) = (CryptoHash(found).to_string(), genesis.to_string());
        return Err(StoreError::Refused(HistoryError::OtherChain { directory: directory(), found, node }));
    }
    // All tables must be there, and of the right types.
    read.open_table(GROUPS)?;
    read.open_table(IDS)?;
    Ok(())
}

/// Runs an access. A panic of the store, which pages that it cannot have written may cause, is an error like others.
fn guarded<T>(
    directory: &Path,
    action: &'static str,
    access: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, HistoryError> {
    match catch_unwind(AssertUnwindSafe(access)) {
        Ok(result) => result.map_err(|error| HistoryError::store(directory, action, error)),
        Err(_) => Err(HistoryError::damaged(directory, format!("to {action} it fails"))),
    }
}
