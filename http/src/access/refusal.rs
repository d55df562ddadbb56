//! Requests that are not let in, and what they are told.
use std::time::Duration;

use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use near_primitives::types::AccountId;

use super::{
    key::{Key, NotNow},
    scope::Scope,
};
use crate::{
    body,
    json::{Answer, error},
    service::Service,
};

const BEARER: HeaderValue = HeaderValue::from_static("Bearer");
const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Why a request comes with no key that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no `Authorization`.
    Missing,
    /// There is one that holds no key, or several.
    Malformed,
    /// There is no such key.
    Unknown,
}

impl Failure {
    pub(crate) const ALL: [Self; 3] = [Self::Missing, Self::Malformed, Self::Unknown];

    /// As the metrics call it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
        }
    }

    /// 401.
    pub(crate) fn answer(self) -> Answer {
        let text = match self {
            Self::Missing => "Unauthorized: send an API key, as Authorization: Bearer ks_...",
            Self::Malformed => {
                "Unauthorized: there is no API key in the Authorization header. Send it once, as it was given to you: \
                 Authorization: Bearer ks_..."
            }
            Self::Unknown => "Unauthorized: this API key is not known, or not any more. Ask the operator for another",
        };
        let mut answer = error(StatusCode::UNAUTHORIZED, text);
        // No `Basic`: a browser would ask for a password of its own accord, and send it wherever another page makes it.
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, BEARER);
        answer
    }
}

impl NotNow {
    /// 403 or 429.
    pub(crate) fn answer(self, key: &Key, needed: Scope) -> Answer {
        match self {
            Self::Scope => {
                let (needed, name, scopes) = (needed.as_str(), &key.name, key.scopes);
                let text = format!(
                    "Forbidden: this needs an API key with the scope {needed}, the key {name:?} has {scopes}. Ask the operator \
                     for one"
                );
                error(StatusCode::FORBIDDEN, &text)
            }
            Self::Rate(per_second, wait) => {
                let seconds = whole_seconds(wait);
                let text = format!(
                    "Too Many Requests: the key {:?} may ask {per_second} times a second; nothing of this request was \
                     accepted. Repeat it in {seconds} s",
                    key.name
                );
                retry_after(error(StatusCode::TOO_MANY_REQUESTS, &text), seconds)
            }
        }
    }
}

/// 403 for the whole request.
pub(crate) fn unwanted(receiver: &AccountId, why: &str) -> Answer {
    let text = format!(
        "Forbidden: receiver {receiver} is {why}; nothing of this request was accepted. Leave it out, or ask the operator"
    );
    error(StatusCode::FORBIDDEN, &text)
}

/// A request that is answered before its body was read: the rest of it is read and thrown away, so that the connection can be
/// used again, and the client sees its answer; else it is closed.
pub(crate) async fn without_body(service: &Service, request: Request<Incoming>, mut answer: Answer) -> Answer {
    // Who waits to be told to go on has sent nothing yet, and need not.
    let waits = request.headers().contains_key(header::EXPECT);
    if !request.body().is_end_stream() && (waits || !body::skip(service, request.into_body()).await) {
        answer.headers_mut().insert(header::CONNECTION, CLOSE);
    }
    answer
}

fn retry_after(mut answer: Answer, seconds: u64) -> Answer {
    answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    answer
}

/// Not too soon, and at least one.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds() {
        for (ms, seconds) in [(0, 1), (1, 1), (1_000, 1), (1_001, 2), (86_400_000, 86_400)] {
            assert_eq!(whole_seconds(Duration::from_millis(ms)), seconds, "{ms}");
        }
    }
}
