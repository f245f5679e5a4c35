//! Putting messages into the stream, and reading back what it holds.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::{self, context::PublishAckFuture};
use botstats_common::io::clock;
use botstats_common::names::{EVENTS_STREAM, EVENTS_SUBJECTS};
use futures::StreamExt as _;

use super::{PATIENCE, until};
use crate::model::Message;

/// Messages on their way without an acknowledgement.
const WINDOW: usize = 500;

/// Pause of a publisher before it sends the same again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// A message to publish: subject, headers, payload.
pub type Outgoing = (String, Vec<(String, String)>, Vec<u8>);

/// A message without what the server will give it.
pub fn outgoing(message: &Message) -> Outgoing {
    (message.subject.clone(), message.headers.clone(), message.payload.clone())
}

/// Publishes the messages in order and waits until all are acknowledged.
pub async fn publish(js: &jetstream::Context, messages: impl IntoIterator<Item = Outgoing>) {
    // A slow disk syncs a few dozen messages a second.
    let mut js = js.clone();
    js.set_timeout(PATIENCE);
    let mut waiting: VecDeque<PublishAckFuture> = VecDeque::with_capacity(WINDOW);
    for (subject, headers, payload) in messages {
        if waiting.len() == WINDOW {
            acknowledged(waiting.pop_front()).await;
        }
        let sent = js.publish_with_headers(subject, header_map(&headers), payload.into()).await;
        waiting.push_back(sent.expect("the message is sent"));
    }
    while let Some(ack) = waiting.pop_front() {
        acknowledged(Some(ack)).await;
    }
}

/// Publishes as a bot does: the same bytes again until they are acknowledged. Gives the sequence
/// that the acknowledgement names.
pub async fn publish_stubbornly(
    js: &jetstream::Context,
    (subject, headers, payload): &Outgoing,
    limit: Duration,
) -> u64 {
    let headers = header_map(headers);
    let started = clock::monotonic();
    loop {
        let payload = payload.clone().into();
        if let Ok(sent) = js.publish_with_headers(subject.clone(), headers.clone(), payload).await
            && let Ok(acknowledgement) = sent.await
        {
            return acknowledgement.sequence;
        }
        assert!(started.elapsed() < limit, "no acknowledgement within {limit:?}");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

pub fn header_map(headers: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name.as_str(), value.as_str());
    }
    map
}

async fn acknowledged(ack: Option<PublishAckFuture>) {
    if let Some(ack) = ack {
        ack.await.expect("the message is acknowledged");
    }
}

/// Everything that the stream of events holds, as the model reads it.
pub async fn stored(js: &jetstream::Context) -> Vec<Message> {
    stored_of(js, EVENTS_SUBJECTS).await
}

/// What the stream of events holds on the subjects that match.
pub async fn stored_of(js: &jetstream::Context, subjects: &str) -> Vec<Message> {
    stored_in(js, EVENTS_STREAM, subjects).await
}

/// What a stream holds on the subjects that match.
pub(super) async fn stored_in(
    js: &jetstream::Context,
    stream: &str,
    subjects: &str,
) -> Vec<Message> {
    // A cluster may be just choosing a leader.
    let (consumer, mut left) = until("a consumer of the stream", PATIENCE, async || {
        let stream = js.get_stream(stream).await.ok()?;
        let config =
            OrderedConfig { filter_subject: subjects.to_owned(), ..OrderedConfig::default() };
        let mut consumer = stream.create_consumer(config).await.ok()?;
        let left = consumer.info().await.ok()?.num_pending;
        Some((consumer, left))
    })
    .await;
    let mut messages = Vec::new();
    if left == 0 {
        return messages;
    }
    let mut incoming = consumer.messages().await.expect("messages");
    while let Some(message) = incoming.next().await {
        let message = message.expect("a message");
        let info = message.info().expect("a place in the stream");
        let stored_ns = info.published.unix_timestamp_nanos();
        let headers = message.headers.iter().flat_map(HeaderMap::iter);
        messages.push(Message {
            sequence: info.stream_sequence,
            stored_ns: stored_ns.try_into().expect("a time of our age"),
            subject: message.subject.to_string(),
            headers: headers
                .flat_map(|(name, values)| values.iter().map(|v| (name.to_string(), v.to_string())))
                .collect(),
            payload: message.payload.to_vec(),
        });
        left -= 1;
        if left == 0 {
            break;
        }
    }
    messages
}
