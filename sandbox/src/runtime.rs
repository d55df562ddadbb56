//! What a receipt does: its actions in order, all of them or none.

use near_crypto::PublicKey;
use near_primitives::account::{AccessKey, AccessKeyPermission};
use near_primitives::action::{Action, FunctionCallAction};
use near_primitives::errors::{ActionError, ActionErrorKind, CompilationError, FunctionCallError, MethodResolveError};
use near_primitives::hash::{CryptoHash, hash};
use near_primitives::types::{AccountId, Balance};

use crate::gas::{self, Work};
use crate::genesis::account_id;
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
    let before = state.accounts.get(receipt.receiver).cloned();
    let mut execution = Execution {
        account: before.clone(),
        actor: receipt.predecessor.clone(),
        transfers: 0,
        state,
        receipt,
        out: Executed {
            result: Ok(Vec::new()),
            logs: Vec::new(),
            gas_burnt: gas::RECEIPT,
            contract_gas: 0,
            compute: gas::RECEIPT,
            gas_used: gas::RECEIPT,
            transfers_back: Vec::new(),
            deposits_back: 0,
            changed_keys: Vec::new(),
        },
    };
    let result = execution.run();
    let Execution { account, mut out, .. } = execution;
    if result.is_err() {
        state.rollback(receipt.receiver, mark);
        out.transfers_back.clear();
        out.changed_keys.clear();
        out.gas_used = out.gas_burnt;
        out.deposits_back = receipt.actions.iter().map(deposit).sum();
    } else if account != before {
        state.accounts.set(receipt.receiver.clone(), account);
    }
    out.result = result;
    out
}

/// A receipt that is running. Actions change one account only, the receiver's, which is written back at the end.
struct Execution<'a> {
    state: &'a mut State,
    receipt: Receipt<'a>,
    account: Option<Account>,
    /// On whose behalf actions run: the predecessor, or the account that the receipt created.
    actor: AccountId,
    /// Transfers of the token so far: later ones are cheaper.
    transfers: u32,
    out: Executed,
}

