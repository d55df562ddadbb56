//! Transactions waiting for a block: grouped by access key, nonce-ordered inside a group, one a group a turn.
//!
//! Rules of nearcore's pool: a hash is held once; nothing waits for a gap in the nonces; of two with the same key and
//! nonce the one that came last goes first (so the other finds its nonce used); a full pool takes nothing and says
//! nothing.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use near_primitives::hash::CryptoHash;
use near_primitives::transaction::SignedTransaction;

use crate::state::KeyId;

/// Most bytes of transactions that wait: nearcore's own bound for a shard.
pub const MAX_POOL_BYTES: u64 = 100_000_000;

/// Ascending nonce; at the same nonce, latest arrival first.
type Place = (u64, u64);

#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    groups: HashMap<KeyId, BTreeMap<Place, Arc<SignedTransaction>>>,
    /// Non-empty groups, next one to be served in front.
    turns: VecDeque<KeyId>,
    hashes: HashSet<CryptoHash>,
    bytes: u64,
    arrivals: u64,
}

impl Pool {
    /// Takes a transaction, unless it is already here or the pool is full.
    pub(crate) fn insert(&mut self, tx: Arc<SignedTransaction>) {
        let size = tx.get_size();
        if self.bytes + size > MAX_POOL_BYTES || !self.hashes.insert(tx.get_hash()) {
            return;
        }
        self.bytes += size;
        self.arrivals += 1;
        let place = (tx.transaction.nonce().nonce(), u64::MAX - self.arrivals);
        let key = (tx.transaction.signer_id().clone(), tx.transaction.public_key().clone());
        let group = self.groups.entry(key.clone()).or_default();
        if group.is_empty() {
            self.turns.push_back(key);
        }
        group.insert(place, tx);
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Takes transactions out, one a group a turn, until `accept` says [`Verdict::Full`] or none is left.
    pub(crate) fn drain(&mut self, mut accept: impl FnMut(&Arc<SignedTransaction>) -> Verdict) {
        while let Some(key) = self.turns.pop_front() {
            let Some(group) = self.groups.get_mut(&key) else { continue };
            let mut full = false;
            // A transaction that fails gives its turn to the next of its group.
            while let Some(entry) = group.first_entry() {
                match accept(entry.get()) {
                    Verdict::Full => {
                        full = true;
                        break;
                    }
                    verdict => {
                        let tx = entry.remove();
                        self.hashes.remove(&tx.get_hash());
                        self.bytes -= tx.get_size();
                        if verdict == Verdict::Taken {
                            break;
                        }
                    }
                }
            }
            if group.is_empty() {
                self.groups.remove(&key);
            } else if full {
                self.turns.push_front(key);
            } else {
                self.turns.push_back(key);
            }
            if full {
                return;
            }
        }
    }
}

/// What became of a transaction that [`Pool::drain`] offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is in the block.
    Taken,
    /// It is invalid now: dropped, and nobody is told.
    Dropped,
    /// The block has no room; it stays.
    Full,
}
