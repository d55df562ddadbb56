//! A real client proves the sandbox: near-api-js 7 views, sends, waits for FINAL and meets a failing call.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use keyshard_sandbox::{Config, Sandbox};

/// A directory of its own outside the source tree, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("keyshard-near-api-js-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

#[test]
#[ignore = "needs node and npm"]
fn near_api_js_views_sends_and_meets_a_failure() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/near-api-js");
    let scratch = Scratch::new();
    for file in ["package.json", "package-lock.json", ".npmrc", "drive.mjs"] {
        std::fs::copy(source.join(file), scratch.0.join(file)).unwrap();
    }
    run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&scratch.0));
    let sandbox = Sandbox::start(Config { block_ms: 200, ..Config::default() }).unwrap();
    let credentials = scratch.0.join("credentials.json");
    sandbox.credentials().write_to(&credentials).unwrap();
    let said = run(Command::new("node").arg("drive.mjs").arg(&credentials).current_dir(&scratch.0));
    assert!(said.trim_end().ends_with("ok"), "{said}");
}
