//! Turns the body of `POST /send-ft` into transfers, or says why not: the Node service's texts, in its order.
//!
//! Stricter than the Node service where it let values through that no token can pay and that took their whole batch down
//! with them: amounts are decimal digits (or JSON integers up to 2^53), memos are strings, receivers are account ids.
//! Nothing here recurses, so deeply nested JSON costs no stack.
use std::{borrow::Cow, collections::BTreeMap};

use keyshard_engine::{IdempotencyKey, NewTransfer};
use near_primitives::types::AccountId;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::idempotency;

/// Longest memo in bytes. The token repeats a memo, JSON-escaped (at most sixfold), in its event, and the protocol allows
/// a log of 16,384 bytes.
pub const MAX_MEMO_BYTES: usize = 1_024;
/// Largest amount, as in the Node service.
const MAX_AMOUNT: u128 = 10u128.pow(30);
/// Largest JSON integer: beyond it, JavaScript clients have already lost digits.
const MAX_JSON_INTEGER: u128 = 1 << 53;
/// Most parameters of a form, as in the Node service.
const MAX_FORM_FIELDS: usize = 1_000;

const NEITHER: &str = "Either provide receiverId/amount for single transfer, or transfers array for batch transfer";
const BOTH_NEEDED: &str = "Each transfer must have receiverId and amount";
const BAD_RECEIVER: &str = "Invalid receiverId format. Must be a valid NEAR account ID (2-64 characters, lowercase alphanumeric with underscores, hyphens, and dots only)";
const SELF_TRANSFER: &str = "Invalid receiverId: the paying account cannot pay itself";
const NOT_POSITIVE: &str = "amount must be a positive number";
const TOO_LARGE: &str = "amount too large. Maximum allowed: 1e30";
const MEMO_TYPE: &str = "memo must be a string";
const MEMO_LENGTH: &str = "memo too long. Maximum allowed: 1024 bytes";

/// Why nothing of a request is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalid {
    /// The body is not JSON at all.
    Syntax(String),
    /// The body is JSON, but no transfer.
    Request(&'static str),
    /// The form has too many parameters.
    TooManyFields,
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// At least one, unless the client sent an empty array.
    pub transfers: Vec<NewTransfer>,
}

/// The fields that count, each still as JSON text. Given twice, a field is refused: two readers could see two payments.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, rename = "receiverId")]
    receiver: Option<&'a RawValue>,
    #[serde(borrow)]
    amount: Option<&'a RawValue>,
    #[serde(borrow)]
    memo: Option<&'a RawValue>,
    #[serde(borrow, rename = "idempotencyKey")]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    transfers: Option<&'a RawValue>,
}

/// One value of a request, as far as it matters here.
#[derive(Clone)]
enum Value<'a> {
    /// Not given, or null.
    None,
    String(Cow<'a, str>),
    /// The text of a number.
    Number(&'a str),
    Bool(bool),
    /// An array, an object or a broken string.
    Other,
}

/// The values of one transfer.
struct Given<'a> {
    receiver: Value<'a>,
    amount: Value<'a>,
    memo: Value<'a>,
    key: Value<'a>,
}

/// Reads a JSON body. `account` is the one that pays.
pub fn json(body: &[u8], account: &AccountId) -> Result<Request, Invalid> {
    let fields = match first_byte(body) {
        None => return Err(Invalid::Request(NEITHER)),
        Some(b'{') => serde_json::from_slice::<Fields<'_>>(body).map_err(syntax)?,
        Some(b'[') => {
            serde_json::from_slice::<&RawValue>(body).map_err(syntax)?;
            return Err(Invalid::Request(NEITHER));
        }
        Some(_) => return Err(Invalid::Syntax("it must begin with { or [".into())),
    };
    match fields.transfers {
        Some(array) if array.get().starts_with('[') => {
            if !matches!(Value::of(fields.key), Value::None) {
                // To ignore it would leave a client that relies on it unprotected.
                return Err(Invalid::Request(idempotency::NOT_HERE));
            }
            let elements: Vec<&RawValue> = serde_json::from_str(array.get()).map_err(syntax)?;
            let transfers = elements.into_iter().map(|element| self::element(element.get(), account));
            Ok(Request { transfers: transfers.collect::<Result<_, _>>()? })
        }
        _ => single(&Given::of(&fields), account),
    }
}

