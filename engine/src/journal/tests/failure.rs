//! A disk that fails: it is said once and clearly, and nothing is called durable that is not.
use std::sync::mpsc;

use super::*;
use crate::journal::{Full, Journal, OnFailure};
use fake_disk::{EIO, ENOSPC, Faults};

/// Sends the message of the failure, instead of ending the process.
fn report() -> (OnFailure, mpsc::Receiver<String>) {
    let (sender, receiver) = mpsc::channel();
    (Box::new(move |error| sender.send(error.to_string()).unwrap()), receiver)
}

fn started(disk: &FakeDisk) -> (Journal, Appender, Bell, mpsc::Receiver<String>) {
    let (mut journal, _) = Journal::open_on(Arc::new(disk.clone()), SMALL).unwrap();
    let (on_failure, failures) = report();
    let bell = Bell::default();
    let appender = journal.start(vec![bell.clone()], on_failure).unwrap().pop().unwrap();
    (journal, appender, bell, failures)
}

fn failure(failures: &mpsc::Receiver<String>) -> String {
    failures.recv_timeout(Duration::from_secs(20)).expect("the failure is told")
}

#[test]
fn nothing_is_durable_after_a_failed_write_or_sync() {
    for (faults, told) in [
        (Faults { sync: Some(EIO), ..Faults::default() }, "cannot sync fake/00000001.log: Input/output error"),
        (Faults { write: Some(EIO), ..Faults::default() }, "cannot write to fake/00000001.log: Input/output error"),
        (Faults { write: Some(ENOSPC), ..Faults::default() }, "make room on the disk and start again"),
    ] {
        let disk = FakeDisk::default();
        let (journal, mut appender, bell, failures) = started(&disk);
        appender.append(1, &record(0, 1, 10)).unwrap();
        appender.flush();
        wait_durable(&appender, &bell, 1);
        let syncs = disk.syncs();

        disk.faults(faults);
        appender.append(2, &record(0, 2, 10)).unwrap();
        appender.flush();
        let message = failure(&failures);
        assert!(message.contains(told), "{message}");
        // The disk would work again, but nobody may rely on it.
        appender.append(3, &record(0, 3, 10)).unwrap();
        appender.flush();
        drop(journal);
        assert_eq!(appender.durable(), 1);
        assert!(disk.syncs() <= syncs + 1, "a sync is never tried again");
        let (_, replay) = open(&disk.after_power_failure(|_| false)).unwrap();
        assert_eq!(names(&replay.entries), [(0, 1)]);
    }
}

#[test]
fn a_log_that_has_failed_takes_nothing_more() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk).unwrap();
    disk.faults(Faults { sync: Some(EIO), ..Faults::default() });
    assert!(matches!(commit(&mut log, &[(0, 1, 10)]), Err(JournalError::Disk { action: "sync", .. })));
    assert!(matches!(log.commit(), Err(JournalError::Ended)));
    assert!(matches!(commit(&mut log, &[(0, 2, 10)]), Err(JournalError::Ended)));
}

#[test]
fn a_full_disk_is_survived_if_there_is_room_when_the_next_segment_is_needed() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk).unwrap();
    disk.faults(Faults { create: Some(ENOSPC), ..Faults::default() });
    log.prepare_next();
    for lsn in 1..=4 {
        commit(&mut log, &[(0, lsn, 2000)]).unwrap();
    }
    assert!(log.segment() > 1);
    drop(log);
    assert_eq!(open(&disk.after_power_failure(|_| false)).unwrap().1.entries.len(), 4);
}

#[test]
fn a_disk_still_full_when_the_next_segment_is_needed_ends_it_and_keeps_what_is_durable() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk).unwrap();
    commit(&mut log, &[(0, 1, 3000)]).unwrap();
    disk.faults(Faults { create: Some(ENOSPC), ..Faults::default() });
    let error = commit(&mut log, &[(0, 2, 3000)]).unwrap_err().to_string();
    assert!(error.contains("cannot create fake/00000002.log") && error.contains("make room"), "{error}");
    assert!(matches!(log.commit(), Err(JournalError::Ended)));
    drop(log);
    assert_eq!(disk.contents().len(), 1, "the half-made segment does not take what room there is");
    let disk = disk.after_power_failure(|_| false);
    let (mut log, replay) = open(&disk).unwrap();
    assert_eq!((names(&replay.entries), log.segment()), (vec![(0, 1)], 2));
    commit(&mut log, &[(0, 2, 3000)]).unwrap();
}

#[test]
fn a_disk_that_fails_while_the_journal_opens() {
    let fresh = FakeDisk::default();
    fresh.faults(Faults { create: Some(ENOSPC), ..Faults::default() });
    assert!(matches!(open(&fresh).err(), Some(JournalError::Disk { action: "create", .. })));
    assert!(open(&fresh).is_ok());

    // The name of the first segment is in the cache, and may not be on the disk.
    let disk = FakeDisk::default();
    disk.faults(Faults { sync_directory: Some(EIO), ..Faults::default() });
    assert!(open(&disk).is_err());
    let (mut log, _) = open(&disk).unwrap();
    commit(&mut log, &[(0, 1, 10)]).unwrap();
    drop(log);
    assert_eq!(open(&disk.after_power_failure(|_| false)).unwrap().1.entries.len(), 1);

    for faults in [Faults { write: Some(EIO), ..Faults::default() }, Faults { sync: Some(EIO), ..Faults::default() }] {
        disk.faults(faults);
        assert!(matches!(open(&disk).err(), Some(JournalError::Disk { .. })));
        assert_eq!(names(&open(&disk).unwrap().1.entries), [(0, 1)]);
    }
}

#[test]
fn a_full_ring_takes_nothing_and_rings_when_there_is_room() {
    let disk = FakeDisk::default();
    let options = Options { segment_bytes: 32 * 1024 * 1024, ..SMALL };
    let (mut journal, _) = Journal::open_on(Arc::new(disk.clone()), options).unwrap();
    let (on_failure, _failures) = report();
    let bell = Bell::default();
    let mut appender = journal.start(vec![bell.clone()], on_failure).unwrap().pop().unwrap();
    disk.hold_syncs();
    let mut lsn = 0;
    while appender.append(lsn + 1, &record(0, lsn + 1, 1_000_000)).is_ok() {
        lsn += 1;
        assert!(lsn < 20, "the ring is bounded");
    }
    assert_eq!(appender.append(lsn + 1, &record(0, lsn + 1, 1_000_000)), Err(Full));
    disk.release_syncs();
    // The same record again, until there is room.
    for _ in 0..10 {
        while appender.append(lsn + 1, &record(0, lsn + 1, 1_000_000)).is_err() {
            wait(&bell);
        }
        lsn += 1;
    }
    appender.flush();
    wait_durable(&appender, &bell, lsn);
    drop(journal);
    let (_, replay) = Log::open(Arc::new(disk.after_power_failure(|_| false)), options).unwrap();
    assert!(names(&replay.entries).into_iter().eq((1..=lsn).map(|lsn| (0, lsn))));
}
