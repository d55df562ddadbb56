//! Takes a shard's questions to the nodes and brings the answers back. Runs on the shard's own thread, with its own
//! connection pool and circuit breakers. Decides nothing about money: it only puts what nodes say into the shard's words.
use std::{cell::RefCell, collections::VecDeque, rc::Rc, sync::Arc, time::Duration};

use keyshard_rpc::{
    AccessKeyError, ActionErrorKind, Answer, Block, BlockRef, Class, Client, EndpointId, Error, ExecutionResult,
    ExecutionStatus, Fate as RpcFate, FunctionCallError, InvalidTx, ProtocolConfig, Refusal as RpcRefusal, Route,
    SendUntil, TxStatus, WaitUntil,
};
use keyshard_shard::{
    AccountId, AskId, ChainLimits, CryptoHash, EndpointIndex, EndpointSet, Execution, Failure, Fate, Head, Input,
    Known, Level, Query, Refusal, Reply, Settings, Status, Trust,
};
use serde::Deserialize;

use crate::{
    base64::base64,
    clock::Clock,
    purse::{self, Purse},
    ring::Bell,
    watch::Calls,
};

/// Pause between two looks at the final block: younger than a block is as young as it gets.
const HEAD_PAUSE: Duration = Duration::from_millis(500);
/// Looks at the final block between two looks at all endpoints.
const HEADS_PER_PROBE: u32 = 10;

/// The chain that the service was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) id: String,
    /// Not every provider tells it.
    pub(crate) genesis: Option<CryptoHash>,
}

impl Chain {
    pub(crate) fn of(status: &keyshard_rpc::Status) -> Self {
        let genesis = status.genesis_hash.as_ref().and_then(|genesis| genesis.parse().ok());
        Self { id: status.chain_id.clone(), genesis }
    }

    pub(crate) fn is_that_of(&self, status: &keyshard_rpc::Status) -> bool {
        let other = Self::of(status);
        self.id == other.id && self.genesis.zip(other.genesis).is_none_or(|(one, two)| one == two)
    }

    /// What names it in the journal: its genesis, or a hash of its id where nobody tells it.
    pub(crate) fn name(&self) -> CryptoHash {
        self.genesis.unwrap_or_else(|| CryptoHash::hash_bytes(self.id.as_bytes()))
    }
}

/// The courier of one shard. Clones are the same courier.
#[derive(Clone)]
pub(crate) struct Courier(Rc<Inner>);

struct Inner {
    client: Client,
    account: AccountId,
    token: AccountId,
    chain: Chain,
    trust: Trust,
    calls: Rc<RefCell<Vec<Calls>>>,
    /// Answers that the worker has not taken yet.
    inbox: RefCell<VecDeque<Input>>,
    bell: Bell,
}

impl Courier {
    pub(crate) fn new(client: Client, settings: &Settings, chain: Chain, bell: Bell) -> Self {
        let Settings { account, token, trust, .. } = settings.clone();
        let calls = Rc::<RefCell<Vec<Calls>>>::default();
        let meter = calls.clone();
        let client = client.observed_by(move |call| Calls::count(&mut meter.borrow_mut(), call));
        Self(Rc::new(Inner { client, account, token, chain, trust, calls, inbox: RefCell::default(), bell }))
    }

    /// Calls to the nodes so far, by method.
    pub(crate) fn calls(&self) -> Vec<Calls> {
        self.0.calls.borrow().clone()
    }

    /// Keeps reading what the account holds, for ever.
    pub(crate) fn watch_purse(&self, purse: Arc<Purse>, paid: impl Fn() -> u128 + 'static, clock: Clock) {
        let inner = self.0.clone();
        tokio::task::spawn_local(async move { inner.watch_purse(&purse, paid, clock).await });
    }

    /// The next thing that came back.
    pub(crate) fn poll(&self) -> Option<Input> {
        self.0.inbox.borrow_mut().pop_front()
    }

    /// As if it had come back from a node.
    pub(crate) fn deliver(&self, input: Input) {
        self.0.deliver(input);
    }

    pub(crate) fn endpoints(&self) -> Vec<keyshard_rpc::EndpointHealth> {
        self.0.client.endpoints()
    }

