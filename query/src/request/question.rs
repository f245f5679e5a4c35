//! The parameters of one call, parsed from the raw request target.
//!
//! *Invariants*: a [`Question`] holds no bad value, and of an API key only the hash. The raw path
//! is split at its slashes, then each segment is percent-decoded once: a slash that was `%2F` does
//! not separate segments.

mod bad_parameter;
mod parse;
mod query;

use std::borrow::Cow;
use std::str::FromStr;

use botstats_common::metric::TypeSet;
use botstats_common::secret::SecretHash;
use botstats_common::stat::Stat;
use botstats_common::wire::{By, SplitBy};
use jiff::civil::Date;
use percent_encoding::percent_decode_str;

pub use self::bad_parameter::BadParameter;
pub(crate) use self::parse::MAX_TYPE_ITEMS;
use crate::http::Methods;

/// The most days of history.
pub const MAX_DAYS: u8 = 30;

/// What stands in the place of TYPES where a path is another endpoint's, cut short.
const NEVER_TYPES: [&str; 2] = ["account", "dlr"];

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// The account's call, with the four raw segments APIKEY, TYPES, GROUPMODE, DAYS.
    Statistics([&'a str; 4]),
    /// The bot's call, with the three raw segments TYPES, GROUPMODE, DAYS.
    BotStatistics([&'a str; 3]),
    /// The description of the API.
    OpenApi,
    /// Whether the program is ready, for load balancers.
    Health,
    /// No known path.
    Unknown,
}

impl<'a> Route<'a> {
    /// Reads a raw path, as it stands in the request target.
    #[must_use]
    pub fn of(path: &'a str) -> Self {
        let mut segments = path.split('/');
        // The segment before the first slash is empty.
        let (Some(""), Some(first)) = (segments.next(), segments.next()) else {
            return Route::Unknown;
        };
        // One segment more than the longest path has.
        let more: [Option<&str>; 7] = std::array::from_fn(|_| segments.next());
        match (decoded(first).as_ref(), more) {
            ("openapi.json", [None, ..]) => Route::OpenApi,
            ("healthz", [None, ..]) => Route::Health,
            (
                "analytics",
                [
                    Some(statistics),
                    Some(account),
                    Some(key),
                    Some(types),
                    Some(mode),
                    Some(days),
                    None,
                ],
            ) if decoded(statistics) == "statistics" && decoded(account) == "account" => {
                Route::Statistics([key, types, mode, days])
            }
            ("analytics", [Some(statistics), Some(types), Some(mode), Some(days), None, ..])
                if decoded(statistics) == "statistics"
                    && !NEVER_TYPES.contains(&decoded(types).as_ref()) =>
            {
                Route::BotStatistics([types, mode, days])
            }
            _ => Route::Unknown,
        }
    }

    /// The methods that the path allows. A HEAD of the statistics would use up a call and bring
    /// none.
    pub(crate) fn methods(self) -> Methods {
        match self {
            Route::Health => Methods::GetAndHead,
            Route::Statistics(_) | Route::BotStatistics(_) | Route::OpenApi | Route::Unknown => {
                Methods::Get
            }
        }
    }
}

/// A percent-decoded segment. Bytes that are not UTF-8 become a character that no parameter allows;
/// a broken escape keeps its `%`, which no parameter allows either.
fn decoded(segment: &str) -> Cow<'_, str> {
    percent_decode_str(segment).decode_utf8_lossy()
}

/// The bots whose statistics are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BotFilter {
    /// `*`: all bots of the account.
    All,
    /// The bot with the API key of this hash.
    ApiKey(SecretHash),
    /// The bot whose token the call has.
    OfToken,
}

/// How rows are grouped in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupMode {
    /// Quarters of local clock hours.
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
    /// The 168 hours of a week, each made of the window's hours of that weekday and clock hour.
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

/// Days of history, `1` to [`MAX_DAYS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days(u8);

impl Days {
    /// As a number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Days {
    type Error = ();

    fn try_from(days: u8) -> Result<Self, ()> {
        if (1..=MAX_DAYS).contains(&days) { Ok(Self(days)) } else { Err(()) }
    }
}

impl FromStr for Days {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Days::try_from(parse::plain_decimal::<u8>(text).ok_or(())?)
    }
}

