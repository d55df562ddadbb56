//! What may be wrong with a history.
use std::{io, path::Path};

use redb::{CommitError, DatabaseError, StorageError, TableError, TransactionError};

/// Why a history cannot be used. Each text says what is wrong and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The disk failed.
    #[error("cannot {action} the history in {directory}: {source}. {advice}", advice = advice(source))]
    Disk {
        /// What was being done.
        action: &'static str,
        /// The directory.
        directory: String,
        /// The system's error.
        source: io::Error,
    },
    /// It is not as it was written, or something else wrote it.
    #[error(
        "the history in {directory} is damaged or is none: {why}. Restore the directory; without it, transfers that were \
         paid may be taken for new ones when their idempotency keys come again"
    )]
    Damaged {
        /// The directory.
        directory: String,
        /// What was found.
        why: String,
    },
    /// Another version of Keyshard wrote it.
    #[error("the history in {directory} is of format {found:?}, this version reads {FORMAT:?}")]
    Format {
        /// The directory.
        directory: String,
        /// Its format.
        found: String,
    },
    /// It is of another chain.
    #[error(
        "the history in {directory} is of another chain: its genesis is {found}, the node's is {node}. Move {directory} away \
         or choose another DATA_DIR if the chain was wiped; otherwise check NODE_URL"
    )]
    OtherChain {
        /// The directory.
        directory: String,
        /// Genesis that the history knows.
        found: String,
        /// Genesis of the node's chain.
        node: String,
    },
    /// Another process has it open.
    #[error("the history in {directory} is in use by another process")]
    InUse {
        /// The directory.
        directory: String,
    },
    /// A transfer settled twice, in two ways.
    #[error("transfer {id} has settled before and differently: it was {before}, now it is {now}")]
    SettledTwice {
        /// The transfer.
        id: uuid::Uuid,
        /// What the history knows.
        before: String,
        /// What it was to take.
        now: String,
    },
}

/// Name of the format, in the store itself.
pub(super) const FORMAT: &str = "keyshard history 2";

/// Ends the process: without the disk nothing of the history can be relied on.
pub(crate) fn abort(error: &HistoryError) -> ! {
    tracing::error!("{error}. The process ends here");
    std::process::abort();
}

impl HistoryError {
    pub(super) fn damaged(directory: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { directory: directory.display().to_string(), why: why.into() }
    }

    pub(super) fn disk(directory: &Path, action: &'static str, source: io::Error) -> Self {
        Self::Disk { action, directory: directory.display().to_string(), source }
    }

    /// From any error of the store.
    pub(super) fn store(directory: &Path, action: &'static str, error: impl Into<StoreError>) -> Self {
        let error = match error.into() {
            StoreError::Redb(error) => error,
            StoreError::Damaged(why) => return Self::damaged(directory, why),
            StoreError::Refused(error) => return error,
        };
        match error {
            redb::Error::Io(error)
                if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                Self::damaged(directory, format!("cannot {action} it: {error}"))
            }
            redb::Error::Io(source) => Self::disk(directory, action, source),
            redb::Error::DatabaseAlreadyOpen => Self::InUse { directory: directory.display().to_string() },
            redb::Error::PreviousIo => Self::disk(directory, action, io::Error::other("an earlier access failed")),
            other => Self::damaged(directory, format!("cannot {action} it: {other}")),
        }
    }
}

/// Why an access ends early. Lets `?` carry any error of the store, with what was being done added once, at the end.
pub(super) enum StoreError {
    /// The store's own.
    Redb(redb::Error),
    /// What was read cannot have been written.
    Damaged(String),
    /// What was asked for cannot be.
    Refused(HistoryError),
}

macro_rules! from {
    ($($error:ty),*) => {
        $(impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::Redb(error.into())
            }
        })*
    };
}
from!(CommitError, DatabaseError, StorageError, TableError, TransactionError);

impl From<String> for StoreError {
    fn from(why: String) -> Self {
        Self::Damaged(why)
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "Nothing is lost, the journal still has it: make room on the disk and start again"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "DATA_DIR must be a directory that this process may write to"
        }
        _ => "Nothing is lost, the journal still has it: see to the disk, then start again on the same DATA_DIR",
    }
}
