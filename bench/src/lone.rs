//! How long one lone transfer takes, beside a bare `send_tx` of the same: one at a time, in pairs, evenly over a block's time.
//!
//! An answer comes with a block. So a pause of a share of the block time after it decides how far the next block is away
//! when the next transfer is sent, and with that most of what it takes. Both halves of a pair pause equally long, and the
//! pairs' pauses are spread evenly over a block's time, in an order that follows from the seed.
use std::time::{Duration, Instant};

use http::header;

use crate::{
    chain::{Watch, watch::Scope},
    doubts,
    latency::Latencies,
    load::{Answer, Log, Record},
    machine::Clocks,
    measure,
    plan::Plan,
    profile::nothing_wrong,
    report::{Check, Files, Plot, Report, Run, Table},
    script::{Draw, Kind, Script},
    session::{Error, Session},
    signed,
    text::time_ms,
    trial::{self, TrialError},
};

/// At most so many times a bare `send_tx`.
pub const TARGET: f64 = 1.1;
/// Pairs that are sent first and do not count: connections are made, and receivers are looked up.
const WARM_UP: usize = 2;
/// Pairs below which a median says little.
const FEW: usize = 20;
/// Longest wait for the chain to have everything in the end, and final blocks without anything new that end it.
const SETTLE: (Duration, u64) = (Duration::from_secs(30), 3);
/// Pause where the block time is not known: that of the real chain.
const BLOCK_ELSEWHERE: Duration = Duration::from_millis(600);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Level {
    /// Executed, and could still be undone.
    ExecutedOptimistic,
    /// Executed for good.
    Final,
}

impl Level {
    /// As the service's `WAIT_UNTIL` has it.
    pub fn of_service(self) -> &'static str {
        match self {
            Self::ExecutedOptimistic => "ExecutedOptimistic",
            Self::Final => "Final",
        }
    }

    fn of_node(self) -> &'static str {
        match self {
            Self::ExecutedOptimistic => "EXECUTED_OPTIMISTIC",
            Self::Final => "FINAL",
        }
    }
}

/// One of the two ways.
struct Side {
    name: &'static str,
    script: std::sync::Arc<Script>,
    watch: Watch,
    log: Log,
}

/// Measures so many pairs. The stand must have been planned with one more key than the service is to have, and with the
/// service's `WAIT_UNTIL` at `level`.
pub async fn run(mut session: Session, pairs: usize, level: Level) -> Result<(Report, Files), Error> {
    let spare = session.stand.spare_key()?;
    session.report.stand.insert("keys".into(), format!("{}, and one for what goes past it", session.stand.keys.len()));
    session.report.stand.insert("both wait until".into(), level.of_node().into());
    session.serve()?;
    let other = |why: &str| Error::Other(why.into());
    let service = session.stand.service.clone().ok_or_else(|| other("there is no service"))?;
    let payer = session.stand.payer.clone().ok_or_else(|| other("--payer is needed"))?;
    let block = match session.plan.node {
        None => Duration::from_millis(session.plan.sandbox.block_ms),
        Some(_) => BLOCK_ELSEWHERE,
    };
    let count = pairs + WARM_UP;
    let (start, began_unix_ns) = trial::beginning();
    let after = session.stand.node.last_final().await?.height;
    let side = |name| {
        let plan = Plan::steady(1.0, count as f64)?;
        let draw = Draw { fresh: 0.0, ..session.loads.draw.clone() };
        let script = std::sync::Arc::new(Script::new(plan, vec![Kind::of(1)], draw, trial::tag())?);
        let stand = &session.stand;
        let scope =
            Scope { token: stand.token.clone(), payer: Some(payer.clone()), began_unix_ns, every: stand.look_every };
        let watch = Watch::start(stand.node.clone(), scope, &script, after, true)?;
        Ok::<_, Error>(Side { name, script, watch, log: Log { records: vec![Record::NEVER; count], ..Log::default() } })
    };
    let (mut ours, mut bare) = (side("service")?, side("bare send_tx")?);
    let (ready, _) = signed::sign(&session.stand, &payer, &[spare], &bare.script, level.of_node()).await?;
    let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).timeout(Duration::from_mins(1)).build();
    let client = client.map_err(|error| Error::Other(error.to_string()))?;
    let send_ft = format!("{}/send-ft", service.url.trim_end_matches('/'));

    let processes = session.stand.processes();
    let clocks = Clocks::now(&processes);
    session.progress.begin("lone");
    tokio::time::sleep_until(start.into()).await;
    let shares = even_shares(pairs, session.loads.draw.seed);
    for (pair, signed) in ready.into_iter().enumerate() {
        let share = if pair < WARM_UP { 0.5 } else { shares[pair - WARM_UP] };
        let pause = block.mul_f64(share);
        session.progress.share(pair as f64 / count as f64, &format!("pair {} of {count}", pair + 1));
        if let Some(gone) = session.stand.is_gone() {
            return Err(TrialError::Gone(gone).into());
        }
        if session.progress.interrupted() {
            return Err(TrialError::Interrupted.into());
        }
        let mut body = Vec::new();
        ours.script.body(pair as u64, &mut body);
        tokio::time::sleep(pause).await;
        let due = Instant::now();
        let request = client.post(&send_ft).header(header::CONTENT_TYPE, "application/json").body(body).send();
        let answer = async {
            let response = request.await?;
            let status = response.status().as_u16();
            Ok::<_, reqwest::Error>((status, response.bytes().await?))
        };
        match answer.await {
            Ok((status, body)) => {
                ours.record(pair, start, due, Answer::Status(status));
                if status != 200 {
                    ours.log.complaints.push(format!("{status}: {}", String::from_utf8_lossy(&body)));
                    ours.log.kept.insert(pair as u64, body[..].into());
                }
            }
            Err(error) => {
                ours.record(pair, start, due, if error.is_timeout() { Answer::TimedOut } else { Answer::Broken });
                ours.log.complaints.push(error.without_url().to_string());
            }
        }
        tokio::time::sleep(pause).await;
        let due = Instant::now();
        let (answer, complaint) = signed::send(&client, session.stand.node.url(), signed.body).await;
        bare.record(pair, start, due, answer);
        bare.log.complaints.extend(complaint);
    }
    let seconds = start.elapsed().as_secs_f64();
    let usage = Clocks::now(&processes).since(&clocks, seconds, &processes);

    let both = [ours.samples_ms(), bare.samples_ms()];
    let mut runs = Vec::new();
    for side in [ours, bare] {
        let mut run = side.finish(&session, seconds).await?;
        run.usage = usage.clone();
        run.doubts = doubts::of_run(&run, &session.report.machine, false);
        run.checks.push(nothing_wrong(&run));
        runs.push(run);
    }
    report(&mut session.report, &both, runs, pairs);
    session.finish()
}

