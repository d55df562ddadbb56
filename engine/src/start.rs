//! Start-up: asks the node everything that could go wrong later, and says so now.
use std::{collections::HashSet, time::Duration};

use keyshard_rpc::{
    AccessKeyInfo, Answer, BlockRef, Client, EndpointId, Error, Fate, Permission, ProtocolConfig, Refusal, Route,
};
use keyshard_shard::{
    AccessKey, ChainLimits, CryptoHash, EndpointIndex, Head, Recovered, Recovery, Signer, StoragePolicy, Trust,
};
use near_crypto::SecretKey;
use zeroize::Zeroize as _;

use crate::{
    Allowance, Orders, Pause,
    clock::Clock,
    config::{Config, HISTORY_RETENTION_MIN, StartError},
    courier::{self, Chain},
    history::{History, HistoryError},
    journal::{self, Cut, Journal, Sync},
    steering,
};

/// Tries to reach a node, and the pause between them: enough for a node that is just being started.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// Transfers that are put into the history in one commit.
const SAVED_AT_ONCE: usize = 10_000;

/// Where a person's orders are kept, in the data directory.
pub(crate) const ORDERS_FILE: &str = "orders.json";

/// What start-up found out.
pub(crate) struct Preflight {
    pub(crate) keys: Vec<AccessKey>,
    pub(crate) limits: ChainLimits,
    pub(crate) head: Head,
    /// Who told of it.
    pub(crate) endpoint: EndpointIndex,
    pub(crate) epoch: String,
    pub(crate) chain: Chain,
    pub(crate) storage: StoragePolicy,
    pub(crate) storage_deposit: u128,
}

/// Opens the journal and reads what former lives left open.
pub(crate) fn open_journal(config: &Config) -> Result<(Journal, Recovered), StartError> {
    let sync = if config.journal_sync { Sync::Always } else { Sync::Off };
    let options = journal::Options { sync, segment_bytes: config.segment_bytes, ..journal::Options::default() };
    let mut recovery = Recovery::default();
    let take = |entry: journal::Entry| recovery.push(entry.shard, entry.record);
    let (journal, cut) = Journal::open_into(&config.data_dir, options, take)?;
    if let Some(Cut { file, offset, bytes }) = cut {
        tracing::warn!(
            file,
            offset,
            bytes,
            "the journal ended in a half-written group, which was cut; nobody relied on it"
        );
    }
    let recovered = recovery.finish().map_err(|contradiction| {
        let dir = config.data_dir.display();
        StartError::Journal(format!(
            "{contradiction} (in {dir}). Nothing was changed. Restore the directory, or reconcile with the chain before \
             starting on an empty DATA_DIR"
        ))
    })?;
    if !recovered.transfers.is_empty() || !recovered.attempts.is_empty() {
        tracing::info!(
            transfers = recovered.transfers.len(),
            transactions = recovered.attempts.len(),
            "the journal holds open transfers: they are taken over"
        );
    }
    Ok((journal, recovered))
}

/// What of the limits is spent, by earlier processes too.
pub(crate) fn spending(config: &Config) -> Result<Option<Allowance>, StartError> {
    if config.spend_limits.is_empty() {
        return Ok(None);
    }
    let path = config.data_dir.join("limits/service.json");
    Allowance::open(&path, &config.spend_limits).map(Some).map_err(StartError::Kept)
}

/// What a person ordered earlier. A key that is not configured any more needs no quarantine.
pub(crate) fn orders(config: &Config, keys: &[AccessKey]) -> Result<Orders, StartError> {
    let mut orders = steering::orders(&config.data_dir.join(ORDERS_FILE)).map_err(StartError::Kept)?;
    if let Some(Pause { reason, .. }) = &orders.paused {
        tracing::warn!(reason, "paused, as ordered before: nothing new is signed until POST /admin/resume");
    }
    orders.quarantined.retain(|key| keys.iter().any(|configured| **configured.public_key() == **key));
    Ok(orders)
}

/// A key must be remembered for as long as its client may send it again (P6).
pub(crate) fn check_retention(config: &Config) -> Result<(), StartError> {
    if config.history_retention >= HISTORY_RETENTION_MIN {
        return Ok(());
    }
    Err(StartError::Config(format!(
        "HISTORY_RETENTION is {:?}, the least is 24 hours: whoever repeats a request within a day must find the transfer that \
         it has made, or it would be paid again",
        config.history_retention
    )))
}

