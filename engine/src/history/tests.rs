//! What goes in comes out, by every way to it, until it is old; and nothing that is not ours gets in.
mod groups;
mod kills;
mod model;
mod outbox;

use std::path::PathBuf;

use keyshard_shard::{BatchId, Carried, CryptoHash, IdempotencyKey, Instant, Transfer, TransferId};
use proptest::prelude::*;
use tempfile::TempDir;
use uuid::Uuid;

use super::{
    History, HistoryError, Settled,
    group::{self, Group},
};

fn genesis() -> CryptoHash {
    CryptoHash::hash_bytes(b"genesis")
}

fn hash(n: u64) -> CryptoHash {
    CryptoHash::hash_bytes(&n.to_le_bytes())
}

fn at(micros: u64) -> Instant {
    Instant::from_micros(micros)
}

/// Transfer `n`, paid by transaction `n / 4` as one of four, named `order n`, settled at `n`.
fn settled(n: u64) -> Settled {
    let batch = BatchId { at: at(7), number: n / 4 };
    Settled {
        transfer: Transfer {
            // Not in the order in which they settle.
            id: TransferId(u128::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)),
            receiver: format!("user{n}.near").parse().unwrap(),
            amount: u128::MAX - u128::from(n),
            memo: n.is_multiple_of(2).then(|| "a memo".into()),
            key: Some(IdempotencyKey { name: format!("order {n}").into(), of: 1 }),
        },
        accepted_at: at(1),
        settled_at: at(n),
        outcome: if n % 5 == 4 { Err("why not".into()) } else { Ok(()) },
        carried: Some(Carried { hash: hash(n / 4), batch, position: 3 - (n % 4) as u16 }),
        tried: if n.is_multiple_of(3) { vec![hash(1_000), hash(1_000 + n)] } else { Vec::new() },
    }
}

/// The same, but settled at the same moment as the others of its transaction.
fn together(n: u64) -> Settled {
    Settled { settled_at: at(n / 4), ..settled(n) }
}

fn id(settled: &Settled) -> Uuid {
    Uuid::from_u128(settled.transfer.id.0)
}

struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Result<History, HistoryError> {
        History::open(&self.directory.path().join("history"), genesis())
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("history/history.redb")
    }
}

fn all(history: &History) -> Vec<Settled> {
    history.scan().unwrap().map(Result::unwrap).collect()
}

#[test]
fn what_is_put_is_found_by_id_hash_and_name_also_by_the_next_life() {
    let place = Place::new();
    let put: Vec<Settled> = (0..20).map(settled).collect();
    place.open().unwrap().put(&put).unwrap();
    let history = place.open().unwrap();
    for settled in &put {
        assert_eq!(history.job(id(settled)).unwrap().as_ref(), Some(settled));
        let name = &settled.transfer.key.as_ref().unwrap().name;
        assert_eq!(history.by_key(name).unwrap().as_ref(), Some(settled));
    }
    assert_eq!(history.job(Uuid::from_u128(5)).unwrap(), None);
    assert_eq!(history.by_key("order 20").unwrap(), None);
    assert_eq!(history.by_hash(&hash(77)).unwrap(), []);
    assert_eq!(all(&history), put, "the oldest first");
    assert_eq!(history.len().unwrap(), 20);
}

#[test]
fn a_hash_answers_in_the_order_of_its_actions_and_then_what_it_did_not_pay() {
    let place = Place::new();
    let history = place.open().unwrap();
    history.put(&(0..20).map(settled).collect::<Vec<_>>()).unwrap();
    let paid = history.by_hash(&hash(2)).unwrap();
    let expected: Vec<(u16, Settled)> = [11, 10, 9, 8].map(settled).into_iter().zip(0..).map(|(s, i)| (i, s)).collect();
    assert_eq!(paid, expected);
    let tried: Vec<Settled> = history.by_hash(&hash(1_000)).unwrap().into_iter().map(|(_, settled)| settled).collect();
    assert_eq!(tried.len(), 7, "every third");
    assert_eq!(history.by_hash(&hash(1_009)).unwrap(), [(u16::MAX, settled(9))]);
}