    /// Sends a signed transaction. Tasks start in the order of these calls, so nonces leave in their order.
    pub(crate) fn send(&self, id: AskId, hash: CryptoHash, bytes: Arc<[u8]>, wait: Level, avoid: EndpointSet) {
        self.spawn(id, move |inner| async move {
            let base64 = base64(&bytes);
            let until = send_until(wait);
            let answer = inner.elsewhere(avoid, async |route| inner.client.send_tx(route, &base64, until).await).await;
            match &answer {
                Ok(Answer { value: TxStatus { outcome: Some(outcome), .. }, .. })
                    if outcome.transaction_hash != hash.to_string() =>
                {
                    Reply::Lost { why: "the answer is about another transaction".into() }
                }
                _ => reply(answer),
            }
        });
    }

    /// Asks a question that changes nothing.
    pub(crate) fn query(&self, id: AskId, query: Query) {
        self.spawn(id, move |inner| async move {
            match query {
                Query::Status { hash, wait, avoid } => {
                    let (until, hash) = (WaitUntil::from(send_until(wait)), hash.to_string());
                    let tx = async |route| inner.client.tx(route, &hash, inner.account.as_str(), until).await;
                    reply(inner.elsewhere(avoid, tx).await)
                }
                Query::Fate { public_key, hash, avoid } => inner.fate(&public_key, hash, avoid).await,
                Query::Registration { account } => inner.registration(&account).await,
                Query::TokenBalance => inner.token_balance().await,
                // The worker answers it.
                Query::Allowance { most, .. } => Reply::Allowance(most),
            }
        });
    }

    /// Follows the chain for ever: final blocks, and the limits of every new epoch.
    pub(crate) fn follow(&self, epoch: String) {
        let inner = self.0.clone();
        tokio::task::spawn_local(async move { inner.follow(epoch).await });
    }

    fn spawn<F>(&self, id: AskId, question: impl FnOnce(Rc<Inner>) -> F + 'static)
    where
        F: Future<Output = Reply>,
    {
        let inner = self.0.clone();
        tokio::task::spawn_local(async move {
            let reply = question(inner.clone()).await;
            inner.deliver(Input::Reply { id, reply });
        });
    }
}

impl Inner {
    fn deliver(&self, input: Input) {
        self.inbox.borrow_mut().push_back(input);
        self.bell.ring();
    }

    /// Asks an endpoint that is not to be avoided; any, if no other can be reached.
    async fn elsewhere<T>(
        &self,
        avoid: EndpointSet,
        question: impl AsyncFn(Route) -> Result<Answer<T>, Error>,
    ) -> Result<Answer<T>, Error> {
        if !avoid.is_empty() {
            match question(Route::Except(avoid.bits())).await {
                Err(error) if error.fate == RpcFate::NeverLeft => {}
                answer => return answer,
            }
        }
        question(Route::Any).await
    }

