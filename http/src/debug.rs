//! `GET /debug/flamegraph`: where the threads of the running service spend their CPU time, as a picture.
//!
//! Sampled by a timer of the process's CPU time (SIGPROF), so that a service at rest is not woken. A thread of its own
//! waits, resolves names and draws: the front-end thread that was asked goes on serving.
mod symbols;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io,
    net::SocketAddr,
    sync::{
        atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release},
        mpsc,
    },
    time::Duration,
};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::oneshot;

use crate::{
    json::{Answer, answer, error},
    local,
    service::Service,
};

/// Samples per second of CPU time. Below the kernel's tick of 250, and no divisor of what beats in tenths of seconds.
const FREQUENCY: i32 = 199;
const SECONDS: Duration = Duration::from_secs(10);
const MAX_SECONDS: u64 = 60;
/// Frames narrower than this share of the picture, in percent, are left out of it.
const MIN_WIDTH: f64 = 0.1;

/// Whether somebody is sampling. There is one timer a process.
static BUSY: AtomicBool = AtomicBool::new(false);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    time: Duration,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// A picture.
    Svg,
    /// One line a stack: thread and functions from the outermost on, separated by semicolons; a space; samples.
    Folded,
}

/// Samples this process for `?seconds=10` and answers with a picture, or the stacks themselves (`&format=folded`).
/// `None`: it is not for this client to know that there is such a thing.
pub(crate) async fn flamegraph(
    service: &Service,
    peer: SocketAddr,
    headers: &HeaderMap,
    query: &str,
) -> Option<Answer> {
    if !service.http().debug_endpoints || !local::is_local(peer, headers) {
        return None;
    }
    let wanted = match Wanted::parse(query) {
        Ok(wanted) => wanted,
        Err(why) => return Some(error(StatusCode::BAD_REQUEST, &why)),
    };
    let Some(turn) = Turn::take() else {
        return Some(error(StatusCode::CONFLICT, "a profile is being taken already: one at a time"));
    };
    let (done, result) = oneshot::channel();
    // Dropped with this request, which ends the wait: nobody samples for a client that has gone.
    let (_waiting, gone) = mpsc::channel();
    let started = std::thread::Builder::new().name("profiler".into()).spawn(move || {
        let result = sample(wanted, &gone);
        // Before the answer: whoever has got it may ask again.
        drop(turn);
        let _ = done.send(result);
    });
    if let Err(problem) = started {
        return Some(failed(&problem.to_string()));
    }
    let result = tokio::select! {
        result = result => result,
        () = service.closing() => return Some(error(StatusCode::SERVICE_UNAVAILABLE, "the service is shutting down")),
    };
    Some(match result {
        Ok(Ok(body)) => wanted.format.answer(body),
        Ok(Err(problem)) => failed(&problem),
        Err(_) => failed("the sampling thread has ended"),
    })
}

fn failed(problem: &str) -> Answer {
    tracing::error!(problem, "cannot take a profile");
    error(StatusCode::INTERNAL_SERVER_ERROR, "cannot take a profile: see the log")
}

impl Wanted {
    fn parse(query: &str) -> Result<Self, String> {
        let (mut time, mut format) = (None, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let again = match &*name {
                "seconds" => time.replace(seconds(&value)?).is_some(),
                "format" => format.replace(Format::parse(&value)?).is_some(),
                _ => return Err("only seconds and format can be given".into()),
            };
            if again {
                return Err("seconds and format can be given once".into());
            }
        }
        Ok(Self { time: time.unwrap_or(SECONDS), format: format.unwrap_or(Format::Svg) })
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(seconds @ 1..=MAX_SECONDS) if digits => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("seconds must be a whole number from 1 to {MAX_SECONDS}")),
    }
}

