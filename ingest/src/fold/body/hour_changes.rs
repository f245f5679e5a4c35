//! What a commit changes in an hour, and the hour that it becomes.

use super::fields::{FieldsWriter, PLACES, StoredFields};
use super::section::{self, NamedCell};
use super::users::{StoredUsers, merge_users};
use super::{BodyError, Parts, QUARTERS, StoredSections, VERSION, after_zero, head, sections_of};
use crate::fold::cells::{self, Cells, changed};
use crate::fold::metrics::{FIELDS, Field};
use botstats_common::split::Split;

/// A change of one cell in an hour, as small as a commit with a million of them needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HourChange {
    /// The kind in the two highest bits, and by kind: a quarter and a field's place; a sample's
    /// cell; a quarter of a user, with [`HourChange::ADDS`].
    cell: u32,
    /// What is added; of a user the bits of the ordinal.
    amount: i32,
}

impl HourChange {
    const KIND: u32 = 3 << 30;
    const FIELD: u32 = 0;
    const SAMPLE: u32 = 1 << 30;
    const USER: u32 = 2 << 30;
    /// Set if the user was active, else the activity is removed.
    pub(super) const ADDS: u32 = 4;
    /// Bits of a field's place.
    const PLACE_BITS: u32 = 6;

    /// Adds `amount` to a field.
    pub(crate) fn field(quarter: u8, field: Field, amount: i64) -> impl Iterator<Item = Self> {
        let place = PLACES.get(field as usize).copied().unwrap_or_default();
        let cell = u32::from(quarter) << Self::PLACE_BITS | u32::from(place);
        Self::sum(Self::FIELD | cell, amount)
    }

    /// Adds `amount` samples to a cell of [`super::sample_cell`].
    pub(crate) fn sample(cell: u32, amount: i64) -> impl Iterator<Item = Self> {
        Self::sum(Self::SAMPLE | cell, amount)
    }

    /// Changes that add `amount` together: one, or several if it is 2^31 or more. A duration of 25
    /// days has that many milliseconds.
    #[inline]
    fn sum(cell: u32, amount: i64) -> impl Iterator<Item = Self> {
        let mut rest = Some(amount);
        std::iter::from_fn(move || {
            let all = rest?;
            let amount = i32::try_from(all).unwrap_or(if all < 0 { -i32::MAX } else { i32::MAX });
            rest = Some(all - i64::from(amount)).filter(|rest| *rest != 0);
            Some(Self { cell, amount })
        })
    }

    /// A user is active in a quarter, or no longer so.
    pub(crate) fn user(quarter: u8, ordinal: u32, adds: bool) -> Self {
        let adds = if adds { Self::ADDS } else { 0 };
        Self { cell: Self::USER | adds | u32::from(quarter), amount: ordinal.cast_signed() }
    }
}

/// All changes of one hour in a commit. The memory of one hour serves the next.
#[derive(Debug)]
pub(crate) struct HourChanges {
    /// By quarter and place; only those of `touched` mean something.
    sums: [[i64; FIELDS]; QUARTERS],
    touched: [u64; QUARTERS],
    /// Ordinal (32 bits), order of the change (29), true if it adds (1), quarter (2).
    users: Vec<u64>,
    samples: Vec<(u64, i64)>,
    /// Section, cell, amount.
    named: Vec<(u8, NamedCell, i64)>,
}

impl Default for HourChanges {
    fn default() -> Self {
        let (users, samples, named) = Default::default();
        let (sums, touched) = ([[0; FIELDS]; QUARTERS], [0; QUARTERS]);
        Self { sums, touched, users, samples, named }
    }
}

impl HourChanges {
    pub(crate) fn clear(&mut self) {
        self.touched = [0; QUARTERS];
        self.users.clear();
        self.samples.clear();
        self.named.clear();
    }

    #[inline]
    pub(crate) fn add(&mut self, HourChange { cell, amount }: HourChange) {
        let low = cell & !HourChange::KIND;
        match cell & HourChange::KIND {
            HourChange::FIELD => {
                let quarter = (low >> HourChange::PLACE_BITS) as usize & (QUARTERS - 1);
                let place = low as usize & ((1 << HourChange::PLACE_BITS) - 1);
                let Some(sum) = self.sums[quarter].get_mut(place) else { return };
                let before = if self.touched[quarter] >> place & 1 != 0 { *sum } else { 0 };
                *sum = before.saturating_add(amount.into());
                self.touched[quarter] |= 1 << place;
            }
            HourChange::SAMPLE => self.samples.push((low.into(), amount.into())),
            _ => {
                let order = self.users.len() as u64;
                let ordinal = u64::from(amount.cast_unsigned());
                self.users.push(ordinal << 32 | order << 3 | u64::from(low & 7));
            }
        }
    }

    /// Adds to a cell of a section, see [`section::with_index`].
    pub(crate) fn add_named(&mut self, section: u8, cell: NamedCell, amount: i64) {
        self.named.push((section, cell, amount));
    }

