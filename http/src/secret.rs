//! A secret key between the place where it is configured and the engine: wiped when it is dropped, never shown.
use near_crypto::{PublicKey, SecretKey};
use zeroize::Zeroize as _;

/// A secret key. It stays at one place of the heap, so that it can be moved without leaving copies; what the parsers of
/// near-crypto leave on the stack is out of reach.
pub struct Secret(Box<SecretKey>);

impl Secret {
    /// Takes over a key.
    pub fn new(key: SecretKey) -> Self {
        Self(Box::new(key))
    }

    /// A fresh ed25519 key from the operating system's randomness.
    pub(crate) fn random() -> Self {
        Self::new(SecretKey::from_random(near_crypto::KeyType::ED25519))
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        self.0.public_key()
    }

    /// For signing, and for writing it where it belongs.
    pub fn expose(&self) -> &SecretKey {
        &self.0
    }
}

impl Clone for Secret {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// Overwrites a key.
pub(crate) fn wipe(key: &mut SecretKey) {
    match key {
        SecretKey::ED25519(pair) => pair.0.zeroize(),
        SecretKey::SECP256K1(scalar) => scalar.non_secure_erase(),
        // Never configured here: `keys` reads the other two alone.
        SecretKey::MLDSA65(_) => {}
    }
}

/// The public half alone.
impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Secret").field(&self.public_key().to_string()).finish()
    }
}

#[cfg(test)]
mod tests {
    use near_crypto::KeyType;

    use super::*;

    #[test]
    fn wiped_and_not_shown() {
        for kind in [KeyType::ED25519, KeyType::SECP256K1] {
            let key = SecretKey::from_seed(kind, "a");
            let shown = format!("{:?}", Secret::new(key.clone()));
            assert!(shown.contains(&key.public_key().to_string()), "{shown}");
            let text = key.to_string();
            assert!(!shown.contains(text.split_once(':').map_or("", |(_, data)| &data[..16])), "{shown}");
            let mut wiped = key.clone();
            wipe(&mut wiped);
            assert!(wiped != key);
        }
    }
}
