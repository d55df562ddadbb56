//! Whatever is put, forgotten and opened again, in whatever order: the history says what a map would say.
use std::collections::{BTreeMap, BTreeSet};

use keyshard_shard::{BatchId, Carried, CryptoHash, IdempotencyKey, Transfer, TransferId};
use proptest::prelude::*;
use uuid::Uuid;

use super::{Place, all, at, hash};
use crate::history::group::MEMBERS_MAX;
use crate::history::{History, HistoryError, Settled};

const HASHES: u64 = 6;
const NAMES: u8 = 40;

#[derive(Debug, Clone)]
enum Step {
    /// Transfers of one transaction, or of none.
    Put(Vec<Together>),
    /// What settled before, and how many.
    Prune(u64, usize),
    Reopen,
}

#[derive(Debug, Clone)]
struct Together {
    settled_at: u64,
    hash: Option<u64>,
    members: Vec<Member>,
}

#[derive(Debug, Clone)]
struct Member {
    /// Time, the bits that no index row has, the last ones.
    id: (u8, u8, u8),
    name: Option<u8>,
    paid: bool,
    tried: BTreeSet<u64>,
}

fn member() -> impl Strategy<Value = Member> {
    let tried = proptest::collection::btree_set(0..HASHES, 0..3);
    let id = (0..8_u8, 0..2_u8, 0..24_u8);
    (id, proptest::option::of(0..NAMES), proptest::bool::weighted(0.9), tried)
        .prop_map(|(id, name, paid, tried)| Member { id, name, paid, tried })
}

fn step() -> impl Strategy<Value = Step> {
    let members = proptest::collection::vec(member(), 1..12);
    let together = (0..50_u64, proptest::option::weighted(0.8, 0..HASHES), members)
        .prop_map(|(settled_at, hash, members)| Together { settled_at, hash, members });
    prop_oneof![
        6 => proptest::collection::vec(together, 1..6).prop_map(Step::Put),
        1 => (0..55_u64, prop_oneof![0..20_usize, Just(1_000)]).prop_map(|(before, limit)| Step::Prune(before, limit)),
        1 => Just(Step::Reopen),
    ]
}

impl Together {
    fn settled(&self) -> impl Iterator<Item = Settled> + '_ {
        (0..).zip(&self.members).map(|(position, member)| {
            let (time, middle, rest) = member.id;
            let id = u128::from(time) << 90 | u128::from(middle) << 70 | u128::from(rest);
            let batch = BatchId { at: at(3), number: self.settled_at };
            // Named after what it is, so that no two transfers are the same.
            let key = member.name.map(|name| IdempotencyKey { name: format!("name {name}").into(), of: 1 });
            let tried =
                member.tried.iter().filter(|tried| Some(**tried) != self.hash).map(|tried| hash(*tried)).collect();
            Settled {
                transfer: Transfer {
                    id: TransferId(id),
                    receiver: format!("user{rest}.near").parse().unwrap(),
                    amount: 1 + u128::from(rest),
                    memo: None,
                    key,
                },
                accepted_at: at(1),
                settled_at: at(self.settled_at),
                outcome: if member.paid { Ok(()) } else { Err("why not".into()) },
                carried: self.hash.map(|number| Carried { hash: hash(number), batch, position }),
                tried,
            }
        })
    }
}

#[derive(Default)]
struct Model {
    known: BTreeMap<u128, Settled>,
}

impl Model {
    fn holder(&self, name: &str) -> Option<&Settled> {
        self.known.values().find(|settled| settled.transfer.key.as_ref().is_some_and(|key| *key.name == *name))
    }

    /// A name means one transfer at a time (P6): one that comes with a name that has a meaning comes without it.
    fn rename(&self, batch: &mut Vec<Settled>) {
        let mut given: BTreeMap<Box<str>, u128> = BTreeMap::new();
        for settled in batch {
            let id = settled.transfer.id.0;
            let Some(key) = &settled.transfer.key else { continue };
            let holder = self.holder(&key.name).map(|holder| holder.transfer.id.0);
            if holder.is_some() || given.insert(key.name.clone(), id).is_some() {
                let transfer = Transfer { key: None, ..settled.transfer.clone() };
                *settled = Settled { transfer, ..settled.clone() };
            }
        }
    }

