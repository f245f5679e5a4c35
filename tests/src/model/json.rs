//! JSON objects that keep what a map would hide: a name that stands there twice.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON object with its members as they stand, repeated ones too.
pub(super) struct Object(Vec<(Name, Box<RawValue>)>);

/// The name of a member. Bytes, because JSON allows halves of surrogate pairs, which are no text.
struct Name(Vec<u8>);

/// A member that breaks the rules.
pub(super) struct Broken;

impl Object {
    /// Reads an object from JSON text.
    pub(super) fn read(text: &str) -> Option<Self> {
        // Reading a name as bytes would let control characters through, which JSON has only
        // escaped.
        let _valid: IgnoredAny = serde_json::from_str(text).ok()?;
        serde_json::from_str(text).ok()
    }

    /// The member of that name; `None` if it is absent or null.
    pub(super) fn get(&self, name: &str) -> Result<Option<&RawValue>, Broken> {
        let members: Vec<&RawValue> = self
            .0
            .iter()
            .filter(|(key, _)| key.0 == name.as_bytes())
            .map(|(_, value)| &**value)
            .collect();
        match members[..] {
            [] => Ok(None),
            [one] => Ok(Some(one).filter(|value| value.get() != "null")),
            _ => Err(Broken),
        }
    }

    pub(super) fn typed<T: for<'a> Deserialize<'a>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, Broken> {
        let member = self.get(name)?;
        member.map(|value| serde_json::from_str(value.get()).map_err(|_| Broken)).transpose()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Name, E> {
                Ok(Name(bytes.to_owned()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Name, E> {
                Ok(Name(text.as_bytes().to_owned()))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}
