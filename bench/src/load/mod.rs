//! The load: requests that go out at their instants, whether earlier ones were answered or not.
//!
//! Latency counts from the instant at which a request was due. A service that stands still, a connection that has to be
//! waited for, a generator that falls behind: each shows in every request that it concerns (no coordinated omission).
//! [`open`] is that load; [`closed`] sends the next request when the last was answered, which tells a rate and no latency.
mod connections;
mod drive;

use std::{
    collections::HashMap,
    fmt,
    net::{SocketAddr, ToSocketAddrs as _},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::script::Script;

/// Most bytes of answers that are kept for looking up what became of their transfers.
pub const MAX_KEPT_BYTES: usize = 256 << 20;

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its address.
    pub address: SocketAddr,
    /// The `Host` header.
    pub host: String,
    /// In front of every path; empty, or as `/api`.
    pub prefix: String,
}

/// A URL that requests cannot be sent to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url}: {why}")]
pub struct TargetError {
    url: String,
    why: String,
}

impl Target {
    /// Reads `http://host:port/prefix`. A name is looked up once, here.
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let error = |why: &str| TargetError { url: url.to_owned(), why: why.to_owned() };
        let parsed: http::Uri = url.parse().map_err(|_| error("is not a URL"))?;
        if parsed.scheme_str() != Some("http") {
            return Err(error(
                "must begin with http:// (the service speaks no TLS: measure it without what is in front)",
            ));
        }
        let host = parsed.host().ok_or_else(|| error("has no host"))?;
        let port = parsed.port_u16().unwrap_or(80);
        let address = (host.trim_matches(['[', ']']), port)
            .to_socket_addrs()
            .map_err(|source| error(&source.to_string()))?
            .next()
            .ok_or_else(|| error("has no address"))?;
        let prefix = parsed.path().trim_end_matches('/').to_owned();
        Ok(Self { address, host: format!("{host}:{port}"), prefix })
    }
}

/// How a load is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Settings {
    /// Threads, each with its own share of the requests and of the connections.
    pub threads: usize,
    /// Most connections at a time; beyond that requests wait for one, and their latency grows.
    pub connections: usize,
    /// How long after it was due a request is given up, in seconds.
    pub timeout_s: f64,
    /// Whether `Prefer: respond-async` asks for an answer as soon as the transfers are safe.
    pub respond_async: bool,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// The load ended before it was due.
    Never,
    /// An answer with this status.
    Status(u16),
    /// None in time.
    TimedOut,
    /// The connection ended before there was one.
    Reset,
    /// Nobody listens: it was not sent.
    Refused,
    /// Something else, like an answer that is not HTTP.
    Broken,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never due"),
            Self::Status(status) => write!(f, "{status}"),
            Self::TimedOut => f.write_str("ETIMEDOUT"),
            Self::Reset => f.write_str("ECONNRESET"),
            Self::Refused => f.write_str("ECONNREFUSED"),
            Self::Broken => f.write_str("EPROTO"),
        }
    }
}

/// One request. Times are microseconds since the load began.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    /// When it was due.
    pub due_us: u64,
    /// When its first byte could go: it had a connection. Zero if it never had one.
    pub sent_us: u64,
    /// When its answer was there in full, or it was given up.
    pub ended_us: u64,
    /// How it ended.
    pub answer: Answer,
}

impl Record {
    /// A request that was not due yet when the load ended.
    pub const NEVER: Self = Self { due_us: 0, sent_us: 0, ended_us: 0, answer: Answer::Never };

    /// From when it was due until it ended.
    pub fn latency(&self) -> Duration {
        Duration::from_micros(self.ended_us.saturating_sub(self.due_us))
    }
}

/// What can be seen while a load runs, in transfers.
#[derive(Debug, Default)]
pub struct Live {
    /// Due and on their way.
    pub offered: AtomicU64,
    /// Answered 2xx.
    pub accepted: AtomicU64,
    /// Answered otherwise.
    pub refused: AtomicU64,
    /// Not answered.
    pub unanswered: AtomicU64,
    /// Set to end the load early: nothing more is sent, what is under way is waited for.
    pub stop: AtomicBool,
}

