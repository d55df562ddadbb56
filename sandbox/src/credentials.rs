//! What a client needs to use a sandbox: its address, account, keys, token and receivers.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use near_crypto::{KeyType, SecretKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Account that owns the token's supply and signs everything.
pub(crate) const ACCOUNT: &str = "test.near";
/// Account of the token contract.
pub(crate) const FT: &str = "ft.test.near";

/// Where the sandbox is and how to sign for it. Written as JSON by [`Credentials::write_to`].
#[derive(Clone, Serialize, Deserialize)]
pub struct Credentials {
    /// JSON-RPC address, as `http://127.0.0.1:3030`.
    pub rpc: String,
    /// Account that owns the token's whole supply: `test.near`.
    pub account: String,
    /// Its master key, `ed25519:..`, full access.
    pub secret: String,
    /// The NEP-141 token contract: `ft.test.near`.
    pub ft: String,
    /// More full-access keys of `account`, `ed25519:..` each.
    pub keys: Vec<String>,
    /// Existing accounts that are registered with the token.
    pub receivers: Vec<String>,
}

impl Credentials {
    /// Writes the credentials as JSON, readable by this user alone (mode 0600), replacing what was there.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write_to(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        // A fresh file is created with the right mode before a byte is in it; a rename then replaces the old one whole.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}.tmp", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let written = (|| {
            let mut file = options.open(&temporary)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

/// Names what is public; secrets are counted, not shown.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("rpc", &self.rpc)
            .field("account", &self.account)
            .field("ft", &self.ft)
            .field("keys", &self.keys.len())
            .field("receivers", &self.receivers.len())
            .finish_non_exhaustive()
    }
}

/// The `index`th (from 1) of [`Credentials::keys`] of the sandbox with this seed.
pub fn key(seed: u64, index: usize) -> SecretKey {
    derive_key(seed, &format!("key{index}"))
}

/// The key called `name` of the sandbox with this seed. Same seed and name, same key.
pub(crate) fn derive_key(seed: u64, name: &str) -> SecretKey {
    let digest = Sha256::digest(format!("keyshard-sandbox/{seed}/{name}"));
    let mut text = String::with_capacity(32);
    for byte in &digest[..16] {
        text.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
        text.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
    }
    SecretKey::from_seed(KeyType::ED25519, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Credentials {
        Credentials {
            rpc: "http://127.0.0.1:1".into(),
            account: ACCOUNT.into(),
            secret: derive_key(7, "master").to_string(),
            ft: FT.into(),
            keys: vec![derive_key(7, "key1").to_string()],
            receivers: vec!["user1.test.near".into()],
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let credentials = sample();
        let shown = format!("{credentials:?}");
        assert!(
            !shown.contains(&credentials.secret) && !shown.contains(&credentials.keys[0]) && !shown.contains("ed25519")
        );
    }

    #[test]
    fn keys_derive_from_seed_and_name() {
        assert_eq!(derive_key(1, "a"), derive_key(1, "a"));
        assert_ne!(derive_key(1, "a").to_string(), derive_key(2, "a").to_string());
        assert_ne!(derive_key(1, "a").to_string(), derive_key(1, "b").to_string());
    }

    #[cfg(unix)]
    #[test]
    fn file_is_private_and_replaces_an_open_one() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = std::env::temp_dir().join(format!("keyshard-credentials-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("credentials.json");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        sample().write_to(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read: Credentials = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(read.secret, sample().secret);
        fs::remove_dir_all(&directory).unwrap();
    }
}
