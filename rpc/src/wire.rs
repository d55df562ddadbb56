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
    /// The node refused in the old way, inside `result`, with these words.
    Refused(Refusal, String),
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
        return Err(Failure { retry_after: answer.retry_after, ..unusable(&server_error(answer)) });
    }
    let envelope = match serde_json::from_slice::<Envelope>(answer.body) {
        Ok(envelope) => envelope,
        Err(_) if status != 200 => return Err(turned_away(answer)),
        Err(why) => {
            return Err(unusable(&format!("unreadable answer of {} bytes: {why}", answer.body.len())));
        }
    };
    match envelope {
        Envelope { error: Some(error), .. } => Err(error_fate(&error, answer.retry_after)),
        Envelope { result: Some(result), .. } if status == 200 => {
            T::parse(result).map_err(|unreadable| match unreadable {
                Unreadable::Refused(refusal, words) => {
                    let message = bounded(&format!("{}: {words}", refusal.name()));
                    refused(refusal, message)
                }
                Unreadable::Garbage(why) => {
                    unusable(&format!("unreadable result of {} bytes: {why}", result.get().len()))
                }
            })
        }
        _ => Err(turned_away(answer)),
    }
}

/// The fate behind a JSON-RPC error object (nearcore `chain/jsonrpc-primitives`).
fn error_fate(error: &ErrorObject<'_>, retry_after: Option<Duration>) -> Failure {
    let cause = error.cause.as_ref().and_then(|cause| cause.name.as_deref()).unwrap_or_default();
    let message = describe(error, cause);
    match (cause, error.code.unwrap_or_default()) {
        // The node answered, but not about the transaction: no sign of ill health.
        ("TIMEOUT_ERROR", _) => Failure { verdict: Verdict::Success, ..unusable(&message) },
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
        ("", code) => refused(Refusal::Other { name: format!("CODE_{code}"), message: message.clone() }, message),
        (name, _) => refused(Refusal::Other { name: bounded(name), message: message.clone() }, message),
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
    let parsed = error.data.and_then(|data| serde_json::from_str::<Data>(data.get()).ok());
    parsed.map_or_else(|| InvalidTx::Other(text(error.data)), |data| data.execution.invalid)
}

/// A view call that failed, as newer nodes report it: `cause.info.vm_error`.
fn contract_error(error: &ErrorObject<'_>, message: String) -> Failure {
    #[derive(Deserialize)]
    struct Info {
        vm_error: String,
    }
    let info = error.cause.as_ref().and_then(|cause| cause.info);
    let words = info.and_then(|info| serde_json::from_str::<Info>(info.get()).ok()).map(|info| bounded(&info.vm_error));
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
            let words = bounded(&String::from_utf8_lossy(&answer.body[..answer.body.len().min(2048)]));
            let message = format!("HTTP {status}: {words}");
            refused(Refusal::Other { name: format!("HTTP_{status}"), message: words }, message)
        }
        status => Failure { retry_after: answer.retry_after, ..unusable(&format!("HTTP {status}")) },
    }
}

/// What a 5xx says, if it is a node that says it: `INTERNAL_ERROR` comes as HTTP 500.
fn server_error(answer: &HttpAnswer<'_>) -> String {
    match serde_json::from_slice::<Envelope>(answer.body) {
        Ok(Envelope { error: Some(error), .. }) => {
            let cause = error.cause.as_ref().and_then(|cause| cause.name.as_deref()).unwrap_or_default();
            bounded(&format!("HTTP {}: {}", answer.status, describe(&error, cause)))
        }
        _ => format!("HTTP {}", answer.status),
    }
}

/// `CAUSE: data`, or as much of it as there is.
fn describe(error: &ErrorObject<'_>, cause: &str) -> String {
    let name = if cause.is_empty() { error.name.as_deref().unwrap_or("error") } else { cause };
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
    Failure { fate: Fate::Refused(refusal), message: message.into(), retry_after: None, verdict: Verdict::Success }
}

fn throttled(message: String, retry_after: Option<Duration>) -> Failure {
    Failure { fate: Fate::Unknown, message: message.into(), retry_after, verdict: Verdict::Throttled(retry_after) }
}

