//! Follows the chain's final blocks beside a load, and counts where each of its transfers landed.
//!
//! A transfer counts when a transaction that holds its memo is in a final block and has succeeded at FINAL, both as a
//! node tells; what the service says of it plays no part.
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::node::{Ending, Found, Header, Node, NodeError};
use crate::{latency::Latencies, script::Script};

/// How long a node may fail until it is given up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Questions about transactions that are under way at a time.
const AT_ONCE: usize = 8;
/// Blocks after its own in which a transaction cannot be final yet: it is executed in the next one, and refunds follow.
const NOT_BEFORE: u64 = 2;
/// Findings that are kept as text.
const MAX_WRONG: usize = 20;

/// What to look for.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The token.
    pub token: String,
    /// Who signs; `None`: whoever it is.
    pub payer: Option<String>,
    /// Nanoseconds since 1970 at which the load began, by this machine's clock.
    pub began_unix_ns: u64,
    /// Pause between two looks at the chain.
    pub every: Duration,
}

/// A block, by the load's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Block {
    /// Its height.
    pub height: u64,
    /// When it was made, in seconds since the load began: below zero before.
    pub seconds: f64,
}

/// How far a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In a final block.
    Included,
    /// Executed, with success or without; it could still be undone.
    Executed(bool),
    /// Executed for good, with success or without.
    Final(bool),
}

/// A transaction to the token that holds transfers of this load.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Its hash.
    pub hash: String,
    /// Who signed it.
    pub signer: String,
    /// The block it is in.
    pub height: u64,
    /// How far it is.
    pub state: State,
    /// The block in which it was executed.
    pub executed: Option<Block>,
    /// All its transfers.
    pub transfers: u32,
    /// Receivers it registers.
    pub deposits: u32,
    /// How many of its transfers are of this load.
    pub own: u32,
    /// Their numbers. Given free once it is final.
    pub numbers: Vec<u64>,
}

/// All that was seen.
#[derive(Debug)]
pub struct Seen {
    /// The last final block that was read.
    pub walked: u64,
    /// Every final block.
    pub blocks: Vec<Block>,
    /// Transactions of this load, in the chain's order.
    pub transactions: Vec<Transaction>,
    /// How often each transfer landed for good.
    pub landings: Vec<u8>,
    /// Transfers that landed at least once.
    pub landed: u64,
    /// Transactions that are not final yet.
    pub open: usize,
    /// Height of the last block with a transaction of this load.
    pub latest: u64,
    /// Transfers with one of our memos, and another receiver or amount than was asked for.
    pub wrong: u64,
    /// The first of them.
    pub wrongs: Vec<String>,
    /// From when a transfer was due until the block in which it was executed: two clocks, where the node is elsewhere.
    pub to_chain: Latencies,
    /// Why the chain can no longer be read.
    pub failure: Option<String>,
}

