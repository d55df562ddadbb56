//! A profiling session: a sandbox and a load in this process, the real service beside it, sampled from inside.
use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use keyshard_sandbox::Sandbox;

use crate::{
    folded::{Folded, FoldedError},
    http_client,
    load::{self, Load},
    perf::{self, Event},
    picture::{self, Caption},
    role::Role,
    service::{self, Service, ServiceError},
    table, waits,
};

/// Before sampling begins: connections are open, receivers known, batches full.
const WARM_UP: Duration = Duration::from_secs(3);
/// How much longer than they should the parts of a session may take while the load goes on.
const SLACK: Duration = Duration::from_secs(20);
/// What the service may take beyond the sampled time: it looks up names.
const NAMING: Duration = Duration::from_mins(2);
/// Rows of each table.
const ROWS: usize = 8;

/// What to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long each kind of sampling takes, 1 to 60 s.
    pub time: Duration,
    /// Transfers asked for a second, one a request.
    pub rate: u32,
    /// Access keys.
    pub keys: usize,
    /// Time between two blocks.
    pub block_ms: u64,
    /// Whether blocks have no gas limit, which shows what is in front of the node at work.
    pub unlimited: bool,
    /// Where pictures and table go.
    pub out: PathBuf,
    /// The service, if it is not to be built.
    pub program: Option<PathBuf>,
    /// Whether to use perf as well.
    pub perf: bool,
    /// How this session can be had again, for the captions.
    pub command: String,
}

/// Why a session has no result.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The service.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The sandbox.
    #[error("the sandbox does not start: {0}")]
    Sandbox(String),
    /// The load.
    #[error("the load: {0}")]
    Load(String),
    /// The profile.
    #[error("GET /debug/flamegraph answered {0}: {1}")]
    Profile(u16, String),
    /// What the profile holds.
    #[error("GET /debug/flamegraph: {0}")]
    Stacks(#[from] FoldedError),
    /// Nothing was sampled that could be shown.
    #[error("{0}")]
    Nothing(&'static str),
    /// A file or a connection.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's word.
        source: io::Error,
    },
}

fn problem(what: &'static str) -> impl FnOnce(io::Error) -> SessionError {
    move |source| SessionError::Io { what, source }
}

/// Takes the session and writes its results; `say` is told how far it is. The text of `hottest.md` comes back.
pub fn run(settings: &Settings, mut say: impl FnMut(&str)) -> Result<String, SessionError> {
    let root = root();
    let commit = commit(&root);
    let program = if let Some(program) = &settings.program {
        program.canonicalize().map_err(problem("the program"))?
    } else {
        say(&format!("cargo {}", service::BUILD.join(" ")));
        service::build(&root)?
    };
    // If it cannot be raised far enough, requests fail, and are counted.
    let _ = rlimit::increase_nofile_limit(load::MAX_CONNECTIONS as u64 + 1_024);
    let sandbox = Sandbox::start(keyshard_sandbox::Config {
        block_ms: settings.block_ms,
        keys: settings.keys,
        unlimited: settings.unlimited,
        ..keyshard_sandbox::Config::default()
    })
    .map_err(|error| SessionError::Sandbox(error.to_string()))?;
    fs::create_dir_all(&settings.out).map_err(problem("the folder for the results"))?;
    // Beside the results: a disk, where the system's temporary folder may be memory.
    let folder = tempfile::tempdir_in(&settings.out).map_err(problem("a folder for the service's data"))?;
    let service = Service::start(&program, folder.path(), sandbox.credentials())?;
    let at_most = WARM_UP + settings.time * 3 + SLACK;
    let load = Load::start(service.address(), settings.rate.into(), at_most, &sandbox.credentials().receivers)
        .map_err(|error| SessionError::Load(error.to_string()))?;
    say(&format!("sampling, {} s", settings.time.as_secs()));
    thread::sleep(WARM_UP);

    let before = load.counts();
    let (id, address, time) = (service.id(), service.address(), settings.time);
    let watched = thread::spawn(move || waits::watch(id, time));
    let asked = thread::spawn(move || {
        let path = format!("/debug/flamegraph?seconds={}&format=folded", time.as_secs());
        http_client::get(address, &path, time + NAMING)
    });
    thread::sleep(time);
    let after = load.counts();
    let rate = (after.accepted - before.accepted) as f64 / time.as_secs_f64();
    let refused = after.refused - before.refused;
    let ended = |_| SessionError::Nothing("a thread of this session has ended");
    let waits = watched.join().map_err(ended)?.map_err(problem("/proc"))?;
    let (status, body) = asked.join().map_err(ended)?.map_err(problem("GET /debug/flamegraph"))?;
    let body = String::from_utf8_lossy(&body);
    if status != 200 {
        return Err(SessionError::Profile(status, body.chars().take(500).collect()));
    }
    let stacks = Folded::parse(&body)?;

    let mut recordings = Vec::new();
    if settings.perf {
        for event in [Event::OnCpu, Event::Sleeps] {
            say(&format!("perf, {} s: {event:?}", time.as_secs()));
            let file = folder.path().join(format!("{event:?}"));
            recordings.push((event, perf::record(id, event, time, &file).map(|()| file)));
        }
    }
    load.stop().map_err(problem("the load"))?;
    say("ending the service");
    service.stop()?;
    sandbox.stop();
    if stacks.of_role(Role::Shard).samples() == 0 {
        return Err(SessionError::Nothing("no shard thread was on a CPU: was there any load?"));
    }

    let from_perf =
        recordings.into_iter().map(|(event, file)| (event, file.and_then(|file| perf::stacks(&file)))).collect();
    let results = Results { settings, commit, rate, refused, stacks, waits, from_perf };
    results.write().map_err(problem("the results"))
}

