//! Profiling sessions: where the threads of the running service spend their time, as pictures and a table.
//!
//! The parts, from the pure to the whole: [`folded`] and [`role`] say what a stack is and whose, [`names`] shortens it,
//! [`table`] counts, [`picture`] draws; [`waits`] and [`perf`] watch a process from outside, [`service`] and [`load`] make
//! one that has something to do, [`session`] puts them together.
#![forbid(unsafe_code)]

pub mod cli;
pub mod folded;
pub mod http_client;
pub mod load;
pub mod names;
pub mod perf;
pub mod picture;
pub mod role;
pub mod service;
pub mod session;
pub mod table;
pub mod waits;
