//! Scripted misfortunes: what nodes may do, and that no transfer is signed again without proof.
use std::time::Duration;

use crate::common::{self, Bench, settings};
use keyshard_shard::*;

const SECOND: Duration = Duration::from_secs(1);

/// One key, one transfer, sent.
fn one() -> (Bench, TransferId, common::Sent) {
    let mut bench = Bench::new(settings(), 1);
    let id = bench.accept("user1.near");
    bench.tick();
    let sent = bench.last();
    (bench, id, sent)
}

#[test]
fn after_a_lost_reply_the_same_bytes_go_again_for_ever() {
    let (mut bench, id, sent) = one();
    for round in 1..50 {
        bench.lose(bench.last().id);
        bench.pass(10 * SECOND);
        bench.head(1_000 + round * 10);
        assert_eq!(bench.sent.len() as u64, 1 + round);
        assert_eq!(bench.last().hash(), sent.hash());
    }
    assert_eq!(bench.signed_records(), 1);
    bench.land(&bench.last());
    assert!(bench.is_finalized(id));
}

#[test]
fn invalid_nonce_after_landing_is_found_out_and_pays_once() {
    let (mut bench, id, sent) = one();
    bench.lose(sent.id);
    bench.pass(SECOND);
    // The node has executed it, and says so in its worst words.
    bench.refuse(bench.last().id, Refusal::InvalidNonce { key_nonce: Some(1_001) });
    bench.pass(2 * SECOND);
    let known = Status { level: Some(Level::Final), execution: Execution::Success, gas_burnt: None };
    bench.fate(sent.hash(), 1_001, Known::Yes(known));
    assert!(bench.is_finalized(id));
    assert_eq!(bench.signed_records(), 1);
}

#[test]
fn invalid_nonce_that_is_not_final_yet_is_no_proof() {
    let (mut bench, _, sent) = one();
    bench.refuse(sent.id, Refusal::InvalidNonce { key_nonce: Some(1_005) });
    for _ in 0..10 {
        bench.pass(10 * SECOND);
        bench.head(bench.height + 1);
        if matches!(bench.queries.last(), Some((_, Query::Fate { .. }))) && bench.sent.len() == 1 {
            bench.fate(sent.hash(), 1_000, Known::No);
        }
    }
    assert_eq!(bench.signed_records(), 1, "the head's nonce may be forked away");
    assert!(bench.sent.iter().all(|again| again.hash() == sent.hash()));
}

#[test]
fn an_overtaken_nonce_is_proven_dead_and_its_transfers_go_under_a_new_one() {
    let (mut bench, id, sent) = one();
    bench.refuse(sent.id, Refusal::InvalidNonce { key_nonce: Some(1_005) });
    bench.pass(2 * SECOND);
    bench.overtake(sent.hash(), 1_005);
    let again = bench.last();
    assert_ne!(again.hash(), sent.hash());
    assert_eq!(again.nonce(), 1_006, "above everything that is known to be used");
    assert_eq!(again.receivers(), sent.receivers());
    bench.land(&again);
    assert!(bench.is_finalized(id));
    let dead = |record: &Record| matches!(record, Record::Closed { how: Closed::Dead(Proof::Overtaken { .. }), .. });
    assert!(bench.records.iter().any(dead));
}

#[test]
fn a_later_nonce_that_lands_calls_for_the_proof_without_waiting_for_time_outs() {
    let mut bench = Bench::new(Settings { max_batch: 1, ..settings() }, 1);
    let (first, second) = (bench.accept("user1.near"), bench.accept("user2.near"));
    bench.tick();
    bench.pass(SECOND);
    let (lower, upper) = (bench.sent[0].clone(), bench.sent[1].clone());
    bench.land(&upper);
    assert!(bench.is_finalized(second));
    bench.overtake(lower.hash(), upper.nonce());
    let again = bench.last();
    assert_eq!(again.receivers(), ["user1.near"]);
    bench.land(&again);
    assert!(bench.is_finalized(first));
    assert_eq!(bench.signed_records(), 3);
}