    /// Moves what a stored body has for evicted names to another name of the split. `evicted` is
    /// sorted.
    ///
    /// # Errors
    /// If the bytes are damaged.
    pub(crate) fn move_names(
        &mut self,
        body: &[u8],
        split: Split,
        evicted: &[u32],
        to: u32,
    ) -> Result<(), BodyError> {
        let mut sections = sections_of(body)?;
        while let Some((section, mut cells)) = sections.next()? {
            let Some((_, samples)) = section::split(section).filter(|(of, _)| *of == split) else {
                continue;
            };
            while let Some((cell, count)) = cells.next()? {
                let (index, low) = section::index_of(split, samples, cell);
                let index = u32::try_from(index).map_err(|_| BodyError::Damaged)?;
                if evicted.binary_search(&index).is_ok() {
                    let low = u32::try_from(low).map_err(|_| BodyError::Damaged)?;
                    let count = i64::try_from(count).map_err(|_| BodyError::Damaged)?;
                    let other = section::with_index(split, samples, to, low);
                    self.named.push((section, cell, -count));
                    self.named.push((section, other, count));
                }
            }
        }
        Ok(())
    }

    /// Appends the body that a stored one becomes. Gives false, and appends nothing, if it has
    /// nothing left. `is_whole` is false if a part of the hour may have been deleted: then no total
    /// falls below 0. An activity that is not there may be removed.
    ///
    /// # Errors
    /// If the stored body is damaged, or if a total of a whole hour would fall below 0: then the
    /// stored state is wrong.
    pub(crate) fn merge(
        &mut self,
        stored: Option<&[u8]>,
        is_whole: bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, BodyError> {
        let before = out.len();
        let (mut rest, mut quarters) = (stored.unwrap_or_default(), 0);
        if stored.is_some() {
            quarters = head(&mut rest)?;
        }
        out.push(VERSION << 4);
        let mut head = VERSION << 4;
        for quarter in 0..QUARTERS {
            let is_stored = quarters >> quarter & 1 != 0;
            if self.merge_fields(quarter, is_stored, &mut rest, is_whole, out)? {
                head |= 1 << quarter;
            }
        }
        if let Some(first) = out.get_mut(before) {
            *first = head;
        }
        let mut parts = Parts::new(out);
        let mut users = StoredUsers::new(rest);
        self.users.sort_unstable();
        parts.part(|out| merge_users(&mut users, &self.users, out))?;
        let mut samples = Cells::new(after_zero(users.rest)?);
        self.samples.sort_unstable_by_key(|(cell, _)| *cell);
        let changes = self.samples.iter().copied();
        parts.part(|out| cells::merge(&mut samples, changes, is_whole, out))?;
        let sections = StoredSections::new(samples.rest()?);
        self.merge_named(sections, is_whole, &mut parts)?;
        if out.len() == before + 1 {
            out.truncate(before);
            return Ok(false);
        }
        Ok(true)
    }

    #[inline]
    fn merge_fields(
        &self,
        quarter: usize,
        is_stored: bool,
        rest: &mut &[u8],
        is_whole: bool,
        out: &mut Vec<u8>,
    ) -> Result<bool, BodyError> {
        let mut touched = self.touched[quarter];
        if touched == 0 && !is_stored {
            return Ok(false);
        }
        let mut stored = match is_stored {
            true => StoredFields::read(rest).ok_or(BodyError::Damaged)?,
            false => StoredFields::default(),
        };
        let mut writer = FieldsWriter::new();
        while stored.mask | touched != 0 {
            let place = (stored.mask | touched).trailing_zeros() as usize;
            let mut total = 0;
            if stored.mask >> place & 1 != 0 {
                total = stored.next(rest).ok_or(BodyError::Damaged)?.1;
            }
            if touched >> place & 1 != 0 {
                touched &= touched - 1;
                total = changed(total, self.sums[quarter][place], is_whole)?;
            }
            writer.push(place, total);
        }
        Ok(writer.finish(out))
    }

    fn merge_named(
        &mut self,
        mut stored: StoredSections<'_>,
        is_whole: bool,
        parts: &mut Parts<'_>,
    ) -> Result<(), BodyError> {
        self.named.sort_unstable_by_key(|(section, cell, _)| (*section, *cell));
        let mut changes = self.named.chunk_by(|a, b| a.0 == b.0).peekable();
        let mut old = stored.next()?;
        loop {
            let new = changes.peek().and_then(|changes| changes.first()).map(|change| change.0);
            let Some(section) = old.iter().map(|old| old.0).chain(new).min() else {
                return Ok(());
            };
            let none = Cells::new(&[]);
            let mut cells = old.filter(|old| old.0 == section).map_or(none, |old| old.1);
            let changed = match new == Some(section) {
                true => changes.next().unwrap_or_default(),
                false => &[],
            };
            let changed = changed.iter().map(|(_, cell, amount)| (*cell, *amount));
            parts.section(section, |out| cells::merge(&mut cells, changed, is_whole, out))?;
            if old.is_some_and(|old| old.0 == section) {
                old = stored.next()?;
            }
        }
    }
}
