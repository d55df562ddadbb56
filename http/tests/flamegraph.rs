//! `GET /debug/flamegraph`: only for whom it is, one at a time, and it shows the threads that work.
mod common;

use common::{get, http, start};

#[tokio::test]
async fn it_is_not_there_unless_enabled() {
    let (_server, base) = start(http());
    let (status, body) = get(&base, "/debug/flamegraph?seconds=1").await;
    assert_eq!((status, body.as_str()), (404, r#"{"error":"Cannot GET /debug/flamegraph"}"#));
}

#[cfg(not(feature = "profiling"))]
#[tokio::test]
async fn an_ordinary_build_does_not_have_it() {
    let (_server, base) = start(keyshard::config::Http { debug_endpoints: true, ..http() });
    assert_eq!(get(&base, "/debug/flamegraph?seconds=1").await.0, 404);
}

#[cfg(feature = "profiling")]
mod enabled {
    use std::time::Duration;

    use serde_json::json;

    use super::common::{PATIENCE, chain::Service, client, get, send, until};

    const PATH: &str = "/debug/flamegraph";

    /// All of it in one test: there is one sampler a process.
    #[tokio::test]
    async fn a_profile_of_a_working_service() {
        let service = Service::start(100, &[("DEBUG_ENDPOINTS", "true")]).await;
        let base = service.base.as_str();

        for query in ["seconds=0", "seconds=61", "seconds=x", "seconds=1&seconds=1", "format=png", "hz=9"] {
            assert_eq!(get(base, &format!("{PATH}?{query}")).await.0, 400, "{query}");
        }

        // A proxy on this machine may stand for anybody.
        let forwarded = client().get(format!("{base}{PATH}?seconds=1")).header("x-forwarded-for", "192.0.2.1").send();
        assert_eq!(forwarded.await.unwrap().status(), 404);
        assert_eq!(client().post(format!("{base}{PATH}?seconds=1")).send().await.unwrap().status(), 404);

        let (one, other) =
            tokio::join!(get(base, "/debug/flamegraph?seconds=2"), get(base, "/Debug/Flamegraph/?seconds=2"));
        let mut both = [one.0, other.0];
        both.sort_unstable();
        assert_eq!(both, [200, 409]);

        // Whoever goes away does not keep the others waiting for a minute.
        let gone = client().get(format!("{base}{PATH}?seconds=60")).timeout(Duration::from_millis(300)).send().await;
        assert!(gone.is_err_and(|error| error.is_timeout()));
        until("the sampler is free again", || async {
            (get(base, "/debug/flamegraph?seconds=1").await.0 == 200).then_some(())
        })
        .await;

        let load = async {
            loop {
                let (status, body) =
                    send(base, json!({"receiverId": "user1.test.near", "amount": "1"}).to_string()).await;
                assert_eq!(status, 200, "{body}");
            }
        };
        let profile = until("a profile with the threads that work", || async {
            let (status, stacks) = get(base, "/debug/flamegraph?seconds=1&format=folded").await;
            assert_eq!(status, 200, "{stacks}");
            let names = |thread: &str, function: &str| {
                stacks.lines().any(|line| line.starts_with(thread) && line.contains(function))
            };
            (names("shard-", "keyshard_engine") && names("http-", "keyshard::")).then_some(())
        });
        let picture = async {
            profile.await;
            until("a picture with the threads that work", || async {
                let answer = client().get(format!("{base}{PATH}?seconds=1")).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                assert_eq!(answer.headers()["content-type"], "image/svg+xml");
                assert_eq!(answer.headers()["cache-control"], "no-store");
                let picture = answer.text().await.unwrap();
                assert!(picture.starts_with("<?xml") && picture.trim_end().ends_with("</svg>"));
                (picture.contains("shard-0") && picture.contains("keyshard_engine")).then_some(())
            })
            .await;
        };
        tokio::select! {
            () = picture => {}
            () = load => {}
            () = tokio::time::sleep(PATIENCE * 3) => panic!("no profile"),
        }
    }
}
