//! What the journal takes for a record, by records a group, and how many a second go through its thread.
//!
//! `cargo bench -p keyshard-engine --bench journal`, on the disk that `TMPDIR` names. A record is the acceptance of a transfer,
//! about 120 bytes with its frame. How long a start takes to read a journal back: the `recovery` benchmark.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]
use std::sync::Arc;

use divan::{Bencher, counter::ItemsCount};
use keyshard_engine::{
    Bell,
    journal::{self, Journal, Log, Options, RealDisk, Sync},
};
use keyshard_shard::{Instant, Lsn, Record, Transfer, TransferId};

/// Through the thread, at a time.
const RECORDS: usize = 100_000;

/// As the command has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

fn record(i: usize) -> Record {
    let transfer = Transfer {
        id: TransferId(i as u128),
        receiver: "user1.test.near".parse().unwrap(),
        amount: 1_000_000 + i as u128,
        memo: Some("payment 12345".into()),
        key: None,
    };
    Record::Accepted { transfer: transfer.into(), at: Instant::from_micros(i as u64), tried: Box::default() }
}

/// Encoded, framed, written, and synced together.
#[divan::bench(args = [1, 10, 100, 1_000], sample_count = 100, sample_size = 1)]
fn group_commit(bencher: Bencher<'_, '_>, records: usize) {
    commit(bencher, records, Sync::Always);
}

/// The same without the sync: what the journal's own work is.
#[divan::bench(args = [1, 10, 100, 1_000], sample_count = 100, sample_size = 10)]
fn group_without_sync(bencher: Bencher<'_, '_>, records: usize) {
    commit(bencher, records, Sync::Off);
}

fn commit(bencher: Bencher<'_, '_>, records: usize, sync: Sync) {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { sync, ..Options::default() };
    let (mut log, _) = Log::open(Arc::new(RealDisk::lock(directory.path()).unwrap()), options).unwrap();
    let group: Vec<Record> = (0..records).map(record).collect();
    let (mut lsn, mut bytes): (Lsn, Vec<u8>) = (0, Vec::new());
    bencher.counter(ItemsCount::new(records)).bench_local(|| {
        for record in &group {
            lsn += 1;
            bytes.clear();
            record.encode(&mut bytes);
            log.push(0, lsn, (&bytes, &[])).unwrap();
        }
        log.commit().unwrap();
    });
}

/// As a shard does it: appended to the ring of the journal's thread, until all of them are durable.
#[divan::bench(args = [true, false], sample_count = 20, sample_size = 1)]
fn through_the_thread_synced(bencher: Bencher<'_, '_>, synced: bool) {
    let directory = tempfile::tempdir().unwrap();
    let sync = if synced { Sync::Always } else { Sync::Off };
    let (mut journal, _) = Journal::open(directory.path(), Options { sync, ..Options::default() }).unwrap();
    let bell = Bell::default();
    let mut appender = journal.start(vec![bell.clone()], journal::abort()).unwrap().pop().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let record = record(7);
    let mut lsn: Lsn = 0;
    bencher.counter(ItemsCount::new(RECORDS)).bench_local(|| {
        for _ in 0..RECORDS {
            lsn += 1;
            while appender.append(lsn, &record).is_err() {
                appender.flush();
                runtime.block_on(bell.rung());
            }
            // As often as a worker does.
            if lsn.is_multiple_of(256) {
                appender.flush();
            }
        }
        appender.flush();
        while appender.durable() < lsn {
            runtime.block_on(bell.rung());
        }
    });
}
