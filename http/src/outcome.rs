//! What a client of `POST /send-ft` is told of its transfers: 200 executed, 202 still open, 500 failed.
use http::{HeaderValue, StatusCode, header};
use keyshard_engine::{Job, JobStatus};
use serde::Serialize;
use uuid::Uuid;

use crate::{
    json::{Answer, Iso, json},
    transfers::Digits,
};

/// What became of the transfers of one request.
pub(crate) struct Outcome<'a> {
    /// In request order; `None` if the engine has forgotten it.
    pub(crate) jobs: &'a [Option<Job>],
    pub(crate) ids: &'a [Uuid],
    /// Whether the outcome of at least one is still open.
    pub(crate) open: bool,
}

/// One transfer of a batch.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry<'a> {
    job_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiver_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Digits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memo: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction_hash: Option<&'a str>,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    submitted_at: Option<Iso>,
    /// Why it failed, or is not settled yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// The Node service's word for a hash that it does not know.
const NO_HASH: &str = "unknown";
/// The Node service's word for an execution status that it was not told.
const NO_EXECUTION_STATUS: &str = "submitted";

impl Outcome<'_> {
    /// 200, 202 or 500; a 500 carries a `debug` object in a sandbox.
    pub(crate) fn answer(&self, sandbox: bool) -> Answer {
        if self.open {
            return self.processing();
        }
        let failed = self.jobs.iter().flatten().find(|job| job.status == JobStatus::Failed);
        match (failed, self.jobs) {
            (Some(failed), _) => self.failed(failed, sandbox),
            (None, [Some(job)]) => single(job),
            (None, _) => self.batch(),
        }
    }

    /// 200 for all but one transfer.
    fn batch(&self) -> Answer {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            success: bool,
            job_ids: &'a [Uuid],
            transaction_hash: &'a str,
            transfers: usize,
            #[serde(skip_serializing_if = "Option::is_none")]
            batch_id: Option<&'a str>,
            results: Vec<Entry<'a>>,
            message: String,
        }
        let first = self.jobs.first().and_then(Option::as_ref);
        let results = self.entries(|job| job.execution_status.unwrap_or(NO_EXECUTION_STATUS), |_| None);
        let body = Body {
            success: true,
            job_ids: self.ids,
            transaction_hash: first.and_then(|job| job.tx_hash.as_deref()).unwrap_or(NO_HASH),
            transfers: self.jobs.len(),
            batch_id: first.and_then(|job| job.batch_id.as_deref()),
            results,
            message: format!("FT transfers executed successfully (batch size {})", self.jobs.len()),
        };
        json(StatusCode::OK, &body)
    }

    /// 202: accepted, and not yet known how it ends.
    fn processing(&self) -> Answer {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            success: bool,
            status: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            job_id: Option<Uuid>,
            #[serde(skip_serializing_if = "Option::is_none")]
            job_ids: Option<&'a [Uuid]>,
            results: Vec<Entry<'a>>,
            message: String,
        }
        let single = match self.ids {
            [id] => Some(*id),
            _ => None,
        };
        let failed = self.jobs.iter().flatten().filter(|job| job.status == JobStatus::Failed).count();
        let failures = if failed == 0 { String::new() } else { format!(" {failed} of them failed.") };
        let body = Body {
            success: true,
            status: "processing",
            job_id: single,
            job_ids: single.is_none().then_some(self.ids),
            results: self.entries(|job| job.status.as_str(), |job| job.last_error.as_deref()),
            message: format!(
                "Accepted {} and still processing: do not send again, ask GET /transfer/<jobId>.{failures}",
                if single.is_some() { "1 transfer".to_owned() } else { format!("{} transfers", self.ids.len()) },
            ),
        };
        let mut answer = json(StatusCode::ACCEPTED, &body);
        // Of several transfers, the first is where to begin.
        let first = self.ids.first().and_then(|id| HeaderValue::try_from(format!("/transfer/{id}")).ok());
        if let Some(location) = first {
            answer.headers_mut().insert(header::LOCATION, location);
        }
        answer
    }

    /// 500: at least one failed for good, and nothing is open.
    fn failed(&self, failed: &Job, sandbox: bool) -> Answer {
        #[derive(Serialize)]
        struct Debug<'a> {
            code: Option<&'a str>,
            errno: Option<&'a str>,
            message: &'a str,
            r#type: &'static str,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            error: &'static str,
            details: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            debug: Option<Debug<'a>>,
            job_ids: &'a [Uuid],
            results: Vec<Entry<'a>>,
        }
        let details = failed.last_error.as_deref().unwrap_or("Unknown error occurred during transaction processing");
        let body = Body {
            error: "Failed to initiate FT transfer",
            details,
            debug: sandbox.then_some(Debug { code: None, errno: None, message: details, r#type: "Error" }),
            job_ids: self.ids,
            results: self.entries(|job| job.status.as_str(), |job| job.last_error.as_deref()),
        };
        json(StatusCode::INTERNAL_SERVER_ERROR, &body)
    }

    fn entries<'b>(&'b self, status: fn(&'b Job) -> &'b str, error: fn(&'b Job) -> Option<&'b str>) -> Vec<Entry<'b>> {
        let entry = |(id, job): (&Uuid, &'b Option<Job>)| match job {
            Some(job) => Entry {
                job_id: *id,
                receiver_id: Some(job.receiver.as_str()),
                amount: Some(Digits(job.amount)),
                memo: job.memo.as_deref(),
                transaction_hash: job.tx_hash.as_deref(),
                status: status(job),
                batch_id: job.batch_id.as_deref(),
                submitted_at: job.submitted_at_ms.map(Iso),
                error: error(job),
            },
            None => Entry {
                job_id: *id,
                receiver_id: None,
                amount: None,
                memo: None,
                transaction_hash: None,
                status: "unknown",
                batch_id: None,
                submitted_at: None,
                error: Some("settled, but too long ago to be remembered (HISTORY_RETENTION)"),
            },
        };
        self.ids.iter().zip(self.jobs).map(entry).collect()
    }
}

