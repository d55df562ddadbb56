//! Every recorded answer of a real node, read by the client's own decoder (tests only).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::breaker::Verdict;
use crate::chain::{Block, Empty, GasPrice, ProtocolConfig, Status, TxHash};
use crate::fate::{Fate, Refusal};
use crate::fees::Fees;
use crate::invalid_tx::{AccessKeyError, ActionsValidationError, Class, InvalidTx};
use crate::query::{AccessKey, AccessKeyChanges, AccessKeyList, Account, CallResult, ChangeCause, Permission};
use crate::request::{self, AccessKeyChangesAt, BlockRef, Query, TxByBytes, TxByHash, WaitUntil};
use crate::transaction::{Action, TxDetails};
use crate::tx::{ActionErrorKind, ExecutionResult, ExecutionStatus, FunctionCallError, TxStatus};
use crate::wire::{self, Failure, HttpAnswer, Parse};

#[derive(Deserialize)]
struct Recording {
    request: RecordedRequest,
    http_status: u16,
    response: Box<RawValue>,
}

#[derive(Deserialize)]
struct RecordedRequest {
    #[serde(default)]
    body: Option<Value>,
}

/// What a recording that is no error holds, and thereby which reader it is for.
enum Holds {
    /// `GET /status` and `GET /health`: the result without the envelope.
    BareStatus,
    BareHealth,
    Status,
    /// An answer to a method the client does not have, or one without content: the envelope is read.
    Envelope,
    GasPrice,
    Block,
    ProtocolConfig,
    Account,
    AccessKey,
    AccessKeyList,
    Call(&'static str),
    TxHash,
    Changes,
    /// A status alone.
    StatusAlone(ExecutionStatus),
    Tx(ExecutionStatus, ExecutionResult),
}

fn success(status: ExecutionStatus) -> Holds {
    Holds::Tx(status, ExecutionResult::Success(Vec::new()))
}

fn failure(index: u64, kind: ActionErrorKind) -> Holds {
    Holds::Tx(ExecutionStatus::Final, ExecutionResult::ActionError { index: Some(index), kind })
}

fn panicked(index: u64, words: &str) -> Holds {
    execution(index, &format!("Smart contract panicked: {words}"))
}

fn execution(index: u64, words: &str) -> Holds {
    failure(index, ActionErrorKind::FunctionCall(FunctionCallError::Execution(words.to_owned())))
}

#[rustfmt::skip]
fn values() -> Vec<(u32, Holds)> {
    use ExecutionStatus::{Executed, ExecutedOptimistic, Final, Included, None};
    let registered = br#"{"total":"1250000000000000000000","available":"0"}"#.to_vec();
    vec![
        (1, Holds::BareStatus), (2, Holds::BareHealth), (3, Holds::Status), (4, Holds::Envelope),
        (5, Holds::GasPrice),
        (6, Holds::Block), (7, Holds::Block), (8, Holds::Block), (9, Holds::Block),
        (11, Holds::Envelope), (12, Holds::Envelope),
        (13, Holds::ProtocolConfig),
        (14, Holds::Account), (16, Holds::AccessKey), (18, Holds::AccessKeyList), (19, Holds::AccessKey),
        (20, Holds::Call("\"999999999999999999999999999934960\"")),
        (21, Holds::Call("\"1000000000000000000000000000000000\"")),
        (22, Holds::Call("{\"spec\":\"ft-1.0.0\",")),
        (23, Holds::Call("{\"total\":\"1250000000000000000000\",\"available\":\"0\"}")),
        (24, Holds::Call("null")),
        (25, Holds::Call("{\"min\":\"1250000000000000000000\",\"max\":\"1250000000000000000000\"}")),
        (30, Holds::StatusAlone(None)),
        (32, success(Final)),
        (33, Holds::StatusAlone(Included)),
        (35, success(Executed)), (36, success(Executed)), (37, success(Final)),
        (38, Holds::TxHash),
        (39, success(Final)), (40, success(Final)), (41, success(Final)), (42, success(Final)), (43, success(Final)),
        (44, Holds::StatusAlone(None)),
        (45, Holds::Changes),
        (46, success(ExecutedOptimistic)), (47, success(Final)), (48, success(ExecutedOptimistic)), (49, success(Final)),
        (50, Holds::Tx(Final, ExecutionResult::Success(registered))),
        (51, panicked(1, "The account unregistered.test.near is not registered")),
        (52, panicked(1, "Sender and receiver should be different")),
        (53, panicked(0, "The account doesn't have enough balance")),
        (54, panicked(0, "The amount should be a positive number")),
        (55, panicked(0, "Failed to deserialize input from JSON. Error: `invalid digit found in string at line 1 column 47`")),
        (56, execution(0, "Exceeded the prepaid gas.")),
        (57, panicked(0, "Requires attached deposit of exactly 1 yoctoNEAR")),
        (58, failure(0, ActionErrorKind::AccountDoesNotExist { account_id: "nobody.test.near".to_owned() })),
        (59, failure(0, ActionErrorKind::FunctionCall(FunctionCallError::CodeDoesNotExist))),
        (61, Holds::StatusAlone(None)),
        (74, success(Final)), (77, success(Final)), (78, success(Final)),
        (79, Holds::AccessKey),
        (80, success(Final)),
        (81, failure(0, ActionErrorKind::Other("{\"AccountAlreadyExists\":{\"account_id\":\"made1.test.near\"}}".to_owned()))),
        (92, Holds::Envelope), (94, Holds::Envelope),
    ]
}

fn invalid(reason: InvalidTx) -> Fate {
    Fate::Refused(Refusal::InvalidTx(reason))
}

fn invalid_key(reason: AccessKeyError) -> Fate {
    invalid(InvalidTx::InvalidAccessKeyError(Box::new(reason)))
}

fn parse_error(words: &str) -> Fate {
    Fate::Refused(Refusal::Parse(words.to_owned()))
}

fn contract_error(words: &str) -> Fate {
    Fate::Refused(Refusal::ContractError(format!("wasm execution failed with error: {words}")))
}

fn http_refusal(status: u16, words: &str) -> Fate {
    Fate::Refused(Refusal::Other { name: format!("HTTP_{status}"), message: words.to_owned() })
}

/// Every recorded error and its fate.
fn fates() -> Vec<(u32, Fate)> {
    let used = || invalid(InvalidTx::InvalidNonce { tx_nonce: 47_000_049, ak_nonce: 47_000_049 });
    let not_request = "JSON RPC Request format was expected";
    vec![
        (10, Fate::Refused(Refusal::UnknownBlock)),
        (15, Fate::Refused(Refusal::UnknownAccount)),
        (17, Fate::Refused(Refusal::UnknownAccessKey)),
        (26, contract_error("MethodResolveError(MethodNotFound)")),
        (
            27,
            contract_error(
                "HostError(GuestPanic { panic_msg: \"Failed to deserialize input from JSON. Error: `missing field \
                 `account_id` at line 1 column 10`\" })",
            ),
        ),
        (28, Fate::Refused(Refusal::NoContractCode)),
        (29, Fate::Refused(Refusal::UnknownAccount)),
        (31, Fate::Refused(Refusal::UnknownTransaction)),
        (34, used()),
        (60, used()),
        (62, used()),
        (63, Fate::Unknown),
        (64, Fate::Refused(Refusal::UnknownTransaction)),
        (65, invalid(InvalidTx::Expired)),
        (
            66,
            invalid(InvalidTx::ActionsValidation(ActionsValidationError::TotalNumberOfActionsExceeded {
                total_number_of_actions: 101,
                limit: 100,
            })),
        ),
        (
            67,
            invalid(InvalidTx::ActionsValidation(ActionsValidationError::TotalPrepaidGasExceeded {
                total_prepaid_gas: 330_000_000_000_000,
                limit: 300_000_000_000_000,
            })),
        ),
        (
            68,
            invalid_key(AccessKeyError::AccessKeyNotFound {
                account_id: "test.near".to_owned(),
                public_key: "ed25519:9ngwwrprF9oqPGRbyXdhhARn9GpaNw5qh1Rj5HJqMYof".to_owned(),
            }),
        ),
        (69, invalid(InvalidTx::SignerDoesNotExist { signer_id: "nobody.test.near".to_owned() })),
        (70, invalid(InvalidTx::InvalidSignature)),
        (
            71,
            parse_error(
                "Failed parsing args: the value could not decoded from borsh due to: Unexpected length of input",
            ),
        ),
        (
            72,
            parse_error(
                "Failed parsing args: the value could not decoded from base64 due to: Invalid byte 35, offset 0.",
            ),
        ),
        (
            73,
            invalid(InvalidTx::NotEnoughBalance {
                signer_id: "test.near".to_owned(),
                balance: 999_998_967_132_750_769_864_540_163_156_894,
                cost: 1_000_000_000_000_000_044_636_512_500_000_000_000,
            }),
        ),
        (75, invalid_key(AccessKeyError::DepositWithFunctionCall)),
        (76, invalid_key(AccessKeyError::RequiresFullAccess)),
        (82, Fate::Refused(Refusal::UnknownTransaction)),
        (83, Fate::Unknown),
        (84, Fate::Refused(Refusal::MethodNotFound)),
        (85, parse_error("Failed parsing args: no variant of enum BlockReference found in flattened data")),
        (
            86,
            http_refusal(
                400,
                "Failed to parse the request body as JSON: EOF while parsing a value at line 1 column 17",
            ),
        ),
        (87, parse_error(not_request)),
        (88, parse_error(not_request)),
        (89, Fate::Unknown),
        (90, Fate::Unknown),
        (91, http_refusal(413, "Failed to buffer the request body: length limit exceeded")),
        (93, Fate::Refused(Refusal::UnknownAccessKey)),
        (95, invalid(InvalidTx::Expired)),
    ]
}

/// HTTP status and body of every recording.
pub(crate) fn bodies() -> Vec<(u16, Vec<u8>)> {
    recordings().into_values().map(|(_, recording)| (recording.http_status, recording.body())).collect()
}

/// The recordings by number.
fn recordings() -> BTreeMap<u32, (String, Recording)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/neard");
    let mut recordings = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let recording = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let number = name[..3].parse().unwrap();
            assert!(recordings.insert(number, (name, recording)).is_none(), "two recordings {number}");
        }
    }
    assert_eq!(recordings.len(), 95);
    recordings
}

