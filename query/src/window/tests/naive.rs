//! The same rules, quarter by quarter, without a thought for speed.

use botstats_common::wire::{MAX_GROUPS, MAX_RUNS, MAX_WINDOW_QUARTERS};
use botstats_common::zones;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::*;
use crate::request::question::Previous;

/// A quarter of an hour by its first instant.
struct Walked {
    number: i64,
    /// The latest date so far.
    day: Date,
    local: DateTime,
    offset: Offset,
}

impl Walked {
    /// Neighbours with the same key are in one group.
    fn key(&self, mode: GroupMode) -> (i64, i64, i64) {
        let day = i64::from((self.day - Date::ZERO).get_days());
        let date = i64::from((self.local.date() - Date::ZERO).get_days());
        let offset = i64::from(self.offset.seconds());
        let [year, month, hour] =
            [self.day.year().into(), self.day.month().into(), self.local.hour().into()];
        match mode {
            GroupMode::Quarter => (self.number, 0, 0),
            GroupMode::Hour | GroupMode::WeekHour => (date, hour, offset),
            GroupMode::Day => (day, 0, 0),
            GroupMode::Week => {
                let week = self.day.iso_week_date();
                (week.year().into(), week.week().into(), 0)
            }
            GroupMode::Month => (year, month, 0),
            GroupMode::Year => (year, 0, 0),
            GroupMode::Total => (0, 0, 0),
        }
    }

    fn label(&self, mode: GroupMode) -> String {
        match mode {
            GroupMode::Quarter | GroupMode::Hour => {
                let zone = if self.offset == Offset::UTC { "Z" } else { "%:z" };
                let local = self.local.to_zoned(TimeZone::fixed(self.offset)).unwrap();
                local.strftime(&format!("%Y-%m-%dT%H:%M:%S{zone}")).to_string()
            }
            GroupMode::Day => self.day.to_string(),
            GroupMode::Week => self.day.strftime("%G-W%V").to_string(),
            GroupMode::Month => self.day.to_string()[..7].to_owned(),
            GroupMode::Year => self.day.to_string()[..4].to_owned(),
            GroupMode::Total => String::new(),
            GroupMode::WeekHour => self.local.strftime("%a %H").to_string(),
        }
    }
}

fn walk(zone: &TimeZone, first: Date, last: Date, margin: i64) -> Vec<Walked> {
    let midnight = |date: Date| date.to_zoned(TimeZone::UTC).unwrap().timestamp().as_millisecond();
    let first = midnight(first.checked_sub(margin.days()).unwrap()).div_euclid(QUARTER_MS);
    let end = midnight(last.checked_add(margin.days()).unwrap()).div_euclid(QUARTER_MS);
    let mut day = Date::MIN;
    (first..end)
        .map(|number| {
            let offset = zone.to_offset(timestamp(number * QUARTER_S));
            let local = offset.to_datetime(timestamp(number * QUARTER_S));
            day = day.max(local.date());
            Walked { number, day, local, offset }
        })
        .collect()
}

/// Label, start, completeness, and the parts in the window.
type NaiveGroup = (String, Option<i64>, bool, Vec<(i64, i64)>);

#[derive(Debug, PartialEq)]
struct NaiveWindow {
    start: i64,
    end: i64,
    groups: Vec<NaiveGroup>,
}

