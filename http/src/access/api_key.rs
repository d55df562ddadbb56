//! An API key: `ks_` and 256 random bits in hexadecimal. Only its SHA-256 is ever stored.
//!
//! A plain hash is enough: nobody finds 256 random bits by trying, however fast the hash is, and no two keys are alike, so there
//! is nothing to salt. Slow hashes are for what people choose, and would cost every request their time.
use std::{
    fmt,
    fmt::Write as _,
    hash::{Hash, Hasher},
};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

/// How every key begins: tools that look for leaked secrets know it by that.
pub(crate) const PREFIX: &str = "ks_";
const RANDOM_BYTES: usize = 32;
const LENGTH: usize = PREFIX.len() + 2 * RANDOM_BYTES;

/// A new key, from the operating system's randomness.
pub(crate) fn generate() -> Result<Zeroizing<String>, String> {
    let mut random = Zeroizing::new([0; RANDOM_BYTES]);
    getrandom::fill(random.as_mut_slice()).map_err(|error| format!("the system gives no random bytes: {error}"))?;
    let mut key = Zeroizing::new(String::with_capacity(LENGTH));
    key.push_str(PREFIX);
    write_hex(&mut key, random.as_slice());
    Ok(key)
}

/// Whether it looks like a key at all. Its form is no secret.
pub(crate) fn has_form(text: &[u8]) -> bool {
    let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == LENGTH && text.strip_prefix(PREFIX.as_bytes()).is_some_and(|rest| rest.iter().all(hex))
}

/// The SHA-256 of a key, as it is written. Compared in constant time.
#[derive(Clone, Eq)]
pub(crate) struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn of(key: &[u8]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// From 64 lower-case hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let nibble = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        if text.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// For a map with a random key of its own (`RandomState`): where it looks tells nothing about what it holds.
impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(64);
        write_hex(&mut text, &self.0);
        f.write_str(&text)
    }
}

impl Drop for Digest {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

fn write_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn keys_have_one_form() {
        let (a, b) = (generate().unwrap(), generate().unwrap());
        assert!(has_form(a.as_bytes()) && has_form(b.as_bytes()) && a != b);
        assert_eq!(a.capacity(), a.len(), "no copy was left behind");
        for bad in [
            "",
            "ks_",
            &a[1..],
            &a[..66],
            &format!("{}0", a.as_str()),
            &a.to_uppercase(),
            &a.replace("ks_", "sk_"),
            &format!("{}g", &a[..66]),
        ] {
            assert!(!has_form(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn digests() {
        // `printf ks_%064d 0 | sha256sum`
        let key = format!("ks_{}", "0".repeat(64));
        let digest = Digest::of(key.as_bytes());
        assert_eq!(digest.to_string(), "e6c821085dbdf6996c544bbb3a78ba77d02ef0dc3d459cc731f2bf14d2ececaa");
        assert!(Digest::parse(&digest.to_string()) == Some(digest.clone()));
        let map: HashMap<Digest, u8> = [(digest.clone(), 1)].into();
        assert_eq!((map.get(&digest), map.get(&Digest::of(b"other"))), (Some(&1), None));
        for bad in ["", "0", &"0".repeat(63), &"0".repeat(65), &"A".repeat(64), &"é".repeat(32)] {
            assert!(Digest::parse(bad).is_none(), "{bad}");
        }
    }
}
