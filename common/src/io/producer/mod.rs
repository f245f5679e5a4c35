//! Publishes events to the stream; each is acknowledged, and sent again until it is.
//!
//! An [`Event`] becomes a [`Message`], a [`Publisher`] gets it stored; `common/examples/publish.rs`
//! shows it.
//!
//! Waiting messages are sent together: many as an atomic batch (one acknowledgement, one sync of
//! the server's disk), a few one by one. A message is sent again with the same bytes until the
//! server has stored or refused it; ingest removes the duplicates that this makes. The messages of
//! a refused batch are sent again one by one, so a bad message does not take its neighbours with
//! it. While the server is overloaded (its queue belongs to all publishers) the publisher backs
//! off: it sends fewer messages at once.
//!
//! *Invariants*: a message is counted once, as stored or as refused. At most [`BATCHES_IN_FLIGHT`]
//! times [`MAX_BATCH`] messages are under way.
//!
//! *Format*: `Nats-Batch-Id`, `Nats-Batch-Sequence` from 1, `Nats-Batch-Commit: 1` with a reply
//! subject on the last one (NATS ADR-50). No `Nats-Msg-Id`: one repeated id would refuse the whole
//! batch.

mod answer;

use std::time::Duration;

use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE,
};
use async_nats::{Client, HeaderMap, Request, connection};
use bytes::Bytes;
use futures::future;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::nats::{Violation, violation_since};
use super::{clock, stop};
use crate::event::{Event, InvalidEvent};
use crate::ids::{Account, Bot, Channel};
use crate::names;
use answer::{Judgement, judge};

/// The most messages of a batch: the server's own limit.
pub const MAX_BATCH: usize = 1_000;
/// The most bytes of a batch: a slow line must carry a batch in less than the server's limit of 10
/// s.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Fewer messages than this are sent one by one.
const MIN_BATCH: usize = 8;
/// The most batches in flight; the server allows 50 a stream, for all publishers together.
pub const BATCHES_IN_FLIGHT: usize = 4;
/// The most messages of one batch in flight when they are sent one by one.
const SINGLES_IN_FLIGHT: usize = 256;
/// The time limit of one acknowledgement.
const ACK_LIMIT: Duration = Duration::from_secs(10);
/// The publisher gives up after it has tried one message for this time; with an overloaded server,
/// after no message was stored for this time.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
/// The publisher gives up after no stream has listened for this time: a stream that changes its
/// leader is back sooner.
const NO_STREAM_LIMIT: Duration = Duration::from_secs(8);
/// Pause before a retry.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// Bytes of the server's `max_payload` that are kept free for headers.
const HEADER_BYTES: usize = 1024;

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The number that [`Refused`] repeats, such as a line's.
    pub tag: u64,
    /// The subject in NATS.
    pub subject: String,
    /// The bytes, which are sent unchanged.
    pub payload: Bytes,
}

impl Message {
    /// An event of that bot on that channel.
    ///
    /// # Errors
    /// [`InvalidEvent`], if ingest would refuse it.
    pub fn of(
        tag: u64,
        (account, bot, channel): (&Account, &Bot, &Channel),
        event: &Event<'_>,
    ) -> Result<Self, InvalidEvent> {
        let subject = names::event_subject(account, bot, channel);
        Ok(Self { tag, subject, payload: event.render()? })
    }
}

/// An id for an event that happens now: a UUID of version 7, which no other event has.
#[must_use]
pub fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// A message that the server will not store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The tag of the message.
    pub tag: u64,
    /// The server's reason, for people.
    pub reason: String,
}

/// The outcome of some messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of stored messages.
    pub stored: u64,
    /// The refused messages.
    pub refused: Vec<Refused>,
}

/// How many messages were stored and refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Acknowledged by the stream.
    pub stored: u64,
    /// Refused for good.
    pub refused: u64,
}

/// Why a publisher stopped before its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No stream listens on the subject.
    #[error("no stream takes these subjects: make it with `botstats setup`")]
    NoStream,
    /// The server did not acknowledge.
    #[error(
        "not acknowledged after {} s of tries ({reason}); publishing the same again is safe",
        GIVE_UP_AFTER.as_secs()
    )]
    GaveUp {
        /// The outcome of the last try.
        reason: String,
    },
    /// Acknowledgements can't be received.
    #[error(
        "no acknowledgement can come: {0}; set NATS_INBOX_PREFIX to an inbox that this user may have"
    )]
    NoInbox(String),
    /// A task of the publisher ended early.
    #[error("a task of the publisher ended early: {0}")]
    Task(String),
}

/// Publishes the messages of a channel.
#[derive(Debug, Clone)]
pub struct Publisher {
    client: Client,
}

