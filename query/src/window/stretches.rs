//! A zone's line of time as stretches with one offset each, in whole numbers.
//!
//! Quarters and days are counted from 1970-01-01, in UTC and by local date. A *local second* is the
//! local clock reading at an instant, counted as if the clock showed UTC.

use botstats_common::quarter::QUARTER_MS;
use botstats_common::zones;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

pub(super) const QUARTER_S: i64 = QUARTER_MS / 1000;
pub(super) const HOUR_S: i64 = 3600;
pub(super) const DAY_S: i64 = 24 * HOUR_S;
/// More than the offset from UTC of any zone at any time.
const MAX_OFFSET_S: i64 = 26 * HOUR_S;
/// The stretches reach 3 days, in seconds, beyond the dates at both ends: enough to reach the end
/// of the last day under any offset, and past a change of the clock there.
const MARGIN_S: i64 = 3 * DAY_S;

/// A stretch of time `[start_s, end_s)` (Unix seconds) in which a zone has one offset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    start_s: i64,
    end_s: i64,
    pub(super) offset_s: i64,
}

impl Stretch {
    /// The first quarter that starts in the stretch, and the first that starts after it.
    pub(super) fn quarters(self) -> (i64, i64) {
        (div_ceil(self.start_s, QUARTER_S), div_ceil(self.end_s, QUARTER_S))
    }

    /// The first quarter at or after local second `local_s`, by this stretch's offset.
    pub(super) fn quarter_at(self, local_s: i64) -> i64 {
        div_ceil(local_s - self.offset_s, QUARTER_S)
    }

    pub(super) fn local_s(self, quarter: i64) -> i64 {
        quarter * QUARTER_S + self.offset_s
    }
}

/// A part of a zone's line of time, cut where its offset changes.
#[derive(Debug)]
pub(super) struct Stretches(Vec<Stretch>);

impl Stretches {
    /// The stretches of the days from `first` to `last`, and [`MARGIN_S`] beyond both ends.
    pub(super) fn of_days(zone: &TimeZone, first: Date, last: Date) -> Self {
        Self::around(zone, day_number(first) * DAY_S, day_number(last) * DAY_S)
    }

    /// The stretches of `[from_s, to_s]` and [`MARGIN_S`] beyond both ends.
    pub(super) fn around(zone: &TimeZone, from_s: i64, to_s: i64) -> Self {
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

    pub(super) fn iter(&self) -> impl Iterator<Item = Stretch> {
        self.0.iter().copied()
    }

    /// The local second of a quarter's first instant.
    pub(super) fn local_s(&self, quarter: i64) -> i64 {
        let stretch = self.0.iter().rev().find(|stretch| stretch.start_s <= quarter * QUARTER_S);
        // Not reached: callers ask only for quarters of the stretches.
        stretch.map_or(quarter * QUARTER_S, |stretch| stretch.local_s(quarter))
    }

    /// The day that a quarter belongs to: the latest local date of this and all earlier quarters.
    pub(super) fn latest_day(&self, quarter: i64) -> Date {
        let reached = self.iter().filter_map(|stretch| {
            let (first, end) = stretch.quarters();
            let last = quarter.min(end - 1);
            (first <= last).then(|| stretch.local_s(last).div_euclid(DAY_S))
        });
        date(reached.max().unwrap_or_default())
    }

    /// The first quarter whose local date is `date` or later.
    pub(super) fn day_start(&self, date: Date) -> i64 {
        let midnight_s = day_number(date) * DAY_S;
        let found = self.iter().find_map(|stretch| {
            let (first, end) = stretch.quarters();
            let start = stretch.quarter_at(midnight_s).max(first);
            (start < end).then_some(start)
        });
        // Not reached: callers ask only for a day whose midnight is in the stretches under any
        // offset.
        found.unwrap_or_else(|| div_ceil(midnight_s + MAX_OFFSET_S, QUARTER_S))
    }
}

pub(super) fn timestamp(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)
}

fn date(day: i64) -> Date {
    TimeZone::UTC.to_datetime(timestamp(day * DAY_S)).date()
}

pub(super) fn day_number(date: Date) -> i64 {
    let midnight = TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0));
    midnight.map_or(0, |midnight| midnight.as_second().div_euclid(DAY_S))
}

fn div_ceil(a: i64, b: i64) -> i64 {
    -(-a).div_euclid(b)
}
