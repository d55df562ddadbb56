//! One life of the service: the real shards and the real journal, driven as the engine's worker and journal threads drive
//! them, by one thread and a fake clock.
use std::{collections::VecDeque, sync::Arc, time::Duration};

use keyshard_engine::journal::{Disk as _, JournalError, Log, Options, Sync};
use keyshard_shard::{
    AccessKey, AskId, ChainLimits, Contradiction, CryptoHash, EndpointSet, Head, Input, Instant, Level, Lsn, News,
    Output, Query, Record, Recovered, RecoveredSettled, Settings, Shard, StoragePolicy, Transfer, TransferId, Trust,
    mutants::Mutant, recover,
};

use crate::{
    chain::{self, Network},
    disk::FakeDisk,
    faults::{Fault, Faults},
    promises::Bounds,
    random::Random,
};

/// Records that a shard may be ahead of the journal; in the engine it is bytes.
const LANE_RECORDS: usize = 64;

/// What a life is started with.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Positions of its access keys.
    pub(crate) keys: Vec<usize>,
    pub(crate) shards: usize,
    pub(crate) window: usize,
    pub(crate) max_batch: usize,
    pub(crate) max_attempts: u32,
    pub(crate) linger: Duration,
    pub(crate) wait_until: Level,
    pub(crate) storage: StoragePolicy,
    pub(crate) trust: Trust,
    pub(crate) segment_bytes: usize,
    pub(crate) max_pending: usize,
    pub(crate) seed: u64,
    pub(crate) spend_limited: bool,
}

impl Plan {
    /// What a seed begins with.
    pub(crate) fn draw(random: &mut Random, endpoints: usize) -> Self {
        let keys = random.among(1..=chain::KEYS as u64) as usize;
        let linger = Duration::from_millis(random.pick(&[0, 20, 100, 700]));
        Self {
            keys: (0..keys).collect(),
            shards: random.among(1..=keys.min(3) as u64) as usize,
            window: random.pick(&[1, 2, 4, 8]),
            max_batch: random.among(1..=8) as usize,
            max_attempts: random.among(1..=4) as u32,
            linger,
            wait_until: random.pick(&[Level::Included, Level::ExecutedOptimistic, Level::Executed, Level::Final]),
            storage: random.pick(&[
                StoragePolicy::Auto,
                StoragePolicy::Auto,
                StoragePolicy::Always,
                StoragePolicy::Never,
            ]),
            trust: if endpoints > 1 { Trust::Two } else { Trust::One },
            segment_bytes: random.pick(&[8 * 1024, 8 * 1024, 16 * 1024, 64 * 1024]),
            max_pending: random.pick(&[12, 1_000, 1_000, 1_000]),
            seed: random.number(),
            spend_limited: false,
        }
    }

    /// The bounds that hold for what leaves.
    pub(crate) fn bounds(&self, faults: &Faults) -> Bounds {
        let misleading =
            [Fault::Lies, Fault::Reorg, Fault::WrongBranch, Fault::InvalidOnChain, Fault::Forgetful, Fault::KeyGone];
        let is_clear = !misleading.into_iter().any(|fault| faults.has(fault));
        Bounds {
            batch: self.max_batch,
            actions: 100,
            pending: self.max_pending,
            window: is_clear.then_some(self.window),
        }
    }
}

/// Something that a shard wants done outside, in the order it wants it.
#[derive(Debug)]
pub(crate) enum Effect {
    Send {
        id: AskId,
        bytes: Arc<[u8]>,
        wait: Level,
        avoid: EndpointSet,
    },
    Query {
        id: AskId,
        query: Query,
    },
    /// Raw token units of the limit.
    GiveBack(u128),
    Tell {
        transfers: Box<[TransferId]>,
        news: News,
    },
    /// The segments before this one are not needed any more.
    Forget(u64),
}

/// Why a life does not begin.
#[derive(Debug)]
pub(crate) enum NoStart {
    /// The journal did not open.
    Journal(JournalError),
    /// Its records make no sense.
    Contradiction(Contradiction),
}

