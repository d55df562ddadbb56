//! `kill -9` at any moment: what a client was told still holds in the next life.
use std::time::Duration;

use tokio::sync::watch;

use crate::{
    audit::{Claim, Told},
    load::{self, Outcome, Sent},
    loads::summary,
    proxy::{Faults, WAYS},
    stage::{Setup, Stage, every, from_env},
};

/// Transfers a second while the service lives.
const RATE: u64 = 100;
/// Most transfers of one life.
const LIFE: usize = 250;

/// Accepted (200 and 202) is a promise, whatever happens to the process; without an answer it may be paid once or not.
fn claims(sent: &[Sent]) -> Vec<Claim> {
    let told = |request: &Sent| match &request.outcome {
        Outcome::Answered(200 | 202, _) => Told::Paid,
        Outcome::Answered(503, _) | Outcome::Unsent => Told::Failed,
        Outcome::Broken(_) => Told::Nothing,
        Outcome::Answered(status, body) => panic!("{status} {body}"),
    };
    let claim = |request: &Sent| Claim { transfer: request.transfers[0].clone(), told: told(request) };
    sent.iter().map(claim).collect()
}

async fn lives(name: &'static str, proxied: bool) {
    let rounds = from_env("KEYSHARD_KILL_ROUNDS", 6);
    let chain = keyshard_sandbox::Config { block_ms: 200, keys: 4, ..keyshard_sandbox::Config::default() };
    // Many are told 202 before they are final, so that a promise is all they have when the process dies.
    let settings = &[("REQUEST_TIMEOUT_MS", "700"), ("MAX_BATCH_SIZE", "10"), ("JOURNAL_SEGMENT_BYTES", "8388608")];
    let mut stage = Stage::start(name, Setup { chain, proxied, settings }).await;
    if let Some(proxy) = &stage.proxy {
        proxy.set(Faults { lose_answers: 0.1, ways: WAYS.to_vec(), ..Faults::default() });
    }
    let transfers = stage.transfers(usize::try_from(rounds).unwrap() * LIFE);
    let mut sent = Vec::new();
    for life in transfers.chunks(LIFE) {
        let (answered, mut progress) = watch::channel(0);
        let (base, requests) = (stage.service.base().to_owned(), load::singles(life.to_vec()));
        let running = tokio::spawn(async move { load::run(&base, requests, every(RATE), &answered).await });
        // Some moment after so many answers: while others are being signed, sent, executed, and told.
        let answers = 1 + stage.random.below(LIFE - 50);
        progress.wait_for(|answered| *answered >= answers).await.unwrap();
        tokio::time::sleep(Duration::from_millis(stage.random.below(50) as u64)).await;
        stage.kill_and_restart();
        sent.extend(running.await.unwrap());
    }
    stage.idle().await;
    let claims = claims(&sent);
    let count = |told: fn(&Told) -> bool| claims.iter().filter(|claim| told(&claim.told)).count();
    let (promised, untold) = (count(|told| matches!(told, Told::Paid)), count(|told| matches!(told, Told::Nothing)));
    let report = stage.judge(&claims).await;
    println!("{name}: {rounds} kills, {promised} promised, {untold} without an answer");
    summary(name, &sent, &report);
    assert!(promised >= 100 && untold >= 10, "{promised} {untold}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment() {
    lives("killed_at_any_moment", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_answers_are_lost() {
    lives("killed_while_answers_are_lost", true).await;
}
