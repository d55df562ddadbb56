//! What can be asked: `/health`, transfers by id and by transaction, `/metrics/*`.
use http::StatusCode;
use keyshard_engine::{Batching, Engine, Job};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap as _, SerializeStruct as _},
};
use uuid::Uuid;

use crate::{
    idempotency,
    json::{Answer, Iso, answer, error, json},
    metrics, mock,
    service::Service,
};

/// Longest `#i` of an item: a body holds fewer than a million.
const ITEM_BYTES: usize = 8;
/// Length of the longest base58 hash of 32 bytes.
const MAX_HASH: usize = 44;

/// `GET /health`: alive, whatever NEAR does. What keeps transfers from going out is named beside it.
pub(crate) fn health(service: &Service) -> Answer {
    #[derive(Serialize)]
    struct Condition {
        name: &'static str,
        detail: String,
    }
    #[derive(Serialize)]
    struct Body {
        status: &'static str,
        timestamp: Iso,
        #[serde(skip_serializing_if = "Option::is_none")]
        mock: Option<&'static str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        conditions: Vec<Condition>,
    }
    let conditions = service.engine().map(|engine| engine.health().conditions).unwrap_or_default();
    let conditions = conditions.into_iter().map(|c| Condition { name: c.name, detail: c.detail }).collect();
    let mock = service.http().mock.then_some(mock::NOTICE);
    json(StatusCode::OK, &Body { status: "ok", timestamp: Iso::now(), mock, conditions })
}

/// `GET /transfer/:jobId`
pub(crate) fn job(service: &Service, id: &str) -> Answer {
    let Some(id) = parse_id(id) else { return job_answer(None) };
    // Without the engine nothing is known: "not found" would invite a second payment.
    let Some(engine) = service.engine() else { return starting() };
    job_answer(engine.job(id))
}

/// `GET /transfer/key/:key`: by the name that its client gave it.
pub(crate) fn by_key(service: &Service, name: &str) -> Answer {
    // Any other name was never accepted. That of an item is longer than what a client may give.
    if name.is_empty() || name.len() > idempotency::MAX_BYTES + ITEM_BYTES {
        return job_answer(None);
    }
    let Some(engine) = service.engine() else { return starting() };
    job_answer(engine.job_by_key(name))
}

/// `GET /transfer/tx/:txHash`
pub(crate) fn transaction(service: &Service, hash: &str) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        success: bool,
        transaction_hash: &'a str,
        transfers: Vec<Carried<'a>>,
    }
    let not_found = || error(StatusCode::NOT_FOUND, "Transaction not found");
    if hash.is_empty() || hash.len() > MAX_HASH || !hash.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return not_found();
    }
    let Some(engine) = service.engine() else { return starting() };
    let jobs = engine.jobs_by_hash(hash);
    if jobs.is_empty() {
        return not_found();
    }
    let transfers = jobs.iter().map(|job| Carried::of(job, hash)).collect();
    json(StatusCode::OK, &Body { success: true, transaction_hash: hash, transfers })
}

/// `GET /metrics/jobs`
pub(crate) fn counts(service: &Service) -> Answer {
    struct Counts<'a>(Option<&'a Engine>);
    impl Serialize for Counts<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            for (status, count) in self.0.map(metrics::by_status).into_iter().flatten() {
                if count > 0 {
                    map.serialize_entry(status.as_str(), &count)?;
                }
            }
            map.end()
        }
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        success: bool,
        counts: Counts<'a>,
        uptime_ms: u64,
        timestamp: Iso,
    }
    let uptime_ms = service.shared.started.elapsed().as_millis() as u64;
    let body = Body { success: true, counts: Counts(service.engine()), uptime_ms, timestamp: Iso::now() };
    json(StatusCode::OK, &body)
}

/// `GET /metrics/batching`
pub(crate) fn batching(service: &Service) -> Answer {
    #[derive(Serialize)]
    struct Body {
        success: bool,
        batching: BatchingView,
        timestamp: Iso,
    }
    let numbers = service.engine().map_or_else(
        || Batching { linger_ms: service.http().batch_window_ms, ..Batching::default() },
        Engine::batching,
    );
    json(StatusCode::OK, &Body { success: true, batching: BatchingView(numbers), timestamp: Iso::now() })
}

/// `GET /metrics`
pub(crate) fn metrics(service: &Service) -> Answer {
    let shared = &service.shared;
    let connections = shared.connections.load(std::sync::atomic::Ordering::Relaxed);
    let (since, mock, access) = (shared.started_at.0, shared.http.mock, &shared.http.access);
    let page = metrics::page(&shared.stats, service.engine(), connections, since, mock, access, &shared.webhooks);
    answer(StatusCode::OK, metrics::CONTENT_TYPE, page)
}

