//! The lines that scripts wait for, and the form in which log collectors read them.
use std::path::Path;

use serde_json::{Value, json};

use crate::{
    common::{chain::directory, serving::Stage, until},
    support::is_iso,
};

const IN_ORDER: [&str; 8] = [
    "Loading configuration",
    "API throttle configuration loaded",
    "Final configuration loaded",
    "HTTP server listening",
    "NEAR connection initialization completed successfully",
    "NEAR connection initialized successfully",
    "Pending jobs re-queued from persistence",
    "Server ready to accept requests",
];
const AT_THE_END: [&str; 2] = ["Received shutdown signal, shutting down gracefully", "HTTP server closed"];

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

fn assert_lines(lines: &[Value], secrets: &[String]) {
    let mut wanted = IN_ORDER.iter().chain(&AT_THE_END).peekable();
    for line in lines {
        assert_eq!(line["service"], "ft-claiming-service", "{line}");
        assert!(is_iso(line["time"].as_str().unwrap()), "{line}");
        assert!(line["module"].is_string() && line["level"].is_u64(), "{line}");
        if wanted.peek().is_some_and(|wanted| line["msg"] == **wanted) {
            wanted.next();
        }
        assert!(!secrets.iter().any(|secret| line.to_string().contains(&secret[8..])), "a key is in the log");
    }
    assert_eq!(wanted.next(), None, "{lines:#?}");
    let said = |text: &str| lines.iter().find(|line| line["msg"] == text).unwrap();
    assert_eq!(
        (said("HTTP server listening")["level"].as_u64(), said(AT_THE_END[0])["level"].as_u64()),
        (Some(30), Some(40))
    );
    assert_eq!(said("Pending jobs re-queued from persistence")["count"], 0);
    assert_eq!(said("Final configuration loaded")["masterAccount"], "test.near");
}