/// 200 for one transfer.
fn single(job: &Job) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        success: bool,
        job_id: Uuid,
        transaction_hash: &'a str,
        receiver_id: &'a str,
        amount: Digits,
        status: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        batch_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        submitted_at: Option<Iso>,
        message: &'static str,
    }
    let body = Body {
        success: true,
        job_id: job.id,
        transaction_hash: job.tx_hash.as_deref().unwrap_or(NO_HASH),
        receiver_id: job.receiver.as_str(),
        amount: Digits(job.amount),
        status: job.execution_status.unwrap_or(NO_EXECUTION_STATUS),
        batch_id: job.batch_id.as_deref(),
        submitted_at: job.submitted_at_ms.map(Iso),
        message: "FT transfer executed successfully",
    };
    json(StatusCode::OK, &body)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header::CONTENT_TYPE};
    use http_body_util::BodyExt as _;

    use super::*;

    fn job(n: u128, status: JobStatus) -> Job {
        Job {
            id: Uuid::from_u128(n),
            created_at_ms: 0,
            status,
            receiver: format!("user{n}.near").parse().unwrap(),
            amount: 1_000,
            memo: (n == 2).then(|| "m".into()),
            attempts: 1,
            batch_id: Some(format!("batch-1760381234567-{n}").into()),
            last_error: (status == JobStatus::Failed).then(|| format!("why {n}").into()),
            tx_hash: Some(format!("HASH{n}").into()),
            submitted_at_ms: Some(1_760_381_234_567),
            updated_at_ms: 0,
            key: None,
            execution_status: Some("FINAL"),
        }
    }

    #[tokio::main(flavor = "current_thread")]
    async fn shown(jobs: &[Option<Job>], open: bool, sandbox: bool) -> (u16, String, HeaderMap) {
        let ids: Vec<Uuid> = (1..=jobs.len() as u128).map(Uuid::from_u128).collect();
        let answer = Outcome { jobs, ids: &ids, open }.answer(sandbox);
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status.as_u16(), String::from_utf8(body.to_vec()).unwrap(), head.headers)
    }

    const ID1: &str = "00000000-0000-0000-0000-000000000001";
    const ID2: &str = "00000000-0000-0000-0000-000000000002";

    #[test]
    fn one_executed() {
        let (status, body, headers) = shown(&[Some(job(1, JobStatus::Finalized))], false, true);
        assert_eq!(status, 200);
        assert_eq!(headers[CONTENT_TYPE], "application/json; charset=utf-8");
        assert_eq!(
            body,
            format!(
                r#"{{"success":true,"jobId":"{ID1}","transactionHash":"HASH1","receiverId":"user1.near","amount":"1000","status":"FINAL","batchId":"batch-1760381234567-1","submittedAt":"2025-10-13T18:47:14.567Z","message":"FT transfer executed successfully"}}"#
            )
        );
    }

    #[test]
    fn two_executed() {
        let (status, body, _) =
            shown(&[Some(job(1, JobStatus::Finalized)), Some(job(2, JobStatus::Submitted))], false, false);
        assert_eq!(status, 200);
        assert_eq!(
            body,
            format!(
                r#"{{"success":true,"jobIds":["{ID1}","{ID2}"],"transactionHash":"HASH1","transfers":2,"batchId":"batch-1760381234567-1","results":[{{"jobId":"{ID1}","receiverId":"user1.near","amount":"1000","transactionHash":"HASH1","status":"FINAL","batchId":"batch-1760381234567-1","submittedAt":"2025-10-13T18:47:14.567Z"}},{{"jobId":"{ID2}","receiverId":"user2.near","amount":"1000","memo":"m","transactionHash":"HASH2","status":"FINAL","batchId":"batch-1760381234567-2","submittedAt":"2025-10-13T18:47:14.567Z"}}],"message":"FT transfers executed successfully (batch size 2)"}}"#
            )
        );
    }

    #[test]
    fn none_asked_for() {
        let (status, body, _) = shown(&[], false, false);
        assert_eq!(status, 200);
        assert_eq!(
            body,
            r#"{"success":true,"jobIds":[],"transactionHash":"unknown","transfers":0,"results":[],"message":"FT transfers executed successfully (batch size 0)"}"#
        );
    }

    #[test]
    fn one_of_two_failed() {
        let jobs = [Some(job(1, JobStatus::Finalized)), Some(job(2, JobStatus::Failed))];
        let (status, body, _) = shown(&jobs, false, false);
        assert_eq!(status, 500);
        let start = format!(
            r#"{{"error":"Failed to initiate FT transfer","details":"why 2","jobIds":["{ID1}","{ID2}"],"results":[{{"jobId":"{ID1}","#
        );
        assert!(body.starts_with(&start), "{body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["results"][0]["status"], "finalized");
        assert_eq!(body["results"][1]["status"], "failed");
        assert_eq!(body["results"][1]["error"], "why 2");
        let (_, body, _) = shown(&jobs, false, true);
        assert!(
            body.contains(r#""details":"why 2","debug":{"code":null,"errno":null,"message":"why 2","type":"Error"},"#)
        );
    }

    #[test]
    fn one_still_open() {
        let mut open = job(1, JobStatus::Queued);
        (open.tx_hash, open.batch_id, open.submitted_at_ms) = (None, None, None);
        let (status, body, headers) = shown(&[Some(open)], true, false);
        assert_eq!(status, 202);
        assert_eq!(headers[header::LOCATION], format!("/transfer/{ID1}").as_str());
        assert_eq!(
            body,
            format!(
                r#"{{"success":true,"status":"processing","jobId":"{ID1}","results":[{{"jobId":"{ID1}","receiverId":"user1.near","amount":"1000","status":"queued"}}],"message":"Accepted 1 transfer and still processing: do not send again, ask GET /transfer/<jobId>."}}"#
            )
        );
    }

    #[test]
    fn open_beside_failed_and_forgotten() {
        let jobs = [Some(job(1, JobStatus::Failed)), Some(job(2, JobStatus::Processing)), None];
        let (status, body, headers) = shown(&jobs, true, false);
        assert_eq!(status, 202);
        assert_eq!(headers[header::LOCATION], format!("/transfer/{ID1}").as_str());
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["jobIds"].as_array().unwrap().len(), 3);
        let statuses: Vec<_> =
            body["results"].as_array().unwrap().iter().map(|entry| entry["status"].as_str().unwrap()).collect();
        assert_eq!(statuses, ["failed", "processing", "unknown"]);
        assert!(body["message"].as_str().unwrap().ends_with("1 of them failed."), "{body}");
    }
}
