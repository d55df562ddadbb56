//! The OpenAPI document against the running server, by schemathesis; the README's example of checking a webhook, by Python.
//! Both need Python 3 with `venv`, so they are run by `.ci/run`, or with `--ignored`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[path = "../common/mod.rs"]
mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use common::serving::Stage;
use serde_json::json;

/// Pinned: another one finds other things.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Where schemathesis is. The tests need it at the same time, and one of them makes it.
static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| python_with(SCHEMATHESIS));

/// A Python of its own with this package, made once.
fn python_with(package: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("venv-{}", package.replace("==", "-")));
    let (python, done) = (directory.join("bin/python"), directory.join("done"));
    if !done.exists() {
        let _ = fs::remove_dir_all(&directory);
        let made = Command::new("python3").args(["-m", "venv"]).arg(&directory).status();
        assert!(made.is_ok_and(|made| made.success()), "python3 -m venv: install python3-venv");
        let installed = Command::new(&python).args(["-m", "pip", "install", "--quiet", package]).status().unwrap();
        assert!(installed.success(), "pip install {package}");
        fs::write(done, "").unwrap();
    }
    python
}

/// Runs schemathesis against a service with these settings, in which one transfer has been paid.
async fn conforms(name: &str, settings: &[(&str, &str)], arguments: &[&str]) {
    let python = &*PYTHON;
    let stage = Stage::new(name, 50, settings);
    let serving = stage.serve();
    let paid = serving.send(&json!({ "receiverId": "user1.test.near", "amount": "1" }), &[]).await;
    assert!([200, 401].contains(&paid.status), "{paid:?}");
    // The Node service, whose contract this is, answers 404 to a method that a path does not have; that check wants 405.
    let output = Command::new(python.with_file_name("schemathesis"))
        .arg("--config-file")
        .arg(here("tests/openapi/schemathesis.toml"))
        .args([
            "run",
            &format!("{}/openapi.json", serving.base),
            "--checks",
            "all",
            "--exclude-checks",
            "unsupported_method",
            "--workers",
            "1",
            "--no-color",
        ])
        .args(["--continue-on-failure", "--seed", "1", "--generation-database", "none", "--request-timeout", "20"])
        .args(arguments)
        .current_dir(&stage.directory)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    // Not merely because it found nothing to do.
    assert!(text.contains("Stateful") && text.contains("generated, "), "{text}");
    let health = serving.get("/health").await;
    assert_eq!(health.0, 200);
    serving.stop();
}

#[tokio::test]
#[ignore = "needs Python 3 with venv, and PyPI"]
async fn the_document_is_what_the_server_does() {
    conforms("openapi", &[("REQUEST_TIMEOUT_MS", "1000")], &["--max-examples", "60"]).await;
}

#[tokio::test]
#[ignore = "needs Python 3 with venv, and PyPI"]
async fn and_what_it_does_to_those_without_an_api_key() {
    let keys = Path::new(env!("CARGO_TARGET_TMPDIR")).join("openapi-api-keys");
    let _ = fs::remove_file(&keys);
    let stage = Stage::new("openapi-keys", 50, &[]);
    let made =
        stage.run(&["api-keys", "add", "--name", "reader", "--scopes", "read", "--file", keys.to_str().unwrap()]);
    let (code, text) = made.end_with_output();
    assert_eq!(code, Some(0), "{text}");
    conforms("openapi-refused", &[("API_KEYS_FILE", keys.to_str().unwrap())], &["--max-examples", "10"]).await;
}

#[test]
#[ignore = "needs Python 3"]
fn the_example_in_the_readme_checks_signatures() {
    let readme = fs::read_to_string(here("../README.md")).unwrap();
    let example = readme.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    // printf '1760381235.{"a":1}' | openssl dgst -sha256 -hmac 0123456789abcdef
    let signature = "0e555b773aecc481cd85d1ddb933b53ee7f976d8264a5c3a15980369180e55c8";
    let check = format!(
        r#"{example}
time.time = lambda: 1760381235 + 100
body, signature = b'{{"a":1}}', "t=1760381235,v1={signature}"
assert verify("0123456789abcdef", signature, body)
assert not verify("0123456789abcdeX", signature, body)
assert not verify("0123456789abcdef", signature, body + b" ")
assert not verify("0123456789abcdef", signature.replace("t=1760381235", "t=1760381236"), body)
assert not verify("0123456789abcdef", signature, body, tolerance=99)
"#
    );
    let output = Command::new("python3").args(["-c", &check]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
