//! From a request to its handler: paths as Express matches them (any case, one slash at the end allowed).
use std::{borrow::Cow, convert::Infallible, net::SocketAddr, rc::Rc, time::Instant};

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;

use crate::{
    access::{self, Key, Scope},
    admin::{self, Admin},
    content::Content,
    dashboard,
    json::{Answer, answer, error},
    listing, openapi, ready, send_ft,
    service::Service,
    transfers,
};

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    Root,
    Health,
    Ready,
    SendFt,
    /// A transfer by its id.
    Job(Cow<'a, str>),
    /// A transfer by the name that its client gave it.
    Key(Cow<'a, str>),
    /// Transfers by the hash of their transaction.
    Transaction(Cow<'a, str>),
    /// All transfers, a page at a time.
    Transfers,
    MetricsJobs,
    MetricsBatching,
    Metrics,
    /// The page that shows what happens.
    Dashboard,
    /// A part of that page.
    DashboardFile(Cow<'a, str>),
    /// What it shows, as it happens.
    DashboardEvents,
    /// A profile of this process.
    Flamegraph,
    /// A person's orders.
    Admin(Admin<'a>),
    /// This API, for programs.
    OpenApi,
    /// And for people.
    Docs,
    /// None of them, or none with this method.
    Unmatched,
}

/// Longest path that an error repeats.
const MAX_SHOWN: usize = 200;

impl<'a> Route<'a> {
    /// The names of the routes in the metrics, by [`Route::index`].
    pub(crate) const NAMES: [&'static str; 25] = [
        "/",
        "/health",
        "/send-ft",
        "/transfer/:jobId",
        "/transfer/key/:key",
        "/transfer/tx/:txHash",
        "/metrics/jobs",
        "/metrics/batching",
        "/metrics",
        "/debug/flamegraph",
        "unmatched",
        "/transfers",
        "/ready",
        "/admin",
        "/admin/pause",
        "/admin/resume",
        "/admin/keys/:key/quarantine",
        "/admin/keys/:key/release",
        "/admin/transfers/:jobId/cancel",
        "/dashboard",
        "/dashboard/:file",
        "/dashboard/events",
        "/openapi.json",
        "/docs",
        "/admin/webhooks/replay",
    ];

    /// Its place in [`Route::NAMES`].
    pub(crate) fn index(&self) -> usize {
        match self {
            Self::Root => 0,
            Self::Health => 1,
            Self::SendFt => 2,
            Self::Job(_) => 3,
            Self::Key(_) => 4,
            Self::Transaction(_) => 5,
            Self::MetricsJobs => 6,
            Self::MetricsBatching => 7,
            Self::Metrics => 8,
            Self::Flamegraph => 9,
            Self::Unmatched => 10,
            Self::Transfers => 11,
            Self::Ready => 12,
            Self::Admin(Admin::Orders) => 13,
            Self::Admin(Admin::Pause) => 14,
            Self::Admin(Admin::Resume) => 15,
            Self::Admin(Admin::Quarantine(_)) => 16,
            Self::Admin(Admin::Release(_)) => 17,
            Self::Admin(Admin::Cancel(_)) => 18,
            Self::Admin(Admin::Replay) => 24,
            Self::Dashboard => 19,
            Self::DashboardFile(_) => 20,
            Self::DashboardEvents => 21,
            Self::OpenApi => 22,
            Self::Docs => 23,
        }
    }

    /// What an API key must be for, where keys are asked for; `None`: anybody may ask.
    pub(crate) fn scope(&self) -> Option<Scope> {
        match self {
            Self::Root
            | Self::Health
            | Self::Ready
            | Self::Unmatched
            // The page without its numbers is no secret.
            | Self::Dashboard
            | Self::DashboardFile(_)
            | Self::OpenApi
            | Self::Docs => None,
            Self::SendFt => Some(Scope::Send),
            Self::Job(_)
            | Self::Key(_)
            | Self::Transaction(_)
            | Self::Transfers
            | Self::MetricsJobs
            | Self::MetricsBatching
            | Self::Metrics
            | Self::DashboardEvents => Some(Scope::Read),
            Self::Flamegraph | Self::Admin(_) => Some(Scope::Admin),
        }
    }

    pub(crate) fn of(method: &Method, path: &'a str) -> Self {
        let route = Self::of_path(path);
        let wanted: &[Method] = match route {
            Self::Flamegraph | Self::DashboardEvents => &[Method::GET],
            Self::Admin(Admin::Orders) => &[Method::GET, Method::HEAD],
            Self::SendFt | Self::Admin(_) => &[Method::POST],
            _ => &[Method::GET, Method::HEAD],
        };
        if wanted.contains(method) { route } else { Self::Unmatched }
    }

    fn of_path(path: &'a str) -> Self {
        if path == "/send-ft" {
            return Self::SendFt;
        }
        let Some(path) = path.strip_prefix('/') else { return Self::Unmatched };
        if path.is_empty() {
            return Self::Root;
        }
        let mut segments = [""; 4];
        let mut count = 0;
        for segment in path.strip_suffix('/').unwrap_or(path).split('/') {
            if count == segments.len() || segment.is_empty() {
                return Self::Unmatched;
            }
            segments[count] = segment;
            count += 1;
        }
        let is = |index: usize, name: &str| segments[index].eq_ignore_ascii_case(name);
        match count {
            1 if is(0, "health") => Self::Health,
            1 if is(0, "ready") => Self::Ready,
            1 if is(0, "send-ft") => Self::SendFt,
            1 if is(0, "openapi.json") => Self::OpenApi,
            1 if is(0, "docs") => Self::Docs,
            1 if is(0, "transfers") => Self::Transfers,
            1 if is(0, "metrics") => Self::Metrics,
            2 if is(0, "metrics") && is(1, "jobs") => Self::MetricsJobs,
            2 if is(0, "metrics") && is(1, "batching") => Self::MetricsBatching,
            2 if is(0, "debug") && is(1, "flamegraph") => Self::Flamegraph,
            1 if is(0, "dashboard") => Self::Dashboard,
            2 if is(0, "dashboard") && is(1, "events") => Self::DashboardEvents,
            2 if is(0, "dashboard") => Self::DashboardFile(decode(segments[1])),
            2 if is(0, "transfer") => Self::Job(decode(segments[1])),
            3 if is(0, "transfer") && is(1, "key") => Self::Key(decode(segments[2])),
            3 if is(0, "transfer") && is(1, "tx") => Self::Transaction(decode(segments[2])),
            1 if is(0, "admin") => Self::Admin(Admin::Orders),
            2 if is(0, "admin") && is(1, "pause") => Self::Admin(Admin::Pause),
            3 if is(0, "admin") && is(1, "webhooks") && is(2, "replay") => Self::Admin(Admin::Replay),
            2 if is(0, "admin") && is(1, "resume") => Self::Admin(Admin::Resume),
            4 if is(0, "admin") && is(1, "keys") && is(3, "quarantine") => {
                Self::Admin(Admin::Quarantine(decode(segments[2])))
            }
            4 if is(0, "admin") && is(1, "keys") && is(3, "release") => {
                Self::Admin(Admin::Release(decode(segments[2])))
            }
            4 if is(0, "admin") && is(1, "transfers") && is(3, "cancel") => {
                Self::Admin(Admin::Cancel(decode(segments[2])))
            }
            _ => Self::Unmatched,
        }
    }
}

fn decode(segment: &str) -> Cow<'_, str> {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy()
}

/// Answers one request.
pub(crate) async fn respond(
    service: Rc<Service>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let started = Instant::now();
    let method = request.method().clone();
    let uri = request.uri().clone();
    let headers = request.headers();
    // Only what the cross-origin rules look at outlives the request.
    let mut seen = http::HeaderMap::new();
    for name in [header::ORIGIN, header::ACCESS_CONTROL_REQUEST_HEADERS] {
        if let Some(value) = headers.get(&name) {
            seen.insert(name, value.clone());
        }
    }
    let mut answer = if method == Method::OPTIONS {
        let mut answer = Answer::new(Content::whole(""));
        *answer.status_mut() = StatusCode::NO_CONTENT;
        answer
    } else {
        let route = Route::of(&method, uri.path());
        let answer = match service.http().access.admit(route.scope(), request.headers()) {
            Ok(key) => handle(&service, &route, peer, request, key.as_deref()).await,
            Err(refusal) => access::without_body(&service, request, *refusal).await,
        };
        service.stats.record(&method, &route, answer.status(), started.elapsed());
        answer
    };
    service.http().cors.apply(&method, &seen, answer.headers_mut());
    if !answer.headers().contains_key(header::CONNECTION) {
        // Said as the Node service says it: some clients heed the one only beside the other.
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        answer.headers_mut().insert(http::HeaderName::from_static("keep-alive"), service.keep_alive.clone());
    }
    Ok(answer)
}

async fn handle(
    service: &Service,
    route: &Route<'_>,
    peer: SocketAddr,
    request: Request<Incoming>,
    key: Option<&Key>,
) -> Answer {
    match route {
        Route::Root => {
            let text = "NEAR Fungible Token Claiming Service is running!";
            answer(StatusCode::OK, HeaderValue::from_static("text/html; charset=utf-8"), text)
        }
        Route::Health => transfers::health(service),
        Route::Ready => ready::ready(service),
        Route::SendFt => send_ft::send_ft(service, request, key).await,
        Route::Job(id) => transfers::job(service, id),
        Route::Key(name) => transfers::by_key(service, name),
        Route::Transaction(hash) => transfers::transaction(service, hash),
        Route::Transfers => listing::listing(service, request.uri().query().unwrap_or_default()).await,
        Route::MetricsJobs => transfers::counts(service),
        Route::MetricsBatching => transfers::batching(service),
        Route::Metrics => transfers::metrics(service),
        Route::Dashboard => dashboard::page(),
        Route::DashboardFile(name) => dashboard::file(name).unwrap_or_else(|| not_found(&request)),
        Route::DashboardEvents => dashboard::events(service),
        Route::Flamegraph => flamegraph(service, peer, &request).await.unwrap_or_else(|| not_found(&request)),
        Route::Admin(what) => admin::admin(service, what, peer, request).await,
        Route::OpenApi => openapi::document(),
        Route::Docs => openapi::docs(),
        Route::Unmatched => {
            let answer = not_found(&request);
            access::without_body(service, request, answer).await
        }
    }
}

fn not_found(request: &Request<Incoming>) -> Answer {
    let path: String = request.uri().path().chars().take(MAX_SHOWN).collect();
    error(StatusCode::NOT_FOUND, &format!("Cannot {} {path}", request.method()))
}

#[cfg(feature = "profiling")]
async fn flamegraph(service: &Service, peer: SocketAddr, request: &Request<Incoming>) -> Option<Answer> {
    crate::debug::flamegraph(service, peer, request.headers(), request.uri().query().unwrap_or_default()).await
}

#[cfg(not(feature = "profiling"))]
#[expect(clippy::unused_async, reason = "as with the feature")]
async fn flamegraph(_: &Service, _: SocketAddr, _: &Request<Incoming>) -> Option<Answer> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (method, path, route) in [
            ("GET", "/", Route::Root),
            ("HEAD", "/health", Route::Health),
            ("GET", "/HEALTH/", Route::Health),
            ("POST", "/health", Route::Unmatched),
            ("GET", "/ready/", Route::Ready),
            ("POST", "/send-ft", Route::SendFt),
            ("POST", "/Send-FT/", Route::SendFt),
            ("GET", "/send-ft", Route::Unmatched),
            ("GET", "/transfer/x", Route::Job("x".into())),
            ("GET", "/transfer/a%2Fb/", Route::Job("a/b".into())),
            ("GET", "/transfer/tx", Route::Job("tx".into())),
            ("GET", "/transfer/", Route::Unmatched),
            ("GET", "/transfer", Route::Unmatched),
            ("GET", "/Transfer/TX/AbC", Route::Transaction("AbC".into())),
            ("GET", "/transfer/tx/a/b", Route::Unmatched),
            ("GET", "/transfer/key/run%207%2F3%233", Route::Key("run 7/3#3".into())),
            ("GET", "/transfer/key", Route::Job("key".into())),
            ("POST", "/transfer/key/a", Route::Unmatched),
            ("GET", "/metrics", Route::Metrics),
            ("GET", "/metrics/jobs", Route::MetricsJobs),
            ("GET", "/metrics/batching/", Route::MetricsBatching),
            ("GET", "/debug/flamegraph", Route::Flamegraph),
            ("HEAD", "/debug/flamegraph", Route::Unmatched),
            ("GET", "/Transfers/", Route::Transfers),
            ("POST", "/transfers", Route::Unmatched),
            ("GET", "/transfers/x", Route::Unmatched),
            ("GET", "/openapi.json", Route::OpenApi),
            ("HEAD", "/docs/", Route::Docs),
            ("GET", "/admin", Route::Admin(Admin::Orders)),
            ("POST", "/admin", Route::Unmatched),
            ("POST", "/admin/pause/", Route::Admin(Admin::Pause)),
            ("GET", "/admin/pause", Route::Unmatched),
            ("POST", "/admin/webhooks/replay", Route::Admin(Admin::Replay)),
            ("POST", "/admin/keys/ed25519:abc/quarantine", Route::Admin(Admin::Quarantine("ed25519:abc".into()))),
            ("POST", "/admin/keys/ed25519%3Aabc/release", Route::Admin(Admin::Release("ed25519:abc".into()))),
            ("POST", "/admin/keys//release", Route::Unmatched),
            ("POST", "/admin/transfers/x/cancel", Route::Admin(Admin::Cancel("x".into()))),
            ("POST", "/admin/transfers/x/cancel/y", Route::Unmatched),
            ("GET", "/dashboard/", Route::Dashboard),
            ("POST", "/dashboard", Route::Unmatched),
            ("GET", "/dashboard/app.js", Route::DashboardFile("app.js".into())),
            ("GET", "/dashboard/events", Route::DashboardEvents),
            ("HEAD", "/dashboard/events", Route::Unmatched),
            ("GET", "//health", Route::Unmatched),
            ("GET", "/health//", Route::Unmatched),
            ("GET", "*", Route::Unmatched),
            ("PURGE", "/health", Route::Unmatched),
        ] {
            assert_eq!(Route::of(&method.parse().unwrap(), path), route, "{method} {path}");
        }
    }

    #[test]
    fn every_route_has_its_own_name() {
        let routes = [
            "/",
            "/health",
            "/send-ft",
            "/transfer/x",
            "/transfer/key/x",
            "/transfer/tx/x",
            "/metrics/jobs",
            "/metrics/batching",
            "/metrics",
            "/debug/flamegraph",
            "?",
            "/transfers",
            "/ready",
            "/admin",
            "/admin/pause",
            "/admin/resume",
            "/admin/keys/x/quarantine",
            "/admin/keys/x/release",
            "/admin/transfers/x/cancel",
            "/dashboard",
            "/dashboard/x",
            "/dashboard/events",
            "/openapi.json",
            "/docs",
            "/admin/webhooks/replay",
        ];
        for (index, path) in routes.into_iter().enumerate() {
            assert_eq!(Route::of_path(path).index(), index, "{path}");
        }
    }
}
