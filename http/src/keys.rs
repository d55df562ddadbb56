//! The forms in which private keys are given: a JSON array, comma-separated, one alone; quoted or not, with or without prefix.
//!
//! No error here repeats any part of a key.
use near_crypto::SecretKey;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::secret::{Secret, wipe};

/// Most keys in one configuration. Each key takes a ring for every front-end thread and a nonce query at start; the
/// chain executes about 15 full transactions a block, so hundreds of keys gain nothing.
pub const MAX_KEYS: usize = 1_024;

/// Names of the private key in an element of a JSON array.
const FIELDS: [&str; 4] = ["private_key", "privateKey", "key", "secretKey"];

/// Keys in the form of `MASTER_ACCOUNT_PRIVATE_KEYS`, without duplicates. May be empty.
///
/// The error says which element is wrong, never what it holds.
pub fn parse_many(text: &str) -> Result<Vec<Secret>, String> {
    let text = unquote(text);
    if text.is_empty() {
        return Ok(Vec::new());
    }
    if text.starts_with('{') {
        return Err("is a single JSON object; put it into a JSON array: [{\"private_key\":\"ed25519:...\"}]".into());
    }
    let texts: Vec<Zeroizing<String>> = if text.starts_with('[') {
        let elements: Vec<Value> = serde_json::from_str(text).map_err(|_| {
            "begins with [ but is not a JSON array of strings or objects (were its quotes lost in a shell?)".to_owned()
        })?;
        elements.into_iter().filter_map(element).map(Zeroizing::new).collect()
    } else {
        let texts = text.split(',').map(str::trim).filter(|key| !key.is_empty());
        texts.map(|key| Zeroizing::new(key.to_owned())).collect()
    };
    if texts.len() > MAX_KEYS {
        return Err(format!("holds {} keys; at most {MAX_KEYS} are supported", texts.len()));
    }
    let mut keys: Vec<Secret> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let key = parse_one(text).map_err(|why| format!("key {} of {} {why}", index + 1, texts.len()))?;
        if !keys.iter().any(|known| known.public_key() == key.public_key()) {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// One key: quotes, a missing `ed25519:` prefix and stray white space are forgiven.
pub fn parse_one(text: &str) -> Result<Secret, &'static str> {
    let text = unquote(text);
    let (prefix, data) = match text.split_once(':') {
        Some((prefix @ ("ed25519" | "secp256k1"), data)) => (prefix, data),
        _ => ("ed25519", text),
    };
    // As long as it can get, from the start: a string that grows leaves copies behind.
    let mut clean = Zeroizing::new(String::with_capacity(prefix.len() + 1 + data.len()));
    clean.push_str(prefix);
    clean.push(':');
    clean.extend(data.chars().filter(|c| !c.is_whitespace()));
    let mut parsed: SecretKey =
        clean.parse().map_err(|_| "is not a private key of the form ed25519:<base58 of 64 bytes>")?;
    let key = Secret::new(parsed.clone());
    wipe(&mut parsed);
    if let SecretKey::ED25519(pair) = key.expose()
        && ed25519_dalek::SigningKey::from_keypair_bytes(&pair.0).is_err()
    {
        return Err("is damaged: its secret and its public half do not belong together");
    }
    Ok(key)
}

/// The key in an element of a JSON array. Elements without one are left out, as in the Node service.
fn element(value: Value) -> Option<String> {
    match value {
        Value::String(key) => Some(key),
        Value::Object(mut fields) => FIELDS.iter().find_map(|name| match fields.get_mut(*name)? {
            Value::String(key) => Some(std::mem::take(key)),
            _ => None,
        }),
        _ => None,
    }
}

/// Trims, and strips one pair of outer quotes.
fn unquote(text: &str) -> &str {
    let text = text.trim();
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote)) {
            return inner.trim();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use near_crypto::KeyType;

    use super::*;

    fn keys() -> (String, String) {
        let key = |seed| SecretKey::from_seed(KeyType::ED25519, seed).to_string();
        (key("a"), key("b"))
    }

    fn shown(text: &str) -> Vec<String> {
        parse_many(text).unwrap().iter().map(|key| key.expose().to_string()).collect()
    }

    #[test]
    fn every_form_gives_the_same_two_keys() {
        let (a, b) = keys();
        let bare = a.trim_start_matches("ed25519:");
        for text in [
            format!("{a},{b}"),
            format!("  {a} ,\n{b},"),
            format!("'{a},{b}'"),
            format!("{bare},\"{b}\""),
            format!("ed25519: {bare},{b}"),
            format!("[\"{a}\",\"{b}\"]"),
            format!("'[\"{a}\", \"{bare}\", \"{b}\"]'"),
            format!(
                "[{{\"private_key\":\"{a}\",\"account_id\":\"other.near\"}},{{\"secretKey\":\"{b}\"}},{{\"account\":\"x\"}}]"
            ),
            format!("[{{\"privateKey\":\"{a}\"}},{{\"key\":\"{b}\"}},17,null]"),
        ] {
            assert_eq!(shown(&text), [a.clone(), b.clone()], "{text}");
        }
    }

    #[test]
    fn nothing_gives_no_keys() {
        for text in ["", "  ", "''", "[]", "[{\"account_id\":\"x\"}]", ","] {
            assert!(shown(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn errors_name_the_place_and_never_the_key() {
        let (a, _) = keys();
        let mut swapped = keys().1;
        let tail = a[a.len() - 20..].to_owned();
        swapped.replace_range(swapped.len() - 20.., &tail);
        for (text, says) in [
            (format!("{a},ed25519:SECRETSECRET"), "key 2 of 2"),
            (format!("{a},{}", &a[..a.len() - 3]), "key 2 of 2"),
            (swapped, "key 1 of 1"),
            (format!("[{a}]"), "not a JSON array"),
            (format!("{{\"private_key\":\"{a}\"}}"), "single JSON object"),
            (vec!["x"; MAX_KEYS + 1].join(","), "at most 1024"),
        ] {
            let error = parse_many(&text).err().unwrap();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains("SECRET") && !error.contains(&a[10..30]), "{error}");
        }
    }

    #[test]
    fn a_secp256k1_key_is_a_key() {
        let key = SecretKey::from_seed(KeyType::SECP256K1, "a").to_string();
        assert_eq!(shown(&key), [key]);
    }
}