/// Opens the history and puts what the journal knows to have settled: the last life may have ended before it was saved.
pub(crate) fn open_history(
    config: &Config,
    recovered: &mut Recovered,
    genesis: CryptoHash,
) -> Result<History, StartError> {
    let directory = config.data_dir.join("history");
    if recovered.life > 0 && !History::is_there(&directory) {
        tracing::warn!(
            "there is a journal and no history in {}: of what settled before, only what the journal still holds is known, \
             and older idempotency keys are taken for new ones",
            directory.display()
        );
    }
    let history = History::open(&directory, genesis)?;
    if config.webhooks {
        history.announce()?;
    }
    // What the history has forgotten for its age is not to come back.
    let oldest = Clock::new().now().as_micros().saturating_sub(config.history_retention.as_micros() as u64);
    recovered.settled.retain(|settled| settled.settled_at.as_micros() >= oldest);
    save(&history, recovered)?;
    Ok(history)
}

/// Moves what has settled into the history.
pub(crate) fn save(history: &History, recovered: &mut Recovered) -> Result<(), HistoryError> {
    let settled = std::mem::take(&mut recovered.settled);
    settled.chunks(SAVED_AT_ONCE).try_for_each(|batch| history.put(batch))
}

/// A journal is of one chain only.
pub(crate) fn check_chain(config: &Config, recovered: &Recovered, genesis: CryptoHash) -> Result<(), StartError> {
    match recovered.genesis {
        Some(journal) if journal != genesis => Err(StartError::OtherChain {
            dir: config.data_dir.display().to_string(),
            journal: journal.to_string(),
            node: genesis.to_string(),
        }),
        _ => Ok(()),
    }
}

/// Checks the configuration against the chain.
pub(crate) async fn preflight(config: &mut Config) -> Result<Preflight, StartError> {
    check(config)?;
    let client = Client::new(config.rpc.clone()).map_err(|error| StartError::Config(error.to_string()))?;
    let chain = reach(&client).await?;
    let chain_id = chain.id.clone();

    let account = config.account.as_str();
    match patiently(async || client.view_account(Route::Any, BlockRef::Final, account).await).await {
        Ok(_) => {}
        Err(Error { fate: Fate::Refused(Refusal::UnknownAccount), .. }) => {
            return Err(StartError::NoAccount { account: config.account.clone(), chain_id });
        }
        Err(error) => return Err(unreachable(&error)),
    }
    let on_chain = read_keys(&client, account).await?;
    let keys = match_keys(std::mem::take(&mut config.keys), &on_chain, account, &chain_id)?;

    let limits = read_limits(&client).await?;
    let block = patiently(async || client.block(Route::Any, BlockRef::Final).await).await;
    let Answer { value: block, endpoint } = block.map_err(|error| unreachable(&error))?;
    let head = courier::head(&block)
        .ok_or_else(|| StartError::Unreachable(format!("the node's block hash is none: {}", block.hash)))?;
    let (storage, storage_deposit) = check_token(&client, config).await?;
    tracing::info!(
        chain_id,
        protocol_version = limits.protocol_version,
        final_height = head.height,
        keys = keys.len(),
        "the node, the account, its keys and the token are as they should be"
    );
    Ok(Preflight {
        keys,
        limits: courier::limits(&limits),
        endpoint: courier::index(endpoint),
        head,
        epoch: block.epoch_id,
        chain,
        storage,
        storage_deposit,
    })
}

