//! `botstats status`: asks every running ingest and query for its state.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::Client;
use botstats_common::io::nats::{NatsSettings, Role, recent_violation};
use botstats_common::names::STATUS_SUBJECT;
use botstats_common::slot::Slots;
use botstats_common::status::Status;
use clap::Args;
use futures::StreamExt as _;
use serde_json::json;

use crate::output::{Align, Answer, grouped, printable, table};

/// The time in which answers are collected.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_millis(700);
/// The most answers that are read.
const MAX_ANSWERS: usize = 1_000;

#[derive(Debug, Args)]
#[command(after_long_help = "Exit code 1 if nothing that answers is ready.\n\n\
    EXAMPLES\n  \
    botstats status\n  \
    botstats status --json | jq '.[] | select(.ready | not)'")]
pub(crate) struct StatusArgs {}

/// Asks all programs; returns the answers that arrive within [`ANSWER_LIMIT`], ordered.
pub(crate) async fn ask(client: &Client) -> anyhow::Result<Vec<Status>> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await?;
    client.publish_with_reply(STATUS_SUBJECT, inbox, "".into()).await?;
    let mut found: Vec<Status> = Vec::new();
    let collecting = async {
        while let Some(answer) = answers.next().await {
            // The server answers at once if no program listens.
            if answer.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
                break;
            }
            match serde_json::from_slice(&answer.payload) {
                Ok(status) => found.push(status),
                Err(error) => tracing::warn!(
                    "an answer to the status request is not readable and is left out: {error}"
                ),
            }
            if found.len() >= MAX_ANSWERS {
                break;
            }
        }
    };
    // The number of programs is unknown, so this usually ends with the time limit.
    let _limit_or_max = tokio::time::timeout(ANSWER_LIMIT, collecting).await;
    found.sort_by(|a, b| (&a.program, &a.instance).cmp(&(&b.program, &b.instance)));
    Ok(found)
}

pub(crate) async fn run(_: StatusArgs, nats: &NatsSettings) -> anyhow::Result<Answer> {
    let client = nats.connect(Role::Admin).await?;
    let found = ask(&client).await.context("the status request could not be sent")?;
    if let Some(violation) = recent_violation().filter(|_| found.is_empty()) {
        anyhow::bail!("no program could be asked: {violation}");
    }
    let any_ready = found.iter().any(|status| status.ready);
    Ok(Answer::new(show(&found), json!(found)).ok_if(any_ready))
}

fn show(found: &[Status]) -> String {
    if found.is_empty() {
        return "no ingest and no query answers; is any running on this NATS? \
                `botstats up` starts both"
            .to_owned();
    }
    let mut columns = vec![
        ("PROGRAM", Align::Left),
        ("INSTANCE", Align::Left),
        ("VERSION", Align::Left),
        ("ZONES", Align::Left),
        ("STATE", Align::Left),
    ];
    let has_cells = has_cells(found);
    if has_cells {
        columns.extend([("STREAM", Align::Left), ("SLOTS", Align::Left)]);
    }
    columns.extend([
        ("APPLIED", Align::Right),
        ("LAG", Align::Right),
        ("FILE", Align::Right),
        ("AS OF", Align::Left),
    ]);
    let rows: Vec<Vec<String>> = found.iter().map(|status| row(status, has_cells)).collect();
    let mut text = table(&columns, &rows);
    for status in found {
        let who = printable(&format!("{} {}", status.program, status.instance));
        for (part, why) in &status.missing {
            text.push_str(&printable(&format!("{who}: waits for {part}: {why}\n")));
        }
        for (part, why) in &status.limited {
            text.push_str(&printable(&format!("{who}: answers only some calls: {part}: {why}\n")));
        }
        let Some(ingest) = &status.ingest else { continue };
        if let Some(why) = &ingest.refused {
            text.push_str(&printable(&format!("{who}: REFUSES its stream: {why}\n")));
        }
        if let Some(reads) = &ingest.reads {
            let still = format!("{who}: still reads {reads}, an earlier stream of its slots\n");
            text.push_str(&printable(&still));
        }
        text.push_str(&counts(&format!("{who}: events: "), &ingest.events));
        text.push_str(&counts(&format!("{who}: dead letters: "), &ingest.dead_letters));
    }
    text
}

/// True if ingests count several streams, or parts of the accounts.
fn has_cells(found: &[Status]) -> bool {
    let mut ingests = found.iter().filter_map(|status| status.ingest.as_ref());
    let first = ingests.clone().next().map(|ingest| &ingest.stream);
    ingests.any(|ingest| ingest.slots.is_some() || Some(&ingest.stream) != first)
}

