//! The command `botstats`: everything that a person does with botstats.
//!
//! A command is a module with its arguments and a function that gives an [`output::Answer`]; the
//! modules below them are of use to tests too: [`server`] (a nats-server of one's own), [`directory`]
//! (accounts, bots, tokens, keys), [`simulate`] (realistic traffic from a seed).
//!
//! *Invariants*: standard output has the answer and nothing else; progress and logs go to standard
//! error. Every wait has a limit. No secret is ever an argument or in a log.

pub mod commands;
pub mod deadletters;
mod demo;
pub mod directory;
pub mod output;
pub mod publish;
pub mod server;
pub mod setup;
pub mod simulate;
pub mod stats;
pub mod status;
pub mod up;
