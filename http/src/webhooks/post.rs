//! The receiver: one POST for each event.
use std::time::Duration;

use reqwest::{Client, StatusCode, Url, header};
use tokio::time::timeout;

use super::{
    event::{Event, Secret},
    settings::Webhooks,
};

/// How long the receiver has for its answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// Bytes of an answer that are read, and for how long: what is read to its end leaves the connection usable.
const BODY_BYTES: usize = 4 * 1024;
const BODY_TIME: Duration = Duration::from_millis(500);

/// Why an event was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Another status than 2xx or 3xx.
    Refused(u16),
    /// A redirect, which is not followed: it would carry the event to a place nobody configured.
    Redirected(u16),
    /// No answer in time.
    Silent,
    /// No connection, or one that broke.
    Unreachable,
}

impl Failure {
    /// Whether it is this event that the receiver does not want: it is there, and may take others.
    pub(super) fn is_of_the_event(&self) -> bool {
        matches!(self, Self::Refused(400 | 409 | 413 | 422))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(status) => write!(f, "the receiver answered {status}"),
            Self::Redirected(status) => write!(f, "the receiver answered {status}, and redirects are not followed"),
            Self::Silent => write!(f, "the receiver did not answer within {} s", PATIENCE.as_secs()),
            Self::Unreachable => f.write_str("the receiver could not be reached, or broke off"),
        }
    }
}

/// Whoever takes events.
pub(crate) trait Post: Send + Sync + 'static {
    /// Sends an event, and returns within seconds whether it was taken.
    fn post(&self, event: &Event, unix_seconds: u64) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// The real one.
pub(crate) struct Receiver {
    client: Client,
    url: Url,
    secret: Secret,
}

impl Receiver {
    /// The error is for people, and holds no secret.
    pub(super) fn new(settings: &Webhooks) -> Result<Self, String> {
        let mut builder = Client::builder()
            .user_agent(concat!("keyshard/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(settings.at_once)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .no_gzip()
            // Whether to send again is decided here.
            .retry(reqwest::retry::never());
        if settings.is_loopback() {
            builder = builder.no_proxy();
        }
        if settings.url.scheme() == "http" {
            // Without TLS no root certificates are needed, and a machine may have none.
            builder = builder.tls_certs_only([]);
        }
        let client = builder.build().map_err(|error| format!("webhooks: no HTTP client: {}", error.without_url()))?;
        Ok(Self { client, url: settings.url.clone(), secret: settings.secret.clone() })
    }
}

impl Post for Receiver {
    async fn post(&self, event: &Event, unix_seconds: u64) -> Result<(), Failure> {
        let request = self
            .client
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .header("keyshard-event-id", &event.id)
            .header("keyshard-timestamp", unix_seconds)
            .header("keyshard-signature", self.secret.signature(unix_seconds, &event.body))
            .body(event.body.clone());
        let mut response = match timeout(PATIENCE, request.send()).await {
            Err(_) => return Err(Failure::Silent),
            Ok(Err(error)) => {
                tracing::debug!(error = %error.without_url(), "a webhook was not delivered");
                return Err(Failure::Unreachable);
            }
            Ok(Ok(response)) => response,
        };
        let verdict = verdict(response.status());
        let _ = timeout(BODY_TIME, async {
            let mut left = BODY_BYTES;
            while let Ok(Some(bytes)) = response.chunk().await
                && bytes.len() < left
            {
                left -= bytes.len();
            }
        })
        .await;
        verdict
    }
}

fn verdict(status: StatusCode) -> Result<(), Failure> {
    match status.as_u16() {
        200..300 => Ok(()),
        status @ 300..400 => Err(Failure::Redirected(status)),
        status => Err(Failure::Refused(status)),
    }
}
