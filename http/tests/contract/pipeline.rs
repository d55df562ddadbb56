//! The five checks that the Node service's pipeline makes before it sends a load.
use serde_json::{Value, json};

use crate::common::{client, get, serving::Stage};

#[tokio::test]
async fn the_five_checks() {
    let stage = Stage::new("contract-pipeline", 100, &[("WAIT_UNTIL", "Included")]);
    let service = stage.serve();
    let send = async |body: Value| {
        let answer = service.send(&body, &[]).await;
        let error = answer.body["error"].as_str().unwrap_or_default().to_owned();
        (answer.status, error)
    };
    let (status, health) = get(&service.base, "/health").await;
    assert_eq!((status, serde_json::from_str::<Value>(&health).unwrap()["status"].clone()), (200, json!("ok")));
    let (status, error) = send(json!({ "receiverId": "invalid..account", "amount": "1000000" })).await;
    assert!(status == 400 && error.contains("Invalid receiverId"), "{status} {error}");
    let (status, error) = send(json!({ "amount": "1000000" })).await;
    assert!(status == 400 && error.contains("receiverId"), "{status} {error}");
    // This receiver does not exist on the chain; the token registers it all the same.
    let (status, _) = send(json!({ "receiverId": "user.test.near", "amount": "1000000", "memo": "Test" })).await;
    assert_eq!(status, 200);
    let answer = client().post(format!("{}/health", service.base)).send().await.unwrap();
    assert_eq!(answer.status(), 404);
}
