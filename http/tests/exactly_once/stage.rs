//! A node, a service and an auditor, set up for one test; and what its clients were told in the end.
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use keyshard_sandbox::{Credentials, Sandbox};
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::{
    audit::{Auditor, Claim, Report, Told, Transfer},
    load::{self, Outcome, Sent},
    proxy::{Faults, Proxy},
    random::Random,
    service::Service,
};

/// Longest wait until everything accepted has settled.
pub(crate) const SETTLING: Duration = Duration::from_secs(90);
/// Requests that ask for transfers at the same time.
const ASKERS: usize = 16;
/// Pause before an open transfer is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// One test at a time: on a small machine they would only disturb each other.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What one test plays on. The fields end in this order.
pub(crate) struct Stage {
    pub(crate) service: Service,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) auditor: Auditor,
    pub(crate) sandbox: Sandbox,
    pub(crate) random: Random,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    name: &'static str,
    _alone: MutexGuard<'static, ()>,
}

/// What a stage is set up with.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    pub(crate) chain: keyshard_sandbox::Config,
    /// Whether the service reaches its node through a [`Proxy`].
    pub(crate) proxied: bool,
    /// Settings of the service, over those that point it at the node.
    pub(crate) settings: &'a [(&'a str, &'a str)],
}

impl Stage {
    /// Starts all; `name` is that of the test. The seed is `KEYSHARD_SEED`, or 1.
    pub(crate) async fn start(name: &'static str, setup: Setup<'_>) -> Self {
        let alone = ALONE.lock().await;
        let seed = from_env("KEYSHARD_SEED", 1);
        println!("{name}: seed {seed}");
        let sandbox = Sandbox::start(setup.chain).unwrap();
        let Credentials { rpc, account, ft, keys, receivers, .. } = sandbox.credentials();
        let auditor = Auditor::new(rpc, ft, receivers.iter().chain([account])).await;
        let proxy = if setup.proxied { Some(Proxy::start(rpc, seed).await) } else { None };
        let node = proxy.as_ref().map_or_else(|| rpc.clone(), Proxy::url);
        let keys = keys.join(",");
        let own = [
            ("NEAR_ENV", "sandbox"),
            ("NODE_URL", node.as_str()),
            ("MASTER_ACCOUNT", account.as_str()),
            ("MASTER_ACCOUNT_PRIVATE_KEYS", keys.as_str()),
            ("FT_CONTRACT", ft.as_str()),
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
        ];
        let environment: Vec<(String, String)> =
            own.iter().chain(setup.settings).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        // It waits for the child's lines: not on a thread that the proxy needs.
        let service = tokio::task::block_in_place(|| Service::start(&directory, &environment));
        Self {
            service,
            proxy,
            auditor,
            sandbox,
            random: Random::new(seed),
            directory,
            environment,
            name,
            _alone: alone,
        }
    }

    /// What its proxy does from now on.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.proxy.as_ref().unwrap().set(faults);
    }

    /// Starts the service again where it was killed.
    pub(crate) fn restart(&mut self) {
        let (directory, environment) = (&self.directory, &self.environment);
        self.service = tokio::task::block_in_place(|| Service::start(directory, environment));
    }

    /// Starts it where it was killed, and kills it after this time, wherever it is then.
    pub(crate) async fn start_and_kill(&mut self, after: Duration) {
        self.service = Service::launch(&self.directory, &self.environment).0;
        tokio::time::sleep(after).await;
        self.service.kill();
        self.service.assert_no_panic();
    }

    /// Returns when the service has nothing open any more.
    pub(crate) async fn idle(&mut self) {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
        let deadline = Instant::now() + SETTLING;
        loop {
            let answer = client.get(format!("{}/metrics/jobs", self.service.base())).send().await.unwrap();
            let body: Value = answer.json().await.unwrap();
            let count = |status: &str| body["counts"][status].as_u64().unwrap_or(0);
            let open = count("queued") + count("processing") + count("submitted");
            if open == 0 {
                break;
            }
            assert!(Instant::now() < deadline, "not settled within {SETTLING:?}: {body}");
            tokio::time::sleep(ASK_AGAIN).await;
        }
        self.service.assert_sound();
    }

    /// Transfers to existing receivers.
    pub(crate) fn transfers(&mut self, count: usize) -> Vec<Transfer> {
        load::transfers(self.name, count, &self.sandbox.credentials().receivers, &mut self.random)
    }

    /// Sends single transfers, `rate` each second.
    pub(crate) async fn load(&mut self, rate: u64, seconds: u64) -> Vec<Sent> {
        let requests = load::singles(self.transfers(usize::try_from(rate * seconds).unwrap()));
        load::run(self.service.base(), requests, every(rate), &watch::Sender::new(0)).await
    }

    /// Follows everything accepted until it has settled: what each client knows then.
    pub(crate) async fn settle(&mut self, sent: &[Sent]) -> Vec<Claim> {
        let asked = Instant::now();
        let claims = settle(self.service.base(), sent).await;
        println!("{}: settled {:.1} s after the last answer", self.name, asked.elapsed().as_secs_f64());
        self.service.assert_sound();
        claims
    }

    /// Ends the service and judges.
    pub(crate) async fn judge(self, claims: &[Claim]) -> Report {
        let Self { service, proxy, auditor, sandbox, directory, .. } = self;
        // The service goes on meanwhile: whatever it might still send would be seen.
        let report = auditor.report(claims).await;
        service.assert_no_panic();
        assert!(report.is_clean(), "{report}");
        drop((service, proxy, sandbox));
        let _ = std::fs::remove_dir_all(directory);
        report
    }
}

