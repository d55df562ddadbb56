//! Transfers through a door, and what the chain says of them.
use std::{collections::BTreeSet, time::Duration};

use crate::{Node, config, sandbox, sandbox_with_blocks};
use keyshard_engine::{Door, Engine, JobStatus, NewTransfer, Refused, Ticket, rpc};

pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn transfer(receiver: &str, amount: u128) -> NewTransfer {
    NewTransfer { receiver: receiver.parse().unwrap(), amount, memo: None, key: None }
}

pub(crate) async fn answerable(ticket: &Ticket) {
    tokio::time::timeout(PATIENCE, ticket.answerable()).await.expect("an answer in time");
}

pub(crate) async fn balance(sandbox: &Node, account: &str) -> u128 {
    let client = rpc::Client::new(config(sandbox).rpc).unwrap();
    let args = format!(r#"{{"account_id":"{account}"}}"#);
    let answer = client
        .call_function(rpc::Route::Any, rpc::BlockRef::Final, "ft.test.near", "ft_balance_of", args.as_bytes())
        .await
        .unwrap();
    serde_json::from_slice::<String>(&answer.value.result).unwrap().parse().unwrap()
}

async fn start(sandbox: &Node) -> (Engine, Vec<Door>) {
    Engine::start(config(sandbox)).await.unwrap()
}

#[tokio::test]
async fn one_transfer_lands_and_the_board_and_the_chain_agree() {
    let sandbox = sandbox(3);
    let (engine, mut doors) = start(&sandbox).await;
    let ticket = doors[0].submit(vec![transfer("user1.test.near", 12_345)]).unwrap();
    answerable(&ticket).await;
    let job = engine.job(ticket.ids()[0]).unwrap();
    assert_eq!((job.status, job.execution_status), (JobStatus::Finalized, Some("FINAL")));
    assert_eq!((job.attempts, job.last_error.as_deref()), (1, None));
    assert_eq!(balance(&sandbox, "user1.test.near").await, 12_345);
    assert_eq!(engine.jobs_by_hash(&job.tx_hash.clone().unwrap()), [job]);
    assert_eq!((engine.pending(), engine.counts().finalized), (0, 1));
}

#[tokio::test]
async fn a_large_request_is_cut_over_the_keys_and_lands_whole() {
    let sandbox = sandbox(5);
    let (engine, mut doors) = start(&sandbox).await;
    let transfers = (0..1_050).map(|i| transfer(&format!("user{}.test.near", i % 100 + 1), 1)).collect();
    let ticket = doors[1].submit(transfers).unwrap();
    answerable(&ticket).await;
    assert_eq!(engine.counts().finalized, 1_050);
    for (user, expected) in [("user1.test.near", 11), ("user50.test.near", 11), ("user51.test.near", 10)] {
        assert_eq!(balance(&sandbox, user).await, expected, "{user}");
    }
    let batching = engine.batching();
    assert!(batching.batches >= 11 && batching.transfers == 1_050, "{batching:?}");
}

#[tokio::test]
async fn a_full_backlog_refuses_the_whole_request_and_nothing_of_it_lands() {
    let sandbox = sandbox(1);
    let mut config = config(&sandbox);
    config.max_pending = 11;
    let (engine, mut doors) = Engine::start(config).await.unwrap();
    let refused = doors[0].submit((0..12).map(|_| transfer("user1.test.near", 1)).collect());
    assert_eq!(refused.err(), Some(Refused::Full { pending: 0, requested: 12, limit: 11 }));
    assert_eq!(engine.pending(), 0, "the claim is undone");
    let ticket = doors[0].submit((0..11).map(|_| transfer("user2.test.near", 1)).collect()).unwrap();
    answerable(&ticket).await;
    assert_eq!((balance(&sandbox, "user1.test.near").await, balance(&sandbox, "user2.test.near").await), (0, 11));
}

#[tokio::test]
async fn a_bad_transfer_fails_alone() {
    let sandbox = sandbox(1);
    let (engine, mut doors) = start(&sandbox).await;
    // The front end would have refused to pay the payer; here the token has to.
    let supply = balance(&sandbox, "test.near").await;
    let transfers = vec![transfer("user1.test.near", 5), transfer("test.near", 5), transfer("user2.test.near", 7)];
    let ticket = doors[0].submit(transfers).unwrap();
    answerable(&ticket).await;
    let statuses: Vec<_> = ticket.ids().iter().map(|id| engine.job(*id).unwrap().status).collect();
    assert_eq!(statuses, [JobStatus::Finalized, JobStatus::Failed, JobStatus::Finalized]);
    let failed = engine.job(ticket.ids()[1]).unwrap();
    assert!(failed.last_error.unwrap().contains("Sender and receiver should be different"));
    assert_eq!(balance(&sandbox, "test.near").await, supply - 12);
}

#[tokio::test]
async fn draining_refuses_newcomers_and_waits_for_the_rest() {
    let sandbox = sandbox(2);
    let (engine, mut doors) = start(&sandbox).await;
    let ticket = doors[0].submit(vec![transfer("user1.test.near", 1)]).unwrap();
    let drained = engine.drain(PATIENCE).await;
    assert_eq!((drained.open, drained.hashes.len()), (0, 0));
    assert_eq!(engine.job(ticket.ids()[0]).unwrap().status, JobStatus::Finalized);
    assert_eq!(doors[0].submit(vec![transfer("user1.test.near", 1)]).err(), Some(Refused::Draining));
    assert_eq!(balance(&sandbox, "user1.test.near").await, 1);
}

#[tokio::test]
async fn a_drain_that_runs_out_of_time_names_the_open_transactions() {
    // Blocks that never come in time: what is sent stays open.
    let sandbox = sandbox_with_blocks(1, Duration::from_hours(1));
    let (engine, mut doors) = start(&sandbox).await;
    let ticket = doors[0].submit((1..=3).map(|i| transfer(&format!("user{i}.test.near"), 1)).collect()).unwrap();
    let hashes = async {
        loop {
            let jobs = ticket.ids().iter().map(|id| engine.job(*id).unwrap());
            let hashes: Option<BTreeSet<String>> = jobs.map(|job| job.tx_hash.as_deref().map(str::to_owned)).collect();
            match hashes {
                Some(hashes) => return hashes,
                None => tokio::task::yield_now().await,
            }
        }
    };
    let hashes = tokio::time::timeout(PATIENCE, hashes).await.expect("all are signed");
    let drained = engine.drain(Duration::from_millis(50)).await;
    assert_eq!((drained.open, BTreeSet::from_iter(drained.hashes)), (3, hashes));
}
