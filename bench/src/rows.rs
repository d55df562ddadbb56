//! Every promised number, one after the other: each by the command that anybody can run alone, in a process of its own.
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    doubts,
    machine::Machine,
    max_tps::OF_BEST,
    report::{Check, FORMAT, Report, Table, table},
    session::Error,
    text::{self, count, number, say, time_ms},
};

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether to take the shorter measurements.
    pub quick: bool,
    /// Names of the rows to measure; empty for all.
    pub only: Vec<String>,
    /// Where the table goes as Markdown.
    pub markdown: Option<PathBuf>,
    /// A `keyshard` to measure instead of the one built in.
    pub binary: Option<PathBuf>,
    /// Whether to take what the directory has of an earlier run, and measure the rest alone.
    pub resume: bool,
    /// Where the reports go: each row's in a directory of its name.
    pub directory: PathBuf,
}

/// A number that was promised.
struct Row {
    /// To call it by.
    name: &'static str,
    /// What is measured.
    what: &'static str,
    /// What it must be.
    target: &'static str,
    /// Arguments of this program that measure it. Rows with the same ones are measured once.
    command: &'static str,
    /// What is added to them for a quick look.
    quick: &'static str,
    /// What was measured, and whether it is enough; `None` if the report lacks it.
    judge: fn(&Report) -> Option<Verdict>,
}

/// How a row came out.
struct Verdict {
    measured: String,
    held: bool,
}

/// Long enough for a leak of 3 % to show, which a search of a few seconds does not.
const QUICK_MAX: &str = "--duration 15 --try-seconds 5 --ceiling-seconds 6 --ceiling-actions 100";

