//! `keyshard-sim`: lives seeds until one breaks a promise.
#![allow(clippy::print_stdout, reason = "a command line tool")]

use std::{
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::Parser;
use keyshard_sim::{Options, Outcome, faults::Fault, live, shrink::shrink, tally::Tally};

/// Lives seeds in a simulated world; exits with 1 and tells the story of the first that breaks a promise.
#[derive(Parser)]
#[command(name = "keyshard-sim")]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Threads; each lives seeds of its own.
    #[arg(long)]
    jobs: Option<usize>,
    /// Go on after failures, and only count them.
    #[arg(long)]
    all: bool,
    /// Tell the story of this seed, whether it breaks a promise or not.
    #[arg(long)]
    tell: Option<u64>,
    /// Live seeds with each known bug until it is caught; exits with 1 if one is not.
    #[cfg(feature = "mutants")]
    #[arg(long)]
    mutants: bool,
    /// Give the service this known bug, e.g. `ResignOnExpired`.
    #[cfg(feature = "mutants")]
    #[arg(long)]
    mutant: Option<String>,
}

/// What all seeds came to.
#[derive(Default)]
struct Totals {
    payments: u64,
    transactions: u64,
    lives: u64,
    seconds: u64,
    failed: Vec<Outcome>,
    slowest: Vec<(u128, u64)>,
    faults: Vec<u64>,
    tally: Tally,
}

fn main() -> ExitCode {
    keyshard_sim::keep_panics();
    let args = Args::parse();
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into)).max(1);
    #[cfg(feature = "mutants")]
    if args.mutants {
        return gate(args.start, jobs);
    }
    #[cfg(feature = "mutants")]
    let mutant = keyshard_shard::mutants::Mutant::ALL
        .into_iter()
        .find(|mutant| args.mutant.as_ref().is_some_and(|name| format!("{mutant:?}") == *name));
    #[cfg(feature = "mutants")]
    keyshard_shard::mutants::choose(mutant);
    if let Some(seed) = args.tell {
        return tell(seed);
    }
    let (next, stop) = (AtomicU64::new(args.start), AtomicBool::new(false));
    let end = args.start.saturating_add(args.seeds);
    let totals = Mutex::new(Totals { faults: vec![0; Fault::ALL.len()], ..Totals::default() });
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                #[cfg(feature = "mutants")]
                keyshard_shard::mutants::choose(mutant);
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let began = Instant::now();
                    let outcome = live(seed, &Options::default());
                    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                    totals.payments += outcome.payments as u64;
                    totals.transactions += outcome.transactions as u64;
                    totals.lives += outcome.lives;
                    totals.seconds += outcome.seconds;
                    totals.tally.add(&outcome.tally);
                    totals.slowest.push((began.elapsed().as_micros(), seed));
                    totals.slowest.sort_unstable_by(|a, b| b.cmp(a));
                    totals.slowest.truncate(3);
                    for (fault, _) in &outcome.faults {
                        totals.faults[*fault as usize] += 1;
                    }
                    if outcome.broken.is_some() {
                        totals.failed.push(outcome);
                        stop.fetch_or(!args.all, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    let took = started.elapsed();
    println!(
        "{} payments in {} transactions, {} lives, {} h of fake time, {:.1} s",
        totals.payments,
        totals.transactions,
        totals.lives,
        totals.seconds / 3_600,
        took.as_secs_f64()
    );
    for (what, times) in totals.tally.iter() {
        println!("  {times:>9} {what}");
    }
    if args.all {
        println!("slowest seeds (us): {:?}", totals.slowest);
        let mut failed: Vec<&Outcome> = totals.failed.iter().collect();
        failed.sort_unstable_by_key(|outcome| outcome.seed);
        for outcome in failed.iter().take(20) {
            if let Some(broken) = &outcome.broken {
                println!("seed {}: {}: {}", outcome.seed, broken.promise, broken.why);
            }
        }
        return if totals.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    match totals.failed.iter().min_by_key(|outcome| outcome.seed) {
        None => {
            println!("no promise was broken");
            ExitCode::SUCCESS
        }
        Some(failed) => tell(failed.seed),
    }
}

/// Prints the shortest story of a seed that fails, or all of one that does not.
fn tell(seed: u64) -> ExitCode {
    let (least, outcome) = shrink(seed, &Options::default());
    for line in &outcome.lines {
        println!("{:>10.3} s  {}", line.at as f64 / 1e6, line.what);
    }
    let Some(broken) = &outcome.broken else {
        println!("seed {seed} breaks no promise");
        return ExitCode::SUCCESS;
    };
    println!("seed {seed} breaks {}: {}", broken.promise, broken.why);
    let left: Vec<&str> =
        Fault::ALL.iter().filter(|fault| !least.without.contains(**fault)).map(|fault| fault.name()).collect();
    println!(
        "with {} requests, {} endpoints and {} lives, and of all faults only: {}",
        some(least.requests as u64),
        some(least.endpoints as u64),
        some(least.lives),
        left.join(", ")
    );
    ExitCode::FAILURE
}

/// A bound, if it is one.
fn some(bound: u64) -> String {
    if bound == u64::MAX { "any number of".into() } else { format!("at most {bound}") }
}

/// Prints which seed catches each known bug.
#[cfg(feature = "mutants")]
fn gate(start: u64, jobs: usize) -> ExitCode {
    use keyshard_sim::gate::{Caught, catch};
    let mut all_caught = true;
    println!("| known bug | caught by seed | must be within | breaks |");
    println!("|---|---|---|---|");
    for mutant in keyshard_shard::mutants::Mutant::ALL {
        let Caught { within, by, .. } = catch(mutant, start, jobs);
        let within = start.saturating_add(within);
        if let Some((seed, broken)) = by.and_then(|outcome| Some((outcome.seed, outcome.broken?))) {
            let why: String = broken.why.chars().take(100).collect();
            println!("| {mutant:?} | {seed} | {within} | {}: {why} |", broken.promise);
        } else {
            all_caught = false;
            println!("| {mutant:?} | NOT CAUGHT | {within} | |");
        }
    }
    if all_caught { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
