//! Models of the protocols between threads (loom): the very code of [`crate::ring`] and [`crate::backlog`], run through
//! every interleaving of a few threads. A wake-up that is lost shows as a deadlock. The journal's are beside its tests.
//!
//! `cargo test -p keyshard-engine --features loom --lib models`
use std::sync::Arc;

use loom::{future::block_on, thread};

use crate::{
    backlog::Backlog,
    door::Refused,
    ring::Bell,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// Tries every interleaving with at most so many switches away from a thread that could go on.
pub(crate) fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    let runs = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = runs.clone();
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{} interleavings", runs.load(Ordering::Relaxed));
}

/// Two ring after they left something; the sleeper waits until it has seen both.
///
/// Fails, as it should, without the second look in `Bell::rung`, when `ring` wakes before it marks, when `rung` leaves the
/// mark where it is, and with relaxed marks.
#[test]
fn a_bell_loses_no_ring() {
    check(3, || {
        let bell = Bell::default();
        let left: Arc<[AtomicBool; 2]> = Arc::default();
        let ringers = [0, 1].map(|i| {
            let (bell, left) = (bell.clone(), left.clone());
            thread::spawn(move || {
                left[i].store(true, Ordering::Relaxed);
                bell.ring();
            })
        });
        while !left.iter().all(|left| left.load(Ordering::Relaxed)) {
            block_on(bell.rung());
        }
        for ringer in ringers {
            ringer.join().unwrap();
        }
    });
}

/// One rings twice; the sleeper hears it at least once and at most twice, and sees all that was left before.
#[test]
fn a_bell_rings_no_more_often_than_it_was_rung() {
    check(3, || {
        let bell = Bell::default();
        let left = Arc::new(AtomicUsize::new(0));
        let ringer = {
            let (bell, left) = (bell.clone(), left.clone());
            thread::spawn(move || {
                for i in 1..=2 {
                    left.store(i, Ordering::Relaxed);
                    bell.ring();
                }
            })
        };
        let mut heard = 0;
        while left.load(Ordering::Relaxed) < 2 {
            block_on(bell.rung());
            heard += 1;
            assert!(left.load(Ordering::Relaxed) >= heard, "rung {heard} times");
        }
        ringer.join().unwrap();
    });
}

/// A request comes while the engine drains: it is refused, or the drain waits for it; and a drain ends.
///
/// Fails, as it should, when `drain` looks before it listens, when `settled` tells nobody, and when `admit` looks in one
/// step and counts in another.
#[test]
fn a_drain_overlooks_no_request_and_ends() {
    check(3, || {
        let backlog = Arc::new(Backlog::new(10, 1));
        let unsettled = Arc::new(AtomicUsize::new(1));
        let door = {
            let (backlog, unsettled) = (backlog.clone(), unsettled.clone());
            thread::spawn(move || match backlog.admit(2) {
                Ok(_) => {
                    unsettled.fetch_add(2, Ordering::Relaxed);
                    settle(&backlog, &unsettled, 2);
                }
                Err(refused) => assert_eq!(refused, Refused::Draining),
            })
        };
        let shard = {
            let (backlog, unsettled) = (backlog.clone(), unsettled.clone());
            thread::spawn(move || settle(&backlog, &unsettled, 1))
        };
        block_on(backlog.drain());
        assert_eq!(unsettled.load(Ordering::Relaxed), 0, "drained");
        assert_eq!((backlog.open(), backlog.admit(1)), (0, Err(Refused::Draining)));
        door.join().unwrap();
        shard.join().unwrap();
    });
}

fn settle(backlog: &Backlog, unsettled: &AtomicUsize, transfers: usize) {
    unsettled.fetch_sub(transfers, Ordering::Relaxed);
    backlog.settled(transfers);
}

/// Two doors: never more than the limit is admitted. Fails, as it should, when `admit` looks and counts in two steps.
#[test]
fn a_backlog_holds_its_limit() {
    check(3, || {
        let backlog = Arc::new(Backlog::new(3, 0));
        let admitted = Arc::new(AtomicUsize::new(0));
        let doors = [(); 2].map(|()| {
            let (backlog, admitted) = (backlog.clone(), admitted.clone());
            thread::spawn(move || {
                if backlog.admit(2).is_ok() {
                    assert_eq!(admitted.fetch_add(2, Ordering::Relaxed), 0, "4 of 3");
                    admitted.fetch_sub(2, Ordering::Relaxed);
                    backlog.settled(2);
                }
            })
        });
        for door in doors {
            door.join().unwrap();
        }
        assert_eq!(backlog.open(), 0);
    });
}
