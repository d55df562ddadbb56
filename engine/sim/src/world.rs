//! The world of one seed: everything that happens, in the order of a fake clock, on one thread.
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use keyshard_shard::{
    AskId, ChainLimits, CryptoHash, EndpointSet, Execution, Head, IdempotencyKey, Input, Instant, Level, News, Query,
    Refusal, Reply, Status, Transfer, TransferId, Trust, mutants::Mutant,
};
use near_primitives::transaction::SignedTransaction;

use crate::{
    Options, Outcome,
    chain::{ACCOUNT, Network, account},
    clients::{self, Request, State},
    disk::{FakeDisk, Remains, Trouble},
    door::{Door, History, Refused},
    faults::{Fault, Faults},
    node::{Endpoint, Mode, Question, Said, lie, wrong_refusal},
    promises::{Promises, memo, paid_by, payment_of},
    random::Random,
    service::{Effect, Life, NoStart, Plan, head_of, shard_of},
    story::{self, Story, short},
};

mod orders;

use orders::{Order, Orders};

/// Microseconds.
const MILLI: u64 = 1_000;
const SECOND: u64 = 1_000 * MILLI;

/// How long a node holds an answer (nearcore `polling_config.timeout`).
const POLLING_TIMEOUT: u64 = 10 * SECOND;
/// How long the service waits for an answer.
const ASK_TIMEOUT: u64 = 12 * SECOND;
/// Faults have stopped; so much later everything must have settled.
const LIVENESS: u64 = 1_800 * SECOND;
/// When the fake clock begins: microseconds since 1970.
const EPOCH: u64 = 1_800_000_000 * SECOND;
/// Lives after which the disk works and nobody kills any more.
const LIVES_MAX: u64 = 12;

#[derive(Debug)]
enum Event {
    Block,
    Weather(usize),
    /// A transaction reaches a block producer's pool, through this endpoint.
    Deliver {
        tx: Arc<SignedTransaction>,
        endpoint: usize,
    },
    /// A question reaches an endpoint.
    Arrive {
        asker: Asker,
        question: Question,
        endpoint: usize,
    },
    /// An answer reaches the service.
    Answer {
        asker: Asker,
        reply: Reply,
    },
    /// Final blocks reach a shard.
    Heads {
        life: u64,
        shard: usize,
        heads: Vec<(Head, u16)>,
    },
    /// A shard looks for the final block.
    /// The limits of the chain reach a shard: another epoch seems to have begun.
    Limits {
        life: u64,
        shard: usize,
        limits: ChainLimits,
    },
    Look {
        life: u64,
        shard: usize,
        round: usize,
    },
    /// A shard's worker has something to do.
    Run {
        life: u64,
        shard: usize,
    },
    /// A shard's worker wakes by itself.
    Wake {
        life: u64,
        shard: usize,
        at: u64,
    },
    Write {
        life: u64,
    },
    Written {
        life: u64,
    },
    Forget {
        life: u64,
        segment: u64,
    },
    SyncHistory {
        life: u64,
    },
    Client(usize),
    ClientTimeout {
        request: usize,
        tries: u32,
    },
    Harm(Fault),
    Crash(Fault),
    /// A service that was told to stop has waited long enough for what is open.
    Stop {
        life: u64,
    },
    Start,
    ClockJump,
    Order(Order),
    Quiet,
}

/// Who waits for an answer.
#[derive(Debug, Clone, Copy)]
struct Asker {
    life: u64,
    shard: usize,
    id: AskId,
}

/// A question that a node holds until a transaction is so far.
struct Held {
    asker: Asker,
    endpoint: usize,
    hash: CryptoHash,
    tx: Option<Arc<SignedTransaction>>,
    wait: Level,
    until: u64,
}

/// See the [module](self).
pub(crate) struct World {
    faults: Faults,
    promises: Promises,
    story: Story,
    network: Network,
    endpoints: Vec<Endpoint>,
    held: Vec<Held>,
    /// For the story: the payments that a question is about.
    asked: HashMap<(u64, usize, AskId), Vec<usize>>,
    /// Every transaction whose bytes have left: any of them may still be in somebody's pool.
    left: BTreeMap<CryptoHash, Arc<SignedTransaction>>,
    disk: FakeDisk,
    history: History,
    plan: Plan,
    life: Option<Life>,
    /// By shard: whether a run is due at once, and when it wakes by itself.
    due: Vec<(bool, u64)>,
    door: Door,
    /// The process dies after so many more effects.
    fuse: Option<u32>,
    lives: u64,
    lives_max: u64,
    /// The service's clock against the world's, in microseconds.
    skew: u64,
    /// The last block that was looked at told of an epoch that is not.
    in_wrong_epoch: bool,
    requests: Vec<Request>,
    events: BTreeMap<(u64, u64), Event>,
    event_number: u64,
    now: u64,
    block_time: u64,
    /// So long may pass until the history has what has settled.
    history_pause: u64,
    quiet: bool,
    quiet_at: u64,
    orders: Orders,
    random: Random,
    ids: Random,
    order_random: Random,
}

