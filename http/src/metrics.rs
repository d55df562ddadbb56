//! `GET /metrics`: Prometheus text (format 0.0.4) with the names, labels, help texts and buckets of the Node service.
//!
//! Each front-end thread counts into its own [`Stats`]; a scrape adds them up. The request path takes no lock.
//! `ft_service_queue_length` counts transfers that wait for a batch: requests themselves are never queued here.
//! Every family is in `METRICS.md`; a test holds it to that.
mod engine;

use std::{
    fmt::{Display, Write as _},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{Method, StatusCode};
use keyshard_engine::{Engine, Histogram, JobStatus};

use crate::{access::Access, process, router::Route, webhooks};

pub(crate) const CONTENT_TYPE: http::HeaderValue =
    http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Upper bounds of the duration buckets, in seconds.
const BUCKETS: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0];
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OTHER"];
/// Every status that an answer can have.
pub(crate) const STATUSES: [u16; 15] = [200, 202, 204, 400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503];
const SERIES: usize = METHODS.len() * Route::NAMES.len() * STATUSES.len();

/// What one front-end thread counts.
pub(crate) struct Stats {
    /// One per method, route and status; made at its first use.
    series: Box<[OnceLock<Box<Series>>]>,
    /// Requests that wait for their transfers now.
    pub(crate) active: AtomicU64,
    /// Requests refused because the service was overloaded or not ready.
    pub(crate) rejected: AtomicU64,
    /// Connections without a request that were closed so that a new one had room.
    pub(crate) closed_for_room: AtomicU64,
    /// Connections refused because all others were busy.
    pub(crate) refused: AtomicU64,
    /// Connections that ended before they were encrypted.
    pub(crate) handshakes_failed: AtomicU64,
}

