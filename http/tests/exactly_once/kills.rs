//! `kill -9` at any moment, and again: what clients were told still holds in every later life.
//!
//! `KEYSHARD_KILL_ROUNDS` and `KEYSHARD_SEED` make it longer and different.
use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::{
    audit::Told,
    customers::Customers,
    proxy::{Faults, WAYS},
    stage::{Setup, Stage, from_env},
};

/// Orders a second, whether the service lives or not.
const RATE: u64 = 60;
/// Longest life, from when it is ready, and longest start that is cut short.
const LIFE: usize = 1_500;
const CHILDHOOD: usize = 150;

/// Bad times and good ones, by turns: some ends need answers to be proven.
fn faults(round: u64) -> Faults {
    let none = Faults { ways: WAYS.to_vec(), ..Faults::default() };
    match round % 3 {
        0 => none,
        1 => Faults { lose_answers: 0.1, lose_requests: 0.05, ..none },
        _ => Faults { lose_answers: 0.25, delay_answers: 0.1, delay: Duration::from_millis(400), ..none },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_while_answers_are_lost() {
    let name = "killed_at_any_moment";
    let rounds = from_env("KEYSHARD_KILL_ROUNDS", 30);
    let chain = keyshard_sandbox::Config { block_ms: 100, keys: 4, ..keyshard_sandbox::Config::default() };
    // Some are told 200 and some 202, so that for many a promise is all they have when the process dies.
    let settings = &[("REQUEST_TIMEOUT_MS", "500"), ("MAX_BATCH_SIZE", "10"), ("JOURNAL_SEGMENT_BYTES", "8388608")];
    let mut stage = Stage::start(name, Setup { chain, proxied: true, settings }).await;
    let began = Instant::now();
    let (base, up) = watch::channel(Some(stage.service.base().to_owned()));
    let (stop, stopped) = watch::channel(false);
    let customers = Customers::new(up);
    let running = {
        let (customers, receivers) = (customers.clone(), stage.sandbox.credentials().receivers.clone());
        let random = stage.random.fork();
        tokio::spawn(async move { customers.run(name, &receivers, RATE, random, stopped).await })
    };
    let mut cut_short = 0;
    for round in 0..rounds {
        stage.set_faults(faults(round));
        // Some moment, while transfers are being accepted, signed, sent, executed, settled and told.
        tokio::time::sleep(Duration::from_millis(stage.random.below(LIFE) as u64)).await;
        base.send_replace(None);
        stage.service.kill();
        if round % 4 != 1 {
            // An answer that is lost during a start costs it a second.
            stage.set_faults(Faults::default());
        }
        // Now and then the next life dies while it takes over.
        while stage.random.chance(0.35) {
            let age = stage.random.below(CHILDHOOD) as u64;
            stage.start_and_kill(Duration::from_millis(age)).await;
            cut_short += 1;
        }
        stage.restart();
        base.send_replace(Some(stage.service.base().to_owned()));
    }
    stage.set_faults(Faults::default());
    stop.send_replace(true);
    let claims = running.await.unwrap();
    stage.idle().await;
    // What they were told last must hold in one more life, which knows it from the disk alone.
    base.send_replace(None);
    stage.service.kill();
    stage.restart();
    base.send_replace(Some(stage.service.base().to_owned()));
    let asked = customers.ask_for_all().await;

    let seen = customers.seen();
    let count = |told: Told| claims.iter().filter(|claim| claim.told == told).count();
    let (promised, untold) = (count(Told::Paid), count(Told::Nothing));
    let faults = stage.proxy.as_ref().unwrap().faults();
    let report = stage.judge(&claims).await;
    let (kills, transfers, seconds) = (rounds + cut_short + 1, claims.len(), began.elapsed().as_secs());
    println!(
        "{name}: {kills} kills ({cut_short} of them during a start), {transfers} transfers, {faults} faults in {seconds} s"
    );
    println!("{name}: {promised} promised, {untold} without an answer, {asked} asked for at the end; {seen:?}");
    println!("{name}: {report}");
    assert!(promised as u64 >= 20 * rounds, "{promised} promised");
    assert!(faults as u64 >= rounds, "{faults} faults");
    for what in [&seen.broken, &seen.replayed, &seen.refused, &seen.asked] {
        assert!(what.load(Relaxed) as u64 >= rounds / 4, "{seen:?}");
    }
}
