//! Runs the service: listen, connect to NEAR, serve, and end without losing anything.
use std::{
    io,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use keyshard_engine::{Drained, Engine, StartError};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    access::exposure::{self, Exposure},
    config::{Config, Http},
    files, heartbeat, reload,
    server::{BindError, Server},
    webhooks,
};

/// Most hashes of open transactions that are logged at the end.
const MAX_HASHES_SHOWN: usize = 100;
/// What a shell reports for a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The engine does not start.
    #[error(transparent)]
    Engine(#[from] StartError),
    /// The system refuses something that is always there.
    #[error("cannot handle signals: {0}")]
    Signals(#[from] io::Error),
    /// Webhooks cannot be sent.
    #[error("webhooks: {0}")]
    Webhooks(io::Error),
    /// What API keys have sent today cannot be told.
    #[error("{0}")]
    Limits(String),
}

/// Serves until SIGTERM or Ctrl-C; a second signal ends the process at once. `ready` is called once transfers are accepted.
pub async fn run(config: Config, ready: impl FnOnce(SocketAddr)) -> Result<(), RunError> {
    let mut stop = Stop::new()?;
    let hangups = reload::hangups()?;
    log_settings(&config);
    let Config { mut http, engine, drain_timeout, memory_monitoring, heartbeat, webhooks, keys_from, notes } = config;
    tracing::info!(count = engine.keys.len(), "Access keys are those of {keys_from}");
    http.max_connections = files::client_connections(http.max_connections);
    for note in notes {
        tracing::warn!("{note}");
    }
    if let Some(problem) = http.tls.as_ref().and_then(|tls| tls.validity().problem(SystemTime::now())) {
        tracing::warn!("TLS_CERT {problem}");
    }
    let told = http.clone();
    let mut server = Server::start(http)?;
    let address = server.address();
    tracing::info!(%address, "HTTP server listening");
    log_access(&told, address);
    tokio::spawn(reload::follow(hangups, server.shared()));
    let mut deliverer = None;
    let started = tokio::select! {
        started = Engine::start(engine) => Some(started?),
        () = stop.wait() => None,
    };
    let engine = match started {
        Some((engine, doors)) => {
            // DATA_DIR is this process's own from now on.
            told.access.open_limits().map_err(RunError::Limits)?;
            tracing::info!("NEAR connection initialization completed successfully");
            tracing::info!("NEAR connection initialized successfully");
            tracing::info!(count = engine.pending(), "Pending jobs re-queued from persistence");
            server.attach(engine.clone(), doors).await;
            deliverer = webhooks::start(webhooks, &engine, &server.shared().webhooks)?;
            tracing::info!("Server ready to accept requests");
            ready(address);
            tokio::select! {
                () = stop.wait() => {}
                () = heartbeat::beat(server.shared(), engine.clone(), memory_monitoring), if heartbeat => {}
            }
            Some(engine)
        }
        None => None,
    };
    tracing::warn!("Received shutdown signal, shutting down gracefully");
    // From here on nobody waits for this task to notice a signal.
    tokio::spawn(async move {
        stop.wait().await;
        std::process::exit(INTERRUPTED);
    });
    shut_down(server, engine, drain_timeout).await;
    // What settled last is in the outbox, for the next start.
    drop(deliverer);
    Ok(())
}

/// What it was told, without secrets; the Node service's lines.
fn log_settings(config: &Config) {
    let Config { http, engine, drain_timeout, .. } = config;
    tracing::info!(
        maxPendingJobs = http.capacity,
        maxConnections = http.max_connections,
        maxInFlightPerKey = engine.window,
        "API throttle configuration loaded"
    );
    tracing::info!(
        nearEnv = if http.sandbox { "sandbox" } else { "testnet" },
        masterAccount = %engine.account,
        ftContract = %engine.token,
        keys = engine.keys.len(),
        waitUntil = ?engine.wait_until,
        dataDir = %engine.data_dir.display(),
        requestTimeoutMs = http.request_timeout.as_millis() as u64,
        batchWindowMs = http.batch_window_ms,
        drainTimeoutMs = drain_timeout.as_millis() as u64,
        "Final configuration loaded"
    );
}

/// Who may ask for what, and who could without being asked.
fn log_access(http: &Http, address: SocketAddr) {
    for (good, text) in http.access.told() {
        if good { tracing::info!("{text}") } else { tracing::warn!("{text}") }
    }
    match exposure::of(http, address.ip()) {
        Exposure::Fine(text) => tracing::info!("{text}"),
        Exposure::Risky(text) => tracing::warn!("{text}"),
    }
}

async fn shut_down(server: Server, engine: Option<Engine>, limit: Duration) {
    server.stop_accepting();
    let drained = match engine {
        Some(engine) => Some(engine.drain(limit).await),
        None => None,
    };
    server.close().await;
    tracing::info!("HTTP server closed");
    match drained {
        Some(Drained { open, hashes }) if open > 0 => {
            let shown = &hashes[..hashes.len().min(MAX_HASHES_SHOWN)];
            tracing::warn!(
                open,
                transactions = hashes.len(),
                hashes = shown.join(","),
                "not everything settled before DRAIN_TIMEOUT_MS: look these transactions up before paying again"
            );
        }
        _ => tracing::info!("every accepted transfer is settled"),
    }
}

/// SIGTERM or SIGINT.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
