//! P6: the same name is the same transfer, wherever it is by now; and whatever settled is found, wherever it is by now.
use std::{sync::Barrier, time::Instant};

use keyshard_shard::{BatchId, Carried, IdempotencyKey, RecoveredSettled, RecoveredTransfer};
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::{Job, JobStatus, NewTransfer, Refused, Ticket};

/// An engine on a directory of its own.
struct Bench {
    rig: Option<Rig>,
    doors: Vec<Door>,
    directory: TempDir,
    kept: usize,
}

impl Bench {
    fn new(doors: usize, kept: usize) -> Self {
        let mut bench = Self { rig: None, doors: Vec::new(), directory: tempfile::tempdir().unwrap(), kept };
        bench.start(doors, Recovered::default());
        bench
    }

    fn start(&mut self, doors: usize, recovered: Recovered) {
        let (rig, doors) = Rig::start(self.directory.path(), doors, 1_000, self.kept, recovered).unwrap();
        (self.rig, self.doors) = (Some(rig), doors);
    }

    /// The end of a life without a word.
    fn stop(&mut self) {
        self.doors.clear();
        self.rig = None;
    }

    fn rig(&mut self) -> &mut Rig {
        self.rig.as_mut().unwrap()
    }

    fn submit(&mut self, transfers: &[NewTransfer]) -> Result<Ticket, Refused> {
        self.doors[0].submit(transfers.to_vec())
    }

    fn job(&mut self, id: Uuid) -> Job {
        self.rig().engine().job(id).unwrap()
    }

    /// Signs, and pays or fails.
    fn settle(&mut self, transfers: &[Arc<Transfer>], outcome: &News) -> CryptoHash {
        let ids: Vec<TransferId> = transfers.iter().map(|transfer| transfer.id).collect();
        let hash = CryptoHash::hash_bytes(&ids[0].0.to_le_bytes());
        let at = keyshard_shard::Instant::from_micros(1_000_000);
        self.rig().tell(&ids, &News::Accepted);
        self.rig().tell(&ids, &News::Signed { hash, batch: BatchId { at, number: 1 }, at });
        self.rig().tell(&ids, outcome);
        hash
    }

    /// Until everything that has settled is saved, and nothing of it above the bound is on the board.
    fn wait_saved(&mut self) {
        let begun = Instant::now();
        while self.rig().unsaved() > 0 {
            assert!(begun.elapsed() < Duration::from_mins(1), "the history does not save");
            std::thread::yield_now();
        }
    }

    fn wait_evicted(&mut self, id: Uuid) {
        let begun = Instant::now();
        while self.rig().is_on_board(TransferId(id.as_u128())) {
            assert!(begun.elapsed() < Duration::from_mins(1), "it stays on the board");
            std::thread::yield_now();
        }
    }
}

fn transfer(user: u32, key: Option<(&str, u32)>) -> NewTransfer {
    let key = key.map(|(name, of)| IdempotencyKey { name: name.into(), of });
    NewTransfer { receiver: format!("user{user}.near").parse().unwrap(), amount: 5, memo: None, key }
}

fn named(name: &str) -> NewTransfer {
    transfer(1, Some((name, 1)))
}

/// A request of `n`, named as a whole.
fn batch(name: &str, n: u32) -> Vec<NewTransfer> {
    (0..n).map(|i| transfer(i, Some((&format!("{name}#{i}"), n)))).collect()
}

fn reused(name: &str) -> Refused {
    Refused::KeyReused { name: name.into() }
}

/// Whether a ticket is answerable, and durable, at this moment.
fn state(ticket: &Ticket) -> (bool, bool) {
    let now = |future: std::pin::Pin<Box<dyn Future<Output = ()> + '_>>| {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut future = future;
        future.as_mut().poll(&mut context).is_ready()
    };
    (now(Box::pin(ticket.answerable())), now(Box::pin(ticket.durable())))
}

