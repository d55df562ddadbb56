//! The real `keyshard` binary as a child process: the one that was built with the tests, or that which `KEYSHARD_BINARY` names.
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use super::PATIENCE;

/// Killed when dropped.
pub(crate) struct Program {
    child: Child,
    /// Its output, standard and error, line by line.
    lines: Receiver<String>,
    /// What has been read of it.
    pub(crate) seen: Vec<String>,
}

impl Program {
    /// Starts it with these arguments and no environment but this.
    pub(crate) fn start(directory: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        // As it is written at the root of the workspace, wherever the test and its program run.
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let named = std::env::var_os("KEYSHARD_BINARY").map(|path| root.join(path));
        let binary = named.unwrap_or_else(|| env!("CARGO_BIN_EXE_keyshard").into());
        let mut child = Command::new(binary)
            .args(arguments)
            .current_dir(directory)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let errors = sender.clone();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        std::thread::spawn(move || {
            BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| errors.send(line))
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Reads on until a line contains this text.
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("{error}: no {text:?} in\n{}", self.seen.join("\n")),
            }
        }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal: `TERM` or `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }

    /// Waits for its end and reads the rest of its output.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.seen.push(line),
                // Both pipes are closed: it has ended, or is about to.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end:\n{}", self.seen.join("\n")),
            }
        }
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it has closed its output and lives on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its exit code and its output, at its end.
    pub(crate) fn end_with_output(mut self) -> (Option<i32>, String) {
        let status = self.end();
        (status.code(), self.output())
    }

    pub(crate) fn output(&self) -> String {
        self.seen.join("\n")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
