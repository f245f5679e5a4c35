//! The query parameters of a call, each by itself.

use botstats_common::split::{MAX_TOP, Split};
use botstats_common::stat::{MAX_STATS, Stat};
use botstats_common::wire::By;
use jiff::civil::{Date, date};

use super::bad_parameter::Shown;
use super::parse::plain_decimal;
use super::{BadParameter, Previous, decoded};

/// The first date that may be asked for: it begins after 1970-01-01, where quarters begin, in every
/// zone.
pub(super) const FIRST_DATE: Date = date(1971, 1, 1);
/// The query parameters that there are, as texts say it.
pub(super) const PARAMETERS: &str = "from, to, by, previous, stats, split, top and fill";

/// The query parameters, each as it was given.
#[derive(Default)]
pub(super) struct Query {
    pub(super) from: Option<Date>,
    pub(super) to: Option<Date>,
    pub(super) by: Option<By>,
    pub(super) previous: Option<Previous>,
    pub(super) stats: Option<Vec<Stat>>,
    pub(super) split: Option<Split>,
    pub(super) top: Option<u32>,
    pub(super) fill_zero: Option<()>,
}

impl Query {
    /// Reads a raw query.
    ///
    /// # Errors
    /// The first bad parameter, as they are written.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, BadParameter> {
        let mut query = Self::default();
        let pairs = text.filter(|text| !text.is_empty()).map(|text| text.split('&'));
        for pair in pairs.into_iter().flatten() {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name), decoded(value));
            let value = value.as_ref();
            match name.as_ref() {
                "from" => put(&mut query.from, "from", || parse_date("from", value))?,
                "to" => put(&mut query.to, "to", || parse_date("to", value))?,
                "by" => put(&mut query.by, "by", || parse_by(value))?,
                "previous" => put(&mut query.previous, "previous", || parse_previous(value))?,
                "stats" => put(&mut query.stats, "stats", || parse_stats(value))?,
                "split" => put(&mut query.split, "split", || parse_split(value))?,
                "top" => put(&mut query.top, "top", || parse_top(value))?,
                "fill" => put(&mut query.fill_zero, "fill", || parse_fill(value))?,
                other => return Err(BadParameter::UnknownParameter(Shown::new(other))),
            }
        }
        Ok(query)
    }
}

fn put<T>(
    place: &mut Option<T>,
    name: &'static str,
    parse: impl FnOnce() -> Result<T, BadParameter>,
) -> Result<(), BadParameter> {
    if place.is_some() {
        return Err(BadParameter::Repeated(name));
    }
    *place = Some(parse()?);
    Ok(())
}

fn bad_value(name: &'static str, value: &str, allowed: &'static str) -> BadParameter {
    BadParameter::Value { name, value: Shown::new(value), allowed }
}

fn parse_date(name: &'static str, text: &str) -> Result<Date, BadParameter> {
    let date = text.parse::<Date>().ok();
    // Other forms of ISO 8601 are not allowed.
    date.filter(|date| *date >= FIRST_DATE && date.to_string() == text)
        .ok_or_else(|| BadParameter::Date { name, value: Shown::new(text) })
}

fn parse_by(text: &str) -> Result<By, BadParameter> {
    let (bot, channel) = match text {
        "bot,channel" => (true, true),
        "bot" => (true, false),
        "channel" => (false, true),
        "none" => (false, false),
        _ => {
            let allowed = "\"bot,channel\", \"bot\", \"channel\" or \"none\" is";
            return Err(bad_value("by", text, allowed));
        }
    };
    Ok(By { bot, channel })
}

fn parse_previous(text: &str) -> Result<Previous, BadParameter> {
    match text {
        "period" => Ok(Previous::Period),
        "week" => Ok(Previous::Week),
        "month" => Ok(Previous::Month),
        "year" => Ok(Previous::Year),
        _ => Err(bad_value("previous", text, "period, week, month or year is")),
    }
}

fn parse_stats(text: &str) -> Result<Vec<Stat>, BadParameter> {
    let count = text.split(',').count();
    if count > MAX_STATS {
        return Err(BadParameter::TooManyStats(count));
    }
    let mut stats = Vec::new();
    for item in text.split(',') {
        let stat = item.parse().map_err(|()| BadParameter::Stat(Shown::new(item)))?;
        if stats.contains(&stat) {
            return Err(BadParameter::RepeatedStat(stat));
        }
        stats.push(stat);
    }
    Ok(stats)
}

fn parse_split(text: &str) -> Result<Split, BadParameter> {
    let allowed = "goal, tag, intent, integration or operator is";
    text.parse().map_err(|()| bad_value("split", text, allowed))
}

fn parse_top(text: &str) -> Result<u32, BadParameter> {
    plain_decimal(text)
        .filter(|top| (1..=MAX_TOP).contains(top))
        .ok_or_else(|| bad_value("top", text, "1 to 500 in plain decimal is"))
}

fn parse_fill(text: &str) -> Result<(), BadParameter> {
    if text == "zero" { Ok(()) } else { Err(bad_value("fill", text, "fill=zero is")) }
}

#[cfg(test)]
mod tests;
