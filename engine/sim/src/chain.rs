//! The fake network: the sandbox's chain with branches that are given up, and the load and trouble of other people.
use std::sync::{Arc, LazyLock};

use keyshard_sandbox::{
    Config,
    chain::{Chain, Patch},
};
use keyshard_shard::{AccountId, ChainLimits};
use near_crypto::SecretKey;
use near_primitives::{
    account::{AccessKey, AccessKeyPermission},
    action::{Action, AddKeyAction, DeleteKeyAction},
    transaction::{SignedTransaction, Transaction, TransactionV0},
};

use crate::{
    faults::{Fault, Faults},
    random::Random,
};

/// The paying account.
pub(crate) const ACCOUNT: &str = "test.near";
/// The token.
pub(crate) const TOKEN: &str = "ft.test.near";
/// Accounts that are registered in the beginning, `user1.test.near` and on.
pub(crate) const REGISTERED: usize = 6;
/// Access keys of the paying account that may be configured. One more is its owner's.
pub(crate) const KEYS: usize = 4;

/// What the paying account holds unless it is short of it.
const TOKENS: u128 = 1 << 100;

/// The chain, and where it may turn back to.
pub(crate) struct Network {
    /// The canonical chain.
    pub(crate) chain: Chain,
    /// A branch that was given up, and the height where it left.
    pub(crate) given_up: Option<Arc<Chain>>,
    /// The chain as it was, to go on from when the height is reached.
    turning: Option<(Chain, u64)>,
    pub(crate) account: AccountId,
    pub(crate) token: AccountId,
    /// Blocks to come with other people's load, with expensive calls.
    congested: u64,
    expensive: u64,
    /// Blocks until something is put right again.
    mending: Vec<(u64, Patch)>,
    usual_amount: u128,
    /// A key that was deleted, and the height at which it is added again.
    gone: Option<(usize, u64)>,
}

/// What a new block brings besides itself.
#[derive(Default)]
pub(crate) struct Produced {
    /// Transactions of undone blocks that come back later, if at all.
    pub(crate) astray: Vec<Arc<SignedTransaction>>,
    /// For the story.
    pub(crate) what: Vec<String>,
}

impl Network {
    pub(crate) fn new(seed: u64, now_nanos: u64) -> Self {
        let mut random = Random::new(seed, 2);
        let config = Config {
            keys: KEYS + 1,
            receivers: REGISTERED,
            unlimited: random.chance(500),
            transaction_validity_period: random.pick(&[20, 35, 60, 100]),
            seed: 7,
            ..Config::default()
        };
        let mut chain = Chain::new(&config, now_nanos);
        let (account, token) = (account(ACCOUNT), account(TOKEN));
        chain.patch(vec![Patch::TokenBalance(token.clone(), account.clone(), Some(TOKENS))]);
        for _ in 0..4 {
            chain.produce_block(chain.head().timestamp_nanos + 600_000_000);
        }
        let usual_amount = chain.account(&account).map_or(0, |account| account.amount);
        Self {
            chain,
            given_up: None,
            turning: None,
            account,
            token,
            congested: 0,
            expensive: 0,
            mending: Vec::new(),
            usual_amount,
            gone: None,
        }
    }

    /// What `EXPERIMENTAL_protocol_config` says.
    pub(crate) fn limits(&self) -> ChainLimits {
        ChainLimits {
            max_actions: 100,
            max_total_prepaid_gas: 300_000_000_000_000,
            max_gas_burnt: 300_000_000_000_000,
            max_transaction_size: 1_572_864,
            validity_blocks: self.chain.validity_period(),
        }
    }

    pub(crate) fn is_congested(&self) -> bool {
        self.congested > 0
    }

    /// Makes the next block, or gives some up and makes others.
    pub(crate) fn produce(&mut self, now_nanos: u64, faults: &mut Faults) -> Produced {
        let mut produced = Produced::default();
        self.troubles(faults, &mut produced);
        self.chain.limit_gas((self.congested > 0).then_some(0));
        self.chain.price_calls(if self.expensive > 0 { 450 } else { 100 });
        self.congested = self.congested.saturating_sub(1);
        self.expensive = self.expensive.saturating_sub(1);
        if self.turning.as_ref().is_some_and(|(_, height)| self.chain.head().height >= *height) {
            self.turn_back(now_nanos, faults, &mut produced);
        } else {
            self.chain.produce_block(now_nanos);
        }
        if self.turning.is_none() && faults.strikes(Fault::Reorg) {
            let depth = faults.random(Fault::Reorg).among(1..=2);
            self.turning = Some((self.chain.clone(), self.chain.head().height + depth));
        }
        produced
    }

    /// Goes on from where the branch began, until the new one is longer: final blocks stay.
    fn turn_back(&mut self, now_nanos: u64, faults: &mut Faults, produced: &mut Produced) {
        let Some((from, height)) = self.turning.take() else { return };
        let fork = from.head().height;
        let given_up = std::mem::replace(&mut self.chain, from);
        let random = faults.random(Fault::Reorg);
        for undone in given_up.history().transactions().filter(|undone| undone.height > fork) {
            let tx = Arc::new(undone.tx.clone());
            match random.below(4) {
                0 | 1 => self.chain.insert(tx),
                2 => produced.astray.push(tx),
                _ => {}
            }
        }
        let behind = given_up.head().timestamp_nanos - self.chain.head().timestamp_nanos;
        let blocks = height - fork + 1;
        for block in (0..blocks).rev() {
            self.chain.produce_block(now_nanos - block * behind / (blocks + 1));
        }
        produced.what.push(format!("REORG: blocks {}..={height} are given up for others", fork + 1));
        self.given_up = Some(Arc::new(given_up));
    }

