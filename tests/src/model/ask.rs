//! Questions of part two and their answers, made of [`Contents`] alone.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Directory;
use super::calendar::{Dates, Grain, Group, Previous, Window, windows};
use super::contents::{Contents, DURATIONS, NONE, OTHER, PairContents, split_of};
use super::count::{Made, decimal, half_up, metric, utc};
use super::window::QUARTER_MS;

/// A question with the parameters of part two.
#[derive(Debug, Clone)]
pub struct Asked {
    pub account: String,
    /// Ids of the bots asked for; `None` is all of them.
    pub bots: Option<Vec<String>>,
    pub types: Vec<u8>,
    pub grain: Grain,
    pub dates: Dates,
    /// Whether bots, and channels, have rows of their own.
    pub by: [bool; 2],
    pub previous: Option<Previous>,
    pub stats: Vec<Stat>,
    /// `goal`, `tag`, `intent`, `integration` or `operator`.
    pub split: Option<&'static str>,
    pub top: usize,
    pub fill: bool,
    pub now_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stat {
    Percentile(u64),
    Min,
    Max,
    /// So many seconds.
    Within(u64),
}

/// A row, its columns in order.
pub type Row = Vec<(String, Value)>;

/// What one row is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Cell {
    count: u64,
    sum: u64,
    /// How many durations there are by kept milliseconds.
    kept: BTreeMap<u64, u64>,
}

impl Cell {
    fn add(&mut self, other: &Cell) {
        self.count += other.count;
        self.sum += other.sum;
        for (ms, count) in &other.kept {
            *self.kept.entry(*ms).or_default() += count;
        }
    }
}

/// Bot id and channel id, or `None` where rows are merged.
type RowKey = (Option<String>, Option<String>);
/// The name of the split; `None` without a split.
type Name = Option<String>;
/// All cells of one group.
type Cells = BTreeMap<(RowKey, Name, u8), Cell>;

impl Asked {
    /// The query parameters that ask this.
    pub fn query(&self) -> String {
        let mut query = Vec::new();
        if let Dates::FromTo(from, to) = self.dates {
            query.push(format!("from={from}&to={to}"));
        }
        match self.by {
            // The default.
            [true, true] => {}
            [true, false] => query.push("by=bot".to_owned()),
            [false, true] => query.push("by=channel".to_owned()),
            [false, false] => query.push("by=none".to_owned()),
        }
        if let Some(previous) = self.previous {
            let (_, name) = Previous::ALL.iter().find(|(of, _)| *of == previous).expect("a name");
            query.push(format!("previous={name}"));
        }
        if !self.stats.is_empty() {
            let stats: Vec<String> = self.stats.iter().map(Stat::asked).collect();
            query.push(format!("stats={}", stats.join(",")));
        }
        if let Some(split) = self.split {
            query.push(format!("split={split}&top={}", self.top));
        }
        if self.fill {
            query.push("fill=zero".to_owned());
        }
        query.join("&")
    }
}

impl Stat {
    /// As it stands in a question.
    fn asked(&self) -> String {
        match self {
            Stat::Percentile(percent) => format!("p{percent}"),
            Stat::Min => "min".to_owned(),
            Stat::Max => "max".to_owned(),
            Stat::Within(seconds) => format!("within:{seconds}"),
        }
    }

    /// The name of its column.
    pub fn column(self) -> String {
        match self {
            Stat::Percentile(percent) => format!("P{percent}"),
            Stat::Min => "Min".to_owned(),
            Stat::Max => "Max".to_owned(),
            Stat::Within(seconds) => format!("Within{seconds}"),
        }
    }

    fn value(self, kept: &BTreeMap<u64, u64>) -> Value {
        let all: Vec<u64> = kept.iter().flat_map(|(ms, count)| (0..*count).map(|_| *ms)).collect();
        let number = u64::try_from(all.len()).expect("a number of samples");
        let (Some(first), Some(last)) = (all.first(), all.last()) else { return Value::Null };
        match self {
            Stat::Percentile(percent) => {
                let rank = (percent * number).div_ceil(100);
                decimal(all[usize::try_from(rank).expect("a rank") - 1], 1_000)
            }
            Stat::Min => decimal(*first, 1_000),
            Stat::Max => decimal(*last, 1_000),
            Stat::Within(seconds) => {
                let within = all.iter().filter(|ms| **ms <= seconds * 1_000).count();
                let within = u64::try_from(within).expect("a number of samples");
                decimal(half_up(within * 10_000, number), 100)
            }
        }
    }
}

