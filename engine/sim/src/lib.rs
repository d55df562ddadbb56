//! The simulator of Keyshard: the real shard and the real journal in a world made from one seed.
//!
//! One thread, a fake clock, a fake disk, a fake network and fake clients; everything that happens follows from the seed,
//! so a seed that fails fails again. What may go wrong is listed in [`faults`], what must hold is checked in `promises.rs`.
//! The chain is the sandbox's ([`keyshard_sandbox::chain`]), so that its rules are the same here and there.
mod chain;
mod clients;
mod disk;
mod door;
pub mod faults;
#[cfg(feature = "mutants")]
pub mod gate;
mod node;
mod promises;
mod random;
mod service;
pub mod shrink;
pub mod story;
pub mod tally;
mod words;
mod world;

use std::cell::RefCell;

use faults::{Fault, Without};
pub use promises::Broken;
use story::Line;
use tally::Tally;
use world::World;

/// How a seed is lived: what is left out, to find the shortest story of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Kinds of faults that do not strike.
    pub without: Without,
    /// Most requests of clients.
    pub requests: usize,
    /// Most endpoints.
    pub endpoints: usize,
    /// Lives after which nobody is killed any more.
    pub lives: u64,
    /// Whether the story is written down.
    pub story: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { without: Without::default(), requests: usize::MAX, endpoints: usize::MAX, lives: u64::MAX, story: false }
    }
}

/// How the life of a seed ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The promise that was broken, if any.
    pub broken: Option<Broken>,
    /// What happened, if it was to be written down.
    pub lines: Vec<Line>,
    /// What could go wrong, each so often in a thousand times.
    pub faults: Vec<(Fault, u32)>,
    /// Payments that clients asked for.
    pub payments: usize,
    /// Transactions whose bytes left.
    pub transactions: usize,
    /// Processes that were started.
    pub lives: u64,
    /// Seconds of the fake clock.
    pub seconds: u64,
    /// What was met.
    pub tally: Tally,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Lives a seed. An assertion of the service that ends the process is a broken promise, too.
pub fn live(seed: u64, options: &Options) -> Outcome {
    let lived = std::panic::catch_unwind(|| World::new(seed, options).live(seed));
    lived.unwrap_or_else(|_| {
        let why = PANIC.take().unwrap_or_else(|| "a panic".into());
        let promise =
            ["P1", "P2", "P3", "P4", "P5", "P6", "P7"].into_iter().find(|name| why.contains(&format!("{name}:")));
        Outcome {
            seed,
            broken: Some(Broken { promise: promise.unwrap_or("assert"), why, payments: Vec::new() }),
            lines: Vec::new(),
            faults: Vec::new(),
            payments: 0,
            transactions: 0,
            lives: 0,
            seconds: 0,
            tally: Tally::default(),
        }
    })
}

/// Keeps the words of panics for the outcome instead of printing them.
pub fn keep_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANIC.set(Some(panic.to_string().replace('\n', ": ")));
    }));
}
