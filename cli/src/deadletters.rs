//! `botstats deadletters`: the refused messages and why. The reasons come from ingest, the messages
//! from the stream.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::jetstream::Context;
use async_nats::{Client, HeaderMap, Request, RequestErrorKind};
use botstats_common::io::clock;
use botstats_common::io::nats::{NatsSettings, Role, stream_info};
use botstats_common::io::settings::whole;
use botstats_common::names::{
    DEAD_LETTERS_SUBJECT, EVENTS_PREFIX, EVENTS_STREAM, SLOT_PREFIX, events_stream,
};
use botstats_common::status::{
    DeadLetter, DeadLettersReply, DeadLettersRequest, MAX_DEAD_LETTERS_PER_ANSWER,
};
use botstats_ingest::{RawMessage, raw_message_from};
use clap::Subcommand;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::output::{Align, Answer, BadUsage, counted, grouped, printable, table};
use crate::status;

/// The time limit of an ingest's answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// The most dead letters that can be asked for: ingest keeps no more.
const MAX_KEPT: u32 = 100_000;

/// The rule of events of a slot that the stream had given away.
const STRAY: &str = "stray";
/// The most streams of a chain that are looked at.
const MAX_CHAIN: usize = 256;
/// The most tries to publish a stray, with [`PAUSE`] between them: more than a split or the choice
/// of a leader takes.
const TRIES: usize = 40;
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List what was refused, newest first
    #[command(
        after_long_help = "With several streams of events (`botstats cells`): those of each stream in turn.\n\n\
        EXAMPLES\n  \
        botstats deadletters list\n  \
        botstats deadletters list --limit 1000 --json | jq -r '.letters[].reason' | sort | uniq -c"
    )]
    List {
        /// The most messages to list, of each stream; 100,000 are kept
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = whole::<u32>(1..=MAX_KEPT))]
        limit: u32,
    },
    /// Show one with its subject, headers and payload
    #[command(after_long_help = "EXAMPLES\n  \
        botstats deadletters show 1234\n  \
        botstats deadletters show 1234 --stream BOTSTATS_EVENTS_2")]
    Show {
        /// Its stream sequence, as `list` shows it
        #[arg(value_name = "SEQ", value_parser = whole::<u64>(1..=u64::MAX))]
        sequence: u64,
        /// The stream whose ingest refused it; needed where there are several
        #[arg(long, value_name = "NAME", value_parser = events_stream)]
        stream: Option<String>,
    },
    /// Publish strays again: events that were stored in a stream after their slots had moved
    #[command(
        after_long_help = "Takes each message of the rule `stray` from its stream and publishes it on its subject \
        without a slot, so that it gets to the stream that has the slot now. The headers of NATS (Nats-..) stay behind. \
        Other dead letters stay as they are.\n\n\
        Repeating it does no harm: for 35 days an event that is there already counts as a duplicate. Messages of a \
        stream stay, so `list` shows strays that were published again, too.\n\n\
        EXAMPLES\n  botstats deadletters republish"
    )]
    Republish,
}

pub(crate) async fn run(
    command: DeadLettersCommand,
    nats: &NatsSettings,
) -> anyhow::Result<Answer> {
    let client = nats.connect(Role::Admin).await?;
    let js = nats.jetstream(&client);
    match command {
        DeadLettersCommand::List { limit } => list(&client, limit).await,
        DeadLettersCommand::Show { sequence, stream } => show(&client, &js, sequence, stream).await,
        DeadLettersCommand::Republish => republish(&client, &js).await,
    }
}

/// The streams that ingests count; one without a name if they are of a version that does not say.
async fn streams(client: &Client) -> anyhow::Result<Vec<String>> {
    let statuses = status::ask(client).await.context("the status request could not be sent")?;
    let ingests = statuses.into_iter().filter_map(|status| status.ingest);
    let streams: BTreeSet<String> = ingests.map(|ingest| ingest.stream).collect();
    let streams: Vec<String> = streams.into_iter().collect();
    // The request for dead letters says why there is no ingest.
    Ok(if streams.is_empty() { vec![String::new()] } else { streams })
}