    /// What P4 needs, from one node and in this order: is it synced and on our chain, the key at FINAL, the transaction,
    /// what it still holds. A node whose final block is as far as the key says cannot honestly not know a transaction that ran
    /// before it (near-facts section 2).
    async fn fate(&self, public_key: &str, hash: CryptoHash, avoid: EndpointSet) -> Reply {
        let account = self.account.as_str();
        let status = self.elsewhere(avoid, async |route| self.client.status(route).await).await;
        let (status, endpoint) = match status {
            Ok(Answer { value, endpoint }) => (value, endpoint),
            Err(error) => return lost(&error),
        };
        if status.syncing {
            return Reply::Lost { why: "the node is syncing".into() };
        }
        if !self.chain.is_that_of(&status) {
            return Reply::Lost { why: "the node is on another chain".into() };
        }
        let node = Route::Only(endpoint);
        let (key_nonce, final_height) =
            match self.client.view_access_key(node, BlockRef::Final, account, public_key).await {
                Ok(key) => (Some(key.value.nonce), key.value.block_height),
                Err(Error { fate: RpcFate::Refused(RpcRefusal::UnknownAccessKey), .. }) => {
                    match self.client.block(node, BlockRef::Final).await {
                        Ok(block) => (None, block.value.height),
                        Err(error) => return lost(&error),
                    }
                }
                Err(error) => return lost(&error),
            };
        let known = match self.client.tx(node, &hash.to_string(), account, WaitUntil::None).await {
            // `NONE` is not `UNKNOWN_TRANSACTION`: the node cannot say.
            Ok(answer) if answer.value.execution_status == ExecutionStatus::None => Known::Untracked,
            Ok(answer) => Known::Yes(tx_status(&answer.value)),
            Err(Error { fate: RpcFate::Refused(RpcRefusal::UnknownTransaction), .. }) => Known::No,
            Err(Error { fate: RpcFate::Refused(RpcRefusal::DoesNotTrackShard), .. }) => Known::Untracked,
            Err(error) => return lost(&error),
        };
        // Asked last: what it remembers now, it remembered when it was asked about the transaction.
        let earliest_height = match self.client.status(node).await {
            Ok(status) => match status.value.earliest_block_height {
                Some(height) => height,
                None => return Reply::Lost { why: "the node does not say how far back it remembers".into() },
            },
            Err(error) => return lost(&error),
        };
        Reply::Fate(Fate { key_nonce, final_height, earliest_height, known, endpoint: index(endpoint) })
    }