#[test]
fn expired_from_a_lagging_node_sends_the_same_bytes_elsewhere() {
    let (mut bench, id, sent) = one();
    bench.refuse(sent.id, Refusal::Expired);
    bench.pass(2 * SECOND);
    bench.fate(sent.hash(), 1_000, Known::No);
    bench.pass(10 * SECOND);
    let again = bench.last();
    assert_eq!((again.hash(), again.avoid), (sent.hash(), EndpointSet::one(0)));
    bench.land(&again);
    assert!(bench.is_finalized(id));
    assert_eq!(bench.signed_records(), 1);
}

#[test]
fn truly_expired_is_signed_anew() {
    let (mut bench, id, sent) = one();
    bench.head(1_101);
    bench.refuse(sent.id, Refusal::Expired);
    bench.pass(2 * SECOND);
    bench.fate(sent.hash(), 1_000, Known::No);
    let again = bench.last();
    assert_eq!(again.nonce(), 1_002, "nonces are not used twice, even dead ones");
    bench.land(&again);
    assert!(bench.is_finalized(id));
}

#[test]
fn the_failing_index_fails_its_transfer_and_no_other() {
    let mut bench = Bench::new(settings(), 1);
    let ids: Vec<_> = (0..5).map(|i| bench.accept(&format!("user{i}.near"))).collect();
    bench.tick();
    bench.fail_at(&bench.last(), 3, "Smart contract panicked: Balance overflow");
    assert!(bench.failure(ids[3]).unwrap().contains("Balance overflow"));
    assert_eq!(bench.last().receivers(), ["user0.near", "user1.near", "user2.near", "user4.near"]);
    bench.land(&bench.last());
    assert_eq!(ids.iter().filter(|id| bench.is_finalized(**id)).count(), 4);
}

#[test]
fn the_failing_index_counts_the_deposits_before_it() {
    let mut bench = Bench::new(settings(), 1);
    let receivers = ["user0.near", "fresh1.near", "user2.near", "fresh3.near", "user4.near"];
    let ids: Vec<_> = receivers.iter().map(|receiver| bench.accept(receiver)).collect();
    bench.pass(SECOND);
    let sent = bench.last();
    let methods: Vec<_> = sent.calls().into_iter().map(|(method, _)| method).collect();
    let failing =
        sent.calls().iter().position(|(method, args)| method == "ft_transfer" && args.contains("user4")).unwrap();
    assert_eq!(methods.iter().filter(|method| *method == "storage_deposit").count(), 2);
    assert!(failing > 4, "deposits stand before it");
    bench.fail_at(&sent, failing as u64, "Smart contract panicked: Balance overflow");
    assert!(bench.failure(ids[4]).is_some());
    bench.land(&bench.last());
    assert!(ids[..4].iter().all(|id| bench.is_finalized(*id)));
}

#[test]
fn a_failure_before_final_changes_nothing() {
    let mut bench = Bench::new(settings(), 1);
    let ids: Vec<_> = (0..3).map(|i| bench.accept(&format!("user{i}.near"))).collect();
    bench.tick();
    let sent = bench.last();
    let failure = Failure::Execution("Smart contract panicked: Balance overflow".into());
    let failed = Execution::Failed { index: Some(1), failure };
    bench.status(sent.id, Level::ExecutedOptimistic, failed);
    bench.pass(30 * SECOND);
    assert!(ids.iter().all(|id| !bench.is_settled(*id)));
    assert_eq!(bench.signed_records(), 1);
    // The block was reorganised away, and the transaction succeeded in another.
    let (ask, _) = bench.queries.last().cloned().unwrap();
    bench.status(ask, Level::Final, Execution::Success);
    assert!(ids.iter().all(|id| bench.is_finalized(*id)));
}

