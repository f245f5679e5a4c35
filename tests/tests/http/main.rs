//! The query service as its clients see it: answers and refusals, the throttle, bytes that no good
//! client sends, floods.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod crowd;
mod dashboard;
mod document;
mod questions;
mod raw;
mod scopes;
mod secrets;
mod service;
mod slots;
mod slow_reader;
mod table;
mod throttle_race;
mod tokens;
