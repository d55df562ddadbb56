//! Drives the pure shard with scripted inputs; one file a behaviour.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]
mod common;
mod faults;
mod happy_path;
mod orders;
mod restarts;
mod trust;
