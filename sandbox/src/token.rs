//! The token contract: NEP-141, NEP-145 and NEP-148 run natively, with the messages and events of the standard contract
//! (near-contract-standards). Pure: arguments in, result and log out.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use near_primitives::types::AccountId;
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

use crate::gas::{MAX_LOG_BYTES, Work};
use crate::state::Versioned;

/// yoctoNEAR that registering an account takes: 125 bytes of state. Both bounds of `storage_balance_bounds`.
pub const STORAGE_DEPOSIT: u128 = 1_250_000_000_000_000_000_000;
/// Bytes of the contract's state that a registered account takes.
pub(crate) const ACCOUNT_STORAGE: u64 = 125;

/// An initialised token. Amounts in the token's smallest unit.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// Balances of registered accounts.
    pub(crate) balances: Versioned<AccountId, u128>,
    /// Height of the block that initialised it.
    pub(crate) created: u64,
    total_supply: u128,
    metadata: Box<RawValue>,
    /// Receivers that make it panic.
    refused: BTreeSet<AccountId>,
}

/// A call that changes state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    pub(crate) args: &'a [u8],
    pub(crate) predecessor: &'a AccountId,
    /// Attached yoctoNEAR.
    pub(crate) deposit: u128,
    pub(crate) height: u64,
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The contract has no such method.
    MethodNotFound,
    /// The contract panicked with this message.
    Panic(String),
    /// The machine refused: the message as in an outcome, and as a view shows it.
    Host(String, String),
}

/// What a successful call did besides changing balances.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Return value.
    pub(crate) value: Vec<u8>,
    /// yoctoNEAR that the contract sends back to its caller.
    pub(crate) transfer_back: u128,
    /// Bytes of state the contract grew by.
    pub(crate) storage: u64,
    /// A token to install: the call initialised the contract.
    pub(crate) created: Option<Token>,
}

type Called = (Work, Result<Done, Fault>);

impl Token {
    /// A token whose whole supply belongs to `owner`, who is registered.
    pub(crate) fn new(owner: AccountId, total_supply: u128, metadata: Box<RawValue>, height: u64) -> Self {
        let mut balances = Versioned::default();
        balances.set(owner, Some(total_supply));
        Self { balances, created: height, total_supply, metadata, refused: BTreeSet::new() }
    }