impl Live {
    fn ended(&self, answer: Answer, transfers: u64) {
        let counter = match answer {
            Answer::Status(200..=299) => &self.accepted,
            Answer::Status(_) => &self.refused,
            _ => &self.unanswered,
        };
        counter.fetch_add(transfers, Relaxed);
    }
}

/// All that a load leaves.
#[derive(Debug, Default)]
pub struct Log {
    /// One for each request of the script.
    pub records: Vec<Record>,
    /// Bodies of answers that leave something open: accepted without outcome, or failed with job ids.
    pub kept: HashMap<u64, Box<[u8]>>,
    /// Answers that were not kept for there were too many.
    pub not_kept: u64,
    /// A few bodies of answers that turned requests away.
    pub complaints: Vec<String>,
    /// Connections that were made.
    pub opened: u64,
    /// Most connections at a time.
    pub peak_open: u64,
    /// Most requests that waited for a connection at a time.
    pub peak_waiting: u64,
    /// Seconds that each thread of the load was on a CPU; empty where the system does not tell.
    pub busy_s: Vec<f64>,
    /// From the beginning until the last request had ended, in seconds.
    pub seconds: f64,
}

/// A load under way.
#[derive(Debug)]
pub struct Running {
    threads: Vec<JoinHandle<std::io::Result<Log>>>,
    requests: usize,
    start: Instant,
}

/// Begins an open load at `start`: every request goes out when it is due.
pub fn open(
    target: &Target,
    script: &Arc<Script>,
    settings: &Settings,
    live: &Arc<Live>,
    start: Instant,
) -> std::io::Result<Running> {
    spawn(target, script, settings, live, start, None)
}

/// Begins a closed load at `start`: each of the connections sends a request as soon as its last was answered, until
/// `seconds` have passed or the script has no more. When requests of the script are due does not matter.
pub fn closed(
    target: &Target,
    script: &Arc<Script>,
    settings: &Settings,
    live: &Arc<Live>,
    start: Instant,
    seconds: f64,
) -> std::io::Result<Running> {
    spawn(target, script, settings, live, start, Some(Duration::from_secs_f64(seconds)))
}

fn spawn(
    target: &Target,
    script: &Arc<Script>,
    settings: &Settings,
    live: &Arc<Live>,
    start: Instant,
    closed: Option<Duration>,
) -> std::io::Result<Running> {
    let count = settings.threads.max(1);
    let mut threads = Vec::with_capacity(count);
    for index in 0..count {
        let share = drive::Share { index: index as u64, of: count as u64 };
        let driver = drive::Driver::new(target, script, settings, live, start, share);
        let run = move || driver.run(closed);
        threads.push(std::thread::Builder::new().name(format!("load-{index}")).spawn(run)?);
    }
    Ok(Running { threads, requests: script.requests() as usize, start })
}

impl Running {
    /// When it began.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// Whether every request has ended.
    pub fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits until every request has ended.
    pub fn join(self) -> std::io::Result<Log> {
        let mut all = Log { records: vec![Record::NEVER; self.requests], ..Log::default() };
        let of = self.threads.len();
        for (index, thread) in self.threads.into_iter().enumerate() {
            let log = thread.join().map_err(|_| std::io::Error::other("a thread of the load panicked"))??;
            // A thread's n-th record is of the request that is the n-th of its share.
            for (place, record) in log.records.into_iter().enumerate() {
                if let Some(slot) = all.records.get_mut(place * of + index) {
                    *slot = record;
                }
            }
            all.kept.extend(log.kept);
            all.not_kept += log.not_kept;
            all.complaints.extend(log.complaints);
            all.opened += log.opened;
            all.peak_open += log.peak_open;
            all.peak_waiting += log.peak_waiting;
            all.busy_s.extend(log.busy_s);
            all.seconds = all.seconds.max(log.seconds);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let target = Target::parse("http://127.0.0.1:3000/api/").unwrap();
        assert_eq!(target.address, "127.0.0.1:3000".parse().unwrap());
        assert_eq!((target.host.as_str(), target.prefix.as_str()), ("127.0.0.1:3000", "/api"));
        assert_eq!(Target::parse("http://127.0.0.1").unwrap().address.port(), 80);
        assert_eq!(Target::parse("http://[::1]:3000").unwrap().address, "[::1]:3000".parse().unwrap());
        for url in ["", "127.0.0.1:3000", "https://127.0.0.1", "http://"] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
