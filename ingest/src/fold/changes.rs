//! What a commit changes in the buckets.
//!
//! *Why* flat lists: a commit has some ten changes an event in as many buckets as there are events.
//! Changes that follow one another and belong to one hour are a *run* ([`Runs`]); only the runs are
//! sorted. Those that have a name are sorted once more, a day of a pair at a time.

mod runs;

use botstats_common::metric::TypeCode;
use botstats_common::quarter::{QUARTERS_PER_HOUR, Quarter};
use botstats_common::split::Split;

use crate::event::Kind;
use crate::event::registry::PairNumbers;
use crate::fold::body::{HourChange, HourChanges, NamedCell, sample_cell, sampled, section};
use crate::fold::bucket_key::{NAMES, PairDay};
use crate::fold::metrics::{counted, source};
use crate::fold::names::{NameId, Names};
use crate::fold::names_of_day::{NamesOfDay, OTHER, Wanted, fixed_index};
use crate::fold::session::Sample;
use crate::fold::value_code::code_of;
use crate::store::packed::{Block, Changed};
use crate::store::{PackedTable, StoreError};
use runs::{Run, Runs};

const HOURS: u8 = 24;
const HOUR_BITS: u32 = 5;

/// Changes of buckets. The memory of one commit serves the next.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Buckets of days before this one are deleted: their changes are dropped.
    first_day: u32,
    /// By pair and day, then hour ([`run_key`]).
    changes: Runs<HourChange>,
    /// By pair and day: the hour of a run is 0, as names are those of a day. The hour of a change
    /// is in its own key.
    named: Runs<NamedChange>,
}

/// A change of a cell that has a name.
#[derive(Debug, Clone, Copy)]
struct NamedChange {
    /// The number of the split (8 bits), the name's (32), the hour (5), whether it is a sample (1),
    /// the cell without the name's index ([`section::MAX_WIDTH`]).
    key: u64,
    amount: i64,
}

const _: () = assert!(NamedChange::SPLIT + u8::BITS <= u64::BITS);

impl NamedChange {
    // Where the parts begin.
    const IS_SAMPLE: u32 = section::MAX_WIDTH;
    const HOUR: u32 = Self::IS_SAMPLE + 1;
    const NAME: u32 = Self::HOUR + HOUR_BITS;
    const SPLIT: u32 = Self::NAME + u32::BITS;

    fn split(self) -> Option<Split> {
        Split::of_number(u8::try_from(self.key >> Self::SPLIT).ok()?)
    }

    fn name(self) -> NameId {
        NameId::of_number(u32::try_from(self.key >> Self::NAME & u64::from(u32::MAX)).unwrap_or(0))
    }

    fn with_name(self, name: NameId) -> Self {
        let others = self.key & !(u64::from(u32::MAX) << Self::NAME);
        Self { key: others | u64::from(name.number()) << Self::NAME, ..self }
    }

    fn hour(self) -> u8 {
        let hour = self.key >> Self::HOUR & ((1 << HOUR_BITS) - 1);
        u8::try_from(hour).unwrap_or(u8::MAX)
    }

    fn is_sample(self) -> bool {
        self.key >> Self::IS_SAMPLE & 1 != 0
    }

    fn cell(self) -> u32 {
        u32::try_from(self.key & ((1 << Self::IS_SAMPLE) - 1)).unwrap_or(0)
    }
}

/// An hour of a pair, and a quarter in it.
#[derive(Debug, Clone, Copy)]
struct Place {
    pair_day: PairDay,
    hour: u8,
    quarter: u8,
}

impl Changes {
    /// Forgets all changes; those of days before `first_day` are dropped from now on.
    pub(crate) fn clear(&mut self, first_day: u32) {
        self.first_day = first_day;
        self.changes.clear();
        self.named.clear();
    }

    /// Counts a sample of a session, also for its operator.
    pub(crate) fn sample(&mut self, numbers: PairNumbers, sample: Sample) {
        let Some(place) = self.place(numbers, Quarter::of_ms(sample.at_ms).0) else { return };
        let Sample { metric, value, sign, operator, .. } = sample;
        self.count(place, metric, value, sign);
        if let Some(split @ Split::Operator) = Split::of(metric) {
            self.count_named(place, (split, operator), metric, value, sign);
        }
    }

