//! The body of a bucket: what one (bot, channel) has in one UTC hour, by quarter.
//!
//! *Format* (version 1), in this order, so that a read of sums and users stops early:
//! 1. A byte: the version times 16, plus a mask of the quarters that have sums.
//! 2. For each of these quarters a varint: the mask of the fields that are not zero, by the places
//!    of [`BY_PLACE`], times two, plus one if every counting field among them is 1. Then these
//!    fields as varints, without the counting fields if all are 1.
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
//! *Why* an hour and not a quarter a body: a user who is active all hour is stored once. *Why* the
//! counting fields can be left out: most buckets have one or two events.

use std::convert::Infallible;

use botstats_common::metric::TypeCode;
use botstats_common::varint;
use botstats_common::wire::Samples;

use crate::fold::cells::{self, Cells, CellsWriter, changed};
use crate::fold::metrics::{FIELDS, Field, Source, Split, source};
use crate::fold::value_code::CODE_BITS;

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

/// The fields by their places in a mask: frequent ones first, as a mask is a varint. The places are
/// stored: never move one.
const BY_PLACE: [Field; FIELDS] = [
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
const PLACES: [u8; FIELDS] = {
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

/// The metrics that keep samples, by their numbers in the cells of samples: frequent ones first.
/// The numbers are stored: never move one.
pub(crate) const SAMPLED: [TypeCode; 7] = [
    TypeCode::ConversationLength,
    TypeCode::BotReplyTime,
    TypeCode::ApiTime,
    TypeCode::OperatorReplyTime,
    TypeCode::TimeToPickUp,
    TypeCode::SupportLength,
    TypeCode::TimeToFirstMessage,
];

/// The number of each metric in [`SAMPLED`], by its place; others have none.
const SAMPLED_NUMBERS: [Option<u8>; TypeCode::ALL.len()] = {
    let mut numbers = [None; TypeCode::ALL.len()];
    let (mut i, mut number) = (0, 0);
    while i < SAMPLED.len() {
        numbers[SAMPLED[i].place()] = Some(number);
        i += 1;
        number += 1;
    }
    numbers
};

/// The number by which a metric is sampled; `None` if its samples are not kept.
pub(crate) fn sampled(metric: TypeCode) -> Option<u8> {
    SAMPLED_NUMBERS.get(metric.place()).copied().flatten()
}

/// The cell of a sample: the metric's number in [`SAMPLED`], the value's code, the quarter.
pub(crate) fn sample_cell(sampled: u8, code: u16, quarter: u8) -> u32 {
    (u32::from(sampled) << CODE_BITS | u32::from(code)) << QUARTER_BITS | u32::from(quarter)
}

/// The metric, the value's code and the quarter of a sample's cell; `None` if no metric has the
/// number.
pub(crate) fn sample_of(cell: u64) -> Option<(TypeCode, u16, u8)> {
    let code = cell >> QUARTER_BITS & ((1 << CODE_BITS) - 1);
    let metric = SAMPLED.get(usize::try_from(cell >> (QUARTER_BITS + CODE_BITS)).ok()?)?;
    Some((*metric, u16::try_from(code).ok()?, quarter_of(cell)?))
}

fn quarter_of(cell: u64) -> Option<u8> {
    u8::try_from(cell & ((1 << QUARTER_BITS) - 1)).ok()
}

/// A section of named cells: a split's fields or its samples.
pub(crate) mod section {
    use super::*;

    /// The metrics of a split whose samples are kept by name.
    const INTEGRATION: [TypeCode; 1] = [TypeCode::ApiTime];
    const OPERATOR: [TypeCode; 4] = [
        TypeCode::TimeToPickUp,
        TypeCode::SupportLength,
        TypeCode::TimeToFirstMessage,
        TypeCode::OperatorReplyTime,
    ];
    /// The least and the largest number: the splits have 1 to 5, samples of integrations 6, those
    /// of operators 7. The numbers are stored.
    const NUMBERS: std::ops::RangeInclusive<u8> = 1..=7;

    /// The section of a split's fields.
    pub(crate) fn of_fields(split: Split) -> u8 {
        split.number() + 1
    }

    /// The section of a split's samples; `None` if it keeps none.
    pub(crate) fn of_samples(split: Split) -> Option<u8> {
        match split {
            Split::Integration => Some(6),
            Split::Operator => Some(7),
            Split::Goal | Split::Tag | Split::Intent => None,
        }
    }

    /// The split of a section, and true if it has samples; `None` if there is no such section.
    pub(crate) fn split(section: u8) -> Option<(Split, bool)> {
        match section {
            6 => Some((Split::Integration, true)),
            7 => Some((Split::Operator, true)),
            _ => Some((Split::of_number(section.checked_sub(1)?)?, false)),
        }
    }

    pub(super) fn is_known(section: u8) -> bool {
        NUMBERS.contains(&section)
    }

    /// The bits below the name's index in a section's cells.
    fn width(split: Split, samples: bool) -> u32 {
        let bits = match (split, samples) {
            (Split::Goal | Split::Tag, _) => 0,
            (Split::Intent, _) => 1,
            (Split::Integration, false) => 3,
            (Split::Operator, false) => 4,
            (Split::Integration, true) => CODE_BITS,
            (Split::Operator, true) => 2 + CODE_BITS,
        };
        bits + QUARTER_BITS
    }

    fn metrics(split: Split) -> &'static [TypeCode] {
        match split {
            Split::Integration => &INTEGRATION,
            Split::Operator => &OPERATOR,
            Split::Goal | Split::Tag | Split::Intent => &[],
        }
    }

    /// The number of a field in the cells of its split. The numbers are stored: never change one.
    fn number(field: Field) -> Option<u32> {
        match field {
            Field::Goals | Field::Tags => Some(0),
            Field::NlpDetected => Some(0),
            Field::NlpMissed => Some(1),
            Field::Actions => Some(0),
            Field::Api => Some(1),
            Field::ApiErrors => Some(2),
            Field::ApiTimeCount => Some(3),
            Field::ApiTimeSum => Some(4),
            Field::PickUpCount => Some(0),
            Field::PickUpSum => Some(1),
            Field::SupportCount => Some(2),
            Field::SupportSum => Some(3),
            Field::FirstMessageCount => Some(4),
            Field::FirstMessageSum => Some(5),
            Field::OperatorMessages => Some(6),
            Field::OperatorReplyCount => Some(7),
            Field::OperatorReplySum => Some(8),
            _ => None,
        }
    }

    /// A cell without the name's index: a field of its split; `None` if the field has none.
    pub(crate) fn field(field: Field, quarter: u8) -> Option<u32> {
        Some(number(field)? << QUARTER_BITS | u32::from(quarter))
    }

    /// A cell without the name's index: a sample of the split.
    pub(crate) fn sample(split: Split, metric: TypeCode, code: u16, quarter: u8) -> Option<u32> {
        let number = metrics(split).iter().position(|of| *of == metric)?;
        let number = u32::try_from(number).ok()?;
        Some((number << CODE_BITS | u32::from(code)) << QUARTER_BITS | u32::from(quarter))
    }

    /// Puts the index of a name over a cell.
    pub(crate) fn with_index(split: Split, samples: bool, index: u32, cell: u32) -> u64 {
        u64::from(index) << width(split, samples) | u64::from(cell)
    }

    /// The index of the name, and the cell without it.
    pub(crate) fn index_of(split: Split, samples: bool, cell: u64) -> (u64, u64) {
        let width = width(split, samples);
        (cell >> width, cell & ((1 << width) - 1))
    }

    /// What a cell without the name's index counts; `None` for one that this program never writes.
    pub(crate) fn counts(split: Split, samples: bool, cell: u64) -> Option<(Counts, u8)> {
        let number = usize::try_from(cell >> QUARTER_BITS).ok()?;
        let counts = if samples {
            let metric = metrics(split).get(number >> CODE_BITS)?;
            Counts::Sample(*metric, u16::try_from(number & ((1 << CODE_BITS) - 1)).ok()?)
        } else {
            Counts::Field(
                split.fields().find(|of| self::number(*of) == u32::try_from(number).ok())?,
            )
        };
        Some((counts, quarter_of(cell)?))
    }
}

/// What a named cell counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counts {
    /// A field of its name.
    Field(Field),
    /// Samples of that value code.
    Sample(TypeCode, u16),
}

