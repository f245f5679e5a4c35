//! Rows of two windows beside each other: which group is compared with which, and the change.

use std::collections::BTreeMap;

use botstats_common::metric::Kind;
use botstats_query::{GroupMode, Previous};
use jiff::Span;
use jiff::civil::{Date, ISOWeekDate, Weekday};

use super::row::{Row, RowKey};

/// Finds for a group its counterpart in the other window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calendar {
    pub(super) group: GroupMode,
    pub(super) previous: Previous,
    /// The number of dates of the window.
    pub(super) dates: i64,
}

/// When a group is: its first date, and the local clock time of groups within a day.
type When = (Date, String);

/// The rows about one thing at one time: of now, and of then.
#[derive(Debug, Default)]
pub(super) struct Pair<'a> {
    pub(super) now: Option<&'a Row>,
    pub(super) then: Option<&'a Row>,
    /// Whether the other window has a counterpart of the group.
    pub(super) is_comparable: bool,
}

impl Calendar {
    fn when(self, label: &str) -> Option<When> {
        let date = |text: &str| text.parse::<Date>().ok();
        let no_time = String::new;
        match self.group {
            GroupMode::Quarter | GroupMode::Hour => {
                Some((date(label.get(..10)?)?, label.get(11..16)?.to_owned()))
            }
            GroupMode::Day => Some((date(label)?, no_time())),
            GroupMode::Week => {
                let (year, week) = label.split_once("-W")?;
                let (year, week) = (year.parse().ok()?, week.parse().ok()?);
                let monday = ISOWeekDate::new(year, week, Weekday::Monday).ok()?;
                Some((monday.date(), no_time()))
            }
            GroupMode::Month => Some((date(&format!("{label}-01"))?, no_time())),
            GroupMode::Year => Some((date(&format!("{label}-01-01"))?, no_time())),
            // The only group of each window.
            GroupMode::Total => Some((Date::ZERO, no_time())),
            GroupMode::WeekHour => None,
        }
    }

    /// How far the windows are apart; `None` if groups of one do not lie on groups of the other.
    fn distance(self) -> Option<Span> {
        let weeks = (self.dates + 6) / 7;
        match (self.group, self.previous) {
            (GroupMode::Total, _) => Some(Span::new()),
            (GroupMode::WeekHour, _)
            | (GroupMode::Week | GroupMode::Year, Previous::Month)
            | (GroupMode::Week, Previous::Year)
            | (GroupMode::Month | GroupMode::Year, Previous::Period | Previous::Week) => None,
            (GroupMode::Week, Previous::Period) if self.dates % 7 != 0 => None,
            (_, Previous::Period) => Some(Span::new().days(self.dates)),
            (_, Previous::Week) => Some(Span::new().days(weeks * 7)),
            (_, Previous::Month) => Some(Span::new().months(1)),
            (_, Previous::Year) => Some(Span::new().years(1)),
        }
    }

    /// The group of the current window that is compared with a group of the earlier one.
    fn counterpart_of_then(self, (date, time): &When) -> Option<When> {
        let distance = self.distance()?;
        let later = date.checked_add(distance).ok()?;
        // A date that a shorter month lacks has no counterpart.
        let is_same = later.checked_sub(distance).ok()? == *date;
        is_same.then(|| (later, time.clone()))
    }

    /// Whether the earlier window has a group to compare this one with.
    fn has_counterpart(self, (date, _): &When) -> bool {
        let earlier = || {
            let distance = self.distance()?;
            let earlier = date.checked_sub(distance).ok()?;
            Some(earlier.checked_add(distance).ok()? == *date)
        };
        earlier().unwrap_or(false)
    }

    /// The rows beside each other, in the order of time and then of the endpoint's rows; those of
    /// the earlier window that have no counterpart at the end.
    pub(super) fn pairs<'a>(self, rows: &[&'a Row]) -> Vec<Pair<'a>> {
        // An hour that repeats has two rows for one reading of the clock.
        let mut slots: BTreeMap<(Option<When>, RowKey<'a>), [Vec<&'a Row>; 2]> = BTreeMap::new();
        let mut alone = Vec::new();
        for row in rows {
            let when = self.when(&row.group_label);
            let (when, side) = if row.is_previous() {
                (when.and_then(|when| self.counterpart_of_then(&when)), 1)
            } else {
                (when, 0)
            };
            if when.is_none() && side == 1 {
                alone.push(Pair { now: None, then: Some(*row), is_comparable: false });
            } else {
                let slot = slots.entry((when, row.key())).or_default();
                if let Some(rows) = slot.get_mut(side) {
                    rows.push(*row);
                }
            }
        }
        let mut pairs = Vec::new();
        for ((when, _), [now, then]) in slots {
            let has_counterpart = when.is_some_and(|when| self.has_counterpart(&when));
            let is_one = now.len() <= 1 && then.len() <= 1;
            for place in 0..now.len().max(then.len()) {
                let (now, then) = (now.get(place).copied(), then.get(place).copied());
                let is_comparable = has_counterpart && (is_one || now.is_some() && then.is_some());
                pairs.push(Pair { now, then, is_comparable });
            }
        }
        pairs.extend(alone);
        pairs
    }
}

