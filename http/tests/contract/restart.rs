//! kill -9 between send and answer, and the Node service's own file: what was paid stays paid, once.
use serde_json::json;

use crate::common::{by_hand, chain::reaches, get, serving::Stage, until};

#[tokio::test]
async fn killed_between_send_and_answer() {
    // Blocks are slow enough that nobody can have been answered, and fast enough that the transaction lands meanwhile.
    let stage = Stage::new("contract-kill", 400, &[]);
    let service = stage.serve();
    let (base, body) = (service.base.clone(), json!({ "receiverId": "user1.test.near", "amount": "5" }));
    let key = [("idempotency-key", "order-1")];
    let request = crate::common::client().post(format!("{base}/send-ft")).header(key[0].0, key[0].1).json(&body);
    let asking = tokio::spawn(request.send());
    until("its transaction is on its way", || async {
        get(&base, "/metrics").await.1.contains("\nkeyshard_transactions_in_flight 1\n").then_some(())
    })
    .await;
    service.kill();
    assert!(asking.await.unwrap().is_err(), "it was answered before the kill");
    let service = stage.serve();
    let (status, found) = service.get("/transfer/key/order-1").await;
    assert_eq!(status, 200, "{found}");
    reaches(&service.base, found["job"]["id"].as_str().unwrap(), "finalized").await;
    assert_eq!(stage.balance("user1.test.near").await, 5);
    // Whoever asks again is told the same.
    let again = service.send(&body, &key).await;
    assert_eq!((again.status, &again.body["jobId"]), (200, &found["job"]["id"]));
    assert_eq!(stage.balance("user1.test.near").await, 5);
}

#[tokio::test]
async fn the_node_services_file_is_replayed() {
    let stage = Stage::new("contract-replay", 100, &[]);
    let hash = by_hand::pay(stage.credentials(), 0, &[("user1.test.near", 7, "m"), ("user2.test.near", 8, "")]).await;
    let job = |id: &str, receiver: &str, amount: &str, memo: &str| {
        format!(
            r#"{{"type":"job","action":"create","job":{{"id":"{id}","createdAt":"2025-10-13T18:47:14.567Z","status":"queued","receiverId":"{receiver}","amount":"{amount}"{memo},"attempts":0}}}}"#
        )
    };
    let update =
        |id: &str, patch: &str| format!(r#"{{"type":"job","action":"update","jobId":"{id}","patch":{patch}}}"#);
    let [a, b, c] = [
        "11111111-1111-4111-8111-111111111111",
        "22222222-2222-4222-8222-222222222222",
        "33333333-3333-4333-8333-333333333333",
    ];
    let batch = "batch-1760381234567-1";
    let sent = format!(r#"{{"status":"submitted","txHash":"{hash}","batchId":"{batch}"}}"#);
    let lines = [
        job(a, "user1.test.near", "7", r#","memo":"m""#),
        job(b, "user2.test.near", "8", ""),
        job(c, "user3.test.near", "9", ""),
        update(a, &format!(r#"{{"status":"processing","attempts":1,"batchId":"{batch}"}}"#)),
        update(a, &sent),
        update(b, &sent),
        // The Node service failed whatever was ten minutes old, paid or not.
        update(b, r#"{"status":"failed","lastError":"Timeout waiting for finalization"}"#),
        "half a li".to_owned(),
    ];
    std::fs::write(stage.directory.join("jobs.jsonl"), lines.join("\n")).unwrap();
    let (code, output) = stage.run(&["import", "jobs.jsonl"]).end_with_output();
    assert_eq!(code, Some(2), "one needs a human: {output}");
    let unresolved = std::fs::read_to_string(stage.directory.join("unresolved.jsonl")).unwrap();
    assert!(unresolved.lines().count() == 1 && unresolved.contains(c), "{unresolved}");

    let service = stage.serve();
    for id in [a, b] {
        let (status, found) = service.get(&format!("/transfer/{id}")).await;
        assert_eq!(
            (status, &found["job"]["status"], &found["job"]["txHash"]),
            (200, &json!("finalized"), &json!(hash))
        );
    }
    assert_eq!(service.get(&format!("/transfer/{c}")).await.0, 404);
    let (_, carried) = service.get(&format!("/transfer/tx/{hash}")).await;
    assert_eq!(carried["transfers"].as_array().unwrap().len(), 2);
    // Nothing was paid by any of this.
    for (user, amount) in [("user1.test.near", 7), ("user2.test.near", 8), ("user3.test.near", 0)] {
        assert_eq!(stage.balance(user).await, amount);
    }
}
