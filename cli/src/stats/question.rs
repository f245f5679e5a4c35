//! The question as flags: its checks, and the path that asks it.
//!
//! *Why* checked here too: the endpoint refuses what is not allowed and keeps the call. But some
//! questions are allowed and yet cannot mean what was typed, such as percentiles of counts. Their
//! answer would use the hour.

use std::convert::Infallible;

use botstats_common::ids::is_id_char;
use botstats_common::io::settings;
use botstats_common::metric::{ALLOWED_CODES, TypeCode, TypeSet};
use botstats_common::split::{MAX_TOP, Split};
use botstats_common::stat::{ALLOWED_STATS, MAX_STATS, Stat};
use botstats_common::wire::{MAX_CLOCK_DATES, MAX_DATES};
use botstats_query::{GroupMode, MAX_DAYS, Previous};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use jiff::civil::Date;
use secrecy::{ExposeSecret as _, SecretString};

use crate::output::BadUsage;

/// The first year of `--from`.
const FIRST_YEAR: i16 = 1971;
/// The lengths of an API key that are allowed, in bytes.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 8..=128;
/// The types asked for without `--types` and `--split`.
const USUAL_TYPES: [TypeCode; 6] = [
    TypeCode::NewUser,
    TypeCode::ActiveUser,
    TypeCode::Messages,
    TypeCode::ConversationLength,
    TypeCode::TakeoverRate,
    TypeCode::IncomingMessage,
];

#[derive(Debug, Clone, Args)]
pub(super) struct Question {
    /// API key of one bot [default: all bots of the account]
    #[arg(long, env = "BOTSTATS_BOT_KEY", hide_env_values = true, value_name = "KEY", value_parser = secret)]
    pub(super) bot: Option<SecretString>,
    /// The token is a bot's: ask for that bot, and use the bot's call instead of the account's
    #[arg(long)]
    pub(super) as_bot: bool,
    /// Types to ask for: codes and ranges of codes, such as 0,2,8-10,100-108 [default:
    /// 0,2,3,8,10,13; with --split all codes of that kind of name]
    #[arg(long, value_name = "TYPES", value_parser = types)]
    types: Option<TypeSet>,
    /// What a row stands for
    #[arg(long, default_value = "day", value_name = "GROUP", ignore_case = true)]
    pub(super) group: GroupMode,
    /// Days of history, 1 to 30
    #[arg(long, default_value_t = 7, value_name = "DAYS", value_parser = settings::whole::<u8>(1..=MAX_DAYS))]
    days: u8,
    /// First date of another window, such as 2026-11-01, in the account's time zone
    #[arg(long, value_name = "DATE", value_parser = date, requires = "to", conflicts_with = "days")]
    from: Option<Date>,
    /// Last date of that window; at most 400 dates (62 with --group 15min or hour)
    #[arg(long, value_name = "DATE", value_parser = date, requires = "from", conflicts_with = "days")]
    to: Option<Date>,
    /// Compare with an earlier window
    #[arg(long, value_name = "WINDOW")]
    pub(super) previous: Option<Previous>,
    /// What rows are kept apart by; they are merged over the rest [default: bot,channel]
    #[arg(long, value_name = "BY")]
    by: Option<By>,
    /// Columns for durations: p1 to p99, min, max, within:SECONDS, such as p50,p90,within:30
    #[arg(long, value_name = "STATS", value_parser = stats)]
    stats: Option<StatList>,
    /// Rows by name
    #[arg(long, value_name = "KIND", value_parser = split())]
    split: Option<Split>,
    /// The most names that keep rows of their own, 1 to 500; the others join `(other)` [default:
    /// 50]
    #[arg(long, value_name = "N", value_parser = settings::whole::<u32>(1..=MAX_TOP), requires = "split")]
    top: Option<u32>,
    /// Also show rows without a sample
    #[arg(long)]
    fill: bool,
}

/// What rows are kept apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    #[value(name = "bot,channel")]
    Pair,
    Bot,
    Channel,
    None,
}

/// The items of `--stats`, in the order asked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StatList(Vec<Stat>);

