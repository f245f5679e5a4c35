//! The words, limits and messages that every botstats program shares.
//!
//! Two halves, and the border between them matters:
//!
//! * everything outside [`io`] is plain data and plain functions: no clock, no socket, no file;
//! * [`io`] is what each program needs around its rules: settings, logging, the connection to
//!   NATS, the making of stream and KV buckets, the internal HTTP listener, the stop signal.
//!
//! *Not here*: anything that only one service needs.

pub mod directory;
pub mod event;
pub mod ids;
pub mod io;
pub mod lineage;
pub mod metric;
pub mod names;
pub mod quarter;
pub mod rfc3339;
pub mod rules;
pub mod secret;
pub mod slot;
pub mod split;
pub mod stat;
pub mod status;
pub mod varint;
pub mod wire;
pub mod zones;
