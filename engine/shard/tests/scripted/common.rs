//! A driver for the pure shard that scripts what nodes answer and watches the promises on the way.
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use keyshard_shard::*;
use near_crypto::{KeyType, SecretKey};
use near_primitives::{action::Action, transaction::SignedTransaction};

pub(crate) const LIMITS: ChainLimits = ChainLimits {
    max_actions: 100,
    max_total_prepaid_gas: 300_000_000_000_000,
    max_gas_burnt: 300_000_000_000_000,
    max_transaction_size: 1_572_864,
    validity_blocks: 100,
};

pub(crate) fn settings() -> Settings {
    Settings {
        account: "test.near".parse().unwrap(),
        token: "ft.test.near".parse().unwrap(),
        trust: Trust::One,
        wait_until: Level::Final,
        storage: StoragePolicy::Auto,
        storage_deposit: 1_250_000_000_000_000_000_000,
        window: 8,
        max_actions: 100,
        max_batch: 100,
        linger: Duration::from_millis(100),
        max_attempts: 3,
        retry_base: Duration::from_millis(500),
        spend_limited: false,
        index: 0,
        shards: 1,
        seed: 7,
        life: 1,
        genesis: CryptoHash::default(),
    }
}

/// A transaction that left.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) id: AskId,
    pub(crate) transaction: SignedTransaction,
    pub(crate) wait: Level,
    pub(crate) avoid: EndpointSet,
}

impl Sent {
    pub(crate) fn hash(&self) -> CryptoHash {
        self.transaction.get_hash()
    }

    pub(crate) fn nonce(&self) -> u64 {
        self.transaction.transaction.nonce().nonce()
    }

    /// The key that signed it, as questions name it.
    pub(crate) fn public_key(&self) -> Arc<str> {
        self.transaction.transaction.public_key().to_string().into()
    }

    /// Method and arguments of its function calls.
    pub(crate) fn calls(&self) -> Vec<(String, String)> {
        let call = |action: &Action| match action {
            Action::FunctionCall(call) => {
                Some((call.method_name.clone(), String::from_utf8(call.args.clone()).unwrap()))
            }
            _ => None,
        };
        self.transaction.transaction.actions().iter().filter_map(call).collect()
    }

    pub(crate) fn gas(&self) -> Vec<u64> {
        self.transaction.transaction.actions().iter().map(|action| action.get_prepaid_gas().as_gas()).collect()
    }

    /// Receivers of its `ft_transfer`s.
    pub(crate) fn receivers(&self) -> Vec<String> {
        let receiver = |(method, args): &(String, String)| {
            let args: serde_json::Value = serde_json::from_str(args).unwrap();
            (method == "ft_transfer").then(|| args["receiver_id"].as_str().unwrap().to_owned())
        };
        self.calls().iter().filter_map(receiver).collect()
    }
}

fn access_key(i: usize) -> AccessKey {
    AccessKey::new(Signer::new(SecretKey::from_seed(KeyType::ED25519, &format!("key{i}"))), 1_000)
}

/// A shard under test, its clock, and everything it has said.
pub(crate) struct Bench {
    pub(crate) shard: Shard,
    pub(crate) now: Instant,
    pub(crate) height: u64,
    pub(crate) sent: Vec<Sent>,
    pub(crate) queries: Vec<(AskId, Query)>,
    pub(crate) given_back: u128,
    pub(crate) news: HashMap<TransferId, Vec<News>>,
    pub(crate) records: Vec<Record>,
    /// Whether the journal answers at once.
    pub(crate) journal: bool,
    pub(crate) lsn: Lsn,
    durable: Lsn,
    /// Records on disk, of all lives.
    durable_records: usize,
    /// Where this life's records begin.
    pub(crate) life_began: usize,
    /// By hash: the record of its signature.
    signed: HashMap<CryptoHash, Lsn>,
    /// (key, nonce) pairs ever signed.
    nonces: HashMap<(Arc<str>, u64), CryptoHash>,
    /// Where each transfer is: the open transaction that carries it.
    carried: BTreeMap<TransferId, CryptoHash>,
    carries: HashMap<CryptoHash, Vec<TransferId>>,
    next_id: u128,
}

impl Bench {
    pub(crate) fn new(settings: Settings, keys: usize) -> Self {
        let keys = (0..keys).map(access_key).collect();
        let mut bench = Self {
            shard: Shard::new(settings, LIMITS, keys),
            now: Instant::from_micros(1_000_000_000),
            height: 1_000,
            sent: Vec::new(),
            queries: Vec::new(),
            given_back: 0,
            news: HashMap::new(),
            records: Vec::new(),
            journal: true,
            lsn: 0,
            durable: 0,
            durable_records: 0,
            life_began: 0,
            signed: HashMap::new(),
            nonces: HashMap::new(),
            carried: BTreeMap::new(),
            carries: HashMap::new(),
            next_id: 0,
        };
        bench.shard.take_over(bench.now, Recovered::default());
        bench.head(1_000);
        bench
    }