async fn ask(client: &Client, question: &DeadLettersRequest) -> anyhow::Result<DeadLettersReply> {
    let request =
        Request::new().payload(serde_json::to_vec(question)?.into()).timeout(Some(ANSWER_LIMIT));
    let answer = match client.send_request(DEAD_LETTERS_SUBJECT, request).await {
        Ok(answer) => answer,
        Err(error) if error.kind() == RequestErrorKind::NoResponders => {
            bail!("no ingest is running on this NATS; ingest keeps the dead letters' reasons")
        }
        Err(error) => {
            let of = question.stream.as_ref().map(|stream| format!(" of {stream}"));
            return Err(error).context(format!("no ingest{} answered", of.unwrap_or_default()));
        }
    };
    serde_json::from_slice(&answer.payload).with_context(|| {
        let said: String = String::from_utf8_lossy(&answer.payload).chars().take(200).collect();
        format!("ingest answered {}", printable(&said))
    })
}

/// The dead letters of a stream, newest first; `stream` is `None` for any ingest's.
async fn letters_of(
    client: &Client,
    stream: Option<&String>,
    limit: u32,
) -> anyhow::Result<DeadLettersReply> {
    let mut reply = DeadLettersReply::default();
    let mut before = None;
    loop {
        let got = u32::try_from(reply.letters.len()).unwrap_or(u32::MAX);
        let wanted = limit.saturating_sub(got).min(MAX_DEAD_LETTERS_PER_ANSWER);
        if wanted == 0 {
            break;
        }
        let stream = stream.cloned();
        let question = DeadLettersRequest { stream, before, limit: wanted, ..Default::default() };
        let page = ask(client, &question).await?;
        reply.kept = page.kept;
        let Some(oldest) = page.letters.last().map(|letter| letter.sequence) else { break };
        // A page that repeats the one before would be requested for ever.
        if before.is_some_and(|before| oldest >= before) {
            bail!("ingest answers the same dead letters again");
        }
        before = Some(oldest);
        reply.letters.extend(page.letters);
    }
    Ok(reply)
}

/// The dead letters of each stream, newest first.
async fn all_letters(
    client: &Client,
    limit: u32,
) -> anyhow::Result<Vec<(String, DeadLettersReply)>> {
    let streams = streams(client).await?;
    let is_one = streams.len() == 1;
    let mut all = Vec::new();
    for stream in streams {
        let asked = Some(&stream).filter(|_| !is_one);
        let reply = letters_of(client, asked, limit).await?;
        let name = if stream.is_empty() { EVENTS_STREAM.to_owned() } else { stream };
        all.push((name, reply));
    }
    Ok(all)
}

async fn list(client: &Client, limit: u32) -> anyhow::Result<Answer> {
    let all = all_letters(client, limit).await?;
    let letters: Vec<Value> = all
        .iter()
        .flat_map(|(stream, reply)| reply.letters.iter().map(move |letter| (stream, letter)))
        .map(|(stream, letter)| {
            let DeadLetter { sequence, rule, reason } = letter;
            json!({"stream": stream, "sequence": sequence, "rule": rule, "reason": reason})
        })
        .collect();
    let kept: u64 = all.iter().map(|(_, reply)| reply.kept).sum();
    Ok(Answer::new(list_text(&all), json!({"kept": kept, "letters": letters})))
}

