//! The shard: queues, keys and open attempts, and the one place where they meet.
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use foldhash::HashMap;
use near_primitives::{hash::CryptoHash, types::AccountId};

use crate::{
    AccessKey, AskId, ChainLimits, Condition, EndpointIndex, Head, Input, Instant, Level, Lsn, News, Output, Record,
    Reply, StoragePolicy, Transfer, TransferId, Trust,
    attempt::{Ask, Attempt, Phase},
    limits,
    meter::{KeyState, KeyView, Meter, Queues, Undurable},
    mutants::Mutant,
    registry::Registry,
    transfer::Open,
};

mod answers;
mod holds;
mod signing;
mod spending;
mod steering;
mod takeover;

use spending::Spending;
pub use steering::Cancel;
use takeover::Repeated;

/// What a shard is told once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The paying account.
    pub account: AccountId,
    /// The NEP-141 contract.
    pub token: AccountId,
    /// Whose word is taken for what cannot be taken back.
    pub trust: Trust,
    /// How far a transfer must be executed before its caller is answered.
    pub wait_until: Level,
    /// What is done about unregistered receivers.
    pub storage: StoragePolicy,
    /// What registering one receiver costs, in yoctoNEAR.
    pub storage_deposit: u128,
    /// Transactions of one key that may be waiting for a block.
    pub window: usize,
    /// Most actions in one transaction; the chain's own limit holds besides.
    pub max_actions: usize,
    /// Most transfers in one transaction.
    pub max_batch: usize,
    /// How long a transfer may wait for batch mates while other batches are in flight.
    pub linger: Duration,
    /// How often a transfer may be the one that a failure on chain names, before it is given up.
    pub max_attempts: u32,
    /// Pause before such a transfer is tried again, times the failures so far.
    pub retry_base: Duration,
    /// Whether what is signed needs an allowance ([`Query::Allowance`](crate::Query::Allowance)).
    pub spend_limited: bool,
    /// Position of this shard, and how many there are: keeps batch numbers apart.
    pub index: usize,
    /// See `index`.
    pub shards: usize,
    /// Seed of the jitter.
    pub seed: u64,
    /// Number of this life, for the journal.
    pub life: u64,
    /// Genesis of the chain, for the journal.
    pub genesis: CryptoHash,
}

/// Numbers of a shard, for metrics and health.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Transfers that wait for a batch, or to know whether their receiver is registered.
    pub waiting: usize,
    /// Transactions whose end is not known.
    pub attempts: usize,
    /// Transactions signed since start.
    pub batches_signed: u64,
    /// Transfers in them; one that was signed twice counts twice.
    pub transfers_signed: u64,
    /// Transactions proven dead since start: their nonce was taken by another.
    pub deaths_overtaken: u64,
    /// Transactions proven dead since start: expired unused.
    pub deaths_expired: u64,
}

/// Why nothing new is signed. What is in flight goes on.
#[derive(Debug, Clone)]
enum Hold {
    /// The token balance is looked at again and again, until it covers the first transfer or the token answers.
    Token { condition: Condition, pause: Duration, asking: bool },
    /// Ends when any transaction gets into a block.
    Near(Box<str>),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Attempt(u64),
    Registration(AccountId),
    Hold,
    /// Something may be signed now: a linger is over, a rested key is back.
    Wake,
}

#[derive(Debug, Clone)]
enum Asker {
    Attempt(u64),
    Registration(AccountId),
    Hold,
    Allowance,
}

/// The pure state machine. See the [crate] documentation for how to drive it.
pub struct Shard {
    settings: Settings,
    chain: ChainLimits,
    keys: Vec<AccessKey>,
    /// The highest nonce of every key that the journal knows, also of keys that are not configured now.
    nonces: BTreeMap<Arc<str>, u64>,
    /// Where the search for a free key starts, so that they take turns.
    next_key: usize,

    ready: VecDeque<Open>,
    /// Parts of batches that were undone more than once: each goes by itself.
    parts: VecDeque<VecDeque<Open>>,
    /// Those that travel alone.
    lone: VecDeque<Open>,
    lone_in_flight: usize,
    /// Blamed ones that wait for their next try.
    later: BTreeMap<(Instant, u64), Open>,
    registry: Registry,
    /// The token has no NEP-145.
    without_storage: bool,
    suspects: foldhash::HashSet<AccountId>,

    /// In the order of their signatures, so that what is done to several is done in the same order in every replay.
    attempts: BTreeMap<u64, Attempt>,
    /// Attempts whose record is not durable yet, in the order of their records.
    unsynced: VecDeque<(Lsn, u64)>,
    /// News that would be a lie after a crash before their record is durable, in the order of their records.
    untold: VecDeque<(Lsn, TransferId, Untold)>,
    next_attempt: u64,
    /// Attempts of a former life that no node has been asked about yet. Nothing is signed while there are any.
    recovering: foldhash::HashSet<u64>,