    /// Forgets all records after the first so many, as if they had never become durable.
    pub(crate) fn cut(&mut self, records: usize) {
        self.records.truncate(records);
        self.durable_records = records;
        self.news.clear();
        (self.carried, self.carries, self.nonces) = Default::default();
        for record in self.records.clone() {
            self.record(&record);
        }
    }

    /// What the journal says after a crash at this moment.
    pub(crate) fn recovered(&self) -> Recovered {
        let durable = self.durable_records.min(self.records.len());
        recover(self.records[..durable].iter().map(|record| (0, record.clone()))).unwrap()
    }

    /// Forgets the oldest records, as deleted segments do.
    pub(crate) fn drop_before(&mut self, record: usize) {
        self.records.drain(..record);
        self.durable_records -= record;
    }

    /// Transfers that the records leave open.
    pub(crate) fn open_in_records(&self) -> Vec<TransferId> {
        self.recovered().transfers.iter().map(|open| open.transfer.id).collect()
    }

    /// Hashes of what this life has signed or taken over.
    pub(crate) fn signed_since_restart(&self) -> Vec<CryptoHash> {
        let hash = |record: &Record| match record {
            Record::Signed { hash, .. } => Some(*hash),
            _ => None,
        };
        self.records[self.life_began..].iter().filter_map(hash).collect()
    }

    /// The process dies; a new one reads what was durable and goes on with these of the keys.
    pub(crate) fn restart(&mut self, settings: Settings, keys: &[usize]) {
        let recovered = self.recovered();
        let settings = Settings { life: recovered.life + 1, ..settings };
        let mut access_keys: Vec<AccessKey> = keys.iter().map(|i| access_key(*i)).collect();
        for attempt in &recovered.attempts {
            if !access_keys.iter().any(|key| *key.public_key() == attempt.public_key) {
                access_keys.push(AccessKey::retired(attempt.public_key.clone()));
            }
        }
        self.shard = Shard::new(settings, LIMITS, access_keys);
        self.queries.clear();
        // The journal goes on where it was cut off; a new life numbers its records anew.
        self.records.truncate(self.durable_records);
        (self.life_began, self.lsn, self.durable) = (self.records.len(), 0, 0);
        let [recovered] = <[Recovered; 1]>::try_from(recovered.split(1, |_| 0, |_| 0)).unwrap();
        self.shard.take_over(self.now, recovered);
        self.head(self.height);
    }

    pub(crate) fn head(&mut self, height: u64) {
        self.height = height;
        let hash = CryptoHash::hash_bytes(&height.to_le_bytes());
        let head = Head { height, hash, timestamp_nanos: height * 600_000_000 };
        self.input(Input::Head { head, endpoint: 0 });
        self.input(Input::Head { head, endpoint: 1 });
    }

    /// Accepts one transfer to a receiver that is registered, unless the name starts with "fresh".
    pub(crate) fn accept(&mut self, receiver: &str) -> TransferId {
        self.accept_amount(receiver, 10)
    }

    pub(crate) fn accept_amount(&mut self, receiver: &str, amount: u128) -> TransferId {
        self.next_id += 1;
        let id = TransferId(self.next_id);
        let transfer = Transfer { id, receiver: receiver.parse().unwrap(), amount, memo: None, key: None };
        self.shard.handle(self.now, Input::Accept(transfer.into()));
        id
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.shard.handle(self.now, input);
        self.tick();
    }

    pub(crate) fn reply(&mut self, id: AskId, reply: Reply) {
        self.input(Input::Reply { id, reply });
    }

    /// Gives everything that came before a chance, and answers questions about registrations.
    pub(crate) fn tick(&mut self) {
        self.shard.handle(self.now, Input::Tick);
        loop {
            let mut registrations = Vec::new();
            while let Some(output) = self.shard.poll_output() {
                self.output(output, &mut registrations);
            }
            if self.journal && self.durable < self.lsn {
                (self.durable, self.durable_records) = (self.lsn, self.records.len());
                self.shard.handle(self.now, Input::Durable(self.lsn));
            } else if registrations.is_empty() {
                break;
            }
            for (id, registered) in registrations {
                self.shard.handle(self.now, Input::Reply { id, reply: Reply::Registration(registered) });
            }
            self.shard.handle(self.now, Input::Tick);
        }
    }

    pub(crate) fn make_durable(&mut self) {
        (self.durable, self.durable_records) = (self.lsn, self.records.len());
        self.input(Input::Durable(self.lsn));
    }

