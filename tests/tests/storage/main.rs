//! The ingest's state: on disks that fail, over long lives, at a million events, from other
//! versions.
//!
//! A program of its own, so that `BOTSTATS_TEST_DISK=4 cargo test --workspace --test storage disk`
//! can repeat the tests of a failing disk more thoroughly.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disk;
mod extremes;
mod formats;
mod growth;
mod long_life;
mod million;
mod restart;
mod service;
