//! `Prefer: respond-async`: answered as soon as the transfers are safe, and they are.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{chain::reaches, serving::Stage};
use serde_json::json;

const ASYNC: (&str, &str) = ("prefer", "respond-async");

#[tokio::test]
async fn accepted_answered_killed_and_paid_all_the_same() {
    // The first block comes long after the kill: nothing can have been executed when the answer is there.
    let stage = Stage::new("async-kill", 1_500, &[]);
    let serving = stage.serve();
    let one = serving.send(&json!({ "receiverId": "user1.test.near", "amount": "11", "memo": "one" }), &[ASYNC]).await;
    let transfers = [("user2.test.near", "22"), ("user3.test.near", "33")];
    let transfers = transfers.map(|(receiver, amount)| json!({ "receiverId": receiver, "amount": amount }));
    let two = serving.send(&json!({ "transfers": transfers }), &[ASYNC]).await;
    for (answer, count) in [(&one, 1), (&two, 2)] {
        assert_eq!(answer.status, 202, "{answer:?}");
        assert_eq!(answer.header("preference-applied"), "respond-async");
        assert_eq!(answer.body["status"], "processing");
        assert_eq!(answer.ids().len(), count);
        assert_eq!(answer.header("location"), format!("/transfer/{}", answer.ids()[0]));
    }
    serving.kill();

    let serving = stage.serve();
    for (id, amount) in one.ids().iter().chain(&two.ids()).zip(["11", "22", "33"]) {
        let job = reaches(&serving.base, id, "finalized").await;
        assert_eq!(job["amount"], amount, "{job}");
    }
    for (user, amount) in [("user1.test.near", 11), ("user2.test.near", 22), ("user3.test.near", 33)] {
        assert_eq!(stage.balance(user).await, amount);
    }
    serving.stop();
}

#[tokio::test]
async fn a_wait_that_is_long_enough_gets_the_outcome_and_a_short_one_does_not() {
    let stage = Stage::new("async-wait", 200, &[("WAIT_UNTIL", "ExecutedOptimistic")]);
    let serving = stage.serve();
    let body = json!({ "receiverId": "user1.test.near", "amount": "1" });
    let waited = serving.send(&body, &[("prefer", "respond-async, wait=15")]).await;
    assert_eq!((waited.status, waited.header("preference-applied")), (200, ""), "{waited:?}");
    let impatient = serving.send(&body, &[("prefer", "wait=0")]).await;
    assert_eq!((impatient.status, impatient.header("preference-applied")), (202, "wait=0"), "{impatient:?}");
    // What is no preference is no reason for anything.
    let unread = serving.send(&body, &[("prefer", "respond-async=please")]).await;
    assert_eq!((unread.status, unread.header("preference-applied")), (200, ""), "{unread:?}");
    let refused = serving.send(&json!({ "receiverId": "user1.test.near" }), &[ASYNC]).await;
    assert_eq!((refused.status, refused.header("preference-applied")), (400, ""), "{refused:?}");
    let empty = serving.send(&json!({ "transfers": [] }), &[ASYNC]).await;
    assert_eq!((empty.status, empty.header("preference-applied")), (200, ""), "{empty:?}");
    reaches(&serving.base, &impatient.ids()[0], "finalized").await;
    serving.stop();
}
