//! A report as one page that needs nothing else: no script, no network, light or dark as the reader has it. Pure.
use std::{collections::BTreeSet, fmt::Write as _};

use super::{
    Check, Plot, Report, Run, Table,
    svg::{Chart, Line, Tick, bars},
};
use crate::text::{count, number, percent, time_ms};

/// Groups that batch sizes are shown in at most.
const MAX_BARS: u32 = 40;

/// Letters from which on a cell is broken into lines.
const WIDE: usize = 28;

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1c1e21;--soft:#626970;--rule:#e3e5e8;--accent:#0b6bcb;
--c1:#0b6bcb;--c2:#12924f;--c3:#c2410c;--c4:#8b3fd1;--bad:#c62828;--good:#12803f;--warn:#8a5a00;--warnbg:#fff6e0;--win:#0b6bcb12}
@media(prefers-color-scheme:dark){:root{--bg:#131517;--card:#1b1e21;--ink:#e8eaed;--soft:#9aa3ab;--rule:#2d3237;--accent:#67b0ff;
--c1:#67b0ff;--c2:#4fcf8b;--c3:#ff9a5c;--c4:#c79bff;--bad:#ff7b72;--good:#4fcf8b;--warn:#f0c36d;--warnbg:#2b2412;--win:#67b0ff14}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:960px;margin:0 auto;padding:28px 20px 60px}h1{font-size:25px;line-height:1.25;margin:0 0 6px;text-wrap:pretty}
h2{font-size:18px;margin:34px 0 8px}p{margin:6px 0}.soft{color:var(--soft)}p.soft{font-size:13.5px}.verdict{display:inline-block;border:1px solid;border-radius:999px;padding:1px 12px;margin:0 10px 0 0;font-size:13px;font-weight:600}code{font:13px ui-monospace,monospace;word-break:break-word}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;margin:20px 0}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px 14px}
.tile b{display:block;font-size:25px;font-weight:600;font-variant-numeric:tabular-nums;line-height:1.25}
.tile span{color:var(--soft);font-size:13px;line-height:1.35;display:block}.tile:first-child b{color:var(--accent)}
.doubts{background:var(--warnbg);color:var(--warn);border-radius:8px;padding:10px 16px;margin:14px 0}.doubts ul{margin:4px 0;padding-left:18px}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}
th,td{padding:5px 10px;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}th{color:var(--soft);font-weight:500}
th:first-child,td:first-child{text-align:left;white-space:normal;min-width:130px}td.text,.checks td{white-space:normal}td.text{min-width:170px}.checks td:last-child{white-space:nowrap}tr:last-child td{border-bottom:0}
.card{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:4px 6px;margin:10px 0}.ok{color:var(--good)}.bad{color:var(--bad);font-weight:600}
figure{background:var(--card);border:1px solid var(--rule);border-radius:8px;margin:12px 0;padding:12px 14px 6px;overflow-x:auto}
figcaption{font-weight:600;font-size:14px;margin-bottom:4px}svg{width:100%;min-width:560px;height:auto;display:block}
.key{font-weight:400;color:var(--soft);margin-left:14px;font-size:13px;white-space:nowrap}.key i{display:inline-block;width:16px;height:0;border-top:3px solid;margin-right:5px;vertical-align:middle}
.key i.dashed{border-top-style:dashed}.grid{stroke:var(--rule)}.axis{stroke:var(--soft)}.tick,.label{fill:var(--soft);font:11px system-ui,sans-serif}
.end{text-anchor:end}.middle{text-anchor:middle}.line{fill:none;stroke-width:1.8;stroke-linejoin:round}.line.dashed{stroke-dasharray:5 4}
.c1{stroke:var(--c1)}.c2{stroke:var(--c2)}.c3{stroke:var(--c3)}.c4{stroke:var(--c4)}.b1{border-color:var(--c1)!important}.b2{border-color:var(--c2)!important}
.b3{border-color:var(--c3)!important}.b4{border-color:var(--c4)!important}.bar{fill:var(--c1)}.hint{fill:transparent}.hint:hover{fill:var(--win)}.window{fill:var(--win)}
details{margin:10px 0}summary{cursor:pointer;font-weight:600;padding:4px 0}
";

