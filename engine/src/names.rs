//! What clients call their transfers: which name is which transfer, as long as it is on the board (P6). Older ones are
//! found in the history.
//!
//! A request that names transfers sees all its names at one moment, and claims them in that same moment, or none: it locks
//! the stripes in which they lie, always in the same order. Requests without names lock nothing.
use std::{hash::BuildHasher as _, sync::Arc};

use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table::Entry};
use keyshard_shard::{Transfer, TransferId};
use parking_lot::{Mutex, MutexGuard};

use crate::history::{History, HistoryError, Settled};

/// Enough that requests of many threads seldom meet.
const STRIPES: usize = 64;

/// All names on the board.
pub(crate) struct Names {
    stripes: Box<[Mutex<Stripe>]>,
    hasher: RandomState,
}

#[derive(Default)]
struct Stripe {
    /// By their names. All have one.
    transfers: HashTable<Arc<Transfer>>,
    /// Names that left for the history so far.
    evicted: u64,
}

impl Stripe {
    fn get(&self, hasher: &RandomState, name: &str) -> Option<TransferId> {
        let known = self.transfers.find(hasher.hash_one(name), |known| name_of(known) == name);
        known.map(|known| known.id)
    }

    /// The name of this transfer is its own from now on.
    fn claim(&mut self, hasher: &RandomState, transfer: &Arc<Transfer>) {
        let name = name_of(transfer);
        match self.transfers.entry(
            hasher.hash_one(name),
            |known| name_of(known) == name,
            |known| hasher.hash_one(name_of(known)),
        ) {
            Entry::Occupied(mut entry) => *entry.get_mut() = transfer.clone(),
            Entry::Vacant(entry) => {
                entry.insert(transfer.clone());
            }
        }
    }

    /// Returns whether it was there.
    fn remove(&mut self, hasher: &RandomState, name: &str, id: TransferId) -> bool {
        let is_it = |known: &Arc<Transfer>| known.id == id && name_of(known) == name;
        let Ok(found) = self.transfers.find_entry(hasher.hash_one(name), is_it) else { return false };
        found.remove();
        true
    }
}

/// Its own name; that of one without is never asked for.
fn name_of(transfer: &Transfer) -> &str {
    transfer.key.as_ref().map_or("", |key| &key.name)
}

/// What a name means.
pub(crate) enum Meaning {
    /// Nothing yet.
    Free,
    /// A transfer on the board. It stays there while the lock is held.
    OnBoard(TransferId),
    /// One in the history only.
    Past(Box<Settled>),
}

/// What was seen of a name before the locks were taken.
struct Glance {
    stripe: usize,
    evicted: u64,
    on_board: bool,
    past: Option<Box<Settled>>,
}

/// Some names, locked.
pub(crate) struct Locked<'a> {
    names: &'a Names,
    /// By stripe, ascending.
    stripes: Vec<(usize, MutexGuard<'a, Stripe>)>,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Mutex::default()).collect(), hasher: RandomState::default() }
    }

    /// Looks all these names up and keeps them locked. Reads the disk if the history holds any names, mostly before
    /// anything is locked.
    pub(crate) fn look<'a>(
        &'a self,
        names: &[&str],
        history: &History,
    ) -> Result<(Locked<'a>, Vec<Meaning>), HistoryError> {
        let glances = self.glance(names, history)?;
        self.lock(names, glances, history)
    }

    fn glance(&self, names: &[&str], history: &History) -> Result<Vec<Glance>, HistoryError> {
        let glance = |name: &&str| {
            let stripe = self.stripe_of(name);
            let (evicted, on_board) = {
                let stripe = self.stripes[stripe].lock();
                (stripe.evicted, stripe.get(&self.hasher, name).is_some())
            };
            // After the look at the board: what left it before that is in the history by now.
            let past = if on_board { None } else { history.by_key(name)?.map(Box::new) };
            Ok(Glance { stripe, evicted, on_board, past })
        };
        names.iter().map(glance).collect()
    }

    fn lock<'a>(
        &'a self,
        names: &[&str],
        glances: Vec<Glance>,
        history: &History,
    ) -> Result<(Locked<'a>, Vec<Meaning>), HistoryError> {
        let mut stripes: Vec<usize> = glances.iter().map(|glance| glance.stripe).collect();
        stripes.sort_unstable();
        stripes.dedup();
        let stripes = stripes.into_iter().map(|stripe| (stripe, self.stripes[stripe].lock())).collect();
        let locked = Locked { names: self, stripes };
        let meanings = names.iter().zip(glances).map(|(name, glance)| {
            let stripe = locked.stripe(glance.stripe);
            if let Some(id) = stripe.get(&self.hasher, name) {
                return Ok(Meaning::OnBoard(id));
            }
            // It may have left for the history after that was asked.
            let stale = glance.on_board || glance.evicted != stripe.evicted;
            let past = if stale { history.by_key(name)?.map(Box::new) } else { glance.past };
            Ok(past.map_or(Meaning::Free, Meaning::Past))
        });
        let meanings = meanings.collect::<Result<_, _>>()?;
        Ok((locked, meanings))
    }

    /// The transfer on the board with this name.
    pub(crate) fn get(&self, name: &str) -> Option<TransferId> {
        self.stripes[self.stripe_of(name)].lock().get(&self.hasher, name)
    }

    /// A name that a former life has given.
    pub(crate) fn recovered(&self, transfer: &Arc<Transfer>) {
        self.stripes[self.stripe_of(name_of(transfer))].lock().claim(&self.hasher, transfer);
    }

    /// The history has it: takes the name from the board, together with whatever `leave` takes from it.
    pub(crate) fn evict(&self, name: &str, id: TransferId, leave: impl FnOnce()) {
        let mut stripe = self.stripes[self.stripe_of(name)].lock();
        // Another transfer may have the name by now, should the history have forgotten this one.
        if stripe.remove(&self.hasher, name, id) {
            stripe.evicted += 1;
        }
        leave();
    }

    fn stripe_of(&self, name: &str) -> usize {
        // The table in the stripe looks at the lowest and the highest bits.
        (self.hasher.hash_one(name) >> 32) as usize % STRIPES
    }
}

