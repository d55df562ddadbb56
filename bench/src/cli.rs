//! The command line.
use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use clap::{Args, Parser, Subcommand};

use crate::{
    ceiling, compare, idle,
    load::Settings,
    lone, max_tps, open, overload,
    profile::{self, Profile},
    report::Report,
    roles, rows, scaling,
    script::{Draw, Skew},
    session::{Error, Loads, Session},
    settled, sign, stand,
    text::{complain, say},
    yardsticks,
};

/// Milliseconds between two blocks of the real chain.
const BLOCK_MS: u64 = 600;
/// Backlog of the service where it is filled on purpose.
const ROOM: &str = "1000000";

/// How fast, honestly: loads that do not wait for answers, and transfers that count when the chain shows them.
///
/// New here? `cargo run --release -p keyshard-bench -- max-tps` finds the highest rate that this machine sustains, in under
/// three minutes, and writes a report to look at.
#[derive(Parser)]
#[command(name = "keyshard-bench", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Find the highest rate that lasts: search, then hold it
    MaxTps(MaxTps),
    /// Run a profile and judge it by its limits
    Run(RunProfile),
    /// Offer a rate for a time, whatever comes of it
    Load(LoadRate),
    /// What the node alone lands with batches that were signed beforehand: the yardstick for rates on chain
    Ceiling(Ceiling),
    /// The same HTTP server answering a constant: the yardstick for requests
    Noop(Noop),
    /// Durable accepts (Prefer: respond-async) beside noop, as fast as connections go
    Accepts(Beside),
    /// How many transfers a second go all the way on a node without a limit of gas, beside noop
    Settled(Beside),
    /// What a transfer costs with more keys and shards, and by a model where more cores would end
    Scaling(Scaling),
    /// Twice what the chain takes: what still lands, how soon the rest is refused, how long the accepted wait
    Overload(Overload),
    /// Answer time of one lone transfer, beside a bare `send_tx` of the same
    Lone(Lone),
    /// CPU of the service while nobody asks for anything
    Idle(Idle),
    /// Memory with a million open transfers, and after kill -9 and a restart
    Open(Open),
    /// Building and signing a transaction, beside the plain way with near-primitives and near-crypto
    Sign(Sign),
    /// Every number of the table in RESULTS.md, one after the other
    Table(Table),
    /// Two reports side by side
    Compare(Compare),
    /// What is measured runs as this
    #[command(hide = true)]
    RoleSandbox(RoleSandbox),
    /// What is measured runs as this
    #[command(hide = true)]
    RoleService,
    /// What is measured runs as this
    #[command(hide = true)]
    RoleNoop {
        #[arg(long)]
        threads: usize,
    },
}

