//! Where the events of a stream's slots come from: the stream's metadata, and the fence.
//!
//! A split moves slots from a stream (the parent) to a new one (the child). The last message of the
//! parent that concerns the slots is the *fence*: events of the slots before it are in the parent,
//! events after it in the child. The child's metadata names the parent, so the streams of a slot
//! are a chain that ends in a stream without a parent.
//!
//! *Invariants*: sequences of a child are larger than all sequences of its parent
//! ([`first_sequence_after`]), so along a chain sequences only grow.
//!
//! *Format*: metadata of a stream: `botstats.slots`, a set as in `0-63,200`, absent for all slots;
//! `botstats.from`, the parent's name, a space, and when the parent was made in Unix nanoseconds.
//! The fence is JSON, on the subject [`crate::names::control_subject`] of the parent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::slot::Slots;

const SLOTS_KEY: &str = "botstats.slots";
const FROM_KEY: &str = "botstats.from";
/// Each generation of streams has this many bits of sequences: 2^40 messages are more than a
/// stream takes in 30 years at 1,000 messages a second.
const GENERATION_BITS: u32 = 40;

/// Which stream it is: a name may be used again, with the time of its making it is unique.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamIdentity {
    /// The stream's name.
    pub name: String,
    /// When it was made, in Unix nanoseconds.
    pub created_ns: i64,
}

/// Which slots a stream was made for, and the stream that had them before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// The slots that the stream was made for. It may have given some away since.
    pub slots: Slots,
    /// The stream that had the slots before.
    pub parent: Option<StreamIdentity>,
}

impl Default for Lineage {
    /// All slots, from no other stream.
    fn default() -> Self {
        Self { slots: Slots::ALL, parent: None }
    }
}

/// Why a stream's metadata cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the metadata {key} of the stream is {value:?}; {allowed} is needed")]
pub struct LineageError {
    key: &'static str,
    value: String,
    allowed: &'static str,
}

impl Lineage {
    /// Reads the metadata of a stream.
    ///
    /// # Errors
    /// [`LineageError`], if botstats' own keys have another form.
    pub fn of(metadata: &BTreeMap<String, String>) -> Result<Self, LineageError> {
        let mut lineage = Self::default();
        let wrong = |key, value: &str, allowed| LineageError {
            key,
            value: value.chars().take(100).collect(),
            allowed,
        };
        if let Some(text) = metadata.get(SLOTS_KEY) {
            let slots = text.parse::<Slots>().ok().filter(|slots| !slots.is_empty());
            lineage.slots =
                slots.ok_or_else(|| wrong(SLOTS_KEY, text, "a set of slots as in 0-63,200"))?;
        }
        if let Some(text) = metadata.get(FROM_KEY) {
            let parent = text.split_once(' ').and_then(|(name, created)| {
                let created_ns = created.parse().ok()?;
                Some(StreamIdentity { name: name.to_owned(), created_ns })
            });
            let allowed = "the parent's name, a space, and when it was made in Unix nanoseconds";
            lineage.parent = Some(parent.ok_or_else(|| wrong(FROM_KEY, text, allowed))?);
        }
        Ok(lineage)
    }

    /// The metadata of a stream with this lineage.
    #[must_use]
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let mut metadata = BTreeMap::new();
        if self.slots != Slots::ALL {
            metadata.insert(SLOTS_KEY.to_owned(), self.slots.to_string());
        }
        if let Some(StreamIdentity { name, created_ns }) = &self.parent {
            metadata.insert(FROM_KEY.to_owned(), format!("{name} {created_ns}"));
        }
        metadata
    }
}

/// The first sequence of a stream that takes slots from one with that first sequence (by its
/// configuration; 0 and 1 are the same).
#[must_use]
pub fn first_sequence_after(parent_first_sequence: u64) -> u64 {
    (((parent_first_sequence >> GENERATION_BITS) + 1) << GENERATION_BITS) + 1
}

/// The message that ends a parent's events of some slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The slots that the parent gives away.
    pub slots: Slots,
    /// The stream that has them from here on.
    pub to: StreamIdentity,
}

/// What a message on a stream's control subject says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// Slots were given away.
    Moved(Fence),
}

impl Control {
    /// The bytes of the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a message; `None` if it is not one that this version knows.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_and_back() {
        let parent = StreamIdentity { name: "S".to_owned(), created_ns: 5 };
        for (lineage, keys) in [
            (Lineage::default(), 0),
            (Lineage { slots: "0-63".parse().unwrap(), parent: None }, 1),
            (Lineage { slots: "7".parse().unwrap(), parent: Some(parent) }, 2),
        ] {
            let metadata = lineage.metadata();
            assert_eq!(metadata.len(), keys);
            assert_eq!(Lineage::of(&metadata), Ok(lineage));
        }
        for (key, bad) in [(SLOTS_KEY, ""), (SLOTS_KEY, "x"), (FROM_KEY, "S"), (FROM_KEY, "S x")] {
            let metadata = [(key.to_owned(), bad.to_owned())].into();
            assert!(Lineage::of(&metadata).unwrap_err().to_string().contains(key));
        }
    }

    #[test]
    fn sequences_of_generations() {
        let second = first_sequence_after(0);
        assert_eq!(second, (1 << 40) + 1);
        assert_eq!(first_sequence_after(1), second);
        assert_eq!(first_sequence_after(second), (2 << 40) + 1);
    }

    #[test]
    fn the_bytes_of_a_fence_do_not_change() {
        let to = StreamIdentity { name: "B".to_owned(), created_ns: 7 };
        let fence = Control::Moved(Fence { slots: "128-255".parse().unwrap(), to });
        let bytes = r#"{"moved":{"slots":"128-255","to":{"name":"B","created_ns":7}}}"#;
        assert_eq!(str::from_utf8(&fence.encode()), Ok(bytes));
        assert_eq!(Control::decode(bytes.as_bytes()), Some(fence));
        assert_eq!(Control::decode(b"{}"), None);
    }
}
