//! How much may be spent in any minute and in any day, kept on the disk so that a restart does not refill it.
//!
//! Time is cut into buckets; what is taken counts until the bucket it was taken in is a whole period old, so no stretch of
//! that length holds more than the limit. Before more is handed out than the file tells, the file is written anew, with a
//! reserve in it: what a crash leaves unknown counts as spent.
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::small_file;

/// The part of a limit that is reserved in the file at once: so much at most is lost for a period by a crash.
const RESERVE_PART: u128 = 64;
/// The version of the file.
const VERSION: u32 = 1;

/// A stretch of time that a limit is for. It slides: not the calendar's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// 60 seconds, told apart to 5 seconds.
    Minute,
    /// 24 hours, told apart to 15 minutes.
    Day,
}

impl Period {
    /// As a word: `minute`, `day`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Day => "day",
        }
    }

    fn length(self) -> Duration {
        match self {
            Self::Minute => Duration::from_mins(1),
            Self::Day => Duration::from_hours(24),
        }
    }

    fn bucket(self) -> Duration {
        match self {
            Self::Minute => Duration::from_secs(5),
            Self::Day => Duration::from_mins(15),
        }
    }
}

/// Why nothing was handed out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Too much for what the period still holds.
    #[error("the limit of {} per {} is used up: {} are left", .0.limit, .0.period.as_str(), .0.left)]
    Spent(Spent),
    /// It could not be written down, so it must not be handed out.
    #[error("{0}")]
    Disk(String),
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// What the limit is for.
    pub period: Period,
    /// The limit, in raw token units.
    pub limit: u128,
    /// What may still be spent now.
    pub left: u128,
    /// When there will be enough, if nobody else takes it; `None`: never, it is more than the limit.
    pub retry_after: Option<Duration>,
}

/// Limits by period and what of them is spent. Shared by threads; raw token units.
#[derive(Debug)]
pub struct Allowance {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    windows: Vec<Window>,
    /// The clock may be set back; this does not go back.
    now: Duration,
}

/// One limit: what is spent in each bucket of the last period.
#[derive(Debug, Clone)]
struct Window {
    period: Period,
    limit: u128,
    /// Oldest first.
    buckets: VecDeque<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Its time, in buckets since the epoch.
    index: u64,
    spent: u128,
    /// What the file tells of it; never less than `spent`.
    written: u128,
}

/// What the file holds: by period, what counts as spent in which bucket.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    version: u32,
    spent: BTreeMap<Period, Vec<(u64, u128)>>,
}

impl Allowance {
    /// With what the file tells of an earlier process. The error is for people.
    pub fn open(path: &Path, limits: &[(Period, u128)]) -> Result<Self, String> {
        Self::open_at(path, limits, now())
    }

    fn open_at(path: &Path, limits: &[(Period, u128)], now: Duration) -> Result<Self, String> {
        let mut told = read(path).map_err(|why| {
            format!(
                "{} tells what was spent of a limit, and cannot be read: {why}. Only if you know that nothing was spent in the \
                 last day, move it away",
                path.display()
            )
        })?;
        let window = |&(period, limit): &(Period, u128)| {
            let newest = index(period, now);
            let mut window = Window { period, limit, buckets: VecDeque::new() };
            for (index, spent) in told.remove(&period).unwrap_or_default() {
                // A clock that was wrong must not keep it spent for ever.
                window.add(index.min(newest), spent);
            }
            window
        };
        let windows = limits.iter().map(window).collect();
        Ok(Self { path: path.to_owned(), state: Mutex::new(State { windows, now }) })
    }

    /// The most that can ever be taken at once.
    pub fn largest(&self) -> u128 {
        self.state.lock().windows.iter().map(|window| window.limit).min().unwrap_or(u128::MAX)
    }

    /// Changes the limit of a period. What is spent stays spent.
    pub fn set_limit(&self, period: Period, limit: u128) {
        self.state.lock().windows.iter_mut().filter(|window| window.period == period).for_each(|it| it.limit = limit);
    }

    /// Takes so many units, or none. May wait for the disk.
    pub fn take(&self, units: u128) -> Result<(), Denied> {
        self.take_at(units, units, now()).map(|_| ())
    }

    /// Takes as many as there are of `most`, but not fewer than `least`, or none. May wait for the disk.
    pub fn take_some(&self, least: u128, most: u128) -> Result<u128, Denied> {
        self.take_at(least, most, now())
    }

