//! Who may ask for what: API keys (`API_KEYS_FILE`), receivers that may be paid, and where the service may be reached without
//! either. What is not configured asks for nothing and costs nothing.
mod api_key;
pub(crate) mod command;
pub(crate) mod exposure;
mod key;
mod keys_file;
mod receivers;
mod refusal;
mod scope;

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use arc_swap::{ArcSwap, Guard};
use http::{HeaderMap, header};
use keyshard_engine::{Allowance, Period};
use parking_lot::Mutex;

use self::{
    api_key::Digest,
    key::{Fate, Keys},
    receivers::{List, Receivers},
    refusal::Failure,
};
pub(crate) use self::{
    key::Key,
    refusal::{unwanted, without_body},
    scope::Scope,
};
use crate::{config::ConfigError, env::Env, json::Answer, metrics::Page};

/// The variable that names the file of API keys.
pub(crate) const API_KEYS_FILE: &str = "API_KEYS_FILE";
const ALLOW_FILE: &str = "RECEIVERS_ALLOW_FILE";
const DENY_FILE: &str = "RECEIVERS_DENY_FILE";
/// Where in `DATA_DIR` it is kept what keys have sent.
const LIMITS: &str = "limits";

/// The rules in force. The default has none.
#[derive(Default)]
pub struct Access {
    keys: Option<KeyRules>,
    receivers: Option<ReceiverRules>,
    /// By [`Failure`].
    failures: [AtomicU64; Failure::ALL.len()],
    /// Whether `HOST` was set.
    host_is_set: bool,
}

struct KeyRules {
    path: PathBuf,
    /// Where it is kept what keys have sent.
    limits: PathBuf,
    now: ArcSwap<Keys>,
    /// What is open of daily limits; `None` until it may be. Locked while keys are read.
    daily: Mutex<Option<Open>>,
}

/// By the name of the key. One file, one allowance, however often keys are read again.
type Open = HashMap<Box<str>, Arc<Allowance>>;

struct ReceiverRules {
    allow: Option<PathBuf>,
    deny: Option<PathBuf>,
    now: ArcSwap<Receivers>,
}

