//! A publisher whose accounts are spread over several streams.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use botstats_common::io::producer::{BATCHES_IN_FLIGHT, MAX_BATCH, Message, Publisher};
use botstats_common::io::{clock, stop};
use botstats_common::slot::Slots;
use botstats_tests::harness::connection;
use botstats_tests::spread::{Spread, make_child, name};
use futures::StreamExt as _;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::sync::mpsc;

/// How often the choice between batches and single messages may fall on single ones.
const TRIES: usize = 5;
const ACCOUNTS: u64 = 1_000;
const STREAMS: usize = 4;
/// Tasks that publish one event after the other, beside one that publishes as fast as it can.
const PULSES: u64 = 8;
/// The longest wait of an event that is allowed here: no more than that of a busy machine.
const LONGEST: Duration = Duration::from_secs(5);

/// What the server said to publishers, seen by somebody who listens to all inboxes.
#[derive(Debug, Default)]
struct Said {
    /// The sizes of stored batches.
    batches: Vec<usize>,
    /// Batches that a stream did not get whole.
    incomplete: usize,
}

#[derive(Deserialize)]
struct Answer {
    count: Option<usize>,
    error: Option<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerError {
    err_code: u32,
}

/// Writes down what is said from now on.
async fn listening(url: &str) -> Arc<Mutex<Said>> {
    let client = connection(url).await;
    let mut inboxes = client.subscribe("_INBOX.>").await.unwrap();
    client.flush().await.unwrap();
    let said = Arc::new(Mutex::new(Said::default()));
    let kept = said.clone();
    stop::spawn(async move {
        while let Some(message) = inboxes.next().await {
            let Ok(answer) = serde_json::from_slice::<Answer>(&message.payload) else { continue };
            let mut said = kept.lock();
            said.batches.extend(answer.count);
            said.incomplete += usize::from(answer.error.is_some_and(|e| e.err_code == 10_176));
        }
    });
    said
}

fn message(tag: u64) -> Message {
    let subject = format!("botstats.events.acct-{}.b1.web", tag % ACCOUNTS);
    Message { tag, subject, payload: format!(r#"{{"id":{tag}}}"#).into() }
}

/// The payloads of all events, with how often each is stored.
async fn stored(spread: &Spread, streams: usize) -> BTreeMap<Vec<u8>, usize> {
    let mut counts = BTreeMap::new();
    for number in 1..=streams {
        for (_, payload) in spread.events(&name(number)).await {
            *counts.entry(payload).or_default() += 1;
        }
    }
    counts
}

#[tokio::test]
async fn accounts_of_four_streams_go_in_full_batches() {
    // On a busy machine single messages may look faster by chance.
    for _ in 0..TRIES {
        let in_full = batches_of_four_streams().await;
        if in_full >= 32_000 {
            return;
        }
        eprintln!("{in_full} messages in full batches");
    }
    panic!("batches are hardly full, or none");
}

/// Publishes to four streams; gives how many messages went in full batches.
async fn batches_of_four_streams() -> usize {
    const EVENTS: u64 = 40_000;
    // A server that syncs always, so that batches are faster.
    let spread = Spread::start(STREAMS, true).await;
    let said = listening(&spread.nats.url()).await;
    let publisher = Publisher::new(spread.client.clone());
    let counts = publisher.publish_all((0..EVENTS).map(message), |_| {}).await.unwrap();
    assert_eq!((counts.stored, counts.refused), (EVENTS, 0));

    let stored = stored(&spread, STREAMS).await;
    assert_eq!(stored.len(), usize::try_from(EVENTS).unwrap());
    assert!(stored.values().all(|count| *count == 1), "an event is stored twice");
    let Said { batches, incomplete } = std::mem::take(&mut *said.lock());
    assert_eq!(incomplete, 0, "batches over several streams");
    // All but the trials, what came before them, and the last ones.
    batches.iter().filter(|size| **size == MAX_BATCH).count() * MAX_BATCH
}

/// One publisher saturates the server, others publish an event at a time, while half of the slots
/// of a stream move to another one, and back half of them to a third.
#[tokio::test]
async fn slots_move_while_accounts_publish() {
    let spread = Spread::start(2, true).await;
    let said = listening(&spread.nats.url()).await;
    let publisher = Publisher::new(spread.client.clone());
    let (next, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let longest = Arc::new(Mutex::new(Duration::ZERO));

    let (sender, receiver) = mpsc::channel(BATCHES_IN_FLIGHT * MAX_BATCH);
    let (numbers, over) = (next.clone(), is_over.clone());
    let feeding = stop::spawn(async move {
        while !over.load(Ordering::Relaxed) {
            let sent = sender.send(message(numbers.fetch_add(1, Ordering::Relaxed))).await;
            sent.expect("a publisher");
        }
    });
    let saturating = publisher.clone();
    let saturating = stop::spawn(async move { saturating.publish(receiver, |_| {}).await });
    let pulses: Vec<_> = (0..PULSES)
        .map(|_| {
            let (publisher, numbers) = (publisher.clone(), next.clone());
            let (over, longest) = (is_over.clone(), longest.clone());
            stop::spawn(async move {
                let mut stored = 0;
                while !over.load(Ordering::Relaxed) {
                    let begun = clock::monotonic();
                    let one = message(numbers.fetch_add(1, Ordering::Relaxed));
                    stored += publisher.publish_all([one], |_| {}).await.unwrap().stored;
                    let mut longest = longest.lock();
                    *longest = begun.elapsed().max(*longest);
                }
                stored
            })
        })
        .collect();

    let batches = |count: usize| {
        let said = said.clone();
        async move {
            let more = said.lock().batches.len() + count;
            while said.lock().batches.len() < more {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    batches(20).await;
    let mut parent = name(2);
    for (number, slots) in [(3, "192-255"), (4, "224-255")] {
        let (child, slots) = (name(number), slots.parse::<Slots>().unwrap());
        make_child(&spread.js, &parent, &child, slots).await;
        let moved = spread.move_slots(&parent, &child, slots).await;
        eprintln!("moved {slots:?} in {moved:?}");
        batches(20).await;
        parent = child;
    }
    is_over.store(true, Ordering::Relaxed);
    feeding.await.unwrap();
    let mut acknowledged = saturating.await.unwrap().unwrap().stored;
    for pulse in pulses {
        acknowledged += pulse.await.unwrap();
    }

    let published = next.load(Ordering::Relaxed);
    assert_eq!(acknowledged, published);
    let stored = stored(&spread, 4).await;
    assert_eq!(stored.len(), usize::try_from(published).unwrap(), "events are lost");
    assert!(stored.values().all(|count| *count == 1), "an event is stored twice");
    let longest = *longest.lock();
    let Said { batches, incomplete } = &*said.lock();
    eprintln!(
        "{published} events, {} batches, {incomplete} incomplete, longest wait {longest:?}",
        batches.len()
    );
    // A batch that meets a move tells of it once; those in flight beside it may too.
    assert!(*incomplete <= 2 * 2 * BATCHES_IN_FLIGHT, "{incomplete} batches over several streams");
    assert!(longest < LONGEST, "an event waited for {longest:?}");
    let used: BTreeSet<usize> = batches.iter().copied().collect();
    assert!(used.contains(&MAX_BATCH), "{used:?}");
}
