//! The client: one HTTP exchange after another over pooled connections, each given to an endpoint that may be used.
//!
//! This is the only file of the crate that reads the clock.

use std::cell::RefCell;
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde::Serialize;

use crate::breaker::{BreakerState, Permit, Verdict};
use crate::chain::Status;
use crate::config::{Config, ConfigError, ENDPOINTS_MAX, Endpoint, Timeouts};
use crate::endpoints::{EndpointHealth, EndpointId, Endpoints, Route};
use crate::fate::{Error, Fate};
use crate::json::bounded;
use crate::request;
use crate::wire::{self, Failure, HttpAnswer, Parse, unusable};

/// An idle pooled connection is closed after this: below the idle limits of common gateways, so that a request
/// seldom meets a connection that the other side is closing.
const POOL_IDLE: Duration = Duration::from_secs(30);
/// Idle connections kept per endpoint.
const POOL_IDLE_MAX: usize = 64;

/// A JSON-RPC client over one or more endpoints. See the crate documentation for threads and retries.
///
/// Dropping a call's future gives the call up; its outcome is then as unknown as after a timeout.
pub struct Client {
    pools: Vec<Pool>,
    endpoints: RefCell<Endpoints>,
    timeouts: Timeouts,
    max_response_bytes: usize,
    /// The breakers' time counts from here.
    origin: Instant,
    observer: Option<Box<dyn Fn(Observed)>>,
}

/// One call, when it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observed {
    /// The JSON-RPC method.
    pub method: &'static str,
    /// What became of it.
    pub outcome: Outcome,
    /// From the first byte of the request to the last of the answer; `None` if no endpoint could be asked.
    pub took: Option<Duration>,
}

/// How a call ended: an answer, or the kind of its [`Fate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// An answer to use.
    Answered,
    /// [`Fate::Refused`]
    Refused,
    /// [`Fate::Unknown`]
    Unknown,
    /// [`Fate::NeverLeft`]
    NeverLeft,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Answered, Self::Refused, Self::Unknown, Self::NeverLeft];

    /// `answered`, `refused`, `unknown`, `never_left`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
            Self::NeverLeft => "never_left",
        }
    }

    fn of(fate: &Fate) -> Self {
        match fate {
            Fate::NeverLeft => Self::NeverLeft,
            Fate::Unknown => Self::Unknown,
            Fate::Refused(_) => Self::Refused,
        }
    }
}

struct Pool {
    http: reqwest::Client,
    url: Url,
}

/// A value and the endpoint that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// The value.
    pub value: T,
    /// Who gave it. For proofs whose parts must come from one node: [`Route::Only`] this.
    pub endpoint: EndpointId,
}

/// How a call is made.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) route: Route,
    pub(crate) timeout: Duration,
    /// Endpoints that sync or lag may be asked too.
    pub(crate) any_head: bool,
}

impl Client {
    /// Builds the pools; connects to nothing yet.
    ///
    /// # Errors
    /// No endpoint or too many, or the TLS set-up failed.
    pub fn new(config: Config) -> Result<Client, ConfigError> {
        let count = config.endpoints.len();
        if !(1..=ENDPOINTS_MAX).contains(&count) {
            return Err(ConfigError::Count(count));
        }
        let names = config.endpoints.iter().map(Endpoint::name).collect();
        let endpoints = Endpoints::new(names, config.breaker, config.max_lag_blocks, config.seed);
        let pools = config.endpoints.into_iter().map(|endpoint| Pool::new(endpoint, &config.timeouts));
        Ok(Client {
            pools: pools.collect::<Result<_, _>>()?,
            endpoints: RefCell::new(endpoints),
            timeouts: config.timeouts,
            max_response_bytes: config.max_response_bytes,
            origin: Instant::now(),
            observer: None,
        })
    }

    /// Calls `observer` whenever a call is over: once an endpoint that was asked. Nothing may wait in there.
    #[must_use]
    pub fn observed_by(self, observer: impl Fn(Observed) + 'static) -> Self {
        Self { observer: Some(Box::new(observer)), ..self }
    }

    /// Every endpoint's health, in the operator's order.
    pub fn endpoints(&self) -> Vec<EndpointHealth> {
        self.endpoints.borrow().health(self.now())
    }

    /// An endpoint's name: scheme, host, port and path, never credentials.
    pub fn endpoint_name(&self, id: EndpointId) -> String {
        self.endpoints.borrow().name(id).to_owned()
    }

    /// Tells the client how far an endpoint has come. The answers to [`Client::status`], [`Client::block`] and
    /// [`Client::probe_endpoints`] are taken into account without this.
    pub fn observe_head(&self, endpoint: EndpointId, height: u64, syncing: bool) {
        self.endpoints.borrow_mut().observe_head(endpoint, height, syncing);
    }

