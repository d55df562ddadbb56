//! The shard: queues, keys and open attempts, and the one place where they meet.
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use foldhash::HashMap;
use near_primitives::types::AccountId;

use crate::{
    AccessKey, AskId, ChainLimits, Closed, Condition, Failure, Head, Input, Instant, Level, Lsn, News, Output, Query,
    Record, Refusal, Reply, StoragePolicy, Transfer, TransferId,
    attempt::{Ask, Attempt, Next, Phase, Rules},
    batch::{self, Bounds, Plan},
    blame::{self, Blame},
    limits,
    registry::{Lost, Registry},
    transfer::{BatchId, Open},
    tx,
};

/// What a shard is told once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The paying account.
    pub account: AccountId,
    /// The NEP-141 contract.
    pub token: AccountId,
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
    /// Position of this shard, and how many there are: keeps batch numbers apart.
    pub index: usize,
    /// See `index`.
    pub shards: usize,
    /// Seed of the jitter.
    pub seed: u64,
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
    /// Transactions proven dead since start.
    pub deaths: u64,
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
}

/// The pure state machine. See the [crate] documentation for how to drive it.
pub struct Shard {
    settings: Settings,
    chain: ChainLimits,
    keys: Vec<AccessKey>,
    /// Where the search for a free key starts, so that they take turns.
    next_key: usize,

    ready: VecDeque<Open>,
    /// Those that travel alone.
    lone: VecDeque<Open>,
    lone_in_flight: usize,
    /// Blamed ones that wait for their next try.
    later: BTreeMap<(Instant, u64), Open>,
    registry: Registry,
    suspects: foldhash::HashSet<AccountId>,

    attempts: HashMap<u64, Attempt>,
    /// Attempts whose record is not durable yet, in the order of their records.
    unsynced: VecDeque<(Lsn, u64)>,
    next_attempt: u64,

    askers: HashMap<AskId, Asker>,
    next_ask: AskId,
    timers: BTreeMap<(Instant, u64), Timer>,
    next_timer: u64,
    wake_at: Option<Instant>,

    head: Option<(Head, Instant)>,
    block_time: Duration,
    lsn: Lsn,
    durable: Lsn,

    hold: Option<Hold>,
    /// Tokens that may be spent, while they are known to be short.
    budget: Option<u128>,
    gas_transfer: u64,
    gas_deposit: u64,
    random: u64,

    stats: Stats,
    outputs: VecDeque<Output>,
}

impl Shard {
    /// A shard that owns these keys and nobody else does.
    pub fn new(settings: Settings, chain: ChainLimits, keys: Vec<AccessKey>) -> Self {
        let random = settings.seed | 1;
        Self {
            settings,
            chain,
            keys,
            next_key: 0,
            ready: VecDeque::new(),
            lone: VecDeque::new(),
            lone_in_flight: 0,
            later: BTreeMap::new(),
            registry: Registry::default(),
            suspects: foldhash::HashSet::default(),
            attempts: HashMap::default(),
            unsynced: VecDeque::new(),
            next_attempt: 0,
            askers: HashMap::default(),
            next_ask: 0,
            timers: BTreeMap::new(),
            next_timer: 0,
            wake_at: None,
            head: None,
            block_time: limits::BLOCK_TIME_DEFAULT,
            lsn: 0,
            durable: 0,
            hold: None,
            budget: None,
            gas_transfer: limits::GAS_TRANSFER_START,
            gas_deposit: limits::GAS_DEPOSIT_START,
            random,
            stats: Stats::default(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes in one thing that happened. Batches close on [`Input::Tick`] only, so that all that is at hand gets in.
    pub fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Accept(transfer) => self.accept(now, transfer),
            Input::Durable(lsn) => self.durable(lsn),
            Input::Reply { id, reply } => self.reply(now, id, reply),
            Input::Head(head) => self.head(now, head),
            Input::Limits(chain) => self.chain = chain,
            Input::Tick => {
                self.fire_timers(now);
                self.ask_registrations();
                self.close_batches(now);
            }
        }
    }

    /// The next thing to carry out.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due even if nothing happens.
    pub fn next_wake(&self) -> Option<Instant> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> Stats {
        let queued = self.ready.len() + self.lone.len() + self.later.len();
        Stats { waiting: queued + self.registry.parked(), attempts: self.attempts.len(), ..self.stats }
    }

    /// What keeps transfers from going out, at this moment.
    pub fn conditions(&self, now: Instant) -> Vec<Condition> {
        let mut conditions = Vec::new();
        match &self.hold {
            Some(Hold::Token { condition, .. }) => conditions.push(condition.clone()),
            Some(Hold::Near(why)) => conditions.push(Condition::NotEnoughNear(why.clone())),
            None => {}
        }
        if self.reference(now).is_none() {
            conditions.push(Condition::StaleHead);
        }
        conditions.extend(self.keys.iter().filter_map(|key| {
            let why = key.refused.clone()?;
            Some(Condition::KeyRefused { public_key: key.signer.public_key().clone(), why })
        }));
        conditions
    }

    /// Hashes of the transactions whose end is not known, fences left out.
    pub fn open_hashes(&self) -> impl Iterator<Item = crate::CryptoHash> + '_ {
        self.attempts.values().filter(|attempt| !attempt.is_fence()).map(|attempt| attempt.hash)
    }

