//! Publishers that send at a steady rate or as fast as acknowledgements come, each message until it
//! is acknowledged, whatever happens to the streams meanwhile.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use botstats_common::io::{clock, stop};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep};

use super::readers::is_of_readers;
use super::stream::header_map;
use super::{Held, Outgoing, PATIENCE, until};

/// How often messages are sent at a steady rate.
const TICK: Duration = Duration::from_millis(10);
/// Messages on their way at a time, if they are sent as fast as acknowledgements come.
const IN_FLIGHT: usize = 256;
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

/// How fast messages are sent.
#[derive(Debug, Clone, Copy)]
enum Pace {
    Steady { a_tick: usize },
    Saturated,
}

/// Publishers at work.
pub struct Traffic {
    /// A permit for each message that may be sent; closed if no more may be.
    allowed: Arc<Semaphore>,
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
        let a_tick = a_second * usize::try_from(TICK.as_millis()).expect("a number") / 1_000;
        let allowed = messages.len();
        Self::run(js, messages, allowed, Pace::Steady { a_tick: a_tick.max(1) })
    }

    /// Publishes messages as fast as acknowledgements come, each as soon as [`Traffic::allow`] lets
    /// it. A message that no stream takes is on its way until one does.
    pub fn saturated(js: &jetstream::Context, messages: Vec<Outgoing>) -> Self {
        Self::run(js, messages, 0, Pace::Saturated)
    }

    fn run(js: &jetstream::Context, messages: Vec<Outgoing>, allowed: usize, pace: Pace) -> Self {
        let allowed = Arc::new(Semaphore::new(allowed));
        let sent = Arc::new(AtomicUsize::new(0));
        let messages = Arc::new(messages);
        let mut js = js.clone();
        js.set_timeout(ACK_LIMIT);
        let task = stop::spawn(publish_all(
            js,
            Arc::clone(&messages),
            pace,
            Arc::clone(&allowed),
            Arc::clone(&sent),
        ));
        Self { allowed, sent, messages, task }
    }

    /// Lets saturated publishers send this number of further messages: a bound for what is judged
    /// afterwards. At a steady rate all messages are allowed.
    pub fn allow(&self, messages: usize) {
        self.allowed.add_permits(messages);
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
        self.allowed.close();
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
    /// stored that nobody sent, but for events of [`super::Readers`]. Gives how many messages are
    /// stored more than once.
    pub fn check(&self, held: &[Held]) -> usize {
        let held = held.iter().filter(|one| !is_of_readers(&one.message.subject));
        let held: Vec<&Held> = held.collect();
        let stored: HashMap<(&str, u64), &Held> =
            held.iter().map(|one| ((one.stream.as_str(), one.message.sequence), *one)).collect();
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
    pace: Pace,
    allowed: Arc<Semaphore>,
    sent: Arc<AtomicUsize>,
) -> Vec<Receipt> {
    let mut ticks = interval(TICK);
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    // A task each: sending must not wait for those that no stream takes.
    let mut sending = Vec::new();
    for index in 0..messages.len() {
        let mut permit = None;
        match pace {
            Pace::Steady { a_tick } if index % a_tick == 0 => {
                ticks.tick().await;
            }
            Pace::Steady { .. } => {}
            Pace::Saturated => permit = Arc::clone(&room).acquire_owned().await.ok(),
        }
        match allowed.acquire().await {
            Ok(allowed) => allowed.forget(),
            Err(_) => break,
        }
        let (js, messages) = (js.clone(), Arc::clone(&messages));
        sending.push(stop::spawn(async move {
            let receipt = publish_one(&js, &messages[index], index).await;
            drop(permit);
            receipt
        }));
        sent.fetch_add(1, Ordering::Relaxed);
    }
    let mut receipts = Vec::with_capacity(sending.len());
    for publisher in sending {
        receipts.push(publisher.await.expect("a publisher that does not panic"));
    }
    receipts
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
