//! Memory with very many open transfers: a service in front of a node whose blocks do not come, filled, killed and
//! started again on the same journal.
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    load::{self, Answer, Live},
    machine::Memory,
    measure,
    plan::Plan,
    report::{Check, Files, Plot, Report, Table},
    script::{Kind, Script},
    session::{Error, Session},
    text::{count, number},
    trial::{self, TrialError},
};

/// At most so much for a million open transfers, in MiB.
pub const TARGET_MIB: f64 = 600.0;
/// As many as that is for.
pub const MILLION: u64 = 1_000_000;
/// Milliseconds between blocks of a sandbox that stands still: a day.
pub const STANDSTILL_MS: u64 = 86_400_000;
/// Longest time for filling it, and longest wait until its memory stands still, in seconds.
const FILL_S: f64 = 180.0;
const CALM: Duration = Duration::from_secs(20);
/// Memory that changes by less than this share within a second stands still.
const STILL: f64 = 0.005;
/// Open transfers, as the service counts them.
const OPEN: &str = "ft_service_pending_jobs";
const LOOK: Duration = Duration::from_millis(100);

/// Has so many transfers accepted, and looks. The stand must have been planned with a node that stands still and with
/// room for that many (`MAX_PENDING_JOBS`).
pub async fn run(mut session: Session, transfers: u64) -> Result<(Report, Files), Error> {
    session.loads.settings.respond_async = true;
    session.report.stand.insert("answered when".into(), "safe (respond-async)".into());
    session.report.stand.insert("blocks".into(), "none come: nothing settles".into());
    session.serve()?;
    session.progress.begin("open");
    let before = calm(&session).await?;

    let batch = session.loads.batch.max(1);
    let requests = transfers.div_ceil(u64::from(batch)).max(1);
    let plan = Plan::steady(requests as f64, 1.0)?;
    let script = Arc::new(Script::new(plan, vec![Kind::of(batch)], session.loads.draw.clone(), trial::tag())?);
    let live = Arc::new(Live::default());
    let target = session.stand.service.as_ref().map(|service| service.target.clone());
    let target = target.ok_or_else(|| Error::Other("there is no service".into()))?;
    let (start, _) = trial::beginning();
    let running = load::closed(&target, &script, &session.loads.settings, &live, start, FILL_S)?;
    let mut growth = vec![(0.0, before.resident_mib)];
    while !running.is_over() {
        tokio::time::sleep(LOOK).await;
        look(&mut session).inspect_err(|_| live.stop.store(true, std::sync::atomic::Ordering::Relaxed))?;
        let accepted = live.accepted.load(std::sync::atomic::Ordering::Relaxed);
        session.progress.share(accepted as f64 / transfers as f64, &format!("{} accepted", count(accepted)));
        if let Some(memory) = memory(&session) {
            growth.push((accepted as f64, memory.resident_mib));
        }
    }
    let log = running.join()?;
    let took = log.records.iter().map(|record| record.ended_us).max().unwrap_or(0) as f64 / 1e6;
    let filled = calm(&session).await?;
    let mut run = measure::requests_alone(&script, &log, took);
    run.name = "filling".into();
    run.complaints = log.complaints;
    let accepted: u64 = (0..)
        .zip(&log.records)
        .filter(|(_, record)| matches!(record.answer, Answer::Status(200..=299)))
        .map(|(request, _)| script.numbers(request).count() as u64)
        .sum();
    let open = session.metric(OPEN).await?;
    growth.push((accepted as f64, filled.resident_mib));

    session.progress.begin("open");
    session.progress.note("killed; starting again on the same journal");
    let begun = Instant::now();
    session.stand.restart_service(&session.plan)?;
    let recovery_s = begun.elapsed().as_secs_f64();
    let recovered = calm(&session).await?;
    let found = session.metric(OPEN).await?;

    let report = &mut session.report;
    // What fewer take says less: the limit shrinks with them.
    let limit = TARGET_MIB * transfers as f64 / MILLION as f64;
    let each =
        |memory: &Memory| (memory.resident_mib - before.resident_mib) * f64::from(1 << 20) / accepted.max(1) as f64;
    report.title = format!("{} open transfers take {} MiB", count(open), number(filled.resident_mib));
    report.add("with all open", filled.resident_mib, "MiB", Some(false));
    report.add("an open transfer", each(&filled), "bytes", Some(false));
    report.add("after kill -9 and restart", recovered.resident_mib, "MiB", Some(false));
    report.add("most at any time", filled.peak_mib.max(recovered.peak_mib), "MiB", Some(false));
    report.add("until ready again", recovery_s, "s", Some(false));
    let name = format!("memory with {} open transfers", count(transfers));
    report.checks.push(Check::at_most(&name, filled.resident_mib, limit, "MiB"));
    report.checks.push(Check::at_most("the same after kill -9 and restart", recovered.resident_mib, limit, "MiB"));
    let as_asked = |name: &str, number: u64| Check {
        name: name.into(),
        limit: count(transfers),
        value: count(number),
        ok: number >= transfers && number == accepted,
    };
    report.checks.push(as_asked("open, as the service counts", open));
    report.checks.push(as_asked("open after the restart", found));
    let row = |when: &str, memory: &Memory, open: String, each: String| {
        vec![when.to_owned(), open, number(memory.resident_mib), number(memory.peak_mib), each]
    };
    report.tables.push(Table {
        title: "Memory of the service".into(),
        columns: ["when", "open transfers", "resident, MiB", "most so far, MiB", "bytes a transfer"].map(str::to_owned).to_vec(),
        rows: vec![
            row("started", &before, "0".into(), String::new()),
            row("filled", &filled, count(open), number(each(&filled))),
            row("killed and started again", &recovered, count(found), number(each(&recovered))),
        ],
        note: format!(
            "Bytes a transfer are beyond what it had when just started. {} requests of {batch} transfers, accepted in {} s.",
            count(requests),
            number(took)
        ),
    });
    report.plots.push(Plot {
        title: "Memory while transfers are accepted and none settles".into(),
        x_label: "open transfers".into(),
        y_label: "resident, MiB".into(),
        x_ticks: Vec::new(),
        lines: vec![("service".into(), growth)],
    });
    if transfers < MILLION {
        report.doubts.push(format!("{} are not a million: the limit was scaled down with them", count(transfers)));
    }
    report.runs.push(run);
    session.finish()
}

/// Memory of the service once it no longer changes, or after a while.
async fn calm(session: &Session) -> Result<Memory, Error> {
    let look = || memory(session).ok_or_else(|| Error::Other("the memory of the service cannot be read".into()));
    let begun = Instant::now();
    let mut last = look()?;
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = look()?;
        let still = (now.resident_mib - last.resident_mib).abs() <= last.resident_mib * STILL;
        if still || begun.elapsed() >= CALM {
            return Ok(now);
        }
        last = now;
    }
}

fn memory(session: &Session) -> Option<Memory> {
    Memory::of(session.stand.service_process()?)
}

fn look(session: &mut Session) -> Result<(), Error> {
    if session.progress.interrupted() {
        return Err(TrialError::Interrupted.into());
    }
    session.stand.is_gone().map_or(Ok(()), |gone| Err(TrialError::Gone(gone).into()))
}
