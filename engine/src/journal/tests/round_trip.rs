//! What was committed comes back, in order, over any number of segments, shards and lives.
use std::sync::atomic::Ordering;

use super::*;
use crate::journal::{Journal, abort};

#[test]
fn an_empty_directory_is_a_fresh_journal() {
    let disk = FakeDisk::default();
    let (log, replay) = open(&disk).unwrap();
    assert_eq!((log.segment(), replay), (1, Replay::default()));
    drop(log);
    let (log, replay) = open(&disk.after_power_failure(|_| false)).unwrap();
    assert_eq!((log.segment(), replay), (1, Replay::default()));
}

#[test]
fn records_come_back_in_order_from_many_segments_and_lives() {
    let mut disk = FakeDisk::default();
    let mut expected = Vec::new();
    let mut lsn = 0;
    for life in 0..5 {
        let (mut log, replay) = open(&disk).unwrap();
        assert_eq!(names(&replay.entries), expected, "life {life}");
        assert_eq!(replay.cut, None);
        for round in 0..60u64 {
            lsn += 1;
            let group: Vec<_> = (0..=(round % 4) as u16).map(|shard| (shard, lsn, (lsn as usize * 37) % 300)).collect();
            commit(&mut log, &group).unwrap();
            expected.extend(group.iter().map(|(shard, lsn, _)| (*shard, *lsn)));
            if life % 2 == 0 {
                log.prepare_next();
            }
        }
        drop(log);
        disk = disk.after_power_failure(|_| false);
    }
    let (log, replay) = open(&disk).unwrap();
    assert_eq!(names(&replay.entries), expected);
    assert!(log.segment() > 10, "{}", log.segment());
    assert!(replay.entries.is_sorted_by_key(|entry| entry.segment));
    assert_eq!(replay.entries.last().unwrap().segment, log.segment());
}

#[test]
fn a_group_larger_than_what_is_left_of_a_segment_is_split() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk).unwrap();
    let group: Vec<_> = (1..=40).map(|lsn| (0, lsn, 500)).collect();
    commit(&mut log, &group).unwrap();
    assert!(log.segment() > 4);
    // One write and one sync for each segment.
    assert_eq!((disk.writes() as u64, disk.syncs() as u64), (log.segment(), log.segment()));
    let (_, replay) = open(&disk.after_power_failure(|_| false)).unwrap();
    assert_eq!(replay.entries.len(), 40);
}

