//! Which transfers go into the next transaction: bounded by actions, bytes, gas and the tokens at hand.
use std::collections::VecDeque;

use foldhash::HashSet;
use near_primitives::types::AccountId;

use crate::{
    ChainLimits, limits,
    transfer::Open,
    tx::{self, Action},
};

/// The bounds of one transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) chain: ChainLimits,
    /// The operator's bound on actions, if lower than the chain's.
    pub(crate) max_actions: usize,
    /// The operator's bound on transfers.
    pub(crate) max_transfers: usize,
    pub(crate) gas_transfer: u64,
    pub(crate) gas_deposit: u64,
    /// Yocto that one registration costs.
    pub(crate) deposit: u128,
    /// Tokens that may be spent, when they are known to be short.
    pub(crate) budget: Option<u128>,
    /// What may be signed of transfers that were not signed before, when there is a limit on spending.
    pub(crate) allowance: Option<u128>,
}

impl Bounds {
    /// Transfers in a full transaction when none needs a deposit.
    pub(crate) fn full(&self) -> usize {
        let gas = self.chain.max_total_prepaid_gas / self.gas_transfer.max(1);
        self.max_transfers.min(self.actions()).min(usize::try_from(gas).unwrap_or(usize::MAX)).max(1)
    }

    fn actions(&self) -> usize {
        self.max_actions.min(self.chain.max_actions)
    }
}

/// What an action of a transaction does, and for which of its transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// `ft_transfer` of the transfer at this position.
    Pay(usize),
    /// `storage_deposit` for the receiver of the transfer at this position.
    Register(usize),
}

impl Step {
    pub(crate) fn transfer(self) -> usize {
        match self {
            Self::Pay(position) | Self::Register(position) => position,
        }
    }
}

/// A transaction to be signed.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) transfers: Vec<Open>,
    /// One entry an action, so that `ActionError.index` leads to the transfer.
    pub(crate) steps: Vec<Step>,
    /// Sum of the amounts.
    pub(crate) amount: u128,
    /// Sum of the amounts of those that did not count against the limit on spending before.
    pub(crate) uncounted: u128,
}

impl Plan {
    /// One action a step. Without steps it is one that does nothing, since a transaction has at least one.
    pub(crate) fn actions(&self, bounds: &Bounds) -> Vec<Action<'_>> {
        let transfer = |position: usize| &self.transfers[position].transfer;
        let action = |step: &Step| match *step {
            Step::Pay(position) => Action::Pay { transfer: transfer(position), gas: bounds.gas_transfer },
            Step::Register(position) => Action::Register {
                account: &transfer(position).receiver,
                deposit: bounds.deposit,
                gas: bounds.gas_deposit,
            },
        };
        if self.steps.is_empty() { vec![Action::Nothing] } else { self.steps.iter().map(action).collect() }
    }
}