impl Publisher {
    /// A publisher on that connection.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Publishes all messages until the channel closes; calls `report` with each batch's outcome.
    ///
    /// # Errors
    /// [`PublishError`]; what was reported until then is stored.
    pub async fn publish(
        &self,
        mut messages: mpsc::Receiver<Message>,
        mut report: impl FnMut(&Progress),
    ) -> Result<Counts, PublishError> {
        let mut counts = Counts::default();
        let mut under_way = FuturesUnordered::new();
        let mut left_over = None;
        let mut open = true;
        while open || !under_way.is_empty() {
            tokio::select! {
                batch = next_batch(&mut messages, &mut left_over),
                    if open && under_way.len() < BATCHES_IN_FLIGHT =>
                {
                    open = !batch.is_empty();
                    if open {
                        let publisher = self.clone();
                        // A separate task goes on while this one waits for messages.
                        under_way.push(stop::spawn(async move { publisher.deliver(batch).await }));
                    }
                }
                Some(delivered) = under_way.next() => {
                    let progress = delivered.map_err(|e| PublishError::Task(e.to_string()))??;
                    counts.stored += progress.stored;
                    counts.refused += u64::try_from(progress.refused.len()).unwrap_or(u64::MAX);
                    report(&progress);
                }
            }
        }
        Ok(counts)
    }

    /// Publishes all messages of a list.
    ///
    /// # Errors
    /// [`PublishError`]; what was reported until then is stored.
    pub async fn publish_all(
        &self,
        messages: impl IntoIterator<Item = Message>,
        report: impl FnMut(&Progress),
    ) -> Result<Counts, PublishError> {
        let (sender, receiver) = mpsc::channel(BATCHES_IN_FLIGHT * MAX_BATCH);
        let feeding = async move {
            for message in messages {
                // The channel is closed: the publisher gave up, and returns why.
                if sender.send(message).await.is_err() {
                    break;
                }
            }
        };
        tokio::join!(self.publish(receiver, report), feeding).0
    }

    /// Sends messages until each is stored or refused.
    async fn deliver(&self, mut messages: Vec<Message>) -> Result<Progress, PublishError> {
        let mut progress = Progress::default();
        let most = self.client.max_payload();
        messages.retain(|message| {
            let fits = message.payload.len() + HEADER_BYTES <= most;
            if !fits {
                let reason = format!("larger than the server takes ({most} bytes)");
                progress.refused.push(Refused { tag: message.tag, reason });
            }
            fits
        });
        if messages.len() >= MIN_BATCH {
            let tries = Tries::start();
            loop {
                match self.send_batch(&messages, &tries).await {
                    Judgement::Stored => {
                        progress.stored += u64::try_from(messages.len()).unwrap_or(u64::MAX);
                        return Ok(progress);
                    }
                    // A batch is too much at once for an overloaded server.
                    Judgement::Refused(reason) | Judgement::Busy(reason) => {
                        tracing::debug!(
                            "a batch was refused, so its messages are sent one by one: {reason}"
                        );
                        break;
                    }
                    again => self.wait_to_retry(&tries, again).await?,
                }
            }
        }
        self.deliver_singly(messages, &mut progress).await?;
        Ok(progress)
    }

    /// Sends messages one by one, half as many at once whenever the server is overloaded.
    async fn deliver_singly(
        &self,
        mut waiting: Vec<Message>,
        progress: &mut Progress,
    ) -> Result<(), PublishError> {
        let mut at_once = SINGLES_IN_FLIGHT;
        let mut tries = Tries::start();
        while !waiting.is_empty() {
            let round = waiting.drain(..at_once.min(waiting.len()));
            let outcomes = future::join_all(round.map(|message| self.deliver_one(message))).await;
            let mut stored = 0;
            let mut busy = None;
            for outcome in outcomes {
                match outcome? {
                    Single::Stored => stored += 1,
                    Single::Refused(refused) => progress.refused.push(refused),
                    Single::Busy(message, reason) => {
                        waiting.push(message);
                        busy = Some(reason);
                    }
                }
            }
            progress.stored += stored;
            if stored > 0 {
                tries = Tries::start();
            }
            if let Some(reason) = busy {
                at_once = (at_once / 2).max(1);
                self.wait_to_retry(&tries, Judgement::Busy(reason)).await?;
            } else {
                at_once = (at_once + 1).min(SINGLES_IN_FLIGHT);
            }
        }
        Ok(())
    }

    /// Sends one message until it is stored or refused, or the server is overloaded.
    async fn deliver_one(&self, message: Message) -> Result<Single, PublishError> {
        let tries = Tries::start();
        loop {
            let request = Request::new()
                .payload(message.payload.clone())
                .headers(content_type())
                .timeout(Some(ACK_LIMIT));
            match self.ask(message.subject.clone(), request, &tries).await {
                Judgement::Stored => return Ok(Single::Stored),
                Judgement::Refused(reason) => {
                    return Ok(Single::Refused(Refused { tag: message.tag, reason }));
                }
                Judgement::Busy(reason) => return Ok(Single::Busy(message, reason)),
                again => self.wait_to_retry(&tries, again).await?,
            }
        }
    }