/// The window of these dates; `cut` is a date and a time at which it ends early.
fn naive_window(
    now_ms: i64,
    zone: &TimeZone,
    mode: GroupMode,
    (first, last): (Date, Date),
    cut: impl FnOnce(&[Walked], i64) -> i64,
) -> NaiveWindow {
    let margin = match mode {
        GroupMode::Year => 370,
        GroupMode::Month => 35,
        GroupMode::Week => 11,
        _ => 4,
    };
    let walk = walk(zone, first, last, margin);
    let start_of = |date: Date| walk.iter().find(|quarter| quarter.day >= date).unwrap().number;
    let start = start_of(first);
    let whole = start_of(last.tomorrow().unwrap());
    let end = cut(&walk, whole);
    let mut groups: Vec<NaiveGroup> = Vec::new();
    if start >= end {
        return NaiveWindow { start, end: start, groups };
    }
    if mode == GroupMode::Total {
        let complete = whole <= end && whole * QUARTER_MS <= now_ms;
        let label = format!("{first}/{last}");
        return NaiveWindow {
            start,
            end,
            groups: vec![(label, Some(start), complete, vec![(start, end)])],
        };
    }
    if mode == GroupMode::WeekHour {
        for day in ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"] {
            for hour in 0..24 {
                groups.push((format!("{day} {hour:02}"), None, true, Vec::new()));
            }
        }
    }
    for run in walk.chunk_by(|a, b| a.key(mode) == b.key(mode)) {
        let (from, to) = (run[0].number, run[run.len() - 1].number + 1);
        if to <= start || from >= end {
            continue;
        }
        let complete = from >= start && to <= end && to * QUARTER_MS <= now_ms;
        let part = (from.max(start), to.min(end));
        let label = run[0].label(mode);
        if mode != GroupMode::WeekHour {
            groups.push((label, Some(from), complete, vec![part]));
        } else if complete {
            groups.iter_mut().find(|group| group.0 == label).unwrap().3.push(part);
        }
    }
    NaiveWindow { start, end, groups }
}

fn months_back(date: Date, months: i16) -> Date {
    let month = date.year() * 12 + i16::from(date.month()) - 1 - months;
    let (year, month) = (month / 12, i8::try_from(month % 12 + 1).unwrap());
    (1..=date.day()).rev().find_map(|day| Date::new(year, month, day).ok()).unwrap()
}

fn moved(previous: Previous, date: Date, (first, last): (Date, Date)) -> Date {
    let number = first.series(1.day()).take_while(|date| *date <= last).count();
    let mut days = match previous {
        Previous::Period => number,
        Previous::Week => (1..).map(|weeks| weeks * 7).find(|days| *days >= number).unwrap(),
        Previous::Month => return months_back(date, 1),
        Previous::Year => return months_back(date, 12),
    };
    let mut date = date;
    while days > 0 {
        date = date.yesterday().unwrap();
        days -= 1;
    }
    date
}

/// The windows, or `None` if the dates begin after today.
fn naive(now_ms: i64, zone: &TimeZone, question: &Question) -> Option<Vec<NaiveWindow>> {
    let running = now_ms.div_euclid(QUARTER_MS);
    let utc = timestamp(running * QUARTER_S).to_zoned(TimeZone::UTC).date();
    let around = walk(zone, utc, utc, 4);
    let now = around.iter().find(|quarter| quarter.number == running).unwrap();
    let today = now.day;
    let dates = match question.dates {
        Dates::Last(days) => (today.checked_sub((i64::from(days) - 1).days()).unwrap(), today),
        Dates::FromTo(first, last) => (first, last),
    };
    if dates.0 > today {
        return None;
    }
    let mut is_cut = false;
    let current = naive_window(now_ms, zone, question.mode, dates, |_, whole| {
        is_cut = running < whole;
        whole.min(running + 1)
    });
    let mut windows = vec![current];
    if let Some(previous) = question.previous {
        let mut to = moved(previous, dates.1, dates);
        let is_month = dates.0.day() == 1 && dates.1.tomorrow().unwrap().day() == 1;
        while is_month
            && matches!(previous, Previous::Month | Previous::Year)
            && to.tomorrow().unwrap().day() != 1
        {
            to = to.tomorrow().unwrap();
        }
        let earlier = (moved(previous, dates.0, dates), to);
        let day = moved(previous, today, dates);
        windows.push(naive_window(now_ms, zone, question.mode, earlier, |walk, whole| {
            let mut of_day = walk.iter().filter(|quarter| quarter.day == day);
            let same = of_day.find(|quarter| quarter.local.time() >= now.local.time());
            match same {
                _ if !is_cut => whole,
                Some(quarter) => quarter.number + 1,
                None => walk.iter().find(|quarter| quarter.day > day).unwrap().number,
            }
        }));
    }
    Some(windows)
}

