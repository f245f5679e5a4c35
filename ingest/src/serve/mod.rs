//! What an ingest answers: reads, what goes on now, dead letters, its own state, its metrics.

mod dead_letters;
pub(crate) mod freshness;
pub(crate) mod health;
pub(crate) mod open;
pub(crate) mod overview;
pub(crate) mod read;
pub(crate) mod scrape;
pub(crate) mod service;
mod version;
