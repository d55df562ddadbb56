//! Access control on the running binary: who is refused, what they are told, and that everybody else is paid meanwhile.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{fs, os::unix::fs::PermissionsExt as _};

use common::{
    PATIENCE, Raw, client,
    serving::{Answered, Serving, Stage, post},
    until,
};
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};

const FILE: (&str, &str) = ("API_KEYS_FILE", "api-keys");
const QUICK: (&str, &str) = ("WAIT_UNTIL", "ExecutedOptimistic");

/// Runs `keyshard api-keys` with these arguments. Returns its exit code and what it printed.
fn api_keys(stage: &Stage, arguments: &str) -> (Option<i32>, String) {
    let arguments: Vec<&str> = ["api-keys"].into_iter().chain(arguments.split(' ')).collect();
    stage.run(&arguments).end_with_output()
}

/// Makes a key.
fn add(stage: &Stage, arguments: &str) -> String {
    let (code, output) = api_keys(stage, &format!("add {arguments}"));
    assert_eq!(code, Some(0), "{output}");
    output.lines().find(|line| line.starts_with("ks_")).unwrap_or_else(|| panic!("{output}")).to_owned()
}

/// Asks with this `Authorization`, if any.
async fn ask(base: &str, method: Method, path: &str, authorization: &[&str]) -> (u16, HeaderMap, String) {
    let mut request = client().request(method.clone(), format!("{base}{path}"));
    for value in authorization {
        request = request.header("authorization", *value);
    }
    if method == Method::POST {
        request = request.json(&pay("user9.test.near", 1));
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.headers().clone(), answer.text().await.unwrap())
}