/// The whole page.
pub fn page(report: &Report) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>",
        title = escape(&report.title)
    );
    let machine = &report.machine;
    let held = report.checks.iter().chain(report.runs.last().map(|run| &run.checks[..]).unwrap_or_default());
    let verdict = match held.map(|check| check.ok).reduce(|all, one| all && one) {
        None => "",
        Some(true) => "<span class=\"verdict ok\">held</span>",
        Some(false) => "<span class=\"verdict bad\">not held</span>",
    };
    let _ = write!(
        page,
        "<p class=\"soft\">{verdict}{} &middot; {} cores, {} &middot; {} &middot; keyshard-bench {}</p>",
        date(report.unix_s),
        machine.cores,
        escape(&machine.processor),
        escape(&machine.kernel),
        escape(&report.version)
    );
    page.push_str("<div class=\"tiles\">");
    for figure in &report.results {
        let value = if figure.unit.is_empty() { percent(figure.value) } else { number(figure.value) };
        let unit = if figure.unit.is_empty() { String::new() } else { format!(", {}", escape(&figure.unit)) };
        let _ = write!(
            page,
            "<div class=\"tile\"><b>{}</b><span>{}{unit}</span></div>",
            escape(&value),
            escape(&figure.name)
        );
    }
    page.push_str("</div>");
    if !report.doubts.is_empty() {
        page.push_str("<div class=\"doubts\"><b>What to doubt</b><ul>");
        for doubt in &report.doubts {
            let _ = write!(page, "<li>{}</li>", escape(doubt));
        }
        page.push_str("</ul></div>");
    }
    let mut held_to = report.checks.clone();
    held_to.extend(report.runs.last().map(|run| run.checks.clone()).unwrap_or_default());
    checks(&held_to, &mut page);
    for plot in &report.plots {
        page.push_str(&chart(plot).draw());
    }
    for table in &report.tables {
        self::table(table, &mut page);
    }
    // Where plots of its own say what it is about, no load stands out.
    let shown = report.runs.last().filter(|_| report.plots.is_empty());
    if let Some(last) = shown {
        let _ = write!(page, "<h2>{}</h2>", escape(&last.name));
        run(last, &mut page);
    }
    let others = &report.runs[..report.runs.len() - usize::from(shown.is_some())];
    if !others.is_empty() {
        page.push_str("<h2>All loads, in order</h2>");
        overview(report, &mut page);
        for other in others {
            let _ = write!(page, "<details><summary>{}</summary>", escape(&other.name));
            run(other, &mut page);
            page.push_str("</details>");
        }
    }
    page.push_str("<h2>How it was made</h2>");
    let _ = write!(page, "<p><code>{}</code></p><div class=\"scroll card\"><table>", escape(&report.command));
    for (name, value) in &report.stand {
        let _ = write!(page, "<tr><td>{}</td><td>{}</td></tr>", escape(name), escape(value));
    }
    page.push_str(
        "</table></div><p class=\"soft\">Latency counts from the instant at which a request was due, whether or not \
         anything was ready to send it. A transfer counts as landed when a node shows its memo in a final block, in a \
         transaction that succeeded at FINAL. Everything raw is in report.json beside this page.</p></main></body></html>\n",
    );
    page
}

/// Text as it may stand in a page.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

fn checks(checks: &[Check], page: &mut String) {
    if checks.is_empty() {
        return;
    }
    page.push_str("<div class=\"scroll card\"><table class=\"checks\"><tr><th>Held to</th><th>must be</th><th>was</th><th></th></tr>");
    for check in checks {
        let (class, word) = if check.ok { ("ok", "held") } else { ("bad", "not held") };
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"{class}\">{word}</td></tr>",
            escape(&check.name),
            escape(&check.limit),
            escape(&check.value)
        );
    }
    page.push_str("</table></div>");
}

fn table(table: &Table, page: &mut String) {
    let _ = write!(page, "<h2>{}</h2><div class=\"scroll card\"><table><tr>", escape(&table.title));
    for column in &table.columns {
        let _ = write!(page, "<th>{}</th>", escape(column));
    }
    page.push_str("</tr>");
    for row in &table.rows {
        page.push_str("<tr>");
        for cell in row {
            let class = match cell.as_str() {
                "held" => " class=\"ok\"",
                "NOT HELD" => " class=\"bad\"",
                long if long.chars().count() > WIDE => " class=\"text\"",
                _ => "",
            };
            let _ = write!(page, "<td{class}>{}</td>", escape(cell));
        }
        page.push_str("</tr>");
    }
    page.push_str("</table></div>");
    if !table.note.is_empty() {
        let _ = write!(page, "<p class=\"soft\">{}</p>", escape(&table.note));
    }
}

