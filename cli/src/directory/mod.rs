//! The directory's writer: accounts, bots, tokens and API keys.
//!
//! Each change is one compare-and-set on one key of the KV bucket: read the entry, let a plain
//! function of [`rules`] decide the next one, write it if nobody else wrote in between; if somebody
//! did, again with what they wrote.
//!
//! *Format*: `botstats_common::directory`.

pub mod accounts;
pub mod bots;
pub mod rules;
mod store;
pub mod zones;

pub use store::{ChangeError, Directory, Entry};
