//! What pairs and names have in parts, until it is merged into the cells of rows.
//!
//! *Format* of one: the samples as a message has them ([`put_samples`]); with stats, a histogram
//! after them.
//!
//! *Why* encoded: most of them are whole cells already, and a cell as a value takes ten times the
//! memory.

use std::ops::Range;

use botstats_common::metric::{TypeCode, TypeSet};
use botstats_common::varint;
use botstats_common::wire::{Samples, put_samples};

use super::histogram::Histogram;
use super::rows::RowNumber;
use crate::fold::body::BodyError;

/// The number of partial cells at which those of the same cell are merged. Later they are merged
/// whenever their number has doubled. Small in the tests of this crate, so that small cases merge.
const MANY: usize = if cfg!(test) { 3 } else { 1 << 16 };
/// The number of their bytes at which they are merged likewise.
const MANY_BYTES: usize = if cfg!(test) { 64 } else { 8 << 20 };

/// What one pair or name has in one part.
#[derive(Debug)]
struct Partial {
    group: u32,
    row: RowNumber,
    bytes: Range<usize>,
}

/// A number of them, in any order.
pub(super) struct Partials {
    types: Vec<TypeCode>,
    with_stats: bool,
    all: Vec<Partial>,
    bytes: Vec<u8>,
    /// The numbers of partial cells and of bytes at which they are merged.
    full: (usize, usize),
    sum: Sum,
}

/// A cell, of one partial cell or several.
pub(super) enum Cell<'a> {
    Written { bytes: &'a [u8], with_stats: bool },
    Summed { sum: &'a mut Sum, types: &'a [TypeCode], with_stats: bool },
}

impl Cell<'_> {
    /// Appends it in the form of a partial cell.
    fn write(self, to: &mut Vec<u8>) {
        match self {
            Cell::Written { bytes, .. } => to.extend_from_slice(bytes),
            Cell::Summed { sum, types, with_stats } => {
                sum.write_samples(types, to);
                if with_stats {
                    sum.histogram.write(to);
                }
            }
        }
    }

    /// Gives its samples as a message has them, and with stats its histogram. The memory of
    /// `samples` and `histogram` may be used for that; `None` if the bytes are damaged.
    #[inline]
    pub(super) fn read<'m>(
        self,
        samples: &'m mut Vec<u8>,
        histogram: &'m mut Histogram,
    ) -> Option<(&'m [u8], &'m mut Histogram)>
    where
        Self: 'm,
    {
        match self {
            Cell::Written { bytes, with_stats: false } => Some((bytes, histogram)),
            Cell::Written { bytes, with_stats: true } => {
                let (samples, rest) = bytes.split_at_checked(samples_len(bytes)?)?;
                histogram.clear();
                histogram.add_written(rest)?;
                Some((samples, histogram))
            }
            Cell::Summed { sum, types, .. } => {
                samples.clear();
                sum.write_samples(types, samples);
                Some((samples, &mut sum.histogram))
            }
        }
    }
}

impl Partials {
    pub(super) fn new(types: Vec<TypeCode>, with_stats: bool) -> Self {
        Self {
            types,
            with_stats,
            all: Vec::new(),
            bytes: Vec::new(),
            full: (MANY, MANY_BYTES),
            sum: Sum::default(),
        }
    }

    /// Adds one with these samples, by any of the metrics asked for; nothing if there are none.
    #[inline]
    pub(super) fn push(
        &mut self,
        (group, row): (u32, RowNumber),
        samples: impl Fn(TypeCode) -> Samples,
        histogram: &mut Histogram,
    ) {
        let begin = self.bytes.len();
        let samples = self.types.iter().map(|code| samples(*code));
        put_samples(samples.filter(|samples| samples.count > 0), &mut self.bytes);
        if self.bytes.len() > begin {
            if self.with_stats {
                histogram.write(&mut self.bytes);
            }
            self.all.push(Partial { group, row, bytes: begin..self.bytes.len() });
        }
    }

