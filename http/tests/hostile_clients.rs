//! Clients that hold on to the running service: thousands of idle connections, slow senders, greedy ones, some that do not read.
//! Each gets its clear answer or end; meanwhile transfers on another connection are paid and finalized.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

mod common;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use common::{
    PATIENCE, Raw,
    chain::reaches,
    get,
    serving::{Serving, Stage},
    until,
};
use serde_json::json;

const IDLE: usize = 10_000;
/// Open files that this process needs for them, and the service besides what it keeps for itself.
const FILES: u64 = IDLE as u64 + 1_000;
/// Connections that come when all places are taken.
const NEW: usize = 100;
/// Hostile clients of each kind at a time.
const EACH: usize = 4;
/// Between two bytes of a slow one.
const DRIP: Duration = Duration::from_millis(20);

fn address(service: &Serving) -> SocketAddr {
    service.base.strip_prefix("http://").unwrap().parse().unwrap()
}

/// Pays once and follows it to the end.
async fn pay(service: &Serving, amount: u64) {
    let body = json!({ "receiverId": "user1.test.near", "amount": amount.to_string() });
    let answer = service.send(&body, &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    reaches(&service.base, &answer.ids()[0], "finalized").await;
}

/// A number of the service's metrics.
async fn metric(service: &Serving, name: &str) -> u64 {
    let (_, page) = get(&service.base, "/metrics").await;
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().unwrap()
}

#[tokio::test]
async fn ten_thousand_idle_connections() {
    match rlimit::increase_nofile_limit(FILES) {
        Ok(limit) if limit >= FILES => {}
        limit => {
            eprintln!("SKIPPED: {FILES} open files are needed, and the hard limit is {limit:?}: raise it (ulimit -Hn)");
            return;
        }
    }
    let most = IDLE.to_string();
    let settings = [("MAX_CONNECTIONS", most.as_str()), ("HEADER_TIMEOUT_MS", "3600000"), ("WAIT_UNTIL", "Included")];
    let stage = Stage::new("idle-connections", 100, &settings);
    let service = stage.serve();
    let address = address(&service);
    let mut idle = Vec::with_capacity(IDLE);
    while idle.len() < IDLE {
        idle.push(TcpStream::connect_timeout(&address, PATIENCE).unwrap());
    }
    until("all places are taken", || async {
        // The one that asks is one of them: it has a place because another had to go.
        (metric(&service, "keyshard_http_connections").await >= IDLE as u64).then_some(())
    })
    .await;
    // For each of these one of the idle must go.
    let mut kept: Vec<Raw> = (0..NEW).map(|_| Raw::connect(address)).collect();
    for raw in &mut kept {
        raw.write("GET /health HTTP/1.1\r\nhost: x\r\n\r\n");
        assert_ne!(raw.0.peek(&mut [0]).unwrap(), 0, "it was closed");
    }
    for amount in 1..=20 {
        pay(&service, amount).await;
    }
    assert_eq!(stage.balance("user1.test.near").await, 210);
    assert_eq!(metric(&service, "keyshard_http_connections_refused_total").await, 0);
    let gone = metric(&service, "keyshard_http_connections_closed_for_room_total").await;
    assert!(gone >= NEW as u64, "{gone}");

    // Those that were idle for longest: all of them before any other.
    let is_open = |stream: &TcpStream| {
        stream.set_nonblocking(true).unwrap();
        (&*stream).read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    let open: Vec<bool> = idle.iter().map(is_open).collect();
    // Each thread closes its own oldest: with two of them the order is that of the whole only nearly.
    let first_half = open[..IDLE / 2].iter().filter(|open| !**open).count();
    assert_eq!(first_half, open.iter().filter(|open| !**open).count(), "a younger one made room");
    assert!(open.iter().filter(|open| **open).count() > IDLE * 9 / 10, "more were closed than had to be");

    // They keep nobody from ending.
    service.stop();
}

/// What a hostile client has seen: everything until the service closed the connection.
type Hostile = JoinHandle<String>;

/// Sends this, then a byte now and then, until the service has had enough.
fn drip(address: SocketAddr, begin: &'static str) -> Hostile {
    thread::spawn(move || {
        let mut raw = Raw::connect(address);
        raw.write(begin);
        raw.0.set_read_timeout(Some(DRIP)).unwrap();
        let (deadline, mut seen) = (Instant::now() + PATIENCE, Vec::new());
        while Instant::now() < deadline {
            let mut chunk = [0; 1_024];
            match raw.0.read(&mut chunk) {
                Ok(0) => return String::from_utf8(seen).unwrap(),
                Ok(count) => seen.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    let _ = raw.0.write(b"x");
                }
                Err(_) => return String::from_utf8(seen).unwrap(),
            }
        }
        panic!("it was never ended");
    })
}

/// Sends all of this and reads the answer.
fn send(address: SocketAddr, request: String) -> Hostile {
    thread::spawn(move || {
        let mut raw = Raw::connect(address);
        // The answer may come before all is sent.
        let _ = raw.0.write_all(request.as_bytes());
        raw.read_to_end()
    })
}

/// Asks and asks, and never reads.
fn never_read(address: SocketAddr) -> Hostile {
    thread::spawn(move || {
        let raw = Raw::connect(address);
        let request = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
        // Until the service takes no more, and then until it has given up: the write fails.
        while (&raw.0).write_all(&request).is_ok() {}
        String::new()
    })
}

#[tokio::test]
async fn slow_and_greedy_clients_are_ended_while_others_are_paid() {
    let settings = [
        ("HEADER_TIMEOUT_MS", "500"),
        // Time enough for the large ones on a busy machine.
        ("BODY_TIMEOUT_MS", "5000"),
        ("SERVER_TIMEOUT_MS", "500"),
        ("REQUEST_TIMEOUT_MS", "60000"),
        ("WAIT_UNTIL", "Included"),
    ];
    let stage = Stage::new("hostile-clients", 100, &settings);
    let service = stage.serve();
    let address = address(&service);
    let post = "POST /send-ft HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let slow_body =
        "POST /send-ft HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9999\r\n\r\n{";
    let mut hostile: Vec<(&str, &str, Hostile)> = Vec::new();
    for _ in 0..EACH {
        hostile.push(("slow headers", "", drip(address, "POST /send-ft HTTP/1.1\r\nhost: x\r\nx-")));
        hostile.push(("slow request line", "", drip(address, "P")));
        hostile.push(("slow body", "HTTP/1.1 408 Request Timeout\r\n", drip(address, slow_body)));
        hostile.push(("a client that does not read", "", never_read(address)));
        let long = format!("{post}x: {}\r\n\r\n", "y".repeat(300_000));
        hostile.push(("long headers", "HTTP/1.1 431 Request Header Fields Too Large\r\n", send(address, long)));
        let large = format!("{post}content-length: 11000000\r\n\r\n{}", " ".repeat(11_000_000));
        hostile.push(("a large body", "HTTP/1.1 413 Payload Too Large\r\n", send(address, large)));
    }
    let mut amount = 0;
    while amount < 10 || hostile.iter().any(|(_, _, client)| !client.is_finished()) {
        amount += 1;
        pay(&service, amount).await;
    }
    assert_eq!(stage.balance("user1.test.near").await, u128::from(amount * (amount + 1) / 2));
    for (what, says, client) in hostile {
        let seen = client.join().unwrap_or_else(|_| panic!("{what}"));
        assert!(if says.is_empty() { seen.is_empty() } else { seen.starts_with(says) }, "{what}: {seen}");
    }
    until("all of them are forgotten", || async {
        (metric(&service, "keyshard_http_connections").await == 1).then_some(())
    })
    .await;
    service.stop();
}
