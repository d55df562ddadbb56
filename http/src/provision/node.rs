//! The chain as the commands see it: what is there, what it costs, what is allowed.
use std::time::Duration;

use keyshard_engine::rpc::{
    self, AccessKeyInfo, Account, Answer, BlockRef, Client, Error, Fate, Fees, Permission, ProtocolConfig, Refusal,
    Route,
};
use keyshard_shard::CryptoHash;
use near_crypto::PublicKey;
use near_primitives::types::AccountId;

/// How often a question is asked that got no answer, and the pause before: a node that is just being started is there then.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// Bytes of state that need no balance (zero-balance accounts, NEP-448).
const FREE_STORAGE_BYTES: u64 = 770;

/// Nodes of one chain, synced, and what is in force there.
pub(crate) struct Node {
    pub(crate) client: Client,
    pub(crate) chain_id: String,
    /// What names the chain in a journal.
    pub(crate) genesis: CryptoHash,
    pub(crate) limits: ProtocolConfig,
    pub(crate) fees: Fees,
    /// yoctoNEAR per gas unit.
    pub(crate) gas_price: u128,
}

impl Node {
    /// Finds a synced node. The error is for people.
    pub(crate) async fn connect(config: rpc::Config) -> Result<Self, String> {
        let client = Client::new(config).map_err(|error| error.to_string())?;
        let mut tries = 1;
        let status = loop {
            let mut why = Vec::new();
            let mut found: Option<rpc::Status> = None;
            for (id, answer) in client.probe_endpoints().await {
                let name = client.endpoint_name(id);
                match answer {
                    Ok(status) if status.syncing => why.push(format!("{name} is syncing")),
                    Err(error) => why.push(format!("{name}: {error}")),
                    Ok(status) => {
                        if found.as_ref().is_some_and(|other| {
                            keyshard_engine::chain_name(other) != keyshard_engine::chain_name(&status)
                        }) {
                            return Err("RPC_URLS mixes networks: its nodes have different genesis hashes".to_owned());
                        }
                        found.get_or_insert(status);
                    }
                }
            }
            match found {
                Some(status) => break status,
                None if tries == TRIES => {
                    return Err(format!("no NEAR node answered: {}. Check NODE_URL or RPC_URLS", why.join("; ")));
                }
                None => tokio::time::sleep(PAUSE).await,
            }
            tries += 1;
        };
        let limits = patiently(async || client.protocol_config(Route::Any).await).await.map_err(said)?;
        let fees = patiently(async || client.fees(Route::Any).await).await.map_err(said)?;
        let gas_price = patiently(async || client.gas_price(Route::Any).await).await.map_err(said)?;
        Ok(Self {
            genesis: keyshard_engine::chain_name(&status),
            chain_id: status.chain_id,
            client,
            limits,
            fees,
            gas_price,
        })
    }

    /// An account at the final block; `None` if there is none.
    pub(crate) async fn account(&self, id: &AccountId) -> Result<Option<Account>, String> {
        let question = async || self.client.view_account(Route::Any, BlockRef::Final, id.as_str()).await;
        match patiently(question).await {
            Ok(account) => Ok(Some(account)),
            Err(Error { fate: Fate::Refused(Refusal::UnknownAccount), .. }) => Ok(None),
            Err(error) => Err(said(error)),
        }
    }

    /// An account that must be there.
    pub(crate) async fn needed_account(&self, id: &AccountId) -> Result<Account, String> {
        let missing = || {
            format!(
                "account {id} does not exist on {}: check MASTER_ACCOUNT and that NODE_URL points at the right network",
                self.chain_id
            )
        };
        self.account(id).await?.ok_or_else(missing)
    }

    /// The keys of an account at the final block.
    pub(crate) async fn keys(&self, id: &AccountId) -> Result<Vec<AccessKeyInfo>, String> {
        let question = async || self.client.view_access_key_list(Route::Any, BlockRef::Final, id.as_str()).await;
        match patiently(question).await {
            Ok(list) => Ok(list.keys),
            Err(error) => Err(said(error)),
        }
    }

    /// Runs a view method at the final block. The inner error is the node's refusal.
    pub(crate) async fn view(
        &self,
        contract: &AccountId,
        method: &str,
        args: &str,
    ) -> Result<Result<Vec<u8>, Refusal>, String> {
        let question = async || {
            self.client.call_function(Route::Any, BlockRef::Final, contract.as_str(), method, args.as_bytes()).await
        };
        match patiently(question).await {
            Ok(answer) => Ok(Ok(answer.result)),
            Err(Error { fate: Fate::Refused(refusal), .. }) => Ok(Err(refusal)),
            Err(error) => Err(said(error)),
        }
    }

    /// What an account can spend: its balance without what its state must be backed by, yoctoNEAR.
    pub(crate) fn spendable(&self, account: &Account) -> u128 {
        let backed = account.amount.saturating_add(account.locked);
        let needed = if account.storage_usage <= FREE_STORAGE_BYTES {
            0
        } else {
            u128::from(account.storage_usage).saturating_mul(self.fees.storage_byte)
        };
        account.amount.min(backed.saturating_sub(needed))
    }

    /// How many actions a transaction may have.
    pub(crate) fn actions_max(&self) -> usize {
        usize::try_from(self.limits.max_actions_per_receipt).unwrap_or(usize::MAX).max(1)
    }
}

/// Whether a key may sign everything; `None` if the account does not have it.
pub(crate) fn full_access(keys: &[AccessKeyInfo], key: &PublicKey) -> Option<bool> {
    let name = key.to_string();
    keys.iter().find(|info| info.public_key == name).map(|info| info.permission == Permission::FullAccess)
}

/// Asks again while no answer comes.
pub(crate) async fn patiently<T>(question: impl AsyncFn() -> Result<Answer<T>, Error>) -> Result<T, Error> {
    let mut tries = 1;
    loop {
        match question().await {
            Ok(answer) => return Ok(answer.value),
            Err(error) if tries < TRIES && !matches!(error.fate, Fate::Refused(_)) => {
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used with map_err")]
fn said(error: Error) -> String {
    format!("the NEAR node gave no usable answer: {error}")
}
