//! The client against servers on loopback that answer, stall, break off or are not there.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed set-up fails the test")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use keyshard_rpc::breaker::{self, BreakerState};
use keyshard_rpc::{
    BlockRef, Client, Config, Endpoint, EndpointId, Error, ExecutionResult, Fate, Outcome, Refusal, Route, SendUntil,
    WaitUntil,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

const A: EndpointId = EndpointId::new(0);
const B: EndpointId = EndpointId::new(1);
/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node on loopback: what it was asked, and over how many connections.
struct Node {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    /// Told for every request that has arrived in full.
    arrived: Arc<Notify>,
}

impl Node {
    /// Answers every request with what `answer` makes of its JSON.
    async fn start<F>(answer: F) -> Node
    where
        F: Fn(serde_json::Value, &hyper::HeaderMap) -> Reply + Send + Sync + 'static,
    {
        let (listener, node) = Node::bound().await;
        let (connections, requests, arrived) = (node.connections.clone(), node.requests.clone(), node.arrived.clone());
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (answer, requests, arrived) = (answer.clone(), requests.clone(), arrived.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (answer, requests, arrived) = (answer.clone(), requests.clone(), arrived.clone());
                    async move {
                        let headers = request.headers().clone();
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        requests.fetch_add(1, Ordering::SeqCst);
                        arrived.notify_one();
                        match answer(serde_json::from_slice(&body).unwrap(), &headers) {
                            Reply::Now(response) => Ok::<_, Infallible>(response),
                            Reply::Never => std::future::pending().await,
                        }
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        node
    }

    /// Reads a request to the end of its JSON, writes `answer` as it stands and closes the connection.
    async fn raw(answer: &'static [u8]) -> Node {
        let (listener, node) = Node::bound().await;
        let (connections, requests) = (node.connections.clone(), node.requests.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                read_request(&mut stream).await;
                requests.fetch_add(1, Ordering::SeqCst);
                if answer.is_empty() {
                    // Unread bytes or not: the peer sees a reset, not an orderly end.
                    socket_reset(stream);
                } else {
                    stream.write_all(answer).await.unwrap();
                }
            }
        });
        node
    }

    async fn bound() -> (TcpListener, Node) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, requests, arrived) = Default::default();
        (listener, Node { address, connections, requests, arrived })
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::new(&format!("http://{}/", self.address)).unwrap()
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

enum Reply {
    Now(Response<Full<Bytes>>),
    Never,
}

fn reply(status: u16, body: impl Into<String>) -> Reply {
    Reply::Now(Response::builder().status(status).body(Full::from(body.into())).unwrap())
}

fn result(json: &str) -> Reply {
    reply(200, format!(r#"{{"jsonrpc":"2.0","result":{json},"id":"keyshard"}}"#))
}

fn gas_price() -> Reply {
    result(r#"{"gas_price":"100000000"}"#)
}

fn status(height: u64, syncing: bool) -> Reply {
    result(&format!(
        r#"{{"chain_id":"localnet","protocol_version":84,"sync_info":{{"latest_block_hash":"H","latest_block_height":{height},
        "latest_block_time":"2026-11-23T07:17:58Z","syncing":{syncing}}}}}"#
    ))
}

async fn read_request(stream: &mut TcpStream) {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while !seen.ends_with(b"}") {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the client left");
        seen.extend_from_slice(&buffer[..count]);
    }
}

fn socket_reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

/// An address where nothing listens.
async fn nowhere() -> Endpoint {
    let (listener, node) = Node::bound().await;
    drop(listener);
    node.endpoint()
}

fn client(endpoints: Vec<Endpoint>) -> Client {
    Client::new(config(endpoints)).unwrap()
}

fn config(endpoints: Vec<Endpoint>) -> Config {
    let mut config = Config::new(endpoints);
    config.breaker.jitter = 0.0;
    config
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

async fn send(client: &Client, route: Route) -> Error {
    in_time(client.send_tx(route, "AAAA", SendUntil::Final)).await.expect_err("an error")
}

#[tokio::test]
async fn refused_connection_never_left() {
    let client = client(vec![nowhere().await]);
    let error = send(&client, Route::Any).await;
    assert_eq!((&error.fate, error.endpoint), (&Fate::NeverLeft, Some(A)), "{error}");
}

#[tokio::test]
async fn unknown_host_never_left() {
    let client = client(vec![Endpoint::new("http://no-such-host.localhost:1/").unwrap()]);
    assert_eq!(send(&client, Route::Any).await.fate, Fate::NeverLeft);
}

#[tokio::test]
async fn failed_tls_handshake_never_left_and_offered_http2() {
    let (listener, node) = Node::bound().await;
    let (seen, mut hellos) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut hello = vec![0; 16 << 10];
            let length = stream.read(&mut hello).await.unwrap();
            seen.send(hello[..length].to_vec()).unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    });
    let client = client(vec![Endpoint::new(&format!("https://{}/", node.address)).unwrap()]);
    let error = send(&client, Route::Any).await;
    assert_eq!(error.fate, Fate::NeverLeft, "{error}");
    // The protocols on offer stand in the ClientHello in clear.
    let hello = in_time(hellos.recv()).await.unwrap();
    let offer = b"\x02h2\x08http/1.1";
    assert!(hello.windows(offer.len()).any(|bytes| bytes == offer), "no HTTP/2 on offer");
}

