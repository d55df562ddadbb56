//! What the chain remembers: blocks, transactions and their outcomes, found by height or hash, within bounds.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use near_primitives::account::AccessKey;
use near_primitives::errors::ActionError;
use near_primitives::hash::CryptoHash;
use near_primitives::transaction::SignedTransaction;
use near_primitives::types::AccountId;

use crate::state::KeyId;

/// Blocks that are remembered, with the hashes of their transactions: 16 hours of 600 ms. Older reference blocks are
/// unknown (so their transactions are `Expired`), older transactions too.
pub const MAX_BLOCKS: usize = 100_000;
/// Longest validity period: shorter than what is remembered, so that forgetting never makes a live transaction unknown.
pub const MAX_VALIDITY_PERIOD: u64 = MAX_BLOCKS as u64 - 10_000;
/// Memory for the details of transactions (actions, outcomes, logs), in bytes, estimated. The oldest blocks lose theirs
/// first; their hashes stay known, so that nobody takes an executed transaction for a dead one.
pub const MAX_DETAIL_BYTES: u64 = 1 << 30;
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
#[derive(Clone, Debug)]
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
    pub(crate) weight: u64,
}

/// An access key's value after a transaction or receipt touched it.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) hash: CryptoHash,
    pub(crate) height: u64,
    /// None once the block's details were dropped.
    pub(crate) details: Option<Box<Details>>,
}

/// Everything that can be told of a transaction on chain.
#[derive(Clone, Debug)]
pub(crate) struct Details {
    pub(crate) tx: Arc<SignedTransaction>,
    pub(crate) send_gas: u64,
    /// The first is the one that the transaction became; parents come before what they make.
    pub(crate) receipts: Vec<ReceiptRecord>,
    /// Receipts that have not run: refunds apart.
    pub(crate) open: u32,
    pub(crate) open_refunds: u32,
    /// Height of the last block that ran one of its receipts.
    pub(crate) last_height: u64,
}

/// A receipt on chain.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) height: u64,
    pub(crate) logs: Vec<String>,
    pub(crate) receipt_ids: Vec<CryptoHash>,
    pub(crate) gas_burnt: u64,
    pub(crate) contract_gas: u64,
    pub(crate) tokens_burnt: u128,
    pub(crate) result: Result<Vec<u8>, ActionError>,
}

/// What is known of a transaction hash.
pub(crate) enum Known<'a> {
    Unknown,
    /// On chain, but only this is left.
    Forgotten,
    Here(&'a Record, &'a Details),
}

/// All that is remembered.
#[derive(Clone, Debug)]
pub struct History {
    genesis_hash: CryptoHash,
    genesis_nanos: u64,
    blocks: VecDeque<Block>,
    by_hash: HashMap<CryptoHash, u64>,
    by_chunk: HashMap<CryptoHash, u64>,
    records: VecDeque<Record>,
    first_record: u64,
    by_tx: HashMap<CryptoHash, u64>,
    detail_bytes: u64,
    /// Ordinal of the oldest block with details.
    detailed_from: u64,
}

impl History {
    pub(crate) fn new(genesis: Block) -> Self {
        Self {
            genesis_hash: genesis.hash,
            genesis_nanos: genesis.timestamp_nanos,
            by_hash: HashMap::from([(genesis.hash, genesis.height)]),
            by_chunk: HashMap::from([(genesis.chunk_hash, genesis.height)]),
            detailed_from: genesis.ordinal,
            blocks: VecDeque::from([genesis]),
            records: VecDeque::new(),
            first_record: 0,
            by_tx: HashMap::new(),
            detail_bytes: 0,
        }
    }

    /// The genesis block's hash.
    pub fn genesis_hash(&self) -> CryptoHash {
        self.genesis_hash
    }