const ROWS: [Row; 14] = [
    Row {
        name: "chain",
        what: "gas-metered 600 ms sandbox, 12 keys, single-transfer requests: sustained / ceiling",
        target: ">= 0.97",
        command: "max-tps",
        quick: QUICK_MAX,
        judge: of_ceiling,
    },
    Row {
        name: "batching",
        what: "chain cost: transfers a transaction near saturation",
        target: ">= 80",
        command: "max-tps",
        quick: QUICK_MAX,
        judge: |report| {
            let size = report.figure("transfers a transaction")?;
            Some(Verdict { measured: number(size), held: size >= 80.0 })
        },
    },
    Row {
        name: "one-key",
        what: "the same with ONE key",
        target: ">= 0.97",
        command: "max-tps --keys 1",
        quick: QUICK_MAX,
        judge: of_ceiling,
    },
    Row {
        name: "overload",
        what: "offered twice the ceiling for 60 s: accepted ones land at the ceiling, the rest get 503 at once, median answer \
               within backlog / ceiling",
        target: "landed >= 0.97 of it",
        command: "overload",
        quick: "--duration 20 --ceiling-seconds 6",
        judge: overload,
    },
    Row {
        name: "accepts",
        what: "durable accepts of single-transfer requests (async) / noop",
        target: ">= 0.5",
        // With 64 connections the one sync that each waits for is what bounds them.
        command: "accepts --connections 256 --settle 5",
        quick: "--duration 4",
        judge: |report| {
            let [accepts, noop, share] = ["durable accepts", "noop", "of noop"].map(|name| report.figure(name));
            let measured = format!("{} ({} / {} a second)", ratio(share?), number(accepts?), number(noop?));
            Some(Verdict { measured, held: share? >= 0.5 })
        },
    },
    Row {
        name: "settled",
        what: "end to end, no gas limit, single-transfer requests: settled / noop",
        target: ">= 0.2",
        command: "settled",
        quick: "--duration 5",
        judge: |report| {
            let [settled, noop, share] = ["settled", "noop", "of noop"].map(|name| report.figure(name));
            let measured = format!("{} ({} / {} a second)", ratio(share?), number(settled?), number(noop?));
            Some(Verdict { measured, held: share? >= crate::settled::OF_NOOP })
        },
    },
    Row {
        name: "settled-rate",
        what: "the same, settled a second",
        target: ">= 25,000 on a quiet machine",
        command: "settled",
        quick: "--duration 5",
        judge: |report| settled(report, crate::settled::SINGLES),
    },
    Row {
        name: "settled-batches",
        what: "end to end, no gas limit, 100 transfers a request, settled a second",
        target: ">= 150,000 on a quiet machine",
        command: "settled --batch 100",
        quick: "--duration 5",
        judge: |report| settled(report, crate::settled::HUNDREDS),
    },
    Row {
        name: "sign",
        what: "build+borsh+hash+sign+base64 of a 100-action transaction / the plain near-primitives + near-crypto path",
        target: "<= 0.35",
        command: "sign",
        quick: "--duration 1",
        judge: |report| {
            let [ours, plain, share] = ["keyshard", "near-primitives and near-crypto", "median of the turns' ratios"]
                .map(|name| report.figure(name));
            let measured = format!("{} ({} / {} us)", ratio(share?), number(ours?), number(plain?));
            Some(Verdict { measured, held: share? <= crate::sign::TARGET })
        },
    },
    Row {
        name: "lone",
        what: "median answer time of one lone transfer / a bare send_tx, EXECUTED_OPTIMISTIC (ratio of the medians)",
        target: "<= 1.1",
        command: "lone",
        quick: "--pairs 12",
        judge: lone,
    },
    Row {
        name: "lone-final",
        what: "the same, FINAL",
        target: "<= 1.1",
        command: "lone --pairs 24 --wait-until final",
        quick: "--pairs 8",
        judge: lone,
    },
    Row {
        name: "idle",
        what: "idle CPU, of one core",
        target: "<= 1 %",
        command: "idle",
        quick: "--duration 10",
        judge: |report| {
            let check = report.checks.first()?;
            Some(Verdict { measured: check.value.clone(), held: check.ok })
        },
    },
    Row {
        name: "open",
        what: "memory with 1,000,000 open transfers; after kill -9 and restart",
        target: "<= 600 MiB",
        command: "open",
        quick: "--transfers 250000",
        judge: |report| {
            let [filled, recovered] = ["with all open", "after kill -9 and restart"].map(|name| report.figure(name));
            let each = report.figure("an open transfer")?;
            let open = report.checks.get(2)?.value.clone();
            let measured = format!(
                "{} MiB; {} MiB ({open} open, {} bytes each)",
                number(filled?),
                number(recovered?),
                count(each as u64)
            );
            Some(Verdict { measured, held: report.checks.iter().all(|check| check.ok) })
        },
    },
    Row {
        name: "scaling",
        what: "settled and CPU a transfer at 1, 4, 16, 64 keys and 1-2 shards; the model's 64 cores",
        target: "-",
        command: "scaling",
        quick: "--duration 2 --key-counts 1,16",
        judge: |report| {
            let all = report.results.iter().map(|figure| format!("{}: {}/s", figure.name, number(figure.value)));
            Some(Verdict { measured: all.collect::<Vec<_>>().join("; "), held: report.passed() })
        },
    },
];

fn ratio(share: f64) -> String {
    format!("{share:.3}")
}

fn of_ceiling(report: &Report) -> Option<Verdict> {
    let (sustained, ceiling, share) =
        (report.figure("sustained")?, report.figure("ceiling of the node alone")?, report.figure("of the ceiling"));
    let share = share.unwrap_or(sustained / ceiling);
    let best = report.figure(OF_BEST).map_or_else(String::new, |best| format!("; {} of the highest", ratio(best)));
    let measured = format!("{} ({} / {} a second{best})", ratio(share), number(sustained), number(ceiling));
    Some(Verdict { measured, held: share >= 0.97 && report.passed() })
}

fn overload(report: &Report) -> Option<Verdict> {
    let [share, refused, p50, bound] =
        ["of the ceiling", "refused, P99", "answer P50", "backlog / ceiling"].map(|name| report.figure(name));
    let measured = format!(
        "{}; 503 within {} (P99); median answer {} of {}",
        ratio(share?),
        time_ms(refused?),
        time_ms(p50?),
        time_ms(bound? * 1_000.0)
    );
    Some(Verdict { measured, held: report.passed() })
}

