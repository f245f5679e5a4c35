//! The sums of an hour: a mask of fields and their totals for each quarter.

use botstats_common::metric::TypeCode;
use botstats_common::varint;
use botstats_common::wire::Samples;

use super::users::StoredUsers;
use super::{BodyError, QUARTERS, quarters_of};
use crate::fold::metrics::{FIELDS, Field, Source, source};

/// The fields by their places in a mask: frequent ones first, as a mask is a varint. The places are
/// stored: never move one.
pub(super) const BY_PLACE: [Field; FIELDS] = [
    Field::Incoming,
    Field::Sessions,
    Field::LengthCount,
    Field::SessionMessages,
    Field::Contained,
    Field::NewUsers,
    Field::Messages,
    Field::LengthSum,
    Field::BotReplyCount,
    Field::BotReplySum,
    Field::NlpDetected,
    Field::Actions,
    Field::Api,
    Field::ApiTimeCount,
    Field::ApiTimeSum,
    Field::Fallback,
    Field::NlpMissed,
    Field::Goals,
    Field::WithGoal,
    Field::Tags,
    Field::ApiErrors,
    Field::Requests,
    Field::Unanswered,
    Field::OperatorMessages,
    Field::Takeovers,
    Field::PickUpCount,
    Field::PickUpSum,
    Field::SupportCount,
    Field::SupportSum,
    Field::FirstMessageCount,
    Field::FirstMessageSum,
    Field::OperatorReplyCount,
    Field::OperatorReplySum,
    Field::Feedback,
    Field::Satisfied,
];

/// The place of each field.
pub(super) const PLACES: [u8; FIELDS] = {
    let mut places = [u8::MAX; FIELDS];
    let mut place = 0;
    let mut number = 0;
    while place < FIELDS {
        assert!(places[BY_PLACE[place] as usize] == u8::MAX, "each field has one place");
        places[BY_PLACE[place] as usize] = number;
        place += 1;
        number += 1;
    }
    places
};

/// The mask of the fields that hold sums of milliseconds. All others count.
const SUMS: u64 = {
    let sums = [
        Field::LengthSum,
        Field::PickUpSum,
        Field::SupportSum,
        Field::FirstMessageSum,
        Field::BotReplySum,
        Field::OperatorReplySum,
        Field::ApiTimeSum,
    ];
    let (mut mask, mut i) = (0, 0);
    while i < sums.len() {
        mask |= 1 << PLACES[sums[i] as usize];
        i += 1;
    }
    mask
};

/// The fields that count the samples of these metrics: a bit for each, by place.
pub(crate) fn fields_of(metrics: impl IntoIterator<Item = TypeCode>) -> u64 {
    let of_metric = |code| match source(code) {
        Source::Count(count)
        | Source::Pair { count, .. }
        | Source::SumOf { counted: count, .. } => 1 << PLACES[count as usize],
        Source::Active | Source::ActiveBut(_) => 0,
    };
    metrics.into_iter().fold(0, |fields, code| fields | of_metric(code))
}

/// The fields of a quarter that are not zero, ascending by place, while they are written.
pub(super) struct FieldsWriter {
    mask: u64,
    /// True while every counting field is 1.
    ones: bool,
    values: [u64; FIELDS],
    len: usize,
}

impl FieldsWriter {
    pub(super) fn new() -> Self {
        Self { mask: 0, ones: true, values: [0; FIELDS], len: 0 }
    }

    #[inline]
    pub(super) fn push(&mut self, place: usize, total: u64) {
        if total != 0
            && let Some(value) = self.values.get_mut(self.len)
        {
            *value = total;
            self.len += 1;
            self.mask |= 1 << place;
            self.ones &= total == 1 || SUMS >> place & 1 != 0;
        }
    }

    /// Gives false, and writes nothing, if all are zero.
    pub(super) fn finish(&self, out: &mut Vec<u8>) -> bool {
        if self.mask == 0 {
            return false;
        }
        varint::write(out, self.mask << 1 | u64::from(self.ones));
        let mut mask = self.mask;
        for value in &self.values[..self.len] {
            if !self.ones || SUMS >> mask.trailing_zeros() & 1 != 0 {
                varint::write(out, *value);
            }
            mask &= mask - 1;
        }
        true
    }
}

