//! The parameters of one call, parsed from the raw request target.
//!
//! *Invariants*: a [`Question`] holds no bad value, and of an API key only the hash. The raw path
//! is split at its slashes, then each segment is percent-decoded once: a slash that was `%2F` does
//! not separate segments.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use botstats_common::ids::is_id_char;
use botstats_common::metric::{TypeCode, TypeSet};
use botstats_common::secret::SecretHash;
use percent_encoding::percent_decode_str;

use crate::http::Methods;

/// The most items in TYPES, duplicates included: several times as many as there are types.
pub(crate) const MAX_TYPE_ITEMS: usize = 64;
/// The most days of history.
pub const MAX_DAYS: u8 = 30;
/// An error repeats at most 64 characters of a bad parameter.
const MAX_ECHO_CHARS: usize = 64;

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    /// The statistics, with the four raw segments APIKEY, TYPES, GROUPMODE, DAYS.
    Statistics([&'a str; 4]),
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
            _ => Route::Unknown,
        }
    }

    /// The methods that the path allows. A HEAD of the statistics would use up a call and bring
    /// none.
    pub(crate) fn methods(self) -> Methods {
        match self {
            Route::Health => Methods::GetAndHead,
            Route::Statistics(_) | Route::OpenApi | Route::Unknown => Methods::Get,
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
}

/// How rows are grouped in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupMode {
    /// Local clock hours.
    Hour,
    /// Local days.
    Day,
    /// Local months, as far as they lie in the window.
    Month,
    /// Local years, as far as they lie in the window.
    Year,
}

impl FromStr for GroupMode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [
            ("hour", GroupMode::Hour),
            ("day", GroupMode::Day),
            ("month", GroupMode::Month),
            ("year", GroupMode::Year),
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
        Days::try_from(plain_decimal(text).ok_or(())?)
    }
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
    /// DAYS
    pub days: Days,
    /// Whether combinations without a sample get a row too (`fill=zero`).
    pub fill_zero: bool,
}

/// A bad parameter, and what is allowed. The text never holds an API key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadParameter {
    /// A bad item of TYPES.
    #[error(
        "TYPES: {0} is not allowed; type codes {first} to {last} in plain decimal, separated by commas",
        first = TypeCode::OFFERED_NUMBERS.start(),
        last = TypeCode::OFFERED_NUMBERS.end()
    )]
    Type(Shown),
    /// Too many items in TYPES.
    #[error("TYPES: {0} items; at most {MAX_TYPE_ITEMS} are allowed")]
    TooManyTypes(usize),
    /// A bad GROUPMODE.
    #[error("GROUPMODE: {0} is not allowed; hour, day, month or year")]
    Mode(Shown),
    /// Bad DAYS.
    #[error("DAYS: {0} is not allowed; 1 to {MAX_DAYS} in plain decimal")]
    Days(Shown),
    /// A bad APIKEY.
    #[error("APIKEY: * (all bots) or 8 to 128 of the characters A-Z a-z 0-9 _ - is allowed")]
    ApiKey,
    /// A query parameter that does not exist.
    #[error("query parameter {0} is unknown; only fill=zero is allowed")]
    UnknownParameter(Shown),
    /// A query parameter given twice.
    #[error("query parameter fill is repeated; fill=zero is allowed once")]
    RepeatedFill,
    /// A bad value of `fill`.
    #[error("query parameter fill: {0} is not allowed; only fill=zero is")]
    Fill(Shown),
}

/// A part of the client's request, quoted and cut so that an answer can repeat it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown(String);

