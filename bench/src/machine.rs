//! What the machine was doing meanwhile: CPU time of processes and threads, memory, and what the machine is. From
//! `/proc`; where there is none, nothing is known.
use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

/// Clock ticks a second in `/proc/*/stat`: fixed by the kernel's interface on every Linux that this runs on.
const TICKS_PER_S: f64 = 100.0;
/// Bytes of a page, as counted in `/proc/*/statm`.
const PAGE: u64 = 4_096;

/// The machine that a number is from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the processor.
    pub processor: String,
    /// How many cores this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Kernel and its version.
    pub kernel: String,
}

/// CPU time that was used up to some moment, in seconds.
#[derive(Debug, Clone, Default)]
pub struct Clocks {
    /// Of all cores together, idle time not counted.
    busy_s: Option<f64>,
    /// Taken away by whatever this machine runs on.
    stolen_s: Option<f64>,
    /// Of this process.
    own_s: Option<f64>,
    /// Of the processes asked for.
    processes: Vec<(String, Option<f64>)>,
}

/// What was used between two moments.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Between them.
    pub seconds: f64,
    /// Cores that were busy, by whomever: 2.0 are two whole cores.
    pub machine_cores: Option<f64>,
    /// Cores that whatever this machine runs on took away.
    pub stolen_cores: Option<f64>,
    /// Cores that the benchmark's own process used: load and chain reader.
    pub bench_cores: Option<f64>,
    /// Cores that each of the others used.
    pub process_cores: Vec<(String, f64)>,
    /// Cores that nobody named here used.
    pub strangers_cores: Option<f64>,
    /// Memory of each process at the end, in MiB.
    pub process_mib: Vec<(String, f64)>,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let memory = value(&text("/proc/meminfo"), "MemTotal");
        Self {
            processor: value(&text("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_mib: memory.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1_024,
            kernel: format!("{} {}", std::env::consts::OS, text("/proc/sys/kernel/osrelease").trim()),
        }
    }
}

impl Clocks {
    /// Reads them now, for this process and the given ones.
    pub fn now(processes: &[(String, u32)]) -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let (busy_s, stolen_s) = machine_s(&stat).unzip();
        let process = |id: &str| process_s(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?);
        Self {
            busy_s,
            stolen_s,
            own_s: process("self"),
            processes: processes.iter().map(|(name, id)| (name.clone(), process(&id.to_string()))).collect(),
        }
    }

    /// What was used from an earlier moment until this one.
    pub fn since(&self, earlier: &Self, seconds: f64, processes: &[(String, u32)]) -> Usage {
        let cores = |now: Option<f64>, then: Option<f64>| Some(((now? - then?) / seconds.max(1e-9)).max(0.0));
        let machine_cores = cores(self.busy_s, earlier.busy_s);
        let bench_cores = cores(self.own_s, earlier.own_s);
        let process_cores: Vec<_> = self
            .processes
            .iter()
            .zip(&earlier.processes)
            .filter_map(|((name, now), (_, then))| Some((name.clone(), cores(*now, *then)?)))
            .collect();
        let known = bench_cores.unwrap_or(0.0) + process_cores.iter().map(|(_, cores)| cores).sum::<f64>();
        let mib = |id: u32| {
            let text = fs::read_to_string(format!("/proc/{id}/statm")).ok()?;
            Some((text.split(' ').nth(1)?.parse::<u64>().ok()? * PAGE) as f64 / f64::from(1 << 20))
        };
        Usage {
            seconds,
            strangers_cores: machine_cores.filter(|_| bench_cores.is_some()).map(|all| (all - known).max(0.0)),
            machine_cores,
            stolen_cores: cores(self.stolen_s, earlier.stolen_s),
            bench_cores,
            process_cores,
            process_mib: processes.iter().filter_map(|(name, id)| Some((name.clone(), mib(*id)?))).collect(),
        }
    }
}

/// Memory of a process, in MiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// Resident now.
    pub resident_mib: f64,
    /// The most that was resident at any time.
    pub peak_mib: f64,
}

impl Memory {
    /// Of a process, now.
    pub fn of(process: u32) -> Option<Self> {
        Self::read(&fs::read_to_string(format!("/proc/{process}/status")).ok()?)
    }

    fn read(status: &str) -> Option<Self> {
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().split(' ').next()?.parse::<f64>().ok()? / 1_024.0)
        };
        Some(Self { resident_mib: mib("VmRSS:")?, peak_mib: mib("VmHWM:")? })
    }
}

/// Seconds that the calling thread has been on a CPU.
pub fn this_thread_busy_s() -> Option<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<u64>().ok()? as f64 / 1e9)
}

/// Whether files in this directory are in memory only, so that syncing them costs nothing.
pub fn is_in_memory(directory: &Path) -> bool {
    let (Ok(path), Ok(mounts)) = (directory.canonicalize(), fs::read_to_string("/proc/mounts")) else { return false };
    let holds = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next()?, fields.next()?);
        path.starts_with(at).then_some((at.len(), kind))
    });
    holds.max_by_key(|(length, _)| *length).is_some_and(|(_, kind)| matches!(kind, "tmpfs" | "ramfs"))
}

/// Busy and stolen seconds of all cores: the first line of `/proc/stat`.
fn machine_s(stat: &str) -> Option<(f64, f64)> {
    let fields: Vec<f64> =
        stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal: what waits for a disk is idle.
    let &[user, nice, system, _, _, irq, soft, stolen, ..] = fields.as_slice() else { return None };
    Some(((user + nice + system + irq + soft) / TICKS_PER_S, stolen / TICKS_PER_S))
}

/// Seconds that a process has used: `/proc/PID/stat`. Its second field is a name in brackets that may hold anything.
fn process_s(stat: &str) -> Option<f64> {
    let after = stat.rsplit_once(") ")?.1;
    let mut fields = after.split(' ').skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let stat = "cpu  100 20 30 4000 500 6 7 80 0 0\ncpu0 1 2 3";
        assert_eq!(machine_s(stat), Some((1.63, 0.8)));
        assert_eq!(machine_s("nonsense"), None);
        let stat = "42 (a) b) c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 100";
        assert_eq!(process_s(stat), Some(3.0));
        assert_eq!(process_s(""), None);
    }

    #[test]
    fn memory_is_read() {
        let status = "Name:\tkeyshard\nVmPeak:\t  999999 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1536 kB\n";
        assert_eq!(Memory::read(status), Some(Memory { resident_mib: 1.5, peak_mib: 2.0 }));
        assert_eq!(Memory::read("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn work_shows_in_the_clocks() {
        let processes = [("self".to_owned(), std::process::id())];
        let before = Clocks::now(&processes);
        if before.own_s.is_none() {
            return;
        }
        let thread = this_thread_busy_s().unwrap();
        // Until the clocks, which tick in hundredths, have moved.
        while this_thread_busy_s().unwrap() < thread + 0.1 {
            std::hint::black_box((0..10_000_u64).sum::<u64>());
        }
        let usage = Clocks::now(&processes).since(&before, 1.0, &processes);
        assert!(usage.bench_cores.unwrap() > 0.0 && usage.process_cores[0].1 > 0.0, "{usage:?}");
        assert!(usage.process_mib[0].1 > 0.0);
    }
}