#[test]
fn to_put_again_changes_nothing_and_to_settle_otherwise_is_refused() {
    let place = Place::new();
    let history = place.open().unwrap();
    history.put(&[settled(1), settled(2), settled(1)]).unwrap();
    let later = Settled { settled_at: at(99), ..settled(1) };
    history.put(&[later, settled(3)]).unwrap();
    assert_eq!(all(&history), [settled(1), settled(2), settled(3)]);
    let otherwise = Settled { outcome: Err("so".into()), ..settled(1) };
    let error = history.put(&[settled(5), otherwise]).unwrap_err();
    assert!(matches!(error, HistoryError::SettledTwice { .. }), "{error}");
    assert!(error.to_string().contains("it was finalized, now it is failed (so)"), "{error}");
    assert_eq!(history.len().unwrap(), 3, "nothing of that batch was put");
}

#[test]
fn names_are_looked_for_only_once_there_are_any() {
    let place = Place::new();
    let history = place.open().unwrap();
    let nameless = Settled { transfer: Transfer { key: None, ..settled(1).transfer }, ..settled(1) };
    history.put(&[nameless]).unwrap();
    assert!(!history.is_keyed());
    assert_eq!(history.by_key("order 1").unwrap(), None);
    history.put(&[settled(2)]).unwrap();
    assert!(history.is_keyed());
    drop(history);
    assert!(place.open().unwrap().is_keyed());
}

#[test]
fn names_of_any_length_are_kept_apart() {
    let place = Place::new();
    let history = place.open().unwrap();
    let names = [String::new(), "x".repeat(255), "x".repeat(256), "x".repeat(100_000), "\0".to_owned()];
    let named = |n: usize, name: &String| Settled {
        transfer: Transfer {
            key: Some(IdempotencyKey { name: name.as_str().into(), of: 1 }),
            ..settled(n as u64).transfer
        },
        ..settled(n as u64)
    };
    let put: Vec<Settled> = names.iter().enumerate().map(|(n, name)| named(n, name)).collect();
    history.put(&put).unwrap();
    for (name, settled) in names.iter().zip(put) {
        assert_eq!(history.by_key(name).unwrap(), Some(settled));
    }
}

#[test]
fn the_oldest_are_forgotten_with_all_their_traces() {
    let place = Place::new();
    let history = place.open().unwrap();
    history.put(&(0..20).map(settled).collect::<Vec<_>>()).unwrap();
    assert_eq!(history.prune(at(0), 100).unwrap(), 0);
    assert_eq!(history.prune(at(10), 4).unwrap(), 4, "no more than asked for");
    assert_eq!(history.prune(at(10), 100).unwrap(), 6);
    assert_eq!(history.prune(at(10), 100).unwrap(), 0);
    assert_eq!(all(&history), (10..20).map(settled).collect::<Vec<_>>());
    for gone in (0..10).map(settled) {
        assert_eq!(history.job(id(&gone)).unwrap(), None);
        assert_eq!(history.by_key(&gone.transfer.key.unwrap().name).unwrap(), None);
    }
    assert_eq!(history.by_hash(&hash(1)).unwrap(), []);
    assert_eq!(history.by_hash(&hash(2)).unwrap().len(), 2);
    assert_eq!(history.by_hash(&hash(1_000)).unwrap().len(), 3);
}

#[test]
fn a_name_that_was_given_again_outlives_its_first_transfer() {
    let place = Place::new();
    let history = place.open().unwrap();
    let again = Settled { transfer: Transfer { key: settled(1).transfer.key, ..settled(8).transfer }, ..settled(8) };
    history.put(&[settled(1)]).unwrap();
    history.put(std::slice::from_ref(&again)).unwrap();
    assert_eq!(history.prune(at(5), 100).unwrap(), 1);
    assert_eq!(history.by_key("order 1").unwrap().as_ref(), Some(&again));
    // A journal that still knows of the first.
    history.put(&[settled(1)]).unwrap();
    assert_eq!(history.by_key("order 1").unwrap().as_ref(), Some(&again));
    assert_eq!(history.prune(at(5), 100).unwrap(), 1);
    assert_eq!(history.by_key("order 1").unwrap(), Some(again));
}

#[test]
fn only_one_may_have_it_open() {
    let place = Place::new();
    let _history = place.open().unwrap();
    let Err(error) = place.open() else { panic!("it opened twice") };
    assert!(matches!(error, HistoryError::InUse { .. }), "{error}");
}

