//! The data of each type of event: which fields it names, and what is kept of them.

use std::borrow::Cow;

use botstats_common::event::{MAX_DATA_ID_BYTES, MAX_SCORE, MIN_SCORE};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::envelope::Envelope;
use super::field::{DataFields, RawField, Reason};
use super::{Event, HashKey, Kind, flag};

/// A name is cut to this many bytes, at the boundary of a character.
pub(crate) const MAX_NAME_BYTES: usize = 128;
/// The longest name of an [`Event`], in bytes: it ends with a whole character.
pub(crate) const MAX_SENT_BYTES: usize = MAX_NAME_BYTES + 3;
/// The longest duration of a call that counts, in milliseconds: a day.
const MAX_DURATION_MS: u32 = 86_400_000;
/// The lowest score of a satisfied user.
const SATISFIED_FROM: u8 = 4;

/// Reads the data of a known type; the error says what is wrong with it.
pub(super) fn event(
    envelope: &Envelope<'_>,
    data: &DataFields<'_>,
    kind: Kind,
    key: &HashKey,
) -> Result<Event, Reason> {
    let mut asked = FieldReader::default();
    let conversation = match kind {
        Kind::Forgotten => None,
        _ => Some(asked.id("data.conversationid", data.conversationid)?),
    };
    let user = asked.id("data.userid", data.userid)?;
    let (mut flags, mut name, mut duration_ms) = (0, None, None);
    let mut set = |bit: u8, on: bool| flags |= if on { bit } else { 0 };
    // Every field that the type names must have the right JSON type, even an optional one.
    match kind {
        Kind::Received => {
            asked.text("data.kind", data.kind)?;
        }
        Kind::Sent => {
            set(flag::FALLBACK, asked.bool("data.fallback", data.fallback)?.unwrap_or(false));
            asked.number("data.parts", data.parts)?;
        }
        Kind::Nlp => {
            set(flag::DETECTED, asked.required_bool("data.detected", data.detected)?);
            name = asked.text("data.intent", data.intent)?;
            asked.number("data.confidence", data.confidence)?;
        }
        Kind::Integration => {
            let is_api = asked.required_text("data.kind", data.kind)? == "api";
            set(flag::API, is_api);
            set(flag::FAILED, !asked.required_bool("data.ok", data.ok)?);
            asked.number("data.status", data.status)?;
            duration_ms = asked.duration("data.durationms", data.durationms)?.filter(|_| is_api);
            name = asked.text("data.name", data.name)?;
        }
        Kind::Requested => {
            asked.text("data.by", data.by)?;
        }
        Kind::Joined => {
            name = asked.text("data.operatorid", data.operatorid)?;
        }
        Kind::OperatorMessage => {
            name = asked.text("data.operatorid", data.operatorid)?;
            set(flag::AUTOMATIC, asked.bool("data.automatic", data.automatic)?.unwrap_or(false));
        }
        Kind::Released | Kind::Ended => {
            asked.text("data.reason", data.reason)?;
        }
        Kind::Goal => {
            name = Some(asked.required_text("data.goal", data.goal)?);
        }
        Kind::Tag => {
            name = Some(asked.required_text("data.tag", data.tag)?);
        }
        Kind::Feedback => {
            set(flag::SATISFIED, asked.score("data.score", data.score)? >= SATISFIED_FROM);
            asked.text("data.question", data.question)?;
        }
        Kind::Forgotten => {}
    }
    let [a, b, c, d, ..] = asked.content.to_le_bytes();
    Ok(Event {
        conversation: match conversation {
            Some(conversation) => key.conversation(&conversation),
            None => key.forgotten(&user),
        },
        // Source "a" with id "bc" is another event than source "ab" with id "c".
        id: xxh3_64_with_seed(envelope.id.as_bytes(), xxh3_64(envelope.source.as_bytes())),
        content: u32::from_le_bytes([a, b, c, d]),
        time_ms: envelope.time_ms,
        kind,
        flags,
        user: key.user(&user),
        name: name.as_deref().map(|name| begin_of(name).into()),
        duration_ms,
    })
}

/// As much of a name as tells it and its place in the order of names from others: all bytes up to
/// [`MAX_NAME_BYTES`], and those of the character that stands there.
fn begin_of(name: &str) -> &str {
    let mut end = name.len().min(MAX_NAME_BYTES);
    while !name.is_char_boundary(end) {
        end += 1;
    }
    &name[..end]
}