    /// Most transfers that one transaction may carry now.
    pub fn full_batch(&self) -> usize {
        self.bounds().full()
    }

    // ---- what comes in -------------------------------------------------------------------------------------------

    fn accept(&mut self, now: Instant, transfer: Transfer) {
        self.append(Record::Accepted { transfer: transfer.clone(), at: now });
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
                self.fail(&open, reason.into());
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

    fn durable(&mut self, lsn: Lsn) {
        assert!(lsn <= self.lsn, "the journal reports record {lsn}, but only {} were appended", self.lsn);
        self.durable = self.durable.max(lsn);
        while let Some(&(lsn, id)) = self.unsynced.front() {
            if lsn > self.durable {
                break;
            }
            self.unsynced.pop_front();
            self.ask(id, Ask::Send);
        }
    }

    fn head(&mut self, now: Instant, head: Head) {
        if let Some((known, _)) = self.head {
            if head.height <= known.height {
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
                Timer::Registration(account) => self.registry.ask_again(account),
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

    // ---- signing -------------------------------------------------------------------------------------------------

    fn close_batches(&mut self, now: Instant) {
        loop {
            if self.ready.is_empty() && self.lone.is_empty() {
                self.budget = None;
                return;
            }
            if self.hold.is_some() {
                return;
            }
            let Some(head) = self.reference(now) else { return };
            let Some(key) = self.free_key(now) else { return };
            let bounds = self.bounds();
            let mut single;
            let (queue, alone) = if self.is_lone_due(now) {
                single = self.lone.drain(..1).collect();
                (&mut single, true)
            } else if self.is_batch_due(now) {
                (&mut self.ready, false)
            } else {
                return;
            };
            let (registry, storage) = (&self.registry, self.settings.storage);
            let plan = batch::plan(queue, &bounds, |receiver| match storage {
                StoragePolicy::Always => true,
                // Unknown after all questions were lost: the token refunds a needless deposit.
                StoragePolicy::Auto => registry.is_registered(receiver) != Some(true),
                StoragePolicy::Never => false,
            });
            if plan.transfers.is_empty() {
                if alone {
                    let open = queue.pop_front();
                    self.lone.extend(open);
                }
                self.hold_tokens(now, "the tokens left do not cover the next transfer");
                return;
            }
            if let Some(budget) = &mut self.budget {
                *budget -= plan.amount;
            }
            self.lone_in_flight += usize::from(alone);
            let actions = plan.actions(&bounds);
            self.sign(now, key, head, plan, actions);
        }
    }

    /// Whether a suspect should go now. Batches go first, but one suspect is always under way, however many batches
    /// there are: every transfer gets its turn (P9).
    fn is_lone_due(&mut self, now: Instant) -> bool {
        let share = (self.keys.len() * self.settings.window / limits::LONE_SHARE).max(1);
        !self.lone.is_empty() && (self.lone_in_flight == 0 || (self.lone_in_flight < share && !self.is_batch_due(now)))
    }

    /// Whether what is ready should go now. While batches are in flight, a partial one lingers for mates; it costs its
    /// transfers nothing worth naming, as they wait for a block anyway.
    fn is_batch_due(&mut self, now: Instant) -> bool {
        let Some(oldest) = self.ready.front() else { return false };
        let due = oldest.since + self.settings.linger;
        // Mates whose registration is being asked for are worth a short wait, too.
        let idle = self.attempts.is_empty() && self.registry.parked() == 0;
        if due <= now || idle || self.ready.len() >= self.bounds().full() {
            return true;
        }
        self.wake(due);
        false
    }

    /// The block to sign against, if it is young enough.
    fn reference(&self, now: Instant) -> Option<Head> {
        let (head, seen) = self.head?;
        let blocks = u32::try_from(self.chain.validity_blocks).unwrap_or(u32::MAX);
        let age_max = self.block_time.saturating_mul(blocks) / limits::REFERENCE_AGE_PART;
        (now.since(seen) <= age_max).then_some(head)
    }

    /// The free key with the fewest transactions in flight; they take turns.
    fn free_key(&mut self, now: Instant) -> Option<usize> {
        let count = self.keys.len();
        let key = (0..count)
            .map(|i| (self.next_key + i) % count)
            .filter(|&i| self.keys[i].is_free(now, self.settings.window))
            .min_by_key(|&i| self.keys[i].in_flight)?;
        self.next_key = (key + 1) % count;
        Some(key)
    }

    fn sign(
        &mut self,
        now: Instant,
        key: usize,
        head: Head,
        plan: Plan,
        actions: Vec<near_primitives::action::Action>,
    ) {
        let nonce = self.keys[key].next_nonce();
        self.keys[key].in_flight += 1;
        let receiver_id = if plan.transfers.is_empty() { &self.settings.account } else { &self.settings.token };
        let envelope = tx::Envelope { signer_id: &self.settings.account, receiver_id, nonce, block_hash: head.hash };
        let signer = &self.keys[key].signer;
        let signed = tx::sign(signer, &envelope, actions);
        let public_key = signer.public_key().clone();

        let transfers: Box<[TransferId]> = plan.transfers.iter().map(|open| open.transfer.id).collect();
        self.stats.batches_signed += 1;
        self.stats.transfers_signed += transfers.len() as u64;
        let number = self.stats.batches_signed * self.settings.shards as u64 + self.settings.index as u64;
        let lsn = self.append(Record::Signed {
            public_key,
            nonce,
            hash: signed.hash,
            reference_height: head.height,
            bytes: signed.bytes.clone(),
            transfers: transfers.clone(),
        });
        let news = News::Signed { hash: signed.hash, batch: BatchId { at: now, number }, at: now };
        self.tell(transfers, news);
        let id = self.next_attempt;
        self.next_attempt += 1;
        self.attempts.insert(id, Attempt::new(key, nonce, signed, head.height, plan, lsn));
        self.unsynced.push_back((lsn, id));
    }

    /// Takes the key's next nonce with a transaction that moves nothing, so that the refused `nonce` before it can be
    /// proven dead within a few blocks instead of after the validity period.
    fn fence(&mut self, now: Instant, key: usize, nonce: u64) {
        let later = |attempt: &Attempt| attempt.key == key && attempt.nonce > nonce;
        if self.attempts.values().any(later) {
            return;
        }
        if let Some(head) = self.reference(now) {
            self.sign(now, key, head, Plan::default(), vec![tx::nothing()]);
        }
    }

    // ---- attempts ------------------------------------------------------------------------------------------------

    fn ask(&mut self, id: u64, what: Ask) {
        let ask = self.new_ask(Asker::Attempt(id));
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        if let Phase::Unsynced(lsn) = attempt.phase {
            assert!(lsn <= self.durable, "P2: transaction {} would leave before its record is durable", attempt.hash);
        }
        attempt.phase = Phase::Asking(ask, what);
        let output = match what {
            Ask::Send => Output::Send {
                id: ask,
                hash: attempt.hash,
                bytes: attempt.bytes.clone(),
                wait: self.settings.wait_until.min(Level::ExecutedOptimistic),
                avoid: attempt.avoid,
            },
            Ask::Status(wait) => Output::Query { id: ask, query: Query::Status { hash: attempt.hash, wait } },
            Ask::Fate => {
                let public_key = self.keys[attempt.key].signer.public_key().clone();
                Output::Query { id: ask, query: Query::Fate { public_key, hash: attempt.hash, avoid: attempt.avoid } }
            }
        };
        self.outputs.push_back(output);
    }

    fn attempt_answered(&mut self, now: Instant, id: u64, ask: AskId, reply: Reply) {
        let rules = Rules {
            wait_until: self.settings.wait_until,
            validity_blocks: self.chain.validity_blocks,
            random: self.random(),
        };
        let Some(attempt) = self.attempts.get_mut(&id) else {
            return;
        };
        let asked = match attempt.phase {
            Phase::Asking(current, asked) if current == ask => asked,
            _ => return,
        };
        let (lost, refused) = match &reply {
            Reply::Lost { why } => (Some(why.clone()), false),
            other => (None, matches!(other, Reply::Refused { .. })),
        };
        let reached = attempt.reached;
        let next = attempt.answered(asked, reply, &rules);
        let (key, nonce) = (attempt.key, attempt.nonce);
        if attempt.reached != reached {
            self.progressed(id, reached);
        } else if let Some(why) = lost {
            self.delayed(id, &format!("no answer from the node, asking again: {why}"));
        } else if refused {
            self.refused(now, id);
        }
        match next {
            Next::Ask(what) => self.ask(id, what),
            Next::Pause(pause, then) => {
                if let Some(attempt) = self.attempts.get_mut(&id) {
                    attempt.phase = Phase::Pausing(now + pause, then);
                    self.set_timer(now + pause, Timer::Attempt(id));
                }
            }
            Next::Landed { gas_burnt } => self.landed(id, gas_burnt),
            Next::Failed { index, failure } => self.failed(now, id, index, &failure),
            Next::Dead(proof) => {
                self.stats.deaths += 1;
                let attempt = self.close(id, Closed::Dead(proof));
                // It may have been the last one that could show that the account is funded again: sign anew and see.
                if matches!(self.hold, Some(Hold::Near(_))) {
                    self.hold = None;
                }
                self.sign_again(now, attempt.transfers, "the transaction was proven dead, signing anew");
            }
        }
        // Whatever ended or moved here may show that earlier nonces of the key are gone.
        if matches!(self.attempts.get(&id), None | Some(Attempt { reached: Some(Level::Final), .. })) {
            self.doubt_overtaken(key, nonce);
        }
    }

    /// A node saw it further than before.
    fn progressed(&mut self, id: u64, before: Option<Level>) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        let Some(level) = attempt.reached else { return };
        let transfers = attempt.transfers.iter().map(|open| open.transfer.id).collect();
        let key = &mut self.keys[attempt.key];
        key.works();
        if before.is_none() {
            key.in_flight -= 1;
        }
        if level >= Level::ExecutedOptimistic {
            // What it registered is registered for the batches that follow. Should a reorganisation undo it, they fail,
            // their receivers are asked about again, and nothing is lost.
            let registered: Vec<AccountId> = attempt.registers().cloned().collect();
            for account in registered {
                self.registry.learn(account, true);
            }
        }
        if matches!(self.hold, Some(Hold::Near(_))) {
            self.hold = None;
        }
        if level != Level::Final {
            self.tell(transfers, News::Reached { level });
        }
    }

    /// Looks at the last refusal of an attempt: it may concern the key or the account as a whole.
    fn refused(&mut self, now: Instant, id: u64) {
        let Some(attempt) = self.attempts.get(&id) else { return };
        let Some(refusal) = attempt.refusal.clone() else { return };
        let (key, nonce, is_fence) = (attempt.key, attempt.nonce, attempt.is_fence());
        match &refusal {
            Refusal::InvalidNonce { key_nonce: Some(key_nonce) } => self.keys[key].observe(*key_nonce),
            Refusal::NotEnoughNear(why) if self.hold.is_none() => self.hold = Some(Hold::Near(why.clone())),
            Refusal::Key(why) => {
                let until = self.keys[key].rest(now, why);
                self.wake(until);
            }
            Refusal::Permanent(_) if !is_fence => self.fence(now, key, nonce),
            _ => {}
        }
        self.delayed(id, &format!("refused, its fate is being asked for: {}", refusal.text()));
    }

    /// Lower nonces of this key that no node has seen are most likely overtaken: ask for the proof at once.
    fn doubt_overtaken(&mut self, key: usize, nonce: u64) {
        let doubtful: Vec<u64> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.key == key && attempt.nonce < nonce && attempt.is_probably_overtaken())
            .map(|(id, _)| *id)
            .collect();
        for id in doubtful {
            self.ask(id, Ask::Fate);
        }
    }

    fn landed(&mut self, id: u64, gas_burnt: Option<u64>) {
        let attempt = self.close(id, Closed::Landed);
        if let Some(gas) = gas_burnt {
            self.observe_gas(gas, attempt.steps.len());
        }
        if let [open] = attempt.transfers.as_slice() {
            self.suspects.remove(&open.transfer.receiver);
        }
        let transfers = attempt.transfers.iter().map(|open| open.transfer.id).collect();
        self.tell(transfers, News::Finalized);
    }

    /// Failure at FINAL: everything was undone, the nonce is used, so each transfer may be signed again (P4).
    fn failed(&mut self, now: Instant, id: u64, index: Option<u64>, failure: &Failure) {
        let why = blame::text(failure);
        let mut attempt = self.close(id, Closed::Failed { index, why: why.clone() });
        if attempt.is_fence() {
            return;
        }
        let blame = blame::blame(failure, &self.settings.account);
        let step = index.and_then(|index| attempt.steps.get(usize::try_from(index).ok()?)).copied();
        match blame {
            Blame::Tokens => {
                self.hold_tokens(now, &why);
                return self.sign_again(now, attempt.transfers, &why);
            }
            Blame::Token => {
                self.hold_token(now, Condition::TokenUnavailable(why.clone()));
                return self.sign_again(now, attempt.transfers, &why);
            }
            Blame::Gas => match step {
                Some(batch::Step::Register(_)) => self.gas_deposit = self.more_gas(self.gas_deposit),
                _ => self.gas_transfer = self.more_gas(self.gas_transfer),
            },
            Blame::Forever | Blame::Unregistered | Blame::Unclear => {}
        }
        // The chain names no action when it could not even start: then nobody knows whose fault it is, and each travels alone.
        let position = match step {
            Some(step) => step.transfer(),
            None if attempt.transfers.len() == 1 => 0,
            None => {
                attempt.transfers.iter_mut().for_each(|open| open.alone = true);
                return self.sign_again(now, attempt.transfers, &why);
            }
        };
        let mut culprit = attempt.transfers.remove(position);
        self.sign_again(now, attempt.transfers, "a batch mate failed on chain and undid the batch, signing anew");

        culprit.blamed += 1;
        if blame == Blame::Unregistered {
            self.registry.learn(culprit.transfer.receiver.clone(), false);
        }
        if blame == Blame::Forever || culprit.blamed >= self.settings.max_attempts {
            return self.fail(&culprit, why);
        }
        if blame == Blame::Unregistered || blame == Blame::Unclear {
            culprit.alone |= blame == Blame::Unclear;
            self.suspect(&culprit.transfer.receiver);
        }
        self.tell([culprit.transfer.id].into(), News::Delayed { reason: why });
        let at = now + self.settings.retry_base.saturating_mul(culprit.blamed);
        self.next_timer += 1;
        self.later.insert((at, self.next_timer), culprit);
        self.wake(at);
    }

    /// Back to the front of the queue, in their order: they have waited longest.
    fn sign_again(&mut self, now: Instant, transfers: Vec<Open>, why: &str) {
        if transfers.is_empty() {
            return;
        }
        self.tell(transfers.iter().map(|open| open.transfer.id).collect(), News::Delayed { reason: why.into() });
        for mut open in transfers.into_iter().rev() {
            open.since = now;
            open.alone |= self.suspects.contains(&open.transfer.receiver);
            if open.alone {
                self.lone.push_front(open);
            } else {
                self.ready.push_front(open);
            }
        }
    }

    /// The end of an attempt is known for ever. The only place where transfers leave an attempt (P4).
    fn close(&mut self, id: u64, how: Closed) -> Attempt {
        #[expect(
            clippy::expect_used,
            reason = "callers have just looked it up; two ends of one attempt would be a broken promise"
        )]
        let attempt = self.attempts.remove(&id).expect("an open attempt");
        if attempt.reached.is_none() {
            self.keys[attempt.key].in_flight -= 1;
        }
        self.lone_in_flight -= usize::from(matches!(attempt.transfers.as_slice(), [open] if open.alone));
        self.append(Record::Closed { hash: attempt.hash, how });
        attempt
    }