#[test]
fn an_unregistered_receiver_that_was_thought_registered_gets_its_deposit() {
    let (mut bench, id, sent) = one();
    bench.fail_at(&sent, 0, "Smart contract panicked: The account user1.near is not registered");
    bench.pass(SECOND);
    let again = bench.last();
    assert_eq!(again.calls().len(), 2);
    assert_eq!(again.calls()[0].0, "storage_deposit");
    bench.land(&again);
    assert!(bench.is_finalized(id));
}

#[test]
fn out_of_gas_attaches_more() {
    let (mut bench, id, sent) = one();
    bench.fail_at(&sent, 0, "Exceeded the prepaid gas.");
    bench.pass(SECOND);
    let again = bench.last();
    assert!(again.gas()[0] > sent.gas()[0], "{:?} after {:?}", again.gas(), sent.gas());
    bench.land(&again);
    assert!(bench.is_finalized(id));
}

#[test]
fn a_transfer_that_keeps_failing_travels_alone_and_is_given_up_after_its_attempts() {
    let mut bench = Bench::new(settings(), 1);
    let (good, bad) = (bench.accept("user1.near"), bench.accept("bad.near"));
    bench.tick();
    bench.fail_at(&bench.last(), 1, "Smart contract panicked: Transfers to this account are paused");
    assert_eq!(bench.last().receivers(), ["user1.near"]);
    bench.land(&bench.last());
    for _ in 0..2 {
        bench.pass(5 * SECOND);
        assert_eq!(bench.last().receivers(), ["bad.near"]);
        bench.fail_at(&bench.last(), 0, "Smart contract panicked: Transfers to this account are paused");
    }
    assert!(bench.is_finalized(good));
    assert!(bench.failure(bad).unwrap().contains("paused"));
    // The receiver is remembered: a later transfer to it takes no batch mate down.
    for receiver in ["bad.near", "user2.near", "user3.near"] {
        bench.accept(receiver);
    }
    bench.pass(SECOND);
    let batches: Vec<_> = bench.sent.iter().rev().take(2).map(common::Sent::receivers).collect();
    assert!(batches.contains(&vec!["bad.near".to_owned()]), "{batches:?}");
}

#[test]
fn a_suspect_gets_its_turn_under_endless_load() {
    let mut bench = Bench::new(Settings { window: 1, ..settings() }, 1);
    let bad = bench.accept("bad.near");
    bench.tick();
    bench.fail_at(&bench.last(), 0, "Smart contract panicked: Transfers to this account are paused");
    for round in 0..20 {
        for i in 0..200 {
            bench.accept(&format!("user{}.near", i + round));
        }
        bench.pass(SECOND);
        bench.head(bench.height + 2);
        bench.land(&bench.last());
    }
    assert!(bench.is_finalized(bad));
}

#[test]
fn congestion_keeps_the_same_bytes_going() {
    let (mut bench, id, sent) = one();
    for _ in 0..20 {
        bench.refuse(bench.last().id, Refusal::Live("ShardCongested".into()));
        bench.pass(10 * SECOND);
        bench.head(bench.height + 1);
    }
    assert!(bench.sent.iter().all(|again| again.hash() == sent.hash()));
    bench.land(&bench.last());
    assert!(bench.is_finalized(id));
}

