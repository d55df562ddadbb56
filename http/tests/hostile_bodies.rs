//! Bodies of `POST /send-ft` that nobody would send on purpose: what is accepted is exactly what is written there.
#![allow(clippy::unwrap_used, reason = "a test")]

use keyshard::validate::{self, Invalid, Request};
use near_primitives::types::AccountId;
use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::{Value, json};

const MAX_AMOUNT: u128 = 10u128.pow(30);
const PAYER: &str = "payer.near";

fn read(body: &[u8]) -> Result<Request, Invalid> {
    validate::json(body, &PAYER.parse().unwrap())
}

fn read_form(fields: &[(&str, &str)]) -> Result<Request, Invalid> {
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    validate::form(body.as_bytes(), &PAYER.parse().unwrap())
}

fn single(receiver: &str, amount: &Value) -> Vec<u8> {
    json!({ "receiverId": receiver, "amount": amount }).to_string().into_bytes()
}

/// Amounts and receivers that were read.
fn paid(request: Result<Request, Invalid>) -> Option<Vec<(String, u128)>> {
    let transfers = request.ok()?.transfers;
    Some(transfers.into_iter().map(|transfer| (transfer.receiver.to_string(), transfer.amount)).collect())
}

/// What an amount's text stands for: decimal digits and nothing else, from 1 to 10^30. Digit by digit, by hand.
fn amount_of(text: &str) -> Option<u128> {
    let mut amount = 0u128;
    for c in text.chars() {
        amount = amount.checked_mul(10)?.checked_add("0123456789".find(c)? as u128)?;
    }
    (1..=MAX_AMOUNT).contains(&amount).then_some(amount)
}

/// NEAR's rule for account ids (Nomicon, "Account ID Rules"): 2 to 64 characters; parts between dots, each of words of
/// a-z and 0-9 with single separators between them.
fn is_account_id(text: &str) -> bool {
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'));
    (2..=64).contains(&text.len()) && text.split('.').all(|part| part.split(['-', '_']).all(is_word))
}

/// Texts around the edge of what an amount is.
fn amounts() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u128>().prop_map(|amount| amount.to_string()),
        (1..=MAX_AMOUNT).prop_map(|amount| amount.to_string()),
        (MAX_AMOUNT - 3..MAX_AMOUNT + 4).prop_map(|amount| amount.to_string()),
        "0{0,40}[0-9]{0,45}",
        "[0-9+\\-. eExX_,]{0,12}",
        "[0-9]{1,5}\\PC{1,3}",
        "\\PC{0,20}",
        Just("NaN".to_owned()),
        Just("Infinity".to_owned()),
        Just("٣".to_owned()),
    ]
}

