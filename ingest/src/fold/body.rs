//! The body of a bucket: what one (bot, channel) has in one UTC hour, by quarter.
//!
//! *Format* (version 1), in this order, so that a read of sums and users stops early:
//! 1. A byte: the version times 16, plus a mask of the quarters that have sums.
//! 2. For each of these quarters a varint: the mask of the fields that are not zero, by the places
//!    of [`fields::BY_PLACE`], times two, plus one if every counting field among them is 1. Then
//!    these fields as varints, without the counting fields if all are 1.
//! 3. Active users, ascending by ordinal, as a varint each: the difference to the ordinal before
//!    (the first: the ordinal) times 16, plus the mask of the quarters in which the user was
//!    active.
//! 4. Samples: a list ([`crate::fold::cells`]) of [`sample_cell`]s.
//! 5. Sections of named cells, ascending by number: the number ([`section`]), a list of
//!    [`NamedCell`]s.
//!
//! Users, samples and sections have a zero byte between them. Whatever is empty at the end is left
//! out together with the zero byte before it.
//!
//! *Why* a body has an hour and not a quarter: a user who is active in all four is stored once.
//! *Why* the counting fields can be left out: most buckets have one or two events.

mod fields;
mod hour_changes;
mod samples;
pub(crate) mod section;
mod users;

use std::convert::Infallible;

use crate::fold::cells::{Cells, CellsWriter};
use fields::{FieldsWriter, StoredFields};
pub(crate) use fields::{Totals, fields_of};
pub(crate) use hour_changes::{HourChange, HourChanges};
pub(crate) use samples::{sample_cell, sample_of, sampled};
pub(crate) use section::{Counts, NamedCell};
pub(crate) use users::mask_of_user;
use users::{StoredUsers, UsersWriter};

pub(crate) const QUARTERS: usize = 4;
const VERSION: u8 = 1;
/// Bits of a quarter within its hour.
const QUARTER_BITS: u32 = 2;

/// Why the bytes of a bucket cannot be read or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("a bucket has version {0}, this program knows version {VERSION}")]
    Version(u8),
    #[error("the bytes of a bucket are malformed")]
    Damaged,
    #[error("a change would make a total of a bucket negative")]
    Negative,
}

/// The head of a body: which quarters have sums.
#[inline]
fn head(rest: &mut &[u8]) -> Result<u8, BodyError> {
    let (first, tail) = rest.split_first().ok_or(BodyError::Damaged)?;
    *rest = tail;
    match first >> 4 {
        VERSION => Ok(first & 15),
        version => Err(BodyError::Version(version)),
    }
}

/// What follows the zero byte that ended users, samples or a section; empty at the end of the body.
#[inline]
fn after_zero(rest: &[u8]) -> Result<&[u8], BodyError> {
    match rest {
        [] => Ok(rest),
        [0, after @ ..] if !after.is_empty() => Ok(after),
        _ => Err(BodyError::Damaged),
    }
}

/// The sections of a stored body, one by one.
pub(crate) struct StoredSections<'a> {
    rest: &'a [u8],
    previous: u8,
}

impl<'a> StoredSections<'a> {
    /// `rest` begins with the zero byte that ended the samples.
    fn new(rest: &'a [u8]) -> Self {
        Self { rest, previous: 0 }
    }

    pub(crate) fn next(&mut self) -> Result<Option<(u8, Cells<'a>)>, BodyError> {
        let Some((&section, rest)) = after_zero(self.rest)?.split_first() else { return Ok(None) };
        if section <= self.previous || !section::is_known(section) {
            return Err(BodyError::Damaged);
        }
        let cells = Cells::new(rest);
        if cells.clone().next()?.is_none() {
            return Err(BodyError::Damaged);
        }
        self.previous = section;
        self.rest = cells.rest()?;
        Ok(Some((section, cells)))
    }
}

/// Writes what follows the sums, with a zero byte between the parts.
struct Parts<'a> {
    out: &'a mut Vec<u8>,
    /// Zero bytes that are due before the next part that is not empty.
    due: usize,
}

impl<'a> Parts<'a> {
    fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, due: 0 }
    }

    /// Users or samples: their place counts even if they are empty.
    fn part<E>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        if !self.write(None, write)? {
            self.due += 1;
        }
        Ok(())
    }

    fn section<E>(
        &mut self,
        section: u8,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.write(Some(section), write).map(drop)
    }

    fn write<E>(
        &mut self,
        section: Option<u8>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let before = self.out.len();
        self.out.resize(before + self.due, 0);
        self.out.extend(section);
        let begin = self.out.len();
        write(self.out)?;
        let any = self.out.len() > begin;
        if any {
            self.due = 1;
        } else {
            self.out.truncate(before);
        }
        Ok(any)
    }
}

