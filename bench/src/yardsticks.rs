//! The other measurements: a given load, a profile, the ceiling, and the constant server.
use std::sync::{Arc, atomic::AtomicBool};

use crate::{
    ceiling,
    child::Child,
    doubts,
    load::{self, Live, Settings, Target},
    machine::{Clocks, Machine},
    max_tps,
    plan::Plan,
    profile::Profile,
    report::{Files, Report, Run, table},
    roles::READY,
    script::{Draw, Kind, Script, Skew},
    session::{Error, Session, add_figures},
    stand,
    text::{number, say},
    trial,
};

/// Requests a second for which closed loads have numbers ready: no machine of this kind comes near.
const CLOSED_MAX: f64 = 200_000.0;

/// Runs a profile and judges it by its limits. Whether it kept to them is in the report's last run.
pub async fn profile(mut session: Session, profile: Profile, time: f64) -> Result<(Report, Files), Error> {
    session.serve()?;
    let plan = Plan::scaled(profile.phases.clone(), time)?;
    let draw = Draw {
        amount: profile.amount().map_err(Error::Other)?,
        skew: profile.skew,
        fresh: profile.fresh,
        ..session.loads.draw.clone()
    };
    session.loads.settings.timeout_s = profile.timeout_s;
    let trial = session.trial(&profile.title, plan, profile.kinds.clone(), draw)?;
    let mut run = session.run(&trial, true).await?;
    run.checks = profile.limits.check(&run, time);
    let report = &mut session.report;
    report.stand.insert("profile".into(), format!("{} ({})", profile.title, profile.source));
    if (time - 1.0).abs() > 1e-9 {
        report.stand.insert("time".into(), format!("scaled by {time}"));
        report.doubts.push(format!("phases were scaled by {time}: this is not the profile's own length"));
    }
    report.title = format!("{}: {}", profile.title, if run.passed() { "passed" } else { "failed" });
    report.add("landed", run.landed_per_s, "transfers/s", Some(true));
    add_figures(report, &run);
    report.runs.push(run);
    session.finish()
}

/// Offers a rate for so long, whatever comes of it.
pub async fn rate(mut session: Session, transfers_per_s: f64, seconds: f64) -> Result<(Report, Files), Error> {
    session.serve()?;
    let trial = session.steady("load", transfers_per_s, seconds)?;
    let mut run = session.run(&trial, true).await?;
    run.checks = max_tps::checks(&run);
    let report = &mut session.report;
    report.title =
        format!("{} transfers a second offered, {} landed", number(transfers_per_s), number(run.landed_per_s));
    report.add("landed", run.landed_per_s, "transfers/s", Some(true));
    report.add("offered", transfers_per_s, "transfers/s", None);
    add_figures(report, &run);
    report.runs.push(run);
    session.finish()
}

/// What the node alone lands, with batches of each of these sizes. The first is the yardstick; blocks execute whole
/// transactions, so another size may fill them better.
pub async fn ceiling(
    mut session: Session,
    settings: ceiling::Settings,
    sizes: &[u32],
) -> Result<(Report, Files), Error> {
    let mut first = None;
    for batch in sizes {
        let settings = ceiling::Settings { batch: *batch, ..settings };
        let run = ceiling::run(&session.stand, session.loads.draw.clone(), settings, &session.progress).await?;
        let mut run = run.ok_or_else(|| {
            Error::Other("a ceiling needs --payer, its keys in MASTER_ACCOUNT_PRIVATE_KEYS, and --receivers".into())
        })?;
        run.doubts = doubts::of_run(&run, &session.report.machine, false);
        let name = format!("ceiling with batches of {batch}");
        session.progress.line(&format!("{name}: {}/s", number(run.landed_per_s)));
        session.report.add(&name, run.landed_per_s, "transfers/s", Some(true));
        run.name = name;
        first.get_or_insert(run.landed_per_s);
        session.report.runs.push(run);
    }
    session.report.title = format!("The node alone lands {} transfers a second", number(first.unwrap_or(0.0)));
    session.finish()
}