/// Reads an `application/x-www-form-urlencoded` body: `receiverId=..&amount=..&memo=..` or `transfers[0][receiverId]=..&..`.
/// Other names are ignored.
pub fn form(body: &[u8], account: &AccountId) -> Result<Request, Invalid> {
    let mut alone = Given::NOTHING;
    // In the order of their indices; what is left out between them is no transfer.
    let mut elements: BTreeMap<usize, Given<'_>> = BTreeMap::new();
    for (index, (name, value)) in form_urlencoded::parse(body).enumerate() {
        if index >= MAX_FORM_FIELDS {
            return Err(Invalid::TooManyFields);
        }
        let (given, name) = match element_field(&name) {
            Some((index, name)) => (elements.entry(index).or_insert(Given::NOTHING), name),
            None => (&mut alone, name.as_ref()),
        };
        let field = match name {
            "receiverId" => &mut given.receiver,
            "amount" => &mut given.amount,
            "memo" => &mut given.memo,
            "idempotencyKey" => &mut given.key,
            _ => continue,
        };
        if !matches!(field, Value::None) {
            return Err(Invalid::Syntax("a field is given twice".into()));
        }
        *field = Value::String(value);
    }
    if elements.is_empty() {
        return single(&alone, account);
    }
    if !matches!(alone.key, Value::None) {
        return Err(Invalid::Request(idempotency::NOT_HERE));
    }
    let transfers = elements.values().map(|given| transfer(given, account));
    Ok(Request { transfers: transfers.collect::<Result<_, _>>()? })
}

/// Index and field of a form's `transfers[0][amount]`.
fn element_field(name: &str) -> Option<(usize, &str)> {
    let (index, field) = name.strip_prefix("transfers[")?.strip_suffix(']')?.split_once("][")?;
    let digits = (1..=3).contains(&index.len()) && index.bytes().all(|byte| byte.is_ascii_digit());
    Some((index.parse().ok().filter(|_| digits)?, field))
}

fn single(given: &Given<'_>, account: &AccountId) -> Result<Request, Invalid> {
    if !given.receiver.is_truthy() || matches!(given.amount, Value::None) {
        return Err(Invalid::Request(NEITHER));
    }
    Ok(Request { transfers: vec![transfer(given, account)?] })
}

fn element(text: &str, account: &AccountId) -> Result<NewTransfer, Invalid> {
    if !text.starts_with('{') {
        return Err(Invalid::Request(BOTH_NEEDED));
    }
    let fields: Fields<'_> = serde_json::from_str(text).map_err(syntax)?;
    transfer(&Given::of(&fields), account)
}

fn transfer(given: &Given<'_>, account: &AccountId) -> Result<NewTransfer, Invalid> {
    let Given { receiver, amount, memo, key } = given;
    if !receiver.is_truthy() || matches!(amount, Value::None) {
        return Err(Invalid::Request(BOTH_NEEDED));
    }
    let Value::String(receiver) = receiver else { return Err(Invalid::Request(BAD_RECEIVER)) };
    let receiver: AccountId = receiver.parse().map_err(|_| Invalid::Request(BAD_RECEIVER))?;
    let amount = match amount {
        Value::String(text) => units(text)?,
        // Some languages write whole numbers so.
        Value::Number(text) => units(
            text.split_once('.').filter(|(_, rest)| all_zeros(rest)).map_or(text, |(whole, _)| whole),
        )
        .and_then(|units| if units > MAX_JSON_INTEGER { Err(Invalid::Request(NOT_POSITIVE)) } else { Ok(units) })?,
        Value::None | Value::Bool(_) | Value::Other => return Err(Invalid::Request(NOT_POSITIVE)),
    };
    if receiver == *account {
        return Err(Invalid::Request(SELF_TRANSFER));
    }
    let memo = match memo {
        Value::None => None,
        Value::String(text) if text.len() > MAX_MEMO_BYTES => return Err(Invalid::Request(MEMO_LENGTH)),
        Value::String(text) => Some(text.clone().into_owned()),
        _ => return Err(Invalid::Request(MEMO_TYPE)),
    };
    let key = match key {
        Value::None => None,
        Value::String(name) if idempotency::is_name(name) => Some(IdempotencyKey { name: name.as_ref().into(), of: 1 }),
        _ => return Err(Invalid::Request(idempotency::BAD_FIELD)),
    };
    Ok(NewTransfer { receiver, amount, memo, key })
}

