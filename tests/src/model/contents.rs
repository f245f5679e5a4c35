//! Everything that answers are made of: sums, users, samples and names, in quarters of an hour.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;

use xxhash_rust::xxh3::xxh3_64;

use super::{DayFacts, Facts, Pair, QUARTERS_PER_DAY, Sample, UserFacts, quarter_of};

/// How many names of goals, tags, intents and integrations a pair keeps each for a UTC day.
pub const MAX_NAMES: usize = 4_096;
const MAX_NAME_BYTES: usize = 128;
/// The codes whose durations are kept one by one.
pub(super) const DURATIONS: [u8; 7] = [8, 9, 11, 16, 105, 106, 107];
/// Who did not say a name.
pub(super) const NONE: &str = "(none)";
/// Names that have no count of their own.
pub(super) const OTHER: &str = "(other)";

/// What is known of every (account, bot, channel) of which anything is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    pub pairs: BTreeMap<(String, String, String), PairContents>,
}

/// What is known of one (bot, channel). Quarters are those of UTC, counted from 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairContents {
    /// Count and sum by quarter and code, of all codes but the users' 1 and 2. The sum of a mean
    /// is in milliseconds (that of 104 in messages).
    pub sums: BTreeMap<(u32, u8), (u64, u64)>,
    /// The active quarters, ascending, of each user of each generation; in the order of the lists.
    pub users: Vec<Vec<u32>>,
    /// How many durations there are by quarter, code and kept milliseconds.
    pub samples: BTreeMap<(u32, u8, u64), u64>,
    /// Count and sum by quarter, split, name and code.
    pub names: BTreeMap<(u32, &'static str, String, u8), (u64, u64)>,
    /// How many durations there are by quarter, split, name, code and kept milliseconds.
    pub name_samples: BTreeMap<(u32, &'static str, String, u8, u64), u64>,
}

/// Everything that rows can be split by.
pub const SPLITS: [&str; 5] = ["goal", "tag", "intent", "integration", "operator"];

/// The split that a code can have, and the field of the data that has the name.
pub(super) fn split_of(code: u8) -> Option<(&'static str, &'static str)> {
    match code {
        12 => Some(("goal", "goal")),
        18 => Some(("tag", "tag")),
        6 | 7 => Some(("intent", "intent")),
        4 | 14 | 15 | 107 => Some(("integration", "name")),
        9 | 11 | 16 | 17 | 106 => Some(("operator", "operatorid")),
        _ => None,
    }
}

/// A duration to three significant digits, half up.
pub(super) fn kept_ms(ms: u64) -> u64 {
    let mut unit = 1;
    while ms / unit >= 1_000 {
        unit *= 10;
    }
    (2 * ms + unit) / (2 * unit) * unit
}

/// The name under which a name counts, as long as it is not pushed out.
fn shown(name: Option<&str>) -> &str {
    let name = name.unwrap_or_default();
    let mut end = name.len().min(MAX_NAME_BYTES);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    if end == 0 { NONE } else { &name[..end] }
}

impl Contents {
    pub(super) fn of(accounts: &HashMap<String, BTreeMap<Pair, Facts>>, max_names: usize) -> Self {
        let mut contents = Self::default();
        for (account, pairs) in accounts {
            for ((bot, channel), facts) in pairs {
                let pair = PairContents::of(facts, max_names);
                if pair != PairContents::default() {
                    contents.pairs.insert((account.clone(), bot.clone(), channel.clone()), pair);
                }
            }
        }
        contents
    }

    /// What is left of it if nothing is known of the time before that UTC day (since 1970).
    pub fn from_day(mut self, day: u32) -> Self {
        let first = day * QUARTERS_PER_DAY;
        for pair in self.pairs.values_mut() {
            pair.sums.retain(|key, _| key.0 >= first);
            pair.samples.retain(|key, _| key.0 >= first);
            pair.names.retain(|key, _| key.0 >= first);
            pair.name_samples.retain(|key, _| key.0 >= first);
            for quarters in &mut pair.users {
                quarters.retain(|quarter| *quarter >= first);
            }
            pair.users.retain(|quarters| !quarters.is_empty());
            pair.users.sort();
        }
        self.pairs.retain(|_, pair| *pair != PairContents::default());
        self
    }
}

impl Contents {
    /// The first thing that differs, in words; `None` if they are equal.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let pairs: BTreeSet<_> = self.pairs.keys().chain(other.pairs.keys()).collect();
        let empty = PairContents::default();
        pairs.into_iter().find_map(|pair| {
            let [here, there] = [self, other].map(|of| of.pairs.get(pair).unwrap_or(&empty));
            let found = first_entry("sums", &here.sums, &there.sums)
                .or_else(|| first_entry("samples", &here.samples, &there.samples))
                .or_else(|| first_entry("names", &here.names, &there.names))
                .or_else(|| first_entry("name_samples", &here.name_samples, &there.name_samples))
                .or_else(|| first_entry("users", &times(&here.users), &times(&there.users)));
            found.map(|found| format!("{pair:?}: {found}"))
        })
    }
}

