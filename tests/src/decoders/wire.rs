//! What comes over NATS: reads, the directory, state, messages as JSON.

use std::sync::OnceLock;

use async_nats::HeaderMap;
use botstats_common::directory::{AccountEntry, BotEntry, Key, ViewEntry, parse_operators};
use botstats_common::ids::Account;
use botstats_common::secret::SecretHash;
use botstats_common::status::{DeadLettersReply, DeadLettersRequest, Status};
use botstats_common::wire::{Chunk, Frame, MAX_CHUNK_BYTES, Reply, Request, decode, encode};
use botstats_ingest::testing::{
    CellReader, Engine, HashKey, Headers, Message, decode as decode_event, parse_reply,
};
use botstats_query::{
    Change, Collecting, Directory, Format, GroupMode, Labels, Question, Windows, columns,
    render_all,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::reads_again;
use crate::model::ALL_CODES;

/// 2026-11-20T10:52:00Z
const NOW_MS: i64 = 1_795_171_920_000;
const MINUTE_MS: i64 = 60_000;

/// The input: a read request, which an ingest with some events then answers.
pub(super) fn read_request(bytes: &[u8]) {
    let request = reads_again(bytes, |b| decode::<Request>(b), |r| encode(r).expect("memory"));
    let Some(request) = request else { return };
    let account: Account = "acme".parse().expect("an account");
    let answer = reader().gather(&account, &request, 7);
    let Ok(chunks) = answer else { return };
    let mut collecting = Collecting::new(request.stats.len());
    for (number, message) in chunks.iter().enumerate() {
        assert!(message.len() <= MAX_CHUNK_BYTES, "a chunk of {} bytes", message.len());
        let Ok(Reply::Chunk(chunk)) = Reply::decode(message) else { panic!("no chunk") };
        assert_eq!(usize::try_from(chunk.number).ok(), Some(number));
        assert_eq!(chunk.last, number + 1 == chunks.len());
        collecting.add(chunk).expect("what an ingest sends is an answer");
        let frame: Frame = decode(message).expect("a message");
        assert_eq!(&encode(&frame).expect("memory"), message);
    }
    assert!(collecting.finish().is_ok());
}

/// An ingest that holds some events of the account `acme`.
fn reader() -> &'static CellReader {
    static READER: OnceLock<CellReader> = OnceLock::new();
    READER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut engine = Engine::open(folder.path(), 40).expect("an engine");
        let types = ["message.received", "message.sent", "operator.joined", "tag.set"];
        let payloads: Vec<String> = (0..200_usize)
            .map(|n| {
                let ago_ms = i64::try_from(n).unwrap_or(0) * 97 * MINUTE_MS;
                let name = types[n % types.len()];
                let time = botstats_common::io::clock::rfc3339_ms(NOW_MS - ago_ms);
                let data = json!({"conversationid": format!("c{}", n % 7),
                    "userid": format!("u{}", n % 11), "tag": "t"});
                json!({"specversion": "1.0", "id": n.to_string(), "source": "s", "time": time,
                    "type": format!("io.botstats.{name}.v1"), "data": data})
                .to_string()
            })
            .collect();
        let subjects = ["b1.web", "b1.app", "b2.web"].map(|s| format!("botstats.events.acme.{s}"));
        let messages: Vec<Message<'_>> = payloads
            .iter()
            .zip(1..)
            .zip(subjects.iter().cycle())
            .map(|((payload, sequence), subject)| Message {
                sequence,
                stored_ns: NOW_MS * 1_000_000,
                subject,
                headers: None.into(),
                payload: payload.as_bytes(),
            })
            .collect();
        engine.apply(&messages).expect("the events are applied");
        assert_eq!(engine.progress().accepted, 200);
        // The store's file lives as long as it is open.
        engine.reader()
    })
}

/// The input: a message of an answer, which a query then renders.
pub(super) fn read_reply(bytes: &[u8]) {
    let frame = reads_again(bytes, |b| decode::<Frame>(b), |f| encode(f).expect("memory"));
    // The query itself reads it without a value: never less strictly.
    let borrowed = Reply::decode(bytes);
    assert!(borrowed.is_err() || frame.is_some() || matches!(borrowed, Ok(Reply::Chunk(_))));
    assert!(borrowed.is_ok() || frame.is_none());
    let Some(Frame::Chunk(chunk)) = frame else { return };
    let whole = Chunk { number: 0, last: true, ..chunk };
    for (question, windows, format) in questions() {
        let chunks = std::slice::from_ref(&whole);
        let Ok(body) = render_all(question, &Labels::default(), windows, chunks, *format) else {
            continue;
        };
        let text = String::from_utf8(body).expect("an answer is text");
        let columns = columns(question);
        match format {
            Format::Json => {
                let rows: Vec<Value> = serde_json::from_str(&text).expect("an answer is JSON");
                rows.iter().for_each(|row| check_row(row, question, &columns));
            }
            Format::Ndjson => {
                for line in text.lines() {
                    let row: Value = serde_json::from_str(line).expect("a line is JSON");
                    check_row(&row, question, &columns);
                }
            }
            Format::Csv => {
                // A name may have a line break, which stands in quotes.
                assert!(text.starts_with(&format!("{}\r\n", columns.join(","))));
                assert!(text.ends_with("\r\n"));
            }
        }
    }
}

