//! ingest
pub mod bucket;
pub mod days;
pub mod event;
pub mod session;
pub mod timeline;
pub mod varint;
