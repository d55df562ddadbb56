//! What every measurement needs: options turned into a stand, loads, and a report.
use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    doubts,
    load::Settings,
    machine::Machine,
    plan::{Plan, PlanError},
    profile::ProfileError,
    progress::Progress,
    report::{FORMAT, Files, Report, Run, table},
    script::{Draw, Kind, Script, ScriptError},
    stand::{self, Stand, StandError},
    text::{self, say, without_secrets},
    trial::{self, Trial, TrialError},
};

/// Why there is no number.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing to measure.
    #[error(transparent)]
    Stand(#[from] StandError),
    /// The node does not answer.
    #[error(transparent)]
    Node(#[from] crate::chain::NodeError),
    /// A load failed.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// A load that cannot be.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A load that cannot be.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// A profile that is none.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Files that cannot be read or written.
    #[error("{0}")]
    Files(#[from] std::io::Error),
    /// A report that is none.
    #[error(transparent)]
    Read(#[from] crate::report::ReadError),
    /// Something else.
    #[error("{0}")]
    Other(String),
}

/// How loads are made, unless a profile says otherwise.
#[derive(Debug, Clone)]
pub struct Loads {
    /// Transfers a request.
    pub batch: u32,
    /// What they are drawn from; the receivers come from the stand.
    pub draw: Draw,
    /// How requests are sent.
    pub settings: Settings,
    /// How long to wait for the chain after a load.
    pub settle_s: f64,
}

/// One measurement.
pub struct Session {
    /// How its stand is put together.
    pub plan: stand::Plan,
    /// What is measured.
    pub stand: Stand,
    /// How loads are made.
    pub loads: Loads,
    /// What is shown meanwhile.
    pub progress: Progress,
    /// What it will leave.
    pub report: Report,
}

impl Session {
    /// Brings up the node.
    pub async fn begin(
        title: &str,
        plan: stand::Plan,
        mut loads: Loads,
        interrupted: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        let _ = rlimit::increase_nofile_limit(u64::MAX);
        let progress = Progress::new(interrupted);
        progress.begin("starting");
        progress.note("the node");
        let stand = plan.bring_up().await?;
        loads.draw.receivers.clone_from(&stand.receivers);
        let built = if cfg!(debug_assertions) { "debug" } else { "release" };
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let report = Report {
            format: FORMAT,
            title: title.into(),
            command: text::command(std::env::args()),
            unix_s,
            version: format!("{} {built}", env!("CARGO_PKG_VERSION")),
            machine: Machine::this(),
            stand: describe(&plan, &stand, &loads),
            doubts: doubts::of_build().into_iter().collect(),
            ..Report::default()
        };
        Ok(Self { plan, stand, loads, progress, report })
    }

    /// Starts the service.
    pub fn serve(&mut self) -> Result<(), Error> {
        self.progress.note("the service");
        self.stand.serve(&self.plan)?;
        Ok(())
    }

    /// The load of a profile or a rate, with the options' way of sending it.
    pub fn trial(&self, name: &str, plan: Plan, kinds: Vec<Kind>, draw: Draw) -> Result<Trial, Error> {
        let script = Script::new(plan, kinds, draw, trial::tag())?;
        Ok(Trial {
            name: name.into(),
            script: Arc::new(script),
            settings: self.loads.settings.clone(),
            settle: std::time::Duration::from_secs_f64(self.loads.settle_s.clamp(0.0, 86_400.0)),
            closed_s: None,
            give_up: false,
            watch_live: self.stand.metered,
        })
    }

    /// Transfers at this rate for so long, in requests of the options' size.
    pub fn steady(&self, name: &str, transfers_per_s: f64, seconds: f64) -> Result<Trial, Error> {
        let batch = self.loads.batch.max(1);
        let plan = Plan::steady(transfers_per_s / f64::from(batch), seconds)?;
        self.trial(name, plan, vec![Kind::of(batch)], self.loads.draw.clone())
    }

    /// Runs a load and says how it went. `lasting`: whether it is to show a rate that lasts.
    pub async fn run(&mut self, trial: &Trial, lasting: bool) -> Result<Run, Error> {
        self.progress.begin(&trial.name);
        let mut run = trial.run(&mut self.stand, &self.progress).await?;
        run.doubts = doubts::of_run(&run, &self.report.machine, lasting);
        Ok(run)
    }

    /// A number that the service tells at `GET /metrics`: a sample without labels.
    pub async fn metric(&self, name: &str) -> Result<u64, Error> {
        let url = self.stand.service.as_ref().map(|service| service.url.clone()).unwrap_or_default();
        let page = async { reqwest::get(format!("{}/metrics", url.trim_end_matches('/'))).await?.text().await };
        let page = page.await.map_err(|error| Error::Other(format!("GET /metrics: {}", error.without_url())))?;
        sample(&page, name).ok_or_else(|| Error::Other(format!("GET /metrics does not tell {name}")))
    }

    /// Writes the report, prints it, and says where it is.
    pub fn finish(mut self) -> Result<(Report, Files), Error> {
        let mut more = self.stand.doubts.clone();
        more.extend(self.report.runs.last().map(|run| run.doubts.clone()).unwrap_or_default());
        self.report.doubts.extend(more);
        self.progress.finish();
        let files = self.report.write(&self.plan.directory)?;
        say(&table::report(&self.report));
        say(&format!("Report  {}\nRaw     {}", files.html.display(), files.json.display()));
        Ok((self.report, files))
    }
}

/// What a service costs and does, beside its rate: the same for every kind of measurement.
pub fn add_figures(report: &mut Report, run: &Run) {
    let latency = &run.latency;
    if latency.count > 0 {
        report.add("answer P50", latency.percentile_ms(50.0), "ms", Some(false));
        report.add("answer P95", latency.percentile_ms(95.0), "ms", Some(false));
        report.add("answer P99", latency.percentile_ms(99.0), "ms", Some(false));
    }
    report.add("success", run.transfers.success(), "", Some(true));
    if run.transactions.landed > 0 {
        report.add("transfers a transaction", run.transactions.mean_size(), "transfers", Some(true));
    }
    if let Some((_, cores)) = run.usage.process_cores.iter().find(|(name, _)| name == "service") {
        let each_us = cores * run.usage.seconds * 1e6 / run.transfers.r#final.max(1) as f64;
        report.add("service CPU a transfer", each_us, "us", Some(false));
    }
    if let Some((_, mib)) = run.usage.process_mib.iter().find(|(name, _)| name == "service") {
        report.add("service memory", *mib, "MiB", Some(false));
    }
}

fn describe(plan: &stand::Plan, stand: &Stand, loads: &Loads) -> BTreeMap<String, String> {
    let mut about = BTreeMap::new();
    let mut add = |name: &str, value: String| about.insert(name.to_owned(), value);
    let sandbox = &plan.sandbox;
    let node = match &plan.node {
        Some(url) => without_secrets(url),
        None if sandbox.unlimited => format!("embedded sandbox, no gas limit, {} ms blocks", sandbox.block_ms),
        None => format!("embedded sandbox, gas as on the real chain, {} ms blocks", sandbox.block_ms),
    };
    add("node", node);
    let service = match (&plan.target, &plan.binary) {
        (Some(url), _) => url.clone(),
        (None, Some(binary)) => format!("{} serve", binary.display()),
        (None, None) => "keyshard, built in, as a process of its own".into(),
    };
    add("service", service);
    if plan.target.is_none() {
        add("keys", stand.keys.len().to_string());
    }
    for (name, value) in &plan.settings {
        add(&format!("service {name}"), if text::is_secret(name) { "(not shown)".into() } else { value.clone() });
    }
    add("transfers a request", loads.batch.to_string());
    add("receivers", format!("{}, {}", stand.receivers.len(), loads.draw.skew));
    if loads.draw.fresh > 0.0 {
        add("fresh receivers", format!("{} %", loads.draw.fresh * 100.0));
    }
    add("answered when", if loads.settings.respond_async { "safe (respond-async)" } else { "executed" }.into());
    about
}

/// The value of a sample without labels.
fn sample(page: &str, name: &str) -> Option<u64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_their_whole_name() {
        let page = "# HELP open 7 x\nopen_jobs 3\nopen{a=\"b\"} 4\nopen 1000000\n";
        assert_eq!(sample(page, "open"), Some(1_000_000));
        assert_eq!(sample(page, "ope"), None);
        assert_eq!(sample("", "open"), None);
    }
}
