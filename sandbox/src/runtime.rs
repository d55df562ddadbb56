//! What a receipt does: its actions in order, all of them or none.

use near_crypto::PublicKey;
use near_primitives::account::{AccessKey, AccessKeyPermission};
use near_primitives::action::{Action, FunctionCallAction};
use near_primitives::errors::{ActionError, ActionErrorKind, CompilationError, FunctionCallError, MethodResolveError};
use near_primitives::hash::{CryptoHash, hash};
use near_primitives::types::{AccountId, Balance};

use crate::gas::{self, Work};
use crate::state::{Account, KeyId, State};
use crate::token::{self, Fault};
use crate::validity::{NONCES_PER_BLOCK, deposit, lacking_for_storage};

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
                registrar_account_id: crate::genesis::account_id("registrar"),
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
    call: &FunctionCallAction,
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
