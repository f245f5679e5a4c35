//! Questions with all parameters: engine and query against the model, to the last byte, and laws
//! that answers keep whatever the model says.

use std::collections::BTreeMap;

use botstats_query::Format;
use botstats_tests::fixture;
use botstats_tests::generate::{Dice, Generated, Plan, ZONES, asked, moment, operators};
use botstats_tests::in_process::{Product, json_of};
use botstats_tests::model::{
    ALL_CODES, Asked, Dates, Directory, Grain, MAX_NAMES, Model, Previous, SPLITS, Stat, codes_of,
};
use botstats_tests::setting;
use serde_json::Value;

use crate::model_in_process::plan;

/// Worlds of a run; `BOTSTATS_TEST_WORLDS` makes it more (or fewer).
const WORLDS: usize = 20;
/// Questions in each world; `BOTSTATS_TEST_QUESTIONS` makes it more (or fewer).
const QUESTIONS: usize = 100;
/// Seeds that once found something.
const FOUND: &[u64] = &[];
const DAY_MS: i64 = 86_400_000;
const NS_PER_MS: i64 = 1_000_000;
/// Names that a pair keeps for a day: few, so that most streams have more.
const BOUNDS: [usize; 4] = [1, 3, 5, MAX_NAMES];

#[test]
fn the_product_answers_all_questions_of_part_two() -> anyhow::Result<()> {
    let example = fixture::part_two();
    assert_eq!(example.questions.len(), 30);
    let contents = Model::of(&example.messages).contents(MAX_NAMES);
    let mut product = Product::new(400)?;
    product.apply(&example.messages)?;
    let (directory, operators) = (&example.directory, &example.operators);
    for (number, (asked, rows)) in example.questions.iter().enumerate() {
        let got = product.answer_to(asked, directory, operators, Format::Json)?;
        let lines = |text: &str| text.replace("},{", "}\n{");
        assert_eq!(lines(&got), lines(&json_of(rows)), "question {number} {asked:?}");
        for format in [Format::Json, Format::Csv, Format::Ndjson] {
            product.check_asked(&contents, asked, directory, operators, format)?;
        }
    }
    Ok(())
}

/// A stream in a product, and what questions about it need.
struct World {
    generated: Generated,
    plan: Plan,
    max_names: usize,
    product: Product,
    operators: BTreeMap<String, String>,
    dice: Dice,
}

impl World {
    fn new(seed: u64) -> anyhow::Result<Self> {
        let mut dice = Dice::new(seed ^ 0x9e57);
        let plan = Plan {
            events: *dice.pick(&[60, 400, 1_000]),
            days: *dice.pick(&[1, 4, 12, 30, 90, 200]),
            ..plan(seed)
        };
        let mut generated = plan.generate();
        for directory in generated.directories.values_mut() {
            directory.timezone = (*dice.pick(&ZONES)).to_owned();
        }
        let max_names = *dice.pick(&BOUNDS);
        // All days are kept, so nothing is refused as incomplete.
        let mut product = Product::bounded(36_600, max_names)?;
        let largest = *dice.pick(&[40, 400, 100_000]);
        for batch in generated.messages.chunks(largest) {
            product.apply(batch)?;
        }
        let operators = operators(&mut dice);
        Ok(Self { generated, plan, max_names, product, operators, dice })
    }

    /// The account of that number, with its names and zone.
    fn account(&self, number: usize) -> (String, Directory) {
        let all = &self.generated.directories;
        let of = all.iter().nth(number % all.len());
        of.map(|(account, directory)| (account.clone(), directory.clone())).unwrap()
    }

    fn moment(&mut self) -> i64 {
        let newest_ms = self.generated.messages.last().map_or(0, |m| m.stored_ns / NS_PER_MS);
        let from_ms = self.plan.start_ms;
        moment(&mut self.dice, from_ms, newest_ms.max(from_ms) + 2 * DAY_MS)
    }

    fn question(&mut self, number: usize) -> (Asked, Directory) {
        let (account, directory) = self.account(number);
        let now_ms = self.moment();
        let asked = asked(&mut self.dice, &self.generated, &account, &directory, now_ms);
        (asked, directory)
    }

    fn rows(&mut self, asked: &Asked, directory: &Directory) -> anyhow::Result<Vec<Row>> {
        let text = self.product.answer_to(asked, directory, &self.operators, Format::Json)?;
        Ok(serde_json::from_str(&text)?)
    }
}

