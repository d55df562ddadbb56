//! Cross-origin rules: the same headers as the Node service, which has none to expose, and those that only Keyshard sends.
use http::{HeaderMap, HeaderValue, Method, header};

const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE");
/// What scripts may read of an answer beside its body.
const EXPOSED: HeaderValue = HeaderValue::from_static("Idempotency-Replayed,Location,Preference-Applied,Retry-After");
const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const VARY_PREFLIGHT: HeaderValue = HeaderValue::from_static("Origin, Access-Control-Request-Headers");

/// Which origins may read the answers. Every request is served either way, and the browser enforces this; but for transfers,
/// which a browser sends for any page if they come as a form, see `may_pay`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    /// The request's own origin is reflected.
    Any,
    /// Only these origins, compared exactly.
    Only(Vec<String>),
}

impl Cors {
    /// From `CORS_ALLOW_ORIGINS`: comma-separated; a `*` among them allows any origin.
    pub fn parse(text: &str) -> Self {
        let origins: Vec<String> =
            text.split(',').map(str::trim).filter(|o| !o.is_empty()).map(str::to_owned).collect();
        if origins.iter().any(|origin| origin == "*") { Self::Any } else { Self::Only(origins) }
    }

    /// Adds the headers that belong on the answer to this request.
    pub(crate) fn apply(&self, method: &Method, request: &HeaderMap, response: &mut HeaderMap) {
        let origin = request.get(header::ORIGIN).filter(|origin| self.allows(origin));
        if let Some(origin) = origin {
            response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        }
        if origin.is_some() && method != Method::OPTIONS {
            response.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
        if method != Method::OPTIONS {
            response.insert(header::VARY, VARY_ORIGIN);
            return;
        }
        response.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        response.insert(header::VARY, VARY_PREFLIGHT);
        if let Some(names) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            response.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        }
    }

    /// Whether a request with these headers may pay. Where origins are listed, pages of others may not.
    pub(crate) fn may_pay(&self, request: &HeaderMap) -> bool {
        let Some(origin) = request.get(header::ORIGIN) else { return true };
        // This service's own page.
        let host = request.get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes);
        let is_own = [&b"http://"[..], b"https://"]
            .into_iter()
            .any(|scheme| origin.as_bytes().strip_prefix(scheme) == Some(host));
        is_own || self.allows(origin)
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::Only(origins) => origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rule: &str, method: &Method, request: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let request: HeaderMap = request
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let mut response = HeaderMap::new();
        Cors::parse(rule).apply(method, &request, &mut response);
        let mut shown: Vec<_> =
            response.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        shown.sort();
        shown
    }

    #[test]
    fn origins() {
        let allow = |value: &str| ("access-control-allow-origin".to_owned(), value.to_owned());
        for (rule, origin, allowed) in [
            ("*", Some("http://a.example"), true),
            (" https://b.example , * ", Some("http://a.example"), true),
            ("http://a.example,http://b.example", Some("http://b.example"), true),
            ("http://a.example", Some("http://a.example.evil"), false),
            ("http://a.example", Some("HTTP://a.example"), false),
            ("*", None, false),
        ] {
            let request: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
            let headers = answer(rule, &Method::POST, &request);
            assert_eq!(headers.contains(&allow(origin.unwrap_or_default())), allowed, "{rule} {origin:?}");
            assert_eq!(headers.len(), 1 + 2 * usize::from(allowed));
            assert!(headers.contains(&("vary".to_owned(), "Origin".to_owned())));
        }
    }

    #[test]
    fn pages_that_may_pay() {
        for (rule, origin, may) in [
            ("*", Some("http://evil.example"), true),
            ("http://a.example", Some("http://evil.example"), false),
            ("http://a.example", Some("null"), false),
            ("http://a.example", Some("http://a.example"), true),
            ("http://a.example", Some("http://127.0.0.1:3000"), true),
            ("http://a.example", Some("http://127.0.0.1:30001"), false),
            ("http://a.example", None, true),
        ] {
            let mut request = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("127.0.0.1:3000"))]);
            request.extend(origin.map(|origin| (header::ORIGIN, HeaderValue::from_static(origin))));
            assert_eq!(Cors::parse(rule).may_pay(&request), may, "{rule} {origin:?}");
        }
    }

    #[test]
    fn preflight() {
        let headers = answer(
            "*",
            &Method::OPTIONS,
            &[("origin", "http://a.example"), ("access-control-request-headers", "content-type,x-y")],
        );
        let expected = [
            ("access-control-allow-headers", "content-type,x-y"),
            ("access-control-allow-methods", "GET,HEAD,PUT,PATCH,POST,DELETE"),
            ("access-control-allow-origin", "http://a.example"),
            ("vary", "Origin, Access-Control-Request-Headers"),
        ];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(answer("*", &Method::OPTIONS, &[]).len(), 2);
    }
}