fn list_text(all: &[(String, DeadLettersReply)]) -> String {
    let shown: usize = all.iter().map(|(_, reply)| reply.letters.len()).sum();
    if shown == 0 {
        return "no dead letters".to_owned();
    }
    let has_streams = all.len() > 1;
    let mut columns = vec![("SEQ", Align::Right), ("RULE", Align::Left), ("REASON", Align::Left)];
    if has_streams {
        columns.insert(0, ("STREAM", Align::Left));
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .flat_map(|(stream, reply)| reply.letters.iter().map(move |letter| (stream, letter)))
        .map(|(stream, letter)| {
            let stream = has_streams.then(|| printable(stream));
            let shown = [&letter.rule, &letter.reason].map(|text| printable(text));
            let sequence = letter.sequence.to_string();
            stream.into_iter().chain([sequence]).chain(shown).collect()
        })
        .collect();
    let kept = all.iter().map(|(_, reply)| reply.kept).sum();
    let (order, how) = match has_streams {
        true => ("newest of each stream first", "SEQ --stream NAME"),
        false => ("newest first", "SEQ"),
    };
    format!(
        "{}{} of {} kept, {order}; `botstats deadletters show {how}` shows one whole",
        table(&columns, &rows),
        grouped(u64::try_from(shown).unwrap_or(u64::MAX)),
        grouped(kept)
    )
}

/// The streams of a chain back to the one that has that sequence, each with the first sequence that
/// it ever had.
async fn chain(js: &Context, stream: &str, sequence: u64) -> anyhow::Result<Vec<(String, u64)>> {
    let mut links = Vec::new();
    let mut next = Some(stream.to_owned());
    while let Some(name) = next.filter(|_| links.len() < MAX_CHAIN) {
        let config = stream_info(js, &name).await?.config;
        let first = config.first_sequence();
        let parent = config.lineage()?.parent.filter(|_| sequence < first);
        next = parent.map(|parent| parent.name);
        links.push((name, first));
    }
    Ok(links)
}

/// The stream of a chain that has that sequence: an ingest's letters of an earlier stream have the
/// earlier stream's sequences.
fn stream_with(chain: &[(String, u64)], sequence: u64) -> &str {
    let link = chain.iter().find(|(_, first)| sequence >= *first).or(chain.last());
    link.map_or(EVENTS_STREAM, |(name, _)| name)
}

/// The message of a dead letter, whatever its bytes are.
async fn message(js: &Context, stream: &str, sequence: u64) -> anyhow::Result<Option<RawMessage>> {
    let found = raw_message_from(js, stream, sequence)
        .await
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("message {sequence} cannot be read from the stream {stream}"))?;
    Ok(found.filter(|message| message.sequence == sequence))
}

async fn show(
    client: &Client,
    js: &Context,
    sequence: u64,
    stream: Option<String>,
) -> anyhow::Result<Answer> {
    let streams = streams(client).await?;
    let (stream, asked) = match (stream, &streams[..]) {
        (Some(stream), [one]) if one.is_empty() || *one == stream => (stream, None),
        (Some(stream), _) => (stream.clone(), Some(stream)),
        (None, [one]) if one.is_empty() => (EVENTS_STREAM.to_owned(), None),
        (None, [one]) => (one.clone(), None),
        (None, many) => {
            let text =
                format!("there are several streams: give --stream, one of {}", many.join(", "));
            return Err(BadUsage(printable(&text)).into());
        }
    };
    let question = DeadLettersRequest {
        stream: asked,
        sequence: Some(sequence),
        limit: 1,
        ..Default::default()
    };
    let reply = ask(client, &question).await?;
    let letter = reply.letters.into_iter().find(|letter| letter.sequence == sequence);
    let chain = chain(js, &stream, sequence).await?;
    let stream = stream_with(&chain, sequence);
    let message = message(js, stream, sequence)
        .await?
        .with_context(|| format!("the stream {stream} has no message {sequence}"))?;
    letter_answer(stream, letter.as_ref(), &message)
}

/// What became of the strays.
#[derive(Debug, Default, Serialize)]
struct Republished {
    /// Published again and acknowledged.
    republished: u64,
    /// No longer in their stream.
    gone: u64,
    /// Of no subject of events, or with headers that cannot be read.
    unusable: u64,
}

async fn republish(client: &Client, js: &Context) -> anyhow::Result<Answer> {
    let mut counts = Republished::default();
    for (stream, reply) in all_letters(client, MAX_KEPT).await? {
        // The oldest first, as they were published.
        let mut strays =
            reply.letters.iter().rev().filter(|letter| letter.rule == STRAY).peekable();
        let Some(oldest) = strays.peek() else { continue };
        let chain = chain(js, &stream, oldest.sequence).await?;
        for letter in strays {
            let stream = stream_with(&chain, letter.sequence);
            let Some(message) = message(js, stream, letter.sequence).await? else {
                counts.gone += 1;
                continue;
            };
            let Some((subject, headers)) = as_published(&message) else {
                counts.unusable += 1;
                continue;
            };
            publish_again(js, subject, headers, &message).await.with_context(|| {
                format!(
                    "message {} of {stream} could not be published again; {} were; repeating the command does no harm",
                    letter.sequence, counts.republished
                )
            })?;
            counts.republished += 1;
        }
    }
    let mut text = format!("{} published again", counted(counts.republished, "stray"));
    if counts.gone > 0 {
        text.push_str(&format!("; {} are no longer in their stream", grouped(counts.gone)));
    }
    if counts.unusable > 0 {
        let unusable = grouped(counts.unusable);
        text.push_str(&format!(
            "; {unusable} left out: no subject of events, or unreadable headers"
        ));
    }
    Ok(Answer::new(text, json!(counts)).ok_if(counts.unusable == 0))
}

