//! `GET /ready`: whether transfers can be paid now. For load balancers; `/health` says whether the process is alive.
use http::StatusCode;
use keyshard_engine::Engine;
use serde::Serialize;

use crate::{
    json::{Answer, json},
    service::{Phase, Service},
};

/// Conditions that hold up some transfers only: all others are paid.
const PARTIAL: [&str; 3] = ["key-refused", "key-quarantined", "no-proof"];

#[derive(Serialize)]
struct Body {
    status: &'static str,
    reasons: Vec<Reason>,
}

#[derive(Debug, Serialize)]
struct Reason {
    name: &'static str,
    detail: String,
}

/// 200, or 503 and every reason.
pub(crate) fn ready(service: &Service) -> Answer {
    let reasons = reasons(*service.phase.borrow(), service.engine());
    if reasons.is_empty() {
        json(StatusCode::OK, &Body { status: "ready", reasons })
    } else {
        json(StatusCode::SERVICE_UNAVAILABLE, &Body { status: "not-ready", reasons })
    }
}

fn reasons(phase: Phase, engine: Option<&Engine>) -> Vec<Reason> {
    let own = |name, detail: &str| Reason { name, detail: detail.to_owned() };
    let mut reasons = Vec::new();
    if phase != Phase::Serving {
        reasons.push(own(
            "draining",
            "the service is shutting down: it takes nothing new and settles what it has accepted",
        ));
    }
    match engine {
        None => reasons.push(own("starting", "the NEAR connection is not ready yet")),
        Some(engine) => {
            let conditions = engine.health().conditions.into_iter();
            let stopping = conditions.filter(|condition| !PARTIAL.contains(&condition.name));
            reasons.extend(stopping.map(|condition| Reason { name: condition.name, detail: condition.detail }));
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_named() {
        let names = |phase| reasons(phase, None).into_iter().map(|reason| reason.name).collect::<Vec<_>>();
        assert_eq!(names(Phase::Serving), ["starting"]);
        assert_eq!(names(Phase::Draining), ["draining", "starting"]);
        assert_eq!(names(Phase::Closing), ["draining", "starting"]);
    }
}
