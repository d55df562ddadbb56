//! The `keyshard` command line.
use std::{env, io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};
use keyshard_sandbox::Sandbox;

use crate::{
    access::command as api_keys,
    audit, check,
    config::{Config, Offline},
    dev,
    env::Env,
    import, log, mock, probe, provision,
    run::{Stop, run},
    webhooks,
};

/// Pays out fungible tokens (NEP-141) on NEAR: takes transfers over HTTP, lands each of them exactly once.
///
/// New here? `keyshard dev` starts everything on this machine and prints the requests to try.
#[derive(Parser)]
#[command(name = "keyshard", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// A NEAR sandbox and the service in one process, ready to pay: for trying it out and for development
    ///
    /// The sandbox lives in memory: accounts, keys, token and receivers are made at the start and gone at the end.
    /// Transfers are answered once executed; `WAIT_UNTIL=Final` waits for finality. Other environment variables of
    /// `keyshard serve` count here as well, except those that name a node, accounts or keys.
    Dev(Dev),
    /// The service alone, configured by environment variables
    #[command(after_long_help = SERVE_HELP)]
    Serve,
    /// Brings over the jobs of the Node service's jobs.jsonl; pays nothing
    ///
    /// What the chain proves to be paid goes into the history, so that GET /transfer/<id> knows it; everything else is
    /// listed for a human. Stop the Node service first, and keep Keyshard stopped meanwhile. Can be repeated.
    #[command(after_long_help = IMPORT_HELP)]
    Import(Import),
    /// Compares journal and history with the chain; changes nothing
    ///
    /// Every transaction that ever carried a transfer is asked about at FINAL. Needs the service to be stopped.
    #[command(after_long_help = AUDIT_HELP)]
    Audit(Audit),
    /// A doctor: looks at settings, nodes, keys, balances, token and machine, and says what will go wrong and how to mend it
    ///
    /// Reads the same settings as serve. Changes nothing; can be run beside the service.
    #[command(after_long_help = CHECK_HELP)]
    Check(Check),
    #[command(subcommand)]
    Webhooks(webhooks::Args),
    #[command(subcommand)]
    Provision(provision::args::Provision),
    #[command(subcommand)]
    Keys(provision::args::Keys),
    /// Asks a running service whether it is well: exit code 0 if it is, else 1
    ///
    /// For container health checks and scripts; reads `HOST`, `PORT` and `TLS_CERT` as serve does.
    Health(probe::Args),
    #[command(subcommand)]
    ApiKeys(api_keys::ApiKeys),
    /// The sandbox alone: a NEAR node in memory that answers JSON-RPC
    #[command(name = "sandbox")]
    SandboxNode(SandboxNode),
}

#[derive(clap::Args)]
struct Dev {
    /// Port of the API; 0 takes any free one [default: PORT, else 3000]
    #[arg(long)]
    port: Option<u16>,
    #[command(flatten)]
    chain: Chain,
}

#[derive(clap::Args)]
struct Import {
    /// The Node service's file, usually data/jobs.jsonl
    file: PathBuf,
    /// Find out and tell, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Where the jobs that need a human are listed, one JSON object a line
    #[arg(long, value_name = "FILE", default_value = "unresolved.jsonl")]
    unresolved: PathBuf,
}

