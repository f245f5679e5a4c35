//! Adds the buckets of each pair up, part by part.

use botstats_common::metric::TypeSet;
use botstats_common::quarter::QUARTERS_PER_HOUR;
use botstats_common::wire::Request;

use super::ReadError;
use super::answer::Answer;
use super::histogram::Histogram;
use super::ordinals::OrdinalSet;
use super::rows::RowNumber;
use super::scan::{Item, Visit};
use super::windows::{Part, Window};
use crate::fold::body::{BodyError, QUARTERS, Totals, fields_of, sample_of, samples_after};
use crate::fold::metrics::{Source, source};

const _: () = assert!(QUARTERS == QUARTERS_PER_HOUR as usize);

/// The part to which the next buckets of a pair belong.
#[derive(Default)]
struct OpenCell {
    /// Its number, its end and its group; none between two parts.
    part: Option<OpenPart>,
    totals: Totals,
    users: OrdinalSet,
    histogram: Histogram,
}

#[derive(Clone, Copy)]
struct OpenPart {
    number: u32,
    end: u32,
    group: u32,
}

impl OpenCell {
    /// Adds what was open to the pair's row.
    fn end(&mut self, row: RowNumber, answer: &mut Answer<'_>) -> Result<(), ReadError> {
        let Self { part, totals, users, histogram } = self;
        let Some(part) = part.take() else { return Ok(()) };
        let active = users.count();
        answer.add((part.group, row), |code| totals.samples(code, active), histogram)?;
        *totals = Totals::default();
        users.clear();
        histogram.clear();
        Ok(())
    }
}

/// The cells of an answer without names.
pub(super) struct PairCells<'a> {
    answer: Answer<'a>,
    /// By the index of the pair; none before the pair's first bucket.
    open: Vec<Option<Box<OpenCell>>>,
    asked: Asked,
}

/// What is read of a bucket.
struct Asked {
    counts_users: bool,
    /// The fields that make a row a part of the answer.
    listed: u64,
    /// The metrics whose samples are read.
    sampled: Option<TypeSet>,
}

impl<'a> PairCells<'a> {
    pub(super) fn new(answer: Answer<'a>, request: &Request, pairs: usize) -> Self {
        let types = request.types;
        let from_users = |code| matches!(source(code), Source::Active | Source::ActiveBut(_));
        let durations: TypeSet = types.iter().filter(|code| code.kind().is_duration()).collect();
        let samples = !request.stats.is_empty() && durations != TypeSet::default();
        let asked = Asked {
            counts_users: types.iter().any(from_users),
            // A row with a cell is in the answer in any case.
            listed: fields_of(request.listed.iter().chain(types.iter())),
            sampled: samples.then_some(durations),
        };
        Self { answer, open: (0..pairs).map(|_| None).collect(), asked }
    }

