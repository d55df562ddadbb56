//! 503: what does not fit into the backlog is refused whole, in the Node service's words.
use serde_json::json;

use crate::common::{get, send, serving::Stage};

#[tokio::test]
async fn a_full_backlog() {
    let stage = Stage::new("contract-backlog", 100, &[("MAX_PENDING_JOBS", "11"), ("WAIT_UNTIL", "Included")]);
    let service = stage.serve();
    let transfers = |count: usize| {
        let one = json!({ "receiverId": "user1.test.near", "amount": "1" });
        json!({ "transfers": vec![one; count] }).to_string()
    };
    assert_eq!(
        send(&service.base, transfers(12)).await,
        (503, r#"{"error":"Service overloaded, please retry later","details":"Pending transfer backlog is full (0 pending, requested 12, limit 11)","pendingJobs":0,"capacity":11,"retryAfterSeconds":5}"#.to_owned())
    );
    let (_, page) = get(&service.base, "/metrics").await;
    assert!(page.contains("\nft_service_queue_rejected_total 1\n"), "{page}");
    assert_eq!(stage.balance("user1.test.near").await, 0);
    assert_eq!(send(&service.base, transfers(11)).await.0, 200);
}
