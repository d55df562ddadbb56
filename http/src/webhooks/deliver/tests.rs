//! The deliverer against receivers of every kind, in simulated time, on a real outbox.
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use keyshard_engine::history::{History, Outboxed, Replay};
use keyshard_shard::{BatchId, Carried, CryptoHash, Instant, Transfer, TransferId};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::sleep};

use super::*;
use crate::webhooks::post::PATIENCE;

const HOUR: Duration = Duration::from_hours(1);

/// What a receiver does with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Takes,
    Refuses,
    /// Answers nothing.
    Hangs,
    /// Takes it, and the answer is lost.
    LosesAnswers,
    /// Takes all but every sixteenth, for which it has this status.
    IsPicky(u16),
}

/// A receiver.
struct Fake {
    mood: Mutex<Mood>,
    /// By event: how often it was taken.
    taken: Mutex<BTreeMap<String, usize>>,
    tries: AtomicUsize,
    side_by_side: AtomicUsize,
    most: AtomicUsize,
}

impl Fake {
    fn new(mood: Mood) -> Arc<Self> {
        let zero = AtomicUsize::default;
        let taken = Mutex::default();
        Arc::new(Self { mood: Mutex::new(mood), taken, tries: zero(), side_by_side: zero(), most: zero() })
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    fn has(&self) -> BTreeSet<String> {
        self.taken.lock().keys().cloned().collect()
    }
}

impl Post for Fake {
    async fn post(&self, event: &Event, _: u64) -> Result<(), Failure> {
        self.tries.fetch_add(1, SeqCst);
        self.most.fetch_max(self.side_by_side.fetch_add(1, SeqCst) + 1, SeqCst);
        let mood = *self.mood.lock();
        sleep(Duration::from_millis(20)).await;
        let take = || {
            *self.taken.lock().entry(event.id.clone()).or_default() += 1;
            Ok(())
        };
        let result = match mood {
            Mood::Refuses => Err(Failure::Refused(500)),
            Mood::Hangs => {
                sleep(PATIENCE).await;
                Err(Failure::Silent)
            }
            Mood::LosesAnswers => {
                take()?;
                Err(Failure::Unreachable)
            }
            Mood::IsPicky(status) if event.id.ends_with('0') => Err(Failure::Refused(status)),
            Mood::Takes | Mood::IsPicky(_) => take(),
        };
        self.side_by_side.fetch_sub(1, SeqCst);
        result
    }
}

/// A history whose transfers are announced, and what delivers them.
struct World {
    history: Arc<History>,
    fake: Arc<Fake>,
    stats: Arc<Stats>,
    clock: Clock,
    next: u128,
    deliverer: Option<(watch::Sender<bool>, JoinHandle<()>)>,
    _directory: TempDir,
}

impl World {
    fn new(mood: Mood) -> Self {
        // In memory where that can be: thousands of commits are synced, and no power is lost here.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let history = Arc::new(History::open(&directory.path().join("history"), CryptoHash::default()).unwrap());
        history.announce().unwrap();
        let mut world = Self {
            history,
            fake: Fake::new(mood),
            stats: Arc::default(),
            clock: Clock::new(),
            next: 0,
            deliverer: None,
            _directory: directory,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let (stop, stopped) = watch::channel(false);
        let outbox = Outbox::of(self.history.clone());
        let deliverer = Deliverer::new(outbox, self.fake.clone(), self.clock, 8, self.stats.clone());
        self.deliverer = Some((stop, tokio::spawn(deliverer.run(stopped))));
    }

    /// Ends it in the midst of whatever it does.
    async fn kill(&mut self) {
        let (_stop, task) = self.deliverer.take().unwrap();
        task.abort();
        assert!(task.await.is_err());
        self.fake.side_by_side.store(0, SeqCst);
    }

    async fn stop(&mut self) {
        let (stop, task) = self.deliverer.take().unwrap();
        stop.send_replace(true);
        task.await.unwrap();
    }

    /// So many settle now, `batch` in a transaction.
    fn settle(&mut self, count: u128, batch: u128) {
        let now = Instant::from_micros(self.clock.now_ms() * 1_000);
        let settled: Vec<Settled> = (self.next..self.next + count)
            .map(|n| Settled {
                transfer: Transfer {
                    id: TransferId(n),
                    receiver: "user.near".parse().unwrap(),
                    amount: n,
                    memo: None,
                    key: None,
                },
                accepted_at: now,
                settled_at: now,
                outcome: if n % 7 == 3 { Err("why".into()) } else { Ok(()) },
                carried: Some(Carried {
                    hash: CryptoHash::hash_bytes(&(n / batch).to_le_bytes()),
                    batch: BatchId { at: now, number: 1 },
                    position: 0,
                }),
                tried: Vec::new(),
            })
            .collect();
        self.history.put(&settled).unwrap();
        self.next += count;
    }

    /// The ids of the events of all that settled.
    fn all(&self) -> BTreeSet<String> {
        (0..self.next).map(|n| format!("evt_{}", uuid::Uuid::from_u128(n))).collect()
    }

    fn outbox(&self) -> Outboxed {
        self.history.outboxed().unwrap()
    }

    /// Until it is so; the time that takes. At most for so long.
    async fn until(&self, limit: Duration, is: impl Fn(&Self) -> bool) -> Duration {
        let begun = tokio::time::Instant::now();
        while !is(self) {
            assert!(
                begun.elapsed() < limit,
                "it never was so: {:?}, {} tries",
                self.outbox(),
                self.fake.tries.load(SeqCst)
            );
            sleep(limit / 2_000).await;
        }
        begun.elapsed()
    }

    fn is_delivered(&self) -> bool {
        self.outbox().waiting == 0 && self.fake.has() == self.all()
    }
}

#[tokio::test(start_paused = true)]
async fn what_settles_is_delivered_once_side_by_side() {
    let mut world = World::new(Mood::Takes);
    for count in [1, 300, 17] {
        world.settle(count, 100);
        world.until(HOUR, World::is_delivered).await;
    }
    world.settle(50, 1);
    world.until(HOUR, World::is_delivered).await;
    assert!(world.fake.taken.lock().values().all(|times| *times == 1));
    assert_eq!(world.fake.most.load(SeqCst), 8);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_back_within_a_day_gets_everything() {
    for mood in [Mood::Refuses, Mood::Hangs, Mood::LosesAnswers] {
        let mut world = World::new(mood);
        world.settle(300, 100);
        for _ in 0..20 {
            sleep(HOUR).await;
            world.settle(10, 5);
        }
        let tries = world.fake.tries.load(SeqCst);
        assert!((500..1_800).contains(&tries), "{tries} tries in 20 h: about one a minute");
        assert_eq!((world.outbox().waiting, world.outbox().dead), (500, 0), "{mood:?}");
        assert!(world.outbox().failing_since_ms.is_some());
        world.fake.set(Mood::Takes);
        let took = world.until(HOUR, World::is_delivered).await;
        assert!(took < Duration::from_mins(31), "{took:?}");
        assert_eq!(world.outbox(), Outboxed::default());
        assert!(world.fake.most.load(SeqCst) <= 8);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_day_of_a_dead_receiver_everything_is_kept_and_can_be_replayed() {
    for mood in [Mood::Refuses, Mood::Hangs] {
        let mut world = World::new(mood);
        world.settle(2_500, 1);
        world.settle(500, 100);
        sleep(HOUR * 12).await;
        world.settle(40, 100);
        // What was tried meanwhile has a day from then on, as has what settled later.
        world.until(HOUR * 13, |world| world.outbox().dead > 1_000).await;
        assert!(world.outbox().waiting >= 40, "these have time left");
        world.until(HOUR * 37, |world| world.outbox().dead == 3_040).await;
        assert_eq!(world.fake.has(), BTreeSet::new());
        // New ones are tried all the same, and the dead ones are not.
        world.settle(3, 1);
        world.fake.set(Mood::Takes);
        world.until(HOUR, |world| world.fake.has().len() == 3 && world.outbox().waiting == 0).await;
        assert_eq!(world.outbox().dead, 3_040);
        assert_eq!(world.history.replay(Replay::Dead, world.clock.now_ms()).unwrap(), 3_040);
        world.until(HOUR, World::is_delivered).await;
        assert_eq!(world.outbox(), Outboxed::default());
        world.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_never_taken_does_not_hold_up_the_rest() {
    for status in [400, 500] {
        let mut world = World::new(Mood::IsPicky(status));
        for _ in 0..7 {
            world.settle(32, 10);
            sleep(HOUR * 4).await;
            let refused = world.all().into_iter().filter(|id| id.ends_with('0')).count();
            assert_eq!(world.fake.has().len(), world.all().len() - refused, "all others");
            assert_eq!((world.outbox().waiting + world.outbox().dead) as usize, refused);
            assert!(world.outbox().failing_since_ms.is_none());
        }
        assert!(world.outbox().dead > 0 && world.outbox().waiting > 0, "{:?}", world.outbox());
        world.until(HOUR * 25, |world| world.outbox().waiting == 0).await;
        world.fake.set(Mood::Takes);
        world.history.replay(Replay::Dead, world.clock.now_ms()).unwrap();
        world.until(HOUR, World::is_delivered).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_at_any_moment_loses_nothing() {
    for (n, mood) in
        (0..20).zip([Mood::Takes, Mood::LosesAnswers, Mood::IsPicky(500), Mood::Refuses].into_iter().cycle())
    {
        let mut world = World::new(mood);
        world.settle(100, 30);
        sleep(Duration::from_millis(37 * n)).await;
        world.kill().await;
        world.settle(5, 2);
        world.fake.set(Mood::Takes);
        world.start();
        world.until(HOUR * 2, World::is_delivered).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_leaves_nothing_to_repeat() {
    let mut world = World::new(Mood::Takes);
    world.settle(100, 100);
    sleep(Duration::from_millis(110)).await;
    world.stop().await;
    let taken = world.fake.has().len();
    assert!((8..100).contains(&taken), "{taken}");
    assert_eq!(world.outbox().waiting as usize, 100 - taken);
    world.start();
    world.until(HOUR, World::is_delivered).await;
    assert!(world.fake.taken.lock().values().all(|times| *times == 1));
}

#[tokio::test(start_paused = true)]
async fn a_dead_receiver_is_remembered_by_the_next_life() {
    let mut world = World::new(Mood::Refuses);
    world.settle(200, 100);
    for _ in 0..26 {
        sleep(Duration::from_mins(59)).await;
        world.kill().await;
        world.start();
        sleep(Duration::from_mins(1)).await;
    }
    assert_eq!((world.outbox().waiting, world.outbox().dead), (0, 200), "a day is a day, however many lives it has");
}
