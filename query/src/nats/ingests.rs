//! Which ingests answer reads now, and which of them is asked while another is silent.
//!
//! *Why*: an ingest that is frozen or cut off keeps its place in the queue group until the server misses
//! it, which takes minutes; meanwhile it gets its share of the questions and answers none. But who is
//! there answers a ping, and can be asked alone.
//!
//! *Invariants*: one ingest alone is asked for a limited time; whoever does not answer is not asked alone
//! again without another ping.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, StatusCode, Subscriber};
use botstats_common::io::clock;
use futures::StreamExt as _;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::timeout_at;

/// Answered by every ingest that answers reads.
pub const PING_SUBJECT: &str = "$SRV.PING.botstats-ingest";
/// An ingest that lives answers a ping in that time.
pub const PING_LIMIT: Duration = Duration::from_millis(200);
/// How long one ingest is asked alone, before any is asked again.
const ALONE: Duration = Duration::from_secs(30);
/// The longest id of a NATS service; it is a token of a subject.
const MAX_ID_BYTES: usize = 64;

/// The id of an ingest's NATS service: another one each time that it begins to answer reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestId(String);

impl IngestId {
    /// Takes an id that is a token of a subject.
    #[must_use]
    pub fn new(id: &str) -> Option<Self> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        let good = !id.is_empty() && id.len() <= MAX_ID_BYTES && id.bytes().all(plain);
        good.then(|| Self(id.to_owned()))
    }

    /// As a token.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IngestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a ping found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The one that was silent lives, and takes its time.
    Same,
    /// It did not answer, but this one did.
    Another(IngestId),
    /// Nobody answered.
    Nobody,
}

/// The ingest that is asked alone, if any. All clones are one.
#[derive(Debug, Clone, Default)]
pub struct Ingests(Arc<Mutex<Option<Alone>>>);

#[derive(Debug)]
struct Alone {
    id: IngestId,
    until: Instant,
}

impl Ingests {
    /// The ingest to ask; `None` is any, as the server chooses.
    #[must_use]
    pub fn chosen(&self, now: Instant) -> Option<IngestId> {
        let mut alone = self.0.lock();
        if alone.as_ref().is_some_and(|alone| alone.until <= now) {
            *alone = None;
        }
        alone.as_ref().map(|alone| alone.id.clone())
    }

    /// That one answered when another was silent: it is asked for a while. True if none or another was.
    pub fn choose(&self, id: &IngestId, now: Instant) -> bool {
        let mut alone = self.0.lock();
        if alone.as_ref().is_some_and(|alone| alone.id == *id && alone.until > now) {
            return false;
        }
        *alone = Some(Alone { id: id.clone(), until: now + ALONE });
        true
    }

    /// That one did not answer: any is asked.
    pub fn forget(&self, id: &IngestId) {
        let mut alone = self.0.lock();
        if alone.as_ref().is_some_and(|alone| alone.id == *id) {
            *alone = None;
        }
    }
}

/// Pings all, and waits for the one that is silent, if it is known; else for the first.
pub async fn look_for(client: &Client, silent: Option<&IngestId>) -> Found {
    let by = clock::monotonic() + PING_LIMIT;
    let inbox = client.new_inbox();
    let asked = async {
        let pongs = client.subscribe(inbox.clone()).await.ok()?;
        client.publish_with_reply(PING_SUBJECT, inbox, "".into()).await.ok()?;
        Some(pongs)
    };
    let Ok(Some(mut pongs)) = timeout_at(by.into(), asked).await else { return Found::Nobody };
    let mut other = None;
    while let Some(id) = pong(&mut pongs, by).await {
        match silent {
            Some(silent) if *silent == id => return Found::Same,
            Some(_) => other = other.or(Some(id)),
            None => return Found::Another(id),
        }
    }
    other.map_or(Found::Nobody, Found::Another)
}

/// What is needed of an answer to a ping.
#[derive(Deserialize)]
struct Pong {
    id: String,
}

/// The next that answers; `None` when nobody does any more.
async fn pong(pongs: &mut Subscriber, by: Instant) -> Option<IngestId> {
    loop {
        let message = timeout_at(by.into(), pongs.next()).await.ok()??;
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return None;
        }
        let pong = serde_json::from_slice::<Pong>(&message.payload).ok();
        if let Some(id) = pong.and_then(|pong| IngestId::new(&pong.id)) {
            return Some(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_are_ids() {
        let too_long = "x".repeat(MAX_ID_BYTES + 1);
        for bad in ["", "a.b", "*", ">", "a b", "\u{e4}", too_long.as_str()] {
            assert_eq!(IngestId::new(bad), None, "{bad:?}");
        }
        assert_eq!(IngestId::new("Xy9_-").unwrap().to_string(), "Xy9_-");
    }

    #[test]
    fn one_is_asked_alone_for_a_while() {
        let (ingests, now) = (Ingests::default(), clock::monotonic());
        let [a, b] = ["a", "b"].map(|id| IngestId::new(id).unwrap());
        assert_eq!(ingests.chosen(now), None);
        assert!(ingests.choose(&a, now));
        assert!(!ingests.choose(&a, now + ALONE / 2), "the time is not made longer");
        assert_eq!(ingests.chosen(now + ALONE / 2), Some(a.clone()));
        assert_eq!(ingests.chosen(now + ALONE), None);

        assert!(ingests.choose(&a, now));
        assert!(ingests.choose(&b, now));
        ingests.forget(&a);
        assert_eq!(ingests.chosen(now), Some(b.clone()));
        ingests.forget(&b);
        assert_eq!(ingests.chosen(now), None);
    }
}
