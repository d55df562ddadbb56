//! Accounts, access keys and tokens at the head, with an undo log for the last blocks, so that a view at a final block
//! costs one lookup a block and no copy of the state.

use std::borrow::Borrow;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;

use foldhash::fast::RandomState;
use near_crypto::PublicKey;
use near_primitives::account::AccessKey;
use near_primitives::hash::CryptoHash;
use near_primitives::types::AccountId;

use crate::token::Token;

/// How many past blocks can still be viewed. Finality needs two; the rest lets a client ask at a block it learned a
/// few seconds ago. Older ones answer `GARBAGE_COLLECTED_BLOCK`.
pub const STATE_HISTORY_BLOCKS: usize = 20;

/// What a block's changed entries were before it.
type Before<K, V> = HashMap<K, Option<V>, RandomState>;

/// A map whose earlier values can be brought back: within a receipt by [`Versioned::rollback`], for past blocks by
/// [`Versioned::at`].
#[derive(Clone, Debug)]
pub(crate) struct Versioned<K, V> {
    map: HashMap<K, V, RandomState>,
    /// Writes since the last [`Versioned::seal`], oldest first, each with the value it replaced.
    journal: Vec<(K, Option<V>)>,
    /// By height of past blocks, oldest first.
    before: VecDeque<(u64, Before<K, V>)>,
}

impl<K, V> Default for Versioned<K, V> {
    fn default() -> Self {
        Self { map: HashMap::default(), journal: Vec::new(), before: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Versioned<K, V> {
    /// The value now.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.map.get(key)
    }

    /// The value after the block at `height` (which must still be in the history).
    pub(crate) fn at<Q: Eq + Hash + ?Sized>(&self, height: u64, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        for (changed_at, before) in &self.before {
            if *changed_at > height
                && let Some(value) = before.get(key)
            {
                return value.as_ref();
            }
        }
        self.map.get(key)
    }

    /// Sets or removes an entry.
    pub(crate) fn set(&mut self, key: K, value: Option<V>) {
        let old = match value {
            Some(value) => match self.map.get_mut(&key) {
                Some(place) => Some(std::mem::replace(place, value)),
                None => self.map.insert(key.clone(), value),
            },
            None => self.map.remove(&key),
        };
        self.journal.push((key, old));
    }

    /// A point to come back to within the current block.
    pub(crate) fn mark(&self) -> usize {
        self.journal.len()
    }

    /// Undoes every write since `mark`.
    pub(crate) fn rollback(&mut self, mark: usize) {
        while self.journal.len() > mark {
            let Some((key, old)) = self.journal.pop() else { break };
            match old {
                Some(value) => self.map.insert(key, value),
                None => self.map.remove(&key),
            };
        }
    }

    /// Ends the block at `height`; blocks at or below `floor` are forgotten. Calls `gone` for each removed entry of
    /// which no earlier value is left either.
    pub(crate) fn seal(&mut self, height: u64, floor: u64, mut gone: impl FnMut(&K)) {
        if !self.journal.is_empty() {
            let mut before = Before::default();
            for (key, old) in self.journal.drain(..) {
                before.entry(key).or_insert(old);
            }
            self.before.push_back((height, before));
        }
        while self.before.front().is_some_and(|(changed_at, _)| *changed_at <= floor) {
            if let Some((_, entries)) = self.before.pop_front() {
                for key in entries.keys() {
                    if !self.map.contains_key(key) && !self.before.iter().any(|(_, later)| later.contains_key(key)) {
                        gone(key);
                    }
                }
            }
        }
    }

    /// All entries now.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.map.iter()
    }
}

/// An account's own record. Amounts in yoctoNEAR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// What it may spend.
    pub amount: u128,
    /// What it has staked.
    pub locked: u128,
    /// Hash of its code; the default (`111..1`) means none.
    pub code_hash: CryptoHash,
    /// Bytes of state, for which it must hold a balance.
    pub storage_usage: u64,
}

impl Account {
    /// A fresh account without keys or code (100 bytes: `num_bytes_account`).
    pub(crate) fn new(amount: u128) -> Self {
        Self { amount, locked: 0, code_hash: CryptoHash::default(), storage_usage: 100 }
    }

    /// Whether it has a contract.
    pub(crate) fn has_code(&self) -> bool {
        self.code_hash != CryptoHash::default()
    }
}

/// An access key's place: whose and which.
pub(crate) type KeyId = (AccountId, PublicKey);

/// Everything that blocks change.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) accounts: Versioned<AccountId, Account>,
    pub(crate) keys: Versioned<KeyId, AccessKey>,
    /// By contract account.
    pub(crate) tokens: HashMap<AccountId, Token, RandomState>,
    /// Every key that an account has or had within the history.
    keys_of: HashMap<AccountId, BTreeSet<PublicKey>>,
    /// Tokens with writes in the current block.
    changed_tokens: BTreeSet<AccountId>,
    /// Heights of the blocks that can be viewed, oldest first.
    heights: VecDeque<u64>,
    /// What calls cost, in percent of what was recorded.
    pub(crate) call_percent: u64,
}

