//! The paying account: there, with keys that can sign and NEAR for the gas that they lock.
use keyshard_engine::rpc::{AccessKeyInfo, Account, Permission};
use keyshard_shard::limits::{GAS_TRANSFER_START, NONCES_PER_BLOCK};
use near_primitives::hash::CryptoHash;

use super::{Report, Wanted};
use crate::{near_amount::near, provision::node::Node};

/// Bytes of arguments of an `ft_transfer` with a middling receiver and memo, and of its method's name.
const CALL_BYTES: u64 = 120;

/// The error means that no node answers any more.
pub(super) async fn look(wanted: &Wanted, node: &Node, report: &mut Report) -> Result<(), String> {
    let id = &wanted.offline.account;
    let Some(account) = node.account(id).await? else {
        report.fail(
            "account",
            format!(
                "{id} does not exist on {}: check MASTER_ACCOUNT, and that NODE_URL is of the right network",
                node.chain_id
            ),
        );
        return Ok(());
    };
    if account.code_hash != CryptoHash::default().to_string() {
        report.warn(
            "account",
            format!(
                "{id} holds a contract: coming protocols allow such accounts few transactions at a time (NEP-611). Pay from an \
                 account without one"
            ),
        );
    }
    let on_chain = node.keys(id).await?;
    let signing = keys(wanted, &on_chain, account.block_height, report);
    if !wanted.keys.is_empty() {
        balance(wanted, node, &account, signing, report);
    }
    Ok(())
}

/// Checks each configured key. Returns how many can sign.
fn keys(wanted: &Wanted, on_chain: &[AccessKeyInfo], height: u64, report: &mut Report) -> usize {
    let id = &wanted.offline.account;
    let (mut signing, mut nonces) = (0, Vec::new());
    let mut problems = Vec::new();
    // A key's next transaction is in the next block at the earliest.
    let refused_from = height.saturating_add(1).saturating_mul(NONCES_PER_BLOCK);
    for key in &wanted.keys {
        let name = key.to_string();
        match on_chain.iter().find(|info| info.public_key == name) {
            None => problems.push(format!("{name} is not a key of {id}: add it (keyshard provision keys), or leave it out")),
            Some(info) if info.permission != Permission::FullAccess => problems.push(format!(
                "{name} is a function-call key, which cannot attach the 1 yoctoNEAR that ft_transfer demands: use full-access \
                 keys"
            )),
            Some(info) if info.nonce.saturating_add(1) >= refused_from => problems.push(format!(
                "{name} has nonce {}, above what the chain takes at block {height}: the node lags, or the key is spoilt",
                info.nonce
            )),
            Some(info) => {
                signing += 1;
                nonces.push(info.nonce);
            }
        }
    }
    for problem in problems {
        if signing == 0 { report.fail("keys", problem) } else { report.warn("keys", problem) }
    }
    if let (Some(least), Some(most)) = (nonces.iter().min(), nonces.iter().max()) {
        report.ok("keys", format!("{signing} full-access keys sign for {id}, nonces {least} to {most}"));
        if signing == 1 {
            report.warn("keys", "one key is one queue: keyshard provision keys adds more");
        }
    }
    signing
}

/// Whether the account can buy the gas of all transactions that may be in flight.
fn balance(wanted: &Wanted, node: &Node, account: &Account, keys: usize, report: &mut Report) {
    let spendable = node.spendable(account);
    let one = one_transaction(wanted, node);
    let all = one.saturating_mul((wanted.window * keys.max(1)) as u128);
    let shown = format!("{} can spend {}", wanted.offline.account, near(spendable));
    if spendable < one {
        report.fail(
            "balance",
            format!("{shown}, one full transaction locks {}: send it at least {}", near(one), near(all - spendable)),
        );
    } else if spendable < all {
        report.warn(
            "balance",
            format!(
                "{shown}; at full load {} keys with {} transactions each lock {} for gas: send it {}, or lower \
                 MAX_IN_FLIGHT_PER_KEY",
                keys,
                wanted.window,
                near(all),
                near(all - spendable)
            ),
        );
    } else {
        report.ok("balance", format!("{shown}; at full load {} are locked for gas", near(all)));
    }
}

/// yoctoNEAR that a full transaction locks until it is executed.
fn one_transaction(wanted: &Wanted, node: &Node) -> u128 {
    let chain = node.actions_max();
    let wanted_most = wanted.max_actions.unwrap_or(chain).min(wanted.max_batch.unwrap_or(chain)).min(chain);
    let by_gas = usize::try_from(node.limits.max_total_prepaid_gas / GAS_TRANSFER_START).unwrap_or(usize::MAX);
    let transfers = wanted_most.min(by_gas).max(1) as u64;
    let fees = &node.fees;
    let send =
        fees.receipt.send_not_sir + transfers * (fees.call.send_not_sir + CALL_BYTES * fees.call_byte.send_not_sir);
    let bought = fees.receipt.execution
        + transfers * (fees.call.execution + CALL_BYTES * fees.call_byte.execution + GAS_TRANSFER_START);
    let price = node.gas_price;
    u128::from(send) * price + u128::from(bought) * price.max(fees.min_gas_purchase_price) + u128::from(transfers)
}
