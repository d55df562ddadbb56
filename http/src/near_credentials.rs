//! Keys in the files of the NEAR command line tools: `~/.near-credentials/<network>/<account>.json`, and the folder
//! `<network>/<account>/` of near-cli-rs, in which every key has a file of its own.
use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use near_primitives::types::AccountId;
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    keys::{MAX_KEYS, parse_one},
    secret::Secret,
};

/// Largest file that is read: a key file has a few hundred bytes.
const MAX_BYTES: u64 = 64 << 10;

/// What was found.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) keys: Vec<Secret>,
    /// The files that they are of.
    pub(crate) files: Vec<PathBuf>,
    /// What should be known: files that others can read, or that hold no key of this account.
    pub(crate) notes: Vec<String>,
}

/// What is read of a file.
#[derive(Deserialize)]
struct Wire {
    account_id: Option<String>,
    #[serde(alias = "secret_key")]
    private_key: String,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

/// The name of the network in the tools' paths.
pub(crate) fn network(account: &AccountId, near_env: Option<&str>) -> &'static str {
    match near_env {
        Some("sandbox") => "sandbox",
        Some("mainnet") => "mainnet",
        _ if account.as_str().rsplit('.').next() == Some("near") => "mainnet",
        _ => "testnet",
    }
}

/// Looks for keys of an account. No file is no error; the error names a file that is there and cannot be used.
pub(crate) fn read(home: &Path, network: &str, account: &AccountId) -> Result<Found, String> {
    let directory = home.join(".near-credentials").join(network);
    let mut paths = vec![directory.join(format!("{account}.json"))];
    match fs::read_dir(directory.join(account.as_str())) {
        Ok(entries) => {
            let mut more: Vec<PathBuf> = entries
                .filter_map(|entry| entry.ok().map(|entry| entry.path()))
                .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
                .take(MAX_KEYS)
                .collect();
            more.sort();
            paths.append(&mut more);
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
        Err(error) => return Err(format!("{} cannot be read: {error}", directory.join(account.as_str()).display())),
    }
    let mut found = Found::default();
    for path in paths {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("{} cannot be read: {error}", path.display())),
        };
        let name = path.display();
        let mode = file.metadata().map_or(0, |about| about.permissions().mode());
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_BYTES as usize));
        file.take(MAX_BYTES).read_to_end(&mut text).map_err(|error| format!("{name} cannot be read: {error}"))?;
        // The parser's words could repeat a part of the key.
        let wire: Wire = serde_json::from_slice(&text)
            .map_err(|_| format!("{name} is not a key file of a NEAR tool: it needs a private_key"))?;
        if wire.account_id.as_deref().is_some_and(|id| id != account.as_str()) {
            found.notes.push(format!("{name} is of another account: it is left out"));
            continue;
        }
        let key = parse_one(&wire.private_key).map_err(|why| format!("the private_key in {name} {why}"))?;
        if mode & 0o077 != 0 {
            found.notes.push(format!("{name} can be read by others than its owner: run chmod 600 {name}"));
        }
        if !found.keys.iter().any(|known| known.public_key() == key.public_key()) {
            found.keys.push(key);
        }
        found.files.push(path);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_are_read() {
        let home = tempfile::tempdir().unwrap();
        let account: AccountId = "a.testnet".parse().unwrap();
        let directory = home.path().join(".near-credentials/testnet");
        assert!(read(home.path(), "testnet", &account).unwrap().keys.is_empty());
        fs::create_dir_all(directory.join("a.testnet")).unwrap();
        let write = |name: &str, text: String, mode: u32| {
            fs::write(directory.join(name), text).unwrap();
            fs::set_permissions(directory.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        let keys: Vec<Secret> = (0..4).map(|_| Secret::random()).collect();
        let file = |id: &str, index: usize| {
            let key: &Secret = &keys[index];
            format!(r#"{{"account_id":"{id}","public_key":"{}","private_key":"{}"}}"#, key.public_key(), key.expose())
        };
        write("a.testnet.json", file("a.testnet", 0), 0o600);
        let legacy = format!(r#"{{"master_seed_phrase":"x y","private_key":"{}"}}"#, keys[1].expose());
        write("a.testnet/ed25519_one.json", legacy, 0o644);
        write("a.testnet/ed25519_two.json", file("b.testnet", 2), 0o600);
        write("a.testnet/same.json", file("a.testnet", 0), 0o600);
        write("a.testnet/notes.txt", "not read".into(), 0o600);
        let found = read(home.path(), "testnet", &account).unwrap();
        let names = |keys: &[Secret]| keys.iter().map(|key| key.public_key().to_string()).collect::<Vec<_>>();
        assert_eq!(names(&found.keys), names(&keys[..2]));
        assert_eq!(found.files.len(), 3);
        assert_eq!(found.notes.len(), 2, "{:?}", found.notes);
        assert!(found.notes[0].contains("ed25519_one.json: run chmod") || found.notes[0].contains("chmod 600"));
        assert!(found.notes[1].contains("another account"));
        assert!(read(home.path(), "mainnet", &account).unwrap().keys.is_empty());

        write("a.testnet/broken.json", format!(r#"{{"private_key":"{}x"}}"#, keys[3].expose()), 0o600);
        let error = read(home.path(), "testnet", &account).err().unwrap();
        let secret = keys[3].expose().to_string();
        assert!(error.contains("broken.json") && !error.contains(&secret[10..30]), "{error}");
    }

    #[test]
    fn networks() {
        for (account, near_env, network_name) in [
            ("a.testnet", None, "testnet"),
            ("a.near", None, "mainnet"),
            ("test.near", Some("sandbox"), "sandbox"),
            ("a.testnet", Some("mainnet"), "mainnet"),
        ] {
            assert_eq!(network(&account.parse().unwrap(), near_env), network_name);
        }
    }
}