    /// Asks `status` of all endpoints at once, also of those that sync, lag, or whose breaker may be probed. Call it
    /// every few seconds: this is how an endpoint that was left comes back, and how a lagging one is found.
    ///
    /// The answers tell the chain of each: endpoints of different networks should not be used together.
    pub async fn probe_endpoints(&self) -> Vec<(EndpointId, Result<Status, Error>)> {
        let ids: Vec<EndpointId> = self.endpoints.borrow().ids().collect();
        let probe = async |id: EndpointId| {
            let plan = Plan { route: Route::Only(id), timeout: self.timeouts.probe, any_head: true };
            (id, self.status_by(plan).await.map(|answer| answer.value))
        };
        join_all(ids.into_iter().map(probe)).await
    }

    pub(crate) async fn status_by(&self, plan: Plan) -> Result<Answer<Status>, Error> {
        let answer: Answer<Status> = self.call(plan, "status", &[(); 0]).await?;
        self.observe_head(answer.endpoint, answer.value.latest_block_height, answer.value.syncing);
        Ok(answer)
    }

    pub(crate) fn observe_height(&self, endpoint: EndpointId, height: u64) {
        self.endpoints.borrow_mut().observe_height(endpoint, height);
    }

    /// A call that a node answers at once.
    pub(crate) fn at_once(&self, route: Route) -> Plan {
        Plan { route, timeout: self.timeouts.read, any_head: false }
    }

    /// A call that a node answers when it has waited long enough.
    pub(crate) fn waiting(&self, route: Route) -> Plan {
        Plan { route, timeout: self.timeouts.wait, any_head: false }
    }

    /// One call. Another endpoint is asked only if the one before certainly got no byte of it.
    pub(crate) async fn call<T: Parse>(
        &self,
        plan: Plan,
        method: &'static str,
        params: &impl Serialize,
    ) -> Result<Answer<T>, Error> {
        let body = request::body(method, params).map_err(|why| never_left(None, &why.to_string()))?;
        let body = bytes::Bytes::from(body);
        let mut tried: Vec<EndpointId> = Vec::new();
        let mut last = None;
        while let Some(call) = self.begin(plan, &tried) {
            let (id, began) = (call.id, self.now());
            let outcome = self.exchange(id, body.clone(), plan.timeout).await;
            let took = Some(self.now().saturating_sub(began));
            match outcome {
                Ok(value) => {
                    call.end(Verdict::Success);
                    self.observe(Observed { method, outcome: Outcome::Answered, took });
                    return Ok(Answer { value, endpoint: id });
                }
                Err(failure) => {
                    call.end(failure.verdict);
                    self.observe(Observed { method, outcome: Outcome::of(&failure.fate), took });
                    let Failure { fate, message, retry_after, .. } = failure;
                    let error = Error { fate, endpoint: Some(id), message: message.into(), retry_after };
                    if error.fate != Fate::NeverLeft {
                        return Err(error);
                    }
                    tried.push(id);
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            self.observe(Observed { method, outcome: Outcome::NeverLeft, took: None });
            self.nobody(plan.route)
        }))
    }

    fn observe(&self, observed: Observed) {
        if let Some(observer) = &self.observer {
            observer(observed);
        }
    }

    fn begin(&self, plan: Plan, tried: &[EndpointId]) -> Option<InFlight<'_>> {
        let now = self.now();
        let (id, permit) = self.endpoints.borrow_mut().select(now, plan.route, tried, plan.any_head)?;
        Some(InFlight { client: self, id, permit, ended: false })
    }

    async fn exchange<T: Parse>(&self, id: EndpointId, body: bytes::Bytes, timeout: Duration) -> Result<T, Failure> {
        let Some(pool) = self.pools.get(id.index()) else {
            return Err(Failure { fate: Fate::NeverLeft, ..unusable("no such endpoint") });
        };
        let request = pool.http.post(pool.url.clone()).timeout(timeout).body(body);
        let mut response = request.send().await.map_err(|error| transport_failure(error, "request"))?;
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers(), SystemTime::now());
        let too_large = || unusable(&format!("HTTP {status}: body larger than {} bytes", self.max_response_bytes));
        let announced = response.content_length().unwrap_or(0);
        if announced > self.max_response_bytes as u64 {
            return Err(too_large());
        }
        let mut content = Vec::with_capacity((announced as usize).min(64 << 10));
        while let Some(chunk) = response.chunk().await.map_err(|error| transport_failure(error, "response body"))? {
            if content.len() + chunk.len() > self.max_response_bytes {
                return Err(too_large());
            }
            content.extend_from_slice(&chunk);
        }
        wire::decode(&HttpAnswer { status, retry_after, body: &content })
    }

    /// Why no endpoint could be asked.
    fn nobody(&self, route: Route) -> Error {
        let now = self.now();
        let endpoints = self.endpoints.borrow();
        let retry_after = endpoints.wait(now, route);
        let states: Vec<String> = endpoints
            .health(now)
            .iter()
            .map(|health| {
                let state = match (health.usable, health.syncing) {
                    (true, _) => "not on this route",
                    (false, true) => "syncing",
                    (false, false) if health.breaker == BreakerState::Closed => "lagging",
                    (false, false) => health.breaker.as_str(),
                };
                format!("{} ({state})", health.name)
            })
            .collect();
        let message = format!("no usable endpoint: {}", states.join(", "));
        Error { retry_after, ..never_left(None, &message) }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.endpoints()).finish_non_exhaustive()
    }
}