impl Recording {
    /// The body as it was on the wire: compact JSON (the recorder indented it), or other text, which the recorder
    /// wrapped as `{"not_json": ..}`.
    fn body(&self) -> Vec<u8> {
        #[derive(Deserialize)]
        struct NotJson {
            not_json: String,
        }
        match serde_json::from_str::<NotJson>(self.response.get()) {
            Ok(NotJson { not_json }) => not_json.into_bytes(),
            Err(_) => serde_json::from_str::<Value>(self.response.get()).unwrap().to_string().into_bytes(),
        }
    }

    fn decode<T: Parse>(&self) -> Result<T, Failure> {
        wire::decode(&HttpAnswer { status: self.http_status, retry_after: None, body: &self.body() })
    }

    fn result(&self) -> Value {
        serde_json::from_str::<Value>(self.response.get()).unwrap()["result"].take()
    }

    fn params(&self) -> &Value {
        &self.request.body.as_ref().unwrap()["params"]
    }

    /// Decodes as the method of its request is decoded, dropping the value.
    fn decode_as_called(&self) -> Result<(), Failure> {
        let method = self.request.body.as_ref().and_then(|body| body["method"].as_str()).unwrap_or_default();
        match (method, self.request.body.as_ref().and_then(|body| body["params"]["request_type"].as_str())) {
            ("block", _) => self.decode::<Block>().map(drop),
            ("query", Some("view_account")) => self.decode::<Account>().map(drop),
            ("query", Some("view_access_key")) => self.decode::<AccessKey>().map(drop),
            ("query", Some("call_function")) => self.decode::<CallResult>().map(drop),
            ("send_tx" | "tx", _) => self.decode::<TxStatus>().map(drop),
            _ => self.decode::<Empty>().map(drop),
        }
    }
}

