//! Several endpoints, one of which may be plain wrong: what cannot be taken back needs two that say the same.
use std::time::Duration;

use crate::common::{Bench, LIMITS, Sent, settings};
use keyshard_shard::*;

const SECOND: Duration = Duration::from_secs(1);

/// Two must agree. One key, one transfer, sent.
fn one() -> (Bench, TransferId, Sent) {
    let mut bench = Bench::new(Settings { trust: Trust::Two, ..settings() }, 1);
    let id = bench.accept("user1.near");
    bench.tick();
    let sent = bench.last();
    (bench, id, sent)
}

fn says(bench: &mut Bench, ask: AskId, endpoint: EndpointIndex, level: Level, execution: Execution) {
    let status = Status { level: Some(level), execution, gas_burnt: None };
    bench.reply(ask, Reply::Status { status, endpoint });
}

fn failed() -> Execution {
    Execution::Failed { index: Some(0), failure: Failure::Execution("Smart contract panicked: no".into()) }
}

/// The last question, which must be about how far the transaction is; and whom it should not go to.
fn status_question(bench: &Bench) -> (AskId, EndpointSet) {
    match bench.queries.last() {
        Some((id, Query::Status { wait: Level::Final, avoid, .. })) => (*id, *avoid),
        other => panic!("expected a question about the status, got {other:?}"),
    }
}

fn fate_says(bench: &mut Bench, sent: &Sent, endpoint: EndpointIndex, key_nonce: u64, final_height: u64, known: Known) {
    let id = bench.fate_question(sent.hash());
    let fate = Fate { key_nonce: Some(key_nonce), final_height, earliest_height: 0, known, endpoint };
    bench.reply(id, Reply::Fate(fate));
}

#[test]
fn one_endpoint_answers_the_caller_and_the_second_makes_it_final() {
    let (mut bench, id, sent) = one();
    says(&mut bench, sent.id, 0, Level::Final, Execution::Success);
    assert!(!bench.is_finalized(id));
    assert_eq!(bench.news[&id].last(), Some(&News::Reached { level: Level::Final }));
    let (ask, avoid) = status_question(&bench);
    assert_eq!(avoid, EndpointSet::one(0));
    says(&mut bench, ask, 1, Level::Final, Execution::Success);
    assert!(bench.is_finalized(id));
}

#[test]
fn the_same_endpoint_twice_is_one() {
    let (mut bench, id, sent) = one();
    says(&mut bench, sent.id, 0, Level::Final, Execution::Success);
    for _ in 0..20 {
        let (ask, _) = status_question(&bench);
        says(&mut bench, ask, 0, Level::Final, Execution::Success);
        bench.pass(10 * SECOND);
    }
    assert!(!bench.is_finalized(id));
}

#[test]
fn a_lying_failure_is_not_paid_again() {
    let (mut bench, id, sent) = one();
    says(&mut bench, sent.id, 0, Level::Final, failed());
    let (ask, _) = status_question(&bench);
    says(&mut bench, ask, 1, Level::Final, Execution::Success);
    bench.pass(10 * SECOND);
    let (ask, avoid) = status_question(&bench);
    assert!(avoid.contains(0) && avoid.contains(1), "a third one is wanted");
    says(&mut bench, ask, 2, Level::Final, Execution::Success);
    assert!(bench.is_finalized(id));
    assert_eq!(bench.signed_records(), 1);
}

#[test]
fn two_that_disagree_for_ever_end_nothing() {
    let (mut bench, id, sent) = one();
    says(&mut bench, sent.id, 0, Level::Final, failed());
    for round in 0..20 {
        let (ask, _) = status_question(&bench);
        let (endpoint, execution) = if round % 2 == 0 { (1, Execution::Success) } else { (0, failed()) };
        says(&mut bench, ask, endpoint, Level::Final, execution);
        bench.pass(10 * SECOND);
    }
    assert!(!bench.is_settled(id));
    assert_eq!(bench.signed_records(), 1);
    let (ask, _) = status_question(&bench);
    says(&mut bench, ask, 2, Level::Final, Execution::Success);
    bench.pass(10 * SECOND);
    let (ask, _) = status_question(&bench);
    says(&mut bench, ask, 1, Level::Final, Execution::Success);
    assert!(bench.is_finalized(id), "the liar is mended");
}

#[test]
fn a_failure_that_two_saw_is_signed_again() {
    let (mut bench, id, sent) = one();
    says(&mut bench, sent.id, 0, Level::Final, failed());
    let (ask, _) = status_question(&bench);
    says(&mut bench, ask, 1, Level::Final, failed());
    bench.pass(10 * SECOND);
    assert_eq!(bench.signed_records(), 2);
    assert!(!bench.is_settled(id));
}