/// Quarters of UTC that a stretch of time is made of, `[from, to)`.
fn quarters((from_ms, to_ms): (i64, i64)) -> (u32, u32) {
    let quarter = |ms: i64| u32::try_from(ms.div_euclid(QUARTER_MS).max(0)).expect("our age");
    (quarter(from_ms), quarter(to_ms))
}

/// Whether the pair has anything in that time.
fn has_sample(pair: &PairContents, span: (i64, i64)) -> bool {
    let (from, to) = quarters(span);
    pair.sums.range((from, 0)..(to, 0)).next().is_some()
        || pair.users.iter().flatten().any(|quarter| (from..to).contains(quarter))
}

/// What a pair has in one stretch of time by code, all codes.
fn plain_cells(pair: &PairContents, span: (i64, i64)) -> BTreeMap<u8, Cell> {
    let (from, to) = quarters(span);
    let mut cells: BTreeMap<u8, Cell> = BTreeMap::new();
    for ((_, code), (count, sum)) in pair.sums.range((from, 0)..(to, 0)) {
        let cell = cells.entry(*code).or_default();
        cell.count += count;
        cell.sum += sum;
    }
    for ((_, code, ms), count) in pair.samples.range((from, 0, 0)..(to, 0, 0)) {
        *cells.entry(*code).or_default().kept.entry(*ms).or_default() += count;
    }
    let is_active = |user: &&Vec<u32>| user.iter().any(|quarter| (from..to).contains(quarter));
    let active = pair.users.iter().filter(is_active).count();
    let active = u64::try_from(active).expect("a number of users");
    let new = cells.get(&0).map_or(0, |cell| cell.count);
    for (code, number) in [(1, active - new), (2, active)] {
        if number > 0 {
            cells.insert(code, Cell { count: number, sum: number, kept: BTreeMap::new() });
        }
    }
    cells
}

/// What a pair has in one stretch of time by name and code of the split.
fn split_cells(pair: &PairContents, split: &str, span: (i64, i64)) -> BTreeMap<(String, u8), Cell> {
    let (from, to) = quarters(span);
    let mut cells: BTreeMap<(String, u8), Cell> = BTreeMap::new();
    let names = pair.names.range((from, "", String::new(), 0)..(to, "", String::new(), 0));
    for ((_, _, name, code), (count, sum)) in names.filter(|((_, of, ..), _)| *of == split) {
        let cell = cells.entry((name.clone(), *code)).or_default();
        cell.count += count;
        cell.sum += sum;
    }
    let none = String::new;
    let samples = pair.name_samples.range((from, "", none(), 0, 0)..(to, "", none(), 0, 0));
    for ((_, _, name, code, ms), count) in samples.filter(|((_, of, ..), _)| *of == split) {
        let cell = cells.entry((name.clone(), *code)).or_default();
        *cell.kept.entry(*ms).or_default() += count;
    }
    cells
}

