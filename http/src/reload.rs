//! SIGHUP: what lies in files and changes while the service runs is read again.
use std::{io, sync::Arc, time::SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{service::Shared, tls::Tls};

/// From now on SIGHUP does not end the process.
pub(crate) fn hangups() -> io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Reads everything again at each signal, until it is dropped. What cannot be used is named in the log and changes nothing.
pub(crate) async fn follow(mut hangups: Signal, shared: Arc<Shared>) {
    while hangups.recv().await.is_some() {
        tracing::info!("SIGHUP: reading files again");
        if let Some(tls) = &shared.http.tls {
            certificate(tls);
        }
        let access = Arc::clone(&shared.http.access);
        // Lists may be long, and the heartbeat is on this thread.
        let _ = tokio::task::spawn_blocking(move || access.reload()).await;
    }
}

fn certificate(tls: &Tls) {
    match tls.reload() {
        Ok(validity) => match validity.problem(SystemTime::now()) {
            None => tracing::info!(days = validity.days_left(SystemTime::now()), "TLS certificate read again"),
            Some(problem) => tracing::warn!("TLS certificate read again, but it {problem}"),
        },
        Err(error) => tracing::error!(%error, "the TLS certificate is not changed"),
    }
}
