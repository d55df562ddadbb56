//! Models of the journal's threads (loom): appenders, the journal thread and the end of it, with the real log on a disk
//! in memory. See `crate::models` for how to run them.
use loom::{future::block_on, thread};

use super::*;
use crate::{journal::Journal, sync::atomic::Ordering};

fn check(preemptions: usize, model: impl Fn(&FakeDisk) + std::marker::Sync + Send + 'static) {
    // The next segment is there already: else every run would start a thread that loom does not know.
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk).unwrap();
    log.prepare_next();
    drop(log);
    assert_eq!(disk.contents().len(), 2);
    crate::models::check(preemptions, move || model(&disk.copy()));
}

fn start(disk: &FakeDisk, shards: usize) -> (Journal, Vec<(Appender, Bell)>) {
    let (mut journal, _) = Journal::open_on(Arc::new(disk.clone()), SMALL).unwrap();
    let bells: Vec<Bell> = (0..shards).map(|_| Bell::default()).collect();
    let failure = |error: &JournalError| panic!("{error}");
    let appenders = journal.start(bells.clone(), Box::new(failure)).unwrap();
    (journal, appenders.into_iter().zip(bells).collect())
}

/// What a power failure at this moment would leave.
fn survivors(disk: &FakeDisk) -> Vec<(u16, Lsn)> {
    names(&open(&disk.after_power_failure(|_| false)).unwrap().1.entries)
}

/// Appends these records, waiting for room, then waits for all of them. What is reported durable is on the disk.
fn append(disk: &FakeDisk, shard: u16, (appender, bell): &mut (Appender, Bell), last: Lsn, flush_each: bool) {
    for lsn in 1..=last {
        while appender.append(lsn, &record(shard, lsn, 1)).is_err() {
            block_on(bell.rung());
        }
        if flush_each {
            appender.flush();
        }
    }
    appender.flush();
    let mut durable = 0;
    while durable < last {
        block_on(bell.rung());
        let now = appender.durable();
        assert!(now >= durable, "{now} after {durable}");
        durable = now;
        if durable > 0 {
            assert!(survivors(disk).contains(&(shard, durable)), "{durable} is reported, and not on the disk");
        }
    }
}

/// Records of a shard, announced one by one while the journal thread works or falls asleep: each becomes durable, the
/// shard hears of it, and what it hears is true.
///
/// Fails, as it should, when the journal thread rings before it stores `durable`, or stores that before the commit, and when
/// `flush` wakes nobody.
#[test]
fn what_is_appended_becomes_durable_and_is_told() {
    check(3, |disk| {
        let (journal, mut shards) = start(disk, 1);
        append(disk, 0, &mut shards[0], 2, true);
        drop(journal);
    });
}

/// A third record finds the ring full: the bell rings when there is room.
///
/// Fails, as it should, when a full ring is not flushed.
#[test]
fn a_full_ring_has_room_again() {
    check(3, |disk| {
        let (journal, mut shards) = start(disk, 1);
        append(disk, 0, &mut shards[0], 3, false);
        drop(journal);
    });
}

#[test]
fn two_shards_share_a_journal() {
    check(2, |disk| {
        let (journal, mut shards) = start(disk, 2);
        let (other_disk, mut other) = (disk.clone(), shards.remove(1));
        let thread = thread::spawn(move || append(&other_disk, 1, &mut other, 1, true));
        append(disk, 0, &mut shards[0], 1, true);
        thread.join().unwrap();
        drop(journal);
    });
}

/// The journal ends while records are in the ring, announced or not: all of them are written.
///
/// Fails, as it should, when the journal thread looks at `stop` after the round, when `stop` is stored relaxed, and when
/// nobody wakes the journal thread.
#[test]
fn what_is_in_the_ring_when_the_journal_ends_is_written() {
    check(3, |disk| {
        let (journal, mut shards) = start(disk, 1);
        let (appender, _) = &mut shards[0];
        appender.append(1, &record(0, 1, 1)).unwrap();
        appender.flush();
        appender.append(2, &record(0, 2, 1)).unwrap();
        drop(journal);
        assert_eq!(survivors(disk), [(0, 1), (0, 2)]);
    });
}

/// The shard that appends ends on another thread, as at a shutdown: it tells so, and the journal is ended then.
#[test]
fn what_another_thread_appended_before_the_end_is_written() {
    check(3, |disk| {
        let (journal, mut shards) = start(disk, 1);
        let done = Arc::new(crate::sync::atomic::AtomicBool::new(false));
        let shard = {
            let done = done.clone();
            thread::spawn(move || {
                let (appender, _) = &mut shards[0];
                appender.append(1, &record(0, 1, 1)).unwrap();
                done.store(true, Ordering::Release);
                appender.flush();
            })
        };
        while !done.load(Ordering::Acquire) {
            thread::yield_now();
        }
        drop(journal);
        assert_eq!(survivors(disk), [(0, 1)]);
        shard.join().unwrap();
    });
}