#[test]
fn a_known_name_is_the_same_transfer_at_every_stage_of_it() {
    let mut bench = Bench::new(2, 0);
    let first = bench.submit(&[named("a")]).unwrap();
    let id = first.ids()[0];
    assert!(!first.replayed());
    let again = |bench: &mut Bench, expected: (bool, bool)| {
        let ticket = bench.doors[1].submit(vec![named("a")]).unwrap();
        assert_eq!((ticket.ids(), ticket.replayed(), state(&ticket)), (&[id][..], true, expected));
        ticket
    };
    let in_the_ring = again(&mut bench, (false, false));
    let taken = bench.rig().take();
    assert_eq!(taken.len(), 1, "one transfer only");
    assert_eq!(taken[0].key, named("a").key);
    let ids = [taken[0].id];
    bench.rig().tell(&ids, &News::Accepted);
    let durable = again(&mut bench, (false, true));
    let at = keyshard_shard::Instant::from_micros(1);
    bench.rig().tell(&ids, &News::Signed { hash: CryptoHash::default(), batch: BatchId { at, number: 1 }, at });
    let signed = again(&mut bench, (false, true));
    assert_eq!(state(&first), (false, true));
    bench.rig().tell(&ids, &News::Reached { level: Level::ExecutedOptimistic });
    for ticket in [&first, &in_the_ring, &durable, &signed] {
        assert_eq!(state(ticket), (true, true), "all who wait are told");
    }
    again(&mut bench, (true, true));
    bench.rig().tell(&ids, &News::Finalized);
    again(&mut bench, (true, true));
    bench.wait_saved();
    bench.wait_evicted(id);
    again(&mut bench, (true, true));
    assert_eq!(bench.job(id).status, JobStatus::Finalized);
    assert_eq!(bench.rig().engine().job_by_key("a").unwrap().id, id);
    assert_eq!(bench.rig().engine().pending(), 0);
    bench.stop();
    bench.start(2, Recovered::default());
    again(&mut bench, (true, true));
    assert!(bench.rig().take().is_empty(), "nothing was accepted twice");
}

#[test]
fn another_body_is_refused_at_every_stage_and_nothing_of_its_request_is_accepted() {
    let mut bench = Bench::new(1, 0);
    let first = bench.submit(&[named("a")]).unwrap();
    let others = [
        NewTransfer { amount: 6, ..named("a") },
        NewTransfer { memo: Some(String::new()), ..named("a") },
        transfer(2, Some(("a", 1))),
        transfer(1, Some(("a", 2))),
    ];
    let refuse = |bench: &mut Bench, pending: usize| {
        for other in &others {
            let refused = bench.submit(&[named("new"), transfer(9, None), other.clone()]).err();
            assert_eq!(refused, Some(reused("a")), "{other:?}");
            assert_eq!(bench.rig().engine().pending(), pending);
            assert!(bench.rig().engine().job_by_key("new").is_none(), "the claim is undone");
        }
    };
    refuse(&mut bench, 1);
    let taken = bench.rig().take();
    assert_eq!(taken.len(), 1);
    bench.settle(&taken, &News::Failed { reason: "why not".into() });
    bench.wait_saved();
    bench.wait_evicted(first.ids()[0]);
    refuse(&mut bench, 0);
    bench.stop();
    bench.start(1, Recovered::default());
    refuse(&mut bench, 0);
    assert!(bench.rig().take().is_empty());
    let same = bench.submit(&[named("a")]).unwrap();
    assert_eq!(bench.job(same.ids()[0]).last_error.as_deref(), Some("why not"));
}

#[test]
fn a_request_joins_what_is_known_and_brings_what_is_new() {
    let mut bench = Bench::new(1, 0);
    let one = bench.submit(&[named("a")]).unwrap();
    let taken = bench.rig().take();
    bench.settle(&taken, &News::Finalized);
    bench.wait_evicted(one.ids()[0]);
    let two = bench.submit(&[named("b")]).unwrap();
    let asked = [named("c"), named("a"), transfer(1, None), named("b"), named("c")];
    let mixed = bench.submit(&asked).unwrap();
    let ids = mixed.ids().to_vec();
    assert_eq!((ids[1], ids[3], ids[4]), (one.ids()[0], two.ids()[0], ids[0]));
    assert!(!mixed.replayed());
    assert_eq!(bench.rig().engine().pending(), 3, "only new ones count");
    let taken = bench.rig().take();
    assert_eq!(taken.len(), 3);
    for transfer in taken {
        assert_eq!(state(&mixed), (false, false), "it waits for all that are open");
        bench.settle(&[transfer], &News::Finalized);
    }
    assert_eq!(state(&mixed), (true, true));
    let all = bench.submit(&asked[..2]).unwrap();
    assert!(all.replayed());
    let differs = bench.submit(&[named("d"), NewTransfer { amount: 7, ..named("d") }]).err();
    assert_eq!(differs, Some(reused("d")));
}

