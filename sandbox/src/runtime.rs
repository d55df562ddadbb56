//! The rules: which transaction is valid, what it costs, and what its receipts do.

use near_crypto::{PublicKey, Signature};
use near_primitives::account::{AccessKey, AccessKeyPermission, FunctionCallPermission};
use near_primitives::action::Action;
use near_primitives::errors::{
    ActionError, ActionErrorKind, ActionsValidationError, CompilationError, FunctionCallError, InvalidAccessKeyError,
    InvalidTxError, MethodResolveError,
};
use near_primitives::hash::{CryptoHash, hash};
use near_primitives::transaction::{SignedTransaction, Transaction};
use near_primitives::types::{AccountId, Balance, Gas};

use crate::gas::{self, GAS_PRICE, Work};
use crate::state::{Account, KeyId, State};
use crate::token::{self, Fault};
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

fn deposit(action: &Action) -> u128 {
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
fn lacking_for_storage(account: &Account) -> Option<u128> {
    if account.storage_usage <= gas::FREE_STORAGE {
        return None;
    }
    let needed = u128::from(account.storage_usage) * gas::STORAGE_PRICE;
    needed.checked_sub(account.amount.saturating_add(account.locked)).filter(|missing| *missing > 0)
}

/// A receipt as the machine sees it: who calls whom, with what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receipt<'a> {
    pub(crate) predecessor: &'a AccountId,
    pub(crate) receiver: &'a AccountId,
    pub(crate) actions: &'a [Action],
    pub(crate) height: u64,
}

/// What became of a receipt.
#[derive(Debug)]
pub(crate) struct Executed {
    /// The last action's value, or the first error. On error nothing of the receipt remains.
    pub(crate) result: Result<Vec<u8>, ActionError>,
    /// One line a call that logged; on error also those that were undone.
    pub(crate) logs: Vec<String>,
    /// Burnt, fees and contracts together.
    pub(crate) gas_burnt: u64,
    /// Burnt inside contracts.
    pub(crate) contract_gas: u64,
    /// Of the block's limit.
    pub(crate) compute: u64,
    /// Burnt, and bought for the transfers below.
    pub(crate) gas_used: u64,
    /// yoctoNEAR that contracts send back to the caller, a receipt each.
    pub(crate) transfers_back: Vec<u128>,
    /// Deposits that must be given back because the receipt failed.
    pub(crate) deposits_back: u128,
    /// Access keys it set or removed.
    pub(crate) changed_keys: Vec<KeyId>,
}

/// Runs a receipt's actions in order: all of them, or none.
pub(crate) fn execute(state: &mut State, receipt: Receipt<'_>) -> Executed {
    let mark = state.mark(receipt.receiver);
    let mut out = Executed {
        result: Ok(Vec::new()),
        logs: Vec::new(),
        gas_burnt: gas::RECEIPT,
        contract_gas: 0,
        compute: gas::RECEIPT,
        gas_used: gas::RECEIPT,
        transfers_back: Vec::new(),
        deposits_back: 0,
        changed_keys: Vec::new(),
    };
    let mut actor = receipt.predecessor.clone();
    let mut transfers_done = 0_u32;
    for (index, action) in receipt.actions.iter().enumerate() {
        let fee = gas::exec_fee(action);
        out.gas_burnt += fee;
        out.gas_used += fee;
        out.compute += fee;
        let result = apply(state, receipt, action, &mut actor, &mut transfers_done, &mut out);
        match result {
            Ok(value) => out.result = Ok(value),
            Err(kind) => {
                out.result = Err(ActionError { index: Some(index as u64), kind });
                break;
            }
        }
    }
    if out.result.is_ok()
        && let Some(account) = state.accounts.get(receipt.receiver)
        && let Some(missing) = lacking_for_storage(account)
    {
        let amount = Balance::from_yoctonear(missing);
        let kind = ActionErrorKind::LackBalanceForState { account_id: receipt.receiver.clone(), amount };
        out.result = Err(ActionError { index: None, kind });
    }
    if out.result.is_err() {
        state.rollback(receipt.receiver, mark);
        out.transfers_back.clear();
        out.changed_keys.clear();
        out.gas_used = out.gas_burnt;
        out.deposits_back = receipt.actions.iter().map(deposit).sum();
    }
    out
}

