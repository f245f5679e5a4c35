//! The same answers, made of the contents of a store quarter by quarter. Shares no code with the
//! reads.

use std::collections::{BTreeMap, BTreeSet};

use botstats_common::ids::{Bot, Channel};
use botstats_common::metric::TypeCode;
use botstats_common::stat::Stat;
use botstats_common::wire::{Chunk, Pair, Request, RowKey, RowName, Samples, Window};

use super::store::ACCOUNT;
use crate::store::{Contents, PairContents};

/// An answer, whatever the order in which it came.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Expected {
    pairs: BTreeSet<Pair>,
    rows: BTreeSet<RowKey>,
    cells: BTreeMap<(u32, RowKey), (Vec<Samples>, Vec<u64>)>,
}

impl Expected {
    /// What chunks say; everything in them must be there once.
    pub(super) fn of(chunks: &[Chunk]) -> Self {
        let mut all = Self::default();
        let mut rows = Vec::new();
        for (number, chunk) in chunks.iter().enumerate() {
            assert_eq!(chunk.number as usize, number);
            assert_eq!(chunk.last, number + 1 == chunks.len());
            for pair in &chunk.pairs {
                assert!(all.pairs.insert(pair.clone()), "{pair:?} is there twice");
            }
            for row in &chunk.rows {
                assert!(all.rows.insert(row.clone()), "{row:?} is there twice");
                rows.push(row);
            }
            for cell in &chunk.cells {
                let row = rows[usize::try_from(cell.row).unwrap()].clone();
                let same =
                    all.cells.insert((cell.group, row), (cell.samples.clone(), cell.stats.clone()));
                assert_eq!(same, None, "{cell:?} is there twice");
            }
        }
        all
    }
}

/// What a row has of a metric in a group.
#[derive(Debug, Clone, Default)]
struct Cell {
    count: u64,
    sum: u64,
    kept: Vec<u64>,
}

/// The parts of a window: first quarter, end, group.
fn parts(window: &Window, first_group: u32) -> Vec<(u32, u32, Option<u32>)> {
    let mut parts = Vec::new();
    let mut at = window.start.0;
    for run in &window.runs {
        for part in 0..run.parts {
            let group = run.group.map(|group| first_group + (group + part) % window.groups);
            parts.push((at, at + run.quarters, group));
            at += run.quarters;
        }
    }
    parts
}

/// What a pair has from one quarter to another by name (of the split) and code.
fn cells_of(
    pair: &PairContents,
    request: &Request,
    (from, to): (u32, u32),
) -> BTreeMap<(String, u8), Cell> {
    let is_in = |quarter: u32| from <= quarter && quarter < to;
    let mut cells: BTreeMap<(String, u8), Cell> = BTreeMap::new();
    if let Some(by) = request.split {
        for ((quarter, split, name, code), (count, sum)) in &pair.names {
            if is_in(*quarter) && *split == by.split.name() {
                let cell = cells.entry((name.clone(), *code)).or_default();
                cell.count += count;
                cell.sum += sum;
            }
        }
        for ((quarter, split, name, code, ms), count) in &pair.name_samples {
            if is_in(*quarter) && *split == by.split.name() {
                let cell = cells.entry((name.clone(), *code)).or_default();
                (0..*count).for_each(|_| cell.kept.push(*ms));
            }
        }
        return cells;
    }
    for ((quarter, code), (count, sum)) in &pair.sums {
        if is_in(*quarter) {
            let cell = cells.entry((String::new(), *code)).or_default();
            cell.count += count;
            cell.sum += sum;
        }
    }
    for ((quarter, code, ms), count) in &pair.samples {
        if is_in(*quarter) {
            let cell = cells.entry((String::new(), *code)).or_default();
            (0..*count).for_each(|_| cell.kept.push(*ms));
        }
    }
    let users = pair.users.iter().filter(|of_user| of_user.iter().any(|q| is_in(*q))).count();
    let active = u64::try_from(users).unwrap();
    let new = cells.get(&(String::new(), 0)).map_or(0, |cell| cell.count);
    for (code, number) in [(1, active - new), (2, active)] {
        if number > 0 {
            let cell = Cell { count: number, sum: number, kept: Vec::new() };
            cells.insert((String::new(), code), cell);
        }
    }
    cells
}

fn stat(stat: Stat, sorted: &[u64]) -> u64 {
    match stat {
        Stat::Percentile(percent) => {
            let rank = (sorted.len() * usize::from(percent)).div_ceil(100);
            sorted[rank - 1]
        }
        Stat::Min => sorted[0],
        Stat::Max => sorted[sorted.len() - 1],
        Stat::Within(seconds) => {
            let most = u64::from(seconds) * 1_000;
            u64::try_from(sorted.iter().filter(|ms| **ms <= most).count()).unwrap()
        }
    }
}

