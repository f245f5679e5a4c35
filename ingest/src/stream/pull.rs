//! A consumer of the stream that acknowledges nothing, read through plain pull requests.
//!
//! The next request is sent before the last one is complete, so that the server always has one to
//! serve. Each asks for the messages of a moment: messages in flight must not delay other answers
//! on a slow line.
//!
//! *Invariants*: messages come in the order of the consumer's own sequence without a gap, or there
//! is an error. Whatever ends the consumer is an error.
//!
//! *Why* not the client library's stream of messages: it clones a context with every message, which
//! is a third of what a message costs the client (`docs/performance.md`).

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, Message, StatusCode, Subject, Subscriber};
use botstats_common::io::clock::monotonic;
use botstats_common::rules::CONSUMER_LIFE;
use futures::StreamExt as _;

/// The server sends a heartbeat this often while there are no messages.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A pull request asks for the number of messages that arrive in about this time.
const REQUEST_TIME: Duration = Duration::from_millis(100);
/// Bounds for that number.
const REQUEST_MESSAGES: RangeInclusive<usize> = 500..=10_000;
/// The server completes a pull request early once it has sent this many bytes.
const MAX_REQUEST_BYTES: usize = 8 * 1024 * 1024;
/// The server drops a pull request after this time; the reader sends the next one long before.
const REQUEST_LIFE: Duration = Duration::from_secs(30);
/// A reply subject has no number behind this many tokens after its prefix.
const MAX_TOKENS: usize = 9;
/// The header with the number of messages that remain of a pull request that ends early.
const PENDING_MESSAGES: &str = "Nats-Pending-Messages";

/// Why the consumer is of no use any more; another one can go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum PullError {
    #[error("the consumer could not be made")]
    Consumer(#[source] async_nats::Error),
    #[error("the server could not be asked for messages")]
    Ask(#[source] async_nats::Error),
    #[error("the subscription ended")]
    Ended,
    #[error("the consumer ended: {0}")]
    Status(String),
    /// A message with a reply subject that JetStream does not make.
    #[error("a message came without its sequence in the stream")]
    NoMetadata,
    /// The consumer's sequence has a gap.
    #[error("messages of the consumer were lost on the way")]
    Gap,
}

pub(super) struct Pulled {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When it was stored, in Unix nanoseconds.
    pub stored_ns: i64,
    /// The number of messages that the consumer had yet to send.
    pub behind: u64,
    pub message: Message,
}

/// A consumer at work.
pub(super) struct Pull {
    consumer: consumer::Consumer<pull::Config>,
    inbox: Subject,
    messages: Subscriber,
    /// Messages that were asked for and have not arrived.
    asked: usize,
    /// The number of messages that the last request asked for.
    last_asked: usize,
    /// When the last request was sent.
    asked_at: Instant,
    /// The number of messages that have arrived since then.
    arrived: usize,
    /// The consumer's sequence of the last message.
    consumed: u64,
}

impl Pull {
    /// Makes a consumer that begins at a sequence; gives how many messages wait for it. None comes
    /// before [`Pull::ask_ahead`].
    pub(super) async fn start(
        client: &Client,
        js: &Context,
        stream: &str,
        from: u64,
    ) -> Result<(Self, u64), PullError> {
        let config = pull::Config {
            description: Some("botstats-ingest".to_owned()),
            ack_policy: AckPolicy::None,
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from },
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: CONSUMER_LIFE,
            ..pull::Config::default()
        };
        let made: Result<jetstream::consumer::Consumer<pull::Config>, _> =
            js.create_consumer_on_stream(config, stream).await;
        let consumer = made.map_err(|e| PullError::Consumer(e.into()))?;
        let waiting = consumer.cached_info().num_pending;
        let inbox = Subject::from(client.new_inbox());
        let subscribed = client.subscribe(inbox.clone()).await;
        let messages = subscribed.map_err(|e| PullError::Ask(e.into()))?;
        let pull = Self {
            consumer,
            inbox,
            messages,
            asked: 0,
            last_asked: 0,
            asked_at: monotonic(),
            arrived: 0,
            consumed: 0,
        };
        Ok((pull, waiting))
    }

    /// Sends the next request when less than half of the last one is outstanding: so at most one
    /// and a half requests are.
    ///
    /// # Errors
    /// If the request cannot be sent.
    pub(super) async fn ask_ahead(&mut self) -> Result<(), PullError> {
        if self.asked <= self.last_asked / 2 {
            let batch = request_messages(self.arrived, self.asked_at.elapsed());
            let request = pull::BatchConfig {
                batch,
                max_bytes: MAX_REQUEST_BYTES,
                expires: Some(REQUEST_LIFE),
                idle_heartbeat: HEARTBEAT,
                ..pull::BatchConfig::default()
            };
            let sent = self.consumer.request_batch(request, self.inbox.clone()).await;
            sent.map_err(|e| PullError::Ask(e.into()))?;
            self.asked += batch;
            self.last_asked = batch;
            (self.asked_at, self.arrived) = (monotonic(), 0);
        }
        Ok(())
    }

    /// What the server sends next, for [`Pull::accept`]. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Message> {
        self.messages.next().await
    }

    /// Takes what arrived: a message, or nothing if it only was the status of a request.
    ///
    /// # Errors
    /// [`PullError`]: if the consumer ended, or a message is missing before this one.
    pub(super) fn accept(&mut self, arrived: Option<Message>) -> Result<Option<Pulled>, PullError> {
        let message = arrived.ok_or(PullError::Ended)?;
        if let Some(status) = message.status {
            return self.status(status, &message).map(|()| None);
        }
        let place = message.reply.as_deref().and_then(metadata_of).ok_or(PullError::NoMetadata)?;
        if place.consumer_sequence != self.consumed + 1 {
            return Err(PullError::Gap);
        }
        self.consumed += 1;
        self.asked = self.asked.saturating_sub(1);
        self.arrived += 1;
        let Metadata { sequence, stored_ns, behind, .. } = place;
        Ok(Some(Pulled { sequence, stored_ns, behind, message }))
    }

    /// | status | what it says |
    /// | --- | --- |
    /// | 100 | the server is there |
    /// | 408, and 409 with what remains | a request has ended |
    /// | any other | the consumer or the server has |
    fn status(&mut self, status: StatusCode, message: &Message) -> Result<(), PullError> {
        if status == StatusCode::IDLE_HEARTBEAT {
            return Ok(());
        }
        let headers = message.headers.as_ref();
        let remains = headers.and_then(|h| h.get(PENDING_MESSAGES)?.as_str().parse().ok());
        let description = message.description.as_deref().unwrap_or_default();
        // A consumer that is deleted or moves to another server names the rest of its requests,
        // too.
        let is_of_request = description.starts_with("Message Size Exceeds MaxBytes")
            || description.starts_with("Batch Completed");
        match remains {
            Some(remains) if status == StatusCode::TIMEOUT || is_of_request => {
                self.asked = self.asked.saturating_sub(remains);
                Ok(())
            }
            _ => Err(PullError::Status(format!("{status} {description}"))),
        }
    }
}

