//! What an ingest answers: reads, dead letters, its own state, its metrics.

pub(crate) mod freshness;
pub(crate) mod health;
pub(crate) mod read;
pub(crate) mod scrape;
pub(crate) mod service;