impl World {
    /// The world of a seed at its beginning.
    pub(crate) fn new(seed: u64, options: &Options) -> Self {
        let mut random = Random::new(seed, 0);
        let mut faults = Faults::draw(seed, options.without);
        let endpoints = random.among(1..=3).min(options.endpoints as u64) as usize;
        let liar = (endpoints > 1 && faults.has(Fault::Lies)).then(|| random.below(endpoints as u64));
        let network = Network::new(seed, EPOCH * 1_000);
        let mut promises = Promises::new(account(ACCOUNT));
        let span = random.among(2..=60) * SECOND;
        let requests = clients::draw(seed, span, options.requests, &mut faults, &mut promises);
        let plan = Plan::draw(&mut random, endpoints);
        // Where two others agree, a liar need not stop for all to settle.
        faults.lies_stay = endpoints > 2 && random.chance(500);
        let endpoint = |index: usize| Endpoint::new(index as u16, liar == Some(index as u64));
        let quiet_at = span + random.among(5..=60) * SECOND;
        let mut world = Self {
            faults,
            promises,
            story: Story::new(options.story),
            network,
            endpoints: (0..endpoints).map(endpoint).collect(),
            held: Vec::new(),
            asked: HashMap::new(),
            left: BTreeMap::new(),
            disk: FakeDisk::new(Random::new(seed, 4)),
            history: History::default(),
            plan,
            life: None,
            due: Vec::new(),
            door: Door::default(),
            fuse: None,
            lives: 0,
            lives_max: options.lives.min(LIVES_MAX),
            skew: 0,
            in_wrong_epoch: false,
            requests,
            events: BTreeMap::new(),
            event_number: 0,
            now: 0,
            block_time: random.pick(&[400, 600, 600, 1_000]) * MILLI,
            history_pause: random.pick(&[1, 2, 30, 120]) * SECOND,
            quiet: false,
            quiet_at,
            orders: Orders::default(),
            random,
            ids: Random::new(seed, 5),
            order_random: Random::new(seed, 6),
        };
        let mut random = Random::new(seed, 7);
        world.plan.spend_limited = random.chance(300);
        if world.plan.spend_limited {
            world.promises.limit();
        }
        world.plan_ahead();
        world.plan_orders(&mut random);
        world
    }

    fn plan_ahead(&mut self) {
        self.at(self.block_time, Event::Block);
        self.at(0, Event::Start);
        self.at(self.quiet_at, Event::Quiet);
        for endpoint in 0..self.endpoints.len() {
            self.at(self.random.clone().below(SECOND), Event::Weather(endpoint));
        }
        for request in 0..self.requests.len() {
            self.at(self.requests[request].at + 10 * MILLI, Event::Client(request));
        }
        for fault in [Fault::Blocked, Fault::Unregistered] {
            for _ in 0..3 {
                if self.faults.strikes(fault) {
                    let at = self.faults.random(fault).below(self.quiet_at);
                    self.at(at, Event::Harm(fault));
                }
            }
        }
        let ends = [Fault::Kill, Fault::KillMidway, Fault::PowerFailure, Fault::CleanRestart];
        for fault in ends.into_iter().chain([Fault::CrashInWrite, Fault::FailedSync, Fault::FailedWrite]) {
            for _ in 0..3 {
                if self.faults.has(fault) && self.faults.random(fault).chance(500) {
                    let at = self.faults.random(fault).below(self.quiet_at);
                    self.at(at, Event::Crash(fault));
                }
            }
        }
        for _ in 0..3 {
            if self.faults.strikes(Fault::ClockJump) {
                let at = self.faults.random(Fault::ClockJump).below(self.quiet_at);
                self.at(at, Event::ClockJump);
            }
        }
    }

    /// Lives until everything is settled, or a promise is broken.
    pub(crate) fn live(mut self, seed: u64) -> Outcome {
        self.story.note(|| {
            let faults: Vec<String> =
                self.faults.present().iter().map(|(fault, rate)| format!("{} {rate}", fault.name())).collect();
            format!("faults, each in a thousand: {}", faults.join(", "))
        });
        while let Some(((at, _), event)) = self.events.pop_first() {
            (self.now, self.story.now) = (at, at);
            self.handle(event);
            if self.promises.broken().is_some() {
                break;
            }
            if self.quiet && self.is_settled() {
                let calm = self.now.saturating_sub(self.quiet_at) / SECOND;
                let within = match calm {
                    0..60 => "seeds settled within a minute of calm",
                    60..300 => "seeds settled within 5 minutes of calm",
                    _ => "seeds settled within half an hour of calm",
                };
                self.promises.tally.met(within);
                self.settle();
                break;
            }
            if self.now > self.quiet_at + LIVENESS {
                let conditions = self.life.as_ref().map(|life| life.conditions(self.clock())).unwrap_or_default();
                self.promises.never_settled(&conditions.join("; "));
                break;
            }
        }
        let broken = self.promises.broken().cloned();
        let payments = broken.as_ref().map(|broken| broken.payments.clone()).unwrap_or_default();
        let lines = self.story.about(&payments);
        Outcome {
            seed,
            broken,
            lines,
            faults: self.faults.present(),
            payments: self.promises.payments.len(),
            transactions: self.promises.transactions(),
            lives: self.lives,
            seconds: self.now / SECOND,
            tally: self.promises.tally,
        }
    }

    fn is_settled(&self) -> bool {
        self.door.pending == 0
            && self.life.as_ref().is_some_and(|life| life.open() == (0, 0))
            && self.requests.iter().all(|request| request.state == State::Done)
            && self.promises.payments.iter().all(|payment| payment.accepted().is_none() || payment.is_settled())
    }

    /// The end. Whatever left and can still run, runs now.
    fn settle(&mut self) {
        for _ in 0..2 {
            for tx in self.left.values() {
                self.network.chain.insert(tx.clone());
            }
            for _ in 0..5 {
                let nanos = self.network.chain.head().timestamp_nanos + self.block_time * 1_000;
                self.network.chain.limit_gas(None);
                self.network.chain.produce_block(nanos);
            }
        }
        self.promises.settle(&self.network.chain);
    }