    fn troubles(&mut self, faults: &mut Faults, produced: &mut Produced) {
        let height = self.chain.head().height;
        if !faults.on {
            self.turning = None;
        }
        self.keys_come_and_go(faults, produced);
        let mut due = Vec::new();
        self.mending.retain(|(at, patch)| {
            // What is put right on a branch that is given up would be undone.
            let is_due = self.turning.is_none() && (*at <= height || !faults.on);
            if is_due {
                due.push(patch.clone());
            }
            !is_due
        });
        if !due.is_empty() {
            produced.what.push("the account is funded again".into());
            self.chain.patch(due);
        }
        if !faults.on {
            (self.congested, self.expensive) = (0, 0);
            return;
        }
        // Checked once in ten blocks, so that a spell has room to pass.
        if !height.is_multiple_of(10) {
            return;
        }
        if faults.strikes(Fault::Congested) {
            self.congested = faults.random(Fault::Congested).among(2..=9);
            produced.what.push(format!("congested for {} blocks", self.congested));
        }
        if faults.strikes(Fault::OutOfGas) {
            self.expensive = faults.random(Fault::OutOfGas).among(5..=40);
            produced.what.push(format!("calls are expensive for {} blocks", self.expensive));
        }
        let (account, token) = (self.account.clone(), self.token.clone());
        if self.mending.is_empty() && faults.strikes(Fault::FewTokens) {
            let random = faults.random(Fault::FewTokens);
            let (left, blocks) = (u128::from(random.below(3_000)), random.among(5..=40));
            let now = |balance| Patch::TokenBalance(token.clone(), account.clone(), Some(balance));
            self.chain.patch(vec![now(left)]);
            self.mending.push((height + blocks, now(TOKENS)));
            produced.what.push(format!("only {left} tokens are left for {blocks} blocks"));
        }
        if self.mending.is_empty()
            && faults.strikes(Fault::FewNear)
            && let Some(state) = self.chain.account(&account).cloned()
        {
            let blocks = faults.random(Fault::FewNear).among(5..=40);
            let with = |amount| {
                let state = keyshard_sandbox::state::Account { amount, locked: 0, ..state.clone() };
                Patch::Account(account.clone(), state)
            };
            self.chain.patch(vec![with(1 << 70)]);
            self.mending.push((height + blocks, with(self.usual_amount)));
            produced.what.push(format!("hardly any NEAR is left for {blocks} blocks"));
        }
    }

    /// The owner deletes a key, and adds it again. Both are transactions, which a reorganisation may undo.
    fn keys_come_and_go(&mut self, faults: &mut Faults, produced: &mut Produced) {
        let height = self.chain.head().height;
        if !faults.on {
            // A deletion that a reorganisation had undone may have come back late.
            let missing = (0..KEYS).find(|key| !self.has(*key));
            self.gone = missing.map(|key| (key, height));
        }
        if let Some((key, until)) = self.gone {
            if height < until {
                return;
            }
            if !self.has(key) {
                let access_key = AccessKey { nonce: 0, permission: AccessKeyPermission::FullAccess };
                let public_key = secret(key).public_key();
                self.own(Action::AddKey(Box::new(AddKeyAction { public_key, access_key })));
            } else if height > until + 5 {
                self.gone = None;
            }
        } else if height.is_multiple_of(10) && faults.strikes(Fault::KeyGone) {
            let random = faults.random(Fault::KeyGone);
            let (key, blocks) = (random.below(KEYS as u64) as usize, random.among(5..=60));
            self.own(Action::DeleteKey(Box::new(DeleteKeyAction { public_key: secret(key).public_key() })));
            self.gone = Some((key, height + blocks));
            produced.what.push(format!("key {key} is deleted for {blocks} blocks"));
        }
    }

    fn has(&self, key: usize) -> bool {
        self.chain.access_key(&self.account, &secret(key).public_key()).is_some()
    }

    /// The owner of the account does something with a key of their own.
    fn own(&mut self, action: Action) {
        let secret = secret(KEYS);
        let public_key = secret.public_key();
        let nonce = self.chain.access_key(&self.account, &public_key).map_or(0, |key| key.nonce) + 1;
        let transaction = Transaction::V0(TransactionV0 {
            signer_id: self.account.clone(),
            public_key,
            nonce,
            receiver_id: self.account.clone(),
            block_hash: self.chain.final_block().hash,
            actions: vec![action],
        });
        let signature = secret.sign(transaction.get_hash_and_size().0.as_ref());
        self.chain.insert(Arc::new(SignedTransaction::new(signature, transaction)));
    }

    /// The token refuses to pay this receiver, or takes its registration away.
    pub(crate) fn harm(&mut self, receiver: &AccountId, fault: Fault) {
        let token = self.token.clone();
        self.chain.patch(vec![match fault {
            Fault::Unregistered => Patch::TokenBalance(token, receiver.clone(), None),
            _ => Patch::TokenRefuses(token, receiver.clone(), true),
        }]);
    }
}

/// The secret of the key at this position, up to [`KEYS`]: that one is the owner's. To derive them takes longer than all else.
pub(crate) fn secret(key: usize) -> SecretKey {
    static SECRETS: LazyLock<Vec<SecretKey>> =
        LazyLock::new(|| (0..=KEYS).map(|key| keyshard_sandbox::credentials::key(7, key + 1)).collect());
    SECRETS[key].clone()
}

/// An account id that this crate writes itself.
#[expect(clippy::expect_used, reason = "only called with names written in this crate")]
pub(crate) fn account(name: &str) -> AccountId {
    name.parse().expect("a valid account id")
}
