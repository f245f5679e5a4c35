//! The window of a question and its groups, in the account's time zone.
//!
//! *Invariants*: a whole quarter belongs to the local time of its first instant. Groups are
//! contiguous and in order; no group is empty, no group lies in the future. The window ends with
//! the running quarter.
//!
//! A local day starts with the first quarter whose local date is the day's date or a later one, and
//! ends where the next day starts. So the days cover all of time without gap or overlap, whatever a
//! zone does with its clocks. A date that a zone skips has no quarters and no group, but counts
//! among the days asked for.
//!
//! *Not here*: events. An ingest gets the groups' boundaries and knows no zone.
//!
//! *Why* whole numbers: a zone is cut into stretches with one offset each, and within a stretch a
//! division gives the local hour or day. So a window of 30 days costs a few look-ups in the zone,
//! and not one for each quarter.

use botstats_common::quarter::{QUARTER_MS, Quarter};
use botstats_common::zones;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};

use crate::request::question::{Days, GroupMode};

const QUARTER_S: i64 = QUARTER_MS / 1000;
const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * HOUR_S;
/// More than the offset from UTC of any zone at any time.
const MAX_OFFSET_S: i64 = 26 * HOUR_S;
/// The stretches reach 3 days, in seconds, beyond the window at both ends: enough to reach the end
/// of the last day under any offset, and past a change of the clock there.
const MARGIN_S: i64 = 3 * DAY_S;
/// The present is clamped to the years from 1971 to 9000: all dates of a window then can be
/// computed. In Unix milliseconds.
const NOW_RANGE_MS: (i64, i64) = (365 * DAY_S * 1000, 7_030 * 365 * DAY_S * 1000);

/// One hour, day, month or year of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The group's first quarter; a month or year may begin before the window.
    pub start: Quarter,
    /// `GroupLabel`: the local time of the group's first instant, to the hour, day, month or year.
    pub label: String,
    /// `GroupStart`: the same instant in UTC.
    pub start_utc: String,
    /// True if the group begins in the window and has ended.
    pub complete: bool,
}

/// The asked-for time range and its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The groups, in order; never empty.
    pub groups: Vec<Group>,
    /// Where the groups' parts of the window begin and end: group `i` is
    /// `[boundaries[i], boundaries[i + 1])`. Strictly ascending, one more than groups.
    pub boundaries: Vec<Quarter>,
    /// The account's local date now: the last date of the window.
    pub last_date: Date,
}

impl Window {
    /// The window of `days` local days that ends with the quarter of `now_ms` (Unix milliseconds).
    #[must_use]
    pub fn new(now_ms: i64, zone: &TimeZone, days: Days, mode: GroupMode) -> Self {
        let now_ms = now_ms.clamp(NOW_RANGE_MS.0, NOW_RANGE_MS.1);
        let running = now_ms.div_euclid(QUARTER_MS);
        let today =
            Stretches::around(zone, running * QUARTER_S, running * QUARTER_S).latest_day(running);
        let first = today - i64::from(days.number()) + 1;
        let calendar = Calendar { zone, mode, first, today };
        let spans = calendar.spans(running);
        let opens = calendar.window_start();
        let last_date = date(today);
        let mut window = Self { groups: Vec::new(), boundaries: Vec::new(), last_date };
        for span in &spans {
            window.boundaries.push(quarter(span.start.max(opens)));
            window.groups.push(Group {
                start: quarter(span.start),
                label: span.label.clone(),
                start_utc: utc_label(span.start),
                complete: span.start >= opens && span.end * QUARTER_MS <= now_ms,
            });
        }
        window.boundaries.push(quarter(running + 1));
        window
    }
}

/// A group with its real start and end, in quarters.
struct Span {
    start: i64,
    end: i64,
    label: String,
}

/// A stretch of time `[start_s, end_s)` (Unix seconds) in which a zone has one offset.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    start_s: i64,
    end_s: i64,
    offset_s: i64,
}

impl Stretch {
    /// The first quarter that starts in the stretch, and the first that starts after it.
    fn quarters(self) -> (i64, i64) {
        (div_ceil(self.start_s, QUARTER_S), div_ceil(self.end_s, QUARTER_S))
    }