#[test]
fn too_few_tokens_hold_the_queue_until_there_are_enough() {
    let mut bench = Bench::new(settings(), 2);
    let ids: Vec<_> = (0..4).map(|i| bench.accept_amount(&format!("user{i}.near"), 100)).collect();
    bench.tick();
    bench.fail_at(&bench.last(), 2, "Smart contract panicked: The account doesn't have enough balance");
    let later = bench.accept("user9.near");
    bench.pass(SECOND);
    assert_eq!(bench.sent.len(), 1, "nothing new goes out");
    assert!(matches!(bench.shard.conditions(bench.now)[..], [Condition::NotEnoughTokens(_)]));
    bench.pass(5 * SECOND);
    let (ask, query) = bench.queries.last().cloned().unwrap();
    assert_eq!(query, Query::TokenBalance);
    bench.reply(ask, Reply::TokenBalance(50));
    bench.pass(20 * SECOND);
    bench.head(bench.height + 40);
    let (ask, _) = bench.queries.last().cloned().unwrap();
    bench.reply(ask, Reply::TokenBalance(250));
    let sent = bench.last();
    assert_eq!(sent.receivers(), ["user0.near", "user1.near"], "as many as the balance covers");
    bench.land(&sent);
    bench.pass(20 * SECOND);
    let (ask, _) = bench.queries.last().cloned().unwrap();
    bench.head(bench.height + 40);
    bench.reply(ask, Reply::TokenBalance(10_000));
    bench.land(&bench.last());
    assert!(ids.iter().chain([&later]).all(|id| bench.is_finalized(*id)));
}

#[test]
fn too_little_near_holds_new_batches_and_keeps_the_old_ones_going() {
    let mut bench = Bench::new(settings(), 2);
    let first = bench.accept("user1.near");
    bench.tick();
    let sent = bench.last();
    bench.refuse(sent.id, Refusal::NotEnoughNear("NotEnoughBalance".into()));
    let second = bench.accept("user2.near");
    bench.pass(10 * SECOND);
    assert!(bench.sent.iter().all(|again| again.hash() == sent.hash()));
    assert!(matches!(bench.shard.conditions(bench.now)[..], [Condition::NotEnoughNear(_)]));
    bench.land(&bench.last());
    assert!(bench.is_finalized(first));
    bench.pass(SECOND);
    bench.land(&bench.last());
    assert!(bench.is_finalized(second));
}

#[test]
fn when_the_account_stays_empty_past_the_validity_period_the_next_attempt_probes_it() {
    let (mut bench, id, sent) = one();
    bench.refuse(sent.id, Refusal::NotEnoughNear("NotEnoughBalance".into()));
    bench.pass(SECOND);
    bench.head(1_200);
    bench.refuse(bench.last().id, Refusal::Expired);
    bench.pass(10 * SECOND);
    bench.fate(sent.hash(), 1_000, Known::No);
    let again = bench.last();
    assert_ne!(again.hash(), sent.hash());
    bench.land(&again);
    assert!(bench.is_finalized(id));
}

#[test]
fn a_permanent_refusal_is_fenced_off_and_proven_dead() {
    let (mut bench, id, sent) = one();
    bench.refuse(sent.id, Refusal::Permanent("TransactionSizeExceeded".into()));
    let fence = bench.last();
    assert_eq!(fence.nonce(), sent.nonce() + 1);
    assert!(fence.calls().is_empty(), "a fence moves nothing");
    assert_eq!(fence.transaction.transaction.receiver_id(), "test.near");
    bench.land(&fence);
    bench.pass(3 * SECOND);
    bench.overtake(sent.hash(), fence.nonce());
    let again = bench.last();
    assert_eq!(again.receivers(), sent.receivers());
    bench.land(&again);
    assert!(bench.is_finalized(id));
}

#[test]
fn a_key_that_is_refused_rests_and_the_others_work_on() {
    let mut bench = Bench::new(settings(), 2);
    bench.accept("user1.near");
    bench.tick();
    let sent = bench.last();
    bench.refuse(sent.id, Refusal::Key("AccessKeyNotFound".into()));
    let public_key = sent.transaction.transaction.public_key().to_string();
    assert!(matches!(&bench.shard.conditions(bench.now)[..],
        [Condition::KeyRefused { public_key: refused, .. }] if **refused == *public_key));
    for i in 0..3 {
        bench.accept(&format!("user{i}.near"));
        bench.pass(SECOND);
        let new = bench.sent.iter().rev().find(|other| other.hash() != sent.hash()).unwrap().clone();
        assert_ne!(new.transaction.transaction.public_key().to_string(), public_key);
    }
}

