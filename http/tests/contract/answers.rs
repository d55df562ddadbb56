//! What is answered to paid transfers, to the order of the keys; and what can be asked about them afterwards.
use serde_json::{Value, json};

use crate::{
    common::{chain::reaches, get, send, serving::Stage},
    support::{is_batch, is_hash, is_iso, is_uuid},
};

/// The string in this field.
fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}"))
}

fn assert_forms(value: &Value) {
    let (hash, batch) = (text(value, "transactionHash"), text(value, "batchId"));
    assert!(is_hash(hash) && is_batch(batch), "{value}");
}

fn assert_single(answer: &str, receiver: &str, amount: &str) -> Value {
    let body: Value = serde_json::from_str(answer).unwrap();
    let (id, hash, batch, at) =
        (text(&body, "jobId"), text(&body, "transactionHash"), text(&body, "batchId"), text(&body, "submittedAt"));
    assert!(is_uuid(id) && is_iso(at), "{answer}");
    assert_forms(&body);
    assert_eq!(
        answer,
        format!(
            r#"{{"success":true,"jobId":"{id}","transactionHash":"{hash}","receiverId":"{receiver}","amount":"{amount}","status":"FINAL","batchId":"{batch}","submittedAt":"{at}","message":"FT transfer executed successfully"}}"#
        )
    );
    body
}