/// Reads the fields that a type names, and keeps a hash of them by which content is compared.
#[derive(Default)]
struct FieldReader {
    /// The hash of all fields that were read; each is hashed with the hash of those before it as
    /// the seed.
    content: u64,
}

impl FieldReader {
    fn note(&mut self, value: &[u8]) {
        self.content = xxh3_64_with_seed(value, self.content);
    }

    /// Notes that a field is absent, which differs from every value.
    fn note_absent(&mut self) {
        self.content = !self.content;
    }

    /// The JSON text of a data field.
    fn json<'a>(
        &mut self,
        name: &str,
        raw: RawField<'a>,
        wanted: &str,
    ) -> Result<Option<&'a str>, Reason> {
        let json = raw.json(name, wanted)?;
        if json.is_none() {
            self.note_absent();
        }
        Ok(json)
    }

    fn text<'a>(&mut self, name: &str, raw: RawField<'a>) -> Result<Option<Cow<'a, str>>, Reason> {
        let text = raw.text(name)?;
        match &text {
            Some(text) => self.note(text.as_bytes()),
            None => self.note_absent(),
        }
        Ok(text)
    }

    fn required_text<'a>(&mut self, name: &str, raw: RawField<'a>) -> Result<Cow<'a, str>, Reason> {
        self.text(name, raw)?.ok_or_else(|| missing(name))
    }

    fn id<'a>(&mut self, name: &str, raw: RawField<'a>) -> Result<Cow<'a, str>, Reason> {
        let text = self.required_text(name, raw)?;
        if (1..=MAX_DATA_ID_BYTES).contains(&text.len()) {
            return Ok(text);
        }
        Err(format!("{name} is not 1 to {MAX_DATA_ID_BYTES} bytes long").into())
    }

    fn bool(&mut self, name: &str, raw: RawField<'_>) -> Result<Option<bool>, Reason> {
        const WANTED: &str = "true or false";
        let Some(json) = self.json(name, raw, WANTED)? else { return Ok(None) };
        let value = match json {
            "true" => true,
            "false" => false,
            _ => return Err(format!("{name} is not {WANTED}").into()),
        };
        self.note(&[value.into()]);
        Ok(Some(value))
    }

    fn required_bool(&mut self, name: &str, raw: RawField<'_>) -> Result<bool, Reason> {
        self.bool(name, raw)?.ok_or_else(|| missing(name))
    }

    /// The JSON text of a number.
    fn number<'a>(&mut self, name: &str, raw: RawField<'a>) -> Result<Option<&'a str>, Reason> {
        const WANTED: &str = "a number";
        let Some(json) = self.json(name, raw, WANTED)? else { return Ok(None) };
        if !json.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return Err(format!("{name} is not {WANTED}").into());
        }
        // By value, as texts are: 1 and 1.0 are the same content.
        match json.parse::<f64>() {
            Ok(number) => self.note(&number.to_bits().to_le_bytes()),
            Err(_) => self.note(json.as_bytes()),
        }
        Ok(Some(json))
    }

    /// A number of milliseconds that counts only if it is written with digits alone. So 1 and 1.0
    /// are different content here.
    fn duration(&mut self, name: &str, raw: RawField<'_>) -> Result<Option<u32>, Reason> {
        let whole = self.number(name, raw)?.and_then(|json| json.parse().ok());
        let counted = whole.filter(|ms| *ms <= MAX_DURATION_MS);
        self.note(&[counted.is_some().into()]);
        Ok(counted)
    }

    fn score(&mut self, name: &str, raw: RawField<'_>) -> Result<u8, Reason> {
        const WANTED: &str = "a whole number from 1 to 5";
        let json = self.json(name, raw, WANTED)?.ok_or_else(|| missing(name))?;
        let score = json.parse().ok().filter(|score| (MIN_SCORE..=MAX_SCORE).contains(score));
        let score = score.ok_or_else(|| format!("{name} is not {WANTED}"))?;
        self.note(json.as_bytes());
        Ok(score)
    }
}

fn missing(name: &str) -> Reason {
    format!("{name} is missing").into()
}