impl Format {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "svg" => Ok(Self::Svg),
            "folded" => Ok(Self::Folded),
            _ => Err("format must be svg or folded".into()),
        }
    }

    fn answer(self, body: Vec<u8>) -> Answer {
        let content_type = match self {
            Self::Svg => "image/svg+xml",
            Self::Folded => "text/plain; charset=utf-8",
        };
        let mut answer = answer(StatusCode::OK, HeaderValue::from_static(content_type), body);
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

/// The right to sample, given back when dropped.
struct Turn(());

impl Turn {
    fn take() -> Option<Self> {
        (!BUSY.swap(true, AcqRel)).then_some(Self(()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        BUSY.store(false, Release);
    }
}

/// Samples until the time is over or the client has gone.
fn sample(wanted: Wanted, gone: &mpsc::Receiver<()>) -> Result<Vec<u8>, String> {
    let sampling = pprof::ProfilerGuard::new(FREQUENCY).map_err(|problem| problem.to_string())?;
    if gone.recv_timeout(wanted.time) == Err(mpsc::RecvTimeoutError::Disconnected) {
        return Ok(Vec::new());
    }
    let report = sampling.report().build_unresolved().map_err(|problem| problem.to_string())?;
    // The timer stops before names are looked up, which takes a while.
    drop(sampling);
    let mut seen = Vec::new();
    for (frames, count) in report.data {
        let thread = String::from_utf8_lossy(&frames.thread_name[..frames.thread_name_length]).into_owned();
        // All but the innermost function are known by where they go on: that may be the next function's first byte.
        let addresses = frames.frames.iter().enumerate();
        let functions = addresses.map(|(index, frame)| (frame.ip as u64).wrapping_sub(u64::from(index > 0))).collect();
        seen.push(Stack { thread, functions, count: usize::try_from(count).unwrap_or(0) });
    }
    let stacks = folded(&seen);
    match wanted.format {
        Format::Svg => draw(&stacks, wanted.time).map_err(|problem| problem.to_string()),
        Format::Folded => Ok(lines(&stacks).into_bytes()),
    }
}

/// What a thread was seen doing.
struct Stack {
    thread: String,
    /// Addresses, the innermost first.
    functions: Vec<u64>,
    count: usize,
}

/// Thread and functions of each stack, from the outermost on.
///
/// Functions are those of the machine code: what was inlined counts for the function that it was inlined into. The sampler
/// tells stacks apart by function alone, so which inlined part was on the CPU is not known.
fn folded(seen: &[Stack]) -> BTreeMap<String, usize> {
    let names = symbols::resolve(&seen.iter().flat_map(|stack| stack.functions.iter().copied()).collect());
    let mut stacks = BTreeMap::new();
    for Stack { thread, functions, count } in seen {
        let mut stack = name(thread);
        for function in functions.iter().rev() {
            stack.push(';');
            stack.push_str(&names.get(function).map_or_else(|| "[unknown]".into(), |text| name(text)));
        }
        *stacks.entry(stack).or_insert(0) += count;
    }
    stacks
}

/// A name without what separates names, stacks and counts.
fn name(text: &str) -> String {
    text.replace([';', '\n', '\r'], ":")
}

fn lines(stacks: &BTreeMap<String, usize>) -> String {
    let mut text = String::new();
    for (stack, count) in stacks {
        let _ = writeln!(text, "{stack} {count}");
    }
    text
}

fn draw(stacks: &BTreeMap<String, usize>, time: Duration) -> io::Result<Vec<u8>> {
    let samples: usize = stacks.values().sum();
    let mut options = inferno::flamegraph::Options::default();
    options.title = "Keyshard: CPU time by thread".into();
    options.subtitle = Some(format!("{samples} samples in {} s, {FREQUENCY} a second of CPU time", time.as_secs()));
    options.count_name = "samples".into();
    options.min_width = MIN_WIDTH;
    // An idle service has no samples, and a picture of nothing is an error to who draws.
    let mut text = lines(stacks);
    if samples == 0 {
        text = "idle 1\n".into();
    }
    let mut picture = Vec::new();
    inferno::flamegraph::from_lines(&mut options, text.lines(), &mut picture).map_err(io::Error::other)?;
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let svg = |seconds| Wanted { time: Duration::from_secs(seconds), format: Format::Svg };
        for (query, wanted) in [
            ("", Some(svg(10))),
            ("seconds=1", Some(svg(1))),
            ("seconds=60&format=svg", Some(svg(60))),
            ("format=folded&seconds=2", Some(Wanted { format: Format::Folded, ..svg(2) })),
            ("seconds=0", None),
            ("seconds=61", None),
            ("seconds=-1", None),
            ("seconds=+1", None),
            ("seconds=1.5", None),
            ("seconds=", None),
            ("seconds=99999999999999999999999", None),
            ("seconds=1&seconds=2", None),
            ("format=png", None),
            ("second=1", None),
        ] {
            assert_eq!(Wanted::parse(query).ok(), wanted, "{query}");
        }
    }

    #[test]
    fn one_turn_at_a_time() {
        let turn = Turn::take();
        assert!(turn.is_some() && Turn::take().is_none());
        drop(turn);
        assert!(Turn::take().is_some());
    }

    #[test]
    fn names_cannot_break_a_line() {
        assert_eq!(name("a;b\nc"), "a:b:c");
        let stacks = [("http-0;main;a".to_owned(), 2), ("shard-0;main".to_owned(), 1)].into_iter().collect();
        assert_eq!(lines(&stacks), "http-0;main;a 2\nshard-0;main 1\n");
    }

    #[test]
    fn nothing_can_be_drawn_too() {
        let picture = draw(&BTreeMap::new(), SECONDS).unwrap();
        let picture = String::from_utf8_lossy(&picture);
        assert!(picture.contains("</svg>") && picture.contains("0 samples in 10 s"));
    }
}
