//! `/admin`: what a person may order while the service runs: sign nothing, use a key no more, take a transfer back.
//!
//! With `API_KEYS_FILE` it needs a key with the scope `admin`; without, it answers clients on this machine alone, and no web pages.
use std::{borrow::Cow, net::SocketAddr};

use http::{HeaderMap, Request, StatusCode, header};
use hyper::body::Incoming;
use keyshard_engine::{Cancelled, Engine, Orders};
use serde::{Deserialize, Serialize};

use crate::{
    body,
    json::{Answer, Iso, error, json},
    local,
    service::Service,
    transfers::{JobView, parse_id, starting},
    webhooks,
};

/// What a path below `/admin` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Admin<'a> {
    /// What is in force.
    Orders,
    /// Sign nothing new.
    Pause,
    /// Go on.
    Resume,
    /// Sign nothing new with this key.
    Quarantine(Cow<'a, str>),
    /// Use this key again.
    Release(Cow<'a, str>),
    /// Take this transfer back.
    Cancel(Cow<'a, str>),
    /// Send webhook events once more.
    Replay,
}

/// Longest reason that is taken, in characters.
const MAX_REASON: usize = 500;

/// What may be said with an order.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Said {
    #[serde(default)]
    reason: String,
}

/// Carries an order out.
pub(crate) async fn admin(service: &Service, what: &Admin<'_>, peer: SocketAddr, request: Request<Incoming>) -> Answer {
    let by_key = service.http().access.asks_for_keys();
    if !by_key && !is_trusted(peer, request.headers()) {
        let text = "Forbidden: without API keys, orders are taken from programs on this machine only. Set API_KEYS_FILE and use \
                    a key with the scope admin";
        return crate::access::without_body(service, request, error(StatusCode::FORBIDDEN, text)).await;
    }
    let Ok(body) = body::read(service, request.into_body()).await else {
        return error(StatusCode::BAD_REQUEST, "Bad Request: the body broke off, or is too large");
    };
    let reason = match what {
        // It says something else.
        Admin::Replay => String::new(),
        _ => match said(&body.bytes) {
            Ok(said) => said.reason,
            Err(why) => return error(StatusCode::BAD_REQUEST, why),
        },
    };
    let Some(engine) = service.engine() else { return starting() };
    match what {
        Admin::Orders => in_force(engine),
        Admin::Pause => changed(engine, move |engine| Some(engine.pause(&reason))).await,
        Admin::Resume => changed(engine, |engine| Some(engine.resume())).await,
        Admin::Quarantine(key) => {
            let key = key.clone().into_owned();
            changed(engine, move |engine| engine.quarantine(&key, true)).await
        }
        Admin::Release(key) => {
            let key = key.clone().into_owned();
            changed(engine, move |engine| engine.quarantine(&key, false)).await
        }
        Admin::Cancel(id) => cancel(engine, id, &reason).await,
        Admin::Replay => webhooks::replay(engine, &body.bytes).await,
    }
}

/// A web page that a browser on this machine shows must not give orders: it says where it is from.
fn is_trusted(peer: SocketAddr, headers: &HeaderMap) -> bool {
    local::is_local(peer, headers) && !headers.contains_key(header::ORIGIN)
}

fn said(body: &[u8]) -> Result<Said, &'static str> {
    if body.is_empty() {
        return Ok(Said::default());
    }
    let unclear = "Bad Request: send no body, or a JSON object with a reason: {\"reason\":\"...\"}";
    // The parser takes arrays for objects, too.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(unclear);
    }
    let said: Said = serde_json::from_slice(body).map_err(|_| unclear)?;
    if said.reason.chars().count() > MAX_REASON {
        return Err("Bad Request: the reason is too long. At most 500 characters");
    }
    Ok(said)
}

/// Orders are written to the disk, which may take its time.
async fn changed(
    engine: &Engine,
    change: impl FnOnce(&Engine) -> Option<Result<(), String>> + Send + 'static,
) -> Answer {
    let of = engine.clone();
    match tokio::task::spawn_blocking(move || change(&of)).await {
        Ok(Some(Ok(()))) => {
            let orders = engine.orders();
            tracing::warn!(
                paused = orders.paused.is_some(),
                quarantined = orders.quarantined.len(),
                "orders were changed"
            );
            in_force(engine)
        }
        Ok(None) => error(
            StatusCode::NOT_FOUND,
            "No such key. Name one that the service was started with, as ed25519:...: GET /admin shows them",
        ),
        Ok(Some(Err(why))) => {
            tracing::error!("{why}");
            error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "The order could not be written to the disk, so nothing was changed",
            )
        }
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
    }
}

/// What is in force, and the keys that it may be about.
fn in_force(engine: &Engine) -> Answer {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Paused<'a> {
        reason: &'a str,
        since: Iso,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Key<'a> {
        public_key: &'a str,
        quarantined: bool,
    }
    #[derive(Serialize)]
    struct Body<'a> {
        success: bool,
        paused: Option<Paused<'a>>,
        keys: Vec<Key<'a>>,
    }
    let Orders { paused, quarantined, .. } = &engine.orders();
    let paused = paused.as_ref().map(|pause| Paused { reason: &pause.reason, since: Iso(pause.since_ms) });
    let key = |public_key| Key { public_key, quarantined: quarantined.contains(public_key) };
    let keys = engine.keys().iter().map(|name| key(&**name)).collect();
    json(StatusCode::OK, &Body { success: true, paused, keys })
}

async fn cancel(engine: &Engine, id: &str, reason: &str) -> Answer {
    #[derive(Serialize)]
    struct Body {
        success: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'static str>,
        job: JobView,
    }
    let unknown = || error(StatusCode::NOT_FOUND, "Job not found");
    let Some(id) = parse_id(id) else { return unknown() };
    let why = if reason.is_empty() { "Cancelled".to_owned() } else { format!("Cancelled: {reason}") };
    match engine.cancel(id, &why).await {
        Cancelled::Done(job) => {
            tracing::warn!(jobId = %id, "a transfer was cancelled");
            json(StatusCode::OK, &Body { success: true, error: None, job: JobView(job) })
        }
        Cancelled::TooLate(job) => {
            let why = if job.status.is_settled() {
                "Too late: it has settled. Nothing was changed"
            } else {
                "Too late: it is in a signed transaction, which may be paid at any moment. Nothing was changed"
            };
            json(StatusCode::CONFLICT, &Body { success: false, error: Some(why), job: JobView(job) })
        }
        Cancelled::Unknown => unknown(),
        Cancelled::NotYet => error(StatusCode::SERVICE_UNAVAILABLE, "It is on its way into a queue: ask again"),
    }
}
