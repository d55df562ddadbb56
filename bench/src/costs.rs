//! What a transfer costs the service: CPU by the kind of thread, and bytes written. Taken around a whole load, the time in
//! which the chain settles included.
use std::{collections::BTreeMap, fs};

use serde::{Deserialize, Serialize};

use crate::{report::Table, text::number, threads::Threads};

/// What was used up to some moment.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    process: u32,
    threads: Threads,
    written: Option<u64>,
}

/// For one transfer, on average.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// Microseconds on a CPU, by the kind of thread.
    pub us: BTreeMap<String, f64>,
    /// How many threads of each kind there were.
    pub threads: BTreeMap<String, usize>,
    /// Bytes that went to the disk, as the kernel counts: journal and history.
    pub written_bytes: f64,
    /// The same by the kind of thread that sent them; those of threads that ended meanwhile are missing.
    pub written: BTreeMap<String, f64>,
}

impl Meter {
    /// Begins.
    pub fn start(process: u32) -> Self {
        Self { process, threads: Threads::now(process), written: written(process) }
    }

    /// What was used since then, divided by what landed.
    pub fn costs(&self, transfers: u64) -> Costs {
        let each = |all: f64| all / transfers.max(1) as f64;
        let now = Threads::now(self.process);
        let used = now.since(&self.threads);
        let bytes = written(self.process).zip(self.written).map_or(0, |(now, then)| now.saturating_sub(then));
        Costs {
            us: used.into_iter().map(|(role, seconds)| (role, each(seconds * 1e6))).collect(),
            threads: now.counts(),
            written_bytes: each(bytes as f64),
            written: now.written_since(&self.threads).into_iter().map(|(role, bytes)| (role, each(bytes))).collect(),
        }
    }
}

impl Costs {
    /// Of all threads together, in microseconds.
    pub fn total_us(&self) -> f64 {
        self.us.values().sum()
    }

    /// Of one kind of thread; 0 if there is none.
    pub fn of(&self, role: &str) -> f64 {
        self.us.get(role).copied().unwrap_or(0.0)
    }

    /// As a table.
    pub fn table(&self, title: &str) -> Table {
        let total = self.total_us();
        let row = |role: &str, threads: usize, us: f64, bytes: f64| {
            let share = crate::text::percent(us / total.max(1e-9));
            vec![role.to_owned(), threads.to_string(), number(us), share, number(bytes.round())]
        };
        let roles = self.us.iter().map(|(role, us)| {
            let bytes = self.written.get(role).copied().unwrap_or(0.0);
            row(role, self.threads.get(role).copied().unwrap_or(0), *us, bytes)
        });
        let mut rows: Vec<_> = roles.collect();
        rows.push(row("all", self.threads.values().sum(), total, self.written_bytes));
        Table {
            title: title.into(),
            columns: ["threads", "how many", "us a transfer", "share", "bytes to disk a transfer"].map(str::to_owned).to_vec(),
            rows,
            note: "Bytes as the kernel counts pages that are to be written; those of threads that have ended are in the sum alone."
                .into(),
        }
    }
}

/// Bytes that a process caused to be written to the disk.
fn written(process: u32) -> Option<u64> {
    let io = fs::read_to_string(format!("/proc/{process}/io")).ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_add_up() {
        let us = [("http", 30.0), ("shard", 10.0)].map(|(role, us)| (role.to_owned(), us));
        let threads = [("http", 2), ("shard", 1)].map(|(role, count)| (role.to_owned(), count));
        let costs = Costs { us: us.into(), threads: threads.into(), written_bytes: 256.0, ..Costs::default() };
        assert!((costs.total_us() - 40.0).abs() < 1e-9 && (costs.of("shard") - 10.0).abs() < 1e-9);
        assert!(costs.of("history").abs() < 1e-9);
        let rows = costs.table("t").rows;
        assert_eq!(rows[0], ["http", "2", "30", "75.0 %", "0"]);
        assert_eq!(rows[2], ["all", "3", "40", "100 %", "256"]);
    }
}
