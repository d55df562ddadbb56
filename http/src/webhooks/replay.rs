//! `POST /admin/webhooks/replay`: events go into the outbox of the running service once more.
use chrono::DateTime;
use http::StatusCode;
use keyshard_engine::{Engine, history::Replay};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::json::{Answer, Iso, error, json};

const UNCLEAR: &str = "Bad Request: send {\"dead\":true}, {\"since\":\"2026-11-24T10:00:00Z\"} (or like \"36h\"), or {\"id\":\"<jobId>\"}";

/// Which events: one of these.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    dead: Option<bool>,
    since: Option<String>,
    id: Option<Uuid>,
}

/// A time, from now or from the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    At(u64),
    Ago(u64),
}

impl Since {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some((number, unit)) = text.split_at_checked(text.len().saturating_sub(1)) {
            let seconds = match unit {
                "m" => 60,
                "h" => 3_600,
                "d" => 86_400,
                _ => 0,
            };
            if seconds > 0
                && let Ok(number) = number.parse::<u32>()
            {
                return Ok(Self::Ago(u64::from(number) * seconds * 1_000));
            }
        }
        // Nothing has settled before 1970.
        let time = DateTime::parse_from_rfc3339(text).map(|time| u64::try_from(time.timestamp_millis()).unwrap_or(0));
        time.map(Self::At).map_err(|_| "a time is like 2026-11-24T10:00:00Z, 36h or 2d".to_owned())
    }

    pub(super) fn ms(self, now_ms: u64) -> u64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(ms) => now_ms.saturating_sub(ms),
        }
    }
}

/// Answers with how many events that are.
pub(crate) async fn replay(engine: &Engine, body: &[u8]) -> Answer {
    #[derive(Serialize)]
    struct Body {
        success: bool,
        events: u64,
    }
    let now = Iso::now().0;
    let Some(which) = which(body, now) else { return error(StatusCode::BAD_REQUEST, UNCLEAR) };
    let outbox = engine.outbox();
    if !outbox.is_served() {
        return error(StatusCode::CONFLICT, "Webhooks are not configured: set WEBHOOK_URL. Nothing was changed");
    }
    // It may be all of the history.
    match tokio::task::spawn_blocking(move || outbox.replay(which, now)).await {
        Ok(0) if matches!(which, Replay::Of(_)) => error(StatusCode::NOT_FOUND, "No such job has settled"),
        Ok(events) => {
            tracing::warn!(events, "webhook events are sent once more");
            json(StatusCode::OK, &Body { success: true, events })
        }
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
    }
}

fn which(body: &[u8], now_ms: u64) -> Option<Replay> {
    // The parser takes arrays for objects, too.
    if !body.trim_ascii_start().starts_with(b"{") {
        return None;
    }
    match serde_json::from_slice(body).ok()? {
        Asked { dead: Some(true), since: None, id: None } => Some(Replay::Dead),
        Asked { dead: None, since: Some(since), id: None } => {
            Some(Replay::Since(Since::parse(&since).ok()?.ms(now_ms)))
        }
        Asked { dead: None, since: None, id: Some(id) } => Some(Replay::Of(id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(Since::parse("1970-01-01T00:00:02Z"), Ok(Since::At(2_000)));
        assert_eq!(Since::parse("1970-01-01T02:00:02.5+02:00"), Ok(Since::At(2_500)));
        assert_eq!(Since::parse("36h").unwrap().ms(200_000_000), 200_000_000 - 129_600_000);
        assert_eq!((Since::parse("5m"), Since::parse("2d")), (Ok(Since::Ago(300_000)), Ok(Since::Ago(172_800_000))));
        assert_eq!(Since::parse("1969-01-01T00:00:00Z"), Ok(Since::At(0)));
        assert_eq!(Since::parse("9999d").unwrap().ms(5), 0);
        for bad in ["", "x", "-1h", "1", "h", "é", "2026-11-24"] {
            assert!(Since::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_asked_for() {
        let id = Uuid::from_u128(7);
        for (body, expected) in [
            (r#"{"dead":true}"#.to_owned(), Some(Replay::Dead)),
            (r#" {"since":"1h"} "#.to_owned(), Some(Replay::Since(4_000))),
            (format!(r#"{{"id":"{id}"}}"#), Some(Replay::Of(id))),
            (r#"{"dead":false}"#.to_owned(), None),
            (r#"{"dead":true,"since":"1h"}"#.to_owned(), None),
            (r#"{"since":"x"}"#.to_owned(), None),
            (r#"{"id":"x"}"#.to_owned(), None),
            (r#"{"all":true}"#.to_owned(), None),
            ("{}".to_owned(), None),
            ("[true,null,null]".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(which(body.as_bytes(), 3_604_000), expected, "{body}");
        }
    }
}
