//! The programs as an operator meets them: commands, settings, credentials and rights, secrets,
//! metrics and logs, stops.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cells;
mod commands;
mod connections;
mod hostile_settings;
mod ingest;
mod observability;
mod rights;
mod secrets;
mod shutdown;
