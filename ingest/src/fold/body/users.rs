//! The active users of an hour: ordinals, each with a mask of quarters.

use botstats_common::varint;

use super::{BodyError, HourChange, Totals};

/// The mask of the quarters in which a user was active; 0 if the body does not have the user.
///
/// # Errors
/// If the bytes are damaged.
pub(crate) fn mask_of_user(body: &[u8], wanted: u32) -> Result<u8, BodyError> {
    let (_, users) = Totals::default().add_stored(body)?;
    let mut found = 0;
    users.for_each(|ordinal, mask| found = if ordinal == wanted { mask } else { found })?;
    Ok(found)
}

/// The users of a stored body, read one by one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoredUsers<'a> {
    pub(super) rest: &'a [u8],
    previous: Option<u32>,
}

impl<'a> StoredUsers<'a> {
    pub(super) fn new(rest: &'a [u8]) -> Self {
        Self { rest, previous: None }
    }

    /// True if there are no more users.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.rest, [] | [0, ..])
    }

    /// The next user: ordinal and mask of quarters.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u32, u8)>, BodyError> {
        if self.is_empty() {
            return Ok(None);
        }
        self.read().map(Some).ok_or(BodyError::Damaged)
    }

    #[inline]
    fn read(&mut self) -> Option<(u32, u8)> {
        let entry = varint::read(&mut self.rest)?;
        let step = u32::try_from(entry >> 4).ok()?;
        let mask = u8::try_from(entry & 15).ok()?;
        if mask == 0 || (step == 0 && self.previous.is_some()) {
            return None;
        }
        let ordinal = self.previous.unwrap_or(0).checked_add(step)?;
        self.previous = Some(ordinal);
        Some((ordinal, mask))
    }

    /// Gives each user's ordinal, ascending, and the mask of the user's quarters.
    ///
    /// # Errors
    /// If the bytes are damaged.
    #[inline]
    pub(crate) fn for_each(mut self, user: impl FnMut(u32, u8)) -> Result<(), BodyError> {
        self.take_all(user)
    }

    /// As [`StoredUsers::for_each`], and leaves these users at their end.
    ///
    /// # Errors
    /// If the bytes are damaged.
    #[inline]
    pub(crate) fn take_all(&mut self, mut user: impl FnMut(u32, u8)) -> Result<(), BodyError> {
        while let Some((ordinal, mask)) = self.next()? {
            user(ordinal, mask);
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct UsersWriter {
    previous: u32,
}

impl UsersWriter {
    #[inline]
    pub(super) fn push(&mut self, out: &mut Vec<u8>, ordinal: u32, mask: u8) {
        if mask != 0 {
            varint::write(out, u64::from(ordinal - self.previous) << 4 | u64::from(mask));
            self.previous = ordinal;
        }
    }
}

/// Adds and removes activities, sorted by ordinal and then by order.
pub(super) fn merge_users(
    stored: &mut StoredUsers<'_>,
    mut changes: &[u64],
    out: &mut Vec<u8>,
) -> Result<(), BodyError> {
    let mut writer = UsersWriter::default();
    let mut user = stored.next()?;
    while let [first, ..] = changes {
        let ordinal = u32::try_from(first >> 32).unwrap_or(u32::MAX);
        while let Some((other, mask)) = user.filter(|(other, _)| *other < ordinal) {
            writer.push(out, other, mask);
            user = stored.next()?;
        }
        let mut mask = 0;
        if let Some((_, before)) = user.filter(|(other, _)| *other == ordinal) {
            mask = before;
            user = stored.next()?;
        }
        while let [change, rest @ ..] = changes
            && change >> 32 == first >> 32
        {
            let quarter = 1 << (change & 3);
            let adds = change & u64::from(HourChange::ADDS) != 0;
            mask = if adds { mask | quarter } else { mask & !quarter };
            changes = rest;
        }
        writer.push(out, ordinal, mask);
    }
    while let Some((ordinal, mask)) = user {
        writer.push(out, ordinal, mask);
        user = stored.next()?;
    }
    Ok(())
}