    fn at(&mut self, at: u64, event: Event) {
        self.event_number += 1;
        self.events.insert((at, self.event_number), event);
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    /// The time as the service sees it.
    fn clock(&self) -> Instant {
        Instant::from_micros(EPOCH + self.now + self.skew)
    }

    fn life_is(&self, number: u64) -> bool {
        self.life.as_ref().is_some_and(|life| life.number == number)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Block => self.block(),
            Event::Weather(endpoint) => self.weather(endpoint),
            Event::Deliver { tx, .. } => self.network.chain.insert(tx),
            Event::Arrive { asker, question, endpoint } => self.arrive(asker, question, endpoint),
            Event::Answer { asker, reply } => {
                if self.life_is(asker.life) {
                    let payments = self.asked.get(&(asker.life, asker.shard, asker.id)).cloned().unwrap_or_default();
                    self.story.note_of(&payments, || {
                        format!("shard {} is told ({}): {}", asker.shard, asker.id, story::answer(&reply))
                    });
                    self.give(asker.shard, Input::Reply { id: asker.id, reply });
                }
            }
            Event::Heads { life, shard, heads } if self.life_is(life) => {
                for (head, endpoint) in heads {
                    self.give(shard, Input::Head { head, endpoint });
                }
            }
            Event::Limits { life, shard, limits } if self.life_is(life) => {
                self.story.note(|| format!("shard {shard} is told {limits:?}"));
                self.give(shard, Input::Limits(limits));
            }
            Event::Look { life, shard, round } if self.life_is(life) => self.look(life, shard, round),
            Event::Run { life, shard } if self.life_is(life) => {
                self.due[shard].0 = false;
                self.run(shard);
            }
            Event::Wake { life, shard, at } if self.life_is(life) && self.due[shard].1 == at => self.run(shard),
            Event::Write { life } if self.life_is(life) => self.write(),
            Event::Written { life } if self.life_is(life) => self.written(),
            Event::Forget { life, segment } if self.life_is(life) => {
                self.history.sync();
                let forgotten = Life::forget_before(&self.disk, segment).unwrap_or_default();
                self.promises.tally.met_times("segments forgotten", forgotten);
                self.story.note(|| format!("segments before {segment} are deleted"));
                self.check_disk();
            }
            Event::Stop { life } if self.life_is(life) => self.stop(),
            Event::SyncHistory { life } if self.life_is(life) => self.history.sync(),
            Event::Heads { .. }
            | Event::Limits { .. }
            | Event::Look { .. }
            | Event::Run { .. }
            | Event::Wake { .. }
            | Event::Write { .. }
            | Event::Written { .. }
            | Event::Forget { .. }
            | Event::Stop { .. }
            | Event::SyncHistory { .. } => {}
            Event::Client(request) => self.send_request(request),
            Event::ClientTimeout { request, tries } => {
                let it = &self.requests[request];
                if it.tries == tries && matches!(it.state, State::Waiting { .. }) {
                    self.requests[request].respond_async = true;
                    self.answer_request(request);
                }
            }
            Event::Harm(fault) => {
                if self.faults.on {
                    let count = self.promises.payments.len() as u64;
                    let payment = self.faults.random(fault).below(count) as usize;
                    let receiver = self.promises.payments[payment].receiver.clone();
                    self.story.note(|| format!("{receiver}: {}", fault.name()));
                    self.network.harm(&receiver, fault);
                }
            }
            Event::Crash(fault) => self.misfortune(fault),
            Event::Start => self.start(),
            Event::ClockJump => {
                let jump = self.faults.random(Fault::ClockJump).below(120) * SECOND;
                self.skew += jump;
                self.story.note(|| format!("the clock jumps ahead by {} s", jump / SECOND));
                for shard in 0..self.due.len() {
                    self.run_soon(shard);
                }
            }
            Event::Order(order) => self.order(order),
            Event::Quiet => self.become_quiet(),
        }
    }

    // The chain and its nodes.

    fn block(&mut self) {
        let nanos = (EPOCH + self.now) * 1_000;
        let produced = self.network.produce(nanos, &mut self.faults);
        for what in produced.what {
            if what.starts_with("REORG") {
                self.promises.tally.met("reorganisations");
            }
            self.story.note(|| what);
        }
        for tx in produced.astray {
            let delay = self.faults.random(Fault::Reorg).below(40 * SECOND);
            self.after(delay, Event::Deliver { tx, endpoint: usize::MAX });
        }
        self.promises.block(&self.network.chain);
        self.look_again();
        let jitter = self.random.below(self.block_time / 5);
        self.after(self.block_time * 9 / 10 + jitter, Event::Block);
    }

    /// Nodes look again at what they hold.
    fn look_again(&mut self) {
        let mut answers = Vec::new();
        let mut held = std::mem::take(&mut self.held);
        held.retain(|held| {
            let endpoint = &self.endpoints[held.endpoint];
            let reply = if endpoint.mode == Mode::Down {
                Some(Reply::Lost { why: "connection reset".into() })
            } else {
                let tx = held.tx.as_deref();
                let reply = endpoint.look_again(&self.network, &held.hash, tx, held.wait, &mut self.faults);
                reply.or_else(|| (self.now > held.until).then(|| Reply::Lost { why: "TIMEOUT_ERROR".into() }))
            };
            let is_over = reply.is_some();
            answers.extend(reply.map(|reply| (held.asker, reply)));
            !is_over
        });
        self.held = held;
        for (asker, reply) in answers {
            self.reply(asker, reply);
        }
    }

    fn weather(&mut self, index: usize) {
        let endpoint = &mut self.endpoints[index];
        let before = endpoint.mode;
        let (what, restarted) = endpoint.weather(&self.network, &mut self.faults);
        if restarted {
            self.events.retain(|_, event| !matches!(event, Event::Deliver { endpoint, .. } if *endpoint == index));
        }
        if self.faults.on {
            if self.faults.present().len() > 1 || before != Mode::Fine {
                self.story.note(|| what);
            }
            let pause = self.random.among(2..=15) * SECOND;
            self.after(pause, Event::Weather(index));
        }
    }

