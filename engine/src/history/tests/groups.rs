//! What settled together lies together, and goes together.
use keyshard_shard::{CryptoHash, IdempotencyKey, Transfer, TransferId};
use uuid::Uuid;

use super::{Place, all, at, hash, id, settled, together};
use crate::history::{History, Settled};

/// By every way to them.
fn assert_found(history: &History, all: &[Settled]) {
    for settled in all {
        assert_eq!(history.job(id(settled)).unwrap().as_ref(), Some(settled));
        if let Some(key) = &settled.transfer.key {
            assert_eq!(history.by_key(&key.name).unwrap().as_ref(), Some(settled));
        }
        let carried = settled.carried.map(|carried| (carried.hash, carried.position));
        for (hash, position) in carried.into_iter().chain(settled.tried.iter().map(|hash| (*hash, u16::MAX))) {
            let found = history.by_hash(&hash).unwrap();
            assert!(found.contains(&(position, settled.clone())), "{hash}: {found:?}");
            assert!(found.is_sorted_by_key(|(position, settled)| (*position, settled.transfer.id)));
        }
    }
}

fn assert_gone(history: &History, all: &[Settled]) {
    for settled in all {
        assert_eq!(history.job(id(settled)).unwrap(), None);
        assert_eq!(history.by_key(&settled.transfer.key.as_ref().unwrap().name).unwrap(), None);
        for hash in settled.carried.iter().map(|carried| &carried.hash).chain(&settled.tried) {
            assert!(history.by_hash(hash).unwrap().iter().all(|(_, other)| other.transfer.id != settled.transfer.id));
        }
    }
}

#[test]
fn all_of_a_group_are_found_across_commits_and_lives() {
    let place = Place::new();
    let put: Vec<Settled> = (0..200).map(together).collect();
    let mut history = place.open().unwrap();
    // Commits that cut through groups.
    for (n, batch) in put.chunks(7).enumerate() {
        history.put(batch).unwrap();
        assert_found(&history, batch);
        if n % 5 == 0 {
            drop(history);
            history = place.open().unwrap();
        }
    }
    assert_found(&history, &put);
    assert_eq!(all(&history), put);
    assert_eq!(history.len().unwrap(), 200);
    drop(history);
    let history = place.open().unwrap();
    assert_found(&history, &put);
    assert_eq!(history.by_key("order 200").unwrap(), None);
    assert_eq!(history.job(Uuid::from_u128(1)).unwrap(), None);
}

#[test]
fn a_group_is_forgotten_as_a_whole_and_only_when_it_is_old() {
    let place = Place::new();
    let history = place.open().unwrap();
    let put: Vec<Settled> = (0..80).map(together).collect();
    history.put(&put).unwrap();
    assert_eq!(history.prune(at(10), 3).unwrap(), 4, "the oldest four settled together");
    assert_eq!(history.prune(at(10), 5).unwrap(), 8);
    assert_eq!(history.prune(at(10), 1_000).unwrap(), 28);
    assert_eq!(history.prune(at(10), 1_000).unwrap(), 0);
    assert_eq!(history.len().unwrap(), 40);
    drop(history);
    let history = place.open().unwrap();
    assert_eq!(all(&history), put[40..]);
    assert_gone(&history, &put[..40]);
    assert_found(&history, &put[40..]);
}

/// The same transaction, but not the same moment: a restart between two of them, say.
#[test]
fn what_one_transaction_carried_may_settle_at_different_moments() {
    let place = Place::new();
    let history = place.open().unwrap();
    let put = [together(0), Settled { settled_at: at(5), ..together(1) }, together(2), together(3)];
    history.put(&put).unwrap();
    assert_found(&history, &put);
    assert_eq!(history.by_hash(&hash(0)).unwrap().len(), 4);
    assert_eq!(history.prune(at(5), 100).unwrap(), 3);
    assert_eq!(all(&history), [put[1].clone()]);
    assert_eq!(history.by_hash(&hash(0)).unwrap(), [(2, put[1].clone())]);
}