    /// Whether nothing in it has settled otherwise.
    fn put(&mut self, batch: &[Settled]) -> bool {
        let mut after = self.known.clone();
        for settled in batch {
            let before = after.entry(settled.transfer.id.0).or_insert_with(|| settled.clone());
            if before.outcome.is_ok() != settled.outcome.is_ok() {
                return false;
            }
        }
        self.known = after;
        true
    }

    fn check(&self, history: &History) {
        let mut expected: Vec<&Settled> = self.known.values().collect();
        expected.sort_by_key(|settled| settled.transfer.id);
        let mut found = all(history);
        found.sort_by_key(|settled| settled.transfer.id);
        assert_eq!(found.iter().collect::<Vec<_>>(), expected);
        assert_eq!(history.len().unwrap(), expected.len() as u64);
        for (id, settled) in &self.known {
            assert_eq!(history.job(Uuid::from_u128(*id)).unwrap().as_ref(), Some(settled));
        }
        for name in (0..NAMES).map(|name| format!("name {name}")) {
            assert_eq!(history.by_key(&name).unwrap().as_ref(), self.holder(&name));
        }
        for hash in (0..HASHES).map(hash) {
            assert_eq!(history.by_hash(&hash).unwrap(), self.of_hash(&hash));
        }
    }

    fn of_hash(&self, hash: &CryptoHash) -> Vec<(u16, Settled)> {
        let of = |settled: &Settled| {
            let carried = settled.carried.filter(|carried| carried.hash == *hash).map(|carried| carried.position);
            let position = carried.or(settled.tried.contains(hash).then_some(u16::MAX))?;
            Some((position, settled.clone()))
        };
        let mut found: Vec<(u16, Settled)> = self.known.values().filter_map(of).collect();
        found.sort_by_key(|(position, settled)| (*position, settled.transfer.id));
        found
    }

    /// Takes out what the history has forgotten, which must be the oldest.
    fn prune(&mut self, history: &History, before: u64, gone: usize, limit: usize) {
        let left: BTreeSet<u128> = all(history).iter().map(|settled| settled.transfer.id.0).collect();
        let forgotten: Vec<Settled> =
            self.known.extract_if(.., |id, _| !left.contains(id)).map(|(_, settled)| settled).collect();
        assert_eq!(forgotten.len(), gone);
        assert!(forgotten.iter().all(|settled| settled.settled_at < at(before)), "{forgotten:?} are not old enough");
        // Places below what was forgotten are not given again: what is put there later may stay a little longer.
        assert!(gone < limit + MEMBERS_MAX, "{gone} are more than the rest of a group above {limit}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn a_history_says_what_a_map_says(steps in proptest::collection::vec(step(), 1..40)) {
        let place = Place::new();
        let mut history = place.open().unwrap();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Put(groups) => {
                    let mut batch: Vec<Settled> = groups.iter().flat_map(Together::settled).collect();
                    model.rename(&mut batch);
                    match history.put(&batch) {
                        Ok(()) => prop_assert!(model.put(&batch)),
                        Err(HistoryError::SettledTwice { .. }) => prop_assert!(!model.put(&batch)),
                        Err(error) => panic!("{error}"),
                    }
                }
                Step::Prune(before, limit) => {
                    let gone = history.prune(at(before), limit).unwrap();
                    model.prune(&history, before, gone, limit);
                    if gone < limit {
                        // All that is old is gone, but for what was put below what had been forgotten already.
                        prop_assert_eq!(history.prune(at(before), limit).unwrap(), 0);
                    }
                }
                Step::Reopen => {
                    drop(history);
                    history = place.open().unwrap();
                }
            }
            model.check(&history);
        }
    }
}
