//! What the chain says of a transaction: which transfers it paid, at FINAL.
use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    rc::Rc,
    time::Duration,
};

use keyshard_engine::{
    Trust,
    rpc::{
        self, Action, BlockRef, Client, EndpointId, ExecutionResult, ExecutionStatus, Fate, Refusal, Route, TxDetails,
    },
};
use keyshard_shard::CryptoHash;
use near_primitives::types::AccountId;
use serde::Deserialize;
use tokio::task::{JoinSet, LocalSet};

/// Questions under way at once: public nodes refuse much more.
const CONCURRENCY: usize = 16;
/// How often a node that gives no answer, or none that is final, is asked again, and the pause before.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);
/// Transactions of which nothing could be learnt, after which the rest is asked about only once each.
const SILENT_MAX: usize = 2 * CONCURRENCY;
/// A node whose oldest block is of this moment has everything that was signed later: clocks may differ by so much.
const CLOCK_SLACK_MS: u64 = 60_000;
/// What the first block names as its parent.
const NO_BLOCK: &str = "11111111111111111111111111111111";

/// One `ft_transfer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payment {
    pub(crate) receiver: String,
    pub(crate) amount: u128,
    /// Empty if there is none: the token is told the same.
    pub(crate) memo: String,
}

/// What is known of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sight {
    /// Success at FINAL: it paid these, in the order of its actions. `None` is an `ft_transfer` that cannot be read.
    Landed(Vec<Option<Payment>>),
    /// Failed at FINAL, for this reason: it paid nobody.
    Undone(String),
    /// At FINAL, but not of our account to our token.
    Foreign(String),
    /// No node knows it. As many as must agree have everything signed since this time (Unix milliseconds).
    Unknown { since_ms: Option<u64> },
    /// Nothing can be said, for this reason.
    Unclear(String),
}

impl Sight {
    /// Whether no node knows a transaction, and one of them would know it, had it run and been signed after this time.
    pub(crate) fn never_ran(&self, signed_after_ms: u64) -> bool {
        matches!(self, Self::Unknown { since_ms: Some(since) } if *since <= signed_after_ms)
    }
}

/// Asks nodes about transactions. Clones are the same.
#[derive(Clone)]
pub(crate) struct Witness(Rc<Inner>);

struct Inner {
    client: Client,
    /// With the time since which each has everything, if it tells.
    endpoints: Vec<(EndpointId, Option<u64>)>,
    /// Nodes that must agree.
    needed: usize,
    account: AccountId,
    token: AccountId,
    genesis: CryptoHash,
    /// Transactions that nothing was learnt of.
    silent: Cell<usize>,
}

impl Witness {
    /// Finds out which nodes there are, and which chain they are on. The error is for people.
    pub(crate) async fn new(
        config: rpc::Config,
        trust: Option<Trust>,
        account: AccountId,
        token: AccountId,
    ) -> Result<Self, String> {
        let count = config.endpoints.len();
        let needed = if count > 1 && trust != Some(Trust::One) { 2 } else { 1 };
        let client = Client::new(config).map_err(|error| error.to_string())?;
        let mut tries = 0;
        let answers = loop {
            let answers = client.probe_endpoints().await;
            let ready =
                answers.iter().filter(|(_, answer)| answer.as_ref().is_ok_and(|status| !status.syncing)).count();
            tries += 1;
            if ready >= needed || tries == TRIES {
                break answers;
            }
            tokio::time::sleep(PAUSE).await;
        };
        let mut why = Vec::new();
        let mut chain = None;
        let mut endpoints = Vec::new();
        for (id, answer) in answers {
            let name = client.endpoint_name(id);
            match answer {
                Ok(status) if status.syncing => why.push(format!("{name} is syncing")),
                Err(error) => why.push(format!("{name}: {error}")),
                Ok(status) => {
                    let genesis = keyshard_engine::chain_name(&status);
                    if *chain.get_or_insert(genesis) != genesis {
                        return Err("RPC_URLS mixes networks: its nodes have different genesis hashes".into());
                    }
                    endpoints.push((id, remembers_since(&client, id, status.earliest_block_height).await));
                }
            }
        }
        let Some(genesis) = chain.filter(|_| endpoints.len() >= needed) else {
            let asked = if needed > 1 { "not enough NEAR nodes answered" } else { "no NEAR node answered" };
            return Err(format!("{asked}: {}. Check NODE_URL or RPC_URLS", why.join("; ")));
        };
        Ok(Self(Rc::new(Inner { client, endpoints, needed, account, token, genesis, silent: Cell::new(0) })))
    }

    /// What names the chain in journal and history.
    pub(crate) fn genesis(&self) -> CryptoHash {
        self.0.genesis
    }

    /// Nonces of all access keys of the account, at FINAL.
    pub(crate) async fn nonces(&self) -> Result<HashMap<String, u64>, rpc::Error> {
        let answer = self.0.client.view_access_key_list(Route::Any, BlockRef::Final, self.0.account.as_str()).await?;
        Ok(answer.value.keys.into_iter().map(|key| (key.public_key, key.nonce)).collect())
    }

