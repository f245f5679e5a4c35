//! The same number of events at the same times, in few long conversations or many short ones, one
//! after the other: what an event costs, on average over a conversation's life.
//!
//! In the engine alone; in commits as small as live traffic has them, and in the largest.

use botstats::simulate::Event;
use botstats_common::io::clock;

use super::in_process::{FULL_BATCH, Fed, us_each};
use super::{Row, Scale, Target};

const EVENTS: u64 = 100_000;
/// How often a conversation has one: the longest lasts eleven days.
const EVERY_MS: i64 = 10_000;
const LENGTHS: [u64; 3] = [1_000, 10_000, 100_000];
const BATCHES: [usize; 2] = [200, FULL_BATCH];

pub(super) fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let events = scale.of(EVENTS);
    let start_ms = clock::now_ms() - i64::try_from(events)? * EVERY_MS;
    let mut costs = vec![[const { Vec::new() }; LENGTHS.len()]; BATCHES.len()];
    for _ in 0..scale.rounds {
        for (batch, costs) in BATCHES.iter().zip(&mut costs) {
            for (length, costs) in LENGTHS.iter().zip(costs) {
                let folder = tempfile::tempdir()?;
                let mut fed = Fed::open(folder.path())?;
                let length = scale.of(*length);
                let all: Vec<Event> = (0..events)
                    .map(|n| event(n, n / length, start_ms))
                    .collect::<Option<_>>()
                    .unwrap_or_default();
                let count = all.len();
                costs.push(us_each(fed.apply_all(all, *batch)?, count));
            }
        }
    }
    let mut rows = Vec::new();
    for (batch, costs) in BATCHES.iter().zip(&costs) {
        for (length, costs) in LENGTHS.iter().zip(costs) {
            let what = format!("{length} events, commits of {batch}: CPU an event");
            rows.push(Row::new(what, "us", costs.clone()));
        }
        let [short, .., long] = costs;
        let ratio = long.iter().zip(short).map(|(long, short)| long / short).collect();
        let what = format!("100000 events / 1000 events, commits of {batch}");
        rows.push(Row::new(what, "", ratio).should_be(Target::less(1.5, None)));
    }
    Ok(rows)
}

/// Event number `n` of all, in that conversation: user and bot take turns.
fn event(n: u64, conversation: u64, start_ms: i64) -> Option<Event> {
    let time_ms = start_ms + i64::try_from(n).ok()? * EVERY_MS;
    let time = clock::rfc3339_ms(time_ms);
    let kind = if n.is_multiple_of(2) { "received" } else { "sent" };
    let payload = format!(
        r#"{{"specversion":"1.0","id":"event-{n}","source":"/bench","type":"io.botstats.message.{kind}.v1","time":"{time}","data":{{"conversationid":"conversation-{conversation}","userid":"user-{conversation}"}}}}"#
    );
    let subject = "botstats.events.bench.bot-1.web".to_owned();
    Some(Event { subject, payload: payload.into(), time_ms })
}
