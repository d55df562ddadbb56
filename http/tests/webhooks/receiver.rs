//! A receiver of webhooks whose mood the test chooses. It checks every signature.
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_lc_rs::hmac;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

pub(crate) const SECRET: &str = "a secret of thirty-two bytes, no more";

/// What it does with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Takes,
    /// Takes each, and answers after a while.
    IsSlow,
    /// Takes every other one, and breaks off before it answers.
    BreaksOff,
    /// Answers this status and takes nothing.
    Answers(u16),
    /// Reads and answers nothing.
    Hangs,
    /// A 2xx with a body that never ends.
    Babbles,
}

/// One that listens on this machine.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    state: Arc<Mutex<State>>,
}

struct State {
    mood: Mood,
    /// By event id: the bodies that were taken.
    taken: BTreeMap<String, Vec<Value>>,
    requests: usize,
    paths: Vec<String>,
}

impl Receiver {
    /// It serves until the test's runtime ends.
    pub(crate) async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook?token=1", listener.local_addr().unwrap());
        let state = State { mood, taken: BTreeMap::new(), requests: 0, paths: Vec::new() };
        let receiver = Self { url, state: Arc::new(Mutex::new(state)) };
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let receiver = serving.clone();
                // A connection that ends in the midst of a request is one of a service that was killed.
                tokio::spawn(async move { receiver.serve(stream).await });
            }
        });
        receiver
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    pub(crate) fn requests(&self) -> usize {
        self.state.lock().unwrap().requests
    }

    /// What was asked for beside the right path.
    pub(crate) fn strays(&self) -> Vec<String> {
        self.state.lock().unwrap().paths.iter().filter(|path| *path != "/hook?token=1").cloned().collect()
    }

    /// By the id of the transfer: the events that were taken for it. Each is the same whenever it comes.
    pub(crate) fn taken(&self) -> BTreeMap<String, Value> {
        let state = self.state.lock().unwrap();
        let one = |(id, bodies): (&String, &Vec<Value>)| {
            let first = &bodies[0];
            assert!(bodies.iter().all(|body| body == first), "{bodies:?}");
            assert_eq!(first["id"], *id);
            let job = first["data"]["id"].as_str().unwrap();
            assert_eq!(*id, format!("evt_{job}"));
            (job.to_owned(), first.clone())
        };
        state.taken.iter().map(one).collect()
    }

    /// How often the event of this transfer was taken.
    pub(crate) fn times(&self, job: &str) -> usize {
        self.state.lock().unwrap().taken.get(&format!("evt_{job}")).map_or(0, Vec::len)
    }

    async fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let (mut headers, mut line) = (BTreeMap::new(), String::new());
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let path = line.split(' ').nth(1).unwrap().to_owned();
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await?;
                let Some((name, value)) = line.trim_end().split_once(": ") else { break };
                headers.insert(name.to_ascii_lowercase(), value.to_owned());
            }
            let mut body = vec![0; headers["content-length"].parse().unwrap()];
            stream.read_exact(&mut body).await?;
            let mood = {
                let mut state = self.state.lock().unwrap();
                state.requests += 1;
                state.paths.push(path);
                state.mood
            };
            check(&headers, &body);
            let take = || {
                let event: Value = serde_json::from_slice(&body).unwrap();
                let id = headers["keyshard-event-id"].clone();
                self.state.lock().unwrap().taken.entry(id).or_default().push(event);
            };
            match mood {
                Mood::Takes => {
                    take();
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
                }
                Mood::IsSlow => {
                    take();
                    tokio::time::sleep(Duration::from_millis(60)).await;
                    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
                }
                Mood::BreaksOff => {
                    if self.requests().is_multiple_of(2) {
                        take();
                    }
                    return Ok(());
                }
                Mood::Answers(status) => {
                    let answer = format!("HTTP/1.1 {status} No\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n");
                    stream.write_all(answer.as_bytes()).await?;
                }
                Mood::Hangs => std::future::pending().await,
                Mood::Babbles => {
                    take();
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n").await?;
                    loop {
                        stream.write_all(&[b'x'; 4096]).await?;
                    }
                }
            }
        }
    }
}

/// The signature is the HMAC of time and body, and the time is now.
fn check(headers: &BTreeMap<String, String>, body: &[u8]) {
    let (time, signature) = headers["keyshard-signature"].split_once(",v1=").unwrap();
    let time = time.strip_prefix("t=").unwrap();
    assert_eq!(headers["keyshard-timestamp"], time);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(time.parse().unwrap()) < 120, "{now} {time}");
    let bytes: Vec<u8> =
        (0..signature.len() / 2).map(|n| u8::from_str_radix(&signature[2 * n..2 * n + 2], 16).unwrap()).collect();
    let signed = [format!("{time}.").as_bytes(), body].concat();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), &signed, &bytes).unwrap();
    assert_eq!(headers["content-type"], "application/json; charset=utf-8");
}
