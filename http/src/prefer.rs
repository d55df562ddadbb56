//! The header `Prefer` (RFC 7240), as far as it says how long a client wants to be kept waiting.
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};

/// Longest wait that can be asked for: beyond a day it is bounded by the service's own time-out anyway.
const MAX_WAIT_SECONDS: u64 = 86_400;

/// What a client prefers. What cannot be read is as if it were not there, as the RFC demands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Prefer {
    /// `respond-async`: an answer as soon as the request is safe, not when it is done.
    pub(crate) respond_async: bool,
    /// `wait=N`: longest wait for the outcome.
    pub(crate) wait: Option<Duration>,
}

impl Prefer {
    /// Reads every `Prefer` header of a request; of a preference that is given twice the first one counts.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut prefer = Self::default();
        let (mut seen_async, mut seen_wait) = (false, false);
        for value in headers.get_all(header::HeaderName::from_static("prefer")) {
            let Ok(text) = value.to_str() else { continue };
            let mut rest = Text(text);
            while !rest.0.is_empty() {
                match rest.preference() {
                    Some((name, value)) if name.eq_ignore_ascii_case("respond-async") && !seen_async => {
                        seen_async = true;
                        // An empty value is the same as none; with any other it is not this preference.
                        prefer.respond_async = value.is_empty();
                    }
                    Some((name, value)) if name.eq_ignore_ascii_case("wait") && !seen_wait => {
                        seen_wait = true;
                        prefer.wait = seconds(&value);
                    }
                    _ => {}
                }
                rest.skip_to_next();
            }
        }
        prefer
    }

    /// How long a client is kept waiting for the outcome, at most `limit`.
    pub(crate) fn patience(self, limit: Duration) -> Duration {
        match self {
            Self { wait: Some(wait), .. } => wait.min(limit),
            Self { respond_async: true, wait: None } => Duration::ZERO,
            Self { respond_async: false, wait: None } => limit,
        }
    }

    /// The header `Preference-Applied` of an answer that did not wait for the outcome; `None` if nothing was preferred.
    pub(crate) fn applied(self) -> Option<HeaderValue> {
        let text = match self {
            Self { respond_async: true, wait: Some(wait) } => format!("respond-async, wait={}", wait.as_secs()),
            Self { respond_async: true, wait: None } => "respond-async".to_owned(),
            Self { respond_async: false, wait: Some(wait) } => format!("wait={}", wait.as_secs()),
            Self { respond_async: false, wait: None } => return None,
        };
        HeaderValue::try_from(text).ok()
    }
}

/// `delta-seconds` of RFC 7231: digits, and a number that is too large counts as very large.
fn seconds(text: &str) -> Option<Duration> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX).min(MAX_WAIT_SECONDS)))
}

