//! Settled transfers are known by id, hash and key, from memory or from the disk, in this life and the next.
use std::time::Duration;

use keyshard_engine::{Engine, IdempotencyKey, Job, NewTransfer, StartError};
use uuid::Uuid;

use crate::{
    config, sandbox,
    transfers::{PATIENCE, answerable, transfer},
};

async fn refusal(config: keyshard_engine::Config) -> StartError {
    match Engine::start(config).await {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn what_settled_is_known_after_it_left_memory_and_after_a_restart() {
    let node = sandbox(1);
    let mut small = config(&node);
    // Nothing stays in memory, and segments go as soon as they may.
    small.settled_kept = 0;
    small.segment_bytes = 16 * 1024;
    let (engine, mut doors) = Engine::start(small).await.unwrap();
    let mut known: Vec<Vec<Job>> = Vec::new();
    for round in 0..12 {
        let transfers = (1..=40).map(|i| NewTransfer {
            memo: Some(format!("round {round}")),
            key: Some(IdempotencyKey { name: format!("{round}#{i}").into(), of: 40 }),
            ..transfer(&format!("user{i}.test.near"), 1)
        });
        let ticket = doors[0].submit(transfers.collect()).unwrap();
        answerable(&ticket).await;
        known.push(ticket.ids().iter().map(|id| engine.job(*id).unwrap()).collect());
    }
    let check = |engine: &Engine| {
        for (round, jobs) in known.iter().enumerate() {
            for (i, job) in (1..).zip(jobs) {
                assert_eq!(engine.job(job.id).as_ref(), Some(job), "by id");
                assert_eq!(engine.job_by_key(&format!("{round}#{i}")).as_ref(), Some(job), "by key");
            }
            for job in jobs {
                let hash = job.tx_hash.as_ref().unwrap();
                let mates = jobs.iter().filter(|other| other.tx_hash.as_ref() == Some(hash));
                let (mut mates, mut found): (Vec<Uuid>, Vec<Uuid>) =
                    (mates.map(|job| job.id).collect(), engine.jobs_by_hash(hash).iter().map(|job| job.id).collect());
                mates.sort_unstable();
                found.sort_unstable();
                assert_eq!(mates, found, "by hash");
            }
        }
    };
    check(&engine);
    assert_eq!(engine.counts().finalized, 480);
    assert_eq!(engine.drain(PATIENCE).await.open, 0);
    drop((engine, doors));
    let files = std::fs::read_dir(node.data.path()).unwrap();
    let is_segment = |file: &std::fs::DirEntry| file.path().extension().is_some_and(|extension| extension == "log");
    let segments = files.filter(|file| is_segment(file.as_ref().unwrap())).count();
    assert!(segments <= 8, "{segments} segments are left: the history alone knows the first rounds");
    let (engine, _doors) = Engine::start(config(&node)).await.unwrap();
    check(&engine);
}

/// The history is lost or behind: what the journal still holds is put into it again.
#[tokio::test]
async fn what_the_journal_still_holds_is_put_into_a_history_that_lacks_it() {
    let node = sandbox(1);
    let (engine, mut doors) = Engine::start(config(&node)).await.unwrap();
    let ticket = doors[0]
        .submit(vec![transfer("user1.test.near", 5), transfer("test.near", 5), transfer("user2.test.near", 7)])
        .unwrap();
    answerable(&ticket).await;
    assert_eq!(engine.drain(PATIENCE).await.open, 0);
    let jobs: Vec<Job> = ticket.ids().iter().map(|id| engine.job(*id).unwrap()).collect();
    drop((engine, doors));
    std::fs::remove_dir_all(node.data.path().join("history")).unwrap();
    let (engine, _doors) = Engine::start(config(&node)).await.unwrap();
    for job in &jobs {
        let again = engine.job(job.id).unwrap();
        // The journal and the board each look at the clock.
        assert_eq!(
            Job { updated_at_ms: 0, created_at_ms: 0, ..again },
            Job { updated_at_ms: 0, created_at_ms: 0, ..job.clone() }
        );
    }
}

#[tokio::test]
async fn a_history_that_cannot_be_trusted_stops_the_start() {
    let (node, other) = (sandbox(1), sandbox(1));
    drop(Engine::start(config(&node)).await.unwrap());
    // Another chain's, beside the journal of this one.
    drop(Engine::start(config(&other)).await.unwrap());
    let file = |node: &crate::Node| node.data.path().join("history/history.redb");
    let sound = std::fs::read(file(&node)).unwrap();
    std::fs::copy(file(&other), file(&node)).unwrap();
    let error = refusal(config(&node)).await;
    assert!(matches!(error, StartError::History(_)), "{error}");
    assert!(error.to_string().contains("is of another chain"), "{error}");
    std::fs::write(file(&node), b"something else").unwrap();
    let error = refusal(config(&node)).await.to_string();
    assert!(error.contains("is damaged or is none"), "{error}");
    std::fs::write(file(&node), sound).unwrap();
    Engine::start(config(&node)).await.unwrap();
}

#[tokio::test]
async fn a_retention_below_a_day_is_refused() {
    let node = sandbox(1);
    let mut short = config(&node);
    short.history_retention = Duration::from_hours(24) - Duration::from_secs(1);
    let error = refusal(short).await;
    assert!(matches!(error, StartError::Config(_)), "{error}");
    assert!(error.to_string().contains("HISTORY_RETENTION") && error.to_string().contains("24 hours"), "{error}");
}
