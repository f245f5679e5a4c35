//! Messages decoded while they arrive: what the fold takes of them needs no bytes of theirs any more.
//!
//! *Invariants*: pairs get their numbers in the order of the stream, by accepted events alone.

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};

use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::event::{Decoded, Event, Message, Rule, decode, decode_known};
use crate::registry::{PairNumbers, Registry};
use crate::store::StoreError;

/// Subjects that are known by heart; beyond that they are learnt anew.
const MAX_SUBJECTS: usize = 1 << 20;

/// The hash by which a checkpoint recognises a subject.
#[must_use]
pub fn subject_hash(subject: &str) -> u64 {
    xxh3_64(subject.as_bytes())
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An event that may count, unless it is a duplicate.
    Event(PairNumbers, Event),
    /// Its type is not known here.
    UnknownType,
    /// It breaks a rule, for that reason.
    DeadLetter(Rule, Cow<'static, str>),
}

/// A message, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Its place in the stream.
    pub sequence: u64,
    /// When it was stored, in Unix nanoseconds.
    pub stored_ns: i64,
    /// See [`subject_hash`].
    pub subject_hash: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// Decodes messages in the order of the stream.
#[derive(Debug)]
pub struct Decoder {
    registry: Arc<RwLock<Registry>>,
    /// Subjects of accepted events.
    subjects: FxHashMap<Box<str>, PairNumbers>,
}

impl Decoder {
    /// One that gives numbers in this registry.
    #[must_use]
    pub(crate) fn new(registry: Arc<RwLock<Registry>>) -> Self {
        Self { registry, subjects: FxHashMap::default() }
    }

    /// Decodes the next message.
    ///
    /// # Errors
    /// If there are no more numbers for pairs.
    pub fn decode(&mut self, message: &Message<'_>) -> Result<Arrival, StoreError> {
        let outcome = match self.subjects.get(message.subject) {
            Some(numbers) => match decode_known(message) {
                Decoded::Event((), event) => Outcome::Event(*numbers, event),
                Decoded::UnknownType => Outcome::UnknownType,
                Decoded::DeadLetter(rule, reason) => Outcome::DeadLetter(rule, reason),
            },
            None => match decode(message) {
                Decoded::Event(address, event) => {
                    let registry = || self.registry.read().unwrap_or_else(PoisonError::into_inner);
                    let known = registry().numbers(&address);
                    let numbers = match known {
                        Some(numbers) => numbers,
                        None => {
                            let registry = self.registry.write();
                            registry.unwrap_or_else(PoisonError::into_inner).add(&address)?
                        }
                    };
                    if self.subjects.len() >= MAX_SUBJECTS {
                        self.subjects.clear();
                    }
                    self.subjects.insert(message.subject.into(), numbers);
                    Outcome::Event(numbers, event)
                }
                Decoded::UnknownType => Outcome::UnknownType,
                Decoded::DeadLetter(rule, reason) => Outcome::DeadLetter(rule, reason),
            },
        };
        Ok(Arrival {
            sequence: message.sequence,
            stored_ns: message.stored_ns,
            subject_hash: subject_hash(message.subject),
            outcome,
        })
    }
}