/// What is left of a header's value.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    /// `token [ "=" word ] *( ";" [ token [ "=" word ] ] )`, up to a comma or the end. `None` if it is none; then the
    /// text may be anywhere before the next comma.
    fn preference(&mut self) -> Option<(&'a str, String)> {
        self.skip_white_space();
        let found = self.assignment()?;
        self.skip_white_space();
        while self.take(';') {
            self.skip_white_space();
            if self.0.starts_with([';', ',']) || self.0.is_empty() {
                continue;
            }
            // No parameter means anything here, but it must be one.
            self.assignment()?;
            self.skip_white_space();
        }
        (self.0.is_empty() || self.0.starts_with(',')).then_some(found)
    }

    /// `token [ "=" word ]`; without a value it is empty.
    fn assignment(&mut self) -> Option<(&'a str, String)> {
        let name = self.token()?;
        let before = self.0;
        self.skip_white_space();
        if !self.take('=') {
            self.0 = before;
            return Some((name, String::new()));
        }
        self.skip_white_space();
        let value = if self.0.starts_with('"') { self.quoted()? } else { self.token()?.to_owned() };
        Some((name, value))
    }

    fn token(&mut self) -> Option<&'a str> {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.0.find(|c| !is_token(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then_some(token)
    }

    fn quoted(&mut self) -> Option<String> {
        let mut value = String::new();
        let mut chars = self.0.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.0 = &self.0[at + 1..];
                    return Some(value);
                }
                '\\' => value.push(chars.next()?.1),
                c => value.push(c),
            }
        }
        None
    }

    /// Behind the next comma that is not quoted, or to the end.
    fn skip_to_next(&mut self) {
        while let Some(at) = self.0.find([',', '"']) {
            if self.0.as_bytes()[at] == b',' {
                self.0 = &self.0[at + 1..];
                return;
            }
            self.0 = &self.0[at..];
            if self.quoted().is_none() {
                break;
            }
        }
        self.0 = "";
    }

    fn take(&mut self, c: char) -> bool {
        let rest = self.0.strip_prefix(c);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn skip_white_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> (bool, Option<u64>) {
        let name = header::HeaderName::from_static("prefer");
        let headers = values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
        let Prefer { respond_async, wait } = Prefer::of(&headers);
        (respond_async, wait.map(|wait| wait.as_secs()))
    }

    #[test]
    fn what_is_asked_for() {
        for (values, expected) in [
            (&[][..], (false, None)),
            (&["respond-async"][..], (true, None)),
            (&["Respond-ASYNC"], (true, None)),
            (&["respond-async, wait=10"], (true, Some(10))),
            (&["wait=10,respond-async"], (true, Some(10))),
            (&["respond-async", "wait=10"], (true, Some(10))),
            (&["return=minimal; foo=\"some, value\", , respond-async"], (true, None)),
            (&["handling=lenient, wait = \"7\" ; x"], (false, Some(7))),
            (&["respond-async=\"\""], (true, None)),
            (&["respond-async;"], (true, None)),
            (&["respond-async ; ; wait=5"], (true, None)),
            (&["\t respond-async \t"], (true, None)),
            (&["wait=10, wait=20"], (false, Some(10))),
            (&["wait=99999999999999999999"], (false, Some(86_400))),
            (&["priority=5, wait=0"], (false, Some(0))),
        ] {
            assert_eq!(read(values), expected, "{values:?}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_ignored() {
        for bad in [
            "",
            ",,",
            "respond-asynch",
            "respond async",
            "respond-async=yes",
            "\"respond-async\"",
            "x=\"respond-async",
            "x=\", respond-async",
            "x=\"a\\\", respond-async",
            "respond-async; =5",
            "respond-async; \"x\"",
            "wait",
            "wait=",
            "wait=-1",
            "wait=1.5",
            "wait=soon",
            "wait=\"5",
            "=wait",
            "respond-async/",
        ] {
            assert_eq!(read(&[bad]), (false, None), "{bad}");
        }
        for (beside, expected) in [
            ("respond async, wait=3", (false, Some(3))),
            ("@@, respond-async", (true, None)),
            ("x=\"a,b\"c, respond-async", (true, None)),
            // The first one counts, though it says nothing.
            ("wait=soon, wait=3", (false, None)),
        ] {
            assert_eq!(read(&[beside]), expected, "{beside}");
        }
        let headers = [(header::HeaderName::from_static("prefer"), HeaderValue::from_bytes(b"\xff").unwrap())];
        assert_eq!(Prefer::of(&headers.into_iter().collect()), Prefer::default());
    }

    #[test]
    fn patience_has_a_limit() {
        let limit = Duration::from_mins(1);
        let wait = |seconds| Some(Duration::from_secs(seconds));
        for (respond_async, asked, patience, applied) in [
            (false, None, 60, None),
            (true, None, 0, Some("respond-async")),
            (true, wait(5), 5, Some("respond-async, wait=5")),
            (false, wait(5), 5, Some("wait=5")),
            (false, wait(500), 60, Some("wait=500")),
        ] {
            let prefer = Prefer { respond_async, wait: asked };
            assert_eq!(prefer.patience(limit), Duration::from_secs(patience));
            assert_eq!(prefer.applied().as_ref().map(|value| value.to_str().unwrap()), applied);
        }
    }
}