    /// The first quarter at or after local second `local_s`, by this stretch's offset.
    fn quarter_at(self, local_s: i64) -> i64 {
        div_ceil(local_s - self.offset_s, QUARTER_S)
    }

    fn local_s(self, quarter: i64) -> i64 {
        quarter * QUARTER_S + self.offset_s
    }
}

/// A part of a zone's line of time, cut where its offset changes.
struct Stretches(Vec<Stretch>);

impl Stretches {
    /// The stretches of `[from_s, to_s]` and [`MARGIN_S`] beyond both ends.
    fn around(zone: &TimeZone, from_s: i64, to_s: i64) -> Self {
        let (from_s, to_s) = (from_s - MARGIN_S, to_s + MARGIN_S);
        let from = timestamp(from_s);
        let mut all = vec![Stretch {
            start_s: from_s,
            end_s: to_s,
            offset_s: i64::from(zone.to_offset(from).seconds()),
        }];
        for (at_s, offset_s) in zones::changes_after(zone, from) {
            if at_s >= to_s {
                break;
            }
            let offset_s = i64::from(offset_s);
            if let Some(last) = all.last_mut().filter(|last| last.offset_s != offset_s) {
                last.end_s = at_s;
                all.push(Stretch { start_s: at_s, end_s: to_s, offset_s });
            }
        }
        Self(all)
    }

    /// The day, counted from 1970-01-01, that a quarter belongs to: the latest local date of this
    /// and all earlier quarters.
    fn latest_day(&self, quarter: i64) -> i64 {
        let reached = self.0.iter().filter_map(|stretch| {
            let (first, end) = stretch.quarters();
            let last = quarter.min(end - 1);
            (first <= last).then(|| stretch.local_s(last).div_euclid(DAY_S))
        });
        reached.max().unwrap_or_default()
    }

    /// The first quarter whose local date is `day` or later.
    fn day_start(&self, day: i64) -> i64 {
        let found = self.0.iter().find_map(|stretch| {
            let (first, end) = stretch.quarters();
            let start = stretch.quarter_at(day * DAY_S).max(first);
            (start < end).then_some(start)
        });
        // Not reached: callers ask only for a day whose midnight is in the stretches under any
        // offset.
        found.unwrap_or_else(|| div_ceil(day * DAY_S + MAX_OFFSET_S, QUARTER_S))
    }
}

/// The local days of a window, and the rules that make groups of them.
struct Calendar<'a> {
    zone: &'a TimeZone,
    mode: GroupMode,
    first: i64,
    today: i64,
}

impl Calendar<'_> {
    fn stretches(&self, first_day: i64, last_day: i64) -> Stretches {
        Stretches::around(self.zone, first_day * DAY_S, last_day * DAY_S)
    }

    fn window_start(&self) -> i64 {
        self.stretches(self.first, self.first).day_start(self.first)
    }

    /// The groups that have a quarter in the window, up to the one with the quarter `running`.
    fn spans(&self, running: i64) -> Vec<Span> {
        match self.mode {
            GroupMode::Hour => self.hours(running),
            GroupMode::Day => self.days(),
            GroupMode::Month | GroupMode::Year => self.periods(),
        }
    }

    fn days(&self) -> Vec<Span> {
        let stretches = self.stretches(self.first, self.today + 1);
        let mut start = stretches.day_start(self.first);
        let mut spans = Vec::new();
        for day in self.first..=self.today {
            let end = stretches.day_start(day + 1);
            if start < end {
                spans.push(Span { start, end, label: date(day).to_string() });
            }
            start = end;
        }
        spans
    }

    /// Months or years, each from its own first day, which may lie before the window.
    fn periods(&self) -> Vec<Span> {
        let start_of = |first: Date| {
            let day = day_number(first);
            self.stretches(day, day).day_start(day)
        };
        let mut spans = Vec::new();
        let mut period = self.period_of(date(self.first));
        let last = date(self.today);
        let opens = self.window_start();
        while period <= last {
            let (next, label) = match self.mode {
                GroupMode::Year => {
                    (period.saturating_add(1.year()), format!("{:04}", period.year()))
                }
                _ => (
                    period.saturating_add(1.month()),
                    format!("{:04}-{:02}", period.year(), period.month()),
                ),
            };
            let span = Span { start: start_of(period), end: start_of(next), label };
            if span.start.max(opens) < span.end {
                spans.push(span);
            }
            period = next;
        }
        spans
    }

    fn period_of(&self, date: Date) -> Date {
        match self.mode {
            GroupMode::Year => date.first_of_year(),
            _ => date.first_of_month(),
        }
    }

    /// Unbroken runs of quarters with the same local date, hour and offset.
    fn hours(&self, running: i64) -> Vec<Span> {
        let stretches = self.stretches(self.first, self.today + 1);
        let opens = stretches.day_start(self.first);
        let mut spans: Vec<(i64, i64, Span)> = Vec::new();
        for stretch in &stretches.0 {
            let (first, end) = stretch.quarters();
            let mut start = first.max(opens);
            while start < end && start <= running {
                let hour = stretch.local_s(start).div_euclid(HOUR_S);
                let hour_end = stretch.quarter_at((hour + 1) * HOUR_S).min(end);
                match spans.last_mut() {
                    // Only a stretch without a quarter lies between the two, so the run goes on.
                    Some((last_hour, offset_s, span))
                        if *last_hour == hour && *offset_s == stretch.offset_s =>
                    {
                        span.end = hour_end;
                    }
                    _ => {
                        let label = hour_label(stretch.local_s(start), stretch.offset_s);
                        let span = Span { start, end: hour_end, label };
                        spans.push((hour, stretch.offset_s, span));
                    }
                }
                start = hour_end;
            }
        }
        spans.into_iter().map(|(_, _, span)| span).collect()
    }
}

