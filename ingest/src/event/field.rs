//! The JSON fields that have a meaning, kept as they stand until a rule asks for them: so that the reason
//! for a refusal can name the field, and a field that the type does not name is ignored whatever it holds.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A conversation or user id is at most so long, in bytes.
const MAX_DATA_ID_BYTES: usize = 128;

/// What is wrong with a field.
pub(super) type Wrong = Cow<'static, str>;

/// The value of a CloudEvents attribute. `null` is absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Attribute<'a> {
    #[default]
    Absent,
    Text(Cow<'a, str>),
    /// Something else: wrong wherever an attribute has a name.
    Other,
}

/// CloudEvents attributes, and the data as they stand.
#[derive(Debug, Default, Deserialize)]
pub(super) struct EnvelopeFields<'a> {
    #[serde(default, borrow)]
    pub(super) specversion: Attribute<'a>,
    #[serde(default, borrow)]
    pub(super) id: Attribute<'a>,
    #[serde(default, borrow)]
    pub(super) source: Attribute<'a>,
    #[serde(default, borrow, rename = "type")]
    pub(super) kind: Attribute<'a>,
    #[serde(default, borrow)]
    pub(super) time: Attribute<'a>,
    #[serde(default, borrow)]
    pub(super) data: Option<&'a RawValue>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Attribute<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AttributeVisitor)
    }
}

struct AttributeVisitor;

impl<'de> Visitor<'de> for AttributeVisitor {
    type Value = Attribute<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Attribute<'de>, E> {
        Ok(Attribute::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Attribute<'de>, E> {
        Ok(Attribute::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Attribute<'de>, E> {
        Ok(Attribute::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Attribute<'de>, E> {
        Ok(Attribute::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Attribute<'de>, E> {
        Ok(Attribute::Other)
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Attribute<'de>, E> {
        Ok(Attribute::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Attribute<'de>, E> {
        Ok(Attribute::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Attribute<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Attribute::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attribute<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Attribute::Other)
    }
}

/// A data field as it stands in the JSON text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Raw<'a> {
    #[default]
    Absent,
    Once(&'a str),
    Twice,
}

macro_rules! data_fields {
    ($($name:ident)*) => {
        /// Every data field that any type names.
        #[derive(Debug, Default)]
        pub(super) struct DataFields<'a> {
            $(pub(super) $name: Raw<'a>,)*
        }

        impl<'a> DataFields<'a> {
            fn set(&mut self, name: &str, value: &'a str) {
                let field = match name {
                    $(stringify!($name) => &mut self.$name,)*
                    _ => return,
                };
                *field = match field {
                    Raw::Absent => Raw::Once(value),
                    Raw::Once(_) | Raw::Twice => Raw::Twice,
                };
            }
        }
    };
}

data_fields! {
    conversationid userid kind fallback parts detected intent confidence ok status durationms name by
    operatorid automatic reason goal tag
}

impl<'de: 'a, 'a> Deserialize<'de> for DataFields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = DataFields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DataFields<'de>, A::Error> {
                let mut fields = DataFields::default();
                while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                    // A name that is no text is no field's name.
                    if let Some(name) = text(name.get()) {
                        fields.set(&name, value.get());
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// The text of a JSON string; none if it stands for no text (half of a surrogate pair).
fn text(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// Asks for the fields that a type names, and keeps a form of them by which content is compared.
pub(super) struct Asked {
    /// A form of all that was asked for, different for different content.
    pub(super) content: Vec<u8>,
}

impl Asked {
    pub(super) fn new() -> Self {
        Self { content: Vec::with_capacity(128) }
    }

    /// The JSON text of a field; `null` is absent.
    fn get<'a>(&mut self, name: &str, raw: Raw<'a>) -> Result<Option<&'a str>, Wrong> {
        match raw {
            Raw::Absent | Raw::Once("null") => {
                self.content.push(0);
                Ok(None)
            }
            Raw::Once(json) => Ok(Some(json)),
            Raw::Twice => Err(format!("data.{name} is given twice").into()),
        }
    }

    fn note(&mut self, value: &str) {
        self.content.push(1);
        self.content.extend_from_slice(&value.len().to_le_bytes());
        self.content.extend_from_slice(value.as_bytes());
    }

    pub(super) fn text<'a>(
        &mut self,
        name: &str,
        raw: Raw<'a>,
    ) -> Result<Option<Cow<'a, str>>, Wrong> {
        let Some(json) = self.get(name, raw)? else { return Ok(None) };
        if !json.starts_with('"') {
            return Err(format!("data.{name} is not a string").into());
        }
        let value = text(json)
            .ok_or_else(|| format!("data.{name} has half of a surrogate pair, which is no text"))?;
        self.note(&value);
        Ok(Some(value))
    }

    pub(super) fn required_text<'a>(
        &mut self,
        name: &str,
        raw: Raw<'a>,
    ) -> Result<Cow<'a, str>, Wrong> {
        self.text(name, raw)?.ok_or_else(|| format!("data.{name} is missing").into())
    }

    pub(super) fn id<'a>(&mut self, name: &str, raw: Raw<'a>) -> Result<Cow<'a, str>, Wrong> {
        let text = self.required_text(name, raw)?;
        if (1..=MAX_DATA_ID_BYTES).contains(&text.len()) {
            return Ok(text);
        }
        Err(format!("data.{name} is not 1 to {MAX_DATA_ID_BYTES} bytes long").into())
    }

    pub(super) fn bool(&mut self, name: &str, raw: Raw<'_>) -> Result<Option<bool>, Wrong> {
        let Some(json) = self.get(name, raw)? else { return Ok(None) };
        let value = match json {
            "true" => true,
            "false" => false,
            _ => return Err(format!("data.{name} is not true or false").into()),
        };
        self.note(json);
        Ok(Some(value))
    }

    pub(super) fn required_bool(&mut self, name: &str, raw: Raw<'_>) -> Result<bool, Wrong> {
        self.bool(name, raw)?.ok_or_else(|| format!("data.{name} is missing").into())
    }

    pub(super) fn number(&mut self, name: &str, raw: Raw<'_>) -> Result<(), Wrong> {
        let Some(json) = self.get(name, raw)? else { return Ok(()) };
        if !json.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return Err(format!("data.{name} is not a number").into());
        }
        self.note(json);
        Ok(())
    }
}
