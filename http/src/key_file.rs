//! The file of access keys (`MASTER_ACCOUNT_PRIVATE_KEYS_FILE`): one key a line, `#` comments, readable by its owner alone.
use std::path::Path;

use near_crypto::PublicKey;
use zeroize::Zeroizing;

use crate::{
    keys::{MAX_KEYS, parse_one},
    private_file::{self, PrivateFile},
    secret::Secret,
};

/// How a new file begins.
const HEAD: &str =
    "# Access keys of Keyshard: one secret key a line. Whoever has one of them can spend everything of its account.\n";

/// Reads the keys in a file. The error is for people and repeats no key.
pub(crate) fn read(path: &Path) -> Result<Vec<Secret>, String> {
    match private_file::read(path)? {
        Some(text) => parse(&text),
        None => Err("does not exist: `keyshard provision keys` makes it".to_owned()),
    }
}

fn parse(text: &str) -> Result<Vec<Secret>, String> {
    let mut keys: Vec<Secret> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let Some(line) = content(line) else { continue };
        let key = parse_one(line).map_err(|why| format!("line {number} {why}"))?;
        if !keys.iter().any(|known| known.public_key() == key.public_key()) {
            keys.push(key);
        }
        if keys.len() > MAX_KEYS {
            return Err(format!("holds more than {MAX_KEYS} keys"));
        }
    }
    Ok(keys)
}

/// What a line says besides its comment.
fn content(line: &str) -> Option<&str> {
    let line = line.split('#').next().unwrap_or_default().trim();
    (!line.is_empty()).then_some(line)
}

/// The file while it is being changed: no other `keyshard` changes it meanwhile.
pub(crate) struct KeyFile {
    file: PrivateFile,
    keys: Vec<Secret>,
}

impl KeyFile {
    /// Opens it for changes; made, empty and with mode 0600, if it is not there.
    pub(crate) fn lock(path: &Path) -> Result<Self, String> {
        let file = PrivateFile::lock(path)?;
        let keys = parse(file.text()).map_err(|why| format!("{} {why}", path.display()))?;
        Ok(Self { file, keys })
    }

    /// Its keys.
    pub(crate) fn keys(&self) -> &[Secret] {
        &self.keys
    }

    /// Adds keys under a comment. They are on the disk when this returns.
    pub(crate) fn add(&mut self, keys: &[Secret], comment: &str) -> Result<(), String> {
        let texts: Vec<Zeroizing<String>> = keys.iter().map(|key| Zeroizing::new(key.expose().to_string())).collect();
        let old = self.file.text();
        let more = HEAD.len() + comment.len() + 8 + texts.iter().map(|text| text.len() + 1).sum::<usize>();
        let mut text = Zeroizing::new(String::with_capacity(old.len() + more));
        text.push_str(if old.is_empty() { HEAD } else { old });
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str("# ");
        text.push_str(comment);
        text.push('\n');
        for key in texts {
            text.push_str(&key);
            text.push('\n');
        }
        self.file.replace(text)?;
        self.keys.extend(keys.iter().cloned());
        Ok(())
    }

    /// Takes a key out and leaves a comment in its place. `false` if it is not there.
    pub(crate) fn remove(&mut self, key: &PublicKey, comment: &str) -> Result<bool, String> {
        let is_it = |line: &str| {
            content(line).and_then(|line| parse_one(line).ok()).is_some_and(|found| found.public_key() == *key)
        };
        let old = self.file.text();
        if !old.lines().any(is_it) {
            return Ok(false);
        }
        let mut text = Zeroizing::new(String::with_capacity(old.len() + comment.len() + 8));
        for line in old.lines() {
            if is_it(line) {
                text.push_str("# ");
                text.push_str(comment);
            } else {
                text.push_str(line);
            }
            text.push('\n');
        }
        self.file.replace(text)?;
        self.keys.retain(|known| known.public_key() != *key);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn names(keys: &[Secret]) -> Vec<String> {
        keys.iter().map(|key| key.public_key().to_string()).collect()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn keys_are_added_and_taken_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let (a, b) = (Secret::random(), Secret::random());
        let mut file = KeyFile::lock(&path).unwrap();
        assert!(file.keys().is_empty() && mode(&path) == 0o600);
        file.add(&[a.clone(), b.clone()], "first").unwrap();
        assert_eq!(names(&read(&path).unwrap()), names(&[a.clone(), b.clone()]));
        // The new file is locked as the old one was.
        assert!(KeyFile::lock(&path).err().unwrap().contains("another keyshard"));
        let c = Secret::random();
        file.add(std::slice::from_ref(&c), "second").unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(file.remove(&a.public_key(), "gone").unwrap());
        assert!(!file.remove(&a.public_key(), "gone").unwrap());
        drop(file);
        let file = KeyFile::lock(&path).unwrap();
        assert_eq!(names(file.keys()), names(&[b, c]));
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(HEAD) && text.contains("\n# first\n# gone\ned25519:"), "{text}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_there_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("keys"), directory.path().join("link"));
        let (a, b) = (Secret::random(), Secret::random());
        // No line end at the end, a comment behind the key, and a link to it.
        fs::write(&path, format!("# mine\n\n  {} # the first", a.expose())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let mut file = KeyFile::lock(&link).unwrap();
        file.add(std::slice::from_ref(&b), "more").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(&read(&path).unwrap()), names(&[a, b]));
        assert!(fs::read_to_string(&path).unwrap().starts_with("# mine\n\n"));
    }

    #[test]
    fn what_cannot_be_used_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        assert!(read(&path).err().unwrap().contains("keyshard provision keys"));
        fs::write(&path, "\ned25519:SECRET\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let why = read(&path).err().unwrap();
        assert!(why.starts_with("line 2 is not a private key") && !why.contains("SECRET"), "{why}");
        assert!(KeyFile::lock(&path).err().unwrap().contains("line 2"));
        fs::write(&path, "x\n".repeat(3)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read(&path).err().unwrap().contains("chmod 600"));
    }
}