fn hour_label(local_s: i64, offset_s: i64) -> String {
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

fn utc_label(quarter: i64) -> String {
    timestamp(quarter * QUARTER_S).to_string()
}

fn quarter(number: i64) -> Quarter {
    Quarter(u32::try_from(number.max(0)).unwrap_or(u32::MAX))
}

fn timestamp(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn date(day: i64) -> Date {
    TimeZone::UTC.to_datetime(timestamp(day * DAY_S)).date()
}

fn day_number(date: Date) -> i64 {
    let midnight = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0));
    midnight.map_or(0, |midnight| midnight.as_second().div_euclid(DAY_S))
}

fn div_ceil(a: i64, b: i64) -> i64 {
    -(-a).div_euclid(b)
}

#[cfg(test)]
mod tests {
    use botstats_common::directory::time_zone;

    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn window(now: &str, zone: &str, days: u8, mode: &str) -> Window {
        let days = Days::try_from(days).unwrap();
        Window::new(ms(now), &time_zone(zone).unwrap(), days, mode.parse().unwrap())
    }

    /// Each group as `label start [from, to)`, with `+` if complete.
    fn shown(window: &Window) -> Vec<String> {
        let at = |q: Quarter| utc_label(i64::from(q.0)).trim_end_matches(":00Z").replace("T", " ");
        let parts = window.groups.iter().zip(window.boundaries.windows(2));
        parts
            .map(|(group, part)| {
                assert_eq!(group.start_utc, utc_label(i64::from(group.start.0)));
                let complete = if group.complete { " +" } else { "" };
                let (from, to) = (at(part[0]), at(part[1]));
                format!("{} from {} [{from}, {to}){complete}", group.label, at(group.start))
            })
            .collect()
    }

    #[test]
    fn days_of_utc() {
        assert_eq!(
            shown(&window("2026-11-22T15:20:00Z", "UTC", 3, "day")),
            [
                "2026-11-20 from 2026-11-20 00:00 [2026-11-20 00:00, 2026-11-21 00:00) +",
                "2026-11-21 from 2026-11-21 00:00 [2026-11-21 00:00, 2026-11-22 00:00) +",
                "2026-11-22 from 2026-11-22 00:00 [2026-11-22 00:00, 2026-11-22 15:30)",
            ]
        );
        // A day is complete from its end on, to the millisecond.
        let complete = |now: &str| {
            let groups = window(now, "UTC", 2, "day").groups;
            groups.iter().map(|g| (g.label.clone(), g.complete)).collect::<Vec<_>>()
        };
        let pair = |a: &str, b: &str| vec![(a.to_owned(), true), (b.to_owned(), false)];
        assert_eq!(complete("2026-11-21T23:59:59.999Z"), pair("2026-11-20", "2026-11-21"));
        assert_eq!(complete("2026-11-22T00:00:00Z"), pair("2026-11-21", "2026-11-22"));
    }