/// Takes from the front of `queue`, in order, what fits into one transaction. `needs_deposit` says which receivers are
/// registered on the way. Empty only when the queue is, or when the budget does not cover its first transfer.
pub(crate) fn plan(queue: &mut VecDeque<Open>, bounds: &Bounds, needs_deposit: impl Fn(&AccountId) -> bool) -> Plan {
    let mut plan = Plan::default();
    let mut registered: HashSet<AccountId> = HashSet::default();
    let (mut gas, mut bytes) = (0u64, limits::TX_OVERHEAD_BYTES);
    while let Some(open) = queue.front() {
        let receiver = &open.transfer.receiver;
        let registers = needs_deposit(receiver) && !registered.contains(receiver);
        let more_actions = 1 + usize::from(registers);
        let mut more_gas = bounds.gas_transfer;
        let mut more_bytes = tx::transfer_bytes_max(&open.transfer);
        if registers {
            more_gas = more_gas.saturating_add(bounds.gas_deposit);
            more_bytes += tx::deposit_bytes_max(receiver);
        }
        let amount = plan.amount.saturating_add(open.transfer.amount);
        let counts = if open.counted { 0 } else { open.transfer.amount };
        let uncounted = plan.uncounted.saturating_add(counts);
        let too_much = |bound: Option<u128>, sum| bound.is_some_and(|bound| sum > bound);
        if too_much(bounds.budget, amount) || too_much(bounds.allowance, uncounted) {
            break;
        }
        let fits = plan.transfers.len() < bounds.max_transfers
            && plan.steps.len() + more_actions <= bounds.actions()
            && gas.saturating_add(more_gas) <= bounds.chain.max_total_prepaid_gas
            && bytes + more_bytes <= bounds.chain.max_transaction_size;
        // A first transfer always goes: were it too large for the chain, the chain says so and it is blamed.
        if !fits && !plan.transfers.is_empty() {
            break;
        }
        let Some(mut open) = queue.pop_front() else { break };
        open.counted = true;
        let position = plan.transfers.len();
        if registers {
            registered.insert(open.transfer.receiver.clone());
            plan.steps.push(Step::Register(position));
        }
        plan.steps.push(Step::Pay(position));
        plan.transfers.push(open);
        (gas, bytes) = (gas.saturating_add(more_gas), bytes + more_bytes);
        (plan.amount, plan.uncounted) = (amount, uncounted);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Instant, Transfer, TransferId};

    const CHAIN: ChainLimits = ChainLimits {
        max_actions: 100,
        max_total_prepaid_gas: 300_000_000_000_000,
        max_gas_burnt: 300_000_000_000_000,
        max_transaction_size: 1_572_864,
        validity_blocks: 100,
    };

    fn bounds() -> Bounds {
        Bounds {
            chain: CHAIN,
            max_actions: 100,
            max_transfers: 100,
            gas_transfer: 2_500_000_000_000,
            gas_deposit: 3_000_000_000_000,
            deposit: 1,
            budget: None,
            allowance: None,
        }
    }

    fn queue(n: u128, receiver: impl Fn(u128) -> String) -> VecDeque<Open> {
        (0..n)
            .map(|i| {
                let transfer = Transfer {
                    id: TransferId(i),
                    receiver: receiver(i).parse().unwrap(),
                    amount: 10,
                    memo: None,
                    key: None,
                };
                Open::new(transfer, Instant::from_micros(0))
            })
            .collect()
    }

    #[test]
    fn takes_a_hundred_in_order_and_leaves_the_rest() {
        let mut queue = queue(130, |i| format!("user{i}.near"));
        let plan = plan(&mut queue, &bounds(), |_| false);
        assert_eq!(plan.transfers.len(), 100);
        assert!(plan.transfers.iter().enumerate().all(|(i, open)| open.transfer.id.0 == i as u128));
        assert_eq!(queue.len(), 30);
        assert_eq!(plan.actions(&bounds()).len(), 100);
    }

    #[test]
    fn one_deposit_a_receiver_stands_right_before_its_first_transfer() {
        let mut queue = queue(4, |i| format!("user{}.near", i % 2));
        let plan = plan(&mut queue, &bounds(), |receiver| receiver.as_str() == "user1.near");
        assert_eq!(plan.steps, [Step::Pay(0), Step::Register(1), Step::Pay(1), Step::Pay(2), Step::Pay(3)]);
    }

    #[test]
    fn actions_count_deposits_and_a_pair_is_not_split() {
        let mut queue = queue(60, |i| format!("user{i}.near"));
        let bounds = Bounds { max_actions: 5, ..bounds() };
        let plan = plan(&mut queue, &bounds, |_| true);
        assert_eq!((plan.transfers.len(), plan.steps.len()), (2, 4));
    }

    #[test]
    fn gas_bounds_a_batch() {
        let bounds = Bounds { gas_transfer: 30_000_000_000_000, ..bounds() };
        assert_eq!(plan(&mut queue(60, |i| format!("user{i}.near")), &bounds, |_| false).transfers.len(), 10);
        assert_eq!(bounds.full(), 10);
    }

    #[test]
    fn bytes_bound_a_batch() {
        let mut queue = queue(60, |i| format!("user{i}.near"));
        for open in &mut queue {
            std::sync::Arc::make_mut(&mut open.transfer).memo = Some("x".repeat(1_000).into());
        }
        let bounds = Bounds { chain: ChainLimits { max_transaction_size: 20_000, ..CHAIN }, ..bounds() };
        let plan = plan(&mut queue, &bounds, |_| false);
        assert_eq!(plan.transfers.len(), 3);
    }

    #[test]
    fn the_budget_stops_before_the_transfer_it_does_not_cover() {
        let bounds = |budget| Bounds { budget: Some(budget), ..bounds() };
        let transfers =
            |budget| plan(&mut queue(9, |_| "user.near".into()), &bounds(budget), |_| false).transfers.len();
        assert_eq!((transfers(35), transfers(9), transfers(90)), (3, 0, 9));
    }

    #[test]
    fn a_transfer_too_large_for_any_batch_still_goes_alone() {
        let bounds = Bounds { max_actions: 1, ..bounds() };
        let plan = plan(&mut queue(2, |i| format!("user{i}.near")), &bounds, |_| true);
        assert_eq!(plan.transfers.len(), 1);
    }
}
