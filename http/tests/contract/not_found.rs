//! What is not there, and what cannot be read: statuses as in the Node service.
use serde_json::json;

use crate::{
    common::{client, get, serving::Stage},
    support::Waiting,
};

#[tokio::test]
async fn transfers_and_transactions_that_are_not_there() {
    let stage = Stage::new("contract-404", 100, &[]);
    let service = stage.serve();
    for (path, body) in [
        ("/transfer/x", r#"{"error":"Job not found"}"#),
        ("/transfer/67e55044-10b1-426f-9247-bb680e5fe0c8", r#"{"error":"Job not found"}"#),
        ("/transfer/tx", r#"{"error":"Job not found"}"#),
        ("/transfer/tx/x", r#"{"error":"Transaction not found"}"#),
        ("/Transfer/TX/8nSEn5Jd5HW2RhJUzEjXKVdLdJnbXyU5FTzcpLGCGcuW/", r#"{"error":"Transaction not found"}"#),
    ] {
        assert_eq!(get(&service.base, path).await, (404, body.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn unknown_routes_and_methods() {
    let service = Waiting::start("contract-routes", &[]);
    for (method, path) in [
        ("GET", "/nowhere"),
        ("GET", "/transfer/"),
        ("GET", "/send-ft"),
        ("POST", "/health"),
        ("DELETE", "/transfer/x"),
        ("PUT", "/send-ft"),
    ] {
        let request = client().request(method.parse().unwrap(), format!("{}{path}", service.base));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 404, "{method} {path}");
        assert_eq!(answer.text().await.unwrap(), format!(r#"{{"error":"Cannot {method} {path}"}}"#));
    }
}

#[tokio::test]
async fn bodies_that_cannot_be_read() {
    let service = Waiting::start("contract-unreadable", &[]);
    let json = "application/json";
    let form = "application/x-www-form-urlencoded";
    let parameters = "a=1&".repeat(1_001);
    let large = json!({ "receiverId": "ab.near", "amount": "1", "x": "y".repeat(10 * 1024 * 1024) }).to_string();
    for (kind, encoding, body, status) in [
        (json, None, "{", 400),
        (json, None, "\"text\"", 400),
        (json, None, "{\"receiverId\":\"ab.near\",}", 400),
        (form, None, parameters.as_str(), 413),
        (json, None, large.as_str(), 413),
        ("application/json; charset=latin1", None, "{}", 415),
        (json, Some("compress"), "{}", 415),
    ] {
        let request = client().post(format!("{}/send-ft", service.base)).header("content-type", kind);
        let request = encoding.into_iter().fold(request, |request, name| request.header("content-encoding", name));
        let answer = request.body(body.to_owned()).send().await.unwrap();
        let shown = &body[..body.len().min(40)];
        assert_eq!(answer.status(), status, "{kind} {encoding:?} {shown}");
        let text = answer.text().await.unwrap();
        assert!(text.starts_with("{\"error\":\""), "{text}");
    }
}