/// A shard and what its thread owns.
struct Driver {
    shard: Shard,
    /// Pieces that doors have pushed.
    ring: VecDeque<Vec<Transfer>>,
    inbox: VecDeque<Input>,
    /// Records on their way to the journal.
    lane: VecDeque<(Lsn, Vec<u8>)>,
    /// An append that the lane had no room for. Nothing is carried out before it.
    held: Option<Output>,
    /// As the journal reports, and as reported to the shard.
    durable: (Lsn, Lsn),
    began: u64,
    ends_with: Option<Lsn>,
    /// The segment in which a repetition began that is durable since the last round.
    complete: Option<u64>,
    repeat_at: u64,
    /// The segment in which its last complete repetition began.
    reached: u64,
}

/// A process.
pub(crate) struct Life {
    /// Counts processes: one that dies before its first record is safe leaves its life's number to the next.
    pub(crate) number: u64,
    log: Log,
    drivers: Vec<Driver>,
    /// By shard: the last record of the group that is being synced.
    writing: Option<Vec<Lsn>>,
    /// The segment that is being written, as of the last sync.
    segment: u64,
    forgotten: u64,
}

/// What a life has found when it began.
pub(crate) struct Found {
    pub(crate) open: Vec<Transfer>,
    pub(crate) settled: Vec<RecoveredSettled>,
    pub(crate) transactions: usize,
    /// Keys of open transactions that are not configured any more.
    pub(crate) retired: usize,
    /// A torn tail was cut.
    pub(crate) cut: bool,
}

impl Life {
    /// Opens the journal, reads it, and takes over what is open. `nonce` asks the chain for the last nonce of a key.
    pub(crate) fn start(
        plan: &Plan,
        disk: &FakeDisk,
        network: &Network,
        limits: ChainLimits,
        now: Instant,
        number: u64,
        nonce: impl Fn(usize) -> Option<u64>,
    ) -> Result<(Self, Found), NoStart> {
        let options = Options { segment_bytes: plan.segment_bytes, sync: Sync::Always, name: *b"a simulated life" };
        let (log, replay) = Log::open(Arc::new(disk.clone()), options).map_err(NoStart::Journal)?;
        let cut = replay.cut.is_some();
        let records = replay.entries.into_iter().map(|entry| (entry.shard, entry.record));
        let mut recovered = recover(records).map_err(NoStart::Contradiction)?;
        let mut found = Found {
            open: recovered.transfers.iter().map(|open| (*open.transfer).clone()).collect(),
            settled: std::mem::take(&mut recovered.settled),
            transactions: recovered.attempts.len(),
            retired: 0,
            cut,
        };
        let life = recovered.life + 1;
        let genesis = network.chain.history().genesis_hash();
        let (shards, segment) = (plan.shards, log.segment());

        let mut keys: Vec<Vec<AccessKey>> = (0..shards).map(|_| Vec::new()).collect();
        let mut names = Vec::new();
        // Keys that are not on chain are left out.
        let on_chain = plan.keys.iter().filter_map(|key| Some((*key, nonce(*key)?)));
        for (position, (key, nonce)) in on_chain.enumerate() {
            let signer = keyshard_shard::Signer::new(chain::secret(key));
            names.push(signer.public_key().clone());
            keys[position % shards].push(AccessKey::new(signer, nonce));
        }
        let shard_of_key = |name: &str| names.iter().position(|other| **other == *name).map_or(0, |key| key % shards);
        let parts = recovered.split(shards, shard_of_key, |id| shard_of(id, shards));
        let drivers = parts.into_iter().zip(keys).enumerate().map(|(index, (recovered, mut keys))| {
            found.retired += retire_missing(&mut keys, &recovered);
            let settings = settings(plan, network, index, life, genesis);
            let mut shard = Shard::new(settings, limits, keys);
            shard.take_over(now, recovered);
            Driver {
                shard,
                ring: VecDeque::new(),
                inbox: VecDeque::new(),
                lane: VecDeque::new(),
                held: None,
                durable: (0, 0),
                began: segment,
                ends_with: None,
                complete: None,
                repeat_at: u64::MAX,
                reached: 0,
            }
        });
        let drivers = drivers.collect::<Vec<_>>();
        Ok((Self { number, log, drivers, writing: None, segment, forgotten: 0 }, found))
    }

