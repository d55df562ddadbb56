//! The chain: blocks, receipts, finality. A plain struct without clock, thread or I/O: time is an argument, and the same
//! calls give the same chain.
//!
//! In block h: transactions from the pool (nonce moved, cost taken); then receipts until the compute limit: those whose
//! sender is their receiver, the delayed ones, the ones made in block h-1. What does not fit is delayed. A receipt's
//! refunds are receipts of the next block. The last final block is the head's grandparent.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use near_primitives::account::{AccessKey, AccessKeyPermission};
use near_primitives::action::{Action, TransferAction};
use near_primitives::errors::{ActionError, InvalidTxError};
use near_primitives::hash::{CryptoHash, hash};
use near_primitives::transaction::SignedTransaction;
use near_primitives::types::{AccountId, Balance};

use crate::config::Config;
use crate::credentials::{self, derive_key};
use crate::gas::{self, GAS_PRICE};
use crate::pool::{Pool, Verdict};
use crate::runtime::{self, Executed, Receipt, TxCost, child_id};
use crate::state::{Account, KeyId, State};
use crate::token::{ACCOUNT_STORAGE, Token};

/// Blocks that are remembered, with the hashes of their transactions: 16 hours of 600 ms. Older reference blocks are
/// unknown (so their transactions are `Expired`), older transactions too.
pub const MAX_BLOCKS: usize = 100_000;
/// Longest validity period: shorter than what is remembered, so that forgetting never makes a live transaction unknown.
pub const MAX_VALIDITY_PERIOD: u64 = MAX_BLOCKS as u64 - 10_000;
/// Memory for the details of transactions (actions, outcomes, logs), in bytes, estimated. The oldest blocks lose theirs
/// first; their hashes stay known, so that nobody takes an executed transaction for a dead one.
pub const MAX_DETAIL_BYTES: u64 = 1 << 30;
/// Largest height: nonces up to a million times this must fit 64 bits.
pub const MAX_HEIGHT: u64 = 1_000_000_000_000;

/// yoctoNEAR in a NEAR.
const NEAR: u128 = 1_000_000_000_000_000_000_000_000;
/// Supply of the sandbox's token, in its smallest unit.
pub const TOKEN_SUPPLY: u128 = 1_000_000_000 * NEAR;

/// How far a transaction has come, in nearcore's terms (`final_execution_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Not on chain, as far as is known.
    None,
    /// In a block.
    Included,
    /// In a block, and everything but refunds has run; nothing final.
    ExecutedOptimistic,
    /// In a final block; not all has run.
    IncludedFinal,
    /// In a final block, and everything but refunds has run.
    Executed,
    /// All its receipts, refunds too, are in final blocks.
    Final,
}

impl Progress {
    /// Whether a client that waits for `wanted` may be answered.
    pub fn satisfies(self, wanted: Self) -> bool {
        match wanted {
            Self::None => true,
            Self::Included => self != Self::None,
            Self::ExecutedOptimistic => matches!(self, Self::ExecutedOptimistic | Self::Executed | Self::Final),
            Self::IncludedFinal => matches!(self, Self::IncludedFinal | Self::Executed | Self::Final),
            Self::Executed => matches!(self, Self::Executed | Self::Final),
            Self::Final => self == Self::Final,
        }
    }
}

/// A block with its one chunk.
#[derive(Debug)]
pub struct Block {
    /// Its height; genesis is 0.
    pub height: u64,
    /// Height of its parent (itself for genesis).
    pub prev_height: u64,
    /// How many blocks there are up to it, itself included.
    pub ordinal: u64,
    /// Its hash.
    pub hash: CryptoHash,
    /// Its parent's hash.
    pub prev_hash: CryptoHash,
    /// Its chunk's hash.
    pub chunk_hash: CryptoHash,
    /// Root over its transactions; the default if it has none.
    pub tx_root: CryptoHash,
    /// When it was made, in nanoseconds since 1970.
    pub timestamp_nanos: u64,
    /// Gas burnt in its parent: a chunk's header tells of the one before.
    pub prev_gas_used: u64,
    /// Gas burnt in it.
    pub gas_used: u64,
    /// Gas of the receipts that were delayed when it was made.
    pub delayed_gas: u128,
    /// Number of its transactions.
    pub tx_count: u64,
    pub(crate) first_tx: u64,
    /// Receipts made in it: transaction and index there.
    pub(crate) outgoing: Vec<(u64, u32)>,
    /// Access keys that changed in it.
    pub(crate) key_changes: Vec<KeyChange>,
    /// Whether the details of its transactions are still here.
    pub(crate) detailed: bool,
    weight: u64,
}