    /// A shard wants to know something of a node.
    fn ask(&mut self, asker: Asker, question: Question, avoid: EndpointSet) {
        let unreachable = Reply::NotSent { why: "no connection".into(), retry_after: Duration::from_millis(300) };
        let up = |endpoint: &&Endpoint| endpoint.mode != Mode::Down;
        let wanted: Vec<usize> = self
            .endpoints
            .iter()
            .filter(up)
            .map(|endpoint| endpoint.index)
            .filter(|index| !avoid.contains(*index))
            .map(usize::from)
            .collect();
        let others: Vec<usize> = self.endpoints.iter().filter(up).map(|endpoint| usize::from(endpoint.index)).collect();
        let from = if wanted.is_empty() { others } else { wanted };
        if from.is_empty() || self.faults.strikes(Fault::Unreachable) {
            return self.after(2 * MILLI, Event::Answer { asker, reply: unreachable });
        }
        let endpoint = self.random.pick(&from);
        if let Question::Send { tx, .. } = &question {
            self.promises.left(tx, &self.network.chain, self.plan.bounds(&self.faults));
            self.left.insert(tx.get_hash(), tx.clone());
        }
        if self.faults.strikes(Fault::LostRequest) {
            let reply = Reply::Lost { why: "timed out".into() };
            return self.after(ASK_TIMEOUT, Event::Answer { asker, reply });
        }
        let delay = self.latency(Fault::Reordered);
        self.after(delay, Event::Arrive { asker, question, endpoint });
    }

    fn latency(&mut self, fault: Fault) -> u64 {
        let usual = self.random.among(1..=30) * MILLI;
        if self.faults.strikes(fault) { usual + self.faults.random(fault).below(4 * SECOND) } else { usual }
    }

    fn arrive(&mut self, asker: Asker, question: Question, index: usize) {
        let mode = self.endpoints[index].mode;
        let endpoint = self.endpoints[index].index;
        if mode == Mode::Down {
            return self.reply(asker, Reply::Lost { why: "connection reset".into() });
        }
        if mode == Mode::Throttled && self.random.chance(800) {
            return self.reply(asker, Reply::Lost { why: "HTTP 429".into() });
        }
        let fails = mode == Mode::Failing && self.random.chance(700);
        if fails && self.random.chance(500) {
            return self.reply(asker, Reply::Lost { why: "HTTP 502".into() });
        }
        let mut said = self.endpoints[index].ask(&self.network, &question, &mut self.faults);
        if self.endpoints[index].is_liar && self.faults.strikes(Fault::Lies) {
            self.promises.tally.met("lies");
            said = lie(&question, endpoint, &self.network, self.faults.random(Fault::Lies));
        } else if let Some(wrong) = self.wrongly(&question, endpoint) {
            self.promises.tally.met("wrong refusals and statuses");
            // It may well have taken the transaction.
            if let (Said::Take, Question::Send { tx, .. }) = (&said, &question)
                && self.random.chance(500)
            {
                self.pool(tx.clone(), index);
            }
            said = Said::Reply(wrong);
        }
        let until = self.now + POLLING_TIMEOUT;
        match (said, question) {
            _ if fails => self.reply(asker, Reply::Lost { why: "HTTP 502".into() }),
            (Said::Reply(reply), _) => self.reply(asker, reply),
            (Said::More(question), _) => {
                let delay = self.latency(Fault::Reordered);
                self.after(delay, Event::Arrive { asker, question, endpoint: index });
            }
            (Said::Take, Question::Send { tx, wait }) => {
                self.pool(tx.clone(), index);
                self.held.push(Held { asker, endpoint: index, hash: tx.get_hash(), tx: Some(tx), wait, until });
            }
            (Said::Wait, Question::Send { tx, wait }) => {
                self.held.push(Held { asker, endpoint: index, hash: tx.get_hash(), tx: Some(tx), wait, until });
            }
            (Said::Wait, Question::Status { hash, wait }) => {
                self.held.push(Held { asker, endpoint: index, hash, tx: None, wait, until });
            }
            (Said::Wait | Said::Take | Said::Head(_), _) => {}
        }
    }

    /// What a node may say that is not so, and is no proof of anything.
    fn wrongly(&mut self, question: &Question, endpoint: u16) -> Option<Reply> {
        let refused = |refusal| Some(Reply::Refused { refusal, endpoint });
        match question {
            Question::Send { tx, .. } => {
                if self.faults.strikes(Fault::WrongInvalidNonce) {
                    let nonce = tx.transaction.nonce().nonce();
                    let key_nonce = self.faults.random(Fault::WrongInvalidNonce).among(nonce..=nonce + 3);
                    return refused(Refusal::InvalidNonce { key_nonce: Some(key_nonce) });
                }
                if self.faults.strikes(Fault::WrongExpired) {
                    return refused(Refusal::Expired);
                }
                if self.faults.strikes(Fault::WrongUnknown) {
                    return refused(Refusal::Other("UNKNOWN_TRANSACTION".into()));
                }
                if self.faults.strikes(Fault::WrongRefusal) {
                    let random = self.faults.random(Fault::WrongRefusal);
                    return Some(wrong_refusal(endpoint, &self.network, random));
                }
                None
            }
            Question::Status { .. } if self.faults.strikes(Fault::InvalidOnChain) => {
                let random = self.faults.random(Fault::InvalidOnChain);
                let level = random.pick(&[Level::Included, Level::ExecutedOptimistic, Level::Executed, Level::Final]);
                let execution = Execution::Invalid("InvalidNonce".into());
                let status = Status { level: Some(level), execution, gas_burnt: None };
                Some(Reply::Status { status, endpoint })
            }
            _ => None,
        }
    }

