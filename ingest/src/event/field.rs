//! The JSON fields that have a meaning, read without deciding yet whether they are right: so that
//! the reason for a refusal can name the field.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A conversation or user id is at most so long, in bytes.
const MAX_DATA_ID_BYTES: usize = 128;

/// The value of a named field. `null` is absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Field<'a> {
    #[default]
    Absent,
    Bool(bool),
    Number(f64),
    Text(Cow<'a, str>),
    /// An array or an object: wrong wherever a field has a name.
    Compound,
}

type Wrong = Cow<'static, str>;

impl Field<'_> {
    pub(super) fn id(&self, name: &str) -> Result<&str, Wrong> {
        let text = self.required_text(name)?;
        if (1..=MAX_DATA_ID_BYTES).contains(&text.len()) {
            return Ok(text);
        }
        Err(format!("data.{name} is not 1 to {MAX_DATA_ID_BYTES} bytes long").into())
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Wrong> {
        match self {
            Field::Absent => Ok(None),
            Field::Text(text) => Ok(Some(text)),
            _ => Err(format!("data.{name} is not a string").into()),
        }
    }

    pub(super) fn required_text(&self, name: &str) -> Result<&str, Wrong> {
        self.text(name)?.ok_or_else(|| format!("data.{name} is missing").into())
    }

    pub(super) fn bool(&self, name: &str) -> Result<Option<bool>, Wrong> {
        match self {
            Field::Absent => Ok(None),
            Field::Bool(value) => Ok(Some(*value)),
            _ => Err(format!("data.{name} is not true or false").into()),
        }
    }

    pub(super) fn required_bool(&self, name: &str) -> Result<bool, Wrong> {
        self.bool(name)?.ok_or_else(|| format!("data.{name} is missing").into())
    }

    pub(super) fn number(&self, name: &str) -> Result<(), Wrong> {
        match self {
            Field::Absent | Field::Number(_) => Ok(()),
            _ => Err(format!("data.{name} is not a number").into()),
        }
    }

    /// Appends a form of the value that no other value has.
    pub(super) fn hash_into(&self, bytes: &mut Vec<u8>) {
        match self {
            Field::Absent | Field::Compound => bytes.push(0),
            Field::Bool(value) => bytes.extend_from_slice(&[1, u8::from(*value)]),
            Field::Number(value) => {
                bytes.push(2);
                bytes.extend_from_slice(&value.to_bits().to_le_bytes());
            }
            Field::Text(text) => {
                bytes.push(3);
                bytes.extend_from_slice(&text.len().to_le_bytes());
                bytes.extend_from_slice(text.as_bytes());
            }
        }
    }
}

/// CloudEvents attributes, and the data as they stand.
#[derive(Debug, Default, Deserialize)]
pub(super) struct EnvelopeFields<'a> {
    #[serde(default, borrow)]
    pub(super) specversion: Field<'a>,
    #[serde(default, borrow)]
    pub(super) id: Field<'a>,
    #[serde(default, borrow)]
    pub(super) source: Field<'a>,
    #[serde(default, borrow, rename = "type")]
    pub(super) kind: Field<'a>,
    #[serde(default, borrow)]
    pub(super) time: Field<'a>,
    #[serde(default, borrow)]
    pub(super) data: Option<&'a RawValue>,
}

/// Every data field that any type names.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct DataFields<'a> {
    #[serde(borrow)]
    pub(super) conversationid: Field<'a>,
    #[serde(borrow)]
    pub(super) userid: Field<'a>,
    #[serde(borrow)]
    pub(super) kind: Field<'a>,
    #[serde(borrow)]
    pub(super) fallback: Field<'a>,
    #[serde(borrow)]
    pub(super) parts: Field<'a>,
    #[serde(borrow)]
    pub(super) detected: Field<'a>,
    #[serde(borrow)]
    pub(super) intent: Field<'a>,
    #[serde(borrow)]
    pub(super) confidence: Field<'a>,
    #[serde(borrow)]
    pub(super) ok: Field<'a>,
    #[serde(borrow)]
    pub(super) status: Field<'a>,
    #[serde(borrow)]
    pub(super) durationms: Field<'a>,
    #[serde(borrow)]
    pub(super) name: Field<'a>,
    #[serde(borrow)]
    pub(super) by: Field<'a>,
    #[serde(borrow)]
    pub(super) operatorid: Field<'a>,
    #[serde(borrow)]
    pub(super) automatic: Field<'a>,
    #[serde(borrow)]
    pub(super) reason: Field<'a>,
    #[serde(borrow)]
    pub(super) goal: Field<'a>,
    #[serde(borrow)]
    pub(super) tag: Field<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Field<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Field<'de>, E> {
        Ok(Field::Absent)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Field<'de>, E> {
        Ok(Field::Bool(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "no number of an event is counted")]
    fn visit_i64<E>(self, value: i64) -> Result<Field<'de>, E> {
        Ok(Field::Number(value as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "no number of an event is counted")]
    fn visit_u64<E>(self, value: u64) -> Result<Field<'de>, E> {
        Ok(Field::Number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Field<'de>, E> {
        Ok(Field::Number(value))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Field<'de>, E> {
        Ok(Field::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Field<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Compound)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Compound)
    }
}