    fn take_at(&self, least: u128, most: u128, now: Duration) -> Result<u128, Denied> {
        let mut state = self.state.lock();
        state.now = state.now.max(now);
        let (now, mut units) = (state.now, most);
        for window in &mut state.windows {
            let left = window.left(now);
            if least > left {
                let Window { period, limit, .. } = *window;
                let retry_after = window.enough_at(least).map(|at| at.saturating_sub(now));
                return Err(Denied::Spent(Spent { period, limit, left, retry_after }));
            }
            units = units.min(left);
        }
        let mut written = true;
        let mut windows = state.windows.clone();
        for window in &mut windows {
            written &= window.spend(units, now);
        }
        if !written {
            write(&self.path, &windows).map_err(|error| {
                Denied::Disk(format!("{} cannot be written, so nothing may be spent: {error}", self.path.display()))
            })?;
        }
        state.windows = windows;
        Ok(units)
    }

    /// Gives back what was taken just now and not spent.
    pub fn give_back(&self, units: u128) {
        for window in &mut self.state.lock().windows {
            let mut rest = units;
            for bucket in window.buckets.iter_mut().rev() {
                let back = rest.min(bucket.spent);
                bucket.spent -= back;
                rest -= back;
            }
        }
    }
}

impl Window {
    fn add(&mut self, index: u64, spent: u128) {
        match self.buckets.back_mut() {
            Some(last) if last.index >= index => {
                last.spent = last.spent.saturating_add(spent);
                last.written = last.spent;
            }
            _ => self.buckets.push_back(Bucket { index, spent, written: spent }),
        }
    }

    /// What can be taken now. Forgets what is too old to count.
    fn left(&mut self, now: Duration) -> u128 {
        while self.buckets.front().is_some_and(|bucket| free_at(self.period, bucket.index) <= now) {
            self.buckets.pop_front();
        }
        let spent = self.buckets.iter().fold(0u128, |sum, bucket| sum.saturating_add(bucket.spent));
        self.limit.saturating_sub(spent)
    }

    /// When so much can be taken, if nothing else is until then.
    fn enough_at(&self, units: u128) -> Option<Duration> {
        let spent = self.buckets.iter().fold(0u128, |sum, bucket| sum.saturating_add(bucket.spent));
        let mut too_much = spent.saturating_add(units).saturating_sub(self.limit);
        for bucket in &self.buckets {
            too_much = too_much.saturating_sub(bucket.spent);
            if too_much == 0 {
                return Some(free_at(self.period, bucket.index));
            }
        }
        None
    }

    /// Returns whether the file tells of as much already.
    fn spend(&mut self, units: u128, now: Duration) -> bool {
        let index = index(self.period, now);
        if self.buckets.back().is_none_or(|last| last.index < index) {
            self.buckets.push_back(Bucket { index, spent: 0, written: 0 });
        }
        let Some(bucket) = self.buckets.back_mut() else { return false };
        bucket.spent = bucket.spent.saturating_add(units);
        if bucket.spent <= bucket.written {
            return true;
        }
        bucket.written = bucket.spent.saturating_add(self.limit / RESERVE_PART);
        false
    }
}

/// When a bucket does not count any more: its youngest is a period old.
fn free_at(period: Period, index: u64) -> Duration {
    let millis = (index + 1).saturating_mul(period.bucket().as_millis() as u64);
    Duration::from_millis(millis).saturating_add(period.length())
}