/// Requests of one method, route and status.
#[derive(Default)]
struct Series {
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Stats {
    pub(crate) fn new() -> Self {
        Self {
            series: (0..SERIES).map(|_| OnceLock::new()).collect(),
            active: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            closed_for_room: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            handshakes_failed: AtomicU64::new(0),
        }
    }

    /// Counts one answered request.
    pub(crate) fn record(&self, method: &Method, route: &Route<'_>, status: StatusCode, took: Duration) {
        let last = METHODS.len() - 1;
        let method = METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(last);
        let Some(status) = STATUSES.iter().position(|code| *code == status.as_u16()) else {
            tracing::warn!(%status, "an answer with this status is not counted");
            return;
        };
        let index = (method * Route::NAMES.len() + route.index()) * STATUSES.len() + status;
        let series = self.series[index].get_or_init(Box::default);
        let seconds = took.as_secs_f64();
        if let Some(bucket) = BUCKETS.iter().position(|bound| seconds <= *bound) {
            series.buckets[bucket].fetch_add(1, Relaxed);
        }
        series.count.fetch_add(1, Relaxed);
        series.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}

/// The whole page. Without an engine, what the engine would say is left out.
pub(crate) fn page(
    stats: &[Arc<Stats>],
    engine: Option<&Engine>,
    connections: usize,
    started_at_ms: u64,
    mock: bool,
    access: &Access,
    webhooks: &webhooks::Stats,
) -> String {
    let mut page = Page { text: String::with_capacity(16 * 1024) };
    requests(&mut page, stats);
    service(&mut page, stats, engine);
    process::write(&mut page, started_at_ms);
    page.family("keyshard_ready", "gauge", "1 once the NEAR connection is initialized");
    page.sample("keyshard_ready", &[], u8::from(engine.is_some()));
    page.family("keyshard_mock", "gauge", "1 in mock mode: nothing is paid");
    page.sample("keyshard_mock", &[], u8::from(mock));
    page.family("keyshard_http_connections", "gauge", "Open client connections");
    page.sample("keyshard_http_connections", &[], connections);
    access.write_metrics(&mut page);
    webhooks.write(&mut page);
    if let Some(engine) = engine {
        engine::write(&mut page, &engine.watch());
    }
    page.text
}

fn requests(page: &mut Page, stats: &[Arc<Stats>]) {
    let series = |index: usize| stats.iter().filter_map(move |stats| stats.series[index].get());
    let total = |index, field: fn(&Series) -> u64| -> u64 { series(index).map(|series| field(series)).sum() };
    let labels = |index: usize| {
        let (rest, status) = (index / STATUSES.len(), STATUSES[index % STATUSES.len()]);
        (METHODS[rest / Route::NAMES.len()], Route::NAMES[rest % Route::NAMES.len()], status.to_string())
    };
    let used: Vec<usize> = (0..SERIES).filter(|index| series(*index).next().is_some()).collect();

    let name = "ft_service_http_requests_total";
    page.family(name, "counter", "Total number of HTTP requests handled by the FT service");
    for index in &used {
        let (method, route, status) = labels(*index);
        let labels = [("method", method), ("route", route), ("status_code", status.as_str())];
        page.sample(name, &labels, total(*index, |series| series.count.load(Relaxed)));
    }
    let name = "ft_service_http_request_duration_seconds";
    page.family(name, "histogram", "Duration of HTTP requests in seconds");
    let bounds = BUCKETS.map(|bound| bound.to_string());
    let (bucket_name, sum_name, count_name) =
        (format!("{name}_bucket"), format!("{name}_sum"), format!("{name}_count"));
    for index in &used {
        let (method, route, status) = labels(*index);
        let with = |le| [("le", le), ("method", method), ("route", route), ("status_code", status.as_str())];
        let mut below = 0;
        for (bucket, bound) in bounds.iter().enumerate() {
            below += series(*index).map(|series| series.buckets[bucket].load(Relaxed)).sum::<u64>();
            page.sample(&bucket_name, &with(bound), below);
        }
        // The count may have moved since the buckets were read; a histogram must not shrink towards +Inf.
        let count = total(*index, |series| series.count.load(Relaxed)).max(below);
        page.sample(&bucket_name, &with("+Inf"), count);
        let seconds = total(*index, |series| series.nanoseconds.load(Relaxed)) as f64 / 1e9;
        page.sample(&sum_name, &with("")[1..], seconds);
        page.sample(&count_name, &with("")[1..], count);
    }
}

fn service(page: &mut Page, stats: &[Arc<Stats>], engine: Option<&Engine>) {
    let sum = |field: fn(&Stats) -> &AtomicU64| -> u64 { stats.iter().map(|stats| field(stats).load(Relaxed)).sum() };
    let name = "ft_service_job_status_total";
    page.family(name, "gauge", "Number of jobs per status recorded in persistence");
    if let Some(engine) = engine {
        for (status, count) in by_status(engine) {
            page.sample(name, &[("status", status.as_str())], count);
        }
    }
    let waiting = engine.map_or(0, |engine| engine.batching().waiting);
    let pending = engine.map_or(0, Engine::pending);
    for (name, kind, help, value) in [
        (
            "ft_service_queue_active_jobs",
            "gauge",
            "Current number of active jobs being processed by the server",
            sum(|stats| &stats.active),
        ),
        ("ft_service_queue_length", "gauge", "Number of requests waiting in the concurrency queue", waiting as u64),
        (
            "ft_service_pending_jobs",
            "gauge",
            "Number of pending transfer jobs tracked by the coordinator",
            pending as u64,
        ),
        (
            "keyshard_http_connections_closed_for_room_total",
            "counter",
            "Connections without a request that were closed so that a new one had room",
            sum(|stats| &stats.closed_for_room),
        ),
        (
            "keyshard_http_connections_refused_total",
            "counter",
            "Connections refused because MAX_CONNECTIONS others were busy",
            sum(|stats| &stats.refused),
        ),
        (
            "keyshard_tls_handshakes_failed_total",
            "counter",
            "Connections that ended before they were encrypted",
            sum(|stats| &stats.handshakes_failed),
        ),
        (
            "ft_service_queue_rejected_total",
            "counter",
            "Total number of requests rejected because the concurrency queue was full or timed out",
            sum(|stats| &stats.rejected),
        ),
    ] {
        page.family(name, kind, help);
        page.sample(name, &[], value);
    }
}

/// How many transfers are in each status.
pub(crate) fn by_status(engine: &Engine) -> [(JobStatus, u64); 5] {
    let counts = engine.counts();
    [
        (JobStatus::Queued, counts.queued),
        (JobStatus::Processing, counts.processing),
        (JobStatus::Submitted, counts.submitted),
        (JobStatus::Finalized, counts.finalized),
        (JobStatus::Failed, counts.failed),
    ]
}

/// Prometheus text in the making.
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// Opens a family: its samples follow.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let gap = if self.text.is_empty() { "" } else { "\n" };
        let _ = write!(self.text, "{gap}# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// One line.
    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{label}=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A family of one sample without labels.
    pub(crate) fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// The samples of a histogram, whose values are divided by `unit`.
    pub(crate) fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram, unit: f64) {
        let [bucket, sum, count] = ["bucket", "sum", "count"].map(|part| format!("{name}_{part}"));
        let mut below = 0;
        let bounds = histogram.bounds().iter().map(|bound| (*bound as f64 / unit).to_string());
        for (bound, inside) in bounds.chain(["+Inf".to_owned()]).zip(histogram.counts()) {
            below += inside;
            let labels: Vec<_> = [("le", bound.as_str())].into_iter().chain(labels.iter().copied()).collect();
            self.sample(&bucket, &labels, below);
        }
        self.sample(&sum, labels, histogram.sum() as f64 / unit);
        self.sample(&count, labels, below);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_added_up() {
        let stats = [Arc::new(Stats::new()), Arc::new(Stats::new())];
        for (thread, ms) in [(0, 3), (1, 10), (0, 700), (1, 60_000)] {
            stats[thread].record(&Method::POST, &Route::SendFt, StatusCode::OK, Duration::from_millis(ms));
        }
        stats[1].record(&Method::GET, &Route::Unmatched, StatusCode::NOT_FOUND, Duration::ZERO);
        stats[0].rejected.fetch_add(2, Relaxed);
        let page = page(&stats, None, 7, 0, true, &Access::default(), &webhooks::Stats::default());
        for line in [
            "# HELP ft_service_http_requests_total Total number of HTTP requests handled by the FT service",
            "# TYPE ft_service_http_requests_total counter",
            r#"ft_service_http_requests_total{method="POST",route="/send-ft",status_code="200"} 4"#,
            r#"ft_service_http_requests_total{method="GET",route="unmatched",status_code="404"} 1"#,
            "# TYPE ft_service_http_request_duration_seconds histogram",
            r#"ft_service_http_request_duration_seconds_bucket{le="0.01",method="POST",route="/send-ft",status_code="200"} 2"#,
            r#"ft_service_http_request_duration_seconds_bucket{le="0.5",method="POST",route="/send-ft",status_code="200"} 2"#,
            r#"ft_service_http_request_duration_seconds_bucket{le="1",method="POST",route="/send-ft",status_code="200"} 3"#,
            r#"ft_service_http_request_duration_seconds_bucket{le="10",method="POST",route="/send-ft",status_code="200"} 3"#,
            r#"ft_service_http_request_duration_seconds_bucket{le="+Inf",method="POST",route="/send-ft",status_code="200"} 4"#,
            r#"ft_service_http_request_duration_seconds_sum{method="POST",route="/send-ft",status_code="200"} 60.713"#,
            r#"ft_service_http_request_duration_seconds_count{method="POST",route="/send-ft",status_code="200"} 4"#,
            "# TYPE ft_service_job_status_total gauge",
            "ft_service_queue_active_jobs 0",
            "ft_service_queue_length 0",
            "ft_service_pending_jobs 0",
            "# TYPE ft_service_queue_rejected_total counter",
            "ft_service_queue_rejected_total 2",
            "keyshard_http_connections 7",
            "keyshard_ready 0",
            "keyshard_mock 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\nnot in\n{page}");
        }
    }

    #[test]
    fn buckets_are_added_up() {
        let mut histogram = Histogram::new(&[1_000, 1_500_000]);
        for value in [500, 1_000, 1_200_000, 9_000_000] {
            histogram.record(value);
        }
        let mut page = Page { text: String::new() };
        page.histogram("h", &[("a", "b")], &histogram, 1e6);
        let expected = "h_bucket{le=\"0.001\",a=\"b\"} 2\nh_bucket{le=\"1.5\",a=\"b\"} 3\nh_bucket{le=\"+Inf\",a=\"b\"} 4\n\
                        h_sum{a=\"b\"} 10.2015\nh_count{a=\"b\"} 4\n";
        assert_eq!(page.text, expected);
    }

    #[test]
    fn labels_are_escaped() {
        let mut page = Page { text: String::new() };
        page.sample("a", &[("b", "c\"d\\e\nf"), ("g", "h")], 1.5);
        assert_eq!(page.text, "a{b=\"c\\\"d\\\\e\\nf\",g=\"h\"} 1.5\n");
    }
}
