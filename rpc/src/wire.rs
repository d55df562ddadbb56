//! From an HTTP answer to a value or a fate: a pure function of status, content and body.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::breaker::Verdict;
use crate::fate::{Fate, Refusal};
use crate::invalid_tx::InvalidTx;
use crate::json::{bounded, present};

/// An HTTP answer, its body complete.
pub(crate) struct HttpAnswer<'a> {
    pub(crate) status: u16,
    /// The pause the answer asks for.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: &'a [u8],
}

/// An answer that holds no value to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) fate: Fate,
    pub(crate) message: Box<str>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) verdict: Verdict,
}

/// A value read from the `result` of an answer.
pub(crate) trait Parse: Sized {
    fn parse(result: &RawValue) -> Result<Self, Unreadable>;
}

/// A `result` that holds no value.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// The node refused in the old way: inside `result`.
    Refused(Refusal),
    /// It is not what the method answers with.
    Garbage(String),
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Unreadable::Garbage(bounded(&error.to_string()))
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<ErrorObject<'a>>,
}

#[derive(Deserialize)]
struct ErrorObject<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    cause: Option<Cause<'a>>,
    #[serde(default)]
    code: Option<i64>,
    #[serde(borrow, default)]
    message: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Cause<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    info: Option<&'a RawValue>,
}

/// Reads an HTTP answer.
///
/// 429 and 5xx say that something stands between us and the node's judgement: their bodies decide nothing. For any
/// other status the JSON-RPC envelope decides if there is one (a node sends errors with 400, 408 and 422 too).
pub(crate) fn decode<T: Parse>(answer: &HttpAnswer<'_>) -> Result<T, Failure> {
    let status = answer.status;
    if status == 429 || status == 503 && answer.retry_after.is_some() {
        return Err(throttled(format!("HTTP {status}"), answer.retry_after));
    }
    if status >= 500 {
        return Err(Failure {
            retry_after: answer.retry_after,
            ..unusable(&server_error(answer))
        });
    }
    let envelope = match serde_json::from_slice::<Envelope>(answer.body) {
        Ok(envelope) => envelope,
        Err(_) if status != 200 => return Err(turned_away(answer)),
        Err(why) => {
            return Err(unusable(&format!(
                "unreadable answer of {} bytes: {why}",
                answer.body.len()
            )));
        }
    };
    match envelope {
        Envelope { error: Some(error), .. } => Err(error_fate(&error, answer.retry_after)),
        Envelope {
            result: Some(result), ..
        } if status == 200 => T::parse(result).map_err(|unreadable| match unreadable {
            Unreadable::Refused(refusal) => refused(refusal, "legacy error inside the result"),
            Unreadable::Garbage(why) => unusable(&format!("unreadable result of {} bytes: {why}", result.get().len())),
        }),
        _ => Err(turned_away(answer)),
    }
}

/// The fate behind a JSON-RPC error object (nearcore `chain/jsonrpc-primitives`).
fn error_fate(error: &ErrorObject<'_>, retry_after: Option<Duration>) -> Failure {
    let cause = error
        .cause
        .as_ref()
        .and_then(|cause| cause.name.as_deref())
        .unwrap_or_default();
    let message = describe(error, cause);
    match (cause, error.code.unwrap_or_default()) {
        // The node answered, but not about the transaction: no sign of ill health.
        ("TIMEOUT_ERROR", _) => Failure {
            verdict: Verdict::Success,
            ..unusable(&message)
        },
        ("INVALID_TRANSACTION", _) => refused(Refusal::InvalidTx(invalid_tx(error)), message),
        ("UNKNOWN_TRANSACTION", _) => refused(Refusal::UnknownTransaction, message),
        ("DOES_NOT_TRACK_SHARD" | "UNAVAILABLE_SHARD", _) => refused(Refusal::DoesNotTrackShard, message),
        ("UNKNOWN_ACCOUNT", _) => refused(Refusal::UnknownAccount, message),
        ("UNKNOWN_ACCESS_KEY", _) => refused(Refusal::UnknownAccessKey, message),
        ("UNKNOWN_BLOCK", _) => refused(Refusal::UnknownBlock, message),
        ("NO_CONTRACT_CODE", _) => refused(Refusal::NoContractCode, message),
        ("CONTRACT_EXECUTION_ERROR", _) => contract_error(error, message),
        ("METHOD_NOT_FOUND", _) | ("", -32601) => refused(Refusal::MethodNotFound, message),
        ("PARSE_ERROR", _) => refused(Refusal::Parse(text(error.data)), message),
        // Errors without a cause come from gateways: JSON-RPC's internal error and the usual codes for "too many".
        ("INTERNAL_ERROR", _) | ("", -32603) => unusable(&message),
        ("", -429 | -32005) => throttled(message, retry_after),
        ("", -32700 | -32600 | -32602) => refused(Refusal::Parse(message.clone()), message),
        ("", code) => refused(
            Refusal::Other {
                name: format!("CODE_{code}"),
                message: message.clone(),
            },
            message,
        ),
        (name, _) => refused(
            Refusal::Other {
                name: bounded(name),
                message: message.clone(),
            },
            message,
        ),
    }
}

