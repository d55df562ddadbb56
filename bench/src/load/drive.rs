//! One thread of a load: its share of the requests, on a runtime of its own.
use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use tokio::{
    task::{LocalSet, yield_now},
    time::{sleep_until, timeout_at},
};

use super::{Answer, Live, Log, MAX_KEPT_BYTES, Record, Settings, Target, connections::Connections};
use crate::{machine, script::Script};

/// Requests that are begun in one go before others get their turn.
const IN_ONE_GO: usize = 64;
/// Bodies of refusals that are kept, and how much of each.
const MAX_COMPLAINTS: usize = 3;
const COMPLAINT_BYTES: usize = 400;

/// Which requests are a thread's own: every `of`-th, from `index` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    pub(super) index: u64,
    pub(super) of: u64,
}

/// What a thread needs.
pub(super) struct Driver {
    target: Target,
    script: Arc<Script>,
    connections: usize,
    timeout: Duration,
    live: Arc<Live>,
    start: Instant,
    share: Share,
    post: HeaderMap,
    get: HeaderMap,
    send_ft: Uri,
    health: Uri,
    kept_bytes: usize,
}

/// What the requests of a thread share.
struct Shared {
    driver: Driver,
    connections: Connections,
    log: RefCell<Log>,
    kept_bytes: Cell<usize>,
    open: Cell<usize>,
    /// Woken when no request is open any more.
    idle: tokio::sync::Notify,
}

impl Driver {
    pub(super) fn new(
        target: &Target,
        script: &Arc<Script>,
        settings: &Settings,
        live: &Arc<Live>,
        start: Instant,
        share: Share,
    ) -> Self {
        let of = share.of as usize;
        let mut get = HeaderMap::new();
        if let Ok(host) = HeaderValue::from_str(&target.host) {
            get.insert(header::HOST, host);
        }
        let mut post = get.clone();
        post.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if settings.respond_async {
            post.insert(HeaderName::from_static("prefer"), HeaderValue::from_static("respond-async"));
        }
        let path = |path: &str| format!("{}{path}", target.prefix).parse().unwrap_or_default();
        Self {
            send_ft: path("/send-ft"),
            health: path("/health"),
            target: target.clone(),
            script: Arc::clone(script),
            // The first threads have one more if it does not divide.
            connections: (settings.connections + of - 1 - share.index as usize) / of,
            timeout: Duration::from_secs_f64(settings.timeout_s.clamp(0.001, 86_400.0)),
            live: Arc::clone(live),
            start,
            share,
            post,
            get,
            kept_bytes: MAX_KEPT_BYTES / of,
        }
    }

    /// Runs until every request has ended.
    pub(super) fn run(self, closed: Option<Duration>) -> io::Result<Log> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let busy = machine::this_thread_busy_s();
        let own = self.script.requests().saturating_sub(self.share.index).div_ceil(self.share.of) as usize;
        let shared = Rc::new(Shared {
            connections: Connections::new(self.target.clone(), self.connections),
            log: RefCell::new(Log { records: vec![Record::NEVER; own], ..Log::default() }),
            kept_bytes: Cell::new(0),
            open: Cell::new(0),
            idle: tokio::sync::Notify::new(),
            driver: self,
        });
        LocalSet::new().block_on(&runtime, async {
            match closed {
                None => open_loop(&shared).await,
                Some(limit) => closed_loop(&shared, limit).await,
            }
            while shared.open.get() > 0 {
                shared.idle.notified().await;
            }
        });
        // Connections still hold on to tasks; nothing of them is needed.
        drop(runtime);
        let mut log = shared.log.take();
        log.opened = shared.connections.opened.get();
        log.peak_open = shared.connections.peak_open.get();
        log.peak_waiting = shared.connections.peak_waiting.get();
        log.seconds = shared.driver.start.elapsed().as_secs_f64();
        if let (Some(before), Some(after)) = (busy, machine::this_thread_busy_s()) {
            log.busy_s.push(after - before);
        }
        Ok(log)
    }

    /// Built when it goes out: a third of a microsecond for a single transfer, against several for sending it.
    fn request(&self, number: u64) -> Request<Full<Bytes>> {
        let post = self.script.kind(number).transfers > 0;
        let mut body = Vec::with_capacity(128 * self.script.kind(number).transfers as usize);
        self.script.body(number, &mut body);
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = if post { Method::POST } else { Method::GET };
        *request.uri_mut() = if post { self.send_ft.clone() } else { self.health.clone() };
        *request.headers_mut() = if post { self.post.clone() } else { self.get.clone() };
        request
    }

    fn since_start_us(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_micros() as u64
    }
}

