//! The ingests that answer reads: which slots they answer for, and which one is asked alone while
//! another is silent.
//!
//! | the last ping was answered by | reads go to the subjects |
//! | --- | --- |
//! | an ingest that names its slots, whoever else | with the slot of the account |
//! | only ingests that do not name slots | without a slot |
//! | nobody | as before |
//!
//! *Why* one is asked alone: an ingest that is frozen or cut off stays in the queue group until the
//! server misses it, which takes minutes. Until then it gets its share of the reads and answers
//! none. An ingest that lives answers a ping, and can be asked alone.
//!
//! *Invariants*: an ingest is asked alone for a limited time, and only about slots that it named;
//! one that does not answer is not asked alone again without another ping.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, StatusCode, Subscriber};
use botstats_common::ids::{Account, is_id};
use botstats_common::io::clock;
use botstats_common::names::{SLOTS_METADATA, read_subject, slot_read_subject};
use botstats_common::slot::{Slot, Slots};
use futures::StreamExt as _;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::timeout_at;

use crate::deadlines::PING_LIMIT;

/// Answered by every ingest that answers reads.
const PING_SUBJECT: &str = "$SRV.PING.botstats-ingest";
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

/// What an ingest answered to a ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pong {
    /// `None` if it cannot be a token of a subject.
    id: Option<IngestId>,
    /// The slots that the ingest names; `None` is all, without subjects of their own.
    slots: Option<Slots>,
}

impl Pong {
    fn of(payload: &[u8]) -> Self {
        /// The part of an answer that is used.
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Parts {
            id: String,
            metadata: Option<HashMap<String, String>>,
        }
        let Parts { id, metadata } = serde_json::from_slice(payload).unwrap_or_default();
        // An ingest whose slots cannot be read is asked about none.
        let slots = metadata.unwrap_or_default().remove(SLOTS_METADATA);
        let slots = slots.map(|slots| slots.parse().unwrap_or(Slots::NONE));
        Self { id: IngestId::new(&id), slots }
    }
}

/// An ingest that answered a ping, and the slots that it may be asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) id: IngestId,
    slots: Slots,
}

/// What a ping found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// The silent ingest answered: it works slowly.
    Same,
    /// The silent ingest did not answer, but this one did.
    Another(Live),
    /// No ingest answered that could be asked.
    None,
}

/// What is known of the ingests. All clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ingests(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// True if reads have the slot in their subject.
    by_slot: bool,
    /// The slots that no ingest named at the last ping.
    absent: Slots,
    /// No slot is in two of them.
    alone: Vec<Alone>,
}

#[derive(Debug)]
struct Alone {
    live: Live,
    until: Instant,
}

impl Ingests {
    /// The subject on which any ingest is asked about an account.
    pub(crate) fn subject(&self, account: &Account) -> String {
        if self.0.lock().by_slot { slot_read_subject(account) } else { read_subject(account) }
    }

    /// The ingest that is asked alone about a slot; `None` is any, as the server chooses.
    pub(crate) fn alone(&self, slot: Slot, now: Instant) -> Option<IngestId> {
        let mut known = self.0.lock();
        known.alone.retain(|alone| alone.until > now);
        let alone = known.alone.iter().find(|alone| alone.live.slots.contains(slot));
        alone.map(|alone| alone.live.id.clone())
    }

    /// Asks an ingest alone for a while about its slots, because it answered when another was
    /// silent. False if it is asked alone already.
    pub(crate) fn ask_alone(&self, live: &Live, now: Instant) -> bool {
        let mut known = self.0.lock();
        let alone = &mut known.alone;
        if alone.iter().any(|alone| alone.live == *live && alone.until > now) {
            return false;
        }
        for other in &mut *alone {
            other.live.slots = other.live.slots.difference(live.slots);
        }
        alone.retain(|alone| alone.live.id != live.id && !alone.live.slots.is_empty());
        alone.push(Alone { live: live.clone(), until: now + ALONE });
        true
    }

    /// Asks any ingest again, because this one did not answer.
    pub(crate) fn forget(&self, id: &IngestId) {
        self.0.lock().alone.retain(|alone| alone.live.id != *id);
    }

