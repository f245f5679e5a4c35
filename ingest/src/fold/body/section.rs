//! Sections of named cells: the fields of a split, or its samples.

use std::ops::RangeInclusive;

use botstats_common::metric::TypeCode;
use botstats_common::split::Split;

use super::QUARTER_BITS;
use super::samples::quarter_of;
use crate::fold::metrics::{Field, fields_of_split};
use crate::fold::value_code::CODE_BITS;

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
const NUMBERS: RangeInclusive<u8> = 1..=7;

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

/// The most bits that a cell has below the name's index.
pub(crate) const MAX_WIDTH: u32 = OPERATOR_BITS + CODE_BITS + QUARTER_BITS;
/// Bits of the number of a metric of [`OPERATOR`].
const OPERATOR_BITS: u32 = 2;
const _: () = assert!(OPERATOR.len() <= 1 << OPERATOR_BITS);

/// The bits below the name's index in a section's cells.
fn width(split: Split, samples: bool) -> u32 {
    let bits = match (split, samples) {
        (Split::Goal | Split::Tag, _) => 0,
        (Split::Intent, _) => 1,
        (Split::Integration, false) => 3,
        (Split::Operator, false) => 4,
        (Split::Integration, true) => CODE_BITS,
        (Split::Operator, true) => OPERATOR_BITS + CODE_BITS,
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
            fields_of_split(split).find(|of| self::number(*of) == u32::try_from(number).ok())?,
        )
    };
    Some((counts, quarter_of(cell)?))
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
