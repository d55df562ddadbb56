//! The connections of one thread: kept alive, one request at a time on each, the one used last first.
use std::{
    cell::{Cell, RefCell},
    error::Error as _,
    io,
    time::Instant,
};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, sync::Semaphore};

use super::{Answer, Target};

/// All connections of a thread.
pub(super) struct Connections {
    target: Target,
    /// The right to use one.
    slots: Semaphore,
    idle: RefCell<Vec<SendRequest<Full<Bytes>>>>,
    max: usize,
    waiting: Cell<u64>,
    pub(super) opened: Cell<u64>,
    pub(super) peak_open: Cell<u64>,
    pub(super) peak_waiting: Cell<u64>,
}

impl Connections {
    pub(super) fn new(target: Target, max: usize) -> Self {
        let max = max.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            target,
            slots: Semaphore::new(max),
            idle: RefCell::default(),
            max,
            waiting: Cell::new(0),
            opened: Cell::new(0),
            peak_open: Cell::new(0),
            peak_waiting: Cell::new(0),
        }
    }

    /// Sends a request and waits for the whole answer. `sent` is told when it got its connection.
    pub(super) async fn exchange(
        &self,
        request: impl Fn() -> Request<Full<Bytes>>,
        sent: &Cell<Option<Instant>>,
    ) -> Result<(u16, Bytes), Answer> {
        let _slot = self.slot().await;
        let mut request = request();
        loop {
            let mut sender = match self.take_idle() {
                Some(sender) => sender,
                None => self.open().await?,
            };
            // One that was used just now needs a turn of its own task first.
            if sender.ready().await.is_err() {
                continue;
            }
            sent.set(Some(Instant::now()));
            let answer = match sender.try_send_request(request).await {
                Ok(answer) => answer,
                Err(mut error) => match error.take_message() {
                    // The service had closed it while it was idle, and not a byte has left: on another one.
                    Some(unsent) => {
                        request = unsent;
                        continue;
                    }
                    None => return Err(ending(error.error())),
                },
            };
            let status = answer.status().as_u16();
            let body = answer.into_body().collect().await.map_err(|error| ending(&error))?.to_bytes();
            if !sender.is_closed() {
                self.idle.borrow_mut().push(sender);
            }
            return Ok((status, body));
        }
    }

    async fn slot(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        if let Ok(slot) = self.slots.try_acquire() {
            let used = (self.max - self.slots.available_permits()) as u64;
            self.peak_open.set(self.peak_open.get().max(used));
            return Some(slot);
        }
        self.peak_open.set(self.max as u64);
        let waiting = Waiting::new(&self.waiting);
        self.peak_waiting.set(self.peak_waiting.get().max(self.waiting.get()));
        let slot = self.slots.acquire().await.ok();
        drop(waiting);
        slot
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let sender = idle.pop()?;
            if !sender.is_closed() {
                return Some(sender);
            }
        }
    }

    async fn open(&self) -> Result<SendRequest<Full<Bytes>>, Answer> {
        let stream = TcpStream::connect(self.target.address).await.map_err(|error| of_io(&error))?;
        let _ = stream.set_nodelay(true);
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| ending(&error))?;
        tokio::task::spawn_local(connection);
        self.opened.set(self.opened.get() + 1);
        Ok(sender)
    }
}

/// Counts one that waits, for as long as it lives: whoever is given up while waiting must not be counted for ever.
struct Waiting<'a>(&'a Cell<u64>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<u64>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

fn ending(error: &hyper::Error) -> Answer {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return Answer::Reset;
    }
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return of_io(error);
        }
        source = inner.source();
    }
    Answer::Broken
}

fn of_io(error: &io::Error) -> Answer {
    match error.kind() {
        io::ErrorKind::TimedOut => Answer::TimedOut,
        io::ErrorKind::ConnectionRefused => Answer::Refused,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Answer::Reset,
        _ => Answer::Broken,
    }
}
