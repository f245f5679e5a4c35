//! Which lines are logged: a level, and levels of single modules.

use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// The level of modules that the filter does not name.
const DEFAULT_LEVEL: LevelFilter = LevelFilter::INFO;
/// Our own modules log the same events, at most once a minute, so lines of this library are logged
/// only if the filter names it.
const NATS_LIBRARY: &str = "async_nats";
/// Crates that a filter may name. `botstats` means all of ours, because a module's name begins so.
const CRATES: [&str; 11] = [
    "botstats",
    "botstats_common",
    "botstats_ingest",
    "botstats_query",
    NATS_LIBRARY,
    "axum",
    "hyper",
    "hyper_util",
    "rustls",
    "tokio",
    "ureq",
];

/// A filter of the log, such as `info` or `info,botstats_ingest=debug`.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter(Targets);

impl Filter {
    /// Warnings and errors only.
    #[must_use]
    pub fn warnings() -> Self {
        Self::of(Targets::new(), LevelFilter::WARN)
    }

    fn of(modules: Targets, rest: LevelFilter) -> Self {
        let names_library = modules.iter().any(|(module, _)| module.starts_with(NATS_LIBRARY));
        let quiet = (!names_library).then_some((NATS_LIBRARY, LevelFilter::OFF));
        Self(modules.with_targets(quiet).with_default(rest))
    }

    pub(super) fn targets(&self) -> Targets {
        self.0.clone()
    }
}

/// The text of a filter is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what}; allowed is a level (error, warn, info, debug, trace or off) and levels of modules, separated \
     by commas, such as info,botstats_ingest=debug; a module begins with one of {}",
    CRATES.join(", ")
)]
pub struct BadFilter {
    what: &'static str,
}

impl FromStr for Filter {
    type Err = BadFilter;

    /// Letter case of levels and spaces around words do not matter. Without a level of its own the
    /// rest is logged at `info`.
    fn from_str(text: &str) -> Result<Self, BadFilter> {
        let mut rest = None;
        let mut modules = Targets::new();
        for word in text.split(',').map(str::trim) {
            match word.split_once('=') {
                None if rest.is_some() => return Err(BadFilter { what: "there are two levels" }),
                None => rest = Some(level(word)?),
                Some((module, word)) => {
                    modules = modules.with_target(known(module.trim_end())?, level(word.trim())?);
                }
            }
        }
        Ok(Self::of(modules, rest.unwrap_or(DEFAULT_LEVEL)))
    }
}

fn level(word: &str) -> Result<LevelFilter, BadFilter> {
    // Numbers and the empty text are levels too for the library, but not here.
    let is_word = word.starts_with(|first: char| first.is_ascii_alphabetic());
    let level = word.parse::<LevelFilter>().ok().filter(|_| is_word);
    level.ok_or(BadFilter { what: "a word is not a level" })
}

fn known(module: &str) -> Result<&str, BadFilter> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b':';
    let first = module.split("::").next().unwrap_or(module);
    if CRATES.contains(&first) && module.bytes().all(plain) {
        Ok(module)
    } else {
        Err(BadFilter { what: "a module is not known" })
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn filters() {
        const INGEST: &str = "botstats_ingest::reader";
        const QUERY: &str = "botstats_query::run";
        const NATS: &str = "async_nats::connector";
        // What is logged of these three; no level is nothing at all.
        for (text, ingest, query, nats) in [
            ("info", Some(Level::INFO), Some(Level::INFO), None),
            ("WARN", Some(Level::WARN), Some(Level::WARN), None),
            (" Debug ", Some(Level::DEBUG), Some(Level::DEBUG), None),
            ("trace", Some(Level::TRACE), Some(Level::TRACE), None),
            ("off", None, None, None),
            ("warn,async_nats=info", Some(Level::WARN), Some(Level::WARN), Some(Level::INFO)),
            ("botstats_ingest=debug", Some(Level::DEBUG), Some(Level::INFO), None),
            ("botstats_ingest::reader=error,warn", Some(Level::ERROR), Some(Level::WARN), None),
            ("error , botstats = TRACE", Some(Level::TRACE), Some(Level::TRACE), None),
        ] {
            let targets = text.parse::<Filter>().unwrap().targets();
            for (target, most) in [(INGEST, ingest), (QUERY, query), (NATS, nats)] {
                for level in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE] {
                    let heard = most.is_some_and(|most| level <= most);
                    assert_eq!(targets.would_enable(target, &level), heard, "{text} {target}");
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused() {
        for text in [
            "",
            " ",
            ",",
            "info,",
            "warning",
            "verbose",
            "notice",
            "none",
            "critical",
            "3",
            "info debug",
            "info;warn",
            "info,debug",
            "info,foo=bar",
            "info,foo=debug",
            "info,botstats_ingest",
            "info,botstats_ingest=",
            "info,botstats_ingest=loud",
            "info,botstats-ingest=debug",
            "info,=debug",
            "botstats[span]=debug",
            "===",
        ] {
            let error = text.parse::<Filter>().unwrap_err().to_string();
            assert!(error.contains("error, warn, info, debug, trace"), "{text:?}: {error}");
        }
    }
}