/// The dates that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dates {
    /// So many, up to today.
    Last(Days),
    /// Both inclusive.
    FromTo(Date, Date),
}

/// The earlier window that a window is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Previous {
    /// The same number of dates before it.
    Period,
    /// As many whole weeks back as cover the dates.
    Week,
    /// A month back.
    Month,
    /// A year back.
    Year,
}

/// One call's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        let is_statistics = |path: &str| matches!(Route::of(path), Route::Statistics(_));
        assert_eq!(Route::of("/openapi.json"), Route::OpenApi);
        assert_eq!(
            Route::of("/analytics/statistics/account/k/0,1/day/7"),
            Route::Statistics(["k", "0,1", "day", "7"])
        );
        assert_eq!(Route::of("/healthz"), Route::Health);
        // Every segment is decoded once.
        assert_eq!(Route::of("/%6fpenapi%2Ejson"), Route::OpenApi);
        assert_eq!(Route::of("/health%7A"), Route::Health);
        assert_eq!(
            Route::of("/%61nalytics/st%61tistics/accoun%74/%2A/0%2C1/d%61y/%37"),
            Route::Statistics(["%2A", "0%2C1", "d%61y", "%37"])
        );
        // An empty segment in its place is a bad parameter, not another path.
        assert!(is_statistics("/analytics/statistics/account/k/0/day/"));
        assert!(is_statistics("/analytics/statistics/account////"));
        let bots = |path: &'static str| match Route::of(path) {
            Route::BotStatistics(segments) => Some(segments),
            _ => None,
        };
        for (path, segments) in [
            ("/analytics/statistics/0,1/day/7", Some(["0,1", "day", "7"])),
            ("/analytics/st%61tistics/0%2C1/d%61y/%37", Some(["0%2C1", "d%61y", "%37"])),
            ("/analytics/statistics/accounts/day/7", Some(["accounts", "day", "7"])),
            ("/analytics/statistics/Account/day/7", Some(["Account", "day", "7"])),
            ("/analytics/statistics///", Some(["", "", ""])),
            ("/analytics/statistics/account/day/7", None),
            ("/analytics/statistics/accoun%74/day/7", None),
            ("/analytics/statistics/dlr/day/7", None),
            ("/analytics/statistics/d%6Cr/day/7", None),
            ("/analytics/statistics/0/day", None),
            ("/analytics/statistics/0/day/7/", None),
            ("/analytics/statistics/0/day/7/8", None),
            ("//analytics/statistics/0/day/7", None),
            ("/Analytics/statistics/0/day/7", None),
        ] {
            assert_eq!(bots(path), segments, "{path}");
        }
        for path in [
            "/",
            "",
            "*",
            "/openapi.json/",
            "/analytics/statistics/account",
            "/analytics/statistics/account/k/0",
            "/analytics/statistics/account/k/0/day",
            "/analytics/statistics/account/k/0/day/7/",
            "/analytics/statistics/account/k/0/day/7/8",
            "/analytics/statistics/accounts/k/0/day/7",
            "//analytics/statistics/account/k/0/day/7",
            "/Analytics/statistics/account/k/0/day/7",
            "/healthz/",
            "/Healthz",
            "//healthz",
            "healthz",
            "/healthz%2F",
            "/health%257A",
            "/%2Fhealthz",
            // A slash that was encoded is no separator.
            "/analytics%2Fstatistics/account/k/0/day/7",
            "/analytics/statistics%2Faccount/k/0/day/7",
            "%2Fanalytics/statistics/account/k/0/day/7",
            "/analytics/statistics/account/k%2F0/day/7",
            "/analytics/statistics/account%00/k/0/day/7",
            "/analytics/statistics/account%FF/k/0/day/7",
            "/analytics/statistics/accoun%2574/k/0/day/7",
            "/analytics/statistics/accoun%7/k/0/day/7",
            "/%2e%2e/analytics/statistics/account/k/0/day/7",
        ] {
            assert_eq!(Route::of(path), Route::Unknown, "{path}");
        }
    }
}
