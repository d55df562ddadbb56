//! CORS and OPTIONS.
use reqwest::Method;

use crate::{common::client, support::Waiting};

const PAGE: &str = "http://page.example";

#[tokio::test]
async fn any_path_answers_a_preflight() {
    let service = Waiting::start("contract-preflight", &[]);
    for path in ["/send-ft", "/nowhere", "/health"] {
        for asked in [Some("content-type,x-custom"), None] {
            let request = client().request(Method::OPTIONS, format!("{}{path}", service.base)).header("origin", PAGE);
            let request = asked.into_iter().fold(request, |r, names| r.header("access-control-request-headers", names));
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 204);
            let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!(header("access-control-allow-origin"), Some(PAGE));
            assert_eq!(header("access-control-allow-methods"), Some("GET,HEAD,PUT,PATCH,POST,DELETE"));
            assert_eq!(header("access-control-allow-headers"), asked);
            assert_eq!(header("vary"), Some("Origin, Access-Control-Request-Headers"));
            assert_eq!(header("access-control-allow-credentials"), None);
            assert_eq!(header("access-control-max-age"), None);
            assert_eq!(answer.text().await.unwrap(), "");
        }
    }
}

#[tokio::test]
async fn origins_are_reflected_if_they_may_read() {
    for (name, setting, allowed) in [
        ("contract-cors-any", "*", vec![PAGE, "https://other.example"]),
        ("contract-cors-star", "http://a.example, *", vec![PAGE]),
        ("contract-cors-list", " http://a.example ,, http://page.example", vec![PAGE, "http://a.example"]),
        ("contract-cors-none", "http://a.example", vec![]),
    ] {
        let service = Waiting::start(name, &[("CORS_ALLOW_ORIGINS", setting)]);
        for origin in allowed.iter().copied().chain(["http://page.example.evil"]) {
            let answer =
                client().get(format!("{}/health", service.base)).header("origin", origin).send().await.unwrap();
            // It is served either way: the browser is who refuses.
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.headers()["vary"], "Origin");
            let shown = answer.headers().get("access-control-allow-origin").map(|value| value.to_str().unwrap());
            let may_read = allowed.contains(&origin) || setting.contains('*');
            assert_eq!(shown, may_read.then_some(origin), "{setting}");
        }
        let answer = client().get(format!("{}/health", service.base)).send().await.unwrap();
        assert!(!answer.headers().contains_key("access-control-allow-origin"));
        assert_eq!(answer.headers()["vary"], "Origin");
    }
}