    /// A node passes a transaction on.
    fn pool(&mut self, tx: Arc<SignedTransaction>, endpoint: usize) {
        if self.faults.strikes(Fault::Dropped) {
            return self.story.note(|| format!("{} vanishes from the pool", short(&tx.get_hash())));
        }
        let mut delay = self.latency(Fault::Reordered);
        if self.faults.strikes(Fault::Delayed) {
            delay += self.faults.random(Fault::Delayed).below(90 * SECOND);
        }
        self.after(delay, Event::Deliver { tx, endpoint });
    }

    /// An answer goes its way.
    fn reply(&mut self, asker: Asker, reply: Reply) {
        let delay = self.random.among(1..=30) * MILLI;
        if self.faults.strikes(Fault::LostReply) {
            let lost = Reply::Lost { why: "timed out".into() };
            return self.after(ASK_TIMEOUT, Event::Answer { asker, reply: lost });
        }
        if self.faults.strikes(Fault::TruncatedReply) {
            let lost = Reply::Lost { why: "the answer is cut off".into() };
            return self.after(delay, Event::Answer { asker, reply: lost });
        }
        if self.faults.strikes(Fault::LateReply) {
            let lost = Reply::Lost { why: "timed out".into() };
            let late = self.faults.random(Fault::LateReply).below(20 * SECOND);
            self.after(ASK_TIMEOUT, Event::Answer { asker, reply: lost });
            return self.after(ASK_TIMEOUT + late, Event::Answer { asker, reply });
        }
        if self.faults.strikes(Fault::DuplicateReply) {
            let later = self.faults.random(Fault::DuplicateReply).below(5 * SECOND);
            self.after(delay + later, Event::Answer { asker, reply: reply.clone() });
        }
        self.after(delay, Event::Answer { asker, reply });
    }

    /// As the engine's courier: one endpoint, or two in turn, the one that is ahead also about the other's height.
    fn look(&mut self, life: u64, shard: usize, round: usize) {
        let count = self.endpoints.len();
        let mut heads = Vec::new();
        if self.plan.trust == Trust::One {
            let endpoint = self.random.below(count as u64) as usize;
            heads.extend(self.final_block(endpoint, None));
        } else {
            let (one, two) = (round % count, (round + 1) % count);
            if let (Some(first), Some(second)) = (self.final_block(one, None), self.final_block(two, None)) {
                heads.extend([first, second]);
                let (ahead, height) =
                    if first.0.height > second.0.height { (one, second.0.height) } else { (two, first.0.height) };
                if first.0.height != second.0.height {
                    heads.extend(self.final_block(ahead, Some(height)));
                }
            }
        }
        let delay = self.latency(Fault::Reordered);
        self.after(delay, Event::Heads { life, shard, heads });
        self.look_at_limits(life, shard, round);
        self.after(500 * MILLI, Event::Look { life, shard, round: round + 1 });
    }

    /// A liar that tells of another epoch makes the limits be read again, from any endpoint; and so does the next one that
    /// tells of the right one.
    fn look_at_limits(&mut self, life: u64, shard: usize, round: usize) {
        let count = self.endpoints.len();
        let told_by_liar = self.endpoints[round % count].is_liar && self.faults.strikes(Fault::Lies);
        if told_by_liar == self.in_wrong_epoch {
            return;
        }
        self.in_wrong_epoch = told_by_liar;
        let index = self.random.below(count as u64) as usize;
        let mut limits = self.network.limits();
        if self.endpoints[index].is_liar && self.faults.strikes(Fault::Lies) {
            let random = self.faults.random(Fault::Lies);
            limits = ChainLimits {
                max_actions: random.pick(&[0, 1, 100, usize::MAX]),
                max_total_prepaid_gas: random.pick(&[0, 1_000_000_000_000, 300_000_000_000_000, u64::MAX]),
                max_gas_burnt: random.pick(&[0, 1_000_000_000_000, 300_000_000_000_000, u64::MAX]),
                max_transaction_size: random.pick(&[0, 1_000, 1_572_864, usize::MAX]),
                validity_blocks: random.pick(&[0, 1, 100, 100_000, u64::MAX]),
            };
        }
        let delay = self.latency(Fault::Reordered);
        self.after(delay, Event::Limits { life, shard, limits });
    }

    fn final_block(&mut self, index: usize, height: Option<u64>) -> Option<(Head, u16)> {
        let question = Question::Block { height };
        let endpoint = &self.endpoints[index];
        let lost = [Fault::LostRequest, Fault::LostReply, Fault::TruncatedReply];
        if !matches!(endpoint.mode, Mode::Fine | Mode::Syncing) || lost.into_iter().any(|it| self.faults.strikes(it)) {
            return None;
        }
        let said = if endpoint.is_liar && self.faults.strikes(Fault::Lies) {
            lie(&question, endpoint.index, &self.network, self.faults.random(Fault::Lies))
        } else {
            endpoint.ask(&self.network, &question, &mut self.faults)
        };
        match said {
            Said::Head(head) => Some((head, endpoint.index)),
            _ => None,
        }
    }

    // The service.

