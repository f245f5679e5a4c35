//! Lists of numbered cells with a count each: the form of everything in a bucket of which most is
//! zero.
//!
//! *Format*: one or two varints for each cell that is not zero, ascending by number. The first is
//! twice the difference to the number of the cell before (of the first cell: to -1), plus one if
//! the count is above 1. Only then there is a second: the count less two. A zero byte or the end of
//! the bytes ends the list.

use botstats_common::varint;

use crate::fold::body::BodyError;

/// A stored list, read cell by cell.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cells<'a> {
    rest: &'a [u8],
    /// The number of the next cell, if its difference is one.
    next: u64,
}

impl<'a> Cells<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, next: 0 }
    }

    /// The next cell and its count; `None` at the end of the list.
    ///
    /// # Errors
    /// If the bytes are damaged.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u64, u64)>, BodyError> {
        if matches!(self.rest, [] | [0, ..]) {
            return Ok(None);
        }
        self.read().map(Some).ok_or(BodyError::Damaged)
    }

    #[inline]
    fn read(&mut self) -> Option<(u64, u64)> {
        let entry = varint::read(&mut self.rest)?;
        let cell = self.next.checked_add((entry >> 1).checked_sub(1)?)?;
        let count = match entry & 1 {
            0 => 1,
            _ => varint::read(&mut self.rest)?.checked_add(2)?,
        };
        // A number that is written again must fit after it was doubled.
        self.next = cell.checked_add(1).filter(|next| *next < 1 << 62)?;
        Some((cell, count))
    }

    /// The bytes after the list, from the zero byte on that ends it.
    ///
    /// # Errors
    /// If the bytes are damaged.
    pub(crate) fn rest(mut self) -> Result<&'a [u8], BodyError> {
        while self.next()?.is_some() {}
        Ok(self.rest)
    }
}

/// Writes a list.
#[derive(Debug, Default)]
pub(crate) struct CellsWriter {
    next: u64,
}

impl CellsWriter {
    /// Adds a cell that comes after those before it; a count of 0 is left out.
    #[inline]
    pub(crate) fn push(&mut self, out: &mut Vec<u8>, cell: u64, count: u64) {
        let Some(above) = count.checked_sub(1) else { return };
        let step = cell - self.next + 1;
        varint::write(out, step << 1 | u64::from(above > 0));
        if above > 0 {
            varint::write(out, above - 1);
        }
        self.next = cell + 1;
    }
}

/// Adds changes to a list. The changes ascend by cell and may repeat one. Leaves `old` at its end.
///
/// # Errors
/// If the bytes are damaged, or [`BodyError::Negative`] as [`changed`] says.
pub(crate) fn merge(
    old: &mut Cells<'_>,
    mut changes: impl Iterator<Item = (u64, i64)>,
    is_whole: bool,
    out: &mut Vec<u8>,
) -> Result<(), BodyError> {
    let mut writer = CellsWriter::default();
    let (mut stored, mut change) = (old.next()?, changes.next());
    while let Some((cell, mut amount)) = change {
        while let Some((other, count)) = stored.filter(|(other, _)| *other < cell) {
            writer.push(out, other, count);
            stored = old.next()?;
        }
        change = changes.next();
        while let Some((_, more)) = change.filter(|(other, _)| *other == cell) {
            amount = amount.checked_add(more).ok_or(BodyError::Damaged)?;
            change = changes.next();
        }
        let mut count = 0;
        if let Some((_, before)) = stored.filter(|(other, _)| *other == cell) {
            count = before;
            stored = old.next()?;
        }
        writer.push(out, cell, changed(count, amount, is_whole)?);
    }
    while let Some((cell, count)) = stored {
        writer.push(out, cell, count);
        stored = old.next()?;
    }
    Ok(())
}

/// A total after a change. A part of what is not whole may have been deleted: then no total falls
/// below 0.
///
/// # Errors
/// [`BodyError::Negative`] if the total of a whole would fall below 0, [`BodyError::Damaged`] if it
/// would not fit.
#[inline]
pub(crate) fn changed(total: u64, change: i64, is_whole: bool) -> Result<u64, BodyError> {
    match total.checked_add_signed(change) {
        Some(sum) => Ok(sum),
        None if change >= 0 => Err(BodyError::Damaged),
        None if is_whole => Err(BodyError::Negative),
        None => Ok(0),
    }
}
