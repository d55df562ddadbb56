//! One behaviour a file, on a disk that tears, fails and waits as told; `real` is on this machine's.
#[cfg(not(feature = "loom"))]
mod damage;
#[cfg(not(feature = "loom"))]
mod failure;
mod fake_disk;
#[cfg(not(feature = "loom"))]
mod group_commit;
#[cfg(not(feature = "loom"))]
mod hostile;
#[cfg(feature = "loom")]
mod models;
#[cfg(not(feature = "loom"))]
mod real;
#[cfg(not(feature = "loom"))]
mod round_trip;
#[cfg(not(feature = "loom"))]
mod torn;

use std::{sync::Arc, time::Duration};

use keyshard_shard::{Lsn, Record};

use super::{
    Appender, Disk, Entry, JournalError, Log, Options, Replay, Sync,
    format::{END_OF_SEGMENT, Header, SEGMENT_HEADER_BYTES, Seal},
};
use crate::ring::Bell;
use fake_disk::FakeDisk;

/// The smallest segments, so that a few dozen records fill one.
const SMALL: Options = Options { segment_bytes: 8192, sync: Sync::Always, name: [7; 16] };

/// A record that names its shard and number, of about `size` bytes; its last byte is not zero.
fn record(shard: u16, lsn: Lsn, size: usize) -> Record {
    Record::Nonce { public_key: format!("{shard:02x}{lsn:06x}{}", "x".repeat(size)).into(), nonce: u64::MAX }
}

fn bytes(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}

fn open(disk: &FakeDisk) -> Result<(Log, Replay), JournalError> {
    Log::open(Arc::new(disk.clone()) as Arc<dyn Disk>, SMALL)
}

/// Appends records of these (shard, lsn, size) and commits them together.
fn commit(log: &mut Log, group: &[(u16, Lsn, usize)]) -> Result<(), JournalError> {
    for &(shard, lsn, size) in group {
        log.push(shard, lsn, (&bytes(&record(shard, lsn, size)), &[]))?;
    }
    log.commit()
}

/// What was read, as (shard, lsn); every record must be the one that was appended under these.
fn names(entries: &[Entry]) -> Vec<(u16, Lsn)> {
    for entry in entries {
        let Record::Nonce { public_key, .. } = &entry.record else { panic!("{entry:?} was never appended") };
        assert_eq!(entry.record, record(entry.shard, entry.lsn, public_key.len() - 8));
    }
    entries.iter().map(|entry| (entry.shard, entry.lsn)).collect()
}

/// Waits until the shard's records are durable up to `lsn`.
fn wait_durable(appender: &Appender, bell: &Bell, lsn: Lsn) {
    while appender.durable() < lsn {
        wait(bell);
    }
}

fn wait(bell: &Bell) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let rung = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), bell.rung()).await });
    rung.expect("the bell rings");
}
