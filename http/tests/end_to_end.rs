//! From the request to the chain and back: what callers are told is what the chain says.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{
    chain::{Service, reaches},
    client, get, send,
};
use serde_json::{Value, json};

fn parse(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn one_transfer_is_paid_once() {
    let service = Service::start(100, &[]).await;
    let body = r#"{"receiverId":"user1.test.near","amount":"1000000","memo":"hello"}"#;
    let (status, text) = send(&service.base, body).await;
    assert_eq!(status, 200, "{text}");
    let answer = parse(&text);
    let mut expected =
        ["success", "jobId", "transactionHash", "receiverId", "amount", "status", "batchId", "submittedAt", "message"];
    expected.sort_unstable();
    assert_eq!(keys(&answer), expected);
    assert_eq!(answer["success"], true);
    assert_eq!(answer["receiverId"], "user1.test.near");
    assert_eq!(answer["amount"], "1000000");
    assert_eq!(answer["message"], "FT transfer executed successfully");
    assert!(answer["batchId"].as_str().unwrap().starts_with("batch-"), "{text}");
    let level = answer["status"].as_str().unwrap();
    assert!(["EXECUTED_OPTIMISTIC", "EXECUTED", "FINAL"].contains(&level), "{text}");
    assert_eq!(service.balance("user1.test.near").await, 1_000_000);

    let (id, hash) = (answer["jobId"].as_str().unwrap(), answer["transactionHash"].as_str().unwrap());
    let job = reaches(&service.base, id, "finalized").await;
    assert_eq!(job["txHash"], hash);
    assert_eq!(job["memo"], "hello");
    assert_eq!(job["attempts"], 1);
    assert_eq!(service.balance("user1.test.near").await, 1_000_000);

    let (status, text) = get(&service.base, &format!("/transfer/tx/{hash}")).await;
    assert_eq!(status, 200);
    let found = parse(&text);
    assert_eq!(found["transactionHash"], hash);
    assert_eq!(found["transfers"][0]["jobId"], id);
    assert_eq!(found["transfers"][0]["submittedAt"], answer["submittedAt"]);

    let (_, text) = get(&service.base, "/metrics/jobs").await;
    assert_eq!(parse(&text)["counts"], json!({ "finalized": 1 }));
    let (_, text) = get(&service.base, "/metrics/batching").await;
    assert_eq!(parse(&text)["batching"]["totalRequests"], 1);
    assert_eq!(parse(&text)["batching"]["batchesSent"], 1);
    let (_, page) = get(&service.base, "/metrics").await;
    for line in [
        r#"ft_service_http_requests_total{method="POST",route="/send-ft",status_code="200"} 1"#,
        r#"ft_service_job_status_total{status="finalized"} 1"#,
        "ft_service_pending_jobs 0",
        "keyshard_ready 1",
        "keyshard_batches_total 1",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\nis not in\n{page}");
    }
    assert!(page.contains("keyshard_endpoint_breaker{endpoint=\"http://127.0.0.1:"), "{page}");
}

#[tokio::test]
async fn a_caller_may_wait_for_finality() {
    let service = Service::start(50, &[("WAIT_UNTIL", "Final")]).await;
    let (status, text) = send(&service.base, r#"{"receiverId":"user2.test.near","amount":5}"#).await;
    assert_eq!(status, 200, "{text}");
    let answer = parse(&text);
    assert_eq!(answer["status"], "FINAL");
    let (_, text) = get(&service.base, &format!("/transfer/{}", answer["jobId"].as_str().unwrap())).await;
    assert_eq!(parse(&text)["job"]["status"], "finalized");
}

#[tokio::test]
async fn a_batch_is_answered_in_request_order() {
    let service = Service::start(50, &[]).await;
    let transfers: Vec<Value> = (1..=5)
        .map(|n| json!({ "receiverId": format!("user{n}.test.near"), "amount": format!("{n}"), "memo": format!("m{n}") }))
        .collect();
    let (status, text) = send(&service.base, json!({ "transfers": transfers }).to_string()).await;
    assert_eq!(status, 200, "{text}");
    let answer = parse(&text);
    assert_eq!(answer["transfers"], 5);
    assert_eq!(answer["message"], "FT transfers executed successfully (batch size 5)");
    assert_eq!(answer["transactionHash"], answer["results"][0]["transactionHash"]);
    assert_eq!(answer["batchId"], answer["results"][0]["batchId"]);
    for (index, result) in answer["results"].as_array().unwrap().iter().enumerate() {
        let n = index as u128 + 1;
        assert_eq!(result["jobId"], answer["jobIds"][index]);
        assert_eq!(result["receiverId"], format!("user{n}.test.near"));
        assert_eq!(result["amount"], n.to_string());
        assert_eq!(result["memo"], format!("m{n}"));
        assert_eq!(service.balance(&format!("user{n}.test.near")).await, n);
    }
    // A batch of one is answered like a single transfer.
    let one = r#"{"transfers":[{"receiverId":"user6.test.near","amount":"6"}]}"#;
    let (status, text) = send(&service.base, one).await;
    assert_eq!(status, 200, "{text}");
    assert!(parse(&text)["jobId"].is_string() && parse(&text)["results"].is_null());
}

#[tokio::test]
async fn a_request_that_does_not_fit_is_refused_whole() {
    let service = Service::start(50, &[("MAX_PENDING_JOBS", "11")]).await;
    let batch = |count: usize| {
        let transfers = vec![json!({ "receiverId": "user1.test.near", "amount": "1" }); count];
        json!({ "transfers": transfers }).to_string()
    };
    let (status, text) = send(&service.base, batch(12)).await;
    assert_eq!(status, 503);
    assert_eq!(
        text,
        r#"{"error":"Service overloaded, please retry later","details":"Pending transfer backlog is full (0 pending, requested 12, limit 11)","pendingJobs":0,"capacity":11,"retryAfterSeconds":5}"#
    );
    let (_, counts) = get(&service.base, "/metrics/jobs").await;
    assert_eq!(parse(&counts)["counts"], json!({}));
    let (status, text) = send(&service.base, batch(11)).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(service.balance("user1.test.near").await, 11);
}

#[tokio::test]
async fn ten_thousand_transfers_are_accepted_whole_or_refused_whole() {
    let service = Service::start(50, &[("MAX_PENDING_JOBS", "10000"), ("REQUEST_TIMEOUT_MS", "100")]).await;
    let batch = |count: usize| {
        let transfers: Vec<Value> = (0..count)
            .map(|n| json!({ "receiverId": format!("user{}.test.near", n % 20 + 1), "amount": "1" }))
            .collect();
        json!({ "transfers": transfers }).to_string()
    };
    assert_eq!(send(&service.base, batch(10_001)).await.0, 503);
    let (status, text) = send(&service.base, batch(10_000)).await;
    assert!(status == 202 || status == 200, "{status}");
    assert_eq!(parse(&text)["jobIds"].as_array().unwrap().len(), 10_000);
    common::until("all are finalized", || async {
        let (_, counts) = get(&service.base, "/metrics/jobs").await;
        (parse(&counts)["counts"]["finalized"] == 10_000).then_some(())
    })
    .await;
    for n in 1..=20 {
        assert_eq!(service.balance(&format!("user{n}.test.near")).await, 500);
    }
}

#[tokio::test]
async fn an_outcome_that_takes_longer_is_promised_not_failed() {
    let service = Service::start(600, &[("REQUEST_TIMEOUT_MS", "30")]).await;
    let request = client()
        .post(format!("{}/send-ft", service.base))
        .header("content-type", "application/json")
        .body(r#"{"receiverId":"user1.test.near","amount":"7"}"#);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let location = answer.headers()["location"].to_str().unwrap().to_owned();
    let body = parse(&answer.text().await.unwrap());
    assert_eq!(body["success"], true);
    assert_eq!(body["status"], "processing");
    let id = body["jobId"].as_str().unwrap();
    assert_eq!(location, format!("/transfer/{id}"));
    assert_eq!(body["results"][0]["jobId"], id);
    reaches(&service.base, id, "finalized").await;
    assert_eq!(service.balance("user1.test.near").await, 7);
}

#[tokio::test]
async fn a_bad_transfer_does_not_take_its_mates_down() {
    let service = Service::start(50, &[("STORAGE_DEPOSIT", "never"), ("JOB_RETRY_BASE_MS", "10")]).await;
    let body = json!({ "transfers": [
        { "receiverId": "user1.test.near", "amount": "3" },
        { "receiverId": "nobody.test.near", "amount": "3" },
        { "receiverId": "user2.test.near", "amount": "3" },
    ]});
    let (status, text) = send(&service.base, body.to_string()).await;
    assert_eq!(status, 500, "{text}");
    let answer = parse(&text);
    assert_eq!(answer["error"], "Failed to initiate FT transfer");
    assert_eq!(answer["jobIds"].as_array().unwrap().len(), 3);
    assert_eq!(answer["debug"]["type"], "Error", "NEAR_ENV is sandbox");
    assert_eq!(answer["results"][1]["status"], "failed");
    assert_eq!(answer["details"], answer["results"][1]["error"]);
    assert!(answer["details"].as_str().unwrap().contains("registered"), "{text}");
    for (index, user) in [(0, "user1.test.near"), (2, "user2.test.near")] {
        let status = answer["results"][index]["status"].as_str().unwrap();
        assert!(["submitted", "finalized"].contains(&status), "{text}");
        assert_eq!(service.balance(user).await, 3);
    }
    assert_eq!(service.balance("nobody.test.near").await, 0);
}

#[tokio::test]
async fn what_hinders_payment_is_named_and_alive_stays_alive() {
    let service = Service::start(50, &[("REQUEST_TIMEOUT_MS", "500")]).await;
    assert_eq!(get(&service.base, "/ready").await, (200, r#"{"status":"ready","reasons":[]}"#.to_owned()));
    let largest = 10u128.pow(30);
    let more_than_there_is = service.balance("test.near").await / largest + 1;
    let transfer = json!({ "receiverId": "user1.test.near", "amount": largest.to_string() });
    let transfers = vec![transfer; usize::try_from(more_than_there_is).unwrap()];
    let (status, text) = send(&service.base, json!({ "transfers": transfers }).to_string()).await;
    assert_eq!(status, 202, "{text}");
    let health = common::until("health names it", || async {
        let (status, text) = get(&service.base, "/health").await;
        assert_eq!(status, 200);
        let health = parse(&text);
        assert_eq!(health["status"], "ok");
        (!health["conditions"].is_null()).then_some(health)
    })
    .await;
    assert_eq!(health["conditions"][0]["name"], "not-enough-tokens", "{health}");
    assert!(health["conditions"][0]["detail"].is_string());
    let (_, page) = get(&service.base, "/metrics").await;
    assert!(page.contains("\nkeyshard_condition{name=\"not-enough-tokens\"} 1\n"), "{page}");
    let (status, text) = get(&service.base, "/ready").await;
    let ready = parse(&text);
    assert_eq!((status, &ready["status"], &ready["reasons"]), (503, &json!("not-ready"), &health["conditions"]));
}

#[tokio::test]
async fn an_unregistered_receiver_is_registered_and_paid() {
    let service = Service::start(50, &[]).await;
    let (status, text) = send(&service.base, r#"{"receiverId":"newcomer.test.near","amount":"4"}"#).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(service.balance("newcomer.test.near").await, 4);
}

#[tokio::test]
async fn a_client_that_hangs_up_is_paid_for_all_the_same() {
    let service = Service::start(200, &[]).await;
    let mut raw = common::Raw::connect(service.server.address());
    let body = r#"{"receiverId":"user3.test.near","amount":"9"}"#;
    raw.write(&format!(
        "POST /send-ft HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ));
    common::until("it is accepted", || async { (service.engine.pending() == 1).then_some(()) }).await;
    drop(raw);
    common::until("it is paid", || async { (service.balance("user3.test.near").await == 9).then_some(()) }).await;
}

#[tokio::test]
async fn unknown_ids_are_not_found() {
    let service = Service::start(100, &[]).await;
    for (path, body) in [
        ("/transfer/67e55044-10b1-426f-9247-bb680e5fe0c8", r#"{"error":"Job not found"}"#),
        ("/transfer/x", r#"{"error":"Job not found"}"#),
        ("/transfer/tx/8nSEn5Jd5HW2RhJUzEjXKVdLdJnbXyU5FTzcpLGCGcuW", r#"{"error":"Transaction not found"}"#),
        ("/transfer/tx/x", r#"{"error":"Transaction not found"}"#),
    ] {
        assert_eq!(get(&service.base, path).await, (404, body.to_owned()), "{path}");
    }
}
