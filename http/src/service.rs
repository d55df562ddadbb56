//! What the handlers of one front-end thread share, and what all threads share.
use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::HeaderValue;
use keyshard_engine::{Door, Engine, NewTransfer, Refused, Ticket};
use tokio::sync::{Notify, watch};

use crate::{
    access::Key,
    config::Http,
    connections::{Connections, Room},
    dashboard::Viewers,
    json::Iso,
    metrics::Stats,
    webhooks,
};

/// What answers promise of an unused connection, if it is kept that long, as in the Node service.
const KEEP_ALIVE: HeaderValue = HeaderValue::from_static("timeout=15");
const KEEP_ALIVE_SECONDS: u64 = 15;
/// Connections beyond the limit that may be there while those that make room for them are being closed.
const OVER: usize = 256;

/// How far a shutdown has come. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Taking connections and requests.
    Serving,
    /// No new connections; running requests are waited for.
    Draining,
    /// Whoever still waits is answered now.
    Closing,
}

/// What all front-end threads share.
pub(crate) struct Shared {
    pub(crate) http: Http,
    /// Set once, when the engine is ready.
    pub(crate) engine: OnceLock<Engine>,
    /// One for each thread.
    pub(crate) stats: Box<[Arc<Stats>]>,
    /// One for each thread.
    pub(crate) rooms: Box<[Arc<Room>]>,
    /// Open connections.
    pub(crate) connections: AtomicUsize,
    /// Bytes of request bodies in memory.
    pub(crate) body_bytes: AtomicUsize,
    /// What webhooks have come to.
    pub(crate) webhooks: Arc<webhooks::Stats>,
    pub(crate) started: Instant,
    pub(crate) started_at: Iso,
    /// Whoever watches.
    pub(crate) viewers: Viewers,
}

/// What the handlers of one thread share.
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stats: Arc<Stats>,
    /// This thread's own view of the phase: nothing on the request path is shared with other threads.
    pub(crate) phase: watch::Sender<Phase>,
    /// This thread's.
    pub(crate) connections: Rc<Connections>,
    /// The `Keep-Alive` of every answer.
    pub(crate) keep_alive: HeaderValue,
    door: RefCell<Option<Door>>,
    /// Told when something was submitted that no shard has been woken for.
    submitted: Notify,
}

/// Why transfers are not accepted.
pub(crate) enum Rejected {
    /// The engine is not ready yet.
    Starting,
    Refused(Refused),
}

impl Service {
    pub(crate) fn new(shared: Arc<Shared>, thread: usize) -> Self {
        let stats = Arc::clone(&shared.stats[thread]);
        let connections = Connections::new(Arc::clone(&shared.rooms[thread]));
        let keep_alive = keep_alive(shared.http.header_timeout);
        Self {
            shared,
            stats,
            phase: watch::Sender::new(Phase::Serving),
            connections,
            keep_alive,
            door: RefCell::new(None),
            submitted: Notify::new(),
        }
    }

    /// From now on transfers can be accepted.
    pub(crate) fn open(&self, door: Door) {
        self.door.replace(Some(door));
    }

    pub(crate) fn http(&self) -> &Http {
        &self.shared.http
    }

    /// The engine, once it is ready.
    pub(crate) fn engine(&self) -> Option<&Engine> {
        self.shared.engine.get()
    }

    /// Hands all transfers of a request to the engine, or none. [`Self::announce`] must be running.
    /// What is new must go to somebody who may be paid, and is charged to the API key, if there is one.
    pub(crate) fn submit(&self, transfers: Vec<NewTransfer>, key: Option<&Key>) -> Result<(&Engine, Ticket), Rejected> {
        let mut door = self.door.borrow_mut();
        let (Some(engine), Some(door)) = (self.engine(), door.as_mut()) else { return Err(Rejected::Starting) };
        let receivers = self.http().access.receivers();
        let wanted = |receiver: &_| receivers.as_ref().map_or(Ok(()), |lists| lists.check(receiver));
        let charge = |units| key.map_or(Ok(()), |key| key.charge(units));
        let ticket = door.submit_unannounced(transfers, wanted, charge).map_err(Rejected::Refused)?;
        self.submitted.notify_one();
        Ok((engine, ticket))
    }

    /// Wakes the shards for what was submitted. As a task it has its turn after all requests that were ready with the one that
    /// woke it: to wake a thread is a system call, and takes longer than to parse a request.
    pub(crate) async fn announce(self: Rc<Self>) {
        loop {
            self.submitted.notified().await;
            if let Some(door) = self.door.borrow_mut().as_mut() {
                door.announce();
            }
        }
    }

    /// Returns when nobody may be kept waiting any longer.
    pub(crate) async fn closing(&self) {
        // An error means that the sender is gone, which is the end as well.
        let _ = self.phase.subscribe().wait_for(|phase| *phase == Phase::Closing).await;
    }
}

/// A connection's place among those allowed, given back when dropped.
pub(crate) struct Place(Arc<Shared>);

impl Place {
    /// `None` if all are taken and no idle connection can make room.
    pub(crate) fn take(service: &Service) -> Option<Self> {
        let shared = &service.shared;
        let place = Self(Arc::clone(shared));
        let before = shared.connections.fetch_add(1, Relaxed);
        if before < shared.http.max_connections {
            return Some(place);
        }
        let room = before < shared.http.max_connections + OVER
            && (service.connections.close_oldest() || shared.rooms.iter().any(|room| room.ask()));
        let counter = if room { &service.stats.closed_for_room } else { &service.stats.refused };
        counter.fetch_add(1, Relaxed);
        room.then_some(place)
    }
}

/// A connection must not be promised for longer than it is kept, or a client sends into one that is just being closed.
fn keep_alive(kept: Duration) -> HeaderValue {
    let seconds = kept.as_secs() * 3 / 4;
    if seconds >= KEEP_ALIVE_SECONDS {
        return KEEP_ALIVE;
    }
    HeaderValue::from_str(&format!("timeout={seconds}")).unwrap_or(KEEP_ALIVE)
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_promised_than_is_kept() {
        for (seconds, said) in [(20, "timeout=15"), (3_600, "timeout=15"), (10, "timeout=7"), (1, "timeout=0")] {
            assert_eq!(keep_alive(Duration::from_secs(seconds)), said);
        }
    }
}
