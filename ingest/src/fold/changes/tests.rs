//! The table after commits, against sums over the same changes in maps.

use std::collections::{BTreeMap, BTreeSet};

use botstats_common::metric::TypeCode;
use botstats_common::quarter::{QUARTER_MS, QUARTERS_PER_DAY};
use proptest::prelude::*;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase as _, TableDefinition};
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::event::flag;
use crate::fold::bucket_key::SHAPE;
use crate::fold::metrics::Field;
use crate::fold::metrics::Source;
use crate::fold::value_code::value_of;
use crate::store::contents::{Contents, PairContents, contents};
use crate::store::packed::Packed;

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("buckets");
const DAY: u32 = 20_000;

/// A store of buckets alone.
struct Buckets {
    database: Database,
    changes: Changes,
    names: Names,
    max_names: usize,
    whole_from_day: u32,
}

impl Buckets {
    fn new(max_names: usize) -> Self {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(TABLE).unwrap();
        write.commit().unwrap();
        let (changes, names) = (Changes::default(), Names::default());
        Self { database, changes, names, max_names, whole_from_day: 0 }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let write = self.database.begin_write().unwrap();
        {
            let mut table = Packed::new(write.open_table(TABLE).unwrap(), SHAPE);
            self.changes.apply(&self.names, self.max_names, &mut table, self.whole_from_day)?;
        }
        write.commit().unwrap();
        self.names.clear();
        Ok(())
    }

    fn contents(&self) -> Contents {
        let read = self.database.begin_read().unwrap();
        let table = Packed::new(read.open_table(TABLE).unwrap(), SHAPE);
        contents(&table, |pair| Some((String::new(), String::new(), pair.to_string()))).unwrap()
    }

