//! The rows of one cell: which metrics have one, and their numbers.

use botstats_common::metric::{Kind, TypeCode};
use botstats_common::wire::{EncodedSamples, Samples};

use super::Answer;
use super::labels::RowLabels;
use super::number::Value;
use crate::window::Group;

/// Where the next rows begin.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    pub(super) cell: usize,
    pub(super) group: usize,
    pub(super) row: usize,
}

/// All rows of a group with the same names and ids.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    /// False in the earlier window.
    pub(super) is_current: bool,
    pub(super) group: &'a Group,
    pub(super) labels: RowLabels<'a>,
    /// The samples of all metrics, also of those that were not asked for.
    pub(super) samples: EncodedSamples<'a>,
    pub(super) answer: &'a Answer,
}

/// The numbers of one row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) code: TypeCode,
    pub(super) value: Value,
    /// For each stat asked for its number as the wire has it; `None` where there is none.
    pub(super) stats: Option<&'a [u64]>,
}

impl Rows<'_> {
    /// The metrics that have a row, in order.
    pub(super) fn for_each(&self, mut put: impl FnMut(&Row<'_>)) {
        let Answer { types, stats: asked, fill_zero, .. } = self.answer;
        let mut samples = self.samples.iter().peekable();
        let mut stats = stats_of(self.samples, asked.len());
        for code in types.iter() {
            while let Some(passed) = samples.next_if(|samples| samples.code < code) {
                stats.pass(passed.code);
            }
            match samples.next_if(|samples| samples.code == code) {
                Some(Samples { count, sum, .. }) => {
                    put(&self.row(code, count, sum, stats.take(code)));
                }
                None if *fill_zero => put(&self.row(code, 0, 0, None)),
                None => {}
            }
        }
    }

    fn row<'s>(&self, code: TypeCode, count: u64, sum: u64, stats: Option<&'s [u64]>) -> Row<'s> {
        let kind = code.kind();
        let value = match kind {
            Kind::Users | Kind::Count if self.answer.averages => {
                Value::average(self.group.parts.into(), sum)
            }
            _ => Value::of(kind, count, sum),
        };
        Row { code, value, stats }
    }
}

/// The stats of a cell, on the way from one of its durations to the next.
struct Stats<I> {
    /// How many there are of each duration.
    each: usize,
    /// `None` if none were asked for.
    rest: Option<I>,
    taken: Vec<u64>,
}

fn stats_of<'a>(
    samples: EncodedSamples<'a>,
    each: usize,
) -> Stats<impl Iterator<Item = u64> + use<'a>> {
    Stats { each, rest: (each > 0).then(|| samples.stats()), taken: Vec::new() }
}

impl<I: Iterator<Item = u64>> Stats<I> {
    /// Those of the next metric of the cell.
    fn take(&mut self, code: TypeCode) -> Option<&[u64]> {
        let rest = self.rest.as_mut().filter(|_| code.kind().is_duration())?;
        self.taken.clear();
        self.taken.extend(rest.take(self.each));
        Some(&self.taken)
    }

    /// Goes past the next metric of the cell.
    fn pass(&mut self, code: TypeCode) {
        let _passed = self.take(code);
    }
}
