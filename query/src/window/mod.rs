//! The windows of a question and their groups, in the account's time zone.
//!
//! *Invariants*: a whole quarter belongs to the local time of its first instant. Groups are in
//! order; no group is without a quarter of the window, except that a week's hours are always 168.
//! No group lies in the future. A window ends at the latest with the running quarter.
//!
//! A local day starts with the first quarter whose local date is the day's date or a later one, and
//! ends where the next day starts. So the days cover all of time without gap or overlap, whatever a
//! zone does with its clocks. A date that a zone skips has no quarters and no group, but counts
//! among the dates asked for.
//!
//! *Not here*: events. An ingest gets the groups' stretches and knows no zone.
//!
//! *Why* whole numbers: a zone is cut into stretches with one offset each, and within a stretch a
//! division gives the local hour or day. So a window of 400 days costs a few look-ups in the zone,
//! and not one for each quarter.

mod calendar;
mod previous;
mod stretches;
#[cfg(test)]
mod tests;

use botstats_common::quarter::{QUARTER_MS, Quarter};
use botstats_common::wire::{Run, joined};
use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use self::calendar::Calendar;
use self::previous::DateRange;
use self::stretches::{DAY_S, QUARTER_S, Stretches, timestamp};
use crate::request::question::{BadParameter, Dates, GroupMode, Question};

/// The present is clamped to the years from 1971 to 9000: all dates of a window then can be
/// computed. In Unix milliseconds.
const NOW_RANGE_MS: (i64, i64) = (365 * DAY_S * 1000, 7_030 * 365 * DAY_S * 1000);
/// How labels of a week's hours begin.
const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// The windows of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Windows {
    /// The window that is asked for.
    pub current: Window,
    /// The window that it is compared with.
    pub earlier: Option<Window>,
    /// The number of dates of both.
    pub dates: u32,
    /// The last local date of the window that is not in the future.
    pub last_date: Date,
}

/// One group of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// `GroupLabel`: the local time of the group's first instant, to the quarter, hour, day, week,
    /// month or year; the dates of [`GroupMode::Total`]; the weekday and hour of
    /// [`GroupMode::WeekHour`].
    pub label: String,
    /// `GroupStart`: the group's first instant in UTC; `None` where a group has no start.
    pub start_utc: Option<String>,
    /// True if the group begins in the window, and has ended by the window's end and by now.
    pub complete: bool,
    /// How many parts of the window the group has: hours of a [`GroupMode::WeekHour`], else 1.
    pub parts: u32,
}

/// A time range and its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The first quarter.
    pub start: Quarter,
    /// The groups, in order; none in an empty window.
    pub groups: Vec<Group>,
    /// The stretches that the groups have, as an ingest is asked for them.
    pub runs: Vec<Run>,
}

impl Windows {
    /// The windows of a question at `now_ms` (Unix milliseconds).
    ///
    /// # Errors
    /// If the dates asked for begin after today.
    pub fn new(now_ms: i64, zone: &TimeZone, question: &Question) -> Result<Windows, BadParameter> {
        let Present { now_ms, running, around: around_now, today } = Present::new(now_ms, zone);
        let dates = match question.dates {
            Dates::Last(days) => {
                DateRange { first: today.saturating_sub((i64::from(days) - 1).days()), last: today }
            }
            Dates::FromTo(first, last) => DateRange { first, last },
        };
        check_from(dates.first, today)?;
        let calendar = Calendar::new(zone, question.mode, dates);
        let ends_now = running < calendar.end;
        let current = Window::new(&calendar, calendar.end.min(running + 1), now_ms);
        let mut windows = Windows {
            current,
            earlier: None,
            dates: dates.number(),
            last_date: dates.last.min(today),
        };
        if let Some(previous) = question.previous {
            let earlier = dates.earlier(previous);
            let calendar = Calendar::new(zone, question.mode, earlier);
            // A part of the dates is compared with an equally long part.
            let closes = if ends_now {
                let time_s = around_now.local_s(running).rem_euclid(DAY_S);
                calendar.end_of_part(dates.moved(previous, today), time_s)
            } else {
                calendar.end
            };
            windows.earlier = Some(Window::new(&calendar, closes, now_ms));
            windows.dates += earlier.number();
        }
        Ok(windows)
    }
}

/// The moment of a call in a zone.
struct Present {
    now_ms: i64,
    /// The quarter that runs.
    running: i64,
    around: Stretches,
    /// The date of that quarter.
    today: Date,
}

