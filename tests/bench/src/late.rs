//! The same traffic, all of it stored as it happens, against one event of ten stored up to 30 days
//! late.
//!
//! In the engine alone. Thirty days come before what is measured, so that from the first measured
//! event on as many late ones come as in any other month; then both take turns, commit by commit.

use std::time::Duration;

use botstats::simulate::Event;
use botstats_common::io::clock;

use super::in_process::{FULL_BATCH, Fed, ON_THE_WAY_MS, us_each};
use super::load::{DAY_MS, accounts, even};
use super::{Row, Scale, Target, say};

/// Events of all [`DAYS`].
const EVENTS: u64 = 1_500_000;
const DAYS: u32 = 60;
/// Only events that are stored after this number of days are measured.
const DAYS_BEFORE: i64 = 30;
/// One event in this number is late.
const ONE_IN: u64 = 10;
/// The bound of a late event's delay, in milliseconds.
const LATE_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Messages of a commit: while catching up, and under heavy live load.
const BATCHES: [usize; 2] = [FULL_BATCH, 2_500];

/// The order of storing: each event's time of storing, and its number.
type Arrivals = Vec<(i64, usize)>;

pub(super) fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let events = scale.of(EVENTS);
    let end_ms = clock::now_ms();
    let start_ms = end_ms - i64::from(DAYS) * DAY_MS;
    let events: Vec<Event> = even(accounts(EVENTS, DAYS), start_ms, end_ms, events, 1).collect();
    let in_order: Arrivals =
        events.iter().enumerate().map(|(n, event)| (event.time_ms + ON_THE_WAY_MS, n)).collect();
    let mut late: Arrivals =
        in_order.iter().map(|(stored_ms, n)| (stored_ms + delay_ms(*n), *n)).collect();
    late.sort_unstable();
    let mut rows = Vec::new();
    for batch in BATCHES {
        say(&format!("  commits of {batch}"));
        let begin_ms = start_ms + DAYS_BEFORE * DAY_MS;
        let measured = begin_ms..end_ms;
        let mut first = Side::new(&events, &in_order, batch, measured.clone())?;
        let mut second = Side::new(&events, &late, batch, measured)?;
        let (mut costs, mut late_costs) = (Vec::new(), Vec::new());
        for _ in 0..scale.rounds {
            let (a, b) = take_turns(&mut first, &mut second, scale.rounds)?;
            costs.push(a);
            late_costs.push(b);
        }
        let target =
            if batch == FULL_BATCH { Target::less(2.0, 1.5) } else { Target::less(1.5, 1.3) };
        let ratio = late_costs.iter().zip(&costs).map(|(late, all)| late / all).collect();
        rows.extend([
            Row::new(format!("all in order, commits of {batch}: CPU an event"), "us", costs),
            Row::new(format!("10% late, commits of {batch}: CPU an event"), "us", late_costs),
            Row::new(format!("10% late / in order, commits of {batch}"), "", ratio)
                .should_be(target),
        ]);
    }
    Ok(rows)
}

/// How late an event is.
fn delay_ms(n: usize) -> i64 {
    // A number that looks random, from the event's place (splitmix64).
    let mut x =
        u64::try_from(n).unwrap_or_default().wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    if x.is_multiple_of(ONE_IN) {
        i64::try_from(x / ONE_IN % LATE_MS).unwrap_or_default()
    } else {
        0
    }
}

/// One way in which the events come.
struct Side<'a> {
    fed: Fed,
    events: &'a [Event],
    batch: usize,
    /// What is still to come, and how much of it was at the beginning.
    left: &'a [(i64, usize)],
    of: usize,
    _folder: tempfile::TempDir,
}

impl<'a> Side<'a> {
    /// Applies what comes before the measured time.
    fn new(
        events: &'a [Event],
        arrivals: &'a [(i64, usize)],
        batch: usize,
        measured: std::ops::Range<i64>,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let fed = Fed::open(folder.path())?;
        let begin = arrivals.partition_point(|(stored_ms, _)| *stored_ms < measured.start);
        let end = arrivals.partition_point(|(stored_ms, _)| *stored_ms < measured.end);
        let (before, left) = arrivals[..end].split_at(begin);
        let mut side = Self { fed, events, batch, left: before, of: left.len(), _folder: folder };
        while side.step(FULL_BATCH)?.is_some() {}
        side.left = left;
        Ok(side)
    }

    /// Applies the next `count` events, or those that are left; returns their number and the CPU
    /// time.
    fn step(&mut self, count: usize) -> anyhow::Result<Option<(usize, Duration)>> {
        let (now, left) = self.left.split_at(count.min(self.left.len()));
        self.left = left;
        if now.is_empty() {
            return Ok(None);
        }
        let events = now.iter().map(|(stored_ms, n)| (*stored_ms, &self.events[*n]));
        Ok(Some((now.len(), self.fed.apply(events)?)))
    }
}

/// Applies both sides in turns, in `rounds` parts; returns the mean cost of an event of each side.
fn take_turns<'a>(a: &mut Side<'a>, b: &mut Side<'a>, rounds: usize) -> anyhow::Result<(f64, f64)> {
    let mut sums = [(0, Duration::ZERO); 2];
    let mut open = true;
    while open {
        open = false;
        for (side, sum) in [&mut *a, &mut *b].into_iter().zip(&mut sums) {
            let share = side.of.div_ceil(rounds);
            if let Some((count, cpu)) = side.step(side.batch.min(share.saturating_sub(sum.0)))? {
                *sum = (sum.0 + count, sum.1 + cpu);
                open = true;
            }
        }
    }
    let [(a, a_cpu), (b, b_cpu)] = sums;
    Ok((us_each(a_cpu, a), us_each(b_cpu, b)))
}
