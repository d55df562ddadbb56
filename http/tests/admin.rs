//! Orders to the running binary: pause, quarantine, cancel; who may give them, and that they outlive a kill.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{
    chain::{key_nonce, reaches},
    client,
    serving::{Serving, Stage},
    until,
};
use serde_json::{Value, json};

const ASYNC: (&str, &str) = ("prefer", "respond-async");

async fn order(serving: &Serving, path: &str, body: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let request = client().post(format!("{}{path}", serving.base)).body(body.to_owned());
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// Waits until `/health` names this condition.
async fn is_told(serving: &Serving, name: &str) {
    until(name, || async {
        let (_, health) = serving.get("/health").await;
        let mut conditions = health["conditions"].as_array().into_iter().flatten();
        conditions.any(|condition| condition["name"] == name).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pause_holds_through_a_kill_and_what_it_holds_can_be_taken_back() {
    let stage = Stage::new("admin-pause", 200, &[]);
    let serving = stage.serve();
    let (status, told) = order(&serving, "/admin/pause", r#"{"reason":"incident 7"}"#, &[]).await;
    assert_eq!((status, &told["paused"]["reason"]), (200, &json!("incident 7")), "{told}");
    let send = async |serving: &Serving, user: &str, amount: &str| {
        let body = json!({ "receiverId": user, "amount": amount });
        serving.send(&body, &[ASYNC, ("idempotency-key", user)]).await
    };
    let (kept, taken) = (send(&serving, "user1.test.near", "11").await, send(&serving, "user2.test.near", "22").await);
    assert_eq!((kept.status, taken.status), (202, 202));
    is_told(&serving, "paused").await;
    assert_eq!(serving.get("/ready").await.0, 503);
    serving.kill();

    let serving = stage.serve();
    let (_, told) = serving.get("/admin").await;
    assert_eq!(
        (&told["paused"]["reason"], told["keys"].as_array().unwrap().len()),
        (&json!("incident 7"), 2),
        "{told}"
    );
    let cancel = format!("/admin/transfers/{}/cancel", taken.ids()[0]);
    let (status, told) = order(&serving, &cancel, r#"{"reason":"wrong person"}"#, &[]).await;
    assert_eq!((status, &told["job"]["status"]), (200, &json!("failed")), "{told}");
    assert_eq!(told["job"]["lastError"], "Cancelled: wrong person");
    let (status, told) = order(&serving, &cancel, "", &[]).await;
    assert_eq!((status, &told["success"]), (409, &json!(false)), "{told}");
    assert_eq!(order(&serving, "/admin/transfers/x/cancel", "", &[]).await.0, 404);
    // Cancelled for good: neither another life nor its client brings it back.
    serving.kill();
    let serving = stage.serve();
    let again = send(&serving, "user2.test.near", "22").await;
    assert_eq!((again.status, again.is_replayed()), (500, true), "{again:?}");

    let (status, told) = order(&serving, "/admin/resume", "", &[]).await;
    assert_eq!((status, &told["paused"]), (200, &Value::Null));
    reaches(&serving.base, &kept.ids()[0], "finalized").await;
    assert_eq!(serving.get("/ready").await.0, 200);
    let (status, told) = order(&serving, &format!("/admin/transfers/{}/cancel", kept.ids()[0]), "", &[]).await;
    assert_eq!((status, &told["job"]["status"]), (409, &json!("finalized")));
    assert_eq!((stage.balance("user1.test.near").await, stage.balance("user2.test.near").await), (11, 0));
    serving.stop();
}

#[tokio::test]
async fn a_key_in_quarantine_signs_nothing_until_it_is_released() {
    let stage = Stage::new("admin-quarantine", 100, &[("WAIT_UNTIL", "Final")]);
    let serving = stage.serve();
    let (_, told) = serving.get("/admin").await;
    let keys: Vec<String> =
        told["keys"].as_array().unwrap().iter().map(|key| key["publicKey"].as_str().unwrap().to_owned()).collect();
    let nonce = async |key: &str| key_nonce(&stage.credentials().rpc, "test.near", key).await;
    let (status, told) = order(&serving, &format!("/admin/keys/{}/quarantine", keys[0]), "", &[]).await;
    assert_eq!((status, &told["keys"][0]["quarantined"]), (200, &json!(true)), "{told}");
    assert_eq!(order(&serving, "/admin/keys/ed25519:none/quarantine", "", &[]).await.0, 404);
    serving.kill();
    let serving = stage.serve();
    is_told(&serving, "key-quarantined").await;
    assert_eq!(serving.get("/ready").await.0, 200, "the other key pays");
    let before = nonce(&keys[0]).await;
    for _ in 0..6 {
        let paid = serving.send(&json!({ "receiverId": "user1.test.near", "amount": "1" }), &[]).await;
        assert_eq!(paid.status, 200, "{paid:?}");
    }
    assert_eq!(nonce(&keys[0]).await, before);
    let (status, _) = order(&serving, &format!("/admin/keys/{}/quarantine", keys[1]), "", &[]).await;
    assert_eq!(status, 200);
    let held = serving.send(&json!({ "receiverId": "user1.test.near", "amount": "1" }), &[ASYNC]).await;
    is_told(&serving, "no-key").await;
    let (status, _) = order(&serving, &format!("/admin/keys/{}/release", keys[0]), "", &[]).await;
    assert_eq!(status, 200);
    reaches(&serving.base, &held.ids()[0], "finalized").await;
    assert!(nonce(&keys[0]).await > before);
    assert_eq!(stage.balance("user1.test.near").await, 7);
    serving.stop();
}

#[tokio::test]
async fn orders_are_taken_from_whom_they_should() {
    let stage = Stage::new("admin-who", 200, &[]);
    let serving = stage.serve();
    for header in [("origin", "http://evil.example"), ("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=x")] {
        let (status, told) = order(&serving, "/admin/pause", "", &[header]).await;
        assert_eq!(status, 403, "{header:?}");
        assert!(told["error"].as_str().unwrap().contains("API_KEYS_FILE"), "{told}");
    }
    for body in ["x", r#"{"why":"x"}"#, &format!(r#"{{"reason":"{}"}}"#, "x".repeat(501))] {
        assert_eq!(order(&serving, "/admin/pause", body, &[]).await.0, 400);
    }
    assert_eq!(serving.get("/admin").await.1["paused"], Value::Null);
    serving.stop();

    let file = [("API_KEYS_FILE", "api-keys")];
    let key = async |scopes: &str| {
        let made = stage.run_with(&["api-keys", "add", "--name", scopes, "--scopes", scopes], &file).end_with_output();
        made.1.lines().find(|line| line.starts_with("ks_")).unwrap().to_owned()
    };
    let (read, admin) = (format!("Bearer {}", key("read").await), format!("Bearer {}", key("admin").await));
    let serving = stage.serve_with(&file);
    assert_eq!(order(&serving, "/admin/pause", "", &[]).await.0, 401);
    assert_eq!(order(&serving, "/admin/pause", "", &[("authorization", &read)]).await.0, 403);
    let from_a_page = [("authorization", admin.as_str()), ("origin", "http://ops.example")];
    assert_eq!(order(&serving, "/admin/pause", "", &from_a_page).await.0, 200);
    serving.stop();
}
