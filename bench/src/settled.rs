//! How many transfers a second go all the way, as fast as connections send one request after the other, beside the constant
//! server: what is in front of the chain, so the node has no limit of gas.
use crate::{
    costs::{Costs, Meter},
    plan::Plan,
    profile::nothing_wrong,
    report::{Check, Files, Report, Run, Table},
    script::Kind,
    session::{Error, Session, add_figures},
    text::{number, percent},
    yardsticks,
};

/// Least share of the constant server's rate, with single transfers.
pub const OF_NOOP: f64 = 0.2;
/// Least rates on a quiet machine of two cores: of single transfers, and of a hundred a request.
pub const SINGLES: f64 = 25_000.0;
/// See [`SINGLES`].
pub const HUNDREDS: f64 = 150_000.0;
/// Milliseconds between two blocks, unless told otherwise: with 600 the keys' windows would be what is measured.
pub const BLOCK_MS: u64 = 50;
/// Transactions in flight per key, likewise.
pub const WINDOW: u32 = 32;
/// Connections, with single transfers and with batches: each waits for its transfers to be executed.
pub const CONNECTIONS: (usize, usize) = (4_096, 256);
/// Connections that noop is loaded with: more only make it slower.
const NOOP_CONNECTIONS: usize = 64;
/// Requests a second for which a closed load has numbers ready.
const MOST_PER_S: f64 = 120_000.0;

/// Transactions that were proven dead, as Keyshard counts them.
const DEAD: &str = "keyshard_transactions_dead_total";

/// What such a load came to.
pub struct Settled {
    /// The load.
    pub run: Run,
    /// What each transfer cost.
    pub costs: Costs,
    /// Transactions that never came to anything, so that their transfers had to be signed anew; `None` if it is not told.
    pub dead: Option<u64>,
}

/// Measures noop, then requests of the options' size, for so long each.
pub async fn run(mut session: Session, seconds: f64) -> Result<(Report, Files), Error> {
    session.progress.begin("noop");
    session.progress.note("the constant server");
    let settings = crate::load::Settings { connections: NOOP_CONNECTIONS, ..session.loads.settings.clone() };
    let noop = yardsticks::constant(&session.plan, &settings, seconds, None)?;
    let constant = yardsticks::answered(&noop);
    session.progress.line(&format!("noop        {}/s: the same server answering a constant", number(constant)));
    session.serve()?;
    let Settled { mut run, costs, dead } = load(&mut session, "settled", seconds).await?;
    let batch = session.loads.batch;
    let landed = run.landed_per_s;
    run.checks = vec![nothing_wrong(&run)];
    let report = &mut session.report;
    report.title = format!("{} transfers a second settled, {batch} a request", number(landed));
    report.add("settled", landed, "transfers/s", Some(true));
    report.add("noop", constant, "requests/s", None);
    if batch == 1 {
        report.add("of noop", landed / constant.max(1e-9), "", Some(true));
        report.checks.push(Check {
            name: "settled / noop".into(),
            limit: format!(">= {}", percent(OF_NOOP)),
            value: percent(landed / constant.max(1e-9)),
            ok: landed >= OF_NOOP * constant,
        });
    }
    let target = if batch == 1 { SINGLES } else { HUNDREDS };
    if matches!(batch, 1 | 100) {
        report.checks.push(Check::at_least("settled a second", landed, target, "transfers"));
    }
    add_figures(report, &run);
    if let Some(dead) = dead {
        report.add("transactions signed anew", dead as f64, "of all that were sent", Some(false));
    }
    report.tables.push(cores(&run));
    report.tables.push(costs.table("What a transfer costs the service"));
    report.runs.extend([noop, run]);
    session.finish()
}

/// One load of that kind. The service must be there.
pub async fn load(session: &mut Session, name: &str, seconds: f64) -> Result<Settled, Error> {
    let batch = session.loads.batch.max(1);
    let plan = Plan::steady((MOST_PER_S / f64::from(batch)).max(1_000.0), seconds)?;
    let mut trial = session.trial(name, plan, vec![Kind::of(batch)], session.loads.draw.clone())?;
    trial.closed_s = Some(seconds);
    let meter = session.stand.service_process().map(Meter::start);
    let run = session.run(&trial, false).await?;
    let costs = meter.map(|meter| meter.costs(run.transfers.r#final)).unwrap_or_default();
    let dead = session.metric(DEAD).await.ok();
    Ok(Settled { run, costs, dead })
}

/// Who used the cores: what bounds it.
pub fn cores(run: &Run) -> Table {
    let named = run.usage.process_cores.iter().map(|(name, cores)| (name.clone(), Some(*cores)));
    let ends = [
        ("load and chain reader".to_owned(), run.usage.bench_cores),
        ("others".to_owned(), run.usage.strangers_cores),
        ("all".to_owned(), run.usage.machine_cores),
    ];
    let rows = named.chain(ends).filter_map(|(name, cores)| Some(vec![name, number(cores?)]));
    Table {
        title: "Cores in use meanwhile".into(),
        columns: ["process", "cores"].map(str::to_owned).to_vec(),
        rows: rows.collect(),
        note: "Load, service and node share this machine: where all cores are in use, that is what bounds the rate."
            .into(),
    }
}

/// What to tell the service, and how the sandbox is to be, so that what is in front of the chain is what is measured.
pub fn prepare(plan: &mut crate::stand::Plan) {
    plan.sandbox.unlimited = true;
    plan.settings.insert(0, ("MAX_IN_FLIGHT_PER_KEY".into(), WINDOW.to_string()));
    plan.settings.insert(0, ("MAX_PENDING_JOBS".into(), "1000000".into()));
}
