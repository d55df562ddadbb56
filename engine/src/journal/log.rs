//! The log itself: opens and mends it, appends groups, goes on in the next segment. One thread, no clock: the journal
//! thread drives it, and so can a simulator.
use std::{sync::Arc, thread::JoinHandle};

use keyshard_shard::{Lsn, Record};

use super::{
    Cut, Disk, DiskFile, Entry, JournalError, Options, Replay, Sync,
    format::{
        BadHeader, END_OF_SEGMENT, FRAME_HEADER_BYTES, Header, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN,
        SEGMENT_HEADER_BYTES, Seal, segment_name, segment_number,
    },
    reader::{self, Frames, Rest},
};

/// A segment gets its name only when it is whole; until then it has this after it.
const UNFINISHED: &str = ".new";

/// A journal's segments, and the group that is being gathered.
pub struct Log {
    disk: Arc<dyn Disk>,
    sync: Sync,
    /// Size of the segments to come.
    segment_bytes: usize,
    header: Header,
    seal: Seal,
    file: Box<dyn DiskFile>,
    /// Where the group begins: everything before it is written and synced.
    position: usize,
    group: Vec<u8>,
    next: Next,
    failed: bool,
}

/// The segment after the present one.
enum Next {
    None,
    Making(JoinHandle<Result<Header, JournalError>>),
    Ready(Header),
}

impl Log {
    /// Reads and mends a journal. It must not be open elsewhere.
    pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Replay), JournalError> {
        let mut entries = Vec::new();
        let (log, cut) = Self::open_into(disk, options, |entry| entries.push(entry))?;
        Ok((log, Replay { entries, cut }))
    }

    /// The same, but gives each record to `take` as it is read: of millions, nothing more than that takes memory.
    pub fn open_into(
        disk: Arc<dyn Disk>,
        options: Options,
        mut take: impl FnMut(Entry),
    ) -> Result<(Self, Option<Cut>), JournalError> {
        let Options { segment_bytes, sync, name } = options;
        if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes) {
            return Err(JournalError::SegmentBytes(segment_bytes));
        }
        let segments = segments(&*disk)?;
        let found = Found::read(&*disk, &segments, &mut take)?;
        let mut cut = None;
        // From here on, files are changed. The names first: the last life may have died before it had synced them.
        disk.sync_directory().map_err(|error| JournalError::disk(&*disk, "sync the directory", "", error))?;
        found.last.as_ref().map_or(Ok(()), |last| last.write(&*disk))?;
        let journal = found.journal.unwrap_or(name);
        let (header, position) = if let Some(tail) = &found.tail {
            cut = tail.clear(&*disk)?;
            (tail.header, tail.end)
        } else {
            let number = segments.last().map_or(1, |last| last + 1);
            let header = Header { number, bytes: segment_bytes as u64, journal };
            (create(&*disk, header)?, SEGMENT_HEADER_BYTES)
        };
        if let Some(Cut { file, offset, bytes }) = &cut {
            tracing::warn!(
                "the journal ends half-written, as a crash leaves it: cut {bytes} bytes of {file} from byte {offset}"
            );
        }
        if sync == Sync::Off {
            tracing::warn!(
                "JOURNAL_SYNC=off: a power failure may lose payments or make them twice. For measuring only"
            );
        }
        let file = open(&*disk, header.number)?;
        let next = found.ready.map_or(Next::None, Next::Ready);
        let (seal, group) = (Seal::new(&header), Vec::new());
        let log = Self { disk, sync, segment_bytes, header, seal, file, position, group, next, failed: false };
        Ok((log, cut))
    }

    /// The segment that is being written.
    pub fn segment(&self) -> u64 {
        self.header.number
    }

    /// Adds a record's bytes, which may come in two parts, to the group. When the segment is full, what has gathered is
    /// committed and the next segment begun.
    pub fn push(&mut self, shard: u16, lsn: Lsn, record: (&[u8], &[u8])) -> Result<(), JournalError> {
        assert!(shard != END_OF_SEGMENT, "shard {shard} is no shard");
        if self.failed {
            return Err(JournalError::Ended);
        }
        let bytes = FRAME_HEADER_BYTES + record.0.len() + record.1.len();
        if !self.fits(bytes) {
            self.rotate()?;
            if !self.fits(bytes) {
                self.failed = true;
                let segment_bytes = self.header.bytes as usize;
                return Err(JournalError::TooLarge { bytes: bytes - FRAME_HEADER_BYTES, segment_bytes });
            }
        }
        self.seal.write(&mut self.group, self.position, shard, lsn, record);
        Ok(())
    }

    /// Bytes of the group.
    pub fn gathered(&self) -> usize {
        self.group.len()
    }

    /// Writes and syncs the group: one write, one sync. All that was pushed is durable when this returns. After an error
    /// nothing more is taken.
    pub fn commit(&mut self) -> Result<(), JournalError> {
        if self.failed {
            return Err(JournalError::Ended);
        }
        if self.group.is_empty() {
            return Ok(());
        }
        let written = self.file.write_at(self.position as u64, &self.group).map_err(|error| ("write to", error));
        let synced = written.and_then(|()| match self.sync {
            Sync::Always => self.file.sync_data().map_err(|error| ("sync", error)),
            Sync::Off => Ok(()),
        });
        if let Err((action, error)) = synced {
            self.failed = true;
            return Err(JournalError::disk(&*self.disk, action, &segment_name(self.header.number), error));
        }
        self.position += self.group.len();
        self.group.clear();
        Ok(())
    }

    /// Makes the next segment beside the work, unless it is being made or ready.
    pub fn prepare_next(&mut self) {
        if !matches!(self.next, Next::None) {
            return;
        }
        let (disk, header) = (self.disk.clone(), self.next_header());
        let make = move || {
            let made = create(&*disk, header);
            if let Err(error) = &made {
                tracing::warn!(
                    "the next segment of the journal could not be made ready, trying again when it is needed: {error}"
                );
            }
            made
        };
        // Without a thread it is made when it is needed.
        if let Ok(thread) = std::thread::Builder::new().name("journal-prefill".into()).spawn(make) {
            self.next = Next::Making(thread);
        }
    }

    /// Whether a frame of this size leaves room for the one that closes the segment.
    fn fits(&self, bytes: usize) -> bool {
        let end = self.position + self.group.len();
        end + bytes + FRAME_HEADER_BYTES <= self.header.bytes as usize
    }

    fn next_header(&self) -> Header {
        Header { number: self.header.number + 1, bytes: self.segment_bytes as u64, ..self.header }
    }

    /// Closes the segment and goes on in the next.
    fn rotate(&mut self) -> Result<(), JournalError> {
        self.seal.write(&mut self.group, self.position, END_OF_SEGMENT, 0, (&[], &[]));
        self.commit()?;
        // Until all of this has worked, nothing more may be taken.
        self.failed = true;
        let ready = match std::mem::replace(&mut self.next, Next::None) {
            Next::Ready(header) => Some(header),
            Next::Making(thread) => thread.join().ok().and_then(Result::ok),
            Next::None => None,
        };
        let header = match ready {
            Some(header) => header,
            None => create(&*self.disk, self.next_header())?,
        };
        self.file = open(&*self.disk, header.number)?;
        (self.header, self.seal, self.position) = (header, Seal::new(&header), SEGMENT_HEADER_BYTES);
        self.failed = false;
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Next::Making(thread) = std::mem::replace(&mut self.next, Next::None) {
            // Whoever opens the journal next must not find it at work.
            let _ = thread.join();
        }
    }
}