    /// Takes an answer to a ping at once: reads with a slot need no more than one ingest that names
    /// slots.
    pub(crate) fn heard(&self, pong: &Pong) {
        let mut known = self.0.lock();
        if pong.slots.is_some() && !known.by_slot {
            known.by_slot = true;
            // They did not name slots.
            known.alone.clear();
        }
    }

    /// Takes all answers to a ping. Gives the slots that have no ingest.
    pub(crate) fn all_heard(&self, pongs: &[Pong]) -> Slots {
        let mut known = self.0.lock();
        if !pongs.is_empty() {
            known.by_slot = pongs.iter().any(|pong| pong.slots.is_some());
        }
        let served = pongs.iter().filter_map(|pong| pong.slots).fold(Slots::NONE, Slots::union);
        known.absent = if known.by_slot { Slots::ALL.difference(served) } else { Slots::NONE };
        known.absent
    }

    /// True if ingests answered the last ping, but none of them for that slot.
    pub(crate) fn is_absent(&self, slot: Slot) -> bool {
        let absent = self.0.lock().absent;
        absent != Slots::ALL && absent.contains(slot)
    }

    /// Pings all ingests. Waits for the silent one, if it is known, else for the first one that
    /// answers for the slot.
    pub(crate) async fn look_for(
        &self,
        client: &Client,
        silent: Option<&IngestId>,
        slot: Slot,
    ) -> Found {
        let mut pongs = Pongs::ask(client, clock::monotonic() + PING_LIMIT).await;
        let mut other = None;
        while let Some(pong) = pongs.next().await {
            self.heard(&pong);
            if silent.is_some() && pong.id.as_ref() == silent {
                return Found::Same;
            }
            other = other.or_else(|| self.live(pong, slot));
            if silent.is_none() && other.is_some() {
                break;
            }
        }
        other.map_or(Found::None, Found::Another)
    }

    /// The ingest of an answer, if it can be asked about the slot.
    fn live(&self, pong: Pong, slot: Slot) -> Option<Live> {
        let by_slot = self.0.lock().by_slot;
        // An ingest that names no slots does not know that streams give slots away.
        let slots = pong.slots.or((!by_slot).then_some(Slots::ALL))?;
        slots.contains(slot).then_some(Live { id: pong.id?, slots })
    }
}

/// The answers to a ping of all ingests.
pub(crate) struct Pongs {
    answers: Option<Subscriber>,
    by: Instant,
}

impl Pongs {
    /// Pings; answers are taken until then.
    pub(crate) async fn ask(client: &Client, by: Instant) -> Self {
        let inbox = client.new_inbox();
        let asked = async {
            let answers = client.subscribe(inbox.clone()).await.ok()?;
            client.publish_with_reply(PING_SUBJECT, inbox, "".into()).await.ok()?;
            Some(answers)
        };
        Self { answers: timeout_at(by.into(), asked).await.ok().flatten(), by }
    }

