//! The seam to the file system: few operations, so that tests and the simulator can tear, fill and break them.
use std::{
    fs::{File, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::JournalError;

/// A directory of segments. Names are plain file names. Errors are the system's own.
pub trait Disk: Send + Sync + 'static {
    /// Names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// A whole file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Makes (or makes anew) a file of `bytes` bytes: `head`, then zeros. It is on the disk when this returns; its name
    /// need not be.
    fn create_prefilled(&self, name: &str, head: &[u8], bytes: usize) -> io::Result<()>;
    /// Opens a file for writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Renames, replacing what had that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Deletes.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Puts all creations, renames and deletions so far on the disk.
    fn sync_directory(&self) -> io::Result<()>;
    /// For messages.
    fn path(&self, name: &str) -> String;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Writes all of `bytes`, or fails: then any part of them may have been written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Puts everything written on the disk (`fdatasync`).
    fn sync_data(&mut self) -> io::Result<()>;
}

/// Zeros are written and synced in pieces of this size, so that the segment in use gets its turn at the disk.
const PREFILL_BYTES: usize = 1024 * 1024;

/// A directory of this machine, locked against other processes for as long as this lives.
pub struct RealDisk {
    path: PathBuf,
    directory: File,
    /// Closing it releases the lock.
    _lock: File,
}

impl RealDisk {
    /// Makes the directory if need be, and locks it (`flock`).
    pub fn lock(path: &Path) -> Result<Self, JournalError> {
        let failed = |action| {
            let file = path.display().to_string();
            move |source| JournalError::Disk { action, file, source }
        };
        if !path.exists() {
            std::fs::create_dir_all(path).map_err(failed("create the directory"))?;
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed("sync the parent of"))?;
        }
        let directory = File::open(path).map_err(failed("open the directory"))?;
        let mut lock = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("LOCK"))
            .map_err(failed("open the LOCK file in"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                // Only a hint for a person: a process id, bounded.
                let mut holder = String::new();
                let known = (&mut lock).take(20).read_to_string(&mut holder).is_ok();
                let pid = holder.trim().parse::<u32>().ok().filter(|_| known);
                return Err(JournalError::Locked {
                    directory: path.display().to_string(),
                    holder: pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(failed("write LOCK in"))?;
        Ok(Self { path: path.to_owned(), directory, _lock: lock })
    }
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        // A name that is no UTF-8 is none of ours.
        std::fs::read_dir(&self.path)?
            .filter_map(|entry| entry.map(|entry| entry.file_name().into_string().ok()).transpose())
            .collect()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.path.join(name))
    }

    fn create_prefilled(&self, name: &str, head: &[u8], bytes: usize) -> io::Result<()> {
        let file = File::create(self.path.join(name))?;
        file.write_all_at(head, 0)?;
        let zeros = vec![0; PREFILL_BYTES.min(bytes)];
        let mut at = head.len();
        while at < bytes {
            let piece = &zeros[..zeros.len().min(bytes - at)];
            file.write_all_at(piece, at as u64)?;
            file.sync_data()?;
            at += piece.len();
        }
        file.sync_all()
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::options().write(true).open(self.path.join(name))?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn path(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }
}

impl DiskFile for File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        File::sync_data(self)
    }
}
