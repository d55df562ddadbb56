//! Pages while transfers are accepted, settle, are saved, leave the board and are forgotten: each is shown once, in order.
use std::{collections::BTreeSet, sync::Arc};

use keyshard_shard::{CryptoHash, IdempotencyKey, Instant, Level, News, Recovered, RecoveredSettled, Transfer};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    clock::Clock,
    door::{Door, NewTransfer},
    history::History,
    ring::{self, Bell},
};

/// Everything around the shards, without a thread: the test says when what happens.
struct World {
    shared: Arc<Shared>,
    door: Door,
    mesh: ring::Mesh,
    /// Requests so far.
    requests: usize,
    /// By id: all there are.
    there: BTreeSet<u128>,
    /// In the order in which they will be saved and leave the board.
    settled: Vec<TransferId>,
    saved: Vec<TransferId>,
    _directory: TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let history = History::open(&directory.path().join("history"), CryptoHash::default()).unwrap();
        let shared = Arc::new(Shared::new(Level::Final, 10_000, Clock::new(), history, 1, &Recovered::default()));
        let mut mesh = ring::mesh(1, 1);
        let door = Door::new(shared.clone(), mesh.producers.remove(0), vec![1], vec![Bell::default()]);
        Self {
            shared,
            door,
            mesh,
            requests: 0,
            there: BTreeSet::new(),
            settled: vec![],
            saved: vec![],
            _directory: directory,
        }
    }

    fn accept(&mut self, count: usize) {
        let new = |n| NewTransfer {
            receiver: format!("user{}.near", n % 3).parse().unwrap(),
            amount: 5,
            memo: None,
            key: (n == 1).then(|| IdempotencyKey { name: format!("{}", self.requests).into(), of: 1 }),
        };
        let ids: Vec<u128> =
            self.door.submit((0..count).map(new).collect()).unwrap().ids().iter().map(Uuid::as_u128).collect();
        self.requests += 1;
        while self.mesh.consumers[0][0].pop().is_ok() {}
        self.there.extend(ids);
    }

    /// Every `step`th of those that are open settles.
    fn settle(&mut self, step: usize) {
        let gone: BTreeSet<u128> = self.settled.iter().chain(&self.saved).map(|id| id.0).collect();
        let open: Vec<u128> = self.there.iter().filter(|id| !gone.contains(id)).copied().step_by(step).collect();
        for (n, id) in open.into_iter().enumerate() {
            let news = if n % 4 == 3 { News::Failed { reason: "why".into() } } else { News::Finalized };
            self.shared.tell(&[TransferId(id)], &news);
            self.settled.push(TransferId(id));
        }
    }

    fn save(&mut self, count: usize) {
        let ids: Vec<TransferId> = self.settled.drain(..count.min(self.settled.len())).collect();
        let settled: Vec<RecoveredSettled> = ids.iter().map(|id| self.shared.board.settled(*id)).collect();
        self.shared.history.put(&settled).unwrap();
        self.saved.extend(ids);
    }

    fn evict(&mut self, count: usize) {
        for id in self.saved.iter().take(count) {
            self.shared.board.evict(*id);
        }
    }

    /// Forgets some. What is forgotten must have left the board.
    fn forget(&mut self, count: usize) {
        self.evict(self.saved.len());
        self.shared.history.prune(Instant::from_micros(u64::MAX), count).unwrap();
        let known = |id: &u128| {
            let id = Uuid::from_u128(*id);
            self.shared.board.job(TransferId(id.as_u128())).is_some() || self.shared.history.job(id).unwrap().is_some()
        };
        let there = self.there.iter().copied().filter(|id| known(id)).collect();
        self.there = there;
        self.saved.retain(|id| self.there.contains(&id.0));
    }

    fn page(&self, filter: &Filter, limit: usize, before: Option<Uuid>) -> Page {
        self.shared.list(filter, limit, before.map(|id| TransferId(id.as_u128()))).unwrap()
    }

    /// All pages of a moment.
    fn all(&self, filter: &Filter, limit: usize) -> Vec<Job> {
        let (mut jobs, mut before) = (Vec::new(), None);
        loop {
            let page = self.page(filter, limit, before);
            assert!(page.jobs.len() <= limit);
            jobs.extend(page.jobs);
            before = page.next;
            if before.is_none() {
                return jobs;
            }
        }
    }
}

