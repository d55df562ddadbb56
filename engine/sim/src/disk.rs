//! A disk in memory that knows what a power failure leaves: what was synced, and any part of what was not.
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use keyshard_engine::journal::{Disk, DiskFile};

use crate::random::Random;

/// Clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct FakeDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    /// Names as of the last sync of the directory.
    durable_names: BTreeMap<String, usize>,
    trouble: Trouble,
    random: Option<Random>,
    /// The machine died inside an operation: nothing works until the power is back.
    dead: bool,
    /// What became durable and nobody has looked at yet.
    synced: Vec<Vec<u8>>,
}

#[derive(Default)]
struct File {
    cached: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

/// What goes wrong with operations, each so often in a thousand times.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Trouble {
    /// A sync fails: the cache counts as clean, the disk does not have it (fsync(2), NOTES).
    pub(crate) sync: u32,
    /// A write or a creation fails half-way.
    pub(crate) write: u32,
    /// The machine dies half-way.
    pub(crate) death: u32,
}

/// What a power failure does to what was not synced.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Remains {
    /// Pieces of it survive; otherwise all or nothing of each write.
    pub(crate) torn: bool,
    /// What survives has wrong bits.
    pub(crate) flipped: bool,
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

impl FakeDisk {
    /// An empty disk with its own randomness.
    pub(crate) fn new(random: Random) -> Self {
        Self(Arc::new(Mutex::new(State { random: Some(random), ..State::default() })))
    }

    /// From now on, operations fail so often.
    pub(crate) fn trouble(&self, trouble: Trouble) {
        self.state().trouble = trouble;
    }

    /// Whether the machine died inside an operation.
    pub(crate) fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// The power is gone and back: of what was not synced there is what the dice leave.
    pub(crate) fn power_failure(&self, remains: Remains) {
        let mut state = self.state();
        let state = &mut *state;
        let random = state.random.get_or_insert_with(|| Random::new(0, 0));
        for file in &mut state.files {
            for (offset, bytes) in std::mem::take(&mut file.unsynced) {
                survive(&mut file.durable[offset..offset + bytes.len()], &bytes, remains, random);
            }
            file.cached.clone_from(&file.durable);
        }
        state.names.clone_from(&state.durable_names);
        state.dead = false;
    }

    /// The bytes that have become durable since the last call, a write at a time.
    pub(crate) fn take_synced(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.state().synced)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which bytes of an unsynced write are on the disk after all.
fn survive(place: &mut [u8], bytes: &[u8], remains: Remains, random: &mut Random) {
    let kept = match random.below(4) {
        0 => 0..0,
        1 => 0..bytes.len(),
        _ if !remains.torn => 0..bytes.len() * random.below(2) as usize,
        2 => {
            // At the boundary of a frame, whose length stands at its start.
            let mut at = 0;
            while random.below(3) > 0
                && let Some(length) = bytes.get(at..at + 4)
            {
                let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
                at = if length == 0 { bytes.len() } else { (at + length).min(bytes.len()) };
            }
            0..at
        }
        _ => {
            let (one, two) = (random.below(bytes.len() as u64 + 1), random.below(bytes.len() as u64 + 1));
            one.min(two) as usize..one.max(two) as usize
        }
    };
    // What was synced stays: only what this write changes can come out wrong.
    let changed: Vec<usize> = kept.clone().filter(|at| place[*at] != bytes[*at]).collect();
    place[kept.clone()].copy_from_slice(&bytes[kept]);
    if remains.flipped && !changed.is_empty() {
        for _ in 0..=random.below(3) {
            place[random.pick(&changed)] ^= 1 << random.below(8);
        }
    }
}

impl State {
    fn find(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or(io::ErrorKind::NotFound.into())
    }

