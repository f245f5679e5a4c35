//! A nats-server of our own: found or fetched ([`find()`]), started and stopped ([`Server`]).
//!
//! *Not here*: the stream and KV buckets in it; see `botstats_common::io::setup`.

mod child;
mod fetch;
mod find;
mod run;

pub use child::{Options, Server, StartError};
pub use find::{FindError, Problem, find};
