//! `botstats deadletters`: the refused messages and why. The reasons come from ingest, the messages
//! from the stream.

use std::borrow::Cow;
use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::jetstream::Context;
use async_nats::{Client, Request, RequestErrorKind};
use botstats_common::io::clock;
use botstats_common::io::nats::{NatsSettings, Role};
use botstats_common::io::settings::whole;
use botstats_common::names::{DEAD_LETTERS_SUBJECT, EVENTS_STREAM};
use botstats_common::status::{
    DeadLetter, DeadLettersReply, DeadLettersRequest, MAX_DEAD_LETTERS_PER_ANSWER,
};
use botstats_ingest::{RawMessage, raw_message_from};
use clap::Subcommand;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::output::{Align, Answer, grouped, printable, table};

/// The time limit of an ingest's answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// The most dead letters that can be asked for: ingest keeps no more.
const MAX_KEPT: u32 = 100_000;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// List what was refused, newest first
    #[command(after_long_help = "EXAMPLES\n  \
        botstats deadletters list\n  \
        botstats deadletters list --limit 1000 --json | jq -r '.letters[].reason' | sort | uniq -c")]
    List {
        /// The most messages to list; 100,000 are kept
        #[arg(long, default_value_t = 50, value_name = "N", value_parser = whole::<u32>(1..=MAX_KEPT))]
        limit: u32,
    },
    /// Show one with its subject, headers and payload
    #[command(after_long_help = "EXAMPLES\n  botstats deadletters show 1234")]
    Show {
        /// Its stream sequence, as `list` shows it
        #[arg(value_name = "SEQ", value_parser = whole::<u64>(1..=u64::MAX))]
        sequence: u64,
    },
}

pub(crate) async fn run(
    command: DeadLettersCommand,
    nats: &NatsSettings,
) -> anyhow::Result<Answer> {
    let client = nats.connect(Role::Admin).await?;
    match command {
        DeadLettersCommand::List { limit } => list(&client, limit).await,
        DeadLettersCommand::Show { sequence } => {
            show(&client, &nats.jetstream(&client), sequence).await
        }
    }
}

async fn ask(client: &Client, question: &DeadLettersRequest) -> anyhow::Result<DeadLettersReply> {
    let request =
        Request::new().payload(serde_json::to_vec(question)?.into()).timeout(Some(ANSWER_LIMIT));
    let answer = match client.send_request(DEAD_LETTERS_SUBJECT, request).await {
        Ok(answer) => answer,
        Err(error) if error.kind() == RequestErrorKind::NoResponders => {
            bail!("no ingest is running on this NATS; ingest keeps the dead letters' reasons")
        }
        Err(error) => return Err(error).context("no ingest answered"),
    };
    serde_json::from_slice(&answer.payload).with_context(|| {
        let said: String = String::from_utf8_lossy(&answer.payload).chars().take(200).collect();
        format!("ingest answered {}", printable(&said))
    })
}

async fn list(client: &Client, limit: u32) -> anyhow::Result<Answer> {
    let mut reply = DeadLettersReply::default();
    let mut before = None;
    loop {
        let got = u32::try_from(reply.letters.len()).unwrap_or(u32::MAX);
        let wanted = limit.saturating_sub(got).min(MAX_DEAD_LETTERS_PER_ANSWER);
        if wanted == 0 {
            break;
        }
        let page = ask(client, &DeadLettersRequest { before, limit: wanted, ..Default::default() })
            .await?;
        reply.kept = page.kept;
        let Some(oldest) = page.letters.last().map(|letter| letter.sequence) else { break };
        // A page that repeats the one before would be requested for ever.
        if before.is_some_and(|before| oldest >= before) {
            bail!("ingest answers the same dead letters again");
        }
        before = Some(oldest);
        reply.letters.extend(page.letters);
    }
    Ok(Answer::new(list_text(&reply), json!(reply)))
}

fn list_text(reply: &DeadLettersReply) -> String {
    if reply.letters.is_empty() {
        return "no dead letters".to_owned();
    }
    let columns = [("SEQ", Align::Right), ("RULE", Align::Left), ("REASON", Align::Left)];
    let rows: Vec<Vec<String>> = reply
        .letters
        .iter()
        .map(|letter| {
            let shown = [&letter.rule, &letter.reason].map(|text| printable(text));
            [vec![letter.sequence.to_string()], shown.to_vec()].concat()
        })
        .collect();
    let shown = u64::try_from(reply.letters.len()).unwrap_or(u64::MAX);
    format!(
        "{}{} of {} kept, newest first; `botstats deadletters show SEQ` shows one whole",
        table(&columns, &rows),
        grouped(shown),
        grouped(reply.kept)
    )
}

async fn show(client: &Client, js: &Context, sequence: u64) -> anyhow::Result<Answer> {
    let question = DeadLettersRequest { sequence: Some(sequence), limit: 1, ..Default::default() };
    let reply = ask(client, &question).await?;
    let letter = reply.letters.into_iter().find(|letter| letter.sequence == sequence);
    // This request works for every message, whatever its bytes are.
    let message = raw_message_from(js, EVENTS_STREAM, sequence)
        .await
        .map_err(anyhow::Error::msg)
        .with_context(|| {
            format!("message {sequence} cannot be read from the stream {EVENTS_STREAM}")
        })?
        .filter(|message| message.sequence == sequence)
        .with_context(|| format!("the stream {EVENTS_STREAM} has no message {sequence}"))?;
    letter_answer(letter.as_ref(), &message)
}

/// A dead letter with its message, for programs.
#[derive(Serialize)]
struct Shown<'a> {
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

fn letter_answer(letter: Option<&DeadLetter>, message: &RawMessage) -> anyhow::Result<Answer> {
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
        "sequence  {}\nstored    {}\nsubject   {}\nrefused   {refused}\n",
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
    use async_nats::HeaderMap;

    use super::*;

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
            let message = RawMessage {
                subject: "botstats.events.a.b.c".into(),
                sequence: 7,
                stored_ns: 0,
                headers: Some(headers.clone()),
                header_bytes: Vec::new().into(),
                payload: payload.to_vec().into(),
            };
            let answer = letter_answer(Some(&letter), &message).unwrap();
            let expect = format!(
                "sequence  7\nstored    1970-01-01T00:00:00.000Z\nsubject   botstats.events.a.b.c\n\
                 refused   data: userid is missing\nheader    Content-Type: \
                 application/cloudevents+json\npayload   {} bytes\n{in_text}",
                payload.len()
            );
            let json = format!(
                "{{\"sequence\":7,\"stored\":\"1970-01-01T00:00:00.000Z\",\"subject\":\
                 \"botstats.events.a.b.c\",\"rule\":\"data\",\"reason\":\"userid is missing\",\
                 \"headers\":[[\"Content-Type\",\"application/cloudevents+json\"]],\"payload\":{in_json}}}"
            );
            assert_eq!(answer, Answer::new(expect, json));
        }
    }
}