    fn start(&mut self) {
        if self.life.is_some() {
            return;
        }
        self.lives += 1;
        let is_hard = self.faults.on && self.lives < self.lives_max;
        if self.lives > 1 {
            self.other_plan();
        }
        let mut trouble = Trouble::default();
        if is_hard && self.lives > 1 && self.faults.strikes(Fault::CrashInStart) {
            trouble = Trouble { sync: 60, write: 60, death: 120 };
        }
        self.disk.trouble(trouble);
        let behind = self.random.below(4);
        let height = self.network.chain.final_block().height.saturating_sub(behind);
        let network = &self.network;
        let nonce = |key| {
            let key = crate::chain::secret(key).public_key();
            network.chain.access_key_at(height, &network.account, &key).map(|key| key.nonce)
        };
        let on_chain = self.plan.keys.iter().filter(|key| nonce(**key).is_some()).count();
        if on_chain == 0 {
            self.story.note(|| "no life begins: none of its keys is on chain".into());
            return self.after(SECOND, Event::Start);
        }
        self.plan.shards = self.plan.shards.min(on_chain);
        let started = Life::start(&self.plan, &self.disk, network, network.limits(), self.clock(), self.lives, nonce);
        self.see_synced();
        let (life, found) = match started {
            Ok(started) => started,
            Err(NoStart::Journal(keyshard_engine::journal::JournalError::Disk { .. })) => {
                self.story.note(|| format!("life {} does not begin: the disk fails", self.lives));
                return self.end(Fault::CrashInStart);
            }
            Err(NoStart::Journal(error)) => return self.promises.breaks("P1", &[], format!("no start: {error}")),
            Err(NoStart::Contradiction(error)) => return self.promises.breaks("P1", &[], format!("no start: {error}")),
        };
        if self.disk.is_dead() {
            return self.end(Fault::PowerFailure);
        }
        let tally = &mut self.promises.tally;
        tally.met_times("transfers taken over", found.open.len() as u64);
        tally.met_times("transactions taken over", found.transactions as u64);
        tally.met_times("torn tails cut", found.cut.into());
        tally.met_times("keys retired with open transactions", found.retired as u64);
        tally.met_times("transfers found settled in the journal", found.settled.len() as u64);
        self.story.note(|| {
            format!(
                "life {} begins: {} transfers and {} transactions are open, cut {}, {:?}",
                life.number,
                found.open.len(),
                found.transactions,
                found.cut,
                self.plan
            )
        });
        let forgetful = Mutant::IdempotencyForgotten.is_chosen();
        let (max_pending, wait_until) = (self.plan.max_pending, self.plan.wait_until);
        self.door = Door::new(max_pending, wait_until, &found.open, &found.settled, &mut self.history, forgetful);
        self.promises.recovered(&found.open.iter().collect::<Vec<_>>());
        let door = &self.door;
        self.promises.known_again(|id| door.job(id).is_some());
        // Whoever asks about them is told so from now on.
        for settled in &found.settled {
            let news = match &settled.outcome {
                Ok(()) => News::Finalized,
                Err(reason) => News::Failed { reason: reason.clone() },
            };
            if let Some(payment) = settled.transfer.memo.as_deref().and_then(payment_of) {
                self.promises.told(payment, settled.transfer.id, &news, false, &self.network.chain);
            }
        }
        let number = life.number;
        self.due = vec![(false, 0); life.shards()];
        self.life = Some(life);
        self.obey();
        let endpoint = self.random.below(self.endpoints.len() as u64) as u16;
        for shard in 0..self.due.len() {
            let head = head_of(&self.network, behind);
            self.give(shard, Input::Head { head, endpoint });
            let round = self.random.below(2) as usize;
            self.after(20 * MILLI, Event::Look { life: number, shard, round });
        }
        if is_hard && trouble.death > 0 {
            self.after(5 * SECOND, Event::Crash(Fault::CrashInStart));
        }
    }

    /// What another life is started with.
    fn other_plan(&mut self) {
        if self.faults.strikes(Fault::OtherKeys) {
            let random = self.faults.random(Fault::OtherKeys);
            let mut keys: Vec<usize> = (0..crate::chain::KEYS).filter(|_| random.chance(500)).collect();
            if keys.is_empty() {
                keys.push(random.below(crate::chain::KEYS as u64) as usize);
            }
            self.plan.keys = keys;
        }
        if self.faults.strikes(Fault::OtherShards) {
            self.plan.shards = self.faults.random(Fault::OtherShards).among(1..=3) as usize;
        }
        self.plan.shards = self.plan.shards.min(self.plan.keys.len());
        if self.faults.on && self.faults.has(Fault::ClockJump) {
            self.skew = self.faults.random(Fault::ClockJump).below(300) * SECOND;
        }
    }

    fn give(&mut self, shard: usize, input: Input) {
        if let Some(life) = &mut self.life {
            life.give(shard, input);
        }
        self.run_soon(shard);
    }

    fn run_soon(&mut self, shard: usize) {
        if let Some(life) = &self.life
            && !std::mem::replace(&mut self.due[shard].0, true)
        {
            let life = life.number;
            self.after(0, Event::Run { life, shard });
        }
    }

    fn run(&mut self, shard: usize) {
        let now = self.clock();
        let Some(life) = &mut self.life else { return };
        let number = life.number;
        let effects = life.run(shard, now);
        let pause = life.next_wake(shard).map_or(SECOND, |at| at.since(now).as_micros() as u64).clamp(1, SECOND);
        let writes = life.wants_to_write();
        self.due[shard].1 = self.now + pause;
        self.after(pause, Event::Wake { life: number, shard, at: self.now + pause });
        if writes {
            let delay = self.random.below(300);
            self.after(delay, Event::Write { life: number });
        }
        for effect in effects {
            if let Some(fuse) = &mut self.fuse {
                if *fuse == 0 {
                    self.story.note(|| "killed in the middle of carrying out".into());
                    return self.end(Fault::Kill);
                }
                *fuse -= 1;
            }
            self.carry_out(shard, number, effect);
        }
    }

