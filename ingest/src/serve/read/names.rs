//! Rows by name: which names have rows of their own, and what each name has.
//!
//! What a pair has on a day is gathered by the day's own numbers of names. Once the day's names are
//! known, each number becomes a name.
//!
//! *Why* two scans: which names keep rows of their own is known only when all were counted. Sums
//! are made for these alone, so that memory grows with the answer and not with all names.

use std::cmp::Reverse;

use botstats_common::metric::{TypeCode, TypeSet};
use botstats_common::split::Split;
use botstats_common::wire::{MAX_NAMES, Request, RowName};
use rustc_hash::FxHashMap;

use super::ReadError;
use super::answer::Answer;
use super::partial::Sum;
use super::scan::{Item, Visit};
use super::windows::Window;
use crate::fold::body::{BodyError, Counts, active_quarters, section, sections_of};
use crate::fold::bucket_key;
use crate::fold::metrics::{FIELDS, Source, source};
use crate::fold::names_of_day::{NONE, NamesOfDay, OTHER};
use crate::store::StoreError;

/// The group of what is in the window but in no group.
const NO_GROUP: u32 = u32::MAX;

/// What something stored counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// That the name has a sample of any metric of the split.
    Any,
    /// Samples of a metric asked for.
    Count(TypeCode),
    /// Their sum.
    Sum(TypeCode),
    /// Samples whose number is their sum too.
    CountAndSum(TypeCode),
    /// Samples of a value.
    Sample(TypeCode, u16),
}

/// What a name of a day has in a group.
#[derive(Debug, Clone, Copy)]
struct Named {
    /// The day's number of the name.
    index: u32,
    group: u32,
    what: What,
    amount: u64,
}

/// A name of a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name<'n> {
    Absent,
    Other,
    Text(&'n str),
}

/// What one pair has by name on one day. The memory of one serves the next.
struct NamedDay {
    split: Split,
    with_samples: bool,
    types: TypeSet,
    /// By field: what it counts.
    fields: [Option<What>; FIELDS],
    pair: Option<usize>,
    named: Vec<Named>,
    names: NamesOfDay,
}

impl NamedDay {
    fn new(split: Split, types: TypeSet, with_samples: bool) -> Self {
        let mut fields = [None; FIELDS];
        for code in split.codes() {
            let is_asked = types.contains(*code);
            let mut put = |field, what| {
                if let Some(place) = fields.get_mut(field as usize) {
                    *place = Some(if is_asked { what } else { What::Any });
                }
            };
            match source(*code) {
                Source::Count(count) => put(count, What::CountAndSum(*code)),
                Source::Pair { count, sum } => {
                    put(count, What::Count(*code));
                    put(sum, What::Sum(*code));
                }
                // Counted by other metrics, or not by name.
                Source::SumOf { .. } | Source::Active | Source::ActiveBut(_) => {}
            }
        }
        let (pair, named, names) = Default::default();
        Self { split, with_samples, types, fields, pair, named, names }
    }

    /// True if an item is not of the pair at hand.
    fn is_other(&self, item: &Item<'_>) -> bool {
        self.pair.is_some_and(|pair| pair != item.pair)
    }

    /// Adds an hour of the pair, or the names of its day.
    fn add(&mut self, window: &Window, item: &Item<'_>) -> Result<(), StoreError> {
        self.pair = Some(item.pair);
        if item.slot == bucket_key::NAMES {
            return Ok(self.names.load(Some(item.body))?);
        }
        let first = item.first_quarter();
        let mut sections = sections_of(item.body)?;
        while let Some((section, mut cells)) = sections.next()? {
            let of = section::split(section).filter(|(split, _)| *split == self.split);
            let Some((split, is_samples)) = of.filter(|of| self.with_samples || !of.1) else {
                continue;
            };
            while let Some((cell, amount)) = cells.next()? {
                let (index, cell) = section::index_of(split, is_samples, cell);
                let index = u32::try_from(index).map_err(|_| BodyError::Damaged)?;
                let (counts, quarter) =
                    section::counts(split, is_samples, cell).ok_or(BodyError::Damaged)?;
                let Some(group) = window.group_of(first + u32::from(quarter)) else { continue };
                let what = match counts {
                    Counts::Field(field) => self.fields.get(field as usize).copied().flatten(),
                    Counts::Sample(metric, code) if self.types.contains(metric) => {
                        Some(What::Sample(metric, code))
                    }
                    Counts::Sample(..) => Some(What::Any),
                };
                let what = what.ok_or(BodyError::Damaged)?;
                match group.filter(|_| what != What::Any) {
                    Some(group) => self.named.push(Named { index, group, what, amount }),
                    None => self.note(index),
                }
            }
        }
        Ok(())
    }