/// Questions with all parameters, each with its windows and a format.
fn questions() -> &'static [(Question, Windows, Format)] {
    static QUESTIONS: OnceLock<Vec<(Question, Windows, Format)>> = OnceLock::new();
    QUESTIONS.get_or_init(|| {
        let all = ALL_CODES.map(|code| code.to_string()).join(",");
        let of = |types: &str, mode, query, format| {
            let question = Question::parse(["*", types, mode, "3"], Some(query));
            let question = question.expect("a question");
            let windows = Windows::new(NOW_MS, &jiff::tz::TimeZone::UTC, &question);
            (question, windows.expect("windows"), format)
        };
        let everything = "by=channel&previous=month&stats=p50,min,within:30&split=operator&top=3";
        vec![
            of(&all, "day", "", Format::Json),
            of(&all, "day", "fill=zero", Format::Ndjson),
            of(&all, "day", "", Format::Csv),
            of(&all, "weekhour", "by=none&fill=zero", Format::Json),
            of(&all, "total", "by=bot&previous=week&stats=max", Format::Ndjson),
            of("18", "week", "split=tag", Format::Json),
            of("9,11,16,17,106", "total", everything, Format::Json),
            of("9,11,16,17,106", "total", everything, Format::Csv),
        ]
    })
}

fn check_row(row: &Value, question: &Question, columns: &[String]) {
    let row = row.as_object().expect("a row");
    assert_eq!(row.len(), columns.len());
    assert!(columns.iter().all(|column| row.contains_key(column)), "{row:?}");
    let is_counted = question.fill_zero || question.mode == GroupMode::WeekHour;
    assert!(is_counted || row["Count"].as_u64().is_some_and(|count| count > 0), "{row:?}");
    let is_merged = |id| row[id].is_null();
    assert_eq!((is_merged("BotId"), is_merged("BotName")), (!question.by.bot, !question.by.bot));
    assert_eq!(is_merged("ChannelId"), !question.by.channel);
}

/// The input: a key on a line, and the JSON that stands there.
pub(super) fn directory(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let key = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let value = parts.next().unwrap_or_default();
    let account = reads_again(value, AccountEntry::parse, json_of);
    let bot = reads_again(value, BotEntry::parse, json_of);
    let view = reads_again(value, ViewEntry::parse, json_of);
    let operators = reads_again(value, parse_operators, json_of);
    let hash = "0".repeat(64);
    let (good, first) = match Key::parse(&key) {
        Some(Key::Account(_)) => (Some(account.is_some()), "{}".to_owned()),
        Some(Key::Bot(..)) => (Some(bot.is_some()), "{}".to_owned()),
        Some(Key::View(..)) => (Some(view.is_some()), format!(r#"{{"sha256":"{hash}"}}"#)),
        Some(Key::Operators(_)) => (Some(operators.is_some()), "{}".to_owned()),
        None => (None, String::new()),
    };
    let mut known = Directory::default();
    known.apply(&key, Change::Put(first.as_bytes())).expect("an entry");
    let shown = |known: &Directory| match Key::parse(&key) {
        Some(Key::Account(account)) => format!("{:?}", known.account(&account)),
        Some(Key::Bot(account, bot)) => format!("{:?}", known.bot(&account, &bot)),
        Some(Key::View(..)) => {
            let token: SecretHash = hash.clone().try_into().expect("a hash");
            format!("{:?}", known.grant(&token, 0))
        }
        Some(Key::Operators(account)) => format!("{:?}", known.operators(&account)),
        None => String::new(),
    };
    let before = shown(&known);
    let applied = known.apply(&key, Change::Put(value));
    assert_eq!(applied.is_ok(), good.unwrap_or(true));
    if let Err(error) = applied {
        assert_eq!(shown(&known), before, "the last good value stays");
        assert!(error.to_string().len() < 1_000, "a long reason: {error}");
        assert_eq!(known.bad().len(), 1);
    }
    known.apply(&key, Change::Delete).expect("a removal");
    assert!(known.bad().is_empty());
}

fn json_of(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}

/// The input: JSON of what programs say of themselves.
pub(super) fn status(bytes: &[u8]) {
    fn one<T: DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
        let _read = reads_again(bytes, |b| serde_json::from_slice::<T>(b), json_of);
    }
    one::<Status>(bytes);
    one::<DeadLettersRequest>(bytes);
    one::<DeadLettersReply>(bytes);
}

/// The input: the server's answer with a message, as JSON.
pub(super) fn rescue(bytes: &[u8]) {
    let read = |bytes: &[u8]| {
        parse_reply(bytes).map(|found| {
            found
                .map(|m| (m.sequence, m.stored_ns, m.subject, m.headers, m.header_bytes, m.payload))
        })
    };
    let first = read(bytes);
    assert_eq!(read(bytes), first, "not repeatable");
    let Ok(Some(message)) = first else { return };
    let (sequence, stored_ns, subject, headers, header_bytes, payload) = &message;
    let time = jiff::Timestamp::from_nanosecond((*stored_ns).into()).expect("an i64 is one");
    let base64 = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    let again = json!({"message": {"seq": sequence, "subject": subject, "time": time.to_string(),
        "hdrs": base64(header_bytes), "data": base64(payload)}});
    assert_eq!(read(again.to_string().as_bytes()).as_ref(), Ok(&Some(message.clone())));

    let message = Message {
        sequence: *sequence,
        stored_ns: *stored_ns,
        subject,
        headers: headers
            .as_ref()
            .map_or(Headers::Unreadable, |map: &HeaderMap| Headers::Read(Some(map))),
        payload,
    };
    let _judged = decode_event(&message, &HashKey::new([0; 16]));
}
