//! What a person orders, and the limit on spending.
use std::time::Duration;

use keyshard_shard::*;

use crate::common::{Bench, settings};

fn limited() -> Bench {
    Bench::new(Settings { spend_limited: true, max_batch: 3, ..settings() }, 2)
}

/// The last question, which must be about the limit.
fn asked(bench: &Bench) -> (AskId, u128, u128) {
    match bench.queries.last() {
        Some((id, Query::Allowance { least, most })) => (*id, *least, *most),
        other => panic!("{other:?}"),
    }
}

fn used_up(seconds: u64) -> Reply {
    Reply::NoAllowance { why: "used up".into(), retry_after: Duration::from_secs(seconds) }
}

#[test]
fn a_batch_takes_of_the_limit_what_it_needs_and_not_more() {
    let mut bench = limited();
    for _ in 0..4 {
        bench.accept("user1.near");
    }
    bench.tick();
    let (id, least, most) = asked(&bench);
    assert_eq!((least, most, bench.sent.len()), (10, 30, 0), "for a full batch, at least for one");
    bench.reply(id, Reply::Allowance(25));
    // The rest of the batch is asked for once more, then it goes with what there is.
    let (id, least, most) = asked(&bench);
    assert_eq!((least, most, bench.sent.len()), (1, 5, 0));
    bench.reply(id, used_up(5));
    assert_eq!(bench.last().receivers().len(), 2);
    assert_eq!(bench.given_back, 5);
    assert_eq!(bench.shard.conditions(bench.now), [Condition::SpendLimit("used up".into())]);
    assert_eq!(bench.shard.stats().waiting, 2, "held, not dropped");

    bench.pass(Duration::from_secs(4));
    assert_eq!(bench.queries.len(), 2, "not asked again before there may be more");
    bench.pass(Duration::from_secs(1));
    let (id, least, most) = asked(&bench);
    assert_eq!((least, most, bench.queries.len()), (10, 20, 3));
    bench.reply(id, Reply::Allowance(20));
    assert_eq!((bench.sent.len(), bench.given_back), (2, 5));
    assert_eq!(bench.shard.conditions(bench.now), []);
}

#[test]
fn a_transfer_counts_once() {
    let mut bench = limited();
    let id = bench.accept("user1.near");
    bench.tick();
    bench.reply(asked(&bench).0, Reply::Allowance(10));
    let first = bench.last();
    bench.fail_at(&first, 0, "Smart contract panicked: try again");
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.sent.len(), 2, "signed again");
    assert_eq!(bench.queries.len(), 1, "without asking again");
    // Nor does another life ask, which finds it signed.
    let settings = Settings { spend_limited: true, ..settings() };
    bench.restart(settings, &[0, 1]);
    bench.tick();
    let again = bench.queries.last().unwrap().clone();
    assert!(matches!(again.1, Query::Status { .. } | Query::Fate { .. }), "{again:?}");
    let status = Status {
        level: Some(Level::Final),
        execution: Execution::Failed { index: Some(0), failure: Failure::Execution("again".into()) },
        gas_burnt: None,
    };
    bench.reply(again.0, Reply::Status { status, endpoint: 0 });
    bench.pass(Duration::from_secs(5));
    assert!(!bench.queries.iter().any(|(_, query)| matches!(query, Query::Allowance { .. })));
    assert_eq!(bench.sent.len(), 3);
    let third = bench.last();
    bench.land(&third);
    assert!(bench.is_finalized(id));
}

#[test]
fn what_was_taken_and_cannot_be_signed_is_given_back() {
    let mut bench = limited();
    bench.accept("user1.near");
    bench.tick();
    let (id, ..) = asked(&bench);
    bench.shard.pause(true);
    bench.reply(id, Reply::Allowance(10));
    assert_eq!((bench.sent.len(), bench.given_back), (0, 10));
    bench.shard.pause(false);
    bench.tick();
    bench.reply(asked(&bench).0, Reply::Allowance(10));
    assert_eq!(bench.sent.len(), 1);
}