/// How fast single transfers are made safe and answered (`Prefer: respond-async`), beside the constant server under the same
/// load: as fast as connections can send one after the other.
pub async fn accepts(mut session: Session, seconds: f64) -> Result<(Report, Files), Error> {
    session.loads.settings.respond_async = true;
    session.progress.begin("noop");
    session.progress.note("the constant server");
    let noop = constant(&session.plan, &session.loads.settings, seconds, None)?;
    session.progress.line(&format!("noop        {}/s: the same server answering a constant", number(answered(&noop))));
    session.serve()?;
    let plan = Plan::steady(CLOSED_MAX, seconds)?;
    let mut trial = session.trial("accepts", plan, vec![Kind::of(1)], session.loads.draw.clone())?;
    trial.closed_s = Some(seconds);
    let run = session.run(&trial, false).await?;
    let report = &mut session.report;
    let (accepts, constant) = (answered(&run), answered(&noop));
    report.title = format!("{} durable accepts a second", number(accepts));
    report.add("durable accepts", accepts, "requests/s", Some(true));
    report.add("noop", constant, "requests/s", None);
    report.add("of noop", accepts / constant.max(1e-9), "", Some(true));
    report.runs.extend([noop, run]);
    session.finish()
}

/// The constant server alone.
pub fn noop(
    plan: &stand::Plan,
    settings: &Settings,
    seconds: f64,
    rate: Option<f64>,
) -> Result<(Report, Files), Error> {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    std::fs::create_dir_all(&plan.directory)?;
    let mut run = constant(plan, settings, seconds, rate)?;
    let machine = Machine::this();
    run.doubts = doubts::of_run(&run, &machine, false);
    let answered = answered(&run);
    let mut report = Report {
        format: crate::report::FORMAT,
        title: format!("The same server answering a constant: {} requests a second", number(answered)),
        command: crate::text::command(std::env::args()),
        version: env!("CARGO_PKG_VERSION").into(),
        unix_s: std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs(),
        doubts: doubts::of_build().into_iter().chain(run.doubts.clone()).collect(),
        machine,
        ..Report::default()
    };
    report.add("noop", answered, "requests/s", Some(true));
    report.runs.push(run);
    let files = report.write(&plan.directory)?;
    say(&table::report(&report));
    say(&format!("Report  {}\nRaw     {}", files.html.display(), files.json.display()));
    Ok((report, files))
}

/// Loads the constant server: closed, or at a rate.
pub(crate) fn constant(plan: &stand::Plan, settings: &Settings, seconds: f64, rate: Option<f64>) -> Result<Run, Error> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) / 2;
    let arguments = ["role-noop".to_owned(), format!("--threads={}", threads.max(1))];
    let log = plan.directory.join("noop.log");
    let ready = |line: &str| line.strip_prefix(READY).map(str::to_owned);
    let started = Child::start("noop", &plan.program, &arguments, &[], &log, ready);
    let (child, url) = started.map_err(stand::StandError::from)?;
    let target = Target::parse(&url).map_err(stand::StandError::from)?;
    let draw = Draw { receivers: vec!["user1.test.near".into()], skew: Skew::Uniform, fresh: 0.0, amount: 1, seed: 1 };
    let script_plan = Plan::steady(rate.unwrap_or(CLOSED_MAX), seconds)?;
    let script = Arc::new(Script::new(script_plan, vec![Kind::of(1)], draw, trial::tag())?);
    let live = Arc::new(Live { stop: AtomicBool::new(false), ..Live::default() });
    let processes = [child.process()];
    let (start, _) = trial::beginning();
    let clocks = Clocks::now(&processes);
    let clocked = std::time::Instant::now();
    let running = match rate {
        Some(_) => load::open(&target, &script, settings, &live, start)?,
        None => load::closed(&target, &script, settings, &live, start, seconds)?,
    };
    let log = running.join()?;
    let usage = Clocks::now(&processes).since(&clocks, clocked.elapsed().as_secs_f64(), &processes);
    let mut run = crate::measure::requests_alone(&script, &log, seconds);
    run.name = "noop".into();
    run.usage = usage;
    run.generator.threads = settings.threads;
    run.generator.connections = settings.connections;
    run.generator.busy = log.busy_s.iter().map(|busy| busy / log.seconds.max(1e-9)).collect();
    Ok(run)
}

/// Requests answered 2xx a second.
pub(crate) fn answered(run: &Run) -> f64 {
    run.requests.ok as f64 / run.seconds.max(1e-9)
}
