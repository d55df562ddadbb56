//! Answers that nobody would send on purpose (tests only): cut, garbled, rebuilt. Reading them never panics, keeps little,
//! and concludes nothing that is not written there.
use std::sync::LazyLock;
use std::time::Duration;

use proptest::{collection::vec, prelude::*, sample::Index};
use serde_json::Value;

use crate::chain::{Block, Empty, GasPrice, ProtocolConfig, Status, TxHash};
use crate::fate::{Fate, Refusal};
use crate::json::TEXT_MAX;
use crate::query::{AccessKey, AccessKeyChanges, AccessKeyList, Account, CallResult};
use crate::recordings;
use crate::transaction::TxDetails;
use crate::tx::{ExecutionResult, ExecutionStatus, TxStatus};
use crate::wire::{self, Failure, HttpAnswer, Parse};

/// Status and body of every recording.
static RECORDED: LazyLock<Vec<(u16, Vec<u8>)>> = LazyLock::new(recordings::bodies);

/// Those of them that are JSON-RPC results or errors.
static JSON: LazyLock<Vec<(u16, Value)>> = LazyLock::new(|| {
    let json = RECORDED.iter().filter_map(|(status, body)| Some((*status, serde_json::from_slice(body).ok()?)));
    json.filter(|(_, body): &(u16, Value)| body.get("result").is_some() || body.get("error").is_some()).collect()
});

/// What an answer about a transaction may end an attempt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conclusion {
    Landed,
    FailedOnChain,
    UnknownTransaction,
}

fn conclusion(answer: &Result<TxStatus, Failure>) -> Option<Conclusion> {
    match answer {
        Ok(TxStatus { execution_status: ExecutionStatus::Final, outcome: Some(outcome) }) => match outcome.result {
            ExecutionResult::Success(_) => Some(Conclusion::Landed),
            ExecutionResult::Pending => None,
            _ => Some(Conclusion::FailedOnChain),
        },
        Err(Failure { fate: Fate::Refused(Refusal::UnknownTransaction), .. }) => Some(Conclusion::UnknownTransaction),
        _ => None,
    }
}

/// The same from the whole JSON, read by somebody else: what has to be written there for this conclusion.
fn is_written(conclusion: Conclusion, body: &[u8]) -> bool {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        // Broken in a place that nobody reads, a number that is too large or half a surrogate: no tree to look at.
        let contains = |word: &str| body.windows(word.len()).any(|window| window == word.as_bytes());
        return match conclusion {
            Conclusion::UnknownTransaction => contains("UNKNOWN_TRANSACTION"),
            Conclusion::Landed => contains("FINAL") && (contains("SuccessValue") || contains("SuccessReceiptId")),
            Conclusion::FailedOnChain => contains("FINAL") && contains("Failure"),
        };
    };
    if conclusion == Conclusion::UnknownTransaction {
        return body["error"]["cause"]["name"] == "UNKNOWN_TRANSACTION";
    }
    let result = &body["result"];
    let receipt = &result["transaction_outcome"]["outcome"]["receipt_ids"][0];
    let outcome = result["receipts_outcome"].as_array().and_then(|all| all.iter().find(|one| one["id"] == *receipt));
    let status = outcome.map(|outcome| &outcome["outcome"]["status"]);
    let success = |status: &Value| status.get("SuccessValue").is_some() || status.get("SuccessReceiptId").is_some();
    let failure = |status: &Value| status.get("Failure").is_some();
    result["final_execution_status"] == "FINAL"
        && match conclusion {
            Conclusion::Landed => status.is_some_and(success),
            // A transaction without a receipt may have failed by itself.
            _ => status.map_or_else(
                || failure(&result["status"]) || failure(&result["transaction_outcome"]["outcome"]["status"]),
                failure,
            ),
        }
}

