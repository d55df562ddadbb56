//! The command as it is used: whole measurements, seconds long. Their numbers mean nothing here; what is counted does.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use keyshard_bench::report::Report;

fn directory(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&directory);
    directory
}

fn bench(arguments: &[&str]) -> Output {
    // Reports of those that name no directory go there.
    let directory = env!("CARGO_TARGET_TMPDIR");
    Command::new(env!("CARGO_BIN_EXE_keyshard-bench")).args(arguments).current_dir(directory).output().unwrap()
}

fn report(arguments: &[&str], out: &Path) -> (Report, Output) {
    let output = bench(&[arguments, &["--out", out.to_str().unwrap()]].concat());
    let said = || format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let report = Report::read(out).unwrap_or_else(|error| panic!("{error}\n{}", said()));
    let html = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(html.contains(&report.title.replace('&', "&amp;")) && html.ends_with("</html>\n"));
    // Nobody may be misled by a build like this one.
    if cfg!(debug_assertions) {
        assert!(report.doubts.iter().any(|doubt| doubt.contains("without optimisation")), "{:?}", report.doubts);
    }
    (report, output)
}

/// Nothing may be lost, doubled or wrong, however slow the machine is; the rest is arithmetic.
fn assert_accounted(report: &Report) {
    // The constant server pays nobody.
    for run in report.runs.iter().filter(|run| run.name != "noop") {
        let transfers = &run.transfers;
        assert_eq!(transfers.wrongs(), [""; 0], "{}", run.name);
        assert_eq!(transfers.offered, transfers.accepted + transfers.refused + transfers.unanswered, "{}", run.name);
        assert_eq!(run.blocks.iter().map(|block| block.landed).sum::<u64>(), transfers.executed, "{}", run.name);
        assert_eq!(run.bins.iter().map(|bin| bin.landed).sum::<u64>(), transfers.executed, "{}", run.name);
        assert_eq!(run.bins.iter().map(|bin| bin.offered).sum::<u64>(), transfers.offered, "{}", run.name);
    }
}

#[test]
fn max_tps_finds_a_rate_and_compare_finds_it_unchanged() {
    let out = directory("max-tps");
    let line =
        "max-tps --duration 2 --try-seconds 1 --precision 30 --no-ceiling --start-rate 20 --block-ms 100 --keys 4";
    let (report, output) = report(&line.split(' ').collect::<Vec<_>>(), &out);
    assert_accounted(&report);
    let last = report.runs.last().unwrap();
    assert_eq!(last.name, "confirm");
    assert_eq!(output.status.success(), last.passed(), "{}", String::from_utf8_lossy(&output.stdout));
    if last.passed() {
        assert!(last.transfers.succeeded >= 20 && report.figure("sustained").unwrap() > 0.0);
        assert_eq!(last.requests.answers.keys().collect::<Vec<_>>(), ["200"]);
    }
    let compared = bench(&["compare", out.to_str().unwrap(), out.join("report.json").to_str().unwrap()]);
    let text = String::from_utf8(compared.stdout).unwrap();
    assert!(compared.status.success() && text.contains("sustained") && !text.contains("better"), "{text}");
}

#[test]
fn a_profile_is_run_and_judged() {
    let out = directory("profile");
    let (report, _) = report(&["run", "smoke", "--scale-time", "0.3", "--block-ms", "100", "--skew", "zipf"], &out);
    assert_accounted(&report);
    let run = &report.runs[0];
    assert_eq!(run.transfers.offered, run.transfers.succeeded, "{:?}", run.requests);
    // Health checks are requests without transfers.
    let most = run.requests.offered;
    assert!(run.latency_all.count < most && run.requests.ok == most);
    assert_eq!(
        run.checks.iter().map(|check| check.name.as_str()).collect::<Vec<_>>(),
        ["P95", "ETIMEDOUT", "ECONNRESET", "success", "doubled, lost or wrong"]
    );
    assert!(report.doubts.iter().any(|doubt| doubt.contains("scaled by 0.3")));
}

