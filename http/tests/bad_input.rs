//! Whatever a client sends: a clear answer or a closed connection, nothing accepted, nobody else disturbed.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

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
    let (server, base) = start(Http { max_header_bytes: 8_192, ..http() });
    let get = |headers: &str| {
        let mut raw = Raw::connect(server.address());
        // The rest of it is still on its way when the answer comes.
        let _ = raw
            .0
            .write_all(format!("GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n").as_bytes());
        raw.read_to_end()
    };
    assert!(get(&format!("x: {}\r\n", "y".repeat(8_000))).starts_with("HTTP/1.1 200 OK"));
    for headers in [
        format!("x: {}\r\n", "y".repeat(8_192)),
        format!("x: {}\r\n", "y".repeat(900_000)),
        "x: y\r\n".repeat(101),
        "x: y\r\n".repeat(10_000),
    ] {
        let answer = get(&headers);
        assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{}: {answer}", headers.len());
    }
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

/// Three connections, each in the middle of a request.
fn busy(server: &keyshard::server::Server) -> Vec<Raw> {
    let begun = "POST /send-ft HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nexpect: 100-continue\r\n\
                 content-length: 100\r\n\r\n";
    let mut held: Vec<Raw> = (0..3).map(|_| Raw::connect(server.address())).collect();
    for raw in &mut held {
        raw.write(begun);
        // Its handler asks for the body.
        assert_ne!(raw.0.peek(&mut [0; 16]).unwrap(), 0);
    }
    held
}

#[tokio::test]
async fn the_connection_that_was_idle_for_longest_makes_room() {
    let (server, _) = start(Http { max_connections: 3, threads: 1, ..http() });
    let request = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    let ask = |raw: &mut Raw| {
        raw.write(request);
        let mut answer = [0; 1_024];
        assert_ne!(raw.0.read(&mut answer).unwrap(), 0, "it was closed");
    };
    let mut held: Vec<Raw> = (0..3).map(|_| Raw::connect(server.address())).collect();
    held.iter_mut().for_each(ask);
    // The first is used again, so that the second is the oldest.
    ask(&mut held[0]);
    let mut fourth = Raw::connect(server.address());
    ask(&mut fourth);
    assert_eq!(held.remove(1).read_to_end(), "");
    held.push(fourth);
    held.iter_mut().for_each(ask);
    held[0].write("GET /metrics HTTP/1.0\r\n\r\n");
    assert!(held[0].read_to_end().contains("\nkeyshard_http_connections_closed_for_room_total 1\n"));
}

#[tokio::test]
async fn nobody_makes_room_who_is_busy() {
    let (server, base) = start(Http { max_connections: 3, threads: 1, ..http() });
    let mut held = busy(&server);
    let mut fourth = Raw::connect(server.address());
    let answer = fourth.read_to_end();
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
    assert!(answer.ends_with(r#"{"error":"Too many connections are busy, please retry later"}"#), "{answer}");
    drop(held.pop());
    until("there is room again", || async {
        let mut raw = Raw::connect(server.address());
        let _ = raw.0.write_all(b"GET /health HTTP/1.0\r\n\r\n");
        raw.read_to_end().starts_with("HTTP/1.0 200").then_some(())
    })
    .await;
    let (_, page) = get(&base, "/metrics").await;
    let refused = page.lines().find_map(|line| line.strip_prefix("keyshard_http_connections_refused_total "));
    assert!(refused.unwrap().parse::<u64>().unwrap() >= 1, "{page}");
    assert!(page.contains("\nkeyshard_http_connections 3\n"), "{page}");
}

#[tokio::test]
async fn idle_connections_of_other_threads_make_room_too() {
    let (server, base) = start(Http { max_connections: 8, threads: 4, ..http() });
    // More than there is room for, one after the other: whichever thread they come to, none of them is refused.
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut raw = Raw::connect(server.address());
        raw.write("GET /health HTTP/1.1\r\nhost: x\r\n\r\n");
        let mut answer = [0; 1_024];
        let length = raw.0.read(&mut answer).unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK"));
        held.push(raw);
    }
    let (_, page) = get(&base, "/metrics").await;
    assert!(page.contains("\nkeyshard_http_connections_refused_total 0\n"), "{page}");
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