    askers: HashMap<AskId, Asker>,
    next_ask: AskId,
    timers: BTreeMap<(Instant, u64), Timer>,
    next_timer: u64,
    wake_at: Option<Instant>,

    head: Option<(Head, Instant)>,
    /// The last final block that each endpoint told of, where two must agree.
    heads: HashMap<EndpointIndex, Head>,
    block_time: Duration,
    lsn: Lsn,
    durable: Lsn,

    hold: Option<Hold>,
    /// Absent where nothing limits it.
    spending: Option<Spending>,
    paused: bool,
    /// Tokens that may be spent, while they are known to be short.
    budget: Option<u128>,
    gas_transfer: u64,
    gas_deposit: u64,
    random: u64,

    stats: Stats,
    meter: Meter,
    undurable: Undurable,
    outputs: VecDeque<Pending>,
}

/// What is to be told once it is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Untold {
    Accepted,
    Finalized,
    Failed(Box<str>),
}

impl From<Untold> for News {
    fn from(untold: Untold) -> Self {
        match untold {
            Untold::Accepted => Self::Accepted,
            Untold::Finalized => Self::Finalized,
            Untold::Failed(reason) => Self::Failed { reason },
        }
    }
}

/// What waits to be carried out.
enum Pending {
    Output(Output),
    /// Many records, made one by one as they are taken.
    Repeated(Repeated),
}