    /// True if [`Partials::merge`] is due.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.all.len() >= self.full.0 || self.bytes.len() >= self.full.1
    }

    /// Merges those of the same cell, and gives the number of cells and the number of bytes that
    /// they take at least in a message.
    pub(super) fn merge(&mut self) -> Result<(usize, usize), BodyError> {
        let (mut all, mut bytes) = (Vec::new(), Vec::new());
        self.take(
            |group, row| (group, row),
            |(group, row), cell| {
                let begin = bytes.len();
                cell.write(&mut bytes);
                all.push(Partial { group, row, bytes: begin..bytes.len() });
                Ok::<_, BodyError>(())
            },
        )?;
        (self.all, self.bytes) = (all, bytes);
        self.full = (MANY.max(2 * self.all.len()), MANY_BYTES.max(2 * self.bytes.len()));
        /// A number of samples, a code and two numbers.
        const LEAST: usize = 4;
        let least = if self.with_stats { LEAST * self.all.len() } else { self.bytes.len() };
        Ok((self.all.len(), least))
    }

    /// Takes all, merged into cells, ascending by `order` of group and row.
    pub(super) fn take<E: From<BodyError>>(
        &mut self,
        order: impl Fn(u32, RowNumber) -> (u32, u32),
        mut each: impl FnMut((u32, RowNumber), Cell<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Self { types, with_stats, all, bytes, sum, .. } = self;
        all.sort_unstable_by_key(|partial| order(partial.group, partial.row));
        let of = |partial: &Partial| bytes.get(partial.bytes.clone()).unwrap_or_default();
        for same in all.chunk_by(|a, b| (a.group, a.row) == (b.group, b.row)) {
            let cell = match same {
                [one] => Cell::Written { bytes: of(one), with_stats: *with_stats },
                _ => {
                    sum.clear();
                    for partial in same {
                        sum.add_written(of(partial), *with_stats).ok_or(BodyError::Damaged)?;
                    }
                    Cell::Summed { sum, types, with_stats: *with_stats }
                }
            };
            if let Some(first) = same.first() {
                each((first.group, first.row), cell)?;
            }
        }
        all.clear();
        bytes.clear();
        Ok(())
    }
}

/// Count and sum by the place of the metric.
pub(super) struct SampleSums([(u64, u64); TypeCode::ALL.len()]);

impl Default for SampleSums {
    fn default() -> Self {
        Self([(0, 0); TypeCode::ALL.len()])
    }
}

impl SampleSums {
    /// Adds to the samples of a metric; `None` if a sum does not fit.
    pub(super) fn add(&mut self, code: TypeCode, count: u64, sum: u64) -> Option<()> {
        let samples = self.0.get_mut(code.place())?;
        *samples = (samples.0.checked_add(count)?, samples.1.checked_add(sum)?);
        Some(())
    }

    pub(super) fn of(&self, code: TypeCode) -> Samples {
        let (count, sum) = self.0.get(code.place()).copied().unwrap_or_default();
        Samples { code, count, sum }
    }
}

/// Sums of samples, with a histogram of their values.
#[derive(Default)]
pub(super) struct Sum {
    pub(super) samples: SampleSums,
    pub(super) histogram: Histogram,
}

impl Sum {
    pub(super) fn clear(&mut self) {
        self.samples = SampleSums::default();
        self.histogram.clear();
    }

    fn add_written(&mut self, mut bytes: &[u8], with_stats: bool) -> Option<()> {
        let (&count, rest) = bytes.split_first()?;
        bytes = rest;
        for _ in 0..count {
            let (code, rest) = bytes.split_first()?;
            bytes = rest;
            let (count, sum) = (varint::read(&mut bytes)?, varint::read(&mut bytes)?);
            self.samples.add(TypeCode::try_from(*code).ok()?, count, sum)?;
        }
        if with_stats { self.histogram.add_written(bytes) } else { bytes.is_empty().then_some(()) }
    }

    fn write_samples(&self, types: &[TypeCode], to: &mut Vec<u8>) {
        let samples = types.iter().map(|code| self.samples.of(*code));
        put_samples(samples.filter(|samples| samples.count > 0), to);
    }
}

/// The length of the samples at the start of a partial cell.
fn samples_len(cell: &[u8]) -> Option<usize> {
    Some(cell.len() - after_samples(cell, |_| ())?.len())
}

/// The metrics that have samples.
pub(super) fn codes_of(samples: &[u8]) -> Option<TypeSet> {
    let mut codes = TypeSet::default();
    let mut known = true;
    after_samples(samples, |code| match TypeCode::try_from(code) {
        Ok(code) => codes.insert(code),
        Err(_) => known = false,
    })?;
    known.then_some(codes)
}

/// The bytes after the samples of a cell.
fn after_samples(cell: &[u8], mut each: impl FnMut(u8)) -> Option<&[u8]> {
    let (&count, mut rest) = cell.split_first()?;
    for _ in 0..count {
        let (&code, after) = rest.split_first()?;
        rest = after;
        varint::read(&mut rest)?;
        varint::read(&mut rest)?;
        each(code);
    }
    Some(rest)
}
