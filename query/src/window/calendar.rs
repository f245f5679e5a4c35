//! The groups of local dates: which quarters they have, and their labels.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span as Duration, ToSpan as _};

use super::previous::DateRange;
use super::stretches::{DAY_S, HOUR_S, QUARTER_S, Stretches, timestamp};
use crate::request::question::GroupMode;

/// The first hour of a Monday, counted from a Thursday's midnight: 1970-01-01 was a Thursday.
const HOURS_FROM_MONDAY: i64 = 3 * 24;
/// The hours of a week.
const WEEK_HOURS: i64 = 7 * 24;

/// A group with its real start and end, in quarters.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) label: String,
}

/// An unbroken run of quarters with the same offset whose local time is in the same clock hour, or
/// quarter of a clock hour.
#[derive(Debug)]
pub(super) struct ClockPart {
    pub(super) start: i64,
    pub(super) end: i64,
    /// The local time of the first instant, in seconds from 1970-01-01T00:00.
    local_s: i64,
    offset_s: i64,
}

/// The local dates of a window in a zone, and the rules that make groups of them.
#[derive(Debug)]
pub(super) struct Calendar {
    pub(super) mode: GroupMode,
    dates: DateRange,
    stretches: Stretches,
    /// The first quarter of the dates.
    pub(super) start: i64,
    /// The first quarter after the dates.
    pub(super) end: i64,
}

impl Calendar {
    pub(super) fn new(zone: &TimeZone, mode: GroupMode, dates: DateRange) -> Self {
        let DateRange { first, last } = dates;
        // Both ends of the first and the last group are asked for.
        let beyond = next_period(mode, period_of(mode, last));
        let stretches = Stretches::of_days(zone, period_of(mode, first), beyond);
        let (start, end) = (stretches.day_start(first), stretches.day_start(day_after(last)));
        Self { mode, dates, stretches, start, end }
    }

    /// The first quarter that starts after an equally long part of `date` as that up to a quarter
    /// whose local time is `time_s` after midnight.
    pub(super) fn end_of_part(&self, date: Date, time_s: i64) -> i64 {
        let end = self.stretches.day_start(day_after(date));
        let mut quarters = self.stretches.day_start(date)..end;
        let reached = |quarter: &i64| self.stretches.local_s(*quarter).rem_euclid(DAY_S) >= time_s;
        quarters.find(reached).map_or(end, |quarter| quarter + 1)
    }

    /// The groups with a quarter in the window `[self.start, closes)`, in order.
    pub(super) fn spans(&self, closes: i64) -> Vec<Span> {
        let of_clock = |part: ClockPart| {
            let label = clock_label(part.local_s, part.offset_s);
            Span { start: part.start, end: part.end, label }
        };
        match self.mode {
            GroupMode::Quarter => {
                self.clock_parts(QUARTER_S, closes).into_iter().map(of_clock).collect()
            }
            GroupMode::Hour | GroupMode::WeekHour => {
                self.hours(closes).into_iter().map(of_clock).collect()
            }
            GroupMode::Day | GroupMode::Week | GroupMode::Month | GroupMode::Year => {
                self.periods(closes)
            }
            GroupMode::Total => {
                let label = format!("{}/{}", self.dates.first, self.dates.last);
                vec![Span { start: self.start, end: self.end, label }]
            }
        }
    }

    /// Days, weeks, months or years, each from its own first day, which may lie before the window.
    fn periods(&self, closes: i64) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut first = period_of(self.mode, self.dates.first);
        let mut start = self.stretches.day_start(first);
        while first <= self.dates.last && start < closes {
            let next = next_period(self.mode, first);
            let end = self.stretches.day_start(next);
            // A day that the zone skips has no quarter.
            if start.max(self.start) < end {
                spans.push(Span { start, end, label: period_label(self.mode, first) });
            }
            (first, start) = (next, end);
        }
        spans
    }

    /// The clock hours with a quarter in the window `[self.start, closes)`, in order.
    pub(super) fn hours(&self, closes: i64) -> Vec<ClockPart> {
        self.clock_parts(HOUR_S, closes)
    }

    fn clock_parts(&self, unit_s: i64, closes: i64) -> Vec<ClockPart> {
        let mut parts: Vec<ClockPart> = Vec::new();
        for stretch in self.stretches.iter() {
            let (first, end) = stretch.quarters();
            let mut start = first.max(self.start);
            while start < end {
                let (local_s, offset_s) = (stretch.local_s(start), stretch.offset_s);
                let unit = local_s.div_euclid(unit_s);
                let unit_end = stretch.quarter_at((unit + 1) * unit_s).min(end);
                match parts.last_mut() {
                    // Only a stretch without a quarter lies between the two, so the run goes on.
                    Some(last)
                        if last.local_s.div_euclid(unit_s) == unit && last.offset_s == offset_s =>
                    {
                        last.end = unit_end;
                    }
                    _ if start >= closes => return parts,
                    _ => parts.push(ClockPart { start, end: unit_end, local_s, offset_s }),
                }
                start = unit_end;
            }
        }
        parts
    }
}

impl ClockPart {
    /// Which hour of its week it is in, from 0 for the first hour of Monday.
    pub(super) fn hour_of_week(&self) -> u32 {
        let hour = self.local_s.div_euclid(HOUR_S) + HOURS_FROM_MONDAY;
        u32::try_from(hour.rem_euclid(WEEK_HOURS)).unwrap_or_default()
    }
}

/// The first date of the day, week, month or year of a date; of other modes the date itself.
fn period_of(mode: GroupMode, date: Date) -> Date {
    match mode {
        GroupMode::Week => {
            date.saturating_sub(Duration::new().days(date.weekday().to_monday_zero_offset()))
        }
        GroupMode::Month => date.first_of_month(),
        GroupMode::Year => date.first_of_year(),
        GroupMode::Quarter
        | GroupMode::Hour
        | GroupMode::Day
        | GroupMode::Total
        | GroupMode::WeekHour => date,
    }
}

/// The first date of the next day, week, month or year; of other modes the next date.
fn next_period(mode: GroupMode, first: Date) -> Date {
    match mode {
        GroupMode::Week => first.saturating_add(7.days()),
        GroupMode::Month => first.saturating_add(1.month()),
        GroupMode::Year => first.saturating_add(1.year()),
        GroupMode::Quarter
        | GroupMode::Hour
        | GroupMode::Day
        | GroupMode::Total
        | GroupMode::WeekHour => day_after(first),
    }
}

fn day_after(date: Date) -> Date {
    date.saturating_add(1.day())
}

fn period_label(mode: GroupMode, first: Date) -> String {
    match mode {
        GroupMode::Week => {
            let week = first.iso_week_date();
            format!("{:04}-W{:02}", week.year(), week.week())
        }
        GroupMode::Month => format!("{:04}-{:02}", first.year(), first.month()),
        GroupMode::Year => format!("{:04}", first.year()),
        _ => first.to_string(),
    }
}

fn clock_label(local_s: i64, offset_s: i64) -> String {
    let local = timestamp(local_s);
    let text = local.to_string();
    if offset_s == 0 {
        return text;
    }
    let sign = if offset_s < 0 { '-' } else { '+' };
    let (minutes, seconds) = (offset_s.abs() / 60, offset_s.abs() % 60);
    let mut label =
        format!("{}{sign}{:02}:{:02}", text.trim_end_matches('Z'), minutes / 60, minutes % 60);
    if seconds != 0 {
        label.push_str(&format!(":{seconds:02}"));
    }
    label
}
