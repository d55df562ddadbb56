//! The chain: blocks, receipts, finality. A plain struct without clock, thread or I/O: time is an argument, and the same
//! calls give the same chain.
//!
//! In block h: transactions from the pool (nonce moved, cost taken); then receipts until the compute limit: those whose
//! sender is their receiver, the delayed ones, the ones made in block h-1. What does not fit is delayed. A receipt's
//! refunds are receipts of the next block. The last final block is the head's grandparent.

use std::collections::VecDeque;
use std::sync::Arc;

use near_primitives::account::AccessKey;
use near_primitives::errors::InvalidTxError;
use near_primitives::hash::CryptoHash;
use near_primitives::transaction::SignedTransaction;
use near_primitives::types::AccountId;

use crate::config::Config;
use crate::gas::{self, GAS_PRICE};
use crate::genesis;
use crate::history::{Block, Cause, Details, History, KeyChange, ReceiptRecord};
use crate::pool::{Pool, Verdict};
use crate::receipts::{Pending, What};
use crate::runtime::child_id;
use crate::state::{Account, State};
use crate::token::Token;
use crate::validity::{self, TxCost};

/// Largest height: nonces up to a million times this must fit 64 bits.
pub const MAX_HEIGHT: u64 = 1_000_000_000_000;

/// A change from outside: a record of `sandbox_patch_state`, or what tests do to a token.
#[derive(Clone, Debug)]
pub enum Patch {
    /// Sets an access key as it is, nonce included.
    AccessKey(AccountId, near_crypto::PublicKey, AccessKey),
    /// Sets an account.
    Account(AccountId, Account),
    /// Sets what an account holds of the token at the first; none unregisters it.
    TokenBalance(AccountId, AccountId, Option<u128>),
    /// From then on (or no longer), the token at the first panics when the second is to receive.
    TokenRefuses(AccountId, AccountId, bool),
}

/// The chain and everything it knows.
///
/// A clone is a fork: the same blocks, and from then on its own.
#[derive(Clone, Debug)]
pub struct Chain {
    pub(crate) state: State,
    pool: Pool,
    pub(crate) history: History,
    /// Receipts of the previous block.
    pub(crate) incoming: VecDeque<Pending>,
    pub(crate) delayed: VecDeque<Pending>,
    pub(crate) delayed_gas: u128,
    patches: Vec<Patch>,
    pub(crate) burnt: u128,
    genesis_supply: u128,
    validity_period: u64,
    epoch_length: u64,
    unlimited: bool,
    gas_limit: Option<u64>,
}

/// yoctoNEAR in accounts, and the burnt rest. They add up to the same at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supply {
    /// In accounts, free and staked.
    pub held: u128,
    /// Bought gas and deposits of receipts that have not run.
    pub in_flight: u128,
    /// Burnt since genesis.
    pub burnt: u128,
}

impl Chain {
    /// The chain at its genesis block, made at `genesis_nanos` (nanoseconds since 1970).
    pub fn new(config: &Config, genesis_nanos: u64) -> Self {
        let (state, genesis_supply) = genesis::state(config);
        Self {
            state,
            history: History::new(genesis::block(config.seed, genesis_nanos)),
            pool: Pool::default(),
            incoming: VecDeque::new(),
            delayed: VecDeque::new(),
            delayed_gas: 0,
            patches: Vec::new(),
            burnt: 0,
            genesis_supply,
            validity_period: config.transaction_validity_period,
            epoch_length: config.epoch_length,
            unlimited: config.unlimited,
            gas_limit: None,
        }
    }

    /// Checks a transaction as a real node does at its door and, if it passes, lets it wait for a block.
    ///
    /// # Errors
    /// Why it cannot be included now. A too large nonce is no error here: the block producer drops it without a word.
    pub fn submit(&mut self, tx: Arc<SignedTransaction>) -> Result<(), InvalidTxError> {
        self.check(&tx, true)?;
        self.pool.insert(tx);
        Ok(())
    }

    /// Lets a transaction wait for a block without a check, as one that comes from another node's pool. What is invalid is
    /// dropped when a block is made, and nobody is told.
    pub fn insert(&mut self, tx: Arc<SignedTransaction>) {
        self.pool.insert(tx);
    }