impl Present {
    fn new(now_ms: i64, zone: &TimeZone) -> Self {
        let now_ms = now_ms.clamp(NOW_RANGE_MS.0, NOW_RANGE_MS.1);
        let running = now_ms.div_euclid(QUARTER_MS);
        let around = Stretches::around(zone, running * QUARTER_S, running * QUARTER_S);
        let today = around.latest_day(running);
        Self { now_ms, running, around, today }
    }
}

/// Checks the dates of a question as [`Windows::new`] does, without making the windows.
///
/// # Errors
/// If the dates asked for begin after today.
pub(crate) fn check_dates(
    now_ms: i64,
    zone: &TimeZone,
    question: &Question,
) -> Result<(), BadParameter> {
    match question.dates {
        Dates::Last(_) => Ok(()),
        Dates::FromTo(from, _) => check_from(from, Present::new(now_ms, zone).today),
    }
}

fn check_from(from: Date, today: Date) -> Result<(), BadParameter> {
    if from > today { Err(BadParameter::FromAfterToday { from, today }) } else { Ok(()) }
}

/// The first local date that does not begin before an instant (Unix milliseconds).
pub(crate) fn first_date_since(since_ms: i64, zone: &TimeZone) -> Date {
    let (least, most) = NOW_RANGE_MS;
    // The first quarter that does not begin before it.
    let first = -(-since_ms.clamp(least, most)).div_euclid(QUARTER_MS);
    let before = Stretches::around(zone, first * QUARTER_S, first * QUARTER_S);
    before.latest_day(first - 1).saturating_add(1.day())
}

impl Window {
    /// The window `[calendar.start, closes)`.
    fn new(calendar: &Calendar, closes: i64, now_ms: i64) -> Self {
        let view = View { opens: calendar.start, closes, now_ms };
        let (groups, runs) = if view.opens >= view.closes {
            (Vec::new(), Vec::new())
        } else if calendar.mode == GroupMode::WeekHour {
            view.hours_of_a_week(calendar)
        } else {
            view.groups(calendar)
        };
        // Nothing is counted before 1970: an ingest is asked only for quarters that have a number.
        let runs = runs.into_iter().filter(|run| run.quarters > 0);
        let runs = joined(runs, u32::try_from(groups.len()).unwrap_or(u32::MAX));
        Self { start: quarter(view.opens), groups, runs }
    }
}

/// The quarters `[opens, closes)` of a window, and the present.
#[derive(Clone, Copy)]
struct View {
    opens: i64,
    closes: i64,
    now_ms: i64,
}

impl View {
    /// Consecutive groups, each with its run.
    fn groups(self, calendar: &Calendar) -> (Vec<Group>, Vec<Run>) {
        let spans = calendar.spans(self.closes);
        let groups = (0..).zip(spans).map(|(number, span)| {
            let run = self.run(span.start, span.end, Some(number));
            let start_utc = Some(utc_label(span.start));
            let complete = self.is_complete(span.start, span.end);
            (Group { label: span.label, start_utc, complete, parts: 1 }, run)
        });
        groups.unzip()
    }

    /// The 168 hours of a week, and the runs of the window's hours that count for them.
    fn hours_of_a_week(self, calendar: &Calendar) -> (Vec<Group>, Vec<Run>) {
        let labels =
            WEEKDAYS.iter().flat_map(|day| (0..24).map(move |hour| format!("{day} {hour:02}")));
        let group = |label| Group { label, start_utc: None, complete: true, parts: 0 };
        let mut groups: Vec<Group> = labels.map(group).collect();
        let mut runs = Vec::new();
        for hour in calendar.hours(self.closes) {
            let place = hour.hour_of_week();
            let counted = self.is_complete(hour.start, hour.end).then_some(place);
            if let Some(group) = counted.and_then(|at| groups.get_mut(usize::try_from(at).ok()?)) {
                group.parts += 1;
            }
            runs.push(self.run(hour.start, hour.end, counted));
        }
        (groups, runs)
    }

    fn is_complete(self, start: i64, end: i64) -> bool {
        start >= self.opens && end <= self.closes && end * QUARTER_MS <= self.now_ms
    }

    /// The part of `[start, end)` that lies in the window.
    fn run(self, start: i64, end: i64, group: Option<u32>) -> Run {
        let (from, to) = (start.max(self.opens), end.min(self.closes));
        Run { parts: 1, quarters: quarter(to).0 - quarter(from).0, group }
    }
}

fn utc_label(quarter: i64) -> String {
    timestamp(quarter * QUARTER_S).to_string()
}

fn quarter(number: i64) -> Quarter {
    Quarter(u32::try_from(number.max(0)).unwrap_or(u32::MAX))
}