/// Something that happens.
#[derive(Debug, Clone)]
enum Step {
    Accept(usize),
    Settle(usize),
    Save(usize),
    Evict(usize),
    Forget(usize),
    /// The next page of the reader.
    Page,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1_usize..8).prop_map(Step::Accept),
        (1_usize..4).prop_map(Step::Settle),
        (1_usize..12).prop_map(Step::Save),
        (1_usize..12).prop_map(Step::Evict),
        (1_usize..3).prop_map(Step::Forget),
        Just(Step::Page),
        Just(Step::Page),
        Just(Step::Page),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn each_is_shown_once_whatever_happens_between_two_pages(
        begin in 0_usize..40, limit in 1_usize..9, steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new();
        if begin > 0 {
            world.accept(begin);
            world.settle(2);
            world.save(begin / 3);
            world.evict(begin / 4);
        }
        // What was there at the first page, and what the pages have shown.
        let (mut expected, mut shown): (Option<BTreeSet<u128>>, Vec<u128>) = (None, Vec::new());
        let mut before = None;
        let mut forgotten = BTreeSet::new();
        let end = std::iter::repeat_n(Step::Page, 1_000);
        for step in steps.into_iter().chain(end) {
            match step {
                Step::Accept(count) => world.accept(count),
                Step::Settle(step) => world.settle(step),
                Step::Save(count) => world.save(count),
                Step::Evict(count) => world.evict(count),
                Step::Forget(count) => {
                    let was = world.there.clone();
                    world.forget(count);
                    forgotten.extend(was.difference(&world.there).copied());
                }
                Step::Page => {
                    expected.get_or_insert_with(|| world.there.clone());
                    let page = world.page(&Filter::default(), limit, before);
                    prop_assert!(page.jobs.len() <= limit);
                    shown.extend(page.jobs.iter().map(|job| job.id.as_u128()));
                    before = page.next;
                    if before.is_none() {
                        break;
                    }
                }
            }
        }
        prop_assert_eq!(before, None, "it ends");
        prop_assert!(shown.is_sorted_by(|a, b| a > b), "the newest first, and none twice");
        let missing: Vec<u128> = expected.unwrap_or_default().into_iter().filter(|id| !shown.contains(id)).collect();
        prop_assert!(missing.iter().all(|id| forgotten.contains(id)), "missing: {:?}", missing);
    }

    #[test]
    fn filters_find_what_is_wanted(begin in 0_usize..60, limit in 1_usize..9, parts in 1_usize..6) {
        let mut world = World::new();
        if begin > 0 {
            world.accept(begin);
            world.settle(parts);
            world.save(begin / parts);
            world.evict(begin / parts / 2);
        }
        let all = world.all(&Filter::default(), limit);
        prop_assert_eq!(all.len(), world.there.len());
        let receivers = [None, Some("user1.near".parse::<AccountId>().unwrap()), Some("nobody.near".parse().unwrap())];
        for receiver in receivers {
            for status in [None, Some(JobStatus::Queued), Some(JobStatus::Finalized), Some(JobStatus::Failed)] {
                let filter = Filter { status, receiver: receiver.clone() };
                let expected: Vec<Job> =
                    all.iter().filter(|job| filter.takes(job.status, &job.receiver)).cloned().collect();
                prop_assert_eq!(world.all(&filter, limit), expected);
            }
        }
    }
}

#[test]
fn a_page_ends_after_a_bounded_number_of_looks_and_the_next_goes_on_there() {
    let mut world = World::new();
    world.accept(40);
    world.settle(1);
    world.save(40);
    world.evict(40);
    let nobody = Filter { receiver: Some("nobody.near".parse().unwrap()), ..Filter::default() };
    let page = world.page(&nobody, 5, None);
    assert_eq!(page.jobs, []);
    let looked_at = world.there.iter().rev().nth(LOOKS_MAX - 1).copied();
    assert_eq!(page.next.map(|id| id.as_u128()), looked_at);
    let mut pages = 1;
    let mut before = page.next;
    while before.is_some() {
        before = world.page(&nobody, 5, before).next;
        pages += 1;
    }
    assert_eq!(pages, 40 / LOOKS_MAX + 1);
}

#[test]
fn ids_that_begin_with_chance_come_last() {
    let directory = tempfile::tempdir().unwrap();
    let history = History::open(&directory.path().join("history"), CryptoHash::default()).unwrap();
    let settled = |id: u128| RecoveredSettled {
        transfer: Transfer {
            id: TransferId(id),
            receiver: "user.near".parse().unwrap(),
            amount: 1,
            memo: None,
            key: None,
        },
        accepted_at: Instant::from_micros(1),
        settled_at: Instant::from_micros(2),
        outcome: Ok(()),
        carried: None,
        tried: Vec::new(),
    };
    let at = |ms: u128, rest: u128| (ms << 80) | rest;
    let newest_first = [
        at(1_795_000_000_001, 5),
        at(1_795_000_000_001, 4),
        at(1_795_000_000_000, 9),
        at(1_700_000_000_000, 1),
        at(0, 3),
        u128::MAX,
        at(9_000_000_000_000, 7),
        Rank::BEYOND,
    ];
    let mut batch = newest_first.map(settled).to_vec();
    batch.rotate_left(3);
    history.put(&batch).unwrap();
    for looks in 1..=newest_first.len() + 1 {
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let sheet = history.newest(before, 3, looks, |_| true).unwrap();
            assert!(sheet.found.len() <= looks.min(3));
            seen.extend(sheet.found.iter().map(|settled| settled.transfer.id.0));
            before = sheet.end;
            if before.is_none() {
                break;
            }
        }
        assert_eq!(seen, newest_first, "{looks} at a time");
    }
}

/// `cargo test --release -p keyshard-engine --lib listing::tests::how_long -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn how_long_pages_take() {
    let mut world = World::new();
    for _ in 0..100 {
        world.accept(100);
    }
    world.settle(1);
    world.save(usize::MAX);
    for round in 0..2 {
        for (what, receiver) in [("the newest", "user1.near"), ("nobody's", "nobody.near")] {
            let filter = Filter { receiver: Some(receiver.parse().unwrap()), ..Filter::default() };
            let begun = std::time::Instant::now();
            let page = world.shared.list_at_most(&filter, 500, None, 10_000).unwrap();
            let took = begun.elapsed();
            println!(
                "{what}: {} of 10,000 {}, {took:?}",
                page.jobs.len(),
                ["on the board, too", "in the history"][round]
            );
        }
        world.evict(usize::MAX);
    }
}