#[test]
fn more_settle_in_a_microsecond_than_have_a_place_in_it() {
    let place = Place::new();
    let history = place.open().unwrap();
    // Each by itself, since each is another transaction's.
    let alone = |n: u64| {
        let mut alone = Settled { settled_at: at(7), ..settled(n) };
        alone.carried.as_mut().unwrap().hash = hash(n);
        alone.tried.clear();
        alone
    };
    let put: Vec<Settled> = (0..5_000).map(alone).collect();
    put.chunks(1_000).for_each(|batch| history.put(batch).unwrap());
    history.put(&[Settled { settled_at: at(8), ..settled(9_000) }]).unwrap();
    assert_found(&history, &put.iter().step_by(97).cloned().collect::<Vec<_>>());
    assert_eq!(history.len().unwrap(), 5_001);
    assert_eq!(history.prune(at(7), 10_000).unwrap(), 0);
    assert!(history.prune(at(8), 10_000).unwrap() >= 4_096);
    history.prune(at(10), 10_000).unwrap();
    assert!(history.is_empty().unwrap());
}

#[test]
fn ids_that_end_alike_are_kept_apart() {
    let place = Place::new();
    let history = place.open().unwrap();
    let alike = |n: u64| {
        let transfer = Transfer { id: TransferId((u128::from(n) << 64) | 5), ..settled(n).transfer };
        Settled { transfer, ..settled(n) }
    };
    let put: Vec<Settled> = (0..30).map(alike).collect();
    put.chunks(3).for_each(|batch| history.put(batch).unwrap());
    history.put(&put).unwrap();
    assert_eq!(all(&history), put);
    assert_found(&history, &put);
    assert_eq!(history.job(Uuid::from_u128((31 << 64) | 5)).unwrap(), None);
}

/// A hundred transfers that one transaction did not pay, each paid by another.
#[test]
fn a_transaction_that_many_tried_is_found_with_all_of_them() {
    let place = Place::new();
    let history = place.open().unwrap();
    let tried = CryptoHash::hash_bytes(b"tried");
    let put: Vec<Settled> = (0..100)
        .map(|n| Settled { settled_at: at(n), tried: vec![hash(5_000 + n), tried], ..settled(4 * n) })
        .collect();
    put.chunks(9).for_each(|batch| history.put(batch).unwrap());
    // So much that all of it is merged.
    for n in 0..20 {
        history.put(&(0..40).map(|i| settled(1_000 + n * 40 + i)).collect::<Vec<_>>()).unwrap();
    }
    let check = |history: &History| {
        assert_eq!(history.by_hash(&tried).unwrap().len(), 100);
        assert_found(history, &put);
    };
    check(&history);
    drop(history);
    check(&place.open().unwrap());
}

#[test]
fn a_name_is_the_latest_transfers_also_when_it_is_merged_and_its_first_is_forgotten() {
    let place = Place::new();
    let history = place.open().unwrap();
    let named = |n: u64| {
        let key = Some(IdempotencyKey { name: "again".into(), of: 1 });
        Settled { transfer: Transfer { key, ..settled(n).transfer }, ..settled(n) }
    };
    let fill = |n: u64| history.put(&(n..n + 400).map(settled).collect::<Vec<_>>()).unwrap();
    history.put(&[named(1)]).unwrap();
    fill(1_000);
    assert_eq!(history.by_key("again").unwrap(), Some(named(1)));
    assert_eq!(history.prune(at(2), 100).unwrap(), 1);
    assert_eq!(history.by_key("again").unwrap(), None);
    history.put(&[named(2)]).unwrap();
    assert_eq!(history.by_key("again").unwrap(), Some(named(2)));
    fill(2_000);
    fill(3_000);
    assert_eq!(history.by_key("again").unwrap(), Some(named(2)));
    assert_eq!(history.prune(at(3), 100).unwrap(), 1);
    assert_eq!(history.by_key("again").unwrap(), None);
}
