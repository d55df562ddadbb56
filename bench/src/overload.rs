//! Twice what the chain can take, for a while: does the service still land what it can, turn the rest away at once, and
//! keep nobody waiting longer than its backlog?
use crate::{
    ceiling,
    profile::nothing_wrong,
    report::{Check, Files, Report, Run, Table},
    session::{Error, Session, add_figures},
    text::{count, number, time_ms},
};

/// Least share of the ceiling that lands meanwhile.
pub const LANDED: f64 = 0.97;
/// 99 of 100 requests that are turned away have their answer within this time: at once.
pub const REFUSED_MS: f64 = 100.0;
/// The service's own least backlog.
const LEAST_PENDING: f64 = 11.0;

/// How it is overloaded.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// For how long.
    pub seconds: f64,
    /// With how many times the ceiling.
    pub times: f64,
    /// Seconds of backlog that the service is to take: `MAX_PENDING_JOBS` is that times the ceiling.
    pub backlog_s: f64,
    /// How the ceiling is measured.
    pub ceiling: ceiling::Settings,
}

/// Measures the ceiling, then the overload.
pub async fn run(mut session: Session, options: Options) -> Result<(Report, Files), Error> {
    let run = ceiling::run(&session.stand, session.loads.draw.clone(), options.ceiling, &session.progress).await?;
    let why =
        "an overload needs the ceiling, and that --payer, its keys in MASTER_ACCOUNT_PRIVATE_KEYS, and --receivers";
    let yardstick = run.filter(|run| run.landed_per_s > 0.0).ok_or_else(|| Error::Other(why.into()))?;
    let ceiling = yardstick.landed_per_s;
    session.progress.line(&format!("ceiling     {}/s: what the node alone lands", number(ceiling)));
    session.report.runs.push(yardstick);

    let name = "MAX_PENDING_JOBS";
    let given = session.plan.settings.iter().rev().find(|(setting, _)| setting == name);
    let given = given.and_then(|(_, value)| value.parse::<f64>().ok());
    let pending = given.unwrap_or_else(|| (ceiling * options.backlog_s).round()).max(LEAST_PENDING);
    session.plan.settings.push((name.into(), number(pending).replace(',', "")));
    session.report.stand.insert(format!("service {name}"), number(pending));
    session.serve()?;
    let trial = session.steady("overload", ceiling * options.times, options.seconds)?;
    let mut run = session.run(&trial, true).await?;
    run.checks = checks(&run, ceiling, pending);

    let report = &mut session.report;
    report.title = format!(
        "Offered {} times what the chain takes, it lands {} of {} a second",
        number(options.times),
        number(run.landed_per_s),
        number(ceiling)
    );
    report.add("landed", run.landed_per_s, "transfers/s", Some(true));
    report.add("ceiling of the node alone", ceiling, "transfers/s", None);
    report.add("of the ceiling", run.landed_per_s / ceiling, "", Some(true));
    report.add("refused, P50", run.latency_refused.percentile_ms(50.0), "ms", Some(false));
    report.add("refused, P99", run.latency_refused.percentile_ms(99.0), "ms", Some(false));
    report.add("backlog / ceiling", pending / ceiling, "s", None);
    add_figures(report, &run);
    report.tables.push(table(&run, pending));
    report.runs.push(run);
    session.finish()
}

/// What an overload must keep to, with a backlog of so many transfers.
fn checks(run: &Run, ceiling: f64, pending: f64) -> Vec<Check> {
    let bound_ms = pending / ceiling * 1_000.0;
    let p50 = run.latency.percentile_ms(50.0);
    let p99_refused = run.latency_refused.percentile_ms(99.0);
    let answered = |status: &str| run.requests.answers.get(status).copied().unwrap_or(0);
    let turned_away = run.requests.offered - run.requests.ok;
    let time = |name: &str, value: f64, limit: f64| Check {
        name: name.into(),
        limit: format!("<= {}", time_ms(limit)),
        value: time_ms(value),
        ok: value <= limit,
    };
    vec![
        Check::at_least("accepted ones land, of the ceiling", run.landed_per_s / ceiling, LANDED, ""),
        Check {
            name: "the rest is answered 503".into(),
            limit: "all".into(),
            value: format!("{} of {}", count(answered("503")), count(turned_away)),
            ok: turned_away > 0 && answered("503") == turned_away,
        },
        time("503 at once, P99", p99_refused, REFUSED_MS),
        time("answer time of accepted ones, P50, within backlog / ceiling", p50, bound_ms),
        Check {
            name: "failed".into(),
            limit: "nothing".into(),
            value: count(run.transfers.failed),
            ok: run.transfers.failed == 0,
        },
        nothing_wrong(run),
    ]
}

fn table(run: &Run, pending: f64) -> Table {
    let row = |name: &str, requests: u64, latency: &crate::latency::Latency| {
        let at = |percent: f64| time_ms(latency.percentile_ms(percent));
        vec![name.to_owned(), count(requests), at(50.0), at(95.0), at(99.0), at(100.0)]
    };
    let turned_away = run.requests.offered - run.requests.ok;
    Table {
        title: "Answers".into(),
        columns: ["", "requests", "P50", "P95", "P99", "most"].map(str::to_owned).to_vec(),
        rows: vec![row("accepted", run.requests.ok, &run.latency), row("refused", turned_away, &run.latency_refused)],
        note: format!("The service was told to take a backlog of {} transfers (MAX_PENDING_JOBS).", number(pending)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{latency::Latencies, report::Requests};

    fn run(landed_per_s: f64, accepted_ms: u64, refused_ms: u64, answers: &[(&str, u64)]) -> Run {
        let latency = |ms| {
            let mut latencies = Latencies::new();
            latencies.record(Duration::from_millis(ms));
            latencies.to_report()
        };
        let answers: std::collections::BTreeMap<_, _> =
            answers.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Run {
            landed_per_s,
            latency: latency(accepted_ms),
            latency_refused: latency(refused_ms),
            requests: Requests { offered: answers.values().sum(), ok: answers["200"], answers },
            ..Run::default()
        }
    }

    #[test]
    fn each_promise_is_held_by_itself() {
        let answers = [("200", 600), ("503", 700)];
        let failed = |run: Run| {
            let checks = checks(&run, 700.0, 3_500.0);
            checks.into_iter().filter(|check| !check.ok).map(|check| check.name).collect::<Vec<_>>()
        };
        assert_eq!(failed(run(690.0, 4_900, 20, &answers)), [""; 0]);
        for (run, word) in [
            (run(600.0, 4_900, 20, &answers), "land"),
            (run(690.0, 5_100, 20, &answers), "backlog"),
            (run(690.0, 4_900, 200, &answers), "at once"),
            (run(690.0, 4_900, 20, &[("200", 600), ("503", 699), ("ETIMEDOUT", 1)]), "503"),
            // A service that takes everything is not overloaded: nothing was shown.
            (run(690.0, 4_900, 20, &[("200", 600)]), "503"),
        ] {
            let failed = failed(run);
            assert!(failed.len() == 1 && failed[0].contains(word), "{word}: {failed:?}");
        }
    }
}
