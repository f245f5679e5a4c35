//! `botstats publish` of a file, into a stream of its own: on a server that syncs lazily, in turn
//! with a publisher that only sends and counts acknowledgements, and on a server that syncs each
//! store before it acknowledges it.

use std::path::Path;

use botstats_common::io::clock;
use botstats_tests::harness::{Site, binary};

use super::load::{self, Headers, fill, history, written};
use super::{Row, Scale, Target, say};

const EVENTS: u64 = 500_000;
const DAYS: u32 = 7;
/// Events on a server that syncs each store.
const SYNCED_EVENTS: u64 = 50_000;

pub(super) async fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let (mut plain, mut ours, mut synced) = (Vec::new(), Vec::new(), Vec::new());
    let now_ms = clock::now_ms();
    let folder = tempfile::tempdir()?;
    let file = |events, name| written(history(events, DAYS, now_ms), &folder.path().join(name));
    let (lines, few) = (file(scale.of(EVENTS), "all")?, file(scale.of(SYNCED_EVENTS), "few")?);
    let program = binary("botstats");
    let older = scale.before.map(|folder| Path::new(folder).join("botstats"));
    let mut before = Vec::new();
    for round in 1..=scale.rounds {
        plain.push(plainly(scale.of(EVENTS), now_ms).await?);
        ours.push(published(&program, &lines, scale.of(EVENTS), false).await?);
        synced.push(published(&program, &few, scale.of(SYNCED_EVENTS), true).await?);
        if let Some(older) = &older {
            before.push(published(older, &few, scale.of(SYNCED_EVENTS), true).await?);
        }
        let [a, b, c] = [&plain, &ours, &synced].map(|rates| rates[round - 1]);
        say(&format!("  round {round}: plain {a:.0}k/s, publish {b:.0}k/s, synced {c:.1}k/s"));
    }
    let ratio = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a / b).collect();
    let (lazy, always) = (ratio(&ours, &plain), ratio(&synced, &before));
    let mut rows = vec![
        Row::new("a plain pipelined publisher, lazy server: rate", "1000/s", plain),
        Row::new("botstats publish, lazy server: rate", "1000/s", ours),
        Row::new("publish / the plain publisher, lazy server", "", lazy)
            .should_be(Target::more(0.8, 0.95)),
        Row::new("botstats publish, server that syncs always: rate", "1000/s", synced),
    ];
    if older.is_some() {
        rows.push(
            Row::new("publish / that of the older version, server that syncs always", "", always)
                .should_be(Target::more(1.0, 1.2)),
        );
    }
    Ok(rows)
}

/// The rate of a plain publisher, in thousands a second.
async fn plainly(events: u64, now_ms: i64) -> anyhow::Result<f64> {
    let site = Site::start("0s").await;
    // Made before the clock starts, as the file is.
    let made: Vec<_> = history(events, DAYS, now_ms).collect();
    let begun = clock::monotonic();
    fill(&site.client, Headers::ContentType, made.into_iter()).await?;
    Ok(events as f64 / begun.elapsed().as_secs_f64() / 1e3)
}

/// The rate of `botstats publish`, in thousands a second.
async fn published(
    program: &Path,
    file: &str,
    events: u64,
    sync_always: bool,
) -> anyhow::Result<f64> {
    let site = Site::start_with("0s", sync_always).await;
    let (seconds, said) = load::published(program, file, site.url())?;
    anyhow::ensure!(site.last_sequence().await == events, "not all events are stored: {said}");
    Ok(events as f64 / seconds / 1e3)
}
