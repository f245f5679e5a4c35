//! The answer: the cells that an ingest counted become ordered rows, then bytes.
//!
//! *Invariants*: the same question over the same cells and names gives the same bytes, in whatever
//! order the cells came. Rows are made one at a time while they are sent; only cells are held.
//!
//! *Not here*: NATS and HTTP.

pub(crate) mod budget;
pub(crate) mod cells;
pub(crate) mod collect;
pub(crate) mod columns;
mod labels;
mod number;
pub(crate) mod overview;
pub(crate) mod render;
mod rows;
#[cfg(test)]
pub(crate) mod tests;
mod text;

use botstats_common::metric::TypeSet;
use botstats_common::stat::Stat;
use botstats_common::wire::{Chunk, Samples};

use self::cells::{CellAt, Cells, Collecting, Malformed};
use self::labels::LabelledRows;
pub use self::labels::{Labels, Names};
pub(crate) use self::render::Format;
use self::render::Rendering;
use self::rows::{Cursor, Rows};
use crate::request::question::{GroupMode, Question};
use crate::window::{Group, Windows};

/// The most rows of an answer. A row has about 250 bytes as JSON, so this is 500 MB of text: a
/// program can still read it, and a replica sends it within the time of an answer.
pub(crate) const MAX_ROWS: usize = 2_000_000;

/// The most rows of an answer for the page: more than a chart or a table can show.
pub(crate) const MAX_PAGE_ROWS: usize = 5_000;

/// Cells in the order of their rows, with everything that the rows need.
#[derive(Debug)]
pub struct Answer {
    /// The groups of the window, then those of the earlier one.
    groups: Vec<Group>,
    /// The number of groups of the window.
    current_groups: usize,
    rows: LabelledRows,
    cells: Vec<CellAt>,
    samples: cells::SampleStore,
    types: TypeSet,
    stats: Vec<Stat>,
    fill_zero: bool,
    /// Whether users and counts are averages over the hours that a group has.
    averages: bool,
}

impl Answer {
    /// Puts cells into the order of rows: the window, then the earlier one; the group; then as
    /// `labels` says.
    ///
    /// # Errors
    /// If the cells are not an answer to that question.
    pub fn new(
        question: &Question,
        windows: &Windows,
        labels: Labels,
        cells: Cells,
    ) -> Result<Self, Malformed> {
        let Cells { pairs, rows, mut cells, samples, .. } = cells;
        let (rows, places) = LabelledRows::new(question, labels, rows, &pairs)?;
        for cell in &mut cells {
            cell.row = *places.get(as_usize(cell.row)).ok_or(Malformed::NoRow)?;
        }
        cells.sort_unstable_by_key(|cell| (cell.group, cell.row));
        let twice = cells
            .windows(2)
            .any(|two| matches!(two, [a, b] if (a.group, a.row) == (b.group, b.row)));
        let Windows { current, earlier, .. } = windows;
        let earlier = earlier.iter().flat_map(|window| &window.groups);
        let groups: Vec<Group> = current.groups.iter().chain(earlier).cloned().collect();
        let beyond = cells.last().is_some_and(|cell| as_usize(cell.group) >= groups.len());
        match (twice, beyond) {
            (true, _) => Err(Malformed::Twice),
            (_, true) => Err(Malformed::Group),
            _ => Ok(Self {
                groups,
                current_groups: current.groups.len(),
                rows,
                cells,
                samples,
                types: question.types,
                stats: question.stats.clone(),
                fill_zero: question.fill_zero,
                averages: question.mode == GroupMode::WeekHour,
            }),
        }
    }

    /// The number of rows, if it is more than `most`.
    pub(crate) fn too_many_rows(&self, most: usize) -> Option<usize> {
        // Without `fill` the rows are counted sample by sample, so only where there may be too
        // many.
        let of_a_cell = self.types.iter().count();
        if !self.fill_zero && self.cells.len().saturating_mul(of_a_cell) <= most {
            return None;
        }
        Some(self.row_count()).filter(|rows| *rows > most)
    }

    fn row_count(&self) -> usize {
        if self.fill_zero {
            let places = self.groups.len().saturating_mul(self.rows.len());
            return places.saturating_mul(self.types.iter().count());
        }
        let asked = |samples: &Samples| self.types.contains(samples.code);
        self.cells.iter().map(|cell| self.samples.of(cell).iter().filter(asked).count()).sum()
    }

    /// The next cell that may have rows, in their order.
    fn next_rows(&self, cursor: &mut Cursor) -> Option<Rows<'_>> {
        if !self.fill_zero {
            let cell = self.cells.get(cursor.cell)?;
            cursor.cell += 1;
            return self.rows(as_usize(cell.group), as_usize(cell.row), Some(cell));
        }
        if cursor.row == self.rows.len() {
            cursor.row = 0;
            cursor.group += 1;
        }
        let here = |cell: &&CellAt| {
            (as_usize(cell.group), as_usize(cell.row)) == (cursor.group, cursor.row)
        };
        let cell = self.cells.get(cursor.cell).filter(here);
        let rows = self.rows(cursor.group, cursor.row, cell);
        cursor.cell += usize::from(cell.is_some());
        cursor.row += 1;
        rows
    }

    fn rows(&self, group: usize, row: usize, cell: Option<&CellAt>) -> Option<Rows<'_>> {
        Some(Rows {
            is_current: group < self.current_groups,
            group: self.groups.get(group)?,
            labels: self.rows.get(row)?,
            samples: cell.map(|cell| self.samples.of(cell)).unwrap_or_default(),
            answer: self,
        })
    }
}

/// Answers a question from an ingest's chunks, whole and at once.
///
/// # Errors
/// If the chunks are not an answer to that question.
pub fn render_all(
    question: &Question,
    labels: &Labels,
    windows: &Windows,
    chunks: &[Chunk],
    format: Format,
) -> Result<Vec<u8>, Malformed> {
    let mut collecting = Collecting::new(question.stats.len());
    for chunk in chunks {
        collecting.add_value(chunk.clone())?;
    }
    let answer = Answer::new(question, windows, labels.clone(), collecting.finish()?)?;
    let mut rendering = Rendering::new(answer, question, format);
    let mut bytes = Vec::new();
    while let Some(piece) = rendering.next_piece() {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// A widening conversion on every machine that this program runs on.
fn as_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