/// A thread that follows the chain.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    go: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Follows what comes after the block at height `after`. If it is not to look at once, it waits for [`Watch::look`].
    pub fn start(node: Node, scope: Scope, script: &Arc<Script>, after: u64, at_once: bool) -> std::io::Result<Self> {
        let seen = Arc::new(Mutex::new(Seen {
            walked: after,
            blocks: Vec::new(),
            transactions: Vec::new(),
            landings: vec![0; script.transfers() as usize],
            landed: 0,
            open: 0,
            latest: after,
            wrong: 0,
            wrongs: Vec::new(),
            to_chain: Latencies::new(),
            failure: None,
        }));
        let (go, stop) = (Arc::new(AtomicBool::new(at_once)), Arc::new(AtomicBool::new(false)));
        let follower = Follower {
            node: Arc::new(node),
            scope: Arc::new(scope),
            script: Arc::clone(script),
            seen: Arc::clone(&seen),
            go: Arc::clone(&go),
            stop: Arc::clone(&stop),
            times: HashMap::new(),
            concluded: 0,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread =
            std::thread::Builder::new().name("chain".into()).spawn(move || runtime.block_on(follower.run()))?;
        Ok(Self { seen, go, stop, thread: Some(thread) })
    }

    /// Begins to look, if it has been waiting.
    pub fn look(&self) {
        self.go.store(true, Relaxed);
    }

    /// What was seen so far.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it: what was seen.
    pub fn end(mut self) -> Seen {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let nothing = Seen {
            walked: 0,
            blocks: Vec::new(),
            transactions: Vec::new(),
            landings: Vec::new(),
            landed: 0,
            open: 0,
            latest: 0,
            wrong: 0,
            wrongs: Vec::new(),
            to_chain: Latencies::new(),
            failure: None,
        };
        std::mem::replace(&mut seen, nothing)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

struct Follower {
    node: Arc<Node>,
    scope: Arc<Scope>,
    script: Arc<Script>,
    seen: Arc<Mutex<Seen>>,
    go: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    /// Blocks by their hash.
    times: HashMap<String, Block>,
    /// The final block at which transactions were last asked about: before the next one nothing has changed.
    concluded: u64,
}

impl Follower {
    async fn run(mut self) {
        let mut failing_since: Option<Instant> = None;
        while !self.stop.load(Relaxed) {
            if self.go.load(Relaxed) {
                match self.round().await {
                    Ok(()) => failing_since = None,
                    Err(error) => {
                        let since = *failing_since.get_or_insert_with(Instant::now);
                        if since.elapsed() > PATIENCE {
                            self.lock().failure = Some(error.to_string());
                            return;
                        }
                    }
                }
            }
            tokio::time::sleep(self.scope.every).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the blocks that became final, then asks about transactions that are open.
    async fn round(&mut self) -> Result<(), NodeError> {
        let last = self.node.last_final().await?.height;
        let mut walked = self.lock().walked;
        while walked < last && !self.stop.load(Relaxed) {
            let height = walked + 1;
            if let Some(header) = self.node.block(height).await? {
                let mut found = Vec::new();
                for chunk in &header.chunks {
                    found.extend(self.node.transactions(chunk, &self.scope.token).await?);
                }
                self.take_in(&header, found);
            }
            self.lock().walked = height;
            walked = height;
        }
        if walked > self.concluded {
            self.conclude(last).await?;
            self.concluded = walked;
        }
        Ok(())
    }

    fn take_in(&mut self, header: &Header, found: Vec<Found>) {
        let seconds = (i128::from(header.unix_ns) - i128::from(self.scope.began_unix_ns)) as f64 / 1e9;
        let block = Block { height: header.height, seconds };
        self.times.insert(header.hash.clone(), block);
        let mut seen = self.lock();
        seen.blocks.push(block);
        for Found { hash, signer, transfers, deposits } in found {
            if self.scope.payer.as_ref().is_some_and(|payer| *payer != signer) {
                continue;
            }
            let mut numbers = Vec::with_capacity(transfers.len());
            for (receiver, amount, memo) in &transfers {
                let Some(number) = self.script.number_of(memo) else { continue };
                let request = self.script.request_of(number);
                let asked = self.script.transfer(request, (number - self.script.numbers(request).start) as u32);
                if asked.receiver != *receiver || Some(asked.amount) != *amount {
                    seen.wrong += 1;
                    if seen.wrongs.len() < MAX_WRONG {
                        seen.wrongs.push(format!("{memo} in {hash} pays {amount:?} to {receiver}, not {asked:?}"));
                    }
                }
                numbers.push(number);
            }
            if !numbers.is_empty() {
                seen.open += 1;
                seen.latest = header.height;
                seen.transactions.push(Transaction {
                    hash,
                    signer,
                    height: header.height,
                    state: State::Included,
                    executed: None,
                    transfers: transfers.len() as u32,
                    deposits,
                    own: numbers.len() as u32,
                    numbers,
                });
            }
        }
    }

    /// Asks how every open transaction ended that can have.
    async fn conclude(&mut self, last: u64) -> Result<(), NodeError> {
        let mut due: Vec<(usize, String, String)> = {
            let seen = self.lock();
            let open = seen.transactions.iter().enumerate().filter(|(_, transaction)| {
                !matches!(transaction.state, State::Final(_)) && transaction.height + NOT_BEFORE <= last
            });
            open.map(|(at, transaction)| (at, transaction.hash.clone(), transaction.signer.clone())).collect()
        };
        due.reverse();
        let mut asked = JoinSet::new();
        loop {
            while asked.len() < AT_ONCE && !self.stop.load(Relaxed) {
                let Some((at, hash, signer)) = due.pop() else { break };
                let (node, scope) = (Arc::clone(&self.node), Arc::clone(&self.scope));
                asked.spawn(async move { (at, node.ending(&hash, &signer, &scope.token).await) });
            }
            match asked.join_next().await {
                None => return Ok(()),
                Some(Ok((at, ending))) => self.ended(at, &ending?),
                Some(Err(_)) => {}
            }
        }
    }

    fn ended(&self, at: usize, ending: &Ending) {
        let executed = ending.executed_in.as_ref().and_then(|hash| self.times.get(hash)).copied();
        let mut seen = self.lock();
        let seen = &mut *seen;
        let transaction = &mut seen.transactions[at];
        transaction.executed = executed;
        transaction.state = match (ending.is_final, ending.succeeded) {
            // Its block has not been read yet: it will have been in the next round. One that failed before it got that
            // far has none.
            (true, Some(ok)) if executed.is_some() || ending.executed_in.is_none() => State::Final(ok),
            (_, Some(ok)) => State::Executed(ok),
            (_, None) => State::Included,
        };
        let State::Final(succeeded) = transaction.state else { return };
        seen.open -= 1;
        for number in std::mem::take(&mut transaction.numbers) {
            if !succeeded {
                continue;
            }
            let landings = &mut seen.landings[number as usize];
            seen.landed += u64::from(*landings == 0);
            *landings = landings.saturating_add(1);
            if let Some(block) = executed {
                let due = self.script.due(self.script.request_of(number)).as_secs_f64();
                seen.to_chain.record(Duration::from_secs_f64((block.seconds - due).max(0.0)));
            }
        }
    }
}

impl Seen {
    /// Whether the chain has been quiet for so many final blocks: nothing of this load came, and nothing is open.
    pub fn is_quiet_for(&self, blocks: u64) -> bool {
        self.open == 0 && self.walked >= self.latest + blocks
    }

    /// How many landed transactions carry so many transfers.
    pub fn batch_sizes(&self) -> BTreeMap<u32, u64> {
        let mut sizes = BTreeMap::new();
        for transaction in &self.transactions {
            if transaction.state == State::Final(true) {
                *sizes.entry(transaction.transfers).or_default() += 1;
            }
        }
        sizes
    }
}
