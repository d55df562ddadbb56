//! Programs that are measured, each in a process of its own: so that the CPU and memory of each can be told.
use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs::File,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

/// Longest wait for a program to be ready.
const START: Duration = Duration::from_mins(1);
/// Last lines of its output that an error shows.
const SHOWN: usize = 15;

/// A running program. Killed when dropped; the roles of this program also end by themselves when their standard input does,
/// so that none is left behind whatever happens to this process.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: std::process::Child,
    last: Arc<Mutex<VecDeque<String>>>,
}

/// A program that does not start.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It cannot be run at all.
    #[error("cannot run {program}: {source}")]
    Spawn {
        /// What was to be run.
        program: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It ended, or said nothing for too long.
    #[error("{name} is not ready {after:?} after its start; its last words:\n{last}")]
    NotReady {
        /// Which one.
        name: String,
        /// After how long this was given up.
        after: Duration,
        /// The end of its output.
        last: String,
    },
}

impl Child {
    /// Runs a program with this environment and no other, its output in `log`, until `ready` makes something of a line.
    pub fn start<T>(
        name: &str,
        program: &Path,
        arguments: &[impl AsRef<OsStr>],
        environment: &[(String, String)],
        log: &Path,
        ready: impl Fn(&str) -> Option<T>,
    ) -> Result<(Self, T), ChildError> {
        let spawn = |source| ChildError::Spawn { program: program.to_owned(), source };
        let file = Arc::new(Mutex::new(File::create(log).map_err(spawn)?));
        let mut process = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(spawn)?;
        let (sender, lines) = mpsc::channel();
        let last = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(pipe) = process.stdout.take() {
            follow(pipe, &file, &last, sender.clone());
        }
        if let Some(pipe) = process.stderr.take() {
            follow(pipe, &file, &last, sender);
        }
        let child = Self { name: name.to_owned(), process, last };
        let begun = Instant::now();
        loop {
            let Ok(line) = lines.recv_timeout(START.saturating_sub(begun.elapsed())) else {
                let last = child.last.lock().unwrap_or_else(PoisonError::into_inner);
                let last: Vec<_> = last.iter().map(|line| format!("  {line}")).collect();
                return Err(ChildError::NotReady {
                    name: child.name.clone(),
                    after: begun.elapsed(),
                    last: last.join("\n"),
                });
            };
            if let Some(told) = ready(&line) {
                return Ok((child, told));
            }
        }
    }

    /// Its name and process id.
    pub fn process(&self) -> (String, u32) {
        (self.name.clone(), self.process.id())
    }

    /// Why it is no longer there, if so.
    pub fn is_gone(&mut self) -> Option<String> {
        let status = self.process.try_wait().ok()??;
        Some(format!("{} has ended: {status}", self.name))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn follow(
    pipe: impl Read + Send + 'static,
    file: &Arc<Mutex<File>>,
    last: &Arc<Mutex<VecDeque<String>>>,
    lines: mpsc::Sender<String>,
) {
    let (file, last) = (Arc::clone(file), Arc::clone(last));
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let _ = writeln!(file.lock().unwrap_or_else(PoisonError::into_inner), "{line}");
            {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                last.push_back(line.clone());
                if last.len() > SHOWN {
                    last.pop_front();
                }
            }
            // After the start nobody listens any more.
            let _ = lines.send(line);
        }
    });
}