/// The sections of a stored body.
///
/// # Errors
/// If the version is unknown or the bytes are damaged.
pub(crate) fn sections_of(body: &[u8]) -> Result<StoredSections<'_>, BodyError> {
    let mut unused = Totals::default();
    let (_, users) = unused.add_stored(body)?;
    Ok(StoredSections::new(samples_after(users)?.rest()?))
}

/// The samples of a stored body, which follow its users.
///
/// # Errors
/// If the bytes are damaged.
pub(crate) fn samples_after(users: StoredUsers<'_>) -> Result<Cells<'_>, BodyError> {
    Ok(Cells::new(after_zero(users_end(users)?)?))
}

/// The mask of the quarters in which a stored body has a sum or an active user.
///
/// # Errors
/// If the version is unknown or the bytes are damaged.
pub(crate) fn active_quarters(body: &[u8]) -> Result<u8, BodyError> {
    let mut active = 0;
    let users = quarters_of(body, |quarter, _, total| {
        active |= u8::from(total != 0) << quarter;
        Some(())
    })?;
    users.for_each(|_, mask| active |= mask)?;
    Ok(active)
}

fn users_end(mut users: StoredUsers<'_>) -> Result<&[u8], BodyError> {
    while users.next()?.is_some() {}
    Ok(users.rest)
}

/// A decoded body, for tests and tools that show everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hour {
    pub(crate) sums: [Totals; QUARTERS],
    /// (ordinal, mask of quarters), ascending by ordinal, no mask 0.
    pub(crate) users: Vec<(u32, u8)>,
    /// ([`sample_cell`], count), ascending; no count 0.
    pub(crate) samples: Vec<(u64, u64)>,
    /// (section, cell, count), ascending; no count 0.
    pub(crate) named: Vec<(u8, NamedCell, u64)>,
}

impl Hour {
    pub(crate) fn decode(body: &[u8]) -> Result<Self, BodyError> {
        let mut hour = Self::default();
        let users = quarters_of(body, |quarter, place, total| {
            hour.sums[quarter].0[place] = total;
            Some(())
        })?;
        users.for_each(|ordinal, mask| hour.users.push((ordinal, mask)))?;
        let mut samples = samples_after(users)?;
        while let Some((cell, count)) = samples.next()? {
            sample_of(cell).ok_or(BodyError::Damaged)?;
            hour.samples.push((cell, count));
        }
        let mut sections = StoredSections::new(samples.rest()?);
        while let Some((section, mut cells)) = sections.next()? {
            while let Some((cell, count)) = cells.next()? {
                hour.named.push((section, cell, count));
            }
        }
        Ok(hour)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let at = out.len();
        out.push(VERSION << 4);
        for (quarter, totals) in self.sums.iter().enumerate() {
            let mut writer = FieldsWriter::new();
            totals.0.iter().enumerate().for_each(|(place, total)| writer.push(place, *total));
            if writer.finish(out)
                && let Some(head) = out.get_mut(at)
            {
                *head |= 1 << quarter;
            }
        }
        let mut parts = Parts::new(out);
        let Ok(()) = self.encode_parts(&mut parts);
    }

    fn encode_parts(&self, parts: &mut Parts<'_>) -> Result<(), Infallible> {
        parts.part(|out| {
            let mut writer = UsersWriter::default();
            self.users.iter().for_each(|(ordinal, mask)| writer.push(out, *ordinal, *mask));
            Ok::<_, Infallible>(())
        })?;
        parts.part(|out| {
            let mut writer = CellsWriter::default();
            self.samples.iter().for_each(|(cell, count)| writer.push(out, *cell, *count));
            Ok::<_, Infallible>(())
        })?;
        for cells in self.named.chunk_by(|a, b| a.0 == b.0) {
            let section = cells.first().map_or(0, |cell| cell.0);
            parts.section(section, |out| {
                let mut writer = CellsWriter::default();
                cells.iter().for_each(|(_, cell, count)| writer.push(out, *cell, *count));
                Ok::<_, Infallible>(())
            })?;
        }
        Ok(())
    }
}

/// Calls `each` with quarter, place and total of the stored fields; gives the users. `None` of
/// `each` is damage.
#[inline]
fn quarters_of(
    body: &[u8],
    mut each: impl FnMut(usize, usize, u64) -> Option<()>,
) -> Result<StoredUsers<'_>, BodyError> {
    let mut rest = body;
    let quarters = head(&mut rest)?;
    for quarter in 0..QUARTERS {
        if quarters >> quarter & 1 != 0 {
            let mut fields = StoredFields::read(&mut rest).ok_or(BodyError::Damaged)?;
            while fields.mask != 0 {
                let (place, total) = fields.next(&mut rest).ok_or(BodyError::Damaged)?;
                each(quarter, place, total).ok_or(BodyError::Damaged)?;
            }
        }
    }
    Ok(StoredUsers::new(rest))
}

#[cfg(test)]
mod tests;
