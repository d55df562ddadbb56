//! How fast, honestly: open loads, and transfers that count when the chain shows them.
//!
//! - what is offered: [`plan`] (when), [`script`] (what), [`load`] (sends it), [`profile`] (loads as data);
//! - what came of it: [`chain`] (reads blocks, knows nothing of the service), [`jobs`] (what the service says of the
//!   rest), [`ledger`] (the count of every transfer);
//! - what it means: [`measure`], [`latency`], [`backlog`], [`doubts`], [`report`], [`compare`];
//! - what is measured: [`stand`], [`child`], [`roles`], [`noop`], [`machine`], [`threads`];
//! - the measurements: [`trial`] (one load), [`search`] and [`max_tps`], [`ceiling`] ([`signed`]), [`overload`], [`lone`],
//!   [`idle`], [`open`], [`settled`] and [`scaling`] ([`costs`], [`model`]), [`sign`], [`yardsticks`], [`session`], all of them: [`rows`].
#![forbid(unsafe_code)]

pub mod backlog;
pub mod ceiling;
pub mod chain;
pub mod child;
pub mod cli;
pub mod compare;
pub mod costs;
pub mod doubts;
pub mod idle;
pub mod jobs;
pub mod latency;
pub mod ledger;
pub mod load;
pub mod lone;
pub mod machine;
pub mod max_tps;
pub mod measure;
pub mod model;
pub mod noop;
pub mod open;
pub mod overload;
pub mod plan;
pub mod profile;
pub mod progress;
pub mod report;
pub mod roles;
pub mod rows;
pub mod scaling;
pub mod script;
pub mod search;
pub mod session;
pub mod settled;
pub mod sign;
pub mod signed;
pub mod stand;
pub mod text;
pub mod threads;
pub mod trial;
pub mod yardsticks;
