//! Names and durations at the edges of what is kept of them.

use serde_json::Value;

use super::Dice;

/// Few enough for each to occur often, more than a small bound lets a pair keep for a day.
const NAMES: [&str; 14] = [
    "order",
    "signup",
    "Order",
    "hours \u{1F600} \"quoted\"",
    "n1",
    "n2",
    "n3",
    "n4",
    " ",
    "(None)",
    "nul\0",
    "",
    "(none)",
    "(other)",
];
const OPERATORS: [&str; 8] = ["o1", "o2", "o3", "O1", "é", "", "(none)", "(other)"];

/// Durations as they stand in the JSON: at the edges of three digits and of the range, and numbers
/// that are not written with digits alone.
const DURATIONS: [&str; 38] = [
    "0",
    "1",
    "7",
    "350",
    "998",
    "999",
    "1000",
    "1001",
    "1004",
    "1005",
    "1014",
    "1015",
    "9994",
    "9995",
    "9999",
    "10049",
    "10050",
    "99949",
    "99950",
    "999499",
    "999500",
    "999999",
    "1004999",
    "1005000",
    "9994999",
    "9995000",
    "86349999",
    "86350000",
    "86400000",
    "86400001",
    "5000000000",
    "100000000000000000000",
    "-0",
    "-1",
    "1.0",
    "1e3",
    "12.5",
    "-1.5e3",
];

/// The name of a goal, a tag, an intent or an integration.
pub(super) fn name(dice: &mut Dice) -> String {
    if dice.one_in(8) { long(dice) } else { (*dice.pick(&NAMES)).to_owned() }
}

/// An `operatorid`, null, or nothing at all.
pub(super) fn operator(dice: &mut Dice) -> Option<Value> {
    match dice.below(12) {
        0 => None,
        1 => Some(Value::Null),
        2 => Some(long(dice).into()),
        3..6 => Some((*dice.pick(&OPERATORS)).into()),
        _ => Some((*dice.pick(&OPERATORS[..3])).into()),
    }
}

/// The JSON text of a `durationms`.
pub(super) fn duration(dice: &mut Dice) -> &'static str {
    DURATIONS[dice.index(DURATIONS.len())]
}

/// A name about as long as may be. Some differ only in what is cut off; by bytes, the last two of
/// them come in the other order before they are cut.
fn long(dice: &mut Dice) -> String {
    let x = |times: usize| "x".repeat(times);
    match dice.below(9) {
        0 => x(127),
        1 => format!("{}é", x(127)),
        2 => format!("{}êz", x(127)),
        3 => x(128),
        4 => x(129),
        5 => "€".repeat(43),
        6 => "\u{1F600}".repeat(32),
        7 => format!("{}€", x(126)),
        _ => format!("{}zzz", x(126)),
    }
}
