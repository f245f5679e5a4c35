//! Decodes messages as they arrive, so that their bytes can be dropped before they are counted.
//!
//! *Invariants*: pairs get their numbers in the order of the stream, by accepted events alone.

use std::sync::Arc;

use parking_lot::RwLock;
use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::xxh3_64;

use crate::event::registry::{PairNumbers, Registry};
use crate::event::{Address, Decoded, HashKey, Message, decode, decode_known};
use crate::store::StoreError;
use crate::telemetry;

/// Bounds the cache of subjects: once it has this many it is cleared, and the numbers are looked up
/// again.
const MAX_SUBJECTS: usize = 1 << 20;

/// The hash by which a checkpoint recognises a subject.
#[must_use]
pub(crate) fn subject_hash(subject: &str) -> u64 {
    xxh3_64(subject.as_bytes())
}

/// A decoded message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When it was stored, in Unix nanoseconds.
    pub stored_ns: i64,
    /// The hash by which a checkpoint recognises its subject.
    pub subject_hash: u64,
    /// What it says.
    pub decoded: Decoded<PairNumbers>,
}

/// Decodes messages in the order of the stream.
#[derive(Debug)]
pub struct Decoder {
    registry: Arc<RwLock<Registry>>,
    key: HashKey,
    /// Subjects of accepted events.
    subjects: FxHashMap<Box<str>, PairNumbers>,
}

impl Decoder {
    pub(crate) fn new(registry: Arc<RwLock<Registry>>, key: HashKey) -> Self {
        Self { registry, key, subjects: FxHashMap::default() }
    }

    /// Decodes the next message.
    ///
    /// # Errors
    /// If there are no more numbers for pairs.
    pub fn decode(&mut self, message: &Message<'_>) -> Result<Arrival, StoreError> {
        let decoded = match self.subjects.get(message.subject) {
            Some(numbers) => decode_known(*numbers, message, &self.key),
            None => {
                let decoded = decode(message, &self.key);
                decoded.try_map(|address| self.learn(message.subject, &address))?
            }
        };
        Ok(Arrival {
            sequence: message.sequence,
            stored_ns: message.stored_ns,
            subject_hash: subject_hash(message.subject),
            decoded,
        })
    }

    /// The numbers of a subject that is not in the cache.
    fn learn(&mut self, subject: &str, address: &Address<'_>) -> Result<PairNumbers, StoreError> {
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
        self.subjects.insert(subject.into(), numbers);
        Ok(numbers)
    }
}
