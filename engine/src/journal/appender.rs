//! A shard's way into the journal: a ring of bytes, which only the shard fills and only the journal thread empties.
use std::sync::Arc;

use crossbeam::utils::CachePadded;
use keyshard_shard::{Lsn, Record, limits::RECORD_BYTES_MAX};

use crate::sync::{
    Consumer, Producer, RingBuffer, Unparker,
    atomic::{AtomicU64, Ordering},
};

/// Bytes of a ring: what a shard may be ahead of the disk. It takes the largest record, or tens of thousands of usual ones.
pub(super) const RING_BYTES: usize = 8 * 1024 * 1024;

/// In the ring, a record is `bytes u32 | lsn u64 | record`.
const PREFIX_BYTES: usize = 4 + 8;

/// The ring has no room for this record: the disk is behind. The record was NOT taken. The shard's bell rings when there
/// is room again; append the same record then, before any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal is behind, its ring is full")]
pub struct Full;

/// Appends the records of one shard.
pub struct Appender {
    ring: Producer<u8>,
    durable: Arc<CachePadded<AtomicU64>>,
    writer: Unparker,
    /// The last record appended.
    last: Lsn,
    /// Something was appended since the journal thread was woken.
    unannounced: bool,
    scratch: Vec<u8>,
}

impl Appender {
    pub(super) fn new(ring: Producer<u8>, durable: Arc<CachePadded<AtomicU64>>, writer: Unparker) -> Self {
        Self { ring, durable, writer, last: 0, unannounced: false, scratch: Vec::with_capacity(1024) }
    }

    /// Hands a record to the journal thread, without waiting and without a lock. Call [`Self::flush`] after the last of a
    /// batch: nothing is written before.
    ///
    /// # Panics
    /// If `lsn` is not above that of the record before, or the record is larger than [`RECORD_BYTES_MAX`].
    pub fn append(&mut self, lsn: Lsn, record: &Record) -> Result<(), Full> {
        assert!(lsn > self.last, "record {lsn} is appended after record {}", self.last);
        self.scratch.clear();
        self.scratch.resize(PREFIX_BYTES, 0);
        record.encode(&mut self.scratch);
        let bytes = self.scratch.len() - PREFIX_BYTES;
        assert!(bytes <= RECORD_BYTES_MAX, "a record of {bytes} bytes");
        self.scratch[..4].copy_from_slice(&(bytes as u32).to_le_bytes());
        self.scratch[4..PREFIX_BYTES].copy_from_slice(&lsn.to_le_bytes());
        if self.ring.push_entire_slice(&self.scratch).is_err() {
            self.flush();
            return Err(Full);
        }
        self.last = lsn;
        self.unannounced = true;
        Ok(())
    }

    /// Wakes the journal thread for everything appended since the last call: once a batch, not once a record.
    pub fn flush(&mut self) {
        if std::mem::take(&mut self.unannounced) {
            self.writer.unpark();
        }
    }

    /// Every record up to and including this one is on the disk; 0 for none. Changes before the shard's bell rings.
    pub fn durable(&self) -> Lsn {
        self.durable.load(Ordering::Acquire)
    }
}

/// The journal thread's end of a shard's ring.
pub(super) struct Intake(Consumer<u8>);

/// The ends of a new ring.
pub(super) fn ring() -> (Producer<u8>, Intake) {
    let (producer, consumer) = RingBuffer::new(RING_BYTES);
    (producer, Intake(consumer))
}

impl Intake {
    /// Gives records to `take` until there are none, or until it answers that it has enough.
    pub(super) fn drain<E>(&mut self, mut take: impl FnMut(Lsn, (&[u8], &[u8])) -> Result<bool, E>) -> Result<(), E> {
        let Ok(chunk) = self.0.read_chunk(self.0.slots()) else { return Ok(()) };
        let (first, second) = chunk.as_slices();
        let mut at = 0;
        let mut more = true;
        // Records come whole: the shard shows a record's bytes all at once.
        while more && at < first.len() + second.len() {
            let bytes = u32::from_le_bytes(array(first, second, at)) as usize;
            let lsn = u64::from_le_bytes(array(first, second, at + 4));
            at += PREFIX_BYTES;
            more = take(lsn, part(first, second, at, bytes))?;
            at += bytes;
        }
        chunk.commit(at);
        Ok(())
    }
}

/// `bytes` bytes from `at` on, where `second` goes on after `first`.
fn part<'a>(first: &'a [u8], second: &'a [u8], at: usize, bytes: usize) -> (&'a [u8], &'a [u8]) {
    let end = at + bytes;
    if end <= first.len() {
        (&first[at..end], &[])
    } else if at >= first.len() {
        (&second[at - first.len()..end - first.len()], &[])
    } else {
        (&first[at..], &second[..end - first.len()])
    }
}

fn array<const N: usize>(first: &[u8], second: &[u8], at: usize) -> [u8; N] {
    let (head, tail) = part(first, second, at, N);
    let mut array = [0; N];
    array[..head.len()].copy_from_slice(head);
    array[head.len()..].copy_from_slice(tail);
    array
}

const _: () = assert!(RECORD_BYTES_MAX + PREFIX_BYTES <= RING_BYTES);
