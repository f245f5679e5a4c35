//! The pure rules: what events contribute to the metrics, and the stored values that hold this.
//!
//! *Not here*: I/O, clocks, logs, metrics of this program, locks.

pub(crate) mod body;
pub(crate) mod bucket_key;
pub(crate) mod cells;
pub(crate) mod changes;
pub(crate) mod day_masks;
pub(crate) mod generations;
pub(crate) mod identities;
pub(crate) mod metrics;
pub(crate) mod names;
pub(crate) mod names_of_day;
pub(crate) mod session;
pub(crate) mod timeline;
pub(crate) mod value_code;
pub(crate) mod watermark;
