//! The data directory while the service is stopped: locked, its journal read without a change, its history open.
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use keyshard_engine::{
    history::History,
    journal::{Disk, DiskFile, Entry, Log, Options, RealDisk},
};
use keyshard_shard::{CryptoHash, Record};

/// Where the history is, in the data directory.
const HISTORY: &str = "history";

/// Nobody else has the directory as long as this lives.
pub(crate) struct DataDir {
    disk: Arc<RealDisk>,
    path: PathBuf,
}

impl DataDir {
    /// Locks it. Made if it is not there.
    pub(crate) fn lock(path: &Path) -> Result<Self, String> {
        let disk = RealDisk::lock(path).map_err(|error| error.to_string())?;
        Ok(Self { disk: Arc::new(disk), path: path.into() })
    }

    /// Everything that its journal still holds, in the order of the file. Nothing is changed: what a start would mend is
    /// mended in memory only.
    pub(crate) fn journal(&self) -> Result<Vec<Entry>, String> {
        let disk = Arc::new(Untouched(self.disk.clone()));
        let (log, replay) = Log::open(disk, Options::default()).map_err(|error| error.to_string())?;
        drop(log);
        Ok(replay.entries)
    }

    /// The chain that its journal is of, if it says.
    fn chain_of(journal: &[Entry]) -> Option<CryptoHash> {
        journal.iter().find_map(|entry| match &entry.record {
            Record::Begin { genesis, .. } => Some(*genesis),
            _ => None,
        })
    }

    /// An error unless the journal is of the chain that the nodes are on.
    pub(crate) fn check_chain(&self, journal: &[Entry], node: CryptoHash) -> Result<(), String> {
        match Self::chain_of(journal) {
            Some(genesis) if genesis != node => Err(format!(
                "the journal in {} is of another chain: its genesis is {genesis}, the node's is {node}. Check NODE_URL and \
                 DATA_DIR",
                self.path.display()
            )),
            _ => Ok(()),
        }
    }

    /// Its history, made if it is not there.
    pub(crate) fn history(&self, genesis: CryptoHash) -> Result<History, String> {
        History::open(&self.path.join(HISTORY), genesis).map_err(|error| error.to_string())
    }

    /// The history that is there, of whatever chain it is.
    pub(crate) fn history_of_any_chain(&self) -> Result<History, String> {
        History::open_any(&self.path.join(HISTORY)).map_err(|error| error.to_string())
    }

    /// Whether there is a history.
    pub(crate) fn has_history(&self) -> bool {
        self.path.join(HISTORY).exists()
    }
}

/// A disk of which everything can be read and nothing is changed.
struct Untouched(Arc<RealDisk>);

impl Disk for Untouched {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.0.read(name)
    }

    fn create_prefilled(&self, _name: &str, _head: &[u8], _bytes: usize) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, _name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(Nowhere))
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        self.0.path(name)
    }
}

/// Where its writes go.
struct Nowhere;

impl DiskFile for Nowhere {
    fn write_at(&mut self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Ok(())
    }
}