    #[test]
    fn months_and_years_begin_before_the_window() {
        assert_eq!(
            shown(&window("2026-11-22T15:20:00Z", "UTC", 30, "month")),
            [
                "2026-10 from 2026-10-01 00:00 [2026-10-24 00:00, 2026-11-01 00:00)",
                "2026-11 from 2026-11-01 00:00 [2026-11-01 00:00, 2026-11-22 15:30)",
            ]
        );
        assert_eq!(
            shown(&window("2026-01-15T12:00:00Z", "Asia/Kolkata", 30, "year")),
            [
                "2025 from 2024-12-31 18:30 [2025-12-16 18:30, 2025-12-31 18:30)",
                "2026 from 2025-12-31 18:30 [2025-12-31 18:30, 2026-01-15 12:15)",
            ]
        );
        // February lies whole in the window, and has ended.
        assert_eq!(
            shown(&window("2027-03-01T00:05:00Z", "UTC", 30, "month")),
            [
                "2027-01 from 2027-01-01 00:00 [2027-01-31 00:00, 2027-02-01 00:00)",
                "2027-02 from 2027-02-01 00:00 [2027-02-01 00:00, 2027-03-01 00:00) +",
                "2027-03 from 2027-03-01 00:00 [2027-03-01 00:00, 2027-03-01 00:15)",
            ]
        );
    }

    #[test]
    fn an_hour_that_repeats_is_two_groups() {
        let all = shown(&window("2026-10-25T01:10:00Z", "Europe/Rome", 1, "hour"));
        assert_eq!(
            all[1..],
            [
                "2026-10-25T01:00:00+02:00 from 2026-10-24 23:00 [2026-10-24 23:00, 2026-10-25 00:00) +",
                "2026-10-25T02:00:00+02:00 from 2026-10-25 00:00 [2026-10-25 00:00, 2026-10-25 01:00) +",
                "2026-10-25T02:00:00+01:00 from 2026-10-25 01:00 [2026-10-25 01:00, 2026-10-25 01:15)",
            ]
        );
        assert_eq!(window("2026-10-25T22:59:59Z", "Europe/Rome", 1, "hour").groups.len(), 25);
        assert_eq!(window("2026-03-29T21:59:59Z", "Europe/Rome", 1, "hour").groups.len(), 23);
    }

    #[test]
    fn hours_are_local_and_may_be_cut() {
        let labels = |now: &str, zone: &str| {
            let window = window(now, zone, 1, "hour");
            shown(&window)
        };
        assert_eq!(
            labels("2026-11-20T19:20:00Z", "Asia/Kathmandu"),
            [
                "2026-11-21T00:00:00+05:45 from 2026-11-20 18:15 [2026-11-20 18:15, 2026-11-20 19:15) +",
                "2026-11-21T01:00:00+05:45 from 2026-11-20 19:15 [2026-11-20 19:15, 2026-11-20 19:30)",
            ]
        );
        // 02:00 becomes 02:30: hour 2 has only its second half.
        assert_eq!(
            labels("2026-10-03T16:40:00Z", "Australia/Lord_Howe")[1..],
            [
                "2026-10-04T01:00:00+10:30 from 2026-10-03 14:30 [2026-10-03 14:30, 2026-10-03 15:30) +",
                "2026-10-04T02:30:00+11:00 from 2026-10-03 15:30 [2026-10-03 15:30, 2026-10-03 16:00) +",
                "2026-10-04T03:00:00+11:00 from 2026-10-03 16:00 [2026-10-03 16:00, 2026-10-03 16:45)",
            ]
        );
        // 02:45 becomes 03:45.
        assert_eq!(
            labels("2026-09-26T15:00:00Z", "Pacific/Chatham")[2..],
            [
                "2026-09-27T02:00:00+12:45 from 2026-09-26 13:15 [2026-09-26 13:15, 2026-09-26 14:00) +",
                "2026-09-27T03:45:00+13:45 from 2026-09-26 14:00 [2026-09-26 14:00, 2026-09-26 14:15) +",
                "2026-09-27T04:00:00+13:45 from 2026-09-26 14:15 [2026-09-26 14:15, 2026-09-26 15:15)",
            ]
        );
        // At offset zero the label ends with Z, in any zone.
        assert!(
            labels("2026-11-20T10:05:00Z", "Europe/London")[0].starts_with("2026-11-20T00:00:00Z ")
        );
    }

