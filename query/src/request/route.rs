//! What a path names.
//!
//! *Invariants*: the raw path is split at its slashes, then each segment is percent-decoded once: a
//! slash that was `%2F` does not separate segments.

use super::question::decoded;
use crate::http::Methods;

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
    /// The page or what it asks.
    Page(PagePath<'a>),
    /// No known path.
    Unknown,
}

/// What a path at or below `/dashboard` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagePath<'a> {
    /// The page.
    Index,
    /// The page with a slash after it, below which its relative links would be wrong.
    Slash,
    /// A file of the page: the hash of all files, and its name.
    Asset([&'a str; 2]),
    /// Statistics, with the four raw segments BOT, TYPES, GROUPMODE, DAYS.
    Data([&'a str; 4]),
    /// What goes on now.
    Now,
    /// The same as a stream of events.
    Live,
    /// The account and its bots.
    Account,
}

impl PagePath<'_> {
    /// True for what needs no token.
    pub(crate) fn is_public(self) -> bool {
        matches!(self, PagePath::Index | PagePath::Slash | PagePath::Asset(_))
    }
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
            ("dashboard", more) => PagePath::of(more).map_or(Route::Unknown, Route::Page),
            _ => Route::Unknown,
        }
    }

    /// The methods that the path allows. A HEAD of the statistics would use up a call and bring
    /// none.
    pub(crate) fn methods(self) -> Methods {
        match self {
            Route::Health => Methods::GetAndHead,
            Route::Page(page) if page.is_public() => Methods::GetAndHead,
            Route::Statistics(_)
            | Route::BotStatistics(_)
            | Route::OpenApi
            | Route::Page(_)
            | Route::Unknown => Methods::Get,
        }
    }
}

impl<'a> PagePath<'a> {
    /// Reads the raw segments after `dashboard`.
    fn of(segments: [Option<&'a str>; 7]) -> Option<Self> {
        match segments {
            [None, ..] => Some(PagePath::Index),
            [Some(""), None, ..] => Some(PagePath::Slash),
            [Some(one), None, ..] => match decoded(one).as_ref() {
                "now" => Some(PagePath::Now),
                "live" => Some(PagePath::Live),
                "account" => Some(PagePath::Account),
                _ => None,
            },
            [Some(hash), Some(name), None, ..] => Some(PagePath::Asset([hash, name])),
            [Some(data), Some(bot), Some(types), Some(mode), Some(days), None, _]
                if decoded(data) == "data" =>
            {
                Some(PagePath::Data([bot, types, mode, days]))
            }
            _ => None,
        }
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
        for (path, page) in [
            ("/dashboard", PagePath::Index),
            ("/d%61shboard", PagePath::Index),
            ("/dashboard/", PagePath::Slash),
            ("/dashboard/now", PagePath::Now),
            ("/dashboard/liv%65", PagePath::Live),
            ("/dashboard/account", PagePath::Account),
            ("/dashboard/0123/page.js", PagePath::Asset(["0123", "page.js"])),
            ("/dashboard/now/", PagePath::Asset(["now", ""])),
            ("/dashboard/data/*/0/day/7", PagePath::Data(["*", "0", "day", "7"])),
            ("/dashboard/d%61ta/%2A/0/day/", PagePath::Data(["%2A", "0", "day", ""])),
        ] {
            assert_eq!(Route::of(path), Route::Page(page), "{path}");
        }
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
            "/Dashboard",
            "/dashboard/data",
            "/dashboard/data/*/0/day",
            "/dashboard/data/*/0/day/7/8",
            "/dashboard/other/*/0/day/7",
            "/dashboard%2Fnow",
            "//dashboard",
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