#[test]
fn a_replay_needs_no_room_and_a_refusal_for_want_of_room_claims_nothing() {
    let mut bench = Bench::new(1, 0);
    bench.submit(&[named("a")]).unwrap();
    bench.submit(&(0..998).map(|user| transfer(user, None)).collect::<Vec<_>>()).unwrap();
    let refused = bench.submit(&[named("a"), named("b"), named("c")]).err();
    assert_eq!(refused, Some(Refused::Full { pending: 999, requested: 2, limit: 1_000 }));
    assert!(bench.rig().engine().job_by_key("b").is_none());
    bench.submit(&[named("b")]).unwrap();
    assert!(bench.submit(&[named("a"), named("b")]).unwrap().replayed());
}

#[test]
fn one_and_many_cannot_have_the_same_name() {
    let mut bench = Bench::new(1, 0);
    bench.submit(&[named("lone")]).unwrap();
    bench.submit(&batch("many", 2)).unwrap();
    let refuse = |bench: &mut Bench| {
        assert_eq!(bench.submit(&batch("lone", 2)).err(), Some(reused("lone#0")));
        assert_eq!(bench.submit(&[named("many")]).err(), Some(reused("many")));
        assert_eq!(bench.submit(&batch("many", 3)).err(), Some(reused("many#0")), "a request of another size");
        assert!(bench.submit(&[named("lone")]).unwrap().replayed());
        assert!(bench.submit(&batch("many", 2)).unwrap().replayed());
        assert!(bench.submit(&batch("many", 2)[1..]).unwrap().replayed(), "a part of it, as it was");
        let both = [vec![named("both")], batch("both", 2)].concat();
        assert_eq!(bench.submit(&both).err(), Some(reused("both")));
        assert_eq!(bench.submit(&[named("both")]).map(|ticket| ticket.ids().len()), Ok(1));
        // The other names that look like it are no other form of it.
        assert!(bench.submit(&[named("lone#1"), named("lone#0")]).is_ok());
    };
    refuse(&mut bench);
    let taken = bench.rig().take();
    for transfer in taken {
        bench.settle(std::slice::from_ref(&transfer), &News::Finalized);
        bench.wait_evicted(Uuid::from_u128(transfer.id.0));
    }
    refuse(&mut bench);
}

#[test]
fn of_many_doors_at_once_one_accepts_and_the_others_join() {
    const DOORS: usize = 4;
    const ROUNDS: usize = 300;
    // Nothing stays on the board, and what comes is settled at once: names move to the history all the while.
    let mut bench = Bench::new(DOORS, 0);
    let mut rig = bench.rig.take().unwrap();
    let barrier = Barrier::new(DOORS);
    let done = std::sync::atomic::AtomicUsize::new(0);
    let (accepted, tickets) = std::thread::scope(|scope| {
        let doors: Vec<_> = bench.doors.drain(..).collect();
        let submitters: Vec<_> = doors
            .into_iter()
            .enumerate()
            .map(|(number, mut door)| {
                let (barrier, done) = (&barrier, &done);
                scope.spawn(move || {
                    let mut tickets = Vec::new();
                    for round in 0..ROUNDS {
                        barrier.wait();
                        // Requests that overlap in other orders; late ones meet what has left the board.
                        let (a, b) = (named(&format!("a{round}")), named(&format!("b{round}")));
                        let mut request = if number % 2 == 0 { vec![a, b] } else { vec![b, a] };
                        request.push(named(&format!("a{}", round / 2)));
                        let ticket = door.submit(request).unwrap();
                        let ids = ticket.ids();
                        tickets.push(if number % 2 == 0 { [ids[0], ids[1]] } else { [ids[1], ids[0]] });
                    }
                    done.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    tickets
                })
            })
            .collect();
        let mut accepted = Vec::new();
        loop {
            let all_done = done.load(std::sync::atomic::Ordering::SeqCst) == DOORS;
            let taken = rig.take();
            for transfer in &taken {
                let ids = [transfer.id];
                let at = keyshard_shard::Instant::from_micros(1);
                rig.tell(&ids, &News::Accepted);
                rig.tell(&ids, &News::Signed { hash: CryptoHash::default(), batch: BatchId { at, number: 1 }, at });
                rig.tell(&ids, &News::Finalized);
            }
            if taken.is_empty() && all_done {
                break;
            }
            accepted.extend(taken);
            std::thread::yield_now();
        }
        (accepted, submitters.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>())
    });
    assert_eq!(accepted.len(), 2 * ROUNDS, "each name once");
    for other in &tickets[1..] {
        assert_eq!(other, &tickets[0], "all have the same ids");
    }
}

