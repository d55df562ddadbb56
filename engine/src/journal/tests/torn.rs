//! A crash in the middle of a write: what was durable is there, nothing is made up, and the tail is cut for good.
use proptest::prelude::*;

use super::*;

const DURABLE: [(u16, Lsn); 3] = [(0, 1), (1, 1), (0, 2)];
const LAST: [(u16, Lsn); 3] = [(1, 2), (0, 3), (1, 3)];

/// A disk whose last group is written and not synced, and where that group begins and ends.
fn with_unsynced_group() -> (FakeDisk, usize, usize) {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk).unwrap();
    commit(&mut log, &[(0, 1, 300), (1, 1, 0)]).unwrap();
    commit(&mut log, &[(0, 2, 700)]).unwrap();
    let from = used(&disk);
    for (shard, lsn) in LAST {
        log.push(shard, lsn, (&bytes(&record(shard, lsn, 600)), &[])).unwrap();
    }
    disk.hold_syncs();
    let (syncs, waiting) = (disk.syncs(), disk.clone());
    let image = std::thread::scope(|scope| {
        scope.spawn(|| log.commit().unwrap());
        waiting.wait_for_syncs(syncs + 1);
        let image = waiting.snapshot();
        waiting.release_syncs();
        image
    });
    let to = used(&image);
    (image, from, to)
}

/// Where the zeros of the first segment begin.
fn used(disk: &FakeDisk) -> usize {
    disk.get("00000001.log").iter().rposition(|byte| *byte != 0).unwrap() + 1
}

/// Opens what is left, checks it, goes on, and checks again.
fn check(disk: &FakeDisk) -> Vec<(u16, Lsn)> {
    let (mut log, replay) = open(disk).unwrap();
    let found = names(&replay.entries);
    let expected: Vec<_> = DURABLE.iter().chain(&LAST).copied().collect();
    assert!(found.len() >= DURABLE.len() && expected.starts_with(&found), "{found:?}");
    // Whatever is told is durable, even if the power fails now.
    let (again, replay_again) = open(&disk.after_power_failure(|_| false)).unwrap();
    assert_eq!((names(&replay_again.entries), replay_again.cut), (found.clone(), None));
    drop(again);
    commit(&mut log, &[(5, 1, 3), (5, 2, 900)]).unwrap();
    let (_, replay) = open(&disk.after_power_failure(|_| false)).unwrap();
    let after: Vec<_> = found.iter().copied().chain([(5, 1), (5, 2)]).collect();
    assert_eq!((names(&replay.entries), replay.cut), (after, None));
    found
}

#[test]
fn a_write_torn_at_any_byte() {
    let (disk, from, to) = with_unsynced_group();
    let mut lengths = Vec::new();
    for tear in from..=to {
        let torn = disk.after_power_failure(|offset| offset < tear);
        let cut = open(&torn.copy()).unwrap().1.cut;
        assert!(cut.iter().all(|cut| cut.file == "fake/00000001.log" && cut.offset >= from as u64), "{cut:?}");
        lengths.push(check(&torn).len());
    }
    assert!(lengths.is_sorted());
    assert_eq!((lengths[0], lengths[lengths.len() - 1]), (DURABLE.len(), DURABLE.len() + LAST.len()));
}

