//! Connects until it works, and looks after the connection's subscriptions.
//!
//! *Why*: a denied subscription is silent for good, because the server forgets it and the client
//! subscribes again only over a new connection. So this makes a new connection as soon as the
//! subscription is allowed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::Client;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connect::{ConnectError, MAX_RECONNECT_PAUSE};
use super::error::chain;
use super::settings::{NatsSettings, Role};
use super::violation::Violation;
use crate::io::logging::RateLimit;
use crate::io::readiness::Readiness;
use crate::io::stop::spawn;

/// The name of these reasons in the readiness.
const PART: &str = "rights";
/// Pause between two tests whether a denied subscription is allowed now.
const TEST_PAUSE: Duration = Duration::from_secs(5);
/// Such a test takes a subscription for allowed if the server has not denied it within this time.
const TEST_WAIT: Duration = Duration::from_millis(500);
/// The most violations that wait for the guard; it needs one to start a test.
const QUEUE: usize = 64;

static WAITING: RateLimit = RateLimit::new();

impl NatsSettings {
    /// Connects, and tries again until it works or the token is cancelled. `readiness` gets the
    /// reason for waiting, and later the subscriptions that the server denies. Boxed as
    /// [`NatsSettings::connect`] is.
    ///
    /// # Errors
    /// Only if waiting can't help: a file of the settings is bad, or the program stops.
    pub fn connect_when_there<'a>(
        &'a self,
        role: Role,
        readiness: &'a Readiness,
        stop: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Client, ConnectError>> {
        Box::pin(self.try_until_connected(role, readiness, stop))
    }

    async fn try_until_connected(
        &self,
        role: Role,
        readiness: &Readiness,
        stop: &CancellationToken,
    ) -> Result<Client, ConnectError> {
        loop {
            let (sender, violations) = mpsc::channel(QUEUE);
            let error = tokio::select! {
                () = stop.cancelled() => return Err(ConnectError::Stopped),
                tried = self.connect_reporting(role, Some(sender)) => match tried {
                    Ok(client) => {
                        let (settings, own_client) = (self.clone(), client.clone());
                        let guard = Guard { settings, role, client: own_client, violations };
                        let (readiness_of_guard, stop_of_guard) = (readiness.clone(), stop.clone());
                        spawn(async move {
                            stop_of_guard.run_until_cancelled(guard.run(readiness_of_guard)).await
                        });
                        readiness.present("nats");
                        tracing::info!("connected to NATS at {}", self.url);
                        return Ok(client);
                    }
                    Err(error @ ConnectError::File { .. }) => return Err(error),
                    Err(error) => error,
                },
            };
            let text = chain(&error);
            if let Some(suppressed) = WAITING.due(&text) {
                tracing::warn!("waiting for NATS: {text}{suppressed}");
            }
            readiness.missing("nats", text);
            tokio::select! {
                () = stop.cancelled() => return Err(ConnectError::Stopped),
                () = tokio::time::sleep(MAX_RECONNECT_PAUSE) => {}
            }
        }
    }
}

/// A connection whose subscriptions are looked after.
struct Guard {
    settings: NatsSettings,
    role: Role,
    client: Client,
    violations: mpsc::Receiver<Violation>,
}

/// Denied subscriptions, by the text about them.
type Denied = BTreeMap<String, Violation>;

fn add(denied: &mut Denied, violation: Violation) {
    if matches!(violation, Violation::Subscribe { .. }) {
        denied.insert(violation.to_string(), violation);
    }
}

impl Guard {
    /// Keeps the denied subscriptions in the readiness, and makes a new connection when one is
    /// allowed.
    async fn run(mut self, readiness: Readiness) {
        let mut denied = Denied::new();
        while let Some(violation) = self.violations.recv().await {
            add(&mut denied, violation);
            while !denied.is_empty() {
                let all: Vec<&str> = denied.keys().map(String::as_str).collect();
                readiness.missing(PART, all.join("; "));
                sleep(TEST_PAUSE).await;
                while let Ok(violation) = self.violations.try_recv() {
                    add(&mut denied, violation);
                }
                let Some(still) = self.still_denied(&denied).await else { continue };
                if still.len() == denied.len() {
                    continue;
                }
                tracing::info!(
                    "a denied subscription is allowed now: subscribing over a new connection"
                );
                denied.retain(|text, _| still.contains(text));
                // The new connection subscribes again: old violations say nothing about it.
                while self.violations.try_recv().is_ok() {}
                // Fails only if the connection was closed for good.
                let _closed = self.client.force_reconnect().await;
            }
            readiness.present(PART);
        }
    }

    /// Tests the subscriptions over a separate connection, because other subscriptions of this one
    /// may be at work; `None` if the test is not possible now. Each subscription is dropped at
    /// once, so that no message is delivered to it.
    async fn still_denied(&self, denied: &Denied) -> Option<BTreeSet<String>> {
        let (sender, mut violations) = mpsc::channel(QUEUE.max(denied.len()));
        let client = self.settings.connect_reporting(self.role, Some(sender)).await.ok()?;
        for violation in denied.values() {
            let Violation::Subscribe { subject, queue } = violation.clone() else { continue };
            let subscribed = match queue {
                Some(queue) => client.queue_subscribe(subject, queue).await,
                None => client.subscribe(subject).await,
            };
            drop(subscribed.ok()?);
        }
        client.flush().await.ok()?;
        let mut still = BTreeSet::new();
        let collect = async {
            while let Some(violation) = violations.recv().await {
                still.insert(violation.to_string());
            }
        };
        let _until_then = timeout(TEST_WAIT, collect).await;
        Some(still)
    }
}
