//! The command `botstats`: everything that a person does with botstats.
//!
//! A command is a module with its arguments and a function that returns an [`Answer`]. Tests use
//! two modules too: [`server`] (finds and runs a nats-server) and [`simulate`] (realistic traffic
//! from a seed).
//!
//! *Invariants*: standard output has only the answer; progress and logs go to standard error. Every
//! wait has a limit. No secret is an argument or in a log.

mod cells;
mod commands;
mod completions;
mod deadletters;
mod demo;
mod directory;
mod forget;
mod output;
mod publish;
pub mod server;
mod setup;
pub mod simulate;
mod stats;
mod status;
mod up;

pub use commands::{Cli, run};
pub use output::{Answer, BadUsage};