    /// How many shards it has.
    pub(crate) fn shards(&self) -> usize {
        self.drivers.len()
    }

    /// The shards themselves.
    pub(crate) fn all_shards(&mut self) -> impl Iterator<Item = &mut Shard> {
        self.drivers.iter_mut().map(|driver| &mut driver.shard)
    }

    /// Something came back for a shard.
    pub(crate) fn give(&mut self, shard: usize, input: Input) {
        self.drivers[shard].inbox.push_back(input);
    }

    /// A door pushes a request.
    pub(crate) fn push(&mut self, shard: usize, transfers: Vec<Transfer>) {
        self.drivers[shard].ring.push_back(transfers);
    }

    /// One round of a worker. Returns what is to be carried out outside.
    pub(crate) fn run(&mut self, index: usize, now: Instant) -> Vec<Effect> {
        let mut effects = Vec::new();
        let segment = self.segment;
        let driver = &mut self.drivers[index];
        let (durable, reported) = driver.durable;
        if durable != reported {
            driver.durable.1 = durable;
            if driver.ends_with.is_some_and(|end| end <= durable) {
                driver.ends_with = None;
                driver.repeat_at = segment + 1 + (segment - driver.began);
                driver.complete = Some(driver.began);
            }
            driver.shard.handle(now, Input::Durable(durable));
        }
        if segment >= driver.repeat_at {
            driver.repeat_at = u64::MAX;
            driver.shard.handle(now, Input::Checkpoint);
        }
        if driver.held.is_none() {
            for transfers in std::mem::take(&mut driver.ring) {
                for transfer in transfers {
                    driver.shard.handle(now, Input::Accept(transfer.into()));
                }
            }
        }
        for input in std::mem::take(&mut driver.inbox) {
            driver.shard.handle(now, input);
        }
        driver.shard.handle(now, Input::Tick);
        driver.carry_out(segment, &mut effects);
        // Only when the board has been told what follows from what is durable does anybody but the old segments know of it.
        if driver.held.is_none()
            && let Some(began) = driver.complete.take()
        {
            driver.reached = began;
            let oldest = self.drivers.iter().map(|driver| driver.reached).min().unwrap_or_default();
            if oldest > self.forgotten {
                self.forgotten = oldest;
                effects.push(Effect::Forget(oldest));
            }
        }
        effects
    }

    /// When a shard wants to be woken even if nothing happens.
    pub(crate) fn next_wake(&self, shard: usize) -> Option<Instant> {
        self.drivers[shard].shard.next_wake()
    }

    /// Whether the journal has anything to write and may begin.
    pub(crate) fn wants_to_write(&self) -> bool {
        self.writing.is_none() && self.drivers.iter().any(|driver| !driver.lane.is_empty())
    }

    /// The journal thread takes what has gathered, or some of it, and makes it durable. Nobody knows yet.
    pub(crate) fn write(&mut self, mut some: impl FnMut(usize) -> usize) -> Result<(), JournalError> {
        let mut taken: Vec<Lsn> = self.drivers.iter().map(|driver| driver.durable.0).collect();
        let mut result = Ok(());
        for (index, driver) in self.drivers.iter_mut().enumerate() {
            let records = some(driver.lane.len());
            for (lsn, bytes) in driver.lane.drain(..records) {
                if result.is_ok() {
                    result = self.log.push(index as u16, lsn, (&bytes, &[]));
                }
                taken[index] = lsn;
            }
        }
        let result = result.and_then(|()| self.log.commit());
        if result.is_ok() || Mutant::IgnoreFailedSync.is_chosen() {
            self.segment = self.log.segment();
            self.writing = Some(taken);
            return Ok(());
        }
        result
    }

    /// The sync has returned: shards are told. Returns which have news.
    pub(crate) fn written(&mut self) -> Vec<usize> {
        let taken = self.writing.take().unwrap_or_default();
        let mut news = Vec::new();
        for (index, (driver, taken)) in self.drivers.iter_mut().zip(taken).enumerate() {
            if taken > driver.durable.0 {
                driver.durable.0 = taken;
                news.push(index);
            }
        }
        news
    }