    /// The metadata that `new_default_meta` sets.
    pub(crate) fn default_metadata() -> Box<RawValue> {
        const TEXT: &str = r#"{"spec":"ft-1.0.0","name":"Example NEAR fungible token","symbol":"EXAMPLE","icon":"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Ccircle cx='4' cy='4' r='4'/%3E%3C/svg%3E","reference":null,"reference_hash":null,"decimals":24}"#;
        RawValue::from_string(TEXT.to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }

    /// From now on (or no longer), paying this account panics.
    pub(crate) fn refuse(&mut self, receiver: AccountId, refuses: bool) {
        if refuses {
            self.refused.insert(receiver);
        } else {
            self.refused.remove(&receiver);
        }
    }

    fn transfer(&mut self, from: &AccountId, args: TransferArgs, log: &mut String) -> Called {
        let amount = args.amount.0;
        if *from == args.receiver_id {
            return (Work::SelfTransfer, Err(panic("Sender and receiver should be different")));
        }
        if amount == 0 {
            return (Work::NotPositive, Err(panic("The amount should be a positive number")));
        }
        let Some(have) = self.balances.get(from).copied() else {
            return (Work::NotRegistered, Err(not_registered(from)));
        };
        let Some(left) = have.checked_sub(amount) else {
            return (Work::NotEnough, Err(panic("The account doesn't have enough balance")));
        };
        let Some(had) = self.balances.get(&args.receiver_id).copied() else {
            return (Work::NotRegistered, Err(not_registered(&args.receiver_id)));
        };
        if self.refused.contains(&args.receiver_id) {
            return (Work::NotRegistered, Err(panic("The receiver is blocked")));
        }
        let Some(has) = had.checked_add(amount) else {
            return (Work::NotRegistered, Err(panic("Balance overflow")));
        };
        event(
            log,
            "ft_transfer",
            &[("old_owner_id", from.as_str()), ("new_owner_id", args.receiver_id.as_str())],
            amount,
            args.memo.as_deref(),
        );
        self.balances.set(from.clone(), Some(left));
        self.balances.set(args.receiver_id, Some(has));
        (Work::Transfer, Ok(Done::default()))
    }

    fn deposit(&mut self, call: &Call<'_>, args: DepositArgs, log: &mut String) -> Called {
        let account = args.account_id.unwrap_or_else(|| call.predecessor.clone());
        let mut done = Done { value: storage_balance(), ..Done::default() };
        if self.balances.get(&account).is_some() {
            log.push_str("The account is already registered, refunding the deposit");
            done.transfer_back = call.deposit;
            return (Work::AlreadyRegistered, Ok(done));
        }
        let Some(rest) = call.deposit.checked_sub(STORAGE_DEPOSIT) else {
            return (Work::Refused, Err(panic("The attached deposit is less than the minimum storage balance")));
        };
        self.balances.set(account, Some(0));
        done.transfer_back = rest;
        done.storage = ACCOUNT_STORAGE;
        (Work::Registered, Ok(done))
    }
}

/// Runs a call. What the contract logs is appended to `log` (empty: nothing), even if it fails afterwards.
pub(crate) fn call(token: Option<&mut Token>, call: &Call<'_>, log: &mut String) -> Called {
    let (work, result) = dispatch(token, call, log);
    if log.len() > MAX_LOG_BYTES {
        let length = log.len();
        log.clear();
        let text = format!("The length of a log message {length} exceeds the limit {MAX_LOG_BYTES}");
        let debug = format!("HostError(TotalLogLengthExceeded {{ length: {length}, limit: {MAX_LOG_BYTES} }})");
        return (work, Err(Fault::Host(text, debug)));
    }
    (work, result)
}

fn dispatch(token: Option<&mut Token>, call: &Call<'_>, log: &mut String) -> Called {
    macro_rules! arguments {
        () => {
            match parse(call.args) {
                Ok(args) => args,
                Err(fault) => return (Work::BadArguments, Err(fault)),
            }
        };
    }
    match call.method {
        "ft_transfer" => {
            let args: TransferArgs = arguments!();
            let Some(token) = token else { return uninitialized() };
            if call.deposit != 1 {
                return one_yocto();
            }
            token.transfer(call.predecessor, args, log)
        }
        "storage_deposit" => {
            let args: DepositArgs = arguments!();
            let Some(token) = token else { return uninitialized() };
            token.deposit(call, args, log)
        }
        "storage_withdraw" => {
            let args: WithdrawArgs = arguments!();
            let Some(token) = token else { return uninitialized() };
            if call.deposit != 1 {
                return one_yocto();
            }
            if token.balances.get(call.predecessor).is_none() {
                return (Work::Refused, Err(not_registered(call.predecessor)));
            }
            if args.amount.is_some_and(|amount| amount.0 > 0) {
                return (Work::Refused, Err(panic("The amount is greater than the available storage balance")));
            }
            (Work::Other, Ok(Done { value: storage_balance(), ..Done::default() }))
        }
        "ft_transfer_call" | "storage_unregister" => {
            let text = format!("{} is not supported by the sandbox's token", call.method);
            (Work::Refused, Err(Fault::Panic(text)))
        }
        "new" | "new_default_meta" => {
            if call.deposit != 0 {
                let text = format!("Method {} doesn't accept deposit", call.method);
                return (Work::Refused, Err(Fault::Panic(text)));
            }
            let args: NewArgs = arguments!();
            if token.is_some() {
                return (Work::Refused, Err(panic("Already initialized")));
            }
            let metadata = match (call.method, args.metadata) {
                ("new_default_meta", _) => Token::default_metadata(),
                (_, Some(metadata)) => metadata,
                (_, None) => return (Work::BadArguments, Err(bad_arguments("missing field `metadata`"))),
            };
            event(
                log,
                "ft_mint",
                &[("owner_id", args.owner_id.as_str())],
                args.total_supply.0,
                Some("new tokens are minted"),
            );
            let created = Some(Token::new(args.owner_id, args.total_supply.0, metadata, call.height));
            (Work::Registered, Ok(Done { created, storage: ACCOUNT_STORAGE, ..Done::default() }))
        }
        _ => match view(token.as_deref(), None, call.method, call.args) {
            Ok(value) => (Work::Other, Ok(Done { value, ..Done::default() })),
            Err(fault) => (Work::Other, Err(fault)),
        },
    }
}

/// Runs a reading method on the state after the block at `height`, or on the present one.
pub(crate) fn view(token: Option<&Token>, height: Option<u64>, method: &str, args: &[u8]) -> Result<Vec<u8>, Fault> {
    let balance_of = |token: &Token, account: &AccountId| match height {
        Some(height) => token.balances.at(height, account).copied(),
        None => token.balances.get(account).copied(),
    };
    let initialized = || token.ok_or_else(|| panic("The contract is not initialized"));
    match method {
        "ft_balance_of" => {
            let args: AccountArgs = parse(args)?;
            Ok(quoted(balance_of(initialized()?, &args.account_id).unwrap_or(0)))
        }
        "ft_total_supply" => Ok(quoted(initialized()?.total_supply)),
        "ft_metadata" => Ok(initialized()?.metadata.get().as_bytes().to_vec()),
        "storage_balance_of" => {
            let args: AccountArgs = parse(args)?;
            Ok(match balance_of(initialized()?, &args.account_id) {
                Some(_) => storage_balance(),
                None => b"null".to_vec(),
            })
        }
        "storage_balance_bounds" => {
            initialized()?;
            Ok(format!(r#"{{"min":"{STORAGE_DEPOSIT}","max":"{STORAGE_DEPOSIT}"}}"#).into_bytes())
        }
        "ft_transfer" | "ft_transfer_call" | "storage_deposit" | "storage_withdraw" | "storage_unregister" | "new"
        | "new_default_meta" => Err(Fault::Host(
            "attached_deposit is not allowed in view calls".into(),
            r#"HostError(ProhibitedInView { method_name: "attached_deposit" })"#.into(),
        )),
        _ => Err(Fault::MethodNotFound),
    }
}

#[derive(Deserialize)]
struct TransferArgs {
    receiver_id: AccountId,
    amount: U128,
    #[serde(default)]
    memo: Option<String>,
}

#[derive(Deserialize)]
struct DepositArgs {
    #[serde(default)]
    account_id: Option<AccountId>,
    /// Both bounds are equal, so a deposit is never more than registration takes: with or without it, the rest goes back.
    #[serde(default, rename = "registration_only")]
    _registration_only: Option<bool>,
}

#[derive(Deserialize)]
struct WithdrawArgs {
    #[serde(default)]
    amount: Option<U128>,
}

#[derive(Deserialize)]
struct AccountArgs {
    account_id: AccountId,
}

#[derive(Deserialize)]
struct NewArgs {
    owner_id: AccountId,
    total_supply: U128,
    #[serde(default)]
    metadata: Option<Box<RawValue>>,
}

/// A decimal string, as the SDK's `U128`.
struct U128(u128);

impl<'de> Deserialize<'de> for U128 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = U128;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<U128, E> {
                text.parse().map(U128).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

fn parse<'a, T: Deserialize<'a>>(args: &'a [u8]) -> Result<T, Fault> {
    serde_json::from_slice(args).map_err(|error| bad_arguments(&error.to_string()))
}

fn bad_arguments(error: &str) -> Fault {
    Fault::Panic(format!("Failed to deserialize input from JSON. Error: `{error}`"))
}

fn panic(text: &str) -> Fault {
    Fault::Panic(text.to_owned())
}

fn not_registered(account: &AccountId) -> Fault {
    Fault::Panic(format!("The account {account} is not registered"))
}

fn uninitialized() -> Called {
    (Work::Refused, Err(panic("The contract is not initialized")))
}

fn one_yocto() -> Called {
    (Work::Refused, Err(panic("Requires attached deposit of exactly 1 yoctoNEAR")))
}

fn quoted(amount: u128) -> Vec<u8> {
    format!("\"{amount}\"").into_bytes()
}

fn storage_balance() -> Vec<u8> {
    format!(r#"{{"total":"{STORAGE_DEPOSIT}","available":"0"}}"#).into_bytes()
}

/// Appends a NEP-297 event of NEP-141. Account ids need no escaping; a memo does.
fn event(log: &mut String, name: &str, accounts: &[(&str, &str)], amount: u128, memo: Option<&str>) {
    log.reserve(192);
    log.push_str(r#"EVENT_JSON:{"standard":"nep141","version":"1.0.0","event":""#);
    log.push_str(name);
    log.push_str(r#"","data":[{"#);
    for (field, account) in accounts {
        let _ = write!(log, r#""{field}":"{account}","#);
    }
    let _ = write!(log, r#""amount":"{amount}""#);
    if let Some(memo) = memo
        && let Ok(memo) = serde_json::to_string(memo)
    {
        log.push_str(r#","memo":"#);
        log.push_str(&memo);
    }
    log.push_str("}]}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> AccountId {
        text.parse().unwrap()
    }

    /// A token of 100, owned by `a.near`, with `b.near` registered.
    fn token() -> Token {
        let mut token = Token::new(id("a.near"), 100, Token::default_metadata(), 0);
        token.balances.set(id("b.near"), Some(0));
        token
    }

    /// Result and log of a call by `a.near`.
    fn run(token: Option<&mut Token>, method: &str, args: &str, deposit: u128) -> (Result<Done, Fault>, String) {
        let mut log = String::new();
        let predecessor = id("a.near");
        let made = Call { method, args: args.as_bytes(), predecessor: &predecessor, deposit, height: 1 };
        (call(token, &made, &mut log).1, log)
    }

    #[test]
    fn every_refusal_has_the_standard_words() {
        let transfer = |to: &str, amount: &str| format!(r#"{{"receiver_id":"{to}","amount":"{amount}"}}"#);
        let cases = [
            ("ft_transfer", transfer("b.near", "1"), 0, "Requires attached deposit of exactly 1 yoctoNEAR"),
            ("ft_transfer", transfer("b.near", "1"), 2, "Requires attached deposit of exactly 1 yoctoNEAR"),
            ("ft_transfer", transfer("a.near", "1"), 1, "Sender and receiver should be different"),
            ("ft_transfer", transfer("b.near", "0"), 1, "The amount should be a positive number"),
            ("ft_transfer", transfer("c.near", "1"), 1, "The account c.near is not registered"),
            ("ft_transfer", transfer("b.near", "101"), 1, "The account doesn't have enough balance"),
            ("ft_transfer_call", "{}".into(), 1, "ft_transfer_call is not supported by the sandbox's token"),
            (
                "storage_deposit",
                r#"{"account_id":"c.near"}"#.into(),
                STORAGE_DEPOSIT - 1,
                "The attached deposit is less than the minimum storage balance",
            ),
            (
                "storage_withdraw",
                r#"{"amount":"1"}"#.into(),
                1,
                "The amount is greater than the available storage balance",
            ),
            ("new_default_meta", r#"{"owner_id":"a.near","total_supply":"1"}"#.into(), 0, "Already initialized"),
            (
                "new_default_meta",
                r#"{"owner_id":"a.near","total_supply":"1"}"#.into(),
                1,
                "Method new_default_meta doesn't accept deposit",
            ),
            (
                "ft_balance_of",
                "{}".into(),
                0,
                "Failed to deserialize input from JSON. Error: `missing field `account_id` at line 1 column 2`",
            ),
            (
                "ft_transfer",
                String::new(),
                1,
                "Failed to deserialize input from JSON. Error: `EOF while parsing a value at line 1 column 0`",
            ),
        ];
        for (method, args, deposit, expected) in cases {
            let (result, log) = run(Some(&mut token()), method, &args, deposit);
            assert_eq!(result.unwrap_err(), Fault::Panic(expected.to_owned()), "{method} {args}");
            assert_eq!(log, "", "{method} {args}");
        }
        assert_eq!(run(Some(&mut token()), "nothing", "{}", 0).0.unwrap_err(), Fault::MethodNotFound);
        let (result, _) = run(None, "ft_transfer", &transfer("b.near", "1"), 1);
        assert_eq!(result.unwrap_err(), panic("The contract is not initialized"));
    }

    #[test]
    fn events_escape_memos_and_long_ones_are_refused() {
        let mut token = token();
        let with = |memo: &str| format!(r#"{{"receiver_id":"b.near","amount":"3","memo":{memo}}}"#);
        let (result, log) = run(Some(&mut token), "ft_transfer", &with(r#""say \"hi\"\n""#), 1);
        assert!(result.is_ok());
        assert_eq!(
            log,
            r#"EVENT_JSON:{"standard":"nep141","version":"1.0.0","event":"ft_transfer","data":[{"old_owner_id":"a.near","new_owner_id":"b.near","amount":"3","memo":"say \"hi\"\n"}]}"#
        );
        let (_, log) = run(Some(&mut token), "ft_transfer", &with("null"), 1);
        assert!(log.ends_with(r#""amount":"3"}]}"#), "{log}");
        let (result, log) =
            run(Some(&mut token), "ft_transfer", &with(&format!("\"{}\"", "x".repeat(MAX_LOG_BYTES))), 1);
        assert!(matches!(result, Err(Fault::Host(..))) && log.is_empty());
    }

    #[test]
    fn deposits_register_once_and_the_rest_comes_back() {
        let mut token = token();
        let args = r#"{"account_id":"c.near","registration_only":true}"#;
        let done = run(Some(&mut token), "storage_deposit", args, STORAGE_DEPOSIT + 5).0.unwrap();
        assert_eq!((done.transfer_back, done.storage, done.value), (5, ACCOUNT_STORAGE, storage_balance()));
        let (result, log) = run(Some(&mut token), "storage_deposit", args, 7);
        assert_eq!(result.unwrap().transfer_back, 7);
        assert_eq!(log, "The account is already registered, refunding the deposit");
        assert_eq!(view(Some(&token), None, "storage_balance_of", br#"{"account_id":"d.near"}"#), Ok(b"null".to_vec()));
        assert_eq!(view(Some(&token), None, "ft_balance_of", br#"{"account_id":"d.near"}"#), Ok(b"\"0\"".to_vec()));
    }

    #[test]
    fn balances_never_overflow() {
        let mut token = token();
        token.balances.set(id("b.near"), Some(u128::MAX));
        let args = r#"{"receiver_id":"b.near","amount":"1"}"#;
        assert_eq!(run(Some(&mut token), "ft_transfer", args, 1).0.unwrap_err(), panic("Balance overflow"));
        assert_eq!(token.balances.get(&id("a.near")), Some(&100));
    }

    #[test]
    fn new_takes_its_metadata_and_logs_the_mint() {
        let args = r#"{"owner_id":"a.near","total_supply":"9","metadata":{"spec":"ft-1.0.0","name":"N","symbol":"S","decimals":6}}"#;
        let (result, log) = run(None, "new", args, 0);
        let token = result.unwrap().created.unwrap();
        assert!(log.contains(
            r#""event":"ft_mint","data":[{"owner_id":"a.near","amount":"9","memo":"new tokens are minted"}]"#
        ));
        let metadata = view(Some(&token), None, "ft_metadata", b"{}").unwrap();
        assert!(String::from_utf8(metadata).unwrap().contains(r#""decimals":6"#));
        assert_eq!(view(Some(&token), None, "ft_total_supply", b"{}"), Ok(b"\"9\"".to_vec()));
    }
}