    #[test]
    fn days_without_midnight_and_days_that_do_not_exist() {
        // Clocks went from 00:00 to 01:00.
        assert_eq!(
            shown(&window("2018-11-04T12:00:00Z", "America/Sao_Paulo", 2, "day")),
            [
                "2018-11-03 from 2018-11-03 03:00 [2018-11-03 03:00, 2018-11-04 03:00) +",
                "2018-11-04 from 2018-11-04 03:00 [2018-11-04 03:00, 2018-11-04 12:15)",
            ]
        );
        assert!(
            shown(&window("2018-11-04T12:00:00Z", "America/Sao_Paulo", 1, "hour"))[0]
                .starts_with("2018-11-04T01:00:00-02:00 from 2018-11-04 03:00 ")
        );
        // Samoa skipped 30 December 2011; the date counts among the three days.
        assert_eq!(
            shown(&window("2011-12-31T00:00:00Z", "Pacific/Apia", 3, "day")),
            [
                "2011-12-29 from 2011-12-29 10:00 [2011-12-29 10:00, 2011-12-30 10:00) +",
                "2011-12-31 from 2011-12-30 10:00 [2011-12-30 10:00, 2011-12-31 00:15)",
            ]
        );
        // Clocks went from 00:01 back to 23:01 of the day before: the new day had begun.
        assert_eq!(
            shown(&window("2010-11-07T03:20:00Z", "America/St_Johns", 1, "hour")),
            [
                "2010-11-07T00:00:00-02:30 from 2010-11-07 02:30 [2010-11-07 02:30, 2010-11-07 02:45) +",
                "2010-11-06T23:15:00-03:30 from 2010-11-07 02:45 [2010-11-07 02:45, 2010-11-07 03:30)",
            ]
        );
    }

    /// The same rules, quarter by quarter, without a thought for speed.
    fn naive(
        now_ms: i64,
        zone: &TimeZone,
        days: i64,
        mode: GroupMode,
    ) -> Vec<(i64, i64, String, bool)> {
        let running = now_ms.div_euclid(QUARTER_MS);
        let back = if mode == GroupMode::Year { 430 } else { 75 };
        let ahead = match mode {
            GroupMode::Year => 370,
            GroupMode::Month => 35,
            _ => 4,
        };
        let mut latest = Date::MIN;
        let mut key_of = Vec::new();
        for q in (running - back * 96)..=(running + ahead * 96) {
            let at = timestamp(q * QUARTER_S);
            let local = zone.to_datetime(at);
            latest = latest.max(local.date());
            let offset = zone.to_offset(at);
            let key = match mode {
                GroupMode::Hour => format!("{} {} {offset}", local.date(), local.hour()),
                GroupMode::Day => latest.to_string(),
                GroupMode::Month => latest.to_string()[..7].to_owned(),
                GroupMode::Year => latest.to_string()[..4].to_owned(),
            };
            key_of.push((q, latest, key));
        }
        let today = key_of.iter().find(|(q, ..)| *q == running).unwrap().1;
        let opens = today.checked_sub((days - 1).days()).unwrap();
        let opens = key_of.iter().find(|(_, day, _)| *day >= opens).unwrap().0;
        let mut groups = Vec::new();
        for run in key_of.chunk_by(|a, b| a.2 == b.2) {
            let (start, end) = (run[0].0, run[run.len() - 1].0 + 1);
            if end <= opens || start > running {
                continue;
            }
            let complete = start >= opens && end * QUARTER_MS <= now_ms;
            groups.push((start.max(opens), end.min(running + 1), run[0].2.clone(), complete));
        }
        groups
    }