/// As it stands in a path.
fn name(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

impl Question {
    /// Checks what flags can't say of each other.
    pub(super) fn check(&self) -> Result<(), BadUsage> {
        let bad = |text: String| Err(BadUsage(text));
        if let Some(key) = &self.bot {
            if self.as_bot {
                return bad("--as-bot asks for the token's own bot: leave out --bot \
                            (BOTSTATS_BOT_KEY)"
                    .to_owned());
            }
            check_key(key.expose_secret())?;
        }
        let dates = self.dates();
        if dates < 1 {
            return bad("--from is after --to".to_owned());
        }
        let most = match self.group {
            GroupMode::Quarter | GroupMode::Hour => MAX_CLOCK_DATES,
            _ => MAX_DATES,
        };
        if dates > most.into() {
            let group = name(&self.group);
            return bad(format!(
                "--from and --to are {dates} dates; with --group {group} at most {most} are allowed"
            ));
        }
        if self.group == GroupMode::WeekHour && self.previous.is_some() {
            return bad("--previous is not allowed with --group weekhour".to_owned());
        }
        let types = self.types();
        if let Some(split) = self.split {
            let other = types.iter().find(|code| Split::of(*code) != Some(split));
            if let Some(code) = other {
                return bad(format!(
                    "--types: {code} has no names of kind {}; --split {} allows {}",
                    split.name(),
                    split.name(),
                    list(split.codes().iter().copied())
                ));
            }
        }
        let is_duration = |code: &TypeCode| code.kind().is_duration();
        if self.stats.is_some() && !types.iter().any(|code| is_duration(&code)) {
            return bad(format!(
                "--stats says something about durations only: add one of the types {}",
                list(TypeCode::ALL.into_iter().filter(is_duration))
            ));
        }
        Ok(())
    }

    /// The types asked for.
    fn types(&self) -> TypeSet {
        self.types.unwrap_or_else(|| match self.split {
            Some(split) => split.codes().iter().copied().collect(),
            None => USUAL_TYPES.into_iter().collect(),
        })
    }

    /// The number of dates of the window.
    pub(super) fn dates(&self) -> i64 {
        match (self.from, self.to) {
            (Some(from), Some(to)) => i64::from((to - from).get_days()) + 1,
            _ => self.days.into(),
        }
    }

    /// The items of `--stats`, in the order asked.
    pub(super) fn stats(&self) -> &[Stat] {
        self.stats.as_ref().map_or(&[], |list| &list.0)
    }

    /// The endpoint's path for the question.
    pub(super) fn path(&self) -> String {
        let types = list(self.types().iter());
        let group = name(&self.group);
        let mut query: Vec<String> = Vec::new();
        let mut put = |name: &str, value: String| query.push(format!("{name}={value}"));
        let days = match (self.from, self.to) {
            (Some(from), Some(to)) => {
                put("from", from.to_string());
                put("to", to.to_string());
                "*".to_owned()
            }
            _ => self.days.to_string(),
        };
        if let Some(by) = &self.by {
            put("by", name(by));
        }
        if let Some(previous) = &self.previous {
            put("previous", name(previous));
        }
        if !self.stats().is_empty() {
            put("stats", list(self.stats().iter()));
        }
        if let Some(split) = self.split {
            put("split", split.name().to_owned());
        }
        if let Some(top) = self.top {
            put("top", top.to_string());
        }
        if self.fill {
            put("fill", "zero".to_owned());
        }
        let whose = match &self.bot {
            _ if self.as_bot => String::new(),
            Some(key) => format!("account/{}/", key.expose_secret()),
            None => "account/*/".to_owned(),
        };
        let mark = if query.is_empty() { "" } else { "?" };
        let query = query.join("&");
        format!("/analytics/statistics/{whose}{types}/{group}/{days}{mark}{query}")
    }
}

/// Items separated by commas.
fn list(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

fn secret(text: &str) -> Result<SecretString, Infallible> {
    Ok(SecretString::from(text))
}

/// Checks an API key. Clap does not do it, because its error would repeat a key with a typo.
fn check_key(key: &str) -> Result<(), BadUsage> {
    if KEY_BYTES.contains(&key.len()) && key.bytes().all(is_id_char) {
        Ok(())
    } else {
        let needed = "8 to 128 of A-Z a-z 0-9 _ - are needed";
        Err(BadUsage(format!("--bot (BOTSTATS_BOT_KEY) is no API key: {needed}")))
    }
}

fn types(text: &str) -> Result<TypeSet, String> {
    let bad = |item: &str| format!("{item:?}: codes {ALLOWED_CODES} are allowed");
    let mut set = TypeSet::default();
    for item in text.split(',') {
        let (from, to) = item.split_once('-').unwrap_or((item, item));
        let code = |text: &str| {
            let number = text.parse::<u8>().map_err(|_| bad(item))?;
            TypeCode::try_from(number).map_err(|_| bad(item))
        };
        let (from, to) = (code(from)?, code(to)?);
        if from > to {
            return Err(bad(item));
        }
        TypeCode::ALL.into_iter().filter(|c| (from..=to).contains(c)).for_each(|c| set.insert(c));
    }
    Ok(set)
}

fn date(text: &str) -> Result<Date, String> {
    let date = text.parse::<Date>().ok();
    // Other forms of ISO 8601 are not allowed.
    date.filter(|date| date.to_string() == text && date.year() >= FIRST_YEAR)
        .ok_or_else(|| format!("a date of the calendar from {FIRST_YEAR} on, such as 2026-11-01"))
}

fn stats(text: &str) -> Result<StatList, String> {
    let mut stats = Vec::new();
    for item in text.split(',') {
        let stat = item.parse::<Stat>().map_err(|()| format!("{item:?}: {ALLOWED_STATS}"))?;
        if stats.contains(&stat) {
            return Err(format!("{item} is given twice"));
        }
        stats.push(stat);
    }
    if stats.len() > MAX_STATS {
        return Err(format!("{} items; at most {MAX_STATS} are allowed", stats.len()));
    }
    Ok(StatList(stats))
}

fn split() -> impl TypedValueParser<Value = Split> {
    let names = PossibleValuesParser::new(Split::ALL.map(Split::name));
    names.try_map(|name| name.parse::<Split>().map_err(|()| "no kind of name"))
}

#[cfg(test)]
mod tests;