    /// Whether an operation fails now. It does half of its work then.
    fn fails(&mut self, permille: u32) -> io::Result<()> {
        let error = |code| Err(io::Error::from_raw_os_error(code));
        if self.dead {
            return error(EIO);
        }
        let Some(random) = &mut self.random else { return Ok(()) };
        if random.chance(self.trouble.death) {
            self.dead = true;
            return error(EIO);
        }
        if random.chance(permille) {
            return error(if random.below(2) == 0 { EIO } else { ENOSPC });
        }
        Ok(())
    }
}

impl Disk for FakeDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let state = self.state();
        Ok(state.files[state.find(name)?].cached.clone())
    }

    fn create_prefilled(&self, name: &str, head: &[u8], bytes: usize) -> io::Result<()> {
        let mut state = self.state();
        let permille = state.trouble.write;
        let made = state.fails(permille);
        let mut content = head.to_vec();
        content.resize(if made.is_err() { bytes / 2 } else { bytes }, 0);
        state.files.push(File { cached: content.clone(), durable: content, unsynced: Vec::new() });
        let file = state.files.len() - 1;
        state.names.insert(name.to_owned(), file);
        made
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let file = self.state().find(name)?;
        Ok(Box::new(Open { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.fails(0)?;
        let file = state.find(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.fails(0)?;
        state.find(name)?;
        state.names.remove(name);
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.state();
        let permille = state.trouble.sync;
        state.fails(permille)?;
        let names = state.names.clone();
        state.durable_names = names;
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
        let permille = state.trouble.write;
        let written = state.fails(permille);
        let bytes = if written.is_err() { &bytes[..bytes.len() / 2] } else { bytes };
        let (offset, file) = (offset as usize, &mut state.files[self.file]);
        file.cached[offset..offset + bytes.len()].copy_from_slice(bytes);
        file.unsynced.push((offset, bytes.to_vec()));
        written
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        let permille = state.trouble.sync;
        let synced = state.fails(permille);
        if state.dead {
            return synced;
        }
        let named = state.durable_names.values().any(|file| *file == self.file);
        let state = &mut *state;
        let file = &mut state.files[self.file];
        let unsynced = std::mem::take(&mut file.unsynced);
        if synced.is_ok() {
            for (offset, bytes) in unsynced {
                file.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
                if named {
                    state.synced.push(bytes);
                }
            }
        }
        synced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(seed: u64) -> FakeDisk {
        let disk = FakeDisk::new(Random::new(seed, 0));
        disk.create_prefilled("a", b"head", 64).unwrap();
        disk.sync_directory().unwrap();
        disk
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_may_come_out_in_any_way() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let disk = disk(seed);
            let mut file = disk.open("a").unwrap();
            file.write_at(4, b"safe").unwrap();
            file.sync_data().unwrap();
            // The same bytes once more: these cannot come out wrong.
            file.write_at(4, b"safe").unwrap();
            file.write_at(8, b"lost").unwrap();
            disk.power_failure(Remains { torn: true, flipped: true });
            let bytes = disk.read("a").unwrap();
            assert_eq!(&bytes[..8], b"headsafe");
            assert!(bytes[12..].iter().all(|byte| *byte == 0));
            seen.insert(bytes[8..12].to_vec());
        }
        assert!(seen.contains(&b"lost"[..]) && seen.contains(&[0; 4][..]) && seen.len() > 10, "{seen:?}");
    }

    #[test]
    fn a_failed_sync_is_seen_by_readers_and_not_by_the_disk() {
        let disk = disk(1);
        let mut file = disk.open("a").unwrap();
        file.write_at(4, b"safe").unwrap();
        disk.trouble(Trouble { sync: 1_000, ..Trouble::default() });
        assert!(file.sync_data().is_err());
        disk.trouble(Trouble::default());
        file.sync_data().unwrap();
        assert_eq!(&disk.read("a").unwrap()[4..8], b"safe");
        assert!(disk.take_synced().is_empty());
        disk.power_failure(Remains::default());
        assert_eq!(&disk.read("a").unwrap()[4..8], [0; 4]);
    }

    #[test]
    fn a_machine_that_died_does_nothing_more_until_the_power_is_back() {
        let disk = disk(1);
        disk.trouble(Trouble { death: 1_000, ..Trouble::default() });
        assert!(disk.open("a").unwrap().write_at(4, b"safe").is_err());
        disk.trouble(Trouble::default());
        assert!(disk.is_dead() && disk.sync_directory().is_err());
        disk.power_failure(Remains::default());
        assert!(!disk.is_dead() && disk.sync_directory().is_ok());
    }
}
