//! From a ring to FINAL, when nothing goes wrong.
use std::time::Duration;

use crate::common::{self, Bench, settings};
use keyshard_shard::{meter::KeyState, *};

#[test]
fn a_lone_transfer_goes_at_once_and_is_final_only_at_final() {
    let mut bench = Bench::new(settings(), 2);
    let id = bench.accept("user1.near");
    bench.tick();
    let sent = bench.last();
    assert_eq!(sent.wait, Level::ExecutedOptimistic);
    assert_eq!(sent.nonce(), 1_001);
    assert_eq!(
        sent.calls(),
        [("ft_transfer".into(), r#"{"receiver_id":"user1.near","amount":"10","memo":""}"#.into())]
    );

    bench.status(sent.id, Level::ExecutedOptimistic, Execution::Success);
    assert!(!bench.is_settled(id), "executed is not final");
    let (ask, query) = bench.queries.last().cloned().unwrap();
    assert_eq!(query, Query::Status { hash: sent.hash(), wait: Level::Final, avoid: EndpointSet::default() });
    bench.status(ask, Level::Final, Execution::Success);
    assert!(bench.is_finalized(id));
    let told = &bench.news[&id];
    assert!(matches!(told[1], News::Signed { .. }) || matches!(told[0], News::Signed { .. }), "{told:?}");
    assert!(told[..2].contains(&News::Accepted));
    assert_eq!(told[2..], [News::Reached { level: Level::ExecutedOptimistic }, News::Finalized]);
}

#[test]
fn the_next_lone_transfer_does_not_wait_for_what_only_waits_to_be_final() {
    let mut bench = Bench::new(settings(), 2);
    bench.accept("user1.near");
    bench.tick();
    let first = bench.last();
    bench.accept("user2.near");
    bench.tick();
    assert_eq!(bench.sent.len(), 1, "the first may still be in the same block");
    bench.status(first.id, Level::ExecutedOptimistic, Execution::Success);
    bench.tick();
    assert_eq!(bench.sent.len(), 2);
}

#[test]
fn stages_are_measured_from_the_times_that_inputs_come() {
    let ms = Duration::from_millis;
    let mut bench = Bench::new(Settings { linger: ms(0), ..settings() }, 1);
    // So that nobody has to be asked about the receiver.
    bench.accept("user1.near");
    bench.tick();
    let first = bench.last();
    bench.status(first.id, Level::Final, Execution::Success);
    let before = bench.shard.meter().clone();
    assert_eq!((before.accepted, before.executed, before.finalized, before.paid), (1, 1, 1, 10));

    bench.journal = false;
    bench.accept("user1.near");
    bench.now = bench.now + ms(1);
    bench.accept("user1.near");
    bench.now = bench.now + ms(2);
    bench.tick();
    let [key] = &bench.shard.keys(bench.now)[..] else { panic!("one key") };
    assert_eq!((key.state, key.in_flight, key.open, key.nonce, key.nonce_lag), (KeyState::Free, 1, 1, 1_002, 1));
    bench.now = bench.now + ms(4);
    bench.make_durable();
    bench.now = bench.now + ms(800);
    let sent = bench.last();
    bench.status(sent.id, Level::ExecutedOptimistic, Execution::Success);
    bench.now = bench.now + ms(1_600);
    let (ask, _) = bench.queries.last().cloned().unwrap();
    bench.status(ask, Level::Final, Execution::Success);
    let meter = bench.shard.meter();
    assert_eq!((meter.accepted, meter.executed, meter.finalized, meter.paid), (3, 3, 3, 30));
    for ((name, stage), (_, before)) in meter.stages.named().into_iter().zip(before.stages.named()) {
        // Milliseconds of both transfers together.
        let expected = match name {
            "durable" => 7 + 6,
            "signed" => 3 + 2,
            "sent" => 2 * 4,
            "executed" => 2 * 800,
            "final" => 2 * 1_600,
            "total" => 2_407 + 2_406,
            other => panic!("{other}"),
        };
        let measured = stage.since(before);
        assert_eq!((measured.count(), measured.sum()), (2, expected * 1_000), "{name}");
    }
    assert_eq!((meter.batch_size.count(), meter.batch_size.sum()), (2, 3));
    let [key] = &bench.shard.keys(bench.now)[..] else { panic!("one key") };
    assert_eq!((key.in_flight, key.open, key.nonce, key.nonce_lag), (0, 0, 1_002, 0));
}

#[test]
fn nothing_leaves_before_its_record_is_durable() {
    let mut bench = Bench::new(settings(), 1);
    bench.journal = false;
    let id = bench.accept("user1.near");
    bench.tick();
    bench.pass(Duration::from_secs(5));
    // The registration of the receiver is known, the transaction is signed, the journal has not answered.
    assert_eq!((bench.signed_records(), bench.sent.len()), (1, 0));
    assert!(!bench.news[&id].contains(&News::Accepted), "nor is it acknowledged");
    bench.make_durable();
    assert_eq!(bench.sent.len(), 1);
    assert!(bench.news[&id].contains(&News::Accepted));
}

#[test]
fn what_gathers_while_a_batch_is_in_flight_goes_together_after_the_linger() {
    let mut bench = Bench::new(settings(), 2);
    bench.accept("user0.near");
    bench.tick();
    for i in 1..=30 {
        bench.accept(&format!("user{i}.near"));
    }
    bench.tick();
    assert_eq!(bench.sent.len(), 1, "thirty wait for mates");
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.sent.len(), 2);
    assert_eq!(bench.last().receivers().len(), 30);
}

#[test]
fn full_batches_do_not_linger_and_keys_take_turns() {
    let mut bench = Bench::new(Settings { window: 1, ..settings() }, 3);
    for i in 0..450 {
        bench.accept(&format!("user{i}.near"));
    }
    bench.tick();
    assert_eq!(bench.sent.iter().map(|sent| sent.receivers().len()).collect::<Vec<_>>(), [100, 100, 100]);
    let keys: std::collections::HashSet<_> =
        bench.sent.iter().map(|sent| sent.transaction.transaction.public_key().clone()).collect();
    assert_eq!(keys.len(), 3, "one transaction a key: the window is one");
    // A slot frees when a transaction has been executed, not only when it is final.
    let first = bench.sent[0].clone();
    bench.status(first.id, Level::ExecutedOptimistic, Execution::Success);
    assert_eq!(bench.sent.len(), 4);
}

#[test]
fn the_window_bounds_what_one_key_has_in_flight() {
    let mut bench = Bench::new(Settings { window: 2, ..settings() }, 1);
    for i in 0..500 {
        bench.accept(&format!("user{i}.near"));
    }
    bench.tick();
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.sent.iter().map(common::Sent::nonce).collect::<Vec<_>>(), [1_001, 1_002]);
}

