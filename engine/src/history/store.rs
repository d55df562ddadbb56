//! The store itself: puts settled transfers, finds them by id, hash and name, forgets the oldest.
use std::{
    collections::BTreeMap,
    fs::File,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use keyshard_shard::{CryptoHash, Instant, TransferId};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition};
use uuid::Uuid;

use super::{
    HistoryError, Settled,
    error::{FORMAT, StoreError},
    record,
};

/// Where a record lies: when it settled, in microseconds, and its id.
type Place = (u64, u128);

const RECORDS: TableDefinition<Place, &[u8]> = TableDefinition::new("records");
const IDS: TableDefinition<u128, u64> = TableDefinition::new("ids");
const HASHES: TableDefinition<HashKey, u64> = TableDefinition::new("hashes");
const KEYS: TableDefinition<&[u8], Place> = TableDefinition::new("keys");
const ABOUT: TableDefinition<&str, &[u8]> = TableDefinition::new("about");

/// A transaction, a transfer's position in it, the transfer.
type HashKey = ([u8; 32], u16, u128);

const FILE: &str = "history.redb";

/// Memory that the store may use for pages: index pages of millions of transfers, and the pages of one commit.
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Longer names are looked up by their hash: keys of the store are bounded.
const NAME_BYTES_MAX: usize = 255;

/// Position of a transfer in a transaction that was given up: nobody remembers it.
const UNKNOWN_POSITION: u16 = u16::MAX;

