//! The pure rules: what events contribute to the metrics, and the stored values that hold this.
//!
//! *Not here*: I/O, clocks, logs, metrics of this program, locks.

pub(crate) mod bucket;
pub(crate) mod deltas;
pub(crate) mod filters;
pub(crate) mod insertion;
pub(crate) mod metrics;
pub(crate) mod session;
pub(crate) mod timeline;
pub(crate) mod watermark;
