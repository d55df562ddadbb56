//! The board's entries by id: a hash table of pointers, cut into stripes that have a lock each. A bucket takes 9 bytes, so that
//! the room a hash table must leave free costs little, and so does its growth: a stripe at a time.
use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use keyshard_shard::TransferId;
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::entry::Entry;

/// Enough that threads seldom meet.
const STRIPES: usize = 256;

type Stripe = HashTable<Box<Entry>>;

/// All entries.
pub(super) struct Table {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: RandomState,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Mutex::default()).collect(), hasher: RandomState::default() }
    }

    /// An entry, locked: hold it for a moment, and never two.
    pub(super) fn get(&self, id: TransferId) -> Option<MappedMutexGuard<'_, Entry>> {
        let hash = self.hasher.hash_one(id);
        MutexGuard::try_map(self.stripe(hash), |stripe| {
            stripe.find_mut(hash, |entry| entry.transfer.id == id).map(|entry| &mut **entry)
        })
        .ok()
    }

    /// # Panics
    /// If there is one with this id.
    pub(super) fn insert(&self, entry: Entry) {
        let id = entry.transfer.id;
        let hash = self.hasher.hash_one(id);
        let entry = Box::new(entry);
        let mut stripe = self.stripe(hash);
        assert!(stripe.find(hash, |known| known.transfer.id == id).is_none(), "{id:?} is accepted twice");
        stripe.insert_unique(hash, entry, |entry| self.hasher.hash_one(entry.transfer.id));
    }

    pub(super) fn remove(&self, id: TransferId) -> Option<Box<Entry>> {
        let hash = self.hasher.hash_one(id);
        let mut stripe = self.stripe(hash);
        let found = stripe.find_entry(hash, |entry| entry.transfer.id == id).ok()?;
        Some(found.remove().0)
    }

    /// All of them, a stripe at a time.
    pub(super) fn for_each(&self, mut see: impl FnMut(&Entry)) {
        for stripe in &self.stripes {
            stripe.lock().iter().for_each(|entry| see(entry));
        }
    }

    fn stripe(&self, hash: u64) -> MutexGuard<'_, Stripe> {
        // The table in the stripe looks at the lowest and the highest bits.
        self.stripes[(hash >> 32) as usize % STRIPES].lock()
    }
}
