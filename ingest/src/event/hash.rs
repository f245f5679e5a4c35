//! The hashes by which the store knows conversations and users, and the decoder knows subjects.
//!
//! *Invariants*: nothing outside of this file reads the key, and no log line shows it.
//!
//! *Why* a key: ids are often phone numbers or addresses. Without the key, nobody can find the id
//! of a stored hash by trying all of them. SipHash-1-3 with 128 bits, as Rust's own tables use it
//! with 64: whoever can choose ids cannot make two of them meet either.

use std::fmt;
use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// What a hash is of. Equal ids of different domains have unrelated hashes. A number is part of
/// each stored hash, so never change one.
#[derive(Clone, Copy)]
enum Domain {
    Conversation = 0,
    User = 1,
    Forgotten = 2,
    Subject = 3,
}

/// The hash of an id.
///
/// *Why* bytes: a batch has 100,000 events in memory, and a `u128` would align each to 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdHash([u8; 16]);

impl IdHash {
    pub(crate) fn number(self) -> u128 {
        u128::from_le_bytes(self.0)
    }

    /// A half of it, for a hash table.
    pub(crate) fn half(self) -> u64 {
        let [half @ .., _, _, _, _, _, _, _, _] = self.0;
        u64::from_le_bytes(half)
    }
}

/// The random key of a store, for the hashes of ids.
#[derive(Clone)]
pub struct HashKey {
    // Each has already taken the block that begins with its domain: hashing an id starts there.
    conversations: SipHasher13,
    users: SipHasher13,
    forgotten: SipHasher13,
    subjects: SipHasher13,
}

impl HashKey {
    /// The key of these 16 bytes.
    #[must_use]
    pub fn new(bytes: [u8; 16]) -> Self {
        let of = |domain: Domain| {
            let mut hasher = SipHasher13::new_with_key(&bytes);
            // A whole block, so that the words of the id stay words.
            hasher.write(&[domain as u8, 0, 0, 0, 0, 0, 0, 0]);
            hasher
        };
        Self {
            conversations: of(Domain::Conversation),
            users: of(Domain::User),
            forgotten: of(Domain::Forgotten),
            subjects: of(Domain::Subject),
        }
    }

    /// The hash of a conversation id.
    pub(crate) fn conversation(&self, id: &str) -> IdHash {
        hash(self.conversations, id)
    }

    /// The hash of a user id.
    pub(crate) fn user(&self, id: &str) -> IdHash {
        hash(self.users, id)
    }

    /// The hash of a user id in place of a conversation's: the timeline of `user.forgotten`.
    pub(crate) fn forgotten(&self, user_id: &str) -> IdHash {
        hash(self.forgotten, user_id)
    }

    /// The hash of a subject; it is stored nowhere.
    pub(crate) fn subject(&self, subject: &str) -> IdHash {
        hash(self.subjects, subject)
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

fn hash(mut begun: SipHasher13, id: &str) -> IdHash {
    begun.write(id.as_bytes());
    IdHash(begun.finish128().as_u128().to_le_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_hash_depends_on_key_domain_and_id() {
        let mut all = BTreeSet::new();
        for key in [HashKey::new([0; 16]), HashKey::new([1; 16])] {
            for id in ["", "a", "b", "a\0", "12345678", "1234567812345678", &"x".repeat(512)] {
                all.extend([key.conversation(id), key.user(id)]);
                all.extend([key.forgotten(id), key.subject(id)]);
            }
        }
        assert_eq!(all.len(), 2 * 7 * 4);
    }

    /// What stands in stores: SipHash-1-3-128 over a block with the domain, and the id.
    #[test]
    fn the_hashes_never_change() {
        let key: [u8; 16] = std::array::from_fn(|place| u8::try_from(place).unwrap());
        let plain = |domain: u8, id: &str| {
            let block = [&[domain, 0, 0, 0, 0, 0, 0, 0], id.as_bytes()].concat();
            SipHasher13::new_with_key(&key).hash(&block).as_u128()
        };
        let hashes = HashKey::new(key);
        for id in ["a", "u-00f1", "49170123456789@whatsapp"] {
            assert_eq!(hashes.conversation(id).number(), plain(0, id));
            assert_eq!(hashes.user(id).number(), plain(1, id));
            assert_eq!(hashes.forgotten(id).number(), plain(2, id));
        }
        assert_eq!(hashes.user("a").number(), 156_149_024_681_188_090_862_921_717_162_065_065_044);
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(format!("{:?}", HashKey::new([7; 16])), "HashKey(..)");
    }
}