#[test]
fn the_ceiling_is_what_the_chain_shows_of_signed_batches() {
    for (name, more) in [("ceiling", &["--actions", "100,50"][..]), ("ceiling-unlimited", &["--unlimited"])] {
        let out = directory(name);
        let line = [&["ceiling", "--duration", "1.5", "--block-ms", "100", "--keys", "3"], more].concat();
        let (report, _) = report(&line, &out);
        assert_accounted(&report);
        assert_eq!(report.runs.len(), if name == "ceiling" { 2 } else { 1 });
        for run in &report.runs {
            assert!(run.transfers.succeeded > 0 && run.transfers.succeeded == run.transfers.offered, "{run:?}");
            assert_eq!(run.transactions.sizes.len(), 1, "{:?}", run.transactions);
        }
    }
}

#[test]
fn accepts_are_durable_counted_and_beside_noop() {
    let out = directory("accepts");
    let line = "accepts --duration 1 --connections 8 --unlimited --block-ms 100 --fresh 5";
    let (report, _) = report(&line.split(' ').collect::<Vec<_>>(), &out);
    assert_accounted(&report);
    let [noop, accepts] = &report.runs[..] else { panic!("{}", report.runs.len()) };
    assert!(noop.requests.ok > 0 && noop.requests.ok == noop.requests.offered);
    assert_eq!(accepts.requests.answers.keys().collect::<Vec<_>>(), ["202"]);
    assert_eq!(accepts.transfers.succeeded, accepts.transfers.offered);
    assert!(accepts.transactions.deposits > 0, "fresh receivers have to be registered");
}

#[test]
fn what_cannot_be_measured_is_said() {
    for (arguments, why) in [
        (&["run", "no-such-profile"][..], "sandbox-50tps"),
        (&["load", "--rate", "1", "--target", "http://127.0.0.1:1"], "--node"),
        (&["load", "--rate", "1", "--node", "http://127.0.0.1:1"], "127.0.0.1:1"),
        (&["load", "--rate", "1e9"], "rates"),
        (&["compare", file!(), file!()], "end_to_end.rs"),
        (&["compare", env!("CARGO_MANIFEST_PATH"), "x"], "no report"),
    ] {
        let output = bench(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(why), "{arguments:?}: {said}");
    }
}

fn checks(report: &Report) -> Vec<(&str, bool)> {
    report.checks.iter().map(|check| (check.name.as_str(), check.ok)).collect()
}

#[test]
fn one_lone_transfer_is_measured_beside_a_bare_one() {
    let out = directory("lone");
    let line = "lone --pairs 3 --block-ms 100 --keys 1 --wait-until final";
    let (report, output) = report(&line.split(' ').collect::<Vec<_>>(), &out);
    assert_accounted(&report);
    let [ours, bare] = &report.runs[..] else { panic!("{}", report.runs.len()) };
    // Two pairs more to warm up, which are paid and do not count.
    for run in [ours, bare] {
        assert_eq!((run.transfers.succeeded, run.latency.count), (5, 3), "{}", run.name);
        assert_eq!(run.transactions.sizes, [(1, 5)].into(), "{}", run.name);
    }
    assert!(report.figure("ratio of the medians").unwrap() > 0.0);
    assert_eq!(checks(&report)[1], ("pairs in which both were answered 200", true));
    assert_eq!(output.status.success(), checks(&report)[0].1);
}

#[test]
fn an_idle_service_is_looked_at_before_and_after_a_load() {
    let out = directory("idle");
    let (report, output) = report(&["idle", "--duration", "1", "--rate", "20", "--block-ms", "100"], &out);
    assert_accounted(&report);
    assert_eq!(report.runs[0].transfers.succeeded, 100);
    let table = &report.tables[0];
    for threads in ["http", "shard", "journal", "history", "main", "the whole process"] {
        assert_eq!(table.rows.iter().filter(|row| row[1] == threads).count(), 2, "{threads}: {:?}", table.rows);
    }
    assert_eq!(output.status.success(), checks(&report)[0].1);
}

#[test]
fn open_transfers_are_still_there_after_a_kill() {
    let out = directory("open");
    let (report, _) = report(&["open", "--transfers", "2000", "--batch", "50", "--connections", "2"], &out);
    let checks = checks(&report);
    assert_eq!(checks[2..], [("open, as the service counts", true), ("open after the restart", true)]);
    assert!(report.figure("with all open").unwrap() > 0.0 && report.figure("until ready again").unwrap() > 0.0);
    assert!((report.plots[0].lines[0].1.last().unwrap().0 - 2_000.0).abs() < 1e-9);
}