fn settled(report: &Report, target: f64) -> Option<Verdict> {
    let rate = report.figure("settled")?;
    let usage = &report.runs.last()?.usage;
    let all = usage.machine_cores.map_or_else(String::new, |cores| format!(", {} cores in use", number(cores)));
    let cores = usage.process_cores.iter().map(|(name, cores)| format!("{name} {}", number(*cores)));
    let cores = cores.chain(usage.bench_cores.map(|cores| format!("load {}", number(cores)))).collect::<Vec<_>>();
    Some(Verdict { measured: format!("{} ({}{all})", number(rate), cores.join(", ")), held: rate >= target })
}

fn lone(report: &Report) -> Option<Verdict> {
    let [share, ours, bare] =
        ["ratio of the medians", "lone transfer, P50", "bare send_tx, P50"].map(|name| report.figure(name));
    let measured = format!("{} ({} / {})", ratio(share?), time_ms(ours?), time_ms(bare?));
    Some(Verdict { measured, held: report.passed() })
}

/// Names, limits and commands of all rows.
pub fn list() -> String {
    let rows =
        ROWS.iter().map(|row| [row.name.to_owned(), row.target.to_owned(), format!("keyshard-bench {}", row.command)]);
    let rows: Vec<_> = rows.collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    let lines = rows.iter().map(|[name, target, command]| format!("{name:first$}  {target:second$}  {command}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Measures them, prints the table and writes it. Whether every row was held.
pub fn run(options: &Options) -> Result<bool, Error> {
    if let Some(unknown) = options.only.iter().find(|name| ROWS.iter().all(|row| row.name != name.as_str())) {
        return Err(Error::Other(format!("--only: there is no row {unknown:?}; the rows are:\n{}", list())));
    }
    let wanted = |row: &&Row| options.only.is_empty() || options.only.iter().any(|name| name == row.name);
    let rows: Vec<&Row> = ROWS.iter().filter(wanted).collect();
    fs::create_dir_all(&options.directory)?;
    let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut measured: BTreeMap<&str, Result<Report, String>> = BTreeMap::new();
    let mut verdicts = Vec::new();
    for row in &rows {
        let report = measured.entry(row.command).or_insert_with(|| measure(row, options));
        let verdict = match report {
            Ok(report) => (row.judge)(report).ok_or_else(|| "its report lacks the number".to_owned()),
            Err(why) => Err(why.clone()),
        };
        let verdict = verdict.unwrap_or_else(|why| Verdict { measured: format!("not measured: {why}"), held: false });
        say(&format!("{:<16} {:<9} {}  (must be {})", row.name, word(row, &verdict), verdict.measured, row.target));
        verdicts.push(verdict);
    }
    let held = verdicts.iter().filter(|verdict| verdict.held).count();
    let mut report = Report {
        format: FORMAT,
        title: format!("{held} of {} rows held", rows.len()),
        command: text::command(std::env::args()),
        unix_s,
        version: env!("CARGO_PKG_VERSION").into(),
        machine: Machine::this(),
        doubts: doubts_of(options, &rows, &measured),
        ..Report::default()
    };
    report.stand.insert("service".into(), service(options));
    report.tables.push(commands(&rows, options));
    for (row, verdict) in rows.iter().zip(&verdicts) {
        report.checks.push(Check {
            name: format!("{}: {}", row.name, row.what),
            limit: row.target.into(),
            value: verdict.measured.clone(),
            ok: verdict.held,
        });
    }
    let files = report.write(&options.directory)?;
    say(&table::report(&report));
    say(&format!("Report  {}\nRaw     {}", files.html.display(), files.json.display()));
    if let Some(file) = &options.markdown {
        fs::write(file, markdown(&report, &rows, &verdicts, options))?;
        say(&format!("Table   {}", file.display()));
    }
    Ok(held == rows.len())
}

/// Runs a row's command and reads the report that it leaves; otherwise why there is none.
fn measure(row: &Row, options: &Options) -> Result<Report, String> {
    let directory = options.directory.join(row.name);
    let failed = |error: std::io::Error| error.to_string();
    if let Some(report) = Report::read(&directory).ok().filter(|_| options.resume) {
        return Ok(report);
    }
    fs::create_dir_all(&directory).map_err(failed)?;
    // What an earlier run left there must not pass for this one's.
    let _ = fs::remove_file(directory.join("report.json"));
    let said = directory.join("said.txt");
    let arguments = arguments(row, options.quick);
    say(&format!("... keyshard-bench {}", arguments.join(" ")));
    let mut command = Command::new(std::env::current_exe().map_err(failed)?);
    command.args(&arguments).arg("--out").arg(&directory);
    // What is built in is all that there is to sign with.
    if let Some(binary) = options.binary.as_ref().filter(|_| row.name != "sign") {
        command.arg("--binary").arg(binary);
    }
    let file = fs::File::create(&said).map_err(failed)?;
    // What goes wrong is seen at once, and so is the progress, where somebody looks.
    let status = command.stdin(Stdio::null()).stdout(file).status().map_err(failed)?;
    if !matches!(status.code(), Some(0 | 1)) {
        return Err(format!("{status}; see {}", said.display()));
    }
    Report::read(&directory).map_err(|error| error.to_string())
}

/// The command's arguments. Of an option given twice the last counts, so a quick look's replace the others.
fn arguments(row: &Row, quick: bool) -> Vec<String> {
    let mut words: Vec<String> = row.command.split(' ').map(str::to_owned).collect();
    for pair in row.quick.split(' ').collect::<Vec<_>>().chunks(2).filter(|_| quick) {
        if let [name, value] = pair {
            if let Some(at) = words.iter().position(|word| word == name) {
                words.drain(at..(at + 2).min(words.len()));
            }
            words.extend([(*name).to_owned(), (*value).to_owned()]);
        }
    }
    words
}

fn word(row: &Row, verdict: &Verdict) -> &'static str {
    match (verdict.held, row.target) {
        (true, "-") => "shown",
        (true, _) => "held",
        (false, _) => "NOT HELD",
    }
}

/// What measured each row; what came of it are the report's checks.
fn commands(rows: &[&Row], options: &Options) -> Table {
    let row =
        |row: &&Row| vec![row.name.to_owned(), format!("keyshard-bench {}", arguments(row, options.quick).join(" "))];
    Table {
        title: "Commands".into(),
        columns: ["row", "command"].map(str::to_owned).to_vec(),
        rows: rows.iter().map(row).collect(),
        note: format!("Each row's own report is in {}, in the directory of its name.", options.directory.display()),
    }
}

fn doubts_of(options: &Options, rows: &[&Row], measured: &BTreeMap<&str, Result<Report, String>>) -> Vec<String> {
    let mut doubts: Vec<String> = doubts::of_build().into_iter().collect();
    if options.quick {
        doubts.push("a quick look: short measurements, which see no slow leak (without --quick)".into());
    }
    let mut commands = Vec::new();
    for row in rows {
        if let Some(Ok(report)) = measured.get(row.command).filter(|_| !commands.contains(&row.command)) {
            let own = report.doubts.iter().filter(|doubt| !doubts.contains(doubt)).collect::<Vec<_>>();
            let own: Vec<String> = own.into_iter().map(|doubt| format!("{}: {doubt}", row.name)).collect();
            doubts.extend(own);
        }
        commands.push(row.command);
    }
    doubts
}

fn service(options: &Options) -> String {
    let own = || "keyshard, built in, as a process of its own".to_owned();
    options.binary.as_deref().map_or_else(own, |binary: &Path| format!("{} serve", binary.display()))
}

fn markdown(report: &Report, rows: &[&Row], verdicts: &[Verdict], options: &Options) -> String {
    let machine = &report.machine;
    let mut text = format!(
        "{} cores, {}, {} GiB, {}.{}\n\n| what | target | measured | verdict | command |\n|---|---|---|---|---|\n",
        machine.cores,
        machine.processor,
        machine.memory_mib.div_ceil(1_024),
        machine.kernel,
        if options.quick { " A quick look (`--quick`)." } else { "" }
    );
    for (row, verdict) in rows.iter().zip(verdicts) {
        let cell = |text: &str| text.replace('|', "\\|");
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | `{}` |",
            cell(row.what),
            row.target,
            cell(&verdict.measured),
            word(row, verdict),
            arguments(row, options.quick).join(" ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Usage;

    fn row(name: &str) -> &'static Row {
        ROWS.iter().find(|row| row.name == name).unwrap()
    }

    fn report(figures: &[(&str, f64)]) -> Report {
        let mut report = Report::default();
        for (name, value) in figures {
            report.add(name, *value, "", None);
        }
        report
    }

    #[test]
    fn names_are_unique_and_commands_are_ones() {
        for row in &ROWS {
            assert_eq!(ROWS.iter().filter(|other| other.name == row.name).count(), 1, "{}", row.name);
            for quick in [false, true] {
                let line = [vec!["keyshard-bench".to_owned()], arguments(row, quick)].concat();
                assert!(crate::cli::understands(&line), "{line:?}");
            }
            // Rows that share a measurement share its quick form.
            let alike = ROWS.iter().filter(|other| other.command == row.command);
            assert!(alike.into_iter().all(|other| other.quick == row.quick), "{}", row.name);
        }
        assert!(list().lines().count() == ROWS.len());
    }

    #[test]
    fn quick_options_replace_the_others() {
        let arguments = arguments(row("lone-final"), true);
        assert_eq!(arguments.iter().filter(|word| *word == "--pairs").count(), 1);
        assert_eq!(arguments.last().map(String::as_str), Some("8"));
        assert!(arguments.contains(&"final".to_owned()));
    }

    #[test]
    fn rows_are_judged_by_their_numbers() {
        for (name, figures, held) in [
            ("chain", &[("sustained", 680.0), ("ceiling of the node alone", 690.0)][..], true),
            ("chain", &[("sustained", 660.0), ("ceiling of the node alone", 690.0)], false),
            ("batching", &[("transfers a transaction", 79.0)], false),
            ("accepts", &[("durable accepts", 5.0), ("noop", 10.0), ("of noop", 0.5)], true),
            ("settled", &[("settled", 1.0), ("noop", 10.0), ("of noop", 0.1)], false),
            ("lone", &[("ratio of the medians", 1.0), ("lone transfer, P50", 1.0), ("bare send_tx, P50", 1.0)], true),
        ] {
            let verdict = (row(name).judge)(&report(figures)).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(verdict.held, held, "{name}: {}", verdict.measured);
        }
        for row in &ROWS[..ROWS.len() - 1] {
            assert!((row.judge)(&Report::default()).is_none(), "{} of nothing", row.name);
        }
    }

    #[test]
    fn a_failed_check_of_a_report_fails_its_row() {
        let figures = [("ratio of the medians", 1.0), ("lone transfer, P50", 1.0), ("bare send_tx, P50", 1.0)];
        let mut report = report(&figures);
        report.checks.push(Check { ok: false, ..Check::default() });
        assert!(!(row("lone").judge)(&report).unwrap().held);
    }

    #[test]
    fn the_unlimited_rows_say_who_used_the_cores() {
        let usage = Usage {
            machine_cores: Some(1.97),
            bench_cores: Some(0.8),
            process_cores: vec![("sandbox".into(), 0.5), ("service".into(), 0.6)],
            ..Usage::default()
        };
        let mut report = report(&[("settled", 26_000.0)]);
        report.runs.push(crate::report::Run { usage, ..crate::report::Run::default() });
        let verdict = (row("settled-rate").judge)(&report).unwrap();
        assert!(verdict.held);
        assert_eq!(verdict.measured, "26,000 (sandbox 0.5, service 0.6, load 0.8, 1.97 cores in use)");
    }

    #[test]
    fn the_markdown_has_a_line_a_row() {
        let rows = [row("idle"), row("chain")];
        let verdicts = [true, false].map(|held| Verdict { measured: "1 | 2".into(), held });
        let options = Options {
            quick: false,
            only: Vec::new(),
            markdown: None,
            binary: None,
            resume: false,
            directory: PathBuf::from("x"),
        };
        let text = markdown(&Report::default(), &rows, &verdicts, &options);
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("| ")).collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].contains("1 \\| 2") && lines[1].ends_with("| held | `idle` |"), "{}", lines[1]);
        assert!(lines[2].contains("NOT HELD"), "{}", lines[2]);
    }
}
