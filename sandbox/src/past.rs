//! The chain as a node saw it some blocks ago: what one that lags answers, and what is on the ledger for good.

use near_primitives::errors::ActionError;
use near_primitives::hash::CryptoHash;
use near_primitives::transaction::SignedTransaction;

use crate::history::{Block, Details, History, Known, Progress, Record};

/// A transaction on chain.
#[derive(Clone, Copy, Debug)]
pub struct OnChain<'a> {
    /// Its hash.
    pub hash: CryptoHash,
    /// Height of the block that took it.
    pub height: u64,
    /// The transaction.
    pub tx: &'a SignedTransaction,
    /// What its receipt came to, if it has run.
    pub ran: Option<Ran<'a>>,
}

/// What a receipt did.
#[derive(Clone, Copy, Debug)]
pub struct Ran<'a> {
    /// Height of the block that ran it.
    pub height: u64,
    /// The last action's value, or the first error; then nothing of it remains.
    pub result: &'a Result<Vec<u8>, ActionError>,
    /// Gas it burnt.
    pub gas_burnt: u64,
}

impl History {
    /// The last block that could not be undone when `head` was the last block.
    pub fn final_block_at<'a>(&'a self, head: &'a Block) -> &'a Block {
        let parent = self.parent(head).unwrap_or(head);
        self.parent(parent).unwrap_or(parent)
    }

    /// A transaction and its receipt, if they are on chain and remembered.
    pub fn on_chain(&self, hash: &CryptoHash) -> Option<OnChain<'_>> {
        match self.known(hash) {
            Known::Here(record, details) => Some(on_chain(record, details)),
            Known::Unknown | Known::Forgotten => None,
        }
    }

    /// All transactions that are remembered, in the order of the chain.
    pub fn transactions(&self) -> impl Iterator<Item = OnChain<'_>> {
        self.records().filter_map(|record| Some(on_chain(record, record.details.as_deref()?)))
    }

    /// How far a transaction had come when `head` was the last block.
    pub fn progress_at(&self, hash: &CryptoHash, head: &Block) -> Progress {
        let Known::Here(record, details) = self.known(hash) else { return self.progress(hash) };
        if record.height > head.height {
            return Progress::None;
        }
        let last_final = self.final_block_at(head).height;
        let (mut open, mut open_refunds, mut last_height) = (0, 0, record.height);
        // Parents come before what they make.
        let mut made = vec![details.receipts[0].id];
        for receipt in &details.receipts {
            if !made.contains(&receipt.id) {
                continue;
            }
            match receipt.outcome.as_ref().filter(|outcome| outcome.height <= head.height) {
                Some(outcome) => {
                    made.extend(&outcome.receipt_ids);
                    last_height = last_height.max(outcome.height);
                }
                None if receipt.predecessor.is_system() => open_refunds += 1,
                None => open += 1,
            }
        }
        match (record.height <= last_final, open == 0) {
            (true, true) if open_refunds == 0 && last_height <= last_final => Progress::Final,
            (true, true) => Progress::Executed,
            (true, false) => Progress::IncludedFinal,
            (false, true) => Progress::ExecutedOptimistic,
            (false, false) => Progress::Included,
        }
    }
}

fn on_chain<'a>(record: &Record, details: &'a Details) -> OnChain<'a> {
    let outcome = details.receipts.first().and_then(|receipt| receipt.outcome.as_ref());
    let ran =
        outcome.map(|outcome| Ran { height: outcome.height, result: &outcome.result, gas_burnt: outcome.gas_burnt });
    OnChain { hash: record.hash, height: record.height, tx: &details.tx, ran }
}