/// What is said of a window by its groups and runs.
fn read(window: &Window) -> NaiveWindow {
    let parts = parts(window);
    let start = i64::from(window.start.0);
    let end = parts.last().map_or(start, |part| part.1);
    let mut groups: Vec<NaiveGroup> = Vec::new();
    for group in &window.groups {
        let start = group.start_utc.as_ref().map(|text| ms(text) / QUARTER_MS);
        groups.push((group.label.clone(), start, group.complete, Vec::new()));
    }
    for (from, to, group) in parts {
        if let Some(group) = group {
            groups[group].3.push((from, to));
        }
    }
    for (group, (_, _, _, parts)) in window.groups.iter().zip(&groups) {
        assert_eq!(usize::try_from(group.parts).unwrap(), parts.len());
    }
    NaiveWindow { start, end, groups }
}

fn compare(now_ms: i64, name: &str, mode: &str, days: &str, query: &str) {
    let zone = time_zone(name).unwrap();
    let question = question(mode, days, query);
    let case = format!("{name} {mode} {days} {query} at {}", timestamp(now_ms.div_euclid(1000)));
    let found = Windows::new(now_ms, &zone, &question);
    let Some(wanted) = naive(now_ms, &zone, &question) else {
        assert!(matches!(found, Err(BadParameter::FromAfterToday { .. })), "{case}");
        return;
    };
    let found = found.unwrap();
    let windows: Vec<&Window> = [&found.current].into_iter().chain(&found.earlier).collect();
    assert_eq!(windows.len(), wanted.len(), "{case}");
    for (window, wanted) in windows.into_iter().zip(wanted) {
        let found = read(window);
        assert_eq!((found.start, found.end), (wanted.start, wanted.end), "{case}");
        for (found, wanted) in found.groups.iter().zip(&wanted.groups) {
            assert_eq!(found, wanted, "{case}");
        }
        assert_eq!(found.groups.len(), wanted.groups.len(), "{case}");
        assert!(window.runs.len() <= MAX_RUNS, "{case}");
        assert!(found.end - found.start <= i64::from(MAX_WINDOW_QUARTERS), "{case}");
        assert!(window.groups.len() <= usize::try_from(MAX_GROUPS).unwrap(), "{case}");
    }
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
            let now_ms = change + after_ms[pick % 7];
            let modes = ["15min", "hour", "day", "week", "month", "total", "weekhour", "hour"];
            let mode = modes[pick / 7 % 8];
            let previous = ["", "previous=period", "previous=week", "previous=month"][pick % 4];
            let previous = if mode == "weekhour" { "" } else { previous };
            let days = ["1", "2", "3", "30"][pick / 4 % 4];
            compare(now_ms, name, mode, days, previous);
            // From some days before the change to some days after it, also those to come.
            let date = timestamp(change.div_euclid(1000)).to_zoned(TimeZone::UTC).date();
            let from = date.checked_sub(i64::try_from(pick % 5).unwrap().days()).unwrap();
            let to = date.checked_add(i64::try_from(pick % 3).unwrap().days()).unwrap();
            let query = format!("from={from}&to={to}&{previous}");
            compare(now_ms, name, mode, "*", query.trim_end_matches('&'));
        }
    }
    assert!(pick > 1_000, "only {pick} changes");
}

#[test]
fn years_as_the_naive_reckoning_says() {
    for name in ODD_ZONES {
        for now in ["2026-01-01T00:10:00Z", "2025-12-31T11:00:00Z", "2026-07-01T00:00:00Z"] {
            compare(ms(now), name, "year", "30", "");
        }
        for mode in ["day", "month", "year", "weekhour"] {
            let previous = if mode == "weekhour" { "" } else { "&previous=year" };
            let query = format!("from=2024-12-01&to=2025-12-31{previous}");
            compare(ms("2025-11-05T20:50:00Z"), name, mode, "*", &query);
        }
    }
}

#[test]
fn every_zone_now() {
    let names = jiff::tz::db().available().map(|name| name.to_string());
    let names: Vec<_> = names.filter(|name| zones::is_place(name)).collect();
    assert!(names.len() > 400);
    for name in &names {
        compare(ms("2026-11-22T15:20:00Z"), name, "hour", "30", "");
        compare(ms("2026-04-05T15:30:00Z"), name, "day", "2", "previous=week");
    }
}
