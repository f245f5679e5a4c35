//! The cells of samples: metric, value code and quarter in one number.

use botstats_common::metric::TypeCode;

use super::QUARTER_BITS;
use crate::fold::value_code::CODE_BITS;

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

pub(super) fn quarter_of(cell: u64) -> Option<u8> {
    u8::try_from(cell & ((1 << QUARTER_BITS) - 1)).ok()
}
