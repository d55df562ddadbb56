//! Who may be paid: the lists of accounts in `RECEIVERS_ALLOW_FILE` and `RECEIVERS_DENY_FILE`.
use std::{
    collections::HashSet,
    fs::{self, File},
    io::Read as _,
    path::Path,
};

use near_primitives::types::AccountId;

/// Most accounts in a list: it is in memory, at some 60 bytes each.
pub(crate) const MAX_ACCOUNTS: usize = 1_000_000;
/// Largest file: the longest accounts on the most lines, and room for comments.
const MAX_BYTES: u64 = 128 << 20;
/// What stands for all sub-accounts.
const WILDCARD: &str = "*.";

/// Accounts, by name or as all sub-accounts of one.
#[derive(Default)]
pub(crate) struct List {
    accounts: HashSet<Box<str>>,
    /// Accounts whose sub-accounts are meant, not they themselves.
    parents: HashSet<Box<str>>,
}

impl List {
    /// Reads a file: one account a line, `*.example.near` for all below it, `#` begins a comment. The error is for people.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let problem = |error: std::io::Error| format!("cannot be read: {error}");
        let about = fs::metadata(path).map_err(problem)?;
        if !about.is_file() {
            return Err("is not a file".to_owned());
        }
        if about.len() > MAX_BYTES {
            return Err(format!("is {} bytes; at most {MAX_BYTES} are read", about.len()));
        }
        let mut text = String::with_capacity(about.len() as usize + 1);
        File::open(path).map_err(problem)?.take(MAX_BYTES).read_to_string(&mut text).map_err(problem)?;
        Self::parse(&text, MAX_ACCOUNTS)
    }

    fn parse(text: &str, most: usize) -> Result<Self, String> {
        let mut list = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let (set, account) = match line.strip_prefix(WILDCARD) {
                Some(parent) => (&mut list.parents, parent),
                None => (&mut list.accounts, line),
            };
            if account.parse::<AccountId>().is_err() {
                return Err(format!(
                    "has a bad line {number}: it must be a NEAR account id, or *. and one for all its sub-accounts"
                ));
            }
            set.insert(account.into());
            if list.len() > most {
                return Err(format!("holds more than {most} accounts"));
            }
        }
        Ok(list)
    }

    /// Lines that count.
    pub(crate) fn len(&self) -> usize {
        self.accounts.len() + self.parents.len()
    }

    fn contains(&self, account: &str) -> bool {
        if self.accounts.contains(account) {
            return true;
        }
        // An account id has 64 bytes at most, so few dots.
        !self.parents.is_empty()
            && account.match_indices('.').any(|(dot, _)| self.parents.contains(&account[dot + 1..]))
    }
}

/// Both lists, as far as they are configured.
#[derive(Default)]
pub(crate) struct Receivers {
    pub(crate) allow: Option<List>,
    pub(crate) deny: Option<List>,
}

impl Receivers {
    /// Whether this one may be paid; if not, why. The deny list wins.
    pub(crate) fn check(&self, account: &AccountId) -> Result<(), &'static str> {
        let account = account.as_str();
        if self.deny.as_ref().is_some_and(|list| list.contains(account)) {
            Err("on the list of those who are not paid here")
        } else if self.allow.as_ref().is_some_and(|list| !list.contains(account)) {
            Err("not on the list of those who may be paid here")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> List {
        List::parse(text, MAX_ACCOUNTS).unwrap()
    }

    #[test]
    fn accounts_and_all_below_them() {
        let list = list("# who\nalice.near # a friend\r\n\n *.shop.near\n*.eu.dex.near\nalice.near");
        assert_eq!(list.len(), 3);
        for (account, contained) in [
            ("alice.near", true),
            ("x.alice.near", false),
            ("shop.near", false),
            ("a.shop.near", true),
            ("b.a.shop.near", true),
            ("ashop.near", false),
            ("shop.near.a", false),
            ("eu.dex.near", false),
            ("a.eu.dex.near", true),
            ("dex.near", false),
            ("near", false),
        ] {
            assert_eq!(list.contains(account), contained, "{account}");
        }
    }

    #[test]
    fn the_deny_list_wins() {
        for (allow, deny, account, expected) in [
            (None, None, "a.near", true),
            (None, Some(list("a.near")), "a.near", false),
            (None, Some(list("a.near")), "b.near", true),
            (Some(list("*.near")), None, "a.near", true),
            (Some(list("*.near")), None, "a.far", false),
            (Some(list("*.near")), Some(list("a.near")), "a.near", false),
            (Some(list("")), None, "a.near", false),
            (None, Some(list("")), "a.near", true),
        ] {
            let receivers = Receivers { allow, deny };
            assert_eq!(receivers.check(&account.parse().unwrap()).is_ok(), expected, "{account}");
        }
    }

    #[test]
    fn what_is_no_account_is_named_by_its_line() {
        for text in ["Alice.near", "*", "*.", "*alice.near", "a.*.near", "x", "a b", "..", &"a".repeat(65)] {
            let why = List::parse(&format!("ok.near\n\n{text}"), MAX_ACCOUNTS).err().unwrap();
            assert!(why.contains("line 3") && why.contains("*. and one"), "{text}: {why}");
        }
        let directory = tempfile::tempdir().unwrap();
        assert!(List::read(directory.path()).err().unwrap().contains("not a file"));
        let path = directory.path().join("list");
        assert!(List::read(&path).err().unwrap().contains("cannot be read"));
        fs::write(&path, "a.near\n").unwrap();
        assert_eq!(List::read(&path).unwrap().len(), 1);
        fs::write(&path, [0xff]).unwrap();
        assert!(List::read(&path).err().unwrap().contains("cannot be read"));
        File::options().write(true).open(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(List::read(&path).err().unwrap().contains("at most"));
    }

    #[test]
    fn so_many_accounts_and_no_more() {
        let mut text = (0..1_000).map(|n| format!("u{n}.near")).collect::<Vec<_>>().join("\n");
        let list = List::parse(&text, 1_000).unwrap();
        assert!(list.len() == 1_000 && list.contains("u999.near") && !list.contains("u1000.near"));
        text.push_str("\none.more");
        assert!(List::parse(&text, 1_000).err().unwrap().contains("more than 1000"));
    }
}
