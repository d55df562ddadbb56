//! An endpoint: the chain as one node shows it, which may lag, forget, follow a branch that was given up, or lie.
use std::sync::Arc;

use keyshard_sandbox::{
    chain::Chain,
    history::{Block, Progress},
};
use keyshard_shard::{
    AccountId, CryptoHash, EndpointIndex, Execution, Failure, Fate, Head, Known, Level, Refusal, Reply, Status,
};
use near_primitives::{errors::InvalidTxError, transaction::SignedTransaction};

use crate::{
    chain::Network,
    faults::{Fault, Faults},
    random::Random,
    words,
};

/// What is asked of a node.
#[derive(Debug, Clone)]
pub(crate) enum Question {
    /// `send_tx`
    Send {
        tx: Arc<SignedTransaction>,
        wait: Level,
    },
    /// `tx`
    Status {
        hash: CryptoHash,
        wait: Level,
    },
    /// The first half of what P4 needs: the key at FINAL.
    Fate {
        public_key: Arc<str>,
        hash: CryptoHash,
    },
    /// The second half: the transaction, and what the node remembers.
    FateKnown {
        hash: CryptoHash,
        key_nonce: Option<u64>,
        final_height: u64,
    },
    Registration {
        account: AccountId,
    },
    TokenBalance,
    /// The final block, or the block at a height.
    Block {
        height: Option<u64>,
    },
}

/// What a node does about a question.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    /// It answers.
    Reply(Reply),
    /// It shows its final block.
    Head(Head),
    /// It asks itself something more before it answers.
    More(Question),
    /// It waits until the transaction is as far as was asked.
    Wait,
    /// It passes the transaction on, then waits likewise.
    Take,
}

/// How an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Fine,
    Throttled,
    Failing,
    Syncing,
    Down,
}

/// One endpoint.
pub(crate) struct Endpoint {
    pub(crate) index: EndpointIndex,
    /// Any of its answers may be a lie.
    pub(crate) is_liar: bool,
    pub(crate) mode: Mode,
    /// Blocks that it is behind.
    lag: u64,
    /// Its answers come from several nodes.
    mixed: bool,
    /// The branch that it follows, if not the canonical one.
    branch: Option<Arc<Chain>>,
    /// Height of the oldest block that it remembers.
    remembers_from: u64,
}

/// Blocks that an endpoint lags at most: the chain remembers states for twenty.
const LAG_MAX: u64 = 15;

struct View<'a> {
    chain: &'a Chain,
    head: &'a Block,
    remembers_from: u64,
}

impl Endpoint {
    pub(crate) fn new(index: EndpointIndex, is_liar: bool) -> Self {
        Self { index, is_liar, mode: Mode::Fine, lag: 0, mixed: false, branch: None, remembers_from: 0 }
    }

    /// The weather changes. Returns what is to be told of it, and whether its pool is gone.
    pub(crate) fn weather(&mut self, network: &Network, faults: &mut Faults) -> (String, bool) {
        let index = self.index;
        *self = Self { remembers_from: self.remembers_from, ..Self::new(index, self.is_liar) };
        if !faults.on {
            self.remembers_from = 0;
            return (String::new(), false);
        }
        let modes = [
            (Fault::Throttled, Mode::Throttled),
            (Fault::Failing, Mode::Failing),
            (Fault::Syncing, Mode::Syncing),
            (Fault::NodeDown, Mode::Down),
        ];
        for (fault, mode) in modes {
            if faults.strikes(fault) {
                self.mode = mode;
            }
        }
        if faults.strikes(Fault::Stale) {
            self.lag = faults.random(Fault::Stale).among(1..=LAG_MAX - 2);
        }
        self.mixed = faults.strikes(Fault::Mixed);
        if faults.strikes(Fault::WrongBranch) {
            self.branch.clone_from(&network.given_up);
        }
        if faults.strikes(Fault::Forgetful) {
            let head = network.chain.head().height;
            self.remembers_from = head.saturating_sub(faults.random(Fault::Forgetful).below(30));
        }
        let restarted = faults.strikes(Fault::NodeRestart);
        let Self { mode, lag, mixed, remembers_from, .. } = self;
        let branch = if self.branch.is_some() { ", follows a branch that was given up" } else { "" };
        let restart = if restarted { ", starts anew" } else { "" };
        let what = format!(
            "endpoint {index} is {mode:?}, lags {lag}, mixed {mixed}, remembers from {remembers_from}{branch}{restart}"
        );
        (what, restarted)
    }