/// Nothing is known, and the endpoint did not do its work.
pub(crate) fn unusable(message: &str) -> Failure {
    Failure { fate: Fate::Unknown, message: bounded(message).into(), retry_after: None, verdict: Verdict::Failure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{Block, Empty};
    use crate::invalid_tx::{AccessKeyError, ActionsValidationError, DepositShortfall};
    use crate::query::{AccessKey, CallResult, Permission};
    use crate::tx::{ActionErrorKind, ExecutionResult, ExecutionStatus, FunctionCallError, TxStatus};

    fn read<T: Parse>(status: u16, body: &str) -> Result<T, Failure> {
        decode(&HttpAnswer { status, retry_after: None, body: body.as_bytes() })
    }

    fn result<T: Parse>(result: &str) -> Result<T, Failure> {
        read(200, &format!(r#"{{"jsonrpc":"2.0","result":{result},"id":"keyshard","a_new_field":[1,{{"x":null}}]}}"#))
    }

    fn other(name: &str, message: &str) -> Fate {
        Fate::Refused(Refusal::Other { name: name.to_owned(), message: message.to_owned() })
    }

    #[test]
    fn fate_by_status_and_body() {
        let node_error = r#"{"error":{"name":"HANDLER_ERROR","cause":{"name":"UNKNOWN_BLOCK"},"data":"no"}}"#;
        let internal =
            r#"{"error":{"name":"INTERNAL_ERROR","cause":{"name":"INTERNAL_ERROR","info":{}},"data":"disk"}}"#;
        let timeout = r#"{"error":{"cause":{"name":"TIMEOUT_ERROR","info":{"reason":"pending"}},"data":"Timeout"}}"#;
        let unsynced = r#"{"error":{"cause":{"name":"NO_SYNCED_BLOCKS"},"data":"none yet"}}"#;
        let failed =
            |info: &str| format!(r#"{{"error":{{"cause":{{"name":"CONTRACT_EXECUTION_ERROR","info":{info}}}}}}}"#);
        let (panic, no_code) = (failed(r#"{"vm_error":"it panicked"}"#), failed(r#"{"vm_error":"CodeDoesNotExist"}"#));
        let unknown = Fate::Unknown;
        let refused = Fate::Refused;
        let cases: &[(u16, &str, Fate, Verdict)] = &[
            // The envelope decides whatever the status, except where a gateway may be speaking.
            (200, node_error, refused(Refusal::UnknownBlock), Verdict::Success),
            (400, node_error, refused(Refusal::UnknownBlock), Verdict::Success),
            (422, node_error, refused(Refusal::UnknownBlock), Verdict::Success),
            (408, timeout, unknown.clone(), Verdict::Success),
            (200, timeout, unknown.clone(), Verdict::Success),
            (408, "", unknown.clone(), Verdict::Failure),
            (500, internal, unknown.clone(), Verdict::Failure),
            (200, internal, unknown.clone(), Verdict::Failure),
            (500, node_error, unknown.clone(), Verdict::Failure),
            (502, "<html>Bad Gateway</html>", unknown.clone(), Verdict::Failure),
            (503, "", unknown.clone(), Verdict::Failure),
            (504, r#"{"result":null}"#, unknown.clone(), Verdict::Failure),
            (429, node_error, unknown.clone(), Verdict::Throttled(None)),
            (200, unsynced, other("NO_SYNCED_BLOCKS", "NO_SYNCED_BLOCKS: none yet"), Verdict::Success),
            (200, &panic, refused(Refusal::ContractError("it panicked".to_owned())), Verdict::Success),
            (200, &no_code, refused(Refusal::NoContractCode), Verdict::Success),
            (
                200,
                r#"{"error":{"cause":{"name":"PARSE_ERROR"},"data":"a\u001b[31m\nb"}}"#,
                refused(Refusal::Parse("a [31m b".to_owned())),
                Verdict::Success,
            ),
            // Turned away before JSON-RPC.
            (400, "bad json", other("HTTP_400", "bad json"), Verdict::Success),
            (413, "too long", other("HTTP_413", "too long"), Verdict::Success),
            (401, "who are you", unknown.clone(), Verdict::Failure),
            (403, r#"{"result":{"ok":true}}"#, unknown.clone(), Verdict::Failure),
            (404, "", unknown.clone(), Verdict::Failure),
            (301, "", unknown.clone(), Verdict::Failure),
            // Gateways' own errors have a code and no cause.
            (200, r#"{"error":{"code":-429,"message":"slow down"}}"#, unknown.clone(), Verdict::Throttled(None)),
            (200, r#"{"error":{"code":-32005,"message":"slow down"}}"#, unknown.clone(), Verdict::Throttled(None)),
            (200, r#"{"error":{"code":-32603,"message":"oops"}}"#, unknown.clone(), Verdict::Failure),
            (200, r#"{"error":{"code":-32601,"message":"no"}}"#, refused(Refusal::MethodNotFound), Verdict::Success),
            (200, r#"{"error":{"code":-7,"message":"no"}}"#, other("CODE_-7", "error: no"), Verdict::Success),
            // No JSON-RPC answer at all.
            (200, "", unknown.clone(), Verdict::Failure),
            (200, "<html>", unknown.clone(), Verdict::Failure),
            (200, "{}", unknown.clone(), Verdict::Failure),
            (200, "[]", unknown.clone(), Verdict::Failure),
            (200, r#"{"jsonrpc":"2.0","result":{"final_exec"#, unknown.clone(), Verdict::Failure),
            (200, r#"{"result":{"height":1}}"#, unknown.clone(), Verdict::Failure),
            (200, r#"{"result":null}"#, unknown.clone(), Verdict::Failure),
            (200, r#"{"error":"text instead of an object"}"#, unknown, Verdict::Failure),
        ];
        for (status, body, fate, verdict) in cases {
            let failure = read::<Block>(*status, body).expect_err(body);
            assert_eq!((&failure.fate, failure.verdict), (fate, *verdict), "{status} {body}");
        }
        assert!(read::<Empty>(200, r#"{"result":null}"#).is_ok(), "null is a result");
    }

    #[test]
    fn a_pause_is_passed_on() {
        let pause = Some(Duration::from_secs(3));
        let failure =
            |status| decode::<Empty>(&HttpAnswer { status, retry_after: pause, body: b"" }).expect_err("an error");
        assert_eq!((failure(429).verdict, failure(429).retry_after), (Verdict::Throttled(pause), pause));
        assert_eq!((failure(503).verdict, failure(503).retry_after), (Verdict::Throttled(pause), pause));
        assert_eq!((failure(502).verdict, failure(502).retry_after), (Verdict::Failure, pause));
    }

    /// `{..}` of a status with one receipt, whose outcome has this status.
    fn executed(receipt_status: &str) -> String {
        format!(
            r#"{{"final_execution_status":"FINAL","status":{{"SuccessValue":"AA=="}},"transaction":{{"hash":"T"}},
            "transaction_outcome":{{"id":"T","block_hash":"B","outcome":{{"receipt_ids":["R"],"gas_burnt":"7","status":{{"SuccessReceiptId":"R"}}}}}},
            "receipts_outcome":[{{"id":"other","block_hash":"B","outcome":{{"receipt_ids":[],"gas_burnt":1,"status":{{"Failure":"x"}}}}}},
            {{"id":"R","block_hash":"B","outcome":{{"receipt_ids":[],"gas_burnt":9,"status":{receipt_status}}}}}]}}"#
        )
    }

    #[test]
    fn the_receipt_decides_and_new_variants_break_nothing() {
        let failed = |kind: &str| format!(r#"{{"Failure":{{"ActionError":{{"index":null,"kind":{kind}}}}}}}"#);
        let action = |kind| ExecutionResult::ActionError { index: None, kind };
        let call = |error| action(ActionErrorKind::FunctionCall(error));
        let text = str::to_owned;
        let cases: Vec<(String, ExecutionResult)> = vec![
            (text(r#"{"SuccessValue":""}"#), ExecutionResult::Success(vec![])),
            (text(r#"{"SuccessValue":"aGk="}"#), ExecutionResult::Success(b"hi".to_vec())),
            (text(r#"{"SuccessReceiptId":"R2"}"#), ExecutionResult::Success(vec![])),
            (text(r#""Unknown""#), ExecutionResult::Pending),
            (text(r#"{"SuccessLater":{"at":1}}"#), ExecutionResult::Pending),
            (text(r#"{"Failure":{"NewFailure":1}}"#), ExecutionResult::OtherFailure(text(r#"{"NewFailure":1}"#))),
            (
                text(r#"{"Failure":{"InvalidTxError":{"NewReason":{"a":1}}}}"#),
                ExecutionResult::InvalidTx(InvalidTx::Other(text(r#"{"NewReason":{"a":1}}"#))),
            ),
            (failed(r#"{"NewKind":{"a":[]}}"#), action(ActionErrorKind::Other(text(r#"{"NewKind":{"a":[]}}"#)))),
            (failed(r#""DelegateActionExpired""#), action(ActionErrorKind::Other(text(r#""DelegateActionExpired""#)))),
            (
                failed(r#"{"LackBalanceForState":{"account_id":"a","amount":"12","more":0}}"#),
                action(ActionErrorKind::LackBalanceForState { account_id: text("a"), amount: 12 }),
            ),
            (
                failed(r#"{"NewReceiptValidationError":{"X":{}}}"#),
                action(ActionErrorKind::NewReceiptValidation(text(r#"{"X":{}}"#))),
            ),
            (
                failed(r#"{"FunctionCallError":{"MethodResolveError":"MethodNotFound"}}"#),
                call(FunctionCallError::MethodNotFound),
            ),
            (
                failed(r#"{"FunctionCallError":{"MethodResolveError":"MethodEmptyName"}}"#),
                call(FunctionCallError::Other(text(r#"{"MethodResolveError":"MethodEmptyName"}"#))),
            ),
            (failed(r#"{"FunctionCallError":"New"}"#), call(FunctionCallError::Other(text(r#""New""#)))),
        ];
        for (status, expected) in cases {
            let outcome = result::<TxStatus>(&executed(&status)).unwrap().outcome.unwrap();
            assert_eq!(outcome.result, expected, "{status}");
            assert_eq!((outcome.gas_burnt_tx, outcome.gas_burnt_receipt, outcome.receipts), (7, Some(9), 2));
        }
        let broken = result::<TxStatus>(&executed(r#"{"SuccessValue":"not base64!"}"#)).unwrap_err();
        assert_eq!(broken.fate, Fate::Unknown);
    }

    #[test]
    fn without_its_receipt_a_transaction_is_pending_or_invalid() {
        let status = |receipt_ids: &str, tx_status: &str, top: &str| {
            let json = format!(
                r#"{{"final_execution_status":"LATER","status":{top},"transaction_outcome":{{"id":"T","block_hash":"B",
                "outcome":{{"receipt_ids":{receipt_ids},"gas_burnt":0,"status":{tx_status}}}}},"receipts_outcome":[]}}"#
            );
            result::<TxStatus>(&json).unwrap()
        };
        let expired = r#"{"Failure":{"InvalidTxError":"Expired"}}"#;
        let cases = [
            (r#"["R"]"#, r#"{"SuccessReceiptId":"R"}"#, r#""NotStarted""#, ExecutionResult::Pending),
            (r#"["R"]"#, r#"{"SuccessReceiptId":"R"}"#, r#"{"SuccessValue":""}"#, ExecutionResult::Pending),
            ("[]", r#""Unknown""#, r#"{"SuccessValue":""}"#, ExecutionResult::Pending),
            ("[]", expired, expired, ExecutionResult::InvalidTx(InvalidTx::Expired)),
            ("[]", r#""Unknown""#, expired, ExecutionResult::InvalidTx(InvalidTx::Expired)),
            ("[]", expired, "null", ExecutionResult::InvalidTx(InvalidTx::Expired)),
        ];
        for (receipts, tx, top, expected) in cases {
            let status = status(receipts, tx, top);
            assert_eq!(status.execution_status, ExecutionStatus::Other("LATER".to_owned()));
            let outcome = status.outcome.unwrap();
            assert_eq!((outcome.result, outcome.gas_burnt_receipt), (expected, None), "{receipts} {tx} {top}");
        }
        assert!(result::<TxStatus>(r#"{"status":{"SuccessValue":""}}"#).is_err(), "no execution status: no answer");
    }

    #[test]
    fn new_reasons_of_refusal_keep_their_text() {
        let refusal = |reason: &str| {
            let data = format!(r#"{{"TxExecutionError":{{"InvalidTxError":{reason}}}}}"#);
            let body = format!(r#"{{"error":{{"cause":{{"name":"INVALID_TRANSACTION","info":{{}}}},"data":{data}}}}}"#);
            match read::<TxStatus>(200, &body).unwrap_err().fate {
                Fate::Refused(Refusal::InvalidTx(reason)) => reason,
                fate => panic!("{fate:?}"),
            }
        };
        let text = str::to_owned;
        let key = |error| InvalidTx::InvalidAccessKeyError(Box::new(error));
        let cases = [
            (r#"{"Brand":{"new":1}}"#, InvalidTx::Other(text(r#"{"Brand":{"new":1}}"#))),
            (r#""BrandNew""#, InvalidTx::Other(text(r#""BrandNew""#))),
            (
                r#"{"InvalidNonce":{"tx_nonce":18446744073709551615,"ak_nonce":"2","why":"?"}}"#,
                InvalidTx::InvalidNonce { tx_nonce: u64::MAX, ak_nonce: 2 },
            ),
            (r#"{"InvalidNonce":{"tx_nonce":-1}}"#, InvalidTx::Other(text(r#"{"InvalidNonce":{"tx_nonce":-1}}"#))),
            (r#"{"InvalidAccessKeyError":{"New":[1]}}"#, key(AccessKeyError::Other(text(r#"{"New":[1]}"#)))),
            (
                r#"{"ActionsValidation":{"New":{"limit":1}}}"#,
                InvalidTx::ActionsValidation(ActionsValidationError::Other(text(r#"{"New":{"limit":1}}"#))),
            ),
            (
                r#"{"ShardCongested":{"shard_id":3,"congestion_level":0.83}}"#,
                InvalidTx::ShardCongested { shard_id: 3, congestion_level: text("0.83") },
            ),
            (
                r#"{"ShardStuck":{"shard_id":3,"missed_chunks":101}}"#,
                InvalidTx::ShardStuck { shard_id: 3, missed_chunks: 101 },
            ),
            (r#"{"StorageError":"StorageInternalError"}"#, InvalidTx::StorageError(text(r#""StorageInternalError""#))),
            (r#"{"StorageError":{"New":1}}"#, InvalidTx::StorageError(text(r#"{"New":1}"#))),
            (
                r#"{"InvalidNonceIndex":{"tx_nonce_index":null,"num_nonces":4}}"#,
                InvalidTx::InvalidNonceIndex { tx_nonce_index: None, num_nonces: 4 },
            ),
            (
                r#"{"NotEnoughBalanceForDeposit":{"signer_id":"a","balance":"1","cost":"2","reason":"Else"}}"#,
                InvalidTx::NotEnoughBalanceForDeposit {
                    signer_id: text("a"),
                    balance: 1,
                    cost: 2,
                    reason: DepositShortfall::Other,
                },
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(refusal(json), expected, "{json}");
        }
        let InvalidTx::Other(long) = refusal(&format!(r#""{}""#, "é".repeat(5000))) else { panic!("not kept") };
        assert!(long.len() < 600 && long.ends_with('…'), "{}", long.len());
        assert_eq!(refusal("null"), InvalidTx::Other(text("null")));
    }

    #[test]
    fn new_variants_and_fields_in_views() {
        let key: AccessKey = result(
            r#"{"nonce":"5","permission":{"GasKeyFullAccess":{"num_nonces":4}},"block_height":1,"block_hash":"B","x":1}"#,
        )
        .unwrap();
        assert_eq!(key.permission, Permission::Other(r#"{"GasKeyFullAccess":{"num_nonces":4}}"#.to_owned()));
        let key: AccessKey = result(
            r#"{"nonce":5,"permission":{"FunctionCall":{"allowance":null,"receiver_id":"ft","method_names":["m"]}},
            "block_height":1,"block_hash":"B"}"#,
        )
        .unwrap();
        let (receiver_id, method_names) = ("ft".to_owned(), vec!["m".to_owned()]);
        assert_eq!(key.permission, Permission::FunctionCall { allowance: None, receiver_id, method_names });
        let block: Block = result(
            r#"{"header":{"height":1,"hash":"H","prev_hash":"P","timestamp_nanosec":"9","gas_price":"100","epoch_id":"E",
            "last_final_block":"L"},"chunks":[{"shard_id":2,"height_included":1,"gas_used":3,"gas_limit":4,
            "congestion_info":{"V2":{"new":1}}},{"shard_id":3,"height_included":1,"gas_used":3,"gas_limit":4}]}"#,
        )
        .unwrap();
        assert_eq!(block.chunks.iter().map(|chunk| chunk.delayed_receipts_gas).collect::<Vec<_>>(), [0, 0]);
        let garbage =
            result::<CallResult>(r#"{"result":[256],"logs":[],"block_height":1,"block_hash":"B"}"#).unwrap_err();
        assert_eq!(garbage.fate, Fate::Unknown);
    }

    #[test]
    fn deep_nesting_is_refused_or_skipped_without_harm() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        assert!(result::<Block>(&deep).is_err());
        assert!(read::<Block>(200, &deep).is_err());
        let body = format!(r#"{{"error":{{"cause":{{"name":"INVALID_TRANSACTION"}},"data":{deep}}}}}"#);
        assert!(read::<Block>(200, &body).unwrap_err().message.len() < 700);
    }
}
