//! A file with secrets in it: refused if others can read it, replaced whole or not at all, changed by one process at a time.
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// Largest file that is read: 10,000 keys with their accounts take about 3 MB.
const MAX_BYTES: u64 = 8 << 20;

/// What is in the file; `None` if there is none. The error is for people.
pub(crate) fn read(path: &Path) -> Result<Option<Zeroizing<String>>, String> {
    match File::open(path) {
        Ok(file) => text_of(&file, path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// The file while it is being changed.
pub(crate) struct PrivateFile {
    path: PathBuf,
    text: Zeroizing<String>,
    /// The lock is on what has the name now.
    locked: File,
    /// It was not there before.
    made: bool,
}

impl PrivateFile {
    /// Opens it for changes; made, empty and with mode 0600, if it is not there.
    pub(crate) fn lock(path: &Path) -> Result<Self, String> {
        let problem = |error: io::Error| format!("{} cannot be opened: {error}", path.display());
        let made = !path.exists();
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(path).map_err(problem)?;
            take(&file, path)?;
            // Whoever had it may have put another one in its place.
            let (ours, there) = (file.metadata().map_err(problem)?, fs::metadata(path).map_err(problem)?);
            if (ours.dev(), ours.ino()) != (there.dev(), there.ino()) {
                continue;
            }
            let text = text_of(&file, path).map_err(|why| format!("{} {why}", path.display()))?;
            // What a link points at is replaced, not the link.
            let path = fs::canonicalize(path).map_err(problem)?;
            return Ok(Self { path, text, locked: file, made });
        }
    }

    /// What is in it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Puts this text in the place of the old one, whole or not at all. It is on the disk when this returns.
    pub(crate) fn replace(&mut self, text: Zeroizing<String>) -> Result<(), String> {
        let mut temporary = self.path.as_os_str().to_owned();
        temporary.push(format!(".{}.tmp", std::process::id()));
        let temporary = PathBuf::from(temporary);
        match self.put(&temporary, &text) {
            Ok(file) => {
                self.locked = file;
                self.text = text;
                Ok(())
            }
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(format!("{} cannot be written: {error}", self.path.display()))
            }
        }
    }

    fn put(&self, temporary: &Path, text: &str) -> io::Result<File> {
        // What a former process of this id has left is of no use.
        let _ = fs::remove_file(temporary);
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // Locked before it gets the name: nobody comes in between.
        file.try_lock().map_err(io::Error::other)?;
        fs::rename(temporary, &self.path)?;
        let directory = self.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(file)
    }
}

impl Drop for PrivateFile {
    fn drop(&mut self) {
        // Whoever changed his mind leaves nothing behind.
        if self.made && self.text.is_empty() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn text_of(file: &File, path: &Path) -> Result<Zeroizing<String>, String> {
    let about = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if !about.is_file() {
        return Err("is not a file".to_owned());
    }
    let mode = about.permissions().mode();
    if mode & forbidden(about.uid(), rustix::process::geteuid().as_raw()) != 0 {
        return Err(format!(
            "can be read by others than its owner (mode {:03o}): run chmod 600 {}",
            mode & 0o777,
            path.display()
        ));
    }
    if about.len() > MAX_BYTES {
        return Err(format!("is {} bytes; at most {MAX_BYTES} are read", about.len()));
    }
    // Room for all of it from the start: a string that grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(about.len() as usize + 1));
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(|error| format!("cannot be read: {error}"))?;
    Ok(text)
}

/// Bits of the mode that a file of this owner may not have for this user.
///
/// What root has put there for a service that is not root may be read by a group: so do systemd's credentials (an access list,
/// which shows as the group's bits) and Kubernetes' secrets (`fsGroup`) come. Whoever is in that group, root has chosen.
fn forbidden(owner: u32, user: u32) -> u32 {
    if owner == 0 && user != 0 { 0o037 } else { 0o077 }
}

fn take(file: &File, path: &Path) -> Result<(), String> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(format!("{} is being changed by another keyshard: wait until it has ended", path.display()))
        }
        Err(TryLockError::Error(error)) => Err(format!("{} cannot be locked: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_may_let_a_group_read() {
        for (owner, user, mode, refused) in [
            (1_000, 1_000, 0o600, false),
            (1_000, 1_000, 0o640, true),
            (0, 0, 0o640, true),
            (0, 65_532, 0o440, false),
            (0, 65_532, 0o640, false),
            (0, 65_532, 0o660, true),
            (0, 65_532, 0o444, true),
            (1_000, 65_532, 0o440, true),
        ] {
            assert_eq!(mode & forbidden(owner, user) != 0, refused, "{owner} {user} {mode:o}");
        }
    }

    #[test]
    fn what_was_made_and_not_written_to_is_gone_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        drop(PrivateFile::lock(&path).unwrap());
        assert!(!path.exists());
        PrivateFile::lock(&path).unwrap().replace("a".to_owned().into()).unwrap();
        drop(PrivateFile::lock(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"a");
        fs::write(&path, "").unwrap();
        drop(PrivateFile::lock(&path).unwrap());
        assert!(path.exists(), "somebody else's");
    }

    #[test]
    fn one_at_a_time_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert_eq!(read(&path), Ok(None));
        let mut file = PrivateFile::lock(&path).unwrap();
        assert_eq!(file.text(), "");
        for text in ["one", "two"] {
            file.replace(Zeroizing::new(text.to_owned())).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert!(PrivateFile::lock(&path).err().unwrap().contains("another keyshard"), "{text}");
        }
        drop(file);
        assert_eq!(PrivateFile::lock(&path).unwrap().text(), "two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        for bits in [0o640, 0o604, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
            let why = read(&path).err().unwrap();
            assert!(why.contains(&format!("(mode {bits:03o}): run chmod 600 {}", path.display())), "{why}");
            assert!(PrivateFile::lock(&path).err().unwrap().contains("chmod 600"));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(read(&path).err().unwrap().contains("at most"));
        assert!(read(directory.path()).err().unwrap().contains("not a file"));
    }
}
