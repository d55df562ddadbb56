//! What a client of the Node service relies on, before NEAR is ready: no engine is needed for any of it. The whole of what
//! it relies on is in `contract/`.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{client, get, http, send, start};
use keyshard::cors::Cors;
use reqwest::{Method, StatusCode};

const BAD_RECEIVER: &str = r#"{"error":"Invalid receiverId format. Must be a valid NEAR account ID (2-64 characters, lowercase alphanumeric with underscores, hyphens, and dots only)"}"#;
const NEITHER: &str =
    r#"{"error":"Either provide receiverId/amount for single transfer, or transfers array for batch transfer"}"#;

#[tokio::test]
async fn health_answers_before_near_is_ready() {
    let (_server, base) = start(http());
    let answer = client().get(format!("{base}/health")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/json; charset=utf-8");
    assert_eq!(answer.headers()["vary"], "Origin");
    assert_eq!(answer.headers()["keep-alive"], "timeout=15");
    let text = answer.text().await.unwrap();
    let body: serde_json::Value = serde_json::from_str(&text).unwrap();
    let timestamp = body["timestamp"].as_str().unwrap();
    assert_eq!(text, format!(r#"{{"status":"ok","timestamp":"{timestamp}"}}"#));
    assert!(timestamp.len() == 24 && timestamp.ends_with('Z'), "{timestamp}");
    let post = client().post(format!("{base}/health")).send().await.unwrap();
    assert_eq!(post.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn it_is_not_ready_before_near_is() {
    let (_server, base) = start(http());
    let reason = r#"{"name":"starting","detail":"the NEAR connection is not ready yet"}"#;
    let body = format!(r#"{{"status":"not-ready","reasons":[{reason}]}}"#);
    assert_eq!(get(&base, "/ready").await, (503, body));
    let head = client().head(format!("{base}/READY/")).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_first_page_says_what_runs_here() {
    let (_server, base) = start(http());
    let answer = client().get(&base).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(answer.text().await.unwrap(), "NEAR Fungible Token Claiming Service is running!");
}

#[tokio::test]
async fn validation_answers_before_anything_else() {
    let (_server, base) = start(http());
    for (body, text) in [
        (r#"{"receiverId":"invalid..account","amount":"1000000"}"#, BAD_RECEIVER),
        (r#"{"amount":"1000000"}"#, NEITHER),
        ("", NEITHER),
        (r#"{"transfers":[{"receiverId":"ab.near"}]}"#, r#"{"error":"Each transfer must have receiverId and amount"}"#),
        (r#"{"receiverId":"ab.near","amount":"-1"}"#, r#"{"error":"amount must be a positive number"}"#),
        (r#"{"receiverId":"ab.near","amount":1e21}"#, r#"{"error":"amount must be a positive number"}"#),
        (r#"{"receiverId":"ab.near","amount":"1e31"}"#, r#"{"error":"amount too large. Maximum allowed: 1e30"}"#),
    ] {
        assert_eq!(send(&base, body).await, (400, text.to_owned()), "{body}");
    }
    let (status, body) = send(&base, r#"{"receiverId":"test.near","amount":"1"}"#).await;
    assert_eq!(
        (status, body.as_str()),
        (400, r#"{"error":"Invalid receiverId: the paying account cannot pay itself"}"#)
    );
}

#[tokio::test]
async fn an_empty_batch_is_a_success() {
    let (_server, base) = start(http());
    let expected = r#"{"success":true,"jobIds":[],"transactionHash":"unknown","transfers":0,"results":[],"message":"FT transfers executed successfully (batch size 0)"}"#;
    assert_eq!(send(&base, r#"{"transfers":[]}"#).await, (200, expected.to_owned()));
}

#[tokio::test]
async fn a_transfer_is_refused_until_near_is_ready() {
    let (_server, base) = start(http());
    let (status, body) = send(&base, r#"{"receiverId":"ab.near","amount":"1"}"#).await;
    assert_eq!(status, 503);
    assert_eq!(
        body,
        r#"{"error":"Service is starting, please retry later","details":"The NEAR connection is not ready yet; none of the 1 requested transfers was accepted","pendingJobs":0,"capacity":1000,"retryAfterSeconds":5}"#
    );
    let (_, page) = get(&base, "/metrics").await;
    assert!(page.contains("\nft_service_queue_rejected_total 1\n"), "{page}");
}

#[tokio::test]
async fn what_cannot_exist_is_not_found_even_before_near_is_ready() {
    let (_server, base) = start(http());
    for (path, status, body) in [
        ("/transfer/x", 404, r#"{"error":"Job not found"}"#),
        ("/transfer/tx", 404, r#"{"error":"Job not found"}"#),
        ("/transfer/tx/not-base58", 404, r#"{"error":"Transaction not found"}"#),
        ("/transfer/", 404, r#"{"error":"Cannot GET /transfer/"}"#),
        ("/nothing%22here", 404, r#"{"error":"Cannot GET /nothing%22here"}"#),
        ("/send-ft", 404, r#"{"error":"Cannot GET /send-ft"}"#),
        // Nothing is known yet: "not found" would invite a second payment.
        (
            "/transfer/67e55044-10b1-426f-9247-bb680e5fe0c8",
            503,
            r#"{"error":"Service is starting, please retry later"}"#,
        ),
        ("/transfer/key/order%201", 503, r#"{"error":"Service is starting, please retry later"}"#),
        (
            "/transfer/tx/8nSEn5Jd5HW2RhJUzEjXKVdLdJnbXyU5FTzcpLGCGcuW",
            503,
            r#"{"error":"Service is starting, please retry later"}"#,
        ),
    ] {
        assert_eq!(get(&base, path).await, (status, body.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn heads_are_answered_without_a_body() {
    let (_server, base) = start(http());
    for path in ["/", "/health", "/metrics", "/Metrics/Jobs/"] {
        let answer = client().head(format!("{base}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_ne!(answer.headers()["content-length"], "0", "{path}");
        assert_eq!(answer.text().await.unwrap(), "");
    }
}

#[tokio::test]
async fn any_path_answers_a_preflight() {
    let (_server, base) = start(http());
    for path in ["/send-ft", "/nowhere"] {
        let request = client()
            .request(Method::OPTIONS, format!("{base}{path}"))
            .header("origin", "http://page.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        assert_eq!(answer.headers()["access-control-allow-origin"], "http://page.example");
        assert_eq!(answer.headers()["access-control-allow-methods"], "GET,HEAD,PUT,PATCH,POST,DELETE");
        assert_eq!(answer.headers()["access-control-allow-headers"], "content-type");
        assert_eq!(answer.headers()["vary"], "Origin, Access-Control-Request-Headers");
        assert_eq!(answer.text().await.unwrap(), "");
    }
}

#[tokio::test]
async fn an_origin_that_is_not_listed_is_served_without_permission_to_read() {
    let (_server, base) = start(keyshard::config::Http { cors: Cors::parse("http://a.example"), ..http() });
    for (origin, allowed) in [("http://a.example", true), ("http://b.example", false)] {
        let answer = client().get(format!("{base}/nowhere")).header("origin", origin).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert_eq!(answer.headers().contains_key("access-control-allow-origin"), allowed, "{origin}");
        assert_eq!(answer.headers()["vary"], "Origin");
    }
}

#[tokio::test]
async fn metrics_before_near_is_ready() {
    let (_server, base) = start(http());
    let (status, body) = get(&base, "/metrics/jobs").await;
    assert_eq!(status, 200);
    assert!(body.starts_with(r#"{"success":true,"counts":{},"uptimeMs":"#), "{body}");
    let (status, body) = get(&base, "/metrics/batching").await;
    assert_eq!(status, 200);
    let start = r#"{"success":true,"batching":{"totalRequests":0,"batchesSent":0,"avgBatchSize":0,"currentBatchSize":0,"hasPendingBatch":false,"batchEfficiency":"0.0%","batchWindowMs":100,"maxBatchSize":0,"description":"Request batching efficiency metrics - higher batchEfficiency indicates better throughput optimization"},"timestamp":""#;
    assert!(body.starts_with(start), "{body}");

    send(&base, "{}").await;
    get(&base, "/some/path").await;
    let answer = client().get(format!("{base}/metrics")).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let page = answer.text().await.unwrap();
    for line in [
        "# HELP ft_service_http_requests_total Total number of HTTP requests handled by the FT service",
        "# TYPE ft_service_http_requests_total counter",
        r#"ft_service_http_requests_total{method="GET",route="/metrics/jobs",status_code="200"} 1"#,
        r#"ft_service_http_requests_total{method="POST",route="/send-ft",status_code="400"} 1"#,
        r#"ft_service_http_requests_total{method="GET",route="unmatched",status_code="404"} 1"#,
        "# HELP ft_service_http_request_duration_seconds Duration of HTTP requests in seconds",
        "# TYPE ft_service_http_request_duration_seconds histogram",
        r#"ft_service_http_request_duration_seconds_bucket{le="10",method="POST",route="/send-ft",status_code="400"} 1"#,
        r#"ft_service_http_request_duration_seconds_bucket{le="+Inf",method="POST",route="/send-ft",status_code="400"} 1"#,
        "# HELP ft_service_job_status_total Number of jobs per status recorded in persistence",
        "# TYPE ft_service_job_status_total gauge",
        "# HELP ft_service_queue_active_jobs Current number of active jobs being processed by the server",
        "ft_service_queue_active_jobs 0",
        "# HELP ft_service_queue_length Number of requests waiting in the concurrency queue",
        "ft_service_queue_length 0",
        "# HELP ft_service_pending_jobs Number of pending transfer jobs tracked by the coordinator",
        "ft_service_pending_jobs 0",
        "# HELP ft_service_queue_rejected_total Total number of requests rejected because the concurrency queue was full or timed out",
        "ft_service_queue_rejected_total 0",
        "# TYPE ft_service_process_resident_memory_bytes gauge",
        "# TYPE ft_service_process_cpu_seconds_total counter",
        "keyshard_ready 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\nis not in\n{page}");
    }
}

#[test]
fn a_taken_port_is_an_error_that_says_what_to_do() {
    let (server, _) = start(http());
    let error = keyshard::server::Server::start(keyshard::config::Http { port: server.address().port(), ..http() });
    let error = error.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains(&server.address().to_string()) && error.contains("choose another port"), "{error}");
}

#[tokio::test]
async fn closing_ends_every_thread_and_frees_the_port() {
    let (server, base) = start(http());
    let address = server.address();
    assert_eq!(get(&base, "/health").await.0, 200);
    // This one is kept alive and idle.
    let mut idle = common::Raw::connect(address);
    idle.write("GET /health HTTP/1.1\r\nhost: x\r\n\r\n");
    tokio::time::timeout(common::PATIENCE, server.close()).await.unwrap();
    assert!(idle.read_to_end().starts_with("HTTP/1.1 200 OK"));
    assert!(std::net::TcpStream::connect(address).is_err());
}