#[test]
fn every_recording_is_a_value_or_an_error_of_the_tables() {
    let mut listed: Vec<u32> = values().iter().map(|(number, _)| *number).collect();
    listed.extend(fates().iter().map(|(number, _)| *number));
    listed.sort_unstable();
    let recorded: Vec<u32> = recordings().into_keys().collect();
    assert_eq!(listed, recorded, "each recording is in exactly one table");
}

#[test]
fn every_error_has_its_fate() {
    let recordings = recordings();
    for (number, fate) in fates() {
        let (name, recording) = &recordings[&number];
        let failure = recording.decode_as_called().expect_err(name);
        assert_eq!(failure.fate, fate, "{name}");
        assert!(!failure.message.is_empty(), "{name}");
        // A node that refuses, or gives up polling, is well; one that does not take our requests at all is not.
        let verdict = if matches!(number, 89 | 90) { Verdict::Failure } else { Verdict::Success };
        assert_eq!(failure.verdict, verdict, "{name}");
    }
}

#[test]
fn recorded_refusals_prove_what_the_protocol_says() {
    let classes = [
        (34, Class::ProvesNothing),
        (65, Class::ProvesNothing),
        (66, Class::Permanent),
        (67, Class::Permanent),
        (68, Class::Live),
        (69, Class::Live),
        (70, Class::Permanent),
        (73, Class::Live),
        (75, Class::Permanent),
        (76, Class::Permanent),
        (95, Class::ProvesNothing),
    ];
    let recordings = recordings();
    for (number, class) in classes {
        let (name, recording) = &recordings[&number];
        let Err(Failure { fate: Fate::Refused(Refusal::InvalidTx(reason)), .. }) = recording.decode::<TxStatus>()
        else {
            panic!("{name} is not an invalid transaction");
        };
        assert_eq!(reason.class(), class, "{name}");
    }
}

