//! What a measurement leaves: everything raw as JSON, and a page that shows it.
mod html;
mod svg;
pub mod table;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    backlog::Trend,
    latency::Latency,
    ledger::Counts,
    machine::{Machine, Usage},
};

pub use html::page;

/// Version of the JSON's shape.
pub const FORMAT: u32 = 1;

/// One invocation of the benchmark.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// What was measured, as a headline.
    pub title: String,
    /// The command line that makes this again.
    pub command: String,
    /// When it began, in seconds since 1970.
    pub unix_s: u64,
    /// Version of the benchmark, and whether it was built with optimisation.
    pub version: String,
    /// Where.
    pub machine: Machine,
    /// What was measured: node, service, settings.
    pub stand: BTreeMap<String, String>,
    /// The numbers that it was made for: name, value, unit.
    pub results: Vec<Figure>,
    /// What those numbers were held to, where it is no single load's.
    #[serde(default)]
    pub checks: Vec<Check>,
    /// Numbers that belong side by side.
    #[serde(default)]
    pub tables: Vec<Table>,
    /// Numbers that depend on another.
    #[serde(default)]
    pub plots: Vec<Plot>,
    /// Each load, in order.
    pub runs: Vec<Run>,
    /// What to doubt about it.
    pub doubts: Vec<String>,
}

/// A number that somebody wants to know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Of what.
    pub name: String,
    /// How much.
    pub value: f64,
    /// Of what unit; empty for a share.
    pub unit: String,
    /// Whether more is better; `None` where it is neither.
    pub more_is_better: Option<bool>,
}

/// Numbers side by side: the first column to the left, the others to the right.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Each with as many cells as there are columns.
    pub rows: Vec<Vec<String>>,
    /// What to know when reading it; may be empty.
    pub note: String,
}

/// Lines over a common axis.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// What is to the right.
    pub x_label: String,
    /// What is upwards.
    pub y_label: String,
    /// Labels along the x axis, and where; none: round numbers.
    #[serde(default)]
    pub x_ticks: Vec<(f64, String)>,
    /// Each line's name and points, the points from left to right.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// One load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its name: `try 3`, `confirm`, a profile's name.
    pub name: String,
    /// Transfers that were offered a second in its sustained part, as planned; 0 for closed loads.
    pub offered_per_s: f64,
    /// How long it was to take.
    pub seconds: f64,
    /// From when until when the part lasted that rates and trend are of, in seconds.
    pub window_s: (f64, f64),
    /// Transfers executed a second in that part, as the chain shows.
    pub landed_per_s: f64,
    /// What became of the transfers.
    pub transfers: Counts,
    /// How the requests were answered.
    pub requests: Requests,
    /// From when a request was due until its 2xx answer was there.
    pub latency: Latency,
    /// The same for all requests with transfers, those without an answer until they were given up.
    pub latency_all: Latency,
    /// The same for requests that were turned away.
    pub latency_refused: Latency,
    /// From when a transfer was due until the block that executed it.
    pub to_chain: Latency,
    /// How late requests got their connection: what the generator adds.
    pub send_lag: Latency,
    /// Whether the backlog grew.
    pub trend: Option<Trend>,
    /// From the last answer until the chain had everything, in seconds.
    pub settling_s: f64,
    /// Width of the bins, in seconds.
    pub bin_s: f64,
    /// How it went over time.
    pub bins: Vec<Bin>,
    /// The chain's blocks meanwhile.
    pub blocks: Vec<BlockRow>,
    /// Transactions of the load.
    pub transactions: Transactions,
    /// Who used the CPU meanwhile.
    pub usage: Usage,
    /// How the load was made.
    pub generator: Generator,
    /// Answers that turned requests away: a few.
    pub complaints: Vec<String>,
    /// Payments to another receiver or of another amount than asked for: the first few.
    pub wrong: Vec<String>,
    /// What it was held to.
    pub checks: Vec<Check>,
    /// What to doubt about it.
    pub doubts: Vec<String>,
}

/// Requests, counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Requests {
    /// Sent, those without transfers included.
    pub offered: u64,
    /// Answered 2xx.
    pub ok: u64,
    /// By status, or by how the connection failed.
    pub answers: BTreeMap<String, u64>,
}

/// What happened within a stretch of time, in transfers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// When it began, in seconds since the load began.
    pub seconds: f64,
    /// Due in it.
    pub offered: u64,
    /// Answered 2xx in it.
    pub accepted: u64,
    /// Turned away in it.
    pub refused: u64,
    /// Given up, or cut off, in it.
    pub unanswered: u64,
    /// Executed in it, by the block's time.
    pub landed: u64,
    /// Latencies of the requests due in it that were answered 2xx: median, 95th, 99th percentile. 0 without any.
    pub p50_ms: f64,
    /// See [`Self::p50_ms`].
    pub p95_ms: f64,
    /// See [`Self::p50_ms`].
    pub p99_ms: f64,
}

