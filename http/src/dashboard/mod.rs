//! `GET /dashboard`: a page that shows what happens, and in words where the bottleneck is. All of it is in the binary; the page
//! loads nothing from elsewhere.
//!
//! `GET /dashboard/events` is a stream of server-sent events, read by the page with `fetch` (an `EventSource` could send no
//! `Authorization`): once `history`, an array of [`snapshot::Point`], then `snapshot`, a [`snapshot::Snapshot`], every second. A
//! snapshot is made once for all viewers, and only while there is one. It is made from what `/metrics` is made from.
mod bottleneck;
mod snapshot;
mod viewers;
mod window;

use http::{HeaderName, HeaderValue, StatusCode, header};

pub(crate) use viewers::{Viewers, events};

use crate::json::{Answer, answer};

/// The page may use what comes from here, and nothing else; nobody may put it into a frame.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);

const JS: &str = "text/javascript; charset=utf-8";

/// By name: type and content.
const FILES: [(&str, &str, &str); 9] = [
    ("style.css", "text/css; charset=utf-8", include_str!("style.css")),
    ("icon.svg", "image/svg+xml", include_str!("icon.svg")),
    ("app.js", JS, include_str!("app.js")),
    ("chart.js", JS, include_str!("chart.js")),
    ("events.js", JS, include_str!("events.js")),
    ("format.js", JS, include_str!("format.js")),
    ("key.js", JS, include_str!("key.js")),
    ("send.js", JS, include_str!("send.js")),
    ("tables.js", JS, include_str!("tables.js")),
];

/// `GET /dashboard`
pub(crate) fn page() -> Answer {
    part("text/html; charset=utf-8", include_str!("index.html"))
}

/// `GET /dashboard/:file`
pub(crate) fn file(name: &str) -> Option<Answer> {
    let (_, kind, content) = FILES.iter().find(|(file, ..)| *file == name)?;
    Some(part(kind, content))
}

fn part(kind: &'static str, content: &'static str) -> Answer {
    let mut answer = answer(StatusCode::OK, HeaderValue::from_static(kind), content);
    guard(&mut answer, HeaderValue::from_static("no-cache"));
    answer
}

fn guard(answer: &mut Answer, cache: HeaderValue) {
    let headers = answer.headers_mut();
    headers.insert(header::CACHE_CONTROL, cache);
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing on the page is loaded from elsewhere, and what it loads is there.
    #[test]
    fn the_page_is_whole() {
        let page = include_str!("index.html");
        let mut texts: Vec<(&str, &str)> = FILES.iter().map(|(name, _, content)| (*name, *content)).collect();
        texts.push(("index.html", page));
        for (name, text) in texts {
            let places =
                text.match_indices("://").map(|(at, _)| &text[at.saturating_sub(5)..(at + 24).min(text.len())]);
            for place in places {
                assert!(place.contains("www.w3.org/2000/svg"), "{name} names another place: {place}");
            }
            assert!(!text.contains("innerHTML") && !text.contains("eval("), "{name}: text stays text");
        }
        for quoted in page.split('"').filter(|quoted| quoted.starts_with("/dashboard/")) {
            assert!(file(&quoted["/dashboard/".len()..]).is_some(), "{quoted}");
        }
        for (name, _, content) in FILES.iter().filter(|(_, kind, _)| *kind == JS) {
            for line in content.lines().filter(|line| line.contains(" from \"./")) {
                let import = line.rsplit("\"./").next().unwrap().trim_end_matches("\";");
                assert!(file(import).is_some(), "{name} imports {import}");
            }
        }
        // The policy forbids what stands in the page itself.
        assert!(!page.contains("style=") && !page.contains("<style") && !page.contains(" onclick"));
        assert!(page.split("<script").skip(1).all(|script| script.contains("src=") && script.contains("></script>")));
    }
}
