//! Which ingest is asked alone while another is silent.
//!
//! *Why*: an ingest that is frozen or cut off stays in the queue group until the server misses it,
//! which takes minutes. Until then it gets its share of the reads and answers none. An ingest that
//! lives answers a ping, and can be asked alone.
//!
//! *Invariants*: an ingest is asked alone for a limited time; one that does not answer is not asked
//! alone again without another ping.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, StatusCode, Subscriber};
use botstats_common::ids::is_id;
use botstats_common::io::clock;
use futures::StreamExt as _;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::timeout_at;

use crate::deadlines::PING_LIMIT;

/// Answered by every ingest that answers reads.
pub(crate) const PING_SUBJECT: &str = "$SRV.PING.botstats-ingest";
/// An ingest is asked alone for 30 s: few reads then meet the silent one again.
const ALONE: Duration = Duration::from_secs(30);

/// The id of an ingest's NATS service, which is a token of a subject. An ingest gets a new one each
/// time that it begins to answer reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IngestId(String);

impl IngestId {
    pub(crate) fn new(id: &str) -> Option<Self> {
        is_id(id).then(|| Self(id.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
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
pub(crate) enum Found {
    /// The silent ingest answered: it works slowly.
    Same,
    /// The silent ingest did not answer, but this one did.
    Another(IngestId),
    /// No ingest answered.
    None,
}

/// The ingest that is asked alone, if any. All clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ingests(Arc<Mutex<Option<Alone>>>);

#[derive(Debug)]
struct Alone {
    id: IngestId,
    until: Instant,
}

impl Ingests {
    /// The ingest that is asked alone; `None` is any, as the server chooses.
    pub(crate) fn alone(&self, now: Instant) -> Option<IngestId> {
        let mut alone = self.0.lock();
        if alone.as_ref().is_some_and(|alone| alone.until <= now) {
            *alone = None;
        }
        alone.as_ref().map(|alone| alone.id.clone())
    }

    /// Asks an ingest alone for a while, because it answered when another was silent. False if it
    /// is asked alone already.
    pub(crate) fn ask_alone(&self, id: &IngestId, now: Instant) -> bool {
        let mut alone = self.0.lock();
        if alone.as_ref().is_some_and(|alone| alone.id == *id && alone.until > now) {
            return false;
        }
        *alone = Some(Alone { id: id.clone(), until: now + ALONE });
        true
    }

    /// Asks any ingest again, because this one did not answer.
    pub(crate) fn forget(&self, id: &IngestId) {
        let mut alone = self.0.lock();
        if alone.as_ref().is_some_and(|alone| alone.id == *id) {
            *alone = None;
        }
    }
}

/// Pings all ingests. Waits for the silent one, if it is known, else for the first that answers.
pub(crate) async fn look_for(client: &Client, silent: Option<&IngestId>) -> Found {
    let by = clock::monotonic() + PING_LIMIT;
    let inbox = client.new_inbox();
    let asked = async {
        let pongs = client.subscribe(inbox.clone()).await.ok()?;
        client.publish_with_reply(PING_SUBJECT, inbox, "".into()).await.ok()?;
        Some(pongs)
    };
    let Ok(Some(mut pongs)) = timeout_at(by.into(), asked).await else { return Found::None };
    let mut other = None;
    while let Some(id) = pong(&mut pongs, by).await {
        match silent {
            Some(silent) if *silent == id => return Found::Same,
            Some(_) => other = other.or(Some(id)),
            None => return Found::Another(id),
        }
    }
    other.map_or(Found::None, Found::Another)
}

/// The part of an answer to a ping that is used.
#[derive(Deserialize)]
struct Pong {
    id: String,
}

/// The next ingest that answers; `None` once the time is over.
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
        for bad in ["", "a.b", "*"] {
            assert_eq!(IngestId::new(bad), None, "{bad:?}");
        }
        assert_eq!(IngestId::new("Xy9_-").unwrap().to_string(), "Xy9_-");
    }

    #[test]
    fn one_is_asked_alone_for_a_while() {
        let (ingests, now) = (Ingests::default(), clock::monotonic());
        let [a, b] = ["a", "b"].map(|id| IngestId::new(id).unwrap());
        assert_eq!(ingests.alone(now), None);
        assert!(ingests.ask_alone(&a, now));
        assert!(!ingests.ask_alone(&a, now + ALONE / 2), "the time is not made longer");
        assert_eq!(ingests.alone(now + ALONE / 2), Some(a.clone()));
        assert_eq!(ingests.alone(now + ALONE), None);

        assert!(ingests.ask_alone(&a, now));
        assert!(ingests.ask_alone(&b, now));
        ingests.forget(&a);
        assert_eq!(ingests.alone(now), Some(b.clone()));
        ingests.forget(&b);
        assert_eq!(ingests.alone(now), None);
    }
}