#[test]
fn an_overload_is_refused_and_the_rest_lands() {
    let out = directory("overload");
    let line = "overload --duration 4 --ceiling-seconds 2 --times 3 --block-ms 200 --keys 4 --set MAX_PENDING_JOBS=200";
    let (report, output) = report(&line.split(' ').collect::<Vec<_>>(), &out);
    assert_accounted(&report);
    let run = report.runs.last().unwrap();
    assert!(run.transfers.refused > 0 && run.requests.answers.contains_key("503"), "{:?}", run.requests);
    let held = |word: &str| run.checks.iter().find(|check| check.name.contains(word)).unwrap().ok;
    assert!(held("503") && held("failed") && held("doubled"), "{:?}", run.checks);
    assert_eq!(output.status.success(), report.passed());
    assert!(report.stand["service MAX_PENDING_JOBS"] == "200");
}

#[test]
fn what_settles_is_counted_on_chain_and_its_cost_is_split_by_thread() {
    let out = directory("settled");
    let line = "settled --duration 1 --connections 16 --batch 5 --keys 3 --block-ms 100";
    let (report, _) = report(&line.split(' ').collect::<Vec<_>>(), &out);
    assert_accounted(&report);
    let run = report.runs.last().unwrap();
    assert!(run.transfers.succeeded > 0 && run.transfers.succeeded == run.transfers.offered, "{:?}", run.transfers);
    assert!(report.stand["node"].contains("no gas limit"), "{:?}", report.stand);
    let costs = &report.tables[1];
    for threads in ["http", "shard", "journal", "history"] {
        let row = costs.rows.iter().find(|row| row[0] == threads).unwrap_or_else(|| panic!("{threads}"));
        assert_eq!(row[1], "1", "{row:?}");
    }
}

#[test]
fn scaling_measures_every_combination_that_can_be_and_feeds_the_model() {
    let out = directory("scaling");
    let line = "scaling --duration 1 --key-counts 1,2 --shards 1,2 --block-ms 100";
    let (report, _) = report(&line.split(' ').collect::<Vec<_>>(), &out);
    assert_accounted(&report);
    // One key cannot have two shards; each of the others with two kinds of requests.
    assert_eq!((report.runs.len(), report.tables[0].rows.len()), (6, 6));
    assert!(
        report.runs.iter().all(|run| run.transfers.succeeded > 0 && run.transfers.succeeded == run.transfers.offered)
    );
    let modelled = report.tables.last().unwrap();
    assert_eq!(modelled.rows.len(), 8);
    assert!(modelled.note.contains("Assumed"));
    assert_eq!(report.plots.len(), 3);
}

#[test]
fn the_table_has_each_row_by_its_own_command() {
    let out = directory("table");
    let markdown = out.join("table.md");
    let line = ["table", "--quick", "--only", "idle", "--markdown", markdown.to_str().unwrap()];
    let (whole, output) = report(&line, &out);
    let row = Report::read(&out.join("idle")).unwrap();
    assert_eq!(whole.checks[0].value, row.checks[0].value);
    assert_eq!((whole.checks.len(), output.status.success()), (1, row.passed()));
    let text = std::fs::read_to_string(&markdown).unwrap();
    assert!(text.contains("| `idle --duration 10` |") && text.contains(&row.checks[0].value), "{text}");
    // What is there is not measured again.
    let (again, _) = report(&[&line[..], &["--resume"]].concat(), &out);
    assert_eq!(Report::read(&out.join("idle")).unwrap().unix_s, row.unix_s);
    assert_eq!(again.checks, whole.checks);
    let unknown = bench(&["table", "--only", "no-such-row"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("overload"));
}

#[test]
fn signing_is_measured_beside_the_plain_way() {
    let out = directory("sign");
    let (report, output) = report(&["sign", "--duration", "0.01"], &out);
    assert_eq!(report.tables[0].rows.len(), 4);
    assert!(report.figure("keyshard").unwrap() > 0.0);
    assert_eq!(output.status.success(), report.checks[0].ok);
}
