//! Publishers that send at a steady rate, each message until it is acknowledged, whatever happens
//! to the streams meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use botstats_common::io::{clock, stop};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;

use super::stream::header_map;
use super::{Held, Outgoing, PATIENCE, until};

/// How often messages are sent.
const TICK: Duration = Duration::from_millis(10);
/// How long an acknowledgement is waited for before the same is sent again.
const ACK_LIMIT: Duration = Duration::from_secs(2);
/// Pause before a message that no stream took is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// How long a message is tried.
const LIMIT: Duration = Duration::from_secs(60);

/// What became of one message.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// Its place among the messages.
    pub index: usize,
    pub stream: String,
    pub sequence: u64,
    /// From the first try to the acknowledgement.
    pub waited: Duration,
    /// How often it was sent.
    pub tries: usize,
}

/// Publishers at work.
pub struct Traffic {
    stop: CancellationToken,
    sent: Arc<AtomicUsize>,
    messages: Arc<Vec<Outgoing>>,
    task: JoinHandle<Vec<Receipt>>,
}

/// What publishers sent, and what they were told.
pub struct Published {
    pub messages: Arc<Vec<Outgoing>>,
    pub receipts: Vec<Receipt>,
}

impl Traffic {
    /// Publishes the messages, this number a second, until all are sent or [`Traffic::finish`].
    pub fn start(js: &jetstream::Context, messages: Vec<Outgoing>, a_second: usize) -> Self {
        let (stop, sent) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let messages = Arc::new(messages);
        let mut js = js.clone();
        js.set_timeout(ACK_LIMIT);
        let a_tick =
            (a_second * usize::try_from(TICK.as_millis()).expect("a number") / 1_000).max(1);
        let task = stop::spawn(publish_all(
            js,
            Arc::clone(&messages),
            a_tick,
            stop.clone(),
            Arc::clone(&sent),
        ));
        Self { stop, sent, messages, task }
    }

    /// Waits until that number of further messages were sent.
    pub async fn more(&self, messages: usize) {
        let wanted = self.sent.load(Ordering::Relaxed) + messages;
        until(&format!("{messages} more messages"), PATIENCE, async || {
            let sent = self.sent.load(Ordering::Relaxed);
            assert!(sent < self.messages.len() || sent >= wanted, "there are too few messages");
            (sent >= wanted).then_some(())
        })
        .await;
    }

    /// Sends no more, and waits until everything is acknowledged.
    pub async fn finish(self) -> Published {
        self.stop.cancel();
        let receipts = self.task.await.expect("publishers that do not panic");
        Published { messages: self.messages, receipts }
    }

    /// Waits until all messages are acknowledged.
    pub async fn all(self) -> Published {
        let receipts = self.task.await.expect("publishers that do not panic");
        Published { messages: self.messages, receipts }
    }
}

impl Published {
    /// The longest that a message waited for its acknowledgement.
    pub fn longest_wait(&self) -> Duration {
        self.receipts.iter().map(|receipt| receipt.waited).max().unwrap_or_default()
    }

    /// How many messages had to be sent more than once.
    pub fn retried(&self) -> usize {
        self.receipts.iter().filter(|receipt| receipt.tries > 1).count()
    }

    /// Checks that everything acknowledged is where the acknowledgement says, and that nothing is
    /// stored that nobody sent. Gives how many messages are stored more than once.
    pub fn check(&self, held: &[Held]) -> usize {
        let stored: HashMap<(&str, u64), &Held> =
            held.iter().map(|one| ((one.stream.as_str(), one.message.sequence), one)).collect();
        assert_eq!(stored.len(), held.len(), "a sequence of a stream came twice");
        for receipt in &self.receipts {
            let (subject, _, payload) = &self.messages[receipt.index];
            let found = stored.get(&(receipt.stream.as_str(), receipt.sequence));
            let same = found
                .map(|one| one.as_published())
                .is_some_and(|message| message.subject == *subject && message.payload == *payload);
            assert!(same, "{receipt:?} of {subject} is {found:?}");
        }
        held.len() - self.receipts.len()
    }
}

async fn publish_all(
    js: jetstream::Context,
    messages: Arc<Vec<Outgoing>>,
    a_tick: usize,
    stop: CancellationToken,
    sent: Arc<AtomicUsize>,
) -> Vec<Receipt> {
    let mut pace = interval(TICK);
    // A task each: sending must not wait for those that no stream takes.
    let sending = FuturesUnordered::new();
    for index in 0..messages.len() {
        if index % a_tick == 0 {
            pace.tick().await;
        }
        if stop.is_cancelled() {
            break;
        }
        let (js, messages) = (js.clone(), Arc::clone(&messages));
        sending.push(stop::spawn(async move { publish_one(&js, &messages[index], index).await }));
        sent.fetch_add(1, Ordering::Relaxed);
    }
    let receipts = sending.map(|ended| ended.expect("a publisher that does not panic"));
    receipts.collect().await
}

async fn publish_one(
    js: &jetstream::Context,
    (subject, headers, payload): &Outgoing,
    index: usize,
) -> Receipt {
    let headers = header_map(headers);
    let started = clock::monotonic();
    for tries in 1.. {
        let payload = payload.clone().into();
        if let Ok(sent) = js.publish_with_headers(subject.clone(), headers.clone(), payload).await
            && let Ok(ack) = sent.await
        {
            let (stream, sequence) = (ack.stream, ack.sequence);
            return Receipt { index, stream, sequence, waited: started.elapsed(), tries };
        }
        assert!(started.elapsed() < LIMIT, "no acknowledgement of {subject} within {LIMIT:?}");
        sleep(RETRY_PAUSE).await;
    }
    unreachable!("it is tried without end")
}