    /// What an honest node says now. `faults` tell which of the nodes behind this endpoint answers.
    pub(crate) fn ask(&self, network: &Network, question: &Question, faults: &mut Faults) -> Said {
        let view = self.view(network, faults);
        match question {
            Question::Send { tx, wait } => self.take(network, &view, tx, *wait),
            Question::Status { hash, wait } => match view.status(hash, *wait) {
                Some(status) => Said::Reply(Reply::Status { status, endpoint: self.index }),
                None => Said::Wait,
            },
            Question::Fate { .. } if self.mode == Mode::Syncing => {
                Said::Reply(Reply::Lost { why: "the node is syncing".into() })
            }
            Question::Fate { public_key, hash } => {
                let last_final = view.last_final();
                let key = public_key.parse().ok();
                let key = key.and_then(|key| view.chain.access_key_at(last_final, &network.account, &key));
                let key_nonce = key.map(|key| key.nonce);
                Said::More(Question::FateKnown { hash: *hash, key_nonce, final_height: last_final })
            }
            Question::FateKnown { hash, key_nonce, final_height } => {
                let known = view.status(hash, Level::Included).map_or(Known::No, Known::Yes);
                Said::Reply(Reply::Fate(Fate {
                    key_nonce: *key_nonce,
                    final_height: *final_height,
                    earliest_height: self.remembers_from,
                    known,
                    endpoint: self.index,
                }))
            }
            Question::Registration { account } => {
                let balance = view.chain.token_balance_at(view.head.height, &network.token, account);
                Said::Reply(Reply::Registration(balance.is_some()))
            }
            Question::TokenBalance => {
                let balance = view.chain.token_balance_at(view.head.height, &network.token, &network.account);
                Said::Reply(Reply::TokenBalance(balance.unwrap_or_default()))
            }
            Question::Block { height } => {
                let last_final = view.chain.history().final_block_at(view.head);
                let block = height.and_then(|height| view.chain.history().block_at(height)).unwrap_or(last_final);
                Said::Head(Head { height: block.height, hash: block.hash, timestamp_nanos: block.timestamp_nanos })
            }
        }
    }

    /// What comes of waiting, once more is known. `tx` is looked at again if it was sent.
    pub(crate) fn look_again(
        &self,
        network: &Network,
        hash: &CryptoHash,
        tx: Option<&SignedTransaction>,
        wait: Level,
        faults: &mut Faults,
    ) -> Option<Reply> {
        let view = self.view(network, faults);
        if let Some(status) = view.status(hash, wait) {
            return Some(Reply::Status { status, endpoint: self.index });
        }
        let is_unknown = network.chain.history().on_chain(hash).is_none();
        let error = tx.filter(|_| is_unknown).and_then(|tx| view.check(network, tx))?;
        Some(Reply::Refused { refusal: words::refusal(&error), endpoint: self.index })
    }

    fn take(&self, network: &Network, view: &View<'_>, tx: &SignedTransaction, wait: Level) -> Said {
        if let Some(status) = view.status(&tx.get_hash(), wait) {
            return Said::Reply(Reply::Status { status, endpoint: self.index });
        }
        // It is on its way, or this node does not see yet that it is on chain.
        if network.chain.history().on_chain(&tx.get_hash()).is_some() {
            return Said::Wait;
        }
        match view.check(network, tx) {
            Some(error) => Said::Reply(Reply::Refused { refusal: words::refusal(&error), endpoint: self.index }),
            None => Said::Take,
        }
    }

    fn view<'a>(&'a self, network: &'a Network, faults: &mut Faults) -> View<'a> {
        let chain = self.branch.as_deref().unwrap_or(&network.chain);
        let jitter = if self.mixed { faults.random(Fault::Mixed).below(3) } else { 0 };
        let height = chain.head().height.saturating_sub(self.lag + jitter);
        let head = chain.history().block_at(height).unwrap_or(chain.head());
        View { chain, head, remembers_from: self.remembers_from }
    }
}

impl View<'_> {
    fn last_final(&self) -> u64 {
        self.chain.history().final_block_at(self.head).height
    }

    /// What it says of a transaction that is at least so far.
    fn status(&self, hash: &CryptoHash, wait: Level) -> Option<Status> {
        let history = self.chain.history();
        let on_chain = history.on_chain(hash).filter(|on_chain| on_chain.height >= self.remembers_from)?;
        let progress = history.progress_at(hash, self.head);
        if progress == Progress::None || !progress.satisfies(words::progress(wait)) {
            return None;
        }
        let ran = on_chain.ran.filter(|ran| ran.height <= self.head.height);
        let execution = match ran.map(|ran| ran.result) {
            None => Execution::Pending,
            Some(Ok(_)) => Execution::Success,
            Some(Err(error)) => Execution::Failed { index: error.index, failure: words::failure(&error.kind) },
        };
        Some(Status { level: words::level(progress), execution, gas_burnt: ran.map(|ran| ran.gas_burnt) })
    }

    /// Why it would not take a transaction. The state is the head's: a node that lags knows of fewer reasons, never of others.
    fn check(&self, network: &Network, tx: &SignedTransaction) -> Option<InvalidTxError> {
        let reference = self.chain.history().block_by_hash(tx.transaction.block_hash());
        if reference.is_none_or(|block| block.height > self.head.height) {
            return Some(InvalidTxError::Expired);
        }
        if network.is_congested() {
            return Some(InvalidTxError::ShardStuck { shard_id: 0, missed_chunks: 1 });
        }
        let key = (tx.transaction.signer_id(), tx.transaction.public_key());
        let nonce = self.chain.access_key_at(self.head.height, key.0, key.1).map(|key| key.nonce);
        match network.chain.check(tx, false) {
            Err(InvalidTxError::InvalidNonce { tx_nonce, .. }) => match nonce {
                Some(ak_nonce) if ak_nonce >= tx_nonce => Some(InvalidTxError::InvalidNonce { tx_nonce, ak_nonce }),
                _ => None,
            },
            checked => checked.err(),
        }
    }
}