    /// Counts what an event counts by itself, also for its name.
    pub(crate) fn counted(
        &mut self,
        numbers: PairNumbers,
        time_ms: i64,
        kind: Kind,
        flags: u8,
        name: NameId,
        duration_ms: Option<u32>,
    ) {
        let Some(place) = self.place(numbers, Quarter::of_ms(time_ms).0) else { return };
        for (metric, value) in counted(kind, flags, duration_ms) {
            self.count(place, metric, value, 1);
            if let Some(split) = Split::of(metric) {
                self.count_named(place, (split, name), metric, value, 1);
            }
        }
    }

    /// Counts a new user in a quarter, or takes that back if `sign` is -1.
    pub(crate) fn new_user(&mut self, numbers: PairNumbers, quarter: u32, sign: i64) {
        if let Some(place) = self.place(numbers, quarter) {
            self.count(place, TypeCode::NewUser, 1, sign);
        }
    }

    /// A user was active in a quarter.
    pub(crate) fn user(&mut self, numbers: PairNumbers, quarter: u32, ordinal: u32) {
        if let Some(place) = self.place(numbers, quarter) {
            self.push(place, [HourChange::user(place.quarter, ordinal, true)]);
        }
    }

    /// A user was not active in a quarter after all. If the user is not known to be active there,
    /// nothing changes.
    pub(crate) fn not_user(&mut self, numbers: PairNumbers, quarter: u32, ordinal: u32) {
        if let Some(place) = self.place(numbers, quarter) {
            self.push(place, [HourChange::user(place.quarter, ordinal, false)]);
        }
    }

    /// `None` if the day is deleted.
    #[inline]
    fn place(&self, numbers: PairNumbers, quarter: u32) -> Option<Place> {
        let day = Quarter(quarter).day();
        if day < self.first_day {
            return None;
        }
        let hour = u8::try_from(quarter / QUARTERS_PER_HOUR % u32::from(HOURS)).ok()?;
        let quarter = u8::try_from(quarter % QUARTERS_PER_HOUR).ok()?;
        Some(Place { pair_day: PairDay::new(day, numbers)?, hour, quarter })
    }

    #[inline]
    fn push(&mut self, place: Place, changes: impl IntoIterator<Item = HourChange>) {
        self.changes.extend(run_key(place.pair_day, place.hour), changes);
    }

    #[inline]
    fn count(&mut self, place: Place, metric: TypeCode, value: i64, sign: i64) {
        let quarter = place.quarter;
        for (field, amount) in source(metric).amounts(value, sign) {
            self.push(place, HourChange::field(quarter, field, amount));
        }
        if let Some(number) = sampled(metric) {
            let cell = sample_cell(number, code_of(value.unsigned_abs()), quarter);
            self.push(place, HourChange::sample(cell, sign));
        }
    }

    fn count_named(
        &mut self,
        Place { pair_day, hour, quarter }: Place,
        (split, name): (Split, NameId),
        metric: TypeCode,
        value: i64,
        sign: i64,
    ) {
        let of_name = u64::from(split.number()) << NamedChange::SPLIT
            | u64::from(name.number()) << NamedChange::NAME
            | u64::from(hour) << NamedChange::HOUR;
        let mut push = |is_sample: bool, cell: Option<u32>, amount: i64| {
            let Some(cell) = cell else { return };
            let is_sample = u64::from(is_sample) << NamedChange::IS_SAMPLE;
            let key = of_name | is_sample | u64::from(cell);
            self.named.extend(run_key(pair_day, 0), [NamedChange { key, amount }]);
        };
        for (field, amount) in source(metric).amounts(value, sign) {
            push(false, section::field(field, quarter), amount);
        }
        let code = code_of(value.unsigned_abs());
        push(true, section::sample(split, metric, code, quarter), sign);
    }