/// An access key's value after a transaction or receipt touched it.
#[derive(Debug)]
pub(crate) struct KeyChange {
    pub(crate) id: KeyId,
    pub(crate) cause: Cause,
    pub(crate) key: Option<AccessKey>,
}

/// What changed an access key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause {
    Transaction(CryptoHash),
    Receipt(CryptoHash),
    /// `sandbox_patch_state`.
    Patch,
}

/// A transaction on chain.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) hash: CryptoHash,
    pub(crate) height: u64,
    /// None once the block's details were dropped.
    pub(crate) details: Option<Box<Details>>,
}

/// Everything that can be told of a transaction on chain.
#[derive(Debug)]
pub(crate) struct Details {
    pub(crate) tx: Arc<SignedTransaction>,
    pub(crate) send_gas: u64,
    /// The first is the one that the transaction became; parents come before what they make.
    pub(crate) receipts: Vec<ReceiptRecord>,
    /// Receipts that have not run: refunds apart.
    open: u32,
    open_refunds: u32,
    /// Height of the last block that ran one of its receipts.
    last_height: u64,
}

/// A receipt on chain.
#[derive(Debug)]
pub(crate) struct ReceiptRecord {
    pub(crate) id: CryptoHash,
    pub(crate) predecessor: AccountId,
    pub(crate) receiver: AccountId,
    /// None: the transaction's own actions.
    pub(crate) transfer: Option<u128>,
    pub(crate) gas_price: u128,
    pub(crate) outcome: Option<Outcome>,
}

/// What a receipt did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) height: u64,
    pub(crate) logs: Vec<String>,
    pub(crate) receipt_ids: Vec<CryptoHash>,
    pub(crate) gas_burnt: u64,
    pub(crate) contract_gas: u64,
    pub(crate) tokens_burnt: u128,
    pub(crate) result: Result<Vec<u8>, ActionError>,
}

/// A receipt that waits to run.
#[derive(Debug)]
struct Pending {
    tx_seq: u64,
    index: u32,
    id: CryptoHash,
    tx: Arc<SignedTransaction>,
    what: What,
    /// Gas that was bought for it.
    prepaid_gas: u64,
}

#[derive(Debug)]
enum What {
    /// The transaction's actions.
    Actions,
    /// A contract sends `amount` to `to`.
    Transfer { from: AccountId, to: AccountId, amount: u128 },
    /// The system gives `amount` back; gas money also returns to the key's allowance.
    Refund { to: AccountId, amount: u128, gas: bool },
}

/// What is known of a transaction hash.
pub(crate) enum Known<'a> {
    Unknown,
    /// On chain, but only this is left.
    Forgotten,
    Here(&'a Record, &'a Details),
}

/// A record of `sandbox_patch_state`.
#[derive(Clone, Debug)]
pub enum Patch {
    /// Sets an access key as it is, nonce included.
    AccessKey(AccountId, near_crypto::PublicKey, AccessKey),
    /// Sets an account.
    Account(AccountId, Account),
}

