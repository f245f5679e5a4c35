//! An ingest that reads its parent's stream, in which no event is of its slots.
//!
//! It drops each event by the subject alone. Its time begins with the process and ends with the
//! first event of its own stream; that of the consumers beside it begins with their first request.

use botstats_common::io::clock;
use botstats_common::slot::{Slot, Slots};
use botstats_tests::harness::event;
use botstats_tests::spread::{Spread, make_child, name};
use serde_json::json;

use super::super::load::{Headers, fill};
use super::super::null::{self, Null};
use super::{Row, Scale, applied, ratios, say, stop, traffic, usage};
use crate::Target;

const EVENTS: u64 = 2_000_000;

pub(super) async fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let (events, now_ms) = (scale.of(EVENTS), clock::now_ms());
    let spread = Spread::start(1, false).await;
    // An account that is not in the traffic has the slot for itself, but for those who share it.
    let account = "of-the-child";
    let slots: Slots = [Slot::of_token(account)].into_iter().collect();
    let foreign = traffic(events, now_ms).filter(move |event| {
        event.subject.split('.').nth(2).is_some_and(|a| !slots.contains(Slot::of_token(a)))
    });
    fill(&spread.client, Headers::ContentType, foreign).await?;
    let (parent, child) = (name(1), name(2));
    let foreign = spread.messages(&parent).await;
    make_child(&spread.js, &parent, &child, slots).await;
    spread.move_slots(&parent, &child, slots).await;
    let (subject, _, payload) =
        event([account, "b1", "web"], "message.received", now_ms, "e1", &json!({}));
    let last = spread.js.publish(subject, payload.into()).await?.await?.sequence;

    let [mut raw, mut reader, mut child_rate] = [(); 3].map(|()| Vec::new());
    let [mut reader_cpu, mut child_cpu] = [(); 2].map(|()| Vec::new());
    for round in 1..=scale.rounds {
        let url = spread.nats.url();
        let rate = |seconds: f64| foreign as f64 / seconds / 1e3;
        raw.push(rate(null::run(Null::Raw, &url, foreign)?.seconds));
        let drained = null::run(Null::Reader, &url, foreign)?;
        reader.push(rate(drained.seconds));
        reader_cpu.push(drained.cpu_us / foreign as f64);
        let folder = format!("child-{round}");
        let begun = clock::monotonic();
        let ingest = spread.ingest(&child, &folder);
        applied(&spread.client, &[(child.clone(), last)]).await?;
        child_rate.push(rate(begun.elapsed().as_secs_f64()));
        child_cpu.push(usage::of(ingest.pid()).cpu.as_secs_f64() * 1e6 / foreign as f64);
        stop(vec![ingest]).await;
        std::fs::remove_dir_all(spread.folder.path().join(folder))?;
        let [a, b, c] = [&raw, &reader, &child_rate].map(|rates| rates[round - 1]);
        say(&format!("  round {round}: raw {a:.0}k/s, reader {b:.0}k/s, child {c:.0}k/s"));
    }
    Ok(vec![
        Row::new("foreign events / raw pull's rate", "", ratios(&child_rate, &raw)),
        Row::new("foreign events / our reader's rate", "", ratios(&child_rate, &reader))
            .should_be(Target::more(0.8, 1.0)),
        Row::new("our reader, batches dropped: rate", "1000/s", reader),
        Row::new("our reader, batches dropped: CPU an event", "us", reader_cpu),
        Row::new("ingest of a child, foreign events: rate", "1000/s", child_rate),
        Row::new("ingest of a child, foreign events: CPU an event", "us", child_cpu),
    ])
}
