//! What a transfer costs with more keys and more shards, and where more cores would end.
use std::collections::BTreeSet;

use crate::{
    costs::Costs,
    model,
    profile::nothing_wrong,
    report::{Files, Plot, Report, Table},
    session::{Error, Session},
    settled::{self, CONNECTIONS, Settled},
    text::{number, time_ms},
};

/// Cores that the model is asked about.
const CORES: [f64; 4] = [1.0, 2.0, 8.0, 64.0];
/// Kinds of requests: their name, and transfers a request.
const REQUESTS: [(&str, u32); 2] = [("single transfers", 1), ("100 a request", 100)];

/// One combination.
struct Point {
    keys: usize,
    shards: usize,
    requests: &'static str,
    settled: Settled,
}

/// Measures each number of keys with each number of shards, for so long each, on a sandbox of its own.
pub async fn run(
    mut session: Session,
    keys: &[usize],
    shards: &[usize],
    seconds: f64,
) -> Result<(Report, Files), Error> {
    let settings = session.plan.settings.clone();
    let mut points = Vec::new();
    for (keys, shards) in keys.iter().flat_map(|keys| shards.iter().map(move |shards| (*keys, *shards))) {
        // A key belongs to one shard.
        if shards > keys {
            continue;
        }
        session.plan.sandbox.keys = keys;
        session.plan.settings.clone_from(&settings);
        session.plan.settings.push(("SHARDS".into(), shards.to_string()));
        for (requests, batch) in REQUESTS {
            session.progress.begin("starting");
            session.stand = session.plan.bring_up().await?;
            session.serve()?;
            session.loads.batch = batch;
            session.loads.settings.connections = if batch == 1 { CONNECTIONS.0 } else { CONNECTIONS.1 };
            let name = format!("{}, {requests}", parts(keys, shards));
            let mut settled = settled::load(&mut session, &name, seconds).await?;
            settled.run.checks = vec![nothing_wrong(&settled.run)];
            let (rate, us) = (number(settled.run.landed_per_s), number(settled.costs.total_us()));
            session.progress.line(&format!("{name:<40}  {rate:>8}/s  {us:>6} us of CPU a transfer"));
            points.push(Point { keys, shards, requests, settled });
        }
    }
    let report = &mut session.report;
    report.stand.remove("keys");
    report.stand.remove("transfers a request");
    report.checks.extend(points.iter().map(|point| nothing_wrong(&point.settled.run)).filter(|check| !check.ok));
    report.tables.push(measured(&points));
    for (requests, _) in REQUESTS {
        let of = || points.iter().filter(|point| point.requests == requests);
        report.plots.push(plot(requests, &of().collect::<Vec<_>>()));
        // The fullest combination says most about many cores.
        if let Some(last) = of().max_by_key(|point| (point.shards, point.keys)) {
            let title = format!("What a transfer costs, {requests}, {}", parts(last.keys, last.shards));
            report.tables.push(last.settled.costs.table(&title));
            let reached = model::reach(&last.settled.costs, 64.0);
            report.add(&format!("64 cores, {requests}"), reached.per_s, "transfers/s by the model", None);
        }
    }
    let models: Vec<(&str, &Costs)> = REQUESTS
        .iter()
        .filter_map(|(requests, _)| {
            let of = points.iter().filter(|point| point.requests == *requests);
            Some((*requests, &of.max_by_key(|point| (point.shards, point.keys))?.settled.costs))
        })
        .collect();
    report.tables.push(modelled(&models));
    report.plots.push(reaches(&models));
    report.title = "What a transfer costs, by keys and shards, and where more cores would end".into();
    report.runs.extend(points.into_iter().map(|point| point.settled.run));
    session.finish()
}

fn parts(keys: usize, shards: usize) -> String {
    format!("{}, {}", many(keys, "key"), many(shards, "shard"))
}

