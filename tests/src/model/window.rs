//! The window of a question and its groups, found by walking from quarter to quarter.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};

pub(super) const QUARTER_MS: i64 = 15 * 60_000;
const QUARTERS_PER_DAY: i64 = 96;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupMode {
    /// Local clock hours.
    Hour,
    Day,
    Month,
    Year,
}

impl GroupMode {
    pub const ALL: [GroupMode; 4] =
        [GroupMode::Hour, GroupMode::Day, GroupMode::Month, GroupMode::Year];

    /// As it stands in a path.
    pub fn name(self) -> &'static str {
        match self {
            GroupMode::Hour => "hour",
            GroupMode::Day => "day",
            GroupMode::Month => "month",
            GroupMode::Year => "year",
        }
    }

    /// Days that are certainly enough to walk from a window to the ends of its outermost groups.
    fn walk_days(self) -> i64 {
        match self {
            GroupMode::Hour | GroupMode::Day => 4,
            GroupMode::Month => 34,
            GroupMode::Year => 369,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) label: String,
    /// First instant of the whole group, which may lie before the window.
    pub(super) start_ms: i64,
    pub(super) complete: bool,
    /// The part that lies in the window, `[from, to)`.
    pub(super) from_ms: i64,
    pub(super) to_ms: i64,
}

/// A quarter of an hour, by the local time of its first instant.
struct Quarter {
    start_ms: i64,
    /// The local day that it belongs to: the latest date that was read so far.
    day: Date,
    date: Date,
    hour: i8,
    offset: Offset,
}

impl Quarter {
    /// Two neighbouring quarters with the same key are in one group.
    fn key(&self, mode: GroupMode) -> (Date, i8, i32) {
        let first_of = |month| jiff::civil::date(self.day.year(), month, 1);
        match mode {
            GroupMode::Hour => (self.date, self.hour, self.offset.seconds()),
            GroupMode::Day => (self.day, 0, 0),
            GroupMode::Month => (first_of(self.day.month()), 0, 0),
            GroupMode::Year => (first_of(1), 0, 0),
        }
    }
}

/// The groups of the window of `days` local days that ends with the quarter that holds `now_ms`.
pub(super) fn groups(zone: &TimeZone, mode: GroupMode, days: u32, now_ms: i64) -> Vec<Group> {
    let running_ms = now_ms.div_euclid(QUARTER_MS) * QUARTER_MS;
    let end_ms = running_ms + QUARTER_MS;
    let quarters = walk(zone, mode, days, running_ms);
    let running = quarters.iter().find(|q| q.start_ms == running_ms).expect("walked past it");
    let first_day = running.day - jiff::Span::new().days(i64::from(days) - 1);
    let window = quarters.iter().find(|q| q.day >= first_day).expect("walked to it");
    let window_ms = window.start_ms;

    let mut groups = Vec::new();
    for run in quarters.chunk_by(|a, b| a.key(mode) == b.key(mode)) {
        let start_ms = run[0].start_ms;
        let group_end_ms = run[run.len() - 1].start_ms + QUARTER_MS;
        if group_end_ms <= window_ms || start_ms >= end_ms {
            continue;
        }
        groups.push(Group {
            label: label(&run[0], mode),
            start_ms,
            complete: start_ms >= window_ms && group_end_ms <= now_ms,
            from_ms: start_ms.max(window_ms),
            to_ms: group_end_ms.min(end_ms),
        });
    }
    groups
}

fn walk(zone: &TimeZone, mode: GroupMode, days: u32, running_ms: i64) -> Vec<Quarter> {
    let back = (i64::from(days) + mode.walk_days()) * QUARTERS_PER_DAY;
    let ahead = mode.walk_days() * QUARTERS_PER_DAY;
    let mut day = Date::MIN;
    let mut quarters = Vec::new();
    for step in -back..=ahead {
        let start_ms = running_ms + step * QUARTER_MS;
        let instant = Timestamp::from_millisecond(start_ms).expect("an instant of our age");
        let offset = zone.to_offset(instant);
        let local = offset.to_datetime(instant);
        day = day.max(local.date());
        quarters.push(Quarter { start_ms, day, date: local.date(), hour: local.hour(), offset });
    }
    quarters
}

fn label(first: &Quarter, mode: GroupMode) -> String {
    let instant = Timestamp::from_millisecond(first.start_ms).expect("an instant of our age");
    let local = first.offset.to_datetime(instant);
    match mode {
        GroupMode::Hour => {
            let minutes = first.offset.seconds() / 60;
            let sign = if minutes < 0 { '-' } else { '+' };
            let offset = match minutes.abs() {
                0 => "Z".to_owned(),
                m => format!("{sign}{:02}:{:02}", m / 60, m % 60),
            };
            format!("{}{offset}", local.strftime("%Y-%m-%dT%H:%M:%S"))
        }
        GroupMode::Day => local.strftime("%Y-%m-%d").to_string(),
        GroupMode::Month => local.strftime("%Y-%m").to_string(),
        GroupMode::Year => local.strftime("%Y").to_string(),
    }
}
