//! The envelope of an event: CloudEvents attributes, from the body or from headers, and the data
//! that they are about.

use std::borrow::Cow;

use async_nats::HeaderMap;
use botstats_common::event::{MAX_ID_BYTES, MAX_SOURCE_BYTES};
use botstats_common::names::MAX_PAYLOAD_BYTES;
use botstats_common::rfc3339;
use data_encoding::BASE64;
use percent_encoding::percent_decode_str;
use serde_json::error::Category;

use super::field::{DataFields, EnvelopeFields, RawField, Reason};
use super::{Broken, Headers, JSON_SPACE, Message, Rule, broken, split};

/// The attributes that make an event what it is.
pub(super) struct Envelope<'a> {
    pub(super) id: Cow<'a, str>,
    pub(super) source: Cow<'a, str>,
    pub(super) kind: Cow<'a, str>,
    pub(super) time_ms: i64,
}

/// Reads the envelope. Data in plain JSON is split into `fields` in the same pass.
pub(super) fn read<'a>(
    message: &Message<'a>,
    fields: &mut DataFields<'a>,
) -> Result<(Envelope<'a>, Data<'a>), Broken> {
    if message.payload.len() > MAX_PAYLOAD_BYTES {
        return broken(
            Rule::Envelope,
            format!("the payload is larger than {MAX_PAYLOAD_BYTES} bytes"),
        );
    }
    let text = str::from_utf8(message.payload)
        .map_err(|_| Broken(Rule::Envelope, "the payload is not UTF-8".into()))?;
    let (attributes, data) = match mode(message.headers)? {
        Mode::Structured => structured(text, fields)?,
        Mode::Binary(headers) => {
            (binary(headers)?, Data::of(text.trim_matches(JSON_SPACE), fields))
        }
    };
    let attribute = |name: &'static str, text: Option<Cow<'a, str>>, max: usize| match text {
        Some(text) if (1..=max).contains(&text.len()) => Ok(text),
        Some(_) => broken(Rule::Envelope, format!("{name} is not 1 to {max} bytes long")),
        None => broken(Rule::Envelope, format!("{name} is missing")),
    };
    match attributes.specversion.as_deref() {
        Some("1.0") => {}
        Some(_) => return broken(Rule::Envelope, "specversion is not 1.0"),
        None => return broken(Rule::Envelope, "specversion is missing"),
    }
    let id = attribute("id", attributes.id, MAX_ID_BYTES)?;
    let source = attribute("source", attributes.source, MAX_SOURCE_BYTES)?;
    let kind = match attributes.kind {
        Some(kind) if !kind.is_empty() => kind,
        Some(_) => return broken(Rule::Envelope, "type is empty"),
        None => return broken(Rule::Envelope, "type is missing"),
    };
    let time_ms = match attributes.time.map(|time| rfc3339::parse_ms(&time)) {
        Some(Some(ms)) => ms,
        Some(None) => {
            return broken(
                Rule::Envelope,
                "time is not RFC 3339, such as 2026-11-20T10:52:00.000Z",
            );
        }
        None => return broken(Rule::Envelope, "time is missing"),
    };
    Ok((Envelope { id, source, kind, time_ms }, data))
}

/// The data of an event.
pub(super) enum Data<'a> {
    /// Already split into fields.
    Split,
    /// JSON text that begins like an object.
    Object(&'a str),
    /// The attribute `data_base64`.
    Base64(Cow<'a, str>),
    /// A JSON value that is not an object.
    Other,
}

impl<'a> Data<'a> {
    fn of(json: &'a str, fields: &mut DataFields<'a>) -> Self {
        match split::data(json, fields) {
            Some(()) => Data::Split,
            None if json.starts_with('{') => Data::Object(json),
            None => Data::Other,
        }
    }
}

pub(super) fn object<'a>(what: &str, json: &'a str) -> Result<DataFields<'a>, Broken> {
    let mut fields = DataFields::default();
    if split::data(json, &mut fields).is_none() {
        fields = serde_json::from_str(json).map_err(|error| not_an_object(what, &error))?;
    }
    Ok(fields)
}

/// The JSON text that some libraries write as `data_base64`, because they got the data as bytes.
pub(super) fn from_base64(text: &str) -> Result<String, Broken> {
    let Ok(bytes) = BASE64.decode(text.as_bytes()) else {
        return broken(Rule::Envelope, "data_base64 is not base64 (RFC 4648, section 4, padded)");
    };
    String::from_utf8(bytes)
        .map_err(|_| Broken(Rule::Envelope, "data_base64 once decoded is not UTF-8".into()))
}

