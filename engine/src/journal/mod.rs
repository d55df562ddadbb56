//! The journal: one append-only log a data directory, in which every record is on the disk before anything relies on it
//! (P1, P2).
//!
//! ```text
//! shard ── Appender: byte ring ──▶ journal thread: one write and one fdatasync for all that has gathered
//!   ▲                                   │
//!   └── Bell, Appender::durable ◀───────┘
//! ```
//!
//! # On the disk
//!
//! A directory with a `LOCK` file, held by the process that owns it, and segments `00000001.log`, `00000002.log`, ...
//! of a fixed size. A segment is written full of zeros, synced and only then given its name, so that a later
//! `fdatasync` has no metadata to write; the next one is made ready while the present one fills. Numbers are little-endian.
//!
//! ```text
//! segment := header (4096 bytes) frame* zeros
//! header  := magic "KSJRNL\r\n" | format u32 | number u64 | bytes u64 | journal [u8; 16] | crc u32 | zeros
//! frame   := bytes u32 | crc u32 | group u32 | shard u16 | lsn u64 | record
//! ```
//!
//! - `bytes` of a frame counts all of it, so it is never 0: zero ends what is written.
//! - `crc` is CRC-32 over the frame's offset and the rest of the frame, started from one over the journal's random name and
//!   the segment's number: a frame passes only where it was written, and nobody can write one into a memo.
//! - `group` is the offset of the first frame that was written and synced together with this one.
//! - A frame of shard 65535 without a record closes a segment: a later one goes on.
//! - `record` is [`Record::encode`](keyshard_shard::Record::encode)'s, which has its own version.
//!
//! # What is read back
//!
//! A group is written only after the one before it is synced. So after a crash the only bytes that may be missing or
//! wrong are those of the last group, and nobody was told that it is durable. Where no good frame follows, or only frames
//! that say they belong to a group that began before the damage, the tail is cut: overwritten with zeros and synced
//! before anything new is written. A good frame of a later group, or in a later segment, proves that what is damaged was
//! durable once: the journal does not open and is not touched, since to go on could pay twice. Damage to the very last
//! group after it was synced cannot be told from a torn write, and is cut with a warning.
//!
//! The last group is written and synced again at every start: after a kill it may be in the page cache only.
//!
//! The disk is trusted to damage nothing beside the bytes it writes (like `SQLite` with `POWERSAFE_OVERWRITE`), and to keep
//! what `fdatasync` said is kept.
//!
//! # When the disk fails
//!
//! A failed write or sync ends the journal: nothing later is reported durable, and nothing is tried again, since after a
//! failed `fsync` the kernel may forget what it could not write. The process is expected to end; see [`OnFailure`].
mod appender;
mod disk;
mod error;
mod format;
mod log;
mod reader;
mod writer;

#[cfg(test)]
#[cfg_attr(feature = "loom", expect(dead_code, reason = "the models need little of it"))]
mod tests;

use std::{path::Path, sync::Arc};

use crossbeam::utils::CachePadded;
use keyshard_shard::{
    Histogram, Lsn, Record,
    histogram::{COUNT_BOUNDS, TIME_BOUNDS},
};
use uuid::Uuid;

pub use appender::{Appender, Full};
pub use disk::{Disk, DiskFile, RealDisk};
pub use error::JournalError;
pub use log::Log;
pub use writer::{OnFailure, abort};

use crate::{
    ring::Bell,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    tally::Tally,
};

/// When data is forced onto the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Before it is reported durable.
    Always,
    /// Never: a power failure may lose and double payments. For measuring only.
    Off,
}

/// How a journal is kept.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Size of a new segment in bytes, 8 KiB to 1 GiB.
    pub segment_bytes: usize,
    /// See [`Sync`].
    pub sync: Sync,
    /// Name of the journal, should it have to be created.
    pub name: [u8; 16],
}

impl Default for Options {
    /// 64 MiB, always synced, a random name.
    fn default() -> Self {
        Self { segment_bytes: 64 * 1024 * 1024, sync: Sync::Always, name: *Uuid::new_v4().as_bytes() }
    }
}

/// What a journal holds when it is opened. All of it is on the disk.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// In the order of the file, which for one shard is the order of its appends.
    pub entries: Vec<Entry>,
    /// A torn tail that was cut.
    pub cut: Option<Cut>,
}

/// One record of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The shard that appended it.
    pub shard: u16,
    /// Its number there.
    pub lsn: Lsn,
    /// The segment that holds it.
    pub segment: u64,
    /// What was appended.
    pub record: Record,
}

/// A tail that a crash left half-written. No one was told that it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment's file.
    pub file: String,
    /// Where the first bad frame began.
    pub offset: u64,
    /// How many bytes were cleared.
    pub bytes: u64,
}