/// An open history. Reads may run beside each other and beside a write.
pub struct History {
    database: Database,
    directory: PathBuf,
    /// Whether any name was ever stored.
    keyed: AtomicBool,
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
        // The store trusts its pages, and panics at some that it cannot have written.
        let opened = catch_unwind(|| redb::Builder::new().set_cache_size(CACHE_BYTES).open(&path));
        let database = opened
            .map_err(|_| HistoryError::damaged(directory, "it cannot be opened"))?
            .map_err(|error| HistoryError::store(directory, "open", error))?;
        let history = Self { database, directory: directory.into(), keyed: AtomicBool::new(false) };
        history.check(genesis)?;
        Ok(history)
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
            write.open_table(RECORDS)?;
            write.open_table(IDS)?;
            write.open_table(HASHES)?;
            write.open_table(KEYS)?;
            write.open_table(ABOUT)?.insert("format", FORMAT.as_bytes())?;
            write.open_table(ABOUT)?.insert("genesis", genesis.as_ref())?;
            Ok(write.commit()?)
        };
        make().map_err(|error| HistoryError::store(directory, "make", error))?;
        std::fs::rename(&unfinished, path).map_err(failed("make"))?;
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync the directory of"))
    }

    /// Is it ours, of this version, of this chain?
    fn check(&self, genesis: CryptoHash) -> Result<(), HistoryError> {
        let read = || -> Result<_, StoreError> {
            let read = self.database.begin_read()?;
            let about = read.open_table(ABOUT)?;
            let value = |name| Ok::<_, StoreError>(about.get(name)?.map(|value| value.value().to_vec()));
            let (format, found) = (value("format")?, value("genesis")?);
            // All tables must be there, and of the right types.
            read.open_table(RECORDS)?;
            read.open_table(IDS)?;
            read.open_table(HASHES)?;
            let keyed = !read.open_table(KEYS)?.is_empty()?;
            Ok((format, found, keyed))
        };
        let (format, found, keyed) = self.guarded("read", read)?;
        let directory = || self.directory.display().to_string();
        let format = String::from_utf8_lossy(&format.unwrap_or_default()).into_owned();
        if format != FORMAT {
            return Err(HistoryError::Format { directory: directory(), found: format });
        }
        let found = <[u8; 32]>::try_from(found.unwrap_or_default())
            .map_err(|_| HistoryError::damaged(&self.directory, "it names no chain"))?;
        if found != genesis.0 {
            let (found, node) = (CryptoHash(found).to_string(), genesis.to_string());
            return Err(HistoryError::OtherChain { directory: directory(), found, node });
        }
        self.keyed.store(keyed, Ordering::Release);
        Ok(())
    }

    /// Puts these. They are on the disk when this returns. One that is there already stays as it is; if it settled in another
    /// way, this is an error and nothing of the batch is put. Only one thread may put or prune at a time; another waits.
    pub fn put(&self, batch: &[Settled]) -> Result<(), HistoryError> {
        if batch.is_empty() {
            return Ok(());
        }
        if batch.iter().any(|settled| settled.transfer.key.is_some()) {
            self.keyed.store(true, Ordering::Release);
        }
        let write = || -> Result<Option<HistoryError>, StoreError> {
            let mut write = self.database.begin_write()?;
            write.set_quick_repair(true);
            {
                let (mut records, mut ids) = (write.open_table(RECORDS)?, write.open_table(IDS)?);
                let (mut hashes, mut keys) = (write.open_table(HASHES)?, write.open_table(KEYS)?);
                // Both sorted, so that neighbours in the trees are touched one after the other.
                let new: BTreeMap<u128, &Settled> =
                    batch.iter().map(|settled| (settled.transfer.id.0, settled)).collect();
                let mut names: BTreeMap<Vec<u8>, Place> = BTreeMap::new();
                for (id, settled) in new {
                    if let Some(at) = ids.get(id)?.map(|at| at.value()) {
                        let before = records.get((at, id))?.map(|bytes| record::decode(bytes.value()));
                        match before {
                            Some(Ok(before)) if before.outcome.is_ok() == settled.outcome.is_ok() => continue,
                            Some(Ok(before)) => return Ok(Some(settled_twice(&before, settled))),
                            Some(Err(why)) => return Ok(Some(HistoryError::damaged(&self.directory, why))),
                            None => return Ok(Some(self.lacks(id))),
                        }
                    }
                    let at = settled.settled_at.as_micros();
                    ids.insert(id, at)?;
                    records.insert((at, id), record::encode(settled).as_slice())?;
                    for key in hash_keys(settled) {
                        hashes.insert(key, at)?;
                    }
                    if let Some(key) = &settled.transfer.key {
                        let place = names.entry(name_key(&key.name)).or_insert((at, id));
                        *place = (at, id).max(*place);
                    }
                }
                for (name, place) in names {
                    // A name that was forgotten and used again stays the later transfer's.
                    let later = keys.get(name.as_slice())?.is_some_and(|known| known.value() > place);
                    if !later {
                        keys.insert(name.as_slice(), place)?;
                    }
                }
            }
            write.commit()?;
            Ok(None)
        };
        self.guarded("write to", write)?.map_or(Ok(()), Err)
    }

    /// A settled transfer by its id.
    pub fn job(&self, id: Uuid) -> Result<Option<Settled>, HistoryError> {
        let id = id.as_u128();
        let read = || -> Result<_, StoreError> {
            let read = self.database.begin_read()?;
            let Some(at) = read.open_table(IDS)?.get(id)?.map(|at| at.value()) else { return Ok(None) };
            Ok(Some(read.open_table(RECORDS)?.get((at, id))?.map(|bytes| record::decode(bytes.value()))))
        };
        self.guarded("read", read)?.map(|found| self.found(id, found)).transpose()
    }

    /// All settled transfers that this transaction carried, in the order of its actions; after them those that it carried
    /// without paying them. With each its position.
    pub fn by_hash(&self, hash: &CryptoHash) -> Result<Vec<(u16, Settled)>, HistoryError> {
        let read = || -> Result<_, StoreError> {
            let read = self.database.begin_read()?;
            let (hashes, records) = (read.open_table(HASHES)?, read.open_table(RECORDS)?);
            let mut all = Vec::new();
            for entry in hashes.range((hash.0, 0, 0)..=(hash.0, u16::MAX, u128::MAX))? {
                let (key, at) = entry?;
                let (_, position, id) = key.value();
                let found = records.get((at.value(), id))?.map(|bytes| record::decode(bytes.value()));
                all.push((position, id, found));
            }
            Ok(all)
        };
        let found = |(position, id, found)| Ok((position, self.found(id, found)?));
        self.guarded("read", read)?.into_iter().map(found).collect()
    }

    /// The settled transfer that its client called so. Reads nothing from the disk as long as no name was ever stored.
    pub fn by_key(&self, name: &str) -> Result<Option<Settled>, HistoryError> {
        if !self.keyed.load(Ordering::Acquire) {
            return Ok(None);
        }
        let read = || -> Result<_, StoreError> {
            let read = self.database.begin_read()?;
            let place = read.open_table(KEYS)?.get(name_key(name).as_slice())?.map(|place| place.value());
            let Some(place) = place else { return Ok(None) };
            Ok(Some((place.1, read.open_table(RECORDS)?.get(place)?.map(|bytes| record::decode(bytes.value())))))
        };
        self.guarded("read", read)?.map(|(id, found)| self.found(id, found)).transpose()
    }

    /// Whether any name was ever stored.
    #[cfg(all(test, not(feature = "loom")))]
    pub(super) fn is_keyed(&self) -> bool {
        self.keyed.load(Ordering::Acquire)
    }

    /// Every settled transfer, the oldest first, as they are now: what is put or pruned meanwhile changes nothing.
    pub fn scan(&self) -> Result<Iter, HistoryError> {
        let read =
            || -> Result<_, StoreError> { Ok(self.database.begin_read()?.open_table(RECORDS)?.range::<Place>(..)?) };
        Ok(Iter { range: self.guarded("read", read)?, directory: self.directory.clone() })
    }

    /// How many there are.
    pub fn len(&self) -> Result<u64, HistoryError> {
        let read = || -> Result<_, StoreError> { Ok(self.database.begin_read()?.open_table(RECORDS)?.len()?) };
        self.guarded("read", read)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> Result<bool, HistoryError> {
        Ok(self.len()? == 0)
    }

    /// Forgets what settled before this moment, the oldest first, at most `limit` of them. Returns how many.
    pub fn prune(&self, before: Instant, limit: usize) -> Result<usize, HistoryError> {
        let end = (before.as_micros(), 0);
        let due = || -> Result<_, StoreError> {
            let records = self.database.begin_read()?.open_table(RECORDS)?;
            Ok(records.range(..end)?.next().transpose()?.is_some())
        };
        if !self.guarded("read", due)? {
            return Ok(0);
        }
        let write = || -> Result<Result<usize, String>, StoreError> {
            let mut write = self.database.begin_write()?;
            write.set_quick_repair(true);
            let mut gone = 0;
            {
                let (mut records, mut ids) = (write.open_table(RECORDS)?, write.open_table(IDS)?);
                let (mut hashes, mut keys) = (write.open_table(HASHES)?, write.open_table(KEYS)?);
                while gone < limit {
                    let first = records.range(..end)?.next().transpose()?;
                    let Some((place, bytes)) = first.map(|(place, bytes)| (place.value(), bytes.value().to_vec()))
                    else {
                        break;
                    };
                    let settled = match record::decode(&bytes) {
                        Ok(settled) => settled,
                        Err(why) => return Ok(Err(why)),
                    };
                    records.remove(place)?;
                    ids.remove(place.1)?;
                    for key in hash_keys(&settled) {
                        hashes.remove(key)?;
                    }
                    if let Some(key) = &settled.transfer.key {
                        let name = name_key(&key.name);
                        // Forgotten once and used again: the name is another transfer's now.
                        if keys.get(name.as_slice())?.is_some_and(|at| at.value() == place) {
                            keys.remove(name.as_slice())?;
                        }
                    }
                    gone += 1;
                }
            }
            write.commit()?;
            Ok(Ok(gone))
        };
        self.guarded("write to", write)?.map_err(|why| HistoryError::damaged(&self.directory, why))
    }

    /// An index leads to this record.
    fn found(&self, id: u128, found: Option<Result<Settled, String>>) -> Result<Settled, HistoryError> {
        match found {
            Some(Ok(settled)) if settled.transfer.id == TransferId(id) => Ok(settled),
            Some(Ok(_)) => Err(HistoryError::damaged(&self.directory, "a record is another transfer's")),
            Some(Err(why)) => Err(HistoryError::damaged(&self.directory, why)),
            None => Err(self.lacks(id)),
        }
    }

    fn lacks(&self, id: u128) -> HistoryError {
        HistoryError::damaged(&self.directory, format!("the record of {} is gone", Uuid::from_u128(id)))
    }

    /// Runs an access. A panic of the store, which pages that it cannot have written may cause, is an error like others.
    fn guarded<T>(
        &self,
        action: &'static str,
        access: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, HistoryError> {
        match catch_unwind(AssertUnwindSafe(access)) {
            Ok(result) => result.map_err(|error| HistoryError::store(&self.directory, action, error)),
            Err(_) => Err(HistoryError::damaged(&self.directory, format!("to {action} it fails"))),
        }
    }
}

/// Settled transfers, the oldest first. See [`History::scan`].
pub struct Iter {
    range: redb::Range<'static, Place, &'static [u8]>,
    directory: PathBuf,
}

impl Iterator for Iter {
    type Item = Result<Settled, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(match self.range.next()? {
            Ok((_, bytes)) => record::decode(bytes.value()).map_err(|why| HistoryError::damaged(&self.directory, why)),
            Err(error) => Err(HistoryError::store(&self.directory, "read", error)),
        })
    }
}

/// Every transaction that carried it.
fn hash_keys(settled: &Settled) -> impl Iterator<Item = HashKey> + '_ {
    let id = settled.transfer.id.0;
    let last = settled.carried.iter().map(move |carried| (carried.hash.0, carried.position, id));
    last.chain(settled.tried.iter().map(move |hash| (hash.0, UNKNOWN_POSITION, id)))
}

fn name_key(name: &str) -> Vec<u8> {
    if name.len() <= NAME_BYTES_MAX {
        [&[0], name.as_bytes()].concat()
    } else {
        [&[1], CryptoHash::hash_bytes(name.as_bytes()).as_ref()].concat()
    }
}

fn settled_twice(before: &Settled, now: &Settled) -> HistoryError {
    let words = |settled: &Settled| match &settled.outcome {
        Ok(()) => "finalized".to_owned(),
        Err(why) => format!("failed ({why})"),
    };
    HistoryError::SettledTwice { id: Uuid::from_u128(now.transfer.id.0), before: words(before), now: words(now) }
}
