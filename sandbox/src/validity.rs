//! Whether a transaction may be included, and what that costs.

use near_crypto::{PublicKey, Signature};
use near_primitives::account::{AccessKey, AccessKeyPermission, FunctionCallPermission};
use near_primitives::action::Action;
use near_primitives::errors::{ActionsValidationError, InvalidAccessKeyError, InvalidTxError};
use near_primitives::transaction::{SignedTransaction, Transaction};
use near_primitives::types::{AccountId, Balance, Gas};

use crate::gas::{self, GAS_PRICE};
use crate::state::{Account, KeyId, State};
use crate::views::PROTOCOL_VERSION;

/// A new key's nonce, and the bound on every nonce, grow by this much a block.
pub(crate) const NONCES_PER_BLOCK: u64 = 1_000_000;

/// What including a transaction costs its signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TxCost {
    /// Burnt when it is turned into a receipt.
    pub(crate) send_gas: u64,
    /// Bought for the receipt: its execution fees and what its calls attach.
    pub(crate) prepaid_gas: u64,
    /// yoctoNEAR: all gas and all deposits.
    pub(crate) total: u128,
    /// yoctoNEAR: deposits alone.
    pub(crate) deposits: u128,
}

/// Limits, version, size and signature: what can be judged without any state.
pub(crate) fn check_stateless(tx: &SignedTransaction) -> Result<(), InvalidTxError> {
    check_actions(tx.transaction.actions()).map_err(InvalidTxError::ActionsValidation)?;
    // Gas keys, strict nonces and post-quantum keys came after protocol 84.
    if !matches!(tx.transaction, Transaction::V0(_))
        || matches!(tx.transaction.public_key(), PublicKey::MLDSA65(_))
        || matches!(tx.signature, Signature::MLDSA65(_))
    {
        return Err(InvalidTxError::InvalidTransactionVersion);
    }
    if tx.get_size() > gas::MAX_TX_BYTES {
        return Err(InvalidTxError::TransactionSizeExceeded { size: tx.get_size(), limit: gas::MAX_TX_BYTES });
    }
    if !tx.signature.verify(tx.get_hash().as_ref(), tx.transaction.public_key()) {
        return Err(InvalidTxError::InvalidSignature);
    }
    Ok(())
}

fn check_actions(actions: &[Action]) -> Result<(), ActionsValidationError> {
    use ActionsValidationError as E;
    if actions.len() as u64 > gas::MAX_ACTIONS {
        return Err(E::TotalNumberOfActionsExceeded {
            total_number_of_actions: actions.len() as u64,
            limit: gas::MAX_ACTIONS,
        });
    }
    let mut prepaid = 0_u64;
    for action in actions {
        match action {
            Action::FunctionCall(call) => {
                prepaid = prepaid.checked_add(call.gas.as_gas()).ok_or(E::IntegerOverflow)?;
                if call.gas == Gas::ZERO {
                    return Err(E::FunctionCallZeroAttachedGas);
                }
                let length = call.method_name.len() as u64;
                if length > gas::MAX_METHOD_NAME {
                    return Err(E::FunctionCallMethodNameLengthExceeded { length, limit: gas::MAX_METHOD_NAME });
                }
                let length = call.args.len() as u64;
                if length > gas::MAX_ARGUMENTS {
                    return Err(E::FunctionCallArgumentsLengthExceeded { length, limit: gas::MAX_ARGUMENTS });
                }
            }
            Action::DeployContract(deploy) => {
                let size = deploy.code.len() as u64;
                if size > gas::MAX_CONTRACT {
                    return Err(E::ContractSizeExceeded { size, limit: gas::MAX_CONTRACT });
                }
            }
            Action::AddKey(add) => match &add.access_key.permission {
                _ if matches!(add.public_key, PublicKey::MLDSA65(_)) => return Err(unsupported("post-quantum keys")),
                AccessKeyPermission::FullAccess => {}
                AccessKeyPermission::FunctionCall(limits) => {
                    let bytes: usize = limits.method_names.iter().map(|name| name.len() + 1).sum();
                    if bytes as u64 > gas::MAX_KEY_METHOD_NAMES {
                        return Err(E::AddKeyMethodNamesNumberOfBytesExceeded {
                            total_number_of_bytes: bytes as u64,
                            limit: gas::MAX_KEY_METHOD_NAMES,
                        });
                    }
                    if limits.receiver_id.parse::<AccountId>().is_err() {
                        return Err(E::InvalidAccountId { account_id: limits.receiver_id.clone() });
                    }
                }
                _ => return Err(unsupported("gas keys")),
            },
            Action::CreateAccount(_) | Action::Transfer(_) | Action::DeleteKey(_) => {}
            Action::Stake(_) => return Err(unsupported("Stake")),
            Action::DeleteAccount(_) => return Err(unsupported("DeleteAccount")),
            _ => return Err(unsupported("this action")),
        }
    }
    if prepaid > gas::MAX_PREPAID_GAS {
        return Err(E::TotalPrepaidGasExceeded {
            total_prepaid_gas: Gas::from_gas(prepaid),
            limit: Gas::from_gas(gas::MAX_PREPAID_GAS),
        });
    }
    Ok(())
}

/// A real node of this protocol would take some of these; the sandbox says plainly that it does not.
fn unsupported(what: &str) -> ActionsValidationError {
    ActionsValidationError::UnsupportedProtocolFeature {
        protocol_feature: format!("{what}, in the sandbox"),
        version: PROTOCOL_VERSION,
    }
}

