//! Limits on spending, on the running binary: what exceeds them is held, not dropped, and a restart refills nothing.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{chain::reaches, serving::Stage, until};
use serde_json::{Value, json};

const ASYNC: (&str, &str) = ("prefer", "respond-async");

#[tokio::test]
async fn what_exceeds_a_limit_waits_through_a_kill_until_there_is_room() {
    let stage = Stage::new("spending", 100, &[]);
    let limit = |units| [("SPEND_LIMIT_PER_MINUTE", units), ("SPEND_LIMIT_PER_DAY", "6400")];
    let serving = stage.serve_with(&limit("100"));
    let pay = |user: &str, amount: &str| json!({ "receiverId": user, "amount": amount });
    // The minute is told apart to five seconds, so this counts for at least sixty: longer than the test.
    let paid = serving.send(&pay("user1.test.near", "90"), &[]).await;
    assert_eq!(paid.status, 200, "{paid:?}");
    let held = serving.send(&pay("user2.test.near", "20"), &[ASYNC]).await;
    assert_eq!(held.status, 202);
    let is_held = async |base: &str| {
        until("the limit is used up", || async {
            let (_, health) = common::get(base, "/health").await;
            let health: Value = serde_json::from_str(&health).unwrap();
            let named = health["conditions"][0]["name"] == "spend-limit";
            named.then(|| health["conditions"][0]["detail"].as_str().unwrap().to_owned())
        })
        .await
    };
    let detail = is_held(&serving.base).await;
    assert!(detail.contains("100 per minute"), "{detail}");
    assert_eq!(serving.get("/ready").await.0, 503);
    let (_, job) = serving.get(&format!("/transfer/{}", held.ids()[0])).await;
    assert_eq!(job["job"]["status"], "queued", "{job}");
    let never = serving.send(&pay("user3.test.near", "101"), &[]).await;
    assert_eq!(never.status, 403, "{never:?}");
    assert!(never.body["error"].as_str().unwrap().contains("nothing of this request was accepted"), "{never:?}");
    serving.kill();

    let serving = stage.serve_with(&limit("100"));
    is_held(&serving.base).await;
    assert_eq!(stage.balance("user2.test.near").await, 0);
    serving.kill();

    // What was spent is known by whatever limit there is.
    let serving = stage.serve_with(&limit("200"));
    reaches(&serving.base, &held.ids()[0], "finalized").await;
    let more = serving.send(&pay("user4.test.near", "110"), &[ASYNC]).await;
    is_held(&serving.base).await;
    let (_, job) = serving.get(&format!("/transfer/{}", more.ids()[0])).await;
    assert_eq!(job["job"]["status"], "queued", "{job}");
    for (user, amount) in [("user1.test.near", 90), ("user2.test.near", 20), ("user3.test.near", 0)] {
        assert_eq!(stage.balance(user).await, amount, "{user}");
    }
    serving.kill();
}
