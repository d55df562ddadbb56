//! The forms in which private keys are given.
use serde_json::json;

use crate::common::serving::Stage;

#[tokio::test]
async fn every_form_of_the_key_list_pays() {
    let stage = Stage::new("contract-keys", 100, &[("WAIT_UNTIL", "Included"), ("LOG_LEVEL", "info")]);
    let [a, b] = &stage.credentials().keys[..] else { panic!("two keys are expected") };
    let bare = |key: &str| key.trim_start_matches("ed25519:").to_owned();
    let (first, second) = (a.replace("ed25519:", "ed25519: "), bare(b));
    let objects = json!([
        { "private_key": a, "account_id": "test.near" },
        { "privateKey": b, "accountId": "test.near" },
        { "note": "no key" },
    ]);
    let forms = [
        json!([a, b]).to_string(),
        format!("'{}'", json!([bare(a), bare(b)])),
        objects.to_string(),
        json!([{ "key": a }, { "secretKey": bare(b) }]).to_string(),
        format!("{first}, {second}"),
        format!("\"{a},{b}\""),
    ];
    for (count, keys) in forms.iter().enumerate() {
        let mut service = stage.serve_with(&[("MASTER_ACCOUNT_PRIVATE_KEYS", keys)]);
        let answer = service.send(&json!({ "receiverId": "user1.test.near", "amount": "1" }), &[]).await;
        assert_eq!(answer.status, 200, "{count}: {:?}", answer.body);
        service.program.signal("TERM");
        assert!(service.program.end().success());
        let output = service.program.output();
        let line = output.lines().find(|line| line.contains("Final configuration loaded")).unwrap();
        assert!(line.contains("keys=2"), "{line}");
        assert!(!output.contains(&bare(a)) && !output.contains(&bare(b)), "the log shows a key");
    }
    assert_eq!(stage.balance("user1.test.near").await, forms.len() as u128);
}