/// What the segments hold, and what has to be done to them. Nothing is changed in finding out.
#[derive(Default)]
struct Found {
    journal: Option<[u8; 16]>,
    /// The last group of all.
    last: Option<Group>,
    /// The segment to go on with: the first that is not closed. None if there is no segment, or if all are closed.
    tail: Option<Tail>,
    /// The segment after the tail, if it is there and empty.
    ready: Option<Header>,
}

struct Group {
    segment: u64,
    offset: usize,
    bytes: Vec<u8>,
}

struct Tail {
    header: Header,
    /// Where to go on.
    end: usize,
    /// The last byte that is not zero lies before this.
    until: usize,
}

impl Found {
    fn read(disk: &dyn Disk, segments: &[u64], take: &mut impl FnMut(Entry)) -> Result<Self, JournalError> {
        let mut found = Self::default();
        for (index, &number) in segments.iter().enumerate() {
            let name = segment_name(number);
            if index > 0 && segments[index - 1] + 1 != number {
                return Err(JournalError::Missing { file: disk.path(&segment_name(segments[index - 1] + 1)) });
            }
            let bytes = disk.read(&name).map_err(|error| JournalError::disk(disk, "read", &name, error))?;
            let header = decode_header(disk, &name, &bytes)?;
            let foreign = *found.journal.get_or_insert(header.journal) != header.journal;
            if let Some(why) = match () {
                () if foreign => Some("it belongs to another journal than the one before it".to_owned()),
                () if header.number != number => Some(format!("it is segment {}", header.number)),
                () if header.bytes != bytes.len() as u64 => {
                    Some(format!("it has {} bytes instead of {}", bytes.len(), header.bytes))
                }
                () if bytes.len() > SEGMENT_BYTES_MAX => Some(format!("its {} bytes are too many", bytes.len())),
                () => None,
            } {
                return Err(JournalError::Segment { file: disk.path(&name), why });
            }
            let seal = Seal::new(&header);
            match &found.tail {
                None => found.read_segment(disk, &header, seal, &bytes, take)?,
                Some(tail) => match reader::unbegun(seal, &bytes) {
                    Rest::Good(offset) => {
                        let (header, end) = (tail.header, tail.end);
                        return Err(damaged(disk, header.number, end, number, offset));
                    }
                    Rest::Clean if number == tail.header.number + 1 => found.ready = Some(header),
                    // Of no use; made anew when it is needed.
                    Rest::Clean | Rest::Torn(_) => {}
                },
            }
        }
        Ok(found)
    }

