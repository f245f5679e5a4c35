//! Questions in process: what ingest and query do for an answer, from the store's buckets to the
//! bytes of the body.
//!
//! | question | asks for |
//! | --- | --- |
//! | month | all metrics by hour over 30 days of the largest account of sparse traffic, `by=none`, with and without `stats=p50,p90` |
//! | year | all metrics by day over 365 days of 20 bots on four channels each, which all have events in four hours of each day |
//!
//! *First byte* is the moment at which the first piece of the body can be sent: all cells were
//! gathered, sent and taken by then. CPU time, since nothing here waits.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use anyhow::Context as _;
use botstats::simulate::Event;
use botstats_common::ids::Account;
use botstats_common::io::clock;
use tempfile::TempDir;

use super::fold::Kind;
use super::in_process::{FULL_BATCH, Fed, ON_THE_WAY_MS, question, rendering};
use super::load::DAY_MS;
use super::reads::{EVERYTHING, event, places};
use super::report::percentile;
use super::{Row, Scale, Target, say, usage};
use botstats_tests::model::TYPES;

/// Events of the sparse traffic.
const EVENTS: u64 = 1_000_000;
const DAYS: u64 = 365;
/// The hours of a day at which every bot on a channel has events.
const HOURS: [i64; 4] = [8, 11, 14, 20];
/// Answers a round.
const ANSWERS: u64 = 20;
const HOUR_MS: i64 = DAY_MS / 24;

/// An engine with the events of some accounts, and who is asked for at which moment.
struct Store {
    fed: Fed,
    account: Account,
    now_ms: i64,
    _folder: TempDir,
}

/// The CPU time of an answer up to its first piece and up to its last, in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Took {
    first_byte: f64,
    whole: f64,
    rows: usize,
}

pub(super) fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let mut rows = month(scale)?;
    rows.extend(year(scale)?);
    Ok(rows)
}

fn month(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let now_ms = clock::now_ms();
    let mut by_account: BTreeMap<String, Vec<(i64, Event)>> = BTreeMap::new();
    for (stored_ms, event) in Kind::Sparse.events(scale.of(EVENTS), now_ms) {
        let account = event.subject.split('.').nth(2).context("an account")?;
        by_account.entry(account.to_owned()).or_default().push((stored_ms, event));
    }
    let largest = by_account.into_iter().max_by_key(|(_, events)| events.len());
    let (account, events) = largest.context("an account")?;
    let mut store = Store::new(&account, now_ms)?;
    for batch in events.chunks(FULL_BATCH) {
        store.fed.commit(batch.iter().map(|(stored_ms, event)| (*stored_ms, event)))?;
    }
    let [mut plain, mut with_stats, mut ratio] = [(); 3].map(|()| Vec::new());
    for _ in 0..scale.rounds {
        let (mut without, mut with) = (Vec::new(), Vec::new());
        // One after the other, so that both meet the same moods of the machine.
        for _ in 0..scale.of(ANSWERS).max(1) {
            without.push(store.answer("hour", "30", "by=none")?.whole);
            with.push(store.answer("hour", "30", "by=none&stats=p50,p90")?.whole);
        }
        let [without, with] = [without, with].map(|times| percentile(&times, 50));
        plain.push(without);
        with_stats.push(with);
        ratio.push(with / without);
    }
    say(&format!("  month: {} events, {plain:.2?} ms and {with_stats:.2?} ms", events.len()));
    Ok(vec![
        Row::new("month: whole answer in process, CPU", "ms", plain),
        Row::new("month with stats=p50,p90: whole answer in process, CPU", "ms", with_stats),
        Row::new("month: with stats / without", "", ratio).should_be(Target::less(1.3, 1.2)),
    ])
}

fn year(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let now_ms = clock::now_ms();
    let mut store = Store::new("large", now_ms)?;
    let days = i64::try_from(scale.of(DAYS).max(2))?;
    let first_ms = (now_ms / DAY_MS - days) * DAY_MS;
    let mut number = 0;
    for day in 0..days {
        let mut events = Vec::new();
        for hour in HOURS {
            let start_ms = first_ms + day * DAY_MS + hour * HOUR_MS;
            for (bot, channel) in places() {
                for (minutes, user, name, data) in EVERYTHING {
                    number += 1;
                    let user = match *user {
                        "new" => format!("u{number}"),
                        "often" => format!("often{}", day % 7),
                        other => other.to_owned(),
                    };
                    let time_ms = start_ms + minutes * 60_000;
                    let place = ["large", &bot, channel];
                    events.push(event(place, name, time_ms, number, day * 24 + hour, &user, data));
                }
            }
        }
        store.fed.commit(events.iter().map(|event| (event.time_ms + ON_THE_WAY_MS, event)))?;
    }
    let [mut first, mut whole] = [(); 2].map(|()| Vec::new());
    let (from, to) = (store.date(days), store.date(1));
    let mut rows = 0;
    for _ in 0..scale.rounds {
        let took = store.answer("day", "*", &format!("from={from}&to={to}"))?;
        first.push(took.first_byte);
        whole.push(took.whole);
        rows = took.rows;
    }
    say(&format!("  year: {number} events, {rows} rows, first byte {first:.1?} ms"));
    Ok(vec![
        Row::new("year by day: first byte in process, CPU", "ms", first)
            .should_be(Target::less(150.0, 100.0)),
        Row::new("year by day: whole answer in process, CPU", "ms", whole),
    ])
}

impl Store {
    fn new(account: &str, now_ms: i64) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let fed = Fed::open(folder.path())?;
        Ok(Self { fed, account: account.parse()?, now_ms, _folder: folder })
    }

    /// The UTC date so many days ago.
    fn date(&self, days: i64) -> String {
        clock::rfc3339_ms(self.now_ms - days * DAY_MS).chars().take(10).collect()
    }

    fn answer(&mut self, mode: &str, days: &str, query: &str) -> anyhow::Result<Took> {
        let asked = question([TYPES, mode, days], Some(query), self.now_ms)?;
        let begun = usage::own_cpu();
        let mut rendering = rendering(self.fed.engine(), &self.account, &asked)?;
        let (mut first_byte, mut rows) = (None, 0);
        let mut counting = Duration::ZERO;
        while let Some(piece) = rendering.next_piece() {
            first_byte.get_or_insert_with(|| usage::own_cpu() - begun);
            let counted = usage::own_cpu();
            rows += black_box(&piece).iter().filter(|byte| **byte == b'{').count();
            counting += usage::own_cpu() - counted;
        }
        let whole = usage::own_cpu() - begun - counting;
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        Ok(Took { first_byte: ms(first_byte.context("a piece")?), whole: ms(whole), rows })
    }
}
