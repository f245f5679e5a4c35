//! From the raw segments and the query of a call to its [`Question`].

use std::str::FromStr;

use botstats_common::ids::is_id_char;
use botstats_common::metric::{TypeCode, TypeSet};
use botstats_common::secret::SecretHash;
use botstats_common::split::Split;
use botstats_common::wire::{By, MAX_CLOCK_DATES, MAX_DATES, SplitBy};
use jiff::civil::Date;

use super::bad_parameter::Shown;
use super::query::Query;
use super::{BadParameter, BotFilter, Dates, GroupMode, MAX_DAYS, Question, decoded};

/// The most items in TYPES, duplicates included: several times as many as there are types.
pub(crate) const MAX_TYPE_ITEMS: usize = 64;
/// The `top` of a call that does not say it.
const DEFAULT_TOP: u32 = 50;

impl Question {
    /// Reads the four raw path segments (APIKEY, TYPES, GROUPMODE, DAYS) and the raw query.
    ///
    /// # Errors
    /// The first bad parameter, in the order TYPES, GROUPMODE, DAYS, APIKEY, the query as it is
    /// written, then what does not go together.
    pub fn parse(segments: [&str; 4], query: Option<&str>) -> Result<Self, BadParameter> {
        let [key, types, mode, days] = segments;
        Self::read(|| parse_key(&decoded(key)), [types, mode, days], query)
    }

    /// Reads the three raw path segments (TYPES, GROUPMODE, DAYS) and the raw query of a call with
    /// a bot's token.
    ///
    /// # Errors
    /// As [`Question::parse`].
    pub fn parse_for_bot(segments: [&str; 3], query: Option<&str>) -> Result<Self, BadParameter> {
        Self::read(|| Ok(BotFilter::OfToken), segments, query)
    }

    /// Reads the four raw path segments (BOT, TYPES, GROUPMODE, DAYS) and the raw query of the
    /// page's questions, which name a bot by its id.
    ///
    /// # Errors
    /// As [`Question::parse`].
    pub fn parse_for_page(segments: [&str; 4], query: Option<&str>) -> Result<Self, BadParameter> {
        let [bot, types, mode, days] = segments;
        Self::read(|| parse_bot(&decoded(bot)), [types, mode, days], query)
    }

    fn read(
        bots: impl FnOnce() -> Result<BotFilter, BadParameter>,
        segments: [&str; 3],
        query: Option<&str>,
    ) -> Result<Self, BadParameter> {
        let [types, mode, days] = segments.map(decoded);
        let types = parse_types(&types)?;
        let mode: GroupMode = mode.parse().map_err(|()| BadParameter::Mode(Shown::new(&mode)))?;
        let days = parse_days(&days)?;
        let bots = bots()?;
        let query = Query::parse(query)?;
        let dates = dates(days, query.from, query.to, mode)?;
        if query.previous.is_some() && mode == GroupMode::WeekHour {
            return Err(BadParameter::PreviousOfWeekHours);
        }
        Ok(Self {
            bots,
            types,
            mode,
            dates,
            by: query.by.unwrap_or(By::PAIR),
            previous: query.previous,
            stats: query.stats.unwrap_or_default(),
            split: split_by(query.split, query.top, types)?,
            fill_zero: query.fill_zero.is_some(),
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
                .and_then(|number: u8| TypeCode::try_from(number).ok())
                .ok_or_else(|| BadParameter::Type(Shown::new(item)))
        })
        .collect()
}

/// `None` is `*`.
fn parse_days(text: &str) -> Result<Option<u8>, BadParameter> {
    if text == "*" {
        return Ok(None);
    }
    let days = plain_decimal(text).filter(|days| (1..=MAX_DAYS).contains(days));
    days.map(Some).ok_or_else(|| BadParameter::Days(Shown::new(text)))
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

fn parse_bot(bot: &str) -> Result<BotFilter, BadParameter> {
    if bot == "*" {
        return Ok(BotFilter::All);
    }
    bot.parse().map(BotFilter::Id).map_err(|_| BadParameter::Bot(Shown::new(bot)))
}

/// The dates of DAYS, where `None` is `*`, with `from` and `to`.
fn dates(
    days: Option<u8>,
    from: Option<Date>,
    to: Option<Date>,
    mode: GroupMode,
) -> Result<Dates, BadParameter> {
    let (from, to) = match (days, from, to) {
        (Some(days), None, None) => return Ok(Dates::Last(days)),
        (Some(_), Some(_), _) => return Err(BadParameter::DateWithDays("from")),
        (Some(_), None, Some(_)) => return Err(BadParameter::DateWithDays("to")),
        (None, None, _) => return Err(BadParameter::MissingDate("from")),
        (None, Some(_), None) => return Err(BadParameter::MissingDate("to")),
        (None, Some(from), Some(to)) => (from, to),
    };
    if from > to {
        return Err(BadParameter::DatesReversed { from, to });
    }
    let most = match mode {
        GroupMode::Quarter | GroupMode::Hour => MAX_CLOCK_DATES,
        _ => MAX_DATES,
    };
    match u32::try_from((to - from).get_days()).unwrap_or(u32::MAX).saturating_add(1) {
        dates if dates > most => Err(BadParameter::TooManyDates(dates)),
        _ => Ok(Dates::FromTo(from, to)),
    }
}

fn split_by(
    split: Option<Split>,
    top: Option<u32>,
    types: TypeSet,
) -> Result<Option<SplitBy>, BadParameter> {
    let Some(split) = split else {
        return if top.is_some() { Err(BadParameter::TopWithoutSplit) } else { Ok(None) };
    };
    let codes: Vec<TypeCode> =
        types.iter().filter(|code| Split::of(*code) != Some(split)).collect();
    if !codes.is_empty() {
        return Err(BadParameter::NotOfSplit { codes, split });
    }
    Ok(Some(SplitBy { split, top: top.unwrap_or(DEFAULT_TOP) }))
}

/// A number of digits only, without leading zero.
pub(super) fn plain_decimal<T: FromStr>(text: &str) -> Option<T> {
    let plain = match text.as_bytes() {
        [b'0'] => true,
        [b'1'..=b'9', more @ ..] => more.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests;