/// The stored fields of a quarter.
#[derive(Default)]
pub(super) struct StoredFields {
    pub(super) mask: u64,
    ones: bool,
}

impl StoredFields {
    #[inline]
    pub(super) fn read(rest: &mut &[u8]) -> Option<Self> {
        let head = varint::read(rest)?;
        let (mask, ones) = (head >> 1, head & 1 != 0);
        (mask >> FIELDS == 0).then_some(Self { mask, ones })
    }

    /// The place and the total of the next field. To be called only while the mask is not 0.
    #[inline]
    pub(super) fn next(&mut self, rest: &mut &[u8]) -> Option<(usize, u64)> {
        let place = self.mask.trailing_zeros() as usize;
        self.mask &= self.mask.wrapping_sub(1);
        let is_one = self.ones && SUMS >> (place & 63) & 1 == 0;
        Some((place, if is_one { 1 } else { varint::read(rest)? }))
    }
}

/// Totals of one group by place of the field, as samples of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals(pub(super) [u64; FIELDS]);

impl Default for Totals {
    fn default() -> Self {
        Self([0; FIELDS])
    }
}

impl Totals {
    #[inline]
    pub(crate) fn get(&self, field: Field) -> u64 {
        self.0[usize::from(PLACES[field as usize])]
    }

    #[inline]
    fn add_to(&mut self, place: usize, total: u64) -> Option<()> {
        let sum = self.0.get_mut(place)?;
        *sum = sum.checked_add(total)?;
        Some(())
    }

    /// Adds all four quarters of a stored body, without decoding it to a value. Gives the body's
    /// users, and the fields that are not zero ([`fields_of`]). Samples and named cells are not
    /// read.
    ///
    /// # Errors
    /// [`BodyError`] if the version is unknown or the bytes are damaged; then these totals are
    /// unspecified.
    #[inline]
    pub(crate) fn add_stored<'a>(
        &mut self,
        body: &'a [u8],
    ) -> Result<(u64, StoredUsers<'a>), BodyError> {
        let mut fields = 0;
        let users = quarters_of(body, |_, place, total| {
            fields |= u64::from(total != 0) << place;
            self.add_to(place, total)
        })?;
        Ok((fields, users))
    }

    /// Adds the totals of a stored body's quarters to one element each. Gives the body's users.
    pub(crate) fn add_quarters<'a>(
        quarters: &mut [Self; QUARTERS],
        body: &'a [u8],
    ) -> Result<StoredUsers<'a>, BodyError> {
        quarters_of(body, |quarter, place, total| quarters.get_mut(quarter)?.add_to(place, total))
    }

    /// Adds other totals.
    ///
    /// # Errors
    /// If a sum does not fit.
    pub(crate) fn add(&mut self, other: &Self) -> Result<(), BodyError> {
        let mut each = other.0.iter().enumerate();
        each.try_for_each(|(place, total)| self.add_to(place, *total)).ok_or(BodyError::Damaged)
    }

    /// The fields that are not zero ([`fields_of`]).
    pub(crate) fn fields(&self) -> u64 {
        let totals = self.0.iter().enumerate();
        totals.fold(0, |fields, (place, total)| fields | u64::from(*total != 0) << place)
    }

    /// The samples of a metric, given the number of distinct active users of the group.
    pub(crate) fn samples(&self, code: TypeCode, active: u64) -> Samples {
        let (count, sum) = match source(code) {
            Source::Count(count) => (self.get(count), self.get(count)),
            Source::Pair { count, sum } | Source::SumOf { counted: count, sum } => {
                (self.get(count), self.get(sum))
            }
            Source::Active => (active, active),
            Source::ActiveBut(others) => {
                let rest = active.saturating_sub(self.get(others));
                (rest, rest)
            }
        };
        Samples { code, count, sum }
    }
}
