//! The file of API keys (`API_KEYS_FILE`): one JSON object a line, `#` comments, readable by its owner alone. It holds hashes,
//! never a key, and no error repeats what a line says: somebody may have put a key there.
use std::{num::NonZeroU32, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    api_key::{self, Digest},
    scope::{Scope, Scopes},
};
use crate::private_file::{self, PrivateFile};

/// Most keys: each has a few counters in the metrics.
pub(crate) const MAX_KEYS: usize = 1_000;
/// Longest name: it is a label in the metrics and the name of a file.
const MAX_NAME: usize = 64;
/// Most requests a second that a key can be limited to: more than the service takes.
pub(crate) const MAX_RATE: u32 = 1_000_000;
/// How a new file begins.
const HEAD: &str =
    "# API keys of Keyshard, as SHA-256: `keyshard api-keys add|list|remove`, then SIGHUP to the service.\n";
/// What a line must be.
const FORM: &str = r#"must be {"name":"..","sha256":"..","scopes":["send","read","admin"]}, with "dailyLimit":"UNITS" and "ratePerSecond":N if wanted, each once and nothing else"#;

/// One key, as its line tells it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// By which people and metrics know it.
    pub(crate) name: Box<str>,
    pub(crate) digest: Digest,
    pub(crate) scopes: Scopes,
    /// Raw token units that it may send in 24 hours.
    pub(crate) daily_limit: Option<u128>,
    /// Requests a second.
    pub(crate) rate: Option<NonZeroU32>,
}

/// A line as JSON has it; what the values are is looked at afterwards, so that errors can be ours.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Fields {
    name: Value,
    sha256: Value,
    scopes: Value,
    daily_limit: Option<Value>,
    rate_per_second: Option<Value>,
}

/// A line to be written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    name: &'a str,
    sha256: String,
    scopes: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    daily_limit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_per_second: Option<NonZeroU32>,
}

/// Reads the keys in a file, none twice. The error is for people.
pub(crate) fn read(path: &Path) -> Result<Vec<Entry>, String> {
    match private_file::read(path)? {
        Some(text) => parse(&text),
        None => Err("does not exist: `keyshard api-keys add` makes it".to_owned()),
    }
}

fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries: Vec<Entry> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let Some(line) = content(line) else { continue };
        let entry = parse_line(line).map_err(|why| format!("has a bad line {number}: {why}"))?;
        for known in &entries {
            if known.name == entry.name {
                return Err(format!("has {:?} twice, again in line {number}: take one out", entry.name));
            }
            if known.digest == entry.digest {
                return Err(format!("has the key of {:?} again in line {number}: take one out", known.name));
            }
        }
        entries.push(entry);
        if entries.len() > MAX_KEYS {
            return Err(format!("holds more than {MAX_KEYS} keys"));
        }
    }
    Ok(entries)
}

/// The line, if it is no comment.
fn content(line: &str) -> Option<&str> {
    let line = line.trim();
    (!line.is_empty() && !line.starts_with('#')).then_some(line)
}

fn parse_line(line: &str) -> Result<Entry, String> {
    let fields: Fields = serde_json::from_str(line).map_err(|error| {
        if error.is_data() { format!("it {FORM}") } else { format!("it is not JSON (column {})", error.column()) }
    })?;
    let name = fields.name.as_str().filter(|name| is_name(name)).ok_or_else(|| format!("name {}", name_form()))?;
    let digest = match fields.sha256.as_str() {
        Some(text) if text.starts_with(api_key::PREFIX) => {
            return Err("sha256 holds a key instead of its hash. That key is no secret any more: take the line out and make a \
                        new one with `keyshard api-keys add`"
                .to_owned());
        }
        text => text.and_then(Digest::parse).ok_or(
            "sha256 must be 64 lower-case hexadecimal digits: the SHA-256 of the key, ks_ included. `keyshard api-keys add` \
             writes such lines",
        )?,
    };
    let scopes = fields.scopes.as_array().map(|list| list.iter().map(|scope| scope.as_str().and_then(Scope::parse)));
    let scopes: Option<Scopes> = scopes.and_then(Iterator::collect);
    let scopes = scopes.filter(|scopes| !scopes.is_empty());
    let daily_limit = fields.daily_limit.map(|limit| {
        let limit = limit.as_str().and_then(units);
        limit.ok_or(r#"dailyLimit must be raw token units in quotes, at least "1"; leave it out for no limit"#)
    });
    let rate = fields.rate_per_second.map(|rate| {
        let rate = rate.as_u64().and_then(|rate| u32::try_from(rate).ok()).filter(|rate| *rate <= MAX_RATE);
        rate.and_then(NonZeroU32::new).ok_or_else(|| {
            format!("ratePerSecond must be a whole number from 1 to {MAX_RATE}; leave it out for no limit")
        })
    });
    Ok(Entry {
        name: name.into(),
        digest,
        scopes: scopes.ok_or(r#"scopes must be an array of "send", "read" and "admin", at least one of them"#)?,
        daily_limit: daily_limit.transpose()?,
        rate: rate.transpose()?,
    })
}

/// Whether it can be the name of a key.
fn is_name(name: &str) -> bool {
    let inside = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    let key = name.starts_with(api_key::PREFIX);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(inside) && !name.starts_with(['-', '_']) && !key
}

fn name_form() -> String {
    format!("must be 1 to {MAX_NAME} of a-z, 0-9, - and _, beginning with a letter or digit, and no key")
}

/// A name from the command line.
pub(crate) fn parse_name(text: &str) -> Result<Box<str>, String> {
    if is_name(text) { Ok(text.into()) } else { Err(name_form()) }
}

/// An amount that is not zero: decimal digits only.
pub(crate) fn units(text: &str) -> Option<u128> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|units| digits && *units > 0)
}

