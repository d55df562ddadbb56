//! Which receivers are registered with the token: asked once, remembered in the shard's own memory.
use std::{collections::VecDeque, hash::BuildHasher as _, sync::Arc};

use foldhash::{HashMap, fast::RandomState};
use hashbrown::{HashTable, hash_table::Entry};
use near_primitives::types::AccountId;

use crate::{Transfer, TransferId, limits, transfer::Open};

/// What is known of receivers, and the transfers that wait to know.
#[derive(Default)]
pub(crate) struct Registry {
    known: HashMap<AccountId, bool>,
    /// By receiver. There may be a million, each with one transfer.
    parked: HashTable<Box<Parked>>,
    hasher: RandomState,
    /// Receivers to be asked about: those of these transfers.
    to_ask: VecDeque<Arc<Transfer>>,
    asking: usize,
    parked_transfers: usize,
}

/// Transfers to one receiver.
struct Parked {
    first: Open,
    others: Vec<Open>,
    lost: u32,
}

impl Parked {
    fn receiver(&self) -> &AccountId {
        &self.first.transfer.receiver
    }
}

/// What a lost answer leads to.
pub(crate) enum Lost {
    /// Ask again after a pause; it was lost so many times.
    Again(u32),
    /// Give up asking: these go on without knowing.
    GiveUp(Vec<Open>),
}

impl Registry {
    /// `None` when it must be asked for.
    pub(crate) fn is_registered(&self, account: &AccountId) -> Option<bool> {
        self.known.get(account).copied()
    }

    pub(crate) fn learn(&mut self, account: AccountId, registered: bool) {
        if self.known.len() >= limits::REGISTRATIONS_KEPT && !self.known.contains_key(&account) {
            self.known.clear();
        }
        self.known.insert(account, registered);
    }

    /// Parks a transfer until its receiver's registration is known.
    pub(crate) fn park(&mut self, open: Open) {
        self.parked_transfers += 1;
        let Self { parked, hasher, .. } = self;
        let receiver = &open.transfer.receiver;
        match parked.entry(
            hasher.hash_one(receiver),
            |parked| parked.receiver() == receiver,
            |parked| hasher.hash_one(parked.receiver()),
        ) {
            Entry::Occupied(entry) => entry.into_mut().others.push(open),
            Entry::Vacant(entry) => {
                self.to_ask.push_back(open.transfer.clone());
                entry.insert(Box::new(Parked { first: open, others: Vec::new(), lost: 0 }));
            }
        }
    }

    /// The next receiver to ask about, while there is room for a question.
    pub(crate) fn next_question(&mut self) -> Option<AccountId> {
        if self.asking >= limits::REGISTRATION_QUERIES {
            return None;
        }
        let transfer = self.to_ask.pop_front()?;
        self.asking += 1;
        Some(transfer.receiver.clone())
    }

    /// An answer: the transfers that waited for it, in the order they came.
    pub(crate) fn answered(&mut self, account: &AccountId, registered: bool) -> Vec<Open> {
        self.asking -= 1;
        self.learn(account.clone(), registered);
        self.release(account)
    }

    /// The question never left: it does not count.
    pub(crate) fn not_asked(&mut self) {
        self.asking -= 1;
    }

    /// No answer.
    pub(crate) fn lost(&mut self, account: &AccountId) -> Lost {
        self.asking -= 1;
        let hash = self.hasher.hash_one(account);
        match self.parked.find_mut(hash, |parked| parked.receiver() == account) {
            Some(parked) if parked.lost + 1 < limits::REGISTRATION_TRIES => {
                parked.lost += 1;
                Lost::Again(parked.lost)
            }
            _ => Lost::GiveUp(self.release(account)),
        }
    }

    /// The pause after a lost answer is over.
    pub(crate) fn ask_again(&mut self, account: &AccountId) {
        let hash = self.hasher.hash_one(account);
        if let Some(parked) = self.parked.find(hash, |parked| parked.receiver() == account) {
            self.to_ask.push_back(parked.first.transfer.clone());
        }
    }

    /// Takes this transfer out, if it is parked. Looks at all of them: for a person's orders only.
    pub(crate) fn take(&mut self, id: TransferId) -> Option<Open> {
        let is = |open: &Open| open.transfer.id == id;
        let receiver = self.iter().find(|open| is(open))?.transfer.receiver.clone();
        let (taken, rest) = self.release(&receiver).into_iter().partition::<Vec<_>, _>(is);
        // The question about the receiver, if one is under way, goes on for these.
        let asked = self.to_ask.len();
        for open in rest {
            self.park(open);
        }
        self.to_ask.truncate(asked);
        taken.into_iter().next()
    }

    /// Transfers that wait to know.
    pub(crate) fn parked(&self) -> usize {
        self.parked_transfers
    }

    /// Everything that is parked.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Open> + '_ {
        self.parked.iter().flat_map(|parked| std::iter::once(&parked.first).chain(&parked.others))
    }

    /// In the order they came.
    fn release(&mut self, account: &AccountId) -> Vec<Open> {
        let hash = self.hasher.hash_one(account);
        let Ok(entry) = self.parked.find_entry(hash, |parked| parked.receiver() == account) else {
            return Vec::new();
        };
        let Parked { first, mut others, .. } = *entry.remove().0;
        others.insert(0, first);
        self.parked_transfers -= others.len();
        others
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Instant, Transfer, TransferId};

    fn open(id: u128, receiver: &str) -> Open {
        let transfer =
            Transfer { id: TransferId(id), receiver: receiver.parse().unwrap(), amount: 1, memo: None, key: None };
        Open::new(transfer, Instant::from_micros(0))
    }

    #[test]
    fn a_receiver_is_asked_once_and_releases_all_that_waited() {
        let mut registry = Registry::default();
        registry.park(open(1, "a.near"));
        registry.park(open(2, "a.near"));
        let account = registry.next_question().unwrap();
        registry.park(open(3, "a.near"));
        assert!(registry.next_question().is_none());
        let ids: Vec<_> = registry.answered(&account, true).iter().map(|open| open.transfer.id.0).collect();
        assert_eq!(ids, [1, 2, 3]);
        assert_eq!((registry.is_registered(&account), registry.parked()), (Some(true), 0));
    }

    #[test]
    fn questions_in_flight_are_bounded() {
        let mut registry = Registry::default();
        for i in 0..limits::REGISTRATION_QUERIES + 5 {
            registry.park(open(i as u128, &format!("user{i}.near")));
        }
        let asked: Vec<_> = std::iter::from_fn(|| registry.next_question()).collect();
        assert_eq!(asked.len(), limits::REGISTRATION_QUERIES);
        registry.answered(&asked[0], false);
        assert!(registry.next_question().is_some());
    }

    #[test]
    fn lost_answers_are_asked_again_a_bounded_number_of_times() {
        let mut registry = Registry::default();
        registry.park(open(1, "a.near"));
        let mut tries = 0;
        loop {
            let account = registry.next_question().unwrap();
            tries += 1;
            match registry.lost(&account) {
                Lost::Again(_) => registry.ask_again(&account),
                Lost::GiveUp(transfers) => {
                    assert_eq!(transfers.len(), 1);
                    break;
                }
            }
        }
        assert_eq!(tries, limits::REGISTRATION_TRIES);
        assert_eq!(registry.is_registered(&"a.near".parse().unwrap()), None);
    }
}