/// The answer to a request.
pub(super) fn answer(contents: &Contents, request: &Request) -> Expected {
    let mut expected = Expected::default();
    type Key = (Option<Bot>, Option<Channel>);
    let mut cells: BTreeMap<(u32, Key, String, TypeCode), Cell> = BTreeMap::new();
    let mut names: BTreeSet<(Key, String)> = BTreeSet::new();
    for ((account, bot, channel), pair) in &contents.pairs {
        let (bot, channel): (Bot, Channel) = (bot.parse().unwrap(), channel.parse().unwrap());
        if account != ACCOUNT || request.bots.as_ref().is_some_and(|bots| !bots.contains(&bot)) {
            continue;
        }
        let by = request.by;
        let key: Key = (by.bot.then(|| bot.clone()), by.channel.then(|| channel.clone()));
        let mut first_group = 0;
        for window in &request.windows {
            let parts = parts(window, first_group);
            first_group += window.groups;
            let end = parts.last().map_or(window.start.0, |(_, end, _)| *end);
            let is_in = |quarter: &u32| (window.start.0..end).contains(quarter);
            let has_any = pair.sums.keys().any(|(quarter, _)| is_in(quarter))
                || pair.users.iter().flatten().any(is_in);
            if has_any && by.channel && !by.bot {
                expected.pairs.insert(Pair { bot: bot.clone(), channel: channel.clone() });
            }
            for ((name, code), _) in cells_of(pair, request, (window.start.0, end)) {
                let code = TypeCode::try_from(code).unwrap();
                let lists = request.split.is_some()
                    || request.listed.contains(code)
                    || request.types.contains(code)
                    || code == TypeCode::ActiveUser;
                if lists {
                    names.insert((key.clone(), name));
                }
            }
            for (from, to, group) in parts {
                let Some(group) = group else { continue };
                for ((name, code), cell) in cells_of(pair, request, (from, to)) {
                    let code = TypeCode::try_from(code).unwrap();
                    if request.types.contains(code) {
                        let sum = cells.entry((group, key.clone(), name, code)).or_default();
                        sum.count += cell.count;
                        sum.sum += cell.sum;
                        sum.kept.extend(cell.kept);
                    }
                }
            }
        }
    }
    let kept = request.split.map(|by| {
        let mut numbers: BTreeMap<&str, u64> =
            names.iter().map(|(_, name)| (name.as_str(), 0)).collect();
        for ((_, _, name, _), cell) in &cells {
            *numbers.get_mut(name.as_str()).unwrap() += cell.count;
        }
        numbers.remove("(other)");
        let mut ranked: Vec<(&str, u64)> = numbers.into_iter().collect();
        let id = |name: &str| if name == "(none)" { String::new() } else { name.to_owned() };
        ranked.sort_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then(id(a).cmp(&id(b))));
        ranked.truncate(usize::try_from(by.top).unwrap());
        ranked.into_iter().map(|(name, _)| name.to_owned()).collect::<BTreeSet<String>>()
    });
    let row = |(bot, channel): Key, name: &str| {
        let name = match &kept {
            None => RowName::Unsplit,
            Some(kept) if !kept.contains(name) => RowName::Other,
            Some(_) if name == "(none)" => RowName::Absent,
            Some(_) => RowName::Named(name.to_owned()),
        };
        RowKey { bot, channel, name }
    };
    expected.rows = names.into_iter().map(|(key, name)| row(key, &name)).collect();
    let mut of_rows: BTreeMap<(u32, RowKey), BTreeMap<TypeCode, Cell>> = BTreeMap::new();
    for ((group, key, name, code), cell) in cells {
        let of_row = of_rows.entry((group, row(key, &name))).or_default();
        let sum = of_row.entry(code).or_default();
        sum.count += cell.count;
        sum.sum += cell.sum;
        sum.kept.extend(cell.kept);
    }
    for (at, of_row) in of_rows {
        let (mut samples, mut stats) = (Vec::new(), Vec::new());
        for (code, Cell { count, sum, mut kept }) in of_row {
            samples.push(Samples { code, count, sum });
            if code.kind().is_duration() {
                assert_eq!(u64::try_from(kept.len()).unwrap(), count);
                kept.sort_unstable();
                stats.extend(request.stats.iter().map(|asked| stat(*asked, &kept)));
            }
        }
        expected.cells.insert(at, (samples, stats));
    }
    expected
}
