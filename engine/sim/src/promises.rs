//! The checkers, one a promise. They know only what the chain's blocks hold, the bytes that left the service, the bytes
//! that are safe on its disk, and what clients were told; nothing that the shard says of itself.
use std::collections::{BTreeMap, HashMap, HashSet};

use keyshard_sandbox::chain::Chain;
use keyshard_shard::{AccountId, Closed, CryptoHash, Level, News, Proof, Record, Transfer, TransferId};
use near_crypto::PublicKey;
use near_primitives::{action::Action, transaction::SignedTransaction};
use serde::Deserialize;

use crate::tally::Tally;

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which: `P1` to `P9`, or `assert` for an assertion that ended the process.
    pub promise: &'static str,
    /// What happened.
    pub why: String,
    /// The payments it concerns: positions among all that clients asked for.
    pub payments: Vec<usize>,
}

/// What a client wants to be paid. Its position names it: on the ledger, in its memo.
#[derive(Debug, Clone)]
pub(crate) struct Payment {
    pub(crate) receiver: AccountId,
    pub(crate) amount: u128,
    /// The client's name for it, with the number of items named together.
    pub(crate) name: Option<(String, u32)>,
    /// What a 2xx said its id is.
    accepted: Option<TransferId>,
    /// It was refused for good, so it must never be paid.
    refused: bool,
    finalized: bool,
    failed: Option<String>,
}

impl Payment {
    /// A payment that nobody has been told of.
    pub(crate) fn new(receiver: AccountId, amount: u128, name: Option<(String, u32)>) -> Self {
        Self { receiver, amount, name, accepted: None, refused: false, finalized: false, failed: None }
    }

    /// Whether its outcome was told.
    pub(crate) fn is_settled(&self) -> bool {
        self.finalized || self.failed.is_some()
    }

    /// The id that a 2xx told.
    pub(crate) fn accepted(&self) -> Option<TransferId> {
        self.accepted
    }
}

/// A transaction whose bytes left.
struct Sent {
    key: PublicKey,
    nonce: u64,
    reference: CryptoHash,
    payments: Vec<usize>,
}

/// Bounds that the service was started with (P8).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Transfers in a transaction.
    pub(crate) batch: usize,
    /// Actions in a transaction.
    pub(crate) actions: usize,
    /// Transfers accepted and not settled.
    pub(crate) pending: usize,
    /// Transactions of one key that wait for a block; none where a node may say of them that they do not.
    pub(crate) window: Option<usize>,
}

/// What can still come of a transaction, as the chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It may run, or has run where a reorganisation may undo it.
    Open,
    /// It succeeded, for ever.
    Paid,
    /// It failed, or can never run: for ever.
    Over,
}

/// Everything the checkers remember.
#[derive(Default)]
pub(crate) struct Promises {
    pub(crate) payments: Vec<Payment>,
    account: Option<AccountId>,
    /// From the bytes that are safe on the disk.
    synced_accepted: HashSet<TransferId>,
    synced_failed: HashSet<TransferId>,
    synced_signed: HashSet<CryptoHash>,
    synced_landed: HashSet<CryptoHash>,
    nonces: HashMap<(String, u64), CryptoHash>,
    sent: BTreeMap<CryptoHash, Sent>,
    /// The highest nonce of each key that a final block has shown.
    final_nonces: HashMap<PublicKey, u64>,
    /// By payment: the transactions that left with it.
    carriers: HashMap<usize, Vec<CryptoHash>>,
    /// What the limit on spending let out, where there is one, and what has left of it.
    granted: Option<u128>,
    spent: u128,
    counted: HashSet<TransferId>,
    closed: HashSet<CryptoHash>,
    /// By transaction: the ids of its transfers, in the order of its payments.
    ids: HashMap<CryptoHash, Box<[TransferId]>>,
    broken: Option<Broken>,
    /// What was met.
    pub(crate) tally: Tally,
}

#[derive(Deserialize)]
struct TransferArgs {
    receiver_id: AccountId,
    amount: String,
    memo: String,
}

/// How a payment is named on the ledger.
pub(crate) fn memo(payment: usize) -> String {
    format!("payment {payment}")
}

/// The payment that a memo names.
pub(crate) fn payment_of(memo: &str) -> Option<usize> {
    memo.strip_prefix("payment ")?.parse().ok()
}

impl Promises {
    pub(crate) fn new(account: AccountId) -> Self {
        Self { account: Some(account), ..Self::default() }
    }

