//! Seeds that once broke a promise, by name; a seed tells the same story twice; and a number of seeds that are like no other.
#![allow(clippy::unwrap_used, reason = "tests")]

use keyshard_sim::{Options, live};

/// What broke, and a seed that showed it.
const ONCE_BROKEN: &[(&str, u64)] = &[
    ("P9: a final height that was a lie had to be reached before a nonce was proven overtaken", 850),
    ("P9: after a lie about the validity period nothing was ever proven to have expired", 180),
];

fn holds(name: &str, seed: u64) {
    let outcome = live(seed, &Options::default());
    assert_eq!(outcome.broken, None, "{name}: seed {seed}");
}

#[test]
fn seeds_that_once_broke_a_promise() {
    for (name, seed) in ONCE_BROKEN {
        holds(name, *seed);
    }
}

#[test]
fn some_seeds_hold() {
    let threads: Vec<_> = (0..2)
        .map(|thread| std::thread::spawn(move || (0..400).for_each(|seed| holds("some seed", seed * 2 + thread))))
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    let story = |seed| {
        let outcome = live(seed, &Options { story: true, ..Options::default() });
        let lines: Vec<String> = outcome.lines.iter().map(|line| format!("{} {}", line.at, line.what)).collect();
        (lines, outcome.transactions, outcome.lives)
    };
    for seed in [0, 3, 17] {
        let here = story(seed);
        let there = std::thread::spawn(move || story(seed)).join().unwrap();
        assert_eq!(here, there, "seed {seed}");
    }
}

#[cfg(feature = "mutants")]
#[test]
fn every_known_bug_is_caught() {
    for mutant in keyshard_shard::mutants::Mutant::ALL {
        let caught = keyshard_sim::gate::catch(mutant, 0, 2);
        assert!(caught.by.is_some(), "{mutant:?} is not caught within {} seeds", caught.within);
    }
}
