//! Signing without a shard around it, for benchmarks.
use std::sync::Arc;

use near_primitives::{hash::CryptoHash, types::AccountId};

use crate::{
    Signer, Transfer,
    tx::{self, Action, Envelope, Signed},
};

/// What a shard signs with.
pub struct Rig {
    /// Signs.
    pub signer: Signer,
    /// The paying account.
    pub account: AccountId,
    /// The NEP-141 contract.
    pub token: AccountId,
    /// Attached to each transfer.
    pub gas: u64,
}

impl Rig {
    /// Hash and signed bytes of the transaction that makes these transfers.
    pub fn sign(&self, nonce: u64, block_hash: CryptoHash, transfers: &[Transfer]) -> (CryptoHash, Arc<[u8]>) {
        let envelope = Envelope { signer_id: &self.account, receiver_id: &self.token, nonce, block_hash };
        let actions: Vec<Action<'_>> =
            transfers.iter().map(|transfer| Action::Pay { transfer, gas: self.gas }).collect();
        let Signed { hash, bytes } = tx::sign(&self.signer, &envelope, &actions);
        (hash, bytes)
    }
}
