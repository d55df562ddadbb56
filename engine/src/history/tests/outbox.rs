//! One event for each transfer that was put, until it is delivered or dead, whatever else happens.
use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::history::{Due, Outboxed, Outcome, Parcel, Replay};

fn nothing() -> BTreeSet<u64> {
    BTreeSet::new()
}

fn due(history: &History, now_ms: u64) -> Vec<Parcel> {
    history.due(now_ms, &nothing(), 1_000).unwrap().parcels
}

fn gone(parcel: &Parcel) -> Outcome {
    Outcome {
        number: parcel.number,
        left: Vec::new(),
        at_ms: 0,
        attempts: parcel.attempts + 1,
        first_try_ms: None,
        dead: None,
    }
}

fn announcing(place: &Place) -> History {
    let history = place.open().unwrap();
    history.announce().unwrap();
    history
}

#[test]
fn nothing_is_announced_unless_it_is_asked_for_and_then_each_once() {
    let place = Place::new();
    let history = place.open().unwrap();
    history.put(&[settled(1)]).unwrap();
    assert_eq!(history.outboxed().unwrap(), Outboxed::default());
    history.announce().unwrap();
    assert_eq!(due(&history, u64::MAX), []);
    // What was there before gets none, and nobody gets two.
    history.put(&[settled(1), settled(2), settled(2)]).unwrap();
    history.put(&[settled(2), settled(3)]).unwrap();
    drop(history);
    let history = announcing(&place);
    let parcels = due(&history, u64::MAX);
    let announced: Vec<Settled> = parcels.iter().flat_map(|parcel| parcel.settled.clone()).collect();
    assert_eq!(announced, [settled(2), settled(3)]);
    let oldest_ms = Some(settled(2).settled_at.as_millis());
    assert_eq!(history.outboxed().unwrap(), Outboxed { waiting: 2, oldest_ms, ..Outboxed::default() });
    history.dispatched(&[gone(&parcels[0])], None).unwrap();
    assert_eq!(due(&history, u64::MAX), parcels[1..]);
    // Once more: it is gone already.
    history.dispatched(&[gone(&parcels[0]), gone(&parcels[1])], None).unwrap();
    assert_eq!(history.outboxed().unwrap(), Outboxed::default());
}

#[test]
fn what_settled_together_is_one_parcel_and_what_is_left_of_it_comes_again() {
    let place = Place::new();
    let history = announcing(&place);
    history.put(&(0..8).map(together).collect::<Vec<_>>()).unwrap();
    let parcels = due(&history, 10);
    assert_eq!(parcels.iter().map(|parcel| parcel.settled.len()).collect::<Vec<_>>(), [4, 4]);
    let left = parcels[0].settled[2..].to_vec();
    let later = Outcome {
        number: parcels[0].number,
        left: left.clone(),
        at_ms: 5_000,
        attempts: 1,
        first_try_ms: Some(4_000),
        dead: None,
    };
    history.dispatched(&[later], Some(77)).unwrap();
    drop(history);
    let history = announcing(&place);
    assert_eq!(history.outboxed().unwrap().failing_since_ms, Some(77));
    assert_eq!(history.outboxed().unwrap().waiting, 6);
    let found = history.due(4_999, &nothing(), 10).unwrap();
    assert_eq!(found, Due { parcels: parcels[1..].to_vec(), next_ms: Some(5_000) });
    let without = BTreeSet::from([parcels[1].number]);
    let again = Parcel { due_ms: 5_000, attempts: 1, first_try_ms: Some(4_000), settled: left, ..parcels[0].clone() };
    assert_eq!(history.due(5_000, &without, 10).unwrap(), Due { parcels: vec![again], next_ms: None });
    let one = history.due(5_000, &nothing(), 1).unwrap();
    assert_eq!((one.parcels.len(), one.next_ms), (1, Some(5_000)), "there is more");
}

