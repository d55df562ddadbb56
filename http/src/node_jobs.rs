//! The Node service's `jobs.jsonl`: its lines folded into jobs, as the Node service folds them at its start.
//!
//! `create` replaces a job, `update` changes the fields it names; one of a job that was never created makes a part of a
//! job. Beyond that, every transaction hash that a job ever had is kept: the last is not the only one that may have paid.
use std::{
    collections::HashMap,
    io::{self, BufRead, Read as _},
};

use near_primitives::hash::CryptoHash;
use serde::Deserialize;
use serde_json::Value;

/// Longest line: a job takes a few hundred bytes, an error text in it at most some thousand.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Most jobs: about 500 bytes of memory each.
const MAX_JOBS: usize = 10_000_000;
/// Most hashes kept of one job: the Node service gives up after `JOB_MAX_ATTEMPTS`.
const MAX_HASHES: usize = 64;
/// Most malformed lines that are named.
const MAX_NAMED: usize = 1_000;

/// One job, as far as the file tells.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct NodeJob {
    pub(crate) id: String,
    /// `None` if its creation is not in the file, or not whole.
    pub(crate) status: Option<String>,
    pub(crate) created_at: Option<String>,
    pub(crate) receiver: Option<String>,
    pub(crate) amount: Option<String>,
    /// Any JSON: the Node service never looked.
    pub(crate) memo: Option<Value>,
    pub(crate) attempts: Option<u64>,
    pub(crate) batch_id: Option<String>,
    pub(crate) last_error: Option<String>,
    /// Every transaction that the file ever gave it, the last one last.
    pub(crate) hashes: Vec<CryptoHash>,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(crate) struct NodeFile {
    /// In the order in which they first appear.
    pub(crate) jobs: Vec<NodeJob>,
    /// Lines read, empty ones left out.
    pub(crate) lines: u64,
    /// How many of them say nothing.
    pub(crate) malformed: u64,
    /// Numbers of the first of those, from 1.
    pub(crate) malformed_lines: Vec<u64>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    action: Action,
    #[serde(default)]
    job: Option<Fields>,
    #[serde(default, rename = "jobId")]
    job_id: Option<String>,
    #[serde(default)]
    patch: Option<Fields>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Create,
    Update,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    id: Option<String>,
    status: Option<String>,
    created_at: Option<String>,
    receiver_id: Option<String>,
    amount: Option<String>,
    memo: Option<Value>,
    attempts: Option<u64>,
    batch_id: Option<String>,
    last_error: Option<String>,
    tx_hash: Option<String>,
}

/// Reads and folds a whole file. An error is of the file system, or there are too many jobs.
pub(crate) fn read(mut file: impl BufRead) -> io::Result<NodeFile> {
    let mut found = NodeFile::default();
    let mut places = HashMap::new();
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let read = file.by_ref().take(MAX_LINE_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(found);
        }
        number += 1;
        let too_long = line.len() > MAX_LINE_BYTES && line.last() != Some(&b'\n');
        if too_long {
            file.skip_until(b'\n')?;
        }
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        found.lines += 1;
        let parsed = if too_long { None } else { parse(text) };
        let Some((id, action, fields)) = parsed else {
            found.malformed += 1;
            if found.malformed_lines.len() < MAX_NAMED {
                found.malformed_lines.push(number);
            }
            continue;
        };
        let place = *places.entry(id).or_insert_with_key(|id| {
            found.jobs.push(NodeJob { id: id.clone(), ..NodeJob::default() });
            found.jobs.len() - 1
        });
        if found.jobs.len() > MAX_JOBS {
            return Err(io::Error::other(format!("it holds more than {MAX_JOBS} jobs: split it")));
        }
        found.jobs[place].fold(&action, fields);
    }
}

fn parse(text: &[u8]) -> Option<(String, Action, Fields)> {
    let line: Line = serde_json::from_slice(text).ok()?;
    if line.kind != "job" {
        return None;
    }
    let (id, fields) = match line.action {
        Action::Create => {
            let mut job = line.job?;
            (job.id.take()?, job)
        }
        Action::Update => (line.job_id?, line.patch?),
    };
    Some((id, line.action, fields))
}

impl NodeJob {
    fn fold(&mut self, action: &Action, fields: Fields) {
        if matches!(action, Action::Create) {
            let (id, hashes) = (std::mem::take(&mut self.id), std::mem::take(&mut self.hashes));
            *self = Self { id, hashes, ..Self::default() };
        }
        let Fields { id: _, status, created_at, receiver_id, amount, memo, attempts, batch_id, last_error, tx_hash } =
            fields;
        let merge = |field: &mut Option<String>, value: Option<String>| {
            if value.is_some() {
                *field = value;
            }
        };
        merge(&mut self.status, status);
        merge(&mut self.created_at, created_at);
        merge(&mut self.receiver, receiver_id);
        merge(&mut self.amount, amount);
        merge(&mut self.batch_id, batch_id);
        merge(&mut self.last_error, last_error);
        self.memo = memo.or(self.memo.take());
        self.attempts = attempts.or(self.attempts);
        // "unknown" and the hashes of its mock mode are none.
        if let Some(hash) = tx_hash.and_then(|hash| hash.parse::<CryptoHash>().ok()) {
            self.hashes.retain(|known| *known != hash);
            self.hashes.push(hash);
            if self.hashes.len() > MAX_HASHES {
                self.hashes.remove(0);
            }
        }
    }

