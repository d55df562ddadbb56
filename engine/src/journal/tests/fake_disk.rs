//! A disk in memory that knows what a power failure leaves: what was synced, and any part of what was not.
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use crate::journal::{Disk, DiskFile};

/// Clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct FakeDisk(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    /// Names as of the last sync of the directory.
    durable_names: BTreeMap<String, usize>,
    faults: Faults,
    writes: usize,
    /// Syncs that have begun, and that were let through.
    syncs: usize,
    held: bool,
}

#[derive(Clone, Default)]
struct File {
    cached: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

/// Errors to come, each for one operation: system error numbers.
#[derive(Default)]
pub(super) struct Faults {
    pub(super) write: Option<i32>,
    pub(super) sync: Option<i32>,
    pub(super) create: Option<i32>,
    pub(super) remove: Option<i32>,
    pub(super) sync_directory: Option<i32>,
}

pub(super) const ENOSPC: i32 = 28;
pub(super) const EIO: i32 = 5;
pub(super) const ENOENT: i32 = 2;

impl FakeDisk {
    /// After a power failure: of what was not synced, the bytes at those offsets of their file that `survives` says.
    pub(super) fn after_power_failure(&self, survives: impl Fn(usize) -> bool) -> FakeDisk {
        let state = self.state();
        let files = state.files.iter().map(|file| {
            let mut bytes = file.durable.clone();
            for (offset, unsynced) in &file.unsynced {
                for (i, byte) in unsynced.iter().enumerate().filter(|(i, _)| survives(offset + i)) {
                    bytes[offset + i] = *byte;
                }
            }
            File { cached: bytes.clone(), durable: bytes, unsynced: Vec::new() }
        });
        let (names, durable_names) = (state.durable_names.clone(), state.durable_names.clone());
        let state = State { files: files.collect(), names, durable_names, ..State::default() };
        FakeDisk(Arc::new(Inner { state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// Another disk as this one is now.
    pub(super) fn snapshot(&self) -> FakeDisk {
        let state = self.state();
        let (names, durable_names) = (state.names.clone(), state.durable_names.clone());
        let state = State { files: state.files.clone(), names, durable_names, ..State::default() };
        FakeDisk(Arc::new(Inner { state: Mutex::new(state), changed: Condvar::new() }))
    }

    /// Another disk with the same files, all of them synced.
    pub(super) fn copy(&self) -> FakeDisk {
        let copy = FakeDisk::default();
        for (name, bytes) in self.contents() {
            copy.put(&name, bytes);
        }
        copy
    }

    pub(super) fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        state.names.iter().map(|(name, file)| (name.clone(), state.files[*file].cached.clone())).collect()
    }

    pub(super) fn get(&self, name: &str) -> Vec<u8> {
        self.contents().remove(name).unwrap()
    }

    pub(super) fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        state.add(name, bytes);
        state.durable_names = state.names.clone();
    }

    pub(super) fn faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    pub(super) fn writes(&self) -> usize {
        self.state().writes
    }

    pub(super) fn syncs(&self) -> usize {
        self.state().syncs
    }

    /// Syncs begin, but do not end.
    pub(super) fn hold_syncs(&self) {
        self.state().held = true;
    }

    pub(super) fn release_syncs(&self) {
        self.state().held = false;
        self.0.changed.notify_all();
    }

    /// Waits until so many syncs have begun.
    pub(super) fn wait_for_syncs(&self, syncs: usize) {
        let (state, timeout) = self
            .0
            .changed
            .wait_timeout_while(self.state(), Duration::from_secs(20), |state| state.syncs < syncs)
            .unwrap();
        assert!(!timeout.timed_out(), "{} of {syncs} syncs", state.syncs);
    }

    /// Waits until there is a file of that name.
    pub(super) fn wait_for_file(&self, name: &str) {
        let wanted = |state: &mut State| !state.durable_names.contains_key(name);
        let waited = self.0.changed.wait_timeout_while(self.state(), Duration::from_secs(20), wanted).unwrap();
        assert!(!waited.1.timed_out(), "{name} is never made");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    fn find(&self, name: &str) -> io::Result<usize> {
        self.state().names.get(name).copied().ok_or(io::ErrorKind::NotFound.into())
    }
}

impl State {
    fn add(&mut self, name: &str, bytes: Vec<u8>) {
        self.files.push(File { cached: bytes.clone(), durable: bytes, unsynced: Vec::new() });
        self.names.insert(name.to_owned(), self.files.len() - 1);
    }
}

fn fail(fault: &mut Option<i32>) -> io::Result<()> {
    fault.take().map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
}

impl Disk for FakeDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = self.find(name)?;
        Ok(self.state().files[file].cached.clone())
    }

    fn create_prefilled(&self, name: &str, head: &[u8], bytes: usize) -> io::Result<()> {
        let mut state = self.state();
        let fault = fail(&mut state.faults.create);
        let mut content = head.to_vec();
        // On failure, a part of it is there.
        content.resize(if fault.is_err() { bytes / 2 } else { bytes }, 0);
        state.add(name, content);
        fault
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(Open { disk: self.clone(), file: self.find(name)? }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let file = self.find(from)?;
        let mut state = self.state();
        state.names.remove(from);
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.find(name)?;
        let mut state = self.state();
        fail(&mut state.faults.remove)?;
        state.names.remove(name);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state();
        fail(&mut state.faults.sync_directory)?;
        state.durable_names = state.names.clone();
        self.0.changed.notify_all();
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        format!("fake/{name}")
    }
}

struct Open {
    disk: FakeDisk,
    file: usize,
}

impl DiskFile for Open {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.state();
        state.writes += 1;
        let fault = fail(&mut state.faults.write);
        // A failed write has written a part.
        let bytes = if fault.is_err() { &bytes[..bytes.len() / 2] } else { bytes };
        let (offset, file) = (offset as usize, &mut state.files[self.file]);
        let Some(place) = file.cached.get_mut(offset..offset + bytes.len()) else {
            panic!("{} bytes at {offset} are outside of the segment", bytes.len());
        };
        place.copy_from_slice(bytes);
        file.unsynced.push((offset, bytes.to_vec()));
        fault
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.syncs += 1;
        self.disk.0.changed.notify_all();
        let mut state = self.disk.0.changed.wait_while(state, |state| state.held).unwrap();
        let fault = fail(&mut state.faults.sync);
        let file = &mut state.files[self.file];
        let unsynced = std::mem::take(&mut file.unsynced);
        // After a failed sync the cache counts as clean, but the disk does not have it (fsync(2), NOTES).
        if fault.is_ok() {
            for (offset, bytes) in unsynced {
                file.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
        }
        fault
    }
}
