//! One access key: its nonces and how many of its transactions are under way.
use std::sync::Arc;

use crate::{Instant, Signer, limits};

/// An access key of the paying account, as it is handed to a shard.
pub struct AccessKey {
    public_key: Arc<str>,
    /// Absent for a key that is no longer configured: its transactions are followed to their end, nothing new is signed.
    pub(crate) signer: Option<Signer>,
    /// The last nonce used, by this engine or, at start, on chain.
    nonce: u64,
    /// Transactions that may still be waiting for a block: the window of the key.
    pub(crate) in_flight: usize,
    /// Refusals in a row, and until when it therefore rests.
    refusals: u32,
    rests_until: Option<Instant>,
    /// What the node said when it refused the key.
    pub(crate) refused: Option<Box<str>>,
    /// A person has ordered that it signs nothing new.
    pub(crate) quarantined: bool,
}

impl AccessKey {
    /// `nonce` is the highest one known to be used: on chain at FINAL, or in the journal.
    pub fn new(signer: Signer, nonce: u64) -> Self {
        let public_key = signer.public_key().clone();
        Self { signer: Some(signer), nonce, ..Self::retired(public_key) }
    }

    /// A key that is no longer configured but still has transactions whose end is not known.
    pub fn retired(public_key: Arc<str>) -> Self {
        Self {
            public_key,
            signer: None,
            nonce: 0,
            in_flight: 0,
            refusals: 0,
            rests_until: None,
            refused: None,
            quarantined: false,
        }
    }

    /// The public key, `ed25519:...`.
    pub fn public_key(&self) -> &Arc<str> {
        &self.public_key
    }

    /// The last nonce used.
    pub(crate) fn nonce(&self) -> u64 {
        self.nonce
    }

    /// The next nonce. Never gives one twice (P3): the counter only grows, and only here and in [`Self::observe`].
    pub(crate) fn next_nonce(&mut self) -> u64 {
        assert!(self.nonce < u64::MAX, "the nonces of {} are used up", self.public_key);
        self.nonce += 1;
        self.nonce
    }

    /// Somebody saw the key at this nonce: lower ones are of no use any more.
    pub(crate) fn observe(&mut self, nonce: u64) {
        self.nonce = self.nonce.max(nonce);
    }

    /// Whether it signs anything at all.
    pub(crate) fn may_sign(&self) -> bool {
        self.signer.is_some() && !self.quarantined
    }

    pub(crate) fn is_free(&self, now: Instant, window: usize) -> bool {
        self.may_sign() && self.in_flight < window && self.rests_until.is_none_or(|until| until <= now)
    }

    /// The key was refused: let it rest. Returns until when.
    pub(crate) fn rest(&mut self, now: Instant, why: &str) -> Instant {
        self.refusals = self.refusals.saturating_add(1);
        let until = now + limits::KEY_REST.saturating_mul(self.refusals).min(limits::KEY_REST_MAX);
        self.rests_until = Some(until);
        self.refused = Some(why.into());
        until
    }

    /// Until when it still rests.
    pub(crate) fn rests_after(&self, now: Instant) -> Option<Instant> {
        self.rests_until.filter(|until| *until > now)
    }

    /// A transaction of this key got into a block: whatever was wrong is over.
    pub(crate) fn works(&mut self) {
        self.refusals = 0;
        self.rests_until = None;
        self.refused = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn key() -> AccessKey {
        AccessKey::new(Signer::new(near_crypto::SecretKey::from_seed(near_crypto::KeyType::ED25519, "key")), 7)
    }

    #[test]
    fn nonces_only_grow() {
        let mut key = key();
        assert_eq!(key.next_nonce(), 8);
        key.observe(20);
        key.observe(3);
        assert_eq!(key.next_nonce(), 21);
    }

    #[test]
    fn a_refused_key_rests_longer_each_time_and_wakes_when_it_works() {
        let mut key = key();
        let start = Instant::from_micros(0);
        assert!(key.is_free(start, 1));
        let first = key.rest(start, "AccessKeyNotFound");
        assert!(!key.is_free(start, 1));
        assert!(key.is_free(first, 1));
        let second = key.rest(first, "AccessKeyNotFound");
        assert!(second.since(first) > first.since(start));
        for _ in 0..100 {
            key.rest(start, "AccessKeyNotFound");
        }
        assert!(key.is_free(start + limits::KEY_REST_MAX, 1), "the rest is bounded");
        key.works();
        assert!(key.is_free(start + Duration::from_micros(1), 1));
        assert!(key.refused.is_none());
    }
}