#[test]
fn while_paused_nothing_new_is_signed_and_the_rest_goes_on() {
    let mut bench = Bench::new(settings(), 1);
    let before = bench.accept("user1.near");
    bench.tick();
    bench.shard.pause(true);
    let after = bench.accept("user2.near");
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.sent.len(), 1);
    assert!(bench.news[&after].contains(&News::Accepted));
    let first = bench.last();
    bench.land(&first);
    assert!(bench.is_finalized(before));
    assert_eq!(bench.shard.conditions(bench.now), [Condition::Paused]);
    bench.shard.pause(false);
    bench.tick();
    assert_eq!(bench.last().receivers(), ["user2.near"]);
}

#[test]
fn a_key_in_quarantine_signs_nothing_new() {
    let mut bench = Bench::new(Settings { max_batch: 1, ..settings() }, 2);
    bench.accept("user1.near");
    bench.tick();
    let (first, bad) = (bench.last(), bench.last().public_key());
    assert!(bench.shard.quarantine(&bad, true));
    assert!(!bench.shard.quarantine("ed25519:other", true), "not this shard's");
    for _ in 0..5 {
        bench.accept("user2.near");
    }
    bench.tick();
    assert!(bench.sent.len() > 3 && bench.sent[1..].iter().all(|sent| sent.public_key() != bad));
    assert!(bench.shard.conditions(bench.now).contains(&Condition::KeyQuarantined { public_key: bad.clone() }));
    bench.land(&first);
    assert!(bench.shard.quarantine(&bad, false));
    for _ in 0..5 {
        bench.accept("user2.near");
    }
    bench.tick();
    assert_eq!(bench.last().public_key(), bad);
}

#[test]
fn what_is_not_signed_can_be_taken_back() {
    let mut bench = Bench::new(settings(), 1);
    bench.shard.pause(true);
    let (ready, parked) = (bench.accept("user1.near"), TransferId(7_000));
    bench.tick();
    // Of a receiver that is still being asked about.
    let transfer = |id| Transfer { id, receiver: "user9.near".parse().unwrap(), amount: 1, memo: None, key: None };
    let mate = TransferId(7_001);
    bench.shard.handle(bench.now, Input::Accept(transfer(parked).into()));
    bench.shard.handle(bench.now, Input::Accept(transfer(mate).into()));
    for id in [ready, parked] {
        assert_eq!(bench.shard.cancel(bench.now, id, "cancelled"), Cancel::Done);
        assert_eq!(bench.shard.cancel(bench.now, id, "cancelled"), Cancel::NotHere);
    }
    assert_eq!(bench.failure(ready), None, "not before it is durable");
    bench.tick();
    assert_eq!((bench.failure(ready), bench.failure(parked)), (Some("cancelled"), Some("cancelled")));
    bench.shard.pause(false);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.last().receivers(), ["user9.near"], "its mate goes on");
    let hash = bench.last().hash();
    assert_eq!(bench.shard.cancel(bench.now, mate, "cancelled"), Cancel::Signed(hash));
    let sent = bench.last();
    bench.land(&sent);
    assert_eq!(bench.shard.cancel(bench.now, mate, "cancelled"), Cancel::NotHere);
    assert!(bench.is_finalized(mate));
    assert_eq!(bench.open_in_records(), []);
}

#[test]
fn what_waits_for_its_next_try_can_be_taken_back() {
    let mut bench = Bench::new(settings(), 1);
    let id = bench.accept("user1.near");
    bench.tick();
    let sent = bench.last();
    bench.fail_at(&sent, 0, "Smart contract panicked: try again");
    assert_eq!(bench.shard.cancel(bench.now, id, "cancelled"), Cancel::Done);
    bench.pass(Duration::from_mins(1));
    assert_eq!((bench.sent.len(), bench.failure(id)), (1, Some("cancelled")));
}
