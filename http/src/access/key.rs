//! The API keys in force: who is known by which key, how fast each may ask and how much it may send.
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock as _};
use keyshard_engine::{Allowance, Denied};

use super::{
    api_key::Digest,
    keys_file::Entry,
    scope::{Scope, Scopes},
};

/// What became of a request that came with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was let in.
    Admitted,
    /// Its key has not the scope for it.
    Scope,
    /// It came too soon.
    Rate,
    /// It would have sent too much.
    DailyLimit,
}

impl Fate {
    pub(crate) const ALL: [Self; 4] = [Self::Admitted, Self::Scope, Self::Rate, Self::DailyLimit];

    /// As the metrics call it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Scope => "scope",
            Self::Rate => "rate",
            Self::DailyLimit => "daily_limit",
        }
    }
}

/// One key. What of it has been used outlives a new reading of the file.
pub(crate) struct Key {
    pub(crate) name: Box<str>,
    pub(crate) scopes: Scopes,
    rate: Option<(u32, Arc<DefaultDirectRateLimiter>)>,
    daily: Daily,
    fates: Arc<[AtomicU64; Fate::ALL.len()]>,
}

/// What a key may send in a day.
enum Daily {
    Unlimited,
    /// There is a limit, and it is not known yet what of it is used up.
    NotOpen,
    Limited(Arc<Allowance>),
}

/// Why a known key does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotNow {
    /// It is not for this.
    Scope,
    /// So many requests a second are allowed; how long until the next.
    Rate(u32, Duration),
}

impl Key {
    /// Lets one request in, or not.
    pub(crate) fn admit(&self, scope: Scope) -> Result<(), NotNow> {
        if !self.scopes.contains(scope) {
            self.count(Fate::Scope);
            return Err(NotNow::Scope);
        }
        if let Some((per_second, limiter)) = &self.rate
            && let Err(not_until) = limiter.check()
        {
            self.count(Fate::Rate);
            return Err(NotNow::Rate(*per_second, not_until.wait_time_from(limiter.clock().now())));
        }
        self.count(Fate::Admitted);
        Ok(())
    }

    /// Takes what new transfers send from what the key may send in a day. May wait for the disk, if there is a limit.
    pub(crate) fn charge(&self, units: u128) -> Result<(), Denied> {
        match &self.daily {
            Daily::Unlimited => Ok(()),
            Daily::NotOpen => Err(Denied::Disk(format!("the daily limit of {:?} is not open yet", self.name))),
            Daily::Limited(allowance) => allowance.take(units).inspect_err(|denied| {
                if matches!(denied, Denied::Spent(_)) {
                    self.count(Fate::DailyLimit);
                }
            }),
        }
    }

    fn count(&self, fate: Fate) {
        self.fates[fate as usize].fetch_add(1, Relaxed);
    }

    /// How many requests had this fate.
    pub(crate) fn counted(&self, fate: Fate) -> u64 {
        self.fates[fate as usize].load(Relaxed)
    }
}

/// All keys of a file.
#[derive(Default)]
pub(crate) struct Keys {
    /// The map has a random hash key of its own, and digests are compared in constant time: how long it takes to find one
    /// tells nothing about any key.
    by_digest: HashMap<Digest, Arc<Key>>,
    /// In the order of the file.
    pub(crate) all: Vec<Arc<Key>>,
}

impl Keys {
    /// Keys as a file tells them. What is in use of `old` ones of the same name stays in use. `daily` opens what is left of a
    /// daily limit; as long as it gives `None`, a key that has one sends nothing.
    pub(crate) fn new(
        entries: Vec<Entry>,
        old: &Self,
        mut daily: impl FnMut(&str, u128) -> Result<Option<Arc<Allowance>>, String>,
    ) -> Result<Self, String> {
        let mut keys = Self::default();
        for Entry { name, digest, scopes, daily_limit, rate } in entries {
            let before = old.all.iter().find(|key| key.name == name);
            let limiter = |per_second: std::num::NonZeroU32| {
                let same = before.and_then(|key| key.rate.clone()).filter(|(known, _)| *known == per_second.get());
                same.unwrap_or_else(|| (per_second.get(), Arc::new(RateLimiter::direct(Quota::per_second(per_second)))))
            };
            let daily = match daily_limit.map(|limit| daily(&name, limit)).transpose()? {
                None => Daily::Unlimited,
                Some(None) => Daily::NotOpen,
                Some(Some(allowance)) => Daily::Limited(allowance),
            };
            let key = Arc::new(Key {
                rate: rate.map(limiter),
                daily,
                fates: before.map(|key| Arc::clone(&key.fates)).unwrap_or_default(),
                name,
                scopes,
            });
            keys.by_digest.insert(digest, Arc::clone(&key));
            keys.all.push(key);
        }
        Ok(keys)
    }