async fn open_loop(shared: &Rc<Shared>) {
    let Driver { script, share, start, live, .. } = &shared.driver;
    let mut begun = 0;
    let mut number = share.index;
    while number < script.requests() && !live.stop.load(Relaxed) {
        let due = *start + script.due(number);
        if due > Instant::now() {
            sleep_until(due.into()).await;
            begun = 0;
            continue;
        }
        begun += 1;
        shared.open.set(shared.open.get() + 1);
        let shared = Rc::clone(shared);
        tokio::task::spawn_local(async move {
            one(&shared, number, due).await;
            shared.open.set(shared.open.get() - 1);
            if shared.open.get() == 0 {
                shared.idle.notify_one();
            }
        });
        if begun == IN_ONE_GO {
            begun = 0;
            yield_now().await;
        }
        number += share.of;
    }
}

async fn closed_loop(shared: &Rc<Shared>, limit: Duration) {
    sleep_until(shared.driver.start.into()).await;
    let end = shared.driver.start + limit;
    let next = Rc::new(Cell::new(shared.driver.share.index));
    shared.open.set(shared.driver.connections);
    for _ in 0..shared.driver.connections {
        let (shared, next) = (Rc::clone(shared), Rc::clone(&next));
        tokio::task::spawn_local(async move {
            let Driver { script, share, live, .. } = &shared.driver;
            loop {
                let (number, now) = (next.get(), Instant::now());
                if number >= script.requests() || now >= end || live.stop.load(Relaxed) {
                    break;
                }
                next.set(number + share.of);
                one(&shared, number, now).await;
            }
            shared.open.set(shared.open.get() - 1);
            if shared.open.get() == 0 {
                shared.idle.notify_one();
            }
        });
    }
}

/// One request, from when it is due until it has ended.
async fn one(shared: &Shared, number: u64, due: Instant) {
    let driver = &shared.driver;
    let transfers = u64::from(driver.script.kind(number).transfers);
    driver.live.offered.fetch_add(transfers, Relaxed);
    let sent = Cell::new(None);
    let exchange = shared.connections.exchange(|| driver.request(number), &sent);
    let (answer, body) = match timeout_at((due + driver.timeout).into(), exchange).await {
        Ok(Ok((status, body))) => (Answer::Status(status), body),
        Ok(Err(ending)) => (ending, Bytes::new()),
        Err(_) => (Answer::TimedOut, Bytes::new()),
    };
    let ended_us = driver.since_start_us(Instant::now());
    driver.live.ended(answer, transfers);
    let mut log = shared.log.borrow_mut();
    let place = (number / driver.share.of) as usize;
    log.records[place] = Record {
        due_us: driver.since_start_us(due),
        sent_us: sent.get().map_or(0, |at| driver.since_start_us(at)),
        ended_us,
        answer,
    };
    match answer {
        Answer::Status(201..=299 | 500) if transfers > 0 => {
            let bytes = shared.kept_bytes.get() + body.len();
            if bytes <= driver.kept_bytes {
                shared.kept_bytes.set(bytes);
                // A copy: the original would hold on to the connection's whole buffer.
                log.kept.insert(number, body[..].into());
            } else {
                log.not_kept += 1;
            }
        }
        _ => {}
    }
    if matches!(answer, Answer::Status(300..)) && log.complaints.len() < MAX_COMPLAINTS {
        let text = String::from_utf8_lossy(&body[..body.len().min(COMPLAINT_BYTES)]);
        log.complaints.push(format!("{answer}: {text}"));
    }
}