fn chart(plot: &Plot) -> Chart<'_> {
    Chart {
        title: plot.title.clone(),
        // The page has four colours.
        lines: (0..)
            .zip(&plot.lines)
            .map(|(at, (name, points))| Line { name, colour: at % 4 + 1, points: points.clone(), dashed: false })
            .collect(),
        x_label: &plot.x_label,
        x_ticks: (!plot.x_ticks.is_empty())
            .then(|| plot.x_ticks.iter().map(|(at, label)| Tick { at: *at, label: label.clone() }).collect()),
        y_label: &plot.y_label,
        y_text: number,
        window: None,
        hints: Vec::new(),
    }
}

fn overview(report: &Report, page: &mut String) {
    page.push_str(
        "<div class=\"scroll card\"><table><tr><th>Load</th><th>offered/s</th><th>landed/s</th><th>success</th><th>P50</th>\
         <th>P99</th><th>backlog/s</th><th>a transaction</th><th></th></tr>",
    );
    for run in &report.runs {
        let growth = run.trend.map_or_else(|| "-".into(), |trend| number(trend.growth_per_s));
        let (class, word) = match (run.checks.is_empty(), run.passed()) {
            (true, _) => ("", ""),
            (false, true) => ("ok", "passed"),
            (false, false) => ("bad", "failed"),
        };
        let offered = if run.offered_per_s > 0.0 { number(run.offered_per_s) } else { "as fast as it goes".into() };
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{offered}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{growth}</td><td>{}</td>\
             <td class=\"{class}\">{word}</td></tr>",
            escape(&run.name),
            number(run.landed_per_s),
            percent(run.transfers.success()),
            time_ms(run.latency.percentile_ms(50.0)),
            time_ms(run.latency.percentile_ms(99.0)),
            number(run.transactions.mean_size())
        );
    }
    page.push_str("</table></div>");
}

fn run(run: &Run, page: &mut String) {
    let transfers = &run.transfers;
    page.push_str("<div class=\"scroll card\"><table><tr>");
    let cells = [
        ("offered", transfers.offered, false),
        ("accepted", transfers.accepted, false),
        ("executed", transfers.executed, false),
        ("final", transfers.r#final, false),
        ("failed", transfers.failed, false),
        ("doubled", transfers.doubled, true),
        ("lost", transfers.lost, true),
        ("refused", transfers.refused, false),
        ("unanswered", transfers.unanswered, false),
        ("open", transfers.open, false),
    ];
    for (name, ..) in cells {
        let _ = write!(page, "<th>{name}</th>");
    }
    page.push_str("</tr><tr>");
    for (_, value, wrong) in cells {
        let class = if wrong && value > 0 { " class=\"bad\"" } else { "" };
        let _ = write!(page, "<td{class}>{}</td>", count(value));
    }
    page.push_str("</tr></table></div>");
    let answers: Vec<_> = run.requests.answers.iter().map(|(name, n)| format!("{name}: {}", count(*n))).collect();
    let cores: Vec<_> = run.usage.process_cores.iter().map(|(name, n)| format!("{name} {}", number(*n))).collect();
    let mib: Vec<_> = run.usage.process_mib.iter().map(|(name, n)| format!("{name} {} MiB", number(*n))).collect();
    let _ = write!(
        page,
        "<p class=\"soft\">Requests by answer: {}. CPU cores: {}, load {}. Memory: {}. {} connections, of which up to {} \
         at a time. The chain had everything {} s after the last answer.</p>",
        escape(&answers.join(", ")),
        escape(&cores.join(", ")),
        run.usage.bench_cores.map_or_else(|| "-".into(), number),
        escape(&mib.join(", ")),
        count(run.generator.opened),
        count(run.generator.peak_open),
        number(run.settling_s)
    );
    let said: BTreeSet<&String> = run.complaints.iter().chain(&run.wrong).collect();
    for text in said {
        let _ = write!(page, "<p><code>{}</code></p>", escape(text));
    }
    for chart in [throughput(run), backlog(run), latency_over_time(run), percentiles(run)] {
        page.push_str(&chart.draw());
    }
    page.push_str(&batch_sizes(run));
    if !run.doubts.is_empty() {
        page.push_str("<div class=\"doubts\"><ul>");
        for doubt in &run.doubts {
            let _ = write!(page, "<li>{}</li>", escape(doubt));
        }
        page.push_str("</ul></div>");
    }
}

fn throughput(run: &Run) -> Chart<'_> {
    // Blocks are coarser than bins: what lands is shown over three of them.
    let landed = |at: usize| {
        let around = &run.bins[at.saturating_sub(1)..(at + 2).min(run.bins.len())];
        around.iter().map(|bin| bin.landed).sum::<u64>() as f64 / around.len() as f64 / run.bin_s
    };
    let rate = |value: fn(&super::Bin) -> u64| {
        run.bins.iter().map(|bin| (bin.seconds, value(bin) as f64 / run.bin_s)).collect::<Vec<_>>()
    };
    let mut lines = vec![
        Line { name: "offered", colour: 1, points: rate(|bin| bin.offered), dashed: true },
        Line { name: "accepted", colour: 4, points: rate(|bin| bin.accepted), dashed: false },
        Line {
            name: "landed on chain",
            colour: 2,
            points: run.bins.iter().enumerate().map(|(at, bin)| (bin.seconds, landed(at))).collect(),
            dashed: false,
        },
    ];
    if run.bins.iter().any(|bin| bin.refused + bin.unanswered > 0) {
        let points = rate(|bin| bin.refused + bin.unanswered);
        lines.push(Line { name: "refused or unanswered", colour: 3, points, dashed: false });
    }
    let hint = |bin: &super::Bin| {
        let refused = bin.refused + bin.unanswered;
        let (offered, accepted, landed) = (bin.offered, bin.accepted, bin.landed);
        let at = number(bin.seconds);
        (bin.seconds, format!("{at} s: offered {offered}, accepted {accepted}, landed {landed}, refused {refused}"))
    };
    Chart {
        title: "Throughput".into(),
        lines,
        x_label: "seconds",
        x_ticks: None,
        y_label: "transfers/s",
        y_text: number,
        window: Some(run.window_s),
        hints: run.bins.iter().map(hint).collect(),
    }
}

