//! Artillery's profiles of the Node service's repository and of the analysis that asked for this one, shortened, against the
//! real binary on the embedded sandbox: what they state as their expectations is met, and nothing breaks off.
//!
//! `cargo test -p keyshard --test artillery -- --ignored --nocapture` needs node (20 or newer), npm and its registry, and takes
//! two to three minutes. `KEYSHARD_ARTILLERY=path` runs only profiles whose names contain that.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use common::program::Program;
use serde_json::Value;

/// Answered other than 200 by intent: a receiver that is refused every time.
const SOME_REFUSED: [&str; 1] = ["testnet-generated"];
/// What a run's report may have, in percent of its requests, to be called healthy by the Node service's own report.
const HEALTHY_PERCENT: f64 = 95.0;
/// Profiles at the same time: Artillery takes longer to start and to end than these phases last. Two of them stay below what
/// the chain executes.
const AT_A_TIME: usize = 2;

#[test]
#[ignore = "needs node and npm"]
fn every_profile_meets_its_expectations() {
    let scratch = common::chain::directory("artillery");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/artillery");
    let profiles = copy(&source, &scratch);
    run(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&scratch));

    let arguments = ["dev", "--port", "0", "--rpc-port", "0", "--receivers", "5"];
    let mut service = Program::start(&scratch, &arguments, &[("WAIT_UNTIL", "Final")]);
    let line = service.line_with("HTTP server listening");
    let base = format!("http://{}", line.split("address=").nth(1).unwrap().trim());
    service.line_with("Ctrl-C ends both");

    let (left, told) = (Mutex::new(profiles), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let Some(profile) = left.lock().unwrap().pop() else { return };
                    let verdict = judge(&scratch, &profile, &base);
                    told.lock().unwrap().push(verdict);
                }
            });
        }
    });
    let told = told.into_inner().unwrap();
    assert!(!told.is_empty(), "no profile has such a name");
    let broken: Vec<&String> = told.iter().filter_map(|told| told.as_ref().err()).collect();
    assert!(broken.is_empty(), "{broken:#?}");
    let _ = fs::remove_dir_all(scratch);
}

/// Copies all but what npm installs. Returns the names of the profiles that are asked for.
fn copy(source: &Path, scratch: &Path) -> Vec<String> {
    for file in ["package.json", "package-lock.json", ".npmrc", "common.yml", "requests.cjs", "offline.cjs"] {
        fs::copy(source.join(file), scratch.join(file)).unwrap();
    }
    let wanted = std::env::var("KEYSHARD_ARTILLERY").unwrap_or_default();
    let mut profiles = Vec::new();
    for entry in fs::read_dir(source.join("profiles")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        fs::copy(&path, scratch.join(format!("{name}.yml"))).unwrap();
        if name.contains(&wanted) {
            profiles.push(name);
        }
    }
    // Popped from the end: in the order of their names.
    profiles.sort_unstable_by(|a, b| b.cmp(a));
    profiles
}

fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// Runs a profile and holds its report against what it states and what any run must be.
fn judge(scratch: &Path, profile: &str, base: &str) -> Result<(), String> {
    let report = scratch.join(format!("{profile}.json"));
    let offline: PathBuf = scratch.join("offline.cjs");
    let mut artillery = Command::new("node");
    artillery
        .arg("node_modules/artillery/bin/run")
        .args(["run", "--config", "common.yml", "--target", base, "--output"])
        .arg(&report)
        .arg(format!("{profile}.yml"))
        .env("ARTILLERY_DISABLE_TELEMETRY", "true")
        .env("NODE_OPTIONS", format!("--require {}", offline.display()))
        .current_dir(scratch);
    // Its exit code is the word of `ensure`.
    let (ensured, output) = run(&mut artillery);
    let report = fs::read(&report).map_err(|error| format!("{profile}: no report ({error})\n{output}"))?;
    let report: Value = serde_json::from_slice(&report).unwrap();
    let counters = report["aggregate"]["counters"].as_object().unwrap();
    let count = |name: &str| counters.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (requests, answered) = (count("http.requests"), count("http.codes.200"));
    let times = &report["aggregate"]["summaries"]["http.response_time"];
    println!(
        "{profile:18} {requests:5} requests  {answered:5} x 200  {:4} x 400  p95 {:6} ms  p99 {:6} ms",
        count("http.codes.400"),
        times["p95"],
        times["p99"]
    );
    let mut wrong = Vec::new();
    if !ensured {
        wrong.push("a threshold is exceeded".to_owned());
    }
    let healthy = answered as f64 >= requests as f64 * HEALTHY_PERCENT / 100.0;
    if requests == 0 || !(healthy || SOME_REFUSED.contains(&profile)) {
        wrong.push(format!("{answered} of {requests} requests were answered with 200"));
    }
    // Expectations that are not met count as errors, as do ETIMEDOUT and ECONNRESET.
    let bad =
        |name: &str| name.starts_with("errors.") || name.starts_with("http.codes.5") || name.contains("expect.failed");
    wrong.extend(counters.iter().filter(|(name, _)| bad(name)).map(|(name, count)| format!("{name}: {count}")));
    if count("vusers.failed") > 0 {
        wrong.push(format!("vusers.failed: {}", count("vusers.failed")));
    }
    if wrong.is_empty() { Ok(()) } else { Err(format!("{profile}: {}", wrong.join(", "))) }
}
