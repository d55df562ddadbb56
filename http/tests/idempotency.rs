//! Idempotency keys: the same name is the same transfer, while it is in flight, when it has settled, and after kill -9.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{
    chain::reaches,
    serving::{Answered, Serving, Stage, post},
};
use serde_json::{Value, json};

const ASYNC: (&str, &str) = ("prefer", "respond-async");

fn pay(receiver: &str, amount: u32) -> Value {
    json!({ "receiverId": format!("{receiver}.test.near"), "amount": amount.to_string(), "memo": "m" })
}

fn named(receiver: &str, amount: u32, key: &str) -> Value {
    let mut transfer = pay(receiver, amount);
    transfer["idempotencyKey"] = key.into();
    transfer
}

fn batch(transfers: &[Value]) -> Value {
    json!({ "transfers": transfers })
}

/// The same answer as before, and it says so.
fn assert_replay(replay: &Answered, first: &Answered) {
    assert!(replay.is_replayed(), "{replay:?}");
    assert_eq!((replay.status, &replay.body), (first.status, &first.body));
}

fn assert_refused(answer: &Answered, key: &str) {
    assert_eq!(answer.status, 422, "{answer:?}");
    let error = answer.body["error"].as_str().unwrap();
    assert!(error.contains(&format!("{key:?}")) && error.contains("nothing of this request was accepted"), "{error}");
    assert_eq!(answer.body.as_object().unwrap().len(), 1);
}

async fn metric(serving: &Serving, name: &str) -> u64 {
    let (_, page) = common::get(&serving.base, "/metrics").await;
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap_or_else(|| panic!("{page}"));
    line.parse().unwrap()
}

#[tokio::test]
async fn requests_with_one_name_wait_together() {
    let stage = Stage::new("idem-flight", 400, &[]);
    let serving = stage.serve();
    let body = pay("user1", 5);
    let requests = (0..5).map(|_| {
        let (base, body) = (serving.base.clone(), body.clone());
        tokio::spawn(async move { post(&base, &body, &[("idempotency-key", "order-1")]).await })
    });
    let mut answers = Vec::new();
    for request in requests.collect::<Vec<_>>() {
        answers.push(request.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|answer| !answer.is_replayed()).count(), 1);
    let first = answers.iter().find(|answer| !answer.is_replayed()).unwrap();
    assert_eq!((first.status, &first.body["status"]), (200, &json!("FINAL")), "{first:?}");
    for replay in answers.iter().filter(|answer| answer.is_replayed()) {
        assert_replay(replay, first);
    }
    assert_eq!(stage.balance("user1.test.near").await, 5);
    serving.stop();
}

#[tokio::test]
async fn what_has_settled_is_answered_as_the_first_time() {
    let stage = Stage::new("idem-settled", 100, &[("STORAGE_DEPOSIT", "never")]);
    let serving = stage.serve();
    let key = [("idempotency-key", "settled")];
    let many = batch(&[pay("user1", 1), named("user2", 2, "its own"), pay("user3", 3)]);
    let one = serving.send(&pay("user4", 4), &key).await;
    let three = serving.send(&many, &[("idempotency-key", "\"several\"")]).await;
    let failed = serving.send(&named("nobody", 9, "bad"), &[]).await;
    assert_eq!((one.status, three.status, failed.status), (200, 200, 500), "{failed:?}");

    assert_replay(&serving.send(&pay("user4", 4), &key).await, &one);
    assert_replay(&serving.send(&batch(&[pay("user4", 4)]), &key).await, &one);
    assert_replay(&serving.send(&many, &[("idempotency-key", "several")]).await, &three);
    assert_replay(&serving.send(&named("nobody", 9, "bad"), &[]).await, &failed);
    // What is known already is not put off.
    assert_replay(&serving.send(&pay("user4", 4), &[key[0], ASYNC]).await, &one);

    for (path, id, name) in [
        ("settled", &one.ids()[0], "settled"),
        ("several%230", &three.ids()[0], "several#0"),
        ("its%20own", &three.ids()[1], "its own"),
        ("several%232", &three.ids()[2], "several#2"),
        ("bad", &failed.ids()[0], "bad"),
    ] {
        let (status, by_key) = serving.get(&format!("/transfer/key/{path}")).await;
        assert_eq!((status, by_key["job"]["id"].as_str()), (200, Some(id.as_str())), "{by_key}");
        assert_eq!(by_key["job"]["idempotencyKey"], name);
        assert_eq!(serving.get(&format!("/transfer/{id}")).await.1["job"]["idempotencyKey"], name);
    }
    for path in ["several", "several%231", "Settled", &"k".repeat(300)] {
        let (status, body) = serving.get(&format!("/transfer/key/{path}")).await;
        assert_eq!((status, body), (404, json!({ "error": "Job not found" })), "{path}");
    }
    for (user, amount) in [("user1", 1), ("user2", 2), ("user3", 3), ("user4", 4)] {
        assert_eq!(stage.balance(&format!("{user}.test.near")).await, amount);
    }
    serving.stop();
}

