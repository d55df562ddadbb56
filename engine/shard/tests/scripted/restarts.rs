//! Lives that end and begin: what was durable is taken over, nothing is signed twice.
use std::time::Duration;

use crate::common::{Bench, settings};
use keyshard_shard::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_was_in_flight_is_asked_about_first_and_sent_again_byte_for_byte() {
    let mut bench = Bench::new(settings(), 2);
    let id = bench.accept("user1.near");
    bench.tick();
    let sent = bench.last();
    bench.restart(settings(), &[0, 1]);
    assert_eq!(bench.sent.len(), 1, "first the question");
    bench.fate(sent.hash(), 1_000, Known::No);
    bench.pass(SECOND);
    let again = bench.last();
    assert_eq!((bench.sent.len(), again.hash()), (2, sent.hash()));
    bench.land(&again);
    assert!(bench.is_finalized(id));
}

#[test]
fn what_had_landed_is_not_paid_again() {
    let mut bench = Bench::new(settings(), 1);
    let id = bench.accept("user1.near");
    bench.tick();
    let sent = bench.last();
    bench.restart(settings(), &[0]);
    let landed = Status { level: Some(Level::Final), execution: Execution::Success, gas_burnt: None };
    bench.fate(sent.hash(), 1_001, Known::Yes(landed));
    assert!(bench.is_finalized(id));
    bench.pass(10 * SECOND);
    assert_eq!(bench.sent.len(), 1);
}

#[test]
fn what_had_settled_stays_settled() {
    let mut bench = Bench::new(settings(), 1);
    let (paid, failed) = (bench.accept("user1.near"), bench.accept("user2.near"));
    bench.tick();
    bench.fail_at(&bench.last(), 1, "Smart contract panicked: Balance overflow");
    bench.land(&bench.last());
    assert!(bench.is_finalized(paid) && bench.failure(failed).is_some());
    let sent = bench.sent.len();
    for _ in 0..3 {
        bench.restart(settings(), &[0]);
        bench.pass(10 * SECOND);
    }
    assert_eq!(bench.sent.len(), sent);
}

#[test]
fn what_waited_goes_out_once_everything_in_flight_was_asked_about() {
    let mut bench = Bench::new(Settings { window: 1, max_batch: 1, ..settings() }, 1);
    let (first, second) = (bench.accept("user1.near"), bench.accept("user2.near"));
    bench.pass(SECOND);
    let sent = bench.last();
    assert_eq!(bench.sent.len(), 1, "the window is full");
    bench.restart(settings(), &[0, 1]);
    bench.pass(5 * SECOND);
    assert_eq!(bench.sent.len(), 1);
    assert!(bench.shard.conditions(bench.now).contains(&Condition::Recovering(1)));
    bench.overtake(sent.hash(), 1_001);
    bench.pass(SECOND);
    let mut receivers: Vec<_> = bench.sent[1..].iter().flat_map(crate::common::Sent::receivers).collect();
    receivers.sort_unstable();
    assert_eq!(receivers, ["user1.near", "user2.near"]);
    for sent in bench.sent.clone().into_iter().skip(1) {
        bench.land(&sent);
    }
    assert!(bench.is_finalized(first) && bench.is_finalized(second));
}

#[test]
fn a_transaction_of_a_key_that_is_gone_is_followed_to_its_end() {
    let mut bench = Bench::new(settings(), 1);
    let id = bench.accept("user1.near");
    bench.tick();
    let sent = bench.last();
    bench.restart(settings(), &[1, 2]);
    bench.fate(sent.hash(), 1_000, Known::No);
    bench.pass(SECOND);
    assert_eq!(bench.last().hash(), sent.hash(), "its bytes can still be sent");
    bench.lose(bench.last().id);
    bench.head(1_101);
    bench.pass(SECOND);
    bench.refuse(bench.last().id, Refusal::Expired);
    bench.pass(10 * SECOND);
    bench.fate(sent.hash(), 1_000, Known::No);
    let again = bench.last();
    assert_ne!(again.hash(), sent.hash());
    assert_ne!(again.transaction.transaction.public_key(), sent.transaction.transaction.public_key());
    bench.land(&again);
    assert!(bench.is_finalized(id));
}

#[test]
fn nonces_go_on_above_the_journal_even_if_the_chain_has_not_seen_them() {
    let mut bench = Bench::new(settings(), 1);
    bench.accept("user1.near");
    bench.tick();
    let sent = bench.last();
    bench.restart(settings(), &[0]);
    bench.fate(sent.hash(), 1_000, Known::No);
    bench.accept("user2.near");
    bench.pass(SECOND);
    let nonces: Vec<_> = bench.sent.iter().map(crate::common::Sent::nonce).collect();
    assert!(nonces.contains(&(sent.nonce() + 1)), "{nonces:?}");
}

#[test]
fn a_crash_after_any_record_leads_to_a_life_that_pays_each_once() {
    // One full story, cut after each of its records.
    let story = |bench: &mut Bench| {
        for i in 0..3 {
            bench.accept(&format!("user{i}.near"));
        }
        bench.accept("fresh1.near");
        bench.tick();
        bench.fail_at(&bench.last(), 1, "Smart contract panicked: Transfers to this account are paused");
        bench.land(&bench.last());
    };
    let mut whole = Bench::new(settings(), 2);
    story(&mut whole);
    for cut in 0..=whole.records.len() {
        let mut bench = Bench::new(settings(), 2);
        story(&mut bench);
        bench.cut(cut);
        let open_before = bench.open_in_records();
        bench.restart(settings(), &[0, 1]);
        // The node knows nothing of what was cut off, and everything expires.
        for _ in 0..40 {
            bench.head(bench.height + 50);
            for (id, query) in std::mem::take(&mut bench.queries) {
                let (height, known) = (bench.height, Known::No);
                if matches!(query, Query::Fate { .. }) {
                    let fate =
                        Fate { key_nonce: Some(0), final_height: height, earliest_height: 0, known, endpoint: 0 };
                    bench.reply(id, Reply::Fate(fate));
                }
            }
            let life = bench.signed_since_restart();
            for sent in bench.sent.clone().into_iter().filter(|sent| life.contains(&sent.hash())) {
                bench.land(&sent);
            }
            bench.pass(5 * SECOND);
        }
        for id in open_before {
            assert!(bench.is_finalized(id), "cut after {cut}: {id:?} {:?}", bench.news.get(&id));
        }
    }
}

