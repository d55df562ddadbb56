//! P6: the same key is the same transfer, while it is under way, after it is paid, and in the next life.
use keyshard_engine::{Engine, IdempotencyKey, JobStatus, NewTransfer, Refused};

use crate::{
    config, sandbox,
    transfers::{PATIENCE, answerable, balance, transfer},
};

fn named(receiver: &str, amount: u128, name: &str) -> NewTransfer {
    NewTransfer { key: Some(IdempotencyKey { name: name.into(), of: 1 }), ..transfer(receiver, amount) }
}

fn reused(name: &str) -> Refused {
    Refused::KeyReused { name: name.into() }
}

#[tokio::test]
async fn the_same_key_pays_once_in_flight_and_afterwards() {
    let node = sandbox(2);
    let mut config = config(&node);
    config.settled_kept = 0;
    let (engine, mut doors) = Engine::start(config).await.unwrap();
    let asked = || vec![named("user1.test.near", 7, "a"), transfer("user2.test.near", 7)];
    let first = doors[0].submit(asked()).unwrap();
    let joined = doors[1].submit(asked()[..1].to_vec()).unwrap();
    assert_eq!((joined.ids(), joined.replayed()), (&first.ids()[..1], true));
    answerable(&first).await;
    answerable(&joined).await;
    let again = doors[1].submit(asked()).unwrap();
    assert!(!again.replayed(), "the one without a key is another transfer");
    answerable(&again).await;
    assert_eq!(again.ids()[0], first.ids()[0]);
    assert_ne!(again.ids()[1], first.ids()[1]);
    assert_eq!(doors[0].submit(vec![named("user1.test.near", 8, "a")]).err(), Some(reused("a")));
    assert_eq!(engine.drain(PATIENCE).await.open, 0);
    assert_eq!((balance(&node, "user1.test.near").await, balance(&node, "user2.test.near").await), (7, 14));
}

#[tokio::test]
async fn keys_outlive_a_restart_whether_their_transfers_are_open_or_settled() {
    let node = sandbox(2);
    let (engine, mut doors) = Engine::start(config(&node)).await.unwrap();
    let paid = doors[0].submit(vec![named("user1.test.near", 5, "paid")]).unwrap();
    answerable(&paid).await;
    // The front end would have refused to pay the payer; here the token has to.
    let failed = doors[0].submit(vec![named("test.near", 5, "failed")]).unwrap();
    answerable(&failed).await;
    let ids = [paid.ids()[0], failed.ids()[0]];
    let jobs = ids.map(|id| engine.job(id).unwrap());
    assert_eq!(jobs.each_ref().map(|job| job.status), [JobStatus::Finalized, JobStatus::Failed]);
    let open = doors[0].submit(vec![named("user2.test.near", 5, "open")]).unwrap();
    tokio::time::timeout(PATIENCE, open.durable()).await.expect("the disk answers");
    drop((engine, doors));

    let (engine, mut doors) = Engine::start(config(&node)).await.unwrap();
    let asked =
        [named("user1.test.near", 5, "paid"), named("test.near", 5, "failed"), named("user2.test.near", 5, "open")];
    let settled = doors[1].submit(asked[..2].to_vec()).unwrap();
    assert_eq!((settled.ids(), settled.replayed()), (&ids[..], true));
    answerable(&settled).await;
    assert_eq!(ids.map(|id| engine.job(id).unwrap()), jobs, "the same answer");
    let joined = doors[0].submit(asked.to_vec()).unwrap();
    assert_eq!((joined.ids()[2], joined.replayed()), (open.ids()[0], true));
    for other in &asked {
        let other = NewTransfer { amount: 6, ..other.clone() };
        let name = other.key.as_ref().unwrap().name.clone();
        assert_eq!(doors[0].submit(vec![transfer("user3.test.near", 5), other]).err(), Some(reused(&name)));
    }
    answerable(&joined).await;
    assert_eq!(engine.job(open.ids()[0]).unwrap().status, JobStatus::Finalized);
    assert_eq!(engine.pending(), 0);
    for (user, expected) in [("user1.test.near", 5), ("user2.test.near", 5), ("user3.test.near", 0)] {
        assert_eq!(balance(&node, user).await, expected, "{user}");
    }
}