/// The reason sits in `data.TxExecutionError.InvalidTxError`; `cause.info` is empty.
fn invalid_tx(error: &ErrorObject<'_>) -> InvalidTx {
    #[derive(Deserialize)]
    struct Data {
        #[serde(rename = "TxExecutionError")]
        execution: Execution,
    }
    #[derive(Deserialize)]
    struct Execution {
        #[serde(rename = "InvalidTxError")]
        invalid: InvalidTx,
    }
    let parsed = error
        .data
        .and_then(|data| serde_json::from_str::<Data>(data.get()).ok());
    parsed.map_or_else(|| InvalidTx::Other(text(error.data)), |data| data.execution.invalid)
}

/// A view call that failed, as newer nodes report it: `cause.info.vm_error`.
fn contract_error(error: &ErrorObject<'_>, message: String) -> Failure {
    #[derive(Deserialize)]
    struct Info {
        vm_error: String,
    }
    let info = error.cause.as_ref().and_then(|cause| cause.info);
    let words = info
        .and_then(|info| serde_json::from_str::<Info>(info.get()).ok())
        .map(|info| bounded(&info.vm_error));
    match words.unwrap_or_else(|| text(error.data)) {
        words if words.contains("CodeDoesNotExist") => refused(Refusal::NoContractCode, message),
        words => refused(Refusal::ContractError(words), message),
    }
}

/// A status other than 200 and a body that is no JSON-RPC error.
///
/// 400, 413 and 422 are about this request (a node's HTTP layer answers them in plain text, before JSON-RPC). All
/// the others (a key that is wrong, a path that does not exist, a redirect) are about the endpoint: not usable, and
/// nothing is known.
fn turned_away(answer: &HttpAnswer<'_>) -> Failure {
    match answer.status {
        200 => unusable("a JSON-RPC answer with neither result nor error"),
        status @ (400 | 413 | 422) => {
            let message = bounded(&String::from_utf8_lossy(&answer.body[..answer.body.len().min(2048)]));
            refused(
                Refusal::Other {
                    name: format!("HTTP_{status}"),
                    message: message.clone(),
                },
                message,
            )
        }
        status => Failure {
            retry_after: answer.retry_after,
            ..unusable(&format!("HTTP {status}"))
        },
    }
}

/// What a 5xx says, if it is a node that says it: `INTERNAL_ERROR` comes as HTTP 500.
fn server_error(answer: &HttpAnswer<'_>) -> String {
    match serde_json::from_slice::<Envelope>(answer.body) {
        Ok(Envelope { error: Some(error), .. }) => {
            let cause = error
                .cause
                .as_ref()
                .and_then(|cause| cause.name.as_deref())
                .unwrap_or_default();
            bounded(&format!("HTTP {}: {}", answer.status, describe(&error, cause)))
        }
        _ => format!("HTTP {}", answer.status),
    }
}

/// `CAUSE: data`, or as much of it as there is.
fn describe(error: &ErrorObject<'_>, cause: &str) -> String {
    let name = if cause.is_empty() {
        error.name.as_deref().unwrap_or("error")
    } else {
        cause
    };
    match (error.data, error.message.as_deref()) {
        (Some(data), _) => bounded(&format!("{name}: {}", text(Some(data)))),
        (None, Some(message)) => bounded(&format!("{name}: {message}")),
        (None, None) => bounded(name),
    }
}

/// A JSON string as its content, other JSON as it stands; bounded.
fn text(raw: Option<&RawValue>) -> String {
    let raw = raw.map(RawValue::get).unwrap_or_default();
    serde_json::from_str::<String>(raw).map_or_else(|_| bounded(raw), |content| bounded(&content))
}

fn refused(refusal: Refusal, message: impl Into<Box<str>>) -> Failure {
    Failure {
        fate: Fate::Refused(refusal),
        message: message.into(),
        retry_after: None,
        verdict: Verdict::Success,
    }
}

fn throttled(message: String, retry_after: Option<Duration>) -> Failure {
    Failure {
        fate: Fate::Unknown,
        message: message.into(),
        retry_after,
        verdict: Verdict::Throttled(retry_after),
    }
}

/// Nothing is known, and the endpoint did not do its work.
pub(crate) fn unusable(message: &str) -> Failure {
    Failure {
        fate: Fate::Unknown,
        message: bounded(message).into(),
        retry_after: None,
        verdict: Verdict::Failure,
    }
}