#[tokio::test]
async fn reset_after_the_request_is_unknown() {
    let node = Node::raw(b"").await;
    let client = client(vec![node.endpoint()]);
    let error = send(&client, Route::Any).await;
    assert_eq!((&error.fate, error.endpoint), (&Fate::Unknown, Some(A)), "{error}");
    assert_eq!(node.requests(), 1, "sent once, not again by itself");
}

#[tokio::test]
async fn broken_answers_are_unknown() {
    let answers: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"jsonrpc\":\"2.0\",\"result\":{\"final_exec",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"jsonrpc\":\"2.0\",\"result\":{\"final_exec",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"jso",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ];
    for answer in answers {
        let node = Node::raw(answer).await;
        let error = send(&client(vec![node.endpoint()]), Route::Any).await;
        assert_eq!(error.fate, Fate::Unknown, "{}: {error}", String::from_utf8_lossy(answer));
    }
}

#[tokio::test]
async fn own_timeout_is_unknown() {
    let node = Node::start(|_, _| Reply::Never).await;
    let mut config = config(vec![node.endpoint()]);
    config.timeouts.wait = Duration::from_millis(200);
    config.timeouts.read = Duration::from_millis(150);
    let client = Client::new(config).unwrap();
    let error = send(&client, Route::Any).await;
    assert_eq!(error.fate, Fate::Unknown, "{error}");
    assert!(error.message.contains("timed out"), "{error}");
    let error = in_time(client.tx(Route::Any, "T", "a.near", WaitUntil::None)).await.expect_err("an error");
    assert_eq!(error.fate, Fate::Unknown, "{error}");
    assert_eq!(client.endpoints()[0].failures, 2);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let node = Node::start(|_, _| {
        let response = Response::builder().status(429).header("retry-after", "30");
        Reply::Now(response.body(Full::from("slow down")).unwrap())
    })
    .await;
    let client = client(vec![node.endpoint()]);
    let error = send(&client, Route::Any).await;
    assert_eq!((error.fate, error.retry_after), (Fate::Unknown, Some(Duration::from_secs(30))));
    assert_eq!(client.endpoints()[0].breaker, BreakerState::Open);
    // While it is open nothing is sent, and the caller learns how long.
    let error = send(&client, Route::Any).await;
    assert_eq!((&error.fate, error.endpoint), (&Fate::NeverLeft, None), "{error}");
    let wait = error.retry_after.unwrap();
    assert!(wait > Duration::from_secs(9) && wait <= Duration::from_secs(30), "{wait:?}");
    assert_eq!(node.requests(), 1);
}

