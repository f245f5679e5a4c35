//! Slots: the fixed parts into which accounts are spread, so that many streams can share them.
//!
//! *Why* these numbers: nats-server computes the same slot with the mapping of
//! [`crate::names::SLOT_MAPPING`]. Neither the function nor the number of slots can ever change:
//! stored subjects have the slot.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::Account;

/// The number of slots.
pub const SLOT_COUNT: usize = 256;

/// The slot of an account: 32-bit FNV-1a of its id, modulo [`SLOT_COUNT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u8);

impl Slot {
    /// The slot of that account.
    #[must_use]
    pub fn of(account: &Account) -> Self {
        Self::of_token(account.as_str())
    }

    /// The slot of the account whose id is that token of a subject, whether it is a valid id or
    /// not.
    #[must_use]
    pub fn of_token(account: &str) -> Self {
        let hash = account
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Self(hash.to_le_bytes()[0])
    }

    /// All slots.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(Self)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Slot {
    type Err = SlotsError;

    /// Reads a number from 0 to 255 as nats-server writes it: without leading zeros.
    fn from_str(text: &str) -> Result<Self, SlotsError> {
        // Without memory of its own: this is done for every message of a stream with slots.
        let is_canonical = text.len() == 1 || !text.starts_with(['0', '+']);
        let number = text.parse::<u8>().ok().filter(|_| is_canonical);
        number.map(Self).ok_or_else(|| SlotsError(text.chars().take(64).collect()))
    }
}

/// Why a text does not name slots.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no slots: numbers from 0 to 255 and ranges with commas between them, as in 0-63,200"
)]
pub struct SlotsError(String);

/// A set of slots.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slots([u64; 4]);

impl Slots {
    /// All slots.
    pub const ALL: Slots = Slots([u64::MAX; 4]);
    /// No slot.
    pub const NONE: Slots = Slots([0; 4]);

    /// Adds a slot.
    pub fn insert(&mut self, Slot(slot): Slot) {
        self.0[usize::from(slot >> 6)] |= 1 << (slot & 63);
    }

    /// True if the slot is in the set.
    #[must_use]
    pub fn contains(&self, Slot(slot): Slot) -> bool {
        self.0[usize::from(slot >> 6)] & (1 << (slot & 63)) != 0
    }

    /// The number of slots.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.0.iter().map(|part| part.count_ones()).sum()
    }

    /// True if there is no slot.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// The slots of both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        self.with(other, |a, b| a | b)
    }

    /// The slots that both sets have.
    #[must_use]
    pub fn intersection(self, other: Self) -> Self {
        self.with(other, |a, b| a & b)
    }

    /// The slots of this set that the other has not.
    #[must_use]
    pub fn difference(self, other: Self) -> Self {
        self.with(other, |a, b| a & !b)
    }

    /// True if the other set has all slots of this one.
    #[must_use]
    pub fn is_subset(self, other: Self) -> bool {
        self.difference(other).is_empty()
    }

    /// The slots in ascending order.
    pub fn iter(self) -> impl Iterator<Item = Slot> {
        Slot::all().filter(move |slot| self.contains(*slot))
    }

    fn with(self, Self(other): Self, op: impl Fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|at| op(self.0[at], other[at])))
    }
}

impl FromIterator<Slot> for Slots {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut all = Self::NONE;
        slots.into_iter().for_each(|slot| all.insert(slot));
        all
    }
}

impl fmt::Display for Slots {
    /// Writes numbers and ranges with commas between them, as in `0-63,200`; nothing for no slot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u8, u8)> = Vec::new();
        for Slot(slot) in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == slot => *last = slot,
                _ => ranges.push((slot, slot)),
            }
        }
        for (at, (first, last)) in ranges.into_iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            if first == last { write!(f, "{first}")? } else { write!(f, "{first}-{last}")? }
        }
        Ok(())
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slots({self})")
    }
}

impl FromStr for Slots {
    type Err = SlotsError;

    fn from_str(text: &str) -> Result<Self, SlotsError> {
        let wrong = || SlotsError(text.chars().take(64).collect());
        let mut slots = Self::NONE;
        for part in text.split(',').filter(|_| !text.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (Slot, Slot) =
                (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
            if first > last {
                return Err(wrong());
            }
            (first.0..=last.0).for_each(|slot| slots.insert(Slot(slot)));
        }
        Ok(slots)
    }
}

impl TryFrom<String> for Slots {
    type Error = SlotsError;

    fn try_from(text: String) -> Result<Self, SlotsError> {
        text.parse()
    }
}

impl From<Slots> for String {
    fn from(slots: Slots) -> Self {
        slots.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_accounts() {
        for (account, slot) in [("acme", 175), ("other", 245), ("", 0xc5)] {
            assert_eq!(Slot::of_token(account), Slot(slot), "{account:?}");
        }
    }

    #[test]
    fn sets_as_text() {
        for (text, len, shown) in [
            ("", 0, ""),
            ("7", 1, "7"),
            ("0-255", 256, "0-255"),
            ("0-63,200", 65, "0-63,200"),
            ("3,1,2,1", 3, "1-3"),
            ("63,64,65", 3, "63-65"),
        ] {
            let slots: Slots = text.parse().unwrap();
            assert_eq!((slots.len(), slots.to_string().as_str()), (len, shown), "{text:?}");
            assert_eq!(slots.iter().collect::<Slots>(), slots);
        }
        for bad in
            ["256", "-1", "1-", "5-4", "01", "00", "+1", "-0", "a", "1,,2", ",", " 1", "0..3"]
        {
            assert!(bad.parse::<Slots>().is_err(), "{bad:?}");
        }
        assert_eq!("0-255".parse(), Ok(Slots::ALL));
    }

    #[test]
    fn sets_together() {
        let set = |text: &str| text.parse::<Slots>().unwrap();
        let (a, b) = (set("0-99"), set("50-149"));
        assert_eq!(a.union(b), set("0-149"));
        assert_eq!(a.intersection(b), set("50-99"));
        assert_eq!(a.difference(b), set("0-49"));
        assert!(set("60").is_subset(a) && !b.is_subset(a) && Slots::NONE.is_subset(a));
        assert!(a.contains(Slot(99)) && !a.contains(Slot(100)));
    }
}
