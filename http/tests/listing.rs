//! `GET /transfers` of the running binary: pages across a kill, while transfers arrive and settle; filters; what is refused.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;

use common::serving::{Serving, Stage};
use serde_json::{Value, json};

/// One page: the transfers and the cursor of the next.
async fn page(serving: &Serving, query: &str) -> (Vec<Value>, Option<String>) {
    let (status, body) = serving.get(&format!("/transfers{query}")).await;
    assert_eq!(status, 200, "{body}");
    (body["transfers"].as_array().unwrap().clone(), body["nextCursor"].as_str().map(str::to_owned))
}

fn id(transfer: &Value) -> String {
    transfer["id"].as_str().unwrap().to_owned()
}

fn many(count: usize) -> Value {
    let transfers: Vec<Value> = (0..count)
        .map(|n| json!({ "receiverId": format!("user{}.test.near", 1 + n % 4), "amount": (n + 1).to_string() }))
        .collect();
    json!({ "transfers": transfers })
}

#[tokio::test]
async fn every_transfer_is_on_one_page_also_after_a_kill_and_while_others_arrive() {
    let stage = Stage::new("listing", 50, &[("SETTLED_KEPT", "0")]);
    let serving = stage.serve();
    assert_eq!(page(&serving, "").await, (vec![], None));
    let mut expected: Vec<String> = Vec::new();
    for count in [7, 1, 12] {
        let answered = serving.send(&many(count), &[]).await;
        assert_eq!(answered.status, 200, "{answered:?}");
        expected.extend(answered.ids());
    }
    serving.kill();
    let serving = stage.serve();
    expected.sort_unstable_by(|a, b| b.cmp(a));
    let (mut shown, mut cursor) = (Vec::new(), None);
    loop {
        let query = cursor.map_or("?limit=3".to_owned(), |cursor| format!("?limit=3&cursor={cursor}"));
        let (transfers, next) = page(&serving, &query).await;
        shown.extend(transfers.iter().map(id));
        if next.is_none() {
            break;
        }
        cursor = next;
        // Newer ones move nothing.
        assert_eq!(serving.send(&many(2), &[("prefer", "respond-async")]).await.status, 202);
    }
    assert_eq!(shown, expected, "the newest first, each once");

    let (all, _) = page(&serving, "?limit=500").await;
    let newest: BTreeSet<String> = all.iter().map(id).collect();
    assert_eq!(all.len(), newest.len());
    assert!(all.len() > expected.len() && expected.iter().all(|id| newest.contains(id)));
    for transfer in all.iter().filter(|transfer| expected.contains(&id(transfer))).take(3) {
        let (_, one) = serving.get(&format!("/transfer/{}", id(transfer))).await;
        assert_eq!(one["job"], *transfer, "the same object");
    }
    let (to_one, _) = page(&serving, "?receiver=user4.test.near&status=finalized&limit=500").await;
    assert!(to_one.len() >= 4, "{to_one:?}");
    assert!(to_one.iter().all(|t| t["receiverId"] == "user4.test.near" && t["status"] == "finalized"));
    assert_eq!(page(&serving, "?status=failed").await, (vec![], None));
    for bad in ["?limit=0", "?status=paid", "?receiver=A", "?cursor=x", "?page=2"] {
        let (status, body) = serving.get(&format!("/transfers{bad}")).await;
        assert_eq!(status, 400, "{bad}");
        assert!(body["error"].as_str().is_some_and(|why| why.len() > 20), "{body}");
    }
    serving.stop();
}
