//! `GET /openapi.json`: the API as OpenAPI 3.1, and `GET /docs`: the same for people, a page made from it.
//!
//! `openapi.json` is written by hand. Tests hold it to the routes, and schemathesis to the running server.
mod page;

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::json::{Answer, answer};

const SOURCE: &str = include_str!("openapi.json");

/// No scripts, nothing from elsewhere.
const CSP: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'");

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| SOURCE.replace("@VERSION@", env!("CARGO_PKG_VERSION")).into());
// That it can be read is tested.
static PAGE: LazyLock<Bytes> =
    LazyLock::new(|| page::of(&serde_json::from_slice::<Value>(&DOCUMENT).unwrap_or_default()).into());

/// `GET /openapi.json`
pub(crate) fn document() -> Answer {
    answer(StatusCode::OK, HeaderValue::from_static("application/json; charset=utf-8"), DOCUMENT.clone())
}

/// `GET /docs`
pub(crate) fn docs() -> Answer {
    let mut answer = answer(StatusCode::OK, HeaderValue::from_static("text/html; charset=utf-8"), PAGE.clone());
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, CSP);
    answer
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{metrics, router::Route};

    fn parsed() -> Value {
        serde_json::from_slice(&DOCUMENT).unwrap()
    }

    /// Everything at a key of this name, wherever it is.
    fn all<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    if key == name {
                        found.push(value);
                    }
                    all(value, name, found);
                }
            }
            Value::Array(values) => values.iter().for_each(|value| all(value, name, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_documented_and_nothing_else() {
        let document = parsed();
        let documented: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
        let braced = |segment: &str| match segment.strip_prefix(':') {
            Some(name) => format!("{{{name}}}"),
            None => segment.to_owned(),
        };
        let routes = Route::NAMES.iter().filter(|name| **name != "unmatched");
        let routes: BTreeSet<String> =
            routes.map(|name| name.split('/').map(braced).collect::<Vec<_>>().join("/")).collect();
        assert_eq!(documented, routes);
    }

    #[test]
    fn methods_are_those_that_are_answered() {
        for (path, operations) in parsed()["paths"].as_object().unwrap() {
            let documented: Vec<&str> = operations.as_object().unwrap().keys().map(String::as_str).collect();
            for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
                let is_there = Route::of(&method.parse().unwrap(), path) != Route::Unmatched;
                assert_eq!(is_there, documented.contains(&method.to_ascii_lowercase().as_str()), "{method} {path}");
            }
        }
    }

    #[test]
    fn references_lead_somewhere_and_every_component_is_used() {
        let document = parsed();
        let mut found = Vec::new();
        all(&document, "$ref", &mut found);
        let used: BTreeSet<&str> = found.into_iter().map(|reference| reference.as_str().unwrap()).collect();
        for reference in &used {
            assert!(document.pointer(reference.strip_prefix('#').unwrap()).is_some(), "{reference}");
        }
        for kind in ["parameters", "headers", "responses", "schemas"] {
            for name in document["components"][kind].as_object().unwrap().keys() {
                assert!(used.contains(format!("#/components/{kind}/{name}").as_str()), "{kind}/{name} is not used");
            }
        }
        let operations =
            document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
        let ids: Vec<&str> = operations.map(|operation| operation["operationId"].as_str().unwrap()).collect();
        let names: BTreeSet<&str> = ids.iter().copied().collect();
        assert_eq!(names.len(), ids.len(), "one name each");
        let mut links = Vec::new();
        all(&document, "links", &mut links);
        for (_, link) in links.into_iter().flat_map(|links| links.as_object().unwrap()) {
            assert!(names.contains(link["operationId"].as_str().unwrap()), "{link}");
        }
    }

    #[test]
    fn answers_have_statuses_that_are_given_and_say_what_they_mean() {
        let document = parsed();
        let mut found = Vec::new();
        all(&document["paths"], "responses", &mut found);
        for (status, response) in found.into_iter().flat_map(|responses| responses.as_object().unwrap()) {
            assert!(metrics::STATUSES.contains(&status.parse().unwrap()), "{status}");
            assert!(response.get("$ref").is_some() || response["description"].as_str().unwrap().len() > 10);
        }
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn the_page_has_all_of_it_and_loads_nothing() {
        let page = String::from_utf8(PAGE.to_vec()).unwrap();
        let document = parsed();
        for path in document["paths"].as_object().unwrap().keys() {
            assert!(page.contains(&format!("<code>{path}</code>")), "{path}");
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(page.contains(&format!("id=\"schema-{name}\"")), "{name}");
        }
        for never in ["<script", "http://", "https://", "<link", "src=", "@import", "url("] {
            assert!(!page.contains(never), "{never}");
        }
        for link in page.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            assert!(page.contains(&format!("id=\"{link}\"")), "{link}");
        }
    }
}
