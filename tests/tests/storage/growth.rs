//! What ingest keeps does not grow for ever: once pruning balances what comes, file and memory stay
//! as they are. Only users and (bot, channel) pairs are kept for good, and there is a constant set
//! of them.
//!
//! `BOTSTATS_TEST_LIFE_EVENTS` sets how many events a day has, `BOTSTATS_TEST_LIFE_DAYS` how many
//! days, `BOTSTATS_TEST_LIFE_KEEP` how many of them are kept.

use botstats_ingest::testing::MemoryUse;
use botstats_ingest::testing::StorageBackend as _;
use botstats_tests::disk::Disk;
use botstats_tests::generate::{Dice, Life};
use botstats_tests::in_process::Product;
use botstats_tests::setting;

const EVENTS: usize = 150;
const DAYS: usize = 400;
const KEEP_DAYS: usize = 40;
const DAY_MS: i64 = 86_400_000;
/// Nothing grows any more from this number of days after the first deletion on.
const SETTLED_DAYS: usize = 40;
/// The growth that is allowed, in percent, because traffic differs from day to day.
const PERCENT: u64 = 25;
/// The same for the file: it grows by doubling, and dead letters grow to their own limit.
const FILE_PERCENT: u64 = 105;

/// The same for what a day or a few decide.
const FEW_PERCENT: u64 = 200;
/// Rows that may be added to any table: each piece of a packed table's block that is cut is one.
const SPARE_ROWS: u64 = 2;

/// What is kept at the end of a day: rows by table, the file's bytes, and what is held in memory.
type Kept = Vec<(&'static str, u64)>;

fn kept(product: &mut Product, disk: &Disk) -> anyhow::Result<Kept> {
    let engine = product.engine()?;
    let MemoryUse { filter_bytes, open_conversations: open, .. } = engine.memory_use();
    let mut kept: Kept = engine.store().snapshot()?.rows()?.into();
    kept.push(("file bytes", disk.len()?));
    kept.push(("filter bytes", u64::try_from(filter_bytes)?));
    kept.push(("open conversations", u64::try_from(open)?));
    Ok(kept)
}

#[test]
fn file_and_memory_reach_a_plateau() -> anyhow::Result<()> {
    let days = setting("BOTSTATS_TEST_LIFE_DAYS", DAYS);
    let keep_days = setting("BOTSTATS_TEST_LIFE_KEEP", KEEP_DAYS);
    let events = setting("BOTSTATS_TEST_LIFE_EVENTS", EVENTS);
    let start_ms = 20_376 * DAY_MS;
    let (seed, users, newcomers) = (7, 20, false);
    let life = Life {
        seed,
        accounts: 3,
        start_ms,
        events,
        users,
        newcomers,
        clock: |ns| ns,
        bots_too: false,
    };
    let disk = Disk::default();
    let mut product = Product::on(disk.clone(), u32::try_from(keep_days)?)?;
    let mut dice = Dice::new(seed);
    let mut lifetime = life.begin();
    let mut by_day: Vec<Kept> = Vec::new();
    for day in 1..=days {
        let messages = lifetime.next().unwrap_or_default();
        for batch in messages.chunks(dice.index(messages.len()) + 1) {
            product.apply(batch)?;
        }
        if dice.one_in(30) {
            product.reopen()?;
        }
        by_day.push(kept(&mut product, &disk)?);
        if day % 40 == 0 {
            eprintln!("day {day}: {:?}", by_day[day - 1]);
        }
    }
    let settled = keep_days + 2 * SETTLED_DAYS;
    let (before, after) = by_day.split_at(settled);
    assert!(after.len() >= settled, "{days} days are too few");
    for (place, (name, _)) in before[0].iter().enumerate() {
        // Dead letters have a limit of their own, a hundred thousand.
        if *name == "dead_letters" {
            continue;
        }
        let most = |days: &[Kept]| days.iter().map(|kept| kept[place].1).max().unwrap_or(0);
        let (early, late) = (most(&before[settled - SETTLED_DAYS..]), most(after));
        // No conversation of this traffic has enough events of a day for parts.
        assert!(early > 0 || *name == "parts", "no {name}");
        let percent = match *name {
            "file bytes" => FILE_PERCENT,
            "open conversations" | "forgotten" => FEW_PERCENT,
            _ => PERCENT,
        };
        let allowed = early + early * percent / 100 + SPARE_ROWS;
        assert!(late <= allowed, "{name} grew from {early} to {late}");
    }
    Ok(())
}
