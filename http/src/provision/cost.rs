//! What transactions cost, told before they are signed.
use std::ops::AddAssign;

use near_primitives::action::Action;

use super::node::Node;
use crate::near_amount::near;

/// Bytes of state that a full-access key takes: 33 of the key, 9 of its record, 40 of the entry (nearcore
/// `num_extra_bytes_record`).
pub(crate) const KEY_BYTES: u64 = 82;

/// yoctoNEAR that transactions take from the account that signs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    /// Burnt for sure, at the price of this moment.
    pub(crate) gas: u128,
    /// Attached to calls: what they do not burn comes back.
    pub(crate) attached: u128,
    /// Needed beyond that while they run; it comes back.
    pub(crate) reserve: u128,
    /// Sent along.
    pub(crate) deposits: u128,
    /// Bound as long as what was added is there.
    pub(crate) storage: u128,
}

impl Cost {
    /// Of one transaction.
    pub(crate) fn of(node: &Node, sender_is_receiver: bool, actions: &[Action]) -> Self {
        let fees = &node.fees;
        let receipt = fees.receipt;
        let mut send = if sender_is_receiver { receipt.send_sir } else { receipt.send_not_sir };
        let mut execution = receipt.execution;
        let (mut attached, mut created) = (0_u64, 0);
        let mut cost = Self::default();
        let mut add = |fee: keyshard_engine::rpc::Fee, times: u64| {
            let one = if sender_is_receiver { fee.send_sir } else { fee.send_not_sir };
            send = send.saturating_add(one.saturating_mul(times));
            execution = execution.saturating_add(fee.execution.saturating_mul(times));
        };
        for action in actions {
            match action {
                Action::CreateAccount(_) => {
                    add(fees.create_account, 1);
                    created += 1;
                }
                Action::DeployContract(deploy) => {
                    add(fees.deploy, 1);
                    add(fees.deploy_byte, deploy.code.len() as u64);
                }
                Action::FunctionCall(call) => {
                    add(fees.call, 1);
                    add(fees.call_byte, (call.method_name.len() + call.args.len()) as u64);
                    attached = attached.saturating_add(call.gas.as_gas());
                    cost.deposits = cost.deposits.saturating_add(call.deposit.as_yoctonear());
                }
                Action::Transfer(transfer) => {
                    add(fees.transfer, 1);
                    cost.deposits = cost.deposits.saturating_add(transfer.deposit.as_yoctonear());
                }
                Action::AddKey(_) => {
                    add(fees.add_full_key, 1);
                    if sender_is_receiver {
                        cost.storage += u128::from(KEY_BYTES) * fees.storage_byte;
                    }
                }
                Action::DeleteKey(_) => add(fees.delete_key, 1),
                _ => {}
            }
        }
        let price = node.gas_price;
        cost.gas = u128::from(send.saturating_add(execution)).saturating_mul(price);
        // What an account costs is taken out of the gas that was bought for it.
        let creation = u128::from(fees.create_account.total(sender_is_receiver)).saturating_mul(price);
        cost.gas += fees.account_creation_charge.saturating_sub(creation).saturating_mul(created);
        cost.attached = u128::from(attached).saturating_mul(price);
        let bought = u128::from(execution.saturating_add(attached));
        cost.reserve = bought.saturating_mul(fees.min_gas_purchase_price.saturating_sub(price));
        cost
    }

    /// What the account must be able to spend.
    pub(crate) fn needed(&self) -> u128 {
        [self.gas, self.attached, self.reserve, self.deposits, self.storage]
            .iter()
            .fold(0, |sum, part| sum.saturating_add(*part))
    }

    /// Name and amount of everything that is not nothing.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let parts = [
            ("gas", self.gas, "burnt"),
            ("attached gas", self.attached, "what is not used comes back"),
            ("reserve", self.reserve, "bought above the price, comes back"),
            ("deposits", self.deposits, "sent along"),
            ("storage", self.storage, "bound while it is used"),
        ];
        let shown = parts.iter().filter(|(_, amount, _)| *amount > 0);
        let mut lines: Vec<_> =
            shown.map(|(name, amount, what)| (*name, format!("{} ({what})", near(*amount)))).collect();
        lines.push(("altogether", format!("{} at most", near(self.needed()))));
        lines
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        let pairs = [
            (&mut self.gas, other.gas),
            (&mut self.attached, other.attached),
            (&mut self.reserve, other.reserve),
            (&mut self.deposits, other.deposits),
            (&mut self.storage, other.storage),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
    }
}
