//! What the threads of a process do when they are not on a CPU, from `/proc`.
//!
//! Exact, from the scheduler's own accounts: how long each thread was on a CPU, was ready and had to wait for one, and slept;
//! and how often it was switched out. Sampled: in which system call, and where in the kernel, it slept. Not to be had this way:
//! which function made that call (see [`crate::perf`] for that).
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::{folded::Folded, role::Role};

/// Time between two looks: short against a block, and below 1 % of a core for a dozen threads.
pub const INTERVAL: Duration = Duration::from_millis(20);

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Waits {
    /// How long it was watched.
    pub time: Duration,
    /// By thread id.
    pub threads: BTreeMap<u32, Thread>,
    /// `thread;asleep;system call;where in the kernel`, in looks.
    pub stacks: Folded,
}

/// The accounts of one thread, over the time that it was watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Thread {
    /// Its name.
    pub name: String,
    /// On a CPU.
    pub on_cpu: Duration,
    /// Ready, waiting for a CPU.
    pub ready: Duration,
    /// Times it gave up the CPU, to sleep.
    pub sleeps: u64,
    /// Times it had to leave the CPU to another thread.
    pub preempted: u64,
}

/// Watches a process for a while. Threads that end meanwhile count as far as they were seen.
pub fn watch(pid: u32, time: Duration) -> io::Result<Waits> {
    let tasks = PathBuf::from(format!("/proc/{pid}/task"));
    let start = Instant::now();
    let mut first: BTreeMap<u32, Thread> = BTreeMap::new();
    let mut waits = Waits::default();
    let mut next = start;
    while start.elapsed() < time {
        for entry in fs::read_dir(&tasks)? {
            let path = entry?.path();
            let Some(id) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
            // A thread may end between two reads.
            let Some(now) = accounts(&path) else { continue };
            let begin = first.entry(id).or_insert_with(|| now.clone());
            if let Some(stack) = stack(&path, &now.name) {
                waits.stacks.add(stack, 1);
            }
            waits.threads.insert(id, now.since(begin));
        }
        next += INTERVAL;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    waits.time = start.elapsed();
    Ok(waits)
}

impl Thread {
    fn since(&self, begin: &Self) -> Self {
        Self {
            name: self.name.clone(),
            on_cpu: self.on_cpu.saturating_sub(begin.on_cpu),
            ready: self.ready.saturating_sub(begin.ready),
            sleeps: self.sleeps.saturating_sub(begin.sleeps),
            preempted: self.preempted.saturating_sub(begin.preempted),
        }
    }
}

impl Waits {
    /// Per thread, by role, as Markdown. Threads that did nothing are left out.
    pub fn markdown(&self) -> String {
        let mut threads: Vec<&Thread> =
            self.threads.values().filter(|thread| thread.on_cpu + thread.ready > Duration::ZERO).collect();
        threads.sort_by_key(|thread| (Role::of_thread(&thread.name), thread.name.as_str()));
        let mut text = String::from(
            "| thread | on a CPU | ready, waiting for one | asleep | sleeps a second | preempted a second |\n\
             |---|---:|---:|---:|---:|---:|\n",
        );
        let seconds = self.time.as_secs_f64().max(f64::MIN_POSITIVE);
        for Thread { name, on_cpu, ready, sleeps, preempted } in threads {
            let asleep = self.time.saturating_sub(*on_cpu + *ready);
            let share = |time: &Duration| time.as_secs_f64() * 100.0 / seconds;
            let _ = writeln!(
                text,
                "| {name} | {:.1} % | {:.1} % | {:.1} % | {:.0} | {:.0} |",
                share(on_cpu),
                share(ready),
                share(&asleep),
                *sleeps as f64 / seconds,
                *preempted as f64 / seconds,
            );
        }
        text
    }

    /// CPU time of all threads.
    pub fn on_cpu(&self) -> Duration {
        self.threads.values().map(|thread| thread.on_cpu).sum()
    }
}

fn accounts(task: &Path) -> Option<Thread> {
    let read = |name: &str| fs::read_to_string(task.join(name)).ok();
    let name = read("comm")?.trim_end().replace([';', ' '], "_");
    let (on_cpu, ready) = schedstat(&read("schedstat")?)?;
    let (sleeps, preempted) = switches(&read("status")?)?;
    Some(Thread { name, on_cpu, ready, sleeps, preempted })
}

/// `nanoseconds-on-cpu nanoseconds-ready timeslices`.
fn schedstat(text: &str) -> Option<(Duration, Duration)> {
    let mut numbers = text.split_ascii_whitespace().map(|number| number.parse().ok());
    Some((Duration::from_nanos(numbers.next()??), Duration::from_nanos(numbers.next()??)))
}

/// Voluntary and involuntary context switches.
fn switches(status: &str) -> Option<(u64, u64)> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some((field("voluntary_ctxt_switches:")?, field("nonvoluntary_ctxt_switches:")?))
}

