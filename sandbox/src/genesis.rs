//! The first block and the state in it: accounts, keys and the token.

use near_primitives::account::{AccessKey, AccessKeyPermission};
use near_primitives::hash::{CryptoHash, hash};
use near_primitives::types::AccountId;

use crate::config::Config;
use crate::credentials::{self, derive_key};
use crate::gas::KEY_STORAGE;
use crate::history::Block;
use crate::runtime::child_id;
use crate::state::{Account, State};
use crate::token::{ACCOUNT_STORAGE, Token};

/// yoctoNEAR in a NEAR.
const NEAR: u128 = 1_000_000_000_000_000_000_000_000;
/// Supply of the sandbox's token, in its smallest unit.
pub const TOKEN_SUPPLY: u128 = 1_000_000_000 * NEAR;

/// The state at genesis, and all yoctoNEAR in it.
pub(crate) fn state(config: &Config) -> (State, u128) {
    let mut state = State::default();
    state.call_percent = 100;
    let account = account_id(credentials::ACCOUNT);
    let ft = account_id(credentials::FT);
    let mut owner = Account::new(1_000_000_000 * NEAR);
    owner.locked = 50_000_000 * NEAR;
    for name in std::iter::once("master".to_owned()).chain((1..=config.keys).map(|index| format!("key{index}"))) {
        owner.storage_usage += KEY_STORAGE;
        let key = AccessKey { nonce: 0, permission: AccessKeyPermission::FullAccess };
        state.set_key((account.clone(), derive_key(config.seed, &name).public_key()), Some(key));
    }
    let mut token = Token::new(account.clone(), TOKEN_SUPPLY, Token::default_metadata(), 0);
    let mut supply = owner.amount + owner.locked;
    for index in 1..=config.receivers {
        let user = account_id(&format!("user{index}.{}", credentials::ACCOUNT));
        token.balances.set(user.clone(), Some(0));
        state.accounts.set(user, Some(Account::new(NEAR)));
        supply += NEAR;
    }
    let mut contract = Account::new(10_000 * NEAR);
    contract.code_hash = hash(b"keyshard sandbox: native NEP-141 token");
    // As large as the standard contract, so that its balance must cover as much.
    contract.storage_usage += 205_000 + ACCOUNT_STORAGE * (config.receivers as u64 + 1);
    supply += contract.amount;
    state.accounts.set(account, Some(owner));
    state.accounts.set(ft.clone(), Some(contract));
    state.create_token(ft, token);
    state.seal_genesis();
    (state, supply)
}

/// Block 0.
pub(crate) fn block(seed: u64, nanos: u64) -> Block {
    let genesis_hash = child_id(&hash(b"keyshard sandbox"), nanos, seed);
    Block {
        height: 0,
        prev_height: 0,
        ordinal: 1,
        hash: genesis_hash,
        prev_hash: CryptoHash::default(),
        chunk_hash: child_id(&genesis_hash, 0, 0),
        tx_root: CryptoHash::default(),
        timestamp_nanos: nanos,
        prev_gas_used: 0,
        gas_used: 0,
        delayed_gas: 0,
        tx_count: 0,
        first_tx: 0,
        outgoing: Vec::new(),
        key_changes: Vec::new(),
        detailed: true,
        weight: 0,
    }
}

/// An account id that is known to be valid.
#[expect(clippy::expect_used, reason = "only called with names written in this crate")]
pub(crate) fn account_id(text: &str) -> AccountId {
    text.parse().expect("a valid account id")
}