#[tokio::test]
async fn kill_9_forgets_no_name() {
    let stage = Stage::new("idem-kill", 1_000, &[]);
    let serving = stage.serve();
    let settled = serving.send(&pay("user1", 1), &[("idempotency-key", "settled")]).await;
    assert_eq!(settled.status, 200, "{settled:?}");
    let many = batch(&[pay("user2", 2), pay("user3", 3)]);
    let open = serving.send(&many, &[("idempotency-key", "open"), ASYNC]).await;
    assert_eq!(open.status, 202, "{open:?}");
    serving.kill();

    let serving = stage.serve();
    let again = serving.send(&many, &[("idempotency-key", "open")]).await;
    assert_eq!((again.status, again.ids(), again.is_replayed()), (200, open.ids(), true), "{again:?}");
    assert_replay(&serving.send(&pay("user1", 1), &[("idempotency-key", "settled")]).await, &settled);
    assert_refused(&serving.send(&pay("user1", 2), &[("idempotency-key", "settled")]).await, "settled");
    assert_refused(
        &serving.send(&batch(&[pay("user2", 2), pay("user3", 4)]), &[("idempotency-key", "open")]).await,
        "open#1",
    );
    for id in settled.ids().iter().chain(&open.ids()) {
        reaches(&serving.base, id, "finalized").await;
    }
    serving.kill();

    // Also when all of it has settled.
    let serving = stage.serve();
    assert_replay(&serving.send(&many, &[("idempotency-key", "open")]).await, &again);
    let (status, job) = serving.get("/transfer/key/open%231").await;
    assert_eq!((status, job["job"]["id"].as_str()), (200, Some(open.ids()[1].as_str())), "{job}");
    for (user, amount) in [("user1", 1), ("user2", 2), ("user3", 3)] {
        assert_eq!(stage.balance(&format!("{user}.test.near")).await, amount);
    }
    serving.stop();
}

#[tokio::test]
async fn a_name_for_something_else_is_refused_as_a_whole() {
    let stage = Stage::new("idem-other", 100, &[]);
    let serving = stage.serve();
    let key = [("idempotency-key", "K")];
    let lone = serving.send(&pay("user1", 1), &key).await;
    let two = serving.send(&batch(&[pay("user2", 2), pay("user3", 3)]), &[("idempotency-key", "two")]).await;
    assert_eq!((lone.status, two.status), (200, 200), "{lone:?} {two:?}");
    let before = metric(&serving, "ft_service_queue_rejected_total").await;
    let mut no_memo = pay("user1", 1);
    no_memo.as_object_mut().unwrap().remove("memo");
    for (body, header, name) in [
        (pay("user2", 1), Some("K"), "K"),
        (pay("user1", 2), Some("K"), "K"),
        (no_memo, Some("K"), "K"),
        (batch(&[pay("user5", 1), named("user1", 7, "K")]), None, "K"),
        // The name of an item, and of a request of another size.
        (named("user3", 3, "two#1"), None, "two#1"),
        (batch(&[pay("user2", 2), pay("user3", 3), pay("user5", 1)]), Some("two"), "two#0"),
        (batch(&[pay("user3", 3), pay("user2", 2)]), Some("two"), "two#0"),
    ] {
        let headers: Vec<_> = header.map(|name| ("idempotency-key", name)).into_iter().collect();
        assert_refused(&serving.send(&body, &headers).await, name);
    }
    assert_eq!(metric(&serving, "ft_service_queue_rejected_total").await, before, "nothing was overloaded");
    let stays = serving.send(&pay("user6", 6), &[]).await;
    assert_eq!(stays.status, 200);
    // Nothing of a refused request was paid, its new transfers included.
    for (user, amount) in [("user1", 1), ("user2", 2), ("user3", 3), ("user5", 0), ("user6", 6)] {
        assert_eq!(stage.balance(&format!("{user}.test.near")).await, amount, "{user}");
    }
    serving.stop();
}