impl Locked<'_> {
    /// From now on its name is this transfer, which is on the board.
    ///
    /// # Panics
    /// If its name is not among those that were locked.
    pub(crate) fn claim(&mut self, transfer: &Arc<Transfer>) {
        let stripe = self.names.stripe_of(name_of(transfer));
        #[expect(clippy::expect_used, reason = "the door claims only what it has locked")]
        let at = self.stripes.binary_search_by_key(&stripe, |(stripe, _)| *stripe).expect("a locked name");
        self.stripes[at].1.claim(&self.names.hasher, transfer);
    }

    fn stripe(&self, stripe: usize) -> &Stripe {
        #[expect(clippy::expect_used, reason = "all stripes that were glanced at are locked")]
        let at = self.stripes.binary_search_by_key(&stripe, |(stripe, _)| *stripe).expect("a locked stripe");
        &self.stripes[at].1
    }
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use keyshard_shard::{CryptoHash, IdempotencyKey, Instant};

    use super::*;

    fn transfer(name: &str, id: u128) -> Transfer {
        let key = Some(IdempotencyKey { name: name.into(), of: 1 });
        Transfer { id: TransferId(id), receiver: "user.near".parse().unwrap(), amount: 1, memo: None, key }
    }

    fn settled(name: &str, id: u128) -> Settled {
        let transfer = transfer(name, id);
        let at = Instant::from_micros(1);
        Settled { transfer, accepted_at: at, settled_at: at, outcome: Ok(()), carried: None, tried: Vec::new() }
    }

    /// Whatever happens between the look and the lock: a name that was ever claimed is not free.
    #[test]
    fn a_name_that_leaves_the_board_during_a_look_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let (names, history) = (Names::new(), History::open(directory.path(), CryptoHash::default()).unwrap());
        let claim = |name: &str, id| names.look(&[name], &history).unwrap().0.claim(&transfer(name, id).into());
        let leave = |name: &str, id| {
            history.put(&[settled(name, id)]).unwrap();
            names.evict(name, TransferId(id), || {});
        };
        let asked = ["leaves", "comes and leaves", "comes", "free"];
        claim("leaves", 1);
        let glances = names.glance(&asked, &history).unwrap();
        leave("leaves", 1);
        claim("comes and leaves", 2);
        leave("comes and leaves", 2);
        claim("comes", 3);
        let (locked, meanings) = names.lock(&asked, glances, &history).unwrap();
        drop(locked);
        let known: Vec<Option<u128>> = meanings
            .iter()
            .map(|meaning| match meaning {
                Meaning::Free => None,
                Meaning::OnBoard(id) => Some(id.0),
                Meaning::Past(settled) => Some(settled.transfer.id.0),
            })
            .collect();
        assert_eq!(known, [Some(1), Some(2), Some(3), None]);
        assert!(matches!(meanings[2], Meaning::OnBoard(_)));
    }

    #[test]
    fn names_are_claimed_together_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let (names, history) = (Names::new(), History::open(directory.path(), CryptoHash::default()).unwrap());
        let asked: Vec<String> = (0..500).map(|i| format!("name {i}")).collect();
        let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
        let claimants = [1, 2, 3, 4].map(|claimant| {
            // In orders of their own.
            let mut asked = asked.clone();
            asked.rotate_left(claimant as usize * 100);
            (claimant, asked)
        });
        std::thread::scope(|scope| {
            for (claimant, asked) in &claimants {
                let (names, history) = (&names, &history);
                scope.spawn(move || {
                    let (mut locked, meanings) = names.look(asked, history).unwrap();
                    let free = meanings.iter().filter(|meaning| matches!(meaning, Meaning::Free)).count();
                    assert!(free == 0 || free == 500, "{free} of 500 were free");
                    if free > 0 {
                        for name in asked {
                            locked.claim(&transfer(name, *claimant).into());
                        }
                    }
                });
            }
        });
        let first = names.get(asked[0]).unwrap();
        assert!(asked.iter().all(|name| names.get(name) == Some(first)));
    }
}
