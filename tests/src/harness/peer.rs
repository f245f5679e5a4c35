//! A stand-in for an ingest: it speaks the ingest's part of the wire contract, well or badly, as a
//! test needs.

use std::fmt::Debug;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_nats::Subscriber;
use botstats_common::ids::Bot;
use botstats_common::io::stop;
use botstats_common::metric::TypeCode;
use botstats_common::names::{
    READ_QUEUE, SLOTS_METADATA, all_reads, all_reads_at, all_slot_reads, slot_reads,
};
use botstats_common::slot::Slots;
use botstats_common::wire::{self, Cell, Chunk, Frame, Pair, RowKey, Samples};
use futures::StreamExt as _;
use futures::stream::SelectAll;
use parking_lot::Mutex;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Site, connection};

/// How a [`Peer`] behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Good,
    /// Accepts and says nothing more.
    Silent,
    /// Takes reads and pings, and says nothing at all.
    Frozen,
    Refusing,
    /// Loses a chunk at the first try of each request.
    Losing,
    /// Sends more than any request may hold.
    Endless,
    /// Says that it would send more than any request may hold.
    TooLarge,
}

/// The other end of the wire: answers reads with 3 received messages of each bot on `web` in the
/// last group, in two chunks; answers the ping of an ingest.
pub struct Peer {
    stop: CancellationToken,
    subjects: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    /// Starts it with a connection of its own; it ends with its value. It answers for all accounts
    /// and does not know of slots.
    pub async fn start(site: &Site, behaviour: Behaviour) -> Self {
        Self::start_as(site, behaviour, None).await
    }

    /// The same for the accounts of these slots, which it names.
    pub async fn start_for(site: &Site, behaviour: Behaviour, slots: &str) -> Self {
        Self::start_as(site, behaviour, Some(slots.parse().expect("slots"))).await
    }

    async fn start_as(site: &Site, behaviour: Behaviour, slots: Option<Slots>) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let id = format!("peer{}", STARTED.fetch_add(1, Ordering::Relaxed));
        let client = connection(&site.nats.url()).await;
        let mut reads = SelectAll::<Subscriber>::new();
        for subject in subjects(&id, slots) {
            let queue = client.queue_subscribe(subject, READ_QUEUE.to_owned());
            reads.push(queue.await.expect("a subscription"));
        }
        let pings = client.subscribe("$SRV.PING.botstats-ingest").await;
        let mut pings = pings.expect("a subscription");
        client.flush().await.expect("a connection");
        let metadata = slots.map(|slots| json!({SLOTS_METADATA: slots}));
        let pong = json!({"id": id, "metadata": metadata}).to_string();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let all_subjects = Arc::new(Mutex::new(Vec::new()));
        let came = Arc::clone(&all_subjects);
        stop::spawn(async move {
            loop {
                let message = tokio::select! {
                    () = stopped.cancelled() => return,
                    Some(ping) = pings.next(), if behaviour != Behaviour::Frozen => {
                        let reply = ping.reply.expect("an inbox");
                        client.publish(reply, pong.clone().into()).await.expect("a connection");
                        continue;
                    }
                    Some(message) = reads.next() => message,
                };
                let request: wire::Request = wire::decode(&message.payload).expect("a read");
                let tries = {
                    let mut came = came.lock();
                    came.push(message.subject.to_string());
                    came.len() - 1
                };
                for frame in frames(&request, behaviour, tries, &id) {
                    let bytes = wire::encode(&frame).expect("a frame");
                    let reply = message.reply.clone().expect("an inbox");
                    client.publish(reply, bytes.into()).await.expect("a connection");
                }
            }
        });
        Self { stop, subjects: all_subjects }
    }

    /// How many reads came.
    pub fn reads(&self) -> usize {
        self.subjects.lock().len()
    }

    /// The subjects of the reads that came.
    pub fn subjects(&self) -> Vec<String> {
        self.subjects.lock().clone()
    }
}

/// What an ingest listens on.
fn subjects(id: &str, slots: Option<Slots>) -> Vec<String> {
    let mut subjects = vec![all_reads_at(id)];
    match slots {
        None => subjects.push(all_reads()),
        Some(Slots::ALL) => subjects.extend([all_reads(), all_slot_reads()]),
        Some(slots) => subjects.extend(slots.iter().map(slot_reads)),
    }
    subjects
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The frames of an answer; made while they are sent, so that the first is there at once.
fn frames(
    request: &wire::Request,
    behaviour: Behaviour,
    tries: usize,
    peer: &str,
) -> Box<dyn Iterator<Item = Frame> + Send> {
    let group = request.windows[0].groups - 1;
    let all: Vec<Bot> = vec![id("b1"), id("b2")];
    let bots = request.bots.clone().unwrap_or(all);
    let accepted = Frame::Accepted { instance: peer.to_owned() };
    let chunk = |number, last, pairs: Vec<Pair>, cells| {
        let rows = pairs.into_iter().map(RowKey::from).collect();
        let as_of_ms = 1_800_000_000_123;
        Frame::Chunk(Chunk { number, last, as_of_ms, pairs: Vec::new(), rows, cells })
    };
    let pairs: Vec<Pair> = bots.into_iter().map(|bot| Pair { bot, channel: id("web") }).collect();
    let samples = vec![Samples { code: TypeCode::IncomingMessage, count: 3, sum: 3 }];
    let cell = |row| Cell { group, row, samples: samples.clone(), stats: Vec::new() };
    let cells = (0..u32::try_from(pairs.len()).expect("few pairs")).map(cell).collect();
    let few = match behaviour {
        Behaviour::Silent => vec![accepted],
        Behaviour::Frozen => vec![],
        Behaviour::Refusing => vec![Frame::Refused("behind".to_owned())],
        Behaviour::TooLarge => vec![accepted, Frame::TooLarge],
        Behaviour::Losing if tries.is_multiple_of(2) => {
            vec![accepted, chunk(1, true, pairs, Vec::new())]
        }
        Behaviour::Endless => {
            // As bytes, which is how an answer is held, about 80 MB in all.
            let many = 1 << 48;
            let wide =
                TypeCode::BASIC.map(|code| Samples { code, count: many, sum: many }).to_vec();
            let big: Vec<Cell> = (0..700)
                .map(|group| Cell { group, row: 0, samples: wide.clone(), stats: Vec::new() })
                .collect();
            let chunks = (0..400).map(move |number| {
                let (bot, channel) = (id("b1"), id(&format!("c{number}")));
                let cells = big.iter().map(|c| Cell { row: number, ..c.clone() }).collect();
                chunk(number, number == 399, vec![Pair { bot, channel }], cells)
            });
            return Box::new(std::iter::once(accepted).chain(chunks));
        }
        _ => vec![accepted, chunk(0, false, pairs, Vec::new()), chunk(1, true, Vec::new(), cells)],
    };
    Box::new(few.into_iter())
}

/// A bot or channel that may be called so.
fn id<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().expect("an id")
}
