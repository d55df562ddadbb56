//! Who signs what the operator asks for: full-access keys that are known here, those that no service pays with first.
use std::{
    cell::Cell,
    fs::{File, TryLockError},
    path::Path,
};

use keyshard_engine::rpc::AccessKeyInfo;
use near_crypto::PublicKey;
use near_primitives::types::AccountId;

use super::node::full_access;
use crate::{env::Env, key_sources, secret::Secret};

/// One key that may sign everything of an account. It signs one transaction at a time.
pub(crate) struct Signer {
    pub(crate) account: AccountId,
    pub(crate) key: Secret,
    pub(crate) public_key: PublicKey,
    /// Where it was found, in words.
    pub(crate) source: String,
    /// The highest nonce that this process has signed with it.
    pub(crate) last_nonce: Cell<u64>,
}

/// Keys of `account` that are known here and may sign everything, none of them `not`. A service that runs on `data_dir` keeps
/// its keys for itself (`None` if none can run). The error says where keys were looked for.
pub(crate) fn find(
    env: &Env,
    account: &AccountId,
    on_chain: &[AccessKeyInfo],
    data_dir: Option<&Path>,
    not: Option<&PublicKey>,
) -> Result<Vec<Signer>, String> {
    let (places, problems) = key_sources::all(env, account);
    let running = data_dir.filter(|data_dir| is_running(data_dir));
    let served: Vec<PublicKey> = match (running.is_some(), key_sources::served(env, account)) {
        (true, Ok(served)) => served.keys.iter().map(Secret::public_key).collect(),
        _ => Vec::new(),
    };
    let mut signers: Vec<Signer> = Vec::new();
    let (mut known, mut busy) = (0, false);
    for place in places {
        for key in place.keys {
            known += 1;
            let public_key = key.public_key();
            let taken = not == Some(&public_key) || signers.iter().any(|signer| signer.public_key == public_key);
            if taken || full_access(on_chain, &public_key) != Some(true) {
                continue;
            }
            if served.contains(&public_key) {
                busy = true;
                continue;
            }
            let (account, source) = (account.clone(), place.source.clone());
            signers.push(Signer { account, key, public_key, source, last_nonce: Cell::new(0) });
        }
    }
    if !signers.is_empty() {
        return Ok(signers);
    }
    let why = if busy {
        format!(
            "the service that runs on {} pays with every key of {account} that is known here: stop it, or give another \
             full-access key",
            running.unwrap_or(Path::new("DATA_DIR")).display()
        )
    } else if not.is_some() {
        format!("no other full-access key of {account} is known here: the key that goes cannot sign for it")
    } else if known > 0 {
        format!("none of the {known} keys that are known here is a full-access key of {account} on this chain")
    } else {
        format!("no key of {account} is known here")
    };
    let problems = problems.iter().fold(String::new(), |all, problem| all + ". " + problem);
    Err(format!(
        "{why}. A full-access key must sign: set MASTER_ACCOUNT_PRIVATE_KEY to one, or log in with a NEAR tool \
         (~/.near-credentials){problems}"
    ))
}

/// Whether a service runs on this data directory: it holds the lock. Changes nothing.
pub(crate) fn is_running(data_dir: &Path) -> bool {
    let Ok(lock) = File::open(data_dir.join("LOCK")) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}
