//! A report as text for a terminal.
use std::fmt::Write as _;

use super::{Check, Report, Run, Table};
use crate::text::{count, number, percent, time_ms};

/// Rows in columns as wide as needed: the first to the left, the others to the right.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let pad = widths[column].saturating_sub(cell.chars().count());
            if column == 0 {
                let _ = write!(line, "{cell}{:pad$}", "");
            } else {
                let _ = write!(line, "  {:pad$}{cell}", "");
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What a load was answered and what the chain shows of it, a line each.
pub fn run(run: &Run) -> String {
    let transfers = &run.transfers;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<11}{value}");
    };
    if transfers.offered == 0 {
        // Requests alone: nobody looked at the chain.
        let requests = &run.requests;
        line("requests", format!("offered {}, answered 2xx {}", count(requests.offered), count(requests.ok)));
        if run.latency.count > 0 {
            let at = |percent: f64| time_ms(run.latency.percentile_ms(percent));
            line("answered", format!("P50 {}, P95 {}, P99 {}, most {}", at(50.0), at(95.0), at(99.0), at(100.0)));
        }
        return text;
    }
    line(
        "transfers",
        format!(
            "offered {}, accepted {}, executed {}, final {}, failed {}, doubled {}, lost {}",
            count(transfers.offered),
            count(transfers.accepted),
            count(transfers.executed),
            count(transfers.r#final),
            count(transfers.failed),
            count(transfers.doubled),
            count(transfers.lost)
        ),
    );
    let rest = [
        (transfers.refused, "refused"),
        (transfers.unanswered, "unanswered"),
        (transfers.open, "still open"),
        (transfers.paid_unheard, "paid unheard"),
        (transfers.paid_though_refused, "PAID THOUGH REFUSED"),
        (transfers.extra_payments, "EXTRA PAYMENTS"),
    ];
    let rest: Vec<_> = rest.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))).collect();
    if !rest.is_empty() {
        line("", rest.join(", "));
    }
    line("landed", format!("{}/s, {} success", number(run.landed_per_s), percent(transfers.success())));
    if run.latency.count > 0 {
        let at = |percent: f64| time_ms(run.latency.percentile_ms(percent));
        line("answered", format!("P50 {}, P95 {}, P99 {}, most {}", at(50.0), at(95.0), at(99.0), at(100.0)));
    }
    if run.latency_refused.count > 0 {
        let at = |percent: f64| time_ms(run.latency_refused.percentile_ms(percent));
        line("refused in", format!("P50 {}, P99 {}", at(50.0), at(99.0)));
    }
    if let Some(trend) = run.trend {
        let grows = if trend.stable() { "stable" } else { "GROWS" };
        let (growth, tolerated) = (number(trend.growth_per_s), number(trend.tolerated_per_s));
        line("backlog", format!("{grows}: {growth}/s (up to {tolerated}/s counts as none)"));
    }
    if run.transactions.landed > 0 {
        let failed = run.transactions.failed;
        let failed = if failed > 0 { format!(", {} failed", count(failed)) } else { String::new() };
        let (landed, size) = (count(run.transactions.landed), number(run.transactions.mean_size()));
        line("on chain", format!("{landed} transactions with {size} transfers each{failed}"));
    }
    let cores = run.usage.process_cores.iter().map(|(name, cores)| format!("{name} {}", number(*cores)));
    let cores: Vec<_> = cores.chain(run.usage.bench_cores.map(|cores| format!("load {}", number(cores)))).collect();
    if !cores.is_empty() {
        line("CPU cores", cores.join(", "));
    }
    let said: std::collections::BTreeSet<&String> = run.complaints.iter().collect();
    for complaint in said.into_iter().take(2) {
        line("said", complaint.chars().take(160).collect());
    }
    text
}

/// Rows under their names, with what to know about them.
pub fn table(table: &Table) -> String {
    let count = table.columns.len();
    let rows: Vec<&Vec<String>> = std::iter::once(&table.columns).chain(&table.rows).collect();
    let cell = |row: &Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
    let width = |column: usize| rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = format!("{}\n", table.title);
    for row in rows {
        let mut line = String::from("  ");
        for (column, width) in widths.iter().enumerate() {
            let cell = cell(row, column);
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            let _ = if column == 0 { write!(line, "{cell}{pad}") } else { write!(line, "  {pad}{cell}") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if !table.note.is_empty() {
        let _ = writeln!(text, "  {}", table.note);
    }
    text
}

fn checks(checks: &[Check], text: &mut String) {
    for check in checks {
        let mark = if check.ok { "ok  " } else { "FAIL" };
        let _ = writeln!(text, "  {mark}  {}: {} (must be {})", check.name, check.value, check.limit);
    }
}

/// The whole report.
pub fn report(report: &Report) -> String {
    let mut text = format!("\n{}\n", report.title);
    let rows: Vec<[String; 3]> = report
        .results
        .iter()
        .map(|figure| {
            let value = if figure.unit.is_empty() { percent(figure.value) } else { number(figure.value) };
            [format!("  {}", figure.name), value, figure.unit.clone()]
        })
        .collect();
    for line in columns(&rows).lines() {
        let _ = writeln!(text, "{line}");
    }
    for shown in &report.tables {
        let _ = write!(text, "\n{}", table(shown));
    }
    if let Some(last) = report.runs.last() {
        let _ = write!(text, "\n{}, {} s\n{}", last.name, number(last.seconds), run(last));
        checks(&last.checks, &mut text);
    }
    if !report.checks.is_empty() {
        text.push('\n');
        checks(&report.checks, &mut text);
    }
    for doubt in &report.doubts {
        let _ = writeln!(text, "  !  {doubt}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "1"], ["long", "100"]].map(|row| row.map(str::to_owned));
        assert_eq!(columns(&rows), "a       1\nlong  100\n");
    }

    #[test]
    fn tables_are_aligned_whatever_their_rows_hold() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned()]];
        let columns = ["", "number"].map(str::to_owned).to_vec();
        let shown = table(&Table { title: "Title".into(), columns, rows, note: "note".into() });
        assert_eq!(shown, "Title\n        number\n  a          1\n  long\n  note\n");
    }
}
