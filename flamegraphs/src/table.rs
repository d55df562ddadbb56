//! The hottest functions of each role.
use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
};

use crate::{folded::Folded, names, role::Role};

/// One function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hot {
    /// Its short name.
    pub name: String,
    /// Samples in which it was on the CPU.
    pub itself: u64,
    /// Samples in which it was on the stack: itself and what it calls.
    pub with_callees: u64,
}

/// What a role spends its time on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hottest {
    /// Whose.
    pub role: Role,
    /// All samples of its threads.
    pub samples: u64,
    /// By [`Hot::itself`], highest first.
    pub by_itself: Vec<Hot>,
    /// This project's own, by [`Hot::with_callees`], highest first.
    pub own: Vec<Hot>,
}

/// The `most` hottest functions of each role that has any samples.
pub fn hottest(folded: &Folded, most: usize) -> Vec<Hottest> {
    Role::ALL
        .into_iter()
        .map(|role| of_role(role, &folded.of_role(role), most))
        .filter(|hottest| hottest.samples > 0)
        .collect()
}

fn of_role(role: Role, folded: &Folded, most: usize) -> Hottest {
    let mut functions: HashMap<&str, (u64, u64)> = HashMap::new();
    for (stack, count) in folded.stacks() {
        let frames: Vec<&str> = stack.split(';').skip(1).collect();
        if let Some(innermost) = frames.last() {
            functions.entry(innermost).or_default().0 += count;
        }
        // A function that calls itself is on the stack once.
        for frame in frames.into_iter().collect::<HashSet<_>>() {
            functions.entry(frame).or_default().1 += count;
        }
    }
    let all: Vec<Hot> = functions
        .into_iter()
        .map(|(name, (itself, with_callees))| Hot { name: name.to_owned(), itself, with_callees })
        .collect();
    let first = |mut hot: Vec<Hot>, key: fn(&Hot) -> u64| {
        hot.retain(|hot| key(hot) > 0);
        hot.sort_by(|a, b| key(b).cmp(&key(a)).then_with(|| a.name.cmp(&b.name)));
        hot.truncate(most);
        hot
    };
    let own = all.iter().filter(|hot| names::is_own(&hot.name)).cloned().collect();
    Hottest {
        role,
        samples: folded.samples(),
        by_itself: first(all, |hot| hot.itself),
        own: first(own, |hot| hot.with_callees),
    }
}

/// As Markdown. Shares are of the role's own samples.
pub fn markdown(tables: &[Hottest]) -> String {
    let total: u64 = tables.iter().map(|table| table.samples).sum();
    let mut text = String::new();
    for Hottest { role, samples, by_itself, own } in tables {
        let _ = writeln!(text, "### {role}: {samples} samples, {} of all\n", percent(*samples, total));
        rows(&mut text, "on the CPU itself", by_itself, *samples);
        rows(&mut text, "own code, with what it calls", own, *samples);
    }
    text
}

fn rows(text: &mut String, what: &str, hot: &[Hot], samples: u64) {
    if hot.is_empty() {
        return;
    }
    let _ = writeln!(text, "| itself | with callees | {what} |\n|---:|---:|---|");
    for Hot { name, itself, with_callees } in hot {
        let name = name.replace('|', "\\|");
        let _ = writeln!(text, "| {} | {} | `{name}` |", percent(*itself, samples), percent(*with_callees, samples));
    }
    text.push('\n');
}

fn percent(part: u64, of: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / of.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDED: &str = "\
http-0;main;keyshard::serve;memcpy 6
http-0;main;keyshard::serve 1
http-1;main;keyshard::serve;memcpy 2
http-1;main;idle 1
shard-0;main;keyshard_shard::f;keyshard_shard::g;keyshard_shard::f 3
shard-0;main;keyshard_shard::f;sign 7
";

    #[test]
    fn counts() {
        let tables = hottest(&Folded::parse(FOLDED).unwrap(), 2);
        let hot = |name: &str, itself, with_callees| Hot { name: name.into(), itself, with_callees };
        assert_eq!(
            tables,
            [
                Hottest {
                    role: Role::Http,
                    samples: 10,
                    by_itself: vec![hot("memcpy", 8, 8), hot("idle", 1, 1)],
                    own: vec![hot("keyshard::serve", 1, 9)],
                },
                Hottest {
                    role: Role::Shard,
                    samples: 10,
                    by_itself: vec![hot("sign", 7, 7), hot("keyshard_shard::f", 3, 10)],
                    own: vec![hot("keyshard_shard::f", 3, 10), hot("keyshard_shard::g", 0, 3)],
                },
            ]
        );
    }

    #[test]
    fn as_markdown() {
        let text = markdown(&hottest(&Folded::parse(FOLDED).unwrap(), 1));
        assert!(
            text.starts_with("### http: 10 samples, 50.0 % of all\n\n| itself | with callees | on the CPU itself |\n")
        );
        assert!(text.contains("\n| 80.0 % | 80.0 % | `memcpy` |\n"), "{text}");
        assert!(text.contains("\n| 30.0 % | 100.0 % | `keyshard_shard::f` |\n"), "{text}");
    }
}