fn report(report: &mut Report, [ours, bare]: &[Vec<Option<f64>>; 2], runs: Vec<Run>, pairs: usize) {
    let complete: Vec<(f64, f64)> = ours.iter().zip(bare).filter_map(|(a, b)| Some(((*a)?, (*b)?))).collect();
    let (ours, bare): (Vec<f64>, Vec<f64>) = complete.iter().copied().unzip();
    let (ours_p50, bare_p50) = (median(ours.clone()), median(bare.clone()));
    let ratio = ours_p50 / bare_p50.max(1e-9);
    report.title =
        format!("One lone transfer is answered in {}, a bare send_tx in {}", time_ms(ours_p50), time_ms(bare_p50));
    report.add("lone transfer, P50", ours_p50, "ms", Some(false));
    report.add("bare send_tx, P50", bare_p50, "ms", None);
    report.add("ratio of the medians", ratio, "times", Some(false));
    report.add(
        "median of the pairs' ratios",
        median(complete.iter().map(|(a, b)| a / b).collect()),
        "times",
        Some(false),
    );
    report.add(
        "median of the pairs' differences",
        median(complete.iter().map(|(a, b)| a - b).collect()),
        "ms",
        Some(false),
    );
    let mut check = Check::at_most("median answer time of one lone transfer", ratio, TARGET, "times a bare send_tx");
    check.ok &= complete.len() == pairs;
    report.checks.push(check);
    let (answered, asked) = (complete.len() as f64, pairs as f64);
    report.checks.push(Check::at_least("pairs in which both were answered 200", answered, asked, ""));
    if pairs < FEW {
        report.doubts.push(format!("{pairs} pairs are few: a median of so few says little (--pairs)"));
    }
    let row = |name: &str, times: &[f64]| {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted.get(((sorted.len() as f64 * share) as usize).min(sorted.len().max(1) - 1));
        let at = |share| time_ms(at(share).copied().unwrap_or(f64::NAN));
        vec![name.to_owned(), at(0.0), at(0.25), at(0.5), at(0.75), at(0.9), at(1.0)]
    };
    report.tables.push(Table {
        title: "Answer times".into(),
        columns: ["", "least", "P25", "P50", "P75", "P90", "most"].map(str::to_owned).to_vec(),
        rows: vec![row("service", &ours), row("bare send_tx", &bare)],
        note: "One transfer at a time, the next a share of a block's time after the last answer; the same share for both of a \
               pair, spread evenly from 0 to 1 over the pairs."
            .into(),
    });
    let line = |name: &str, mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let of = times.len().max(2) as f64 - 1.0;
        let points = times.iter().enumerate().map(|(at, ms)| (at as f64 / of * 100.0, *ms)).collect();
        (name.to_owned(), points)
    };
    report.plots.push(Plot {
        title: "Answer time of one lone transfer".into(),
        x_label: "percentile".into(),
        y_label: "ms".into(),
        x_ticks: Vec::new(),
        lines: vec![line("service", ours), line("bare send_tx", bare)],
    });
    report.runs.extend(runs);
}