#[derive(Args)]
struct MaxTps {
    /// Seconds for which the rate must hold in the end
    #[arg(long, default_value_t = 60.0)]
    duration: f64,
    /// Seconds for which each rate is tried before
    #[arg(long, default_value_t = 8.0)]
    try_seconds: f64,
    /// Transfers a second to begin with, where no ceiling is measured
    #[arg(long, default_value_t = 20.0)]
    start_rate: f64,
    /// How near the search goes, in percent
    #[arg(long, default_value_t = 3.0)]
    precision: f64,
    /// Do not measure the ceiling first
    #[arg(long)]
    no_ceiling: bool,
    /// Seconds for which the ceiling is measured, with batches of each size
    #[arg(long, default_value_t = 10.0)]
    ceiling_seconds: f64,
    /// Transfers a batch of the ceiling: the first is the yardstick; blocks execute whole transactions, so that another may
    /// fill them better
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "100,92,84", value_parser = clap::value_parser!(u32).range(1..=100))]
    ceiling_actions: Vec<u32>,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct RunProfile {
    /// A profile's name, or a file with one
    #[arg(required_unless_present = "list")]
    profile: Option<String>,
    /// Name the profiles that there are
    #[arg(long)]
    list: bool,
    /// Make every phase so many times as long: 0.1 for a tenth
    #[arg(long, default_value_t = 1.0)]
    scale_time: f64,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct LoadRate {
    /// Transfers a second
    #[arg(long)]
    rate: f64,
    /// Seconds
    #[arg(long, default_value_t = 60.0)]
    duration: f64,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Ceiling {
    /// Seconds
    #[arg(long, default_value_t = 20.0)]
    duration: f64,
    /// Batches in flight, where blocks have a limit of gas
    #[arg(long, default_value_t = 24)]
    in_flight: usize,
    /// Transfers a batch; several, separated by commas, are measured one after the other
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "100", value_parser = clap::value_parser!(u32).range(1..=100))]
    actions: Vec<u32>,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Noop {
    /// Seconds
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
    /// Requests a second, each at its instant; without it, as fast as --connections can send one after the other
    #[arg(long)]
    rate: Option<f64>,
    /// Connections
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Threads of the load
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Directory of the report
    #[arg(long)]
    out: Option<PathBuf>,
}

/// What is measured beside a yardstick.
#[derive(Args)]
struct Beside {
    /// Seconds, for each of the two
    #[arg(long, default_value_t = 10.0)]
    duration: f64,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Scaling {
    /// Seconds for each combination
    #[arg(long, default_value_t = 4.0)]
    duration: f64,
    /// Access keys
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,4,16,64", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    key_counts: Vec<u16>,
    /// Shards; a combination with more of them than keys is left out
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: Vec<u16>,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Overload {
    /// Seconds
    #[arg(long, default_value_t = 60.0)]
    duration: f64,
    /// Times the ceiling that are offered
    #[arg(long, default_value_t = 2.0)]
    times: f64,
    /// Seconds of backlog that the service takes: `MAX_PENDING_JOBS` is set to that times the ceiling, unless --set does
    #[arg(long, default_value_t = 5.0)]
    backlog: f64,
    /// Seconds for which the ceiling is measured before
    #[arg(long, default_value_t = 12.0)]
    ceiling_seconds: f64,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Lone {
    /// How many of each
    #[arg(long, default_value_t = 40)]
    pairs: usize,
    /// What both wait for
    #[arg(long, value_enum, default_value = "executed-optimistic")]
    wait_until: lone::Level,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Idle {
    /// Seconds, just started and again after a load
    #[arg(long, default_value_t = 20.0)]
    duration: f64,
    /// Transfers a second of the load in between, for five seconds
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Open {
    /// How many
    #[arg(long, default_value_t = open::MILLION)]
    transfers: u64,
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Sign {
    /// Seconds for each size
    #[arg(long, default_value_t = 3.0)]
    duration: f64,
    /// Directory of the report
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct Table {
    /// Shorter measurements: under six minutes instead of under twenty, and less to be trusted
    #[arg(long)]
    quick: bool,
    /// Only these rows, separated by commas; see --list
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    only: Vec<String>,
    /// Name the rows, their limits and their commands, and measure nothing
    #[arg(long)]
    list: bool,
    /// Also write the table as Markdown, to be put into RESULTS.md
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// A keyshard program to measure, instead of the one built into this
    #[arg(long, value_name = "PROGRAM")]
    binary: Option<PathBuf>,
    /// Take the rows that --out has of an earlier run, and measure the others
    #[arg(long, requires = "out")]
    resume: bool,
    /// Directory of the reports [default: target/keyshard-bench/table-TIME]
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct Compare {
    /// A report.json, or its directory
    first: PathBuf,
    /// Another one
    second: PathBuf,
}

#[derive(Args)]
struct RoleSandbox {
    #[arg(long)]
    block_ms: u64,
    #[arg(long)]
    keys: usize,
    #[arg(long)]
    accounts: usize,
    #[arg(long)]
    unlimited: bool,
}

/// What is measured.
#[derive(Args)]
#[command(next_help_heading = "What is measured (default: a sandbox and a service of its own)")]
struct What {
    /// The service at this URL, instead of one of our own; needs --node
    #[arg(long, value_name = "URL")]
    target: Option<String>,
    /// The NEAR node at this URL, instead of a sandbox; needs --token, and --payer with `MASTER_ACCOUNT_PRIVATE_KEYS` in the
    /// environment unless --target is given. It costs what transfers cost there
    #[arg(long, value_name = "URL")]
    node: Option<String>,
    /// Account of the token, with --node
    #[arg(long)]
    token: Option<String>,
    /// Account that pays, with --node
    #[arg(long)]
    payer: Option<String>,
    /// Accounts to pay, separated by commas, or @FILE with one a line; with --node. They must be registered with the token
    #[arg(long, value_name = "LIST")]
    receivers: Option<String>,
    /// A keyshard program to measure, instead of the one built into this
    #[arg(long, value_name = "PROGRAM", conflicts_with = "target")]
    binary: Option<PathBuf>,
    /// A setting of the service, as NAME=VALUE; see `keyshard serve --help`. May be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
    /// Access keys of the sandbox's paying account
    #[arg(long, default_value_t = 12)]
    keys: usize,
    /// Milliseconds between two blocks of the sandbox [default: 600; 50 for settled and scaling; none come for open]
    #[arg(long)]
    block_ms: Option<u64>,
    /// No gas limit in the sandbox: measures what is in front of the node. The chain is then read after each load. Always
    /// so for settled and scaling
    #[arg(long)]
    unlimited: bool,
    /// Receivers in the sandbox
    #[arg(long, default_value_t = 100)]
    accounts: usize,
}

/// How it is loaded.
#[derive(Args)]
#[command(next_help_heading = "How it is loaded")]
struct How {
    /// Transfers a request [default: 1; 100 for open]
    #[arg(long)]
    batch: Option<u32>,
    /// How receivers are drawn: uniform, zipf, or zipf:EXPONENT
    #[arg(long, default_value = "uniform")]
    skew: Skew,
    /// Percent of the transfers that go to accounts nobody has heard of
    #[arg(long, default_value_t = 0.0)]
    fresh: f64,
    /// What each transfer pays, in the token's units
    #[arg(long, default_value_t = 1_000)]
    amount: u128,
    /// Ask for an answer as soon as transfers are safe (Prefer: respond-async), instead of once they are executed
    #[arg(long)]
    respond_async: bool,
    /// Most connections at a time [default: 10000; 64 for accepts, 8 for open, 4096 for settled, or 256 with --batch]
    #[arg(long)]
    connections: Option<usize>,
    /// Threads of the load
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Seconds after which a request is given up
    #[arg(long, default_value_t = 60.0)]
    timeout: f64,
    /// Longest wait for the chain after a load, in seconds
    #[arg(long, default_value_t = 60.0)]
    settle: f64,
    /// What is drawn follows from this
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Directory of the report [default: target/keyshard-bench/COMMAND-TIME]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Parses the arguments of this process and does what they say.
pub fn main() -> ExitCode {
    match command(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(2)
        }
    }
}

fn command(command: Command) -> Result<ExitCode, Box<dyn std::error::Error>> {
    match command {
        Command::RoleSandbox(role) => {
            let RoleSandbox { block_ms, keys, accounts: receivers, unlimited } = role;
            let config = keyshard_sandbox::Config { block_ms, keys, receivers, unlimited, ..Default::default() };
            roles::sandbox(config)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::RoleService => roles::service().map(|()| ExitCode::SUCCESS),
        Command::RoleNoop { threads } => roles::noop(threads).map(|()| ExitCode::SUCCESS),
        Command::Compare(Compare { first, second }) => {
            say(&compare::text(&Report::read(&first)?, &Report::read(&second)?));
            Ok(ExitCode::SUCCESS)
        }
        Command::Run(RunProfile { list: true, .. }) => {
            for name in profile::names() {
                say(&format!("{name:<24}{}", Profile::load(name)?.title));
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Sign(Sign { duration, out }) => {
            let (report, _) = sign::run(&directory(out.as_ref(), "sign"), duration)?;
            Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(1) })
        }
        Command::Table(Table { list: true, .. }) => {
            say(&rows::list());
            Ok(ExitCode::SUCCESS)
        }
        Command::Table(Table { quick, only, markdown, binary, resume, out, .. }) => {
            let directory = directory(out.as_ref(), "table");
            let options = rows::Options { quick, only, markdown, binary, resume, directory };
            let held = rows::run(&options)?;
            Ok(if held { ExitCode::SUCCESS } else { ExitCode::from(1) })
        }
        measurement => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(measure(measurement))?)
        }
    }
}

/// Success if every limit was held; 1 if not.
async fn measure(command: Command) -> Result<ExitCode, Error> {
    let interrupted = Arc::new(AtomicBool::new(false));
    tokio::spawn({
        let interrupted = Arc::clone(&interrupted);
        async move {
            // The first ends the measurement in order, the second ends it.
            while tokio::signal::ctrl_c().await.is_ok() {
                if interrupted.swap(true, Relaxed) {
                    std::process::exit(130);
                }
            }
        }
    });
    let begin_as = |title: &'static str, plan: Result<stand::Plan, Error>, loads: Loads| {
        let interrupted = Arc::clone(&interrupted);
        async move { Session::begin(title, plan?, loads, interrupted).await }
    };
    let begin = |title: &'static str, what: &What, how: &How, connections: usize, name: &str| {
        begin_as(title, what.plan(directory(how.out.as_ref(), name)), how.loads(connections, 1))
    };
    let many = 10_000;
    let (report, _) = match &command {
        Command::MaxTps(options) => {
            let session = begin("Highest sustained rate", &options.what, &options.how, many, "max-tps").await?;
            let ceiling = ceiling::Settings { seconds: options.ceiling_seconds, ..ceiling::Settings::default() };
            let sizes = if options.no_ceiling { Vec::new() } else { options.ceiling_actions.clone() };
            let options = max_tps::Options {
                duration_s: options.duration,
                try_s: options.try_seconds,
                start: options.start_rate,
                precision: options.precision / 100.0,
                ceiling,
                sizes,
            };
            max_tps::run(session, options).await?
        }
        Command::Run(options) => {
            let profile = Profile::load(options.profile.as_deref().unwrap_or_default())?;
            let session = begin("Profile", &options.what, &options.how, many, "run").await?;
            yardsticks::profile(session, profile, options.scale_time).await?
        }
        Command::Load(options) => {
            let session = begin("Load", &options.what, &options.how, many, "load").await?;
            yardsticks::rate(session, options.rate, options.duration).await?
        }
        Command::Ceiling(options) => {
            let session = begin("Ceiling", &options.what, &options.how, many, "ceiling").await?;
            let Ceiling { duration: seconds, in_flight, actions, .. } = options;
            let settings = ceiling::Settings { seconds: *seconds, batch: 100, in_flight: *in_flight };
            yardsticks::ceiling(session, settings, actions).await?
        }
        Command::Accepts(options) => {
            let mut plan = options.what.plan(directory(options.how.out.as_ref(), "accepts"))?;
            plan.settings.insert(0, ("MAX_PENDING_JOBS".into(), ROOM.into()));
            let session = begin_as("Durable accepts", Ok(plan), options.how.loads(64, 1)).await?;
            yardsticks::accepts(session, options.duration).await?
        }
        Command::Settled(options) => {
            let Beside { duration, what, how } = options;
            let plan = what.unlimited(directory(how.out.as_ref(), "settled"))?;
            let (one, many) = settled::CONNECTIONS;
            let connections = if how.batch.unwrap_or(1) == 1 { one } else { many };
            let session = begin_as("Settled", Ok(plan), how.loads(connections, 1)).await?;
            settled::run(session, *duration).await?
        }
        Command::Scaling(options) => {
            let Scaling { duration, key_counts, shards, what, how } = options;
            let plan = what.unlimited(directory(how.out.as_ref(), "scaling"))?;
            let session = begin_as("Scaling", Ok(plan), how.loads(1, 1)).await?;
            let [keys, shards] =
                [key_counts, shards].map(|list| list.iter().map(|n| usize::from(*n)).collect::<Vec<_>>());
            scaling::run(session, &keys, &shards, *duration).await?
        }
        Command::Overload(options) => {
            let session = begin("Overload", &options.what, &options.how, many, "overload").await?;
            let options = overload::Options {
                seconds: options.duration,
                times: options.times,
                backlog_s: options.backlog,
                ceiling: ceiling::Settings { seconds: options.ceiling_seconds, ..ceiling::Settings::default() },
            };
            overload::run(session, options).await?
        }
        Command::Lone(options) => {
            let Lone { pairs, wait_until, what, how } = options;
            let mut plan = what.plan(directory(how.out.as_ref(), "lone"))?;
            plan.settings.insert(0, lone::setting(*wait_until));
            plan.sandbox.keys += 1;
            let session = begin_as("One lone transfer", Ok(plan), how.loads(1, 1)).await?;
            lone::run(session, (*pairs).max(1), *wait_until).await?
        }
        Command::Idle(options) => {
            let session = begin("Idle", &options.what, &options.how, many, "idle").await?;
            idle::run(session, options.duration, options.rate).await?
        }
        Command::Open(options) => {
            let Open { transfers, what, how } = options;
            let mut plan = what.plan(directory(how.out.as_ref(), "open"))?;
            plan.settings.insert(0, ("MAX_PENDING_JOBS".into(), transfers.to_string()));
            plan.sandbox.block_ms = open::STANDSTILL_MS;
            let session = begin_as("Open transfers", Ok(plan), how.loads(8, 100)).await?;
            open::run(session, *transfers).await?
        }
        Command::Noop(options) => {
            let settings = Settings {
                threads: options.threads.max(1),
                connections: options.connections,
                timeout_s: 60.0,
                respond_async: false,
            };
            let plan = nothing(directory(options.out.as_ref(), "noop"))?;
            yardsticks::noop(&plan, &settings, options.duration, options.rate)?
        }
        _ => return Err(Error::Other("not a measurement".into())),
    };
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

impl What {
    fn plan(&self, directory: PathBuf) -> Result<stand::Plan, Error> {
        let receivers = match self.receivers.as_deref().map(|list| (list.strip_prefix('@'), list)) {
            None => Vec::new(),
            Some((Some(file), _)) => {
                let text = std::fs::read_to_string(file).map_err(|error| Error::Other(format!("{file}: {error}")))?;
                text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
            }
            Some((None, list)) => list.split(',').map(|account| account.trim().to_owned()).collect(),
        };
        if let Some(bad) = receivers.iter().find(|name| name.parse::<near_primitives::types::AccountId>().is_err()) {
            return Err(Error::Other(format!("--receivers: {bad:?} is not an account")));
        }
        Ok(stand::Plan {
            node: self.node.clone(),
            target: self.target.clone(),
            binary: self.binary.clone(),
            sandbox: keyshard_sandbox::Config {
                keys: self.keys,
                block_ms: self.block_ms.unwrap_or(BLOCK_MS),
                unlimited: self.unlimited,
                receivers: self.accounts,
                ..keyshard_sandbox::Config::default()
            },
            settings: self.set.clone(),
            token: self.token.clone(),
            payer: self.payer.clone(),
            receivers,
            ..nothing(directory)?
        })
    }
}

impl What {
    /// The same on a node without a limit of gas, with short blocks and room in the keys' windows.
    fn unlimited(&self, directory: PathBuf) -> Result<stand::Plan, Error> {
        let mut plan = self.plan(directory)?;
        plan.sandbox.block_ms = self.block_ms.unwrap_or(settled::BLOCK_MS);
        settled::prepare(&mut plan);
        Ok(plan)
    }
}

impl How {
    fn loads(&self, connections: usize, batch: u32) -> Loads {
        Loads {
            batch: self.batch.unwrap_or(batch),
            draw: Draw {
                receivers: Vec::new(),
                skew: self.skew,
                fresh: self.fresh / 100.0,
                amount: self.amount,
                seed: self.seed,
            },
            settings: Settings {
                threads: self.threads.max(1),
                connections: self.connections.unwrap_or(connections).max(1),
                timeout_s: self.timeout,
                respond_async: self.respond_async,
            },
            settle_s: self.settle,
        }
    }
}

/// A stand with nothing asked for.
fn nothing(directory: PathBuf) -> Result<stand::Plan, Error> {
    Ok(stand::Plan {
        program: std::env::current_exe()?,
        directory,
        node: None,
        target: None,
        binary: None,
        sandbox: keyshard_sandbox::Config::default(),
        settings: Vec::new(),
        token: None,
        payer: None,
        receivers: Vec::new(),
    })
}

fn directory(out: Option<&PathBuf>, name: &str) -> PathBuf {
    let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    out.cloned().unwrap_or_else(|| PathBuf::from(format!("target/keyshard-bench/{name}-{unix_s}")))
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Whether this is a command line of this program.
#[cfg(test)]
pub(crate) fn understands(words: &[String]) -> bool {
    Cli::try_parse_from(words).is_ok()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(|cli| cli.command);
        let Ok(Command::MaxTps(max)) = parse("keyshard-bench max-tps") else { panic!("not max-tps") };
        assert!((max.duration - 60.0).abs() < 1e-9 && max.what.node.is_none() && max.how.batch.is_none());
        let line =
            "keyshard-bench run testnet-200tps --scale-time 0.1 --set SHARDS=2 --set WAIT_UNTIL=Final --skew zipf:2";
        let Ok(Command::Run(run)) = parse(line) else { panic!("not run") };
        assert_eq!(run.what.set[1], ("WAIT_UNTIL".to_owned(), "Final".to_owned()));
        assert_eq!(run.how.skew, Skew::Zipf(2.0));
        for bad in ["keyshard-bench", "keyshard-bench run", "keyshard-bench load", "keyshard-bench max-tps --set X"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("keyshard-bench run --list").is_ok());
    }

    #[test]
    fn receivers_are_accounts() {
        let mut what = match Cli::try_parse_from(["keyshard-bench", "max-tps", "--receivers", "a.near, b.near"]) {
            Ok(Cli { command: Command::MaxTps(max) }) => max.what,
            _ => panic!("not max-tps"),
        };
        assert_eq!(what.plan("x".into()).unwrap().receivers, ["a.near", "b.near"]);
        what.receivers = Some("a.near,\"}".into());
        assert!(what.plan("x".into()).is_err());
    }
}