    /// Asks about every one of these, each once, several at a time.
    pub(crate) async fn ask(&self, hashes: impl IntoIterator<Item = CryptoHash>) -> HashMap<CryptoHash, Sight> {
        let todo: Rc<RefCell<VecDeque<CryptoHash>>> = Rc::new(RefCell::new(hashes.into_iter().collect()));
        let sights = Rc::new(RefCell::new(HashMap::new()));
        let tasks = LocalSet::new();
        tasks
            .run_until(async {
                let mut workers = JoinSet::new();
                for _ in 0..CONCURRENCY {
                    let (witness, todo, sights) = (self.clone(), todo.clone(), sights.clone());
                    workers.spawn_local(async move {
                        loop {
                            let Some(hash) = todo.borrow_mut().pop_front() else { return };
                            let sight = witness.ask_one(hash).await;
                            sights.borrow_mut().insert(hash, sight);
                        }
                    });
                }
                while workers.join_next().await.is_some() {}
            })
            .await;
        sights.take()
    }

    async fn ask_one(&self, hash: CryptoHash) -> Sight {
        let name = hash.to_string();
        let mut last = Sight::Unclear("nobody was asked".into());
        // Where the nodes stopped answering, the rest is not waited for.
        let tries = if self.0.silent.get() < SILENT_MAX { TRIES } else { 1 };
        for attempt in 0..tries {
            if attempt > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            match self.look(&name).await {
                Look::Seen(sight) => return sight,
                Look::Again(why) => last = Sight::Unclear(why),
            }
        }
        self.0.silent.set(self.0.silent.get() + 1);
        last
    }

    /// One round: every node until enough agree.
    async fn look(&self, hash: &str) -> Look {
        let Inner { client, endpoints, needed, account, token, .. } = &*self.0;
        let (mut seen, mut agreeing): (Option<Sight>, usize) = (None, 0);
        let (mut unknown, mut since, mut again) = (0, Vec::new(), None);
        for (id, remembers_since) in endpoints {
            match client.tx_details(Route::Only(*id), hash, account.as_str()).await {
                Ok(answer) if answer.value.status.execution_status == ExecutionStatus::Final => {
                    let sight = read(answer.value, account, token);
                    match &seen {
                        Some(other) if *other != sight => {
                            return Look::Seen(Sight::Unclear(format!("the nodes disagree: {other} and {sight}")));
                        }
                        _ => (seen, agreeing) = (Some(sight), agreeing + 1),
                    }
                    if agreeing >= *needed {
                        break;
                    }
                }
                Ok(answer) => again = Some(format!("it is {} only", answer.value.status.execution_status.as_str())),
                Err(rpc::Error { fate: Fate::Refused(Refusal::UnknownTransaction), .. }) => {
                    unknown += 1;
                    since.extend(*remembers_since);
                }
                Err(error) => again = Some(error.to_string()),
            }
        }
        since.sort_unstable();
        match (seen, again) {
            (Some(sight), _) if agreeing >= *needed => Look::Seen(sight),
            (_, Some(why)) => Look::Again(why),
            (Some(_), None) => Look::Seen(Sight::Unclear("only one node still knows it, and RPC_TRUST is two".into())),
            (None, None) if unknown >= *needed => {
                Look::Seen(Sight::Unknown { since_ms: since.get(needed - 1).copied() })
            }
            (None, None) => Look::Again("not enough nodes answered".into()),
        }
    }
}

enum Look {
    Seen(Sight),
    Again(String),
}

/// The time of the oldest block that a node has, or 0 if that is the first of all.
async fn remembers_since(client: &Client, id: EndpointId, earliest: Option<u64>) -> Option<u64> {
    let block = client.block(Route::Only(id), BlockRef::Height(earliest?)).await.ok()?.value;
    if block.prev_hash == NO_BLOCK {
        return Some(0);
    }
    Some(block.timestamp_nanosec / 1_000_000 + CLOCK_SLACK_MS)
}

/// What a transaction did that is FINAL.
fn read(details: TxDetails, account: &AccountId, token: &AccountId) -> Sight {
    let (Some(outcome), Some(transaction)) = (details.status.outcome, details.transaction) else {
        return Sight::Unclear("the node calls it FINAL and does not show it".into());
    };
    if transaction.signer_id != account.as_str() || transaction.receiver_id != token.as_str() {
        let (signer, receiver) = (transaction.signer_id, transaction.receiver_id);
        return Sight::Foreign(format!("signed by {signer} for {receiver}"));
    }
    match outcome.result {
        ExecutionResult::Success(_) => {
            Sight::Landed(transaction.actions.iter().filter_map(ft_transfer).map(payment).collect())
        }
        ExecutionResult::ActionError { index, kind } => {
            let place = index.map(|index| format!("action {index}: ")).unwrap_or_default();
            Sight::Undone(format!("{place}{kind:?}"))
        }
        ExecutionResult::OtherFailure(why) => Sight::Undone(why),
        ExecutionResult::Pending => Sight::Unclear("FINAL, but its receipt's outcome cannot be read".into()),
        // It consumed no nonce, so its bytes might yet run.
        ExecutionResult::InvalidTx(why) => Sight::Unclear(format!("invalid where it was included: {why:?}")),
    }
}

