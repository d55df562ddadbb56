//! The real `keyshard` binary, serving as a child process.
use std::{
    io::{BufRead as _, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

/// Longest wait for it to start.
const START: Duration = Duration::from_secs(30);
/// Most lines of its log that are shown when a test fails.
const SHOWN: usize = 200;

/// Killed when dropped. Shows its log if the test is failing then.
pub(crate) struct Service {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    readers: Vec<std::thread::JoinHandle<()>>,
    base: String,
}

impl Service {
    /// Starts it in this directory with no environment but this; returns once it accepts transfers.
    pub(crate) fn start(directory: &Path, environment: &[(String, String)]) -> Self {
        let (mut service, lines) = Self::launch(directory, environment);
        let deadline = Instant::now() + START;
        let line_with = |text: &str| loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line: String = lines.recv_timeout(left).unwrap_or_else(|_| panic!("it does not say {text:?}"));
            if line.contains(text) {
                return line;
            }
        };
        let line = line_with("HTTP server listening");
        let address = line.rsplit_once("address=").unwrap_or_else(|| panic!("no address in {line}")).1;
        service.base = format!("http://{}", address.trim());
        line_with("Server ready to accept requests");
        service
    }

    /// Starts it and waits for nothing. Returned is what it says, too.
    pub(crate) fn launch(directory: &Path, environment: &[(String, String)]) -> (Self, mpsc::Receiver<String>) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_keyshard"))
            .arg("serve")
            .current_dir(directory)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (sender, lines) = mpsc::channel();
        let readers = vec![
            follow(child.stdout.take().unwrap(), &log, sender.clone()),
            follow(child.stderr.take().unwrap(), &log, sender),
        ];
        (Self { child, log, readers, base: String::new() }, lines)
    }

    /// As `http://127.0.0.1:3000`.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Kills it: it does not get to do anything more.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end, at most this long.
    pub(crate) async fn end(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end within {limit:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whatever happens in a test, it must neither end by itself nor panic.
    pub(crate) fn assert_sound(&mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "it has ended");
        self.assert_no_panic();
    }

    pub(crate) fn assert_no_panic(&self) {
        let log = self.log.lock().unwrap();
        let panic = log.iter().find(|line| line.contains("panicked at") || line.contains("broke a promise"));
        assert_eq!(panic, None);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            let log = self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let (left_out, shown) = log.split_at(log.len().saturating_sub(SHOWN));
            println!("-- the service's log, without its first {} lines\n{}\n--", left_out.len(), shown.join("\n"));
        }
    }
}

fn follow(
    pipe: impl Read + Send + 'static,
    log: &Arc<Mutex<Vec<String>>>,
    lines: mpsc::Sender<String>,
) -> std::thread::JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            log.lock().unwrap().push(line.clone());
            // After the start nobody listens any more.
            let _ = lines.send(line);
        }
    })
}
