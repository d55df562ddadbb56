//! The highest rate that lasts: search in short tries, then hold it for the whole duration.
use crate::{
    ceiling,
    profile::nothing_wrong,
    report::{Check, Files, Report, Run},
    search::{Outcome, Search, Step},
    session::{Error, Session, add_figures},
    text::{number, percent, time_ms},
};

/// Least share of transfers that must be accepted and paid once.
pub const SUCCESS: f64 = 0.999;
/// Where the search begins, and how it grows, beside a ceiling: most systems that get near it end a little below.
const BESIDE_CEILING: (f64, f64) = (0.97, 1.04);

/// The rate held, as a share of the highest of the ceilings.
pub const OF_BEST: &str = "of the highest ceiling";

/// How it is searched.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long the rate is held in the end.
    pub duration_s: f64,
    /// How long each rate is tried before.
    pub try_s: f64,
    /// Where to begin where no ceiling is known, in transfers a second.
    pub start: f64,
    /// How near the search goes, as a share.
    pub precision: f64,
    /// How the ceiling is measured.
    pub ceiling: ceiling::Settings,
    /// Transfers a batch of the ceiling: the first size is the yardstick. None: it is not measured.
    pub sizes: Vec<u32>,
}

/// Searches, prints and writes the report. The highest rate that lasted is its first figure.
pub async fn run(mut session: Session, options: Options) -> Result<(Report, Files), Error> {
    let ceilings = ceilings(&mut session, &options).await?;
    let ceiling_rate = ceilings.first().map(|(_, rate)| *rate);
    let best = ceilings.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1));
    session.serve()?;

    let mut search = match ceiling_rate {
        Some(rate) if session.stand.metered => {
            let (share, growth) = BESIDE_CEILING;
            Search::new(rate * share, growth, options.precision)
        }
        _ => Search::new(options.start, 2.0, options.precision),
    };
    let mut tries = 0;
    let (held, sustained) = loop {
        let (name, rate, seconds, lasting) = match search.step() {
            Step::Try(rate) => {
                tries += 1;
                (format!("try {tries}"), rate, options.try_s, false)
            }
            Step::Confirm(rate) => ("confirm".to_owned(), rate, options.duration_s, true),
            Step::Sustained(rate) => break (true, Some(rate)),
            Step::NotConfirmed(rate) => break (false, rate),
        };
        let mut trial = session.steady(&name, rate, seconds)?;
        trial.give_up = true;
        let mut run = session.run(&trial, lasting).await?;
        run.checks = checks(&run);
        session.progress.line(&line(&run));
        search.learn(Outcome { passed: run.passed(), landed: run.landed_per_s });
        session.report.runs.push(run);
    };
    let report = &mut session.report;
    match (held, sustained) {
        (true, Some(_)) => {
            let run = report.runs.last().cloned().unwrap_or_default();
            report.title =
                format!("{} transfers a second, sustained for {} s", number(run.landed_per_s), number(run.seconds));
            report.add("sustained", run.landed_per_s, "transfers/s", Some(true));
            if let Some(ceiling) = ceiling_rate {
                report.add("ceiling of the node alone", ceiling, "transfers/s", None);
                report.add("of the ceiling", run.landed_per_s / ceiling, "", Some(true));
                if let Some((size, rate)) = best.filter(|_| ceilings.len() > 1) {
                    report.add(&format!("highest ceiling, batches of {size}"), rate, "transfers/s", None);
                    report.add(OF_BEST, run.landed_per_s / rate, "", Some(true));
                }
                if run.landed_per_s > ceiling * 1.02 {
                    report.doubts.push(
                        "it is above the ceiling: blocks execute whole transactions, so batches below 100 can fill them \
                         better (see keyshard-bench ceiling --actions 100,90,80)"
                            .into(),
                    );
                }
            }
            add_figures(report, &run);
        }
        (_, short) => {
            report.title = "No rate was sustained for the whole duration".into();
            report.add("sustained", 0.0, "transfers/s", Some(true));
            if let Some(short) = short {
                report.add("passed in short only", short, "transfers/s", Some(true));
            }
            if let Some(ceiling) = ceiling_rate {
                report.add("ceiling of the node alone", ceiling, "transfers/s", None);
            }
        }
    }
    if ceiling_rate.is_none() && !options.sizes.is_empty() {
        report.doubts.push("no ceiling was measured: it needs the payer's keys and registered receivers".into());
    }
    session.finish()
}

/// The ceiling with batches of each size, where it can be measured.
async fn ceilings(session: &mut Session, options: &Options) -> Result<Vec<(u32, f64)>, Error> {
    let mut found = Vec::new();
    // Blocks without a limit are filled by any size alike.
    let sizes =
        if session.stand.metered { options.sizes.as_slice() } else { &options.sizes[..options.sizes.len().min(1)] };
    for size in sizes.iter().filter(|_| session.plan.target.is_none()) {
        let settings = ceiling::Settings { batch: *size, ..options.ceiling };
        let run = ceiling::run(&session.stand, session.loads.draw.clone(), settings, &session.progress).await?;
        let Some(mut run) = run.filter(|run| run.landed_per_s > 0.0) else { break };
        let rate = run.landed_per_s;
        session
            .progress
            .line(&format!("ceiling     {}/s: what the node alone lands with batches of {size}", number(rate)));
        run.name = format!("ceiling with batches of {size}");
        session.report.runs.push(run);
        found.push((*size, rate));
    }
    Ok(found)
}

/// What a rate must keep to.
pub fn checks(run: &Run) -> Vec<Check> {
    let success = run.transfers.success();
    let backlog = run.trend.map_or_else(
        || Check { value: "too few blocks to tell".into(), ..Check::default() },
        |trend| Check {
            value: format!("grows by {}/s", number(trend.growth_per_s)),
            limit: format!("<= {}/s", number(trend.tolerated_per_s)),
            ok: trend.stable() && !run.generator.aborted,
            ..Check::default()
        },
    );
    vec![
        Check {
            name: "success".into(),
            limit: format!(">= {}", percent(SUCCESS)),
            value: percent(success),
            ok: success >= SUCCESS,
        },
        Check { name: "backlog".into(), ..backlog },
        nothing_wrong(run),
    ]
}

fn line(run: &Run) -> String {
    let word = if run.passed() { "passed" } else { "failed" };
    let why: Vec<_> = run.checks.iter().filter(|check| !check.ok).map(|c| format!("{} {}", c.name, c.value)).collect();
    let why = if why.is_empty() { String::new() } else { format!(": {}", why.join(", ")) };
    format!(
        "{:<10}  {:>7}/s offered  {:>7}/s landed  {} success  P50 {}  P99 {}  {word}{why}",
        run.name,
        number(run.offered_per_s),
        number(run.landed_per_s),
        percent(run.transfers.success()),
        time_ms(run.latency.percentile_ms(50.0)),
        time_ms(run.latency.percentile_ms(99.0)),
    )
}
