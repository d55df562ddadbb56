//! `perf`, where the machine has it: what the kernel does for each thread, and which functions put it to sleep.
//!
//! Stacks are unwound from copies of the stack (`--call-graph dwarf`), since an ordinary release has no frame pointers.
use std::{
    io,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use inferno::collapse::{Collapse as _, perf::Folder, perf::Options};

use crate::folded::{Folded, FoldedError};

/// What a sample is told with: not the words of a tracepoint, which would be taken for a thread's name.
const FIELDS: &str = "comm,tid,time,period,event,ip,sym,dso";

/// What perf counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// CPU time in nanoseconds, the kernel's included, by ticks of each CPU's clock.
    OnCpu,
    /// Times that a thread leaves its CPU, estimated from every [`Event::SLEEPS_EACH`]th. Counts, not durations.
    Sleeps,
}

impl Event {
    /// Only every so many switches are looked at: a copy of the stack for each would be a load of its own.
    pub const SLEEPS_EACH: u32 = 31;
    /// Ticks a second. A tick copies 16 KiB.
    pub const FREQUENCY: u32 = 99;

    fn arguments(self) -> Vec<String> {
        match self {
            Self::OnCpu => vec!["-e".into(), "cpu-clock".into(), "-F".into(), Self::FREQUENCY.to_string()],
            // As long as periods are asked for, a tracepoint takes every event, whatever -c says.
            Self::Sleeps => {
                vec![
                    "-e".into(),
                    "sched:sched_switch".into(),
                    "--no-period".into(),
                    "-c".into(),
                    Self::SLEEPS_EACH.to_string(),
                ]
            }
        }
    }
}

/// Why there is nothing from perf.
#[derive(Debug, thiserror::Error)]
pub enum PerfError {
    /// It is not installed, or this user may not use it. With its own words.
    #[error("perf {0}")]
    Unavailable(String),
    /// Its output is not what it should be.
    #[error("perf's output: {0}")]
    Stacks(#[from] FoldedError),
    /// A file.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Watches a process for a while, into a file.
pub fn record(pid: u32, event: Event, time: Duration, file: &Path) -> Result<(), PerfError> {
    let (pid, seconds) = (pid.to_string(), time.as_secs_f64().to_string());
    run(Command::new("perf")
        .arg("record")
        .args(event.arguments())
        .args(["--call-graph", "dwarf,16384", "-p", &pid, "-o"])
        .arg(file)
        .args(["--", "sleep", &seconds]))
    .map(drop)
}

/// What is in such a file. Takes a core for a while.
pub fn stacks(file: &Path) -> Result<Folded, PerfError> {
    // With --inline it looks every address up in another process, for minutes.
    collapse(&run(Command::new("perf").args(["script", "--no-inline", "-F", FIELDS, "-i"]).arg(file))?)
}

/// The stacks in what `perf script` says.
fn collapse(script: &[u8]) -> Result<Folded, PerfError> {
    let mut options = Options::default();
    options.annotate_kernel = true;
    let mut folded = Vec::new();
    Folder::from(options).collapse(script, &mut folded)?;
    Ok(Folded::parse(&String::from_utf8_lossy(&folded))?)
}

/// Runs it to its end; its output comes back.
fn run(command: &mut Command) -> Result<Vec<u8>, PerfError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| PerfError::Unavailable(format!("cannot be started: {error}")))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).take(3).collect();
    Err(PerfError::Unavailable(format!("says: {}", words.join(" "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\
shard-0   123  1.000000:  10101010 cpu-clock: \n\
\t  7f01 sha2::compress::h0123456789abcdef (/x/keyshard)\n\
\t  7f02 keyshard_shard::tx::sign (/x/keyshard)\n\
\n\
journal   124  1.100000:  10101010 cpu-clock: \n\
\tffffffff81000000 vfs_write ([kernel.kallsyms])\n\
\t  7f03 keyshard_engine::journal::write (/x/keyshard)\n\
\n";

    #[test]
    fn a_script_is_folded_by_thread() {
        let folded = collapse(SCRIPT.as_bytes()).unwrap();
        let stacks: Vec<_> = folded.stacks().collect();
        assert_eq!(
            stacks,
            [
                ("journal;keyshard_engine::journal::write;vfs_write_[k]", 10_101_010),
                ("shard-0;keyshard_shard::tx::sign;sha2::compress", 10_101_010),
            ]
        );
    }

    #[test]
    fn a_missing_program_is_no_panic() {
        let error = run(&mut Command::new("there-is-no-such-program")).unwrap_err();
        assert!(matches!(error, PerfError::Unavailable(_)), "{error}");
    }
}
