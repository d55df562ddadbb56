//! What the service says became of transfers that it accepted and that the chain does not show.
use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::task::JoinSet;

use crate::{load::Log, script::Script, stand::Service};

/// Most transfers that are asked for at a time: enough to tell why some are missing.
const MAX_ASKED: usize = 20_000;
/// Questions under way at a time, and how long each may take.
const AT_ONCE: usize = 16;
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a service says of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// It will never be paid.
    Failed,
    /// It is under way.
    Open,
    /// It was paid: `finalized`.
    Paid,
    /// It knows no such transfer, or says something else.
    Unknown,
}

/// What was asked so far, by the transfer's number.
#[derive(Debug, Default)]
pub struct Jobs {
    known: HashMap<u64, Job>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ids {
    job_id: Option<String>,
    job_ids: Option<Vec<String>>,
}

impl Jobs {
    /// What the service said of this transfer, if it was asked.
    pub fn of(&self, number: u64) -> Option<Job> {
        self.known.get(&number).copied()
    }
}

/// Whether an answer names the jobs that it is about.
pub fn has_ids(body: &[u8]) -> bool {
    !ids(body).is_empty()
}

fn ids(body: &[u8]) -> Vec<String> {
    let Ok(Ids { job_id, job_ids }) = serde_json::from_slice(body) else { return Vec::new() };
    job_ids.unwrap_or_else(|| job_id.into_iter().collect())
}

/// Asks for the transfers with these numbers, in ascending order.
pub async fn ask(service: &Service, script: &Script, log: &Log, numbers: &[u64], jobs: &mut Jobs) {
    let Ok(client) = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build() else { return };
    let base: Arc<str> = service.url.trim_end_matches('/').into();
    let mut asked = JoinSet::new();
    let mut names = (0, Vec::new());
    for number in numbers.iter().take(MAX_ASKED) {
        let request = script.request_of(*number);
        if names.1.is_empty() || names.0 != request {
            names = (request, log.kept.get(&request).map(|body| ids(body)).unwrap_or_default());
        }
        let place = (number - script.numbers(request).start) as usize;
        let Some(id) = names.1.get(place).cloned() else { continue };
        if asked.len() >= AT_ONCE
            && let Some(Ok((number, job))) = asked.join_next().await
        {
            jobs.known.insert(number, job);
        }
        let (client, base, number) = (client.clone(), Arc::clone(&base), *number);
        asked.spawn(async move { (number, look_up(&client, &base, &id).await) });
    }
    while let Some(found) = asked.join_next().await {
        if let Ok((number, job)) = found {
            jobs.known.insert(number, job);
        }
    }
    // Who was not asked is not lost for that.
    for number in numbers.iter().skip(MAX_ASKED) {
        jobs.known.entry(*number).or_insert(Job::Open);
    }
}

async fn look_up(client: &reqwest::Client, base: &str, id: &str) -> Job {
    #[derive(Deserialize)]
    struct Body {
        job: Status,
    }
    #[derive(Deserialize)]
    struct Status {
        status: String,
    }
    let Ok(answer) = client.get(format!("{base}/transfer/{id}")).send().await else { return Job::Unknown };
    let Ok(body) = answer.json::<Body>().await else { return Job::Unknown };
    match body.job.status.as_str() {
        "failed" => Job::Failed,
        "finalized" => Job::Paid,
        "queued" | "processing" | "submitted" => Job::Open,
        _ => Job::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_answers() {
        for (body, found) in [
            (r#"{"success":true,"jobId":"a","status":"processing"}"#, &["a"][..]),
            (r#"{"success":true,"jobIds":["a","b"],"results":[]}"#, &["a", "b"]),
            (r#"{"error":"Failed to initiate FT transfer","details":"x"}"#, &[]),
            (r#"{"jobIds":"no list"}"#, &[]),
            ("<html>", &[]),
        ] {
            assert_eq!(ids(body.as_bytes()), found, "{body}");
            assert_eq!(has_ids(body.as_bytes()), !found.is_empty());
        }
    }
}
