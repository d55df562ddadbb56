//! Lives that end without a word, and what the next one makes of it.
use keyshard_engine::{Engine, JobStatus, StartError};

use crate::{
    config, sandbox,
    transfers::{PATIENCE, answerable, balance, transfer},
};

#[tokio::test]
async fn what_was_accepted_is_paid_once_by_the_next_life() {
    let node = sandbox(2);
    let mut ids = Vec::new();
    for life in 1..=4u32 {
        let (engine, mut doors) = Engine::start(config(&node)).await.unwrap();
        let mut tickets = Vec::new();
        for user in 1..=20 {
            let ticket = doors[0].submit(vec![transfer(&format!("user{user}.test.near"), 1)]).unwrap();
            tokio::time::timeout(PATIENCE, ticket.durable()).await.expect("the disk answers");
            ids.extend(ticket.ids().to_vec());
            tickets.push(ticket);
        }
        if life == 4 {
            let drained = engine.drain(PATIENCE).await;
            assert_eq!(drained.open, 0);
        }
        // Everything of this life ends here, wherever it is; only the journal stays.
    }
    for user in 1..=20 {
        assert_eq!(balance(&node, &format!("user{user}.test.near")).await, 4, "user{user}");
    }
    assert_eq!(ids.len(), 80);
}

#[tokio::test]
async fn open_transfers_are_known_from_the_start_and_settle() {
    let node = sandbox(3);
    let (engine, mut doors) = Engine::start(config(&node)).await.unwrap();
    let ticket = doors[1].submit((1..=30).map(|i| transfer(&format!("user{i}.test.near"), 7)).collect()).unwrap();
    tokio::time::timeout(PATIENCE, ticket.durable()).await.expect("the disk answers");
    drop((engine, doors));

    // Other keys, another number of shards.
    let mut other = config(&node);
    other.keys.truncate(1);
    other.shards = Some(1);
    let (engine, _doors) = Engine::start(other).await.unwrap();
    for id in ticket.ids() {
        let job = engine.job(*id).expect("known at once");
        assert_eq!(job.amount, 7);
    }
    let drained = engine.drain(PATIENCE).await;
    assert_eq!(drained.open, 0);
    assert!(ticket.ids().iter().all(|id| engine.job(*id).unwrap().status == JobStatus::Finalized));
    assert_eq!(balance(&node, "user30.test.near").await, 7);
}

#[tokio::test]
async fn two_engines_cannot_share_a_journal() {
    let node = sandbox(1);
    let (_engine, _doors) = Engine::start(config(&node)).await.unwrap();
    let Err(error) = Engine::start(config(&node)).await else { panic!("a second one started") };
    assert!(matches!(error, StartError::Journal(_)), "{error}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
}

#[tokio::test]
async fn the_journal_of_another_chain_is_refused() {
    let (node, wiped) = (sandbox(1), sandbox(1));
    let (engine, mut doors) = Engine::start(config(&node)).await.unwrap();
    let ticket = doors[0].submit(vec![transfer("user1.test.near", 1)]).unwrap();
    answerable(&ticket).await;
    drop((engine, doors));
    let mut elsewhere = config(&wiped);
    elsewhere.data_dir = node.data.path().into();
    let Err(error) = Engine::start(elsewhere).await else { panic!("it started") };
    assert!(matches!(error, StartError::OtherChain { .. }), "{error}");
    assert!(error.to_string().contains("choose another DATA_DIR"), "{error}");
}

#[tokio::test]
async fn old_segments_go_once_what_is_open_was_repeated() {
    let node = sandbox(4);
    let mut small = config(&node);
    small.segment_bytes = 16 * 1024;
    let (engine, mut doors) = Engine::start(small).await.unwrap();
    for _ in 0..12 {
        let transfers = (1..=50).map(|i| transfer(&format!("user{i}.test.near"), 1)).collect();
        let ticket = doors[0].submit(transfers).unwrap();
        answerable(&ticket).await;
    }
    drop((engine, doors));
    let segments = |extension: &str| {
        let files = std::fs::read_dir(node.data.path()).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|other| other == extension)).count()
    };
    // Each round writes about 20 KiB, so more than a dozen were written.
    assert!(segments("log") <= 8, "{} segments are left", segments("log"));
    let (engine, _doors) = Engine::start(config(&node)).await.unwrap();
    assert_eq!(engine.pending(), 0);
    for user in [1, 25, 50] {
        assert_eq!(balance(&node, &format!("user{user}.test.near")).await, 12);
    }
}