/// The pause between two requests at so many a second.
pub(crate) fn every(rate: u64) -> Duration {
    Duration::from_secs(1) / u32::try_from(rate).unwrap()
}

/// A whole number from the environment.
pub(crate) fn from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number, not {text:?}")),
        Err(_) => default,
    }
}

/// What the answers say, with open ends followed up over the API. Every transfer that was said to be accepted must
/// settle, and one that was said to be paid must become `finalized`.
async fn settle(base: &str, sent: &[Sent]) -> Vec<Claim> {
    let mut claims = Vec::new();
    let mut accepted = Vec::new();
    for request in sent {
        let told = match &request.outcome {
            Outcome::Answered(200 | 202 | 500, body) => {
                let ids = ids(body);
                assert_eq!(ids.len(), request.transfers.len(), "{body}");
                accepted.extend(request.transfers.iter().cloned().zip(ids).map(|(t, id)| (t, id, request.status())));
                continue;
            }
            Outcome::Answered(..) | Outcome::Unsent => Told::Failed,
            Outcome::Broken(_) => Told::Nothing,
        };
        claims.extend(request.transfers.iter().map(|transfer| Claim { transfer: transfer.clone(), told }));
    }
    let client = Arc::new(reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap());
    let deadline = Instant::now() + SETTLING;
    let share = accepted.len().div_ceil(ASKERS).max(1);
    let mut askers = Vec::new();
    for part in accepted.chunks(share) {
        let (client, base, part) = (Arc::clone(&client), base.to_owned(), part.to_vec());
        askers.push(tokio::spawn(async move {
            let mut claims = Vec::with_capacity(part.len());
            for (transfer, id, status) in part {
                let job = settled(&client, &base, &id, deadline).await;
                let told = if job["status"] == "finalized" { Told::Paid } else { Told::Failed };
                assert!(status != 200 || told == Told::Paid, "answered 200, and then {job}");
                claims.push(Claim { transfer, told });
            }
            claims
        }));
    }
    for asker in askers {
        claims.extend(asker.await.unwrap());
    }
    claims
}

/// The ids that an answer gives, in request order.
fn ids(body: &Value) -> Vec<String> {
    let one = |id: &Value| id.as_str().unwrap_or_else(|| panic!("no id in {body}")).to_owned();
    match &body["jobIds"] {
        Value::Array(ids) => ids.iter().map(one).collect(),
        _ => vec![one(&body["jobId"])],
    }
}

async fn settled(client: &reqwest::Client, base: &str, id: &str, deadline: Instant) -> Value {
    loop {
        let answer = client.get(format!("{base}/transfer/{id}")).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{id}");
        let mut body: Value = answer.json().await.unwrap();
        let job = body["job"].take();
        if matches!(job["status"].as_str(), Some("finalized" | "failed")) {
            return job;
        }
        assert!(Instant::now() < deadline, "not settled within {SETTLING:?}: {job}");
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