#[test]
fn an_invalid_tx_error_on_chain_is_not_believed() {
    let (mut bench, id, sent) = one();
    bench.status(sent.id, Level::Final, Execution::Invalid("InvalidNonce".into()));
    bench.pass(3 * SECOND);
    let known = Status { level: Some(Level::Final), execution: Execution::Success, gas_burnt: None };
    bench.fate(sent.hash(), 1_001, Known::Yes(known));
    assert!(bench.is_finalized(id));
    assert_eq!(bench.signed_records(), 1);
}

#[test]
fn late_and_doubled_replies_are_ignored() {
    let (mut bench, id, sent) = one();
    bench.lose(sent.id);
    bench.fail_at(&sent, 0, "Smart contract panicked: Balance overflow");
    assert!(!bench.is_settled(id), "the answer to a question that was given up");
    bench.pass(SECOND);
    let again = bench.last();
    bench.land(&again);
    bench.land(&again);
    assert!(bench.is_finalized(id));
}

#[test]
fn what_could_not_be_sent_is_tried_again_soon_however_often_it_failed() {
    let (mut bench, id, sent) = one();
    for _ in 0..30 {
        let why = "connection refused".into();
        bench.reply(bench.last().id, Reply::NotSent { why, retry_after: Duration::from_mins(10) });
        let before = bench.sent.len();
        bench.pass(limits::NOT_SENT_PAUSE_MAX);
        assert_eq!(bench.sent.len(), before + 1);
        bench.head(bench.height + 2);
    }
    assert_eq!(bench.last().hash(), sent.hash());
    bench.land(&bench.last());
    assert!(bench.is_finalized(id));
}

#[test]
fn a_lost_status_is_asked_again_a_few_times_and_then_the_bytes_go_again() {
    let (mut bench, id, sent) = one();
    bench.status(sent.id, Level::ExecutedOptimistic, Execution::Success);
    let mut asked = 0;
    while bench.sent.len() == 1 {
        let (ask, query) = bench.queries.last().cloned().unwrap();
        assert_eq!(query, Query::Status { hash: sent.hash(), wait: Level::Final, avoid: EndpointSet::default() });
        asked += 1;
        bench.lose(ask);
        bench.pass(10 * SECOND);
        bench.head(bench.height + 1);
    }
    assert_eq!(asked, limits::STATUS_TRIES + 1);
    assert_eq!(bench.last().hash(), sent.hash());
    bench.land(&bench.last());
    assert!(bench.is_finalized(id));
}

/// Answers everything that is in flight as a chain would on which transfers to these receivers fail.
fn settle_round(bench: &mut Bench, answered: &mut usize, is_bad: impl Fn(&str) -> bool) {
    let round: Vec<_> = bench.sent[*answered..].to_vec();
    *answered = bench.sent.len();
    for sent in round {
        match sent.receivers().iter().position(|receiver| is_bad(receiver)) {
            Some(index) => bench.fail_at(&sent, index as u64, "Smart contract panicked: Balance overflow"),
            None => bench.land(&sent),
        }
    }
}

#[test]
fn many_bad_transfers_in_one_batch_are_found_side_by_side() {
    let mut bench = Bench::new(settings(), 4);
    let is_bad = |receiver: &str| receiver.contains("bad");
    let ids: Vec<_> = (0..96)
        .map(|i| bench.accept(&if i % 8 == 5 { format!("bad{i}.near") } else { format!("user{i}.near") }))
        .collect();
    let (mut answered, mut rounds) = (0, 0);
    bench.tick();
    while !ids.iter().all(|id| bench.is_settled(*id)) {
        settle_round(&mut bench, &mut answered, is_bad);
        bench.pass(Duration::from_millis(200));
        bench.head(bench.height + 1);
        rounds += 1;
        assert!(rounds < 12, "twelve bad ones, one after the other");
    }
    assert_eq!(ids.iter().filter(|id| bench.failure(**id).is_some()).count(), 12);
    assert!(rounds <= 7, "{rounds}");
}