#[tokio::test]
async fn without_a_name_every_request_is_a_new_one() {
    let stage = Stage::new("idem-none", 100, &[]);
    let serving = stage.serve();
    let first = serving.send(&pay("user1", 1), &[]).await;
    let second = serving.send(&pay("user1", 1), &[]).await;
    assert!(first.ids() != second.ids() && !second.is_replayed(), "{second:?}");
    let (_, job) = serving.get(&format!("/transfer/{}", first.ids()[0])).await;
    assert!(job["job"].get("idempotencyKey").is_none(), "{job}");
    assert_eq!(stage.balance("user1.test.near").await, 2);
    serving.stop();
}

#[tokio::test]
async fn bad_names_are_refused_before_anything_else() {
    let (_server, base) = common::start(common::http());
    let long = "k".repeat(256);
    let bad_header = "Idempotency-Key must be 1 to 255 printable ASCII characters";
    let bad_field = "idempotencyKey must be a string of 1 to 255 printable ASCII characters";
    let twice = r#"idempotencyKey "a" names two transfers of this request"#;
    let beside =
        "idempotencyKey belongs to each transfer of a batch; the header Idempotency-Key names the request as a whole";
    let mut number = pay("user1", 1);
    number["idempotencyKey"] = 7.into();
    let mut batch_with_name = batch(&[pay("user1", 1)]);
    batch_with_name["idempotencyKey"] = "a".into();
    for (body, headers, error) in [
        (pay("user1", 1), &[("idempotency-key", "")][..], bad_header),
        (pay("user1", 1), &[("idempotency-key", long.as_str())], bad_header),
        (pay("user1", 1), &[("idempotency-key", "a"), ("idempotency-key", "a")], "Idempotency-Key must be given once"),
        (named("user1", 1, ""), &[], bad_field),
        (named("user1", 1, &long), &[], bad_field),
        (named("user1", 1, "ü"), &[], bad_field),
        (number, &[], bad_field),
        (batch(&[named("user1", 1, "a"), named("user1", 1, "a")]), &[], twice),
        (batch_with_name, &[], beside),
        // The Node service's checks come first.
        (
            json!({ "amount": "1" }),
            &[("idempotency-key", "")],
            "Either provide receiverId/amount for single transfer, or transfers array for batch transfer",
        ),
    ] {
        let answer = post(&base, &body, headers).await;
        assert_eq!((answer.status, answer.body), (400, json!({ "error": error })), "{body} {headers:?}");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_may_name_and_read() {
    let (_server, base) = common::start(common::http());
    let asked = "content-type,idempotency-key,prefer";
    let request = common::client()
        .request(reqwest::Method::OPTIONS, format!("{base}/send-ft"))
        .header("origin", "http://page.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", asked);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-headers"], asked);
    let answer = common::client().get(&base).header("origin", "http://page.example").send().await.unwrap();
    let exposed = answer.headers()["access-control-expose-headers"].to_str().unwrap();
    assert_eq!(exposed, "Idempotency-Replayed,Location,Preference-Applied,Retry-After");
}