/// Where a receipt began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    accounts: usize,
    keys: usize,
    token: Option<usize>,
}

impl State {
    /// A point to come back to if the receipt that `receiver` executes fails.
    pub(crate) fn mark(&self, receiver: &AccountId) -> Mark {
        Mark {
            accounts: self.accounts.mark(),
            keys: self.keys.mark(),
            token: self.tokens.get(receiver).map(|token| token.balances.mark()),
        }
    }

    /// Undoes every change of the receipt that `receiver` was executing.
    pub(crate) fn rollback(&mut self, receiver: &AccountId, mark: Mark) {
        self.accounts.rollback(mark.accounts);
        self.keys.rollback(mark.keys);
        match mark.token {
            Some(at) => {
                if let Some(token) = self.tokens.get_mut(receiver) {
                    token.balances.rollback(at);
                }
            }
            None => {
                self.tokens.remove(receiver);
            }
        }
    }

    /// Sets or removes an access key.
    pub(crate) fn set_key(&mut self, id: KeyId, key: Option<AccessKey>) {
        if key.is_some() {
            self.keys_of.entry(id.0.clone()).or_default().insert(id.1.clone());
        }
        self.keys.set(id, key);
    }

    /// An account's keys after the block at `height`, in a fixed order.
    pub(crate) fn keys_at<'a>(
        &'a self,
        height: u64,
        account: &AccountId,
    ) -> impl Iterator<Item = (&'a PublicKey, &'a AccessKey)> {
        let account = account.clone();
        self.keys_of
            .get(&account)
            .into_iter()
            .flatten()
            .filter_map(move |key| Some((key, self.keys.at(height, &(account.clone(), key.clone()))?)))
    }

    /// The token at `contract`, for writing.
    pub(crate) fn token_mut(&mut self, contract: &AccountId) -> Option<&mut Token> {
        let token = self.tokens.get_mut(contract)?;
        if !self.changed_tokens.contains(contract) {
            self.changed_tokens.insert(contract.clone());
        }
        Some(token)
    }

    /// Installs a token that `new` made.
    pub(crate) fn create_token(&mut self, contract: AccountId, token: Token) {
        self.changed_tokens.insert(contract.clone());
        self.tokens.insert(contract, token);
    }

    /// Ends the block at `height`.
    pub(crate) fn seal(&mut self, height: u64) {
        self.heights.push_back(height);
        while self.heights.len() > STATE_HISTORY_BLOCKS {
            self.heights.pop_front();
        }
        let floor = self.heights.front().copied().unwrap_or(0);
        self.accounts.seal(height, floor, |_| ());
        let keys_of = &mut self.keys_of;
        self.keys.seal(height, floor, |(account, key)| {
            if let Some(keys) = keys_of.get_mut(account) {
                keys.remove(key);
                if keys.is_empty() {
                    keys_of.remove(account);
                }
            }
        });
        for contract in std::mem::take(&mut self.changed_tokens) {
            if let Some(token) = self.tokens.get_mut(&contract) {
                token.balances.seal(height, floor, |_| ());
            }
        }
    }

    /// Makes the present state that of block 0, with nothing before it.
    pub(crate) fn seal_genesis(&mut self) {
        self.heights.push_back(0);
        self.accounts.journal.clear();
        self.keys.journal.clear();
        for contract in std::mem::take(&mut self.changed_tokens) {
            if let Some(token) = self.tokens.get_mut(&contract) {
                token.balances.journal.clear();
            }
        }
    }

    /// Whether the state after the block at `height` can still be viewed.
    pub(crate) fn can_view(&self, height: u64) -> bool {
        self.heights.front().is_some_and(|oldest| *oldest <= height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_values_and_rollback() {
        let mut map: Versioned<&str, u32> = Versioned::default();
        map.set("a", Some(1));
        map.seal(10, 0, |_| ());
        map.set("a", Some(2));
        let mark = map.mark();
        map.set("a", Some(3));
        map.set("b", Some(9));
        map.set("a", None);
        assert_eq!((map.get("a"), map.get("b")), (None, Some(&9)));
        map.rollback(mark);
        assert_eq!((map.get("a"), map.get("b")), (Some(&2), None));
        map.seal(11, 0, |_| ());
        map.set("a", None);
        map.seal(12, 0, |_| ());
        assert_eq!(
            (map.at(9, "a"), map.at(10, "a"), map.at(11, "a"), map.at(12, "a")),
            (None, Some(&1), Some(&2), None)
        );
        let mut gone = Vec::new();
        map.seal(13, 11, |key| gone.push(*key));
        assert_eq!(gone, [] as [&str; 0]);
        map.seal(14, 12, |key| gone.push(*key));
        assert_eq!(gone, ["a"]);
        assert_eq!(map.at(12, "a"), None);
    }
}