    /// Changes the buckets, and forgets the changes. Of each (bot, channel), day and bounded kind
    /// of name at most `max_names` names are kept. Buckets of days before `whole_from_day` may have
    /// lost a part: none of their totals falls below 0.
    ///
    /// # Errors
    /// If the table cannot be read or written, or if a total of a whole day would fall below 0.
    pub(crate) fn apply(
        &mut self,
        names: &Names,
        max_names: usize,
        buckets: &mut PackedTable<'_>,
        whole_from_day: u32,
    ) -> Result<(), StoreError> {
        self.changes.sort();
        self.named.sort();
        let of_pair_day = |a: &Run, b: &Run| pair_day_of(*a) == pair_day_of(*b);
        let mut runs = self.changes.runs().chunk_by(of_pair_day).peekable();
        let mut named = self.named.runs().chunk_by(of_pair_day).peekable();
        let mut pass = Pass {
            changes: &self.changes,
            named: &self.named,
            names,
            max_names,
            buckets,
            is_whole: true,
            block: Block::default(),
            changed: Changed::default(),
            hour: HourChanges::default(),
            names_of_day: NamesOfDay::default(),
            named_of_day: Vec::new(),
            wanted: Vec::new(),
            resolved: Vec::new(),
            evicted: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let first = |runs: &&[Run]| runs.first().map(|run| pair_day_of(*run));
            let (by_run, by_name) = (runs.peek().and_then(first), named.peek().and_then(first));
            let Some(pair_day) = by_run.into_iter().chain(by_name).min() else { break };
            let runs = if by_run == Some(pair_day) { runs.next() } else { None };
            let named = if by_name == Some(pair_day) { named.next() } else { None };
            pass.is_whole = pair_day.day() >= whole_from_day;
            pass.apply(pair_day, runs.unwrap_or_default(), named.unwrap_or_default())?;
        }
        pass.finish()?;
        self.clear(self.first_day);
        Ok(())
    }
}

/// What the changes of a run have in common. Ordered as the buckets are in the table.
fn run_key(pair_day: PairDay, hour: u8) -> u128 {
    pair_day.bits() << HOUR_BITS | u128::from(hour)
}

fn pair_day_of(run: Run) -> PairDay {
    PairDay::of_bits(run.key() >> HOUR_BITS)
}

fn hour_of(run: Run) -> u8 {
    u8::try_from(run.key() & ((1 << HOUR_BITS) - 1)).unwrap_or(u8::MAX)
}

/// A named change whose name has an index.
#[derive(Debug, Clone, Copy)]
struct Resolved {
    hour: u8,
    section: u8,
    cell: NamedCell,
    amount: i64,
}

/// One pass over the table, in the order of its items.
struct Pass<'a, 'n, 'txn> {
    changes: &'a Runs<HourChange>,
    named: &'a Runs<NamedChange>,
    names: &'n Names,
    max_names: usize,
    buckets: &'a mut PackedTable<'txn>,
    is_whole: bool,
    block: Block,
    changed: Changed,
    hour: HourChanges,
    names_of_day: NamesOfDay,
    /// Named changes of the pair's day.
    named_of_day: Vec<NamedChange>,
    wanted: Vec<Wanted<'n>>,
    resolved: Vec<Resolved>,
    /// Names that were evicted from the pair's day, by split.
    evicted: Vec<(Split, Vec<u32>)>,
    body: Vec<u8>,
}

