//! A server that stands still shows in every request that was due meanwhile: none waits to be sent until it is convenient.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use keyshard_bench::{
    load::{self, Answer, Live, Settings, Target},
    plan::Plan,
    script::{Draw, Kind, Script, Skew},
};

/// Requests that are answered before it stands still.
const BEFORE: usize = 20;
/// For how long.
const STALL: Duration = Duration::from_millis(700);

/// When it stood still: from when until when.
#[derive(Default)]
struct Stall {
    answered: usize,
    from: Option<Instant>,
    until: Option<Instant>,
}

type Shared = Arc<(Mutex<Stall>, Condvar)>;

#[test]
fn a_stall_shows_in_every_request_that_was_due_in_it() {
    let stall: Shared = Arc::default();
    let (address, rate, seconds) = (server(&stall), 100.0, 2.0);
    let draw = Draw { receivers: vec!["a.near".into()], skew: Skew::Uniform, fresh: 0.0, amount: 1, seed: 1 };
    let plan = Plan::steady(rate, seconds).unwrap();
    let script = Arc::new(Script::new(plan, vec![Kind::of(1)], draw, "stall".into()).unwrap());
    let target = Target::parse(&format!("http://{address}")).unwrap();
    // One connection only: even then the requests that have to wait for it count the wait.
    let settings = Settings { threads: 1, connections: 1, timeout_s: 30.0, respond_async: false };
    let start = Instant::now() + Duration::from_millis(50);
    let log = load::open(&target, &script, &settings, &Arc::new(Live::default()), start).unwrap().join().unwrap();

    let stall = stall.0.lock().unwrap();
    let (from, until) = (stall.from.unwrap(), stall.until.unwrap());
    let mut concerned = 0;
    for (request, record) in (0..).zip(&log.records) {
        assert_eq!(record.answer, Answer::Status(200));
        let due = start + script.due(request);
        if due > from && due < until {
            concerned += 1;
            // Whole microseconds are counted.
            let waited = record.latency() + Duration::from_micros(2);
            assert!(waited >= until - due, "request {request} was due {:?} before the end", until - due);
        }
    }
    assert_eq!(log.records.len(), 200);
    // That is what an honest median shows: a generator that waits would have sent one request in the stall.
    assert!(
        concerned as f64 >= (until - from).as_secs_f64() * rate - 2.0,
        "{concerned} requests were due in the stall"
    );
    assert!(log.peak_waiting >= concerned / 2, "{} waited for the connection", log.peak_waiting);
}

/// Answers every request, but stands still once.
fn server(stall: &Shared) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let stall = Arc::clone(stall);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let stall = Arc::clone(&stall);
            std::thread::spawn(move || serve(stream, &stall));
        }
    });
    address
}

fn serve(mut stream: TcpStream, stall: &Shared) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut length = 0;
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        reader.read_exact(&mut vec![0; length]).unwrap();
        {
            let mut state = stall.0.lock().unwrap();
            state.answered += 1;
            if state.answered == BEFORE {
                state.from = Some(Instant::now());
                // Nobody wakes it: it is the passing of time that this is about.
                state = stall.1.wait_timeout(state, STALL).unwrap().0;
                state.until = Some(Instant::now());
            }
        }
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").is_err() {
            return;
        }
    }
}