/// Asks again while no answer comes: one lost answer must not keep the service from starting.
async fn patiently<T>(question: impl AsyncFn() -> Result<Answer<T>, Error>) -> Result<Answer<T>, Error> {
    let mut tries = 1;
    loop {
        match question().await {
            Err(error) if tries < TRIES && !matches!(error.fate, Fate::Refused(_)) => {
                tracing::warn!("{error}; trying again");
                tries += 1;
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

fn check(config: &Config) -> Result<(), StartError> {
    let problem = if config.doors == 0 {
        Some("at least one front-end thread is needed")
    } else if config.window == 0 {
        Some("the window of a key (MAX_IN_FLIGHT_PER_KEY) must be at least 1")
    } else if config.max_pending == 0 {
        Some("MAX_PENDING_JOBS must be at least 1")
    } else {
        None
    };
    problem.map_or(Ok(()), |problem| Err(StartError::Config(problem.to_owned())))
}

/// Waits for a node that is synced, for as long as one answers that it is not yet. Returns its chain.
async fn reach(client: &Client) -> Result<Chain, StartError> {
    let mut silent = 0;
    loop {
        let mut answered = Vec::new();
        let (mut why, mut syncing) = (String::new(), false);
        for (endpoint, answer) in client.probe_endpoints().await {
            match answer {
                Ok(status) if status.syncing => {
                    let (name, height) = (client.endpoint_name(endpoint), status.latest_block_height);
                    (why, syncing) = (format!("{name} is syncing, it is at block {height}"), true);
                }
                Ok(status) => answered.push((client.endpoint_name(endpoint), status)),
                Err(error) if !syncing => why = format!("{}: {error}", client.endpoint_name(endpoint)),
                Err(_) => {}
            }
        }
        if let Some((first, status)) = answered.first() {
            let chain = Chain::of(status);
            if let Some((name, other)) = answered.iter().find(|(_, other)| !chain.is_that_of(other)) {
                return Err(StartError::Config(format!(
                    "RPC_URLS mixes networks: {first} is on {}, {name} is on {} (or on another genesis of it)",
                    status.chain_id, other.chain_id
                )));
            }
            return Ok(chain);
        }
        silent = if syncing { 0 } else { silent + 1 };
        if silent == TRIES {
            return Err(StartError::Unreachable(why));
        }
        tracing::warn!("{why}; trying again");
        tokio::time::sleep(PAUSE).await;
    }
}

/// The limits of the chain. The validity period is part of the genesis: endpoints that tell different ones are not on one
/// chain, or one of them is wrong. One that is believed too short could pay twice.
async fn read_limits(client: &Client) -> Result<ProtocolConfig, StartError> {
    let limits = patiently(async || client.protocol_config(Route::Any).await).await;
    let Answer { value: limits, endpoint } = limits.map_err(|error| unreachable(&error))?;
    for other in others(client, endpoint) {
        if let Ok(Answer { value, .. }) = client.protocol_config(Route::Only(other)).await
            && value.transaction_validity_period != limits.transaction_validity_period
        {
            return Err(StartError::Config(format!(
                "RPC_URLS disagree about transaction_validity_period: {} says {} blocks, {} says {}. Leave the wrong one out",
                client.endpoint_name(endpoint),
                limits.transaction_validity_period,
                client.endpoint_name(other),
                value.transaction_validity_period
            )));
        }
    }
    Ok(limits)
}

/// The account's keys. Of each the lowest nonce that any endpoint tells: what was signed here the journal knows, and one that
/// is too high would make the key useless.
async fn read_keys(client: &Client, account: &str) -> Result<Vec<AccessKeyInfo>, StartError> {
    let list = patiently(async || client.view_access_key_list(Route::Any, BlockRef::Final, account).await).await;
    let Answer { value: list, endpoint } = list.map_err(|error| unreachable(&error))?;
    let mut keys = list.keys;
    for other in others(client, endpoint) {
        if let Ok(answer) = client.view_access_key_list(Route::Only(other), BlockRef::Final, account).await {
            for key in &mut keys {
                let told = answer.value.keys.iter().find(|told| told.public_key == key.public_key);
                key.nonce = key.nonce.min(told.map_or(key.nonce, |told| told.nonce));
            }
        }
    }
    Ok(keys)
}

fn others(client: &Client, endpoint: EndpointId) -> Vec<EndpointId> {
    client.endpoints().iter().map(|other| other.id).filter(|id| *id != endpoint).collect()
}

/// Whose word ends a transaction.
pub(crate) fn trust(config: &Config) -> Result<Trust, StartError> {
    let endpoints = config.rpc.endpoints.len();
    match config.trust {
        None | Some(Trust::Two) if endpoints > 1 => Ok(Trust::Two),
        None | Some(Trust::One) => Ok(Trust::One),
        Some(Trust::Two) => Err(StartError::Config(
            "two endpoints must agree (RPC_TRUST=two), but only one is configured: add another to RPC_URLS".to_owned(),
        )),
    }
}

/// Keeps the configured keys that may sign everything, with their nonces.
fn match_keys(
    mut configured: Vec<SecretKey>,
    on_chain: &[AccessKeyInfo],
    account: &str,
    chain_id: &str,
) -> Result<Vec<AccessKey>, StartError> {
    let (mut keys, mut left_out, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for secret in &mut configured {
        let signer = Signer::new(secret.clone());
        if let SecretKey::ED25519(pair) = secret {
            // The signer has it, and wipes it in the end.
            pair.0.zeroize();
        }
        let name = signer.public_key().clone();
        if !seen.insert(name.clone()) {
            continue;
        }
        match on_chain.iter().find(|key| *key.public_key == *name) {
            Some(key) if key.permission == Permission::FullAccess => keys.push(AccessKey::new(signer, key.nonce)),
            Some(_) => left_out.push(format!(
                "{name} is a function-call key, which cannot attach the 1 yoctoNEAR that ft_transfer demands"
            )),
            None => left_out.push(format!("{name} is not a key of {account} on {chain_id}")),
        }
    }
    for why in &left_out {
        tracing::warn!("access key left out: {why}");
    }
    if keys.is_empty() {
        let why = if left_out.is_empty() { "none is configured".to_owned() } else { left_out.join("; ") };
        return Err(StartError::NoKeys(format!(
            "Master account has no matching public keys registered on-chain. {why}. Set MASTER_ACCOUNT_PRIVATE_KEYS \
             (or MASTER_ACCOUNT_PRIVATE_KEY) to full-access keys of {account}, or add them to it"
        )));
    }
    Ok(keys)
}

/// Is the token a token, has the account some of it, what does a registration cost?
async fn check_token(client: &Client, config: &Config) -> Result<(StoragePolicy, u128), StartError> {
    let (token, account) = (config.token.as_str(), config.account.as_str());
    let view = async |method: &str, args: String| {
        patiently(async || client.call_function(Route::Any, BlockRef::Final, token, method, args.as_bytes()).await)
            .await
    };
    let no_token = |why: String| StartError::NoToken { token: config.token.clone(), why };
    match view("ft_balance_of", format!(r#"{{"account_id":"{account}"}}"#)).await {
        Ok(answer) => match courier::amount(&answer.value.result) {
            Some(0) => tracing::warn!("{account} holds no {token}: transfers will wait until it does"),
            Some(_) => {}
            None => return Err(no_token("ft_balance_of did not answer an amount".to_owned())),
        },
        Err(Error { fate: Fate::Refused(refusal), .. }) => {
            return Err(no_token(match refusal {
                Refusal::UnknownAccount => "the account does not exist".to_owned(),
                Refusal::NoContractCode => "the account holds no contract".to_owned(),
                Refusal::ContractError(text) => format!("ft_balance_of failed: {text}"),
                other => other.name().to_owned(),
            }));
        }
        Err(error) => return Err(unreachable(&error)),
    }
    match (config.storage, config.storage_deposit) {
        (storage @ StoragePolicy::Never, _) => Ok((storage, 0)),
        (storage, Some(deposit)) => Ok((storage, deposit)),
        (storage, None) => match view("storage_balance_bounds", "{}".to_owned()).await {
            Ok(answer) => {
                let bounds: Option<courier::StorageBounds> = serde_json::from_slice(&answer.value.result).ok();
                let min = bounds.and_then(|bounds| bounds.min.parse().ok());
                let min = min.ok_or_else(|| no_token("storage_balance_bounds did not answer bounds".to_owned()))?;
                Ok((storage, min))
            }
            Err(error) if courier::is_method_missing(&error) => {
                tracing::warn!("{token} has no NEP-145: receivers need no registration");
                Ok((StoragePolicy::Auto, 0))
            }
            Err(error) => Err(unreachable(&error)),
        },
    }
}

fn unreachable(error: &Error) -> StartError {
    StartError::Unreachable(error.to_string())
}
