//! What the file takes after a month of live traffic, everything included: 20M events over 30 days,
//! each stored as it happens, in commits of some thousands. In the engine alone, once.
//!
//! Twice: with the benchmark's usual density, and with a thousand accounts, of which most have so
//! little to say that a bucket holds an event or two.

use std::os::unix::fs::MetadataExt as _;

use botstats_common::io::clock;
use botstats_ingest::testing::STORE_FILE;

use super::in_process::{Fed, us_each};
use super::load::{DAY_MS, accounts, even};
use super::{Row, Scale, Target, say};

const EVENTS: u64 = 20_000_000;
const DAYS: u32 = 30;
const MANY_ACCOUNTS: u32 = 1_000;
/// Messages of a commit.
const BATCH: usize = 5_000;
/// The number of pieces; after each the measure reports its progress.
const PIECES: u64 = 10;
/// Bytes of a block, as `st_blocks` counts them.
pub(super) const BLOCK: u64 = 512;

pub(super) fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let events = scale.of(EVENTS);
    let mut rows = Vec::new();
    let usual = accounts(events, DAYS);
    // A tenth of the events is of a tenth of the accounts, so that it is as hard.
    let many = u32::try_from(scale.of(MANY_ACCOUNTS.into()))?;
    for (accounts, target) in [(usual, true), (many, false)] {
        let [length, allocated, cpu] = stored(events, accounts)?;
        let note = format!("{accounts} accounts");
        let length = Row::new(format!("{note}: length of the file an event"), "B", vec![length]);
        let should_be = Target::less(55.0, 45.0);
        rows.push(if target { length.should_be(should_be) } else { length });
        let what = format!("{note}: allocated on the disk an event");
        rows.push(Row::new(what, "B", vec![allocated]));
        let what = format!("{note}: CPU an event in commits of {BATCH}");
        rows.push(Row::new(what, "us", vec![cpu]));
    }
    Ok(rows)
}

/// Length and blocks of the file, and the CPU time that it took, each an event.
fn stored(events: u64, accounts: u32) -> anyhow::Result<[f64; 3]> {
    let folder = tempfile::tempdir()?;
    let mut fed = Fed::open(folder.path())?;
    let end_ms = clock::now_ms();
    let start_ms = end_ms - i64::from(DAYS) * DAY_MS;
    let mut traffic = even(accounts, start_ms, end_ms, events, 1);
    let mut cpu = std::time::Duration::ZERO;
    let piece = usize::try_from(events.div_ceil(PIECES))?;
    for n in 1..=PIECES {
        cpu += fed.apply_all(traffic.by_ref().take(piece), BATCH)?;
        say(&format!("  {accounts} accounts: {} of {events} events", n * events / PIECES));
    }
    for (table, rows) in fed.engine().store().snapshot()?.rows()? {
        say(&format!("  {accounts} accounts: {table}: {rows} rows"));
    }
    let file = std::fs::metadata(folder.path().join(STORE_FILE))?;
    let each = |bytes: u64| bytes as f64 / events as f64;
    Ok([each(file.len()), each(file.blocks() * BLOCK), us_each(cpu, usize::try_from(events)?)])
}