    fn carry_out(&mut self, shard: usize, life: u64, effect: Effect) {
        let asker = |id| Asker { life, shard, id };
        match effect {
            Effect::Send { id, bytes, wait, avoid } => {
                let Ok(tx) = borsh::from_slice::<SignedTransaction>(&bytes) else {
                    return self.promises.breaks("P2", &[], "bytes that are no transaction left".into());
                };
                let payments = paid_by(&tx);
                self.story.note_of(&payments, || {
                    let (hash, nonce) = (short(&tx.get_hash()), tx.transaction.nonce().nonce());
                    let key: String = tx.transaction.public_key().to_string().chars().take(12).collect();
                    let avoiding = story::avoiding(avoid.bits());
                    format!("shard {shard} sends {hash} ({id}), nonce {nonce} of {key}, with {payments:?}{avoiding}")
                });
                self.note_asked(asker(id), payments);
                self.ask(asker(id), Question::Send { tx: Arc::new(tx), wait }, avoid);
            }
            Effect::Query { id, query } => {
                let payments = match &query {
                    Query::Status { hash, .. } | Query::Fate { hash, .. } => {
                        self.left.get(hash).map(|tx| paid_by(tx)).unwrap_or_default()
                    }
                    Query::Registration { account } => {
                        let all = self.promises.payments.iter().enumerate();
                        all.filter(|(_, it)| it.receiver == *account).map(|(payment, _)| payment).collect()
                    }
                    Query::TokenBalance | Query::Allowance { .. } => Vec::new(),
                };
                self.story.note_of(&payments, || format!("shard {shard} asks ({id}) {}", story::question(&query)));
                self.note_asked(asker(id), payments);
                match query {
                    Query::Status { hash, wait, avoid } => {
                        self.ask(asker(id), Question::Status { hash, wait }, avoid);
                    }
                    Query::Fate { public_key, hash, avoid } => {
                        self.ask(asker(id), Question::Fate { public_key, hash }, avoid);
                    }
                    Query::Registration { account } => {
                        self.ask(asker(id), Question::Registration { account }, EndpointSet::default());
                    }
                    Query::TokenBalance => self.ask(asker(id), Question::TokenBalance, EndpointSet::default()),
                    Query::Allowance { least, most } => self.allow(shard, id, least, most),
                }
            }
            Effect::GiveBack(units) => self.promises.given_back(units),
            Effect::Tell { transfers, news } => {
                for id in transfers {
                    self.tell(id, &news);
                }
            }
            Effect::Forget(segment) => {
                let delay = self.random.below(20 * MILLI);
                self.after(delay, Event::Forget { life, segment });
            }
        }
    }

    fn note_asked(&mut self, asker: Asker, payments: Vec<usize>) {
        if self.story.is_wanted() {
            self.asked.insert((asker.life, asker.shard, asker.id), payments);
        }
    }

    fn tell(&mut self, id: TransferId, news: &News) {
        let Some((payment, settled)) = self.door.job(id).map(|job| (job.payment, job.settled_here)) else {
            return self.promises.breaks("P7", &[], format!("news of a transfer that nobody knows: {news:?}"));
        };
        self.story.note_of(&[payment], || format!("payment {payment}: {}", story::news(news)));
        self.promises.told(payment, id, news, settled, &self.network.chain);
        match news {
            News::Finalized => self.promises.tally.met("payments told finalized"),
            News::Failed { .. } => self.promises.tally.met("payments told failed"),
            _ => {}
        }
        if settled {
            return;
        }
        for request in self.door.tell(id, news, &mut self.history) {
            self.answer_request(request);
        }
        if matches!(news, News::Finalized | News::Failed { .. }) {
            let Some(life) = self.life.as_ref().map(|life| life.number) else { return };
            let delay = self.random.below(self.history_pause);
            self.after(delay, Event::SyncHistory { life });
        }
    }

    // The disk and the ends of lives.

    fn write(&mut self) {
        let Some(life) = &mut self.life else { return };
        if !life.wants_to_write() {
            return;
        }
        let number = life.number;
        let small = self.faults.strikes(Fault::SmallGroups);
        let random = &mut self.random;
        let written = life.write(|gathered| if small { random.below(gathered as u64 + 1) as usize } else { gathered });
        self.see_synced();
        if self.check_disk() {
            return;
        }
        match written {
            Ok(()) => {
                let slow = if self.random.chance(50) { 200 * MILLI } else { 4 * MILLI };
                let delay = self.random.among(200..=slow);
                self.after(delay, Event::Written { life: number });
            }
            Err(error) => {
                // As `journal::abort`.
                self.story.note(|| format!("the journal ends the process: {error}"));
                self.end(Fault::Kill);
            }
        }
    }

    fn written(&mut self) {
        let Some(life) = &mut self.life else { return };
        let (number, news) = (life.number, life.written());
        if life.wants_to_write() {
            self.after(0, Event::Write { life: number });
        }
        for shard in news {
            self.run_soon(shard);
        }
    }

    fn see_synced(&mut self) {
        for bytes in self.disk.take_synced() {
            self.promises.synced(&bytes);
        }
    }

    /// Ends the life if the machine died in an operation of the disk. Returns whether it did.
    fn check_disk(&mut self) -> bool {
        let is_dead = self.disk.is_dead();
        if is_dead {
            self.end(Fault::PowerFailure);
        }
        is_dead
    }

    fn misfortune(&mut self, fault: Fault) {
        if !self.faults.on || self.lives >= self.lives_max {
            return self.disk.trouble(Trouble::default());
        }
        if self.life.is_none() {
            return;
        }
        match fault {
            Fault::KillMidway => self.fuse = Some(self.faults.random(fault).below(12) as u32),
            Fault::CrashInWrite => self.disk.trouble(Trouble { death: 150, ..Trouble::default() }),
            Fault::FailedSync => self.disk.trouble(Trouble { sync: 300, ..Trouble::default() }),
            Fault::FailedWrite => self.disk.trouble(Trouble { write: 300, ..Trouble::default() }),
            Fault::CrashInStart => self.disk.trouble(Trouble::default()),
            Fault::CleanRestart => {
                self.door.close();
                let life = self.lives;
                let patience = self.random.below(10 * SECOND);
                self.after(patience, Event::Stop { life });
            }
            _ => self.end(fault),
        }
    }

