//! Helpers that keep parsing tolerant: bounded raw text, numbers that may be strings, enums with a fallback.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde_json::value::RawValue;

/// Bytes of foreign text kept at most, in messages and in the raw text of unknown variants.
pub(crate) const TEXT_MAX: usize = 512;
/// An enum's JSON longer than this is not read but kept as bounded text: far above what the protocol's own limits
/// (16 KiB of log or panic text) allow.
const KNOWN_MAX: usize = 64 << 10;

/// Cuts foreign text to [`TEXT_MAX`] bytes and replaces control characters by spaces.
pub(crate) fn bounded(text: &str) -> String {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut kept: String = text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if end < text.len() {
        kept.push('…');
    }
    kept
}

/// Deserializes with `known`, a derived parser; JSON it does not understand becomes `other(raw text)`.
pub(crate) fn known_or<'de, D, T>(
    deserializer: D,
    known: impl FnOnce(&mut serde_json::Deserializer<serde_json::de::StrRead<'_>>) -> serde_json::Result<T>,
    other: impl FnOnce(String) -> T,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
{
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    if raw.get().len() > KNOWN_MAX {
        return Ok(other(bounded(raw.get())));
    }
    let parsed = known(&mut serde_json::Deserializer::from_str(raw.get()));
    Ok(parsed.unwrap_or_else(|_| other(bounded(raw.get()))))
}

/// Any JSON, as its bounded text.
pub(crate) fn raw_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    Ok(bounded(raw.get()))
}

/// A `u64` written as a number or as a decimal string.
pub(crate) fn u64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Number::<u64>(PhantomData))
}

/// A `u128` written as a decimal string or as a number.
pub(crate) fn u128<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
    deserializer.deserialize_any(Number::<u128>(PhantomData))
}

/// Keeps `null` apart from absence: `Some(null)` against `None`.
pub(crate) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

struct Number<T>(PhantomData<T>);

impl<T: TryFrom<u64> + std::str::FromStr> Visitor<'_> for Number<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an unsigned number, plain or as a decimal string")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        T::try_from(number).map_err(|_| E::custom("number out of range"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(E::custom("not a decimal number"));
        }
        text.parse().map_err(|_| E::custom("number out of range"))
    }
}
