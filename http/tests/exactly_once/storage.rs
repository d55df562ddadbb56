//! Receivers that are not registered with the token.
use std::{collections::BTreeSet, time::Duration};

use keyshard_sandbox::Config;
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    audit::{Report, Told, Transfer},
    load::{self, Outcome},
    loads::summary,
    proxy::Faults,
    stage::{Setup, Stage},
};

fn is_bad(transfer: &Transfer) -> bool {
    transfer.receiver.starts_with("nobody")
}

/// With deposits off, unregistered receivers fail, and only they.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_batch() {
    poison("poison_batch", false).await;
}

/// The same where it shows only on chain: a transaction with a bad transfer fails as a whole, and its good ones go again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_shows_on_chain() {
    let report = poison("poison_shows_on_chain", true).await;
    assert!(report.failed_transactions > 0, "{report}");
}

async fn poison(name: &'static str, unforeseen: bool) -> Report {
    // Each bad transfer takes the time of a failure at finality: shorter blocks keep that short.
    let chain = Config { block_ms: if unforeseen { 200 } else { 600 }, ..Config::default() };
    let setup = Setup { chain, proxied: unforeseen, settings: &[("STORAGE_DEPOSIT", "never")] };
    let mut stage = Stage::start(name, setup).await;
    if let Some(proxy) = &stage.proxy {
        proxy.set(Faults { pretend_registered: true, ..Faults::default() });
    }
    // Twenty batches of ten: every third has no bad one, the others up to four, in random places.
    let mut requests: Vec<Vec<Transfer>> = stage.transfers(200).chunks(10).map(<[_]>::to_vec).collect();
    let mut names = 0;
    for request in requests.iter_mut().enumerate().filter(|(index, _)| index % 3 != 0).map(|(_, request)| request) {
        for _ in 0..=stage.random.below(4) {
            names += 1;
            let place = stage.random.below(request.len());
            request[place].receiver = format!("nobody{names}.test.near");
        }
    }
    let sent = load::run(stage.service.base(), requests, Duration::from_millis(50), &watch::Sender::new(0)).await;
    for request in &sent {
        let Outcome::Answered(status, body) = &request.outcome else { panic!("{request:?}") };
        let poisoned = request.transfers.iter().any(is_bad);
        assert_eq!(*status, if poisoned { 500 } else { 200 }, "{body}");
        let results = body["results"].as_array().unwrap();
        assert_eq!(results.len(), request.transfers.len());
        for (transfer, result) in request.transfers.iter().zip(results) {
            assert_eq!(result["memo"], transfer.memo.as_str(), "{body}");
            assert_eq!(result["receiverId"], transfer.receiver.as_str(), "{body}");
            assert_eq!(result["amount"], transfer.amount.to_string(), "{body}");
            assert_eq!(result["status"] == "failed", is_bad(transfer), "{result}");
            if is_bad(transfer) {
                assert!(result["error"].as_str().is_some_and(|why| why.contains("is not registered")), "{result}");
            } else {
                assert!(result["transactionHash"].is_string() && result["status"] != Value::Null, "{result}");
            }
        }
    }
    let claims = stage.settle(&sent).await;
    for claim in &claims {
        assert_eq!(claim.told == Told::Failed, is_bad(&claim.transfer), "{claim:?}");
    }
    let report = stage.judge(&claims).await;
    summary(name, &sent, &report);
    let bad = claims.iter().filter(|claim| is_bad(&claim.transfer)).count();
    assert!(bad >= 13, "{bad}");
    assert_eq!(report.landed, claims.len() - bad);
    report
}

/// By default, new receivers are registered in front of their first transfer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_storage() {
    let chain = Config { keys: 6, ..Config::default() };
    let mut stage = Stage::start("late_storage", Setup { chain, ..Setup::default() }).await;
    // Sixty new receivers with five transfers each, among as many to old ones.
    let mut transfers = stage.transfers(600);
    for (index, transfer) in transfers.iter_mut().enumerate().filter(|(index, _)| index % 2 == 0) {
        transfer.receiver = format!("new{}.test.near", index / 2 % 60);
    }
    let requests = load::singles(transfers);
    let sent = load::run(stage.service.base(), requests, Duration::from_millis(5), &watch::Sender::new(0)).await;
    let other = sent.iter().find(|sent| sent.status() != 200);
    assert!(other.is_none(), "{other:?}");
    let claims = stage.settle(&sent).await;
    let report = stage.judge(&claims).await;
    summary("late_storage", &sent, &report);
    let registered: usize = report.deposits.values().sum();
    println!("late_storage: {registered} registrations of {} receivers", report.deposits.len());
    assert_eq!(report.landed, sent.len());
    let new: BTreeSet<_> = (0..60).map(|index| format!("new{index}.test.near")).collect();
    assert!(new.iter().all(|account| report.deposits.contains_key(account)), "{:?}", report.deposits);
    assert!(report.deposits.keys().all(|account| new.contains(account)), "{:?}", report.deposits);
}