fn backlog(run: &Run) -> Chart<'_> {
    let blocks = || run.blocks.iter().filter(|block| block.seconds >= 0.0);
    let title = match run.trend {
        Some(trend) if trend.stable() => "Backlog right after each block: stable".to_owned(),
        Some(trend) => format!("Backlog right after each block: grows by {}/s", number(trend.growth_per_s)),
        None => "Backlog right after each block".to_owned(),
    };
    Chart {
        title,
        lines: vec![Line {
            name: "offered and not executed",
            colour: 1,
            points: blocks().map(|block| (block.seconds, block.backlog)).collect(),
            dashed: false,
        }],
        x_label: "seconds",
        x_ticks: None,
        y_label: "transfers",
        y_text: number,
        window: Some(run.window_s),
        hints: blocks()
            .map(|block| {
                let (height, backlog) = (block.height, number(block.backlog));
                let (landed, transactions) = (block.landed, block.transactions);
                let text = format!(
                    "block {height}: {transactions} transactions in it, {landed} transfers executed, backlog {backlog}"
                );
                (block.seconds, text)
            })
            .collect(),
    }
}

fn latency_over_time(run: &Run) -> Chart<'_> {
    let answered = || run.bins.iter().filter(|bin| bin.p50_ms > 0.0);
    let points = |value: fn(&super::Bin) -> f64| answered().map(|bin| (bin.seconds, value(bin))).collect::<Vec<_>>();
    let hint = |bin: &super::Bin| {
        let [p50, p95, p99] = [bin.p50_ms, bin.p95_ms, bin.p99_ms].map(time_ms);
        (bin.seconds, format!("{} s: P50 {p50}, P95 {p95}, P99 {p99}", number(bin.seconds)))
    };
    Chart {
        title: "Answer time by when the request was due (2xx)".into(),
        lines: vec![
            Line { name: "P50", colour: 1, points: points(|bin| bin.p50_ms), dashed: false },
            Line { name: "P95", colour: 4, points: points(|bin| bin.p95_ms), dashed: false },
            Line { name: "P99", colour: 3, points: points(|bin| bin.p99_ms), dashed: false },
        ],
        x_label: "seconds",
        x_ticks: None,
        y_label: "answer time",
        y_text: time_ms,
        window: Some(run.window_s),
        hints: answered().map(hint).collect(),
    }
}