/// Reads as every kind of answer. Returns what it says about a transaction.
fn read(status: u16, body: &[u8]) -> Result<TxStatus, Failure> {
    fn one<T: Parse + std::fmt::Debug>(status: u16, body: &[u8]) -> Result<T, Failure> {
        let answer = wire::decode::<T>(&HttpAnswer { status, retry_after: None, body });
        match &answer {
            // Escapes make it longer, but what is kept of foreign words is bounded.
            Err(failure) => assert!(format!("{failure:?}").len() < 40 * TEXT_MAX, "{failure:?}"),
            // A byte of a number in the JSON may become five when printed, names of fields come on top.
            Ok(value) => {
                let shown = format!("{value:?}").len();
                assert!(shown < 1_000 + 60 * body.len(), "{shown} bytes from {}", body.len());
            }
        }
        answer
    }
    let _ = one::<Account>(status, body);
    let _ = one::<AccessKey>(status, body);
    let _ = one::<AccessKeyChanges>(status, body);
    let _ = one::<AccessKeyList>(status, body);
    let _ = one::<Block>(status, body);
    let _ = one::<CallResult>(status, body);
    let _ = one::<Empty>(status, body);
    let _ = one::<GasPrice>(status, body);
    let _ = one::<ProtocolConfig>(status, body);
    let _ = one::<Status>(status, body);
    let _ = one::<TxHash>(status, body);
    let details = one::<TxDetails>(status, body);
    let answer = one::<TxStatus>(status, body);
    assert!(details.is_err() || details.map(|details| details.status) == answer, "two readings of one status");
    if let Some(conclusion) = conclusion(&answer) {
        assert!(is_written(conclusion, body), "{conclusion:?} from {}", String::from_utf8_lossy(body));
    }
    answer
}

/// An answer that is cut anywhere decides nothing: the request's fate is not known.
#[test]
fn no_part_of_an_answer_is_an_answer() {
    for (status, body) in RECORDED.iter().filter(|(status, body)| *status == 200 && !body.is_empty()) {
        // All ends of small ones, some thousand of large ones.
        for end in (0..body.len()).step_by(1 + body.len() / 4_000) {
            let answer =
                wire::decode::<TxStatus>(&HttpAnswer { status: *status, retry_after: None, body: &body[..end] });
            let failure = answer.expect_err("a part");
            assert_eq!(failure.fate, Fate::Unknown, "the first {end} of {} bytes", body.len());
        }
    }
}

