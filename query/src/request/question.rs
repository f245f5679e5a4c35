//! The parameters of one call, parsed from the raw request target.
//!
//! *Invariants*: a [`Question`] holds no bad value, and of an API key only the hash.

mod bad_parameter;
mod parse;
mod query;

use std::borrow::Cow;
use std::str::FromStr;

use botstats_common::ids::Bot;
use botstats_common::metric::TypeSet;
use botstats_common::secret::SecretHash;
use botstats_common::stat::Stat;
use botstats_common::wire::{By, SplitBy};
use clap::ValueEnum;
use jiff::civil::Date;
use percent_encoding::percent_decode_str;

pub use self::bad_parameter::BadParameter;
pub(crate) use self::parse::MAX_TYPE_ITEMS;

/// The most days of history.
pub const MAX_DAYS: u8 = 30;

/// A percent-decoded segment. Bytes that are not UTF-8 become a character that no parameter allows;
/// a broken escape keeps its `%`, which no parameter allows either.
pub(super) fn decoded(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8_lossy()
}

/// The bots whose statistics are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum BotFilter {
    /// `*`: all bots of the account.
    All,
    /// The bot with the API key of this hash.
    ApiKey(SecretHash),
    /// The bot whose token the call has.
    OfToken,
    /// The bot with this id.
    Id(Bot),
}

/// How rows are grouped in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum GroupMode {
    /// Quarters of local clock hours.
    #[value(name = "15min")]
    Quarter,
    /// Local clock hours.
    Hour,
    /// Local days.
    Day,
    /// ISO weeks of local days, as far as they lie in the window.
    Week,
    /// Local months, as far as they lie in the window.
    Month,
    /// Local years, as far as they lie in the window.
    Year,
    /// The whole window.
    Total,
    /// The 168 hours of a week, each made of all hours of that weekday and clock hour.
    #[value(name = "weekhour")]
    WeekHour,
}

impl FromStr for GroupMode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [
            ("15min", GroupMode::Quarter),
            ("hour", GroupMode::Hour),
            ("day", GroupMode::Day),
            ("week", GroupMode::Week),
            ("month", GroupMode::Month),
            ("year", GroupMode::Year),
            ("total", GroupMode::Total),
            ("weekhour", GroupMode::WeekHour),
        ]
        .into_iter()
        .find_map(|(name, mode)| text.eq_ignore_ascii_case(name).then_some(mode))
        .ok_or(())
    }
}

/// The dates that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dates {
    /// This number, up to today: 1 to [`MAX_DAYS`].
    Last(u8),
    /// Both inclusive.
    FromTo(Date, Date),
}

/// The earlier window that a window is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Previous {
    /// The same number of dates before the window.
    Period,
    /// As many whole weeks back as cover the dates.
    Week,
    /// A month back.
    Month,
    /// A year back.
    Year,
}

/// One call's parameters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// APIKEY
    pub bots: BotFilter,
    /// TYPES
    pub types: TypeSet,
    /// GROUPMODE
    pub mode: GroupMode,
    /// DAYS, or `from` and `to`
    pub dates: Dates,
    /// `by`
    pub by: By,
    /// `previous`
    pub previous: Option<Previous>,
    /// `stats`, in the order asked
    pub stats: Vec<Stat>,
    /// `split` and `top`
    pub split: Option<SplitBy>,
    /// Whether combinations without a sample get a row too (`fill=zero`).
    pub fill_zero: bool,
}

impl Question {
    /// Whether rows are listed, and answered, as they were before there were more than the basic
    /// metrics.
    pub(crate) fn is_basic(&self) -> bool {
        self.types.is_within(TypeSet::BASIC)
            && matches!(self.dates, Dates::Last(_))
            && self.by == By::PAIR
            && self.previous.is_none()
            && self.stats.is_empty()
            && self.split.is_none()
            && !matches!(
                self.mode,
                GroupMode::Quarter | GroupMode::Week | GroupMode::Total | GroupMode::WeekHour
            )
    }

    /// Whether an answer is refused that reaches further back than an ingest can answer completely.
    pub(crate) fn must_be_complete(&self) -> bool {
        matches!(self.dates, Dates::FromTo(..))
            || self.previous.is_some()
            || !self.stats.is_empty()
            || self.split.is_some()
            || !self.types.is_within(TypeSet::BASIC)
    }
}