/// The chain and everything it knows.
#[derive(Debug)]
pub struct Chain {
    pub(crate) state: State,
    pool: Pool,
    blocks: VecDeque<Block>,
    by_hash: HashMap<CryptoHash, u64>,
    by_chunk: HashMap<CryptoHash, u64>,
    records: VecDeque<Record>,
    first_record: u64,
    by_tx: HashMap<CryptoHash, u64>,
    /// Receipts of the previous block.
    incoming: VecDeque<Pending>,
    delayed: VecDeque<Pending>,
    delayed_gas: u128,
    patches: Vec<Patch>,
    detail_bytes: u64,
    /// Ordinal of the oldest block with details.
    detailed_from: u64,
    burnt: u128,
    genesis_supply: u128,
    genesis_hash: CryptoHash,
    genesis_nanos: u64,
    validity_period: u64,
    epoch_length: u64,
    unlimited: bool,
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
        let mut state = State::default();
        let account = account_id(credentials::ACCOUNT);
        let ft = account_id(credentials::FT);
        let mut owner = Account::new(1_000_000_000 * NEAR);
        owner.locked = 50_000_000 * NEAR;
        for name in std::iter::once("master".to_owned()).chain((1..=config.keys).map(|index| format!("key{index}"))) {
            owner.storage_usage += gas::KEY_STORAGE;
            let key = AccessKey { nonce: 0, permission: AccessKeyPermission::FullAccess };
            state.set_key((account.clone(), derive_key(config.seed, &name).public_key()), Some(key));
        }
        let mut token = Token::new(account.clone(), TOKEN_SUPPLY, Token::default_metadata(), 0);
        let mut supply = owner.amount + owner.locked;
        for index in 1..=config.receivers {
            let user = account_id(&format!("user{index}.{}", credentials::ACCOUNT));
            token.balances.set(user.clone(), Some(0));
            state.accounts.set(user, Some(Account::new(NEAR)));
            supply += NEAR;
        }
        let mut contract = Account::new(10_000 * NEAR);
        contract.code_hash = hash(b"keyshard sandbox: native NEP-141 token");
        // As large as the standard contract, so that its balance must cover as much.
        contract.storage_usage += 205_000 + ACCOUNT_STORAGE * (config.receivers as u64 + 1);
        supply += contract.amount;
        state.accounts.set(account, Some(owner));
        state.accounts.set(ft.clone(), Some(contract));
        state.create_token(ft, token);
        state.seal_genesis();

