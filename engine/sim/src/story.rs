//! What happened in the life of a seed, as lines that a person can read.
use keyshard_shard::{CryptoHash, Execution, Known, Level, News, Query, Reply, Status};

/// Lines of a story that are told.
const LINES_MAX: usize = 240;

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

    /// Whether it is written down.
    pub fn is_wanted(&self) -> bool {
        self.wanted
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
        let lines: Vec<Line> = self.lines.iter().filter(concerns).cloned().collect();
        if lines.len() <= LINES_MAX {
            return lines;
        }
        // The same over and over: the beginning and the end say it.
        let left_out = lines.len() - LINES_MAX;
        let gap =
            Line { at: lines[LINES_MAX * 3 / 4].at, what: format!("... {left_out} lines ..."), payments: Vec::new() };
        let (start, end) = (&lines[..LINES_MAX * 3 / 4], &lines[lines.len() - LINES_MAX / 4..]);
        [start, &[gap], end].concat()
    }
}

/// The first letters of a hash.
pub(crate) fn short(hash: &CryptoHash) -> String {
    hash.to_string().chars().take(6).collect()
}

/// A question, in a few words.
pub(crate) fn question(query: &Query) -> String {
    match query {
        Query::Status { hash, wait, avoid } => {
            format!("how far {} is, waits for {}{}", short(hash), wait.as_str(), avoiding(avoid.bits()))
        }
        Query::Fate { hash, avoid, .. } => format!("the fate of {}{}", short(hash), avoiding(avoid.bits())),
        Query::Registration { account } => format!("whether {account} is registered"),
        Query::TokenBalance => "how many tokens are left".into(),
        Query::Allowance { least, most } => format!("for {least} to {most} of the limit"),
    }
}

/// Endpoints that are better not asked.
pub(crate) fn avoiding(bits: u32) -> String {
    let endpoints: Vec<String> = (0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| bit.to_string()).collect();
    if endpoints.is_empty() { String::new() } else { format!(", not endpoint {}", endpoints.join(" or ")) }
}

/// An answer, in a few words.
pub(crate) fn answer(reply: &Reply) -> String {
    match reply {
        Reply::Lost { why } => format!("nothing ({why})"),
        Reply::NotSent { why, .. } => format!("nothing, and nothing left ({why})"),
        Reply::Refused { refusal, endpoint } => format!("endpoint {endpoint} refuses: {refusal:?}"),
        Reply::Status { status, endpoint } => format!("endpoint {endpoint}: {}", of(status)),
        Reply::Fate(fate) => {
            let known = match &fate.known {
                Known::Yes(status) => of(status),
                Known::No => "unknown".into(),
                Known::Untracked => "cannot say".into(),
            };
            let key = fate.key_nonce.map_or("is gone".into(), |nonce| format!("is at nonce {nonce}"));
            format!(
                "endpoint {}: the key {key} at final block {}, the transaction: {known}; remembers from block {}",
                fate.endpoint, fate.final_height, fate.earliest_height
            )
        }
        Reply::Registration(registered) => format!("registered: {registered}"),
        Reply::Allowance(units) => format!("{units} of the limit"),
        Reply::NoAllowance { retry_after, .. } => format!("nothing of the limit for {retry_after:?}"),
        Reply::TokenBalance(balance) => format!("{balance} tokens"),
        Reply::TokenUnavailable(why) => format!("no token: {why}"),
    }
}

fn of(status: &Status) -> String {
    let level = status.level.map_or("NONE", Level::as_str);
    match &status.execution {
        Execution::Pending => format!("{level}, has not run"),
        Execution::Success => format!("{level}, success"),
        Execution::Failed { index, failure } => format!("{level}, action {index:?} failed: {failure:?}"),
        Execution::Invalid(why) => format!("{level}, invalid: {why}"),
    }
}

/// News, in a few words.
pub(crate) fn news(news: &News) -> String {
    match news {
        News::Accepted => "accepted".into(),
        News::Signed { hash, batch, .. } => format!("signed into {} ({batch})", short(hash)),
        News::Reached { level } => format!("reached {}", level.as_str()),
        News::Finalized => "FINALIZED".into(),
        News::Failed { reason } => format!("FAILED: {reason}"),
        News::Delayed { reason } => format!("delayed: {reason}"),
    }
}