    pub(super) fn into_answer(self) -> Answer<'a> {
        self.answer
    }

    /// Adds a bucket whose quarters belong to one part.
    #[inline]
    fn add_whole(&mut self, number: u32, part: Part, item: &Item<'_>) -> Result<(), ReadError> {
        let Self { answer, open, asked } = self;
        let row = answer.row_of(item.pair);
        let (fields, users);
        match part.group {
            None => (fields, users) = Totals::default().add_stored(item.body)?,
            Some(group) => {
                let part = OpenPart { number, end: part.end, group };
                let Some(open) = open_in(open, item.pair, part, answer)? else { return Ok(()) };
                (fields, users) = open.totals.add_stored(item.body)?;
                let mut rest = users;
                if asked.counts_users {
                    rest.take_all(|ordinal, _| open.users.push(ordinal))?;
                    open.users.settle();
                }
                if let Some(sampled) = asked.sampled {
                    let mut samples = samples_after(rest)?;
                    while let Some((cell, count)) = samples.next()? {
                        let (metric, code, _) = sample_of(cell).ok_or(BodyError::Damaged)?;
                        if sampled.contains(metric) {
                            open.histogram.push(metric, code, count);
                        }
                    }
                    open.histogram.settle();
                }
            }
        }
        if fields & asked.listed != 0 || !users.is_empty() {
            answer.list(row);
        }
        if fields != 0 || !users.is_empty() {
            answer.name_pair(item.pair);
        }
        Ok(())
    }

    /// Adds a bucket whose quarters belong to several parts, or of which some are outside the
    /// window.
    fn add_quarters(&mut self, window: &Window, item: &Item<'_>) -> Result<(), ReadError> {
        let Self { answer, open, asked } = self;
        let row = answer.row_of(item.pair);
        let mut quarters = [Totals::default(); QUARTERS];
        let users = Totals::add_quarters(&mut quarters, item.body)?;
        let mut active = 0;
        users.for_each(|_, mask| active |= mask)?;
        let first = item.first_quarter();
        for (n, totals) in (0_u8..).zip(&quarters) {
            let Some(number) = window.part_of(first + u32::from(n)) else { continue };
            let (fields, is_active) = (totals.fields(), active >> n & 1 != 0);
            if fields & asked.listed != 0 || is_active {
                answer.list(row);
            }
            if fields != 0 || is_active {
                answer.name_pair(item.pair);
            }
            let part = window.part(number);
            let Some(group) = part.group else { continue };
            let part = OpenPart { number, end: part.end, group };
            let Some(open) = open_in(open, item.pair, part, answer)? else { return Ok(()) };
            open.totals.add(totals)?;
            users.for_each(|ordinal, mask| {
                if asked.counts_users && mask >> n & 1 != 0 {
                    open.users.push(ordinal);
                }
            })?;
            open.users.settle();
            let Some(sampled) = asked.sampled else { continue };
            let mut samples = samples_after(users)?;
            while let Some((cell, count)) = samples.next()? {
                let (metric, code, quarter) = sample_of(cell).ok_or(BodyError::Damaged)?;
                if quarter == n && sampled.contains(metric) {
                    open.histogram.push(metric, code, count);
                }
            }
            open.histogram.settle();
        }
        Ok(())
    }
}

/// The pair's open cell, after one of another part was ended.
#[inline]
fn open_in<'o>(
    open: &'o mut [Option<Box<OpenCell>>],
    pair: usize,
    part: OpenPart,
    answer: &mut Answer<'_>,
) -> Result<Option<&'o mut OpenCell>, ReadError> {
    let Some(open) = open.get_mut(pair) else { return Ok(None) };
    let open = open.get_or_insert_default();
    if open.part.is_none_or(|open| open.number != part.number) {
        open.end(answer.row_of(pair), answer)?;
        open.part = Some(part);
    }
    Ok(Some(open))
}

impl Visit for PairCells<'_> {
    const WITH_NAMES: bool = false;

    fn reach(&mut self, window: &Window, quarter: u32) -> Result<(), ReadError> {
        let Self { answer, open, .. } = self;
        answer.place_rows();
        for (pair, open) in open.iter_mut().enumerate() {
            if let Some(open) = open
                && open.part.is_some_and(|part| part.end <= quarter)
            {
                open.end(answer.row_of(pair), answer)?;
            }
        }
        // The parts of all cells that were added have ended, and with them their groups, unless
        // groups have more parts.
        if !window.repeats || quarter >= window.end {
            answer.write()?;
        }
        answer.check_size()
    }

    #[inline]
    fn visit(&mut self, window: &Window, item: &Item<'_>) -> Result<(), ReadError> {
        const LAST: u32 = QUARTERS_PER_HOUR - 1;
        let first = item.first_quarter();
        match (window.part_of(first), window.part_of(first + LAST)) {
            (Some(part), Some(last)) if part == last => {
                self.add_whole(part, window.part(part), item)
            }
            _ => self.add_quarters(window, item),
        }
    }
}