/// The rows that answer the question, in order, with part two's rule for `fill`. `operators` has
/// the display names.
pub fn answer(
    contents: &Contents,
    asked: &Asked,
    directory: &Directory,
    operators: &BTreeMap<String, String>,
) -> Vec<Row> {
    let zone = jiff::tz::db().get(&directory.timezone).expect("a zone of the database");
    let (current, earlier) = windows(&zone, asked.grain, asked.dates, asked.previous, asked.now_ms);
    let windows: Vec<&Window> = [Some(&current), earlier.as_ref()].into_iter().flatten().collect();

    let asks_for = |bot: &String| asked.bots.as_ref().is_none_or(|bots| bots.contains(bot));
    let mut pairs: Vec<(&str, &str, &PairContents)> = Vec::new();
    for ((account, bot, channel), pair) in &contents.pairs {
        let counts = windows.iter().any(|window| has_sample(pair, window.span));
        if *account == asked.account && asks_for(bot) && counts {
            pairs.push((bot, channel, pair));
        }
    }
    let key_of = |bot: &str, channel: &str| -> RowKey {
        let [by_bot, by_channel] = asked.by;
        (by_bot.then(|| bot.to_owned()), by_channel.then(|| channel.to_owned()))
    };

    // For each window and group everything that it has, of all codes of the split or of all codes.
    let mut cells: Vec<Vec<Cells>> = Vec::new();
    let mut keys: BTreeSet<(RowKey, Name)> = BTreeSet::new();
    for window in &windows {
        let in_span = |span: (i64, i64)| {
            let mut cells = Cells::new();
            for (bot, channel, pair) in &pairs {
                let key = key_of(bot, channel);
                match asked.split {
                    None => {
                        for (code, cell) in plain_cells(pair, span) {
                            cells.entry((key.clone(), None, code)).or_default().add(&cell);
                        }
                    }
                    Some(split) => {
                        for ((name, code), cell) in split_cells(pair, split, span) {
                            let key = (key.clone(), Some(name), code);
                            cells.entry(key).or_default().add(&cell);
                        }
                    }
                }
            }
            cells
        };
        keys.extend(in_span(window.span).into_keys().map(|(key, name, _)| (key, name)));
        let of_group = |group: &Group| {
            let mut all = Cells::new();
            for span in &group.spans {
                for (key, cell) in in_span(*span) {
                    all.entry(key).or_default().add(&cell);
                }
            }
            all
        };
        cells.push(window.groups.iter().map(of_group).collect());
    }

    if asked.split.is_some() {
        let kept = top_names(asked, &cells, &keys);
        let after = |name: Name| name.map(|n| if kept.contains(&n) { n } else { OTHER.to_owned() });
        for group in cells.iter_mut().flatten() {
            for ((key, name, code), cell) in std::mem::take(group) {
                group.entry((key, after(name), code)).or_default().add(&cell);
            }
        }
        keys = keys.into_iter().map(|(key, name)| (key, after(name))).collect();
    }

    let names = Names { asked, directory, operators, pairs: &pairs };
    let mut types = asked.types.clone();
    types.sort_unstable();
    types.dedup();
    let mut rows = Vec::new();
    for (period, (window, cells)) in windows.iter().zip(&cells).enumerate() {
        for (place, (group, cells)) in window.groups.iter().zip(cells).enumerate() {
            for (key, name) in &keys {
                for code in &types {
                    let cell = cells.get(&(key.clone(), name.clone(), *code));
                    let cell = cell.cloned().unwrap_or_default();
                    let Some(shown) = shown(asked, group, *code, &cell) else { continue };
                    let order = (period, place, names.order(key, name.as_deref()), *code);
                    rows.push((order, names.row(period, group, key, name, *code, &cell, shown)));
                }
            }
        }
    }
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    rows.into_iter().map(|(_, row)| row).collect()
}

/// The names that keep rows of their own.
fn top_names(
    asked: &Asked,
    cells: &[Vec<Cells>],
    keys: &BTreeSet<(RowKey, Name)>,
) -> BTreeSet<String> {
    let mut numbers: BTreeMap<&str, u64> = BTreeMap::new();
    for name in keys.iter().filter_map(|(_, name)| name.as_deref()) {
        numbers.insert(name, 0);
    }
    for ((_, name, code), cell) in cells.iter().flatten().flatten() {
        if let Some(name) = name
            && asked.types.contains(code)
        {
            // The sum of a count is its count.
            *numbers.entry(name).or_default() += cell.count;
        }
    }
    numbers.remove(OTHER);
    let id = |name: &str| if name == NONE { String::new() } else { name.to_owned() };
    let mut ranked: Vec<(&str, u64)> = numbers.into_iter().collect();
    ranked.sort_by_key(|(name, number)| (std::cmp::Reverse(*number), id(name)));
    ranked.into_iter().take(asked.top).map(|(name, _)| name.to_owned()).collect()
}

