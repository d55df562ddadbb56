//! Folded stacks: one line a stack, `thread;outermost;..;innermost 12`.
use std::{collections::BTreeMap, fmt::Write as _};

use crate::{names, role::Role};

/// Most stacks that are read: a minute of every sample a different one, on a hundred cores.
const MAX_STACKS: usize = 1_500_000;

/// How often each stack was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folded {
    stacks: BTreeMap<String, u64>,
}

/// A text that is not folded stacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldedError {
    /// This line (from 1) is not `stack count`.
    #[error("line {0} is not a stack, a space and a count")]
    Line(usize),
    /// More than any session makes.
    #[error("more than {MAX_STACKS} different stacks")]
    TooLong,
}

impl Folded {
    /// Reads what a sampler wrote, with names shortened. Empty lines are skipped.
    pub fn parse(text: &str) -> Result<Self, FoldedError> {
        let mut folded = Self::default();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            let error = FoldedError::Line(index + 1);
            let Some((stack, count)) = line.rsplit_once(' ') else { return Err(error) };
            let Ok(count) = count.parse() else { return Err(error) };
            if stack.is_empty() {
                return Err(error);
            }
            let mut frames = stack.split(';');
            let mut short = frames.next().unwrap_or_default().to_owned();
            for frame in frames {
                short.push(';');
                short.push_str(&names::short(frame));
            }
            folded.add(short, count);
            if folded.stacks.len() > MAX_STACKS {
                return Err(FoldedError::TooLong);
            }
        }
        Ok(folded)
    }

    /// Counts a stack once more, or `count` times.
    pub fn add(&mut self, stack: String, count: u64) {
        let sum = self.stacks.entry(stack).or_insert(0);
        *sum = sum.saturating_add(count);
    }

    /// The stacks of the threads of one role.
    #[must_use]
    pub fn of_role(&self, role: Role) -> Self {
        let own = |stack: &String| Role::of_thread(stack.split(';').next().unwrap_or_default()) == role;
        Self { stacks: self.stacks.iter().filter(|(stack, _)| own(stack)).map(|(s, n)| (s.clone(), *n)).collect() }
    }

    /// Each stack: its thread first, then its functions from the outermost on; and how often it was seen.
    pub fn stacks(&self) -> impl Iterator<Item = (&str, u64)> {
        self.stacks.iter().map(|(stack, count)| (stack.as_str(), *count))
    }

    /// All samples.
    pub fn samples(&self) -> u64 {
        self.stacks.values().sum()
    }

    /// Functions in the longest stack; the thread is not one.
    pub fn depth(&self) -> usize {
        self.stacks.keys().map(|stack| stack.split(';').count() - 1).max().unwrap_or(0)
    }

    /// As text, in the order of the stacks.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (stack, count) in &self.stacks {
            let _ = writeln!(text, "{stack} {count}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_split_by_role() {
        let text = "http-0;main;a::b::c::d 2\nhttp-1;main;a::b::c::d 1\n\nshard-0;x y 3\nshard-0;x y 4\n";
        let folded = Folded::parse(text).unwrap();
        assert_eq!(folded.samples(), 10);
        assert_eq!(folded.depth(), 2);
        assert_eq!(folded.of_role(Role::Shard).stacks().collect::<Vec<_>>(), [("shard-0;x y", 7)]);
        assert_eq!(folded.of_role(Role::Http).samples(), 3);
        assert_eq!(folded.of_role(Role::Journal), Folded::default());
        assert_eq!(Folded::parse(&folded.to_text()), Ok(folded));
    }

    #[test]
    fn what_is_not_folded_is_refused() {
        for (text, line) in [("a;b", 1), ("a;b 1\n\na;b x", 3), (" 3", 1), ("a -1", 1), ("<html>", 1)] {
            assert_eq!(Folded::parse(text), Err(FoldedError::Line(line)), "{text}");
        }
    }
}