/// A cell of a section, with its name's index.
pub(crate) type NamedCell = u64;

/// The fields of a quarter that are not zero, ascending by place, while they are written.
struct FieldsWriter {
    mask: u64,
    /// True while every counting field is 1.
    ones: bool,
    values: [u64; FIELDS],
    len: usize,
}

impl FieldsWriter {
    fn new() -> Self {
        Self { mask: 0, ones: true, values: [0; FIELDS], len: 0 }
    }

    #[inline]
    fn push(&mut self, place: usize, total: u64) {
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
    fn finish(&self, out: &mut Vec<u8>) -> bool {
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
struct StoredFields {
    mask: u64,
    ones: bool,
}

impl StoredFields {
    #[inline]
    fn read(rest: &mut &[u8]) -> Option<Self> {
        let head = varint::read(rest)?;
        let (mask, ones) = (head >> 1, head & 1 != 0);
        (mask >> FIELDS == 0).then_some(Self { mask, ones })
    }

    /// The place and the total of the next field. To be called only while the mask is not 0.
    #[inline]
    fn next(&mut self, rest: &mut &[u8]) -> Option<(usize, u64)> {
        let place = self.mask.trailing_zeros() as usize;
        self.mask &= self.mask.wrapping_sub(1);
        let is_one = self.ones && SUMS >> (place & 63) & 1 == 0;
        Some((place, if is_one { 1 } else { varint::read(rest)? }))
    }
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
    rest: &'a [u8],
    previous: Option<u32>,
}

impl<'a> StoredUsers<'a> {
    fn new(rest: &'a [u8]) -> Self {
        Self { rest, previous: None }
    }

    /// True if there are no more users.
    #[must_use]
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.rest, [] | [0, ..])
    }

    /// The next user: ordinal and mask of quarters.
    #[inline]
    fn next(&mut self) -> Result<Option<(u32, u8)>, BodyError> {
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
    pub(crate) fn for_each(mut self, mut user: impl FnMut(u32, u8)) -> Result<(), BodyError> {
        while let Some((ordinal, mask)) = self.next()? {
            user(ordinal, mask);
        }
        Ok(())
    }
}

#[derive(Default)]
struct UsersWriter {
    previous: u32,
}

impl UsersWriter {
    #[inline]
    fn push(&mut self, out: &mut Vec<u8>, ordinal: u32, mask: u8) {
        if mask != 0 {
            varint::write(out, u64::from(ordinal - self.previous) << 4 | u64::from(mask));
            self.previous = ordinal;
        }
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
struct StoredSections<'a> {
    rest: &'a [u8],
    previous: u8,
}

impl<'a> StoredSections<'a> {
    /// `rest` begins with the zero byte that ended the samples.
    fn new(rest: &'a [u8]) -> Self {
        Self { rest, previous: 0 }
    }

    fn next(&mut self) -> Result<Option<(u8, Cells<'a>)>, BodyError> {
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

/// A change of one cell in an hour, as small as a commit with a million of them needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HourChange {
    /// The kind in the two highest bits, and by kind: a quarter and a field's place; a sample's
    /// cell; a quarter of a user, with [`HourChange::ADDS`].
    cell: u32,
    /// What is added; of a user the ordinal.
    amount: i64,
}

impl HourChange {
    const KIND: u32 = 3 << 30;
    const FIELD: u32 = 0;
    const SAMPLE: u32 = 1 << 30;
    const USER: u32 = 2 << 30;
    /// Set if the user was active, else the activity is removed.
    const ADDS: u32 = 4;
    /// Bits of a field's place.
    const PLACE_BITS: u32 = 6;

    pub(crate) fn field(quarter: u8, field: Field, amount: i64) -> Self {
        let place = PLACES.get(field as usize).copied().unwrap_or_default();
        Self {
            cell: Self::FIELD | u32::from(quarter) << Self::PLACE_BITS | u32::from(place),
            amount,
        }
    }

    /// Adds `amount` samples to a cell of [`sample_cell`].
    pub(crate) fn sample(cell: u32, amount: i64) -> Self {
        Self { cell: Self::SAMPLE | cell, amount }
    }

    /// A user is active in a quarter, or no longer so.
    pub(crate) fn user(quarter: u8, ordinal: u32, adds: bool) -> Self {
        let adds = if adds { Self::ADDS } else { 0 };
        Self { cell: Self::USER | adds | u32::from(quarter), amount: ordinal.into() }
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
                *sum = before.saturating_add(amount);
                self.touched[quarter] |= 1 << place;
            }
            HourChange::SAMPLE => self.samples.push((low.into(), amount)),
            _ => {
                let order = self.users.len() as u64;
                let ordinal = u64::from(u32::try_from(amount).unwrap_or(u32::MAX));
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

/// Adds and removes activities, sorted by ordinal and then by order.
fn merge_users(
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

/// The sections of a stored body.
fn sections_of(body: &[u8]) -> Result<StoredSections<'_>, BodyError> {
    let mut unused = Totals::default();
    let (_, users) = unused.add_stored(body)?;
    let rest = users_end(users)?;
    Ok(StoredSections::new(Cells::new(after_zero(rest)?).rest()?))
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
        let mut samples = Cells::new(after_zero(users_end(users)?)?);
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

/// Totals of one group by place of the field, as samples of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals([u64; FIELDS]);

impl Default for Totals {
    fn default() -> Self {
        Self([0; FIELDS])
    }
}

impl Totals {
    #[must_use]
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
    ///
    /// # Errors
    /// As [`Totals::add_stored`].
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
    #[must_use]
    pub(crate) fn fields(&self) -> u64 {
        let totals = self.0.iter().enumerate();
        totals.fold(0, |fields, (place, total)| fields | u64::from(*total != 0) << place)
    }

    /// The samples of a metric, given the number of distinct active users of the group.
    #[must_use]
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

#[cfg(test)]
mod tests;
