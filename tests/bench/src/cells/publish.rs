//! `botstats publish` of a thousand accounts into one stream and into four, in turn.

use botstats_common::io::clock;
use botstats_tests::harness::binary;
use botstats_tests::spread::{Spread, name};

use super::super::load;
use super::{Row, Scale, ratios, say, traffic};
use crate::Target;

const EVENTS: u64 = 500_000;
/// Events on a server that syncs each store.
const SYNCED_EVENTS: u64 = 50_000;
const STREAMS: usize = 4;

pub(super) async fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let mut rows = Vec::new();
    for (what, events, sync_always) in
        [("lazy server", EVENTS, false), ("server that syncs always", SYNCED_EVENTS, true)]
    {
        let events = scale.of(events);
        let file = load::written(traffic(events, clock::now_ms()), &folder.path().join(what))?;
        let (mut one, mut four) = (Vec::new(), Vec::new());
        for round in 1..=scale.rounds {
            // The first of the two finds another machine than the second.
            let order = if round % 2 == 0 { [1, STREAMS] } else { [STREAMS, 1] };
            for streams in order {
                let rate = published(&file, events, streams, sync_always).await?;
                if streams == 1 { one.push(rate) } else { four.push(rate) }
            }
            let [a, b] = [&one, &four].map(|rates| rates[round - 1]);
            say(&format!("  round {round}, {what}: 1 cell {a:.1}k/s, {STREAMS} cells {b:.1}k/s"));
        }
        let ratio = ratios(&four, &one);
        rows.extend([
            Row::new(format!("publish into 1 cell, {what}: rate"), "1000/s", one),
            Row::new(format!("publish into {STREAMS} cells, {what}: rate"), "1000/s", four),
            Row::new(format!("publish into {STREAMS} cells / 1 cell, {what}"), "", ratio)
                .should_be(Target::more(0.8, 1.0)),
        ]);
    }
    Ok(rows)
}

/// The rate, in thousands a second.
async fn published(
    file: &str,
    events: u64,
    streams: usize,
    sync_always: bool,
) -> anyhow::Result<f64> {
    let spread = Spread::start(streams, sync_always).await;
    let (seconds, said) = load::published(&binary("botstats"), file, spread.nats.url())?;
    let mut stored = 0;
    for number in 1..=streams {
        stored += spread.messages(&name(number)).await;
    }
    anyhow::ensure!(stored == events, "{stored} of {events} events are stored: {said}");
    Ok(events as f64 / seconds / 1e3)
}