/// Value, count and sum as they stand in a row, if there is one.
fn shown(asked: &Asked, group: &Group, code: u8, cell: &Cell) -> Option<[Value; 3]> {
    let (_, made) = metric(code);
    let Cell { count, sum, .. } = *cell;
    if asked.grain == Grain::WeekHour && matches!(made, Made::Users | Made::Count) {
        let occurrences = u64::try_from(group.spans.len()).expect("a number of hours");
        let value = match occurrences {
            0 => Value::Null,
            _ => decimal(half_up(sum * 100, occurrences), 100),
        };
        let is_row = sum > 0 || asked.fill;
        return is_row.then(|| [value, occurrences.into(), sum.into()]);
    }
    let value = match made {
        Made::Users | Made::Count => count.into(),
        _ if count == 0 => Value::Null,
        Made::Mean => decimal(half_up(sum, count), 1_000),
        Made::MeanCount => decimal(half_up(sum * 1_000, count), 1_000),
        Made::Ratio => decimal(half_up(sum * 10_000, count), 100),
    };
    let sum = if made == Made::Mean { decimal(sum, 1_000) } else { sum.into() };
    (count > 0 || asked.fill).then(|| [value, count.into(), sum])
}

/// What rows are called.
struct Names<'a> {
    asked: &'a Asked,
    directory: &'a Directory,
    operators: &'a BTreeMap<String, String>,
    /// Bot, channel: those with a sample in either window.
    pairs: &'a [(&'a str, &'a str, &'a PairContents)],
}

impl Names<'_> {
    fn bot(&self, (bot, _): &RowKey) -> Option<String> {
        bot.as_ref().map(|bot| self.directory.bots.get(bot).unwrap_or(bot).clone())
    }

    fn channel(&self, (bot, channel): &RowKey) -> Option<String> {
        let channel = channel.as_ref()?;
        let of = self
            .pairs
            .iter()
            .filter(|(b, c, _)| c == channel && bot.as_ref().is_none_or(|bot| b == bot));
        let named = of.filter_map(|(bot, channel, _)| {
            self.directory.channels.get(&((*bot).to_owned(), (*channel).to_owned()))
        });
        Some(named.min().unwrap_or(channel).clone())
    }

    fn split_name(&self, name: &str) -> String {
        match self.operators.get(name) {
            Some(shown) if self.asked.split == Some("operator") => shown.clone(),
            _ => name.to_owned(),
        }
    }

    fn order(&self, key: &RowKey, name: Option<&str>) -> [String; 6] {
        let name = name.unwrap_or_default();
        [
            self.bot(key).unwrap_or_default(),
            key.0.clone().unwrap_or_default(),
            self.channel(key).unwrap_or_default(),
            key.1.clone().unwrap_or_default(),
            self.split_name(name),
            split_id(name).unwrap_or_default().to_owned(),
        ]
    }

    #[expect(clippy::too_many_arguments, reason = "everything that a row says")]
    fn row(
        &self,
        period: usize,
        group: &Group,
        key: &RowKey,
        name: &Name,
        code: u8,
        cell: &Cell,
        [value, count, sum]: [Value; 3],
    ) -> Row {
        let asked = self.asked;
        let (label, made) = metric(code);
        let mut row = Row::new();
        let mut put = |column: &str, value: Value| row.push((column.to_owned(), value));
        if asked.previous.is_some() {
            put("Period", ["current", "previous"][period].into());
        }
        put("GroupLabel", group.label.clone().into());
        put("BotName", self.bot(key).into());
        put("ChannelName", self.channel(key).into());
        if let Some(name) = name {
            put("SplitBy", asked.split.into());
            put("SplitName", self.split_name(name).into());
        }
        put("EventLabel", label.into());
        put("EventType", code.into());
        put("Value", value);
        put("Count", count);
        put("Sum", sum);
        put("Unit", made.unit().into());
        for stat in &asked.stats {
            let is_duration = DURATIONS.contains(&code);
            let value = if is_duration { stat.value(&cell.kept) } else { Value::Null };
            put(&stat.column(), value);
        }
        put("BotId", key.0.clone().into());
        put("ChannelId", key.1.clone().into());
        if let Some(name) = name {
            put("SplitId", json!(split_id(name)));
        }
        put("GroupStart", group.start_ms.map(utc).into());
        put("Complete", group.complete.into());
        row
    }
}

fn split_id(name: &str) -> Option<&str> {
    (![NONE, OTHER].contains(&name)).then_some(name)
}

/// The codes that a split has.
pub fn codes_of(split: &str) -> Vec<u8> {
    let all = 0..=u8::MAX;
    all.filter(|code| split_of(*code).is_some_and(|(of, _)| of == split)).collect()
}