/// Says where the JSON text is wrong. An error of category `Data` is not quoted: its text would
/// repeat a value of the message.
fn not_an_object(what: &str, error: &serde_json::Error) -> Broken {
    let reason = match error.classify() {
        Category::Data => format!("{what} is not a JSON object"),
        _ => format!("{what} is not JSON: {error}"),
    };
    Broken(Rule::Envelope, reason.into())
}

const CONTENT_TYPE: &str = "content-type";
/// The media type of a whole event.
const STRUCTURED: &str = "application/cloudevents+json";

enum Mode<'a> {
    Structured,
    Binary(&'a HeaderMap),
}

/// The mode of the CloudEvents binding for NATS:
///
/// | content type | header ce-specversion | read as |
/// | --- | --- | --- |
/// | application/cloudevents+json | any | structured |
/// | any other or none | yes | binary |
/// | any other or none | no | structured |
fn mode(headers: Headers<'_>) -> Result<Mode<'_>, Broken> {
    let headers = match headers {
        Headers::Read(Some(headers)) => headers,
        Headers::Read(None) => return Ok(Mode::Structured),
        Headers::Unreadable => return broken(Rule::Envelope, "the headers cannot be read"),
    };
    // Other ce- headers do not count: programs between publisher and stream, such as tracing, may
    // add them to any message.
    let (mut media, mut is_binary) = (None, false);
    for (name, values) in headers.iter() {
        let name: &str = name.as_ref();
        if name.eq_ignore_ascii_case(CONTENT_TYPE) {
            for value in values {
                if media.replace(value.as_str()).is_some() {
                    return Err(given_twice(CONTENT_TYPE));
                }
            }
        }
        is_binary |= name.eq_ignore_ascii_case("ce-specversion");
    }
    if let Some(media) = media
        && media.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(STRUCTURED)
    {
        return Ok(Mode::Structured);
    }
    Ok(if is_binary { Mode::Binary(headers) } else { Mode::Structured })
}

/// The value of a header in any letter case. A header that is given twice is refused: chance would
/// decide which value counts.
fn header<'a>(headers: &'a HeaderMap, wanted: &'static str) -> Result<Option<&'a str>, Broken> {
    let mut values = headers
        .iter()
        .filter(|(name, _)| AsRef::<str>::as_ref(*name).eq_ignore_ascii_case(wanted))
        .flat_map(|(_, values)| values);
    match (values.next(), values.next()) {
        (_, Some(_)) => Err(given_twice(wanted)),
        (value, None) => Ok(value.map(async_nats::HeaderValue::as_str)),
    }
}

fn given_twice(header: &str) -> Broken {
    Broken(Rule::Envelope, format!("header {header} is given twice").into())
}

/// The CloudEvents attributes that the rules use.
struct Attributes<'a> {
    specversion: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
    source: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
}

fn structured<'a>(
    text: &'a str,
    data: &mut DataFields<'a>,
) -> Result<(Attributes<'a>, Data<'a>), Broken> {
    let mut fields = EnvelopeFields::default();
    let split = split::envelope(text, &mut fields, data).is_some();
    if !split {
        fields = serde_json::from_str(text).map_err(|e| not_an_object("the payload", &e))?;
    }
    let mut read = || {
        let attributes = Attributes {
            specversion: fields.specversion.text("specversion")?,
            id: fields.id.text("id")?,
            source: fields.source.text("source")?,
            kind: fields.kind.text("type")?,
            time: fields.time.text("time")?,
        };
        let encoded = fields.data_base64.text("data_base64")?;
        let data = match fields.data {
            _ if split => Some(Data::Split),
            RawField::Absent | RawField::Json("null") => None,
            RawField::Twice => return Err("data is given twice".into()),
            RawField::Text(_) => Some(Data::Other),
            RawField::Json(json) => Some(Data::of(json, data)),
        };
        match (data, encoded) {
            (Some(data), None) => Ok((attributes, data)),
            (None, Some(encoded)) => Ok((attributes, Data::Base64(encoded))),
            (Some(_), Some(_)) => Err("data and data_base64 are both given; one is allowed".into()),
            (None, None) => Err("data is missing".into()),
        }
    };
    read().map_err(|reason: Reason| Broken(Rule::Envelope, reason))
}

fn binary(headers: &HeaderMap) -> Result<Attributes<'_>, Broken> {
    let attribute = |name: &'static str| match header(headers, name)? {
        None => Ok(None),
        Some(value) => percent_decode_str(value).decode_utf8().map(Some).map_err(|_| {
            Broken(Rule::Envelope, format!("header {name} is not UTF-8 once decoded").into())
        }),
    };
    Ok(Attributes {
        specversion: attribute("ce-specversion")?,
        id: attribute("ce-id")?,
        source: attribute("ce-source")?,
        kind: attribute("ce-type")?,
        time: attribute("ce-time")?,
    })
}