impl Side {
    fn record(&mut self, place: usize, start: Instant, due: Instant, answer: Answer) {
        let us = |at: Instant| at.saturating_duration_since(start).as_micros() as u64;
        self.log.records[place] = Record { due_us: us(due), sent_us: us(due), ended_us: us(Instant::now()), answer };
    }

    /// Time of each transfer that counts and was answered 200.
    fn samples_ms(&self) -> Vec<Option<f64>> {
        let counted = self.log.records.iter().skip(WARM_UP);
        let time = |record: &Record| record.latency().as_secs_f64() * 1_000.0;
        counted.map(|record| (record.answer == Answer::Status(200)).then(|| time(record))).collect()
    }

    async fn finish(self, session: &Session, seconds: f64) -> Result<Run, Error> {
        let Self { name, script, watch, log } = self;
        let (limit, quiet) = SETTLE;
        let jobs = trial::settle_chain(&script, &log, &watch, &session.progress, limit, quiet).await?;
        let seen = watch.end();
        if let Some(failure) = seen.failure {
            return Err(TrialError::Chain(failure).into());
        }
        let mut run = measure::run(&script, &log, &seen, Some(seconds));
        run.name = name.into();
        run.transfers = trial::count(&script, &log, &seen, &jobs);
        let mut counted = Latencies::new();
        for record in log.records.iter().skip(WARM_UP).filter(|record| record.answer == Answer::Status(200)) {
            counted.record(record.latency());
        }
        run.latency = counted.to_report();
        // Due was whenever the one before had ended: from then to the chain says nothing, and there is no backlog.
        run.to_chain = crate::latency::Latency::default();
        run.trend = None;
        Ok(run)
    }
}

/// The middles of so many equal parts of 0 to 1, in an order that follows from the seed.
fn even_shares(count: usize, seed: u64) -> Vec<f64> {
    let mut shares: Vec<f64> = (0..count).map(|n| (n as f64 + 0.5) / count as f64).collect();
    for last in (1..count).rev() {
        let drawn = crate::script::mix(seed, last as u64);
        shares.swap(last, (drawn % (last as u64 + 1)) as usize);
    }
    shares
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[odd / 2],
        even => f64::midpoint(values[even / 2 - 1], values[even / 2]),
    }
}

/// What the service is told so that both wait for the same.
pub fn setting(level: Level) -> (String, String) {
    ("WAIT_UNTIL".into(), level.of_service().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_and_in_no_order() {
        let shares = even_shares(60, 1);
        let mut sorted = shares.clone();
        sorted.sort_by(f64::total_cmp);
        assert_ne!(shares, sorted);
        assert!(sorted.iter().enumerate().all(|(n, share)| (share - (n as f64 + 0.5) / 60.0).abs() < 1e-9));
        assert_eq!(even_shares(60, 1), shares);
        assert_ne!(even_shares(60, 2), shares);
        assert_eq!(even_shares(0, 1), [0.0; 0]);
    }

    #[test]
    fn a_pair_that_lacks_a_half_fails_the_check_and_does_not_count() {
        let mut made = Report::default();
        let ours = vec![Some(110.0), Some(120.0), None, Some(100.0)];
        let bare = vec![Some(100.0), Some(100.0), Some(1.0), Some(100.0)];
        report(&mut made, &[ours, bare], Vec::new(), 4);
        assert!((made.figure("ratio of the medians").unwrap() - 1.1).abs() < 1e-9);
        assert!((made.figure("median of the pairs' differences").unwrap() - 10.0).abs() < 1e-9);
        assert_eq!(made.checks.iter().map(|check| check.ok).collect::<Vec<_>>(), [false, false]);
        assert!(!made.passed());
        let slow = [vec![Some(120.0); 30], vec![Some(100.0); 30]];
        let mut made = Report::default();
        report(&mut made, &slow, Vec::new(), 30);
        assert_eq!(made.checks.iter().map(|check| check.ok).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn medians() {
        assert!(median(Vec::new()).is_nan());
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }
}
