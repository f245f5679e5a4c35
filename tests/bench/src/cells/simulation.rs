//! A million accounts over 64 streams, in process: how even the slots are, and that an account's
//! answer does not depend on the number of streams.

use std::collections::BTreeMap;

use anyhow::Context as _;
use botstats::simulate::Event;
use botstats_common::ids::Account;
use botstats_common::io::clock;
use botstats_common::io::setup::even_cells;
use botstats_common::slot::{SLOT_COUNT, Slot};
use botstats_ingest::testing::Engine;
use botstats_tests::generate::Dice;
use botstats_tests::model::TYPES;

use super::super::in_process::{FULL_BATCH, Fed, ON_THE_WAY_MS, question, rendering};
use super::{Row, Scale, say, traffic};
use crate::Target;

const ACCOUNTS: u64 = 1_000_000;
const CELLS: usize = 64;
/// Events of the accounts whose answers are compared.
const SAMPLE_EVENTS: u64 = 200_000;
/// The largest accounts, which are looked at apart.
const HOTTEST: usize = 100;
const SEED: u64 = 16;

/// Gives the numbers of one round.
pub fn run(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let mut rows = evenness(scale)?;
    rows.push(answers(scale)?);
    Ok(rows)
}

/// Forms of ids of accounts.
type Form = (&'static str, fn(u64, &mut Dice) -> String);
const FORMS: [Form; 3] = [
    ("acct-1, acct-2, ..", |number, _| format!("acct-{number}")),
    ("numbers", |number, _| (100_000 + number).to_string()),
    ("random, 32 hex digits", |_, dice| format!("{:016x}{:016x}", dice.bits(), dice.bits())),
];

fn evenness(scale: Scale) -> anyhow::Result<Vec<Row>> {
    let accounts = scale.of(ACCOUNTS);
    let mut rows = Vec::new();
    for (form, id) in FORMS {
        let mut dice = Dice::new(SEED);
        let mut slots = Vec::new();
        for number in 0..accounts {
            let account: Account = id(number, &mut dice).parse()?;
            slots.push(Slot::of(&account));
        }
        owners(&slots)?;
        // Which accounts are the large ones has nothing to do with their ids.
        dice.shuffle(&mut slots);
        let row = |what: &str, loads: &[f64]| {
            let what = format!("ids {form}: {what}: most / mean");
            Row::new(what, "", vec![most_over_mean(loads)])
        };
        let count = |_: usize| 1.0;
        let zipf = |rank: usize| 1.0 / (rank + 1) as f64;
        let cold = |rank: usize| if rank < HOTTEST { 0.0 } else { zipf(rank) };
        let of_slots = loads(&slots, count);
        rows.extend([
            row("accounts of a slot", &of_slots),
            row(&format!("accounts of {CELLS} cells"), &of_cells(&of_slots))
                .should_be(Target::less(1.1, 1.05)),
            row("Zipf events of a slot", &loads(&slots, zipf)),
            row(&format!("Zipf events of {CELLS} cells"), &of_cells(&loads(&slots, zipf))),
            row(
                &format!("Zipf events of {CELLS} cells, but the {HOTTEST} largest accounts"),
                &of_cells(&loads(&slots, cold)),
            )
            .should_be(Target::less(1.5, 1.2)),
        ]);
    }
    let zipf: f64 = (1..=accounts).map(|rank| 1.0 / rank as f64).sum();
    rows.push(Row::new("events of the largest account, Zipf", "%", vec![100.0 / zipf]));
    Ok(rows)
}

/// Checks that each account has one owner among 1, 2, 4 .. cells, and that those of more cells lie
/// within those of fewer.
fn owners(slots: &[Slot]) -> anyhow::Result<()> {
    let owner = |slot: Slot, cells: usize| -> anyhow::Result<usize> {
        let owners: Vec<usize> = (0..)
            .zip(even_cells(cells))
            .filter(|(_, (_, slots))| slots.contains(slot))
            .map(|(number, _)| number)
            .collect();
        let [owner] = owners[..] else {
            anyhow::bail!("slot {slot} has the owners {owners:?} of {cells} cells")
        };
        Ok(owner)
    };
    let mut table: BTreeMap<Slot, Vec<usize>> = BTreeMap::new();
    let counts = [1, 2, 4, 8, 16, 32, 64, 128, 256];
    for slot in Slot::all() {
        let owners = counts.map(|cells| owner(slot, cells));
        let owners = owners.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
        let nested = owners.windows(2).all(|pair| pair[1] / 2 == pair[0]);
        anyhow::ensure!(nested, "slot {slot} has the owners {owners:?}");
        table.insert(slot, owners);
    }
    let all = slots.iter().all(|slot| table.contains_key(slot));
    anyhow::ensure!(all && table.len() == SLOT_COUNT, "an account has no owner");
    Ok(())
}

/// The load of each slot, where each account has that of its rank.
fn loads(slots: &[Slot], of: impl Fn(usize) -> f64) -> Vec<f64> {
    let mut loads = vec![0.0; SLOT_COUNT];
    for (rank, Slot(slot)) in slots.iter().enumerate() {
        loads[usize::from(*slot)] += of(rank);
    }
    loads
}

fn of_cells(slots: &[f64]) -> Vec<f64> {
    slots.chunks(SLOT_COUNT / CELLS).map(|slots| slots.iter().sum()).collect()
}

fn most_over_mean(loads: &[f64]) -> f64 {
    let most = loads.iter().copied().fold(0.0, f64::max);
    most * loads.len() as f64 / loads.iter().sum::<f64>()
}

/// Counts the same events in one engine and in one for each cell, and compares the answers of all
/// accounts; the row says how many are equal.
fn answers(scale: Scale) -> anyhow::Result<Row> {
    let now_ms = clock::now_ms();
    let mut accounts: BTreeMap<Account, u64> = BTreeMap::new();
    let folder = tempfile::tempdir()?;
    let streams = even_cells(CELLS);
    let mut one = Fed::open(&folder.path().join("all"))?;
    let cells = (0..CELLS).map(|cell| Fed::open(&folder.path().join(cell.to_string())));
    let mut cells = cells.collect::<anyhow::Result<Vec<Fed>>>()?;
    let events: Vec<Event> = traffic(scale.of(SAMPLE_EVENTS), now_ms).collect();
    for batch in events.chunks(FULL_BATCH) {
        let stored = |event: &Event| event.time_ms + ON_THE_WAY_MS;
        one.commit(batch.iter().map(|event| (stored(event), event)))?;
        let mut parts: Vec<Vec<&Event>> = vec![Vec::new(); CELLS];
        for event in batch {
            let account: Account =
                event.subject.split('.').nth(2).context("an account")?.parse()?;
            let owner = streams.iter().position(|(_, slots)| slots.contains(Slot::of(&account)));
            parts[owner.context("an owner")?].push(event);
            *accounts.entry(account).or_default() += 1;
        }
        for (cell, part) in cells.iter_mut().zip(parts) {
            cell.commit(part.into_iter().map(|event| (stored(event), event)))?;
        }
    }
    let (mut equal, mut rows) = (0_u64, 0);
    for account in accounts.keys() {
        let owner = streams.iter().position(|(_, slots)| slots.contains(Slot::of(account)));
        let whole = answer(one.engine(), account, now_ms)?;
        let part = answer(cells[owner.context("an owner")?].engine(), account, now_ms)?;
        anyhow::ensure!(whole == part, "{account} has another answer in its cell");
        equal += 1;
        rows += whole.iter().filter(|byte| **byte == b'{').count();
    }
    anyhow::ensure!(rows > 0, "no account has an answer");
    say(&format!("  {equal} accounts, {rows} rows: equal in one engine and in {CELLS}"));
    Ok(Row::new(format!("answers that are equal in 1 and {CELLS} engines"), "", vec![equal as f64]))
}

/// The body of the answer to a question for everything.
fn answer(engine: &Engine, account: &Account, now_ms: i64) -> anyhow::Result<Vec<u8>> {
    let mut rendering = rendering(engine, account, &question([TYPES, "day", "30"], None, now_ms)?)?;
    let mut body = Vec::new();
    while let Some(piece) = rendering.next_piece() {
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