struct Results<'a> {
    settings: &'a Settings,
    commit: String,
    /// Answered transfers a second while sampling.
    rate: f64,
    refused: u64,
    stacks: Folded,
    waits: waits::Waits,
    from_perf: Vec<(Event, Result<Folded, perf::PerfError>)>,
}

impl Results<'_> {
    fn write(&self) -> io::Result<String> {
        let mut pictures = Vec::new();
        for role in Role::ALL {
            let title = format!("{role}: on a CPU");
            self.draw(&mut pictures, role.as_str(), &title, "samples", false, &self.stacks.of_role(role))?;
        }
        self.draw(&mut pictures, "waits", "all threads: asleep", "looks", true, &self.waits.stacks)?;
        let mut notes = String::new();
        for (event, folded) in &self.from_perf {
            let (name, title, unit, waiting) = match event {
                Event::OnCpu => ("perf-on-cpu", "all threads: on a CPU, with the kernel", "ns", false),
                Event::Sleeps => ("perf-sleeps", "all threads: what leaves the CPU, and how often", "switches", true),
            };
            match folded {
                Ok(folded) => self.draw(&mut pictures, name, title, unit, waiting, folded)?,
                Err(error) => {
                    let _ = writeln!(notes, "No {name}: {error}.\n");
                }
            }
        }
        let text = self.page(&pictures, &notes);
        fs::write(self.settings.out.join("hottest.md"), &text)?;
        Ok(text)
    }

    fn draw(
        &self,
        pictures: &mut Vec<String>,
        name: &str,
        title: &str,
        unit: &str,
        waiting: bool,
        folded: &Folded,
    ) -> io::Result<()> {
        let file = format!("{name}.svg");
        let title = format!("Keyshard {} - {title}", self.commit);
        let subtitle = format!("{} ({:.0} transfers/s)", self.settings.command, self.rate);
        let caption = Caption { title: &title, subtitle: &subtitle, unit, waiting };
        let path = self.settings.out.join(&file);
        if picture::draw(folded, caption, &path)? {
            pictures.push(file);
        } else {
            // One of an earlier session would be taken for this one's.
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    fn page(&self, pictures: &[String], notes: &str) -> String {
        let Settings { time, rate, keys, block_ms, unlimited, command, .. } = self.settings;
        let gas = if *unlimited { "no gas limit" } else { "gas-metered" };
        let cores = thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let cpu = self.waits.on_cpu().as_secs_f64();
        let per_transfer = cpu * 1e6 / (self.rate * time.as_secs_f64()).max(1.0);
        let links: Vec<String> = pictures.iter().map(|file| format!("[{file}]({file})")).collect();
        format!(
            "# Hottest functions\n\n\
             Commit {}, `{command}`.\n\n\
             {rate} requests a second with one transfer each, {keys} keys, blocks of {block_ms} ms, {gas}, {cores} cores that service, sandbox \
             and load share: {:.0} transfers/s answered, {} requests refused. CPU of the service: {:.2} cores, {per_transfer:.0} us a \
             transfer. Stacks are at most {} functions deep.\n\n\
             Pictures: {}.\n\n{notes}\
             ## On a CPU\n\n{}\
             ## Off the CPU\n\n{}",
            self.commit,
            self.rate,
            self.refused,
            cpu / self.waits.time.as_secs_f64().max(f64::MIN_POSITIVE),
            self.stacks.depth(),
            links.join(", "),
            table::markdown(&table::hottest(&self.stacks, ROWS)),
            self.waits.markdown(),
        )
    }
}

/// The workspace that this program was built in.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}

/// The short name of the commit, with a `+` if files differ from it; pictures do not count.
fn commit(root: &Path) -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(root).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(name) = git(&["rev-parse", "--short", "HEAD"]) else { return "of an unknown commit".into() };
    let changes = git(&["status", "--porcelain", "--untracked-files=no", "--", ".", ":!flamegraphs/pictures"]);
    if changes.is_some_and(|changes| !changes.is_empty()) { name + "+" } else { name }
}