#[test]
fn another_chains_and_another_formats_are_refused() {
    let place = Place::new();
    place.open().unwrap().put(&[settled(1)]).unwrap();
    let elsewhere = History::open(&place.directory.path().join("history"), hash(1)).err().unwrap();
    assert!(matches!(elsewhere, HistoryError::OtherChain { .. }), "{elsewhere}");
    let database = redb::Database::open(place.file()).unwrap();
    let write = database.begin_write().unwrap();
    write
        .open_table(redb::TableDefinition::<&str, &[u8]>::new("about"))
        .unwrap()
        .insert("format", &b"keyshard history 9"[..])
        .unwrap();
    write.commit().unwrap();
    drop(database);
    let newer = place.open().err().unwrap();
    assert!(newer.to_string().contains(r#"is of format "keyshard history 9""#), "{newer}");
}

#[test]
fn a_file_that_is_no_history_is_refused() {
    let stranger = redb::Builder::new();
    let place = Place::new();
    std::fs::create_dir(place.directory.path().join("history")).unwrap();
    drop(stranger.create(place.file()).unwrap());
    let stranger = std::fs::read(place.file()).unwrap();
    for bytes in [b"no database".to_vec(), vec![0; 8192], stranger.clone(), stranger[..1000].to_vec(), Vec::new()] {
        std::fs::write(place.file(), &bytes).unwrap();
        let Err(error) = place.open() else { panic!("{} bytes were opened", bytes.len()) };
        assert!(error.to_string().contains("history"), "{error}");
    }
}

#[test]
fn an_unfinished_one_is_made_anew() {
    let place = Place::new();
    std::fs::create_dir(place.directory.path().join("history")).unwrap();
    std::fs::write(place.file().with_extension("new"), b"half").unwrap();
    place.open().unwrap().put(&[settled(1)]).unwrap();
    assert!(!place.file().with_extension("new").exists());
}

/// Wherever a byte of the file is wrong: what is read is right, or an error.
#[test]
fn damage_is_never_read_as_another_transfer() {
    let place = Place::new();
    let put: Vec<Settled> = (0..8).map(settled).collect();
    place.open().unwrap().put(&put).unwrap();
    let sound = std::fs::read(place.file()).unwrap();
    let mut noticed = 0;
    // The group, wherever it lies: damage elsewhere is the store's to notice, or an index row's.
    let record = group::encode(&[&put[5]]);
    let start = sound.windows(record.len()).position(|window| window == record).expect("it is on the disk");
    for offset in start..start + record.len() {
        let mut damaged = sound.clone();
        damaged[offset] ^= 0x10;
        std::fs::write(place.file(), &damaged).unwrap();
        let read = place.open().and_then(|history| history.job(id(&put[5])));
        match read {
            Ok(read) => panic!("byte {offset} is wrong, and this was read: {read:?}"),
            Err(error) => {
                assert!(matches!(error, HistoryError::Damaged { .. }), "{error}");
                noticed += 1;
            }
        }
    }
    assert_eq!(noticed, record.len());
    std::fs::write(place.file(), &sound).unwrap();
    assert_eq!(all(&place.open().unwrap()), put);
}

/// Histories of this version must stay readable: whoever has to change this test needs a new version byte.
#[test]
fn the_bytes_of_version_2() {
    let groups = [vec![settled(0)], vec![settled(1)], vec![settled(9)], (0..4).map(together).collect()];
    let digests = groups.map(|group| {
        let bytes = group::encode(&group.iter().collect::<Vec<_>>());
        CryptoHash::hash_bytes(&bytes).to_string()[..8].to_owned()
    });
    assert_eq!(digests, ["DhJvA352", "AKssAdQD", "GveFTF1q", "38mp2R2r"]);
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_are_the_bytes_of_a_group(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        // Past the checksum and the version, which would refuse nearly all.
        if bytes.len() >= 5 {
            bytes[4] = 2;
            super::sealed::finish(&mut bytes);
        }
        if let Ok(read) = Group::open(&bytes).and_then(|group| group.all()) {
            prop_assert_eq!(group::encode(&read.iter().collect::<Vec<_>>()), bytes);
        }
    }

    #[test]
    fn a_group_with_a_wrong_byte_under_a_right_checksum_is_refused_or_is_what_it_says(
        n in 0_u64..40, offset in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let group: Vec<Settled> = (n / 4 * 4..n).map(together).chain([together(n)]).collect();
        let mut bytes = group::encode(&group.iter().collect::<Vec<_>>());
        let offset = 5 + offset.index(bytes.len() - 5);
        bytes[offset] = byte;
        super::sealed::finish(&mut bytes);
        if let Ok(read) = Group::open(&bytes).and_then(|group| group.all()) {
            prop_assert_eq!(group::encode(&read.iter().collect::<Vec<_>>()), bytes);
        }
    }
}