impl Pass<'_, '_, '_> {
    /// Applies the changes of one pair and day: runs by hour, named changes by split and name.
    fn apply(
        &mut self,
        pair_day: PairDay,
        mut runs: &[Run],
        named: &[Run],
    ) -> Result<(), StoreError> {
        self.changes.fetch(runs);
        self.resolved.clear();
        self.evicted.clear();
        if !named.is_empty() {
            let first = runs.first().map_or(0, |run| hour_of(*run));
            self.seek(pair_day, first)?;
            let mut of_day = std::mem::take(&mut self.named_of_day);
            let (all, names) = (self.named, self.names);
            let changes = named.iter().flat_map(|run| all.of(*run));
            of_day.extend(changes.map(|change| change.with_name(names.counted(change.name()))));
            of_day.sort_unstable_by_key(|change| change.key);
            self.resolve(pair_day, &of_day)?;
            of_day.clear();
            self.named_of_day = of_day;
        }
        let mut resolved = std::mem::take(&mut self.resolved);
        let mut rest = &resolved[..];
        let mut hour = 0;
        loop {
            // What evicted names have counted may stand in any hour.
            if self.evicted.is_empty() {
                let run = runs.first().map_or(HOURS, |run| hour_of(*run));
                hour = rest.first().map_or(run, |change| change.hour.min(run));
            }
            if hour >= HOURS {
                break;
            }
            let runs = take_while(&mut runs, |run| hour_of(*run) == hour);
            let named = take_while(&mut rest, |change| change.hour == hour);
            self.merge(pair_day, hour, runs, named)?;
            hour += 1;
        }
        resolved.clear();
        self.resolved = resolved;
        if !named.is_empty() && self.names_of_day.is_changed() {
            self.seek(pair_day, NAMES)?;
            self.changed.put_with(pair_day.item(NAMES), |out| self.names_of_day.encode(out));
        }
        Ok(())
    }

    /// Gives the names of a pair and day their indexes: fills `resolved` and `evicted`.
    fn resolve(&mut self, pair_day: PairDay, named: &[NamedChange]) -> Result<(), StoreError> {
        let (group, key) = (pair_day.group(), pair_day.item(NAMES));
        if self.block.covers(&group, key) {
            self.names_of_day.load(self.block.get(key))?;
        } else {
            self.names_of_day.load(self.buckets.get(&group, key, &mut self.body)?)?;
        }
        for of_split in named.chunk_by(|a, b| a.split() == b.split()) {
            let Some(split) = of_split.first().and_then(|change| change.split()) else { continue };
            self.wanted.clear();
            let mut begin = 0;
            for of_name in of_split.chunk_by(|a, b| a.name() == b.name()) {
                let tag = begin;
                begin += of_name.len();
                let Some(first) = of_name.first().filter(|_| !cancels_out(of_name)) else {
                    continue;
                };
                let name = self.names.text(first.name());
                match (fixed_index(name), name) {
                    (None, Some(name)) => self.wanted.push(Wanted::new(name, tag)),
                    (index, _) => push(&mut self.resolved, split, index.unwrap_or(OTHER), of_name),
                }
            }
            let mut evicted = Vec::new();
            let names = &mut self.names_of_day;
            names.resolve(split, &mut self.wanted, self.max_names, &mut evicted)?;
            for wanted in &self.wanted {
                let from = of_split.get(wanted.tag..).unwrap_or_default();
                let of_name = from.chunk_by(|a, b| a.name() == b.name()).next().unwrap_or_default();
                push(&mut self.resolved, split, wanted.index, of_name);
            }
            if !evicted.is_empty() {
                self.evicted.push((split, evicted));
            }
        }
        self.resolved.sort_unstable_by_key(|change| change.hour);
        Ok(())
    }

    /// Merges the changes of one hour into its bucket.
    fn merge(
        &mut self,
        pair_day: PairDay,
        hour: u8,
        runs: &[Run],
        named: &[Resolved],
    ) -> Result<(), StoreError> {
        self.seek(pair_day, hour)?;
        let key = pair_day.item(hour);
        let stored = self.block.get(key);
        if stored.is_none() && runs.is_empty() && named.is_empty() {
            return Ok(());
        }
        self.hour.clear();
        for change in runs.iter().flat_map(|run| self.changes.of(*run)) {
            self.hour.add(*change);
        }
        for change in named {
            self.hour.add_named(change.section, change.cell, change.amount);
        }
        if let Some(body) = stored {
            for (split, evicted) in &self.evicted {
                self.hour.move_names(body, *split, evicted, OTHER)?;
            }
        }
        self.body.clear();
        let any = self.hour.merge(stored, self.is_whole, &mut self.body)?;
        if any && stored != Some(&self.body[..]) {
            self.changed.put(key, &self.body);
        } else if !any && stored.is_some() {
            self.changed.remove(key);
        }
        Ok(())
    }

    /// Makes `block` the block of an item.
    fn seek(&mut self, pair_day: PairDay, slot: u8) -> Result<(), StoreError> {
        let (group, key) = (pair_day.group(), pair_day.item(slot));
        self.buckets.seek(&group, key, &mut self.block, &mut self.changed)
    }

    fn finish(mut self) -> Result<(), StoreError> {
        self.buckets.put(&mut self.block, &mut self.changed)
    }
}

/// Takes items off the front.
fn take_while<'s, T>(items: &mut &'s [T], of: impl Fn(&T) -> bool) -> &'s [T] {
    let (taken, rest) = items.split_at(items.iter().take_while(|item| of(item)).count());
    *items = rest;
    taken
}

/// True if the changes of one name, sorted by cell, change nothing.
fn cancels_out(of_name: &[NamedChange]) -> bool {
    of_name
        .chunk_by(|a, b| a.key == b.key)
        .all(|of_cell| of_cell.iter().map(|change| change.amount).sum::<i64>() == 0)
}

fn push(resolved: &mut Vec<Resolved>, split: Split, index: u32, of_name: &[NamedChange]) {
    for change in of_name {
        let is_sample = change.is_sample();
        let section = if is_sample { section::of_samples(split) } else { None };
        resolved.push(Resolved {
            hour: change.hour(),
            section: section.unwrap_or(section::of_fields(split)),
            cell: section::with_index(split, is_sample, index, change.cell()),
            amount: change.amount,
        });
    }
}

#[cfg(test)]
mod tests;