    /// The memo as the Node service passed it on, empty if there was none; `None` if it is no text, which no token takes.
    pub(crate) fn memo_text(&self) -> Option<&str> {
        self.memo.as_ref().map_or(Some(""), Value::as_str)
    }

    /// Its batch without the `-part<k>` of one that took several transactions.
    pub(crate) fn batch(&self) -> Option<&str> {
        let batch = self.batch_id.as_deref()?;
        match batch.rsplit_once("-part") {
            Some((batch, part)) if part.bytes().all(|byte| byte.is_ascii_digit()) => Some(batch),
            _ => Some(batch),
        }
    }

    /// When its last batch was begun, in Unix milliseconds, and the batch's number: from `batch-<ms>-<n>`.
    pub(crate) fn batch_time(&self) -> Option<(u64, u64)> {
        let (at, number) = self.batch()?.strip_prefix("batch-")?.split_once('-')?;
        Some((at.parse().ok()?, number.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const H1: &str = "8nSEn5Jd5HW2RhJUzEjXKVdLdJnbXyU5FTzcpLGCGcuW";
    const H2: &str = "BqPcMszZXwZWiwcZ32Q7Q1UZZtaYEkjmEf6zeJVUnCzU";

    fn file(lines: &[&str]) -> NodeFile {
        read(lines.join("\n").as_bytes()).unwrap()
    }

    #[test]
    fn lines_are_folded_as_the_node_service_does() {
        let again = format!(
            r#"{{"type":"job","action":"update","jobId":"a","patch":{{"status":"submitted","txHash":"{H2}","batchId":"batch-1760381234600-9-part2"}}}}"#
        );
        let sent = format!(
            r#"{{"type":"job","action":"update","jobId":"a","patch":{{"status":"submitted","txHash":"{H1}","batchId":"batch-1760381234567-1"}}}}"#
        );
        let file = file(&[
            r#"{"type":"job","action":"create","job":{"id":"a","createdAt":"2025-10-13T18:47:14.567Z","status":"queued","receiverId":"alice.near","amount":"7","memo":"m","attempts":0,"new":[1]}}"#,
            r#"{"type":"job","action":"create","job":{"id":"b","createdAt":"2025-10-13T18:47:14.567Z","status":"queued","receiverId":"bob.near","amount":"8","attempts":0}}"#,
            r#"{"type":"job","action":"update","jobId":"a","patch":{"status":"processing","attempts":1,"batchId":"batch-1760381234567-1"}}"#,
            &sent,
            r#"{"type":"job","action":"update","jobId":"b","patch":{"status":"failed","lastError":"fetch failed","updatedAt":"x"}}"#,
            &again,
            r#"{"type":"job","action":"update","jobId":"c","patch":{"status":"finalized","txHash":"unknown"}}"#,
            "",
        ]);
        assert_eq!((file.lines, file.malformed, file.jobs.len()), (7, 0, 3));
        let [a, b, c] = &file.jobs[..] else { panic!("{file:?}") };
        assert_eq!(a.status.as_deref(), Some("submitted"));
        assert_eq!(
            (a.receiver.as_deref(), a.amount.as_deref(), a.memo_text()),
            (Some("alice.near"), Some("7"), Some("m"))
        );
        assert_eq!(a.hashes, [H1, H2].map(|hash| hash.parse().unwrap()), "both may have paid");
        assert_eq!((a.batch(), a.batch_time()), (Some("batch-1760381234600-9"), Some((1_760_381_234_600, 9))));
        assert_eq!((b.status.as_deref(), b.last_error.as_deref()), (Some("failed"), Some("fetch failed")));
        assert_eq!((b.memo_text(), b.batch(), b.attempts), (Some(""), None, Some(0)));
        assert_eq!((c.receiver.as_deref(), c.status.as_deref(), c.hashes.len()), (None, Some("finalized"), 0));
    }

    #[test]
    fn a_second_creation_replaces_all_but_the_hashes() {
        let created = |amount: &str, more: &str| {
            format!(
                r#"{{"type":"job","action":"create","job":{{"id":"a","status":"queued","amount":"{amount}"{more}}}}}"#
            )
        };
        let (first, second) = (created("1", &format!(r#","memo":"m","txHash":"{H1}""#)), created("2", ""));
        let job = file(&[&first, &second]).jobs.remove(0);
        assert_eq!((job.amount.as_deref(), job.memo.clone(), job.hashes.len()), (Some("2"), None, 1));
    }

    #[test]
    fn malformed_lines_are_counted_and_named() {
        let long = format!(
            r#"{{"type":"job","action":"update","jobId":"a","patch":{{"status":"{}"}}}}"#,
            "x".repeat(MAX_LINE_BYTES)
        );
        let good = r#"{"type":"job","action":"update","jobId":"a","patch":{"status":"queued"}}"#;
        let file = file(&[
            "{",
            good,
            "[]",
            r#"{"type":"other","action":"create","job":{"id":"b"}}"#,
            r#"{"type":"job","action":"delete","jobId":"a"}"#,
            r#"{"type":"job","action":"create","job":{"status":"queued"}}"#,
            r#"{"type":"job","action":"update","patch":{"status":"queued"}}"#,
            &long,
            r#"{"type":"job","action":"update","jobId":"a","patch":{"status":7}}"#,
            good,
            r#"{"type":"job","action":"create","job":{"id":"c","stat"#,
        ]);
        assert_eq!(file.malformed_lines, [1, 3, 4, 5, 6, 7, 8, 9, 11]);
        assert_eq!((file.malformed, file.lines, file.jobs.len()), (9, 11, 1));
    }
}