fn apply(
    state: &mut State,
    receipt: Receipt<'_>,
    action: &Action,
    actor: &mut AccountId,
    transfers_done: &mut u32,
    out: &mut Executed,
) -> Result<Vec<u8>, ActionErrorKind> {
    let id = receipt.receiver;
    let Some(mut account) = state.accounts.get(id).cloned() else {
        return create(state, receipt, action, actor);
    };
    let permitted = |actor: &AccountId| {
        if actor == id {
            Ok(())
        } else {
            Err(ActionErrorKind::ActorNoPermission { account_id: id.clone(), actor_id: actor.clone() })
        }
    };
    match action {
        Action::CreateAccount(_) => return Err(ActionErrorKind::AccountAlreadyExists { account_id: id.clone() }),
        Action::Transfer(transfer) => {
            account.amount = account.amount.saturating_add(transfer.deposit.as_yoctonear());
        }
        Action::FunctionCall(call) => {
            account.amount = account.amount.saturating_add(call.deposit.as_yoctonear());
            return function_call(state, receipt, call, account, transfers_done, out);
        }
        Action::DeployContract(deploy) => {
            permitted(actor)?;
            // Only lengths count: whatever the code, it behaves as the token.
            account.storage_usage += deploy.code.len() as u64;
            account.code_hash = hash(&deploy.code);
        }
        Action::AddKey(add) => {
            permitted(actor)?;
            let key_id = (id.clone(), add.public_key.clone());
            if state.keys.get(&key_id).is_some() {
                let public_key = Box::new(key_id.1);
                return Err(ActionErrorKind::AddKeyAlreadyExists { account_id: id.clone(), public_key });
            }
            account.storage_usage += key_storage(&add.access_key.permission);
            let key = AccessKey { nonce: fresh_nonce(receipt.height), permission: add.access_key.permission.clone() };
            out.changed_keys.push(key_id.clone());
            state.set_key(key_id, Some(key));
        }
        Action::DeleteKey(delete) => {
            permitted(actor)?;
            let key_id = (id.clone(), delete.public_key.clone());
            let Some(key) = state.keys.get(&key_id) else {
                let public_key = Box::new(key_id.1);
                return Err(ActionErrorKind::DeleteKeyDoesNotExist { account_id: id.clone(), public_key });
            };
            account.storage_usage = account.storage_usage.saturating_sub(key_storage(&key.permission));
            out.changed_keys.push(key_id.clone());
            state.set_key(key_id, None);
        }
        // Refused before inclusion by check_actions.
        _ => return Err(ActionErrorKind::DelegateActionExpired),
    }
    state.accounts.set(id.clone(), Some(account));
    Ok(Vec::new())
}

/// The first action on an account that is not there: it may create it.
fn create(
    state: &mut State,
    receipt: Receipt<'_>,
    action: &Action,
    actor: &mut AccountId,
) -> Result<Vec<u8>, ActionErrorKind> {
    let id = receipt.receiver;
    match action {
        Action::CreateAccount(_) if id.get_account_type().is_implicit() => {
            return Err(ActionErrorKind::OnlyImplicitAccountCreationAllowed { account_id: id.clone() });
        }
        Action::CreateAccount(_) if id.is_top_level() => {
            return Err(ActionErrorKind::CreateAccountOnlyByRegistrar {
                account_id: id.clone(),
                registrar_account_id: crate::chain::account_id("registrar"),
                predecessor_id: receipt.predecessor.clone(),
            });
        }
        Action::CreateAccount(_) if !id.is_sub_account_of(&**receipt.predecessor) => {
            return Err(ActionErrorKind::CreateAccountNotAllowed {
                account_id: id.clone(),
                predecessor_id: receipt.predecessor.clone(),
            });
        }
        Action::CreateAccount(_) => {
            actor.clone_from(id);
            state.accounts.set(id.clone(), Some(Account::new(0)));
        }
        // A refund (predecessor `system`) never creates an account.
        Action::Transfer(transfer) if id.get_account_type().is_implicit() && !receipt.predecessor.is_system() => {
            let mut account = Account::new(transfer.deposit.as_yoctonear());
            if let Some(public_key) = implicit_key(id) {
                account.storage_usage += gas::KEY_STORAGE;
                let key = AccessKey { nonce: fresh_nonce(receipt.height), permission: AccessKeyPermission::FullAccess };
                state.set_key((id.clone(), public_key), Some(key));
            }
            state.accounts.set(id.clone(), Some(account));
        }
        _ => return Err(ActionErrorKind::AccountDoesNotExist { account_id: id.clone() }),
    }
    Ok(Vec::new())
}

