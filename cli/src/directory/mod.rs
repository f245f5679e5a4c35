//! The directory's writer: accounts, bots, tokens and API keys.
//!
//! Each change is one compare-and-set on one key of the KV bucket: read the entry, let a plain
//! function of [`rules`] decide the next entry, write it if the revision is still the same; else
//! start again with the new entry.
//!
//! *Format*: `botstats_common::directory`.

pub(crate) mod accounts;
pub(crate) mod bots;
pub(crate) mod rules;
mod store;
pub(crate) mod zones;

pub(crate) use store::{Directory, Entry};
