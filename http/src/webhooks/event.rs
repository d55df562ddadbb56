//! An event as it goes over the wire, and its signature.
use aws_lc_rs::hmac;
use bytes::Bytes;
use keyshard_engine::{Job, JobStatus, history::Settled};
use serde::Serialize;

use crate::{json::Iso, transfers::JobView};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its name: the same each time it is sent.
    pub(super) id: String,
    pub(super) body: Bytes,
}

/// The secret that is shared with the receiver. Shows nothing of it.
#[derive(Clone)]
pub(crate) struct Secret(hmac::Key);

impl Event {
    /// That of a transfer that has settled.
    pub(super) fn of(settled: Settled) -> Self {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            id: &'a str,
            r#type: &'static str,
            created_at: Iso,
            data: JobView,
        }
        let job = Job::from(settled);
        let id = format!("evt_{}", job.id);
        let kind = if job.status == JobStatus::Failed { "transfer.failed" } else { "transfer.finalized" };
        let body = Body { id: &id, r#type: kind, created_at: Iso(job.updated_at_ms), data: JobView(job) };
        // Strings and numbers cannot fail to be written.
        let body = serde_json::to_vec(&body).unwrap_or_default().into();
        Self { id, body }
    }
}

impl Secret {
    pub(super) fn new(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    /// `t=<unix seconds>,v1=<HMAC-SHA256 of "<t>.<body>" in hex>`
    pub(super) fn signature(&self, unix_seconds: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{unix_seconds}.").as_bytes());
        context.update(body);
        let mut text = format!("t={unix_seconds},v1=");
        for byte in context.sign().as_ref() {
            text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or_default());
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or_default());
        }
        text
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use keyshard_shard::{BatchId, Carried, CryptoHash, Instant, Transfer, TransferId};

    use super::*;

    #[test]
    fn an_event_says_what_get_transfer_says() {
        let settled = Settled {
            transfer: Transfer {
                id: TransferId(0x0192_86f1_2345_7abc_8def_0123_4567_89ab),
                receiver: "user.near".parse().unwrap(),
                amount: u128::MAX,
                memo: Some("a\"b".into()),
                key: None,
            },
            accepted_at: Instant::from_micros(1_760_381_234_567_000),
            settled_at: Instant::from_micros(1_760_381_235_000_000),
            outcome: Ok(()),
            carried: Some(Carried {
                hash: CryptoHash::default(),
                batch: BatchId { at: Instant::from_micros(1_760_381_234_600_000), number: 1 },
                position: 0,
            }),
            tried: Vec::new(),
        };
        let event = Event::of(settled.clone());
        assert_eq!(event.id, "evt_019286f1-2345-7abc-8def-0123456789ab");
        assert_eq!(
            String::from_utf8(event.body.to_vec()).unwrap(),
            r#"{"id":"evt_019286f1-2345-7abc-8def-0123456789ab","type":"transfer.finalized","createdAt":"2025-10-13T18:47:15.000Z","data":{"id":"019286f1-2345-7abc-8def-0123456789ab","createdAt":"2025-10-13T18:47:14.567Z","status":"finalized","receiverId":"user.near","amount":"340282366920938463463374607431768211455","memo":"a\"b","attempts":1,"batchId":"batch-1760381234600-1","txHash":"11111111111111111111111111111111","updatedAt":"2025-10-13T18:47:15.000Z","submittedAt":"2025-10-13T18:47:14.600Z"}}"#
        );
        assert_eq!(Event::of(settled.clone()), event);
        let failed = Event::of(Settled { outcome: Err("why".into()), ..settled });
        let body: serde_json::Value = serde_json::from_slice(&failed.body).unwrap();
        assert_eq!((&body["type"], &body["data"]["lastError"]), (&"transfer.failed".into(), &"why".into()));
    }

    #[test]
    fn the_signature_is_the_hmac_of_time_and_body() {
        let secret = Secret::new(b"0123456789abcdef");
        // printf '1760381235.{}' | openssl dgst -sha256 -hmac 0123456789abcdef
        assert_eq!(
            secret.signature(1_760_381_235, b"{}"),
            "t=1760381235,v1=da0fa3ca1ebedad9ee626436cb198a2c8ec7b1fd69ffe9ca8de3c94db2b31a78"
        );
        assert_ne!(secret.signature(1_760_381_236, b"{}"), secret.signature(1_760_381_235, b"{}"));
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