/// The arguments, if it is an `ft_transfer`.
fn ft_transfer(action: &Action) -> Option<&[u8]> {
    match action {
        Action::FunctionCall { method_name, args, .. } if method_name == "ft_transfer" => Some(args),
        _ => None,
    }
}

fn payment(args: &[u8]) -> Option<Payment> {
    #[derive(Deserialize)]
    struct Arguments {
        receiver_id: String,
        amount: String,
        #[serde(default)]
        memo: Option<String>,
    }
    let Arguments { receiver_id: receiver, amount, memo } = serde_json::from_slice(args).ok()?;
    Some(Payment { receiver, amount: amount.parse().ok()?, memo: memo.unwrap_or_default() })
}

impl std::fmt::Display for Sight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Landed(payments) => write!(f, "success at FINAL with {} ft_transfers", payments.len()),
            Self::Undone(why) => write!(f, "failed at FINAL ({why})"),
            Self::Foreign(what) => write!(f, "not ours: {what}"),
            Self::Unknown { .. } => f.write_str("no node knows it"),
            Self::Unclear(why) => write!(f, "unclear: {why}"),
        }
    }
}

impl std::fmt::Display for Payment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { receiver, amount, memo } = self;
        write!(f, "{amount} to {receiver} (memo {memo:?})")
    }
}

#[cfg(test)]
mod tests {
    use keyshard_engine::rpc::{ActionErrorKind, Transaction, TxOutcome, TxStatus};

    use super::*;

    fn call(method: &str, args: &str) -> Action {
        Action::FunctionCall { method_name: method.into(), args: args.as_bytes().to_vec(), deposit: 1 }
    }

    fn details(result: ExecutionResult, signer: &str, actions: Vec<Action>) -> TxDetails {
        let outcome = TxOutcome {
            transaction_hash: "H".into(),
            block_hash: "B".into(),
            result,
            gas_burnt_tx: 1,
            gas_burnt_receipt: Some(1),
            receipts: 1,
        };
        TxDetails {
            status: TxStatus { execution_status: ExecutionStatus::Final, outcome: Some(outcome) },
            transaction: Some(Transaction {
                hash: "H".into(),
                signer_id: signer.into(),
                public_key: "ed25519:k".into(),
                nonce: 1,
                receiver_id: "ft.near".into(),
                actions,
            }),
        }
    }

    fn seen(details: TxDetails) -> Sight {
        read(details, &"payer.near".parse().unwrap(), &"ft.near".parse().unwrap())
    }

    #[test]
    fn what_landed_is_read_in_order() {
        let actions = vec![
            call("storage_deposit", r#"{"account_id":"a.near","registration_only":true}"#),
            call("ft_transfer", r#"{"receiver_id":"a.near","amount":"7","memo":""}"#),
            call("ft_transfer", r#"{"receiver_id":"b.near","amount":"8"}"#),
            call("ft_transfer", r#"{"receiver_id":"b.near","amount":"9","memo":"m\"n"}"#),
            call("ft_transfer", r#"{"receiver_id":"b.near","amount":9}"#),
            Action::Other,
        ];
        let payment =
            |receiver: &str, amount, memo: &str| Some(Payment { receiver: receiver.into(), amount, memo: memo.into() });
        let payments = vec![payment("a.near", 7, ""), payment("b.near", 8, ""), payment("b.near", 9, "m\"n"), None];
        let success = ExecutionResult::Success(Vec::new());
        assert_eq!(seen(details(success.clone(), "payer.near", actions)), Sight::Landed(payments));
        assert!(matches!(seen(details(success, "other.near", vec![])), Sight::Foreign(_)));
    }

    #[test]
    fn only_an_executed_failure_is_undone() {
        let failed = ExecutionResult::ActionError {
            index: Some(1),
            kind: ActionErrorKind::AccountDoesNotExist { account_id: "ft.near".into() },
        };
        assert!(
            matches!(seen(details(failed, "payer.near", vec![])), Sight::Undone(why) if why.starts_with("action 1"))
        );
        assert!(matches!(seen(details(ExecutionResult::Pending, "payer.near", vec![])), Sight::Unclear(_)));
    }

    #[test]
    fn not_known_is_no_proof_unless_it_would_be_known() {
        for (sight, signed, never) in [
            (Sight::Unknown { since_ms: Some(0) }, 5, true),
            (Sight::Unknown { since_ms: Some(5) }, 5, true),
            (Sight::Unknown { since_ms: Some(6) }, 5, false),
            (Sight::Unknown { since_ms: None }, 5, false),
            (Sight::Undone(String::new()), 5, false),
        ] {
            assert_eq!(sight.never_ran(signed), never, "{sight:?}");
        }
    }
}