impl Execution<'_> {
    fn run(&mut self) -> Result<Vec<u8>, ActionError> {
        let mut value = Vec::new();
        for (index, action) in self.receipt.actions.iter().enumerate() {
            let fee = gas::exec_fee(action);
            self.out.gas_burnt += fee;
            self.out.gas_used += fee;
            self.out.compute += fee;
            let done = match self.account.take() {
                Some(account) => self.act(action, account),
                None => self.create(action),
            };
            value = done.map_err(|kind| ActionError { index: Some(index as u64), kind })?;
        }
        if let Some(missing) = self.account.as_ref().and_then(lacking_for_storage) {
            let amount = Balance::from_yoctonear(missing);
            let kind = ActionErrorKind::LackBalanceForState { account_id: self.receipt.receiver.clone(), amount };
            return Err(ActionError { index: None, kind });
        }
        Ok(value)
    }

    /// An action on an existing account.
    fn act(&mut self, action: &Action, mut account: Account) -> Result<Vec<u8>, ActionErrorKind> {
        let id = self.receipt.receiver;
        let mut value = Vec::new();
        match action {
            Action::CreateAccount(_) => return Err(ActionErrorKind::AccountAlreadyExists { account_id: id.clone() }),
            Action::Transfer(transfer) => {
                account.amount = account.amount.saturating_add(transfer.deposit.as_yoctonear());
            }
            Action::FunctionCall(call) => value = self.call(call, &mut account)?,
            Action::DeployContract(deploy) => {
                self.permitted()?;
                // Only its length counts: whatever the code, it behaves as the token.
                account.storage_usage = account.storage_usage.saturating_add(deploy.code.len() as u64);
                account.code_hash = hash(&deploy.code);
            }
            Action::AddKey(add) => {
                self.permitted()?;
                let key_id = (id.clone(), add.public_key.clone());
                if self.state.keys.get(&key_id).is_some() {
                    let public_key = Box::new(key_id.1);
                    return Err(ActionErrorKind::AddKeyAlreadyExists { account_id: id.clone(), public_key });
                }
                self.add_key(key_id, &add.access_key.permission, &mut account);
            }
            Action::DeleteKey(delete) => {
                self.permitted()?;
                let key_id = (id.clone(), delete.public_key.clone());
                let Some(key) = self.state.keys.get(&key_id) else {
                    let public_key = Box::new(key_id.1);
                    return Err(ActionErrorKind::DeleteKeyDoesNotExist { account_id: id.clone(), public_key });
                };
                account.storage_usage = account.storage_usage.saturating_sub(key_storage(&key.permission));
                self.out.changed_keys.push(key_id.clone());
                self.state.set_key(key_id, None);
            }
            // Refused before inclusion.
            _ => return Err(ActionErrorKind::DelegateActionExpired),
        }
        self.account = Some(account);
        Ok(value)
    }

    /// An action on an account that is not there: it may create it.
    fn create(&mut self, action: &Action) -> Result<Vec<u8>, ActionErrorKind> {
        let Receipt { predecessor, receiver: id, .. } = self.receipt;
        let implicit = id.get_account_type().is_implicit();
        match action {
            Action::CreateAccount(_) if implicit => {
                return Err(ActionErrorKind::OnlyImplicitAccountCreationAllowed { account_id: id.clone() });
            }
            Action::CreateAccount(_) if id.is_top_level() => {
                return Err(ActionErrorKind::CreateAccountOnlyByRegistrar {
                    account_id: id.clone(),
                    registrar_account_id: account_id("registrar"),
                    predecessor_id: predecessor.clone(),
                });
            }
            Action::CreateAccount(_) if !id.is_sub_account_of(&**predecessor) => {
                let (account_id, predecessor_id) = (id.clone(), predecessor.clone());
                return Err(ActionErrorKind::CreateAccountNotAllowed { account_id, predecessor_id });
            }
            Action::CreateAccount(_) => {
                self.actor.clone_from(id);
                self.account = Some(Account::new(0));
            }
            // A refund (predecessor `system`) never creates an account.
            Action::Transfer(transfer) if implicit && !predecessor.is_system() => {
                let mut account = Account::new(transfer.deposit.as_yoctonear());
                if let Some(public_key) = implicit_key(id) {
                    self.add_key((id.clone(), public_key), &AccessKeyPermission::FullAccess, &mut account);
                }
                self.account = Some(account);
            }
            _ => return Err(ActionErrorKind::AccountDoesNotExist { account_id: id.clone() }),
        }
        Ok(Vec::new())
    }

    fn call(&mut self, call: &FunctionCallAction, account: &mut Account) -> Result<Vec<u8>, ActionErrorKind> {
        let id = self.receipt.receiver;
        account.amount = account.amount.saturating_add(call.deposit.as_yoctonear());
        if !account.has_code() {
            let missing = CompilationError::CodeDoesNotExist { account_id: id.clone() };
            return Err(ActionErrorKind::FunctionCallError(FunctionCallError::CompilationError(missing)));
        }
        let mut log = String::new();
        let (work, result) = token::call(
            self.state.token_mut(id),
            &token::Call {
                method: &call.method_name,
                args: &call.args,
                predecessor: self.receipt.predecessor,
                deposit: call.deposit.as_yoctonear(),
                height: self.receipt.height,
            },
            &mut log,
        );
        let mut cost = work.cost(call.args.len(), log.len(), self.transfers > 0);
        let percent = |amount: u64| (u128::from(amount) * u128::from(self.state.call_percent) / 100) as u64;
        (cost.gas, cost.compute) = (percent(cost.gas), percent(cost.compute));
        self.transfers += u32::from(work == Work::Transfer);
        // Sending a transfer burns its send fee inside the call and sets its execution fee aside.
        let sends_back = result.as_ref().is_ok_and(|done| done.transfer_back > 0);
        let promise_gas = if sends_back { gas::RECEIPT + gas::TRANSFER } else { 0 };
        cost.gas += promise_gas;
        cost.compute += promise_gas;
        let attached = call.gas.as_gas();
        let out = &mut self.out;
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
        account.storage_usage = account.storage_usage.saturating_add(done.storage);
        if let Some(token) = done.created {
            self.state.create_token(id.clone(), token);
        }
        Ok(done.value)
    }

    fn add_key(&mut self, key_id: KeyId, permission: &AccessKeyPermission, account: &mut Account) {
        account.storage_usage = account.storage_usage.saturating_add(key_storage(permission));
        let key = AccessKey { nonce: fresh_nonce(self.receipt.height), permission: permission.clone() };
        self.out.changed_keys.push(key_id.clone());
        self.state.set_key(key_id, Some(key));
    }

    fn permitted(&self) -> Result<(), ActionErrorKind> {
        let id = self.receipt.receiver;
        if self.actor == *id {
            return Ok(());
        }
        Err(ActionErrorKind::ActorNoPermission { account_id: id.clone(), actor_id: self.actor.clone() })
    }
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