/// Publishes a message until it is acknowledged; gives up after [`TRIES`].
async fn publish_again(
    js: &Context,
    subject: String,
    headers: HeaderMap,
    message: &RawMessage,
) -> anyhow::Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        let (subject, headers) = (subject.clone(), headers.clone());
        let sent = js.publish_with_headers(subject, headers, message.payload.clone()).await?;
        match sent.await {
            Ok(_) => return Ok(()),
            Err(error) if tries >= TRIES => return Err(error.into()),
            // A split may be moving the slot.
            Err(error) => tracing::debug!("publishing again is repeated: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The subject without a slot, and the headers without those of NATS; `None` if a message cannot
/// have been an event.
fn as_published(message: &RawMessage) -> Option<(String, HeaderMap)> {
    let rest = message.subject.strip_prefix(SLOT_PREFIX);
    let rest = rest.and_then(|rest| rest.split_once('.')).map(|(_slot, rest)| rest);
    let rest = rest.or_else(|| message.subject.strip_prefix(EVENTS_PREFIX))?;
    if rest.split('.').count() != 3 {
        return None;
    }
    let mut headers = HeaderMap::new();
    for (name, values) in message.headers.as_ref()?.iter() {
        let text: &str = name.as_ref();
        let of_server = text.get(..5).is_some_and(|begin| begin.eq_ignore_ascii_case("nats-"));
        for value in values.iter().filter(|_| !of_server) {
            headers.append(name.clone(), value.clone());
        }
    }
    Some((format!("{EVENTS_PREFIX}{rest}"), headers))
}

/// A dead letter with its message, for programs.
#[derive(Serialize)]
struct Shown<'a> {
    stream: &'a str,
    sequence: u64,
    stored: String,
    subject: &'a str,
    rule: Option<&'a str>,
    reason: Option<&'a str>,
    headers: Vec<(String, String)>,
    payload: Payload<'a>,
}

/// The payload as it was published; bytes that are not UTF-8 stay visible.
#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Json(&'a RawValue),
    Text(Cow<'a, str>),
}

fn letter_answer(
    stream: &str,
    letter: Option<&DeadLetter>,
    message: &RawMessage,
) -> anyhow::Result<Answer> {
    let headers = match &message.headers {
        Some(headers) => headers
            .iter()
            .flat_map(|(name, values)| {
                values.iter().map(move |value| (name.to_string(), value.to_string()))
            })
            .collect(),
        // Shown as they are: what is wrong with them is why somebody looks.
        None => {
            let bytes = String::from_utf8_lossy(&message.header_bytes).into_owned();
            vec![("(unreadable)".to_owned(), bytes)]
        }
    };
    let shown = Shown {
        stream,
        sequence: message.sequence,
        stored: clock::rfc3339_ms(message.stored_ns / 1_000_000),
        subject: &message.subject,
        rule: letter.map(|letter| letter.rule.as_str()),
        reason: letter.map(|letter| letter.reason.as_str()),
        headers,
        payload: match serde_json::from_slice(&message.payload) {
            Ok(json) => Payload::Json(json),
            Err(_) => Payload::Text(String::from_utf8_lossy(&message.payload)),
        },
    };
    let refused = letter.map_or_else(
        || "no (no reason is kept under this sequence)".to_owned(),
        |letter| format!("{}: {}", letter.rule, letter.reason),
    );
    let mut text = format!(
        "stream    {stream}\nsequence  {}\nstored    {}\nsubject   {}\nrefused   {refused}\n",
        shown.sequence, shown.stored, shown.subject,
    );
    for (name, value) in &shown.headers {
        text.push_str(&format!("header    {name}: {value}\n"));
    }
    let payload = String::from_utf8_lossy(&message.payload);
    text.push_str(&format!("payload   {} bytes\n{payload}", message.payload.len()));
    Ok(Answer::new(printable(&text), serde_json::to_string(&shown)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(subject: &str, headers: Option<HeaderMap>, payload: &[u8]) -> RawMessage {
        RawMessage {
            subject: subject.to_owned(),
            sequence: 7,
            stored_ns: 0,
            headers,
            header_bytes: Vec::new().into(),
            payload: payload.to_vec().into(),
        }
    }

    #[test]
    fn a_stray_goes_out_as_it_was_published() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("Nats-Msg-Id", "1"),
            ("nats-batch-id", "b"),
            ("Content-Type", "application/json"),
            ("ce-id", "1"),
        ] {
            headers.insert(name, value);
        }
        let kept = |subject: &str| {
            let (subject, headers) = as_published(&message(subject, Some(headers.clone()), b""))?;
            let mut names: Vec<String> = headers.iter().map(|(n, _)| n.to_string()).collect();
            names.sort();
            assert_eq!(names, ["Content-Type", "ce-id"]);
            Some(subject)
        };
        let published = Some("botstats.events.a.b.c".to_owned());
        for (subject, expect) in [
            ("botstats.slot.7.a.b.c", published.clone()),
            ("botstats.events.a.b.c", published),
            ("botstats.slot.7.a.b", None),
            ("botstats.slot.7.a.b.c.d", None),
            ("old.events.a.b.c", None),
        ] {
            assert_eq!(kept(subject), expect, "{subject}");
        }
        assert!(as_published(&message("botstats.slot.7.a.b.c", None, b"")).is_none());
    }

    #[test]
    fn letters_of_several_streams() {
        let reply = |sequence| DeadLettersReply {
            kept: 5,
            letters: vec![DeadLetter { sequence, rule: "data".to_owned(), reason: "r".to_owned() }],
        };
        let one = [("BOTSTATS_EVENTS".to_owned(), reply(7))];
        insta::assert_snapshot!(list_text(&one), @r"
        SEQ  RULE  REASON
          7  data  r
        1 of 5 kept, newest first; `botstats deadletters show SEQ` shows one whole
        ");
        let two = [one[0].clone(), ("BOTSTATS_EVENTS_2".to_owned(), reply(9))];
        insta::assert_snapshot!(list_text(&two), @r"
        STREAM             SEQ  RULE  REASON
        BOTSTATS_EVENTS      7  data  r
        BOTSTATS_EVENTS_2    9  data  r
        2 of 10 kept, newest of each stream first; `botstats deadletters show SEQ --stream NAME` shows one whole
        ");
        assert_eq!(list_text(&[]), "no dead letters");
    }

    #[test]
    fn a_letter_is_shown_as_it_was_published() {
        let mut headers = HeaderMap::new();
        headers.insert("Content-Type", "application/cloudevents+json");
        let letter = DeadLetter {
            sequence: 7,
            rule: "data".to_owned(),
            reason: "userid is missing".to_owned(),
        };
        for (payload, in_text, in_json) in [
            (
                &b"{\"z\":1, \"a\":2,\"a\":3}"[..],
                "{\"z\":1, \"a\":2,\"a\":3}",
                "{\"z\":1, \"a\":2,\"a\":3}",
            ),
            (b"\x1b[2J\xff", "\\u{1b}[2J\u{fffd}", "\"\\u001b[2J\u{fffd}\""),
        ] {
            let message = message("botstats.events.a.b.c", Some(headers.clone()), payload);
            let answer = letter_answer("BOTSTATS_EVENTS", Some(&letter), &message).unwrap();
            let expect = format!(
                "stream    BOTSTATS_EVENTS\nsequence  7\nstored    1970-01-01T00:00:00.000Z\nsubject   botstats.events.a.b.c\n\
                 refused   data: userid is missing\nheader    Content-Type: \
                 application/cloudevents+json\npayload   {} bytes\n{in_text}",
                payload.len()
            );
            let json = format!(
                "{{\"stream\":\"BOTSTATS_EVENTS\",\"sequence\":7,\"stored\":\"1970-01-01T00:00:00.000Z\",\"subject\":\
                 \"botstats.events.a.b.c\",\"rule\":\"data\",\"reason\":\"userid is missing\",\
                 \"headers\":[[\"Content-Type\",\"application/cloudevents+json\"]],\"payload\":{in_json}}}"
            );
            assert_eq!(answer, Answer::new(expect, json));
        }
    }
}
