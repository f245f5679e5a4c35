//! Times and ratios of times: a machine with other work does not keep them, so they are no part of
//! `cargo test`.
//!
//!     cargo test --workspace --test timing
//!
//! What the same situations must give whatever the load, the other programs check.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crowd;
mod limits;
mod ranks;