#[test]
fn the_dead_stay_until_they_are_revived_also_beyond_the_history() {
    let place = Place::new();
    let history = announcing(&place);
    history.put(&(0..12).map(together).collect::<Vec<_>>()).unwrap();
    let parcels = due(&history, 10);
    let dead = Outcome { left: parcels[0].settled.clone(), at_ms: 9, dead: Some("why".into()), ..gone(&parcels[0]) };
    history.dispatched(&[dead], None).unwrap();
    let keep = BTreeSet::from([parcels[2].number]);
    assert_eq!(history.bury(10, &keep, "nobody took it", 99).unwrap(), (4, false));
    assert_eq!(history.prune(at(u64::MAX), 100).unwrap(), 12);
    drop(history);
    let history = announcing(&place);
    let filled = history.outboxed().unwrap();
    assert_eq!((filled.waiting, filled.dead), (4, 8));
    assert_eq!(due(&history, u64::MAX), parcels[2..]);
    assert_eq!(history.replay(Replay::Dead, 500).unwrap(), 8);
    let filled = history.outboxed().unwrap();
    assert_eq!((filled.waiting, filled.dead), (12, 0));
    let revived = due(&history, 500);
    let again: Vec<Settled> = revived.iter().flat_map(|parcel| parcel.settled.clone()).collect();
    let expected = [&parcels[2], &parcels[0], &parcels[1]].map(|parcel| parcel.settled.clone()).concat();
    assert_eq!(again, expected);
    assert!(revived.iter().all(|parcel| parcel.attempts == 0 && parcel.first_try_ms.is_none()), "as new");
}

#[test]
fn what_is_in_the_history_can_be_announced_again() {
    let place = Place::new();
    let history = place.open().unwrap();
    let seconds = |n: u64| Settled { settled_at: at(n * 1_000_000), ..settled(n) };
    history.put(&(0..6).map(seconds).collect::<Vec<_>>()).unwrap();
    assert_eq!(history.replay(Replay::Since(4_000), 9_000).unwrap(), 2);
    assert_eq!(history.replay(Replay::Of(id(&seconds(1))), 9_001).unwrap(), 1);
    assert_eq!(history.replay(Replay::Of(Uuid::from_u128(3)), 9_001).unwrap(), 0);
    assert_eq!(history.replay(Replay::Since(6_000), 9_000).unwrap(), 0);
    let announced: Vec<Settled> = due(&history, 9_001).into_iter().flat_map(|parcel| parcel.settled).collect();
    assert_eq!(announced, [4, 5, 1].map(seconds));
    let anywhere = History::open_any(&place.directory.path().join("history")).err().unwrap();
    assert!(matches!(anywhere, HistoryError::InUse { .. }));
    drop(history);
    assert_eq!(History::open_any(&place.directory.path().join("history")).unwrap().outboxed().unwrap().waiting, 3);
}

