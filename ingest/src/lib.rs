//! The ingest service: events of the stream in, exact pre-aggregated buckets in redb, reads answered.
//!
//! An event meets the modules in this order: [`reader`] takes it off the stream, [`event`] reads it,
//! [`timeline`] and [`session`] say what it changes, [`bucket`] holds the sums, [`engine`] puts a batch of
//! them into one commit of the [`store`]. A read goes through [`service`] to [`read`].

pub mod bucket;
mod changes;
pub mod days;
pub mod decoder;
pub mod engine;
pub mod event;
pub mod freshness;
pub mod identity;
mod look;
pub mod metrics;
pub mod pull;
pub mod read;
pub mod reader;
pub mod registry;
pub mod rescue;
mod run;
pub mod service;
pub mod session;
mod settings;
pub mod shared;
pub mod store;
pub mod telemetry;
pub mod timeline;
pub mod watermark;

pub use run::{RunError, rebuild, run, run_on};
pub use settings::{ServiceSettings, Settings, keep_days};
pub use store::OpenError;
