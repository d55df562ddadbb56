//! `GET /transfers`: all transfers, the newest first, a page at a time.
use http::StatusCode;
use keyshard_engine::{Filter, JobStatus, Page};
use serde::Serialize;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::{
    json::{Answer, error, json},
    service::Service,
    transfers::{JobView, starting},
};

/// Transfers on a page, if the client does not say.
const LIMIT: usize = 50;
/// Most transfers on a page.
const LIMIT_MAX: usize = 500;
/// Pages that are made at the same time: each takes a thread, and up to some tens of milliseconds of it. Others wait for their turn.
const AT_ONCE: usize = 2;
/// What a cursor begins with: its version.
const CURSOR: &str = "c1";

const BAD_LIMIT: &str = "limit must be a whole number from 1 to 500";
const BAD_STATUS: &str = "status must be one of queued, processing, submitted, finalized, failed";
const BAD_RECEIVER: &str = "receiver must be a NEAR account id";
const BAD_CURSOR: &str = "cursor must be the nextCursor of an earlier answer, as it was";

/// The turns.
static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Query {
    filter: Filter,
    limit: usize,
    /// The page begins below this id.
    before: Option<Uuid>,
}

/// Answers one request.
pub(crate) async fn listing(service: &Service, query: &str) -> Answer {
    let query = match Query::parse(query) {
        Ok(query) => query,
        Err(why) => return error(StatusCode::BAD_REQUEST, &why),
    };
    let Some(engine) = service.engine().cloned() else { return starting() };
    let Ok(turn) = TURNS.acquire().await else { return starting() };
    // It reads the disk: other requests of this thread are not to wait for that.
    let made = tokio::task::spawn_blocking(move || {
        let page = engine.list(&query.filter, query.limit, query.before);
        drop(turn);
        answer(page)
    });
    made.await.unwrap_or_else(|_| error(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"))
}

fn answer(page: Page) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        transfers: Vec<JobView>,
        next_cursor: Option<String>,
    }
    let next_cursor = page.next.map(|id| format!("{CURSOR}{}", id.simple()));
    json(StatusCode::OK, &Body { transfers: page.jobs.into_iter().map(JobView).collect(), next_cursor })
}

impl Query {
    /// The error is for the client.
    fn parse(text: &str) -> Result<Self, String> {
        let (mut limit, mut before, mut filter) = (None, None, Filter::default());
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            let given_before = match &*name {
                "limit" => {
                    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                    let number = value.parse().ok().filter(|number| digits && (1..=LIMIT_MAX).contains(number));
                    limit.replace(number.ok_or(BAD_LIMIT)?).is_some()
                }
                "cursor" => before.replace(cursor(&value).ok_or(BAD_CURSOR)?).is_some(),
                "status" => filter.status.replace(status(&value).ok_or(BAD_STATUS)?).is_some(),
                "receiver" => filter.receiver.replace(value.parse().map_err(|_| BAD_RECEIVER)?).is_some(),
                _ => return Err("unknown parameter: there are status, receiver, limit and cursor".to_owned()),
            };
            if given_before {
                return Err(format!("{name} is given more than once"));
            }
        }
        Ok(Self { filter, limit: limit.unwrap_or(LIMIT), before })
    }
}

fn status(word: &str) -> Option<JobStatus> {
    use JobStatus::{Failed, Finalized, Processing, Queued, Submitted};
    [Queued, Processing, Submitted, Finalized, Failed].into_iter().find(|status| status.as_str() == word)
}

fn cursor(text: &str) -> Option<Uuid> {
    let digits = text.strip_prefix(CURSOR).filter(|digits| digits.len() == uuid::fmt::Simple::LENGTH)?;
    Uuid::try_parse(digits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let id = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001);
        let nothing = || Query { filter: Filter::default(), limit: LIMIT, before: None };
        let read = |text: &str| Query::parse(text).unwrap();
        assert_eq!(read(""), nothing());
        assert_eq!(read("&&"), nothing());
        assert_eq!(read("limit=500"), Query { limit: 500, ..nothing() });
        let query = read(&format!("receiver=alice.near&status=failed&limit=1&cursor=c1{}", id.simple()));
        let filter = Filter { status: Some(JobStatus::Failed), receiver: Some("alice.near".parse().unwrap()) };
        assert_eq!(query, Query { filter, limit: 1, before: Some(id) });
    }

    #[test]
    fn bad_queries_are_told_what_is_wrong() {
        for (text, why) in [
            ("limit=0", BAD_LIMIT),
            ("limit=501", BAD_LIMIT),
            ("limit=", BAD_LIMIT),
            ("limit=+5", BAD_LIMIT),
            ("limit=5.0", BAD_LIMIT),
            ("limit=99999999999999999999", BAD_LIMIT),
            ("status=", BAD_STATUS),
            ("status=Failed", BAD_STATUS),
            ("receiver=", BAD_RECEIVER),
            ("receiver=A", BAD_RECEIVER),
            ("receiver=%ff", BAD_RECEIVER),
            ("cursor=", BAD_CURSOR),
            ("cursor=c1", BAD_CURSOR),
            ("cursor=c2019200000000700080000000000000001", BAD_CURSOR),
            ("cursor=c101920000-0000-7000-8000-0000000001", BAD_CURSOR),
            ("cursor=c1%00", BAD_CURSOR),
            ("limit=1&limit=1", "limit is given more than once"),
            ("reciever=a.near", "unknown parameter: there are status, receiver, limit and cursor"),
            ("=", "unknown parameter: there are status, receiver, limit and cursor"),
        ] {
            assert_eq!(Query::parse(text), Err(why.to_owned()), "{text}");
        }
    }
}