#[test]
fn a_parcel_with_a_wrong_byte_is_refused() {
    let place = Place::new();
    announcing(&place).put(&[settled(5)]).unwrap();
    let sound = std::fs::read(place.file()).unwrap();
    let group = group::encode(&[&settled(5)]);
    let starts: Vec<usize> = (0..sound.len() - group.len()).filter(|at| sound[*at..].starts_with(&group)).collect();
    assert_eq!(starts.len(), 2, "the group, and its copy");
    for start in starts {
        let mut damaged = sound.clone();
        damaged[start + group.len() / 2] ^= 1;
        std::fs::write(place.file(), &damaged).unwrap();
        let history = place.open().unwrap();
        let (read, due) = (history.job(id(&settled(5))), history.due(u64::MAX, &nothing(), 5));
        assert!(read.is_err() != due.is_err(), "{read:?} {due:?}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u64),
    Prune,
    Reopen,
    /// What becomes of the first that are due: so many events of each are delivered, and the rest is tried later, or dead.
    Dispatch {
        parcels: usize,
        delivered: usize,
        dead: bool,
    },
    Bury,
    Revive,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1_u64..10).prop_map(Step::Put),
        1 => Just(Step::Prune),
        1 => Just(Step::Reopen),
        4 => (1_usize..4, 0_usize..5, any::<bool>())
            .prop_map(|(parcels, delivered, dead)| Step::Dispatch { parcels, delivered, dead }),
        1 => Just(Step::Bury),
        1 => Just(Step::Revive),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn every_event_is_in_one_place_until_it_is_delivered(steps in proptest::collection::vec(step(), 1..40)) {
        let place = Place::new();
        let mut history = announcing(&place);
        let (mut next, mut now_ms) = (0, 1_000_000_u64);
        // By transfer: whether its event waits (true) or is dead.
        let mut model: BTreeMap<u64, bool> = BTreeMap::new();
        let number = |settled: &Settled| settled.transfer.key.as_ref().unwrap().name[6..].parse::<u64>().unwrap();
        for step in steps {
            now_ms += 10;
            match step {
                Step::Put(count) => {
                    history.put(&(next..next + count).map(together).collect::<Vec<_>>()).unwrap();
                    model.extend((next..next + count).map(|n| (n, true)));
                    next += count;
                }
                Step::Prune => {
                    history.prune(at(u64::MAX), 3).unwrap();
                }
                Step::Reopen => {
                    drop(history);
                    history = announcing(&place);
                }
                Step::Dispatch { parcels, delivered, dead } => {
                    let found = history.due(now_ms, &nothing(), parcels).unwrap();
                    let outcomes: Vec<Outcome> = found.parcels.iter().map(|parcel| {
                        let cut = delivered.min(parcel.settled.len());
                        for settled in &parcel.settled[..cut] {
                            model.remove(&number(settled));
                        }
                        for settled in &parcel.settled[cut..] {
                            model.insert(number(settled), !dead);
                        }
                        Outcome {
                            left: parcel.settled[cut..].to_vec(),
                            at_ms: now_ms + 5,
                            dead: dead.then(|| "so".to_owned()),
                            ..gone(parcel)
                        }
                    }).collect();
                    history.dispatched(&outcomes, None).unwrap();
                }
                Step::Bury => {
                    history.bury(now_ms, &nothing(), "so", now_ms).unwrap();
                    for waits in model.values_mut() {
                        *waits = false;
                    }
                }
                Step::Revive => {
                    history.replay(Replay::Dead, now_ms).unwrap();
                    for waits in model.values_mut() {
                        *waits = true;
                    }
                }
            }
            let parcels = due(&history, u64::MAX);
            let mut waiting: Vec<u64> = parcels.iter().flat_map(|parcel| &parcel.settled).map(number).collect();
            waiting.sort_unstable();
            let expected: Vec<u64> = model.iter().filter(|(_, waits)| **waits).map(|(n, _)| *n).collect();
            prop_assert_eq!(&waiting, &expected);
            let filled = history.outboxed().unwrap();
            prop_assert_eq!((filled.waiting, filled.dead), (expected.len() as u64, (model.len() - expected.len()) as u64));
        }
    }
}

#[test]
fn the_dead_are_forgotten_when_they_are_old() {
    let place = Place::new();
    let history = announcing(&place);
    assert_eq!(history.forget_dead(u64::MAX, 10).unwrap(), 0);
    for (n, died_ms) in [(1, 100), (2, 200), (3, 300)] {
        history.put(&[settled(n)]).unwrap();
        let parcel = due(&history, u64::MAX).remove(0);
        let dead = Outcome { left: parcel.settled.clone(), at_ms: died_ms, dead: Some("gone".into()), ..gone(&parcel) };
        history.dispatched(&[dead], None).unwrap();
    }
    history.put(&[settled(4)]).unwrap();
    let dead = || history.outboxed().unwrap().dead;
    assert_eq!((dead(), history.forget_dead(100, 10).unwrap()), (3, 0), "none is so old");
    assert_eq!((history.forget_dead(301, 1).unwrap(), dead()), (1, 2), "so many at a time");
    assert_eq!((history.forget_dead(300, 10).unwrap(), dead()), (1, 1));
    assert_eq!(history.replay(Replay::Dead, 1_000).unwrap(), 1);
    assert_eq!(history.outboxed().unwrap().waiting, 2, "what waits is not forgotten");
}
