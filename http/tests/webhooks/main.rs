//! Webhooks of the running binary: every transfer that settles is told, whatever the receiver does and whenever the service is
//! killed; payments do not notice.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../common/mod.rs"]
mod common;
mod receiver;

use std::collections::BTreeSet;

use common::{
    serving::{Serving, Stage},
    until,
};
use receiver::{Mood, Receiver, SECRET};
use serde_json::{Value, json};

fn stage(name: &str, receiver: &Receiver) -> Stage {
    let settings = [
        ("WEBHOOK_URL", receiver.url.as_str()),
        ("WEBHOOK_SECRET", SECRET),
        ("STORAGE_DEPOSIT", "never"),
        ("SETTLED_KEPT", "0"),
    ];
    Stage::new(name, 50, &settings)
}

fn to(receiver: &str) -> Value {
    json!({ "receiverId": receiver, "amount": "3" })
}

/// Sends so many at once; returns their ids when they are executed.
async fn pay(serving: &Serving, count: usize) -> Vec<String> {
    let transfers: Vec<Value> = (0..count).map(|n| to(&format!("user{}.test.near", 1 + n % 9))).collect();
    let answered = serving.send(&json!({ "transfers": transfers }), &[]).await;
    assert_eq!(answered.status, 200, "{answered:?}");
    answered.ids()
}

async fn until_taken(receiver: &Receiver, ids: &[String]) {
    until("every event is taken", || async {
        let taken = receiver.taken();
        ids.iter().all(|id| taken.contains_key(id)).then_some(())
    })
    .await;
}