impl Access {
    /// Reads the files that the settings name. Changes nothing: daily limits are opened by [`Self::open_limits`].
    pub fn from_env(env: &Env, data_dir: &Path) -> Result<Self, ConfigError> {
        let problem = |(variable, why): (&'static str, String)| ConfigError::new(variable, why);
        let path = |variable| env.get(variable).map(PathBuf::from);
        let keys = match path(API_KEYS_FILE) {
            None => None,
            Some(path) => {
                let entries = read(API_KEYS_FILE, &path, keys_file::read).map_err(problem)?;
                let keys = Keys::new(entries, &Keys::default(), |_, _| Ok(None))
                    .map_err(|why| problem((API_KEYS_FILE, why)))?;
                let (limits, now) = (data_dir.join(LIMITS), ArcSwap::from_pointee(keys));
                Some(KeyRules { path, limits, now, daily: Mutex::default() })
            }
        };
        let (allow, deny) = (path(ALLOW_FILE), path(DENY_FILE));
        let receivers = if allow.is_some() || deny.is_some() {
            let now = read_receivers(allow.as_deref(), deny.as_deref()).map_err(problem)?;
            Some(ReceiverRules { allow, deny, now: ArcSwap::from_pointee(now) })
        } else {
            None
        };
        Ok(Self { keys, receivers, failures: Default::default(), host_is_set: env.get("HOST").is_some() })
    }

    /// Opens what is kept of the daily limits. Only for the one process that has `DATA_DIR`, and before transfers are accepted.
    pub fn open_limits(&self) -> Result<(), String> {
        let Some(rules) = &self.keys else { return Ok(()) };
        rules.daily.lock().get_or_insert_default();
        rules.reload()
    }

    /// Reads the files again. One that cannot be used leaves the rules as they were, and the log says why.
    pub fn reload(&self) {
        if let Some(rules) = &self.keys {
            match rules.reload() {
                Ok(()) => tracing::info!(keys = rules.now.load().all.len(), "API keys were read again"),
                Err(why) => tracing::error!("{why}. The API keys that were read before stay in force"),
            }
        }
        if let Some(rules) = &self.receivers {
            match read_receivers(rules.allow.as_deref(), rules.deny.as_deref()) {
                Ok(lists) => {
                    rules.now.store(Arc::new(lists));
                    tracing::info!(accounts = rules.accounts(), "the lists of receivers were read again");
                }
                Err((variable, why)) => {
                    tracing::error!("{variable} {why}. The lists of receivers that were read before stay in force");
                }
            }
        }
    }

    /// Whether requests need an API key.
    pub(crate) fn asks_for_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// Lets a request in that needs this, and tells by whose key, or says what to answer. Before its body is read.
    pub(crate) fn admit(&self, needed: Option<Scope>, headers: &HeaderMap) -> Result<Option<Arc<Key>>, Box<Answer>> {
        let (Some(rules), Some(needed)) = (&self.keys, needed) else { return Ok(None) };
        let failed = |failure: Failure| {
            self.failures[failure as usize].fetch_add(1, Relaxed);
            Box::new(failure.answer())
        };
        let sent = sent_key(headers).map_err(failed)?;
        let keys = rules.now.load();
        let key = keys.find(&sent).ok_or(Failure::Unknown).map_err(failed)?;
        key.admit(needed).map_err(|why| Box::new(why.answer(key, needed)))?;
        Ok(Some(Arc::clone(key)))
    }

    /// The lists of receivers, if there are any.
    pub(crate) fn receivers(&self) -> Option<Guard<Arc<Receivers>>> {
        self.receivers.as_ref().map(|rules| rules.now.load())
    }

    /// Names of the files that count, with what they hold, for people; and what is odd about that.
    pub(crate) fn told(&self) -> Vec<(bool, String)> {
        let mut told = Vec::new();
        if let Some(rules) = &self.keys {
            let (count, path) = (rules.now.load().all.len(), rules.path.display());
            told.push(match count {
                0 => {
                    (false, format!("{path} holds no API key: all are refused. Make one with `keyshard api-keys add`"))
                }
                count => (true, format!("{count} API keys of {path}")),
            });
        }
        if let Some(rules) = &self.receivers {
            let lists = rules.now.load();
            if let (Some(list), Some(path)) = (&lists.allow, &rules.allow) {
                let (count, path) = (list.len(), path.display());
                told.push(match count {
                    0 => (
                        false,
                        format!(
                            "{path} allows no receiver: every transfer is refused. Add some, or unset {ALLOW_FILE}"
                        ),
                    ),
                    count => (true, format!("receivers are those of the {count} lines of {path} only")),
                });
            }
            if let (Some(list), Some(path)) = (&lists.deny, &rules.deny) {
                told.push((true, format!("receivers are none of the {} lines of {}", list.len(), path.display())));
            }
        }
        told
    }

    /// What the metrics tell: failures by reason, requests by the name of their key.
    pub(crate) fn write_metrics(&self, page: &mut Page) {
        let name = "keyshard_auth_failures_total";
        page.family(name, "counter", "Requests without an API key that is known, by reason");
        for failure in Failure::ALL {
            page.sample(name, &[("reason", failure.as_str())], self.failures[failure as usize].load(Relaxed));
        }
        let name = "keyshard_api_key_requests_total";
        page.family(name, "counter", "Requests with a known API key, by its name and what became of them");
        let keys = self.keys.as_ref().map(|rules| rules.now.load());
        for key in keys.iter().flat_map(|keys| &keys.all) {
            for fate in Fate::ALL {
                page.sample(name, &[("key", &key.name), ("fate", fate.as_str())], key.counted(fate));
            }
        }
    }
}

impl KeyRules {
    fn reload(&self) -> Result<(), String> {
        let mut daily = self.daily.lock();
        let entries =
            read(API_KEYS_FILE, &self.path, keys_file::read).map_err(|(variable, why)| format!("{variable} {why}"))?;
        // Limits change only once all of the file is known to be good.
        let mut changes = Vec::new();
        let keys = Keys::new(entries, &self.now.load(), |name, limit| {
            let limits = [(Period::Day, limit)];
            let Some(daily) = &mut *daily else { return Ok(None) };
            if let Some(open) = daily.get(name) {
                changes.push((Arc::clone(open), limit));
                return Ok(Some(Arc::clone(open)));
            }
            // The service's own limits are beside it.
            let opened = Arc::new(Allowance::open(&self.limits.join(format!("key-{name}.json")), &limits)?);
            daily.insert(name.into(), Arc::clone(&opened));
            Ok(Some(opened))
        })?;
        for (allowance, limit) in changes {
            allowance.set_limit(Period::Day, limit);
        }
        self.now.store(Arc::new(keys));
        // A request may still hold one of a key that is gone: the file must not be opened beside it.
        if let Some(daily) = &mut *daily {
            daily.retain(|_, allowance| Arc::strong_count(allowance) > 1);
        }
        Ok(())
    }
}

impl ReceiverRules {
    fn accounts(&self) -> usize {
        let lists = self.now.load();
        [&lists.allow, &lists.deny].into_iter().flatten().map(List::len).sum()
    }
}

/// Reads a file that a variable names. The error is the variable and what is wrong.
fn read<T>(
    variable: &'static str,
    path: &Path,
    read: impl FnOnce(&Path) -> Result<T, String>,
) -> Result<T, (&'static str, String)> {
    read(path).map_err(|why| (variable, format!("={}: it {why}", path.display())))
}

fn read_receivers(allow: Option<&Path>, deny: Option<&Path>) -> Result<Receivers, (&'static str, String)> {
    let list = |variable, path: Option<&Path>| path.map(|path| read(variable, path, List::read)).transpose();
    Ok(Receivers { allow: list(ALLOW_FILE, allow)?, deny: list(DENY_FILE, deny)? })
}

/// The digest of the API key that comes with a request: exactly one `Authorization: Bearer ks_...`.
fn sent_key(headers: &HeaderMap) -> Result<Digest, Failure> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Failure::Missing)?.as_bytes();
    let space = value.iter().position(|byte| *byte == b' ').ok_or(Failure::Malformed)?;
    let (scheme, key) = (&value[..space], value[space..].trim_ascii());
    let is_key = scheme.eq_ignore_ascii_case(b"bearer") && api_key::has_form(key);
    if is_key && values.next().is_none() { Ok(Digest::of(key)) } else { Err(Failure::Malformed) }
}