fn index(period: Period, now: Duration) -> u64 {
    now.as_secs() / period.bucket().as_secs()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn read(path: &Path) -> Result<BTreeMap<Period, Vec<(u64, u128)>>, String> {
    match small_file::read(path)? {
        Some(Told { version, .. }) if version != VERSION => {
            Err(format!("it has version {version}, this program knows version {VERSION}"))
        }
        Some(Told { spent, .. }) => Ok(spent),
        None => Ok(BTreeMap::new()),
    }
}

fn write(path: &Path, windows: &[Window]) -> io::Result<()> {
    let buckets = |window: &Window| window.buckets.iter().map(|bucket| (bucket.index, bucket.written)).collect();
    let spent = windows.iter().map(|window| (window.period, buckets(window))).collect();
    small_file::replace(path, &Told { version: VERSION, spent })
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    const START: Duration = Duration::from_secs(1_700_000_000);

    fn spent(result: Result<u128, Denied>) -> Spent {
        match result {
            Err(Denied::Spent(spent)) => spent,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_used_up_comes_back_when_a_period_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let allowance =
            Allowance::open_at(&directory.path().join("a"), &[(Period::Minute, 100), (Period::Day, 150)], START)
                .unwrap();
        assert_eq!(allowance.largest(), 100);
        assert_eq!(allowance.take_at(60, 60, START), Ok(60));
        let refused = spent(allowance.take_at(41, 41, START));
        assert_eq!((refused.period, refused.limit, refused.left), (Period::Minute, 100, 40));
        assert_eq!(allowance.take_at(1, 100, START), Ok(40), "as much as there is");
        let wait = spent(allowance.take_at(1, 1, START)).retry_after.unwrap();
        assert!((Duration::from_mins(1)..=Duration::from_secs(65)).contains(&wait), "{wait:?}");
        let just_before = (START + wait).checked_sub(Duration::from_millis(1)).unwrap();
        assert!(allowance.take_at(1, 1, just_before).is_err());
        let refused = spent(allowance.take_at(51, 51, START + wait));
        assert_eq!((refused.period, refused.left), (Period::Day, 50));
        assert_eq!(allowance.take_at(50, 50, START + wait), Ok(50));
        assert_eq!(spent(allowance.take_at(101, 101, START)).retry_after, None, "more than there ever is");
        allowance.give_back(20);
        assert_eq!(allowance.take_at(1, 100, START + wait), Ok(20));
        let tomorrow = START + wait + Duration::from_hours(25);
        assert_eq!(allowance.take_at(100, 100, tomorrow), Ok(100));
        assert!(allowance.take_at(1, 1, START).is_err(), "a clock that is set back refills nothing");
    }

    #[test]
    fn another_limit_forgives_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let allowance = Allowance::open_at(&directory.path().join("a"), &[(Period::Day, 100)], START).unwrap();
        assert_eq!(allowance.take_at(80, 80, START), Ok(80));
        allowance.set_limit(Period::Day, 50);
        assert_eq!(spent(allowance.take_at(1, 1, START)).left, 0);
        assert_eq!(spent(allowance.take_at(51, 51, START)).retry_after, None);
        allowance.set_limit(Period::Minute, 1);
        allowance.set_limit(Period::Day, 200);
        assert_eq!(allowance.take_at(1, 200, START), Ok(120));
    }

    #[test]
    fn a_restart_refills_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("limits/service");
        let open = |now| Allowance::open_at(&path, &[(Period::Day, 6_400)], now).unwrap();
        assert_eq!(open(START).take_at(6_000, 6_000, START), Ok(6_000));
        // Dropped as a crash would.
        let after = open(START + Duration::from_hours(1));
        let left = spent(after.take_at(401, 401, START + Duration::from_hours(1))).left;
        assert_eq!(left, 400 - 6_400 / RESERVE_PART, "the reserve counts as spent");
        assert_eq!(after.take_at(left, left, START), Ok(left));
        // Of a clock that was far ahead.
        let wrong = open(START + Duration::from_hours(100_000));
        assert_eq!(wrong.take_at(1, 1, START + Duration::from_hours(100_000)), Ok(1));
        assert!(open(START).take_at(6_400, 6_400, START).is_err());
        assert_eq!(open(START).take_at(6_400, 6_400, START + Duration::from_hours(25)), Ok(6_400));
        let limits = [(Period::Day, u128::MAX)];
        let huge = || Allowance::open_at(&directory.path().join("huge"), &limits, START).unwrap();
        assert_eq!(huge().take_at(u128::MAX - 1, u128::MAX - 1, START), Ok(u128::MAX - 1));
        assert!(huge().take_at(1, 1, START).is_err());
    }

    #[test]
    fn what_cannot_be_read_or_written_hands_out_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        for text in ["", "{}", r#"{"version":2,"spent":{}}"#, r#"{"version":1,"spent":{"week":[]}}"#, "[1"] {
            fs::write(&path, text).unwrap();
            let why = Allowance::open(&path, &[(Period::Day, 1)]).unwrap_err();
            assert!(why.contains("cannot be read"), "{why}");
        }
        fs::remove_file(&path).unwrap();
        let allowance = Allowance::open(&path, &[(Period::Day, 10)]).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(allowance.take(1), Err(Denied::Disk(_))));
        fs::remove_dir(&path).unwrap();
        assert_eq!(allowance.take(10), Ok(()), "what was not handed out was not counted");
    }

    proptest! {
        // Every one of them syncs files.
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Whatever is asked for, given back, and whenever it crashes.
        #[test]
        fn no_stretch_of_a_period_holds_more(
            steps in proptest::collection::vec((0u64..20_000, 1u128..60, 0u128..4, prop::bool::weighted(0.1)), 1..100),
        ) {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("a");
            let limits = [(Period::Minute, 100)];
            let mut allowance = Allowance::open_at(&path, &limits, START).unwrap();
            let (mut now, mut taken) = (START, Vec::new());
            for (pause, units, back, crash) in steps {
                now += Duration::from_millis(pause);
                if crash {
                    allowance = Allowance::open_at(&path, &limits, now).unwrap();
                }
                if let Ok(got) = allowance.take_at(units.min(10), units, now) {
                    allowance.give_back(back.min(got));
                    taken.push((now, got - back.min(got)));
                }
                let begin = now.saturating_sub(Duration::from_mins(1));
                let sum: u128 = taken.iter().filter(|(at, _)| *at > begin).map(|(_, units)| units).sum();
                prop_assert!(sum <= 100, "{} in a minute", sum);
            }
        }
    }
}