/// Where a thread sleeps; `None` if it does not, or has ended.
fn stack(task: &Path, name: &str) -> Option<String> {
    let read = |name: &str| fs::read_to_string(task.join(name)).unwrap_or_default();
    let how = match state(&read("stat"))? {
        'S' => "asleep",
        'D' => "asleep, cannot be interrupted",
        _ => return None,
    };
    let call = read("syscall");
    let call = call.split_ascii_whitespace().next().map_or_else(|| "unknown call".into(), syscall);
    let place = read("wchan");
    Some(match place.trim() {
        "" | "0" => format!("{name};{how};{call}"),
        place => format!("{name};{how};{call};{}", place.replace(';', ":")),
    })
}

/// The state letter, which follows the name in parentheses: the name may hold anything.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// The name of a system call by its number in `/proc/<pid>/syscall`: those that a service sleeps in.
fn syscall(number: &str) -> String {
    #[cfg(target_arch = "x86_64")]
    const NAMES: [(&str, &str); 14] = [
        ("0", "read"),
        ("1", "write"),
        ("7", "poll"),
        ("17", "pread64"),
        ("18", "pwrite64"),
        ("20", "writev"),
        ("35", "nanosleep"),
        ("74", "fsync"),
        ("75", "fdatasync"),
        ("202", "futex"),
        ("230", "clock_nanosleep"),
        ("232", "epoll_wait"),
        ("281", "epoll_pwait"),
        ("285", "fallocate"),
    ];
    #[cfg(target_arch = "aarch64")]
    const NAMES: [(&str, &str); 13] = [
        ("22", "epoll_pwait"),
        ("47", "fallocate"),
        ("63", "read"),
        ("64", "write"),
        ("66", "writev"),
        ("67", "pread64"),
        ("68", "pwrite64"),
        ("73", "ppoll"),
        ("82", "fsync"),
        ("83", "fdatasync"),
        ("98", "futex"),
        ("101", "nanosleep"),
        ("115", "clock_nanosleep"),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    const NAMES: [(&str, &str); 0] = [];
    match NAMES.iter().find(|(found, _)| *found == number) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("system call {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read() {
        let (on_cpu, ready) = schedstat("1500 20 3\n").unwrap();
        assert_eq!((on_cpu, ready), (Duration::from_nanos(1500), Duration::from_nanos(20)));
        assert_eq!(schedstat("1500\n"), None);
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(switches(status), Some((12, 3)));
        assert_eq!(state("12 (a) b) c) S 1 2"), Some('S'));
        assert_eq!(state(""), None);
        #[cfg(target_arch = "x86_64")]
        assert_eq!(syscall("75"), "fdatasync");
        assert_eq!(syscall("9999"), "system call 9999");
    }

    /// This process itself, with a thread that sleeps and one that works.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_sleeper_and_a_worker() {
        use std::sync::{
            Arc,
            atomic::{AtomicBool, Ordering::Relaxed},
            mpsc,
        };
        let (end, ended) = mpsc::channel::<()>();
        let over = Arc::new(AtomicBool::new(false));
        let named = |name: &str| std::thread::Builder::new().name(name.into());
        let sleeper = named("history").spawn(move || ended.recv().is_err()).unwrap();
        let worker = named("shard-7")
            .spawn({
                let over = Arc::clone(&over);
                move || while !over.load(Relaxed) {}
            })
            .unwrap();
        let waits = watch(std::process::id(), Duration::from_millis(300)).unwrap();
        over.store(true, Relaxed);
        drop(end);
        assert!(sleeper.join().unwrap());
        worker.join().unwrap();

        let thread = |name: &str| waits.threads.values().find(|thread| thread.name == name).unwrap();
        assert!(thread("shard-7").on_cpu > thread("history").on_cpu);
        let asleep = |name: &str| waits.stacks.stacks().any(|(stack, _)| stack.starts_with(&format!("{name};asleep")));
        assert!(asleep("history") && !asleep("shard-7"), "{:?}", waits.stacks);
        assert!(waits.markdown().contains("\n| shard-7 | "));
    }
}
