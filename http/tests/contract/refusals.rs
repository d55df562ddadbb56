//! Every text of a 400, byte for byte, and what is accepted beside it.
use serde_json::{Value, json};

use crate::{common::send, support::Waiting};

const NEITHER: &str = "Either provide receiverId/amount for single transfer, or transfers array for batch transfer";
const BOTH_NEEDED: &str = "Each transfer must have receiverId and amount";
const RECEIVER: &str = "Invalid receiverId format. Must be a valid NEAR account ID (2-64 characters, lowercase alphanumeric with underscores, hyphens, and dots only)";
const POSITIVE: &str = "amount must be a positive number";
const TOO_LARGE: &str = "amount too large. Maximum allowed: 1e30";

async fn assert_refused(service: &Waiting, body: &str, text: &str) {
    assert_eq!(send(&service.base, body.to_owned()).await, (400, format!(r#"{{"error":"{text}"}}"#)), "{body}");
}

/// Valid: it is refused only because NEAR is not there yet.
async fn assert_valid(service: &Waiting, body: &str) {
    assert_eq!(send(&service.base, body.to_owned()).await.0, 503, "{body}");
}

#[tokio::test]
async fn neither_one_transfer_nor_many() {
    let service = Waiting::start("contract-neither", &[]);
    for body in [
        "",
        "{}",
        "[]",
        r#"[{"receiverId":"ab.near","amount":"1"}]"#,
        r#"{"amount":"1000000"}"#,
        r#"{"receiverId":"ab.near"}"#,
        r#"{"receiverId":"ab.near","amount":null}"#,
        r#"{"receiverId":"","amount":"1"}"#,
        r#"{"transfers":{"0":{"receiverId":"ab.near","amount":"1"}}}"#,
        r#"{"transfers":"ab.near"}"#,
    ] {
        assert_refused(&service, body, NEITHER).await;
    }
    // A `transfers` that is no array is as if it were not there.
    assert_valid(&service, r#"{"transfers":null,"receiverId":"ab.near","amount":"1"}"#).await;
}

#[tokio::test]
async fn the_first_bad_transfer_answers_for_all() {
    let service = Waiting::start("contract-order", &[]);
    let (good, bad_receiver, bad_amount) = (
        json!({ "receiverId": "ab.near", "amount": "1" }),
        json!({ "receiverId": "A", "amount": "-1" }),
        json!({ "receiverId": "ab.near", "amount": "-1" }),
    );
    for (transfers, text) in [
        (vec![&bad_receiver, &bad_amount], RECEIVER),
        (vec![&bad_amount, &bad_receiver], POSITIVE),
        (vec![&good, &bad_amount], POSITIVE),
    ] {
        assert_refused(&service, &json!({ "transfers": transfers }).to_string(), text).await;
    }
    for element in [json!({}), json!(null), json!({ "receiverId": "ab.near" }), json!({ "amount": 1 })] {
        assert_refused(&service, &json!({ "transfers": [good, element] }).to_string(), BOTH_NEEDED).await;
    }
}

#[tokio::test]
async fn receivers() {
    let service = Waiting::start("contract-receivers", &[]);
    let (hex, ethereum) = ("a1".repeat(32), format!("0x{}", "0f".repeat(20)));
    let body = |receiver: &str| json!({ "receiverId": receiver, "amount": "1" }).to_string();
    for receiver in ["ab", "alice.near", "user.test.near", &hex, &ethereum] {
        assert_valid(&service, &body(receiver)).await;
    }
    // The Node service refuses this one, which NEAR does not.
    assert_valid(&service, &body("a.near")).await;
    let too_long = "a".repeat(65);
    for receiver in [
        "x",
        "Alice.near",
        "a..b",
        ".near",
        "near.",
        &too_long,
        "alice.near\n",
        " near-badge.testnet",
        "x.testnet,y.testnet",
        // These the Node service takes, and no chain does.
        "-a.near",
        "a_-b.near",
    ] {
        assert_refused(&service, &body(receiver), RECEIVER).await;
    }
    for receiver in [json!(7), json!(true), json!(["ab.near"])] {
        assert_refused(&service, &json!({ "receiverId": receiver, "amount": "1" }).to_string(), RECEIVER).await;
    }
}

#[tokio::test]
async fn amounts() {
    let service = Waiting::start("contract-amounts", &[]);
    let body = |amount: &Value| json!({ "receiverId": "ab.near", "amount": amount }).to_string();
    for amount in [json!("1"), json!(2), json!("1000000000000000000000000000000"), json!(9_007_199_254_740_992_u64)] {
        assert_valid(&service, &body(&amount)).await;
    }
    for amount in [json!("0"), json!("-1"), json!(""), json!("abc"), json!("1_000"), json!(true), json!({}), json!(-5)]
    {
        assert_refused(&service, &body(&amount), POSITIVE).await;
    }
    for amount in [json!("1e31"), json!("Infinity"), json!("10000000000000000000000000000000")] {
        assert_refused(&service, &body(&amount), TOO_LARGE).await;
    }
    // The Node service takes these, and the token then undoes the whole batch.
    for amount in [
        "\"1.5\"",
        "\"1e5\"",
        "\"0x10\"",
        "\"0b11\"",
        "\"+5\"",
        "\" 5 \"",
        "\"1e-7\"",
        "[5]",
        "1e21",
        "12345678901234567890",
    ] {
        let body = format!(r#"{{"receiverId":"ab.near","amount":{amount}}}"#);
        assert_refused(&service, &body, POSITIVE).await;
    }
}

#[tokio::test]
async fn what_the_token_would_undo_is_refused() {
    let service = Waiting::start("contract-more", &[]);
    let long = format!(r#"{{"receiverId":"ab.near","amount":"1","memo":"{}"}}"#, "m".repeat(1025));
    assert_refused(&service, &long, "memo too long. Maximum allowed: 1024 bytes").await;
    assert_refused(&service, r#"{"receiverId":"ab.near","amount":"1","memo":5}"#, "memo must be a string").await;
    let to_itself = r#"{"receiverId":"test.near","amount":"1"}"#;
    assert_refused(&service, to_itself, "Invalid receiverId: the paying account cannot pay itself").await;
    assert_valid(&service, r#"{"receiverId":"ab.near","amount":"1","memo":null,"unknown":{"x":[]}}"#).await;
}
