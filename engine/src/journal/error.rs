//! What can be wrong with a journal, said so that a person knows what to do.
use std::io;

use keyshard_shard::RecordError;

use super::{Disk, format::FORMAT};

/// Why a journal does not open, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it.
    #[error("the journal {directory} is in use by another process{holder}: stop that one, or choose another DATA_DIR")]
    Locked {
        /// The directory.
        directory: String,
        /// ` (pid 1234)`, if it is known.
        holder: String,
    },
    /// The disk failed.
    #[error("the journal cannot {action} {file}: {source}. {}", advice(.source))]
    Disk {
        /// What was tried, e.g. `write to`.
        action: &'static str,
        /// With which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A frame is damaged, and a later one is not.
    #[error(
        "the journal is damaged in {file} at byte {offset}, before the good record in {good_file} at byte {good_offset}. \
         Nothing was changed. What is missing may have been paid: restore the file, or reconcile with the chain before \
         starting on an empty DATA_DIR"
    )]
    Damaged {
        /// The damaged segment's file.
        file: String,
        /// Where no good frame begins.
        offset: u64,
        /// Where a good one follows.
        good_file: String,
        /// At which byte.
        good_offset: u64,
    },
    /// The start of a segment is no header, or its file has been cut or grown.
    #[error("{file} is no whole segment of a journal: {why}. Nothing was changed")]
    Segment {
        /// The file.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// A later version wrote it.
    #[error("{file} has journal format {found}, this version reads format {FORMAT}: use the version that wrote it")]
    Format {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
    },
    /// A segment between others is gone.
    #[error("the journal lacks {file}, though there are segments before and after it. Nothing was changed")]
    Missing {
        /// The file.
        file: String,
    },
    /// A frame is as it was written, but its record cannot be read.
    #[error("the record in {file} at byte {offset} cannot be read: {source}. Nothing was changed")]
    Record {
        /// The segment's file.
        file: String,
        /// Where its frame begins.
        offset: u64,
        /// Why not.
        source: RecordError,
    },
    /// A record does not fit into a segment.
    #[error("a record of {bytes} bytes does not fit into a segment of {segment_bytes}")]
    TooLarge {
        /// The record's size.
        bytes: usize,
        /// The segment's.
        segment_bytes: usize,
    },
    /// [`super::Options::segment_bytes`] is out of its bounds.
    #[error("a journal segment may have {min} to {max} bytes, not {0}", min = super::format::SEGMENT_BYTES_MIN, max = super::format::SEGMENT_BYTES_MAX)]
    SegmentBytes(usize),
    /// It has failed before.
    #[error("the journal has failed before and takes nothing more")]
    Ended,
}

impl JournalError {
    pub(super) fn disk(disk: &dyn Disk, action: &'static str, name: &str, source: io::Error) -> Self {
        Self::Disk { action, file: disk.path(name), source }
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "Everything acknowledged is safe: make room on the disk and start again"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "DATA_DIR must be a directory that this process may write to"
        }
        _ => "Nothing that this write held was acknowledged: see to the disk, then start again on the same DATA_DIR",
    }
}