impl Shown {
    fn new(text: &str) -> Self {
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

impl Question {
    /// Reads the four raw path segments (APIKEY, TYPES, GROUPMODE, DAYS) and the raw query.
    ///
    /// # Errors
    /// The first bad parameter, in the order TYPES, GROUPMODE, DAYS, APIKEY, query.
    pub fn parse(segments: [&str; 4], query: Option<&str>) -> Result<Self, BadParameter> {
        let [key, types, mode, days] = segments.map(decoded);
        Ok(Self {
            types: parse_types(&types)?,
            mode: mode.parse().map_err(|()| BadParameter::Mode(Shown::new(&mode)))?,
            days: days.parse().map_err(|()| BadParameter::Days(Shown::new(&days)))?,
            bots: parse_key(&key)?,
            fill_zero: parse_query(query)?,
        })
    }
}

fn parse_types(text: &str) -> Result<TypeSet, BadParameter> {
    let count = text.split(',').count();
    if count > MAX_TYPE_ITEMS {
        return Err(BadParameter::TooManyTypes(count));
    }
    text.split(',')
        .map(|item| {
            plain_decimal(item)
                .and_then(TypeCode::offered)
                .ok_or_else(|| BadParameter::Type(Shown::new(item)))
        })
        .collect()
}

fn parse_key(key: &str) -> Result<BotFilter, BadParameter> {
    if key == "*" {
        return Ok(BotFilter::All);
    }
    if (8..=128).contains(&key.len()) && key.bytes().all(is_id_char) {
        Ok(BotFilter::ApiKey(SecretHash::of(key)))
    } else {
        Err(BadParameter::ApiKey)
    }
}

/// True if the query is `fill=zero`.
fn parse_query(query: Option<&str>) -> Result<bool, BadParameter> {
    let mut fill = false;
    for pair in query.filter(|query| !query.is_empty()).iter().flat_map(|query| query.split('&')) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (decoded(name).as_ref(), decoded(value).as_ref()) {
            ("fill", _) if fill => return Err(BadParameter::RepeatedFill),
            ("fill", "zero") => fill = true,
            ("fill", other) => return Err(BadParameter::Fill(Shown::new(other))),
            (other, _) => return Err(BadParameter::UnknownParameter(Shown::new(other))),
        }
    }
    Ok(fill)
}

/// One or two digits without sign and without leading zero.
fn plain_decimal(text: &str) -> Option<u8> {
    let plain = matches!(text.as_bytes(), [b'0'..=b'9'] | [b'1'..=b'9', b'0'..=b'9']);
    if plain { text.parse().ok() } else { None }
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
        for path in [
            "/",
            "",
            "*",
            "/openapi.json/",
            "/analytics/statistics/account",
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

    const KEY: &str = "abcdefgh";

    fn parse(
        key: &str,
        types: &str,
        mode: &str,
        days: &str,
        query: Option<&str>,
    ) -> Result<Question, String> {
        Question::parse([key, types, mode, days], query).map_err(|e| e.to_string())
    }

    #[test]
    fn types() {
        let codes = |text: &str| {
            parse("*", text, "day", "1", None)
                .map(|q| q.types.iter().map(TypeCode::number).collect::<Vec<_>>())
        };
        assert_eq!(codes("0"), Ok(vec![0]));
        assert_eq!(codes("18,3,3,0"), Ok(vec![0, 3, 18]));
        assert_eq!(codes(&vec!["7"; 64].join(",")), Ok(vec![7]));
        assert_eq!(codes("0%2C12"), Ok(vec![0, 12]));
        assert_eq!(codes("%30%2c1%32,3"), Ok(vec![0, 3, 12]));
        assert_eq!(
            codes(&vec!["7"; 65].join(",")),
            Err("TYPES: 65 items; at most 64 are allowed".to_owned())
        );
        for (text, item) in [
            ("", "\"\""),
            ("19", "\"19\""),
            ("1,,2", "\"\""),
            ("1,", "\"\""),
            ("+1", "\"+1\""),
            ("-1", "\"-1\""),
            ("01", "\"01\""),
            ("00", "\"00\""),
            ("1, 2", "\" 2\""),
            ("1%252C2", "\"1%2C2\""),
            ("1%2", "\"1%2\""),
            ("1%", "\"1%\""),
            ("1%2C", "\"\""),
            ("1%2C%202", "\" 2\""),
            ("1%2F2", "\"1/2\""),
            ("1%00", "\"1\\0\""),
            ("1%FF", "\"1\u{fffd}\""),
            ("1%0d%0a", "\"1\\r\\n\""),
            ("%2B1", "\"+1\""),
            ("%62sk_12345", "a secret (not repeated here)"),
            ("1.0", "\"1.0\""),
            ("1;2", "\"1;2\""),
            ("0x1", "\"0x1\""),
            ("256", "\"256\""),
            ("٣", "\"٣\""),
            ("all", "\"all\""),
            ("bsk_12345", "a secret (not repeated here)"),
        ] {
            assert_eq!(
                codes(text),
                Err(format!(
                    "TYPES: {item} is not allowed; type codes 0 to 18 in plain decimal, separated by commas"
                )),
                "{text:?}"
            );
        }
        let long = codes(&"9".repeat(10_000)).unwrap_err();
        assert!(long.len() < 200 && long.contains("..."), "{long}");
    }

    #[test]
    fn modes_and_days() {
        for (text, mode) in [
            ("hour", Some(GroupMode::Hour)),
            ("DAY", Some(GroupMode::Day)),
            ("Month", Some(GroupMode::Month)),
            ("yEAR", Some(GroupMode::Year)),
            ("week", None),
            ("", None),
            ("days", None),
            ("d%61y", Some(GroupMode::Day)),
            ("%44%41%59", Some(GroupMode::Day)),
            ("d%2561y", None),
            ("day%00", None),
            ("day%ff", None),
            ("day%", None),
        ] {
            assert_eq!(parse("*", "0", text, "1", None).ok().map(|q| q.mode), mode, "{text:?}");
        }
        for (text, days) in [
            ("1", Some(1)),
            ("9", Some(9)),
            ("30", Some(30)),
            ("0", None),
            ("31", None),
            ("", None),
            ("+7", None),
            ("-1", None),
            ("07", None),
            ("7 ", None),
            ("7.0", None),
            ("1e1", None),
            ("0x1", None),
            ("NaN", None),
            ("300", None),
            ("%37", Some(7)),
            ("%33%30", Some(30)),
            ("3%30", Some(30)),
            ("%2537", None),
            ("%2B7", None),
            ("%207", None),
            ("7%", None),
        ] {
            let parsed = parse("*", "0", "day", text, None).ok().map(|q| q.days.number());
            assert_eq!(parsed, days, "{text:?}");
        }
    }

    #[test]
    fn keys() {
        let hash = |text: &str| Some(BotFilter::ApiKey(SecretHash::of(text)));
        let longest = "k".repeat(128);
        let too_long = "k".repeat(129);
        for (text, asked) in [
            ("*", Some(BotFilter::All)),
            ("%2A", Some(BotFilter::All)),
            ("%2a", Some(BotFilter::All)),
            (KEY, hash(KEY)),
            ("%61bcdefgh", hash(KEY)),
            ("A-z_0123", hash("A-z_0123")),
            (longest.as_str(), hash(&longest)),
            (too_long.as_str(), None),
            ("abcdefg", None),
            ("", None),
            ("**", None),
            // Decoded once only.
            ("%252A", None),
            ("%2561bcdefgh", None),
            ("abcdefg%2F", None),
            ("abcdefg%00", None),
            ("abcdefg%zz", None),
            ("abcdefg%ff", None),
            ("abcdefg%", None),
            ("abcdefg.", None),
            ("abcdefgé", None),
        ] {
            let parsed = parse(text, "0", "day", "1", None).ok().map(|q| q.bots);
            assert_eq!(parsed, asked, "{text:?}");
        }
        let error = parse("secret!!key", "0", "day", "1", None).unwrap_err();
        assert!(error.starts_with("APIKEY") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn query_parameters() {
        for (query, fill) in [
            (None, Some(false)),
            (Some(""), Some(false)),
            (Some("fill=zero"), Some(true)),
            (Some("fill=z%65ro"), Some(true)),
            (Some("%66ill=zer%6F"), Some(true)),
            (Some("fill=z%2565ro"), None),
            (Some("fill%3Dzero"), None),
            (Some("fill=zero+"), None),
            (Some("fill=zero%20"), None),
            (Some("fill=zero%ff"), None),
            (Some("fill=zero%26fill=zero"), None),
            (Some("_=1700000000000"), None),
            (Some("fill"), None),
            (Some("fill="), None),
            (Some("fill=ZERO"), None),
            (Some("fill=one"), None),
            (Some("fill=zero&fill=zero"), None),
            (Some("fill=zero&"), None),
            (Some("&"), None),
            (Some("Fill=zero"), None),
            (Some("x=1"), None),
            (Some("fill=zero&x=1"), None),
        ] {
            let parsed = parse("*", "0", "day", "1", query);
            assert_eq!(parsed.as_ref().ok().map(|q| q.fill_zero), fill, "{query:?} {parsed:?}");
        }
    }

    #[test]
    fn the_first_bad_item_is_named_in_order() {
        for (parameters, named) in [
            (["!", "x", "x", "x"], "TYPES"),
            (["!", "0", "x", "x"], "GROUPMODE"),
            (["!", "0", "day", "x"], "DAYS"),
            (["!", "0", "day", "1"], "APIKEY"),
            (["*", "0", "day", "1"], "query"),
        ] {
            let error = Question::parse(parameters, Some("x")).unwrap_err().to_string();
            assert!(error.starts_with(named), "{error}");
        }
    }
}
