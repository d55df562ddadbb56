//! The journal thread: takes what has gathered in the rings, makes it durable at once, tells the shards.
use std::{sync::Arc, time::Instant};

use crossbeam::utils::CachePadded;
use keyshard_shard::Lsn;

use super::{
    Appender, JournalError, Log, Shared,
    appender::{self, Intake},
    format::END_OF_SEGMENT,
};
use crate::{
    ring::Bell,
    sync::{
        Parker, Unparker,
        atomic::{AtomicU64, Ordering},
        thread::{self, JoinHandle},
    },
};

/// Bytes after which a group is closed: larger ones cost more time than another sync.
const GROUP_BYTES: usize = 2 * 1024 * 1024;

/// What is done when the journal has failed; nothing is reported durable any more. Called once, on the journal thread.
/// Must not go on as if nothing had happened: see [`abort`].
pub type OnFailure = Box<dyn FnOnce(&JournalError) + Send>;

/// The right thing to do in a service: says what happened, ends the process.
pub fn abort() -> OnFailure {
    Box::new(|error| {
        tracing::error!("{error}. The process ends here");
        std::process::abort();
    })
}

/// The journal's side of one shard.
struct Lane {
    intake: Intake,
    durable: Arc<CachePadded<AtomicU64>>,
    bell: Bell,
    /// The last record taken from the ring.
    taken: Lsn,
}

struct Writer {
    log: Log,
    lanes: Vec<Lane>,
    shared: Arc<Shared>,
    parker: Parker,
    /// Which lane is drained first: they take turns.
    first: usize,
}

/// The journal thread, and how to wake it.
pub(super) struct Running {
    pub(super) thread: JoinHandle<()>,
    pub(super) unparker: Unparker,
}

pub(super) fn spawn(
    log: Log,
    bells: Vec<Bell>,
    shared: Arc<Shared>,
    on_failure: OnFailure,
) -> Result<(Running, Vec<Appender>), JournalError> {
    assert!(bells.len() <= usize::from(END_OF_SEGMENT), "{} shards are too many", bells.len());
    let mut lanes = Vec::with_capacity(bells.len());
    let mut ends = Vec::with_capacity(bells.len());
    for bell in bells {
        let (ring, intake) = appender::ring();
        let durable: Arc<CachePadded<AtomicU64>> = Arc::default();
        ends.push((ring, durable.clone()));
        lanes.push(Lane { intake, durable, bell, taken: 0 });
    }
    let parker = Parker::new();
    let unparker = parker.unparker().clone();
    let writer = Writer { log, lanes, shared, parker, first: 0 };
    let body = move || {
        let run = std::panic::AssertUnwindSafe(|| writer.run(on_failure));
        if std::panic::catch_unwind(run).is_err() {
            // Nothing would ever become durable again.
            tracing::error!("the journal thread broke a promise; the process ends here");
            std::process::abort();
        }
    };
    let thread = thread::Builder::new().name("journal".into()).spawn(body).map_err(|source| JournalError::Disk {
        action: "start",
        file: "its thread".into(),
        source,
    })?;
    let appender = |(ring, durable)| Appender::new(ring, durable, unparker.clone());
    let appenders = ends.into_iter().map(appender).collect();
    Ok((Running { thread, unparker }, appenders))
}

impl Writer {
    fn run(mut self, on_failure: OnFailure) {
        loop {
            self.log.prepare_next();
            // Read first: what was appended before it was set is still written.
            let stop = self.shared.stop.load(Ordering::Acquire);
            match self.round() {
                Ok(true) => {}
                Ok(false) if stop => return,
                // An append since the round has left a token: then this returns at once.
                Ok(false) => self.parker.park(),
                Err(error) => return on_failure(&error),
            }
        }
    }

    /// One group. Returns whether there was anything.
    fn round(&mut self) -> Result<bool, JournalError> {
        let count = self.lanes.len();
        let share = GROUP_BYTES / count.max(1);
        let mut records = 0;
        let mut bytes = 0;
        for i in 0..count {
            let index = (self.first + i) % count;
            let lane = &mut self.lanes[index];
            let mut taken = 0;
            lane.intake.drain(|lsn, record| {
                self.log.push(index as u16, lsn, record)?;
                lane.taken = lsn;
                records += 1;
                taken += record.0.len() + record.1.len();
                Ok::<bool, JournalError>(taken < share)
            })?;
            bytes += taken;
        }
        self.first = (self.first + 1) % count.max(1);
        if records == 0 {
            return Ok(false);
        }
        let began = Instant::now();
        self.log.commit()?;
        self.shared.sync_time.record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        self.shared.group_records.record(records);
        self.shared.segment.store(self.log.segment(), Ordering::Release);
        self.shared.groups.fetch_add(1, Ordering::Relaxed);
        self.shared.records.fetch_add(records, Ordering::Relaxed);
        self.shared.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        for lane in &self.lanes {
            if lane.taken > lane.durable.load(Ordering::Relaxed) {
                lane.durable.store(lane.taken, Ordering::Release);
                lane.bell.ring();
            }
        }
        Ok(true)
    }
}
