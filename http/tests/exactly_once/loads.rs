//! Loads on a healthy node.
use std::time::Duration;

use keyshard_sandbox::Config;

use crate::{
    audit::{Claim, Report, Told},
    load::{self, Outcome, Sent},
    stage::{Setup, Stage, every, from_env},
};

const OPTIMISTIC: &[(&str, &str)] = &[("WAIT_UNTIL", "ExecutedOptimistic")];

/// One line that says it all.
pub(crate) fn summary(name: &str, sent: &[Sent], report: &Report) {
    let told = sent.iter().filter(|sent| matches!(sent.status(), 200 | 202)).count();
    let (offered, latencies) = (sent.len(), load::percentiles(sent));
    println!("{name}: offered {offered}, answered 2xx {told}, {report}, answered in {latencies}");
}

fn assert_all_200(sent: &[Sent]) {
    let other = sent.iter().find(|sent| sent.status() != 200);
    assert!(other.is_none(), "{other:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_lands_once() {
    let (rate, seconds) = (from_env("KEYSHARD_LOAD_RATE", 300), from_env("KEYSHARD_LOAD_SECONDS", 15));
    let setup = Setup { settings: OPTIMISTIC, ..Setup::default() };
    let mut stage = Stage::start("load_lands_once", setup).await;
    let sent = stage.load(rate, seconds).await;
    assert_all_200(&sent);
    let claims = stage.settle(&sent).await;
    let report = stage.judge(&claims).await;
    summary("load_lands_once", &sent, &report);
    assert_eq!(report.landed, sent.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_lands_once() {
    let setup = Setup { chain: Config { keys: 1, ..Config::default() }, settings: OPTIMISTIC, ..Setup::default() };
    let mut stage = Stage::start("one_key_lands_once", setup).await;
    let sent = stage.load(100, 6).await;
    assert_all_200(&sent);
    let claims = stage.settle(&sent).await;
    let report = stage.judge(&claims).await;
    summary("one_key_lands_once", &sent, &report);
    assert_eq!(report.landed, sent.len());
}

/// The check itself, from the request to the verdict: it must see what it is there for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_auditor_sees_what_is_wrong() {
    let chain = Config { block_ms: 100, keys: 2, receivers: 5, ..Config::default() };
    let mut stage = Stage::start("auditor", Setup { chain, ..Setup::default() }).await;
    let transfers = stage.transfers(4);
    // The first is asked for twice, the last never.
    let asked = [0, 0, 1, 2].map(|index: usize| vec![transfers[index].clone()]).to_vec();
    let base = stage.service.base();
    let sent = load::run(base, asked, Duration::ZERO, &tokio::sync::watch::Sender::new(0)).await;
    assert!(sent.iter().all(|sent| matches!(sent.outcome, Outcome::Answered(200, _))), "{sent:?}");
    let told = [Told::Paid, Told::Paid, Told::Failed, Told::Paid];
    let claims: Vec<_> = transfers.iter().cloned().zip(told).map(|(transfer, told)| Claim { transfer, told }).collect();
    let report = stage.auditor.report(&claims).await;
    assert_eq!(report.doubled.len(), 1, "{report}");
    assert!(report.doubled[0].starts_with("auditor-0 "), "{report}");
    assert_eq!(report.wrong.len(), 1, "{report}");
    assert!(report.wrong[0].starts_with("auditor-2 "), "{report}");
    assert_eq!(report.lost, ["auditor-3"], "{report}");
    assert!(report.balances.is_empty() && report.landed == 4, "{report}");
    assert_eq!(every(4), Duration::from_millis(250));
}