    fn compare(now_ms: i64, name: &str, days: u8, mode: GroupMode) {
        let zone = time_zone(name).unwrap();
        let window = Window::new(now_ms, &zone, Days::try_from(days).unwrap(), mode);
        let got: Vec<_> = window
            .groups
            .iter()
            .zip(window.boundaries.windows(2))
            .map(|(g, part)| (i64::from(part[0].0), i64::from(part[1].0), g.complete))
            .collect();
        let naive = naive(now_ms, &zone, days.into(), mode);
        let wanted: Vec<_> = naive.iter().map(|g| (g.0, g.1, g.3)).collect();
        assert_eq!(got, wanted, "{name} {mode:?} {days} days at {}", timestamp(now_ms / 1000));
        if mode != GroupMode::Hour {
            let labels: Vec<_> = window.groups.iter().map(|g| g.label.as_str()).collect();
            assert_eq!(labels, naive.iter().map(|g| g.2.as_str()).collect::<Vec<_>>(), "{name}");
        }
        assert!(window.groups.len() <= botstats_common::wire::MAX_GROUPS);
    }

    /// Zones whose clocks did something odd.
    const ODD_ZONES: &[&str] = &[
        "Africa/Cairo",
        "Africa/Casablanca",
        "Africa/Monrovia",
        "America/Havana",
        "America/Nuuk",
        "America/Sao_Paulo",
        "America/Scoresbysund",
        "America/St_Johns",
        "Antarctica/Casey",
        "Antarctica/Troll",
        "Asia/Beirut",
        "Asia/Gaza",
        "Asia/Kathmandu",
        "Asia/Pyongyang",
        "Asia/Tehran",
        "Australia/Lord_Howe",
        "Europe/Dublin",
        "Europe/Rome",
        "Pacific/Apia",
        "Pacific/Chatham",
        "Pacific/Kiritimati",
        "Pacific/Kwajalein",
    ];

    #[test]
    fn around_every_clock_change_as_the_naive_reckoning_says() {
        let mut pick = 0_usize;
        for name in ODD_ZONES {
            let zone = time_zone(name).unwrap();
            let from = "1971-06-01T00:00:00Z".parse().unwrap();
            let changes = zone.following(from).map(|c| c.timestamp().as_millisecond());
            for change in changes.take_while(|ms| *ms < 1_830_000_000_000) {
                // Each change gets another moment, number of days and mode; over all changes each
                // combination occurs.
                pick += 1;
                let after_ms =
                    [-1, 0, 1, QUARTER_MS, 4 * QUARTER_MS + 7, 50 * QUARTER_MS, 2_900 * QUARTER_MS];
                let days = [1, 2, 3, 30];
                let modes = [GroupMode::Hour, GroupMode::Day, GroupMode::Month];
                let (after_ms, days) = (after_ms[pick % 7], days[pick % 4]);
                compare(change + after_ms, name, days, modes[pick % 3]);
            }
        }
        assert!(pick > 1_000, "only {pick} changes");
    }

    #[test]
    fn years_as_the_naive_reckoning_says() {
        for name in ODD_ZONES {
            for now in ["2026-01-01T00:10:00Z", "2025-12-31T11:00:00Z", "2026-07-01T00:00:00Z"] {
                compare(ms(now), name, 30, GroupMode::Year);
            }
        }
    }

    #[test]
    fn every_zone_now() {
        let names = jiff::tz::db().available().map(|name| name.to_string());
        let names: Vec<_> = names.filter(|name| zones::is_place(name)).collect();
        assert!(names.len() > 400);
        for name in &names {
            compare(ms("2026-11-22T15:20:00Z"), name, 30, GroupMode::Hour);
            compare(ms("2026-04-05T15:30:00Z"), name, 2, GroupMode::Day);
        }
    }

    #[test]
    fn any_moment_has_a_window() {
        for now in [i64::MIN, -1, 0, i64::MAX] {
            for mode in [GroupMode::Hour, GroupMode::Day, GroupMode::Month, GroupMode::Year] {
                for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Niue"] {
                    let days = Days::try_from(30).unwrap();
                    let window = Window::new(now, &time_zone(zone).unwrap(), days, mode);
                    assert!(window.boundaries.is_sorted_by(|a, b| a < b), "{now} {mode:?}");
                }
            }
        }
    }
}
