//! Everything that talks to NATS.
//!
//! *Invariants*: every wait here has a deadline or a named limit; what cannot be reached is
//! [`Unreachable`], which uses no call.

pub(crate) mod claims;
pub(crate) mod clocks;
pub(crate) mod entries;
pub(crate) mod ingests;
pub(crate) mod kv;
pub(crate) mod read;
pub(crate) mod readiness;
pub(crate) mod status;
pub(crate) mod watch;

use std::time::Instant;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::Context;
use botstats_common::io::{clock, nats};

use crate::answer::budget::BudgetSpent;
use crate::deadlines::RECONNECT_POLL;

/// A part of the system did not answer in time, or not as it should. The text is for clients; the
/// reason is logged where it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub &'static str);

impl From<BudgetSpent> for Unreachable {
    fn from(_: BudgetSpent) -> Self {
        Self("too many large answers at the same time")
    }
}

impl Unreachable {
    fn directory(why: &dyn std::fmt::Display) -> Self {
        tracing::debug!("a request to the directory's KV bucket failed: {why}");
        Self("the directory cannot be reached")
    }

    fn throttle(why: &dyn std::fmt::Display) -> Self {
        tracing::debug!("a request to the throttle's KV bucket failed: {why}");
        Self("the throttle cannot be reached")
    }
}

/// The connection to NATS. All clones are one.
#[derive(Debug, Clone)]
pub struct Connection {
    pub(crate) client: Client,
    pub(crate) js: Context,
    /// What comes before the subject of a KV key that is written.
    pub(crate) put_prefix: String,
}

impl Connection {
    /// A connection over that client, to the JetStream domain of that name.
    #[must_use]
    pub fn new(client: Client, domain: Option<&str>) -> Self {
        let js = nats::jetstream(&client, domain);
        Self { client, js, put_prefix: nats::put_prefix(domain) }
    }

    /// Whether there is a connection now. A message that is sent without a connection waits in the
    /// client, and would arrive when no request expects it any more.
    pub(crate) fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Waits for the connection.
    ///
    /// # Errors
    /// If it is not there by the deadline.
    pub(crate) async fn up_by(&self, deadline: Instant) -> Result<(), Unreachable> {
        while !self.is_up() {
            if clock::monotonic() >= deadline {
                return Err(Unreachable("NATS cannot be reached"));
            }
            tokio::time::sleep(RECONNECT_POLL).await;
        }
        Ok(())
    }
}