    /// The same check without taking the transaction. `signature`: also what never changes.
    pub fn check(&self, tx: &SignedTransaction, signature: bool) -> Result<(), InvalidTxError> {
        self.check_reference(tx)?;
        self.check_congestion()?;
        if signature {
            validity::check_stateless(tx)?;
        }
        validity::check_stateful(&self.state, tx, None).map(|_| ())
    }

    /// Makes the next block at `now_nanos` (nanoseconds since 1970; a clock that stands still is stepped over).
    pub fn produce_block(&mut self, now_nanos: u64) {
        self.produce_at(self.head().height + 1, now_nanos);
    }

    /// Makes a block `delta` heights above the head, as `sandbox_fast_forward` does.
    ///
    /// # Errors
    /// The height would be too large, or not larger.
    pub fn fast_forward(&mut self, delta: u64, now_nanos: u64) -> Result<(), &'static str> {
        match self.head().height.checked_add(delta) {
            Some(height) if delta > 0 && height <= MAX_HEIGHT => {
                self.produce_at(height, now_nanos);
                Ok(())
            }
            _ => Err("delta_height out of range"),
        }
    }

    /// Applies records at the start of the next block.
    pub fn patch(&mut self, patches: Vec<Patch>) {
        self.patches.extend(patches);
    }

    /// The last block.
    pub fn head(&self) -> &Block {
        self.history.head()
    }

    /// The last block that can no longer be undone.
    pub fn final_block(&self) -> &Block {
        self.history.final_block()
    }

    /// What it remembers of blocks and transactions.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Blocks after its reference block in which a transaction may still be included.
    pub fn validity_period(&self) -> u64 {
        self.validity_period
    }

    /// Blocks an epoch.
    pub fn epoch_length(&self) -> u64 {
        self.epoch_length
    }

    /// Gas and compute a block: `u64::MAX` if unlimited.
    pub fn gas_limit(&self) -> u64 {
        match self.gas_limit {
            Some(limit) => limit,
            None if self.unlimited => u64::MAX,
            None => gas::CHUNK_GAS_LIMIT,
        }
    }

    /// Another limit for the blocks to come, or the usual one. Receipts beyond it are delayed, as by other people's load.
    pub fn limit_gas(&mut self, limit: Option<u64>) {
        self.gas_limit = limit;
    }

    /// What contract calls cost from now on, in percent of the recorded cost.
    pub fn price_calls(&mut self, percent: u64) {
        self.state.call_percent = percent;
    }

    /// yoctoNEAR that exist.
    pub fn total_supply(&self) -> u128 {
        self.genesis_supply.saturating_sub(self.burnt)
    }

    /// How many transactions wait for a block.
    pub fn pool_len(&self) -> usize {
        self.pool.len()
    }

    /// How many receipts were delayed by the block's limit.
    pub fn delayed_receipts(&self) -> usize {
        self.delayed.len()
    }

    /// An account at the head.
    pub fn account(&self, id: &AccountId) -> Option<&Account> {
        self.state.accounts.get(id)
    }

    /// An access key at the head.
    pub fn access_key(&self, id: &AccountId, key: &near_crypto::PublicKey) -> Option<&AccessKey> {
        self.state.keys.get(&(id.clone(), key.clone()))
    }

    /// An access key after the block at `height`; none if there was none, or nobody knows any more.
    pub fn access_key_at(&self, height: u64, id: &AccountId, key: &near_crypto::PublicKey) -> Option<&AccessKey> {
        self.state.can_view(height).then(|| self.state.keys.at(height, &(id.clone(), key.clone()))).flatten()
    }

    /// A token balance after the block at `height`; none if not registered, no token, or nobody knows any more.
    pub fn token_balance_at(&self, height: u64, contract: &AccountId, owner: &AccountId) -> Option<u128> {
        let token = self.token_at(height, contract).filter(|_| self.state.can_view(height))?;
        token.balances.at(height, owner).copied()
    }

    /// A token balance at the head; none if not registered, or no token.
    pub fn token_balance(&self, contract: &AccountId, owner: &AccountId) -> Option<u128> {
        self.state.tokens.get(contract)?.balances.get(owner).copied()
    }

    /// Sum of a token's balances at the head.
    pub fn token_total(&self, contract: &AccountId) -> Option<u128> {
        Some(self.state.tokens.get(contract)?.balances.iter().map(|(_, balance)| balance).sum())
    }

    /// Where all NEAR is: for conservation checks; reads every account.
    pub fn supply(&self) -> Supply {
        let held = self.state.accounts.iter().map(|(_, account)| account.amount + account.locked).sum();
        let waiting = self.incoming.iter().chain(&self.delayed);
        let in_flight = waiting.map(Pending::money).sum();
        Supply { held, in_flight, burnt: self.burnt }
    }

    /// The token at `contract` as of the block at `height`.
    pub(crate) fn token_at(&self, height: u64, contract: &AccountId) -> Option<&Token> {
        self.state.tokens.get(contract).filter(|token| token.created <= height)
    }

    fn check_reference(&self, tx: &SignedTransaction) -> Result<(), InvalidTxError> {
        // An unknown block is `Expired` too: a real node cannot tell a block it forgot from one that never was.
        let base = self.history.height_of(tx.transaction.block_hash()).ok_or(InvalidTxError::Expired)?;
        if self.head().height > base.saturating_add(self.validity_period) {
            return Err(InvalidTxError::Expired);
        }
        Ok(())
    }

    /// Between 0 and 1: how full the queue of delayed receipts is.
    fn congestion(&self) -> f64 {
        (self.delayed_gas as f64 / gas::MAX_BACKLOG_GAS as f64).min(1.0)
    }

    fn check_congestion(&self) -> Result<(), InvalidTxError> {
        let level = self.congestion();
        if level < gas::REJECT_CONGESTION {
            return Ok(());
        }
        // The error's number type is not one of ours; its JSON form is.
        let error = serde_json::json!({"ShardCongested": {"shard_id": 0, "congestion_level": level}});
        Err(serde_json::from_value(error).unwrap_or(InvalidTxError::ShardStuck { shard_id: 0, missed_chunks: 0 }))
    }

    fn produce_at(&mut self, height: u64, now_nanos: u64) {
        let limit = self.gas_limit();
        let mut block = self.next_block(height, now_nanos);
        let mut compute = 0_u64;
        self.apply_patches(&mut block);
        // Taken out first: the receipts of this block's transactions run in the next one.
        let mut incoming = std::mem::take(&mut self.incoming);
        let local = self.include_transactions(&mut block, &mut compute);
        for pending in local {
            if compute < limit {
                compute = compute.saturating_add(self.run(&mut block, pending));
            } else {
                self.delay(pending);
            }
        }
        while compute < limit {
            let Some(pending) = self.delayed.pop_front() else { break };
            self.delayed_gas -= u128::from(pending.prepaid_gas);
            compute = compute.saturating_add(self.run(&mut block, pending));
        }
        while compute < limit {
            let Some(pending) = incoming.pop_front() else { break };
            compute = compute.saturating_add(self.run(&mut block, pending));
        }
        for pending in incoming {
            self.delay(pending);
        }
        block.delayed_gas = self.delayed_gas;
        self.state.seal(height);
        self.history.push(block);
    }

    fn next_block(&self, height: u64, now_nanos: u64) -> Block {
        let head = self.head();
        let timestamp_nanos = now_nanos.max(head.timestamp_nanos + 1);
        let hash = child_id(&head.hash, height, timestamp_nanos);
        Block {
            height,
            prev_height: head.height,
            ordinal: head.ordinal + 1,
            hash,
            prev_hash: head.hash,
            chunk_hash: child_id(&hash, height, 0),
            tx_root: CryptoHash::default(),
            timestamp_nanos,
            prev_gas_used: head.gas_used,
            gas_used: 0,
            delayed_gas: 0,
            tx_count: 0,
            first_tx: self.history.next_seq(),
            outgoing: Vec::new(),
            key_changes: Vec::new(),
            detailed: true,
            weight: 0,
        }
    }

    fn apply_patches(&mut self, block: &mut Block) {
        for patch in std::mem::take(&mut self.patches) {
            match patch {
                Patch::AccessKey(account, public_key, key) => {
                    let id = (account, public_key);
                    block.key_changes.push(KeyChange { id: id.clone(), cause: Cause::Patch, key: Some(key.clone()) });
                    self.state.set_key(id, Some(key));
                }
                Patch::Account(id, account) => {
                    let had = self.state.accounts.get(&id).map_or(0, |old| old.amount.saturating_add(old.locked));
                    let has = account.amount.saturating_add(account.locked);
                    self.genesis_supply = self.genesis_supply.saturating_sub(had).saturating_add(has);
                    self.state.accounts.set(id, Some(account));
                }
                Patch::TokenBalance(contract, owner, balance) => {
                    if let Some(token) = self.state.token_mut(&contract) {
                        token.balances.set(owner, balance);
                    }
                }
                Patch::TokenRefuses(contract, receiver, refuses) => {
                    if let Some(token) = self.state.token_mut(&contract) {
                        token.refuse(receiver, refuses);
                    }
                }
            }
        }
    }

    /// Takes transactions from the pool; returns the receipts that run in this very block.
    fn include_transactions(&mut self, block: &mut Block, compute: &mut u64) -> Vec<Pending> {
        let mut pool = std::mem::take(&mut self.pool);
        let mut local = Vec::new();
        let mut bytes = 0;
        let tx_gas = if self.unlimited {
            u64::MAX
        } else {
            let span = (gas::MAX_TX_GAS - gas::MIN_TX_GAS) as f64;
            gas::MAX_TX_GAS - (span * self.congestion()) as u64
        };
        let max_bytes = if self.unlimited { u64::MAX } else { gas::MAX_CHUNK_TX_BYTES };
        pool.drain(|tx| {
            if *compute >= tx_gas || bytes + tx.get_size() > max_bytes {
                return Verdict::Full;
            }
            if self.check_reference(tx).is_err() || self.check_congestion().is_err() {
                return Verdict::Dropped;
            }
            let Ok(charge) = validity::check_stateful(&self.state, tx, Some(block.height)) else {
                return Verdict::Dropped;
            };
            bytes += tx.get_size();
            *compute = compute.saturating_add(charge.cost.send_gas);
            let cost = charge.cost;
            let change = KeyChange {
                id: charge.key_id.clone(),
                cause: Cause::Transaction(tx.get_hash()),
                key: Some(charge.key.clone()),
            };
            block.key_changes.push(change);
            self.state.accounts.set(charge.key_id.0.clone(), Some(charge.account));
            self.state.set_key(charge.key_id, Some(charge.key));
            let pending = self.include(block, tx, cost);
            if tx.transaction.signer_id() == tx.transaction.receiver_id() {
                local.push(pending);
            } else {
                self.incoming.push_back(pending);
            }
            Verdict::Taken
        });
        self.pool = pool;
        local
    }

    fn include(&mut self, block: &mut Block, tx: &Arc<SignedTransaction>, cost: TxCost) -> Pending {
        let hash = tx.get_hash();
        let id = child_id(&hash, block.height, 0);
        self.burnt += u128::from(cost.send_gas) * GAS_PRICE;
        let receipt = ReceiptRecord {
            id,
            predecessor: tx.transaction.signer_id().clone(),
            receiver: tx.transaction.receiver_id().clone(),
            transfer: None,
            gas_price: GAS_PRICE,
            outcome: None,
        };
        let details = Details {
            tx: Arc::clone(tx),
            send_gas: cost.send_gas,
            receipts: vec![receipt],
            open: 1,
            open_refunds: 0,
            last_height: block.height,
        };
        let tx_seq = self.history.add(hash, block.height, details);
        block.tx_root = child_id(&block.tx_root, 0, u64::from_le_bytes(first_bytes(&hash)));
        block.tx_count += 1;
        block.gas_used += cost.send_gas;
        // Twice its bytes (decoded actions are larger), and the records around it.
        block.weight += tx.get_size() * 2 + 1_500;
        block.outgoing.push((tx_seq, 0));
        Pending { tx_seq, index: 0, id, tx: Arc::clone(tx), what: What::Actions, prepaid_gas: cost.prepaid_gas }
    }
}

fn first_bytes(hash: &CryptoHash) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.0[..8]);
    bytes
}