/// What a node that is plain wrong may say.
pub(crate) fn lie(question: &Question, endpoint: EndpointIndex, network: &Network, random: &mut Random) -> Said {
    let chain = &network.chain;
    match question {
        Question::Send { tx, .. } => match random.below(3) {
            0 => Said::Reply(wrong_refusal(endpoint, network, random)),
            1 => Said::Reply(Reply::Status { status: wrong_status(random), endpoint }),
            _ => {
                let status = settled_lie(&tx.get_hash());
                Said::Reply(Reply::Status { status, endpoint })
            }
        },
        Question::Status { hash, .. } => {
            let status = if random.chance(500) { settled_lie(hash) } else { wrong_status(random) };
            Said::Reply(Reply::Status { status, endpoint })
        }
        Question::Fate { hash, .. } | Question::FateKnown { hash, .. } => {
            let height = chain.head().height;
            let known = match random.below(4) {
                0 => Known::Yes(settled_lie(hash)),
                1 => Known::Yes(wrong_status(random)),
                _ => Known::No,
            };
            let some = random.below(40);
            let key_nonce = random.pick(&[None, Some(0), Some(some), Some(some), Some(1_000), Some(u64::MAX)]);
            let final_height = match random.below(3) {
                0 => height + random.below(10_000),
                1 => random.below(height),
                _ => height,
            };
            let earliest_height = random.pick(&[0, 0, 0, height]);
            Said::Reply(Reply::Fate(Fate { key_nonce, final_height, earliest_height, known, endpoint }))
        }
        Question::Registration { .. } => Said::Reply(Reply::Registration(random.chance(500))),
        Question::TokenBalance => Said::Reply(match random.below(3) {
            0 => Reply::TokenUnavailable("a lie".into()),
            1 => Reply::TokenBalance(0),
            _ => Reply::TokenBalance(u128::MAX),
        }),
        Question::Block { .. } => {
            let block = chain.final_block();
            let height = match random.below(4) {
                0 => block.height + random.below(100_000),
                1 => random.below(block.height),
                _ => block.height + 1,
            };
            let hash = if random.chance(500) { block.hash } else { CryptoHash::hash_bytes(&height.to_le_bytes()) };
            Said::Head(Head { height, hash, timestamp_nanos: block.timestamp_nanos })
        }
    }
}

/// A refusal of any kind, whatever is true.
pub(crate) fn wrong_refusal(endpoint: EndpointIndex, network: &Network, random: &mut Random) -> Reply {
    let why: Box<str> = "a node's words".into();
    let refusal = match random.below(8) {
        0 => Refusal::Expired,
        1 => Refusal::NotEnoughNear(why),
        2 => Refusal::Key(why),
        3 => Refusal::Live(why),
        4 => Refusal::Permanent(why),
        5 => Refusal::Other("UNKNOWN_TRANSACTION".into()),
        6 => Refusal::InvalidNonce { key_nonce: None },
        _ => {
            let blocks = random.pick(&[20, 20, 900]);
            let far = (network.chain.head().height + blocks) * 1_000_000;
            Refusal::InvalidNonce { key_nonce: Some(random.pick(&[0, 1, 50, far, u64::MAX])) }
        }
    };
    Reply::Refused { refusal, endpoint }
}

fn wrong_status(random: &mut Random) -> Status {
    let level = random.pick(&[
        None,
        Some(Level::Included),
        Some(Level::ExecutedOptimistic),
        Some(Level::Executed),
        Some(Level::Final),
        Some(Level::Final),
    ]);
    let execution = match random.below(5) {
        0 => Execution::Pending,
        1 => Execution::Success,
        2 => Execution::Invalid("InvalidNonce".into()),
        _ => wrong_failure(random.number()),
    };
    Status { level, execution, gas_burnt: Some(random.below(1_000_000_000_000_000)) }
}

/// A lie that stays the same, however often it is asked.
fn settled_lie(hash: &CryptoHash) -> Status {
    let number = u64::from(hash.0[0]);
    let execution = if number.is_multiple_of(2) { Execution::Success } else { wrong_failure(number / 2) };
    Status { level: Some(Level::Final), execution, gas_burnt: Some(1_000_000_000_000) }
}

fn wrong_failure(number: u64) -> Execution {
    let index = [None, Some(0), Some(1), Some(3), Some(1_000)][(number % 5) as usize];
    let failure = match number / 5 % 6 {
        0 => Failure::Execution("Smart contract panicked: Sender and receiver should be different".into()),
        1 => Failure::Execution("Smart contract panicked: The account nobody is not registered".into()),
        2 => Failure::Execution("Exceeded the prepaid gas.".into()),
        3 => Failure::TokenMissing("a lie".into()),
        4 => Failure::MethodMissing,
        _ => Failure::Other("a lie".into()),
    };
    Execution::Failed { index, failure }
}
