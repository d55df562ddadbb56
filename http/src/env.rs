//! The settings as text: the process environment over a `.env` file.
use std::{collections::HashMap, fs, io, path::Path};

use zeroize::Zeroizing;

use crate::{config::ConfigError, env_file};

/// Largest `.env` file that is read. Beyond this it is a mistake: 1,024 keys take less than 128 KiB.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// These count only in the real environment: they decide before any file is read.
const NOT_FROM_FILE: [&str; 3] = ["NEAR_ENV", "NODE_ENV", "LOG_LEVEL"];

/// Names and values. Has no `Debug`: it holds the keys, and wipes them when it is dropped. (The environment that the process
/// was started with stays where the system keeps it; a key file leaves no such copy.)
#[derive(Clone, Default)]
pub struct Env {
    values: HashMap<String, Zeroizing<String>>,
}

impl Env {
    /// The environment of this process alone.
    pub fn of_process() -> Self {
        let values = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, Zeroizing::new(value.into_string().ok()?))));
        Self { values: values.collect() }
    }

    /// The environment of this process over `.env` (when `NEAR_ENV=sandbox`) or `.env.testnet` in `directory`.
    /// A missing file is fine.
    pub fn with_file(directory: &Path) -> Result<Self, ConfigError> {
        let mut env = Self::of_process();
        let name = if env.is_sandbox() { ".env" } else { ".env.testnet" };
        let path = directory.join(name);
        let problem = |why: String| ConfigError::new(name, why);
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(env),
            Err(error) => return Err(problem(format!("cannot be read: {error}"))),
            Ok(file) if file.len() > MAX_FILE_BYTES => {
                return Err(problem(format!("is {} bytes; at most {MAX_FILE_BYTES} are read", file.len())));
            }
            Ok(_) => {}
        }
        let text = fs::read_to_string(&path).map_err(|error| problem(format!("cannot be read: {error}")))?;
        let text = Zeroizing::new(text);
        env.add_file(&text);
        Ok(env)
    }

    /// Adds what the text of a `.env` file says and the environment does not.
    pub fn add_file(&mut self, text: &str) {
        for (name, value) in env_file::parse(text) {
            if !NOT_FROM_FILE.contains(&name.as_str()) && !name.starts_with("PINO_") {
                self.values.entry(name).or_insert_with(|| Zeroizing::new(value));
            }
        }
    }

    /// The value of a variable, trimmed. An empty one counts as not set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// Sets a variable over whatever it was.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.values.insert(name.to_owned(), Zeroizing::new(value.into()));
    }

    /// Takes a variable out.
    pub fn remove(&mut self, name: &str) {
        self.values.remove(name);
    }

    /// Whether `NEAR_ENV` is exactly `sandbox`.
    pub fn is_sandbox(&self) -> bool {
        self.get("NEAR_ENV") == Some("sandbox")
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self { values: pairs.into_iter().map(|(name, value)| (name.into(), Zeroizing::new(value.into()))).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::Env;

    #[test]
    fn the_environment_wins_over_the_file() {
        let mut env: Env = [("PORT", "1"), ("HOST", "")].into_iter().collect();
        env.add_file("PORT=2\nHOST=127.0.0.2\nFT_CONTRACT=ft.near");
        assert_eq!(env.get("PORT"), Some("1"));
        assert_eq!(env.get("HOST"), None, "an empty variable is set, so the file does not speak");
        assert_eq!(env.get("FT_CONTRACT"), Some("ft.near"));
    }

    #[test]
    fn some_names_are_not_taken_from_the_file() {
        let mut env = Env::default();
        env.add_file("NEAR_ENV=sandbox\nNODE_ENV=production\nLOG_LEVEL=trace\nPINO_PRETTY=false\nPORT=5");
        assert!(!env.is_sandbox());
        for name in ["NODE_ENV", "LOG_LEVEL", "PINO_PRETTY"] {
            assert_eq!(env.get(name), None);
        }
        assert_eq!(env.get("PORT"), Some("5"));
    }
}
