//! JSON bodies and the times in them.
use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use http::{HeaderValue, Response, StatusCode, header};
use serde::{Serialize, Serializer};

use crate::content::Content;

/// Any answer.
pub(crate) type Answer = Response<Content>;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// An answer with this JSON body.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    match serde_json::to_vec(body) {
        Ok(bytes) => answer(status, JSON, bytes),
        Err(error) => {
            tracing::error!(%error, "cannot write an answer as JSON");
            answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                JSON,
                Bytes::from_static(b"{\"error\":\"Internal Server Error\"}"),
            )
        }
    }
}

/// An answer `{"error": ...}`.
pub(crate) fn error(status: StatusCode, error: &str) -> Answer {
    #[derive(Serialize)]
    struct Body<'a> {
        error: &'a str,
    }
    json(status, &Body { error })
}

/// An answer with any body.
pub(crate) fn answer(status: StatusCode, content_type: HeaderValue, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Content::whole(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, content_type);
    answer
}

/// Milliseconds since the Unix epoch, shown as `2025-10-13T18:47:14.567Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Iso(pub(crate) u64);

impl Iso {
    pub(crate) fn now() -> Self {
        Self(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
    }
}

impl fmt::Display for Iso {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = i64::try_from(self.0).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
        f.write_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl Serialize for Iso {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Iso;

    #[test]
    fn times_are_iso_with_milliseconds() {
        for (ms, shown) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_760_381_234_567, "2025-10-13T18:47:14.567Z"),
            (1_709_164_800_007, "2024-02-29T00:00:00.007Z"),
        ] {
            assert_eq!(Iso(ms).to_string(), shown);
        }
    }
}