fn job_answer(job: Option<Job>) -> Answer {
    #[derive(Serialize)]
    struct Body {
        success: bool,
        job: JobView,
    }
    match job {
        Some(job) => json(StatusCode::OK, &Body { success: true, job: JobView(job) }),
        None => error(StatusCode::NOT_FOUND, "Job not found"),
    }
}

/// Only the form that ids are given out in.
pub(crate) fn parse_id(text: &str) -> Option<Uuid> {
    if text.len() == uuid::fmt::Hyphenated::LENGTH { Uuid::try_parse(text).ok() } else { None }
}

pub(crate) fn starting() -> Answer {
    error(StatusCode::SERVICE_UNAVAILABLE, "Service is starting, please retry later")
}

/// A transfer as `GET /transfer/:jobId` shows it.
pub(crate) struct JobView(pub(crate) Job);

impl Serialize for JobView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let job = &self.0;
        let mut view = serializer.serialize_struct("Job", 13)?;
        view.serialize_field("id", &job.id)?;
        view.serialize_field("createdAt", &Iso(job.created_at_ms))?;
        view.serialize_field("status", job.status.as_str())?;
        view.serialize_field("receiverId", job.receiver.as_str())?;
        view.serialize_field("amount", &Digits(job.amount))?;
        if let Some(memo) = &job.memo {
            view.serialize_field("memo", memo)?;
        }
        view.serialize_field("attempts", &job.attempts)?;
        if let Some(batch) = &job.batch_id {
            view.serialize_field("batchId", &**batch)?;
        }
        if let Some(error) = &job.last_error {
            view.serialize_field("lastError", error)?;
        }
        if let Some(hash) = &job.tx_hash {
            view.serialize_field("txHash", &**hash)?;
        }
        view.serialize_field("updatedAt", &Iso(job.updated_at_ms))?;
        if let Some(at) = job.submitted_at_ms {
            view.serialize_field("submittedAt", &Iso(at))?;
        }
        if let Some(key) = &job.key {
            view.serialize_field("idempotencyKey", key)?;
        }
        view.end()
    }
}

/// A transfer as `GET /transfer/tx/:txHash` shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Carried<'a> {
    job_id: Uuid,
    receiver_id: &'a str,
    amount: Digits,
    #[serde(skip_serializing_if = "Option::is_none")]
    memo: Option<&'a str>,
    status: &'static str,
    /// The transaction that carried it last, if that is not the one asked about: this one did not pay it.
    #[serde(skip_serializing_if = "Option::is_none")]
    tx_hash: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    submitted_at: Option<Iso>,
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<&'a str>,
}

impl<'a> Carried<'a> {
    fn of(job: &'a Job, asked: &str) -> Self {
        Self {
            job_id: job.id,
            receiver_id: job.receiver.as_str(),
            amount: Digits(job.amount),
            memo: job.memo.as_deref(),
            status: job.status.as_str(),
            tx_hash: job.tx_hash.as_deref().filter(|hash| *hash != asked),
            batch_id: job.batch_id.as_deref(),
            submitted_at: job.submitted_at_ms.map(Iso),
            attempts: job.attempts,
            last_error: job.last_error.as_deref(),
        }
    }
}

/// Token units as a JSON string: JavaScript numbers would lose digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digits(pub(crate) u128);

impl Serialize for Digits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The numbers as `GET /metrics/batching` shows them.
struct BatchingView(Batching);

impl Serialize for BatchingView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let numbers = &self.0;
        let average = if numbers.batches == 0 { 0.0 } else { numbers.transfers as f64 / numbers.batches as f64 };
        let percent = if numbers.max_batch == 0 { 0.0 } else { average / numbers.max_batch as f64 * 100.0 };
        // Halves go up, as in JavaScript's toFixed.
        let efficiency = format!("{:.1}%", (percent * 10.0).round() / 10.0);
        let mut view = serializer.serialize_struct("Batching", 9)?;
        view.serialize_field("totalRequests", &numbers.transfers)?;
        view.serialize_field("batchesSent", &numbers.batches)?;
        if average.fract() == 0.0 {
            view.serialize_field("avgBatchSize", &(average as u64))?;
        } else {
            view.serialize_field("avgBatchSize", &average)?;
        }
        view.serialize_field("currentBatchSize", &numbers.waiting)?;
        view.serialize_field("hasPendingBatch", &(numbers.waiting > 0))?;
        view.serialize_field("batchEfficiency", &efficiency)?;
        view.serialize_field("batchWindowMs", &numbers.linger_ms)?;
        view.serialize_field("maxBatchSize", &numbers.max_batch)?;
        view.serialize_field(
            "description",
            "Request batching efficiency metrics - higher batchEfficiency indicates better throughput optimization",
        )?;
        view.end()
    }
}

