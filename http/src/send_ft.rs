//! `POST /send-ft`: takes a request, hands its transfers to the engine, waits for them and tells what became of them.
use std::sync::atomic::Ordering::Relaxed;

use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use keyshard_engine::{Denied, Job, Refused, Spent};
use serde::Serialize;

use crate::{
    access::{self, Key},
    body::{self, BodyError},
    idempotency,
    inflate::Coding,
    json::{Answer, error, json},
    outcome::Outcome,
    prefer::Prefer,
    service::{Rejected, Service},
    validate::{self, Invalid},
};

/// When an overloaded client is advised to come back.
const RETRY_AFTER_SECONDS: u32 = 5;
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Answers one request, made with this API key if they are asked for.
pub(crate) async fn send_ft(service: &Service, request: Request<Incoming>, key: Option<&Key>) -> Answer {
    // With a key it is not the page that a browser vouches for.
    if key.is_none() && !service.http().cors.may_pay(request.headers()) {
        let text = "Forbidden: pages of this origin may not pay here; nothing of this request was accepted. Add the origin to \
                    CORS_ALLOW_ORIGINS";
        return access::without_body(service, request, error(StatusCode::FORBIDDEN, text)).await;
    }
    let prefer = Prefer::of(request.headers());
    let transfers = match read(service, request).await {
        Ok(request) => request.transfers,
        Err(refusal) => return *refusal,
    };
    if transfers.is_empty() {
        return Outcome { jobs: &[], ids: &[], open: false }.answer(service.http().sandbox);
    }
    let requested = transfers.len();
    let (engine, ticket) = match service.submit(transfers, key) {
        Ok(accepted) => accepted,
        Err(rejected) => return refused(service, &rejected, requested),
    };
    service.stats.active.fetch_add(1, Relaxed);
    let _active = Active(service);
    let limit = service.http().request_timeout;
    let in_time = tokio::select! {
        biased;
        () = ticket.answerable() => true,
        () = tokio::time::sleep(prefer.patience(limit)) => false,
        () = service.closing() => false,
    };
    if !in_time {
        // A 202 promises that the transfers are not forgotten.
        ticket.durable().await;
    }
    let jobs: Vec<Option<Job>> = ticket.ids().iter().map(|id| engine.job(*id)).collect();
    let settled = |job: &Option<Job>| job.as_ref().is_some_and(|job| job.status.is_settled());
    let forgotten = jobs.iter().any(Option::is_none);
    let open = forgotten || (!in_time && !jobs.iter().all(settled));
    let mut answer = Outcome { jobs: &jobs, ids: ticket.ids(), open }.answer(service.http().sandbox);
    if open && let Some(applied) = prefer.applied() {
        answer.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    if ticket.replayed() {
        let (name, value) = idempotency::replayed();
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// Counts a request as active while it lives, also if its client goes away.
struct Active<'a>(&'a Service);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.stats.active.fetch_sub(1, Relaxed);
    }
}

/// The content types that are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    UrlEncoded,
    /// None is named, which is right for an empty body only.
    Unnamed,
}

/// Reads and validates the body.
async fn read(service: &Service, request: Request<Incoming>) -> Result<validate::Request, Box<Answer>> {
    let form = match form(request.headers()) {
        Ok(Form::Unnamed) if !request.body().is_end_stream() => {
            return Err(Box::new(unsupported("send Content-Type: application/json")));
        }
        Ok(form) => form,
        Err(why) => return Err(Box::new(unsupported(why))),
    };
    let coding = Coding::of(request.headers()).map_err(|why| Box::new(unsupported(why)))?;
    let name = idempotency::of_request(request.headers());
    let mut body = body::read(service, request.into_body()).await.map_err(|why| Box::new(no_body(service, why)))?;
    if let Some(coding) = coding {
        body = body::unpack(body, coding).await.map_err(|why| Box::new(no_body(service, why)))?;
    }
    let account = &service.http().account;
    let read = match form {
        Form::Json | Form::Unnamed => validate::json(&body.bytes, account),
        Form::UrlEncoded => validate::form(&body.bytes, account),
    };
    let mut request = read.map_err(|invalid| {
        Box::new(match invalid {
            Invalid::Request(text) => error(StatusCode::BAD_REQUEST, text),
            Invalid::Syntax(why) => {
                error(StatusCode::BAD_REQUEST, &format!("Bad Request: the body cannot be read: {why}"))
            }
            Invalid::TooManyFields => error(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large: too many parameters"),
        })
    })?;
    let bad = |why: &str| Box::new(error(StatusCode::BAD_REQUEST, why));
    let name = name.map_err(bad)?;
    idempotency::name(&mut request.transfers, name.as_deref()).map_err(|why| bad(&why))?;
    Ok(request)
}

fn form(headers: &HeaderMap) -> Result<Form, &'static str> {
    let Some(text) = headers.get(header::CONTENT_TYPE) else { return Ok(Form::Unnamed) };
    let text = text.to_str().map_err(|_| "send Content-Type: application/json")?;
    let mut parts = text.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    if !charset.is_none_or(|charset| charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")) {
        return Err("send the body in UTF-8");
    }
    if kind.eq_ignore_ascii_case("application/json") {
        Ok(Form::Json)
    } else if kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        Ok(Form::UrlEncoded)
    } else {
        Err("send Content-Type: application/json")
    }
}

/// The body is not read: the connection cannot be used again.
fn unsupported(why: &str) -> Answer {
    closing(error(StatusCode::UNSUPPORTED_MEDIA_TYPE, &format!("Unsupported Media Type: {why}")))
}