    /// Notes that a name has something in the window.
    fn note(&mut self, index: u32) {
        let last = self.named.last();
        if last.is_none_or(|last| (last.index, last.group) != (index, NO_GROUP)) {
            let (group, what, amount) = (NO_GROUP, What::Any, 0);
            self.named.push(Named { index, group, what, amount });
        }
    }

    /// Takes what the pair has, name by name, sorted by group.
    fn take(
        &mut self,
        mut each: impl FnMut(usize, Name<'_>, &[Named]) -> Result<(), ReadError>,
    ) -> Result<(), ReadError> {
        let Self { split, pair, named, names, .. } = self;
        let Some(pair) = pair.take() else { return Ok(()) };
        named.sort_unstable_by_key(|named| (named.index, named.group));
        for of_name in named.chunk_by(|a, b| a.index == b.index) {
            let name = match of_name.first().map(|named| named.index) {
                None | Some(NONE) => Name::Absent,
                Some(OTHER) => Name::Other,
                Some(index) => Name::Text(names.name(*split, index).ok_or(BodyError::Damaged)?),
            };
            each(pair, name, of_name)?;
        }
        named.clear();
        names.clear();
        Ok(())
    }
}

/// How many samples each name has in groups.
pub(super) struct Ranking {
    day: NamedDay,
    numbers: Numbers,
}

#[derive(Default)]
struct Numbers {
    by_name: FxHashMap<Box<str>, u64>,
    /// Of samples without a name, if there are any.
    absent: Option<u64>,
}

impl Ranking {
    pub(super) fn new(split: Split, types: TypeSet) -> Self {
        Self { day: NamedDay::new(split, types, false), numbers: Numbers::default() }
    }

    /// The names that keep rows of their own: those with the most samples.
    pub(super) fn kept(self, top: u32) -> Kept {
        self.numbers.kept(usize::try_from(top).unwrap_or(usize::MAX))
    }

    fn end_pair(&mut self) -> Result<(), ReadError> {
        let Self { day, numbers } = self;
        day.take(|_, name, named| {
            let in_group = named.iter().filter(|named| named.group != NO_GROUP);
            let number = in_group.fold(0_u64, |number, named| match named.what {
                What::Count(_) | What::CountAndSum(_) => number.saturating_add(named.amount),
                What::Any | What::Sum(_) | What::Sample(..) => number,
            });
            numbers.add(name, number)
        })
    }
}

impl Numbers {
    fn add(&mut self, name: Name<'_>, more: u64) -> Result<(), ReadError> {
        let names = self.by_name.len();
        let number = match name {
            Name::Other => return Ok(()),
            Name::Absent => self.absent.get_or_insert(0),
            Name::Text(name) => match self.by_name.get_mut(name) {
                Some(number) => number,
                None if names >= MAX_NAMES => return Err(ReadError::TooManyNames),
                None => {
                    self.by_name.insert(name.into(), more);
                    return Ok(());
                }
            },
        };
        *number = number.saturating_add(more);
        Ok(())
    }

    fn kept(self, top: usize) -> Kept {
        // The id of what has no name is empty, and no name is.
        let absent = self.absent.map(|number| (Box::from(""), number));
        let mut ranked: Vec<(Box<str>, u64)> = self.by_name.into_iter().chain(absent).collect();
        ranked.sort_unstable_by(|(a, of_a), (b, of_b)| (Reverse(of_a), a).cmp(&(Reverse(of_b), b)));
        ranked.truncate(top);
        let numbers = ranked.into_iter().zip(Kept::FIRST..);
        Kept { numbers: numbers.map(|((name, _), number)| (name, number)).collect() }
    }
}

impl Visit for Ranking {
    const WITH_NAMES: bool = true;

    fn reach(&mut self, _: &Window, _: u32) -> Result<(), ReadError> {
        self.end_pair()
    }

    fn visit(&mut self, window: &Window, item: &Item<'_>) -> Result<(), ReadError> {
        if self.day.is_other(item) {
            self.end_pair()?;
        }
        Ok(self.day.add(window, item)?)
    }
}

/// The names that keep rows of their own, each with a number; what has no name is an empty one.
pub(super) struct Kept {
    numbers: FxHashMap<Box<str>, u32>,
}

impl Kept {
    /// The number of all other names.
    const OTHER: u32 = 0;
    const FIRST: u32 = 1;

    fn number(&self, name: Name<'_>) -> u32 {
        let kept = match name {
            Name::Other => None,
            Name::Absent => self.numbers.get(""),
            Name::Text(name) => self.numbers.get(name),
        };
        kept.copied().unwrap_or(Self::OTHER)
    }
}

/// The cells of an answer by name.
pub(super) struct NameCells<'a> {
    answer: Answer<'a>,
    kept: Kept,
    day: NamedDay,
    sum: Sum,
}

