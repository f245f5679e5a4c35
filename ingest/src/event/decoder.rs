//! Decodes messages as they arrive, so that their bytes can be dropped before they are counted.
//!
//! *Invariants*: pairs get their numbers in the order of the stream, by accepted events alone. A
//! message of a foreign slot is known by its subject: nothing else of the message is read.

use std::sync::Arc;

use botstats_common::io::logging::RateLimit;
use botstats_common::lineage::{Control, Fence};
use botstats_common::names::control_subject;
use botstats_common::slot::Slots;
use hashbrown::HashTable;
use parking_lot::RwLock;
use xxhash_rust::xxh3::xxh3_64;

use super::batch::Place;
use super::subject::{address, slot_of};
use crate::event::registry::{PairNumbers, Registry};
use crate::event::{Address, Decoded, HashKey, IdHash, Message, Rule, decode_known};
use crate::store::{Ownership, StoreError};
use crate::telemetry;

/// Bounds the cache of subjects: once it has this many it is cleared, and the numbers are looked up
/// again.
const MAX_SUBJECTS: usize = 1 << 20;

static UNKNOWN_CONTROL: RateLimit = RateLimit::new();

/// The hash by which a checkpoint recognises a subject.
pub(crate) fn subject_hash(subject: &str) -> u64 {
    xxh3_64(subject.as_bytes())
}

/// A decoded message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Where it is in the stream.
    pub place: Place,
    /// What it says.
    pub said: Said,
}

/// What a decoded message says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// What one message says by itself, or that it is a stray.
    Event(Decoded<PairNumbers>),
    /// The store's stream has given these slots away: later events of the slots are in another
    /// stream.
    GivenAway(Slots),
}

/// What a message means to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing: it is of a foreign slot, or of none.
    Foreign,
    /// Something to count.
    Said(Said),
    /// The store's slots went to the next stream of the chain.
    EndOfLink,
    /// Slots of the store went to a stream that is not the next one of the chain.
    OtherFence,
}

/// A stream of the chain, as its messages are decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecodedStream {
    /// The subject of its control messages.
    control: String,
    /// The fence behind which the next stream of the chain has the events; none in the store's own
    /// stream.
    ends_with: Option<Fence>,
}

impl DecodedStream {
    /// The stream of that name.
    #[must_use]
    pub fn new(name: &str, ends_with: Option<Fence>) -> Self {
        Self { control: control_subject(name), ends_with }
    }

    fn is_own(&self) -> bool {
        self.ends_with.is_none()
    }
}

/// Decodes messages in the order of the stream.
#[derive(Debug)]
pub struct Decoder {
    registry: Arc<RwLock<Registry>>,
    key: HashKey,
    /// By the keyed hashes of subjects of accepted events. As with ids, no two have the same hash.
    subjects: HashTable<(IdHash, PairNumbers)>,
    /// The slots that are counted, and those of which an event now is a stray.
    ownership: Ownership,
    /// Not all slots are counted.
    has_foreign: bool,
    stream: DecodedStream,
}

impl Decoder {
    pub(crate) fn new(
        registry: Arc<RwLock<Registry>>,
        key: HashKey,
        ownership: Ownership,
        stream: DecodedStream,
    ) -> Self {
        let subjects = HashTable::new();
        let has_foreign = ownership.counted != Slots::ALL;
        Self { registry, key, subjects, ownership, has_foreign, stream }
    }

    /// The slots of the store after the last message decoded.
    pub(crate) fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// Counts other slots from the next message on.
    pub fn attach(&mut self, ownership: Ownership) {
        self.ownership = ownership;
        self.has_foreign = ownership.counted != Slots::ALL;
        self.subjects.clear();
    }

    /// The next message is one of that stream.
    pub fn enter(&mut self, stream: DecodedStream) {
        self.stream = stream;
    }

    /// Decodes the next message.
    ///
    /// # Errors
    /// If there are no more numbers for pairs.
    pub fn decode(&mut self, message: &Message<'_>) -> Result<Meaning, StoreError> {
        if self.has_foreign && self.is_foreign(message.subject) {
            return Ok(Meaning::Foreign);
        }
        let hash = self.key.subject(message.subject);
        let decoded = match self.subjects.find(hash.half(), |(of, _)| *of == hash) {
            Some((_, numbers)) => decode_known(*numbers, message, &self.key),
            None if message.subject == self.stream.control => {
                return Ok(self.control(message.payload));
            }
            None => match self.decode_unknown(message, hash)? {
                Some(decoded) => decoded,
                None => return Ok(Meaning::Foreign),
            },
        };
        Ok(Meaning::Said(Said::Event(decoded)))
    }

    fn is_foreign(&self, subject: &str) -> bool {
        slot_of(subject).is_some_and(|slot| !self.ownership.counted.contains(slot))
            && subject != self.stream.control
    }

    /// Decodes a message whose subject is not in the cache; `None` if the message does not concern
    /// the store.
    fn decode_unknown(
        &mut self,
        message: &Message<'_>,
        hash: IdHash,
    ) -> Result<Option<Decoded<PairNumbers>>, StoreError> {
        let address = match address(message.subject) {
            Ok(address) => address,
            // A message with a malformed subject counts once: in the store of its own stream.
            Err(_) if !self.stream.is_own() => return Ok(None),
            Err(reason) => return Ok(Some(Decoded::DeadLetter(Rule::Subject, reason))),
        };
        let given_away = self.ownership.given_away;
        if !given_away.is_empty()
            && slot_of(message.subject).is_some_and(|slot| given_away.contains(slot))
        {
            let reason = "the stream had given the slot of the account to another stream";
            return Ok(Some(Decoded::DeadLetter(Rule::Stray, reason.into())));
        }
        let decoded = decode_known(address, message, &self.key);
        decoded.try_map(|address| self.learn(hash, &address)).map(Some)
    }

    /// Decodes a control message.
    fn control(&mut self, payload: &[u8]) -> Meaning {
        let Some(Control::Moved(fence)) = Control::decode(payload) else {
            if let Some(suppressed) = UNKNOWN_CONTROL.due("") {
                let subject = &self.stream.control;
                tracing::warn!(
                    "a message on {subject} is passed over: this version does not know what it says{suppressed}"
                );
            }
            return Meaning::Foreign;
        };
        let slots = fence.slots.intersection(self.ownership.counted);
        match &self.stream.ends_with {
            Some(expected) if *expected == fence => Meaning::EndOfLink,
            _ if slots.is_empty() => Meaning::Foreign,
            Some(_) => Meaning::OtherFence,
            None => {
                self.ownership.given_away = self.ownership.given_away.union(slots);
                // From here on their subjects are those of strays.
                self.subjects.clear();
                Meaning::Said(Said::GivenAway(slots))
            }
        }
    }

    /// The numbers of a subject that is not in the cache.
    fn learn(&mut self, subject: IdHash, address: &Address<'_>) -> Result<PairNumbers, StoreError> {
        let known = self.registry.read().numbers(address);
        let numbers = match known {
            Some(numbers) => numbers,
            None => {
                let (numbers, passes_many) = self.registry.write().add(address)?;
                if passes_many {
                    telemetry::many_pairs(address.account);
                }
                numbers
            }
        };
        if self.subjects.len() >= MAX_SUBJECTS {
            self.subjects.clear();
        }
        self.subjects.insert_unique(subject.half(), (subject, numbers), |(of, _)| of.half());
        Ok(numbers)
    }
}