    /// When the genesis block was made, in nanoseconds since 1970.
    pub fn genesis_nanos(&self) -> u64 {
        self.genesis_nanos
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

    /// How far a transaction has come.
    pub fn progress(&self, hash: &CryptoHash) -> Progress {
        match self.known(hash) {
            Known::Unknown => Progress::None,
            Known::Forgotten => Progress::Final,
            Known::Here(record, details) => self.progress_of(record, details),
        }
    }

    /// What the receipt of a transaction came to; none if it has not run, or is not remembered.
    pub fn result(&self, hash: &CryptoHash) -> Option<&Result<Vec<u8>, ActionError>> {
        match self.known(hash) {
            Known::Here(_, details) => Some(&details.receipts.first()?.outcome.as_ref()?.result),
            Known::Unknown | Known::Forgotten => None,
        }
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
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

    /// Height of the block with this hash.
    pub(crate) fn height_of(&self, hash: &CryptoHash) -> Option<u64> {
        self.by_hash.get(hash).copied()
    }

    /// The number that the next transaction will have.
    pub(crate) fn next_seq(&self) -> u64 {
        self.first_record + self.records.len() as u64
    }

    /// Remembers a transaction that was included at `height`; returns its number.
    pub(crate) fn add(&mut self, hash: CryptoHash, height: u64, details: Details) -> u64 {
        let seq = self.next_seq();
        self.records.push_back(Record { hash, height, details: Some(Box::new(details)) });
        self.by_tx.insert(hash, seq);
        seq
    }

    /// The details of a transaction, to write its receipts' outcomes into.
    pub(crate) fn details_mut(&mut self, seq: u64) -> Option<&mut Details> {
        let index = usize::try_from(seq.checked_sub(self.first_record)?).ok()?;
        self.records.get_mut(index)?.details.as_deref_mut()
    }

    /// Makes a block the head, and forgets what is too much.
    pub(crate) fn push(&mut self, block: Block) {
        self.by_hash.insert(block.hash, block.height);
        self.by_chunk.insert(block.chunk_hash, block.height);
        self.detail_bytes += block.weight;
        self.blocks.push_back(block);
        self.forget();
    }

    fn back(&self, blocks: usize) -> &Block {
        &self.blocks[self.blocks.len().saturating_sub(1 + blocks)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genesis;
    use near_crypto::{KeyType, SecretKey, Signature};
    use near_primitives::transaction::{Transaction, TransactionV0};

    fn details(nonce: u64, open: u32) -> (CryptoHash, Details) {
        let key = SecretKey::from_seed(KeyType::ED25519, "x");
        let tx = Transaction::V0(TransactionV0 {
            signer_id: genesis::account_id("a.near"),
            public_key: key.public_key(),
            nonce,
            receiver_id: genesis::account_id("b.near"),
            block_hash: CryptoHash::default(),
            actions: Vec::new(),
        });
        let tx = Arc::new(SignedTransaction::new(Signature::empty(KeyType::ED25519), tx));
        let hash = tx.get_hash();
        (hash, Details { tx, send_gas: 1, receipts: Vec::new(), open, open_refunds: 0, last_height: 0 })
    }

    fn push(history: &mut History, transactions: Vec<(CryptoHash, Details)>, weight: u64) {
        let height = history.head().height + 1;
        let mut block = genesis::block(height, height);
        block.height = height;
        block.ordinal = height + 1;
        block.first_tx = history.next_seq();
        block.tx_count = transactions.len() as u64;
        block.weight = weight;
        for (hash, details) in transactions {
            history.add(hash, height, details);
        }
        history.push(block);
    }

    #[test]
    fn details_go_first_and_only_of_what_is_done() {
        let mut history = History::new(genesis::block(0, 0));
        let (done, open, later) = (details(1, 0), details(2, 1), details(3, 0));
        let hashes = [done.0, open.0, later.0];
        push(&mut history, vec![done], MAX_DETAIL_BYTES);
        push(&mut history, vec![open], 10);
        assert!(matches!(history.known(&hashes[0]), Known::Here(..)), "not final yet");
        push(&mut history, vec![later], 10);
        assert!(matches!(history.known(&hashes[0]), Known::Forgotten));
        assert_eq!(history.progress(&hashes[0]), Progress::Final, "it is still known to have run");
        push(&mut history, Vec::new(), MAX_DETAIL_BYTES);
        push(&mut history, Vec::new(), 0);
        push(&mut history, Vec::new(), 0);
        // The second has not run: neither it nor what came after it goes.
        assert!(matches!(history.known(&hashes[1]), Known::Here(..)));
        assert!(matches!(history.known(&hashes[2]), Known::Here(..)));
        assert!(matches!(history.known(&CryptoHash::hash_bytes(b"never")), Known::Unknown));
    }

    #[test]
    fn blocks_go_last_with_their_hashes() {
        let mut history = History::new(genesis::block(0, 0));
        let first = details(1, 0);
        let hash = first.0;
        push(&mut history, vec![first], 1);
        let block_hash = history.head().hash;
        for _ in 0..MAX_BLOCKS {
            push(&mut history, Vec::new(), 1);
        }
        assert!(matches!(history.known(&hash), Known::Unknown));
        assert_eq!((history.height_of(&block_hash), history.next_seq()), (None, 1));
        assert_eq!(history.earliest_block().height, 2);
        assert_eq!(history.blocks.len(), MAX_BLOCKS);
        assert_eq!(history.by_hash.len(), MAX_BLOCKS);
        assert_eq!(history.detail_bytes, MAX_BLOCKS as u64);
    }
}
