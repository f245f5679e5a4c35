//! The query service: the public HTTP endpoint over what the ingests counted.
//!
//! A call comes in at [`endpoint`], is read into a [`question`], admitted by [`directory`] and
//! [`throttle`], turned into the [`window`]'s groups, asked of an ingest over NATS by [`nats`], and
//! its cells become ordered rows and bytes in [`answer`].
//!
//! *Invariants*
//! * Nothing is held on disk; any number of replicas may run.
//! * Only [`nats`] talks to NATS, only [`endpoint`] to clients; everything else is plain functions, and
//!   `now` is a parameter.
//! * A 200 is sent only after the account's call was claimed, and the claim is the last thing that can
//!   fail.
//! * Tokens and API keys exist here only as hashes, but for the moment in which they are read.

pub mod accept;
pub mod answer;
pub mod directory;
pub mod endpoint;

pub mod nats;
pub mod openapi;
pub mod problem;
pub mod question;
pub mod run;
pub mod settings;
pub mod telemetry;
pub mod throttle;
pub mod window;

pub use self::run::{Listeners, RunError, run, run_on};
pub use self::settings::{ServiceSettings, Settings};