/// How often each list of quarters is there.
fn times(users: &[Vec<u32>]) -> BTreeMap<&[u32], usize> {
    let mut times = BTreeMap::new();
    for user in users {
        *times.entry(&user[..]).or_default() += 1;
    }
    times
}

fn first_entry<K: Ord + Debug, V: PartialEq + Debug>(
    what: &str,
    here: &BTreeMap<K, V>,
    there: &BTreeMap<K, V>,
) -> Option<String> {
    let keys: BTreeSet<&K> = here.keys().chain(there.keys()).collect();
    let key = keys.into_iter().find(|key| here.get(key) != there.get(key))?;
    Some(format!("{what} {key:?}: {:?}, not {:?}", here.get(key), there.get(key)))
}

impl PairContents {
    fn of(facts: &Facts, max_names: usize) -> Self {
        let mut contents = Self::default();
        for day in facts.days.values() {
            let kept = kept_names(day, max_names);
            for sample in samples_of(day) {
                contents.add(sample, &kept);
            }
        }
        for user in facts.users.values() {
            contents.add_user(user);
        }
        contents.users.sort();
        contents
    }

    fn add(&mut self, sample: &Sample, kept: &BTreeSet<(&str, &str)>) {
        let Sample { time_ms, code, count, sum, name } = sample;
        let quarter = quarter(quarter_of(*time_ms));
        add(self.sums.entry((quarter, *code)).or_default(), *count, *sum);
        let kept_ms = DURATIONS.contains(code).then(|| kept_ms(*sum));
        if let Some(ms) = kept_ms {
            *self.samples.entry((quarter, *code, ms)).or_default() += count;
        }
        let Some((split, _)) = split_of(*code) else { return };
        let name = shown(name.as_deref());
        let name = if name == NONE || kept.contains(&(split, name)) { name } else { OTHER };
        let key = (quarter, split, name.to_owned(), *code);
        add(self.names.entry(key).or_default(), *count, *sum);
        if let Some(ms) = kept_ms {
            let key = (quarter, split, name.to_owned(), *code, ms);
            *self.name_samples.entry(key).or_default() += count;
        }
    }

    fn add_user(&mut self, user: &UserFacts) {
        let mut generations: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for active in &user.active {
            let generation = user.generation(*active);
            generations.entry(generation).or_default().push(quarter(*active));
        }
        for quarters in generations.into_values() {
            add(self.sums.entry((quarters[0], 0)).or_default(), 1, 1);
            self.users.push(quarters);
        }
    }
}

fn quarter(number: i64) -> u32 {
    number.try_into().expect("a quarter from 1970 on")
}

fn add((count, sum): &mut (u64, u64), more: u64, more_sum: u64) {
    *count += more;
    *sum += more_sum;
}

fn samples_of(day: &DayFacts) -> impl Iterator<Item = &Sample> {
    day.samples.iter().chain(day.sessions.values().flatten())
}

/// The splits and names that count by themselves on one UTC day.
fn kept_names(day: &DayFacts, max_names: usize) -> BTreeSet<(&str, &str)> {
    let mut names: BTreeMap<&str, BTreeSet<(u64, &str)>> = BTreeMap::new();
    for sample in samples_of(day) {
        let name = shown(sample.name.as_deref());
        if let Some((split, _)) = split_of(sample.code)
            && ![NONE, OTHER].contains(&name)
        {
            names.entry(split).or_default().insert((xxh3_64(name.as_bytes()), name));
        }
    }
    let mut kept = BTreeSet::new();
    for (split, by_hash) in names {
        let most = if split == "operator" { usize::MAX } else { max_names };
        kept.extend(by_hash.into_iter().take(most).map(|(_, name)| (split, name)));
    }
    kept
}