impl<'a> Pair<'a> {
    /// The row that says what the pair is about.
    pub(super) fn any(&self) -> Option<&'a Row> {
        self.now.or(self.then)
    }

    /// From then to now in percent, of ratios in percentage points; `new`, `gone`, or `-` where
    /// there is nothing to say.
    pub(super) fn change(&self) -> String {
        let samples = |row: Option<&'a Row>| row.filter(|row| row.has_samples());
        let (now, then) = match (samples(self.now), samples(self.then)) {
            _ if !self.is_comparable => return "-".to_owned(),
            (None, None) => return "-".to_owned(),
            (Some(_), None) => return "new".to_owned(),
            (None, Some(_)) => return "gone".to_owned(),
            (Some(now), Some(then)) => (now, then),
        };
        let is_ratio = now.kind() == Some(Kind::Ratio);
        match (now.value, then.value) {
            (Some(now), Some(then)) if is_ratio => signed(now - then, 2, "pp"),
            (Some(now), Some(then)) if then > 0.0 => signed((now - then) / then * 100.0, 1, "%"),
            (Some(now), Some(_)) if now <= 0.0 => signed(0.0, 1, "%"),
            _ => "-".to_owned(),
        }
    }
}

/// A number with its sign; without one where it rounds to 0.
fn signed(number: f64, decimals: usize, unit: &str) -> String {
    let text = format!("{number:+.decimals$}");
    let is_zero = text.bytes().all(|byte| matches!(byte, b'+' | b'-' | b'0' | b'.'));
    let text = if is_zero { text.trim_start_matches(['+', '-']) } else { text.as_str() };
    format!("{text} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(code: u8, value: Option<f64>, count: u64) -> Row {
        let row = serde_json::json!({
            "GroupLabel": "2026-11-20", "EventLabel": "X", "EventType": code, "Value": value,
            "Count": count, "Sum": 0, "Unit": "x", "GroupStart": null, "Complete": true,
        });
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn changes() {
        for (code, now, then, expect) in [
            (13, Some((3.0, 3)), Some((2.0, 2)), "+50.0 %"),
            (13, Some((2.0, 2)), Some((3.0, 3)), "-33.3 %"),
            (13, Some((3.0, 3)), Some((3.0, 3)), "0.0 %"),
            (13, Some((99_999.0, 99_999)), Some((100_000.0, 100_000)), "0.0 %"),
            (13, Some((3.0, 3)), None, "new"),
            (13, None, Some((3.0, 3)), "gone"),
            // Rows that `fill` adds.
            (13, Some((3.0, 3)), Some((0.0, 0)), "new"),
            (13, Some((0.0, 0)), Some((3.0, 3)), "gone"),
            (13, Some((0.0, 0)), Some((0.0, 0)), "-"),
            (8, Some((1.5, 1)), Some((3.0, 4)), "-50.0 %"),
            (8, Some((0.0, 1)), Some((0.0, 4)), "0.0 %"),
            (8, Some((1.0, 1)), Some((0.0, 4)), "-"),
            (10, Some((50.0, 2)), Some((33.33, 3)), "+16.67 pp"),
            (10, Some((0.0, 2)), Some((0.0, 3)), "0.00 pp"),
        ] {
            let [now_row, then_row] =
                [now, then].map(|of| of.map(|(value, count)| row(code, Some(value), count)));
            let pair = Pair { now: now_row.as_ref(), then: then_row.as_ref(), is_comparable: true };
            assert_eq!(pair.change(), expect, "{code}: {now:?} after {then:?}");
            let alone = Pair { is_comparable: false, ..pair };
            assert_eq!(alone.change(), "-");
        }
    }

    #[test]
    fn groups_and_their_counterparts() {
        let check = |group, previous, dates, then: &str, now: Option<&str>| {
            let calendar = Calendar { group, previous, dates };
            let when = calendar.when(then).unwrap();
            let expect = now.map(|now| calendar.when(now).unwrap());
            assert_eq!(calendar.counterpart_of_then(&when), expect, "{then} {previous:?}");
            if let Some(now) = &expect {
                assert!(calendar.has_counterpart(now), "{now:?}");
            }
        };
        check(GroupMode::Day, Previous::Period, 7, "2026-11-13", Some("2026-11-20"));
        check(GroupMode::Day, Previous::Week, 1, "2026-11-13", Some("2026-11-20"));
        check(GroupMode::Day, Previous::Week, 8, "2026-11-06", Some("2026-11-20"));
        check(GroupMode::Day, Previous::Month, 30, "2026-10-20", Some("2026-11-20"));
        check(GroupMode::Day, Previous::Month, 30, "2026-10-31", None);
        check(GroupMode::Day, Previous::Year, 30, "2024-02-29", None);
        let (then, now) = ("2026-10-25T02:00:00+01:00", "2026-10-26T02:00:00+01:00");
        check(GroupMode::Hour, Previous::Period, 1, then, Some(now));
        let (then, now) = ("2026-11-19T10:15:00Z", "2026-11-20T10:15:00Z");
        check(GroupMode::Quarter, Previous::Period, 1, then, Some(now));
        check(GroupMode::Week, Previous::Week, 7, "2025-W52", Some("2026-W01"));
        check(GroupMode::Week, Previous::Period, 14, "2026-W45", Some("2026-W47"));
        check(GroupMode::Week, Previous::Period, 15, "2026-W45", None);
        check(GroupMode::Week, Previous::Month, 28, "2026-W45", None);
        check(GroupMode::Month, Previous::Month, 30, "2025-12", Some("2026-01"));
        check(GroupMode::Month, Previous::Year, 30, "2025-12", Some("2026-12"));
        check(GroupMode::Month, Previous::Period, 30, "2025-12", None);
        check(GroupMode::Year, Previous::Year, 30, "2025", Some("2026"));
        let (then, now) = ("2026-10-01/2026-10-20", "2026-11-01/2026-11-20");
        check(GroupMode::Total, Previous::Month, 20, then, Some(now));
        let last_of_march = (jiff::civil::date(2026, 3, 31), String::new());
        let calendar = Calendar { group: GroupMode::Day, previous: Previous::Month, dates: 31 };
        assert!(!calendar.has_counterpart(&last_of_march));
    }
}