#[test]
fn a_crash_while_the_tail_is_cut() {
    let (disk, from, to) = with_unsynced_group();
    // The middle of the group is lost, its end is there.
    let torn = disk.after_power_failure(|offset| !(from + 100..from + 700).contains(&offset));
    let (log, replay) = open(&torn).unwrap();
    assert_eq!(replay.cut.unwrap().offset, from as u64);
    drop(log);
    let fresh = || disk.after_power_failure(|offset| !(from + 100..from + 700).contains(&offset));
    for tear in from..=to {
        let torn = fresh();
        // Clearing is a write of zeros; any part of it may have happened.
        let mut bytes = torn.get("00000001.log");
        bytes[from..tear].fill(0);
        let half_cleared = FakeDisk::default();
        half_cleared.put("00000001.log", bytes);
        check(&half_cleared);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// The disk writes sectors in any order, and may lose any of them.
    #[test]
    fn any_sectors_of_the_last_group_lost(lost in proptest::collection::vec(any::<bool>(), 16), shift in 0usize..512) {
        let (disk, ..) = with_unsynced_group();
        check(&disk.after_power_failure(|offset| !lost[(offset + shift) / 512 % 16]));
    }

    /// The bytes of the last group are anything.
    #[test]
    fn garbage_in_the_last_group(garbage in proptest::collection::vec(any::<u8>(), 1..1500), at in 0usize..2000) {
        let (disk, from, to) = with_unsynced_group();
        let disk = disk.after_power_failure(|_| true);
        let mut bytes = disk.get("00000001.log");
        let at = from + at % (to - from);
        let end = to.min(at + garbage.len());
        bytes[at..end].copy_from_slice(&garbage[..end - at]);
        disk.put("00000001.log", bytes);
        check(&disk);
    }
}

/// A segment is closed by the last group that is written to it; that group too may be in the page cache only.
#[test]
fn a_killed_process_leaves_its_last_group_in_the_page_cache() {
    for group in [vec![(0, 2, 100)], vec![(0, 2, 3000), (0, 3, 3000)]] {
        let disk = FakeDisk::default();
        let (mut log, _) = open(&disk).unwrap();
        commit(&mut log, &[(0, 1, 100)]).unwrap();
        disk.faults(fake_disk::Faults { sync: Some(fake_disk::EIO), ..Default::default() });
        assert!(commit(&mut log, &group).is_err());
        drop(log);
        let (log, replay) = open(&disk).unwrap();
        assert_eq!(names(&replay.entries), [(0, 1), (0, 2)]);
        drop(log);
        let (_, replay) = open(&disk.after_power_failure(|_| false)).unwrap();
        assert_eq!(names(&replay.entries), [(0, 1), (0, 2)], "what a life has read stays true");
    }
}

#[test]
fn a_crash_at_any_moment_of_a_rotation() {
    // Closed, the next one not made; half-made; made under its first name only; made.
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk).unwrap();
    commit(&mut log, &[(0, 1, 3000)]).unwrap();
    let before = disk.copy();
    commit(&mut log, &[(0, 2, 3000)]).unwrap();
    assert_eq!(log.segment(), 2);
    let second = disk.get("00000002.log");
    let closed = disk.get("00000001.log");
    let mut empty = second.clone();
    empty[4096..].fill(0);

    for (unfinished, finished) in [
        (None, None),
        (Some(Vec::new()), None),
        (Some(empty[..5000].to_vec()), None),
        (Some(empty.clone()), None),
        (None, Some(empty.clone())),
        (None, Some(second)),
    ] {
        let crashed = before.copy();
        crashed.put("00000001.log", closed.clone());
        if let Some(bytes) = unfinished {
            crashed.put("00000002.log.new", bytes);
        }
        let whole = finished.iter().any(|bytes| *bytes != empty);
        if let Some(bytes) = finished {
            crashed.put("00000002.log", bytes);
        }
        let (mut log, replay) = open(&crashed).unwrap();
        assert_eq!(names(&replay.entries), if whole { vec![(0, 1), (0, 2)] } else { vec![(0, 1)] });
        assert_eq!(log.segment(), 2);
        commit(&mut log, &[(0, 3, 10)]).unwrap();
        let after = crashed.after_power_failure(|_| false);
        assert_eq!(names(&open(&after).unwrap().1.entries).last(), Some(&(0, 3)));
        assert_eq!(after.contents().into_keys().collect::<Vec<_>>(), ["00000001.log", "00000002.log"]);
    }
    // The next one was ready long before.
    before.put("00000002.log", empty);
    let (mut log, replay) = open(&before).unwrap();
    assert_eq!((log.segment(), replay.entries.len()), (1, 1));
    commit(&mut log, &[(0, 2, 3000)]).unwrap();
    assert_eq!(log.segment(), 2);
    assert_eq!(open(&before.after_power_failure(|_| false)).unwrap().1.entries.len(), 2);
}
