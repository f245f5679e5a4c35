//! The edges: everything that talks to NATS.
//!
//! *Invariants*: every wait here has a deadline or a named limit; what cannot be reached is
//! [`Unreachable`], which costs nobody a call.

pub mod claims;
pub mod clocks;
pub mod entries;
pub mod ingests;
pub mod kv;
pub mod probe;
pub mod read;
pub mod status;
pub mod watch;

use std::time::{Duration, Instant};

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::Context;
use botstats_common::io::{clock, nats};

/// How often it is looked whether a lost connection is back.
const RECONNECT_POLL: Duration = Duration::from_millis(25);

/// Something did not answer in time, or not as it should. The text is for clients; the reason is
/// logged where it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub &'static str);

impl Unreachable {
    /// The directory's, and why.
    fn directory(why: &dyn std::fmt::Display) -> Self {
        tracing::debug!("no answer from the directory: {why}");
        Self("the directory cannot be reached")
    }

    /// The throttle's, and why.
    fn throttle(why: &dyn std::fmt::Display) -> Self {
        tracing::debug!("no answer from the throttle: {why}");
        Self("the throttle cannot be reached")
    }
}

/// The connection to NATS.
#[derive(Debug, Clone)]
pub struct Connection {
    /// For requests of our own.
    pub client: Client,
    /// For KV buckets.
    pub js: Context,
    /// What comes before the subject of a key that is written.
    pub put_prefix: String,
}

impl Connection {
    /// A connection over that client, to the JetStream domain of that name.
    #[must_use]
    pub fn new(client: Client, domain: Option<&str>) -> Self {
        let js = nats::jetstream(&client, domain);
        Self { client, js, put_prefix: nats::put_prefix(domain) }
    }

    /// Whether there is a connection now. What is sent without one waits in the client, and would
    /// arrive when nobody expects it any more.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Waits for the connection.
    ///
    /// # Errors
    /// If it is not there by the deadline.
    pub async fn up_by(&self, deadline: Instant) -> Result<(), Unreachable> {
        while !self.is_up() {
            if clock::monotonic() >= deadline {
                return Err(Unreachable("NATS cannot be reached"));
            }
            tokio::time::sleep(RECONNECT_POLL).await;
        }
        Ok(())
    }
}