#[test]
fn every_size_of_record_fits_the_end_of_a_segment_or_goes_into_the_next() {
    for size in 3900..4060 {
        let disk = FakeDisk::default();
        let (mut log, _) = open(&disk).unwrap();
        let done = commit(&mut log, &[(0, 1, size), (0, 2, 1)]);
        let (_, replay) = open(&disk.after_power_failure(|_| false)).unwrap();
        match done {
            Ok(()) => assert_eq!(names(&replay.entries), [(0, 1), (0, 2)], "{size}"),
            Err(JournalError::TooLarge { .. }) => assert!(size > 4000 && replay.entries.is_empty(), "{size}"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_later_life_may_have_another_segment_size() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk).unwrap();
    commit(&mut log, &[(0, 1, 100)]).unwrap();
    log.prepare_next();
    drop(log);
    let larger = Options { segment_bytes: 3 * 8192, ..SMALL };
    let (mut log, replay) = Log::open(Arc::new(disk.clone()), larger).unwrap();
    assert_eq!(replay.entries.len(), 1);
    for lsn in 2..=40 {
        commit(&mut log, &[(0, lsn, 500)]).unwrap();
    }
    assert_eq!(log.segment(), 3, "two small ones, then a large one");
    assert_eq!(open(&disk).unwrap().1.entries.len(), 40);
    for segment_bytes in [0, 8191, 1 << 31] {
        let refused = Log::open(Arc::new(FakeDisk::default()), Options { segment_bytes, ..SMALL });
        assert!(matches!(refused.err(), Some(JournalError::SegmentBytes(bytes)) if bytes == segment_bytes));
    }
}

#[test]
fn shards_on_their_own_threads_lose_nothing() {
    const RECORDS: Lsn = 3_000;
    let disk = FakeDisk::default();
    let (mut journal, _) = Journal::open_on(Arc::new(disk.clone()), SMALL).unwrap();
    let bells: Vec<Bell> = (0..3).map(|_| Bell::default()).collect();
    let appenders = journal.start(bells.clone(), abort()).unwrap();
    std::thread::scope(|scope| {
        for (shard, (mut appender, bell)) in appenders.into_iter().zip(bells).enumerate() {
            scope.spawn(move || {
                for lsn in 1..=RECORDS {
                    appender.append(lsn, &record(shard as u16, lsn, lsn as usize % 50)).unwrap();
                    if lsn % 7 == 0 {
                        appender.flush();
                    }
                }
                appender.flush();
                wait_durable(&appender, &bell, RECORDS);
                assert_eq!(appender.durable(), RECORDS);
            });
        }
    });
    let stats = journal.stats();
    assert_eq!(stats.records, 3 * RECORDS);
    assert!(stats.groups <= stats.records && stats.segment > 1, "{stats:?}");
    let (_, replay) = open(&disk.after_power_failure(|_| false)).unwrap();
    let names = names(&replay.entries);
    for shard in 0..3 {
        let lsns = names.iter().filter(|(of, _)| *of == shard).map(|(_, lsn)| *lsn);
        assert!(lsns.eq(1..=RECORDS), "shard {shard}");
    }
}

#[test]
fn what_was_appended_before_the_end_is_still_written() {
    let disk = FakeDisk::default();
    let options = Options { segment_bytes: 32 * 1024 * 1024, ..SMALL };
    let (mut journal, _) = Journal::open_on(Arc::new(disk.clone()), options).unwrap();
    let mut appenders = journal.start(vec![Bell::default()], abort()).unwrap();
    disk.hold_syncs();
    appenders[0].append(1, &record(0, 1, 1_000_000)).unwrap();
    appenders[0].flush();
    disk.wait_for_syncs(1);
    // More than one group, and no flush: only the end wakes the thread for it.
    for lsn in 2..=7 {
        appenders[0].append(lsn, &record(0, lsn, 1_000_000)).unwrap();
    }
    let shared = journal.shared.clone();
    let end = std::thread::spawn(move || drop(journal));
    while !shared.stop.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    disk.release_syncs();
    end.join().unwrap();
    assert_eq!(appenders[0].durable(), 7);
    let (_, replay) = Log::open(Arc::new(disk.after_power_failure(|_| false)), options).unwrap();
    assert_eq!(replay.entries.len(), 7);
}

#[test]
fn old_segments_are_forgotten_from_the_front() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk).unwrap();
    for lsn in 1..=60 {
        commit(&mut log, &[(0, lsn, 300)]).unwrap();
    }
    drop(log);
    let (journal, replay) = Journal::open_on(Arc::new(disk.clone()), SMALL).unwrap();
    assert!(journal.segment() >= 5);
    let kept = replay.entries.iter().filter(|entry| entry.segment >= 4).count();
    assert_eq!(journal.forget_before(4).unwrap(), 3);
    assert_eq!(journal.forget_before(4).unwrap(), 0);
    let (_, replay) = open(&disk.after_power_failure(|_| false)).unwrap();
    assert_eq!((replay.entries.len(), replay.entries[0].segment), (kept, 4));

    disk.faults(fake_disk::Faults { remove: Some(fake_disk::EIO), ..Default::default() });
    let error = journal.forget_before(5).unwrap_err().to_string();
    assert!(error.contains("cannot delete fake/00000004.log"), "{error}");
    // As when another thread deletes the same ones.
    disk.faults(fake_disk::Faults { remove: Some(fake_disk::ENOENT), ..Default::default() });
    assert_eq!(journal.forget_before(5).unwrap(), 0);
    let later = std::panic::AssertUnwindSafe(|| journal.forget_before(journal.segment() + 1));
    assert!(std::panic::catch_unwind(later).is_err(), "the segment in use is never deleted");
}
