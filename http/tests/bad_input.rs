//! Whatever a client sends: a clear answer or a closed connection, nothing accepted, nobody else disturbed.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{io::Write as _, time::Duration};

use common::{PATIENCE, Raw, client, get, http, send, start, until};
use keyshard::config::Http;

const LIMIT: usize = 10 * 1024 * 1024;
const SHORT: Duration = Duration::from_millis(200);

/// The rest of the service is well.
async fn undisturbed(base: &str) {
    assert_eq!(get(base, "/health").await.0, 200);
    let (_, page) = get(base, "/metrics").await;
    assert!(page.contains("\nft_service_queue_active_jobs 0\n") && page.contains("\nft_service_pending_jobs 0\n"));
}

#[tokio::test]
async fn a_body_at_the_limit_is_read_and_one_above_is_not() {
    let (_server, base) = start(http());
    let fits = format!("{{{}}}", " ".repeat(LIMIT - 2));
    assert_eq!(send(&base, fits).await.0, 400);
    for extra in [1, 4 * 1024 * 1024] {
        let (status, body) = send(&base, format!("{{{}}}", " ".repeat(LIMIT - 2 + extra))).await;
        assert_eq!((status, body.as_str()), (413, r#"{"error":"Payload Too Large: the limit is 10485760 bytes"}"#));
    }
    undisturbed(&base).await;
}

#[tokio::test]
async fn a_huge_body_is_refused_before_it_is_sent() {
    let (server, base) = start(http());
    let mut raw = Raw::connect(server.address());
    raw.write(
        "POST /send-ft HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9999999999999\r\n\r\n",
    );
    assert!(raw.read_to_end().starts_with("HTTP/1.1 413 "));
    undisturbed(&base).await;
}

#[tokio::test]
async fn a_chunked_body_is_bounded_too() {
    let (server, base) = start(http());
    let mut raw = Raw::connect(server.address());
    raw.write(
        "POST /send-ft HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    let chunk = format!("100000\r\n{}\r\n", " ".repeat(0x0010_0000));
    // The server stops reading some time after the limit; how much the kernel takes after that does not matter.
    for _ in 0..64 {
        if raw.0.write_all(chunk.as_bytes()).is_err() {
            break;
        }
    }
    let answer = raw.read_to_end();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
    undisturbed(&base).await;
}

#[tokio::test]
async fn half_a_header_block_then_silence() {
    let (server, base) = start(Http { header_timeout: SHORT, ..http() });
    let mut raw = Raw::connect(server.address());
    raw.write("POST /send-ft HTTP/1.1\r\nhost: x\r\ncontent-ty");
    let mut silent = Raw::connect(server.address());
    assert_eq!(raw.read_to_end(), "");
    assert_eq!(silent.read_to_end(), "");
    undisturbed(&base).await;
}

#[tokio::test]
async fn half_a_body_then_silence() {
    let (server, base) = start(Http { body_timeout: SHORT, ..http() });
    let mut raw = Raw::connect(server.address());
    raw.write(
        "POST /send-ft HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"receiver",
    );
    let answer = raw.read_to_end();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("connection: close"), "{answer}");
    undisturbed(&base).await;
}

#[tokio::test]
async fn half_a_body_then_gone() {
    let (server, base) = start(http());
    let mut raw = Raw::connect(server.address());
    raw.write(
        "POST /send-ft HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"receiver",
    );
    drop(raw);
    until("the connection is forgotten", || async {
        let (_, page) = get(&base, "/metrics").await;
        page.contains("\nkeyshard_http_connections 1\n").then_some(())
    })
    .await;
    undisturbed(&base).await;
}

#[tokio::test]
async fn garbage_after_a_good_request_closes_the_connection_only() {
    let (server, base) = start(http());
    let good = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    for garbage in
        ["\0\x01\x02 nonsense\r\n\r\n", "GET\r\n\r\n", "POST /send-ft HTTP/9.9\r\n\r\n", "\u{16}\u{3}\u{1}\u{2}\0"]
    {
        let mut raw = Raw::connect(server.address());
        raw.write(&format!("{good}{good}{garbage}{good}"));
        raw.0.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = raw.read_to_end();
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{garbage:?}: {answer}");
    }
    undisturbed(&base).await;
}

#[tokio::test]
async fn two_lengths_are_not_two_requests() {
    let (server, base) = start(http());
    for lengths in [
        "content-length: 5\r\ncontent-length: 6",
        "content-length: -1",
        "content-length: 1e3",
        "transfer-encoding: xchunked",
    ] {
        let mut raw = Raw::connect(server.address());
        raw.write(&format!(
            "POST /send-ft HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{lengths}\r\n\r\n{{}}   "
        ));
        raw.0.shutdown(std::net::Shutdown::Write).unwrap();
        let answer = raw.read_to_end();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{lengths}: {answer}");
    }
    undisturbed(&base).await;
}

#[tokio::test]
async fn a_header_block_is_bounded() {
    let (server, base) = start(http());
    let mut raw = Raw::connect(server.address());
    let _ =
        raw.0.write_all(format!("GET /health HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(100_000)).as_bytes());
    let answer = raw.read_to_end();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    undisturbed(&base).await;
}

#[tokio::test]
async fn only_json_and_forms_are_read() {
    let (_server, base) = start(http());
    let body = r#"{"receiverId":"ab.near","amount":"1"}"#;
    for (headers, status) in [
        (&[("content-type", "text/plain")][..], 415),
        (&[][..], 415),
        (&[("content-type", "application/json; charset=utf-16")][..], 415),
        (&[("content-type", "application/json"), ("content-encoding", "zstd")][..], 415),
        (&[("content-type", "application/json"), ("content-encoding", "gzip")][..], 400),
        // Read, and refused only because nothing is ready.
        (&[("content-type", "application/json; charset=utf-8")][..], 503),
    ] {
        let request = client().post(format!("{base}/send-ft")).body(body);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{headers:?}");
        let error: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        assert!(error["error"].is_string());
    }
    let form = |body: &'static str| {
        let request = client().post(format!("{base}/send-ft")).body(body);
        request.header("content-type", "application/x-www-form-urlencoded").send()
    };
    assert_eq!(form("receiverId=ab.near&amount=1").await.unwrap().status(), 503);
    assert_eq!(form("receiverId=ab.near&amount=1.5").await.unwrap().status(), 400);
    assert_eq!(client().post(format!("{base}/send-ft")).send().await.unwrap().status(), 400);
}

#[tokio::test]
async fn nonsense_in_json() {
    let (_server, base) = start(http());
    let deep = "[".repeat(2_000_000) + &"]".repeat(2_000_000);
    for body in [
        "{".to_owned(),
        "null".into(),
        "\"text\"".into(),
        "[".repeat(2_000_000),
        deep.clone(),
        format!(r#"{{"receiverId":{deep},"amount":1}}"#),
        r#"{"receiverId":"ab.near","amount":1,"amount":2}"#.into(),
        r#"{"receiverId":"\u0000\ud800","amount":"1"}"#.into(),
        r#"{"receiverId":"ab.near","amount":"1","memo":{"a":1}}"#.into(),
        format!(r#"{{"receiverId":"ab.near","amount":"1","memo":"{}"}}"#, "m".repeat(1_025)),
        r#"{"transfers":[{"receiverId":"ab.near","amount":"1"},null]}"#.into(),
    ] {
        let shown: String = body.chars().take(60).collect();
        let (status, answer) = send(&base, body).await;
        assert_eq!(status, 400, "{shown}: {answer}");
        assert!(answer.starts_with(r#"{"error":""#) && answer.len() < 400, "{shown}: {answer}");
    }
    undisturbed(&base).await;
}

#[tokio::test]
async fn more_connections_than_allowed_are_closed_at_once() {
    let (server, _) = start(Http { max_connections: 3, threads: 1, ..http() });
    let request = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut held: Vec<Raw> = (0..3).map(|_| Raw::connect(server.address())).collect();
    for raw in &mut held {
        raw.write(request);
    }
    // The first three have been counted once they are answered.
    for raw in &held {
        assert_ne!(raw.0.peek(&mut [0; 16]).unwrap(), 0);
    }
    let mut fourth = Raw::connect(server.address());
    assert_eq!(fourth.read_to_end(), "");
    drop(held.pop());
    until("there is room again", || async {
        let mut raw = Raw::connect(server.address());
        let _ = raw.0.write_all(b"GET /health HTTP/1.0\r\n\r\n");
        raw.read_to_end().starts_with("HTTP/1.0 200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up() {
    let (server, base) = start(Http { write_timeout: SHORT, threads: 1, ..http() });
    let raw = Raw::connect(server.address());
    raw.0.set_nonblocking(true).unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut stream = &raw.0;
    // Until the server takes no more: its answers fill every buffer between it and a client that never reads.
    let pushing = async {
        while stream.write(request).is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, pushing).await.unwrap();
    until("the connection is closed", || async {
        let (_, page) = get(&base, "/metrics").await;
        page.contains("\nkeyshard_http_connections 1\n").then_some(())
    })
    .await;
}