    pub(crate) fn pass(&mut self, duration: Duration) {
        let until = self.now + duration;
        self.tick();
        while let Some(at) = self.shard.next_wake().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.tick();
        }
        self.now = until;
        self.tick();
    }

    fn output(&mut self, output: Output, registrations: &mut Vec<(AskId, bool)>) {
        match output {
            Output::Append { lsn, record } => {
                assert_eq!(lsn, self.lsn + 1, "records are numbered without gaps");
                self.lsn = lsn;
                self.record(&record);
                self.records.push(record);
            }
            Output::Send { id, hash: named, bytes, wait, avoid } => {
                let transaction: SignedTransaction = borsh::from_slice(&bytes).unwrap();
                let hash = transaction.get_hash();
                assert_eq!(named, hash);
                assert!(
                    transaction.signature.verify(hash.as_ref(), transaction.transaction.public_key()),
                    "the signature is good"
                );
                assert!(self.signed[&hash] <= self.durable, "P2: sent before its record was durable");
                self.sent.push(Sent { id, transaction, wait, avoid });
            }
            Output::Query { id, query: Query::Registration { account } } => {
                registrations.push((id, !account.as_str().starts_with("fresh")));
            }
            Output::Query { id, query } => self.queries.push((id, query)),
            Output::GiveBack { units } => self.given_back += units,
            Output::Tell { transfers, news } => {
                for id in transfers {
                    let told = self.news.entry(id).or_default();
                    assert!(
                        !matches!(told.last(), Some(News::Finalized | News::Failed { .. })),
                        "P7: {id:?} had settled, now {news:?}"
                    );
                    told.push(news.clone());
                }
            }
        }
    }

    fn record(&mut self, record: &Record) {
        match record {
            Record::Signed { public_key, nonce, hash, transfers, .. } => {
                let signed = *self.nonces.entry((public_key.clone(), *nonce)).or_insert(*hash);
                assert_eq!(signed, *hash, "P3: nonce {nonce} signed twice");
                self.signed.insert(*hash, self.lsn);
                for id in transfers {
                    let other = self.carried.insert(*id, *hash);
                    assert!(other.is_none_or(|other| other == *hash), "P4: {id:?} is still carried by {other:?}");
                }
                self.carries.insert(*hash, transfers.to_vec());
            }
            Record::Closed { hash, .. } => {
                for id in &self.carries[hash] {
                    self.carried.remove(id);
                }
            }
            Record::Begin { .. }
            | Record::End
            | Record::Nonce { .. }
            | Record::Accepted { .. }
            | Record::Failed { .. } => {}
        }
    }

    // ---- what nodes say ----------------------------------------------------------------------------------------

    pub(crate) fn last(&self) -> Sent {
        self.sent.last().expect("something was sent").clone()
    }

    pub(crate) fn status(&mut self, id: AskId, level: Level, execution: Execution) {
        let status = Status { level: Some(level), execution, gas_burnt: None };
        self.reply(id, Reply::Status { status, endpoint: 0 });
    }

    pub(crate) fn lose(&mut self, id: AskId) {
        self.reply(id, Reply::Lost { why: "connection reset".into() });
    }

    pub(crate) fn refuse(&mut self, id: AskId, refusal: Refusal) {
        self.reply(id, Reply::Refused { refusal, endpoint: 0 });
    }

    /// The last question, which must be about this transaction's fate.
    pub(crate) fn fate_question(&self, hash: CryptoHash) -> AskId {
        match self.queries.last() {
            Some((id, Query::Fate { hash: asked, .. })) if *asked == hash => *id,
            other => panic!("expected a question about the fate of {hash}, got {other:?}"),
        }
    }

    pub(crate) fn fate(&mut self, hash: CryptoHash, key_nonce: u64, known: Known) {
        let id = self.fate_question(hash);
        let fate =
            Fate { key_nonce: Some(key_nonce), final_height: self.height, earliest_height: 0, known, endpoint: 0 };
        self.reply(id, Reply::Fate(fate));
    }

    /// The proof that this nonce was taken by another: asked twice, at two final blocks.
    pub(crate) fn overtake(&mut self, hash: CryptoHash, key_nonce: u64) {
        self.fate(hash, key_nonce, Known::No);
        self.pass(limits::CONFIRM_PAUSE);
        self.head(self.height + 5);
        self.fate(hash, key_nonce, Known::No);
    }

    pub(crate) fn land(&mut self, sent: &Sent) {
        self.status(sent.id, Level::Final, Execution::Success);
    }

    pub(crate) fn fail_at(&mut self, sent: &Sent, index: u64, why: &str) {
        let failure = Failure::Execution(why.into());
        self.status(sent.id, Level::Final, Execution::Failed { index: Some(index), failure });
    }

    // ---- what was told -----------------------------------------------------------------------------------------

    pub(crate) fn is_finalized(&self, id: TransferId) -> bool {
        self.news.get(&id).and_then(|news| news.last()) == Some(&News::Finalized)
    }

    pub(crate) fn failure(&self, id: TransferId) -> Option<&str> {
        match self.news.get(&id)?.last()? {
            News::Failed { reason } => Some(reason),
            _ => None,
        }
    }

    pub(crate) fn is_settled(&self, id: TransferId) -> bool {
        self.is_finalized(id) || self.failure(id).is_some()
    }

    pub(crate) fn signed_records(&self) -> usize {
        self.records.iter().filter(|record| matches!(record, Record::Signed { .. })).count()
    }
}
