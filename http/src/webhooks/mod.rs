//! Webhooks: an event for every transfer that settles, sent to `WEBHOOK_URL` until it is taken.
//!
//! ```text
//! history thread ── groups and parcels, one commit ──▶ outbox ──▶ deliverer ── POST, signed ──▶ receiver
//!                                                        ▲            │
//!                                                        └─ delivered, later, or dead: a few commits a second
//! ```
//!
//! The deliverer has a thread of its own, and only what it is at in memory: what waits, waits on the disk. An event that was
//! delivered may come again after a kill, under the same id.
mod command;
mod deliver;
mod endpoint;
mod event;
mod post;
mod replay;
mod schedule;
mod settings;
mod stats;

use std::{io, panic::AssertUnwindSafe, sync::Arc, thread::JoinHandle, time::Duration};

use keyshard_engine::{Engine, Outbox};
use tokio::{sync::watch, time::Instant};

pub(crate) use command::{Args, webhooks};
use deliver::Deliverer;
use post::Receiver;
pub(crate) use replay::replay;
pub use settings::Webhooks;
pub(crate) use stats::Stats;

use crate::run::RunError;

/// Pause after the deliverer failed, which it never should.
const PAUSE: Duration = Duration::from_secs(5);

/// Starts to deliver, if that is wanted; says so if it is not and something waits.
pub(crate) fn start(
    settings: Option<Webhooks>,
    engine: &Engine,
    stats: &Arc<Stats>,
) -> Result<Option<Running>, RunError> {
    let outbox = engine.outbox();
    if let Some(settings) = settings {
        return Running::start(&settings, outbox, stats).map(Some).map_err(RunError::Webhooks);
    }
    let fill = outbox.fill();
    stats.fill(&fill, false);
    if fill.waiting > 0 {
        tracing::warn!(events = fill.waiting, "webhook events wait for their delivery, and WEBHOOK_URL is not set");
    }
    Ok(None)
}

/// The running deliverer. Ends it when dropped, within a few seconds.
pub(crate) struct Running {
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts to deliver what is in this outbox.
    fn start(settings: &Webhooks, outbox: Outbox, stats: &Arc<Stats>) -> io::Result<Self> {
        let receiver = Receiver::new(settings).map_err(io::Error::other)?;
        tracing::info!(url = settings.shown(), sideBySide = settings.at_once, "Webhooks are delivered");
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let body = {
            let (receiver, stats) = (Arc::new(receiver), Arc::clone(stats));
            let at_once = settings.at_once;
            move || {
                let life = || {
                    let clock = runtime.block_on(async { Clock::new() });
                    let deliverer = Deliverer::new(outbox.clone(), receiver.clone(), clock, at_once, stats.clone());
                    runtime.block_on(deliverer.run(stopped.clone()));
                };
                // Payments are not to end with it, and it can always begin again with what is on the disk.
                while std::panic::catch_unwind(AssertUnwindSafe(life)).is_err() {
                    tracing::error!("the delivery of webhooks failed; it begins again");
                    std::thread::sleep(PAUSE);
                }
            }
        };
        let thread = std::thread::Builder::new().name("webhooks".into()).spawn(body)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // What it panics at, it logs.
            let _ = thread.join();
        }
    }
}

/// The time of day that goes on with tokio's clock, which tests can put forward.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    began_ms: u64,
    began: Instant,
}

impl Clock {
    /// It is now what the system says.
    pub(crate) fn new() -> Self {
        Self { began_ms: crate::json::Iso::now().0, began: Instant::now() }
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_ms(self) -> u64 {
        self.began_ms + self.began.elapsed().as_millis() as u64
    }

    /// When it is this time; now if it was.
    pub(crate) fn at(self, ms: u64) -> Instant {
        self.began + Duration::from_millis(ms.saturating_sub(self.began_ms))
    }
}