#[tokio::test]
async fn json_lines_as_the_node_service_writes_them() {
    for (name, setting) in
        [("contract-log-json", ("NODE_ENV", "production")), ("contract-log-pino", ("PINO_PRETTY", "false"))]
    {
        let stage = Stage::new(name, 100, &[setting, ("WAIT_UNTIL", "Included")]);
        let mut program = stage.run(&["serve"]);
        let listening: Value = serde_json::from_str(&program.line_with("HTTP server listening")).unwrap();
        program.line_with("Server ready to accept requests");
        let base = format!("http://{}", listening["address"].as_str().unwrap());
        let answer = crate::common::send(&base, r#"{"receiverId":"user1.test.near","amount":"1"}"#).await;
        assert_eq!(answer.0, 200);
        program.signal("TERM");
        assert!(program.end().success());
        assert_lines(&lines(&program.output()), &stage.credentials().keys);
    }
}

/// With `LOG_LEVEL=debug` a transfer can be followed through the log, from its transaction's signature to its end.
#[tokio::test]
async fn debug_lines_follow_transfers_and_transactions() {
    let stage = Stage::new("contract-log-debug", 100, &[("NODE_ENV", "production"), ("LOG_LEVEL", "debug")]);
    let mut program = stage.run(&["serve"]);
    let listening: Value = serde_json::from_str(&program.line_with("HTTP server listening")).unwrap();
    program.line_with("Server ready to accept requests");
    let base = format!("http://{}", listening["address"].as_str().unwrap());
    let body = r#"{"transfers":[{"receiverId":"user1.test.near","amount":"1"},{"receiverId":"user2.test.near","amount":"2"}]}"#;
    let answer = crate::common::send(&base, body).await;
    assert_eq!(answer.0, 200);
    program.signal("TERM");
    assert!(program.end().success());
    let answer: Value = serde_json::from_str(&answer.1).unwrap();
    let (hash, ids) = (&answer["transactionHash"], answer["jobIds"].as_array().unwrap());
    let all = lines(&program.output());
    let said = |text: &str| all.iter().filter(|line| line["msg"] == text).collect::<Vec<_>>();
    let [signed] = said("transaction signed")[..] else { panic!("{all:#?}") };
    assert_eq!((&signed["txHash"], &signed["transfers"], &signed["level"]), (hash, &json!(2), &json!(20)), "{signed}");
    assert!(signed["key"].as_str().unwrap().starts_with("ed25519:"), "{signed}");
    assert!(signed["nonce"].is_u64() && signed["batchId"].as_str().unwrap().starts_with("batch-"), "{signed}");
    for text in ["transaction sent", "transaction final"] {
        let [line] = said(text)[..] else { panic!("{text}: {all:#?}") };
        assert_eq!(line["txHash"], *hash);
    }
    for (text, status) in [
        ("transfer signed", json!("processing")),
        ("transfer executed", json!("submitted")),
        ("transfer final", json!("finalized")),
    ] {
        let of: Vec<&Value> = said(text).into_iter().map(|line| &line["jobId"]).collect();
        // A node that answers late may tell of FINAL at once.
        assert!(
            of == ids.iter().collect::<Vec<_>>() || (of.is_empty() && text == "transfer executed"),
            "{text}: {of:?}"
        );
        for line in said(text) {
            assert_eq!((&line["txHash"], &line["attempt"], &line["status"]), (hash, &json!(1), &status), "{line}");
        }
    }
    let secrets = &stage.credentials().keys;
    assert!(!all.iter().any(|line| secrets.iter().any(|secret| line.to_string().contains(&secret[8..]))));
}

#[tokio::test]
async fn a_log_file_is_appended_to_and_its_directories_are_made() {
    let stage = Stage::new("contract-log-file", 100, &[("NODE_ENV", "production")]);
    let file = stage.directory.join("deep/er/service.log");
    for (starts, name) in [(1, "PINO_DESTINATION"), (2, "PINO_LOG_PATH")] {
        let mut program = stage.run_with(&["serve"], &[(name, file.to_str().unwrap())]);
        let ready = "Server ready to accept requests";
        until("the file says that it is ready", || async {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            (text.matches(ready).count() == starts).then_some(())
        })
        .await;
        program.signal("TERM");
        assert!(program.end().success());
        assert_eq!(program.output(), "");
        let lines = lines(&std::fs::read_to_string(&file).unwrap());
        let last = lines.iter().rposition(|line| line["msg"] == IN_ORDER[0]).unwrap();
        assert_lines(&lines[last..], &stage.credentials().keys);
    }
}

#[tokio::test]
async fn people_read_the_same_words() {
    let stage = Stage::new("contract-log-people", 100, &[]);
    let mut service = stage.serve();
    service.program.signal("TERM");
    assert!(service.program.end().success());
    let output = service.program.output();
    let mut rest = output.as_str();
    for text in IN_ORDER.iter().chain(&AT_THE_END) {
        let at = rest.find(text).unwrap_or_else(|| panic!("no {text:?} in its place in\n{output}"));
        rest = &rest[at + text.len()..];
    }
    assert!(!stage.credentials().keys.iter().any(|key| output.contains(&key[8..])));
}

#[tokio::test]
async fn the_numbers_of_the_moment_every_ten_seconds() {
    let stage = Stage::new("contract-log-numbers", 100, &[("PINO_PRETTY", "false")]);
    let mut program = stage.run(&["serve"]);
    let line = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let concurrency = line(program.line_with("Concurrency statistics"));
    for field in ["activeRequests", "rejectedRequests", "connections", "pendingJobs", "waitingJobs"] {
        assert_eq!(concurrency[field], 0, "{concurrency}");
    }
    let throughput = line(program.line_with("Throughput update"));
    assert_eq!((&throughput["currentTps"], &throughput["windowSeconds"]), (&json!(0.0), &json!(10)));
}

#[test]
fn a_start_that_fails_is_fatal() {
    let directory = directory("contract-log-fatal");
    let settings =
        [("NODE_ENV", "production"), ("NEAR_ENV", "sandbox"), ("MASTER_ACCOUNT_PRIVATE_KEYS", "ed25519:SECRET")];
    let program = crate::common::program::Program::start(Path::new(&directory), &["serve"], &settings);
    let (code, output) = program.end_with_output();
    assert_eq!(code, Some(1));
    let fatal: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let fatal = fatal.iter().find(|line| line["level"] == json!(60)).unwrap_or_else(|| panic!("{output}"));
    assert!(fatal["error"].as_str().unwrap().starts_with("MASTER_ACCOUNT_PRIVATE_KEYS"), "{fatal}");
    assert!(!output.contains("SECRET"), "{output}");
}
