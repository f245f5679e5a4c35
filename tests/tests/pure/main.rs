//! Tests without a server: the rules in process, the generator and the model that judge the rest,
//! and every decoder.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod calendars;
mod chain;
mod contents;
mod decoders;
mod engine;
mod example;
mod generator;
mod metric_table;
mod model_cases;
mod model_fixture;
mod model_in_process;
mod now;
mod questions;
mod rendering;
mod windows;
