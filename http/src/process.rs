//! The `ft_service_process_*` metrics, from `/proc/self`. Elsewhere than on Linux they are left out.
use std::fs;

use crate::metrics::Page;

/// Clock ticks a second in `/proc/<pid>/stat`: `USER_HZ`, which Linux fixes at 100 for user space.
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes what can be read.
pub(crate) fn write(page: &mut Page, started_at_ms: u64) {
    let mut one = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let name = format!("ft_service_process_{name}");
            page.family(&name, kind, help);
            page.sample(&name, &[], value);
        }
    };
    let cpu = cpu_seconds(&read("stat"));
    one("cpu_user_seconds_total", "counter", "Total user CPU time spent in seconds.", cpu.map(|(user, _)| user));
    one(
        "cpu_system_seconds_total",
        "counter",
        "Total system CPU time spent in seconds.",
        cpu.map(|(_, system)| system),
    );
    one(
        "cpu_seconds_total",
        "counter",
        "Total user and system CPU time spent in seconds.",
        cpu.map(|(user, system)| user + system),
    );
    one(
        "start_time_seconds",
        "gauge",
        "Start time of the process since unix epoch in seconds.",
        Some((started_at_ms / 1_000) as f64),
    );
    let status = read("status");
    for (name, field, help) in [
        ("resident_memory_bytes", "VmRSS:", "Resident memory size in bytes."),
        ("virtual_memory_bytes", "VmSize:", "Virtual memory size in bytes."),
        ("heap_bytes", "VmData:", "Process heap size in bytes."),
    ] {
        one(name, "gauge", help, kilobytes(&status, field));
    }
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    one("open_fds", "gauge", "Number of open file descriptors.", open);
    one("max_fds", "gauge", "Maximum number of open file descriptors.", max_files(&read("limits")));
}

/// Resident memory and data segment in bytes; 0 where the system does not tell.
pub(crate) fn memory() -> (u64, u64) {
    let status = read("status");
    let bytes = |field| kilobytes(&status, field).unwrap_or_default() as u64;
    (bytes("VmRSS:"), bytes("VmData:"))
}

fn read(name: &str) -> String {
    fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default()
}

/// User and system time from `stat`. The command name, in parentheses, may hold anything.
fn cpu_seconds(stat: &str) -> Option<(f64, f64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some((seconds()?, seconds()?))
}

fn kilobytes(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.split_ascii_whitespace().next()?.parse::<f64>().ok()? * 1_024.0)
}

fn max_files(limits: &str) -> Option<f64> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0";
        assert_eq!(cpu_seconds(stat), Some((2.5, 0.5)));
        assert_eq!(kilobytes("VmSize:\t  99 kB\nVmRSS:\t    12 kB\n", "VmRSS:"), Some(12_288.0));
        assert_eq!(
            max_files("Limit  Soft\nMax open files            1024                 4096                 files"),
            Some(1024.0)
        );
        assert_eq!(cpu_seconds(""), None);
        let (resident, heap) = memory();
        assert!(resident > 0 && heap > 0);
    }
}