/// What JetStream tells about a message in its reply subject.
#[derive(Debug, PartialEq, Eq)]
struct Metadata {
    sequence: u64,
    consumer_sequence: u64,
    stored_ns: i64,
    behind: u64,
}

/// Reads
/// `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<stored>.<pending>`, or
/// the same with domain and account hash before the stream and perhaps more tokens at the end (NATS
/// ADR-15).
fn metadata_of(reply: &str) -> Option<Metadata> {
    let rest = reply.strip_prefix("$JS.ACK.")?;
    // One pass over the bytes, which makes a number of each token: this is done for every message.
    let (mut numbers, mut count) = ([None; MAX_TOKENS], 0);
    let (mut begin, mut number) = (0, Some(0_u64));
    for (at, byte) in rest.bytes().chain([b'.']).enumerate() {
        if byte == b'.' {
            if let Some(of_token) = numbers.get_mut(count) {
                *of_token = number.filter(|_| begin < at);
            }
            count += 1;
            (begin, number) = (at + 1, Some(0));
        } else {
            let digit = Some(byte.wrapping_sub(b'0')).filter(|digit| *digit < 10);
            number = number
                .zip(digit)
                .and_then(|(n, digit)| n.checked_mul(10)?.checked_add(digit.into()));
        }
    }
    // Tokens before the number of deliveries.
    let before = match count {
        7 => 2,
        9.. => 4,
        _ => return None,
    };
    Some(Metadata {
        sequence: numbers[before + 1]?,
        consumer_sequence: numbers[before + 2]?,
        stored_ns: i64::try_from(numbers[before + 3]?).ok()?,
        behind: numbers[before + 4]?,
    })
}

/// The number of messages to ask for when `arrived` arrived in that time.
fn request_messages(arrived: usize, time: Duration) -> usize {
    let due = arrived as u128 * REQUEST_TIME.as_micros() / time.as_micros().max(1);
    usize::try_from(due)
        .unwrap_or(usize::MAX)
        .clamp(*REQUEST_MESSAGES.start(), *REQUEST_MESSAGES.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_follow_the_rate() {
        for (come, ms, expected) in [
            (0, 0, 500),
            (0, 1_000, 500),
            (500, 1, 10_000),
            (2_000, 100, 2_000),
            (3_000, 1_000, 500),
            (usize::MAX, 1, 10_000),
        ] {
            assert_eq!(
                request_messages(come, Duration::from_millis(ms)),
                expected,
                "{come} in {ms}"
            );
        }
    }

    #[test]
    fn metadata_in_both_forms() {
        let stored_ns = 1_795_171_920_000_000_001;
        let metadata = Some(Metadata { sequence: 12, consumer_sequence: 3, stored_ns, behind: 7 });
        let tail = "1.12.3.1795171920000000001.7";
        for (reply, expected) in [
            (format!("$JS.ACK.EVENTS.c0.{tail}"), &metadata),
            (format!("$JS.ACK._.hash.EVENTS.c0.{tail}"), &metadata),
            (format!("$JS.ACK.hub.hash.EVENTS.c0.{tail}.random"), &metadata),
            (format!("$JS.ACK.hub.hash.EVENTS.c0.{tail}.random.more"), &metadata),
            (format!("$JS.ACK.x.EVENTS.c0.{tail}"), &None),
            (format!("$JS.FC.EVENTS.c0.{tail}"), &None),
            ("$JS.ACK.EVENTS.c0.1.12.3.-5.7".to_owned(), &None),
            ("$JS.ACK.EVENTS.c0.1.12.x.5.7".to_owned(), &None),
            ("$JS.ACK.EVENTS.c0.1.12..5.7".to_owned(), &None),
            ("$JS.ACK.EVENTS.c0.1.12.3.5.".to_owned(), &None),
            ("$JS.ACK.EVENTS.c0.1.18446744073709551616.3.5.7".to_owned(), &None),
            ("$JS.ACK.EVENTS.c0.1.12.3".to_owned(), &None),
            (String::new(), &None),
        ] {
            assert_eq!(&metadata_of(&reply), expected, "{reply}");
        }
    }
}