    async fn registration(&self, receiver: &AccountId) -> Reply {
        let args = format!(r#"{{"account_id":"{receiver}"}}"#);
        match self.view("storage_balance_of", &args).await {
            Ok(answer) => match serde_json::from_slice::<Option<serde::de::IgnoredAny>>(&answer) {
                Ok(balance) => Reply::Registration(balance.is_some()),
                Err(error) => Reply::Lost { why: format!("storage_balance_of: {error}").into() },
            },
            // A token without NEP-145 registers nobody.
            Err(error) if is_method_missing(&error) => Reply::Registration(true),
            Err(error) => lost(&error),
        }
    }

    async fn token_balance(&self) -> Reply {
        let args = format!(r#"{{"account_id":"{}"}}"#, self.account);
        match self.view("ft_balance_of", &args).await {
            Ok(answer) => match amount(&answer) {
                Some(balance) => Reply::TokenBalance(balance),
                None => Reply::TokenUnavailable("ft_balance_of did not answer an amount".into()),
            },
            Err(error) if matches!(error.fate, RpcFate::Refused(_)) => {
                Reply::TokenUnavailable(error.to_string().into())
            }
            Err(error) => lost(&error),
        }
    }

    async fn watch_purse(&self, purse: &Purse, paid: impl Fn() -> u128, clock: Clock) {
        if let Ok(answer) = self.view("ft_metadata", "{}").await {
            purse.is_called(&answer);
        }
        loop {
            if let Reply::TokenBalance(tokens) = self.token_balance().await {
                purse.holds(clock.now(), tokens, paid());
            }
            let account = self.client.view_account(Route::Any, BlockRef::Optimistic, self.account.as_str()).await;
            if let Ok(answer) = account {
                purse.holds_near(answer.value.amount);
            }
            tokio::time::sleep(purse::READ_EVERY).await;
        }
    }

    async fn view(&self, method: &str, args: &str) -> Result<Vec<u8>, Error> {
        let call =
            self.client.call_function(Route::Any, BlockRef::Optimistic, self.token.as_str(), method, args.as_bytes());
        Ok(call.await?.value.result)
    }

    /// Looks at every endpoint. One that is on another chain, or on a wiped one, is not used.
    async fn probe(&self) {
        for (endpoint, status) in self.client.probe_endpoints().await {
            if let Ok(status) = status
                && !self.chain.is_that_of(&status)
            {
                tracing::error!(
                    endpoint = self.client.endpoint_name(endpoint),
                    chain_id = status.chain_id,
                    "an endpoint is on another chain than the one the service was started with; it is not used"
                );
                self.client.observe_head(endpoint, 0, true);
            }
        }
    }

    fn tell_head(&self, block: &Block, endpoint: EndpointId) {
        if let Some(head) = head(block) {
            self.deliver(Input::Head { head, endpoint: index(endpoint) });
        }
    }

    /// The last final block. Where two must agree, two endpoints are asked, others each time, and the one that is ahead
    /// also about the height that the other has reached.
    async fn look(&self, round: u32) -> Result<Block, Error> {
        let all = self.client.endpoints();
        if self.trust == Trust::One {
            let answer = self.client.block(Route::Any, BlockRef::Final).await?;
            self.tell_head(&answer.value, answer.endpoint);
            return Ok(answer.value);
        }
        let (one, two) = (all[round as usize % all.len()].id, all[(round as usize + 1) % all.len()].id);
        let (first, second) = tokio::join!(
            self.client.block(Route::Only(one), BlockRef::Final),
            self.client.block(Route::Only(two), BlockRef::Final)
        );
        let (first, second) = (first?.value, second?.value);
        self.tell_head(&first, one);
        self.tell_head(&second, two);
        let (ahead, height) = if first.height > second.height { (one, second.height) } else { (two, first.height) };
        if first.height != second.height {
            let below = self.client.block(Route::Only(ahead), BlockRef::Height(height)).await?;
            self.tell_head(&below.value, ahead);
        }
        Ok(first)
    }

    async fn follow(&self, mut epoch: String) {
        for round in 0u32.. {
            if round.is_multiple_of(HEADS_PER_PROBE) {
                self.probe().await;
            }
            match self.look(round).await {
                Ok(block) => {
                    if block.epoch_id != epoch
                        && let Ok(config) = self.client.protocol_config(Route::Any).await
                    {
                        epoch = block.epoch_id;
                        self.deliver(Input::Limits(limits(&config.value)));
                    }
                }
                Err(error) => tracing::debug!(%error, "no final block"),
            }
            tokio::time::sleep(HEAD_PAUSE).await;
        }
    }
}

/// The final block in the shard's words; `None` if its hash is none.
pub(crate) fn head(block: &Block) -> Option<Head> {
    Some(Head { height: block.height, hash: block.hash.parse().ok()?, timestamp_nanos: block.timestamp_nanosec })
}

/// The limits in the shard's words.
pub(crate) fn limits(config: &ProtocolConfig) -> ChainLimits {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    ChainLimits {
        max_actions: size(config.max_actions_per_receipt),
        max_total_prepaid_gas: config.max_total_prepaid_gas,
        max_gas_burnt: config.max_gas_burnt,
        max_transaction_size: size(config.max_transaction_size),
        validity_blocks: config.transaction_validity_period,
    }
}

/// An amount as NEP-141 answers it: a JSON string of decimal digits.
pub(crate) fn amount(answer: &[u8]) -> Option<u128> {
    serde_json::from_slice::<String>(answer).ok()?.parse().ok()
}

/// `storage_balance_bounds` (NEP-145).
#[derive(Deserialize)]
pub(crate) struct StorageBounds {
    pub(crate) min: String,
}

/// Whether a contract was reached but has no such method.
pub(crate) fn is_method_missing(error: &Error) -> bool {
    matches!(&error.fate, RpcFate::Refused(RpcRefusal::ContractError(text)) if text.contains("MethodNotFound"))
}

pub(crate) fn index(endpoint: EndpointId) -> EndpointIndex {
    EndpointIndex::try_from(endpoint.index()).unwrap_or(EndpointIndex::MAX)
}

fn send_until(level: Level) -> SendUntil {
    match level {
        Level::Included => SendUntil::Included,
        Level::ExecutedOptimistic => SendUntil::ExecutedOptimistic,
        Level::IncludedFinal => SendUntil::IncludedFinal,
        Level::Executed => SendUntil::Executed,
        Level::Final => SendUntil::Final,
    }
}

/// An error that is no answer.
fn lost(error: &Error) -> Reply {
    let why = error.to_string().into();
    match error.fate {
        RpcFate::NeverLeft => Reply::NotSent { why, retry_after: error.retry_after.unwrap_or_default() },
        RpcFate::Unknown | RpcFate::Refused(_) => Reply::Lost { why },
    }
}

fn reply(answer: Result<Answer<TxStatus>, Error>) -> Reply {
    let error = match answer {
        Ok(answer) => return Reply::Status { status: tx_status(&answer.value), endpoint: index(answer.endpoint) },
        Err(error) => error,
    };
    match (&error.fate, error.endpoint) {
        (RpcFate::Refused(RpcRefusal::InvalidTx(reason)), Some(endpoint)) => {
            Reply::Refused { refusal: refusal(reason), endpoint: index(endpoint) }
        }
        (RpcFate::Refused(_), Some(endpoint)) => {
            Reply::Refused { refusal: Refusal::Other(error.to_string().into()), endpoint: index(endpoint) }
        }
        _ => lost(&error),
    }
}

/// Why a node refuses, in the shard's words.
pub fn refusal(reason: &InvalidTx) -> Refusal {
    let text = || reason.to_string().into();
    match reason {
        InvalidTx::InvalidNonce { ak_nonce, .. } => Refusal::InvalidNonce { key_nonce: Some(*ak_nonce) },
        InvalidTx::Expired | InvalidTx::InvalidChain => Refusal::Expired,
        InvalidTx::NotEnoughBalance { .. } | InvalidTx::LackBalanceForState { .. } => Refusal::NotEnoughNear(text()),
        InvalidTx::InvalidAccessKeyError(error) => match **error {
            AccessKeyError::NotEnoughAllowance { .. } => Refusal::Live(text()),
            _ => Refusal::Key(text()),
        },
        other => match other.class() {
            Class::Permanent => Refusal::Permanent(text()),
            Class::Live => Refusal::Live(text()),
            Class::ProvesNothing => Refusal::Other(text()),
        },
    }
}

fn tx_status(status: &TxStatus) -> Status {
    let level = match status.execution_status {
        ExecutionStatus::Included => Some(Level::Included),
        ExecutionStatus::ExecutedOptimistic => Some(Level::ExecutedOptimistic),
        ExecutionStatus::IncludedFinal => Some(Level::IncludedFinal),
        ExecutionStatus::Executed => Some(Level::Executed),
        ExecutionStatus::Final => Some(Level::Final),
        ExecutionStatus::None | ExecutionStatus::Other(_) => None,
    };
    let Some(outcome) = &status.outcome else {
        return Status { level, execution: Execution::Pending, gas_burnt: None };
    };
    let execution = match &outcome.result {
        ExecutionResult::Success(_) => Execution::Success,
        ExecutionResult::Pending => Execution::Pending,
        ExecutionResult::ActionError { index, kind } => Execution::Failed { index: *index, failure: failure(kind) },
        ExecutionResult::InvalidTx(reason) => Execution::Invalid(reason.to_string().into()),
        // Without a receipt nothing ran, and the nonce may be unused: then it is no failure on chain.
        ExecutionResult::OtherFailure(text) if outcome.gas_burnt_receipt.is_none() => {
            Execution::Invalid(text.as_str().into())
        }
        ExecutionResult::OtherFailure(text) => {
            Execution::Failed { index: None, failure: Failure::Other(text.as_str().into()) }
        }
    };
    Status { level, execution, gas_burnt: outcome.gas_burnt_receipt }
}

/// Why a receipt failed, in the shard's words.
pub fn failure(kind: &ActionErrorKind) -> Failure {
    match kind {
        ActionErrorKind::FunctionCall(FunctionCallError::Execution(text)) => Failure::Execution(text.as_str().into()),
        ActionErrorKind::FunctionCall(FunctionCallError::MethodNotFound) => Failure::MethodMissing,
        ActionErrorKind::FunctionCall(FunctionCallError::CodeDoesNotExist) => {
            Failure::TokenMissing("the token account holds no contract".into())
        }
        ActionErrorKind::AccountDoesNotExist { account_id } => {
            Failure::TokenMissing(format!("the account {account_id} does not exist").into())
        }
        ActionErrorKind::FunctionCall(FunctionCallError::Other(text))
        | ActionErrorKind::NewReceiptValidation(text)
        | ActionErrorKind::Other(text) => Failure::Other(text.as_str().into()),
        ActionErrorKind::LackBalanceForState { account_id, amount } => {
            Failure::Other(format!("{account_id} lacks {amount} yoctoNEAR for its storage").into())
        }
    }
}
