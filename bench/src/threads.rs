//! CPU time of a process by what its threads do: `http`, `shard`, `journal`, `history`. From `/proc`; where there is none,
//! nothing is known.
use std::{collections::BTreeMap, fs};

/// CPU time of a process's threads up to some moment.
#[derive(Debug, Clone, Default)]
pub struct Threads {
    /// By thread id: role, and nanoseconds on a CPU.
    threads: BTreeMap<u32, (String, u64)>,
    /// By thread id: role, and bytes that it sent to the disk, as far as the kernel tells.
    written: BTreeMap<u32, (String, u64)>,
}

impl Threads {
    /// Reads them now.
    pub fn now(process: u32) -> Self {
        let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { return Self::default() };
        let ids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse::<u32>().ok());
        let mut all = Self::default();
        for id in ids {
            let read = |file: &str| fs::read_to_string(format!("/proc/{process}/task/{id}/{file}")).ok();
            let Some(name) = read("comm") else { continue };
            let name = if id == process { "main" } else { role(name.trim_end()) };
            let busy = read("schedstat").and_then(|text| text.split(' ').next()?.parse().ok());
            let written = read("io")
                .and_then(|text| text.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.trim().parse().ok());
            all.threads.extend(busy.map(|busy| (id, (name.to_owned(), busy))));
            all.written.extend(written.map(|written| (id, (name.to_owned(), written))));
        }
        all
    }

    /// Bytes sent to the disk since an earlier moment, by role. Threads that have ended meanwhile are not in it.
    pub fn written_since(&self, earlier: &Self) -> BTreeMap<String, f64> {
        let mut bytes = BTreeMap::new();
        for (id, (role, now)) in &self.written {
            let before = earlier.written.get(id).map_or(0, |(_, before)| *before);
            *bytes.entry(role.clone()).or_default() += now.saturating_sub(before) as f64;
        }
        bytes
    }

    /// Seconds on a CPU since an earlier moment, by role. Threads that have ended meanwhile are not in it.
    pub fn since(&self, earlier: &Self) -> BTreeMap<String, f64> {
        let mut seconds = BTreeMap::new();
        for (id, (role, now)) in &self.threads {
            let before = earlier.threads.get(id).map_or(0, |(_, before)| *before);
            *seconds.entry(role.clone()).or_default() += now.saturating_sub(before) as f64 / 1e9;
        }
        seconds
    }

    /// How many threads have each role.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (role, _) in self.threads.values() {
            *counts.entry(role.clone()).or_default() += 1;
        }
        counts
    }
}

/// What a thread does, by its name: `shard` for `shard-3`.
fn role(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((role, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => role,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_one_kind_are_one_role() {
        for (name, expected) in [
            ("http-0", "http"),
            ("shard-12", "shard"),
            ("journal-prefill", "journal-prefill"),
            ("a-", "a-"),
            ("x", "x"),
        ] {
            assert_eq!(role(name), expected);
        }
    }

    #[test]
    fn time_is_added_up_by_role() {
        let threads = |list: &[(u32, &str, u64)]| Threads {
            threads: list.iter().map(|(id, role, ns)| (*id, ((*role).to_owned(), *ns))).collect(),
            written: list.iter().map(|(id, role, ns)| (*id, ((*role).to_owned(), *ns / 1_000_000_000))).collect(),
        };
        let before = threads(&[(1, "main", 5_000_000_000), (2, "http", 1_000_000_000)]);
        let after = threads(&[(1, "main", 5_000_000_000), (2, "http", 2_000_000_000), (3, "http", 500_000_000)]);
        let expected = [("http".to_owned(), 1.5), ("main".to_owned(), 0.0)];
        assert_eq!(after.since(&before), expected.into());
        assert!((after.written_since(&before)["http"] - 1.0).abs() < 1e-9);
        assert_eq!(after.counts(), [("http".to_owned(), 2), ("main".to_owned(), 1)].into());
    }

    #[test]
    fn this_process_has_threads() {
        if fs::metadata("/proc/self/task").is_err() {
            return;
        }
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (told, known) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("role-7".into()).spawn(move || {
            told.send(()).unwrap();
            wait.recv().unwrap();
        });
        known.recv().unwrap();
        let counts = Threads::now(std::process::id()).counts();
        assert!(counts.get("role") == Some(&1) && counts.get("main") == Some(&1), "{counts:?}");
        go.send(()).unwrap();
        thread.unwrap().join().unwrap();
    }
}