fn no_body(service: &Service, why: BodyError) -> Answer {
    closing(match why {
        BodyError::TooLarge => {
            let limit = body::MAX_BYTES;
            error(StatusCode::PAYLOAD_TOO_LARGE, &format!("Payload Too Large: the limit is {limit} bytes"))
        }
        BodyError::Slow => error(StatusCode::REQUEST_TIMEOUT, "Request Timeout: the body did not arrive in time"),
        BodyError::Broken => error(StatusCode::BAD_REQUEST, "Bad Request: the body broke off"),
        BodyError::Corrupt => error(
            StatusCode::BAD_REQUEST,
            "Bad Request: the body is not compressed as Content-Encoding says, or breaks off",
        ),
        BodyError::Busy => {
            service.stats.rejected.fetch_add(1, Relaxed);
            let details = "Too many large requests at once; nothing of this request was accepted";
            unavailable(service, "Service overloaded, please retry later", details)
        }
    })
}

fn closing(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(header::CONNECTION, CLOSE);
    answer
}

/// The same name for something else: neither the old nor the new transfer can be meant with certainty.
fn reused(name: &str) -> Answer {
    let text = format!(
        "Idempotency key {name:?} was used for another transfer; nothing of this request was accepted. Repeat the first \
         request as it was, or take a new key for a new transfer"
    );
    error(StatusCode::UNPROCESSABLE_ENTITY, &text)
}

/// For every reason not to accept a valid request: 422, or the 503 of the contract.
fn refused(service: &Service, rejected: &Rejected, requested: usize) -> Answer {
    if matches!(rejected, Rejected::Starting | Rejected::Refused(Refused::Full { .. } | Refused::Draining)) {
        service.stats.rejected.fetch_add(1, Relaxed);
    }
    match rejected {
        Rejected::Refused(Refused::Full { pending, requested, limit }) => {
            let details =
                format!("Pending transfer backlog is full ({pending} pending, requested {requested}, limit {limit})");
            overload_body("Service overloaded, please retry later", &details, *pending, *limit)
        }
        Rejected::Refused(Refused::KeyReused { name }) => reused(name),
        Rejected::Refused(Refused::Unwanted { receiver, why }) => access::unwanted(receiver, why),
        Rejected::Refused(Refused::Denied(denied)) => over_limit(denied),
        Rejected::Refused(Refused::TooLarge { receiver, amount, limit }) => {
            let text = format!(
                "The transfer of {amount} to {receiver} is more than the service's limit on spending, {limit}, ever lets out; \
                 nothing of this request was accepted"
            );
            error(StatusCode::FORBIDDEN, &text)
        }
        Rejected::Refused(Refused::Draining) => {
            let details =
                format!("The service is shutting down; none of the {requested} requested transfers was accepted");
            unavailable(service, "Service is shutting down, please retry later", &details)
        }
        Rejected::Starting => {
            let details = format!(
                "The NEAR connection is not ready yet; none of the {requested} requested transfers was accepted"
            );
            unavailable(service, "Service is starting, please retry later", &details)
        }
    }
}

/// More than whoever asks may spend: now, or ever.
fn over_limit(denied: &Denied) -> Answer {
    match denied {
        Denied::Spent(Spent { limit, period, retry_after: None, .. }) => {
            let period = period.as_str();
            let text = format!(
                "The transfers are more than the limit of {limit} per {period} allows at all; nothing of this request was accepted"
            );
            error(StatusCode::FORBIDDEN, &text)
        }
        Denied::Spent(Spent { limit, period, left, retry_after: Some(after) }) => {
            let (period, seconds) = (period.as_str(), after.as_secs() + 1);
            let text = format!(
                "The limit of {limit} per {period} is used up: {left} are left; nothing of this request was accepted. There is enough \
                 for it in {seconds} seconds"
            );
            let mut answer = error(StatusCode::TOO_MANY_REQUESTS, &text);
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            answer
        }
        Denied::Disk(why) => {
            tracing::error!("{why}");
            error(StatusCode::SERVICE_UNAVAILABLE, "Limits cannot be kept now; nothing of this request was accepted")
        }
    }
}

fn unavailable(service: &Service, error: &str, details: &str) -> Answer {
    let pending = service.engine().map_or(0, keyshard_engine::Engine::pending);
    overload_body(error, details, pending, service.http().capacity)
}

fn overload_body(error: &str, details: &str, pending_jobs: usize, capacity: usize) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        error: &'a str,
        details: &'a str,
        pending_jobs: usize,
        capacity: usize,
        retry_after_seconds: u32,
    }
    let body = Body { error, details, pending_jobs, capacity, retry_after_seconds: RETRY_AFTER_SECONDS };
    json(StatusCode::SERVICE_UNAVAILABLE, &body)
}

#[cfg(test)]
mod tests {
    use header::CONTENT_TYPE;

    use super::*;

    #[test]
    fn content_types() {
        let form = |pairs: &[(HeaderName, &str)]| {
            let headers =
                pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
            form(&headers)
        };
        for (text, expected) in [
            ("application/json", Some(Form::Json)),
            ("Application/JSON; charset=UTF-8", Some(Form::Json)),
            ("application/json;charset=\"utf8\"", Some(Form::Json)),
            ("application/json; charset=latin1", None),
            ("application/x-www-form-urlencoded", Some(Form::UrlEncoded)),
            ("text/plain", None),
            ("application/jsonx", None),
            ("multipart/form-data; boundary=x", None),
            ("", None),
        ] {
            assert_eq!(form(&[(CONTENT_TYPE, text)]).ok(), expected, "{text}");
        }
        assert_eq!(form(&[]), Ok(Form::Unnamed));
    }
}