/// Percentiles with the rare ones spread out: each nine takes as much room as the one before.
fn percentiles(run: &Run) -> Chart<'_> {
    let line = |name, colour, latency: &crate::latency::Latency| {
        let mut below = 0;
        let mut points = Vec::new();
        for (us, count) in &latency.buckets_us {
            let share = below as f64 / latency.count.max(1) as f64;
            points.push((-(1.0 - share).log10(), *us as f64 / 1_000.0));
            below += count;
        }
        Line { name, colour, points, dashed: false }
    };
    let mut lines = vec![line("answered 2xx", 1, &run.latency), line("executed on chain", 2, &run.to_chain)];
    lines.retain(|line| !line.points.is_empty());
    let ticks = [(0.0, "0"), (50.0, "50"), (75.0, "75"), (90.0, "90"), (99.0, "99"), (99.9, "99.9"), (99.99, "99.99")];
    let tick = |(percent, label): (f64, &str)| Tick { at: -(1.0 - percent / 100.0).log10(), label: label.to_owned() };
    Chart {
        title: "Time since a request was due, by percentile".into(),
        lines,
        x_label: "percentile",
        x_ticks: Some(ticks.map(tick).into()),
        y_label: "time",
        y_text: time_ms,
        window: None,
        hints: Vec::new(),
    }
}

fn batch_sizes(run: &Run) -> String {
    let sizes = &run.transactions.sizes;
    let Some(largest) = sizes.keys().next_back().copied() else { return String::new() };
    let width = largest.div_ceil(MAX_BARS).max(1);
    let bar = |place: u32| {
        let (first, last) = (place * width + 1, ((place + 1) * width).min(largest));
        let label = if first == last { first.to_string() } else { format!("{first}-{last}") };
        (label, sizes.range(first..=last).map(|(_, count)| *count as f64).sum())
    };
    let values: Vec<(String, f64)> = (0..largest.div_ceil(width)).map(bar).collect();
    let title = format!("Transfers a transaction: {} on average", number(run.transactions.mean_size()));
    bars(&title, "transfers in a landed transaction", "transactions", &values)
}

/// A day and a time, in UTC.
fn date(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Civil date from days since 1970 (H. Hinnant's algorithm), for dates after 1970.
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", second / 3_600, second / 60 % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Bin, BlockRow, Check};

    fn sample() -> Report {
        let bins =
            (0..20).map(|s| Bin { seconds: f64::from(s), offered: 10, landed: 9, p50_ms: 5.0, ..Bin::default() });
        let blocks = (0..30).map(|n| BlockRow { height: n, seconds: n as f64 * 0.6, ..BlockRow::default() });
        let mut run = Run {
            name: "confirm <script>".into(),
            bin_s: 1.0,
            bins: bins.collect(),
            blocks: blocks.collect(),
            window_s: (5.0, 20.0),
            ..Run::default()
        };
        run.transactions.landed = 2;
        run.transactions.sizes = [(1, 1), (100, 1)].into();
        run.latency.count = 2;
        run.latency.buckets_us = vec![(1_000, 1), (2_000, 1)];
        run.checks.push(Check { name: "success".into(), ok: false, ..Check::default() });
        let mut report = Report { title: "A & B".into(), runs: vec![run.clone(), run], ..Report::default() };
        report.add("sustained", 650.0, "transfers/s", Some(true));
        report.doubts.push("noisy".into());
        report
    }

    #[test]
    fn the_page_stands_alone_and_shows_everything() {
        let page = page(&sample());
        for part in
            ["A &amp; B", "650", "noisy", "not held", "Throughput", "Backlog", "percentile", "Transfers a transaction"]
        {
            assert!(page.contains(part), "{part}");
        }
        // Nothing is loaded, and no text of a run can become markup.
        for part in ["http://", "https://", "<script", "src=", "@import", "url("] {
            assert!(!page.contains(part), "{part}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert_eq!(page.matches("<svg").count(), 10, "five plots for each of two runs");
    }

    #[test]
    fn a_report_without_anything_is_a_page_as_well() {
        assert!(page(&Report::default()).ends_with("</html>\n"));
    }

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_795_457_074), "2026-11-23 18:04 UTC");
    }
}
