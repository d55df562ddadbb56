//! A small file of JSON that is read whole, and replaced whole or not at all.
use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

/// Largest one that is read.
const MAX_BYTES: u64 = 1 << 20;

/// What is in it; `None` if there is none. The error is for people.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let text = match fs::metadata(path) {
        Ok(about) if about.len() > MAX_BYTES => return Err("it is too large".into()),
        Ok(_) => fs::read(path).map_err(|error| error.to_string())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| error.to_string())
}

/// On the disk when it returns, directory and all.
pub(crate) fn replace(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(content)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(directory)?.sync_all()
}
