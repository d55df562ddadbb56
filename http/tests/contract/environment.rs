//! Every variable of the Node service: honoured, or named as without effect. None is passed over in silence, and none stops a
//! start unless its value cannot be read.
use serde_json::{Value, json};

use crate::common::{client, get, send, serving::Stage};

/// What the Node service reads and its `.env.example` sets, with values as they stand there.
const HONOURED: [(&str, &str); 33] = [
    ("NEAR_ENV", "sandbox"),
    ("PORT", "0"),
    ("HOST", "127.0.0.1"),
    ("RPC_HEADERS", r#"{"x-custom":"y"}"#),
    ("FASTNEAR_API_KEY", "api-key"),
    ("MASTER_ACCOUNT", "test.near"),
    ("FT_CONTRACT", "ft.test.near"),
    ("WAIT_UNTIL", "Included"),
    ("SKIP_STORAGE_CHECK", "true"),
    ("STORAGE_MIN_DEPOSIT", "1250000000000000000000"),
    ("MAX_PENDING_JOBS", "600"),
    ("JOB_MAX_ATTEMPTS", "5"),
    ("JOB_RETRY_BASE_MS", "500"),
    ("MAX_ACTIONS_PER_TX", "20"),
    ("BATCH_WINDOW_MS", "20"),
    ("MAX_BATCH_SIZE", "15"),
    ("SANDBOX_MAX_IN_FLIGHT_PER_KEY", "4"),
    ("TESTNET_MAX_IN_FLIGHT_PER_KEY", "8"),
    ("MAX_IN_FLIGHT_PER_KEY", "8"),
    ("SERVER_TIMEOUT_MS", "60000"),
    ("REQUEST_TIMEOUT_MS", "60000"),
    ("CORS_ALLOW_ORIGINS", "*"),
    ("ENABLE_MEMORY_MONITORING", "true"),
    ("SKIP_NEAR_INIT", "false"),
    ("MOCK_NEAR", "false"),
    ("NODE_ENV", "development"),
    ("LOG_LEVEL", "debug"),
    ("PINO_PRETTY", "true"),
    ("PINO_DESTINATION", ""),
    ("PINO_LOG_PATH", ""),
    ("HOME", "/root"),
    ("DATA_DIR", "data"),
    ("RPC_URLS", ""),
];
const WITHOUT_EFFECT: [(&str, &str); 21] = [
    ("BATCH_SIZE", "100"),
    ("CLUSTER_RESPAWN", "true"),
    ("CLUSTER_WORKERS", "4"),
    ("COMPACT_INTERVAL_MS", "3600000"),
    ("COMPACT_THRESHOLD", "5000"),
    ("CONCURRENCY_LIMIT", "2000"),
    ("DURATION", "600"),
    ("GLOBAL_THROTTLE_WINDOW_SEC", "1"),
    ("JOB_MAX_WAIT_MS", "600000"),
    ("MAX_IN_FLIGHT", "200"),
    ("MAX_TX_PER_KEY_PER_SECOND", "6"),
    ("MAX_TX_PER_SECOND", "120"),
    ("NEAR_HOME", "/root/.near"),
    ("NONCE_RETRY_LIMIT", "3"),
    ("PER_KEY_THROTTLE_WINDOW_SEC", "1"),
    ("PINO_MIN_LENGTH", "4096"),
    ("PINO_SYNC", "false"),
    ("QUEUE_SIZE", "50000"),
    ("RECONCILE_INTERVAL_MS", "10000"),
    ("SANDBOX_CLUSTER_WORKERS", "2"),
    ("TPS", "100"),
];

#[tokio::test]
async fn all_of_them_at_once() {
    let settings: Vec<_> = HONOURED.into_iter().chain(WITHOUT_EFFECT).chain([("WORKER_COUNT", "4")]).collect();
    let stage = Stage::new("contract-environment", 100, &settings);
    let mut service = stage.serve();
    let (status, answer) = send(&service.base, r#"{"receiverId":"user1.test.near","amount":"1"}"#).await;
    assert_eq!(status, 200, "{answer}");
    service.program.signal("TERM");
    assert!(service.program.end().success());
    let output = service.program.output();
    let told: Vec<&str> = output.lines().filter(|line| line.contains("have no effect")).collect();
    let names: Vec<&str> = WITHOUT_EFFECT.iter().map(|(name, _)| *name).chain(["WORKER_COUNT"]).collect();
    let [line] = &told[..] else { panic!("{told:?}") };
    assert!(line.ends_with(&format!("settings that have no effect in Keyshard: {}", names.join(", "))), "{line}");
    assert!(output.contains("Memory usage"), "{output}");
    assert!(!output.contains("api-key"), "{output}");
}

#[tokio::test]
async fn what_is_honoured_can_be_seen() {
    let stage = Stage::new(
        "contract-honoured",
        100,
        &[
            ("BATCH_WINDOW_MS", "321"),
            ("MAX_BATCH_SIZE", "7"),
            ("CORS_ALLOW_ORIGINS", "http://a.example"),
            ("MAX_PENDING_JOBS", "20"),
            ("WAIT_UNTIL", "Included"),
        ],
    );
    // RPC_URLS wins over NODE_URL.
    let url = stage.credentials().rpc.clone();
    let service = stage.serve_with(&[("NODE_URL", "http://127.0.0.1:1"), ("RPC_URLS", &url)]);
    let batching: Value = serde_json::from_str(&get(&service.base, "/metrics/batching").await.1).unwrap();
    assert_eq!(
        (&batching["batching"]["batchWindowMs"], &batching["batching"]["maxBatchSize"]),
        (&json!(321), &json!(7))
    );
    let answer = client().get(format!("{}/health", service.base)).header("origin", "http://b.example").send().await;
    assert!(!answer.unwrap().headers().contains_key("access-control-allow-origin"));
    let one = json!({ "receiverId": "user1.test.near", "amount": "1" });
    assert_eq!(service.send(&json!({ "transfers": vec![one.clone(); 21] }), &[]).await.status, 503);
    assert_eq!(service.send(&one, &[]).await.status, 200);
}

#[tokio::test]
async fn who_waits_longer_than_the_request_timeout_is_not_told_to_pay_again() {
    // The first block is far away.
    let stage = Stage::new("contract-timeout", 5_000, &[("REQUEST_TIMEOUT_MS", "200"), ("DRAIN_TIMEOUT_MS", "0")]);
    let service = stage.serve();
    let answer = service.send(&json!({ "receiverId": "user1.test.near", "amount": "1" }), &[]).await;
    assert_eq!((answer.status, &answer.body["status"]), (202, &json!("processing")));
    assert_eq!(answer.header("location"), format!("/transfer/{}", answer.ids()[0]));
}

#[test]
fn only_what_cannot_be_read_stops_a_start() {
    let stage = Stage::new("contract-malformed", 100, &[]);
    for (name, value) in [("PORT", "http"), ("WAIT_UNTIL", "soon"), ("LOG_LEVEL", "loud"), ("MAX_PENDING_JOBS", "many")]
    {
        let (code, output) = stage.run_with(&["serve"], &[(name, value)]).end_with_output();
        assert_eq!(code, Some(1), "{output}");
        assert!(output.lines().any(|line| line.starts_with(&format!("keyshard: {name} "))), "{output}");
    }
}
