//! This machine: open files, the port, the data directory and its disk, and files with keys.
use std::{
    fs, io,
    io::Write as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use rlimit::Resource;

use super::{Report, Wanted};
use crate::{
    env::Env,
    files,
    provision::{
        in_flight::{self, Look},
        node::Node,
        signers::is_running,
    },
    tls::Validity,
};

/// Syncs that the median is of.
const SYNCS: usize = 31;
/// What is written before each: about a group of transfers.
const WRITTEN_BYTES: usize = 4_096;
/// A disk that needs longer for a sync makes every request wait for it.
const SYNC_MAX: Duration = Duration::from_millis(10);
/// Free space below this lasts for days, not weeks.
const FREE_MIN: u64 = 2 << 30;
/// Journal files that must fit: the one in use, the next, and one that is being repeated.
const SEGMENTS: u64 = 3;

/// What needs no node.
pub(super) fn look(env: &Env, wanted: &Wanted, report: &mut Report) {
    let data_dir = &wanted.offline.data_dir;
    if let Some((host, port, connections)) = &wanted.listen {
        open_files(*connections, report);
        listen(host, *port, is_running(data_dir), report);
    }
    if let Some(tls) = &wanted.tls {
        certificate(tls.validity(), report);
    }
    env_file(env, report);
    directory(wanted, report);
}

fn open_files(wanted: usize, report: &mut Report) {
    match Resource::NOFILE.get() {
        // The service raises the soft limit as far as it goes.
        Ok((_, hard)) => {
            let allowed = files::share(usize::try_from(hard).unwrap_or(usize::MAX), wanted);
            if allowed < wanted {
                report.warn(
                    "files",
                    format!(
                        "{hard} open files allow {allowed} connections, {wanted} is the most that is served: raise the limit \
                         (ulimit -n, LimitNOFILE=)"
                    ),
                );
            } else {
                report.ok("files", format!("{hard} open files allow {allowed} connections"));
            }
        }
        Err(error) => report.warn("files", format!("the limit of open files cannot be read: {error}")),
    }
}

fn listen(host: &str, port: u16, running: bool, report: &mut Report) {
    if running || port == 0 {
        return;
    }
    match TcpListener::bind((host, port)) {
        Ok(_) => report.ok("port", format!("{host}:{port} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            report.fail("port", format!("{host}:{port} is taken by another program: choose another PORT"));
        }
        Err(error) => report.fail("port", format!("cannot listen on {host}:{port}: {error}. Check HOST and PORT")),
    }
}

fn certificate(validity: Validity, report: &mut Report) {
    let now = SystemTime::now();
    match validity.problem(now) {
        None => report.ok("tls", format!("the certificate is valid for {} days", validity.days_left(now))),
        Some(problem) if validity.is_refused(now) => report.fail("tls", format!("the certificate {problem}")),
        Some(problem) => report.warn("tls", format!("the certificate {problem}")),
    }
}

/// A `.env` file with keys in it is for its owner alone.
fn env_file(env: &Env, report: &mut Report) {
    let name = if env.is_sandbox() { ".env" } else { ".env.testnet" };
    let Ok(about) = fs::metadata(name) else { return };
    let has_key = fs::read_to_string(name).map(zeroize::Zeroizing::new).is_ok_and(|text| {
        text.lines().any(|line| line.contains("MASTER_ACCOUNT_PRIVATE_KEY") && line.contains("ed25519:"))
    });
    let mode = about.permissions().mode() & 0o777;
    if has_key && mode & 0o077 != 0 {
        report.warn(
            "key files",
            format!("{name} holds a key and can be read by others (mode {mode:03o}): run chmod 600 {name}"),
        );
    }
}

fn directory(wanted: &Wanted, report: &mut Report) {
    let path = &wanted.offline.data_dir;
    let shown = path.display();
    let there = match fs::metadata(path) {
        Ok(about) if !about.is_dir() => {
            report.fail("data", format!("DATA_DIR {shown} is not a directory"));
            return;
        }
        Ok(about) => {
            let mode = about.permissions().mode() & 0o777;
            if mode & 0o022 != 0 {
                report.warn("data", format!("others can write to {shown} (mode {mode:03o}): run chmod 700 {shown}"));
            } else if mode & 0o044 != 0 {
                report.warn(
                    "data",
                    format!(
                        "others can read {shown} (mode {mode:03o}), all transfers are in it: run chmod 700 {shown}"
                    ),
                );
            }
            path.clone()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            report.ok("data", format!("{shown} is not there: the first start makes it"));
            existing_parent(path)
        }
        Err(error) => {
            report.fail("data", format!("DATA_DIR {shown} cannot be looked at: {error}"));
            return;
        }
    };
    if is_running(path) {
        report.ok("data", format!("a service runs on {shown}"));
    }
    disk(&there, wanted.segment_bytes as u64, report);
}

/// The nearest directory above that is there.
fn existing_parent(path: &Path) -> PathBuf {
    let above = path.ancestors().skip(1).find(|above| !above.as_os_str().is_empty() && above.is_dir());
    above.unwrap_or(Path::new(".")).to_owned()
}

fn disk(directory: &Path, segment_bytes: u64, report: &mut Report) {
    let shown = directory.display();
    match sync_time(directory) {
        Ok(median) => {
            let text = format!("a sync of {shown} takes {:.1} ms (median of {SYNCS})", median.as_secs_f64() * 1_000.0);
            if median > SYNC_MAX {
                report.warn("disk", format!("{text}: every request waits for one. Put DATA_DIR on a faster disk (NVMe, not a network file system)"));
            } else {
                report.ok("disk", text);
            }
        }
        Err(error) => report.fail("disk", format!("cannot write to {shown}: {error}. Check DATA_DIR and whose it is")),
    }
    match rustix::fs::statvfs(directory) {
        Ok(about) => {
            let free = about.f_bavail.saturating_mul(about.f_frsize);
            let text = format!("{:.1} GiB are free on the disk of {shown}", free as f64 / f64::from(1 << 30));
            if free < segment_bytes * SEGMENTS {
                report.fail(
                    "disk",
                    format!("{text}: the journal needs {SEGMENTS} files of JOURNAL_SEGMENT_BYTES ({segment_bytes})"),
                );
            } else if free < FREE_MIN {
                report.warn("disk", format!("{text}: the history grows by about 1 KB for each transfer; make room, or lower HISTORY_RETENTION"));
            } else {
                report.ok("disk", text);
            }
        }
        Err(error) => report.warn("disk", format!("free space of {shown} cannot be read: {error}")),
    }
}

/// The median time of a sync of a file that nobody sees.
fn sync_time(directory: &Path) -> io::Result<Duration> {
    let mut file = tempfile::tempfile_in(directory)?;
    let bytes = [0x5a; WRITTEN_BYTES];
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&bytes)?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

/// Whether the journal can be read and is of this chain.
pub(super) fn journal(wanted: &Wanted, node: &Node, report: &mut Report) {
    match in_flight::look(&wanted.offline.data_dir, node.genesis) {
        Ok(Look::Nothing | Look::Running) => {}
        Ok(Look::Stopped(in_flight)) => {
            let open: usize = in_flight.by_key.values().map(Vec::len).sum();
            let gone =
                in_flight.by_key.keys().filter(|key| !wanted.keys.iter().any(|known| known.to_string() == **key));
            let gone = gone.count();
            report.ok(
                "journal",
                format!("{open} transactions are in flight: the next start finds out what became of them"),
            );
            if gone > 0 {
                report.warn("journal", format!("some of them are of {gone} keys that are not configured: they are followed to their end, not replaced"));
            }
        }
        Err(error) => report.fail("journal", error),
    }
}