#[test]
fn every_value_is_read() {
    let recordings = recordings();
    for (number, holds) in values() {
        let (name, recording) = &recordings[&number];
        check_value(name, recording, holds);
    }
}

fn check_value(name: &str, recording: &Recording, holds: Holds) {
    let result = recording.result();
    let same = |ours: &str, theirs: &Value| assert_eq!(Some(ours), theirs.as_str(), "{name}");
    match holds {
        Holds::BareStatus => {
            let status = Status::parse(&recording.response).unwrap();
            assert_eq!((status.chain_id.as_str(), status.protocol_version), ("localnet", 84), "{name}");
        }
        Holds::BareHealth => assert!(Empty::parse(&recording.response).is_ok() && recording.response.get() == "null"),
        Holds::Status => {
            let status: Status = recording.decode().unwrap();
            assert_eq!((status.latest_block_height, status.syncing), (604, false), "{name}");
            assert_eq!(status.node_version, "trunk", "{name}");
            assert_eq!(status.earliest_block_height, Some(0), "{name}");
            same(&status.latest_block_hash, &result["sync_info"]["latest_block_hash"]);
            same(status.genesis_hash.as_deref().unwrap(), &result["genesis_hash"]);
        }
        Holds::Envelope => assert!(recording.decode::<Empty>().is_ok(), "{name}"),
        Holds::GasPrice => assert_eq!(recording.decode::<GasPrice>().unwrap().gas_price, 100_000_000, "{name}"),
        Holds::Block => {
            let block: Block = recording.decode().unwrap();
            let header = &result["header"];
            assert_eq!(Some(block.height), header["height"].as_u64(), "{name}");
            same(&block.timestamp_nanosec.to_string(), &header["timestamp_nanosec"]);
            same(&block.hash, &header["hash"]);
            same(&block.prev_hash, &header["prev_hash"]);
            same(&block.last_final_block, &header["last_final_block"]);
            same(&block.gas_price.to_string(), &header["gas_price"]);
            assert_eq!(block.chunks.len(), 1, "{name}");
            assert_eq!(block.chunks[0].gas_limit, 1_000_000_000_000_000, "{name}");
            assert_eq!(block.chunks[0].delayed_receipts_gas, 0, "{name}");
        }
        Holds::ProtocolConfig => {
            let expected = ProtocolConfig {
                protocol_version: 84,
                chain_id: "localnet".to_owned(),
                epoch_length: 5000,
                gas_limit: 1_000_000_000_000_000,
                min_gas_price: 100_000_000,
                transaction_validity_period: 1000,
                max_actions_per_receipt: 100,
                max_total_prepaid_gas: 300_000_000_000_000,
                max_gas_burnt: 300_000_000_000_000,
                max_transaction_size: 1_572_864,
            };
            assert_eq!(recording.decode::<ProtocolConfig>().unwrap(), expected, "{name}");
            let fees = recording.decode::<Fees>().unwrap();
            assert_eq!(fees.add_full_key.total(true), 2 * 101_765_125_000, "{name}");
            assert_eq!((fees.storage_byte, fees.min_gas_purchase_price), (10_000_000_000_000_000_000, 0), "{name}");
        }
        Holds::Account => {
            let account: Account = recording.decode().unwrap();
            assert_eq!(account.amount, 999_998_967_164_419_976_097_484_463_157_052, "{name}");
            assert_eq!((account.block_height, account.storage_usage), (602, 3462), "{name}");
        }
        Holds::AccessKey => {
            let key: AccessKey = recording.decode().unwrap();
            assert_eq!(Some(key.nonce), result["nonce"].as_u64(), "{name}");
            assert_eq!(key.permission, Permission::FullAccess, "{name}");
            same(&key.block_hash, &result["block_hash"]);
        }
        Holds::AccessKeyList => {
            let list: AccessKeyList = recording.decode().unwrap();
            assert_eq!(list.block_height, 602, "{name}");
            assert_eq!(list.keys.len(), result["keys"].as_array().unwrap().len(), "{name}");
            for (ours, theirs) in list.keys.iter().zip(result["keys"].as_array().unwrap()) {
                same(&ours.public_key, &theirs["public_key"]);
                assert_eq!(Some(ours.nonce), theirs["access_key"]["nonce"].as_u64(), "{name}");
            }
        }
        Holds::Call(begins) => {
            let call: CallResult = recording.decode().unwrap();
            let text = String::from_utf8(call.result).unwrap();
            assert!(text.starts_with(begins), "{name}: {text}");
            assert_eq!(call.block_height, 602, "{name}");
        }
        Holds::TxHash => same(&recording.decode::<TxHash>().unwrap().0, &result),
        Holds::Changes => {
            let changes: AccessKeyChanges = recording.decode().unwrap();
            assert_eq!(changes.changes.len(), 1, "{name}");
            assert_eq!(changes.changes[0].nonce, Some(47_000_049), "{name}");
            let tx_hash = "9TQ1dMKfisNSG3ioXqvMjdtTgifYG7k38Hr2AAzS75XP".to_owned();
            assert_eq!(changes.changes[0].cause, ChangeCause::Transaction { tx_hash }, "{name}");
        }
        Holds::StatusAlone(execution_status) => {
            assert_eq!(recording.decode::<TxStatus>().unwrap(), TxStatus { execution_status, outcome: None }, "{name}");
        }
        Holds::Tx(execution_status, expected) => {
            let status: TxStatus = recording.decode().unwrap();
            assert_eq!(status.execution_status, execution_status, "{name}");
            assert_eq!(Some(status.execution_status.as_str()), result["final_execution_status"].as_str(), "{name}");
            let outcome = status.outcome.expect(name);
            assert_eq!(outcome.result, expected, "{name}");
            same(&outcome.transaction_hash, &result["transaction"]["hash"]);
            same(&outcome.block_hash, &result["transaction_outcome"]["block_hash"]);
            let receipts = result["receipts_outcome"].as_array().unwrap();
            assert_eq!(outcome.receipts, receipts.len(), "{name}");
            let tx = &result["transaction_outcome"]["outcome"];
            assert_eq!(Some(outcome.gas_burnt_tx), tx["gas_burnt"].as_u64(), "{name}");
            let receipt = receipts.iter().find(|receipt| receipt["id"] == tx["receipt_ids"][0]).unwrap();
            assert_eq!(outcome.gas_burnt_receipt, receipt["outcome"]["gas_burnt"].as_u64(), "{name}");
        }
    }
}

