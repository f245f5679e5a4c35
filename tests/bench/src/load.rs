//! Events as the benchmark has them, and streams full of them.
//!
//! All traffic is that of `botstats simulate`. How dense it is matters: what costs are the buckets,
//! users and conversations that a commit touches. So it is the same everywhere:
//! [`EVENTS_PER_ACCOUNT_DAY`].
//!
//! A stream is filled over its own server, which does not sync each message: what a crash would
//! lose is not measured here, and syncing two million takes minutes.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use async_nats::{Client, HeaderMap, Subscriber};
use botstats::simulate::{Cast, Event, Params, Simulation, Spread};
use botstats_common::io::clock;
use futures::{FutureExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::sync::mpsc;

pub use botstats_common::quarter::DAY_MS;

use super::say;

/// Events of an account a day, on average; the largest accounts have a hundred times those of the
/// smallest.
pub const EVENTS_PER_ACCOUNT_DAY: u64 = 3_000;
/// Messages on their way without an acknowledgement.
const WINDOW: usize = 1_000;
/// The events of one piece; a thread makes pieces ahead.
const PIECE: usize = 500;
const PIECES_AHEAD: usize = 20;
/// How often it is said how far it is, in messages.
const REPORT_EVERY: u64 = 1_000_000;

/// Whether messages have the header that bots give them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Headers {
    /// `Content-Type: application/cloudevents+json`.
    ContentType,
    None,
}

impl Headers {
    /// The headers of one message.
    pub fn map(self) -> HeaderMap {
        let mut map = HeaderMap::new();
        if self == Self::ContentType {
            map.insert("Content-Type", "application/cloudevents+json");
        }
        map
    }
}

/// As many accounts as that traffic has.
pub fn accounts(events: u64, days: u32) -> u32 {
    let accounts = events / (u64::from(days) * EVENTS_PER_ACCOUNT_DAY);
    u32::try_from(accounts.max(1)).unwrap_or(u32::MAX)
}

/// Traffic of the days up to `now_ms`, with its days and nights, in order of time.
pub fn history(events: u64, days: u32, now_ms: i64) -> Simulation {
    Simulation::new(Params { accounts: accounts(events, days), days, events, seed: 1, now_ms })
}

/// Even traffic of `accounts` accounts between two instants, in order of time.
pub fn even(accounts: u32, start_ms: i64, end_ms: i64, events: u64, seed: u64) -> Simulation {
    Simulation::of(Cast::of_accounts(accounts), start_ms, end_ms, events, seed, Spread::Even)
}

/// Writes events as the lines that `botstats publish` reads; gives the file's path.
pub(super) fn written(events: Simulation, path: &Path) -> anyhow::Result<String> {
    let mut file = BufWriter::new(File::create(path)?);
    for event in events {
        let payload = str::from_utf8(&event.payload)?;
        writeln!(file, r#"{{"subject":"{}","payload":{payload}}}"#, event.subject)?;
    }
    file.flush()?;
    Ok(path.display().to_string())
}

/// Runs `botstats publish` for such a file. Returns how many seconds that took, and the program's
/// standard error.
pub(super) fn published(program: &Path, file: &str, url: String) -> anyhow::Result<(f64, String)> {
    let begun = clock::monotonic();
    let output = Command::new(program).args(["publish", file]).env("NATS_URL", url).output()?;
    let seconds = begun.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "botstats publish: {said}");
    Ok((seconds, said))
}

/// Makes events in a thread of its own, ahead of the receiver.
pub fn ahead(events: impl Iterator<Item = Event> + Send + 'static) -> mpsc::Receiver<Vec<Event>> {
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    std::thread::spawn(move || {
        let mut events = events;
        loop {
            let piece: Vec<Event> = events.by_ref().take(PIECE).collect();
            if piece.is_empty() || sender.blocking_send(piece).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Publishes messages whose acknowledgements come to one inbox, in order.
pub struct Publisher {
    client: Client,
    headers: HeaderMap,
    inbox: String,
}

impl Publisher {
    /// One with its inbox.
    pub async fn new(client: &Client, headers: Headers) -> anyhow::Result<(Self, Subscriber)> {
        let inbox = client.new_inbox();
        let acknowledgements = client.subscribe(inbox.clone()).await?;
        let publisher = Self { client: client.clone(), headers: headers.map(), inbox };
        Ok((publisher, acknowledgements))
    }

    /// Sends a message; does not wait for its acknowledgement.
    pub async fn send(&self, event: Event) -> anyhow::Result<()> {
        let Event { subject, payload, .. } = event;
        let (client, inbox) = (&self.client, self.inbox.clone());
        if self.headers.is_empty() {
            client.publish_with_reply(subject, inbox, payload).await?;
        } else {
            let headers = self.headers.clone();
            client.publish_with_reply_and_headers(subject, inbox, headers, payload).await?;
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Acknowledgement {
    seq: Option<u64>,
}

/// The sequence that an acknowledgement names.
pub fn acknowledged(message: Option<async_nats::Message>) -> anyhow::Result<u64> {
    let message = message.context("the acknowledgements ended")?;
    let read: Option<Acknowledgement> = serde_json::from_slice(&message.payload).ok();
    read.and_then(|a| a.seq).filter(|sequence| *sequence > 0).with_context(|| {
        format!("not stored: {:?} {}", message.status, String::from_utf8_lossy(&message.payload))
    })
}

/// Puts events into the stream as fast as the server takes them; gives the last sequence.
pub async fn fill(
    client: &Client,
    headers: Headers,
    events: impl Iterator<Item = Event> + Send + 'static,
) -> anyhow::Result<u64> {
    let begun = clock::monotonic();
    let (publisher, mut acknowledgements) = Publisher::new(client, headers).await?;
    let mut pieces = ahead(events);
    let (mut sent, mut stored, mut last) = (0_u64, 0_u64, 0);
    while let Some(piece) = pieces.recv().await {
        let mut piece = VecDeque::from(piece);
        while let Some(event) = piece.pop_front() {
            publisher.send(event).await?;
            sent += 1;
            while let Some(message) = acknowledgements.next().now_or_never() {
                last = acknowledged(message)?;
                stored += 1;
            }
            while usize::try_from(sent - stored)? >= WINDOW {
                last = acknowledged(acknowledgements.next().await)?;
                stored += 1;
            }
            if sent.is_multiple_of(REPORT_EVERY) {
                say(&format!("  {sent} messages sent"));
            }
        }
    }
    while stored < sent {
        last = acknowledged(acknowledgements.next().await)?;
        stored += 1;
    }
    let seconds = begun.elapsed().as_secs_f64();
    say(&format!("  {stored} messages stored in {seconds:.1} s"));
    Ok(last)
}
