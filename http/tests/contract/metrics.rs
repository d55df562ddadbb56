//! `/metrics*`: the Node service's names, help texts, labels and buckets.
use serde_json::Value;

use crate::{
    common::{client, get, send, serving::Stage},
    support::is_iso,
};

const FAMILIES: [(&str, &str, &str); 7] = [
    ("ft_service_http_requests_total", "counter", "Total number of HTTP requests handled by the FT service"),
    ("ft_service_http_request_duration_seconds", "histogram", "Duration of HTTP requests in seconds"),
    ("ft_service_job_status_total", "gauge", "Number of jobs per status recorded in persistence"),
    ("ft_service_queue_active_jobs", "gauge", "Current number of active jobs being processed by the server"),
    ("ft_service_queue_length", "gauge", "Number of requests waiting in the concurrency queue"),
    ("ft_service_pending_jobs", "gauge", "Number of pending transfer jobs tracked by the coordinator"),
    (
        "ft_service_queue_rejected_total",
        "counter",
        "Total number of requests rejected because the concurrency queue was full or timed out",
    ),
];
const BUCKETS: [&str; 10] = ["0.01", "0.05", "0.1", "0.25", "0.5", "1", "2", "5", "10", "+Inf"];
/// Those of prom-client's default metrics that any process has.
const PROCESS: [&str; 8] = [
    "cpu_user_seconds_total",
    "cpu_system_seconds_total",
    "cpu_seconds_total",
    "start_time_seconds",
    "resident_memory_bytes",
    "virtual_memory_bytes",
    "heap_bytes",
    "open_fds",
];

#[tokio::test]
async fn names_labels_and_buckets() {
    let stage = Stage::new("contract-metrics", 100, &[]);
    let service = stage.serve();
    let base = &service.base;
    let (_, fresh) = get(base, "/metrics").await;
    let has = |page: &str, line: &str| page.lines().any(|found| found == line);
    for name in ["queue_active_jobs", "queue_length", "pending_jobs", "queue_rejected_total"] {
        assert!(has(&fresh, &format!("ft_service_{name} 0")), "{fresh}");
    }
    // One of each route; the ways in and out are counted under the pattern, not the path.
    assert_eq!(send(base, r#"{"receiverId":"user1.test.near","amount":"1"}"#).await.0, 200);
    assert_eq!(send(base, "{}").await.0, 400);
    for path in ["/", "/health", "/transfer/x", "/transfer/tx/x", "/metrics/jobs", "/metrics/batching", "/nowhere"] {
        get(base, path).await;
    }
    client().head(format!("{base}/Health/")).send().await.unwrap();
    client().request(reqwest::Method::OPTIONS, format!("{base}/send-ft")).send().await.unwrap();
    let answer = client().get(format!("{base}/metrics")).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let page = answer.text().await.unwrap();
    for (name, kind, help) in FAMILIES {
        assert!(has(&page, &format!("# HELP {name} {help}")), "{name}\n{page}");
        assert!(has(&page, &format!("# TYPE {name} {kind}")), "{name}\n{page}");
    }
    for (method, route, status) in [
        ("POST", "/send-ft", 200),
        ("POST", "/send-ft", 400),
        ("GET", "/", 200),
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("GET", "/transfer/:jobId", 404),
        ("GET", "/transfer/tx/:txHash", 404),
        ("GET", "/metrics/jobs", 200),
        ("GET", "/metrics/batching", 200),
        ("GET", "/metrics", 200),
        ("GET", "unmatched", 404),
    ] {
        let labels = format!(r#"method="{method}",route="{route}",status_code="{status}""#);
        assert!(has(&page, &format!("ft_service_http_requests_total{{{labels}}} 1")), "{labels}\n{page}");
        let duration = "ft_service_http_request_duration_seconds";
        assert!(has(&page, &format!("{duration}_count{{{labels}}} 1")), "{labels}\n{page}");
        assert!(page.contains(&format!("\n{duration}_sum{{{labels}}} ")), "{labels}\n{page}");
        let start = format!("{duration}_bucket{{le=\"");
        let bounds: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix(&start)?.split_once(&format!("\",{labels}}} ")))
            .map(|(bound, _)| bound)
            .collect();
        assert_eq!(bounds, BUCKETS, "{labels}");
    }
    assert!(!page.contains("OPTIONS"), "preflights are not counted");
    assert!(has(&page, r#"ft_service_job_status_total{status="finalized"} 1"#), "{page}");
    for name in PROCESS {
        assert!(page.contains(&format!("\n# TYPE ft_service_process_{name} ")), "{name}\n{page}");
    }
}

#[tokio::test]
async fn counts_and_batching() {
    let stage = Stage::new("contract-counts", 100, &[("BATCH_WINDOW_MS", "250"), ("MAX_BATCH_SIZE", "15")]);
    let service = stage.serve();
    let base = &service.base;
    let (_, body) = get(base, "/metrics/jobs").await;
    let shown: Value = serde_json::from_str(&body).unwrap();
    let at = shown["timestamp"].as_str().unwrap();
    assert!(is_iso(at));
    assert_eq!(
        body,
        format!(r#"{{"success":true,"counts":{{}},"uptimeMs":{},"timestamp":"{at}"}}"#, shown["uptimeMs"])
    );
    let transfer = r#"{"receiverId":"user1.test.near","amount":"1"}"#;
    assert_eq!(send(base, format!(r#"{{"transfers":[{}]}}"#, vec![transfer; 30].join(","))).await.0, 200);
    let shown: Value = serde_json::from_str(&get(base, "/metrics/jobs").await.1).unwrap();
    assert_eq!(shown["counts"].as_object().unwrap().values().filter_map(Value::as_u64).sum::<u64>(), 30, "{shown}");

    let (_, body) = get(base, "/metrics/batching").await;
    let shown: Value = serde_json::from_str(&body).unwrap();
    let (at, sent) = (shown["timestamp"].as_str().unwrap(), shown["batching"]["batchesSent"].as_u64().unwrap());
    assert!(sent >= 2, "at most 15 go together: {body}");
    let average = &shown["batching"]["avgBatchSize"];
    assert!((average.as_f64().unwrap() - 30.0 / sent as f64).abs() < 1e-9, "{body}");
    let efficiency = format!("{:.1}%", 30.0 / sent as f64 / 15.0 * 100.0);
    assert_eq!(
        body,
        format!(
            r#"{{"success":true,"batching":{{"totalRequests":30,"batchesSent":{sent},"avgBatchSize":{average},"currentBatchSize":0,"hasPendingBatch":false,"batchEfficiency":"{efficiency}","batchWindowMs":250,"maxBatchSize":15,"description":"Request batching efficiency metrics - higher batchEfficiency indicates better throughput optimization"}},"timestamp":"{at}"}}"#
        )
    );
}