/// Texts around the edge of what an account id is.
fn account_ids() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z0-9]{0,3}([._-]?[a-z0-9]{1,9}){0,8}",
        3 => "[ab0._-]{0,70}",
        1 => "[a-z0-9]{60,70}",
        1 => "(0x)?[0-9a-fA-F]{38,66}",
        1 => "[a-zA-Z0-9._ -]{0,20}",
        1 => "\\PC{0,20}",
        1 => Just(PAYER.to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_amount_is_read_as_it_is_written_or_not_at_all(text in amounts()) {
        let expected = amount_of(&text).map(|amount| vec![("al.near".to_owned(), amount)]);
        prop_assert_eq!(&paid(read(&single("al.near", &text.as_str().into()))), &expected);
        prop_assert_eq!(&paid(read_form(&[("receiverId", "al.near"), ("amount", &text)])), &expected);
        if let Some(amount) = amount_of(&text) {
            prop_assert_eq!(amount.to_string(), text.trim_start_matches('0'));
        }
        // The same as a number: only integers that JavaScript holds exactly.
        let body = format!(r#"{{"receiverId":"al.near","amount":{text}}}"#);
        // White space around a number is JSON's, not the number's.
        let bare = text.trim_matches([' ', '\t', '\n', '\r']);
        let number = serde_json::from_str::<serde_json::Number>(bare).ok().filter(|_| bare.bytes().all(|b| b.is_ascii_digit()));
        let exact = number.and_then(|_| amount_of(bare)).filter(|amount| *amount <= 1 << 53);
        let read = paid(read(body.as_bytes()));
        if !text.contains(['"', ',', '}']) {
            prop_assert_eq!(read, exact.map(|amount| vec![("al.near".to_owned(), amount)]));
        }
    }

    #[test]
    fn a_receiver_is_an_account_id_or_refused(text in account_ids()) {
        let valid = text.parse::<AccountId>().is_ok();
        prop_assert_eq!(valid, is_account_id(&text), "near-primitives against the rule");
        let expected = (valid && text != PAYER).then(|| vec![(text.clone(), 7)]);
        prop_assert_eq!(&paid(read(&single(&text, &"7".into()))), &expected);
        prop_assert_eq!(&paid(read_form(&[("receiverId", &text), ("amount", "7")])), &expected);
        let batch = json!({ "transfers": [{ "receiverId": text, "amount": "7" }] }).to_string();
        prop_assert_eq!(&paid(read(batch.as_bytes())), &expected);
    }

    /// Whatever is made of a good body: it is refused, or it means what it says to any other reader of JSON.
    #[test]
    fn a_garbled_body_means_what_it_says_or_nothing(
        transfers in vec(("[a-z]{2,6}\\.near", 1u64..1_000_000, proptest::option::of("\\PC{0,20}")), 1..4),
        batch in any::<bool>(),
        edits in vec((any::<Index>(), prop_oneof![
            vec(any::<u8>(), 0..4),
            Just(b"\"amount\":\"1\",".to_vec()), Just(b"\"receiverId\":\"bob.near\",".to_vec()), Just(b"0".to_vec()),
            Just(b"\\u0031".to_vec()), Just(b"null".to_vec()), Just(b"}".to_vec()), Just(b"\"transfers\":[],".to_vec()),
        ], 0usize..6), 0..4),
        cut in proptest::option::of(any::<Index>()),
    ) {
        let one = |(receiver, amount, memo): &(String, u64, Option<String>)| {
            json!({ "receiverId": receiver, "amount": amount.to_string(), "memo": memo })
        };
        let whole = if batch {
            json!({ "transfers": transfers.iter().map(one).collect::<Vec<_>>() }).to_string()
        } else {
            one(&transfers[0]).to_string()
        };
        let mut body = whole.into_bytes();
        for (at, bytes, removed) in &edits {
            let at = at.index(body.len() + 1);
            body.splice(at..(at + removed).min(body.len()), bytes.iter().copied());
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len().max(1)));
            if edits.is_empty() {
                prop_assert!(read(&body).is_err(), "a part of a body is no body");
            }
        }
        if let Ok(request) = read(&body) {
            // Half a surrogate or a number that is too large, where nobody reads: JavaScript takes both, this reader neither.
            let Ok(value) = serde_json::from_slice::<Value>(&body) else { return Ok(()) };
            let elements = match &value["transfers"] {
                Value::Array(elements) => elements.clone(),
                _ => vec![value],
            };
            prop_assert_eq!(elements.len(), request.transfers.len());
            for (element, transfer) in elements.iter().zip(&request.transfers) {
                prop_assert_eq!(element["receiverId"].as_str(), Some(transfer.receiver.as_str()));
                let amount = element["amount"].as_str().map_or_else(|| element["amount"].to_string(), str::to_owned);
                prop_assert_eq!(amount_of(&amount), Some(transfer.amount));
                prop_assert_eq!(element["memo"].as_str(), transfer.memo.as_deref());
            }
        }
    }

    #[test]
    fn bytes_at_random_are_no_request(body in vec(any::<u8>(), 0..200)) {
        prop_assert!(read(&body).is_err());
        prop_assert!(validate::form(&body, &PAYER.parse().unwrap()).is_err());
    }
}