/// A block.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct BlockRow {
    /// Its height.
    pub height: u64,
    /// When it was made, in seconds since the load began.
    pub seconds: f64,
    /// Transactions of the load in it.
    pub transactions: u64,
    /// Transfers of the load that were executed in it.
    pub landed: u64,
    /// Transfers offered and not executed, right after it.
    pub backlog: f64,
}

/// Transactions that carried transfers of the load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Transactions {
    /// That succeeded.
    pub landed: u64,
    /// That failed, and so paid nobody.
    pub failed: u64,
    /// Receivers that they registered.
    pub deposits: u64,
    /// Transfers in a landed transaction, and how many had so many.
    pub sizes: BTreeMap<u32, u64>,
}

impl Transactions {
    /// Transfers a landed transaction, on average.
    pub fn mean_size(&self) -> f64 {
        let transfers: u64 = self.sizes.iter().map(|(size, count)| u64::from(*size) * count).sum();
        if self.landed == 0 { 0.0 } else { transfers as f64 / self.landed as f64 }
    }
}

/// How a load was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// Threads.
    pub threads: usize,
    /// Most connections that were allowed.
    pub connections: usize,
    /// Connections that were made.
    pub opened: u64,
    /// Most in use at a time.
    pub peak_open: u64,
    /// Most requests that waited for one at a time.
    pub peak_waiting: u64,
    /// Share of the time that each thread was on a CPU.
    pub busy: Vec<f64>,
    /// Answers whose open ends could not be followed up.
    pub not_followed: u64,
    /// Whether it ended early because the backlog could only grow.
    pub aborted: bool,
}

/// A limit, and whether it was held.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// What it must be: `>= 99.9 %`.
    pub limit: String,
    /// What it was.
    pub value: String,
    /// Whether that is within the limit.
    pub ok: bool,
}

impl Run {
    /// Whether it kept to all its limits.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }
}

/// The files of a report.
#[derive(Debug, Clone)]
pub struct Files {
    /// Everything raw.
    pub json: PathBuf,
    /// The page.
    pub html: PathBuf,
}

/// A report that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
    /// It holds something else.
    #[error("{0} is no report of keyshard-bench: {1}")]
    Shape(PathBuf, serde_json::Error),
    /// It is of another version.
    #[error("{0} is a report of format {1}, and this reads {FORMAT}")]
    Format(PathBuf, u32),
}

impl Check {
    /// That a number is not above a limit.
    pub fn at_most(name: &str, value: f64, limit: f64, unit: &str) -> Self {
        let text = |number: f64| format!("{} {unit}", crate::text::number(number)).trim_end().to_owned();
        Self { name: name.into(), limit: format!("<= {}", text(limit)), value: text(value), ok: value <= limit }
    }

    /// That a number is not below a limit.
    pub fn at_least(name: &str, value: f64, limit: f64, unit: &str) -> Self {
        let text = |number: f64| format!("{} {unit}", crate::text::number(number)).trim_end().to_owned();
        Self { name: name.into(), limit: format!(">= {}", text(limit)), value: text(value), ok: value >= limit }
    }
}

impl Report {
    /// Whether everything was held that it is to be held to: its own limits, and those of its last load.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.ok) && self.runs.last().is_none_or(Run::passed)
    }

    /// A number by its name.
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.results.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    /// Adds a number.
    pub fn add(&mut self, name: &str, value: f64, unit: &str, more_is_better: Option<bool>) {
        self.results.push(Figure { name: name.into(), value, unit: unit.into(), more_is_better });
    }

    /// Writes `report.json` and `report.html` into a directory, which is made if need be.
    pub fn write(&self, directory: &Path) -> io::Result<Files> {
        fs::create_dir_all(directory)?;
        let files = Files { json: directory.join("report.json"), html: directory.join("report.html") };
        fs::write(&files.json, serde_json::to_vec(self)?)?;
        fs::write(&files.html, page(self))?;
        Ok(files)
    }

    /// Reads a `report.json`, or the one in a directory.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let path = if path.is_dir() { path.join("report.json") } else { path.to_owned() };
        let text = fs::read(&path).map_err(|error| ReadError::File(path.clone(), error))?;
        let shape = |error| ReadError::Shape(path.clone(), error);
        let Version { format } = serde_json::from_slice(&text).map_err(shape)?;
        if format != FORMAT {
            return Err(ReadError::Format(path, format));
        }
        serde_json::from_slice(&text).map_err(shape)
    }
}