fn check(seed: u64, questions: usize) -> anyhow::Result<usize> {
    let mut world = World::new(seed)?;
    let contents = Model::of(&world.generated.messages).contents(world.max_names);
    let mut rows = 0;
    for number in 0..questions {
        let (asked, directory) = world.question(number);
        let format = match world.dice.below(6) {
            0 => Format::Csv,
            1 => Format::Ndjson,
            _ => Format::Json,
        };
        let operators = world.operators.clone();
        world.product.check_asked(&contents, &asked, &directory, &operators, format)?;
        rows += world.rows(&asked, &directory)?.len();
    }
    Ok(rows)
}

#[test]
fn answers_to_all_questions_equal_the_models() {
    let worlds = u64::try_from(setting("BOTSTATS_TEST_WORLDS", WORLDS)).unwrap();
    let questions = setting("BOTSTATS_TEST_QUESTIONS", QUESTIONS);
    let mut rows = 0;
    let failures: Vec<String> = (0..worlds)
        .chain(FOUND.iter().copied())
        .filter_map(|seed| match check(seed, questions) {
            Ok(more) => {
                rows += more;
                None
            }
            Err(error) => Some(format!("seed {seed}: {error:#}")),
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    assert!(rows > 0, "all answers are empty");
    eprintln!("{worlds} worlds, {rows} rows");
}

type Row = serde_json::Map<String, Value>;

/// A row's numbers by everything else that tells it from other rows, but for the columns named.
fn sums(rows: &[Row], without: &[&str]) -> BTreeMap<Vec<String>, [u64; 2]> {
    let columns = ["Period", "GroupLabel", "GroupStart", "BotId", "ChannelId", "SplitId"];
    let columns = columns.iter().chain(["SplitName", "EventType"].iter());
    let columns: Vec<&&str> = columns.filter(|column| !without.contains(column)).collect();
    let mut sums: BTreeMap<Vec<String>, [u64; 2]> = BTreeMap::new();
    for row in rows {
        let key = columns.iter().map(|column| row.get(**column).unwrap_or(&Value::Null));
        let entry = sums.entry(key.map(Value::to_string).collect()).or_default();
        entry[0] += row["Count"].as_u64().unwrap();
        entry[1] += thousandths(&row["Sum"]);
    }
    sums
}

/// A number with at most three decimals, as a whole number of thousandths.
fn thousandths(number: &Value) -> u64 {
    let text = number.to_string();
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole}{decimals:0<3}").parse().unwrap()
}

/// Runs a law in some worlds. It says how many rows it looked at.
fn law(
    seed: u64,
    mut holds: impl FnMut(&mut World, Asked, &Directory) -> anyhow::Result<usize>,
) -> anyhow::Result<()> {
    let mut looked_at = 0;
    for seed in seed..seed + 6 {
        let mut world = World::new(seed)?;
        for number in 0..15 {
            let (asked, directory) = world.question(number);
            let case = format!("seed {seed}, question {number} {asked:?}");
            let looked = holds(&mut world, asked, &directory).map_err(|e| e.context(case))?;
            looked_at += looked;
        }
    }
    assert!(looked_at > 0, "seed {seed}: there was never anything to look at");
    Ok(())
}

/// A question without anything that takes rows apart or leaves some away.
fn plain(asked: &Asked) -> Asked {
    let (stats, previous, split) = (Vec::new(), None, None);
    Asked { stats, previous, split, top: 50, fill: false, grain: Grain::Total, ..asked.clone() }
}

/// Codes whose samples are counted, or added up, one by one: all but those of users.
fn but_users() -> Vec<u8> {
    ALL_CODES.into_iter().filter(|code| *code > 2).collect()
}

#[test]
fn a_total_is_the_sum_over_any_grain() -> anyhow::Result<()> {
    law(100, |world, asked, directory| {
        let total = Asked { types: but_users(), ..plain(&asked) };
        let whole = world.rows(&total, directory)?;
        let groups = ["GroupLabel", "GroupStart"];
        // Hours of the week have complete hours only.
        for grain in Grain::ALL.into_iter().filter(|grain| *grain != Grain::WeekHour) {
            // A question for fine groups of long windows is refused.
            let fine = matches!(grain, Grain::Quarter | Grain::Hour);
            if fine && dates_of(asked.dates) > 62 {
                continue;
            }
            let parts = world.rows(&Asked { grain, ..total.clone() }, directory)?;
            anyhow::ensure!(sums(&parts, &groups) == sums(&whole, &groups), "{grain:?}");
        }
        Ok(whole.len())
    })
}

fn dates_of(dates: Dates) -> i64 {
    match dates {
        Dates::Last(number) => number.into(),
        Dates::FromTo(from, to) => i64::from((to - from).get_days()) + 1,
    }
}

#[test]
fn users_of_a_total_are_a_union() -> anyhow::Result<()> {
    law(200, |world, asked, directory| {
        let asked = Asked { types: vec![0, 1, 2], ..plain(&asked) };
        let total = sums(&world.rows(&asked, directory)?, &["GroupLabel", "GroupStart"]);
        let by_day = world.rows(&Asked { grain: Grain::Day, ..asked }, directory)?;
        let mut largest: BTreeMap<Vec<String>, u64> = BTreeMap::new();
        for row in &by_day {
            for (key, [count, _]) in sums(std::slice::from_ref(row), &["GroupLabel", "GroupStart"])
            {
                let largest = largest.entry(key).or_default();
                *largest = count.max(*largest);
            }
        }
        let by_day = sums(&by_day, &["GroupLabel", "GroupStart"]);
        let of = |sums: &BTreeMap<Vec<String>, [u64; 2]>, pair: &[String], code: &str| {
            let key = [pair, &[code.to_owned()]].concat();
            sums.get(&key).map_or(0, |[count, _]| *count)
        };
        for key in total.keys() {
            let pair = &key[..key.len() - 1];
            let [new, returning, active] = ["0", "1", "2"].map(|code| of(&total, pair, code));
            anyhow::ensure!(new + returning == active, "{pair:?}");
            // Whoever is new is so on one day, and is active then.
            anyhow::ensure!(new == of(&by_day, pair, "0"), "{pair:?}");
            let most = of(&by_day, pair, "2");
            let least = largest[&[pair, &["2".to_owned()]].concat()];
            anyhow::ensure!((least..=most).contains(&active), "{pair:?} {least} {active} {most}");
        }
        Ok(total.len())
    })
}

#[test]
fn merged_rows_are_the_sums_of_the_others() -> anyhow::Result<()> {
    law(300, |world, asked, directory| {
        // Each user is of one bot and channel, so users add up too.
        let asked = Asked { by: [true, true], top: 500, ..asked };
        let rows = world.rows(&asked, directory)?;
        let without_names = ["BotId", "ChannelId"];
        for (by, merged) in [
            ([true, false], &without_names[1..]),
            ([false, true], &["BotId"]),
            ([false, false], &without_names[..]),
        ] {
            let of_all = world.rows(&Asked { by, ..asked.clone() }, directory)?;
            if asked.fill || asked.grain == Grain::WeekHour {
                // Each row counts the same hours of the week, and rows with nothing are other rows.
                let only_sums = |rows: &[Row]| {
                    let all = sums(rows, merged).into_iter();
                    all.map(|(key, [_, sum])| (key, sum))
                        .filter(|(_, sum)| *sum > 0)
                        .collect::<BTreeMap<_, _>>()
                };
                anyhow::ensure!(only_sums(&of_all) == only_sums(&rows), "{by:?}");
            } else {
                anyhow::ensure!(sums(&of_all, merged) == sums(&rows, merged), "{by:?}");
            }
        }
        Ok(rows.len())
    })
}

#[test]
fn the_sum_over_names_is_the_row_without_a_split() -> anyhow::Result<()> {
    law(400, |world, asked, directory| {
        let split = *world.dice.pick(&SPLITS);
        let grain = if asked.grain == Grain::WeekHour { Grain::Day } else { asked.grain };
        let asked = Asked { types: codes_of(split), split: None, fill: false, grain, ..asked };
        let whole = world.rows(&asked, directory)?;
        for top in [1, 3, 500] {
            let by_name =
                world.rows(&Asked { split: Some(split), top, ..asked.clone() }, directory)?;
            let names = ["SplitId", "SplitName"];
            anyhow::ensure!(sums(&by_name, &names) == sums(&whole, &names), "{split} {top}");
            let all: std::collections::BTreeSet<String> = by_name
                .iter()
                .map(|row| row["SplitName"].to_string() + &row["SplitId"].to_string())
                .collect();
            anyhow::ensure!(all.len() <= top + 1, "{split}: {} names of {top}", all.len());
        }
        Ok(whole.len())
    })
}

#[test]
fn the_earlier_window_alone_has_the_previous_rows() -> anyhow::Result<()> {
    law(500, |world, asked, directory| {
        let Dates::FromTo(..) = asked.dates else { return Ok(0) };
        if asked.grain == Grain::WeekHour {
            return Ok(0);
        }
        // Windows in the past are not cut, and with so many names of their own `top` is the same
        // over one window as over both.
        let now_ms = asked.now_ms + 400 * DAY_MS;
        let previous = Some(world.dice.pick(&Previous::ALL).0);
        let asked = Asked { previous, now_ms, top: 500, fill: false, ..asked };
        // The label of a total names its dates.
        let total = Asked { grain: Grain::Total, ..asked.clone() };
        let of_total = world.rows(&total, directory)?;
        let Some(last) = of_total.last().filter(|row| row["Period"] == "previous") else {
            return Ok(0);
        };
        let (from, to) = last["GroupLabel"].as_str().unwrap().split_once('/').unwrap();
        let dates = Dates::FromTo(from.parse()?, to.parse()?);
        // An earlier window may have more dates than may be asked for by the quarter or hour.
        if matches!(asked.grain, Grain::Quarter | Grain::Hour) && dates_of(dates) > 62 {
            return Ok(0);
        }
        let mut rows = world.rows(&asked, directory)?;
        rows.retain(|row| row["Period"] == "previous");
        let alone = world.rows(&Asked { previous: None, dates, ..asked }, directory)?;
        // The name of a channel merged over bots is chosen over both windows, and so is its place.
        let sorted = |rows: Vec<Row>| {
            let without_name = |mut row: Row| {
                row.remove("Period");
                row.remove("ChannelName");
                Value::Object(row).to_string()
            };
            let mut rows: Vec<String> = rows.into_iter().map(without_name).collect();
            rows.sort();
            rows
        };
        let found = rows.len();
        anyhow::ensure!(sorted(rows) == sorted(alone), "other rows from {from} to {to}");
        Ok(found)
    })
}

#[test]
fn percentiles_are_taken_over_all_samples_of_a_row() -> anyhow::Result<()> {
    law(600, |world, asked, directory| {
        let durations = [8, 9, 11, 16, 105, 106, 107];
        let (quarters, days) = (Grain::Quarter, Grain::Day);
        let fine = Asked {
            types: durations.to_vec(),
            grain: if dates_of(asked.dates) > 62 { days } else { quarters },
            by: [true, true],
            // All samples of a row of at most four.
            stats: vec![Stat::Min, Stat::Percentile(50), Stat::Percentile(75), Stat::Max],
            ..plain(&asked)
        };
        let mut samples: BTreeMap<u64, Option<Vec<u64>>> = BTreeMap::new();
        for row in world.rows(&fine, directory)? {
            let columns: &[&str] = match row["Count"].as_u64() {
                Some(1) => &["Min"],
                Some(2) => &["Min", "Max"],
                Some(3) => &["Min", "P50", "Max"],
                Some(4) => &["Min", "P50", "P75", "Max"],
                _ => &[],
            };
            let all = samples.entry(row["EventType"].as_u64().unwrap());
            let all = all.or_insert_with(|| Some(Vec::new()));
            match all {
                Some(all) if !columns.is_empty() => {
                    all.extend(columns.iter().map(|column| thousandths(&row[*column])));
                }
                // More samples than can be told from the row.
                _ => *all = None,
            }
        }
        let percents = [1, 10, 33, 50, 67, 90, 99];
        let stats = percents.map(Stat::Percentile).into_iter().chain([Stat::Within(30)]).collect();
        let merged = Asked { by: [false, false], grain: Grain::Total, stats, ..fine };
        let merged = world.rows(&merged, directory)?;
        let codes: Vec<u64> = merged.iter().map(|row| row["EventType"].as_u64().unwrap()).collect();
        anyhow::ensure!(codes == samples.keys().copied().collect::<Vec<_>>());
        let mut seen = 0;
        for (row, all) in merged.iter().zip(samples.into_values()) {
            let Some(mut all) = all else { continue };
            all.sort_unstable();
            for percent in percents {
                let rank = (usize::try_from(percent)? * all.len()).div_ceil(100);
                let got = thousandths(&row[&format!("P{percent}")]);
                anyhow::ensure!(got == all[rank - 1], "P{percent} of {all:?}: {row:?}");
            }
            let within = u64::try_from(all.iter().filter(|ms| **ms <= 30_000).count())?;
            let all = u64::try_from(all.len())?;
            let hundredths = (2 * 10_000 * within + all) / (2 * all);
            anyhow::ensure!(thousandths(&row["Within30"]) == hundredths * 10, "{row:?}");
            seen += 1;
        }
        Ok(seen)
    })
}