    /// The first promise that was broken, if any.
    pub(crate) fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }

    /// Notes that a promise is broken. Only the first counts: the rest may follow from it.
    pub(crate) fn breaks(&mut self, promise: &'static str, payments: &[usize], why: String) {
        self.broken.get_or_insert(Broken { promise, why, payments: payments.to_vec() });
    }

    /// A write became durable.
    pub(crate) fn synced(&mut self, mut bytes: &[u8]) {
        // A frame is `bytes u32 | crc u32 | group u32 | shard u16 | lsn u64 | record`; zeros end them.
        while let Some((length, _)) = bytes.split_first_chunk() {
            let length = u32::from_le_bytes(*length) as usize;
            let Some((frame, rest)) = bytes.split_at_checked(length.max(22)).filter(|_| length >= 22) else { return };
            bytes = rest;
            match Record::decode(&frame[22..]) {
                Ok(Record::Accepted { transfer, .. }) => {
                    self.synced_accepted.insert(transfer.id);
                }
                Ok(Record::Failed { id, .. }) => {
                    self.synced_failed.insert(id);
                }
                Ok(Record::Signed { hash, public_key, nonce, transfers, .. }) => {
                    self.synced_signed.insert(hash);
                    self.ids.insert(hash, transfers);
                    self.one_set_a_nonce(&public_key, nonce, hash);
                }
                Ok(Record::Closed { hash, how, .. }) => {
                    if how == Closed::Landed {
                        self.synced_landed.insert(hash);
                    }
                    if self.closed.insert(hash) {
                        self.tally.met(match how {
                            Closed::Landed => "transactions paid",
                            Closed::Failed { .. } => "transactions failed on chain",
                            Closed::Dead(Proof::Overtaken { .. }) => "transactions proven dead: overtaken",
                            Closed::Dead(Proof::Expired { .. }) => "transactions proven dead: expired",
                        });
                    }
                }
                Ok(Record::Begin { .. }) => self.tally.met("repetitions in the journal"),
                Ok(Record::End | Record::Nonce { .. }) | Err(_) => {}
            }
        }
    }

    /// P3: one (key, nonce), one set of transfers.
    fn one_set_a_nonce(&mut self, key: &str, nonce: u64, hash: CryptoHash) {
        let other = *self.nonces.entry((key.to_owned(), nonce)).or_insert(hash);
        if other != hash {
            let mut payments = self.payments_of(&hash);
            payments.extend(self.payments_of(&other));
            self.breaks("P3", &payments, format!("nonce {nonce} of {key} was signed for {other} and for {hash}"));
        }
    }

    fn payments_of(&self, hash: &CryptoHash) -> Vec<usize> {
        self.sent.get(hash).map(|sent| sent.payments.clone()).unwrap_or_default()
    }

    /// Bytes left the service: P2, P3, P4, P8.
    pub(crate) fn left(&mut self, tx: &SignedTransaction, chain: &Chain, bounds: Bounds) {
        let hash = tx.get_hash();
        if self.sent.contains_key(&hash) {
            return;
        }
        let actions = tx.transaction.actions();
        let payments = paid_by(tx);
        if !self.synced_signed.contains(&hash) {
            self.breaks("P2", &payments, format!("{hash} left before its record was safe on the disk"));
        }
        let transfers = actions.iter().filter_map(transfer_of).count();
        if transfers > bounds.batch || actions.len() > bounds.actions {
            self.breaks("P8", &payments, format!("{hash} carries {transfers} transfers in {} actions", actions.len()));
        }
        self.spend(&hash, &payments);
        let key = tx.transaction.public_key().clone();
        let nonce = tx.transaction.nonce().nonce();
        for payment in &payments {
            for earlier in self.carriers.get(payment).cloned().unwrap_or_default() {
                let fate = self.fate(&earlier, chain);
                if fate == Fate::Over {
                    continue;
                }
                let what = if fate == Fate::Paid { "has made" } else { "may still make" };
                let why = format!("{hash} carries a payment that {earlier} {what}");
                // Two ids for one payment: its key did not lead to the first.
                let same =
                    |one: Option<TransferId>, other: Option<TransferId>| one.zip(other).is_none_or(|(a, b)| a == b);
                let is_same = same(self.id_in(&hash, &payments, *payment), self.id_in(&earlier, &[], *payment));
                self.breaks(if is_same { "P4" } else { "P6" }, &[*payment], why);
            }
            self.carriers.entry(*payment).or_default().push(hash);
        }
        self.final_nonces.entry(key.clone()).or_default();
        self.block(chain);
        let waits = |(hash, sent): &(&CryptoHash, &Sent)| {
            sent.key == key
                && !sent.payments.is_empty()
                && chain.history().on_chain(hash).is_none()
                && self.fate(hash, chain) == Fate::Open
        };
        if let Some(window) = bounds.window
            && !payments.is_empty()
            && self.sent.iter().filter(waits).count() >= window
        {
            self.breaks("P8", &payments, format!("{hash} left while {window} of {key} waited for a block"));
        }
        let reference = *tx.transaction.block_hash();
        self.sent.insert(hash, Sent { key: key.clone(), nonce, reference, payments });
        self.one_set_a_nonce(&key.to_string(), nonce, hash);
    }

    /// There is a limit on spending from the beginning.
    pub(crate) fn limit(&mut self) {
        self.granted = Some(0);
    }

    /// The limit lets out so much more.
    pub(crate) fn granted(&mut self, units: u128) {
        match &mut self.granted {
            Some(granted) => *granted += units,
            None => self.breaks("P8", &[], "a shard asked for what nothing limits".into()),
        }
    }

    /// So much was given back.
    pub(crate) fn given_back(&mut self, units: u128) {
        match self.granted.and_then(|granted| granted.checked_sub(units)) {
            Some(granted) if granted >= self.spent => self.granted = Some(granted),
            _ => self.breaks("P8", &[], format!("{units} were given back that had left")),
        }
    }

    /// P8: what leaves for the first time was let out by the limit.
    fn spend(&mut self, hash: &CryptoHash, payments: &[usize]) {
        let Some(granted) = self.granted else { return };
        for (payment, id) in payments.iter().zip(self.ids.get(hash).into_iter().flatten()) {
            if self.counted.insert(*id) {
                self.spent += self.payments[*payment].amount;
            }
        }
        if self.spent > granted {
            self.breaks("P8", payments, format!("{} left while the limit has let out {granted}", self.spent));
        }
    }

    /// The id under which a transaction carries a payment.
    fn id_in(&self, hash: &CryptoHash, payments: &[usize], payment: usize) -> Option<TransferId> {
        let payments = self.sent.get(hash).map_or(payments, |sent| &sent.payments);
        let position = payments.iter().position(|it| *it == payment)?;
        self.ids.get(hash)?.get(position).copied()
    }

    /// There is a new final block.
    pub(crate) fn block(&mut self, chain: &Chain) {
        let Some(account) = &self.account else { return };
        for (key, nonce) in &mut self.final_nonces {
            // A key that is deleted and added again begins above all that it ever was.
            let now = chain.access_key_at(chain.final_block().height, account, key);
            *nonce = now.map_or(0, |key| key.nonce).max(*nonce);
        }
    }

    /// What can still come of a transaction.
    fn fate(&self, hash: &CryptoHash, chain: &Chain) -> Fate {
        let last_final = chain.final_block().height;
        if let Some(on_chain) = chain.history().on_chain(hash) {
            return match on_chain.ran.filter(|ran| ran.height <= last_final) {
                Some(ran) if ran.result.is_ok() => Fate::Paid,
                Some(_) => Fate::Over,
                None => Fate::Open,
            };
        }
        let Some(sent) = self.sent.get(hash) else { return Fate::Over };
        let overtaken = self.final_nonces.get(&sent.key).is_some_and(|nonce| *nonce >= sent.nonce);
        // A reference block of another branch is as good as one that is too old.
        let reference = chain.history().block_by_hash(&sent.reference);
        let expired = reference.is_none_or(|block| last_final > block.height + chain.validity_period());
        if overtaken || expired { Fate::Over } else { Fate::Open }
    }

    /// A client got a 2xx for it: P1, P6.
    pub(crate) fn accepted(&mut self, payment: usize, id: TransferId) {
        if !self.synced_accepted.contains(&id) {
            self.breaks("P1", &[payment], "a 2xx was told before the acceptance was safe on the disk".into());
        }
        if let Some((name, _)) = self.payments[payment].name.clone() {
            let same_name = |other: &(usize, &Payment)| {
                other.1.name.as_ref().is_some_and(|other| other.0 == name) && other.1.accepted.is_some()
            };
            let earlier = self.payments.iter().enumerate().find(same_name).map(|(i, other)| (i, other.accepted));
            if let Some((other, accepted)) = earlier
                && (other != payment || accepted != Some(id))
            {
                let what = if other == payment { "another transfer" } else { "another body" };
                let why = format!("the key {name} was accepted before, and now for {what}");
                self.breaks("P6", &[payment, other], why);
            }
        }
        let told = &mut self.payments[payment];
        if told.refused && told.name.is_none() {
            self.breaks("P6", &[payment], "it was refused for good, and then accepted".into());
        }
        self.payments[payment].accepted = Some(id);
    }

    /// A client was told that it will not be paid, since its key was used for something else.
    pub(crate) fn refused(&mut self, payment: usize) {
        if self.payments[payment].accepted.is_some() {
            self.breaks("P6", &[payment], "a payment was accepted under its key, and then refused".into());
        }
        self.payments[payment].refused = true;
    }

    /// The service tells the outside: P1, P5, P7. `settled_here`: it has told the end of it in this life before.
    pub(crate) fn told(&mut self, payment: usize, id: TransferId, news: &News, settled_here: bool, chain: &Chain) {
        if settled_here {
            self.breaks("P7", &[payment], format!("news of a payment that has settled: {news:?}"));
        }
        match news {
            News::Accepted if !self.synced_accepted.contains(&id) => {
                self.breaks("P1", &[payment], "its acceptance was told before it was safe on the disk".into());
            }
            News::Finalized => {
                let paid = self.carriers.get(&payment).into_iter().flatten();
                if !paid.into_iter().any(|hash| self.fate(hash, chain) == Fate::Paid) {
                    self.breaks("P5", &[payment], "finalized was told, and no final block pays it".into());
                }
                let carriers = self.carriers.get(&payment).into_iter().flatten();
                if !carriers.into_iter().any(|hash| self.synced_landed.contains(hash)) {
                    self.breaks("P7", &[payment], "finalized was told before it was safe on the disk".into());
                }
                if self.payments[payment].failed.is_some() {
                    self.breaks("P7", &[payment], "finalized was told after failed".into());
                }
                self.payments[payment].finalized = true;
            }
            News::Failed { reason } => {
                let lives = self.carriers.get(&payment).into_iter().flatten();
                let lives: Vec<String> =
                    lives.filter(|hash| self.fate(hash, chain) != Fate::Over).map(ToString::to_string).collect();
                if !lives.is_empty() {
                    let why = format!("failed was told ({reason}), but it may be paid by {}", lives.join(", "));
                    self.breaks("P5", &[payment], why);
                }
                if reason.starts_with("On-chain failure") && !self.is_named(payment, chain) {
                    let why = format!("failed was told ({reason}), but no failure on chain names it");
                    self.breaks("P5", &[payment], why);
                }
                if !self.synced_failed.contains(&id) {
                    self.breaks("P1", &[payment], "failed was told before it was safe on the disk".into());
                }
                if self.payments[payment].finalized {
                    self.breaks("P7", &[payment], "failed was told after finalized".into());
                }
                self.payments[payment].failed = Some(reason.to_string());
            }
            News::Accepted | News::Signed { .. } | News::Reached { .. } | News::Delayed { .. } => {}
        }
    }

    /// Whether a final failure on chain is about this payment: its action, or the deposit for its receiver.
    fn is_named(&self, payment: usize, chain: &Chain) -> bool {
        let last_final = chain.final_block().height;
        self.carriers.get(&payment).into_iter().flatten().any(|hash| {
            let on_chain = chain.history().on_chain(hash);
            let Some((on_chain, ran)) = on_chain.and_then(|it| Some((it, it.ran?))) else { return false };
            let (Err(error), true) = (ran.result, ran.height <= last_final) else { return false };
            let actions = on_chain.tx.transaction.actions();
            let Some(index) = error.index else { return actions.iter().filter_map(transfer_of).count() == 1 };
            match actions.get(index as usize) {
                Some(Action::FunctionCall(call)) if call.method_name == "storage_deposit" => {
                    let args = String::from_utf8_lossy(&call.args);
                    args.contains(&format!("\"{}\"", self.payments[payment].receiver))
                }
                Some(action) => transfer_of(action).is_some_and(|args| payment_of(&args.memo) == Some(payment)),
                None => false,
            }
        })
    }

    /// A new life begins and says what it still has open: P7.
    pub(crate) fn recovered(&mut self, open: &[&Transfer]) {
        for transfer in open {
            let payment = transfer.memo.as_deref().and_then(payment_of);
            if let Some(payment) = payment
                && self.payments[payment].is_settled()
            {
                let told = if self.payments[payment].finalized { "finalized" } else { "failed" };
                self.breaks("P7", &[payment], format!("a payment that was told {told} is open again"));
            }
        }
    }

    /// A new life begins and answers questions about ids: P1.
    pub(crate) fn known_again(&mut self, is_known: impl Fn(TransferId) -> bool) {
        let lost = |payment: &Payment| payment.accepted.is_some_and(|id| !is_known(id));
        if let Some(payment) = self.payments.iter().position(lost) {
            self.breaks("P1", &[payment], "a 2xx was told for it, and the next life does not know it".into());
        }
    }

    /// P8: what is accepted and not settled.
    pub(crate) fn pending(&mut self, pending: usize, bounds: Bounds) {
        if pending > bounds.pending {
            let why = format!("{pending} transfers are pending, {} are allowed", bounds.pending);
            self.breaks("P8", &[], why);
        }
    }

    /// P9: faults have stopped long ago, and these are still open.
    pub(crate) fn never_settled(&mut self, why: &str) {
        let open: Vec<usize> = self
            .payments
            .iter()
            .enumerate()
            .filter(|(_, payment)| payment.accepted.is_some() && !payment.is_settled())
            .map(|(payment, _)| payment)
            .collect();
        self.breaks("P9", &open, format!("long after the faults stopped, payments {open:?} are open: {why}"));
    }

    /// The end: the ledger against what was told.
    pub(crate) fn settle(&mut self, chain: &Chain) {
        let last_final = chain.final_block().height;
        let mut paid: BTreeMap<usize, Vec<CryptoHash>> = BTreeMap::new();
        for on_chain in chain.history().transactions() {
            if !on_chain.ran.is_some_and(|ran| ran.result.is_ok() && ran.height <= last_final) {
                continue;
            }
            for args in on_chain.tx.transaction.actions().iter().filter_map(transfer_of) {
                let wanted = payment_of(&args.memo).filter(|payment| {
                    self.payments.get(*payment).is_some_and(|payment| {
                        payment.receiver == args.receiver_id && payment.amount.to_string() == args.amount
                    })
                });
                if let Some(payment) = wanted {
                    paid.entry(payment).or_default().push(on_chain.hash);
                } else {
                    let why =
                        format!("{} pays {} to {}: nobody asked for it", on_chain.hash, args.amount, args.receiver_id);
                    self.breaks("P5", &[], why);
                }
            }
        }
        let mut names: HashMap<String, usize> = HashMap::new();
        for (position, payment) in self.payments.clone().into_iter().enumerate() {
            let by = paid.get(&position).cloned().unwrap_or_default();
            if by.len() > 1 {
                let promise = if payment.name.is_some() { "P6" } else { "P4" };
                let by: Vec<String> = by.iter().map(ToString::to_string).collect();
                self.breaks(promise, &[position], format!("paid {} times, by {}", by.len(), by.join(", ")));
            }
            if payment.finalized && by.is_empty() {
                self.breaks("P5", &[position], "finalized was told, and it was never paid".into());
            }
            if let (Some(reason), [by, ..]) = (&payment.failed, by.as_slice()) {
                self.breaks("P5", &[position], format!("failed was told ({reason}), and {by} paid it"));
            }
            if payment.refused && payment.accepted.is_none() && !by.is_empty() {
                self.breaks("P6", &[position], "it was refused, and paid".into());
            }
            if payment.accepted.is_some() && !payment.is_settled() {
                self.breaks("P1", &[position], "a 2xx was told, and nothing came of it".into());
            }
            if let (Some((name, _)), false) = (&payment.name, by.is_empty())
                && let Some(other) = names.insert(name.clone(), position)
            {
                self.breaks("P6", &[position, other], format!("two bodies of the key {name} were paid"));
            }
        }
    }

    /// Transactions whose bytes left.
    pub(crate) fn transactions(&self) -> usize {
        self.sent.len()
    }
}

/// The payments that a transaction carries.
pub(crate) fn paid_by(tx: &SignedTransaction) -> Vec<usize> {
    tx.transaction.actions().iter().filter_map(transfer_of).filter_map(|args| payment_of(&args.memo)).collect()
}

/// The arguments, if an action is an `ft_transfer`.
fn transfer_of(action: &Action) -> Option<TransferArgs> {
    match action {
        Action::FunctionCall(call) if call.method_name == "ft_transfer" => serde_json::from_slice(&call.args).ok(),
        _ => None,
    }
}

/// Whether a caller that waits for `wanted` may be answered.
pub(crate) fn is_far_enough(news: &News, wanted: Level) -> bool {
    match news {
        News::Reached { level } => *level >= wanted,
        News::Finalized | News::Failed { .. } => true,
        News::Accepted | News::Signed { .. } | News::Delayed { .. } => false,
    }
}
