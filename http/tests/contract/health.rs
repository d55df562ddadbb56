//! `/health` and `/`: alive before NEAR is, and never more than that.
use serde_json::Value;

use crate::{
    common::{client, get, send},
    support::{Waiting, is_iso},
};

#[tokio::test]
async fn it_is_healthy_before_near_is_ready() {
    let service = Waiting::start("contract-health", &[]);
    for path in ["/health", "/HEALTH/"] {
        let answer = client().get(format!("{}{path}", service.base)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        for (name, value) in [
            ("content-type", "application/json; charset=utf-8"),
            ("vary", "Origin"),
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=15"),
        ] {
            assert_eq!(answer.headers()[name], value);
        }
        assert!(answer.headers().contains_key("date"));
        let length: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
        let text = answer.text().await.unwrap();
        assert_eq!(text.len(), length);
        let body: Value = serde_json::from_str(&text).unwrap();
        let timestamp = body["timestamp"].as_str().unwrap();
        assert!(is_iso(timestamp), "{text}");
        assert_eq!(text, format!(r#"{{"status":"ok","timestamp":"{timestamp}"}}"#));
    }
}

#[tokio::test]
async fn a_transfer_that_comes_too_early_is_answered() {
    let service = Waiting::start("contract-early", &[]);
    let (status, body) = send(&service.base, r#"{"receiverId":"ab.near","amount":"1"}"#).await;
    assert_eq!(status, 503);
    assert!(body.starts_with(r#"{"error":"Service is starting, please retry later","details":""#), "{body}");
    assert!(body.ends_with(r#""retryAfterSeconds":5}"#), "{body}");
}

#[tokio::test]
async fn the_first_page() {
    let service = Waiting::start("contract-root", &[]);
    let answer = client().get(&service.base).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(answer.text().await.unwrap(), "NEAR Fungible Token Claiming Service is running!");
    assert_eq!(get(&service.base, "/metrics/jobs").await.0, 200);
}
