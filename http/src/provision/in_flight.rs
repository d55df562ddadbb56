//! What the journal says is in flight, by access key.
use std::{collections::HashMap, path::Path};

use keyshard_shard::{CryptoHash, recover};

use super::signers::is_running;
use crate::data_dir::DataDir;

/// The journal of a service that does not run: it cannot start as long as this lives.
pub(crate) struct InFlight {
    /// Hashes of transactions whose end is not known, by public key.
    pub(crate) by_key: HashMap<String, Vec<CryptoHash>>,
    _locked: DataDir,
}

/// What can be said of a data directory.
pub(crate) enum Look {
    /// There is none: no service has ever run on it.
    Nothing,
    /// A service runs on it.
    Running,
    /// This is in flight.
    Stopped(InFlight),
}

/// Reads the journal; nothing in it is changed. An error if it cannot be read, or is of another chain.
pub(crate) fn look(data_dir: &Path, genesis: CryptoHash) -> Result<Look, String> {
    if !data_dir.exists() {
        return Ok(Look::Nothing);
    }
    if is_running(data_dir) {
        return Ok(Look::Running);
    }
    let directory = DataDir::lock(data_dir)?;
    let entries = directory.journal()?;
    directory.check_chain(&entries, genesis)?;
    let records = entries.into_iter().map(|entry| (entry.shard, entry.record));
    let recovered = recover(records).map_err(|contradiction| format!("{contradiction} (in {})", data_dir.display()))?;
    let mut by_key: HashMap<String, Vec<CryptoHash>> = HashMap::new();
    for attempt in recovered.attempts {
        by_key.entry(attempt.public_key.to_string()).or_default().push(attempt.hash);
    }
    Ok(Look::Stopped(InFlight { by_key, _locked: directory }))
}
