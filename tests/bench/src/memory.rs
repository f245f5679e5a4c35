//! What an ingest holds that knows five million users, while it counts more: as much of the
//! stream's history as it takes to know them is counted first, by the same ingest, which is then
//! started again.
//!
//! Every user has sent one message in the 30 days before, in a conversation of their own: so as
//! many conversations as users are still open to late events too.

use botstats::simulate::Event;
use botstats_common::io::clock;

use super::ingest::{applied, data_file};
use super::load::{DAY_MS, Headers, accounts, even, fill};
use super::{Row, Scale, Target, say, usage};
use botstats_tests::harness::Site;

const USERS: u64 = 5_000_000;
const DAYS: u32 = 30;
const CHANNELS: u64 = 1_000;
/// Events that are counted on top of them, in all rounds together, of the last day.
const EVENTS: u64 = 1_000_000;
const MIB: f64 = 1024.0 * 1024.0;

pub(super) async fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let users = scale.of(USERS);
    let site = Site::start("0s").await;
    let now_ms = clock::now_ms();
    let known = (0..users).filter_map(move |n| message(n, users, now_ms));
    let mut last = fill(&site.client, Headers::ContentType, known).await?;
    let mut ingest = site.ingest("ingest");
    applied(&site.client, last).await;
    let learning = ingest.peak_rss_bytes() as f64 / MIB;
    let file = std::fs::metadata(data_file(&site.folder("ingest")))?.len();
    say(&format!("  {users} users known: file {} MiB", file >> 20));
    ingest.restart();
    applied(&site.client, last).await;
    let mut peaks = Vec::new();
    for (_, seed) in (0..scale.rounds).zip(1..) {
        let events = scale.of(EVENTS) / u64::try_from(scale.rounds)?;
        let more = even(accounts(EVENTS, 1), now_ms - DAY_MS, now_ms, events.max(1), seed);
        // Published while ingest is down, so that it counts as fast as it can.
        ingest.kill();
        last = fill(&site.client, Headers::ContentType, more).await?;
        ingest.restart();
        applied(&site.client, last).await;
        peaks.push(usage::peak_bytes(ingest.pid()).unwrap_or_default() as f64 / MIB);
    }
    Ok(vec![
        Row::new(format!("peak while draining, {users} users known"), "MiB", peaks)
            .should_be(Target::less(512.0, 256.0)),
        Row::new(format!("peak while getting to know {users} users"), "MiB", vec![learning]),
        Row::new("file a user, with their one event", "B", vec![file as f64 / users as f64]),
    ])
}

/// The only message of user number `n`.
fn message(n: u64, users: u64, now_ms: i64) -> Option<Event> {
    let span_ms = u64::try_from(i64::from(DAYS) * DAY_MS).ok()?;
    let ago_ms =
        (u128::from(users - n) * u128::from(span_ms) / u128::from(users)).try_into().ok()?;
    let time_ms = now_ms.checked_sub(ago_ms)?;
    let time = clock::rfc3339_ms(time_ms);
    let payload = format!(
        r#"{{"specversion":"1.0","id":"message-{n}","source":"/bench","type":"io.botstats.message.received.v1","time":"{time}","data":{{"conversationid":"conversation-{n}","userid":"user-{n}"}}}}"#
    );
    let channel = n % CHANNELS;
    let subject = format!("botstats.events.account-{}.bot-{}.web", channel / 10, channel % 10);
    Some(Event { subject, payload: payload.into(), time_ms })
}