fn all_zeros(digits: &str) -> bool {
    !digits.is_empty() && digits.bytes().all(|byte| byte == b'0')
}

/// Raw token units from decimal digits.
fn units(text: &str) -> Result<u128, Invalid> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits alone do not parse only when they are too many.
        return match text.parse::<u128>() {
            Ok(0) => Err(Invalid::Request(NOT_POSITIVE)),
            Ok(units) if units <= MAX_AMOUNT => Ok(units),
            Ok(_) | Err(_) => Err(Invalid::Request(TOO_LARGE)),
        };
    }
    // Not an amount; the text is the one that the Node service gives, which reads it as a floating-point number.
    let number = text.trim().trim_start_matches('+');
    let is_decimal = number.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    let too_large = number == "Infinity" || (is_decimal && number.parse::<f64>().is_ok_and(|number| number > 1e30));
    Err(Invalid::Request(if too_large { TOO_LARGE } else { NOT_POSITIVE }))
}

impl<'a> Given<'a> {
    const NOTHING: Self = Self { receiver: Value::None, amount: Value::None, memo: Value::None, key: Value::None };

    fn of(fields: &Fields<'a>) -> Self {
        let Fields { receiver, amount, memo, key, transfers: _ } = *fields;
        Self { receiver: Value::of(receiver), amount: Value::of(amount), memo: Value::of(memo), key: Value::of(key) }
    }
}

impl<'a> Value<'a> {
    fn of(raw: Option<&'a RawValue>) -> Self {
        let Some(text) = raw.map(RawValue::get) else { return Self::None };
        match text.as_bytes()[0] {
            b'"' if !text.contains('\\') => Self::String(Cow::Borrowed(&text[1..text.len() - 1])),
            b'"' => serde_json::from_str(text).map_or(Self::Other, |text: String| Self::String(Cow::Owned(text))),
            b't' => Self::Bool(true),
            b'f' => Self::Bool(false),
            b'n' => Self::None,
            b'-' | b'0'..=b'9' => Self::Number(text),
            _ => Self::Other,
        }
    }

    /// As in JavaScript.
    fn is_truthy(&self) -> bool {
        match self {
            Self::None => false,
            Self::String(text) => !text.is_empty(),
            Self::Number(text) => text.parse::<f64>().is_ok_and(|number| number != 0.0),
            Self::Bool(value) => *value,
            Self::Other => true,
        }
    }
}

fn first_byte(body: &[u8]) -> Option<u8> {
    body.iter().copied().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
}

