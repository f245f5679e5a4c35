//! Questions with all parameters, in every combination that is allowed.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use super::{Dice, Generated};
use crate::model::{ALL_CODES, Asked, Dates, Directory, Grain, Previous, SPLITS, Stat, codes_of};

/// Operators with names of their own: two share one, one has the id of another as its name.
const OPERATORS: [(&str, &str); 4] =
    [("o1", "Ann"), ("O1", "Ann"), ("o3", "o2"), ("é", "say \"hi\", Zoë")];

/// The display names of some operators.
pub fn operators(dice: &mut Dice) -> BTreeMap<String, String> {
    let named = if dice.one_in(4) { Vec::new() } else { dice.some_of(&OPERATORS) };
    named.into_iter().map(|(id, name)| (id.to_owned(), name.to_owned())).collect()
}

/// Draws a question about an account of the stream.
pub fn asked(
    dice: &mut Dice,
    generated: &Generated,
    account: &str,
    directory: &Directory,
    now_ms: i64,
) -> Asked {
    let bots = &generated.bots[account];
    let split = dice.one_in(2).then(|| *dice.pick(&SPLITS));
    let allowed = split.map_or(ALL_CODES.to_vec(), codes_of);
    let types = if dice.one_in(2) { dice.some_of(&allowed) } else { allowed };
    let grain = *dice.pick(&Grain::ALL);
    let is_compared = grain != Grain::WeekHour && dice.one_in(2);
    Asked {
        account: account.to_owned(),
        bots: dice.one_in(3).then(|| vec![dice.pick(bots).clone()]),
        types,
        grain,
        dates: dates(dice, grain, directory, now_ms),
        by: [dice.one_in(2), dice.one_in(2)],
        previous: is_compared.then(|| dice.pick(&Previous::ALL).0),
        stats: stats(dice),
        split,
        top: if split.is_some() { *dice.pick(&[1, 1, 2, 3, 5, 50, 500]) } else { 50 },
        fill: dice.one_in(3),
        now_ms,
    }
}

/// At most eight, none twice, in any order.
fn stats(dice: &mut Dice) -> Vec<Stat> {
    let mut stats = Vec::new();
    if dice.one_in(2) {
        return stats;
    }
    for _ in 0..=dice.below(8) {
        let percent = *dice.pick(&[1, 10, 25, 33, 50, 50, 67, 75, 90, 95, 99]);
        let seconds = *dice.pick(&[1, 2, 5, 10, 30, 60, 600, 86_400, 604_800]);
        let stat = match dice.below(6) {
            0 => Stat::Min,
            1 => Stat::Max,
            2 | 3 => Stat::Within(seconds),
            _ => Stat::Percentile(percent),
        };
        if !stats.contains(&stat) {
            stats.push(stat);
        }
    }
    stats
}

fn days(number: i64) -> Span {
    Span::new().days(number)
}

/// Up to today, or anywhere: in the past, across today, whole months, the end of February.
fn dates(dice: &mut Dice, grain: Grain, directory: &Directory, now_ms: i64) -> Dates {
    // A group for every quarter of an hour is slow to work out for the model.
    let most = match grain {
        Grain::Quarter => *dice.pick(&[1, 1, 2, 3, 8]),
        Grain::Hour => *dice.pick(&[1, 2, 3, 8, 30, 62]),
        Grain::Day | Grain::WeekHour => *dice.pick(&[1, 3, 8, 40, 100]),
        Grain::Week | Grain::Month | Grain::Year | Grain::Total => {
            *dice.pick(&[1, 8, 31, 62, 190, 400])
        }
    };
    if dice.one_in(3) {
        let number = dice.below(most.min(30)) + 1;
        return Dates::Last(u32::try_from(number).expect("days"));
    }
    let zone = jiff::tz::db().get(&directory.timezone).expect("a zone of the database");
    let now = Timestamp::from_millisecond(now_ms).expect("an instant of our age");
    // The local date alone is at most a clock change away from the day that the quarter belongs to.
    let today = [0, 2].map(|hours| today(&zone, now - Span::new().hours(hours)));
    let today = today[0].max(today[1]);
    let (from, to) = match dice.below(6) {
        // Whole months.
        0 => {
            let from = (today - days(dice.below(most) + 1)).first_of_month();
            let months = Span::new().months(dice.below(3));
            (from, (from + months).last_of_month())
        }
        // From the last days of a month, or to them.
        1 => {
            let end = (today - days(dice.below(most) + 1)).last_of_month();
            (end - days(dice.below(3)), end + days(dice.below(most)))
        }
        2 => {
            let end = (today - days(dice.below(most))).last_of_month();
            (end - days(dice.below(most)), end - days(dice.below(2)))
        }
        // Across today.
        3 => (today - days(dice.below(most)), today + days(dice.below(3))),
        _ => {
            let to = today - days(dice.below(40));
            (to - days(dice.below(most)), to)
        }
    };
    let from = from.min(today);
    let to = to.max(from).min(from + days(most - 1));
    Dates::FromTo(from, to)
}

fn today(zone: &TimeZone, now: Timestamp) -> Date {
    zone.to_datetime(now).date()
}
