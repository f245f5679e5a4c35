//! The JSON fields that have a meaning, kept as JSON text until a rule asks for them. So the reason
//! for a refusal can name the field, and a field that the type does not name is ignored whatever it
//! holds.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

pub(super) type Reason = Cow<'static, str>;

/// A field in the JSON text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum RawField<'a> {
    #[default]
    Absent,
    /// A string without escapes: the text between its quotes.
    Text(&'a str),
    /// The JSON text of any other value.
    Json(&'a str),
    Twice,
}

macro_rules! fields {
    ($(#[$doc:meta])* $Fields:ident { $($name:ident = $key:literal)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default, Clone, Copy)]
        pub(super) struct $Fields<'a> {
            $(pub(super) $name: RawField<'a>,)*
        }

        impl<'a> $Fields<'a> {
            pub(super) fn set(&mut self, key: &str, value: RawField<'a>) {
                let field = match key {
                    $($key => &mut self.$name,)*
                    _ => return,
                };
                *field = if *field == RawField::Absent { value } else { RawField::Twice };
            }

            #[cfg(test)]
            pub(super) fn shown(&self) -> String {
                format!("{self:?}")
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
                                fields.set(&key, RawField::of(value.get()));
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
        data_base64 = "data_base64"
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
        score = "score"
        question = "question"
    }
}

impl<'a> RawField<'a> {
    /// The field with that JSON text.
    fn of(json: &'a str) -> Self {
        match between_quotes(json).filter(|text| !text.contains('\\')) {
            Some(text) => RawField::Text(text),
            None => RawField::Json(json),
        }
    }

    /// The JSON text of a value other than a string; `null` is absent. An error says that it is not
    /// `wanted`.
    pub(super) fn json(self, name: &str, wanted: &str) -> Result<Option<&'a str>, Reason> {
        match self {
            RawField::Absent | RawField::Json("null") => Ok(None),
            RawField::Json(json) if !json.starts_with('"') => Ok(Some(json)),
            RawField::Text(_) | RawField::Json(_) => Err(format!("{name} is not {wanted}").into()),
            RawField::Twice => Err(format!("{name} is given twice").into()),
        }
    }

    pub(super) fn text(self, name: &str) -> Result<Option<Cow<'a, str>>, Reason> {
        match self {
            RawField::Absent | RawField::Json("null") => Ok(None),
            RawField::Text(text) => Ok(Some(Cow::Borrowed(text))),
            RawField::Json(json) if json.starts_with('"') => {
                text(json).map(Some).ok_or_else(|| {
                    format!("{name} has half of a surrogate pair, which is no text").into()
                })
            }
            RawField::Json(_) => Err(format!("{name} is not a string").into()),
            RawField::Twice => Err(format!("{name} is given twice").into()),
        }
    }
}

/// The text of a JSON string; none for half of a surrogate pair, which is no text.
fn text(json: &str) -> Option<Cow<'_, str>> {
    let inner = between_quotes(json)?;
    if inner.contains('\\') {
        return serde_json::from_str(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

fn between_quotes(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"')
}