#[cfg(test)]
mod tests {
    use keyshard_engine::JobStatus;

    use super::*;

    pub(crate) fn job(status: JobStatus) -> Job {
        Job {
            id: Uuid::from_u128(7),
            created_at_ms: 1_760_381_234_567,
            status,
            receiver: "alice.near".parse().unwrap(),
            amount: u128::MAX,
            memo: None,
            attempts: 0,
            batch_id: None,
            last_error: None,
            tx_hash: None,
            submitted_at_ms: None,
            updated_at_ms: 1_760_381_234_568,
            key: None,
            execution_status: None,
        }
    }

    #[test]
    fn a_transaction_that_did_not_pay_names_the_one_that_did() {
        let paid = Job { tx_hash: Some("2".into()), ..job(JobStatus::Finalized) };
        let told = |asked| serde_json::to_value(Carried::of(&paid, asked)).unwrap();
        assert_eq!(told("1")["txHash"], "2");
        assert_eq!(told("2").get("txHash"), None);
    }

    #[test]
    fn a_fresh_job() {
        assert_eq!(
            serde_json::to_string(&JobView(job(JobStatus::Queued))).unwrap(),
            r#"{"id":"00000000-0000-0000-0000-000000000007","createdAt":"2025-10-13T18:47:14.567Z","status":"queued","receiverId":"alice.near","amount":"340282366920938463463374607431768211455","attempts":0,"updatedAt":"2025-10-13T18:47:14.568Z"}"#
        );
    }

    #[test]
    fn a_full_job() {
        let job = Job {
            memo: Some("a\"b".into()),
            attempts: 2,
            batch_id: Some("batch-1-2".into()),
            last_error: Some("why".into()),
            tx_hash: Some("HASH".into()),
            submitted_at_ms: Some(0),
            key: Some("run 7#3".into()),
            ..job(JobStatus::Failed)
        };
        assert_eq!(
            serde_json::to_string(&Carried::of(&job, job.tx_hash.as_deref().unwrap_or_default())).unwrap(),
            r#"{"jobId":"00000000-0000-0000-0000-000000000007","receiverId":"alice.near","amount":"340282366920938463463374607431768211455","memo":"a\"b","status":"failed","batchId":"batch-1-2","submittedAt":"1970-01-01T00:00:00.000Z","attempts":2,"lastError":"why"}"#
        );
        let view = serde_json::to_string(&JobView(job)).unwrap();
        assert!(view.ends_with(
            r#""memo":"a\"b","attempts":2,"batchId":"batch-1-2","lastError":"why","txHash":"HASH","updatedAt":"2025-10-13T18:47:14.568Z","submittedAt":"1970-01-01T00:00:00.000Z","idempotencyKey":"run 7#3"}"#
        ), "{view}");
    }

    #[test]
    fn batching_numbers() {
        for (transfers, batches, max_batch, shown) in [
            (0, 0, 15, r#""avgBatchSize":0,"currentBatchSize":3,"hasPendingBatch":true,"batchEfficiency":"0.0%""#),
            (30, 2, 15, r#""avgBatchSize":15,"currentBatchSize":3,"hasPendingBatch":true,"batchEfficiency":"100.0%""#),
            (5, 2, 40, r#""avgBatchSize":2.5,"currentBatchSize":3,"hasPendingBatch":true,"batchEfficiency":"6.3%""#),
            (5, 2, 0, r#""avgBatchSize":2.5,"currentBatchSize":3,"hasPendingBatch":true,"batchEfficiency":"0.0%""#),
        ] {
            let numbers = Batching { transfers, batches, waiting: 3, max_batch, linger_ms: 600, ..Batching::default() };
            let text = serde_json::to_string(&BatchingView(numbers)).unwrap();
            assert!(text.starts_with(&format!(r#"{{"totalRequests":{transfers},"batchesSent":{batches},"#)), "{text}");
            assert!(text.contains(shown), "{text}");
            assert!(
                text.contains(&format!(r#""batchWindowMs":600,"maxBatchSize":{max_batch},"description":"Request b"#))
            );
        }
    }

    #[test]
    fn ids_have_one_form() {
        let id = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        assert_eq!(parse_id(id).unwrap().to_string(), id);
        for other in ["x", "tx", "", "67e5504410b1426f9247bb680e5fe0c8", "{67e55044-10b1-426f-9247-bb680e5fe0c8}"] {
            assert_eq!(parse_id(other), None, "{other}");
        }
    }
}
