//! What the service costs while nobody asks for anything: CPU of its process and of each kind of thread.
use std::time::{Duration, Instant};

use crate::{
    doubts,
    machine::Clocks,
    report::{Check, Files, Report, Table},
    session::{Error, Session},
    text::{number, percent},
    threads::Threads,
    trial::TrialError,
};

/// At most this share of one core.
pub const TARGET: f64 = 0.01;
/// From the start, or the last block with a transfer, until it counts as idle.
const REST: Duration = Duration::from_secs(5);
/// Shortest stretch that says something: clocks tick in hundredths of a second.
const SHORT_S: f64 = 10.0;

/// What was used meanwhile, in cores.
struct Idle {
    name: &'static str,
    process: f64,
    threads: Vec<(String, f64)>,
}

/// Measures it twice for so long: just started, and after a load of so many transfers a second for five seconds, when
/// connections, caches and a history are there. The worse counts.
pub async fn run(mut session: Session, seconds: f64, transfers_per_s: f64) -> Result<(Report, Files), Error> {
    session.serve()?;
    let fresh = rest(&mut session, "just started", seconds).await?;
    let trial = session.steady("load before", transfers_per_s, 5.0)?;
    let run = session.run(&trial, false).await?;
    session.report.runs.push(run);
    let used = rest(&mut session, "after a load", seconds).await?;
    let worst = fresh.process.max(used.process);
    let report = &mut session.report;
    report.title = format!("Idle, the service uses {} of one core", percent(worst));
    for idle in [&fresh, &used] {
        report.add(&format!("{}, of one core", idle.name), idle.process, "", Some(false));
    }
    report.checks.push(Check {
        name: "CPU of the idle service".into(),
        limit: format!("<= {} of one core", percent(TARGET)),
        value: percent(worst),
        ok: worst <= TARGET,
    });
    let mut rows = Vec::new();
    for idle in [&fresh, &used] {
        for (role, cores) in idle.threads.iter().chain([&("the whole process".to_owned(), idle.process)]) {
            rows.push(vec![idle.name.to_owned(), role.clone(), percent(*cores), number(cores * 1e3)]);
        }
    }
    report.tables.push(Table {
        title: format!("CPU over {} s without a request", number(seconds)),
        columns: ["when", "threads", "of one core", "ms a second"].map(str::to_owned).to_vec(),
        rows,
        note: "The process by the kernel's clock of hundredths of a second, threads by its scheduler's nanoseconds."
            .into(),
    });
    if seconds < SHORT_S {
        report.doubts.push(format!("{} s are short for clocks that tick in hundredths (--duration)", number(seconds)));
    }
    session.finish()
}

async fn rest(session: &mut Session, name: &'static str, seconds: f64) -> Result<Idle, Error> {
    let Some(process) = session.stand.service_process() else {
        return Err(Error::Other("only a service that was started here can be looked at: not with --target".into()));
    };
    session.progress.begin("idle");
    wait(session, REST, "resting").await?;
    let processes = session.stand.processes();
    let (clocks, threads, begun) = (Clocks::now(&processes), Threads::now(process), Instant::now());
    wait(session, Duration::from_secs_f64(seconds), name).await?;
    let usage = Clocks::now(&processes).since(&clocks, begun.elapsed().as_secs_f64(), &processes);
    let threads = Threads::now(process).since(&threads);
    let doubts = doubts::of_run(
        &crate::report::Run { usage: usage.clone(), ..crate::report::Run::default() },
        &session.report.machine,
        false,
    );
    session.report.doubts.extend(doubts);
    let cores = usage.process_cores.iter().find(|(name, _)| name == "service").map_or(0.0, |(_, cores)| *cores);
    let threads = threads.into_iter().map(|(role, busy_s)| (role, busy_s / usage.seconds)).collect();
    Ok(Idle { name, process: cores, threads })
}

async fn wait(session: &mut Session, time: Duration, what: &str) -> Result<(), Error> {
    let begun = Instant::now();
    while begun.elapsed() < time {
        tokio::time::sleep(Duration::from_millis(200).min(time.saturating_sub(begun.elapsed()))).await;
        session.progress.share(begun.elapsed().as_secs_f64() / time.as_secs_f64(), what);
        if session.progress.interrupted() {
            return Err(TrialError::Interrupted.into());
        }
        if let Some(gone) = session.stand.is_gone() {
            return Err(TrialError::Gone(gone).into());
        }
    }
    Ok(())
}