    /// Sends a batch once. A batch that could not be sent whole is forgotten by the server.
    async fn send_batch(&self, messages: &[Message], tries: &Tries) -> Judgement {
        let Some((last, others)) = messages.split_last() else { return Judgement::Stored };
        let id = new_id();
        for (i, message) in others.iter().enumerate() {
            let (subject, payload) = (message.subject.clone(), message.payload.clone());
            let headers = batch_headers(&id, i + 1);
            if let Err(error) = self.client.publish_with_headers(subject, headers, payload).await {
                return Judgement::Again(error.to_string());
            }
        }
        let mut headers = batch_headers(&id, messages.len());
        headers.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
        let request =
            Request::new().payload(last.payload.clone()).headers(headers).timeout(Some(ACK_LIMIT));
        self.ask(last.subject.clone(), request, tries).await
    }

    /// Sends one message and waits for its acknowledgement. A denied publish gets no answer, so
    /// this waits for a permission violation as well.
    async fn ask(&self, subject: String, request: Request, tries: &Tries) -> Judgement {
        tokio::select! {
            answer = self.client.send_request(subject.clone(), request) => judge(answer),
            violation = violation_since(&subject, tries.0) => match violation {
                Violation::Publish(_) => Judgement::Refused(violation.to_string()),
                Violation::Subscribe { .. } => Judgement::NoInbox(violation.to_string()),
            },
        }
    }

    /// Waits before a retry; an error if it is time to give up.
    async fn wait_to_retry(&self, tries: &Tries, outcome: Judgement) -> Result<(), PublishError> {
        let reason = match outcome {
            Judgement::NoStream if tries.over(NO_STREAM_LIMIT) => {
                return Err(PublishError::NoStream);
            }
            Judgement::NoStream => "no stream".to_owned(),
            Judgement::NoInbox(why) => return Err(PublishError::NoInbox(why)),
            Judgement::Again(reason) | Judgement::Busy(reason) | Judgement::Refused(reason) => {
                reason
            }
            Judgement::Stored => return Ok(()),
        };
        tokio::time::sleep(RETRY_PAUSE).await;
        // Without a connection a retry would only fill the client's queue.
        while self.client.connection_state() != connection::State::Connected {
            if tries.over(GIVE_UP_AFTER) {
                return Err(PublishError::GaveUp { reason: "no connection to NATS".to_owned() });
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        if tries.over(GIVE_UP_AFTER) { Err(PublishError::GaveUp { reason }) } else { Ok(()) }
    }
}

/// The outcome of a message that was sent alone.
enum Single {
    Stored,
    Refused(Refused),
    /// The server is overloaded: the message must be sent again.
    Busy(Message, String),
}

/// The time of the first try of a message or batch.
struct Tries(std::time::Instant);

impl Tries {
    fn start() -> Self {
        Self(clock::monotonic())
    }

    fn over(&self, limit: Duration) -> bool {
        self.0.elapsed() >= limit
    }
}

fn content_type() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Content-Type", "application/cloudevents+json");
    headers
}

fn batch_headers(id: &str, sequence: usize) -> HeaderMap {
    let mut headers = content_type();
    headers.insert(NATS_BATCH_ID, id);
    headers.insert(NATS_BATCH_SEQUENCE, sequence.to_string());
    headers
}

/// Takes the waiting messages, at least one, within the limits of a batch; empty if the channel
/// closed. Cancel safe: no message is taken before the last await.
async fn next_batch(
    messages: &mut mpsc::Receiver<Message>,
    left_over: &mut Option<Message>,
) -> Vec<Message> {
    let first = match left_over.take() {
        Some(message) => message,
        None => match messages.recv().await {
            Some(message) => message,
            None => return Vec::new(),
        },
    };
    let mut bytes = first.payload.len();
    let mut batch = vec![first];
    while batch.len() < MAX_BATCH {
        let Ok(message) = messages.try_recv() else { break };
        bytes += message.payload.len();
        if bytes > MAX_BATCH_BYTES {
            *left_over = Some(message);
            break;
        }
        batch.push(message);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn batches_keep_their_limits() {
        let (sender, mut receiver) = mpsc::channel(4_000);
        let send = |tag, size| {
            let payload = Bytes::from(vec![b'x'; size]);
            sender.try_send(Message { tag, subject: "s".to_owned(), payload }).unwrap();
        };
        (0..2_500).for_each(|tag| send(tag, 1));
        let big = MAX_BATCH_BYTES / 2;
        (2_500..2_503).for_each(|tag| send(tag, big));
        drop(sender);
        let (mut left_over, mut sizes, mut tags) = (None, Vec::new(), Vec::new());
        loop {
            let batch = next_batch(&mut receiver, &mut left_over).await;
            if batch.is_empty() {
                break;
            }
            sizes.push(batch.len());
            tags.extend(batch.iter().map(|message| message.tag));
        }
        assert_eq!(sizes, [1_000, 1_000, 501, 2]);
        assert_eq!(tags, (0..2_503).collect::<Vec<_>>());
    }
}