#[test]
fn a_hold_for_want_of_near_ends_with_any_end() {
    let mut bench = Bench::new(settings(), 1);
    let (bad, good) = (bench.accept("bad.near"), bench.accept("user1.near"));
    bench.tick();
    bench.refuse(bench.last().id, Refusal::NotEnoughNear("NotEnoughBalance".into()));
    bench.pass(SECOND);
    bench.fail_at(&bench.last(), 0, "Smart contract panicked: Balance overflow");
    bench.pass(SECOND);
    bench.land(&bench.last());
    assert!(bench.failure(bad).is_some() && bench.is_finalized(good));
}

#[test]
fn transactions_that_cannot_be_proven_do_not_block_their_key_and_are_named() {
    let mut bench = Bench::new(Settings { window: 1, ..settings() }, 1);
    let lost = bench.accept("user1.near");
    bench.tick();
    let sent = bench.last();
    // Expired, the nonce is taken, and the node has forgotten the blocks: it may have been paid.
    bench.head(9_000);
    bench.refuse(sent.id, Refusal::Expired);
    bench.pass(2 * SECOND);
    let forgetful = |bench: &Bench| Fate {
        key_nonce: Some(5_000),
        final_height: bench.height,
        earliest_height: 8_000,
        known: Known::No,
        endpoint: 0,
    };
    for _ in 0..5 {
        let id = bench.fate_question(sent.hash());
        bench.reply(id, Reply::Fate(forgetful(&bench)));
        bench.pass(10 * SECOND);
        bench.head(bench.height + 10);
    }
    assert_eq!(bench.shard.conditions(bench.now), [Condition::Unprovable(vec![sent.hash()])]);
    let next = bench.accept("user2.near");
    bench.pass(SECOND);
    bench.land(&bench.last());
    assert!(bench.is_finalized(next) && !bench.is_settled(lost), "it is not paid again");
    // An archival node comes to help.
    let known = Status { level: Some(Level::Final), execution: Execution::Success, gas_burnt: None };
    bench.pass(10 * SECOND);
    bench.fate(sent.hash(), 5_000, Known::Yes(known));
    assert!(bench.is_finalized(lost));
}

#[test]
fn an_invalid_tx_error_that_stays_is_dead_once_it_has_expired_unused() {
    let (mut bench, id, sent) = one();
    let invalid = || {
        Known::Yes(Status {
            level: Some(Level::Final),
            execution: Execution::Invalid("InvalidNonce".into()),
            gas_burnt: None,
        })
    };
    // The node keeps saying so, to the same bytes and to the question of their fate.
    let mut sends = 0;
    for _ in 0..30 {
        if bench.sent.len() > sends {
            sends = bench.sent.len();
            bench.status(bench.last().id, Level::Final, Execution::Invalid("InvalidNonce".into()));
        }
        bench.pass(10 * SECOND);
        for (id, query) in std::mem::take(&mut bench.queries) {
            assert_eq!(
                query,
                Query::Fate { public_key: sent.public_key(), hash: sent.hash(), avoid: EndpointSet::default() }
            );
            let (height, known) = (bench.height, invalid());
            let fate = Fate { key_nonce: Some(1_000), final_height: height, earliest_height: 0, known, endpoint: 0 };
            bench.reply(id, Reply::Fate(fate));
        }
        if bench.signed_records() == 2 {
            assert!(bench.height > 1_100, "before it expired");
            break;
        }
        bench.head(bench.height + 10);
    }
    let again = bench.last();
    assert_ne!(again.hash(), sent.hash());
    bench.land(&again);
    assert!(bench.is_finalized(id));
}

