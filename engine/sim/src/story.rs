//! What happened in the life of a seed, as lines that a person can read.
use keyshard_shard::CryptoHash;

/// One line.
#[derive(Debug, Clone)]
pub struct Line {
    /// Microseconds since the beginning.
    pub at: u64,
    /// What happened.
    pub what: String,
    /// The payments that it concerns; none: all of them.
    pub payments: Vec<usize>,
}

/// The lines so far; none unless they are wanted.
#[derive(Debug, Default)]
pub struct Story {
    wanted: bool,
    /// The time of what happens now.
    pub now: u64,
    lines: Vec<Line>,
}

impl Story {
    /// A story; nothing is written down unless it is wanted.
    pub fn new(wanted: bool) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Writes down what concerns all.
    pub fn note(&mut self, what: impl FnOnce() -> String) {
        self.note_of(&[], what);
    }

    /// Writes down what concerns these payments.
    pub fn note_of(&mut self, payments: &[usize], what: impl FnOnce() -> String) {
        if self.wanted {
            self.lines.push(Line { at: self.now, what: what(), payments: payments.to_vec() });
        }
    }

    /// The lines that concern any of these payments; all lines if there are none.
    pub fn about(&self, payments: &[usize]) -> Vec<Line> {
        let concerns = |line: &&Line| {
            payments.is_empty() || line.payments.is_empty() || line.payments.iter().any(|it| payments.contains(it))
        };
        self.lines.iter().filter(concerns).cloned().collect()
    }
}

/// The first letters of a hash.
pub fn short(hash: &CryptoHash) -> String {
    hash.to_string().chars().take(6).collect()
}