    /// As the engine when it is dropped: the workers end, and what was handed to the journal is still written.
    fn stop(&mut self) {
        if let Some(life) = &mut self.life {
            // What a sync under way would have told, and what has gathered since.
            life.written();
            let _ = life.write(|gathered| gathered);
        }
        self.see_synced();
        self.history.sync();
        self.end(Fault::CleanRestart);
    }

    /// The process ends. Another begins soon.
    fn end(&mut self, how: Fault) {
        self.story.note(|| format!("the process ends: {}", how.name()));
        self.promises.tally.met("ends of processes");
        let is_power_failure = self.disk.is_dead()
            || how == Fault::PowerFailure
            || (how != Fault::CleanRestart
                && self.faults.has(Fault::PowerFailure)
                && self.faults.random(Fault::PowerFailure).chance(200));
        if let Some(life) = self.life.take() {
            drop(life);
        }
        self.see_synced();
        if is_power_failure {
            self.promises.tally.met("power failures");
            let remains =
                Remains { torn: self.faults.strikes(Fault::TornWrite), flipped: self.faults.strikes(Fault::BitFlip) };
            self.story.note(|| format!("the power is gone: {remains:?}"));
            self.disk.power_failure(remains);
        }
        self.disk.trouble(Trouble::default());
        self.history.crash();
        self.fuse = None;
        self.held.retain(|_| false);
        for request in 0..self.requests.len() {
            if matches!(self.requests[request].state, State::Waiting { .. }) {
                self.no_answer(request);
            }
        }
        let pause = self.random.pick(&[10 * MILLI, SECOND, 5 * SECOND, 30 * SECOND]);
        self.after(pause, Event::Start);
    }

    fn become_quiet(&mut self) {
        self.story.note(|| "faults stop".into());
        self.faults.on = false;
        self.quiet = true;
        self.fuse = None;
        self.disk.trouble(Trouble::default());
        for endpoint in 0..self.endpoints.len() {
            self.weather(endpoint);
        }
    }

    // Clients.

    fn send_request(&mut self, index: usize) {
        let request = &mut self.requests[index];
        if request.state != State::ToSend {
            return;
        }
        let Some(shards) = self.life.as_ref().map(Life::shards) else {
            // Nobody listens: nothing was taken, so anybody may try again.
            let pause = self.random.among(300..=3_000) * MILLI;
            return self.after(pause, Event::Client(index));
        };
        request.tries += 1;
        let (tries, payments) = (request.tries, request.payments.clone());
        let ids = &mut self.ids;
        let transfers: Vec<Transfer> = payments
            .iter()
            .map(|payment| {
                let wanted = &self.promises.payments[*payment];
                let key = wanted.name.as_ref().map(|(name, of)| IdempotencyKey { name: name.as_str().into(), of: *of });
                Transfer {
                    id: TransferId(u128::from(ids.number()) << 64 | u128::from(ids.number())),
                    receiver: wanted.receiver.clone(),
                    amount: wanted.amount,
                    memo: Some(memo(*payment).into()),
                    key,
                }
            })
            .collect();
        match self.door.submit(index, transfers) {
            Ok((ids, new)) => {
                let joined = (ids.len() - new.len()) as u64;
                self.promises.tally.met_times("transfers joined by their key", joined);
                self.story.note_of(&payments, || {
                    format!("payments {payments:?} are submitted (try {tries}), {} are new", new.len())
                });
                let life = self.life.as_ref().map_or(0, |life| life.number);
                self.requests[index].state = State::Waiting { life, ids, answered: false };
                if let Some(first) = new.first() {
                    let shard = shard_of(first.id, shards);
                    if let Some(life) = &mut self.life {
                        life.push(shard, new);
                    }
                    self.run_soon(shard);
                }
                self.promises.pending(self.door.pending, self.plan.bounds(&self.faults));
                let patience = self.random.among(5..=30) * SECOND;
                self.after(patience, Event::ClientTimeout { request: index, tries });
                self.answer_request(index);
            }
            Err(Refused::Full) => {
                self.promises.tally.met("requests refused: full");
                let pause = self.random.among(1..=5) * SECOND;
                self.after(pause, Event::Client(index));
            }
            Err(Refused::Conflict) => {
                self.promises.tally.met("requests refused: another body");
                self.story.note_of(&payments, || format!("payments {payments:?} are refused: another body"));
                for payment in &payments {
                    self.promises.refused(*payment);
                }
                self.requests[index].state = State::Done;
            }
        }
    }

    /// Answers a request if it can be answered now.
    fn answer_request(&mut self, index: usize) {
        let request = &self.requests[index];
        let State::Waiting { ids, .. } = &request.state else { return };
        let is_ready = |id: &TransferId| {
            self.door.job(*id).is_some_and(|job| job.answerable || (job.durable && request.respond_async))
        };
        if !ids.iter().all(is_ready) {
            return;
        }
        if self.faults.strikes(Fault::LostAnswer) {
            return self.no_answer(index);
        }
        let told: Vec<(usize, TransferId)> = request.payments.iter().copied().zip(ids.iter().copied()).collect();
        self.story.note_of(&request.payments, || format!("payments {:?} get their 2xx", request.payments));
        for (payment, id) in told {
            self.promises.accepted(payment, id);
        }
        let again = std::mem::take(&mut self.requests[index].again);
        self.requests[index].state = if again { State::ToSend } else { State::Done };
        if again {
            let pause = self.faults.random(Fault::Again).below(60 * SECOND);
            self.after(pause, Event::Client(index));
        }
    }

    /// A client gets no answer. With a key it may ask again; without one it must not.
    fn no_answer(&mut self, index: usize) {
        let request = &mut self.requests[index];
        request.state = if request.named { State::ToSend } else { State::Done };
        if request.named {
            let pause = self.random.among(200..=8_000) * MILLI;
            self.after(pause, Event::Client(index));
        }
    }
}