#[test]
fn a_nonce_that_no_key_can_have_is_not_believed() {
    let (mut bench, id, sent) = one();
    for absurd in [u64::MAX, u64::MAX - 1, 1_000_000_000_000_000] {
        bench.refuse(bench.last().id, Refusal::InvalidNonce { key_nonce: Some(absurd) });
        bench.pass(10 * SECOND);
        bench.fate(sent.hash(), 1_000, Known::No);
        bench.pass(10 * SECOND);
        bench.head(bench.height + 1);
    }
    bench.land(&bench.last());
    assert!(bench.is_finalized(id));
    bench.accept("user2.near");
    bench.tick();
    assert_eq!(bench.last().nonce(), sent.nonce() + 1);
}

#[test]
fn what_is_refused_for_good_again_and_again_is_given_up() {
    let mut bench = Bench::new(settings(), 1);
    let ids = [bench.accept("user1.near"), bench.accept("user2.near")];
    bench.tick();
    for _ in 0..40 {
        let last = bench.last();
        if last.calls().is_empty() {
            bench.land(&last);
        } else {
            bench.refuse(last.id, Refusal::Permanent("TransactionSizeExceeded".into()));
        }
        bench.pass(2 * SECOND);
        bench.head(bench.height + 3);
        for (id, query) in std::mem::take(&mut bench.queries) {
            if let Query::Fate { .. } = query {
                let (height, nonce) = (bench.height, bench.last().nonce());
                let fate = Fate {
                    key_nonce: Some(nonce),
                    final_height: height,
                    earliest_height: 0,
                    known: Known::No,
                    endpoint: 0,
                };
                bench.reply(id, Reply::Fate(fate));
            }
        }
        bench.pass(limits::CONFIRM_PAUSE);
    }
    assert!(ids.iter().all(|id| bench.failure(*id).is_some_and(|why| why.contains("TransactionSizeExceeded"))));
}

#[test]
fn a_token_without_storage_deposit_is_paid_without_one() {
    let mut bench = Bench::new(Settings { storage: StoragePolicy::Always, ..settings() }, 1);
    let id = bench.accept("user1.near");
    bench.tick();
    let sent = bench.last();
    assert_eq!(sent.calls().len(), 2);
    let failed = Execution::Failed { index: Some(0), failure: Failure::MethodMissing };
    bench.status(sent.id, Level::Final, failed);
    bench.pass(SECOND);
    assert_eq!(bench.last().calls().len(), 1);
    bench.land(&bench.last());
    assert!(bench.is_finalized(id));
}

#[test]
fn a_suspect_that_the_tokens_do_not_cover_keeps_nobody_else_from_theirs() {
    let mut bench = Bench::new(settings(), 2);
    let large = bench.accept_amount("bad.near", 1_000);
    bench.tick();
    bench.fail_at(&bench.last(), 0, "Smart contract panicked: Transfers to this account are paused");
    bench.pass(SECOND);
    bench.fail_at(&bench.last(), 0, "Smart contract panicked: The account doesn't have enough balance");
    let small = bench.accept_amount("user1.near", 10);
    bench.pass(3 * SECOND);
    let (ask, query) = bench.queries.last().cloned().unwrap();
    assert_eq!(query, Query::TokenBalance);
    bench.reply(ask, Reply::TokenBalance(100));
    bench.pass(SECOND);
    assert_eq!(bench.last().receivers(), ["user1.near"]);
    bench.land(&bench.last());
    assert!(bench.is_finalized(small) && !bench.is_settled(large));
}

#[test]
fn a_final_block_that_was_an_error_is_not_believed_for_ever() {
    let mut bench = Bench::new(settings(), 1);
    bench.head(5_000_000);
    for _ in 0..40 {
        bench.pass(SECOND);
        bench.head(1_100);
    }
    bench.accept("user1.near");
    bench.tick();
    assert_eq!(bench.sent.len(), 1);
    let expected = CryptoHash::hash_bytes(&1_100u64.to_le_bytes());
    assert_eq!(*bench.last().transaction.transaction.block_hash(), expected);
}