    /// Deletes the segments before this one, the oldest first.
    pub(crate) fn forget_before(disk: &FakeDisk, segment: u64) -> std::io::Result<u64> {
        let mut forgotten = 0;
        // Names sort as their numbers do.
        for name in disk.list()? {
            let number = name.strip_suffix(".log").and_then(|number| number.parse::<u64>().ok());
            if number.is_some_and(|number| number < segment) {
                disk.remove(&name)?;
                disk.sync_directory()?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    /// What the shards say of themselves, for the story.
    pub(crate) fn conditions(&self, now: Instant) -> Vec<String> {
        self.drivers.iter().flat_map(|driver| driver.shard.conditions(now)).map(|it| format!("{it:?}")).collect()
    }

    /// Transfers that wait, and transactions that are open.
    pub(crate) fn open(&self) -> (usize, usize) {
        let stats = self.drivers.iter().map(|driver| driver.shard.stats());
        stats.fold((0, 0), |(waiting, open), stats| (waiting + stats.waiting, open + stats.attempts))
    }
}

impl Driver {
    fn carry_out(&mut self, segment: u64, effects: &mut Vec<Effect>) {
        while let Some(output) = self.held.take().or_else(|| self.shard.poll_output()) {
            match output {
                Output::Append { lsn, record } => {
                    if self.lane.len() >= LANE_RECORDS {
                        self.held = Some(Output::Append { lsn, record });
                        break;
                    }
                    match record {
                        Record::Begin { .. } => self.began = segment,
                        Record::End => self.ends_with = Some(lsn),
                        _ => {}
                    }
                    let mut bytes = Vec::new();
                    record.encode(&mut bytes);
                    self.lane.push_back((lsn, bytes));
                }
                Output::Send { id, bytes, wait, avoid, .. } => effects.push(Effect::Send { id, bytes, wait, avoid }),
                Output::Query { id, query } => effects.push(Effect::Query { id, query }),
                Output::GiveBack { units } => effects.push(Effect::GiveBack(units)),
                Output::Tell { transfers, news } => effects.push(Effect::Tell { transfers, news }),
            }
        }
    }
}

/// The shard that a request goes to, by its first transfer.
pub(crate) fn shard_of(id: TransferId, shards: usize) -> usize {
    (id.0 % shards as u128) as usize
}

/// As the engine does: keys of open transactions that are no longer configured sign nothing new.
fn retire_missing(keys: &mut Vec<AccessKey>, recovered: &Recovered) -> usize {
    let configured = keys.len();
    for attempt in &recovered.attempts {
        if !keys.iter().any(|key| *key.public_key() == attempt.public_key) {
            keys.push(AccessKey::retired(attempt.public_key.clone()));
        }
    }
    keys.len() - configured
}

fn settings(plan: &Plan, network: &Network, index: usize, life: u64, genesis: CryptoHash) -> Settings {
    Settings {
        account: network.account.clone(),
        token: network.token.clone(),
        trust: plan.trust,
        wait_until: plan.wait_until,
        storage: plan.storage,
        storage_deposit: if plan.storage == StoragePolicy::Never { 0 } else { 1_250_000_000_000_000_000_000 },
        window: plan.window,
        max_actions: usize::MAX,
        max_batch: plan.max_batch,
        linger: plan.linger,
        max_attempts: plan.max_attempts,
        retry_base: Duration::from_millis(500),
        spend_limited: plan.spend_limited,
        index,
        shards: plan.shards,
        seed: plan.seed.wrapping_add(life * 31 + index as u64),
        life,
        genesis,
    }
}

/// A final block that a life begins with.
pub(crate) fn head_of(network: &Network, behind: u64) -> Head {
    let chain = &network.chain;
    let height = chain.final_block().height.saturating_sub(behind);
    let block = chain.history().block_at(height).unwrap_or(chain.final_block());
    Head { height: block.height, hash: block.hash, timestamp_nanos: block.timestamp_nanos }
}
