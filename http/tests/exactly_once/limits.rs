//! More than is allowed, and the end of the process.
use std::time::Duration;

use tokio::sync::watch;

use crate::{
    audit::Told,
    load::{self, Outcome},
    loads::summary,
    stage::{Setup, Stage, every},
};

const LIMIT: u64 = 500;
/// A refusal needs no node. This is for a debug build that serves 3,000 new connections on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload() {
    let mut stage =
        Stage::start("overload", Setup { settings: &[("MAX_PENDING_JOBS", "500")], ..Setup::default() }).await;
    let requests = load::singles(stage.transfers(3_000));
    let sent = load::run(stage.service.base(), requests, Duration::ZERO, &watch::Sender::new(0)).await;
    let (refused, accepted): (Vec<_>, Vec<_>) = sent.iter().cloned().partition(|sent| sent.status() == 503);
    for request in &refused {
        let Outcome::Answered(_, body) = &request.outcome else { panic!("{request:?}") };
        let pending = body["pendingJobs"].as_u64().unwrap();
        assert!(pending <= LIMIT, "{body}");
        assert_eq!(
            *body,
            serde_json::json!({
                "error": "Service overloaded, please retry later",
                "details": format!("Pending transfer backlog is full ({pending} pending, requested 1, limit {LIMIT})"),
                "pendingJobs": pending,
                "capacity": LIMIT,
                "retryAfterSeconds": 5,
            })
        );
        assert!(request.latency < AT_ONCE, "{:?}", request.latency);
    }
    let other = accepted.iter().find(|sent| !matches!(sent.status(), 200 | 202));
    assert!(other.is_none(), "{other:?}");
    assert!(accepted.len() as u64 >= LIMIT && !refused.is_empty(), "{} accepted", accepted.len());
    let claims = stage.settle(&sent).await;
    let report = stage.judge(&claims).await;
    summary("overload", &sent, &report);
    println!("overload: {} refused in {}", refused.len(), load::percentiles(&refused));
    assert_eq!(report.landed, accepted.len());
}

/// Above the service's own limit, which is set to 20 s.
const DRAINED: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_drains() {
    let settings = &[("WAIT_UNTIL", "ExecutedOptimistic"), ("DRAIN_TIMEOUT_MS", "20000")];
    let mut stage = Stage::start("sigterm_drains", Setup { settings, ..Setup::default() }).await;
    let requests = load::singles(stage.transfers(800));
    let (answered, mut progress) = watch::channel(0);
    let base = stage.service.base().to_owned();
    let running = tokio::spawn(async move { load::run(&base, requests, every(200), &answered).await });
    progress.wait_for(|answered| *answered >= 200).await.unwrap();
    stage.service.terminate();
    let status = stage.service.end(DRAINED).await;
    assert!(status.success(), "{status}");
    let sent = running.await.unwrap();

    // Nobody is left to ask: a client knows what it was answered. All in flight at the signal were drained, so that
    // also an open end has to be on chain.
    let mut claims = Vec::new();
    for request in &sent {
        let told = match &request.outcome {
            Outcome::Answered(200 | 202, _) => Told::Paid,
            Outcome::Answered(503, _) | Outcome::Unsent => Told::Failed,
            Outcome::Answered(status, body) => panic!("{status} {body}"),
            Outcome::Broken(why) => {
                println!("sigterm_drains: unanswered: {why}");
                Told::Nothing
            }
        };
        let transfer = request.transfers[0].clone();
        claims.push(crate::audit::Claim { transfer, told });
    }
    let report = stage.judge(&claims).await;
    summary("sigterm_drains", &sent, &report);
    let count = |told| claims.iter().filter(|claim| claim.told == told).count();
    let (refused, unanswered) = (count(Told::Failed), count(Told::Nothing));
    println!("sigterm_drains: {refused} refused, {unanswered} unanswered, {} of them on chain", report.unheard);
    assert!(count(Told::Paid) >= 200 && refused + unanswered > 0, "the signal did not come in the middle");
}