impl Pool {
    fn new(endpoint: Endpoint, timeouts: &Timeouts) -> Result<Pool, ConfigError> {
        let loopback = endpoint.is_loopback();
        let Endpoint { url, mut headers } = endpoint;
        headers.insert(CONTENT_TYPE, reqwest::header::HeaderValue::from_static("application/json"));
        let mut builder = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("keyshard/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeouts.connect)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_IDLE_MAX)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(Duration::from_secs(15))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            // A redirect would carry a signed transaction and the headers to a place nobody configured.
            .redirect(reqwest::redirect::Policy::none())
            // Whether to send again is never decided below this crate.
            .retry(reqwest::retry::never());
        if loopback {
            builder = builder.no_proxy();
        }
        if url.scheme() == "http" {
            // Without TLS no root certificates are needed, and a machine may have none.
            builder = builder.tls_certs_only([]);
        }
        let http = builder.build().map_err(|why| ConfigError::Http(cause_chain(&why.without_url())))?;
        Ok(Pool { http, url })
    }
}

/// A call under way: its permit goes back whatever happens, also when the future is dropped.
struct InFlight<'a> {
    client: &'a Client,
    id: EndpointId,
    permit: Permit,
    ended: bool,
}

impl InFlight<'_> {
    fn end(mut self, verdict: Verdict) {
        self.report(verdict);
    }

    fn report(&mut self, verdict: Verdict) {
        self.ended = true;
        let now = self.client.now();
        let mut endpoints = self.client.endpoints.borrow_mut();
        let (before, after) = endpoints.record(now, self.id, self.permit, verdict);
        if before != after {
            let (endpoint, from, to) = (endpoints.name(self.id), before.as_str(), after.as_str());
            if after == BreakerState::Open {
                tracing::warn!(endpoint, from, to, "breaker");
            } else {
                tracing::info!(endpoint, from, to, "breaker");
            }
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.report(Verdict::Abandoned);
        }
    }
}

fn never_left(endpoint: Option<EndpointId>, message: &str) -> Error {
    Error { fate: Fate::NeverLeft, endpoint, message: bounded(message), retry_after: None }
}

/// Only an error of the connector (or of building the request) proves that nothing left: it comes before the first
/// byte of the request.
fn transport_failure(error: reqwest::Error, stage: &str) -> Failure {
    let error = error.without_url();
    let fate = if error.is_connect() || error.is_builder() { Fate::NeverLeft } else { Fate::Unknown };
    let what = match (error.is_connect(), error.is_timeout()) {
        (true, true) => "connect timed out".to_owned(),
        (true, false) => "connect failed".to_owned(),
        (false, true) => format!("{stage} timed out"),
        (false, false) => format!("{stage} failed"),
    };
    Failure { fate, ..unusable(&format!("{what}: {}", cause_chain(&error))) }
}

/// The innermost words of an error: the outer ones only say which library passed it on.
fn cause_chain(error: &reqwest::Error) -> String {
    let mut innermost: Option<&dyn std::error::Error> = None;
    let mut next = error.source();
    while let Some(source) = next {
        innermost = Some(source);
        next = source.source();
    }
    bounded(&innermost.map_or_else(|| error.to_string(), ToString::to_string))
}

/// `Retry-After`: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

/// Runs all futures together and returns their results in order.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (future, slot) in running.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let Poll::Ready(output) = future.as_mut().poll(context)
            {
                *slot = Some(output);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        let cases = [
            ("7", Some(7)),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:20 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ];
        for (text, seconds) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_client_needs_endpoints() {
        assert_eq!(Client::new(Config::new(Vec::new())).map(drop), Err(ConfigError::Count(0)));
    }
}
