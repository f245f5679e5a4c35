//! Stores with random events.

use botstats_common::quarter::DAY_MS;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::engine::Engine;
use crate::event::Message;

/// The account that is asked for; there is another one.
pub(super) const ACCOUNT: &str = "a";
/// The first day of the events, and how many days they have.
pub(super) const START_DAY: u32 = 20_700;
pub(super) const DAYS: u32 = 4;

const PAIRS: [&str; 6] = ["a.b1.c1", "a.b1.c2", "a.b2.c1", "a.b2.c2", "a.b3.c3", "z.b1.c1"];
const MINUTE_MS: i64 = 60_000;

/// An event.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) pair: &'static str,
    /// Since the first day.
    pub(super) ms: i64,
    pub(super) name: &'static str,
    /// What follows conversation and user.
    pub(super) data: String,
    pub(super) user: u8,
    pub(super) conversation: u8,
}

pub(super) fn given() -> impl Strategy<Value = Given> {
    // Few hours, so that many events are in the same ones.
    let hour = prop_oneof![Just(0_i64), Just(23), Just(47), 0..i64::from(DAYS) * 24];
    let ms = (hour, 0..60_i64, prop_oneof![Just(0), 0..MINUTE_MS])
        .prop_map(|(hour, minute, ms)| (hour * 60 + minute) * MINUTE_MS + ms);
    let name = || {
        const NAMES: [&str; 8] =
            ["", "(none)", "(other)", "one", "two", "three", "four", "f\u{fc}nf"];
        prop::sample::select(&NAMES[..])
    };
    let duration = prop_oneof![0..5_u32, 900..2_100_u32, 0..86_400_000_u32];
    let data = prop_oneof![
        4 => Just(("message.received", String::new())),
        3 => any::<bool>().prop_map(|f| ("message.sent", format!(r#","fallback":{f}"#))),
        2 => name().prop_filter("a goal has a name", |name| !name.is_empty())
            .prop_map(|name| ("goal.reached", format!(r#","goal":"{name}""#))),
        2 => name().prop_filter("a tag has a name", |name| !name.is_empty())
            .prop_map(|name| ("tag.set", format!(r#","tag":"{name}""#))),
        2 => (any::<bool>(), name()).prop_map(|(detected, name)| {
            ("nlp.evaluated", format!(r#","detected":{detected},"intent":"{name}""#))
        }),
        4 => (any::<bool>(), any::<bool>(), duration, name()).prop_map(|(api, ok, ms, name)| {
            let kind = if api { "api" } else { "other" };
            let data = format!(r#","kind":"{kind}","ok":{ok},"durationms":{ms},"name":"{name}""#);
            ("integration.called", data)
        }),
        2 => Just(("operator.requested", String::new())),
        2 => name().prop_map(|name| ("operator.joined", format!(r#","operatorid":"{name}""#))),
        4 => (any::<bool>(), name()).prop_map(|(automatic, name)| {
            let data = format!(r#","automatic":{automatic},"operatorid":"{name}""#);
            ("operator.message", data)
        }),
        1 => Just(("operator.released", String::new())),
        1 => Just(("conversation.ended", String::new())),
        1 => (1..6).prop_map(|score| ("feedback.given", format!(r#","score":{score}"#))),
        1 => Just(("user.forgotten", String::new())),
    ];
    (prop::sample::select(&PAIRS[..]), ms, data, 0..5_u8, 0..3_u8).prop_map(
        |(pair, ms, (name, data), user, conversation)| Given {
            pair,
            ms,
            name,
            data,
            user,
            conversation,
        },
    )
}

/// An engine that has applied the events, in a folder that lives as long as it.
pub(super) fn filled(given: &[Given], max_names: usize) -> (TempDir, Engine) {
    let folder = tempfile::tempdir().unwrap();
    let mut engine = Engine::open(folder.path(), 400).unwrap();
    engine.set_max_names(max_names);
    let start_ms = i64::from(START_DAY) * DAY_MS;
    let stored_ns = (start_ms + i64::from(DAYS) * DAY_MS) * 1_000_000;
    let texts: Vec<(String, String)> = given
        .iter()
        .enumerate()
        .map(|(id, Given { pair, ms, name, data, user, conversation })| {
            // A user is forgotten at once.
            let at_ms = match *name {
                "user.forgotten" => start_ms + i64::from(DAYS - 1) * DAY_MS + ms % DAY_MS,
                _ => start_ms + ms,
            };
            let time = jiff::Timestamp::from_millisecond(at_ms).unwrap();
            let payload = format!(
                r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"io.botstats.{name}.v1","time":"{time}","data":{{"conversationid":"c{conversation}","userid":"u{user}"{data}}}}}"#
            );
            (format!("botstats.events.{pair}"), payload)
        })
        .collect();
    let messages: Vec<Message<'_>> = (1..)
        .zip(&texts)
        .map(|(sequence, (subject, payload))| Message {
            sequence,
            stored_ns,
            subject,
            headers: None.into(),
            payload: payload.as_bytes(),
        })
        .collect();
    for some in messages.chunks(40) {
        engine.apply(some).unwrap();
    }
    assert_eq!(engine.progress().dead_letters, [].into());
    (folder, engine)
}
