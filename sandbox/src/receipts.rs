//! Receipts on their way: running one, paying for it, and queueing the transfers and refunds that it makes.

use std::sync::Arc;

use near_primitives::account::AccessKeyPermission;
use near_primitives::action::{Action, TransferAction};
use near_primitives::hash::CryptoHash;
use near_primitives::transaction::SignedTransaction;
use near_primitives::types::{AccountId, Balance};

use crate::chain::Chain;
use crate::gas::{self, GAS_PRICE};
use crate::genesis::account_id;
use crate::history::{Block, Cause, KeyChange, Outcome, ReceiptRecord};
use crate::runtime::{self, Executed, Receipt, child_id};
use crate::validity;

/// A receipt that waits to run.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) tx_seq: u64,
    pub(crate) index: u32,
    pub(crate) id: CryptoHash,
    pub(crate) tx: Arc<SignedTransaction>,
    pub(crate) what: What,
    /// Gas that was bought for it.
    pub(crate) prepaid_gas: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// The transaction's actions.
    Actions,
    /// A contract sends `amount` to `to`.
    Transfer { from: AccountId, to: AccountId, amount: u128 },
    /// The system gives `amount` back; gas money also returns to the key's allowance.
    Refund { to: AccountId, amount: u128, gas: bool },
}

impl Pending {
    /// yoctoNEAR that it carries: deposits, and gas that was bought for it.
    pub(crate) fn money(&self) -> u128 {
        match &self.what {
            What::Actions => {
                validity::cost(&self.tx).map_or(0, |cost| u128::from(cost.prepaid_gas) * GAS_PRICE + cost.deposits)
            }
            What::Transfer { amount, .. } => u128::from(self.prepaid_gas) * GAS_PRICE + amount,
            What::Refund { amount, .. } => *amount,
        }
    }
}

impl Chain {
    /// Puts off a receipt for which the block has no room.
    pub(crate) fn delay(&mut self, pending: Pending) {
        self.delayed_gas += u128::from(pending.prepaid_gas);
        self.delayed.push_back(pending);
    }

    /// Runs a receipt and queues what it makes; returns its compute.
    pub(crate) fn run(&mut self, block: &mut Block, pending: Pending) -> u64 {
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
        // Details are kept until a transaction is done, so they are here.
        let Some(details) = self.history.details_mut(tx_seq) else { return done.compute };
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
            account.amount = account.amount.saturating_add(amount);
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
}