#[tokio::test]
async fn oversized_bodies_are_not_read() {
    for announced in [true, false] {
        let node = Node::start(move |_, _| {
            let body = format!(r#"{{"jsonrpc":"2.0","result":"{}"}}"#, "x".repeat(200_000));
            if announced { reply(200, body) } else { gzipped() }
        })
        .await;
        let mut config = config(vec![node.endpoint()]);
        config.max_response_bytes = 100_000;
        let client = Client::new(config).unwrap();
        let error = in_time(client.broadcast_tx_async(Route::Any, "AAAA")).await.expect_err("an error");
        assert_eq!(error.fate, Fate::Unknown);
        assert!(error.message.contains("larger than 100000 bytes"), "{error}");
    }
}

/// 300,000 zeros in 325 bytes of gzip: small on the wire, too large when unpacked.
fn gzipped() -> Reply {
    let packed = include_bytes!("zeros.gz");
    let response = Response::builder().status(200).header("content-encoding", "gzip");
    Reply::Now(response.body(Full::from(&packed[..])).unwrap())
}

#[tokio::test]
async fn a_dead_endpoint_is_left_for_a_live_one() {
    let node = Node::start(|_, _| gas_price()).await;
    let client = client(vec![nowhere().await, node.endpoint()]);
    let answer = in_time(client.gas_price(Route::Any)).await.unwrap();
    assert_eq!((answer.value, answer.endpoint), (100_000_000, B));
    // It stays there, without asking the dead one again.
    assert_eq!(in_time(client.gas_price(Route::Any)).await.unwrap().endpoint, B);
    let health = client.endpoints();
    assert_eq!((health[0].calls, health[0].failures), (1, 1));
    assert_eq!((health[1].calls, health[1].failures, health[1].preferred), (2, 0, true));
    // A call for the dead one alone has nowhere else to go.
    assert_eq!(in_time(client.gas_price(Route::Only(A))).await.unwrap_err().fate, Fate::NeverLeft);
}

#[tokio::test]
async fn every_call_is_observed_once_an_endpoint() {
    let node = Node::start(|request, _| {
        if request["method"] == "gas_price" { gas_price() } else { Reply::Now(Response::new(Full::new("{".into()))) }
    })
    .await;
    let (seen, saw) = std::sync::mpsc::channel();
    let client = client(vec![nowhere().await, node.endpoint()]).observed_by(move |call| seen.send(call).unwrap());
    in_time(client.gas_price(Route::Any)).await.unwrap();
    in_time(client.status(Route::Only(B))).await.unwrap_err();
    in_time(client.gas_price(Route::Only(EndpointId::new(7)))).await.unwrap_err();
    let seen: Vec<_> = saw.try_iter().map(|call| (call.method, call.outcome, call.took.is_some())).collect();
    assert_eq!(
        seen,
        [
            ("gas_price", Outcome::NeverLeft, true),
            ("gas_price", Outcome::Answered, true),
            ("status", Outcome::Unknown, true),
            ("gas_price", Outcome::NeverLeft, false),
        ]
    );
}

#[tokio::test]
async fn an_unknown_outcome_is_not_tried_elsewhere() {
    let (broken, live) = (Node::raw(b"").await, Node::start(|_, _| gas_price()).await);
    let client = client(vec![broken.endpoint(), live.endpoint()]);
    assert_eq!(send(&client, Route::Any).await.fate, Fate::Unknown);
    assert_eq!(live.requests(), 0);
    // The next one is the caller's decision, and after enough failures the breaker's.
    for _ in 0..4 {
        assert_eq!(send(&client, Route::Any).await.endpoint, Some(A));
    }
    assert_eq!(in_time(client.gas_price(Route::Any)).await.unwrap().endpoint, B);
}

#[tokio::test]
async fn connections_are_reused() {
    let node = Node::start(|_, _| gas_price()).await;
    let client = client(vec![node.endpoint()]);
    for _ in 0..20 {
        in_time(client.gas_price(Route::Any)).await.unwrap();
    }
    assert_eq!((node.requests(), node.connections.load(Ordering::SeqCst)), (20, 1));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Node::start(|_, _| gas_price()).await;
    let target = format!("http://{}/", elsewhere.address);
    let node = Node::start(move |_, _| {
        let response = Response::builder().status(307).header("location", &target);
        Reply::Now(response.body(Full::default()).unwrap())
    })
    .await;
    let error = send(&client(vec![node.endpoint()]), Route::Any).await;
    assert_eq!((error.fate, error.message.as_str()), (Fate::Unknown, "HTTP 307"));
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn a_refusal_is_no_failure_of_the_endpoint() {
    let node = Node::start(|_, _| {
        reply(200, r#"{"error":{"cause":{"name":"UNKNOWN_TRANSACTION"},"data":"Transaction doesn't exist"}}"#)
    })
    .await;
    let client = client(vec![node.endpoint()]);
    for _ in 0..20 {
        let error = in_time(client.tx(Route::Any, "T", "a.near", WaitUntil::None)).await.expect_err("an error");
        assert_eq!(error.fate, Fate::Refused(Refusal::UnknownTransaction));
    }
    let health = client.endpoints();
    assert_eq!((health[0].breaker, health[0].failures), (BreakerState::Closed, 0));
}

#[tokio::test]
async fn a_dropped_probe_makes_room_for_the_next() {
    let node = Node::start(|request, _| match request["method"].as_str() {
        Some("gas_price") => gas_price(),
        Some("health") => reply(500, ""),
        _ => Reply::Never,
    })
    .await;
    let mut config = config(vec![node.endpoint()]);
    config.breaker = breaker::Config { open_base: Duration::ZERO, consecutive_failures: 1, ..config.breaker };
    let client = Client::new(config).unwrap();
    assert!(in_time(client.health(Route::Any)).await.is_err(), "opens the breaker");
    node.arrived.notified().await;
    assert_eq!(client.endpoints()[0].breaker, BreakerState::HalfOpen);
    tokio::select! {
        _ = client.send_tx(Route::Any, "AAAA", SendUntil::Final) => panic!("nothing answers"),
        () = node.arrived.notified() => {}
    }
    assert_eq!(in_time(client.gas_price(Route::Any)).await.unwrap().value, 100_000_000);
    assert_eq!(client.endpoints()[0].breaker, BreakerState::Closed);
}

#[tokio::test]
async fn syncing_and_lagging_nodes_are_left_until_they_have_caught_up() {
    let head = Arc::new(AtomicUsize::new(100));
    let slow = head.clone();
    let behind = Node::start(move |request, _| match request["method"].as_str() {
        Some("status") => status(slow.load(Ordering::SeqCst) as u64, false),
        _ => gas_price(),
    })
    .await;
    let syncing = Node::start(|_, _| status(1000, true)).await;
    let ahead = Node::start(|request, _| match request["method"].as_str() {
        Some("status") => status(1000, false),
        _ => gas_price(),
    })
    .await;
    let client = client(vec![behind.endpoint(), syncing.endpoint(), ahead.endpoint()]);
    // The first round may ask the one that is behind before anything is known of the others; the second compares.
    for _ in 0..2 {
        let probes = in_time(client.probe_endpoints()).await;
        assert_eq!(probes.iter().filter(|(_, status)| status.is_ok()).count(), 3);
    }
    let usable: Vec<bool> = client.endpoints().iter().map(|health| health.usable).collect();
    assert_eq!(usable, [false, false, true]);
    assert_eq!(client.endpoints()[0].lag, 900);
    assert_eq!(in_time(client.gas_price(Route::Any)).await.unwrap().endpoint, EndpointId::new(2));
    let nobody = in_time(client.gas_price(Route::Except(0b100))).await.unwrap_err();
    assert_eq!((&nobody.fate, nobody.endpoint), (&Fate::NeverLeft, None), "{nobody}");
    head.store(998, Ordering::SeqCst);
    in_time(client.probe_endpoints()).await;
    assert_eq!(in_time(client.gas_price(Route::Except(0b100))).await.unwrap().endpoint, A);
}

#[tokio::test]
async fn headers_and_bodies_arrive() {
    let node = Node::start(|request, headers| {
        let sent = (headers["x-api-key"].to_str().unwrap(), headers["content-type"].to_str().unwrap());
        assert_eq!(sent, ("K3Y", "application/json"));
        assert!(headers["authorization"].to_str().unwrap().starts_with("Basic "));
        assert_eq!(request["jsonrpc"], "2.0");
        match request["method"].as_str().unwrap() {
            "send_tx" => {
                let params = serde_json::json!({"signed_tx_base64": "QUJD", "wait_until": "EXECUTED_OPTIMISTIC"});
                assert_eq!(request["params"], params);
                result(r#"{"final_execution_status":"INCLUDED"}"#)
            }
            "query" => {
                assert_eq!(request["params"]["args_base64"], "e30=");
                result(r#"{"result":[110,117,108,108],"logs":[],"block_height":5,"block_hash":"B"}"#)
            }
            method => panic!("{method}"),
        }
    })
    .await;
    let url = format!("http://user:pass@{}/", node.address);
    let client = client(vec![Endpoint::new(&url).unwrap().with_header("x-api-key", "K3Y").unwrap()]);
    let sent = in_time(client.send_tx(Route::Any, "QUJD", SendUntil::ExecutedOptimistic)).await.unwrap();
    assert_eq!((sent.value.execution_status.as_str(), sent.value.outcome), ("INCLUDED", None));
    let view = in_time(client.call_function(Route::Any, BlockRef::Final, "ft", "m", b"{}")).await.unwrap();
    assert_eq!((view.value.result.as_slice(), view.value.block_height), (&b"null"[..], 5));
    let shown = format!("{client:?} {:?}", client.endpoints());
    assert!(!shown.contains("K3Y") && !shown.contains("pass"), "{shown}");
}

#[tokio::test]
async fn an_answer_about_another_transaction_is_not_believed() {
    let node = Node::start(|_, _| {
        result(
            r#"{"final_execution_status":"FINAL","transaction_outcome":{"id":"T","block_hash":"B","outcome":{"receipt_ids":["R"],
            "gas_burnt":1,"status":{"SuccessReceiptId":"R"}}},"receipts_outcome":[{"id":"R","block_hash":"B","outcome":
            {"receipt_ids":[],"gas_burnt":1,"status":{"SuccessValue":""}}}]}"#,
        )
    })
    .await;
    let client = client(vec![node.endpoint()]);
    let right = in_time(client.tx(Route::Any, "T", "a.near", WaitUntil::Final)).await.unwrap();
    assert_eq!(right.value.outcome.unwrap().result, ExecutionResult::Success(Vec::new()));
    let wrong = in_time(client.tx(Route::Any, "U", "a.near", WaitUntil::Final)).await.expect_err("another one");
    assert_eq!(wrong.fate, Fate::Unknown);
}
