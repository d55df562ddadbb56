//! Loads on a node whose answers get lost, or that vanishes.
use std::time::Duration;

use tokio::sync::watch;

use crate::{
    load::{self, Outcome, Sent},
    loads::summary,
    proxy::{Faults, WAYS},
    stage::{Setup, Stage, every, from_env},
};

/// Faults end in a settled transfer, if late; a client is told so, or that it is still open.
fn assert_all_accepted(sent: &[Sent]) {
    let other = sent.iter().find(|sent| !matches!(sent.status(), 200 | 202));
    assert!(other.is_none(), "{other:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_pay_once() {
    let (rate, seconds) = (from_env("KEYSHARD_LOAD_RATE", 100), from_env("KEYSHARD_LOAD_SECONDS", 10));
    // Small transactions make many sends, so that many answers are lost.
    let setup = Setup { proxied: true, settings: &[("MAX_BATCH_SIZE", "4")], ..Setup::default() };
    let mut stage = Stage::start("lost_answers_pay_once", setup).await;
    let faults = Faults { lose_answers: 0.1, ways: WAYS.to_vec(), ..Faults::default() };
    stage.proxy.as_ref().unwrap().set(faults);
    let sent = stage.load(rate, seconds).await;
    assert_all_accepted(&sent);
    // The faults go on while the rest settles.
    let claims = stage.settle(&sent).await;
    let counts = stage.proxy.as_ref().unwrap().counts("send_tx");
    let report = stage.judge(&claims).await;
    summary("lost_answers_pay_once", &sent, &report);
    println!("lost_answers_pay_once: send_tx {counts:?}");
    assert_eq!(report.landed, sent.len());
    assert!(counts.swallowed.values().sum::<usize>() >= 12, "too few lost answers show nothing: {counts:?}");
    assert!(WAYS.iter().all(|way| counts.swallowed.get(way).is_some_and(|count| *count >= 2)), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_faults_at_once() {
    // Small batches: many sends, so that each fault meets some.
    let setup = Setup { proxied: true, settings: &[("MAX_BATCH_SIZE", "2")], ..Setup::default() };
    let mut stage = Stage::start("all_faults_at_once", setup).await;
    stage.proxy.as_ref().unwrap().set(Faults {
        lose_answers: 0.05,
        ways: WAYS.to_vec(),
        lose_requests: 0.05,
        throttle: 0.005,
        burst: Duration::from_millis(500),
        delay_answers: 0.05,
        delay: Duration::from_millis(1_500),
        ..Faults::default()
    });
    let sent = stage.load(100, 5).await;
    assert_all_accepted(&sent);
    let claims = stage.settle(&sent).await;
    let counts = stage.proxy.as_ref().unwrap().counts("send_tx");
    let report = stage.judge(&claims).await;
    summary("all_faults_at_once", &sent, &report);
    println!("all_faults_at_once: send_tx {counts:?}");
    assert_eq!(report.landed, sent.len());
    assert!(counts.lost_requests > 0 && !counts.swallowed.is_empty() && counts.delayed > 0, "{counts:?}");
}

/// How long nobody is there: many blocks, and longer than any single retry.
const AWAY: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_restarts_or_vanishes() {
    let setup = Setup { proxied: true, settings: &[("WAIT_UNTIL", "ExecutedOptimistic")], ..Setup::default() };
    let mut stage = Stage::start("node_restarts_or_vanishes", setup).await;
    let requests = load::singles(stage.transfers(1_000));
    let (answered, mut progress) = watch::channel(0);
    let base = stage.service.base().to_owned();
    let running = tokio::spawn(async move { load::run(&base, requests, every(100), &answered).await });
    // In the middle of the load: some are answered, many are in flight.
    progress.wait_for(|answered| *answered >= 100).await.unwrap();
    let proxy = stage.proxy.as_mut().unwrap();
    proxy.set_open(false).await;
    let before = *progress.borrow();
    tokio::time::sleep(AWAY).await;
    let meanwhile = *progress.borrow() - before;
    proxy.set_open(true).await;
    let sent = running.await.unwrap();
    // Those that had been executed may still be answered.
    println!("node_restarts_or_vanishes: {before} answered before, {meanwhile} while it was away");
    assert!(!sent.iter().any(|sent| matches!(sent.outcome, Outcome::Broken(_))));
    assert_all_accepted(&sent);
    let claims = stage.settle(&sent).await;
    let report = stage.judge(&claims).await;
    summary("node_restarts_or_vanishes", &sent, &report);
    assert_eq!(report.landed, sent.len());
    assert!(meanwhile < 200, "the node was not away");
}
