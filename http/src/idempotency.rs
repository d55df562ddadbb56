//! Names that clients give to transfers: the header `Idempotency-Key` and the field `idempotencyKey`.
//!
//! Whoever sends the same name again means the same transfer. The header names a request: its only transfer is `K`, item
//! `i` of several is `K#i`, from 0. A transfer's own field names that transfer and wins.
use std::collections::HashSet;

use http::{HeaderMap, HeaderName, HeaderValue};
use keyshard_engine::{IdempotencyKey, NewTransfer};

/// The request header.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Header of an answer that is about transfers accepted before.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Longest name in bytes, without the `#i` of an item.
pub(crate) const MAX_BYTES: usize = 255;

const SEVERAL: &str = "Idempotency-Key must be given once";
const BAD_HEADER: &str = "Idempotency-Key must be 1 to 255 printable ASCII characters";
pub(crate) const BAD_FIELD: &str = "idempotencyKey must be a string of 1 to 255 printable ASCII characters";
pub(crate) const NOT_HERE: &str =
    "idempotencyKey belongs to each transfer of a batch; the header Idempotency-Key names the request as a whole";

/// Whether this may be a name: what can stand in a header, and in a log line, as it is.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The name that the header gives to a request, if it is there. A value in quotes is taken for the string that it stands
/// for (RFC 8941, as the header's Internet-Draft has it), any other as it is.
pub(crate) fn of_request(headers: &HeaderMap) -> Result<Option<String>, &'static str> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(SEVERAL);
    }
    let name = value.to_str().ok().and_then(unquoted).filter(|name| is_name(name));
    name.map(Some).ok_or(BAD_HEADER)
}

/// Gives the transfers of a request their names: `request` is what [`of_request`] found. A name that two of them would
/// have is an error that says which.
pub(crate) fn name(transfers: &mut [NewTransfer], request: Option<&str>) -> Result<(), String> {
    let count = transfers.len();
    if let Some(request) = request {
        for (index, transfer) in transfers.iter_mut().enumerate().filter(|(_, transfer)| transfer.key.is_none()) {
            let name = if count == 1 { request.into() } else { format!("{request}#{index}").into_boxed_str() };
            transfer.key = Some(IdempotencyKey { name, of: count as u32 });
        }
    }
    if count < 2 {
        return Ok(());
    }
    let mut names = HashSet::new();
    let twice = transfers.iter().filter_map(|transfer| transfer.key.as_ref()).find(|key| !names.insert(&*key.name));
    twice.map_or(Ok(()), |key| Err(format!("idempotencyKey {:?} names two transfers of this request", key.name)))
}

/// The header of an answer to a request that was sent before.
pub(crate) fn replayed() -> (HeaderName, HeaderValue) {
    (REPLAYED, HeaderValue::from_static("true"))
}

fn unquoted(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else { return Some(text.to_owned()) };
    let mut chars = quoted.strip_suffix('"')?.chars();
    let mut name = String::new();
    while let Some(c) = chars.next() {
        match c {
            '"' => return None,
            '\\' => name.push(chars.next().filter(|c| matches!(c, '"' | '\\'))?),
            c => name.push(c),
        }
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&[u8]]) -> Result<Option<String>, &'static str> {
        of_request(&values.iter().map(|value| (HEADER, HeaderValue::from_bytes(value).unwrap())).collect())
    }

    #[test]
    fn headers() {
        let (longest, too_long) = ("k".repeat(255), "k".repeat(256));
        for (given, name) in [
            ("order-17", "order-17"),
            ("a b/c?d#e~!", "a b/c?d#e~!"),
            ("\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            (r#""a \"b\" \\c""#, r#"a "b" \c"#),
            ("a\"b", "a\"b"),
            (longest.as_str(), longest.as_str()),
        ] {
            assert_eq!(of(&[given.as_bytes()]), Ok(Some(name.to_owned())), "{given}");
        }
        assert_eq!(of(&[]), Ok(None));
        for bad in ["", "\"", "\"\"", "\"a", "\"a\"b\"", r#""a\x""#, r#""a\""#, "a\tb", "é", too_long.as_str()] {
            assert_eq!(of(&[bad.as_bytes()]), Err(BAD_HEADER), "{bad:?}");
        }
        assert_eq!(of(&[b"\xff"]), Err(BAD_HEADER));
        assert_eq!(of(&[b"a", b"a"]), Err(SEVERAL));
    }

    fn transfers(own: &[Option<&str>]) -> Vec<NewTransfer> {
        let key = |name: &str| IdempotencyKey { name: name.into(), of: 1 };
        own.iter()
            .map(|own| NewTransfer {
                receiver: "alice.near".parse().unwrap(),
                amount: 1,
                memo: None,
                key: own.map(key),
            })
            .collect()
    }

    #[test]
    fn names() {
        let long = "k".repeat(255);
        for (own, request, expected) in [
            (&[None][..], None, vec![None]),
            (&[None], Some("K"), vec![Some(("K", 1))]),
            (&[Some("own")], Some("K"), vec![Some(("own", 1))]),
            (&[None, None], Some("K"), vec![Some(("K#0", 2)), Some(("K#1", 2))]),
            (&[None, Some("own"), None], Some("K"), vec![Some(("K#0", 3)), Some(("own", 1)), Some(("K#2", 3))]),
            (&[None, Some("own")], None, vec![None, Some(("own", 1))]),
            (&[Some("K#1"), Some("x")], Some("K"), vec![Some(("K#1", 1)), Some(("x", 1))]),
            (&[], Some(long.as_str()), vec![]),
        ] {
            let mut named = transfers(own);
            name(&mut named, request).unwrap();
            let found: Vec<_> =
                named.iter().map(|transfer| transfer.key.as_ref().map(|key| (&*key.name, key.of))).collect();
            assert_eq!(found, expected);
        }
        for (own, request) in [(&[Some("a"), None, Some("a")][..], None), (&[Some("K#1"), None], Some("K"))] {
            let error = name(&mut transfers(own), request).unwrap_err();
            assert!(error.ends_with("names two transfers of this request"), "{error}");
        }
    }
}