#[derive(clap::Args)]
struct Audit {
    /// Print the report as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct Check {
    /// Print the findings as one JSON array
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
struct SandboxNode {
    #[command(flatten)]
    chain: Chain,
    /// Write address, accounts and keys as JSON to this file, readable by this user alone
    #[arg(long, value_name = "FILE")]
    write_credentials: Option<PathBuf>,
}

#[derive(clap::Args)]
struct Chain {
    /// Port of the sandbox's JSON-RPC; 0 takes any free one
    #[arg(long, default_value_t = 3030)]
    rpc_port: u16,
    /// Milliseconds between two blocks
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    block_ms: u64,
    /// Full-access keys of the paying account: more keys, more transactions at a time
    #[arg(long, default_value_t = 12)]
    keys: usize,
    /// Accounts user1.test.near, user2.test.near, .. that are registered with the token
    #[arg(long, default_value_t = 100)]
    receivers: usize,
    /// No gas limit a block: for measuring what is in front of the node
    #[arg(long)]
    unlimited: bool,
}

impl Chain {
    fn config(&self) -> keyshard_sandbox::Config {
        keyshard_sandbox::Config {
            rpc_port: self.rpc_port,
            block_ms: self.block_ms,
            keys: self.keys,
            receivers: self.receivers,
            unlimited: self.unlimited,
            ..keyshard_sandbox::Config::default()
        }
    }
}

const CHECK_HELP: &str = "\
One line a finding: ok, warn (works, but not as well as it could, or not for long), or FAIL (will not work), each with what
to do about it.

Settings, from the environment and .env files as for serve.

Exit code: 0 all ok, 1 warnings and no failure, 2 at least one failure.";

const IMPORT_HELP: &str = "\
A job is proven by a transaction of MASTER_ACCOUNT to FT_CONTRACT, successful at FINAL, with an ft_transfer to its
receiver, of its amount, with its memo, that proves no other job. What the file itself says (failed, queued, ..) proves
nothing: the Node service failed jobs that were paid and paid queued ones again.

Settings, from the environment and .env files as for serve: MASTER_ACCOUNT, FT_CONTRACT, NODE_URL or RPC_URLS (of archival
nodes, if the jobs are older than a few days), RPC_TRUST, DATA_DIR. Keys are not needed.

Exit code: 0 everything is resolved, 2 some jobs need a human, 1 it could not be done.";

const AUDIT_HELP: &str = "\
finalized must be exactly one success with that receiver, amount and memo; failed must be none; open ones may have landed
already, once. Warns of keys whose nonce on chain is above all that was signed here: somebody else uses them.

Settings, from the environment and .env files as for serve: MASTER_ACCOUNT, FT_CONTRACT, NODE_URL or RPC_URLS (of archival
nodes, if transfers are older than a few days), RPC_TRUST, DATA_DIR. Keys are not needed.

Exit code: 0 no difference, 1 there are differences, 2 no difference but not everything could be checked (the nodes do not
remember it, or did not answer), 3 it could not be done.";

const SERVE_HELP: &str = "\
Environment variables, also from .env (NEAR_ENV=sandbox) or .env.testnet in the current directory; the environment wins.

Needed:
  MASTER_ACCOUNT                 account that pays
  its full-access keys, of the first of these that is set:
  MASTER_ACCOUNT_PRIVATE_KEYS_FILE
                                 a file with one key a line, # comments, mode 600: `keyshard provision keys` makes it
  MASTER_ACCOUNT_PRIVATE_KEYS    comma-separated or a JSON array
  MASTER_ACCOUNT_PRIVATE_KEY     one key
  ~/.near-credentials            <network>/<MASTER_ACCOUNT>.json, or a folder of that name, as the NEAR tools write them
  FT_CONTRACT                    token contract (NEP-141)
NEAR:
  NEAR_ENV                       sandbox, or testnet (default)
  NODE_URL                       JSON-RPC address [http://localhost:3030, or https://rpc.testnet.fastnear.com]
  RPC_URLS                       several of them, comma-separated; instead of NODE_URL
  RPC_TRUST                      two: two endpoints must agree on how a transaction ended, so any one may be wrong
                                 (while only one can be reached, transfers stay submitted); one: each is believed
                                 [two where there are several]
  RPC_HEADERS                    JSON object of headers for every call
  FASTNEAR_API_KEY               for addresses that contain fastnear.com
  WAIT_UNTIL                     when callers are answered: Included, ExecutedOptimistic, IncludedFinal,
                                 Executed, Final [Final]
  STORAGE_DEPOSIT                auto: register receivers that need it; never [auto]
  STORAGE_MIN_DEPOSIT            yoctoNEAR for a registration [what the token asks for]
  SKIP_STORAGE_CHECK             true: do not ask, always deposit [false]
HTTP:
  HOST, PORT                     where to listen [127.0.0.1, 3000]
  API_KEYS_FILE                  a file of API keys, mode 600: `keyshard api-keys add` makes it. With it requests need
                                 Authorization: Bearer ks_...; without it whoever reaches HOST can pay
  RECEIVERS_ALLOW_FILE           accounts that may be paid, one a line, *.example.near for all below it [all]
  RECEIVERS_DENY_FILE            accounts that are not paid, likewise [none]
                                 (SIGHUP reads these three files again)
  CORS_ALLOW_ORIGINS             origins of web pages that may read answers and, without API keys, pay: comma-separated,
                                 or * [*]
  REQUEST_TIMEOUT_MS             then a waiting caller is told 202 [SERVER_TIMEOUT_MS, at least 60000]
  SERVER_TIMEOUT_MS              longest stop of a client that reads its answer [60000]
  HTTP_THREADS                   front-end threads [half of the cores]
  TLS_CERT, TLS_KEY              PEM files: https instead of http. The chain, the service's own certificate first, and its
                                 key, mode 600. SIGHUP reads them again
  MAX_CONNECTIONS                connections at once. When all are taken, the one without a request for longest makes room;
                                 if all have one, the new one gets 503 [50000, and what the limit of open files allows]
  HEADER_TIMEOUT_MS              longest time for a header block or a handshake; also how long an unused connection is
                                 kept [20000]
  BODY_TIMEOUT_MS                longest time for a body; then 408 [30000]
  MAX_HEADER_BYTES               longest header block; above, 431 [32768]
Engine:
  SPEND_LIMIT_PER_MINUTE         raw token units that are signed in any 60 seconds; the rest is held [none]
  SPEND_LIMIT_PER_DAY            the same for any 24 hours [none]
  MAX_PENDING_JOBS               transfers accepted and open; more get 503 [100000]
  BATCH_WINDOW_MS                longest wait for batch mates while the keys are busy [100]
  MAX_BATCH_SIZE                 transfers in a transaction [what the chain allows]
  MAX_ACTIONS_PER_TX             actions in a transaction [what the chain allows]
  MAX_IN_FLIGHT_PER_KEY          transactions of one key at a time [8]
                                 (SANDBOX_ or TESTNET_MAX_IN_FLIGHT_PER_KEY wins on its network)
  JOB_MAX_ATTEMPTS               failures on chain before a transfer is given up [5]
  JOB_RETRY_BASE_MS              pause after such a failure, times the attempts [500]
  DATA_DIR                       where journal and history live [./data]
  JOURNAL_SEGMENT_BYTES          size of a journal file [67108864]
  JOURNAL_SYNC                   always; off only for measuring: a power loss then loses money [always]
  SHARDS                         shard threads [by cores and keys]
  HISTORY_RETENTION              how long settled transfers and their idempotency keys stay known: days, or like
                                 48h; at least 24h [30d]
  SETTLED_KEPT                   how many of them stay in memory as well [100000]
  DRAIN_TIMEOUT_MS               longest wait at shutdown for what was accepted [30000]
  SKIP_NEAR_INIT                 true: mock mode, also MOCK_NEAR. A chain inside this process, in DATA_DIR/mock; no
                                 keys, no network, nothing is paid, and /health says so [false]
Webhooks:
  WEBHOOK_URL                    where an event goes for every transfer that settles; https, or http on this machine
  WEBHOOK_SECRET                 what events are signed with, 16 bytes or more; or
  WEBHOOK_SECRET_FILE            a file with it, mode 600
  WEBHOOK_CONCURRENCY            events on their way side by side [32]
  WEBHOOK_ALLOW_HTTP             true: http also to other machines [false]
Log:
  DEBUG_ENDPOINTS                true: GET /debug/flamegraph?seconds=10 for clients on this machine, in a program that
                                 was built with --features profiling [false]
  LOG_LEVEL                      trace, debug, info, warn, error, fatal, silent [info]
  NODE_ENV                       production: JSON lines, as the Node service writes them
  PINO_PRETTY                    false: JSON lines
  PINO_DESTINATION               file to append the log to (or PINO_LOG_PATH) [standard output]
  ENABLE_MEMORY_MONITORING       true: the memory in use, every 30 s [false]
  (these but the last are not read from .env files)";

/// Exit code of an import that leaves something to a human.
const NEEDS_A_HUMAN: u8 = 2;
/// Exit code of an audit that could not be done.
const AUDIT_FAILED: u8 = 3;

/// Parses the arguments of this process and does what they say.
pub fn main() -> ExitCode {
    let done = |outcome: Result<(), Failure>| (outcome.map(|()| ExitCode::SUCCESS), ExitCode::FAILURE);
    let (outcome, failure) = match Cli::parse().command {
        None => done(Cli::command().print_long_help().map_err(Failure::from)),
        Some(Command::Dev(dev)) => done(start_dev(&dev)),
        Some(Command::Serve) => done(serve()),
        Some(Command::SandboxNode(node)) => done(sandbox(&node)),
        Some(Command::Import(import)) => (start_import(import), ExitCode::FAILURE),
        Some(Command::Check(args)) => done_with(async move |env| check::check(&env, args.json).await),
        Some(Command::Health(args)) => done_with(async move |env| probe::ask(&env, args).await),
        Some(Command::Provision(command)) => done_with(|env| provision::provision(env, command)),
        Some(Command::Keys(command)) => done_with(|env| provision::keys(env, command)),
        Some(Command::ApiKeys(command)) => done_with(async move |env| api_keys::run(&env, command)),
        // 1 says that there are differences.
        Some(Command::Webhooks(args)) => done_with(async move |env| webhooks::webhooks(&env, &args)),
        Some(Command::Audit(audit)) => (start_audit(&audit), ExitCode::from(AUDIT_FAILED)),
    };
    outcome.unwrap_or_else(|error| {
        complain(error.as_ref());
        failure
    })
}

type Failure = Box<dyn std::error::Error>;

fn serve() -> Result<(), Failure> {
    log::start(&Env::of_process())?;
    tracing::info!("Loading configuration");
    serve_logged().inspect_err(|error| tracing::error!(fatal = true, %error, "Server failed to start"))
}

fn serve_logged() -> Result<(), Failure> {
    let mut settings = Env::with_file(&env::current_dir()?)?;
    let mock = mock::start(&mut settings)?;
    let mut config = Config::from_env(&settings)?;
    config.http.mock = mock.is_some();
    runtime()?.block_on(run(config, |_| {}))?;
    // Its chain outlives the engine, which has ended by now.
    drop(mock);
    Ok(())
}

/// Runs a command that says by itself how it ended.
fn done_with<F: Future<Output = ExitCode>>(command: impl FnOnce(Env) -> F) -> (Result<ExitCode, Failure>, ExitCode) {
    let ended = || Ok(runtime()?.block_on(command(Env::with_file(&env::current_dir()?)?)));
    (ended(), ExitCode::FAILURE)
}

fn start_import(import: Import) -> Result<ExitCode, Failure> {
    let config = Offline::from_env(&Env::with_file(&env::current_dir()?)?)?;
    let Import { file, dry_run, unresolved } = import;
    let summary = runtime()?.block_on(import::import(config, &import::Options { file, dry_run, unresolved }))?;
    say(&summary.to_string());
    Ok(if summary.needs_a_human() { ExitCode::from(NEEDS_A_HUMAN) } else { ExitCode::SUCCESS })
}

fn start_audit(audit: &Audit) -> Result<ExitCode, Failure> {
    let config = Offline::from_env(&Env::with_file(&env::current_dir()?)?)?;
    let report = runtime()?.block_on(audit::audit(config))?;
    say(&if audit.json { serde_json::to_string(&report)? } else { report.to_string() });
    Ok(ExitCode::from(report.exit_code()))
}

fn start_dev(dev: &Dev) -> Result<(), Failure> {
    let mut settings = Env::of_process();
    log::start(&settings)?;
    let sandbox = start_sandbox(&dev.chain)?;
    if let Some(port) = dev.port {
        settings.set("PORT", port.to_string());
    }
    dev::configure(&mut settings, sandbox.credentials());
    // The sandbox's chain is gone at the end, so a journal of it is of no use afterwards.
    let data = tempfile::Builder::new().prefix("keyshard-dev-").tempdir()?;
    settings.set("DATA_DIR", data.path().to_string_lossy());
    let mut config = Config::from_env(&settings)?;
    // A person reads along, and has /metrics.
    config.heartbeat = false;
    let credentials = sandbox.credentials().clone();
    let banner = |address: SocketAddr| say(&dev::banner(address, &credentials));
    runtime()?.block_on(run(config, banner))?;
    sandbox.stop();
    data.close()?;
    Ok(())
}

fn sandbox(node: &SandboxNode) -> Result<(), Failure> {
    log::start(&Env::of_process())?;
    runtime()?.block_on(async {
        let mut stop = Stop::new()?;
        let sandbox = start_sandbox(&node.chain)?;
        if let Some(path) = &node.write_credentials {
            let written = sandbox.credentials().write_to(path);
            written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        say(&dev::sandbox_banner(sandbox.credentials(), node.write_credentials.as_deref()));
        stop.wait().await;
        sandbox.stop();
        Ok(())
    })
}

fn start_sandbox(chain: &Chain) -> Result<Sandbox, Failure> {
    use keyshard_sandbox::StartError::Listen;
    match Sandbox::start(chain.config()) {
        Ok(sandbox) => Ok(sandbox),
        Err(Listen { address, source }) if source.kind() == std::io::ErrorKind::AddrInUse => {
            Err(format!("{address} is taken by another program: choose another port for the sandbox with --rpc-port")
                .into())
        }
        Err(error) => Err(error.into()),
    }
}

/// Everything on this thread waits; the work is done elsewhere.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// What a command prints. Whoever reads it may have seen enough and be gone (`| head`): that is no failure of the command.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[expect(clippy::print_stderr, reason = "this is where a command says why it failed")]
fn complain(error: &dyn std::error::Error) {
    eprintln!("keyshard: {error}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        let line = "keyshard dev --port 0 --rpc-port 0 --keys 3 --receivers 5 --block-ms 50 --unlimited";
        let Some(Command::Dev(dev)) = parse(line).unwrap().command else { panic!("not dev") };
        assert_eq!((dev.port, dev.chain.rpc_port, dev.chain.keys, dev.chain.receivers), (Some(0), 0, 3, 5));
        assert!(dev.chain.config().unlimited && dev.chain.config().block_ms == 50);
        let line = "keyshard sandbox --write-credentials c.json";
        let Some(Command::SandboxNode(node)) = parse(line).unwrap().command else { panic!("not sandbox") };
        assert_eq!((node.chain.rpc_port, node.chain.keys, node.chain.block_ms), (3030, 12, 600));
        assert_eq!(node.write_credentials, Some("c.json".into()));
        assert!(matches!(parse("keyshard serve").unwrap().command, Some(Command::Serve)));
        let line = "keyshard import data/jobs.jsonl --dry-run --unresolved u.jsonl";
        let Some(Command::Import(import)) = parse(line).unwrap().command else { panic!("not import") };
        assert!(import.dry_run && import.file == *"data/jobs.jsonl" && import.unresolved == *"u.jsonl");
        let Some(Command::Audit(audit)) = parse("keyshard audit --json").unwrap().command else { panic!("not audit") };
        assert!(audit.json);
        assert!(parse("keyshard").unwrap().command.is_none());
        for bad in [
            "keyshard dev --port 70000",
            "keyshard dev --block-ms 0",
            "keyshard run",
            "keyshard serve x",
            "keyshard import",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_help_names_every_variable_that_is_read() {
        let sources = [
            include_str!("access/mod.rs"),
            include_str!("config.rs"),
            include_str!("key_sources.rs"),
            include_str!("log.rs"),
            include_str!("mock.rs"),
            include_str!("tls.rs"),
            include_str!("webhooks/settings.rs"),
        ];
        for name in [
            "NEAR_ENV",
            "NODE_URL",
            "RPC_URLS",
            "RPC_HEADERS",
            "FASTNEAR_API_KEY",
            "MASTER_ACCOUNT",
            "MASTER_ACCOUNT_PRIVATE_KEYS_FILE",
            "MASTER_ACCOUNT_PRIVATE_KEYS",
            "MASTER_ACCOUNT_PRIVATE_KEY",
            "FT_CONTRACT",
            "WAIT_UNTIL",
            "SKIP_STORAGE_CHECK",
            "STORAGE_DEPOSIT",
            "STORAGE_MIN_DEPOSIT",
            "MAX_PENDING_JOBS",
            "JOB_MAX_ATTEMPTS",
            "JOB_RETRY_BASE_MS",
            "MAX_ACTIONS_PER_TX",
            "BATCH_WINDOW_MS",
            "MAX_BATCH_SIZE",
            "MAX_IN_FLIGHT_PER_KEY",
            "SERVER_TIMEOUT_MS",
            "REQUEST_TIMEOUT_MS",
            "API_KEYS_FILE",
            "RECEIVERS_ALLOW_FILE",
            "RECEIVERS_DENY_FILE",
            "CORS_ALLOW_ORIGINS",
            "HTTP_THREADS",
            "TLS_CERT",
            "TLS_KEY",
            "MAX_CONNECTIONS",
            "HEADER_TIMEOUT_MS",
            "BODY_TIMEOUT_MS",
            "MAX_HEADER_BYTES",
            "SHARDS",
            "SETTLED_KEPT",
            "WEBHOOK_URL",
            "WEBHOOK_SECRET",
            "WEBHOOK_SECRET_FILE",
            "WEBHOOK_ALLOW_HTTP",
            "WEBHOOK_CONCURRENCY",
            "HISTORY_RETENTION",
            "DATA_DIR",
            "JOURNAL_SYNC",
            "RPC_TRUST",
            "JOURNAL_SEGMENT_BYTES",
            "DRAIN_TIMEOUT_MS",
            "DEBUG_ENDPOINTS",
            "SKIP_NEAR_INIT",
            "MOCK_NEAR",
            "LOG_LEVEL",
            "NODE_ENV",
            "PINO_PRETTY",
            "PINO_DESTINATION",
            "PINO_LOG_PATH",
            "ENABLE_MEMORY_MONITORING",
            "HOST",
            "PORT",
        ] {
            assert!(SERVE_HELP.contains(name), "{name}");
            assert!(
                name == "NEAR_ENV" || sources.iter().any(|source| source.contains(&format!("\"{name}\""))),
                "{name}"
            );
        }
    }
}