#[test]
fn fresh_receivers_are_registered_once() {
    let mut bench = Bench::new(settings(), 1);
    let first = bench.accept("fresh1.near");
    bench.tick();
    let sent = bench.last();
    assert_eq!(
        sent.calls()[0],
        ("storage_deposit".into(), r#"{"account_id":"fresh1.near","registration_only":true}"#.into())
    );
    bench.land(&sent);
    assert!(bench.is_finalized(first));
    bench.accept("fresh1.near");
    bench.tick();
    assert_eq!(bench.last().calls().len(), 1, "now it is registered");
}

#[test]
fn with_deposits_off_an_unregistered_receiver_fails_before_it_costs_anything() {
    let mut bench = Bench::new(Settings { storage: StoragePolicy::Never, ..settings() }, 1);
    let (good, bad) = (bench.accept("user1.near"), bench.accept("fresh1.near"));
    bench.tick();
    assert!(bench.failure(bad).unwrap().contains("not registered"));
    assert_eq!(bench.last().receivers(), ["user1.near"]);
    bench.land(&bench.last());
    assert!(bench.is_finalized(good));
}

#[test]
fn nothing_is_signed_against_an_old_block() {
    let mut bench = Bench::new(settings(), 1);
    // 100 blocks of 600 ms: a quarter of the validity period is 15 s.
    bench.pass(Duration::from_secs(16));
    bench.accept("user1.near");
    bench.tick();
    assert_eq!(bench.sent.len(), 0);
    assert_eq!(bench.shard.conditions(bench.now), [Condition::StaleHead]);
    bench.head(1_030);
    assert_eq!(bench.sent.len(), 1);
    assert!(bench.shard.conditions(bench.now).is_empty());
}