#[test]
fn a_checkpoint_makes_older_records_needless() {
    let mut bench = Bench::new(Settings { window: 1, ..settings() }, 1);
    let paid = bench.accept("user1.near");
    bench.tick();
    bench.land(&bench.last());
    let carried = bench.accept("user2.near");
    bench.tick();
    let waiting = bench.accept("user3.near");
    bench.pass(SECOND);
    let sent = bench.last();
    bench.input(Input::Checkpoint);
    let begin = bench.records.iter().rposition(|record| matches!(record, Record::Begin { .. })).unwrap();
    assert!(begin > 1, "not the one at the beginning of the life");
    let whole = bench.recovered();
    bench.drop_before(begin);
    let rest = bench.recovered();
    assert_eq!((&rest.transfers, &rest.attempts), (&whole.transfers, &whole.attempts));
    assert_eq!(rest.transfers.len(), 2);

    bench.restart(settings(), &[0]);
    let landed = Status { level: Some(Level::Final), execution: Execution::Success, gas_burnt: None };
    bench.fate(sent.hash(), 1_002, Known::Yes(landed));
    bench.land(&bench.last());
    assert!([paid, carried, waiting].iter().all(|id| bench.is_finalized(*id)));
    assert_eq!(bench.sent.len(), 3);
}

#[test]
fn a_life_that_dies_while_it_takes_over_leaves_everything_as_it_was() {
    let mut bench = Bench::new(Settings { window: 1, max_batch: 2, ..settings() }, 1);
    for i in 0..5 {
        bench.accept(&format!("user{i}.near"));
    }
    bench.pass(SECOND);
    let before = bench.recovered();
    bench.restart(settings(), &[0]);
    let repeated = bench.records.len();
    for cut in bench.life_began..=repeated {
        bench.cut(cut);
        let after = bench.recovered();
        assert_eq!((after.transfers, after.attempts), (before.transfers.clone(), before.attempts.clone()), "cut {cut}");
    }
}

#[test]
fn what_is_called_final_is_so_after_a_restart() {
    let mut bench = Bench::new(settings(), 1);
    let ids = [bench.accept("user1.near"), bench.accept("user2.near")];
    bench.tick();
    bench.journal = false;
    bench.land(&bench.last());
    assert!(ids.iter().all(|id| !bench.is_settled(*id)), "the record of the end is not durable");
    bench.make_durable();
    assert!(ids.iter().all(|id| bench.is_finalized(*id)));
    assert!(bench.open_in_records().is_empty());
}

#[test]
fn a_failure_is_told_only_when_a_restart_would_tell_the_same() {
    let mut bench = Bench::new(settings(), 1);
    let id = bench.accept("user1.near");
    bench.tick();
    bench.journal = false;
    bench.fail_at(&bench.last(), 0, "Smart contract panicked: Balance overflow");
    assert!(!bench.is_settled(id), "the record of the failure is not durable");
    bench.make_durable();
    assert!(bench.failure(id).is_some());
    assert!(bench.recovered().transfers.is_empty());
}

#[test]
fn a_checkpoint_forgets_no_queue() {
    // One transfer in each place where a transfer can be.
    let mut bench = Bench::new(Settings { window: 2, max_batch: 8, ..settings() }, 1);
    let failing = "Smart contract panicked: Transfers to this account are paused";
    let mut ids: Vec<_> = (0..8).map(|i| bench.accept(&format!("user{i}.near"))).collect();
    bench.tick();
    // Undone twice: the rest goes in parts; the culprits wait for later and then travel alone.
    bench.fail_at(&bench.last(), 0, failing);
    bench.fail_at(&bench.last(), 0, failing);
    ids.extend((0..20).map(|i| bench.accept(&format!("more{i}.near"))));
    bench.pass(SECOND);
    bench.input(Input::Checkpoint);
    let begin = bench.records.iter().rposition(|record| matches!(record, Record::Begin { .. })).unwrap();
    bench.drop_before(begin);
    let mut open = bench.open_in_records();
    open.sort_unstable();
    assert_eq!(open, ids);
}

#[test]
fn a_nonce_is_not_signed_again_by_a_later_life_even_if_nothing_of_it_is_open() {
    let mut bench = Bench::new(settings(), 2);
    bench.accept("user1.near");
    bench.tick();
    let first = bench.last();
    bench.head(1_101);
    bench.refuse(first.id, Refusal::Expired);
    bench.pass(2 * SECOND);
    bench.fate(first.hash(), 1_000, Known::No);
    bench.land(&bench.last());
    for keys in [&[1][..], &[0, 1], &[0, 1]] {
        bench.restart(settings(), keys);
        bench.tick();
    }
    // The bench asserts that no nonce is signed twice.
    for i in 0..3 {
        bench.accept(&format!("user{i}.near"));
        bench.pass(SECOND);
    }
    assert_eq!(bench.sent.len(), 5);
}