    fn add(&mut self, change: &Change) {
        let numbers = |pair| PairNumbers { account: pair / 2, pair };
        match change {
            Change::Event { pair, quarter, kind, flags, name, duration_ms } => {
                let name = self.names.id(name.as_deref());
                let time_ms = i64::from(*quarter) * QUARTER_MS + 5;
                let (kind, flags) = (*kind, *flags);
                self.changes.counted(numbers(*pair), time_ms, kind, flags, name, *duration_ms);
            }
            Change::Sample { pair, quarter, metric, value, operator, sign } => {
                let operator = self.names.id(operator.as_deref());
                let sample = Sample {
                    operator,
                    sign: *sign,
                    ..Sample::new(i64::from(*quarter) * QUARTER_MS, *metric, *value)
                };
                self.changes.sample(numbers(*pair), sample);
            }
            Change::User { pair, quarter, ordinal, adds: true } => {
                self.changes.user(numbers(*pair), *quarter, *ordinal);
            }
            Change::User { pair, quarter, ordinal, adds: false } => {
                self.changes.not_user(numbers(*pair), *quarter, *ordinal);
            }
            Change::NewUser { pair, quarter, sign } => {
                self.changes.new_user(numbers(*pair), *quarter, *sign);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Change {
    Event {
        pair: u32,
        quarter: u32,
        kind: Kind,
        flags: u8,
        name: Option<String>,
        duration_ms: Option<u32>,
    },
    Sample {
        pair: u32,
        quarter: u32,
        metric: TypeCode,
        value: i64,
        operator: Option<String>,
        sign: i64,
    },
    User {
        pair: u32,
        quarter: u32,
        ordinal: u32,
        adds: bool,
    },
    NewUser {
        pair: u32,
        quarter: u32,
        sign: i64,
    },
}

impl Change {
    fn taken_back(&self) -> Option<Self> {
        let mut back = self.clone();
        match &mut back {
            Change::Sample { sign, .. } | Change::NewUser { sign, .. } => *sign = -*sign,
            // Events are never taken back.
            Change::Event { .. } => return None,
            Change::User { adds, .. } => *adds = false,
        }
        Some(back)
    }
}

/// All samples by the metric's code, as `docs/metrics.md` counts them.
#[derive(Default)]
struct Naive {
    pairs: BTreeMap<u32, NaivePair>,
}

#[derive(Default)]
struct NaivePair {
    samples: BTreeMap<(u32, TypeCode, i64), i64>,
    named: BTreeMap<(u32, Split, Option<String>, TypeCode, i64), i64>,
    users: BTreeMap<u32, BTreeSet<u32>>,
}

impl Naive {
    fn add(&mut self, change: &Change) {
        match change {
            Change::Event { pair, quarter, kind, flags, name, duration_ms } => {
                let of_pair = self.pairs.entry(*pair).or_default();
                for (code, value) in counted(*kind, *flags, *duration_ms) {
                    *of_pair.samples.entry((*quarter, code, value)).or_default() += 1;
                    if let Some(split) = Split::of(code) {
                        let key = (*quarter, split, name.clone(), code, value);
                        *of_pair.named.entry(key).or_default() += 1;
                    }
                }
            }
            Change::Sample { pair, quarter, metric, value, operator, sign } => {
                let of_pair = self.pairs.entry(*pair).or_default();
                *of_pair.samples.entry((*quarter, *metric, *value)).or_default() += sign;
                if let Some(split) = Split::of(*metric) {
                    let key = (*quarter, split, operator.clone(), *metric, *value);
                    *of_pair.named.entry(key).or_default() += sign;
                }
            }
            Change::User { pair, quarter, ordinal, adds } => {
                let users = &mut self.pairs.entry(*pair).or_default().users;
                let quarters = users.entry(*ordinal).or_default();
                if *adds {
                    quarters.insert(*quarter);
                } else {
                    quarters.remove(quarter);
                }
            }
            Change::NewUser { pair, quarter, sign } => {
                let of_pair = self.pairs.entry(*pair).or_default();
                *of_pair.samples.entry((*quarter, TypeCode::NewUser, 1)).or_default() += sign;
            }
        }
    }

    fn contents(self, max_names: usize) -> Contents {
        let mut contents = Contents::default();
        for (pair, naive) in self.pairs {
            let found = naive.contents(max_names);
            if found != PairContents::default() {
                contents.pairs.insert((String::new(), String::new(), pair.to_string()), found);
            }
        }
        contents
    }
}

impl NaivePair {
    fn contents(self, max_names: usize) -> PairContents {
        let mut found = PairContents::default();
        let mut fields: BTreeMap<(u32, usize), u64> = BTreeMap::new();
        for ((quarter, code, value), n) in self.samples.into_iter().filter(|(_, n)| *n != 0) {
            let (n, value) = (u64::try_from(n).unwrap(), u64::try_from(value).unwrap());
            match source(code) {
                Source::Count(count) => *fields.entry((quarter, count as usize)).or_default() += n,
                Source::SumOf { sum, .. } => {
                    *fields.entry((quarter, sum as usize)).or_default() += n * value
                }
                Source::Pair { count, sum } => {
                    *fields.entry((quarter, count as usize)).or_default() += n;
                    *fields.entry((quarter, sum as usize)).or_default() += n * value;
                }
                Source::Active | Source::ActiveBut(_) => {}
            }
            if crate::fold::body::sampled(code).is_some() {
                let key = (quarter, code.number(), value_of(code_of(value)));
                *found.samples.entry(key).or_default() += n;
            }
        }
        let quarters: BTreeSet<u32> = fields.keys().map(|(quarter, _)| *quarter).collect();
        for quarter in quarters {
            let get = |field: Field| fields.get(&(quarter, field as usize)).copied().unwrap_or(0);
            for code in TypeCode::ALL {
                let (count, sum) = match source(code) {
                    Source::Count(count) => (get(count), get(count)),
                    Source::Pair { count, sum } | Source::SumOf { counted: count, sum } => {
                        (get(count), get(sum))
                    }
                    Source::Active | Source::ActiveBut(_) => continue,
                };
                if count != 0 {
                    found.sums.insert((quarter, code.number()), (count, sum));
                }
            }
        }
        // The smallest names of each day and split.
        let mut of_day: BTreeMap<(u32, Split), BTreeSet<(u64, String)>> = BTreeMap::new();
        let is_text = |name: &String| !["", "(none)", "(other)"].contains(&name.as_str());
        for (quarter, split, name, _, _) in self.named.keys() {
            if let Some(name) = name.clone().filter(is_text) {
                let all = of_day.entry((quarter / QUARTERS_PER_DAY, *split)).or_default();
                all.insert((xxh3_64(name.as_bytes()), name));
            }
        }
        for ((quarter, split, name, code, value), n) in self.named.into_iter().filter(|c| c.1 != 0)
        {
            let shown = match name {
                None => "(none)".to_owned(),
                Some(name) if name.is_empty() => "(none)".to_owned(),
                Some(name) if !is_text(&name) => name,
                Some(name) => {
                    let all = &of_day[&(quarter / QUARTERS_PER_DAY, split)];
                    let limit = if split == Split::Operator { usize::MAX } else { max_names };
                    let is_kept = all.iter().take(limit).any(|(_, kept)| *kept == name);
                    if is_kept { name } else { "(other)".to_owned() }
                }
            };
            let (n, value) = (u64::try_from(n).unwrap(), u64::try_from(value).unwrap());
            let key = (quarter, split.name(), shown.clone(), code.number());
            let sums = found.names.entry(key).or_default();
            sums.0 += n;
            sums.1 += n * value;
            if crate::fold::body::sampled(code).is_some() {
                let value = value_of(code_of(value));
                let key = (quarter, split.name(), shown, code.number(), value);
                *found.name_samples.entry(key).or_default() += n;
            }
        }
        let quarters = |set: BTreeSet<u32>| set.into_iter().collect::<Vec<u32>>();
        found.users = self.users.into_values().map(quarters).filter(|q| !q.is_empty()).collect();
        found.users.sort_unstable();
        found
    }
}

fn change() -> impl Strategy<Value = Change> {
    let pair = || 0..4_u32;
    let quarter =
        || (0..3_u32, 0..96_u32).prop_map(|(day, n)| (DAY + day / 2) * 96 + n / (day + 1));
    let name = || {
        prop_oneof![
            1 => Just(None),
            1 => prop::sample::select(vec!["", "(none)", "(other)"]).prop_map(|s| Some(s.into())),
            8 => (0..9_u8).prop_map(|n| Some(format!("name {n}"))),
        ]
    };
    let kinds = vec![
        (Kind::Received, 0),
        (Kind::Sent, flag::FALLBACK),
        (Kind::Goal, 0),
        (Kind::Tag, 0),
        (Kind::Nlp, 0),
        (Kind::Nlp, flag::DETECTED),
        (Kind::Integration, flag::API | flag::FAILED),
        (Kind::OperatorMessage, 0),
        (Kind::Feedback, flag::SATISFIED),
    ];
    let duration = prop_oneof![Just(None), (0..2_000_u32).prop_map(Some)];
    let event = (pair(), quarter(), prop::sample::select(kinds), name(), duration);
    let metrics = vec![
        TypeCode::ConversationLength,
        TypeCode::TimeToPickUp,
        TypeCode::SupportLength,
        TypeCode::TakeoverRate,
        TypeCode::Conversations,
        TypeCode::BotReplyTime,
        TypeCode::OperatorReplyTime,
    ];
    let sample = (
        pair(),
        quarter(),
        prop::sample::select(metrics),
        prop_oneof![0..5_i64, 0..90_000_i64],
        name(),
    );
    prop_oneof![
        event.prop_map(|(pair, quarter, (kind, flags), name, duration_ms)| {
            Change::Event { pair, quarter, kind, flags, name, duration_ms }
        }),
        sample.prop_map(|(pair, quarter, metric, value, operator)| {
            let value = if metric == TypeCode::TakeoverRate { value % 2 } else { value };
            let value = if metric == TypeCode::Conversations { 1 } else { value };
            Change::Sample { pair, quarter, metric, value, operator, sign: 1 }
        }),
        (pair(), quarter(), 0..6_u32).prop_map(|(pair, quarter, ordinal)| Change::User {
            pair,
            quarter,
            ordinal,
            adds: true
        }),
        (pair(), quarter()).prop_map(|(pair, quarter)| Change::NewUser { pair, quarter, sign: 1 }),
    ]
}

/// Changes, and those taken back of some of them.
fn history() -> impl Strategy<Value = Vec<Change>> {
    let back = prop::collection::vec(prop::bool::weighted(0.3), 0..120);
    (prop::collection::vec(change(), 0..120), back).prop_map(|(mut changes, back)| {
        let back: Vec<Change> = changes
            .iter()
            .zip(back)
            .filter_map(|(change, is_back)| change.taken_back().filter(|_| is_back))
            .collect();
        changes.extend(back);
        changes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn commits_as_maps(
        history in history(),
        sizes in prop::collection::vec(1..40_usize, 1..8),
        max_names in 1..6_usize,
    ) {
        let mut naive = Naive::default();
        history.iter().for_each(|change| naive.add(change));
        let expect = naive.contents(max_names);
        for sizes in [sizes, vec![usize::MAX]] {
            let mut buckets = Buckets::new(max_names);
            let mut sizes = sizes.into_iter().cycle();
            let mut rest = &history[..];
            while !rest.is_empty() {
                let (batch, others) = rest.split_at(sizes.next().unwrap().min(rest.len()));
                rest = others;
                batch.iter().for_each(|change| buckets.add(change));
                buckets.commit().unwrap();
            }
            prop_assert_eq!(&buckets.contents(), &expect);
        }
    }

    /// Names in an order that evicts most of them, in few hours and many blocks.
    #[test]
    fn evictions_in_any_order(
        names in prop::collection::vec((0..40_u32, 0..24_u32, any::<bool>()), 1..150),
        size in 1..30_usize,
        max_names in 2..5_usize,
    ) {
        let mut naive = Naive::default();
        let mut buckets = Buckets::new(max_names);
        for batch in names.chunks(size) {
            for &(name, hour, is_api) in batch {
                let change = Change::Event {
                    pair: 3,
                    quarter: DAY * 96 + hour * 4 + 1,
                    kind: if is_api { Kind::Integration } else { Kind::Tag },
                    flags: flag::API,
                    name: Some(format!("{name:0100}")),
                    duration_ms: Some(name),
                };
                naive.add(&change);
                buckets.add(&change);
            }
            buckets.commit().unwrap();
        }
        prop_assert_eq!(buckets.contents(), naive.contents(max_names));
    }
}

/// Enough users that a pair's hours and its names stand in different blocks.
#[test]
fn a_day_of_many_blocks() {
    let (mut naive, mut buckets) = (Naive::default(), Buckets::new(2));
    for batch in 0..12_u32 {
        for n in 0..4_000_u32 {
            let quarter = DAY * 96 + (n * 7 + batch) % 96;
            let user = Change::User { pair: n % 3, quarter, ordinal: n * 31 % 3_000, adds: true };
            naive.add(&user);
            buckets.add(&user);
        }
        for n in 0..24 {
            let goal = Change::Event {
                pair: n % 3,
                quarter: DAY * 96 + n * 4,
                kind: Kind::Goal,
                flags: 0,
                name: Some(format!("goal {}", (n * 5 + batch * 7) % 60)),
                duration_ms: None,
            };
            naive.add(&goal);
            buckets.add(&goal);
        }
        buckets.commit().unwrap();
    }
    assert!(buckets.contents() == naive.contents(2));
    let read = buckets.database.begin_read().unwrap();
    let rows = redb::ReadableTableMetadata::len(&read.open_table(TABLE).unwrap()).unwrap();
    assert!(rows > 6, "{rows} blocks");
}

#[test]
fn days_that_are_deleted_or_not_whole() {
    let numbers = PairNumbers { account: 0, pair: 0 };
    let quarter = DAY * 96;
    let mut buckets = Buckets::new(2);
    buckets.changes.clear(DAY);
    buckets.changes.new_user(numbers, quarter - 1, 1);
    buckets.changes.user(numbers, quarter - 1, 1);
    buckets.commit().unwrap();
    assert_eq!(buckets.contents(), Contents::default());
    buckets.changes.new_user(numbers, quarter, -1);
    buckets.whole_from_day = DAY + 1;
    buckets.commit().unwrap();
    assert_eq!(buckets.contents(), Contents::default());
    buckets.whole_from_day = DAY;
    buckets.changes.new_user(numbers, quarter, -1);
    let error = buckets.commit().unwrap_err();
    assert!(error.to_string().contains("negative"), "{error}");
    // Nothing of it is left for the next commit.
    buckets.changes.clear(DAY);
    buckets.commit().unwrap();
    assert_eq!(buckets.contents(), Contents::default());
}
