//! On this machine's file system: the lock, the round trip, and a process killed while it writes.
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::*;
use crate::journal::{Journal, abort};

/// A directory that goes away with its test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("keyshard-journal-{}", uuid::Uuid::new_v4())))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Opens what this process had open a moment ago. A child that another test has just forked holds the lock as well until it
/// becomes its own program.
fn reopen(path: &Path) -> (Journal, Replay) {
    for _ in 0..100 {
        match Journal::open(path, SEGMENT) {
            Err(JournalError::Locked { .. }) => {
                std::fs::File::open(path.join("LOCK")).and_then(|lock| lock.lock_shared()).unwrap();
            }
            other => return other.unwrap(),
        }
    }
    panic!("the lock of {} is not given back", path.display());
}

const SEGMENT: Options = Options { segment_bytes: 128 * 1024, ..SMALL };

#[test]
fn a_directory_has_one_owner() {
    let directory = Directory::new();
    let (journal, _) = Journal::open(&directory.0, SEGMENT).unwrap();
    let error = Journal::open(&directory.0, SEGMENT).err().unwrap();
    let pid = std::process::id();
    assert!(matches!(error, JournalError::Locked { .. }));
    let message = error.to_string();
    assert!(message.contains(&directory.0.display().to_string()), "{message}");
    assert!(message.contains(&format!("another process (pid {pid})")), "{message}");
    drop(journal);
    reopen(&directory.0);
}

#[test]
fn a_path_that_cannot_be_a_directory_is_named() {
    let directory = Directory::new();
    std::fs::write(&directory.0, "a file").unwrap();
    let error = Journal::open(&directory.0, SEGMENT).err().unwrap().to_string();
    assert!(error.contains(&directory.0.display().to_string()), "{error}");
    std::fs::remove_file(&directory.0).unwrap();
}

#[test]
fn records_come_back_from_files() {
    let directory = Directory::new();
    for life in 0..3u64 {
        let (mut journal, replay) = reopen(&directory.0.join("data"));
        assert_eq!((replay.entries.len() as u64, replay.cut), (life * 500, None));
        let bell = Bell::default();
        let mut appender = journal.start(vec![bell.clone()], abort()).unwrap().pop().unwrap();
        for lsn in 1..=500 {
            appender.append(lsn, &record(0, lsn, 400)).unwrap();
        }
        appender.flush();
        wait_durable(&appender, &bell, 500);
    }
    let (journal, _) = reopen(&directory.0.join("data"));
    assert!(journal.segment() > 4);
    let current = journal.segment();
    assert_eq!(journal.forget_before(current).unwrap() as u64, current - 1);
    drop(journal);
    let (_, replay) = reopen(&directory.0.join("data"));
    assert!(replay.entries.iter().all(|entry| entry.segment == current));
}

const DIRECTORY: &str = "KEYSHARD_TEST_JOURNAL";
const ROUNDS: u64 = 10;

/// Not a test by itself: the process that is killed. It goes on where the journal ends, and prints what is durable.
#[test]
#[ignore = "started by a_killed_process_loses_nothing_durable"]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let (mut journal, replay) = Journal::open(Path::new(&directory), SEGMENT).unwrap();
    let last = replay.entries.last().map_or(0, |entry| entry.lsn);
    let bell = Bell::default();
    let mut appender = journal.start(vec![bell.clone()], abort()).unwrap().pop().unwrap();
    let mut told = 0;
    let mut output = std::io::stdout();
    for lsn in last + 1.. {
        while appender.append(lsn, &record(0, lsn, lsn as usize % 900)).is_err() {
            wait(&bell);
        }
        if lsn % 5 == 0 {
            appender.flush();
        }
        // Some hundred are always on their way, not more: the files stay small.
        while lsn > appender.durable() + 300 {
            appender.flush();
            wait(&bell);
        }
        if appender.durable() > told {
            told = appender.durable();
            writeln!(output, "durable {told}").unwrap();
            output.flush().unwrap();
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_durable() {
    let directory = Directory::new();
    let mut durable = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "journal::tests::real::child", "--ignored", "--nocapture"])
            .env(DIRECTORY, &directory.0)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = lines.map(|line| line.unwrap()).filter_map(|line| line.strip_prefix("durable ")?.parse().ok());
        // Not always at the same point of its work.
        for _ in 0..5 + round * 7 {
            durable = told.next().expect("the child is alive");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        durable = told.last().unwrap_or(durable);

        let (journal, replay) = reopen(&directory.0);
        let found = names(&replay.entries);
        assert!(found.iter().copied().eq((1..=found.len() as Lsn).map(|lsn| (0, lsn))), "round {round}");
        assert!(found.len() as Lsn >= durable, "round {round}: {durable} was durable, {} are there", found.len());
        drop(journal);
    }
    assert!(durable > 100);
}