/// What the client asks is what the recordings asked.
#[test]
fn requests_are_the_recorded_ones() {
    let recordings = recordings();
    let params = |number: u32| recordings[&number].1.params();
    let text = |number: u32, field: &str| params(number)[field].as_str().unwrap().to_owned();
    let key = text(16, "public_key");
    let args = text(20, "args_base64");
    let (hash, bytes) = (text(39, "tx_hash"), text(42, "signed_tx_base64"));
    let (block, changed) = (text(45, "block_id"), params(45)["keys"][0]["public_key"].as_str().unwrap());
    let at = BlockRef::Final;
    let query =
        |request_type, account_id, more| serde_json::to_value(Query { at, request_type, account_id, more }).unwrap();
    let call = [("method_name", "ft_balance_of"), ("args_base64", args.as_str())];
    let cases = [
        (3, serde_json::to_value([(); 0]).unwrap()),
        (5, serde_json::to_value([None::<u64>]).unwrap()),
        (6, serde_json::to_value(at).unwrap()),
        (7, serde_json::to_value(BlockRef::Optimistic).unwrap()),
        (8, serde_json::to_value(BlockRef::Height(602)).unwrap()),
        (13, serde_json::to_value(at).unwrap()),
        (14, query("view_account", "test.near", &[])),
        (16, query("view_access_key", "test.near", &[("public_key", key.as_str())])),
        (18, query("view_access_key_list", "test.near", &[])),
        (20, query("call_function", "ft.test.near", &call)),
        (38, serde_json::to_value([params(38)[0].as_str().unwrap()]).unwrap()),
        (
            39,
            serde_json::to_value(TxByHash {
                tx_hash: &hash,
                sender_account_id: "test.near",
                wait_until: WaitUntil::Final,
            })
            .unwrap(),
        ),
        (42, serde_json::to_value(TxByBytes { signed_tx_base64: &bytes, wait_until: WaitUntil::None }).unwrap()),
        (
            45,
            serde_json::to_value(AccessKeyChangesAt {
                at: BlockRef::Hash(&block),
                account_id: "test.near",
                public_key: changed,
            })
            .unwrap(),
        ),
    ];
    for (number, ours) in cases {
        assert_eq!(&ours, params(number), "{}", recordings[&number].0);
    }
    let whole: Value = serde_json::from_slice(&request::body("gas_price", &[None::<u64>]).unwrap()).unwrap();
    let mut recorded = recordings[&5].1.request.body.clone().unwrap();
    recorded["id"] = whole["id"].clone();
    assert_eq!(whole, recorded);
}