impl Entry {
    fn line(&self) -> Result<String, String> {
        let line = Line {
            name: &self.name,
            sha256: self.digest.to_string(),
            scopes: self.scopes.names(),
            daily_limit: self.daily_limit.map(|units| units.to_string()),
            rate_per_second: self.rate,
        };
        serde_json::to_string(&line).map_err(|error| error.to_string())
    }
}

/// The file while it is being changed: no other `keyshard` changes it meanwhile.
pub(crate) struct KeysFile {
    file: PrivateFile,
    entries: Vec<Entry>,
}

impl KeysFile {
    /// Opens it for changes; made, empty and with mode 0600, if it is not there.
    pub(crate) fn lock(path: &Path) -> Result<Self, String> {
        let file = PrivateFile::lock(path)?;
        let entries = parse(file.text()).map_err(|why| format!("{} {why}", path.display()))?;
        Ok(Self { file, entries })
    }

    /// Adds a key. It is on the disk when this returns.
    pub(crate) fn add(&mut self, entry: Entry) -> Result<(), String> {
        if self.entries.iter().any(|known| known.name == entry.name) {
            let name = &entry.name;
            return Err(format!(
                "there is a key {name:?} already: choose another name, or `keyshard api-keys remove {name}`"
            ));
        }
        if self.entries.len() >= MAX_KEYS {
            return Err(format!("there are {MAX_KEYS} keys already: remove one"));
        }
        let old = self.file.text();
        let mut text = String::from(if old.is_empty() { HEAD } else { old });
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&entry.line()?);
        text.push('\n');
        self.file.replace(Zeroizing::new(text))?;
        self.entries.push(entry);
        Ok(())
    }

    /// Takes a key out. `false` if it is not there.
    pub(crate) fn remove(&mut self, name: &str) -> Result<bool, String> {
        if !self.entries.iter().any(|known| *known.name == *name) {
            return Ok(false);
        }
        let is_it = |line: &&str| {
            content(line).and_then(|line| parse_line(line).ok()).is_some_and(|entry| *entry.name == *name)
        };
        let kept: Vec<&str> = self.file.text().lines().filter(|line| !is_it(line)).collect();
        self.file.replace(Zeroizing::new(kept.join("\n") + "\n"))?;
        self.entries.retain(|known| *known.name != *name);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn entry(name: &str) -> Entry {
        Entry {
            name: name.into(),
            digest: Digest::of(name.as_bytes()),
            scopes: [Scope::Send].into_iter().collect(),
            daily_limit: None,
            rate: None,
        }
    }

    fn why(text: &str) -> String {
        parse(text).err().unwrap_or_else(|| panic!("{text:?} was taken"))
    }

    #[test]
    fn lines() {
        let hash = "ab".repeat(32);
        let text = format!(
            "# mine\n\n  {{\"name\":\"shop-1_x\",\"sha256\":\"{hash}\",\"scopes\":[\"read\",\"send\"],\
             \"dailyLimit\":\"{}\",\"ratePerSecond\":5}}\r\n{{\"scopes\":[\"admin\"],\"sha256\":\"{}\",\"name\":\"2\"}}",
            u128::MAX,
            "0".repeat(64),
        );
        let entries = parse(&text).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!((&*entries[0].name, entries[0].scopes.to_string()), ("shop-1_x", "send,read".to_owned()));
        assert_eq!((entries[0].daily_limit, entries[0].rate), (Some(u128::MAX), NonZeroU32::new(5)));
        assert_eq!(entries[0].digest.to_string(), hash);
        assert_eq!((entries[1].daily_limit, entries[1].rate), (None, None));
        for entry in &entries {
            assert!(parse(&entry.line().unwrap()).unwrap() == [entry.clone()]);
        }
        assert!(parse("").unwrap().is_empty() && parse("# nothing\n").unwrap().is_empty());
    }

    #[test]
    fn errors_name_the_line_and_repeat_nothing_of_it() {
        let key = format!("ks_{}", "7".repeat(64));
        let line = |name: &str, hash: &str, rest: &str| format!(r#"{{"name":{name},"sha256":{hash}{rest}}}"#);
        let (name, hash, send) = (r#""a""#, format!(r#""{}""#, "0".repeat(64)), r#","scopes":["send"]"#);
        for (text, says) in [
            (key.clone(), "not JSON"),
            (format!("\"{key}\""), "must be {\"name\""),
            (format!("[\"{key}\"]"), "must be {\"name\""),
            (line(name, &hash, ""), "must be {\"name\""),
            (line(name, &hash, &format!("{send},\"{key}\":1")), "nothing else"),
            (line(name, &hash, &format!("{send}{send}")), "each once"),
            (line(name, &format!("\"{key}\""), send), "a key instead of its hash"),
            (line(name, "7", send), "64 lower-case"),
            (line(name, &format!("\"{}\"", "A".repeat(64)), send), "64 lower-case"),
            (line(&format!("\"{key}\""), &hash, send), "name must be"),
            (line("\"\"", &hash, send), "name must be"),
            (line("\"../a\"", &hash, send), "name must be"),
            (line("\"Shop\"", &hash, send), "name must be"),
            (line("\"-a\"", &hash, send), "name must be"),
            (line(&format!("\"{}\"", "a".repeat(65)), &hash, send), "name must be"),
            (line("null", &hash, send), "name must be"),
            (line(name, &hash, r#","scopes":[]"#), "scopes must be"),
            (line(name, &hash, &format!(r#","scopes":["{key}"]"#)), "scopes must be"),
            (line(name, &hash, &format!(r#","scopes":"{key}""#)), "scopes must be"),
            (line(name, &hash, &format!(r#"{send},"dailyLimit":5"#)), "dailyLimit must be"),
            (line(name, &hash, &format!(r#"{send},"dailyLimit":"0""#)), "dailyLimit must be"),
            (line(name, &hash, &format!(r#"{send},"dailyLimit":"+5""#)), "dailyLimit must be"),
            (line(name, &hash, &format!(r#"{send},"dailyLimit":"{}0""#, u128::MAX)), "dailyLimit must be"),
            (line(name, &hash, &format!(r#"{send},"ratePerSecond":0"#)), "ratePerSecond must be"),
            (line(name, &hash, &format!(r#"{send},"ratePerSecond":1.5"#)), "ratePerSecond must be"),
            (line(name, &hash, &format!(r#"{send},"ratePerSecond":1000001"#)), "ratePerSecond must be"),
        ] {
            let why = why(&format!("# one\n{text}\n"));
            assert!(why.contains("line 2") && why.contains(says), "{text}: {why}");
            assert!(!why.contains("777"), "{why}");
        }
        let (first, second) = (entry("a").line().unwrap(), entry("b").line().unwrap());
        assert!(why(&format!("{first}\n{first}")).contains("\"a\" twice, again in line 2"));
        let renamed = second.replace(&entry("b").digest.to_string(), &entry("a").digest.to_string());
        assert!(why(&format!("{first}\n\n{renamed}")).contains("the key of \"a\" again in line 3"));
        let many: Vec<String> = (0..=MAX_KEYS).map(|n| entry(&n.to_string()).line().unwrap()).collect();
        assert!(why(&many.join("\n")).contains("more than 1000"));
    }

    #[test]
    fn keys_are_added_and_taken_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let mut file = KeysFile::lock(&path).unwrap();
        assert!(KeysFile::lock(&path).err().unwrap().contains("another keyshard"));
        file.add(entry("a")).unwrap();
        file.add(entry("b")).unwrap();
        assert!(file.add(entry("a")).unwrap_err().contains("api-keys remove a"));
        assert!(read(&path).unwrap() == [entry("a"), entry("b")]);
        assert!(file.remove("a").unwrap() && !file.remove("a").unwrap());
        drop(file);
        // What somebody wrote by hand stays.
        let text = fs::read_to_string(&path).unwrap() + "# mine\n";
        fs::write(&path, text.trim_end()).unwrap();
        let mut file = KeysFile::lock(&path).unwrap();
        file.add(entry("c")).unwrap();
        assert!(read(&path).unwrap() == [entry("b"), entry("c")]);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with(HEAD) && text.contains("\n# mine\n"), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read(&path).err().unwrap().contains("chmod 600"));
        assert!(read(&directory.path().join("none")).err().unwrap().contains("api-keys add"));
    }
}