#[expect(clippy::needless_pass_by_value, reason = "used in map_err")]
fn syntax(error: serde_json::Error) -> Invalid {
    Invalid::Syntax(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Request, Invalid> {
        json(body.as_bytes(), &"payer.near".parse().unwrap())
    }

    fn refusal(body: &str) -> &'static str {
        match read(body) {
            Err(Invalid::Request(text)) => text,
            other => panic!("{body}: {other:?}"),
        }
    }

    fn single_of(receiver: &str, amount: &str) -> String {
        format!(r#"{{"receiverId":{receiver},"amount":{amount}}}"#)
    }

    #[test]
    fn neither_single_nor_batch() {
        for body in [
            "",
            "{}",
            "[]",
            " [1,2]",
            r#"{"amount":"1000000"}"#,
            r#"{"receiverId":"alice.near"}"#,
            r#"{"receiverId":"alice.near","amount":null}"#,
            r#"{"receiverId":"","amount":"1"}"#,
            r#"{"receiverId":0,"amount":"1"}"#,
            r#"{"receiverId":false,"amount":"1"}"#,
            r#"{"transfers":{"receiverId":"alice.near","amount":"1"}}"#,
            r#"{"transfers":null}"#,
        ] {
            assert_eq!(refusal(body), NEITHER, "{body}");
        }
    }

    #[test]
    fn not_json() {
        for body in [
            "{",
            "x",
            "17",
            "\"a\"",
            "null",
            r#"{"receiverId":"a.near" "amount":1}"#,
            r#"{"receiverId":"a.near","amount":01}"#,
            r#"{"receiverId":"a.near","amount":1}}"#,
            r#"{"receiverId":"a.near","amount":1,"amount":2}"#,
            r#"{"receiverId":"a.near","amount":NaN}"#,
            "[1,",
        ] {
            assert!(matches!(read(body), Err(Invalid::Syntax(_))), "{body}: {:?}", read(body));
        }
        assert!(matches!(
            json(b"{\"receiverId\":\"\xff\xff.near\",\"amount\":1}", &"p.near".parse().unwrap()),
            Err(Invalid::Syntax(_))
        ));
    }

    #[test]
    fn single_beside_ignored_fields() {
        let body = r#"{"x":[{}],"receiverId":"alice.near","amount":"1000000","memo":"hi \u00e9","transfers":"no"}"#;
        let expected = NewTransfer {
            receiver: "alice.near".parse().unwrap(),
            amount: 1_000_000,
            memo: Some("hi é".into()),
            key: None,
        };
        assert_eq!(read(body).unwrap().transfers, [expected]);
    }

    #[test]
    fn a_batch_wins_over_a_single_and_may_be_empty() {
        let body = r#"{"receiverId":"x","amount":"bad","transfers":[{"receiverId":"a1.near","amount":"1","memo":null},{"receiverId":"b2.near","amount":2}]}"#;
        let transfers = read(body).unwrap().transfers;
        assert_eq!(
            transfers.iter().map(|t| (t.receiver.as_str(), t.amount)).collect::<Vec<_>>(),
            [("a1.near", 1), ("b2.near", 2)]
        );
        assert!(read(r#"{"transfers":[]}"#).unwrap().transfers.is_empty());
    }

    #[test]
    fn batch_elements_are_checked_in_order() {
        for (elements, text) in [
            (r"{}", BOTH_NEEDED),
            (r"null", BOTH_NEEDED),
            (r"[]", BOTH_NEEDED),
            (r#""a.near""#, BOTH_NEEDED),
            (r#"{"receiverId":"a.near"}"#, BOTH_NEEDED),
            (r#"{"receiverId":"a..near","amount":"0"},{}"#, BAD_RECEIVER),
            (r#"{"receiverId":"ab.near","amount":"0"},{"receiverId":"A"}"#, NOT_POSITIVE),
            (r#"{"receiverId":"ab.near","amount":"1"},{"receiverId":"A","amount":1}"#, BAD_RECEIVER),
        ] {
            assert_eq!(refusal(&format!(r#"{{"transfers":[{elements}]}}"#)), text, "{elements}");
        }
    }

    #[test]
    fn receivers() {
        let hex = "a".repeat(64);
        let eth = format!("0x{}", "f".repeat(40));
        for good in ["ab", "alice.near", "user.test.near", "a.near", "a_b-c.near", &eth, &hex] {
            let body = single_of(&format!("\"{good}\""), "\"1\"");
            assert_eq!(read(&body).unwrap().transfers[0].receiver.as_str(), good);
        }
        let long = "a".repeat(65);
        let dotted = format!("{}.near", "ab.".repeat(30));
        for bad in [
            "x",
            "Alice.near",
            "a..b",
            "invalid..account",
            ".near",
            "near.",
            &long,
            &dotted,
            "alice.near\\n",
            " near-badge.testnet",
            "x.testnet,y.testnet",
            "-a.near",
            "a_-b.near",
            "a b",
            "é.near",
            "\\ud800",
            "a\\u0000b",
        ] {
            assert_eq!(refusal(&single_of(&format!("\"{bad}\""), "\"1\"")), BAD_RECEIVER, "{bad}");
        }
        for bad in ["12", "true", "[\"alice.near\"]", "{}"] {
            assert_eq!(refusal(&single_of(bad, "\"1\"")), BAD_RECEIVER, "{bad}");
        }
    }

    #[test]
    fn amounts() {
        let max = format!("\"1{}\"", "0".repeat(30));
        for (given, units) in [
            ("\"1\"", 1),
            ("\"007\"", 7),
            ("1", 1),
            ("1.0", 1),
            ("9007199254740992.000", 1 << 53),
            ("9007199254740992", 1 << 53),
            ("\"9007199254740993\"", (1 << 53) + 1),
            (max.as_str(), MAX_AMOUNT),
            ("\"\\u0031\"", 1),
        ] {
            assert_eq!(read(&single_of("\"al.near\"", given)).unwrap().transfers[0].amount, units, "{given}");
        }
        for bad in [
            "\"0\"",
            "0",
            "-1",
            "\"-1\"",
            "\"\"",
            "\"abc\"",
            "\"1_000\"",
            "true",
            "false",
            "{}",
            "[5]",
            "\"1.5\"",
            "1.5",
            "1.00000000000000000001",
            "1.0e1",
            "0.0",
            "-1.0",
            "9007199254740993.0",
            "\"1.0\"",
            "\"1e5\"",
            "1e5",
            "1e21",
            "\"0x10\"",
            "\"0b11\"",
            "\"+5\"",
            "\" 5 \"",
            "\"1e-7\"",
            "9007199254740993",
            "12345678901234567890",
            "\"٣\"",
            "\"-1e31\"",
            "\"NaN\"",
        ] {
            assert_eq!(refusal(&single_of("\"al.near\"", bad)), NOT_POSITIVE, "{bad}");
        }
        let digits = format!("\"{}\"", "9".repeat(500));
        for bad in [
            "\"1e31\"",
            "1e31",
            "1e999",
            "\"Infinity\"",
            "\"1000000000000000000000000000001\"",
            "340282366920938463463374607431768211456",
            "\"340282366920938463463374607431768211456\"",
            &digits,
        ] {
            assert_eq!(refusal(&single_of("\"al.near\"", bad)), TOO_LARGE, "{bad}");
        }
    }

    #[test]
    fn memos() {
        let with = |memo: &str| format!(r#"{{"receiverId":"al.near","amount":"1","memo":{memo}}}"#);
        let longest = format!("\"{}\"", "m".repeat(MAX_MEMO_BYTES));
        for (given, memo) in
            [("null", None), ("\"\"", Some("")), ("\"a\\\"b\"", Some("a\"b")), (longest.as_str(), None)]
        {
            let read = read(&with(given)).unwrap().transfers.remove(0).memo;
            assert!(memo.is_none() && given.len() > 100 || read.as_deref() == memo, "{given}");
        }
        for bad in ["1", "true", "{}", "[]", "\"\\ud800\""] {
            assert_eq!(refusal(&with(bad)), MEMO_TYPE, "{bad}");
        }
        assert_eq!(refusal(&with(&format!("\"{}\"", "é".repeat(MAX_MEMO_BYTES / 2 + 1)))), MEMO_LENGTH);
    }

    #[test]
    fn idempotency_keys() {
        let with = |key: &str| format!(r#"{{"receiverId":"al.near","amount":"1","idempotencyKey":{key}}}"#);
        let longest = format!("\"{}\"", "k".repeat(idempotency::MAX_BYTES));
        for (given, name) in [
            ("null", None),
            ("\"run 7/3\"", Some("run 7/3")),
            ("\"\\u0041\\\"\"", Some("A\"")),
            (longest.as_str(), Some(longest.trim_matches('"'))),
        ] {
            let expected = name.map(|name| IdempotencyKey { name: name.into(), of: 1 });
            assert_eq!(read(&with(given)).unwrap().transfers[0].key, expected, "{given}");
        }
        let too_long = format!("\"{}\"", "k".repeat(idempotency::MAX_BYTES + 1));
        for bad in ["\"\"", "7", "true", "[]", "{}", "\"é\"", "\"a\\nb\"", "\"a\\u0000\"", "\"\\ud800\"", &too_long] {
            assert_eq!(refusal(&with(bad)), idempotency::BAD_FIELD, "{bad}");
        }
        // Of a batch, every transfer has its own; a name beside the array is none of them.
        let element = with("\"a\"");
        let batch = format!(r#"{{"transfers":[{element},{}]}}"#, with("null"));
        let names: Vec<_> = read(&batch).unwrap().transfers.into_iter().map(|transfer| transfer.key).collect();
        assert_eq!(names, [Some(IdempotencyKey { name: "a".into(), of: 1 }), None]);
        let beside = format!(r#"{{"transfers":[{element}],"idempotencyKey":"b"}}"#);
        assert_eq!(refusal(&beside), idempotency::NOT_HERE);
        assert!(matches!(
            read(r#"{"receiverId":"al.near","amount":"1","idempotencyKey":"a","idempotencyKey":"a"}"#),
            Err(Invalid::Syntax(_))
        ));
        let form = |body: &str| form(body.as_bytes(), &"payer.near".parse().unwrap());
        let named = form("receiverId=al.near&amount=1&idempotencyKey=a+b%23").unwrap().transfers.remove(0).key;
        assert_eq!(named, Some(IdempotencyKey { name: "a b#".into(), of: 1 }));
        assert_eq!(form("receiverId=al.near&amount=1&idempotencyKey="), Err(Invalid::Request(idempotency::BAD_FIELD)));
    }

    #[test]
    fn nobody_pays_himself() {
        assert_eq!(refusal(&single_of("\"payer.near\"", "\"1\"")), SELF_TRANSFER);
        assert_eq!(refusal(&single_of("\"payer.near\"", "\"x\"")), NOT_POSITIVE);
    }

    #[test]
    fn the_texts_are_the_node_services() {
        for (text, expected) in [
            (NEITHER, "Either provide receiverId/amount for single transfer, or transfers array for batch transfer"),
            (BOTH_NEEDED, "Each transfer must have receiverId and amount"),
            (
                BAD_RECEIVER,
                "Invalid receiverId format. Must be a valid NEAR account ID (2-64 characters, lowercase alphanumeric with underscores, hyphens, and dots only)",
            ),
            (NOT_POSITIVE, "amount must be a positive number"),
            (TOO_LARGE, "amount too large. Maximum allowed: 1e30"),
        ] {
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn deep_json_costs_no_stack() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert_eq!(refusal(&format!(r#"{{"x":{deep}}}"#)), NEITHER);
        assert_eq!(refusal(&single_of("\"al.near\"", &deep)), NOT_POSITIVE);
        assert_eq!(refusal(&format!(r#"{{"transfers":[{deep}]}}"#)), BOTH_NEEDED);
        assert_eq!(refusal(&deep), NEITHER);
        assert!(matches!(read(&"[".repeat(1_000_000)), Err(Invalid::Syntax(_))));
    }

    #[test]
    fn flat_forms() {
        let read = |body: &str| form(body.as_bytes(), &"payer.near".parse().unwrap());
        let transfers = read("receiverId=alice.near&amount=12&memo=a+b%21").unwrap().transfers;
        assert_eq!(
            transfers,
            [NewTransfer { receiver: "alice.near".parse().unwrap(), amount: 12, memo: Some("a b!".into()), key: None }]
        );
        assert_eq!(read("amount=12"), Err(Invalid::Request(NEITHER)));
        assert_eq!(read("receiverId=alice.near&amount=1.5"), Err(Invalid::Request(NOT_POSITIVE)));
        assert!(matches!(read("receiverId=a.near&receiverId=b.near&amount=1"), Err(Invalid::Syntax(_))));
        assert_eq!(read(&"x=1&".repeat(1_001)), Err(Invalid::TooManyFields));
    }

    #[test]
    fn forms_with_many_transfers() {
        let read = |body: &str| form(body.as_bytes(), &"payer.near".parse().unwrap());
        let transfers = read(
            "transfers[7][receiverId]=bob.near&transfers%5B0%5D%5BreceiverId%5D=al.near&transfers[7][amount]=2\
             &transfers[0][amount]=1&receiverId=other.near&transfers[0][memo]=m",
        );
        let shown: Vec<_> =
            transfers.unwrap().transfers.into_iter().map(|t| (t.receiver.to_string(), t.amount, t.memo)).collect();
        assert_eq!(shown, [("al.near".to_owned(), 1, Some("m".to_owned())), ("bob.near".to_owned(), 2, None)]);
        let half = "transfers[0][receiverId]=al.near&transfers[0][amount]=1&transfers[1][amount]=1";
        assert_eq!(read(half), Err(Invalid::Request(BOTH_NEEDED)));
        let named = "transfers[0][receiverId]=al.near&transfers[0][amount]=1&idempotencyKey=a";
        assert_eq!(read(named), Err(Invalid::Request(idempotency::NOT_HERE)));
        for other in [
            "transfers[][amount]=1",
            "transfers[x][amount]=1",
            "transfers[1000][amount]=1",
            "transfers[+1][amount]=1",
            "transfers=1",
        ] {
            assert_eq!(read(other), Err(Invalid::Request(NEITHER)), "{other}");
        }
    }
}