fn function_call(
    state: &mut State,
    receipt: Receipt<'_>,
    call: &near_primitives::action::FunctionCallAction,
    mut account: Account,
    transfers_done: &mut u32,
    out: &mut Executed,
) -> Result<Vec<u8>, ActionErrorKind> {
    let id = receipt.receiver;
    if !account.has_code() {
        return Err(ActionErrorKind::FunctionCallError(FunctionCallError::CompilationError(
            CompilationError::CodeDoesNotExist { account_id: id.clone() },
        )));
    }
    let mut log = String::new();
    let (work, result) = token::call(
        state.token_mut(id),
        &token::Call {
            method: &call.method_name,
            args: &call.args,
            predecessor: receipt.predecessor,
            deposit: call.deposit.as_yoctonear(),
            height: receipt.height,
        },
        &mut log,
    );
    let mut cost = work.cost(call.args.len(), log.len(), *transfers_done > 0);
    if work == Work::Transfer {
        *transfers_done += 1;
    }
    let sends_back = result.as_ref().is_ok_and(|done| done.transfer_back > 0);
    // Sending a transfer burns its send fee inside the call and sets its execution fee aside.
    let promise_gas = if sends_back { gas::RECEIPT + gas::TRANSFER } else { 0 };
    cost.gas += promise_gas;
    cost.compute += promise_gas;
    let attached = call.gas.as_gas();
    if cost.gas + promise_gas > attached {
        out.gas_burnt += attached;
        out.contract_gas += attached;
        // As much of the compute as of the gas.
        out.compute += (u128::from(cost.compute) * u128::from(attached) / u128::from(cost.gas.max(1))) as u64;
        return Err(execution_error("Exceeded the prepaid gas.".into()));
    }
    out.gas_burnt += cost.gas;
    out.contract_gas += cost.gas;
    out.compute += cost.compute;
    out.gas_used += cost.gas + promise_gas;
    if !log.is_empty() {
        out.logs.push(log);
    }
    let done = result.map_err(|fault| match fault {
        Fault::MethodNotFound => ActionErrorKind::FunctionCallError(FunctionCallError::MethodResolveError(
            MethodResolveError::MethodNotFound,
        )),
        Fault::Panic(text) => execution_error(format!("Smart contract panicked: {text}")),
        Fault::Host(text, _) => execution_error(text),
    })?;
    if done.transfer_back > 0 {
        let Some(left) = account.amount.checked_sub(done.transfer_back) else {
            return Err(execution_error("Exceeded the account balance.".into()));
        };
        account.amount = left;
        out.transfers_back.push(done.transfer_back);
    }
    account.storage_usage += done.storage;
    if let Some(token) = done.created {
        state.create_token(id.clone(), token);
    }
    state.accounts.set(id.clone(), Some(account));
    Ok(done.value)
}

fn execution_error(text: String) -> ActionErrorKind {
    ActionErrorKind::FunctionCallError(FunctionCallError::ExecutionError(text))
}

fn key_storage(permission: &AccessKeyPermission) -> u64 {
    match permission {
        AccessKeyPermission::FunctionCall(limits) => {
            let names: usize = limits.method_names.iter().map(|name| name.len() + 4).sum();
            gas::KEY_STORAGE + (limits.receiver_id.len() + names + 25) as u64
        }
        _ => gas::KEY_STORAGE,
    }
}

/// The nonce that a key added at `height` starts with.
pub(crate) fn fresh_nonce(height: u64) -> u64 {
    height.saturating_sub(1).saturating_mul(NONCES_PER_BLOCK)
}

/// The key that a 64-digit hexadecimal account is the name of.
fn implicit_key(id: &AccountId) -> Option<PublicKey> {
    let digits = id.as_str().as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = [0_u8; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(PublicKey::ED25519(near_crypto::ED25519PublicKey(bytes)))
}

/// The id of the `index`th thing that `parent` (a transaction or a receipt) makes in a block.
pub(crate) fn child_id(parent: &CryptoHash, height: u64, index: u64) -> CryptoHash {
    let mut bytes = [0_u8; 48];
    bytes[..32].copy_from_slice(parent.as_ref());
    bytes[32..40].copy_from_slice(&height.to_le_bytes());
    bytes[40..].copy_from_slice(&index.to_le_bytes());
    hash(&bytes)
}
