//! `/dashboard` without a browser: what it is served with, its stream of events, how many may watch, and that it ends with the service.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{PATIENCE, client, get, http, serving::Stage, start, until};
use serde_json::{Value, json};

const VIEWERS_MAX: usize = 32;

/// A viewer.
struct Events {
    answer: reqwest::Response,
    rest: String,
}

impl Events {
    async fn watch(base: &str) -> Result<Self, (u16, String)> {
        let answer = client().get(format!("{base}/dashboard/events")).send().await.unwrap();
        if answer.status() != 200 {
            return Err((answer.status().as_u16(), answer.text().await.unwrap()));
        }
        assert_eq!(answer.headers()["content-type"], "text/event-stream; charset=utf-8");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        Ok(Self { answer, rest: String::new() })
    }

    /// The next event: its name and its data; `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.rest.split_once("\n\n") {
                let (name, data) = event.split_once('\n').unwrap();
                let event = (name.strip_prefix("event: ")?.to_owned(), data.strip_prefix("data: ")?.to_owned());
                self.rest = String::from(rest);
                return Some((event.0, serde_json::from_str(&event.1).unwrap()));
            }
            let chunk = tokio::time::timeout(PATIENCE, self.answer.chunk()).await.unwrap().ok()??;
            self.rest.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next snapshot that is as it should be.
    async fn until(&mut self, is: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..PATIENCE.as_secs() {
            let (name, data) = self.next().await.unwrap();
            if name == "snapshot" && is(&data) {
                return data;
            }
        }
        panic!("no snapshot is as it should be");
    }
}

#[tokio::test]
async fn the_page_and_its_parts() {
    let (_server, base) = start(http());
    for (path, kind) in [
        ("/dashboard", "text/html; charset=utf-8"),
        ("/Dashboard/", "text/html; charset=utf-8"),
        ("/dashboard/app.js", "text/javascript; charset=utf-8"),
        ("/dashboard/style.css", "text/css; charset=utf-8"),
        ("/dashboard/icon.svg", "image/svg+xml"),
    ] {
        let answer = client().get(format!("{base}{path}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        assert_eq!(answer.headers()["content-type"], kind);
        let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; ") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        assert!(!answer.text().await.unwrap().is_empty());
    }
    for path in ["/dashboard/nothing", "/dashboard/..%2Fmod.rs", "/dashboard/app.js/x"] {
        assert_eq!(get(&base, path).await.0, 404, "{path}");
    }
    assert_eq!(client().post(format!("{base}/dashboard")).send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn before_there_is_a_node_it_says_so() {
    let (_server, base) = start(http());
    let mut events = Events::watch(&base).await.unwrap_or_else(|refused| panic!("{refused:?}"));
    assert_eq!(events.next().await, Some(("history".to_owned(), json!([]))));
    let (name, snapshot) = events.next().await.unwrap();
    assert_eq!(
        (name.as_str(), &snapshot["ready"], &snapshot["bottleneck"]["where"]),
        ("snapshot", &json!(false), &json!("starting"))
    );
}

#[tokio::test]
async fn a_transfer_is_seen_and_the_streams_end_with_the_service() {
    let stage = Stage::new("dashboard", 100, &[]);
    let mut service = stage.serve();
    let mut events = Events::watch(&service.base).await.unwrap_or_else(|refused| panic!("{refused:?}"));
    let answer = service.send(&json!({ "receiverId": "user1.test.near", "amount": "7" }), &[]).await;
    assert_eq!(answer.status, 200);
    let seen =
        events.until(|snapshot| snapshot["totals"]["final"] == 1 && snapshot["holdings"]["tokens"].is_string()).await;
    assert_eq!(
        (&seen["ready"], &seen["pending"], &seen["bottleneck"]["where"]),
        (&json!(true), &json!(0), &json!("none"))
    );
    let place = json!({
        "account": "test.near", "token": "ft.test.near", "chainId": "localnet", "explorer": "/transfer/tx/",
        "symbol": "EXAMPLE", "decimals": 24,
    });
    assert_eq!(seen["place"], place);
    let recent = &seen["recent"].as_array().unwrap()[..];
    let [transfer] = recent else { panic!("{recent:?}") };
    assert_eq!(transfer["id"], answer.ids()[0]);
    assert_eq!(transfer["txHash"], answer.body["transactionHash"]);
    assert_eq!((&transfer["status"], &transfer["amount"]), (&json!("finalized"), &json!("7")));
    assert_eq!(seen["keys"].as_array().unwrap().len(), 2);
    for stage in seen["stages"].as_array().unwrap() {
        assert_eq!(stage["count"], 1, "{stage}");
        assert!(stage["p50"].as_f64().unwrap() <= stage["p99"].as_f64().unwrap(), "{stage}");
    }
    // Whoever comes later gets what there was.
    let mut later = Events::watch(&service.base).await.unwrap_or_else(|refused| panic!("{refused:?}"));
    let (name, history) = later.next().await.unwrap();
    assert!(name == "history" && !history.as_array().unwrap().is_empty(), "{history}");
    service.program.signal("TERM");
    while events.next().await.is_some() {}
    while later.next().await.is_some() {}
    assert!(service.program.end().success(), "{}", service.program.output());
}

#[tokio::test]
async fn only_so_many_may_watch() {
    let (_server, base) = start(http());
    let mut viewers = Vec::new();
    for _ in 0..VIEWERS_MAX {
        viewers.push(Events::watch(&base).await.unwrap_or_else(|refused| panic!("{refused:?}")));
    }
    let Err((status, body)) = Events::watch(&base).await else { panic!("one too many") };
    assert_eq!(status, 503);
    assert_eq!(body, r#"{"error":"32 dashboards are open, which is the most: close one of them"}"#);
    for viewer in &mut viewers {
        assert_eq!(viewer.next().await.unwrap().0, "history");
        assert_eq!(viewer.next().await.unwrap().0, "snapshot");
    }
    viewers.pop();
    until("one who has gone makes room", || async { Events::watch(&base).await.ok() }).await;
}
