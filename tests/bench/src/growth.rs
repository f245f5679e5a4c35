//! The same number of events, of 1, 4 and 16 times the accounts and users, on top of as many times
//! the history.
//!
//! In the engine alone, in commits of the largest size. The three take turns, so that a round
//! compares what was measured within the same seconds.

use botstats_common::io::clock;

use super::in_process::{FULL_BATCH, Fed, us_each};
use super::load::{DAY_MS, accounts, even};
use super::{Row, Scale, Target, say};

/// Events that are there before, of the smallest; over [`HISTORY_DAYS`].
const HISTORY: u64 = 500_000;
const HISTORY_DAYS: u32 = 3;
/// Events that are measured, over the day after that.
const EVENTS: u64 = 400_000;
const TIMES: [u32; 3] = [1, 4, 16];

pub(super) fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let (history, events) = (scale.of(HISTORY), scale.of(EVENTS));
    let accounts = accounts(HISTORY, HISTORY_DAYS);
    let end_ms = clock::now_ms();
    let start_ms = end_ms - DAY_MS;
    let mut all = Vec::new();
    for times in TIMES {
        let folder = tempfile::tempdir()?;
        let mut fed = Fed::open(folder.path())?;
        let many = history * u64::from(times);
        let began_ms = start_ms - i64::from(HISTORY_DAYS) * DAY_MS;
        let before = even(accounts * times, began_ms, start_ms, many, 1);
        fed.apply_all(before, FULL_BATCH)?;
        let rows = fed.engine().store().snapshot()?.rows()?;
        let users = rows.iter().find(|(name, _)| *name == "users").map_or(0, |(_, n)| *n);
        say(&format!("  {times} x: {} accounts, {users} users, {many} events", accounts * times));
        let fresh = even(accounts * times, start_ms, end_ms, events, 2);
        all.push((times, fed, fresh, Vec::new(), folder));
    }
    let share = usize::try_from(events)?.div_ceil(scale.rounds);
    for _ in 0..scale.rounds {
        for (_, fed, fresh, costs, _) in &mut all {
            let events: Vec<_> = fresh.by_ref().take(share).collect();
            let count = events.len();
            costs.push(us_each(fed.apply_all(events, FULL_BATCH)?, count));
        }
    }
    let costs: Vec<Vec<f64>> = all.iter().map(|(_, _, _, costs, _)| costs.clone()).collect();
    let mut rows: Vec<Row> = TIMES
        .iter()
        .zip(&costs)
        .map(|(times, costs)| Row::new(format!("{times} x: CPU an event"), "us", costs.clone()))
        .collect();
    if let [one, .., sixteen] = &costs[..] {
        let ratio = sixteen.iter().zip(one).map(|(sixteen, one)| sixteen / one).collect();
        rows.push(Row::new("16 x / 1 x", "", ratio).should_be(Target::less(1.5, None)));
    }
    Ok(rows)
}