#[tokio::test]
async fn one_transfer() {
    let stage = Stage::new("contract-single", 100, &[]);
    let service = stage.serve();
    let (status, answer) = send(&service.base, r#"{"receiverId":"user1.test.near","amount":1000000,"memo":"m"}"#).await;
    assert_eq!(status, 200, "{answer}");
    let body = assert_single(&answer, "user1.test.near", "1000000");
    let (id, hash, at) = (text(&body, "jobId"), text(&body, "transactionHash"), text(&body, "submittedAt"));
    assert_eq!(stage.balance("user1.test.near").await, 1_000_000);

    // FINAL was waited for, and the journal's word for it may come a moment later.
    reaches(&service.base, id, "finalized").await;
    let (_, job) = get(&service.base, &format!("/transfer/{id}")).await;
    let shown: Value = serde_json::from_str(&job).unwrap();
    let (created, updated) = (text(&shown["job"], "createdAt"), text(&shown["job"], "updatedAt"));
    assert!(is_iso(created) && is_iso(updated), "{job}");
    let batch = text(&body, "batchId");
    assert_eq!(
        job,
        format!(
            r#"{{"success":true,"job":{{"id":"{id}","createdAt":"{created}","status":"finalized","receiverId":"user1.test.near","amount":"1000000","memo":"m","attempts":1,"batchId":"{batch}","txHash":"{hash}","updatedAt":"{updated}","submittedAt":"{at}"}}}}"#
        )
    );
    let (_, carried) = get(&service.base, &format!("/transfer/tx/{hash}")).await;
    assert_eq!(
        carried,
        format!(
            r#"{{"success":true,"transactionHash":"{hash}","transfers":[{{"jobId":"{id}","receiverId":"user1.test.near","amount":"1000000","memo":"m","status":"finalized","batchId":"{batch}","submittedAt":"{at}","attempts":1}}]}}"#
        )
    );
}

#[tokio::test]
async fn many_one_and_no_transfer_in_an_array() {
    let stage = Stage::new("contract-batch", 100, &[]);
    let service = stage.serve();
    let one = json!({ "transfers": [{ "receiverId": "user1.test.near", "amount": "7" }] }).to_string();
    let (status, answer) = send(&service.base, one).await;
    assert_eq!(status, 200, "{answer}");
    assert_single(&answer, "user1.test.near", "7");

    let none = r#"{"success":true,"jobIds":[],"transactionHash":"unknown","transfers":0,"results":[],"message":"FT transfers executed successfully (batch size 0)"}"#;
    assert_eq!(send(&service.base, r#"{"transfers":[],"receiverId":"x","amount":"1"}"#).await, (200, none.to_owned()));

    let many = json!({ "transfers": [
        { "receiverId": "user2.test.near", "amount": "1", "memo": "a \"b\"" },
        { "receiverId": "user3.test.near", "amount": 2 },
    ] });
    let (status, answer) = send(&service.base, many.to_string()).await;
    assert_eq!(status, 200, "{answer}");
    let body: Value = serde_json::from_str(&answer).unwrap();
    let results = body["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    let entry = |index: usize, receiver: &str, amount: &str, memo: &str| {
        let result = &results[index];
        assert_forms(result);
        assert!(is_uuid(text(result, "jobId")) && is_iso(text(result, "submittedAt")));
        assert_eq!(result["jobId"], body["jobIds"][index]);
        format!(
            r#"{{"jobId":"{}","receiverId":"{receiver}","amount":"{amount}",{memo}"transactionHash":"{}","status":"FINAL","batchId":"{}","submittedAt":"{}"}}"#,
            text(result, "jobId"),
            text(result, "transactionHash"),
            text(result, "batchId"),
            text(result, "submittedAt"),
        )
    };
    let first = entry(0, "user2.test.near", "1", r#""memo":"a \"b\"","#);
    let second = entry(1, "user3.test.near", "2", "");
    assert_eq!(
        answer,
        format!(
            r#"{{"success":true,"jobIds":["{}","{}"],"transactionHash":"{}","transfers":2,"batchId":"{}","results":[{first},{second}],"message":"FT transfers executed successfully (batch size 2)"}}"#,
            text(&results[0], "jobId"),
            text(&results[1], "jobId"),
            text(&results[0], "transactionHash"),
            text(&results[0], "batchId"),
        )
    );
}

#[tokio::test]
async fn the_status_is_the_nodes_word() {
    for (name, wait, word) in [
        ("contract-included", "Included", "INCLUDED"),
        ("contract-optimistic", "ExecutedOptimistic", "EXECUTED_OPTIMISTIC"),
    ] {
        let stage = Stage::new(name, 100, &[("WAIT_UNTIL", wait)]);
        let service = stage.serve();
        let answer = service.send(&json!({ "receiverId": "user1.test.near", "amount": "1" }), &[]).await;
        let words = ["INCLUDED", "EXECUTED_OPTIMISTIC", "INCLUDED_FINAL", "EXECUTED", "FINAL"];
        let place = |word: &str| words.iter().position(|known| *known == word);
        let told = place(text(&answer.body, "status"));
        // It may have come further than was asked for.
        assert!(answer.status == 200 && told >= place(word), "{:?}", answer.body);
    }
}

#[tokio::test]
async fn a_failure_names_every_transfer() {
    let stage = Stage::new("contract-failure", 100, &[("STORAGE_DEPOSIT", "never")]);
    let service = stage.serve();
    let transfers = json!({ "transfers": [
        { "receiverId": "user1.test.near", "amount": "3" },
        { "receiverId": "nobody.test.near", "amount": "1" },
    ] });
    let answer = service.send(&transfers, &[]).await;
    assert_eq!(answer.status, 500);
    let body = &answer.body;
    assert_eq!(body["error"], "Failed to initiate FT transfer");
    let details = text(body, "details");
    assert!(!details.is_empty());
    assert_eq!(body["debug"], json!({ "code": null, "errno": null, "message": details, "type": "Error" }));
    assert_eq!(body["jobIds"].as_array().unwrap().len(), 2);
    let statuses: Vec<&str> = body["results"].as_array().unwrap().iter().map(|one| text(one, "status")).collect();
    assert!(matches!(statuses[..], ["finalized" | "submitted", "failed"]), "{body}");
    // The other one is paid all the same.
    reaches(&service.base, text(&body["results"][0], "jobId"), "finalized").await;
    assert_eq!(stage.balance("user1.test.near").await, 3);
}