#[test]
fn whatever_settled_is_found_on_the_board_and_in_the_history_alike() {
    let mut bench = Bench::new(1, 1_000);
    let ticket = bench.submit(&batch("many", 5)).unwrap();
    let taken = bench.rig().take();
    let (paid, failed) = taken.split_at(4);
    let hash = bench.settle(paid, &News::Finalized).to_string();
    bench.settle(failed, &News::Failed { reason: "why not".into() });
    let jobs = |bench: &mut Bench| -> Vec<Job> { ticket.ids().iter().map(|id| bench.job(*id)).collect() };
    let before = jobs(&mut bench);
    assert_eq!(before.iter().filter(|job| job.status == JobStatus::Finalized).count(), 4);
    assert_eq!(bench.rig().engine().jobs_by_hash(&hash), before[..4]);
    bench.stop();
    bench.kept = 2;
    bench.start(1, Recovered::default());
    assert_eq!(jobs(&mut bench), before);
    assert_eq!(bench.rig().engine().jobs_by_hash(&hash), before[..4]);
    assert_eq!(bench.rig().engine().job_by_key("many#4"), Some(before[4].clone()));
    // Half of a transaction on the board, the other half in the history.
    let ticket = bench.submit(&batch("next", 4)).unwrap();
    let taken = bench.rig().take();
    let hash = bench.settle(&taken, &News::Finalized).to_string();
    bench.wait_evicted(ticket.ids()[1]);
    assert!(bench.rig().is_on_board(TransferId(ticket.ids()[3].as_u128())));
    let ids: Vec<Uuid> = bench.rig().engine().jobs_by_hash(&hash).iter().map(|job| job.id).collect();
    assert_eq!(ids, ticket.ids());
    assert_eq!(bench.rig().engine().counts().finalized, 4);
}

#[test]
fn what_a_life_leaves_open_or_settled_keeps_its_names() {
    let mut bench = Bench::new(1, 0);
    let body = |name: &str, id: u128| Transfer { id: TransferId(id), ..named(name).accepted_as(Uuid::nil()) };
    let at = keyshard_shard::Instant::from_micros(1_000_000);
    let batch = BatchId { at, number: 1 };
    let hash = CryptoHash::hash_bytes(b"one");
    let settled = RecoveredSettled {
        transfer: body("settled", 1),
        accepted_at: at,
        settled_at: at + Duration::from_secs(1_900_000_000),
        outcome: Ok(()),
        carried: Some(Carried { hash, batch, position: 0 }),
        tried: Vec::new(),
    };
    let open =
        RecoveredTransfer { transfer: body("open", 2).into(), accepted_at: at, carried_by: None, tried: [hash].into() };
    for life in 0..3 {
        bench.stop();
        let recovered =
            Recovered { transfers: vec![open.clone()], settled: vec![settled.clone()], ..Recovered::default() };
        bench.start(1, recovered);
        let ticket = bench.submit(&[named("settled"), named("open")]).unwrap();
        assert_eq!(ticket.ids(), [Uuid::from_u128(1), Uuid::from_u128(2)], "life {life}");
        assert!(ticket.replayed());
        assert_eq!(state(&ticket), (false, true), "open, and in the journal");
        assert_eq!(bench.submit(&[transfer(7, Some(("open", 1)))]).err(), Some(reused("open")));
        let ids: Vec<Uuid> = bench.rig().engine().jobs_by_hash(&hash.to_string()).iter().map(|job| job.id).collect();
        assert_eq!(ids, [Uuid::from_u128(1), Uuid::from_u128(2)], "the paid one, then the one it was tried for");
    }
    bench.rig().tell(&[TransferId(2)], &News::Failed { reason: "so".into() });
    bench.wait_evicted(Uuid::from_u128(2));
    let ticket = bench.submit(&[named("open")]).unwrap();
    assert_eq!(state(&ticket), (true, true));
    assert!(bench.rig().take().is_empty());
}