    fn fail(&mut self, open: &Open, reason: Box<str>) {
        let id = open.transfer.id;
        self.append(Record::Failed { id, reason: reason.clone() });
        self.tell([id].into(), News::Failed { reason });
    }

    fn suspect(&mut self, receiver: &AccountId) {
        if self.suspects.len() >= limits::SUSPECTS_KEPT {
            self.suspects.clear();
        }
        self.suspects.insert(receiver.clone());
    }

    // ---- gas -----------------------------------------------------------------------------------------------------

    /// Attach what was burnt a transfer, fees and all, and a third more: the fees, about half of it, are not taken from
    /// what is attached, so this is more than twice the need. Falls slowly, so that one cheap batch does not starve the next.
    fn observe_gas(&mut self, burnt: u64, actions: usize) {
        let wanted = (burnt / actions.max(1) as u64).saturating_mul(4) / 3;
        let wanted = wanted.clamp(limits::GAS_TRANSFER_MIN, self.gas_max());
        self.gas_transfer =
            if wanted >= self.gas_transfer { wanted } else { self.gas_transfer - (self.gas_transfer - wanted) / 8 };
    }

    fn more_gas(&self, gas: u64) -> u64 {
        (gas.saturating_mul(3) / 2).min(self.gas_max())
    }

    /// A deposit and its transfer must fit into one transaction.
    fn gas_max(&self) -> u64 {
        self.chain.max_gas_burnt.min(self.chain.max_total_prepaid_gas / 2).max(limits::GAS_TRANSFER_MIN)
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            chain: self.chain,
            max_actions: self.settings.max_actions,
            max_transfers: self.settings.max_batch,
            gas_transfer: self.gas_transfer,
            gas_deposit: self.gas_deposit,
            deposit: self.settings.storage_deposit,
            budget: self.budget,
        }
    }

    // ---- registrations and holds -----------------------------------------------------------------------------------

    fn ask_registrations(&mut self) {
        while let Some(account) = self.registry.next_question() {
            let id = self.new_ask(Asker::Registration(account.clone()));
            self.outputs.push_back(Output::Query { id, query: Query::Registration { account } });
        }
    }

    fn registration_answered(&mut self, now: Instant, account: AccountId, reply: &Reply) {
        if let Reply::Registration(registered) = reply {
            for open in self.registry.answered(&account, *registered) {
                self.queue(now, open);
            }
            return;
        }
        match self.registry.lost(&account) {
            Lost::Again(times) => {
                let at = now + limits::backoff(times, self.random());
                self.set_timer(at, Timer::Registration(account));
            }
            Lost::GiveUp(transfers) => {
                for mut open in transfers {
                    open.since = now;
                    self.enqueue(open);
                }
            }
        }
    }

    fn hold_tokens(&mut self, now: Instant, why: &str) {
        let why = format!("{} holds too few tokens of {}: {why}", self.settings.account, self.settings.token);
        self.hold_token(now, Condition::NotEnoughTokens(why.into()));
    }

    fn hold_token(&mut self, now: Instant, condition: Condition) {
        if matches!(self.hold, Some(Hold::Token { .. })) {
            return;
        }
        let pause = limits::HOLD_PAUSE;
        self.hold = Some(Hold::Token { condition, pause, asking: false });
        self.set_timer(now + pause, Timer::Hold);
    }

    fn ask_balance(&mut self) {
        if let Some(Hold::Token { asking, .. }) = &mut self.hold
            && !*asking
        {
            *asking = true;
            let id = self.new_ask(Asker::Hold);
            self.outputs.push_back(Output::Query { id, query: Query::TokenBalance });
        }
    }

    fn hold_answered(&mut self, now: Instant, reply: &Reply) {
        let first = self.ready.front().or(self.lone.front()).map(|open| open.transfer.amount);
        let Some(Hold::Token { condition, pause, asking }) = &mut self.hold else {
            return;
        };
        match reply {
            Reply::TokenBalance(balance) if first.is_none_or(|first| first <= *balance) => {
                self.budget = Some(*balance);
                self.hold = None;
                return;
            }
            Reply::TokenBalance(balance) => {
                let why = format!(
                    "{} holds {balance} of {}, the next transfer needs {}: send tokens to it",
                    self.settings.account,
                    self.settings.token,
                    first.unwrap_or_default()
                );
                *condition = Condition::NotEnoughTokens(why.into());
            }
            Reply::TokenUnavailable(why) => *condition = Condition::TokenUnavailable(why.clone()),
            _ => {}
        }
        *asking = false;
        *pause = (*pause * 2).min(limits::HOLD_PAUSE_MAX);
        let at = now + *pause;
        self.set_timer(at, Timer::Hold);
    }

    // ---- small things ----------------------------------------------------------------------------------------------

    fn append(&mut self, record: Record) -> Lsn {
        self.lsn += 1;
        self.outputs.push_back(Output::Append { lsn: self.lsn, record });
        self.lsn
    }

    fn tell(&mut self, transfers: Box<[TransferId]>, news: News) {
        if !transfers.is_empty() {
            self.outputs.push_back(Output::Tell { transfers, news });
        }
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

impl Attempt {
    /// Receivers that it registers.
    fn registers(&self) -> impl Iterator<Item = &AccountId> + '_ {
        self.steps.iter().filter_map(|step| match step {
            batch::Step::Register(position) => Some(&self.transfers[*position].transfer.receiver),
            batch::Step::Pay(_) => None,
        })
    }
}