/// Numbers of a journal since it was opened, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Groups synced: `records / groups` records share one sync.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// The segment that is being written.
    pub segment: u64,
    /// Records in a group.
    pub group_records: Histogram,
    /// Time that it took to write and sync a group, in microseconds. One that fills a segment is synced apart, and is not here.
    pub sync_time: Histogram,
}

/// An open journal: nobody else has it as long as this lives.
pub struct Journal {
    disk: Arc<dyn Disk>,
    shared: Arc<Shared>,
    /// Until it is started.
    log: Option<Log>,
    running: Option<writer::Running>,
}

/// What the journal thread tells.
struct Shared {
    stop: AtomicBool,
    groups: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    segment: CachePadded<AtomicU64>,
    group_records: Tally,
    sync_time: Tally,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            stop: AtomicBool::default(),
            groups: AtomicU64::default(),
            records: AtomicU64::default(),
            bytes: AtomicU64::default(),
            segment: CachePadded::default(),
            group_records: Tally::new(COUNT_BOUNDS),
            sync_time: Tally::new(TIME_BOUNDS),
        }
    }
}

impl Journal {
    /// Locks the directory (made if it is not there), reads all of it, and mends the tail. Blocks; a journal that cannot be
    /// trusted is not touched.
    pub fn open(directory: &Path, options: Options) -> Result<(Self, Replay), JournalError> {
        Self::open_on(Arc::new(RealDisk::lock(directory)?), options)
    }

    /// The same, but gives each record to `take` as it is read: millions of them need not be in memory at once.
    pub fn open_into(
        directory: &Path,
        options: Options,
        take: impl FnMut(Entry),
    ) -> Result<(Self, Option<Cut>), JournalError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::lock(directory)?);
        let (log, cut) = Log::open_into(disk.clone(), options, take)?;
        Ok((Self::of(disk, log), cut))
    }

    /// The same as [`Self::open`] on any disk.
    pub fn open_on(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Replay), JournalError> {
        let (log, replay) = Log::open(disk.clone(), options)?;
        Ok((Self::of(disk, log), replay))
    }

    fn of(disk: Arc<dyn Disk>, log: Log) -> Self {
        let shared = Arc::new(Shared::default());
        shared.segment.store(log.segment(), Ordering::Release);
        Self { disk, shared, log: Some(log), running: None }
    }

    /// Starts the journal thread. `bells` has one entry a shard, rung whenever more of its records have become durable;
    /// returned are the shards' appenders in the same order.
    ///
    /// # Panics
    /// If it was started before, or for more than 65535 shards.
    pub fn start(&mut self, bells: Vec<Bell>, on_failure: OnFailure) -> Result<Vec<Appender>, JournalError> {
        #[expect(clippy::expect_used, reason = "a second start is a mistake in the program")]
        let log = self.log.take().expect("a journal starts once");
        let (running, appenders) = writer::spawn(log, bells, self.shared.clone(), on_failure)?;
        self.running = Some(running);
        Ok(appenders)
    }

    /// The segment that is being written. What is appended from now on goes there or into a later one.
    pub fn segment(&self) -> u64 {
        self.shared.segment.load(Ordering::Acquire)
    }

    /// Deletes all segments before this one, the oldest first, so that no gap arises whenever this stops. What is in them
    /// must be durable elsewhere. Returns how many were deleted. May be called from any thread; blocks.
    ///
    /// # Panics
    /// If `segment` is later than [`Self::segment`].
    pub fn forget_before(&self, segment: u64) -> Result<usize, JournalError> {
        assert!(segment <= self.segment(), "segment {segment} is not written yet");
        let disk = &*self.disk;
        let mut forgotten = 0;
        for number in log::segments(disk)?.into_iter().filter(|number| *number < segment) {
            let name = format::segment_name(number);
            match disk.remove(&name) {
                Ok(()) => {}
                // Another thread was faster.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(JournalError::disk(disk, "delete", &name, error)),
            }
            disk.sync_directory().map_err(|error| JournalError::disk(disk, "sync the directory of", &name, error))?;
            forgotten += 1;
        }
        Ok(forgotten)
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> Stats {
        let shared = &*self.shared;
        Stats {
            groups: shared.groups.load(Ordering::Relaxed),
            records: shared.records.load(Ordering::Relaxed),
            bytes: shared.bytes.load(Ordering::Relaxed),
            segment: self.segment(),
            group_records: shared.group_records.read(),
            sync_time: shared.sync_time.read(),
        }
    }
}

impl Drop for Journal {
    /// Everything appended before is still written.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(writer::Running { thread, unparker }) = self.running.take() {
            unparker.unpark();
            // Its panic, if it had one, was logged where it happened.
            let _ = thread.join();
        }
    }
}
