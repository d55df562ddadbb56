//! The parts of a node's answers that count, borrowed from the answer. What else is in them is skipped.
use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A whole answer.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(borrow)]
    pub(super) result: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Error<'a> {
    #[serde(borrow)]
    pub(super) cause: Option<Cause<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Cause<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(super) struct Block<'a> {
    pub(super) header: Header,
    #[serde(borrow)]
    pub(super) chunks: Vec<ChunkHeader<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Header {
    pub(super) height: u64,
    pub(super) hash: String,
    /// Nanoseconds since 1970.
    pub(super) timestamp: u64,
}

#[derive(Deserialize)]
pub(super) struct ChunkHeader<'a> {
    #[serde(borrow)]
    pub(super) chunk_hash: Cow<'a, str>,
    pub(super) height_included: u64,
    #[serde(borrow)]
    pub(super) tx_root: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow)]
    pub(super) transactions: Vec<Transaction<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Transaction<'a> {
    #[serde(borrow)]
    pub(super) hash: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) signer_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) receiver_id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) actions: Vec<&'a RawValue>,
}

/// An action, if it is a call: others are other shapes, or a plain string.
#[derive(Deserialize)]
struct Action<'a> {
    #[serde(borrow, rename = "FunctionCall")]
    call: Option<Call<'a>>,
}

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(borrow)]
    method_name: Cow<'a, str>,
    #[serde(borrow)]
    args: Cow<'a, str>,
}

#[derive(Deserialize)]
struct TransferArgs<'a> {
    #[serde(borrow)]
    receiver_id: Cow<'a, str>,
    #[serde(borrow)]
    amount: Cow<'a, str>,
    #[serde(borrow, default)]
    memo: Option<Cow<'a, str>>,
}

/// What an action does to the token.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Transfer { receiver: String, amount: Option<u128>, memo: String },
    Deposit,
    Other,
}

/// Reads an action. Arguments that are no transfer make none: the contract will not take them for one either.
pub(super) fn effect(action: &RawValue) -> Effect {
    let Ok(Action { call: Some(call) }) = serde_json::from_str(action.get()) else { return Effect::Other };
    match call.method_name.as_ref() {
        "ft_transfer" => {
            let Ok(bytes) = STANDARD.decode(call.args.as_bytes()) else { return Effect::Other };
            let Ok(args) = serde_json::from_slice::<TransferArgs<'_>>(&bytes) else { return Effect::Other };
            Effect::Transfer {
                receiver: args.receiver_id.into_owned(),
                amount: args.amount.parse().ok(),
                memo: args.memo.unwrap_or_default().into_owned(),
            }
        }
        "storage_deposit" => Effect::Deposit,
        _ => Effect::Other,
    }
}

#[derive(Deserialize)]
pub(super) struct Outcome<'a> {
    #[serde(borrow)]
    pub(super) final_execution_status: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) status: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "receipts_outcome")]
    pub(super) receipts: Vec<Receipt<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Receipt<'a> {
    #[serde(borrow)]
    pub(super) block_hash: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) outcome: ReceiptOutcome<'a>,
}

#[derive(Deserialize)]
pub(super) struct ReceiptOutcome<'a> {
    #[serde(borrow)]
    pub(super) executor_id: Cow<'a, str>,
}

/// `{"SuccessValue":..}` or `{"Failure":..}`; anything else is not decided yet.
pub(super) fn succeeded(status: &RawValue) -> Option<bool> {
    #[derive(Deserialize)]
    struct Status<'a> {
        #[serde(borrow, rename = "SuccessValue")]
        success: Option<&'a RawValue>,
        #[serde(borrow, rename = "Failure")]
        failure: Option<&'a RawValue>,
    }
    let Status { success, failure } = serde_json::from_str(status.get()).ok()?;
    match (success, failure) {
        (Some(_), None) => Some(true),
        (None, Some(_)) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn actions_are_read_for_what_they_do() {
        let call = |method: &str, args: &str| {
            let args = STANDARD.encode(args);
            let text =
                format!(r#"{{"FunctionCall":{{"method_name":"{method}","args":"{args}","gas":1,"deposit":"1"}}}}"#);
            effect(&raw(&text))
        };
        let paid = Effect::Transfer { receiver: "a.near".into(), amount: Some(5), memo: "m".into() };
        assert_eq!(call("ft_transfer", r#"{"receiver_id":"a.near","amount":"5","memo":"m"}"#), paid);
        let silent = Effect::Transfer { receiver: "a.near".into(), amount: Some(5), memo: String::new() };
        assert_eq!(call("ft_transfer", r#"{"receiver_id":"a.near","amount":"5","memo":null}"#), silent);
        assert_eq!(call("storage_deposit", "{}"), Effect::Deposit);
        assert_eq!(call("ft_transfer", "no JSON"), Effect::Other);
        assert_eq!(call("ft_transfer_call", "{}"), Effect::Other);
        assert_eq!(effect(&raw(r#""CreateAccount""#)), Effect::Other);
        assert_eq!(effect(&raw(r#"{"Transfer":{"deposit":"0"}}"#)), Effect::Other);
    }

    #[test]
    fn success_is_the_key_not_the_value() {
        assert_eq!(succeeded(&raw(r#"{"SuccessValue":""}"#)), Some(true));
        assert_eq!(succeeded(&raw(r#"{"Failure":{"ActionError":{"index":0}}}"#)), Some(false));
        assert_eq!(succeeded(&raw(r#""Started""#)), None);
        assert_eq!(succeeded(&raw("{}")), None);
    }
}