fn many(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn measured(points: &[Point]) -> Table {
    let row = |point: &Point| {
        let Settled { run, costs, dead } = &point.settled;
        let cores = |name: &str| {
            let found = run.usage.process_cores.iter().find(|(process, _)| process == name);
            found.map_or_else(|| "-".into(), |(_, cores)| number(*cores))
        };
        vec![
            format!("{}, {}", parts(point.keys, point.shards), point.requests),
            number(run.landed_per_s),
            number(costs.total_us()),
            number(costs.of("http")),
            number(costs.of("shard")),
            number(costs.of("journal")),
            number(costs.of("history")),
            number(run.transactions.mean_size()),
            dead.map_or_else(|| "-".into(), crate::text::count),
            time_ms(run.latency.percentile_ms(99.0)),
            cores("service"),
            cores("sandbox"),
            run.usage.bench_cores.map_or_else(|| "-".into(), number),
        ]
    };
    let columns = [
        "measured",
        "settled/s",
        "us a transfer",
        "http",
        "shard",
        "journal",
        "history",
        "a transaction",
        "signed anew",
        "P99",
        "service cores",
        "node cores",
        "load cores",
    ];
    Table {
        title: "Settled, and CPU of the service a transfer".into(),
        columns: columns.map(str::to_owned).to_vec(),
        rows: points.iter().map(row).collect(),
        note:
            "As fast as connections send one request after the other. With few keys their windows bound the rate: what \
               counts then is the CPU a transfer."
                .into(),
    }
}

fn plot(requests: &str, points: &[&Point]) -> Plot {
    let shards: BTreeSet<usize> = points.iter().map(|point| point.shards).collect();
    let keys: BTreeSet<usize> = points.iter().map(|point| point.keys).collect();
    let line = |shards: usize| {
        let of = points.iter().filter(|point| point.shards == shards);
        let points = of.map(|point| ((point.keys as f64).log2(), point.settled.costs.total_us()));
        (many(shards, "shard"), points.collect())
    };
    Plot {
        title: format!("CPU of the service a transfer, {requests}"),
        x_label: "keys".into(),
        y_label: "us".into(),
        // Each twice as far as from half of it.
        x_ticks: keys.into_iter().map(|keys| ((keys as f64).log2(), keys.to_string())).collect(),
        lines: shards.into_iter().map(line).collect(),
    }
}

fn modelled(models: &[(&str, &Costs)]) -> Table {
    let mut rows = Vec::new();
    for (requests, costs) in models {
        for cores in CORES {
            let reach = model::reach(costs, cores);
            let threads = reach.threads.iter().map(|(role, count)| format!("{role} {count}"));
            rows.push(vec![
                (*requests).to_owned(),
                number(cores),
                number(reach.per_s),
                reach.bound_by,
                threads.collect::<Vec<_>>().join(", "),
                number(reach.disk_mb_per_s),
            ]);
        }
    }
    let ends = models.iter().filter_map(|(requests, costs)| {
        let (cores, what) = model::last_useful_core(costs)?;
        Some(format!("With {requests} the {what} thread is full from {} cores on.", number(cores)))
    });
    let columns = ["requests", "cores", "transfers/s", "bound by", "threads", "disk, MB/s"];
    Table {
        title: "By the model: where more cores would end".into(),
        columns: columns.map(str::to_owned).to_vec(),
        rows,
        note: format!(
            "{} Assumed: all these cores are the service's, with node and clients elsewhere; a transfer costs each kind of \
             thread what it costs here, where caches and cores are shared with node and load; http and shard threads divide \
             their work evenly, which takes clients with many connections and keys enough (transfers a second times seconds \
             in flight, divided by window and batch); network, disk and node keep up; no second socket. Of every other kind \
             there is one thread, and its waiting for the disk costs nothing, for a longer wait only makes larger groups.",
            ends.collect::<Vec<_>>().join(" ")
        ),
    }
}

fn reaches(models: &[(&str, &Costs)]) -> Plot {
    let line = |(requests, costs): &(&str, &Costs)| {
        let points = (1..=64).map(|cores| (f64::from(cores), model::reach(costs, f64::from(cores)).per_s));
        ((*requests).to_owned(), points.collect())
    };
    Plot {
        title: "Transfers a second on so many cores, by the model".into(),
        x_label: "cores".into(),
        y_label: "transfers/s".into(),
        x_ticks: Vec::new(),
        lines: models.iter().map(line).collect(),
    }
}