async fn metric(serving: &Serving, name: &str) -> f64 {
    let page = common::get(&serving.base, "/metrics").await.1;
    let line =
        page.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}: {page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn each_that_settles_is_told_as_get_transfer_tells_it() {
    let receiver = Receiver::start(Mood::Takes).await;
    let stage = stage("webhooks-told", &receiver);
    let serving = stage.serve();
    let mut ids = pay(&serving, 12).await;
    let failed = serving.send(&to("stranger.test.near"), &[]).await;
    assert_eq!(failed.status, 500, "{failed:?}");
    ids.extend(failed.body["jobIds"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()));
    until_taken(&receiver, &ids).await;
    let taken = receiver.taken();
    assert_eq!(taken.keys().collect::<BTreeSet<_>>(), ids.iter().collect());
    for (id, event) in &taken {
        let (_, answer) = serving.get(&format!("/transfer/{id}")).await;
        assert_eq!(event["data"], answer["job"]);
        assert_eq!(event["createdAt"], answer["job"]["updatedAt"]);
        let status = answer["job"]["status"].as_str().unwrap();
        assert_eq!(event["type"], format!("transfer.{status}"));
    }
    let failures = taken.values().filter(|event| event["type"] == "transfer.failed").count();
    assert_eq!(failures, 1);
    until("nothing is left", || async { (metric(&serving, "keyshard_webhook_outbox").await < 1.0).then_some(()) })
        .await;
    assert!(ids.iter().all(|id| receiver.times(id) == 1));
    assert!(!serving.program.output().contains(SECRET) && !serving.program.output().contains("token=1"));
    serving.stop();
}

#[tokio::test]
async fn whatever_the_receiver_does_payments_go_on_and_it_is_told_in_the_end() {
    for mood in [Mood::Answers(500), Mood::Answers(307), Mood::Hangs, Mood::BreaksOff, Mood::Babbles] {
        let receiver = Receiver::start(mood).await;
        let stage = stage("webhooks-moods", &receiver);
        let serving = stage.serve();
        let mut ids = Vec::new();
        for count in [1, 40, 1, 9] {
            ids.extend(pay(&serving, count).await);
        }
        for id in &ids {
            until("it is final", || async {
                (serving.get(&format!("/transfer/{id}")).await.1["job"]["status"] == "finalized").then_some(())
            })
            .await;
        }
        if mood != Mood::Babbles {
            until("it waits", || async { (metric(&serving, "keyshard_webhook_outbox").await > 40.0).then_some(()) })
                .await;
        }
        until("it was asked", || async { (receiver.requests() > 5).then_some(()) }).await;
        receiver.set(Mood::Takes);
        until_taken(&receiver, &ids).await;
        assert_eq!(receiver.taken().len(), ids.len());
        assert_eq!(receiver.strays(), Vec::<String>::new(), "redirects are not followed");
        serving.stop();
    }
}

#[tokio::test]
async fn after_kills_in_the_midst_of_it_every_transfer_has_been_told() {
    let receiver = Receiver::start(Mood::IsSlow).await;
    let stage = stage("webhooks-kills", &receiver);
    let mut ids = Vec::new();
    for (round, mood) in [Mood::IsSlow, Mood::BreaksOff, Mood::Takes, Mood::Hangs, Mood::IsSlow].into_iter().enumerate()
    {
        receiver.set(mood);
        let serving = stage.serve();
        let before = receiver.requests();
        for count in [30, 1, 50] {
            ids.extend(pay(&serving, count).await);
        }
        // In the midst of delivering, a little further each time.
        until("some are on their way", || async { (receiver.requests() > before + 7 * round).then_some(()) }).await;
        serving.kill();
    }
    receiver.set(Mood::Takes);
    let serving = stage.serve();
    until_taken(&receiver, &ids).await;
    let taken = receiver.taken();
    assert_eq!(taken.keys().cloned().collect::<BTreeSet<_>>(), ids.iter().cloned().collect());
    assert!(ids.iter().any(|id| receiver.times(id) > 1), "some came again, under the same id");
    serving.stop();
}

#[tokio::test]
async fn events_wait_while_nothing_is_sent_and_can_be_sent_again() {
    let receiver = Receiver::start(Mood::Answers(503)).await;
    let stage = stage("webhooks-replay", &receiver);
    let serving = stage.serve();
    let ids = pay(&serving, 5).await;
    until("they wait", || async { (metric(&serving, "keyshard_webhook_outbox").await > 4.0).then_some(()) }).await;
    let (code, text) = stage.run(&["webhooks", "status"]).end_with_output();
    assert!(code == Some(1) && text.contains("POST /admin/webhooks/replay"), "{text}");
    serving.stop();

    let run = |arguments: &[&str]| stage.run(arguments).end_with_output();
    let (code, text) = run(&["webhooks", "status", "--json"]);
    let status: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &status["waiting"], &status["dead"]), (Some(0), &json!(5), &json!(0)));
    // Without webhooks nothing is lost, and nothing is told of what settles meanwhile.
    let serving = stage.serve_with(&[("WEBHOOK_URL", "")]);
    let untold = pay(&serving, 3).await;
    until("they are saved", || async { (metric(&serving, "keyshard_transfers_unsaved").await < 1.0).then_some(()) })
        .await;
    assert!(serving.program.output().contains("webhook events wait for their delivery"));
    serving.stop();
    receiver.set(Mood::Takes);
    let serving = stage.serve();
    until_taken(&receiver, &ids).await;
    serving.stop();
    assert!(untold.iter().all(|id| receiver.times(id) == 0));

    let (code, text) = run(&["webhooks", "replay", "--id", &untold[0]]);
    assert!(code == Some(0) && text.starts_with("1 events"), "{text}");
    let (code, text) = run(&["webhooks", "replay", "--dead"]);
    assert!(code == Some(1) && text.contains("no dead events"), "{text}");
    for bad in [&["webhooks", "replay"][..], &["webhooks", "replay", "--dead", "--since", "1h"]] {
        assert_eq!(run(bad).0, Some(2), "{bad:?}");
    }
    let serving = stage.serve();
    until_taken(&receiver, &untold[..1]).await;
    serving.stop();
    let (code, text) = run(&["webhooks", "replay", "--since", "1h"]);
    assert!(code == Some(0) && text.starts_with("8 events"), "{text}");
    let serving = stage.serve();
    until("all came again", || async {
        let again = ids.iter().chain(&untold[..1]).all(|id| receiver.times(id) == 2);
        (again && untold[1..].iter().all(|id| receiver.times(id) == 1)).then_some(())
    })
    .await;
    // The running service can be asked, too.
    let replay = async |body: &Value| {
        let url = format!("{}/admin/webhooks/replay", serving.base);
        let answer = common::client().post(url).json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    assert_eq!(replay(&json!({ "since": "1h" })).await, (200, json!({ "success": true, "events": 8 })));
    until("all came once more", || async { untold[1..].iter().all(|id| receiver.times(id) == 2).then_some(()) }).await;
    assert_eq!(replay(&json!({ "id": ids[0] })).await.0, 200);
    until("one came once more", || async { (receiver.times(&ids[0]) == 4).then_some(()) }).await;
    assert_eq!(replay(&json!({ "dead": true })).await, (200, json!({ "success": true, "events": 0 })));
    assert_eq!(replay(&json!({ "id": "019286f1-2345-7abc-8def-0123456789ab" })).await.0, 404);
    assert_eq!(replay(&json!({ "since": "tomorrow" })).await.0, 400);
    serving.stop();
    let serving = stage.serve_with(&[("WEBHOOK_URL", "")]);
    let url = format!("{}/admin/webhooks/replay", serving.base);
    let refused = common::client().post(url).json(&json!({ "dead": true })).send().await.unwrap();
    assert_eq!(refused.status(), 409);
    serving.stop();
}