    pub(crate) fn find(&self, digest: &Digest) -> Option<&Arc<Key>> {
        self.by_digest.get(digest)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use keyshard_engine::Period;

    use super::*;

    fn entry(name: &str, rate: Option<u32>, daily_limit: Option<u128>) -> Entry {
        Entry {
            name: name.into(),
            digest: Digest::of(name.as_bytes()),
            scopes: [Scope::Send].into_iter().collect(),
            daily_limit,
            rate: rate.and_then(NonZeroU32::new),
        }
    }

    fn keys(entries: Vec<Entry>, old: &Keys) -> Keys {
        Keys::new(entries, old, |_, _| Err("there is none".to_owned())).unwrap()
    }

    #[test]
    fn scopes_and_rates() {
        let set = keys(vec![entry("a", Some(2), None), entry("b", None, None)], &Keys::default());
        assert!(set.find(&Digest::of(b"c")).is_none());
        let a = set.find(&Digest::of(b"a")).unwrap();
        assert_eq!(a.admit(Scope::Read), Err(NotNow::Scope));
        // A second's worth at once; an hour would pass before the third was let in unnoticed.
        assert!(a.admit(Scope::Send).is_ok() && a.admit(Scope::Send).is_ok());
        let refused = (0..1_000).map(|_| a.admit(Scope::Send)).find_map(Result::err);
        assert!(matches!(refused, Some(NotNow::Rate(2, wait)) if wait <= Duration::from_secs(1)), "{refused:?}");
        assert!((0..1_000).all(|_| set.find(&Digest::of(b"b")).unwrap().admit(Scope::Send).is_ok()));
        assert_eq!((a.counted(Fate::Scope), a.counted(Fate::Rate)), (1, 1));
        assert!(a.counted(Fate::Admitted) >= 2);
    }

    #[test]
    fn what_is_used_stays_used() {
        let first = keys(vec![entry("a", Some(1), None)], &Keys::default());
        assert!((0..1_000).any(|_| first.find(&Digest::of(b"a")).unwrap().admit(Scope::Send).is_err()));
        let same = keys(vec![entry("b", None, None), entry("a", Some(1), None)], &first);
        let (old, new) = (first.find(&Digest::of(b"a")).unwrap(), same.find(&Digest::of(b"a")).unwrap());
        assert!(Arc::ptr_eq(&old.rate.as_ref().unwrap().1, &new.rate.as_ref().unwrap().1));
        assert_eq!(new.counted(Fate::Rate), 1);
        let other = keys(vec![entry("a", Some(1_000), None)], &same);
        assert!(other.find(&Digest::of(b"a")).unwrap().admit(Scope::Send).is_ok(), "another rate begins anew");
    }

    #[test]
    fn daily_limits() {
        let directory = tempfile::tempdir().unwrap();
        let open = |name: &str, limit| {
            Allowance::open(&directory.path().join(name), &[(Period::Day, limit)]).map(|opened| Some(Arc::new(opened)))
        };
        let closed = Keys::new(vec![entry("a", None, Some(100))], &Keys::default(), |_, _| Ok(None)).unwrap();
        assert!(matches!(closed.find(&Digest::of(b"a")).unwrap().charge(1), Err(Denied::Disk(_))));
        let set = Keys::new(vec![entry("a", None, Some(100)), entry("b", None, None)], &Keys::default(), open).unwrap();
        let a = set.find(&Digest::of(b"a")).unwrap();
        assert_eq!(a.charge(60), Ok(()));
        assert!(matches!(a.charge(41), Err(Denied::Spent(spent)) if spent.left == 40 && spent.retry_after.is_some()));
        assert!(matches!(a.charge(101), Err(Denied::Spent(spent)) if spent.retry_after.is_none()));
        assert_eq!(a.counted(Fate::DailyLimit), 2);
        assert_eq!(set.find(&Digest::of(b"b")).unwrap().charge(u128::MAX), Ok(()));
        assert!(Keys::new(vec![entry("a", None, Some(1))], &set, |_, _| Err("no".into())).is_err());
    }
}