        let genesis_hash = child_id(&hash(b"keyshard sandbox"), genesis_nanos, config.seed);
        let genesis = Block {
            height: 0,
            prev_height: 0,
            ordinal: 1,
            hash: genesis_hash,
            prev_hash: CryptoHash::default(),
            chunk_hash: child_id(&genesis_hash, 0, 0),
            tx_root: CryptoHash::default(),
            timestamp_nanos: genesis_nanos,
            prev_gas_used: 0,
            gas_used: 0,
            delayed_gas: 0,
            tx_count: 0,
            first_tx: 0,
            outgoing: Vec::new(),
            key_changes: Vec::new(),
            detailed: true,
            weight: 0,
        };
        Self {
            state,
            pool: Pool::default(),
            by_hash: HashMap::from([(genesis_hash, 0)]),
            by_chunk: HashMap::from([(genesis.chunk_hash, 0)]),
            blocks: VecDeque::from([genesis]),
            records: VecDeque::new(),
            first_record: 0,
            by_tx: HashMap::new(),
            incoming: VecDeque::new(),
            delayed: VecDeque::new(),
            delayed_gas: 0,
            patches: Vec::new(),
            detail_bytes: 0,
            detailed_from: 1,
            burnt: 0,
            genesis_supply: supply,
            genesis_hash,
            genesis_nanos,
            validity_period: config.transaction_validity_period,
            epoch_length: config.epoch_length,
            unlimited: config.unlimited,
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

    /// The same check without taking the transaction. `signature`: also what never changes.
    pub fn check(&self, tx: &SignedTransaction, signature: bool) -> Result<(), InvalidTxError> {
        self.check_reference(tx)?;
        self.check_congestion()?;
        if signature {
            runtime::check_stateless(tx)?;
        }
        runtime::check_stateful(&self.state, tx, None).map(|_| ())
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
        self.back(0)
    }

    /// The last block that can no longer be undone.
    pub fn final_block(&self) -> &Block {
        self.back(2)
    }

    /// The block between the two.
    pub fn near_final_block(&self) -> &Block {
        self.back(1)
    }

    /// The oldest block that is remembered.
    pub fn earliest_block(&self) -> &Block {
        &self.blocks[0]
    }

    /// The block at `height`, if there is one.
    pub fn block_at(&self, height: u64) -> Option<&Block> {
        let index = self.blocks.partition_point(|block| block.height < height);
        self.blocks.get(index).filter(|block| block.height == height)
    }

    /// The block with this hash.
    pub fn block_by_hash(&self, hash: &CryptoHash) -> Option<&Block> {
        self.block_at(*self.by_hash.get(hash)?)
    }

    /// The block whose chunk has this hash.
    pub fn block_by_chunk(&self, hash: &CryptoHash) -> Option<&Block> {
        self.block_at(*self.by_chunk.get(hash)?)
    }

    /// The block before `block`, if it is remembered.
    pub fn parent(&self, block: &Block) -> Option<&Block> {
        let index = self.blocks.partition_point(|other| other.height < block.height);
        self.blocks.get(index.checked_sub(1)?)
    }

    /// The genesis block's hash.
    pub fn genesis_hash(&self) -> CryptoHash {
        self.genesis_hash
    }

    /// When the genesis block was made, in nanoseconds since 1970.
    pub fn genesis_nanos(&self) -> u64 {
        self.genesis_nanos
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
        if self.unlimited { u64::MAX } else { gas::CHUNK_GAS_LIMIT }
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

    /// How far a transaction has come.
    pub fn progress(&self, hash: &CryptoHash) -> Progress {
        match self.known(hash) {
            Known::Unknown => Progress::None,
            Known::Forgotten => Progress::Final,
            Known::Here(record, details) => self.progress_of(record, details),
        }
    }

    /// An account at the head.
    pub fn account(&self, id: &AccountId) -> Option<&Account> {
        self.state.accounts.get(id)
    }

    /// An access key at the head.
    pub fn access_key(&self, id: &AccountId, key: &near_crypto::PublicKey) -> Option<&AccessKey> {
        self.state.keys.get(&(id.clone(), key.clone()))
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
        let in_flight = waiting
            .map(|pending| match &pending.what {
                What::Actions => runtime::cost(&pending.tx)
                    .map_or(0, |cost| u128::from(cost.prepaid_gas) * GAS_PRICE + cost.deposits),
                What::Transfer { amount, .. } => u128::from(pending.prepaid_gas) * GAS_PRICE + amount,
                What::Refund { amount, .. } => *amount,
            })
            .sum();
        Supply { held, in_flight, burnt: self.burnt }
    }

    pub(crate) fn known(&self, hash: &CryptoHash) -> Known<'_> {
        let record =
            self.by_tx.get(hash).and_then(|seq| self.records.get(usize::try_from(seq - self.first_record).ok()?));
        match record {
            None => Known::Unknown,
            Some(record) => match &record.details {
                None => Known::Forgotten,
                Some(details) => Known::Here(record, details),
            },
        }
    }

    /// The details of a block's transactions, or of those a receipt of it belongs to.
    pub(crate) fn details(&self, seq: u64) -> Option<(&Record, &Details)> {
        let record = self.records.get(usize::try_from(seq.checked_sub(self.first_record)?).ok()?)?;
        Some((record, record.details.as_deref()?))
    }

    pub(crate) fn progress_of(&self, record: &Record, details: &Details) -> Progress {
        let last_final = self.final_block().height;
        let included_final = record.height <= last_final;
        match (included_final, details.open == 0) {
            (true, true) if details.open_refunds == 0 && details.last_height <= last_final => Progress::Final,
            (true, true) => Progress::Executed,
            (true, false) => Progress::IncludedFinal,
            (false, true) => Progress::ExecutedOptimistic,
            (false, false) => Progress::Included,
        }
    }

    /// The token at `contract` as of the block at `height`.
    pub(crate) fn token_at(&self, height: u64, contract: &AccountId) -> Option<&Token> {
        self.state.tokens.get(contract).filter(|token| token.created <= height)
    }

    fn back(&self, blocks: usize) -> &Block {
        &self.blocks[self.blocks.len().saturating_sub(1 + blocks)]
    }

    fn check_reference(&self, tx: &SignedTransaction) -> Result<(), InvalidTxError> {
        // An unknown block is `Expired` too: a real node cannot tell a block it forgot from one that never was.
        let base = self.by_hash.get(tx.transaction.block_hash()).ok_or(InvalidTxError::Expired)?;
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
        self.by_hash.insert(block.hash, height);
        self.by_chunk.insert(block.chunk_hash, height);
        self.detail_bytes += block.weight;
        self.blocks.push_back(block);
        self.forget();
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
            first_tx: self.first_record + self.records.len() as u64,
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
                    let had = self.state.accounts.get(&id).map_or(0, |old| old.amount + old.locked);
                    let has = account.amount.saturating_add(account.locked);
                    self.genesis_supply = self.genesis_supply.saturating_sub(had).saturating_add(has);
                    self.state.accounts.set(id, Some(account));
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
            let Ok(charge) = runtime::check_stateful(&self.state, tx, Some(block.height)) else {
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
        let tx_seq = self.first_record + self.records.len() as u64;
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
        self.records.push_back(Record { hash, height: block.height, details: Some(Box::new(details)) });
        self.by_tx.insert(hash, tx_seq);
        block.tx_root = child_id(&block.tx_root, 0, u64::from_le_bytes(first_bytes(&hash)));
        block.tx_count += 1;
        block.gas_used += cost.send_gas;
        // Twice its bytes (decoded actions are larger), and the records around it.
        block.weight += tx.get_size() * 2 + 1_500;
        block.outgoing.push((tx_seq, 0));
        Pending { tx_seq, index: 0, id, tx: Arc::clone(tx), what: What::Actions, prepaid_gas: cost.prepaid_gas }
    }

    fn delay(&mut self, pending: Pending) {
        self.delayed_gas += u128::from(pending.prepaid_gas);
        self.delayed.push_back(pending);
    }

    /// Runs a receipt and queues what it makes; returns its compute.
    fn run(&mut self, block: &mut Block, pending: Pending) -> u64 {
        let tx = pending.tx;
        let system = account_id("system");
        let transfer = |amount: u128| [Action::Transfer(TransferAction { deposit: Balance::from_yoctonear(amount) })];
        let refund_action;
        let (predecessor, receiver, actions, gas_price): (&AccountId, &AccountId, &[Action], u128) = match &pending.what
        {
            What::Actions => {
                (tx.transaction.signer_id(), tx.transaction.receiver_id(), tx.transaction.actions(), GAS_PRICE)
            }
            What::Transfer { from, to, amount } => {
                refund_action = transfer(*amount);
                (from, to, &refund_action, GAS_PRICE)
            }
            What::Refund { to, amount, .. } => {
                refund_action = transfer(*amount);
                (&system, to, &refund_action, 0)
            }
        };
        let done = runtime::execute(&mut self.state, Receipt { predecessor, receiver, actions, height: block.height });
        let tokens_burnt = u128::from(done.gas_burnt) * gas_price;
        let (share, of) = gas::CONTRACT_REWARD;
        let reward = u128::from(done.contract_gas) * gas_price * share / of;
        self.burnt += tokens_burnt - reward;
        self.credit(receiver, reward);
        if let What::Refund { amount, gas: true, .. } = &pending.what {
            self.restore_allowance(&tx, *amount);
        }
        for id in &done.changed_keys {
            let key = self.state.keys.get(id).cloned();
            block.key_changes.push(KeyChange { id: id.clone(), cause: Cause::Receipt(pending.id), key });
        }

        let mut made = Vec::new();
        for amount in &done.transfers_back {
            made.push(What::Transfer { from: receiver.clone(), to: predecessor.clone(), amount: *amount });
        }
        if matches!(pending.what, What::Refund { .. }) {
            // A refund that cannot be delivered is burnt.
            self.burnt += done.deposits_back;
        } else {
            if done.deposits_back > 0 {
                made.push(What::Refund { to: predecessor.clone(), amount: done.deposits_back, gas: false });
            }
            let unused = pending.prepaid_gas.saturating_sub(done.gas_used);
            if unused > 0 {
                // Gas was bought by the transaction's signer, whoever sent this receipt.
                let to = tx.transaction.signer_id().clone();
                made.push(What::Refund { to, amount: u128::from(unused) * gas_price, gas: true });
            }
        }
        let refund = matches!(pending.what, What::Refund { .. });
        self.finish(block, &tx, (pending.tx_seq, pending.index, pending.id), refund, tokens_burnt, done, made)
    }

    /// Records a receipt's outcome and queues what it made.
    #[expect(clippy::too_many_arguments, reason = "one caller; the parts of one thing that must be taken apart there")]
    fn finish(
        &mut self,
        block: &mut Block,
        tx: &Arc<SignedTransaction>,
        (tx_seq, index, id): (u64, u32, CryptoHash),
        refund: bool,
        tokens_burnt: u128,
        done: Executed,
        made: Vec<What>,
    ) -> u64 {
        block.gas_used += done.gas_burnt;
        block.weight += 400 + done.logs.iter().map(|log| log.len() as u64 + 24).sum::<u64>();
        let slot = tx_seq.checked_sub(self.first_record).and_then(|slot| self.records.get_mut(slot as usize));
        // Details are kept until a transaction is done, so they are here.
        let Some(details) = slot.and_then(|record| record.details.as_deref_mut()) else { return done.compute };
        let mut receipt_ids = Vec::with_capacity(made.len());
        for (number, what) in made.into_iter().enumerate() {
            let child = child_id(&id, block.height, number as u64);
            receipt_ids.push(child);
            let child_index = details.receipts.len() as u32;
            let (predecessor, receiver, amount, gas_price) = match &what {
                What::Transfer { from, to, amount } => (from.clone(), to.clone(), *amount, GAS_PRICE),
                What::Refund { to, amount, .. } => (account_id("system"), to.clone(), *amount, 0),
                What::Actions => continue,
            };
            match &what {
                What::Refund { .. } => details.open_refunds += 1,
                _ => details.open += 1,
            }
            let record =
                ReceiptRecord { id: child, predecessor, receiver, transfer: Some(amount), gas_price, outcome: None };
            details.receipts.push(record);
            block.outgoing.push((tx_seq, child_index));
            self.incoming.push_back(Pending {
                tx_seq,
                index: child_index,
                id: child,
                tx: Arc::clone(tx),
                what,
                prepaid_gas: gas::RECEIPT + gas::TRANSFER,
            });
        }
        if refund {
            details.open_refunds -= 1;
        } else {
            details.open -= 1;
        }
        details.last_height = block.height;
        if let Some(receipt) = details.receipts.get_mut(index as usize) {
            receipt.outcome = Some(Outcome {
                height: block.height,
                logs: done.logs,
                receipt_ids,
                gas_burnt: done.gas_burnt,
                contract_gas: done.contract_gas,
                tokens_burnt,
                result: done.result,
            });
        }
        done.compute
    }

    fn credit(&mut self, id: &AccountId, amount: u128) {
        if amount == 0 {
            return;
        }
        if let Some(account) = self.state.accounts.get(id) {
            let mut account = account.clone();
            account.amount += amount;
            self.state.accounts.set(id.clone(), Some(account));
        }
    }

    fn restore_allowance(&mut self, tx: &SignedTransaction, amount: u128) {
        let id = (tx.transaction.signer_id().clone(), tx.transaction.public_key().clone());
        let Some(key) = self.state.keys.get(&id) else { return };
        let mut key = key.clone();
        if let AccessKeyPermission::FunctionCall(limits) = &mut key.permission
            && let Some(allowance) = &mut limits.allowance
        {
            *allowance = Balance::from_yoctonear(allowance.as_yoctonear().saturating_add(amount));
            self.state.set_key(id, Some(key));
        }
    }

    /// Keeps memory bounded: first the details of old blocks, then the blocks.
    fn forget(&mut self) {
        let last_final = self.final_block().height;
        let first_ordinal = self.blocks[0].ordinal;
        while self.detail_bytes > MAX_DETAIL_BYTES {
            let Some(block) = self.blocks.get_mut((self.detailed_from - first_ordinal) as usize) else { break };
            let first = (block.first_tx - self.first_record) as usize;
            let transactions = first..first + block.tx_count as usize;
            let done =
                |details: &Details| details.open == 0 && details.open_refunds == 0 && details.last_height <= last_final;
            if block.height > last_final
                || !self.records.range(transactions.clone()).all(|record| record.details.as_deref().is_none_or(done))
            {
                break;
            }
            for record in self.records.range_mut(transactions) {
                record.details = None;
            }
            block.outgoing = Vec::new();
            block.key_changes = Vec::new();
            block.detailed = false;
            self.detail_bytes -= block.weight;
            self.detailed_from += 1;
        }
        while self.blocks.len() > MAX_BLOCKS {
            let Some(block) = self.blocks.pop_front() else { break };
            self.by_hash.remove(&block.hash);
            self.by_chunk.remove(&block.chunk_hash);
            for _ in 0..block.tx_count {
                if let Some(record) = self.records.pop_front() {
                    self.by_tx.remove(&record.hash);
                    self.first_record += 1;
                }
            }
            if block.detailed {
                self.detail_bytes -= block.weight;
                self.detailed_from += 1;
            }
        }
    }
}

/// An account id that is known to be valid.
#[expect(clippy::expect_used, reason = "only called with names written in this crate")]
pub(crate) fn account_id(text: &str) -> AccountId {
    text.parse().expect("a valid account id")
}

fn first_bytes(hash: &CryptoHash) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.0[..8]);
    bytes
}
