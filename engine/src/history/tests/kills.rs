//! A process that saves is killed: what it said is saved is there, by every way to it.
use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use super::{Place, all, genesis, hash, id, settled};
use crate::history::{History, Settled};

const DIRECTORY: &str = "KEYSHARD_TEST_HISTORY";
const ROUNDS: usize = 5;
const BATCH: u64 = 50;
/// What settled this long before the last is pruned.
const KEPT: u64 = 1_000;

/// Not a test by itself: the process that is killed. It goes on where the history ends, and prints what is saved.
#[test]
#[ignore = "started by a_killed_process_loses_nothing_saved"]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let history = History::open(Path::new(&directory), genesis()).unwrap();
    let mut next = all(&history).last().map_or(0, |last| last.settled_at.as_micros() + 1);
    let mut output = std::io::stdout();
    loop {
        let batch: Vec<Settled> = (next..next + BATCH).map(settled).collect();
        history.put(&batch).unwrap();
        next += BATCH;
        writeln!(output, "saved {next}").unwrap();
        output.flush().unwrap();
        history.prune(super::at(next.saturating_sub(KEPT)), 100).unwrap();
    }
}

#[test]
fn a_killed_process_loses_nothing_saved() {
    let place = Place::new();
    let directory = place.directory.path().join("history");
    drop(place.open().unwrap());
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "history::tests::kills::child", "--ignored", "--nocapture"])
            .env(DIRECTORY, &directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told =
            lines.map(|line| line.unwrap()).filter_map(|line| line.strip_prefix("saved ")?.parse::<u64>().ok());
        // Not always at the same point of its work.
        let mut saved = 0;
        for _ in 0..7 + round * 9 {
            saved = told.next().expect("the child is alive");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        saved = told.last().unwrap_or(saved);

        let history = place.open().unwrap();
        let found = all(&history);
        let first = found[0].settled_at.as_micros();
        assert!(first <= saved.saturating_sub(KEPT), "round {round}: {first} is the first of {saved}");
        assert!(found.len() as u64 >= saved - first, "round {round}: {saved} were saved, {} are there", found.len());
        for (n, found) in (first..).zip(&found) {
            assert_eq!(*found, settled(n), "round {round}");
            assert_eq!(history.job(id(found)).unwrap().as_ref(), Some(found));
            assert_eq!(history.by_key(&format!("order {n}")).unwrap().as_ref(), Some(found));
            let mates = history.by_hash(&hash(n / 4)).unwrap();
            assert!(mates.iter().any(|(_, mate)| mate == found), "round {round}");
        }
        if first > 0 {
            assert_eq!(history.by_key(&format!("order {}", first - 1)).unwrap(), None);
        }
    }
}
