//! A service that waits for its node, and what the forms of the Node service's values are.
use std::net::TcpListener;

use near_crypto::{KeyType, SecretKey};

use crate::common::{chain::directory, program::Program};

/// `keyshard serve` at a node that never answers: the front end works, nothing is accepted.
pub(crate) struct Waiting {
    pub(crate) base: String,
    _program: Program,
    _node: TcpListener,
}

impl Waiting {
    pub(crate) fn start(name: &str, settings: &[(&str, &str)]) -> Self {
        let node = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", node.local_addr().unwrap());
        let key = key("a");
        let own = [
            ("NEAR_ENV", "sandbox"),
            ("NODE_URL", url.as_str()),
            ("MASTER_ACCOUNT_PRIVATE_KEY", key.as_str()),
            ("PORT", "0"),
        ];
        let environment: Vec<_> = own.iter().chain(settings).copied().collect();
        let mut program = Program::start(&directory(name), &["serve"], &environment);
        let base = listening(&mut program);
        Self { base, _program: program, _node: node }
    }
}

/// The address in the line `HTTP server listening`.
pub(crate) fn listening(program: &mut Program) -> String {
    let line = program.line_with("HTTP server listening");
    let address = line.split("address=").nth(1).unwrap_or_else(|| panic!("{line}"));
    format!("http://{}", address.trim())
}

pub(crate) fn key(seed: &str) -> String {
    SecretKey::from_seed(KeyType::ED25519, seed).to_string()
}

/// `2025-10-13T18:47:14.567Z`
pub(crate) fn is_iso(text: &str) -> bool {
    has_form(text, "dddd-dd-ddTdd:dd:dd.dddZ")
}

/// Lower-case hexadecimal digits in the groups of a UUID.
pub(crate) fn is_uuid(text: &str) -> bool {
    has_form(text, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")
}

/// `batch-<ms>-<count>`, and `-part<k>` if there are several.
pub(crate) fn is_batch(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(rest) = text.strip_prefix("batch-") else { return false };
    let parts: Vec<&str> = rest.split('-').collect();
    match parts[..] {
        [ms, count] => ms.len() == 13 && digits(ms) && digits(count),
        [ms, count, part] => digits(ms) && digits(count) && part.strip_prefix("part").is_some_and(digits),
        _ => false,
    }
}

/// The base58 hash of a transaction.
pub(crate) fn is_hash(text: &str) -> bool {
    text.parse::<near_primitives::hash::CryptoHash>().is_ok()
}

/// `d` stands for a decimal and `x` for a hexadecimal digit.
fn has_form(text: &str, form: &str) -> bool {
    let fits = |(byte, form): (u8, u8)| match form {
        b'd' => byte.is_ascii_digit(),
        b'x' => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        other => byte == other,
    };
    text.len() == form.len() && text.bytes().zip(form.bytes()).all(fits)
}
