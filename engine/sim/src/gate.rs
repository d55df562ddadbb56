//! The mutation gate: known bugs, each of which the simulator must catch within so many seeds.
use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use keyshard_shard::mutants::{Mutant, choose};

use crate::{Options, Outcome, live};

/// How a known bug fared.
#[derive(Debug)]
pub struct Caught {
    /// The bug.
    pub mutant: Mutant,
    /// Within how many seeds it must be caught.
    pub within: u64,
    /// The first seed that caught it, if one did.
    pub by: Option<Outcome>,
}

/// Within how many seeds each bug must be caught: several times what it took when this was written, so that a change
/// that makes the simulator much weaker is seen.
pub fn within(mutant: Mutant) -> u64 {
    match mutant {
        Mutant::AcknowledgeBeforeSync
        | Mutant::AllowanceIgnored
        | Mutant::FinalBeforeFinal
        | Mutant::IgnoreFailedSync
        | Mutant::NonceReused
        | Mutant::RequeueInFlight
        | Mutant::SendBeforeSync
        | Mutant::TimeoutMeansNotSent => 100,
        Mutant::CancelInFlight
        | Mutant::FailedOnQueryError
        | Mutant::IdempotencyForgotten
        | Mutant::InvalidTxErrorIsProof
        | Mutant::ResignOnExpired
        | Mutant::ResignOnInvalidNonce => 300,
        Mutant::IndexOffByOne => 1_000,
    }
}

/// Lives seeds with a bug until one breaks a promise.
pub fn catch(mutant: Mutant, start: u64, jobs: usize) -> Caught {
    let within = within(mutant);
    let next = AtomicU64::new(start);
    let caught: Mutex<Option<Outcome>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                choose(Some(mutant));
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let before = |outcome: &Outcome| outcome.seed < seed;
                    let is_caught = caught.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(before);
                    if seed >= start.saturating_add(within) || is_caught {
                        return;
                    }
                    let outcome = live(seed, &Options::default());
                    if outcome.broken.is_some() {
                        // The first seed of all, whatever thread was faster.
                        let mut caught = caught.lock().unwrap_or_else(PoisonError::into_inner);
                        if caught.as_ref().is_none_or(|other| seed < other.seed) {
                            *caught = Some(outcome);
                        }
                    }
                }
            });
        }
    });
    Caught { mutant, within, by: caught.into_inner().unwrap_or_else(PoisonError::into_inner) }
}