impl<'a> NameCells<'a> {
    pub(super) fn new(answer: Answer<'a>, request: &Request, split: Split, kept: Kept) -> Self {
        let day = NamedDay::new(split, request.types, !request.stats.is_empty());
        Self { answer, kept, day, sum: Sum::default() }
    }

    pub(super) fn into_answer(self) -> Answer<'a> {
        self.answer
    }

    fn end_pair(&mut self) -> Result<(), ReadError> {
        let Self { answer, kept, day, sum } = self;
        day.take(|pair, name, named| {
            let number = kept.number(name);
            let row = answer.listed(pair, number, || match name {
                _ if number == Kept::OTHER => RowName::Other,
                Name::Text(name) => RowName::Named(name.to_owned()),
                Name::Absent | Name::Other => RowName::Absent,
            });
            for of_group in named.chunk_by(|a, b| a.group == b.group) {
                let group = of_group.first().map_or(NO_GROUP, |named| named.group);
                if group == NO_GROUP {
                    continue;
                }
                sum.clear();
                let Sum { samples, histogram } = sum;
                for Named { what, amount, .. } in of_group {
                    let added = match *what {
                        What::Any => Some(()),
                        What::Count(code) => samples.add(code, *amount, 0),
                        What::Sum(code) => samples.add(code, 0, *amount),
                        What::CountAndSum(code) => samples.add(code, *amount, *amount),
                        What::Sample(metric, code) => {
                            histogram.push(metric, code, *amount);
                            Some(())
                        }
                    };
                    added.ok_or(BodyError::Damaged)?;
                }
                answer.add((group, row), |code| samples.of(code), histogram)?;
            }
            answer.check_size()
        })
    }

    /// Names the pair in the answer if it has a sample in the window.
    fn name_pair(&mut self, window: &Window, item: &Item<'_>) -> Result<(), BodyError> {
        let active = active_quarters(item.body)?;
        let mut quarters = (0..u8::BITS).filter(|n| active >> n & 1 != 0);
        if quarters.any(|n| window.part_of(item.first_quarter() + n).is_some()) {
            self.answer.name_pair(item.pair);
        }
        Ok(())
    }
}

impl Visit for NameCells<'_> {
    const WITH_NAMES: bool = true;

    fn reach(&mut self, window: &Window, quarter: u32) -> Result<(), ReadError> {
        self.end_pair()?;
        // What is added are days, whether their groups have ended or not.
        if quarter >= window.end {
            self.answer.write()?;
        }
        self.answer.check_size()
    }

    fn visit(&mut self, window: &Window, item: &Item<'_>) -> Result<(), ReadError> {
        if self.day.is_other(item) {
            self.end_pair()?;
        }
        if self.answer.names_pairs() && item.slot != bucket_key::NAMES {
            self.name_pair(window, item)?;
        }
        Ok(self.day.add(window, item)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_with_the_most_samples_are_kept() {
        let kept = |top| {
            let mut numbers = Numbers::default();
            for (name, more) in [
                (Name::Text("b"), 2),
                (Name::Absent, 1),
                (Name::Other, 99),
                (Name::Text("d"), 3),
                (Name::Text("a"), 3),
                (Name::Text("z"), 0),
                (Name::Absent, 1),
                (Name::Text("c"), 2),
                (Name::Text("b"), 0),
            ] {
                numbers.add(name, more).unwrap();
            }
            let kept = numbers.kept(top);
            let mut names: Vec<(u32, Box<str>)> =
                kept.numbers.iter().map(|(name, number)| (*number, name.clone())).collect();
            names.sort_unstable();
            assert_eq!(kept.number(Name::Other), Kept::OTHER);
            names.into_iter().map(|(_, name)| name.into_string()).collect::<Vec<_>>()
        };
        let all = ["a", "d", "", "b", "c", "z"];
        for top in 0..=6 {
            assert_eq!(kept(top), all[..top]);
        }
        assert_eq!(kept(usize::MAX), all);
    }

    #[test]
    fn names_are_limited() {
        let mut numbers = Numbers::default();
        let mut add = |n: usize| numbers.add(Name::Text(&n.to_string()), 1);
        for n in 0..MAX_NAMES {
            add(n).unwrap();
        }
        assert!(add(7).is_ok());
        assert!(matches!(add(MAX_NAMES), Err(ReadError::TooManyNames)));
        assert!(numbers.add(Name::Absent, 1).is_ok() && numbers.add(Name::Other, 1).is_ok());
    }
}
