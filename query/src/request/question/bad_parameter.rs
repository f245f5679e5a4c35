//! What is wrong with a parameter, and what is allowed.

use std::fmt;

use botstats_common::metric::{ALLOWED_CODES, TypeCode};
use botstats_common::split::Split;
use botstats_common::stat::MAX_STATS;
use botstats_common::stat::{ALLOWED_STATS, Stat};
use botstats_common::wire::{MAX_CLOCK_DATES, MAX_DATES};
use jiff::civil::Date;

use super::MAX_DAYS;
use super::parse::MAX_TYPE_ITEMS;
use super::query::{FIRST_DATE, PARAMETERS};

/// An error repeats at most 64 characters of a bad parameter.
const MAX_ECHO_CHARS: usize = 64;

/// A bad parameter, and what is allowed. The text never holds an API key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadParameter {
    /// A bad item of TYPES.
    #[error(
        "TYPES: {0} is not allowed; type codes {ALLOWED_CODES} in plain decimal, separated by commas"
    )]
    Type(Shown),
    /// Too many items in TYPES.
    #[error("TYPES: {0} items; at most {MAX_TYPE_ITEMS} are allowed")]
    TooManyTypes(usize),
    /// A bad GROUPMODE.
    #[error(
        "GROUPMODE: {0} is not allowed; 15min, hour, day, week, month, year, total or weekhour"
    )]
    Mode(Shown),
    /// Bad DAYS.
    #[error(
        "DAYS: {0} is not allowed; 1 to {MAX_DAYS} in plain decimal, or * with the query parameters from and to"
    )]
    Days(Shown),
    /// A bad APIKEY.
    #[error("APIKEY: * (all bots) or 8 to 128 of the characters A-Z a-z 0-9 _ - is allowed")]
    ApiKey,
    /// A bad BOT.
    #[error(
        "BOT: {0} is not allowed; * (all bots) or a bot's id, 1 to 64 of the characters A-Z a-z 0-9 _ -"
    )]
    Bot(Shown),
    /// A query parameter that does not exist.
    #[error("query parameter {0} is unknown; only {PARAMETERS} are allowed")]
    UnknownParameter(Shown),
    /// A query parameter given twice.
    #[error("query parameter {0} is repeated; it is allowed once")]
    Repeated(&'static str),
    /// A bad `from` or `to`.
    #[error(
        "query parameter {name}: {value} is not allowed; a date of the calendar from {FIRST_DATE} on, written as YYYY-MM-DD, is"
    )]
    Date {
        /// `from` or `to`.
        name: &'static str,
        /// What was sent.
        value: Shown,
    },
    /// A bad value of a parameter that has a few values.
    #[error("query parameter {name}: {value} is not allowed; only {allowed}")]
    Value {
        /// Which parameter.
        name: &'static str,
        /// What was sent.
        value: Shown,
        /// Completes "only": what is allowed.
        allowed: &'static str,
    },
    /// A bad item of `stats`.
    #[error("query parameter stats: {0} is not allowed; {ALLOWED_STATS}, separated by commas, are")]
    Stat(Shown),
    /// An item of `stats` given twice.
    #[error("query parameter stats: {0} is repeated; each item is allowed once")]
    RepeatedStat(Stat),
    /// Too many items in `stats`.
    #[error("query parameter stats: {0} items; at most {MAX_STATS} are allowed")]
    TooManyStats(usize),
    /// DAYS is `*`, but `from` or `to` is absent.
    #[error("query parameter {0} is missing; DAYS * needs both from and to")]
    MissingDate(&'static str),
    /// `from` or `to` beside a number of days.
    #[error("query parameter {0} is allowed only with * for DAYS")]
    DateWithDays(&'static str),
    /// `from` is after `to`.
    #[error("query parameters from and to: {from} is after {to}; from may not be after to")]
    DatesReversed {
        /// `from`
        from: Date,
        /// `to`
        to: Date,
    },
    /// `from` is in the future.
    #[error(
        "query parameter from: {from} is after today; dates up to {today} are allowed, which is today in the account's time zone"
    )]
    FromAfterToday {
        /// `from`
        from: Date,
        /// Today's date in the account's time zone.
        today: Date,
    },
    /// Too many dates from `from` to `to`.
    #[error(
        "query parameters from and to: {0} dates; at most {MAX_DATES} are allowed, and {MAX_CLOCK_DATES} with 15min or hour for GROUPMODE"
    )]
    TooManyDates(u32),
    /// `previous` with [`GroupMode::WeekHour`](super::GroupMode::WeekHour).
    #[error("query parameter previous is not allowed with weekhour for GROUPMODE")]
    PreviousOfWeekHours,
    /// `top` without `split`.
    #[error("query parameter top is allowed only with split")]
    TopWithoutSplit,
    /// Metrics that are not counted by the kind of name of `split`.
    #[error(
        "TYPES: {} may not be asked for with split={}; only {} may",
        listed(.codes), .split.name(), listed(.split.codes())
    )]
    NotOfSplit {
        /// The bad codes.
        codes: Vec<TypeCode>,
        /// The split.
        split: Split,
    },
}

fn listed(codes: &[TypeCode]) -> String {
    let codes: Vec<String> = codes.iter().map(TypeCode::to_string).collect();
    codes.join(",")
}

/// A part of the client's request, quoted and cut so that an answer can repeat it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    pub(super) fn new(text: &str) -> Self {
        // Parameters in the wrong order put a secret in the place of a harmless item.
        if text.contains("bsk_") || text.contains("bst_") {
            return Self("a secret (not repeated here)".to_owned());
        }
        let cut: String = text.chars().take(MAX_ECHO_CHARS).collect();
        let more = if cut.len() < text.len() { "..." } else { "" };
        Self(format!("{cut:?}{more}"))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