#[test]
fn transactions_show_what_they_do() {
    let recordings = recordings();
    for (number, holds) in values() {
        let (name, recording) = &recordings[&number];
        let shown = match holds {
            Holds::Tx(..) => true,
            Holds::StatusAlone(_) => false,
            _ => continue,
        };
        let details: TxDetails = recording.decode().expect(name);
        assert_eq!(details.transaction.is_some(), shown, "{name}");
        assert_eq!(details.status, recording.decode::<TxStatus>().expect(name), "{name}");
        if let (Some(transaction), Some(outcome)) = (&details.transaction, &details.status.outcome) {
            assert_eq!(transaction.hash, outcome.transaction_hash, "{name}");
        }
    }
    let details: TxDetails = recordings[&49].1.decode().unwrap();
    let transaction = details.transaction.unwrap();
    assert_eq!((transaction.nonce, transaction.signer_id.as_str()), (47_000_048, "test.near"));
    assert_eq!(transaction.receiver_id, "ft.test.near");
    assert!(transaction.public_key.starts_with("ed25519:6sdbobsHP6TX"));
    let call = |method: &str, args: &str, deposit| Action::FunctionCall {
        method_name: method.to_owned(),
        args: args.as_bytes().to_vec(),
        deposit,
    };
    let expected = [
        call(
            "storage_deposit",
            r#"{"account_id":"fresh1.test.near","registration_only":true}"#,
            1_250_000_000_000_000_000_000,
        ),
        call("ft_transfer", r#"{"receiver_id":"fresh1.test.near","amount":"1","memo":""}"#, 1),
    ];
    assert_eq!(transaction.actions, expected);
}