fn pay(receiver: &str, amount: u128) -> Value {
    json!({ "receiverId": receiver, "amount": amount.to_string() })
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

async fn send(service: &Serving, key: &str, body: &Value, name: Option<&str>) -> Answered {
    let authorization = bearer(key);
    let mut headers = vec![("authorization", authorization.as_str())];
    headers.extend(name.map(|name| ("idempotency-key", name)));
    post(&service.base, body, &headers).await
}

/// Tells the service to read its files again, and waits until it says so.
fn hang_up(service: &mut Serving, says: &str) {
    service.program.signal("HUP");
    service.program.line_with(says);
}

fn error(text: &str) -> String {
    let body: Value = serde_json::from_str(text).unwrap_or_else(|_| panic!("{text}"));
    assert_eq!(body.as_object().unwrap().len(), 1, "{text}");
    body["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn pages_of_other_origins_do_not_pay() {
    let stage = Stage::new("access-pages", 100, &[QUICK, ("CORS_ALLOW_ORIGINS", "http://shop.example")]);
    let service = stage.serve();
    let form = async |origin: &str| {
        // As any page can have it sent, without being asked.
        let request = client().post(format!("{}/send-ft", service.base)).header("origin", origin);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body("receiverId=user1.test.near&amount=5").send().await.unwrap().status().as_u16()
    };
    assert_eq!(form("http://evil.example").await, 403);
    assert_eq!(form("null").await, 403);
    assert_eq!(form("http://shop.example").await, 200);
    assert_eq!(form(&service.base).await, 200, "its own page");
    assert_eq!(stage.balance("user1.test.near").await, 10);
    stop_and_search(service, &[]);
}

/// Ends the service and looks through all that it has written.
fn stop_and_search(service: Serving, secrets: &[&str]) {
    let mut program = service.program;
    program.signal("TERM");
    assert!(program.end().success(), "{}", program.output());
    for secret in secrets {
        assert!(!program.output().contains(&secret[..20]), "a key is in the log");
    }
}

#[tokio::test]
async fn bad_keys_of_every_sort() {
    let stage = Stage::new("access-bad-keys", 100, &[FILE, QUICK, ("LOG_LEVEL", "trace")]);
    let good = add(&stage, "--name shop --scopes send,read");
    let service = stage.serve();
    let unknown = format!("ks_{}", "5".repeat(64));
    let mut counted = [0, 0, 0];
    for (authorization, sort, says) in [
        (vec![], 0, "send an API key"),
        (vec![String::new()], 1, "no API key in the Authorization"),
        (vec![good.clone()], 1, "no API key in the Authorization"),
        (vec![bearer(&good[..66])], 1, "no API key in the Authorization"),
        (vec![bearer(&good.to_uppercase())], 1, "no API key in the Authorization"),
        (vec![format!("Basic {good}")], 1, "no API key in the Authorization"),
        (vec![bearer(&good), bearer(&good)], 1, "no API key in the Authorization"),
        (vec![bearer(&"k".repeat(8_000))], 1, "no API key in the Authorization"),
        (vec![bearer(&unknown)], 2, "is not known"),
        (vec![bearer(&format!("{}{}", &good[..66], if good.ends_with('0') { '1' } else { '0' }))], 2, "is not known"),
    ] {
        let authorization: Vec<&str> = authorization.iter().map(String::as_str).collect();
        for (method, path) in [
            (Method::POST, "/send-ft"),
            (Method::POST, "/SEND-FT/"),
            (Method::GET, "/transfer/x"),
            (Method::GET, "/transfer/key/x"),
            (Method::GET, "/transfer/tx/x"),
            (Method::GET, "/transfers"),
            (Method::GET, "/metrics"),
            (Method::HEAD, "/metrics/jobs"),
            (Method::GET, "/metrics/batching"),
            (Method::GET, "/debug/flamegraph"),
            (Method::GET, "/admin"),
            (Method::POST, "/admin/pause"),
        ] {
            let (status, headers, body) = ask(&service.base, method.clone(), path, &authorization).await;
            let schemes: Vec<_> = headers.get_all("www-authenticate").iter().map(|it| it.to_str().unwrap()).collect();
            assert_eq!((status, schemes), (401, vec!["Bearer"]), "{path}");
            assert!(method == Method::HEAD || error(&body).contains(says), "{path} {body}");
            counted[sort] += 1;
        }
        for (method, path, status) in [
            (Method::GET, "/", 200),
            (Method::GET, "/health", 200),
            (Method::GET, "/ready", 200),
            (Method::OPTIONS, "/send-ft", 204),
            (Method::GET, "/send-ft", 404),
            (Method::GET, "/nowhere", 404),
        ] {
            assert_eq!(ask(&service.base, method, path, &authorization).await.0, status, "{path}");
        }
    }
    let paid = send(&service, &good, &pay("user1.test.near", 7), None).await;
    assert_eq!(paid.status, 200, "{paid:?}");
    assert_eq!((stage.balance("user1.test.near").await, stage.balance("user9.test.near").await), (7, 0));
    let (status, _, page) = ask(&service.base, Method::GET, "/metrics", &[&bearer(&good)]).await;
    assert_eq!(status, 200);
    for (reason, count) in ["missing", "malformed", "unknown"].into_iter().zip(counted) {
        let line = format!("\nkeyshard_auth_failures_total{{reason=\"{reason}\"}} {count}\n");
        assert!(page.contains(&line), "{line} not in {page}");
    }
    assert!(page.contains("\nkeyshard_api_key_requests_total{key=\"shop\",fate=\"admitted\"} 2\n"), "{page}");
    assert!(page.contains(r#"{method="POST",route="/send-ft",status_code="401"} 20"#), "{page}");
    stop_and_search(service, &[&good, &unknown]);
}

#[tokio::test]
async fn each_scope_is_for_its_routes() {
    let stage = Stage::new("access-scopes", 100, &[FILE, QUICK]);
    let [send, read, admin] =
        ["send", "read", "admin"].map(|scope| add(&stage, &format!("--name {scope} --scopes {scope}")));
    let service = stage.serve();
    for (method, path, needed, status) in [
        (Method::POST, "/send-ft", "send", 200),
        (Method::GET, "/transfer/x", "read", 404),
        (Method::GET, "/transfer/key/x", "read", 404),
        (Method::GET, "/transfer/tx/x", "read", 404),
        (Method::GET, "/transfers", "read", 200),
        (Method::GET, "/admin", "admin", 200),
        (Method::GET, "/metrics", "read", 200),
        (Method::GET, "/metrics/jobs", "read", 200),
        (Method::GET, "/metrics/batching", "read", 200),
        // Not in this build, or not switched on.
        (Method::GET, "/debug/flamegraph", "admin", 404),
    ] {
        for (scope, key) in [("send", &send), ("read", &read), ("admin", &admin)] {
            let (found, _, body) = ask(&service.base, method.clone(), path, &[&bearer(key)]).await;
            if scope == needed {
                assert_eq!(found, status, "{scope} {path} {body}");
            } else {
                let says = format!("needs an API key with the scope {needed}, the key {scope:?} has {scope}.");
                assert!(found == 403 && error(&body).contains(&says), "{scope} {path} {found} {body}");
            }
        }
    }
    assert_eq!(stage.balance("user9.test.near").await, 1);
    stop_and_search(service, &[&send, &read, &admin]);
}

#[tokio::test]
async fn a_refused_body_does_not_break_the_connection() {
    let stage = Stage::new("access-body", 100, &[FILE, QUICK]);
    let key = add(&stage, "--name shop --scopes send");
    let service = stage.serve();
    let address = service.base.strip_prefix("http://").unwrap().parse().unwrap();
    let body = "x".repeat(3 << 20);
    let mut raw = Raw::connect(address);
    for _ in 0..2 {
        raw.write(&format!("POST /send-ft HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    }
    raw.write("POST /send-ft HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    let good = pay("user1.test.near", 3).to_string();
    raw.write(&format!(
        "POST /send-ft HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{good}",
        good.len()
    ));
    let answers = raw.read_to_end();
    let statuses: Vec<&str> = answers.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.lines().next()).collect();
    assert_eq!(statuses[..], ["401 Unauthorized", "401 Unauthorized", "401 Unauthorized", "200 OK"], "{answers}");
    assert_eq!(stage.balance("user1.test.near").await, 3);
    // Too large to be read in vain, and not sent yet: an answer, and the end.
    for head in ["content-length: 999999999", "content-length: 5\r\nexpect: 100-continue"] {
        let mut raw = Raw::connect(address);
        raw.write(&format!("POST /send-ft HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n"));
        let answer = raw.read_to_end();
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("connection: close\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn a_rate_that_is_exceeded() {
    let stage = Stage::new("access-rate", 100, &[FILE, QUICK]);
    let slow = add(&stage, "--name slow --scopes send,read --rate 1");
    let good = add(&stage, "--name good --scopes send");
    let service = stage.serve();
    let refused = until("it asks too often", || async {
        let (status, headers, body) = ask(&service.base, Method::GET, "/metrics/jobs", &[&bearer(&slow)]).await;
        assert!(matches!(status, 200 | 429), "{status} {body}");
        (status == 429).then_some((headers, body))
    })
    .await;
    assert_eq!(refused.0["retry-after"], "1");
    let says = error(&refused.1);
    assert!(says.contains("\"slow\" may ask 1 times a second") && says.contains("Repeat it in 1 s"), "{says}");
    // Nobody else is held up, and it may ask again.
    assert_eq!(send(&service, &good, &pay("user1.test.near", 2), None).await.status, 200);
    let paid = until("it may ask again", || async {
        let answer = send(&service, &slow, &pay("user2.test.near", 5), None).await;
        assert!(matches!(answer.status, 200 | 429), "{answer:?}");
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert!(!paid.is_replayed());
    assert_eq!((stage.balance("user1.test.near").await, stage.balance("user2.test.near").await), (2, 5));
    stop_and_search(service, &[&slow, &good]);
}

#[tokio::test]
async fn a_daily_limit_that_is_used_up() {
    let stage = Stage::new("access-daily", 100, &[FILE, QUICK]);
    let shop = add(&stage, "--name shop --scopes send --daily-limit 6400");
    let good = add(&stage, "--name good --scopes send");
    let mut service = stage.serve();
    let order = pay("user1.test.near", 6_000);
    assert_eq!(send(&service, &shop, &order, Some("order-1")).await.status, 200);
    for life in 0..2 {
        let refused = send(&service, &shop, &pay("user2.test.near", 401), None).await;
        let says = refused.body["error"].as_str().unwrap();
        assert!(refused.status == 429 && says.contains("limit of 6400 per day is used up"), "{life} {refused:?}");
        let after: u64 = refused.header("retry-after").parse().unwrap();
        assert!((80_000..=88_000).contains(&after) && says.contains(&format!("in {after} seconds")), "{refused:?}");
        // Of many, none is accepted.
        let many: Vec<Value> = (0..5).map(|_| pay("user2.test.near", 100)).collect();
        assert_eq!(send(&service, &shop, &json!({ "transfers": many }), Some("many")).await.status, 429);
        let never = send(&service, &shop, &pay("user2.test.near", 6_401), None).await;
        assert!(never.status == 403 && never.body.to_string().contains("allows at all"), "{never:?}");
        assert!(never.header("retry-after").is_empty());
        // What was accepted once costs nothing, whatever is left.
        for _ in 0..3 {
            let again = send(&service, &shop, &order, Some("order-1")).await;
            assert!(again.status == 200 && again.is_replayed(), "{again:?}");
        }
        assert_eq!(send(&service, &good, &pay("user3.test.near", 100_000), None).await.status, 200);
        if life == 0 {
            service.kill();
            service = stage.serve();
        }
    }
    // A new reading forgives nothing; a higher limit helps.
    hang_up(&mut service, "API keys were read again");
    assert_eq!(send(&service, &shop, &pay("user2.test.near", 401), None).await.status, 429);
    let path = stage.directory.join(FILE.1);
    let raised = fs::read_to_string(&path).unwrap().replace("\"6400\"", "\"12800\"");
    fs::write(&path, raised).unwrap();
    hang_up(&mut service, "API keys were read again");
    assert_eq!(send(&service, &shop, &pay("user2.test.near", 401), None).await.status, 200);
    for (user, balance) in [("user1", 6_000), ("user2", 401), ("user3", 200_000)] {
        assert_eq!(stage.balance(&format!("{user}.test.near")).await, balance, "{user}");
    }
    stop_and_search(service, &[&shop, &good]);
}

#[tokio::test]
async fn receivers_that_are_not_paid() {
    let lists = [("RECEIVERS_ALLOW_FILE", "allowed"), ("RECEIVERS_DENY_FILE", "denied"), QUICK];
    let stage = Stage::new("access-receivers", 100, &lists);
    fs::write(stage.directory.join("allowed"), "*.test.near # all of ours\nfriend.near\n").unwrap();
    fs::write(stage.directory.join("denied"), "user2.test.near\n").unwrap();
    let mut service = stage.serve();
    for (receiver, says) in [
        ("user2.test.near", "receiver user2.test.near is on the list"),
        ("stranger.near", "receiver stranger.near is not on the list"),
        ("test.near.x", "receiver test.near.x is not on the list"),
    ] {
        let transfers = [pay("user1.test.near", 1), pay(receiver, 1)];
        for body in [pay(receiver, 1), json!({ "transfers": transfers })] {
            let refused = service.send(&body, &[("idempotency-key", "k")]).await;
            let text = refused.body["error"].as_str().unwrap();
            assert!(refused.status == 403 && text.contains(says), "{refused:?}");
        }
    }
    assert_eq!(service.get("/metrics/jobs").await.1["counts"], json!({}), "nothing of them was accepted");
    // Its name is free still.
    assert_eq!(service.send(&pay("user1.test.near", 1), &[("idempotency-key", "k")]).await.status, 200);
    fs::write(stage.directory.join("denied"), "user1.test.near\nNobody\n").unwrap();
    hang_up(&mut service, "RECEIVERS_DENY_FILE =denied: it has a bad line 2");
    assert_eq!(service.send(&pay("user1.test.near", 1), &[]).await.status, 200);
    assert_eq!(service.send(&pay("user2.test.near", 1), &[]).await.status, 403);
    fs::write(stage.directory.join("denied"), "user1.test.near\n").unwrap();
    hang_up(&mut service, "the lists of receivers were read again");
    assert_eq!(service.send(&pay("user1.test.near", 1), &[]).await.status, 403);
    assert_eq!(service.send(&pay("user2.test.near", 1), &[]).await.status, 200);
    // What was accepted is told as it is, whoever is on the lists now.
    let again = service.send(&pay("user1.test.near", 1), &[("idempotency-key", "k")]).await;
    assert!(again.status == 200 && again.is_replayed(), "{again:?}");
    for (user, balance) in [("user1", 2), ("user2", 1)] {
        assert_eq!(stage.balance(&format!("{user}.test.near")).await, balance, "{user}");
    }
    service.stop();
}

#[tokio::test]
async fn keys_come_and_go_while_it_runs() {
    let stage = Stage::new("access-reload", 100, &[FILE, QUICK]);
    let first = add(&stage, "--name first --scopes send");
    let mut service = stage.serve();
    let pays = async |service: &Serving, key: &str| send(service, key, &pay("user1.test.near", 1), None).await.status;
    let second = add(&stage, "--name second --scopes send");
    assert_eq!((pays(&service, &first).await, pays(&service, &second).await), (200, 401));
    hang_up(&mut service, "API keys were read again");
    assert_eq!((pays(&service, &first).await, pays(&service, &second).await), (200, 200));
    assert_eq!(api_keys(&stage, "remove first").0, Some(0));
    hang_up(&mut service, "API keys were read again");
    assert_eq!((pays(&service, &first).await, pays(&service, &second).await), (401, 200));
    // What is in the way of the rules is named in the log, and the rules stay.
    let path = stage.directory.join(FILE.1);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}{second}\n")).unwrap();
    hang_up(&mut service, "it has a bad line 3: it is not JSON");
    assert_eq!((pays(&service, &first).await, pays(&service, &second).await), (401, 200));
    fs::write(&path, &text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    hang_up(&mut service, "run chmod 600 api-keys");
    assert_eq!((pays(&service, &first).await, pays(&service, &second).await), (401, 200));
    assert_eq!(stage.balance("user1.test.near").await, 6);
    stop_and_search(service, &[&first, &second]);
}

#[tokio::test]
async fn the_command_and_what_it_leaves() {
    let stage = Stage::new("access-command", 1_000, &[FILE]);
    let (code, output) = api_keys(&stage, "list");
    assert!(code == Some(1) && output.contains("does not exist"), "{output}");
    assert_eq!(api_keys(&stage, "remove shop").0, Some(1));
    assert!(!stage.directory.join(FILE.1).exists(), "nothing is made where nothing is added");
    let key = add(&stage, "--name shop --scopes send,read --daily-limit 5000 --rate 100");
    let other = add(&stage, "--name admin-1 --scopes admin");
    let (_, output) = api_keys(&stage, "list");
    assert!(
        output.contains("2 API keys in api-keys") && output.contains("5000 units in 24 hours, 100 requests"),
        "{output}"
    );
    let (_, json) = api_keys(&stage, "list --json");
    let listed: Value = serde_json::from_str(&json).unwrap_or_else(|_| panic!("{json}"));
    let expected = json!([
        { "name": "shop", "scopes": ["send", "read"], "dailyLimit": "5000", "ratePerSecond": 100 },
        { "name": "admin-1", "scopes": ["admin"], "dailyLimit": null, "ratePerSecond": null },
    ]);
    assert_eq!(listed, expected);
    let path = stage.directory.join(FILE.1);
    let text = fs::read_to_string(&path).unwrap();
    for shown in [&output, &json, &text] {
        assert!(!shown.contains(&key[..20]) && !shown.contains(&key[3..20]) && !shown.contains(&other[..20]));
    }
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for (arguments, says) in [
        ("add --name shop --scopes send", "there is a key \"shop\" already"),
        ("add --name Shop --scopes send", "a-z, 0-9"),
        ("add --name x --scopes write", "possible values: send, read, admin"),
        ("add --name x", "--scopes"),
        ("add --name x --scopes send --rate 0", "--rate"),
        ("add --name x --scopes send --daily-limit 0", "raw token units"),
        ("add --name x --scopes send --daily-limit 1e9", "raw token units"),
        ("remove nobody", "no key \"nobody\""),
        ("list --file nowhere", "nowhere does not exist"),
    ] {
        let (code, output) = api_keys(&stage, arguments);
        assert!(code != Some(0) && output.contains(says), "{arguments}: {output}");
    }
    assert_eq!(api_keys(&stage, "remove shop").0, Some(0));
    assert_eq!(api_keys(&stage, "add --name x --scopes send --file elsewhere").0, Some(0));
    let (_, json) = api_keys(&stage, "list --json");
    assert!(json.contains("admin-1") && !json.contains("shop"), "{json}");
}

#[tokio::test]
async fn files_that_cannot_be_used_stop_the_start_and_check_tells_them() {
    let stage = Stage::new("access-files", 50, &[FILE]);
    let path = stage.directory.join(FILE.1);
    let key = add(&stage, "--name shop --scopes send");
    let good = fs::read_to_string(&path).unwrap();
    for (text, mode, says) in [
        (format!("{good}{good}"), 0o600, "has \"shop\" twice, again in line 4"),
        (format!("{good}{{\"key\":\"{key}\"}}\n"), 0o600, "has a bad line 3: it must be"),
        (good.clone(), 0o640, "can be read by others than its owner (mode 640): run chmod 600 api-keys"),
    ] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for command in ["serve", "check"] {
            let (code, output) = stage.run(&[command]).end_with_output();
            assert!(code != Some(0) && output.contains(&format!("API_KEYS_FILE =api-keys: it {says}")), "{output}");
            assert!(!output.contains(&key[..20]), "{output}");
        }
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let check = |settings: &[(&str, &str)]| stage.run_with(&["check"], settings).end_with_output().1;
    let output = check(&[]);
    assert!(output.contains("ok    access       1 API keys of api-keys"), "{output}");
    assert!(
        output.contains("ok    access       API keys are asked for; listening on this machine only: set HOST"),
        "{output}"
    );
    let output = check(&[("HOST", "0.0.0.0")]);
    assert!(output.contains("warn  access       API keys travel unencrypted"), "{output}");
    let output = check(&[("HOST", "0.0.0.0"), ("API_KEYS_FILE", "")]);
    assert!(output.contains("warn  access       anybody who reaches 0.0.0.0 can pay"), "{output}");
    let output = check(&[("API_KEYS_FILE", ""), ("RECEIVERS_ALLOW_FILE", "none")]);
    assert!(output.contains("FAIL  settings     RECEIVERS_ALLOW_FILE =none: it cannot be read"), "{output}");
    // And what a start without keys says.
    let service = stage.serve_with(&[("API_KEYS_FILE", "")]);
    let output = service.program.output();
    assert!(output.contains("no API keys (API_KEYS_FILE) and no HOST: listening on this machine only"), "{output}");
    assert_eq!(service.send(&pay("user1.test.near", 1), &[]).await.status, 200);
    service.stop();
}

/// Sent while somebody else is refused again and again.
#[tokio::test]
async fn paying_goes_on_while_others_are_refused() {
    let stage = Stage::new("access-undisturbed", 100, &[FILE, QUICK]);
    let good = add(&stage, "--name good --scopes send");
    let slow = add(&stage, "--name slow --scopes send --rate 1 --daily-limit 1");
    let service = stage.serve();
    let unknown = bearer(&format!("ks_{}", "1".repeat(64)));
    let (done, mut over) = tokio::sync::watch::channel(false);
    let base = service.base.clone();
    let bad = tokio::spawn(async move {
        let client = client();
        let mut refused = 0;
        while !*over.borrow_and_update() {
            for value in [unknown.as_str(), &bearer(&slow), "Bearer", ""] {
                let request = client.post(format!("{base}/send-ft")).header("authorization", value);
                let answer = request.json(&pay("user2.test.near", 2)).send().await.unwrap();
                assert!(matches!(answer.status().as_u16(), 401 | 403 | 429), "{}", answer.status());
                refused += 1;
            }
        }
        refused
    });
    for _ in 0..20 {
        assert_eq!(send(&service, &good, &pay("user1.test.near", 1), None).await.status, 200);
    }
    done.send_replace(true);
    let refused = tokio::time::timeout(PATIENCE, bad).await.unwrap().unwrap();
    assert!(refused >= 20, "{refused}");
    assert_eq!((stage.balance("user1.test.near").await, stage.balance("user2.test.near").await), (20, 0));
    service.stop();
}