impl Shard {
    /// A shard that owns these keys and nobody else does.
    pub fn new(settings: Settings, chain: ChainLimits, keys: Vec<AccessKey>) -> Self {
        let random = settings.seed | 1;
        let spending = settings.spend_limited.then(Spending::default);
        Self {
            settings,
            chain,
            keys,
            nonces: BTreeMap::new(),
            next_key: 0,
            ready: VecDeque::new(),
            parts: VecDeque::new(),
            lone: VecDeque::new(),
            lone_in_flight: 0,
            later: BTreeMap::new(),
            registry: Registry::default(),
            without_storage: false,
            suspects: foldhash::HashSet::default(),
            attempts: BTreeMap::new(),
            unsynced: VecDeque::new(),
            untold: VecDeque::new(),
            next_attempt: 0,
            recovering: foldhash::HashSet::default(),
            askers: HashMap::default(),
            next_ask: 0,
            timers: BTreeMap::new(),
            next_timer: 0,
            wake_at: None,
            head: None,
            heads: HashMap::default(),
            block_time: limits::BLOCK_TIME_DEFAULT,
            lsn: 0,
            durable: 0,
            hold: None,
            spending,
            paused: false,
            budget: None,
            gas_transfer: limits::GAS_TRANSFER_START,
            gas_deposit: limits::GAS_DEPOSIT_START,
            random,
            stats: Stats::default(),
            meter: Meter::default(),
            undurable: Undurable::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes in one thing that happened. Batches close on [`Input::Tick`] only, so that all that is at hand gets in.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Accept(transfer) => self.accept(now, transfer),
            Input::Durable(lsn) => self.durable(now, lsn),
            Input::Reply { id, reply } => self.reply(now, id, reply),
            Input::Head { head, endpoint } => self.head_told(now, head, endpoint),
            Input::Limits(chain) => {
                let validity_blocks = self.chain.validity_blocks;
                self.chain = ChainLimits { validity_blocks, ..chain };
            }
            Input::Checkpoint => self.checkpoint(),
            Input::Tick => {
                self.fire_timers(now);
                self.ask_registrations();
                self.close_batches(now);
            }
        }
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            if let Pending::Repeated(repeated) = self.outputs.front_mut()?
                && let Some((lsn, record)) = repeated.next()
            {
                return Some(Output::Append { lsn, record });
            }
            if let Pending::Output(output) = self.outputs.pop_front()? {
                return Some(output);
            }
        }
    }

    /// When [`Input::Tick`] is due even if nothing happens.
    pub fn next_wake(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> Stats {
        let parts: usize = self.parts.iter().map(VecDeque::len).sum();
        let queued = self.ready.len() + parts + self.lone.len() + self.later.len();
        Stats { waiting: queued + self.registry.parked(), attempts: self.attempts.len(), ..self.stats }
    }

    /// Measurements since start.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// What waits, by what it waits for.
    pub fn queues(&self) -> Queues {
        Queues {
            ready: self.ready.len(),
            apart: self.parts.iter().map(VecDeque::len).sum::<usize>() + self.lone.len(),
            later: self.later.len(),
            unregistered: self.registry.parked(),
        }
    }

    /// Every key, in the order of [`Self::new`]. Walks the open attempts.
    pub fn keys(&self, now: Instant) -> Vec<KeyView> {
        let view = |key: &AccessKey| KeyView {
            public_key: key.public_key().clone(),
            state: match () {
                () if key.signer.is_none() => KeyState::Retired,
                () if key.quarantined => KeyState::Quarantined,
                () if key.rests_after(now).is_some() => KeyState::Resting,
                () if key.in_flight >= self.settings.window => KeyState::Full,
                () => KeyState::Free,
            },
            in_flight: key.in_flight,
            open: 0,
            nonce: key.nonce(),
            nonce_lag: 0,
        };
        let mut views: Vec<KeyView> = self.keys.iter().map(view).collect();
        for attempt in self.attempts.values() {
            let view = &mut views[attempt.key];
            view.open += 1;
            view.nonce_lag = view.nonce_lag.max((view.nonce + 1).saturating_sub(attempt.nonce));
        }
        views
    }

    /// Transactions of one key that may be waiting for a block.
    pub fn window(&self) -> usize {
        self.settings.window
    }

    /// The time from block to block, as far as it was seen.
    pub fn block_time(&self) -> Duration {
        self.block_time
    }

    /// What keeps transfers from going out, at this moment.
    pub fn conditions(&self, now: Instant) -> Vec<Condition> {
        let mut conditions = Vec::new();
        match &self.hold {
            Some(Hold::Token { condition, .. }) => conditions.push(condition.clone()),
            Some(Hold::Near(why)) => conditions.push(Condition::NotEnoughNear(why.clone())),
            None => {}
        }
        if self.paused {
            conditions.push(Condition::Paused);
        }
        if let Some(why) = self.spending.as_ref().and_then(|spending| spending.why_dry(now)) {
            conditions.push(Condition::SpendLimit(why.into()));
        }
        if !self.recovering.is_empty() {
            conditions.push(Condition::Recovering(self.recovering.len()));
        }
        if self.reference(now).is_none() {
            conditions.push(Condition::StaleHead);
        }
        let unprovable = self.attempts.values().filter(|attempt| attempt.unprovable);
        let hashes: Vec<CryptoHash> = unprovable.map(|attempt| attempt.hash).take(limits::HASHES_SHOWN).collect();
        if !hashes.is_empty() {
            conditions.push(Condition::Unprovable(hashes));
        }
        if !self.keys.iter().any(AccessKey::may_sign) {
            conditions.push(Condition::NoKey);
        }
        let quarantined = self.keys.iter().filter(|key| key.quarantined);
        conditions.extend(quarantined.map(|key| Condition::KeyQuarantined { public_key: key.public_key().clone() }));
        conditions.extend(self.keys.iter().filter_map(|key| {
            let why = key.refused.clone()?;
            Some(Condition::KeyRefused { public_key: key.public_key().clone(), why })
        }));
        conditions
    }

    /// Most transfers that one transaction may carry now.
    pub fn full_batch(&self) -> usize {
        self.bounds().full()
    }

    fn accept(&mut self, now: Instant, transfer: Arc<Transfer>) {
        let lsn = self.append(Record::Accepted { transfer: transfer.clone(), at: now, tried: Box::default() });
        if Mutant::AcknowledgeBeforeSync.is_chosen() {
            self.tell([transfer.id].into(), News::Accepted);
        } else {
            self.untold.push_back((lsn, transfer.id, Untold::Accepted));
        }
        self.meter.accepted += 1;
        self.undurable.accepted(now, lsn);
        let open = Open::new(transfer, now);
        self.queue(now, open);
    }

    /// Finds the queue for a transfer that may be signed (again).
    fn queue(&mut self, now: Instant, mut open: Open) {
        let receiver = &open.transfer.receiver;
        match (self.settings.storage, self.registry.is_registered(receiver)) {
            (StoragePolicy::Auto | StoragePolicy::Never, None) => self.registry.park(open),
            (StoragePolicy::Never, Some(false)) => {
                let reason = format!(
                    "The account {receiver} is not registered with {} and STORAGE_DEPOSIT is never: register it \
                     (storage_deposit) and send a new transfer",
                    self.settings.token
                );
                self.fail(now, &open, reason.into());
            }
            _ => {
                open.since = now;
                self.enqueue(open);
            }
        }
    }

    fn enqueue(&mut self, mut open: Open) {
        open.alone |= self.suspects.contains(&open.transfer.receiver);
        if open.alone {
            self.lone.push_back(open);
        } else {
            self.ready.push_back(open);
        }
    }

    fn durable(&mut self, now: Instant, lsn: Lsn) {
        assert!(lsn <= self.lsn, "the journal reports record {lsn}, but only {} were appended", self.lsn);
        self.durable = self.durable.max(lsn);
        self.undurable.durable(now, self.durable, &mut self.meter.stages.durable);
        self.tell_durable();
        while let Some(&(lsn, id)) = self.unsynced.front() {
            if lsn > self.durable {
                break;
            }
            self.unsynced.pop_front();
            if let Some(attempt) = self.attempts.get_mut(&id) {
                self.meter.sent(now, attempt);
            }
            self.ask(id, Ask::Send);
        }
    }

    /// Tells what has become true for good. Those with the same news are told together.
    fn tell_durable(&mut self) {
        let durable = self.durable;
        while let Some((_, id, news)) = self.untold.pop_front_if(|(lsn, _, _)| *lsn <= durable) {
            let mut ids = vec![id];
            while let Some((_, id, _)) = self.untold.pop_front_if(|(lsn, _, next)| *lsn <= durable && *next == news) {
                ids.push(id);
            }
            self.tell(ids.into(), news.into());
        }
    }

    fn head_told(&mut self, now: Instant, head: Head, endpoint: EndpointIndex) {
        self.heads.insert(endpoint, head);
        let agrees = |(other, told): (&EndpointIndex, &Head)| *other != endpoint && *told == head;
        if self.settings.trust == Trust::One || self.heads.iter().any(agrees) {
            self.head(now, head);
        }
    }

    fn head(&mut self, now: Instant, head: Head) {
        if let Some((known, seen)) = self.head {
            if head.height <= known.height {
                // A final height does not fall; if one seems to, the higher one was an error, and is not believed for ever.
                if now.since(seen) > limits::HEAD_BELIEVED {
                    self.head = Some((head, now));
                }
                return;
            }
            let blocks = u32::try_from(head.height - known.height).unwrap_or(u32::MAX);
            let nanos = head.timestamp_nanos.saturating_sub(known.timestamp_nanos);
            let observed = (Duration::from_nanos(nanos) / blocks).clamp(limits::BLOCK_TIME_MIN, limits::BLOCK_TIME_MAX);
            self.block_time = (self.block_time * 3 + observed) / 4;
        }
        self.head = Some((head, now));
    }

    fn reply(&mut self, now: Instant, id: AskId, reply: Reply) {
        match self.askers.remove(&id) {
            Some(Asker::Attempt(attempt)) => self.attempt_answered(now, attempt, id, reply),
            Some(Asker::Registration(account)) => self.registration_answered(now, account, &reply),
            Some(Asker::Hold) => self.hold_answered(now, &reply),
            Some(Asker::Allowance) => self.allowance_answered(now, reply),
            None => {}
        }
    }

    fn fire_timers(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            match entry.remove() {
                Timer::Attempt(id) => {
                    let phase = self.attempts.get(&id).map(|attempt| attempt.phase);
                    if let Some(Phase::Pausing(until, then)) = phase
                        && until <= now
                    {
                        self.ask(id, then);
                    }
                }
                Timer::Registration(account) => self.registry.ask_again(&account),
                Timer::Hold => self.ask_balance(),
                Timer::Wake => {
                    self.wake_at = None;
                    while let Some(entry) = self.later.first_entry() {
                        if entry.key().0 > now {
                            let at = entry.key().0;
                            self.wake(at);
                            break;
                        }
                        let open = entry.remove();
                        self.queue(now, open);
                    }
                    if let Some(at) = self.keys.iter().filter_map(|key| key.rests_after(now)).min() {
                        self.wake(at);
                    }
                }
            }
        }
    }

    fn append(&mut self, record: Record) -> Lsn {
        self.lsn += 1;
        self.put(Output::Append { lsn: self.lsn, record });
        self.lsn
    }

    fn tell(&mut self, transfers: Box<[TransferId]>, news: News) {
        if !transfers.is_empty() {
            self.put(Output::Tell { transfers, news });
        }
    }

    fn put(&mut self, output: Output) {
        self.outputs.push_back(Pending::Output(output));
    }

    fn delayed(&mut self, id: u64, why: &str) {
        if let Some(attempt) = self.attempts.get(&id) {
            let transfers = attempt.transfers.iter().map(|open| open.transfer.id).collect();
            self.tell(transfers, News::Delayed { reason: why.chars().take(512).collect::<String>().into() });
        }
    }

    fn new_ask(&mut self, asker: Asker) -> AskId {
        self.next_ask += 1;
        self.askers.insert(self.next_ask, asker);
        self.next_ask
    }

    fn set_timer(&mut self, at: Instant, timer: Timer) {
        self.next_timer += 1;
        self.timers.insert((at, self.next_timer), timer);
    }

    /// One timer is enough for all that may be signed later: the earliest.
    fn wake(&mut self, at: Instant) {
        if self.wake_at.is_none_or(|wake_at| at < wake_at) {
            self.wake_at = Some(at);
            self.set_timer(at, Timer::Wake);
        }
    }

    fn random(&mut self) -> u64 {
        // xorshift64 (Marsaglia): jitter needs no more.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