    fn read_segment(
        &mut self,
        disk: &dyn Disk,
        header: &Header,
        seal: Seal,
        bytes: &[u8],
        take: &mut impl FnMut(Entry),
    ) -> Result<(), JournalError> {
        let mut frames = Frames::new(seal, bytes);
        for (offset, frame) in &mut frames {
            let record = Record::decode(frame.record).map_err(|source| {
                let file = disk.path(&segment_name(header.number));
                JournalError::Record { file, offset: offset as u64, source }
            })?;
            take(Entry { shard: frame.shard, lsn: frame.lsn, segment: header.number, record });
        }
        let (end, group) = (frames.end, frames.group);
        if end > SEGMENT_HEADER_BYTES {
            self.last = Some(Group { segment: header.number, offset: group, bytes: bytes[group..end].to_vec() });
        }
        if frames.closed {
            return Ok(());
        }
        let until = match reader::rest(seal, bytes, end) {
            Rest::Good(offset) => return Err(damaged(disk, header.number, end, header.number, offset)),
            Rest::Torn(until) => until,
            Rest::Clean => end,
        };
        self.tail = Some(Tail { header: *header, end, until });
        Ok(())
    }
}

impl Group {
    /// Puts it onto the disk once more: it may be in the page cache only, which after a failed sync does not know it.
    fn write(&self, disk: &dyn Disk) -> Result<(), JournalError> {
        overwrite(disk, self.segment, self.offset, &self.bytes)
    }
}

impl Tail {
    /// Clears what is torn.
    fn clear(&self, disk: &dyn Disk) -> Result<Option<Cut>, JournalError> {
        let bytes = self.until - self.end;
        if bytes == 0 {
            return Ok(None);
        }
        overwrite(disk, self.header.number, self.end, &vec![0; bytes])?;
        let file = disk.path(&segment_name(self.header.number));
        Ok(Some(Cut { file, offset: self.end as u64, bytes: bytes as u64 }))
    }
}

fn overwrite(disk: &dyn Disk, segment: u64, offset: usize, bytes: &[u8]) -> Result<(), JournalError> {
    let mut file = open(disk, segment)?;
    let failed = |action| move |error| JournalError::disk(disk, action, &segment_name(segment), error);
    file.write_at(offset as u64, bytes).map_err(failed("write to"))?;
    file.sync_data().map_err(failed("sync"))
}

/// Numbers of the segments, in order.
pub(super) fn segments(disk: &dyn Disk) -> Result<Vec<u64>, JournalError> {
    let names = disk.list().map_err(|error| JournalError::disk(disk, "list", "", error))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Makes an empty segment. It and its name are on the disk when this returns.
fn create(disk: &dyn Disk, header: Header) -> Result<Header, JournalError> {
    let name = segment_name(header.number);
    let unfinished = format!("{name}{UNFINISHED}");
    let made = disk
        .create_prefilled(&unfinished, &header.encode(), header.bytes as usize)
        .and_then(|()| disk.rename(&unfinished, &name))
        .and_then(|()| disk.sync_directory());
    made.map(|()| header).map_err(|error| {
        // On a full disk it would take the room that is needed to mend things.
        let _ = disk.remove(&unfinished);
        JournalError::disk(disk, "create", &name, error)
    })
}

fn open(disk: &dyn Disk, number: u64) -> Result<Box<dyn DiskFile>, JournalError> {
    let name = segment_name(number);
    disk.open(&name).map_err(|error| JournalError::disk(disk, "open", &name, error))
}

fn decode_header(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<Header, JournalError> {
    Header::decode(bytes).map_err(|bad| match bad {
        BadHeader::Format(found) => JournalError::Format { file: disk.path(name), found },
        BadHeader::Other(why) => JournalError::Segment { file: disk.path(name), why: why.into() },
    })
}

fn damaged(disk: &dyn Disk, number: u64, offset: usize, good: u64, good_offset: usize) -> JournalError {
    JournalError::Damaged {
        file: disk.path(&segment_name(number)),
        offset: offset as u64,
        good_file: disk.path(&segment_name(good)),
        good_offset: good_offset as u64,
    }
}