    /// The next answer; `None` once the time is over.
    pub(crate) async fn next(&mut self) -> Option<Pong> {
        let answers = self.answers.as_mut()?;
        let message = timeout_at(self.by.into(), answers.next()).await.ok()??;
        if message.status == Some(StatusCode::NO_RESPONDERS) {
            return None;
        }
        Some(Pong::of(&message.payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(text: &str) -> Slots {
        text.parse().unwrap()
    }

    fn live(id: &str, of: &str) -> Live {
        Live { id: IngestId::new(id).unwrap(), slots: slots(of) }
    }

    fn pong(id: &str, of: Option<&str>) -> Pong {
        Pong { id: IngestId::new(id), slots: of.map(slots) }
    }

    #[test]
    fn only_tokens_are_ids() {
        for bad in ["", "a.b", "*"] {
            assert_eq!(IngestId::new(bad), None, "{bad:?}");
        }
        assert_eq!(IngestId::new("Xy9_-").unwrap().to_string(), "Xy9_-");
    }

    #[test]
    fn what_a_pong_says() {
        for (payload, expected) in [
            (r#"{"id":"a","metadata":{"instance":"x","slots":"0-63"}}"#, pong("a", Some("0-63"))),
            (r#"{"id":"a","metadata":{"slots":""}}"#, pong("a", Some(""))),
            (r#"{"id":"a","metadata":{"slots":"some"}}"#, pong("a", Some(""))),
            (r#"{"id":"a","metadata":{"instance":"x"}}"#, pong("a", None)),
            (r#"{"id":"a","metadata":null}"#, pong("a", None)),
            (r#"{"id":"a.b"}"#, pong("", None)),
            ("{", pong("", None)),
        ] {
            assert_eq!(Pong::of(payload.as_bytes()), expected, "{payload}");
        }
    }

    #[test]
    fn one_is_asked_alone_for_a_while() {
        let (ingests, now) = (Ingests::default(), clock::monotonic());
        let [a, b] = ["a", "b"].map(|id| live(id, "0-255"));
        let alone = |now| ingests.alone(Slot(7), now).map(|id| id.to_string());
        assert_eq!(alone(now), None);
        assert!(ingests.ask_alone(&a, now));
        assert!(!ingests.ask_alone(&a, now + ALONE / 2), "the time is not made longer");
        assert_eq!(alone(now + ALONE / 2).as_deref(), Some("a"));
        assert_eq!(alone(now + ALONE), None);

        assert!(ingests.ask_alone(&a, now));
        assert!(ingests.ask_alone(&b, now));
        ingests.forget(&a.id);
        assert_eq!(alone(now).as_deref(), Some("b"));
        ingests.forget(&b.id);
        assert_eq!(alone(now), None);
    }

    #[test]
    fn each_is_asked_alone_about_its_own_slots() {
        let (ingests, now) = (Ingests::default(), clock::monotonic());
        let alone = || {
            let of = |slot| ingests.alone(Slot(slot), now).map_or("-".into(), |id| id.to_string());
            [0, 100, 200].map(of).concat()
        };
        for (asked, expected) in [
            (live("a", "0-127"), "aa-"),
            (live("b", "128-255"), "aab"),
            (live("c", "64-200"), "acc"),
            (live("a", "0-127"), "aac"),
            // It gave slots away since.
            (live("a", "0-63"), "a-c"),
        ] {
            assert!(ingests.ask_alone(&asked, now));
            assert_eq!(alone(), expected, "{asked:?}");
        }
        ingests.heard(&pong("c", Some("64-200")));
        assert_eq!(alone(), "---", "those who named no slots are not asked alone any more");
    }

    #[test]
    fn pongs_say_how_reads_are_asked_for() {
        let ingests = Ingests::default();
        let account: Account = "acme".parse().unwrap();
        let v1 = "botstats.read.v1.acme";
        let v2 = "botstats.read.v2.175.acme";
        let old = pong("a", None);
        let new = |of| pong("b", Some(of));
        for (pongs, subject, absent) in [
            (vec![], v1, ""),
            (vec![old.clone()], v1, ""),
            (vec![old.clone(), new("0-255")], v2, ""),
            (vec![], v2, "0-255"),
            (vec![new("0-63"), new("32-127"), new("200-255")], v2, "128-199"),
            (vec![new("0-63"), old.clone()], v2, "64-255"),
            (vec![old.clone()], v1, ""),
            (vec![new("")], v2, "0-255"),
        ] {
            assert_eq!(ingests.all_heard(&pongs), slots(absent), "{pongs:?}");
            assert_eq!(ingests.subject(&account), subject, "{pongs:?}");
            let partly = !["", "0-255"].contains(&absent);
            let is_absent = partly && slots(absent).contains(Slot(175));
            assert_eq!(ingests.is_absent(Slot(175)), is_absent, "{pongs:?}");
        }
        // One is enough, at once.
        let ingests = Ingests::default();
        ingests.heard(&old);
        assert_eq!(ingests.subject(&account), v1);
        ingests.heard(&new("3"));
        assert_eq!(ingests.subject(&account), v2);
    }

    #[test]
    fn only_those_with_the_slot_are_asked() {
        let ingests = Ingests::default();
        let id = |pong: &Pong| ingests.live(pong.clone(), Slot(70)).map(|live| live.id.to_string());
        let old = pong("a", None);
        let [with, without] = ["64-127", "0-63"].map(|of| pong("b", Some(of)));
        assert_eq!(id(&old).as_deref(), Some("a"));
        assert_eq!(id(&with).as_deref(), Some("b"));
        assert_eq!(id(&without), None);
        assert_eq!(id(&pong("", None)), None);
        ingests.heard(&without);
        assert_eq!(id(&old), None);
        assert_eq!(id(&with).as_deref(), Some("b"));
    }
}