#[test]
fn deep_json_costs_no_stack() {
    for (open, close) in [("[", "]"), (r#"{"result":"#, "}"), (r#"{"error":{"cause":"#, "}}"), (r#"{"data":"#, "}")] {
        let deep = open.repeat(20_000);
        for body in [
            format!("{deep}0{}", close.repeat(20_000)),
            format!(r#"{{"result":{deep}0{}}}"#, close.repeat(20_000)),
            format!(r#"{{"error":{{"data":{deep}0{}}}}}"#, close.repeat(20_000)),
            deep,
        ] {
            assert_eq!(conclusion(&read(200, body.as_bytes())), None);
        }
    }
}

/// Something done to the bytes of an answer.
#[derive(Debug, Clone)]
enum Edit {
    Flip(Index, u8),
    Remove(Index, usize),
    Repeat(Index, usize),
    Insert(Index, Vec<u8>),
    Cut(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    let words = prop_oneof![
        Just("null"),
        Just("{}"),
        Just("[]"),
        Just("\"\""),
        Just("-1"),
        Just("1e999"),
        Just("18446744073709551616"),
        Just("\"FINAL\""),
        Just("\"SuccessValue\":\"\""),
        Just("\"error\":{},"),
        Just("\"result\":null,"),
        Just("}"),
        Just("\\ud800"),
        Just("UNKNOWN_TRANSACTION"),
        Just("\"cause\":{\"name\":\"UNKNOWN_TRANSACTION\"},"),
    ];
    prop_oneof![
        (at(), 0u8..8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        (at(), 1usize..60).prop_map(|(at, len)| Edit::Remove(at, len)),
        (at(), 1usize..200).prop_map(|(at, len)| Edit::Repeat(at, len)),
        (at(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (at(), words).prop_map(|(at, word)| Edit::Insert(at, word.into())),
        at().prop_map(Edit::Cut),
    ]
}

fn apply(body: &mut Vec<u8>, edit: &Edit) {
    let place = |at: &Index| at.index(body.len() + 1);
    match edit {
        Edit::Flip(at, bit) => {
            let at = place(at);
            if let Some(byte) = body.get_mut(at) {
                *byte ^= 1 << bit;
            }
        }
        Edit::Remove(at, len) => {
            let at = place(at);
            body.drain(at..(at + len).min(body.len()));
        }
        Edit::Repeat(at, len) => {
            let at = place(at);
            let piece = body[at..(at + len).min(body.len())].to_vec();
            body.splice(at..at, piece);
        }
        Edit::Insert(at, bytes) => {
            let at = place(at);
            body.splice(at..at, bytes.iter().copied());
        }
        Edit::Cut(at) => body.truncate(place(at)),
    }
}

/// Replaces, removes or moves one of the values inside.
fn rebuild(value: &mut Value, at: usize, by: Option<Value>) {
    fn count(value: &Value) -> usize {
        1 + match value {
            Value::Array(all) => all.iter().map(count).sum(),
            Value::Object(all) => all.values().map(count).sum(),
            _ => 0,
        }
    }
    fn find(value: &mut Value, at: usize) -> &mut Value {
        let mut left = at;
        match value {
            _ if at == 0 => return value,
            Value::Array(all) => {
                for one in all {
                    left -= 1;
                    let inside = count(one);
                    if left < inside {
                        return find(one, left);
                    }
                    left = left + 1 - inside;
                }
            }
            Value::Object(all) => {
                for one in all.values_mut() {
                    left -= 1;
                    let inside = count(one);
                    if left < inside {
                        return find(one, left);
                    }
                    left = left + 1 - inside;
                }
            }
            _ => {}
        }
        unreachable!("no value {at}")
    }
    let at = at % count(value);
    let place = find(value, at);
    match (by, place) {
        (Some(by), place) => *place = by,
        (None, Value::Object(all)) => {
            let first = all.keys().next().cloned();
            first.map(|key| all.remove(&key));
        }
        (None, Value::Array(all)) => all.clear(),
        (None, place) => *place = Value::Null,
    }
}

fn strange() -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(Value::Null)),
        1 => any::<i64>().prop_map(|number| Some(number.into())),
        1 => any::<f64>().prop_map(|number| Some(number.into())),
        1 => "[ -~]{0,40}".prop_map(|text| Some(text.into())),
        1 => "\\PC{0,400}".prop_map(|text| Some(text.into())),
        2 => prop_oneof![Just("FINAL"), Just("EXECUTED"), Just("Unknown"), Just("UNKNOWN_TRANSACTION"), Just("SuccessValue")]
            .prop_map(|word| Some(word.into())),
        // A piece of another answer.
        3 => (any::<Index>(), any::<Index>()).prop_map(|(which, at)| {
            let (_, answer) = &JSON[which.index(JSON.len())];
            let mut place = answer;
            for _ in 0..3 {
                let inner: Vec<&Value> = match place {
                    Value::Array(all) => all.iter().collect(),
                    Value::Object(all) => all.values().collect(),
                    _ => break,
                };
                match inner.get(at.index(inner.len().max(1))) {
                    Some(value) => place = value,
                    None => break,
                }
            }
            Some(place.clone())
        }),
    ]
}

fn http_status() -> impl Strategy<Value = Option<u16>> {
    prop_oneof![4 => Just(None), 1 => prop_oneof![Just(200), Just(400), Just(408), Just(422), Just(429), Just(500), Just(503)].prop_map(Some)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn anything_at_all(status in 100u16..600, body in vec(any::<u8>(), 0..300)) {
        read(status, &body).expect_err("noise");
    }

    #[test]
    fn garbled_answers(which in any::<Index>(), status in http_status(), edits in vec(edit(), 1..6)) {
        let (recorded, body) = &RECORDED[which.index(RECORDED.len())];
        let mut body = body.clone();
        for edit in &edits {
            apply(&mut body, edit);
        }
        let _ = read(status.unwrap_or(*recorded), &body);
    }

    #[test]
    fn rebuilt_answers(which in any::<Index>(), status in http_status(), changes in vec((any::<usize>(), strange()), 1..5)) {
        let (recorded, value) = &JSON[which.index(JSON.len())];
        let mut value = value.clone();
        for (at, by) in changes {
            rebuild(&mut value, at, by);
        }
        let status = status.unwrap_or(*recorded);
        let answer = read(status, value.to_string().as_bytes());
        // What stands between us and a node says nothing about a transaction.
        if status == 429 || status >= 500 {
            prop_assert_eq!(answer.unwrap_err().fate, Fate::Unknown);
        }
    }

    /// A pause that a node asks for is told as it is, whatever comes with it.
    #[test]
    fn refusals_keep_their_pause(seconds in any::<u32>(), body in vec(any::<u8>(), 0..100)) {
        let pause = Some(Duration::from_secs(seconds.into()));
        let failure = wire::decode::<TxStatus>(&HttpAnswer { status: 429, retry_after: pause, body: &body }).unwrap_err();
        prop_assert_eq!((failure.fate, failure.retry_after), (Fate::Unknown, pause));
    }
}
