//! The types of events as JSON Schemas (draft 7, which AsyncAPI reads), made from the types
//! themselves.
//!
//! | what ingest refuses, but no schema can | |
//! | --- | --- |
//! | texts too long in bytes | a schema counts characters |
//! | a field or attribute that stands twice | |
//! | half of a surrogate pair | |
//! | a score written as `5.0` | a schema knows values, not how they are written |
//! | a day that is not in the calendar, a leap second where none can be | a pattern knows no calendar |
//! | an event that is too old, too new or larger than 64 KiB | |
//!
//! What a schema refuses, ingest refuses (or skips, if only the type is unknown).

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{CloudEvent, Data, What};

/// RFC 3339 section 5.6, as far as a pattern can say it.
pub(super) const TIME_PATTERN: &str = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt]\
    ([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\\.[0-9]+)?\
    ([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";

/// The type whose data has no [`CONVERSATION`].
const FORGOTTEN: &str = What::UserForgotten {}.type_name();
const CONVERSATION: &str = "conversationid";

/// A type of event.
#[derive(Debug, Clone, PartialEq)]
pub struct TypeSchema {
    /// The CloudEvents attribute `type`.
    pub type_name: &'static str,
    /// What it means, in a sentence.
    pub description: String,
    /// Its data.
    pub data: Value,
}

/// Every type of event, in the order of [`What::TYPES`].
#[must_use]
pub fn types() -> Vec<TypeSchema> {
    let mut data = of::<Data<'_>>();
    let variants = match data.remove("anyOf") {
        Some(Value::Array(variants)) => variants,
        _ => Vec::new(),
    };
    let typed = What::TYPES.into_iter().zip(variants);
    typed
        .map(|(type_name, variant)| {
            let description = variant["description"].as_str().unwrap_or_default().to_owned();
            let mut required = list(&data["required"]);
            required.extend(list(&variant["required"]));
            let mut properties = object(&data["properties"]);
            if type_name == FORGOTTEN {
                // Nothing is asked of a conversation that is ignored.
                required.retain(|name| name != CONVERSATION);
                properties.remove(CONVERSATION);
            }
            properties.extend(object(&variant["properties"]));
            let data = json!({"type": "object", "required": required, "properties": properties});
            TypeSchema { type_name, description, data }
        })
        .collect()
}

/// The attributes of an event, and its data as any object.
#[must_use]
pub fn envelope() -> Value {
    let mut envelope = Value::Object(of::<CloudEvent<'_>>());
    envelope["properties"]["specversion"]["const"] = "1.0".into();
    envelope["properties"]["data"] = json!({"type": "object"});
    envelope
}

fn of<T: schemars::JsonSchema>() -> Map<String, Value> {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.remove("title");
    schema.as_object().cloned().unwrap_or_default()
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}
