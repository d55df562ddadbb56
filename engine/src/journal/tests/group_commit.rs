//! All that gathers while the disk is busy shares the next write and sync.
use super::*;
use crate::journal::{Journal, abort};

#[test]
fn what_gathers_during_a_sync_is_one_group() {
    let disk = FakeDisk::default();
    let options = Options { segment_bytes: 1024 * 1024, ..SMALL };
    let (mut journal, _) = Journal::open_on(Arc::new(disk.clone()), options).unwrap();
    let bells = vec![Bell::default(), Bell::default()];
    let mut appenders = journal.start(bells.clone(), abort()).unwrap();
    disk.wait_for_file("00000002.log");
    let (writes, syncs) = (disk.writes(), disk.syncs());

    disk.hold_syncs();
    appenders[0].append(1, &record(0, 1, 10)).unwrap();
    appenders[0].flush();
    disk.wait_for_syncs(syncs + 1);
    for lsn in 2..=500 {
        appenders[0].append(lsn, &record(0, lsn, 10)).unwrap();
        appenders[1].append(lsn - 1, &record(1, lsn - 1, 10)).unwrap();
        appenders[1].flush();
    }
    appenders[0].flush();
    assert_eq!((appenders[0].durable(), appenders[1].durable()), (0, 0), "nothing is durable before its sync ends");
    disk.release_syncs();
    wait_durable(&appenders[0], &bells[0], 500);
    wait_durable(&appenders[1], &bells[1], 499);
    assert_eq!((disk.writes() - writes, disk.syncs() - syncs), (2, 2));
    assert_eq!((journal.stats().groups, journal.stats().records), (2, 999));
}

#[test]
fn the_next_segment_is_made_ready_ahead_of_need() {
    let disk = FakeDisk::default();
    let (mut journal, _) = Journal::open_on(Arc::new(disk.clone()), SMALL).unwrap();
    let bell = Bell::default();
    let mut appender = journal.start(vec![bell.clone()], abort()).unwrap().pop().unwrap();
    for lsn in 1..=20 {
        disk.wait_for_file(&format!("{:08}.log", journal.segment() + 1));
        appender.append(lsn, &record(0, lsn, 3000)).unwrap();
        appender.flush();
        wait_durable(&appender, &bell, lsn);
    }
    assert_eq!(journal.segment(), 20);
}

#[test]
fn without_sync_nothing_waits_for_the_disk() {
    let disk = FakeDisk::default();
    let (mut journal, _) = Journal::open_on(Arc::new(disk.clone()), Options { sync: Sync::Off, ..SMALL }).unwrap();
    let bell = Bell::default();
    let mut appender = journal.start(vec![bell.clone()], abort()).unwrap().pop().unwrap();
    appender.append(1, &record(0, 1, 10)).unwrap();
    appender.flush();
    wait_durable(&appender, &bell, 1);
    assert_eq!(disk.syncs(), 0);
    drop(journal);
    assert_eq!(open(&disk).unwrap().1.entries.len(), 1);
}
