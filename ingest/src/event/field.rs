//! The JSON fields that have a meaning, kept as they stand until a rule asks for them: so that the reason
//! for a refusal can name the field, and a field that the type does not name is ignored whatever it holds.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A conversation or user id is at most so long, in bytes.
const MAX_DATA_ID_BYTES: usize = 128;

/// What is wrong with a field.
pub(super) type Wrong = Cow<'static, str>;

/// A field as it stands in the JSON text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Raw<'a> {
    #[default]
    Absent,
    Once(&'a str),
    Twice,
}

macro_rules! fields {
    ($(#[$doc:meta])* $Fields:ident { $($name:ident = $key:literal)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(super) struct $Fields<'a> {
            $(pub(super) $name: Raw<'a>,)*
        }

        impl<'a> $Fields<'a> {
            fn set(&mut self, key: &str, value: &'a str) {
                let field = match key {
                    $($key => &mut self.$name,)*
                    _ => return,
                };
                *field = match field {
                    Raw::Absent => Raw::Once(value),
                    Raw::Once(_) | Raw::Twice => Raw::Twice,
                };
            }
        }

        impl<'de: 'a, 'a> Deserialize<'de> for $Fields<'a> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct FieldsVisitor;

                impl<'de> Visitor<'de> for FieldsVisitor {
                    type Value = $Fields<'de>;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("a JSON object")
                    }

                    fn visit_map<A: MapAccess<'de>>(
                        self,
                        mut map: A,
                    ) -> Result<$Fields<'de>, A::Error> {
                        let mut fields = $Fields::default();
                        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
                            // A key that is no text is no field's name.
                            if let Some(key) = text(key.get()) {
                                fields.set(&key, value.get());
                            }
                        }
                        Ok(fields)
                    }
                }

                deserializer.deserialize_map(FieldsVisitor)
            }
        }
    };
}

fields! {
    /// CloudEvents attributes, and the data.
    EnvelopeFields {
        specversion = "specversion"
        id = "id"
        source = "source"
        kind = "type"
        time = "time"
        data = "data"
    }
}

fields! {
    /// Every data field that any type names.
    DataFields {
        conversationid = "conversationid"
        userid = "userid"
        kind = "kind"
        fallback = "fallback"
        parts = "parts"
        detected = "detected"
        intent = "intent"
        confidence = "confidence"
        ok = "ok"
        status = "status"
        durationms = "durationms"
        name = "name"
        by = "by"
        operatorid = "operatorid"
        automatic = "automatic"
        reason = "reason"
        goal = "goal"
        tag = "tag"
    }
}

impl<'a> Raw<'a> {
    /// The JSON text; `null` is absent.
    pub(super) fn json(self, name: &str) -> Result<Option<&'a str>, Wrong> {
        match self {
            Raw::Absent | Raw::Once("null") => Ok(None),
            Raw::Once(json) => Ok(Some(json)),
            Raw::Twice => Err(format!("{name} is given twice").into()),
        }
    }

    /// The text of a string.
    pub(super) fn text(self, name: &str) -> Result<Option<Cow<'a, str>>, Wrong> {
        let Some(json) = self.json(name)? else { return Ok(None) };
        if !json.starts_with('"') {
            return Err(format!("{name} is not a string").into());
        }
        let half = || format!("{name} has half of a surrogate pair, which is no text").into();
        text(json).map(Some).ok_or_else(half)
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

    /// The JSON text of a data field.
    fn json<'a>(&mut self, name: &str, raw: Raw<'a>) -> Result<Option<&'a str>, Wrong> {
        let json = raw.json(name)?;
        if json.is_none() {
            self.content.push(0);
        }
        Ok(json)
    }

    fn note(&mut self, value: &str) {
        self.note_bytes(value.as_bytes());
    }

    fn note_bytes(&mut self, value: &[u8]) {
        self.content.push(1);
        self.content.extend_from_slice(&value.len().to_le_bytes());
        self.content.extend_from_slice(value);
    }

    pub(super) fn text<'a>(
        &mut self,
        name: &str,
        raw: Raw<'a>,
    ) -> Result<Option<Cow<'a, str>>, Wrong> {
        let text = raw.text(name)?;
        match &text {
            Some(text) => self.note(text),
            None => self.content.push(0),
        }
        Ok(text)
    }

    pub(super) fn required_text<'a>(
        &mut self,
        name: &str,
        raw: Raw<'a>,
    ) -> Result<Cow<'a, str>, Wrong> {
        self.text(name, raw)?.ok_or_else(|| format!("{name} is missing").into())
    }

    pub(super) fn id<'a>(&mut self, name: &str, raw: Raw<'a>) -> Result<Cow<'a, str>, Wrong> {
        let text = self.required_text(name, raw)?;
        if (1..=MAX_DATA_ID_BYTES).contains(&text.len()) {
            return Ok(text);
        }
        Err(format!("{name} is not 1 to {MAX_DATA_ID_BYTES} bytes long").into())
    }

    pub(super) fn bool(&mut self, name: &str, raw: Raw<'_>) -> Result<Option<bool>, Wrong> {
        let Some(json) = self.json(name, raw)? else { return Ok(None) };
        let value = match json {
            "true" => true,
            "false" => false,
            _ => return Err(format!("{name} is not true or false").into()),
        };
        self.note(json);
        Ok(Some(value))
    }

    pub(super) fn required_bool(&mut self, name: &str, raw: Raw<'_>) -> Result<bool, Wrong> {
        self.bool(name, raw)?.ok_or_else(|| format!("{name} is missing").into())
    }

    pub(super) fn number(&mut self, name: &str, raw: Raw<'_>) -> Result<(), Wrong> {
        let Some(json) = self.json(name, raw)? else { return Ok(()) };
        if !json.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return Err(format!("{name} is not a number").into());
        }
        // By value, as texts are: 1 and 1.0 are the same content.
        match json.parse::<f64>() {
            Ok(number) => self.note_bytes(&number.to_bits().to_le_bytes()),
            Err(_) => self.note(json),
        }
        Ok(())
    }
}
