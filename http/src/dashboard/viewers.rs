//! Whoever watches: one snapshot a second for all of them, made by one task while there is anybody.
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{
    sync::{mpsc, watch},
    task::spawn_local,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    guard,
    snapshot::{Front, Point, Snapshot},
    window::{Sample, Window},
};
use crate::{
    content::Content,
    json::{Answer, Iso, error},
    service::{Phase, Service, Shared},
};

/// Viewers at the same time: each holds a connection, and gets some 10 KB a second.
pub(super) const VIEWERS_MAX: usize = 32;
const EVERY: Duration = Duration::from_secs(1);
/// A stream ends after this, and the page asks for another: an API key that was taken away must not go on for ever.
const STREAM_MAX: Duration = Duration::from_mins(10);
/// Points of the chart: five minutes.
const POINTS: usize = 300;

/// What all viewers share.
pub(crate) struct Viewers {
    state: Mutex<State>,
    /// The last snapshot, as an event.
    last: watch::Sender<Option<Bytes>>,
}

#[derive(Default)]
struct State {
    viewers: usize,
    /// Whether the task runs that makes snapshots.
    making: bool,
    window: Window,
    points: VecDeque<Point>,
}

impl Default for Viewers {
    fn default() -> Self {
        Self { state: Mutex::default(), last: watch::Sender::new(None) }
    }
}

/// A viewer's place, given back when dropped.
struct Seat(Arc<Shared>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.viewers.state.lock().viewers -= 1;
    }
}

/// `GET /dashboard/events`
pub(crate) fn events(service: &Service) -> Answer {
    let (shared, phase) = (&service.shared, service.phase.subscribe());
    if *phase.borrow() != Phase::Serving {
        return error(StatusCode::SERVICE_UNAVAILABLE, "The service is shutting down");
    }
    let (start, history) = {
        let mut state = shared.viewers.state.lock();
        if state.viewers == VIEWERS_MAX {
            drop(state);
            let why = format!("{VIEWERS_MAX} dashboards are open, which is the most: close one of them");
            return error(StatusCode::SERVICE_UNAVAILABLE, &why);
        }
        state.viewers += 1;
        (!std::mem::replace(&mut state.making, true), event("history", &state.points))
    };
    let seat = Seat(Arc::clone(shared));
    if start {
        // What was made for those who watched before is old.
        shared.viewers.last.send_replace(None);
        spawn_local(make(Arc::clone(shared), service.phase.subscribe()));
    }
    let (sender, receiver) = mpsc::channel(1);
    spawn_local(view(seat, history, sender, phase));
    let mut answer = Answer::new(Content::Stream(receiver));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    // Proxies that collect answers would keep it for themselves.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    guard(&mut answer, HeaderValue::from_static("no-store"));
    answer
}

/// Sends one viewer what is made, until it goes or the service drains. A viewer that is slow misses some.
async fn view(seat: Seat, history: Bytes, sender: mpsc::Sender<Bytes>, mut phase: watch::Receiver<Phase>) {
    let mut last = seat.0.viewers.last.subscribe();
    last.mark_changed();
    let sending = async {
        let mut next = Some(history);
        loop {
            if let Some(event) = next.take()
                && sender.send(event).await.is_err()
            {
                return;
            }
            if last.changed().await.is_err() {
                return;
            }
            next.clone_from(&last.borrow_and_update());
        }
    };
    tokio::select! {
        () = sending => {}
        () = sender.closed() => {}
        () = sleep(STREAM_MAX) => {}
        // An error means that the server is gone.
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
    }
}

/// Makes a snapshot every second while anybody watches.
async fn make(shared: Arc<Shared>, mut phase: watch::Receiver<Phase>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
        }
        let event = {
            let mut state = shared.viewers.state.lock();
            if state.viewers == 0 {
                state.making = false;
                return;
            }
            state.look(&shared)
        };
        shared.viewers.last.send_replace(Some(event));
    }
}

impl State {
    fn look(&mut self, shared: &Shared) -> Bytes {
        let front = Front {
            at: Iso::now().0,
            uptime_seconds: shared.started.elapsed().as_secs_f64(),
            connections: shared.connections.load(Relaxed),
            rejected: shared.stats.iter().map(|stats| stats.rejected.load(Relaxed)).sum(),
            mock: shared.http.mock,
        };
        let snapshot = match shared.engine.get() {
            None => Snapshot::starting(&front),
            Some(engine) => {
                let watch = engine.watch();
                self.window.push(Sample::new(Instant::now(), &watch, front.rejected));
                Snapshot::new(&front, engine, &watch, &self.window)
            }
        };
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back(snapshot.point);
        event("snapshot", &snapshot)
    }
}

/// A server-sent event: JSON has no line breaks.
fn event(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_else(|error| {
        tracing::error!(%error, "cannot write an event as JSON");
        "null".to_owned()
    });
    format!("event: {name}\ndata: {data}\n\n").into()
}