/// Without secrets; there are none in here.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("keys", &self.keys.as_ref().map(|rules| rules.now.load().all.len()))
            .field("receivers", &self.receivers.as_ref().map(ReceiverRules::accounts))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use http::{HeaderValue, StatusCode};
    use near_primitives::types::AccountId;

    use super::*;

    /// Writes a file for its owner alone.
    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn line(name: &str, key: &str, rest: &str) -> String {
        let digest = Digest::of(key.as_bytes());
        format!(r#"{{"name":"{name}","sha256":"{digest}","scopes":["send"]{rest}}}"#)
    }

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
    }

    fn access(directory: &Path, settings: &[&'static str]) -> Access {
        let env: Env =
            settings.iter().map(|name| (*name, directory.join(name).to_string_lossy().into_owned())).collect();
        Access::from_env(&env, directory).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn one_key_and_nothing_else() {
        let key = format!("ks_{}", "0".repeat(64));
        for (value, good) in [
            (format!("Bearer {key}"), true),
            (format!("bearer {key}"), true),
            (format!("BEARER   {key} "), true),
            (format!("Basic {key}"), false),
            (key.clone(), false),
            (format!("Bearer{key}"), false),
            (format!("Bearer\t{key}"), false),
            (format!("Bearer {key}0"), false),
            (format!("Bearer {key},{key}"), false),
            (format!("Bearer {}", key.to_uppercase()), false),
            (format!("Digest {key}"), false),
            ("Bearer".to_owned(), false),
            ("Bearer ".to_owned(), false),
            (String::new(), false),
        ] {
            let expected = if good { Ok(Digest::of(key.as_bytes())) } else { Err(Failure::Malformed) };
            assert!(sent_key(&headers(&[&value])) == expected, "{value}");
        }
        let twice = format!("Bearer {key}");
        assert!(sent_key(&headers(&[&twice, &twice])) == Err(Failure::Malformed));
        assert!(sent_key(&headers(&[])) == Err(Failure::Missing));
        let bytes = HeaderValue::from_bytes(b"Bearer k\xff").unwrap();
        let bytes = HeaderMap::from_iter([(header::AUTHORIZATION, bytes)]);
        assert!(sent_key(&bytes) == Err(Failure::Malformed));
    }

    #[test]
    fn without_rules_nothing_is_asked() {
        let access = Access::default();
        assert!(matches!(access.admit(Some(Scope::Admin), &headers(&[])), Ok(None)));
        assert!(access.receivers().is_none() && access.open_limits().is_ok() && access.told().is_empty());
    }

    #[test]
    fn keys_are_read_again_and_a_broken_file_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(API_KEYS_FILE);
        let (a, b) = (api_key::generate().unwrap(), api_key::generate().unwrap());
        let admitted = |access: &Access, key: &str| {
            access.admit(Some(Scope::Send), &headers(&[&format!("Bearer {key}")])).map_err(|answer| answer.status())
        };
        write(&path, &line("a", &a, r#","dailyLimit":"100""#));
        let access = access(directory.path(), &[API_KEYS_FILE]);
        let key = admitted(&access, &a).unwrap().unwrap();
        assert!(key.charge(1).is_err(), "what is left of the limit is not known yet");
        assert!(!directory.path().join(LIMITS).exists(), "to read settings makes nothing");
        access.open_limits().unwrap();
        let key = admitted(&access, &a).unwrap().unwrap();
        assert_eq!(key.charge(60), Ok(()));
        assert_eq!(admitted(&access, &b).err(), Some(StatusCode::UNAUTHORIZED));
        // Another key under the same name: the same person, the same limit.
        write(&path, &format!("{}\n{}", line("a", &b, r#","dailyLimit":"90""#), line("c", "x", "")));
        access.reload();
        assert_eq!(admitted(&access, &a).err(), Some(StatusCode::UNAUTHORIZED));
        let key = admitted(&access, &b).unwrap().unwrap();
        assert!(key.charge(31).is_err());
        assert_eq!(key.charge(30), Ok(()));
        for broken in ["{", &line("a", &a, r#","dailyLimit":"0""#), &format!("{0}\n{0}", line("a", &a, ""))] {
            write(&path, broken);
            access.reload();
            assert!(admitted(&access, &b).is_ok() && admitted(&access, &a).is_err(), "{broken}");
        }
        fs::remove_file(&path).unwrap();
        access.reload();
        assert!(admitted(&access, &b).unwrap().unwrap().charge(1).is_err());
        write(&path, "# none any more");
        access.reload();
        assert_eq!(admitted(&access, &b).err(), Some(StatusCode::UNAUTHORIZED));
        assert!(access.told()[0].1.contains("no API key"), "{:?}", access.told());
        // Back again: what was sent counts still.
        write(&path, &line("a", &a, r#","dailyLimit":"90""#));
        access.reload();
        assert!(admitted(&access, &a).unwrap().unwrap().charge(1).is_err());
        let counted = |failure: Failure| access.failures[failure as usize].load(Relaxed);
        assert_eq!([counted(Failure::Missing), counted(Failure::Malformed), counted(Failure::Unknown)], [0, 0, 6]);
    }

    #[test]
    fn lists_are_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let [allow, deny] = [ALLOW_FILE, DENY_FILE].map(|name| directory.path().join(name));
        let pays = |access: &Access, receiver: &str| {
            let receiver: AccountId = receiver.parse().unwrap();
            access.receivers().unwrap().check(&receiver).is_ok()
        };
        write(&allow, "*.near");
        write(&deny, "bad.near");
        let access = access(directory.path(), &[ALLOW_FILE, DENY_FILE]);
        assert_eq!(["a.near", "bad.near", "a.far"].map(|account| pays(&access, account)), [true, false, false]);
        write(&deny, "a.near\nno account");
        write(&allow, "*.far");
        access.reload();
        assert_eq!(["a.near", "bad.near", "a.far"].map(|account| pays(&access, account)), [true, false, false]);
        write(&deny, "a.near");
        access.reload();
        assert_eq!(["a.near", "bad.near", "a.far"].map(|account| pays(&access, account)), [false, false, true]);
        let env: Env = [(ALLOW_FILE, "/nowhere")].into_iter().collect();
        let error = Access::from_env(&env, directory.path()).unwrap_err().to_string();
        assert!(error.starts_with("RECEIVERS_ALLOW_FILE =/nowhere: it cannot be read"), "{error}");
    }
}