/// What `tx` costs, or nothing if the sum overflows.
pub(crate) fn cost(tx: &SignedTransaction) -> Option<TxCost> {
    let sir = tx.transaction.signer_id() == tx.transaction.receiver_id();
    let mut send_gas = gas::RECEIPT;
    let mut prepaid_gas = gas::RECEIPT;
    let mut deposits = 0_u128;
    for action in tx.transaction.actions() {
        send_gas = send_gas.checked_add(gas::send_fee(action, sir))?;
        prepaid_gas = prepaid_gas.checked_add(gas::exec_fee(action))?.checked_add(attached(action))?;
        deposits = deposits.checked_add(deposit(action))?;
    }
    let all_gas = u128::from(send_gas) + u128::from(prepaid_gas);
    let total = all_gas.checked_mul(GAS_PRICE)?.checked_add(deposits)?;
    Some(TxCost { send_gas, prepaid_gas, total, deposits })
}

/// Gas that an action attaches to its call.
pub(crate) fn attached(action: &Action) -> u64 {
    match action {
        Action::FunctionCall(call) => call.gas.as_gas(),
        _ => 0,
    }
}

/// yoctoNEAR that an action carries.
pub(crate) fn deposit(action: &Action) -> u128 {
    match action {
        Action::FunctionCall(call) => call.deposit.as_yoctonear(),
        Action::Transfer(transfer) => transfer.deposit.as_yoctonear(),
        _ => 0,
    }
}

/// A transaction that the state would take, and what it changes.
#[derive(Debug)]
pub(crate) struct Charge {
    pub(crate) cost: TxCost,
    pub(crate) key_id: KeyId,
    pub(crate) key: AccessKey,
    pub(crate) account: Account,
}

/// Signer, key, nonce, balance, allowance, storage and permission, in the real node's order. `height` is that of the
/// including block, or none for the check at the door, which does not know it and so lets any large nonce pass.
pub(crate) fn check_stateful(
    state: &State,
    tx: &SignedTransaction,
    height: Option<u64>,
) -> Result<Charge, InvalidTxError> {
    let signer = tx.transaction.signer_id();
    let mut account = state
        .accounts
        .get(signer)
        .ok_or_else(|| InvalidTxError::SignerDoesNotExist { signer_id: signer.clone() })?
        .clone();
    let key_id = (signer.clone(), tx.transaction.public_key().clone());
    let mut key = state
        .keys
        .get(&key_id)
        .ok_or_else(|| {
            InvalidTxError::InvalidAccessKeyError(InvalidAccessKeyError::AccessKeyNotFound {
                account_id: signer.clone(),
                public_key: Box::new(tx.transaction.public_key().clone()),
            })
        })?
        .clone();
    let nonce = tx.transaction.nonce().nonce();
    if nonce <= key.nonce {
        return Err(InvalidTxError::InvalidNonce { tx_nonce: nonce, ak_nonce: key.nonce });
    }
    if let Some(height) = height {
        let upper_bound = height.saturating_mul(NONCES_PER_BLOCK);
        if nonce >= upper_bound {
            return Err(InvalidTxError::NonceTooLarge { tx_nonce: nonce, upper_bound });
        }
    }
    let cost = cost(tx).ok_or(InvalidTxError::CostOverflow)?;
    let Some(left) = account.amount.checked_sub(cost.total) else {
        return Err(InvalidTxError::NotEnoughBalance {
            signer_id: signer.clone(),
            balance: Balance::from_yoctonear(account.amount),
            cost: Balance::from_yoctonear(cost.total),
        });
    };
    account.amount = left;
    key.nonce = nonce;
    if let AccessKeyPermission::FunctionCall(FunctionCallPermission { allowance: Some(allowance), .. }) =
        &mut key.permission
    {
        let have = allowance.as_yoctonear();
        *allowance = Balance::from_yoctonear(have.checked_sub(cost.total).ok_or_else(|| {
            InvalidTxError::InvalidAccessKeyError(InvalidAccessKeyError::NotEnoughAllowance {
                account_id: signer.clone(),
                public_key: Box::new(tx.transaction.public_key().clone()),
                allowance: Balance::from_yoctonear(have),
                cost: Balance::from_yoctonear(cost.total),
            })
        })?);
    }
    if let Some(missing) = lacking_for_storage(&account) {
        return Err(InvalidTxError::LackBalanceForState {
            signer_id: signer.clone(),
            amount: Balance::from_yoctonear(missing),
        });
    }
    if let AccessKeyPermission::FunctionCall(limits) = &key.permission {
        check_permission(limits, tx).map_err(InvalidTxError::InvalidAccessKeyError)?;
    }
    Ok(Charge { cost, key_id, key, account })
}

fn check_permission(limits: &FunctionCallPermission, tx: &SignedTransaction) -> Result<(), InvalidAccessKeyError> {
    let [Action::FunctionCall(call)] = tx.transaction.actions() else {
        return Err(InvalidAccessKeyError::RequiresFullAccess);
    };
    if !call.deposit.is_zero() {
        return Err(InvalidAccessKeyError::DepositWithFunctionCall);
    }
    if tx.transaction.receiver_id().as_str() != limits.receiver_id {
        return Err(InvalidAccessKeyError::ReceiverMismatch {
            tx_receiver: tx.transaction.receiver_id().clone(),
            ak_receiver: limits.receiver_id.clone(),
        });
    }
    if !limits.method_names.is_empty() && !limits.method_names.contains(&call.method_name) {
        return Err(InvalidAccessKeyError::MethodNameMismatch { method_name: call.method_name.clone() });
    }
    Ok(())
}

/// yoctoNEAR that the account lacks for the state it uses.
pub(crate) fn lacking_for_storage(account: &Account) -> Option<u128> {
    if account.storage_usage <= gas::FREE_STORAGE {
        return None;
    }
    let needed = u128::from(account.storage_usage) * gas::STORAGE_PRICE;
    needed.checked_sub(account.amount.saturating_add(account.locked)).filter(|missing| *missing > 0)
}