fn row(status: &Status, has_cells: bool) -> Vec<String> {
    let refuses = status.ingest.as_ref().is_some_and(|ingest| ingest.refused.is_some());
    let state = match (status.ready, refuses) {
        (true, _) => "ready",
        (false, true) => "refuses",
        (false, false) => "not ready",
    };
    let shown = [&status.program, &status.instance, &status.version].map(|text| printable(text));
    let mut row = shown.to_vec();
    row.push(printable(status.zones.as_deref().unwrap_or("")));
    row.push(state.to_owned());
    if let Some(ingest) = &status.ingest {
        if has_cells {
            let slots = ingest.slots.unwrap_or(Slots::ALL).to_string();
            let slots = if slots.is_empty() { "none".to_owned() } else { slots };
            row.extend([printable(&ingest.stream), slots]);
        }
        row.push(grouped(ingest.sequence));
        row.push(grouped(ingest.lag_messages));
        row.push(size(ingest.file_bytes));
        row.push(printable(ingest.as_of.as_deref().unwrap_or("")));
    }
    row
}

fn counts(what: &str, counts: &std::collections::BTreeMap<String, u64>) -> String {
    let shown: Vec<String> = counts
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(name, count)| format!("{} {}", grouped(*count), printable(name)))
        .collect();
    if shown.is_empty() { String::new() } else { format!("{what}{}\n", shown.join(", ")) }
}

/// A size in the largest unit that leaves a number of at least 10.
fn size(bytes: u64) -> String {
    let (mut size, mut unit) = (bytes, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if size < 10 * 1024 {
            break;
        }
        (size, unit) = (size / 1024, larger);
    }
    format!("{size} {unit}")
}

#[cfg(test)]
mod tests {
    use botstats_common::status::IngestStatus;

    use super::*;

    fn status(program: &str, ready: bool) -> Status {
        Status {
            program: program.to_owned(),
            instance: "i1".to_owned(),
            version: "0.1.0".to_owned(),
            ready,
            ..Status::default()
        }
    }

    #[test]
    fn the_table() {
        let mut ingest = status("ingest", false);
        ingest.missing.insert("stream".to_owned(), "not there".to_owned());
        ingest.ingest = Some(IngestStatus {
            sequence: 12_345,
            stream_last_sequence: 12_350,
            lag_messages: 5,
            as_of: Some("2026-11-20T12:00:00.000Z".to_owned()),
            refused: Some("another stream".to_owned()),
            events: [("accepted".to_owned(), 12_000), ("conflict".to_owned(), 0)].into(),
            dead_letters: [("time".to_owned(), 3)].into(),
            file_bytes: 3 * 1024 * 1024,
            ..IngestStatus::default()
        });
        let limited = [("bot-throttle".to_owned(), "no bucket".to_owned())].into();
        let query = Status { zones: Some("2026f".to_owned()), limited, ..status("query", true) };
        insta::assert_snapshot!(show(&[ingest, query]), @r"
        PROGRAM  INSTANCE  VERSION  ZONES  STATE    APPLIED  LAG      FILE  AS OF
        ingest   i1        0.1.0           refuses   12,345    5  3072 KiB  2026-11-20T12:00:00.000Z
        query    i1        0.1.0    2026f  ready
        ingest i1: waits for stream: not there
        ingest i1: REFUSES its stream: another stream
        ingest i1: events: 12,000 accepted
        ingest i1: dead letters: 3 time
        query i1: answers only some calls: bot-throttle: no bucket
        ");
        assert!(show(&[]).contains("botstats up"));
    }

    #[test]
    fn the_table_of_cells() {
        let ingest = |stream: &str, slots: &str| IngestStatus {
            stream: stream.to_owned(),
            slots: slots.parse().ok(),
            ..IngestStatus::default()
        };
        let mut one = status("ingest", true);
        one.ingest = Some(ingest("BOTSTATS_EVENTS", "0-127"));
        let mut other = status("ingest", false);
        let reads = Some("BOTSTATS_EVENTS".to_owned());
        other.ingest = Some(IngestStatus { reads, ..ingest("BOTSTATS_EVENTS_2", "128-255") });
        insta::assert_snapshot!(show(&[one.clone(), other, status("query", true)]), @r"
        PROGRAM  INSTANCE  VERSION  ZONES  STATE      STREAM             SLOTS    APPLIED  LAG  FILE  AS OF
        ingest   i1        0.1.0           ready      BOTSTATS_EVENTS    0-127          0    0   0 B
        ingest   i1        0.1.0           not ready  BOTSTATS_EVENTS_2  128-255        0    0   0 B
        query    i1        0.1.0           ready
        ingest i1: still reads BOTSTATS_EVENTS, an earlier stream of its slots
        ");
        // A twin of the same stream without cells.
        one.ingest.as_mut().unwrap().slots = None;
        assert!(!show(&[one.clone(), one]).contains("STREAM"));
    }
}