#[test]
fn a_lying_proof_of_death_kills_nothing_and_two_do() {
    let (mut bench, _, sent) = one();
    bench.refuse(sent.id, Refusal::InvalidNonce { key_nonce: Some(1_005) });
    bench.pass(2 * SECOND);
    // Endpoint 0 lies that the nonce was overtaken: as often as it likes.
    for round in 0..6 {
        fate_says(&mut bench, &sent, 0, 1_005, 1_001 + round, Known::No);
        bench.pass(10 * SECOND);
    }
    assert_eq!(bench.signed_records(), 1);
    // Endpoint 1 says that it is expired and unused, which is a proof as good as any.
    bench.head(1_101);
    fate_says(&mut bench, &sent, 1, 1_000, 1_101, Known::No);
    bench.pass(SECOND);
    assert_eq!(bench.signed_records(), 2);
    assert_ne!(bench.last().hash(), sent.hash());
}

#[test]
fn each_endpoint_must_see_the_nonce_overtaken_twice() {
    let (mut bench, _, sent) = one();
    bench.refuse(sent.id, Refusal::InvalidNonce { key_nonce: Some(1_005) });
    bench.pass(2 * SECOND);
    for (endpoint, height) in [(0, 1_001), (0, 1_002), (1, 1_003)] {
        fate_says(&mut bench, &sent, endpoint, 1_005, height, Known::No);
        bench.pass(limits::CONFIRM_PAUSE);
        assert_eq!(bench.signed_records(), 1, "endpoint {endpoint} at {height}");
    }
    fate_says(&mut bench, &sent, 1, 1_005, 1_004, Known::No);
    bench.pass(SECOND);
    assert_eq!(bench.signed_records(), 2);
}

#[test]
fn a_height_that_was_a_lie_need_not_be_reached() {
    let (mut bench, _, sent) = one();
    bench.refuse(sent.id, Refusal::InvalidNonce { key_nonce: Some(1_005) });
    bench.pass(2 * SECOND);
    for (endpoint, height) in [(1, 1_000_000), (1, 1_003), (1, 1_004), (0, 1_005)] {
        fate_says(&mut bench, &sent, endpoint, 1_005, height, Known::No);
        bench.pass(limits::CONFIRM_PAUSE);
        assert_eq!(bench.signed_records(), 1, "endpoint {endpoint} at {height}");
    }
    fate_says(&mut bench, &sent, 0, 1_005, 1_006, Known::No);
    bench.pass(SECOND);
    assert_eq!(bench.signed_records(), 2);
}

#[test]
fn the_validity_period_stays_what_it_was_at_the_start() {
    for (validity_blocks, height, signed) in [(40, 1_099, 1), (u64::MAX, 1_101, 2)] {
        let (mut bench, _, sent) = one();
        bench.input(Input::Limits(ChainLimits { validity_blocks, ..LIMITS }));
        bench.head(height);
        for endpoint in [0, 1] {
            bench.refuse(bench.last().id, Refusal::Expired);
            bench.pass(2 * SECOND);
            fate_says(&mut bench, &sent, endpoint, 1_000, height, Known::No);
            bench.pass(SECOND);
        }
        assert_eq!(bench.signed_records(), signed);
    }
}

#[test]
fn a_reference_block_needs_two() {
    let mut bench = Bench::new(Settings { trust: Trust::Two, ..settings() }, 1);
    let head = |height, name: &[u8]| Head { height, hash: CryptoHash::hash_bytes(name), timestamp_nanos: 1 };
    bench.input(Input::Head { head: head(9_000, b"lie"), endpoint: 0 });
    bench.input(Input::Head { head: head(9_000, b"lie"), endpoint: 0 });
    bench.input(Input::Head { head: head(9_000, b"other"), endpoint: 1 });
    bench.accept("user1.near");
    bench.tick();
    assert_eq!(*bench.last().transaction.transaction.block_hash(), CryptoHash::hash_bytes(&1_000u64.to_le_bytes()));
}

#[test]
fn refused_for_good_by_one_is_sent_elsewhere_without_a_fence() {
    let (mut bench, id, sent) = one();
    bench.refuse(sent.id, Refusal::Permanent("InvalidSignature".into()));
    bench.pass(2 * SECOND);
    assert_eq!(bench.signed_records(), 1, "no fence on the word of one");
    fate_says(&mut bench, &sent, 1, 1_000, 1_001, Known::No);
    bench.pass(10 * SECOND);
    let again = bench.last();
    assert_eq!((again.hash(), again.avoid), (sent.hash(), EndpointSet::one(0)));
    says(&mut bench, again.id, 1, Level::Final, Execution::Success);
    let (ask, _) = status_question(&bench);
    says(&mut bench, ask, 0, Level::Final, Execution::Success);
    assert!(bench.is_finalized(id));
}
