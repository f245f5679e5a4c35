//! The windows and groups of questions of part two, found by walking from quarter to quarter.

use jiff::civil::{Date, DateTime};
use jiff::tz::{Offset, TimeZone};
use jiff::{Span, Timestamp};

use super::window::QUARTER_MS;

const DAY_MS: i64 = 86_400_000;

/// How wide a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    Quarter,
    Hour,
    Day,
    Week,
    Month,
    Year,
    Total,
    WeekHour,
}

impl Grain {
    pub const ALL: [Grain; 8] = [
        Grain::Quarter,
        Grain::Hour,
        Grain::Day,
        Grain::Week,
        Grain::Month,
        Grain::Year,
        Grain::Total,
        Grain::WeekHour,
    ];

    /// As it stands in a path.
    pub fn name(self) -> &'static str {
        match self {
            Grain::Quarter => "15min",
            Grain::Hour => "hour",
            Grain::Day => "day",
            Grain::Week => "week",
            Grain::Month => "month",
            Grain::Year => "year",
            Grain::Total => "total",
            Grain::WeekHour => "weekhour",
        }
    }

    /// Days that are certainly enough to walk from a window to the ends of its outermost groups.
    fn walk_days(self) -> i64 {
        match self {
            Grain::Quarter | Grain::Hour | Grain::Day | Grain::Total | Grain::WeekHour => 4,
            Grain::Week => 11,
            Grain::Month => 34,
            Grain::Year => 369,
        }
    }
}

/// The dates that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dates {
    /// So many, up to today.
    Last(u32),
    /// Both inclusive.
    FromTo(Date, Date),
}

/// Which earlier window is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Previous {
    Period,
    Week,
    Month,
    Year,
}

impl Previous {
    pub const ALL: [(Previous, &'static str); 4] = [
        (Previous::Period, "period"),
        (Previous::Week, "week"),
        (Previous::Month, "month"),
        (Previous::Year, "year"),
    ];
}

/// A group of an answer.
#[derive(Debug, Clone)]
pub struct Group {
    pub label: String,
    /// First instant of the whole group, which may lie before the window; `None` for `weekhour`.
    pub start_ms: Option<i64>,
    pub complete: bool,
    /// The stretches of time that count, each `[from, to)`: occurrences of `weekhour`, else one.
    pub spans: Vec<(i64, i64)>,
}

/// A window with its groups.
#[derive(Debug)]
pub struct Window {
    /// `[from, to)`.
    pub span: (i64, i64),
    pub groups: Vec<Group>,
}

/// A quarter of an hour, by the local time of its first instant.
#[derive(Debug, Clone, Copy)]
struct Quarter {
    start_ms: i64,
    /// The local day that it belongs to: the latest date that was read so far.
    day: Date,
    local: DateTime,
    offset: Offset,
}

impl Quarter {
    fn end_ms(self) -> i64 {
        self.start_ms + QUARTER_MS
    }

    /// Two neighbouring quarters with the same key are in one group.
    fn key(self, grain: Grain) -> (Date, i8, i8, i32) {
        let Self { day, local, offset, .. } = self;
        let first_of = |month| jiff::civil::date(day.year(), month, 1);
        match grain {
            Grain::Quarter => (local.date(), local.hour(), local.minute(), offset.seconds()),
            Grain::Hour | Grain::WeekHour => (local.date(), local.hour(), 0, offset.seconds()),
            Grain::Day => (day, 0, 0, 0),
            Grain::Week => {
                let monday = day - Span::new().days(day.weekday().to_monday_zero_offset());
                (monday, 0, 0, 0)
            }
            Grain::Month => (first_of(day.month()), 0, 0, 0),
            Grain::Year => (first_of(1), 0, 0, 0),
            Grain::Total => unreachable!("a total is no run of quarters with one key"),
        }
    }

    fn label(self, grain: Grain) -> String {
        let Self { day, local, offset, .. } = self;
        match grain {
            Grain::Quarter | Grain::Hour => {
                let minutes = offset.seconds() / 60;
                let sign = if minutes < 0 { '-' } else { '+' };
                let offset = match minutes.abs() {
                    0 => "Z".to_owned(),
                    m => format!("{sign}{:02}:{:02}", m / 60, m % 60),
                };
                format!("{}{offset}", local.strftime("%Y-%m-%dT%H:%M:%S"))
            }
            Grain::Day => day.to_string(),
            Grain::Week => {
                let week = day.iso_week_date();
                format!("{:04}-W{:02}", week.year(), week.week())
            }
            Grain::Month => day.strftime("%Y-%m").to_string(),
            Grain::Year => day.strftime("%Y").to_string(),
            Grain::Total | Grain::WeekHour => unreachable!("labels of their own"),
        }
    }
}

/// The quarters of one zone around all that is asked for.
struct Walk(Vec<Quarter>);

impl Walk {
    fn new(zone: &TimeZone, from: Date, to: Date) -> Self {
        let ms_of = |date: Date| {
            let epoch = jiff::civil::date(1970, 1, 1);
            i64::from((date - epoch).get_days()) * DAY_MS
        };
        let mut day = Date::MIN;
        let mut quarters = Vec::new();
        let mut start_ms = ms_of(from);
        while start_ms < ms_of(to) {
            let instant = Timestamp::from_millisecond(start_ms).expect("an instant of our age");
            let offset = zone.to_offset(instant);
            let local = offset.to_datetime(instant);
            day = day.max(local.date());
            quarters.push(Quarter { start_ms, day, local, offset });
            start_ms += QUARTER_MS;
        }
        Self(quarters)
    }

    /// The first instant of a local day; of the next one, if the zone skips it.
    fn start_of(&self, date: Date) -> i64 {
        self.0.iter().find(|q| q.day >= date).expect("walked to it").start_ms
    }

    fn runs(&self, grain: Grain) -> impl Iterator<Item = &[Quarter]> {
        self.0.chunk_by(move |a, b| a.key(grain) == b.key(grain))
    }
}

fn days(number: i64) -> Span {
    Span::new().days(number)
}

/// The current window, and the earlier one.
pub fn windows(
    zone: &TimeZone,
    grain: Grain,
    dates: Dates,
    previous: Option<Previous>,
    now_ms: i64,
) -> (Window, Option<Window>) {
    let running_ms = now_ms.div_euclid(QUARTER_MS) * QUARTER_MS;
    let utc_date = TimeZone::UTC
        .to_datetime(Timestamp::from_millisecond(running_ms).expect("an instant of our age"));
    let utc_date = utc_date.date();
    // The walk is long enough for the day that the running quarter belongs to.
    let around = Walk::new(zone, utc_date - days(4), utc_date + days(4));
    let running = *around.0.iter().find(|q| q.start_ms == running_ms).expect("walked past it");
    let (first, last) = match dates {
        Dates::Last(number) => (running.day - days(i64::from(number) - 1), running.day),
        Dates::FromTo(first, last) => (first, last),
    };
    let earlier = previous.map(|previous| earlier_dates(previous, first, last));
    let margin = days(grain.walk_days());
    let walk = Walk::new(
        zone,
        earlier.map_or(first, |(from, _)| from.min(first)) - margin,
        last.max(running.day) + margin,
    );

    let mut end_ms = walk.start_of(last + days(1));
    let is_cut = running.end_ms() <= end_ms;
    end_ms = end_ms.min(running.end_ms());
    let current = window(&walk, grain, (first, last), (walk.start_of(first), end_ms), now_ms);
    let earlier = previous.zip(earlier).map(|(previous, (from, to))| {
        let mut end_ms = walk.start_of(to + days(1));
        if is_cut {
            let day = moved(previous, running.day, first, last);
            let same = |q: &&Quarter| q.day == day && q.local.time() >= running.local.time();
            let same = walk.0.iter().find(same).map(|q| q.end_ms());
            end_ms = same.unwrap_or_else(|| walk.start_of(day + days(1)));
        }
        window(&walk, grain, (from, to), (walk.start_of(from), end_ms), now_ms)
    });
    (current, earlier)
}

/// The date as it is moved back together with the dates asked for.
fn moved(previous: Previous, date: Date, first: Date, last: Date) -> Date {
    let number = i64::from((last - first).get_days()) + 1;
    match previous {
        Previous::Period => date - days(number),
        Previous::Week => date - days((number + 6) / 7 * 7),
        // The day is cut to the length of the month.
        Previous::Month => date - Span::new().months(1),
        Previous::Year => date - Span::new().years(1),
    }
}

fn earlier_dates(previous: Previous, first: Date, last: Date) -> (Date, Date) {
    let [from, to] = [first, last].map(|date| moved(previous, date, first, last));
    let whole_months = first.day() == 1 && last == last.last_of_month();
    if whole_months && matches!(previous, Previous::Month | Previous::Year) {
        return (from, to.last_of_month());
    }
    (from, to)
}

/// The window of those dates that is the given stretch of time.
fn window(
    walk: &Walk,
    grain: Grain,
    (first, last): (Date, Date),
    span: (i64, i64),
    now_ms: i64,
) -> Window {
    let (from_ms, to_ms) = span;
    let mut groups = Vec::new();
    if from_ms >= to_ms {
        return Window { span, groups };
    }
    if grain == Grain::Total {
        let end_ms = walk.start_of(last + days(1));
        groups.push(Group {
            label: format!("{first}/{last}"),
            start_ms: Some(from_ms),
            complete: end_ms <= now_ms && end_ms <= to_ms,
            spans: vec![span],
        });
        return Window { span, groups };
    }
    if grain == Grain::WeekHour {
        let names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        for name in names {
            for hour in 0..24 {
                let label = format!("{name} {hour:02}");
                groups.push(Group { label, start_ms: None, complete: true, spans: Vec::new() });
            }
        }
    }
    for run in walk.runs(grain) {
        let (start_ms, end_ms) = (run[0].start_ms, run[run.len() - 1].end_ms());
        if end_ms <= from_ms || start_ms >= to_ms {
            continue;
        }
        let complete = start_ms >= from_ms && end_ms <= to_ms && end_ms <= now_ms;
        let part = (start_ms.max(from_ms), end_ms.min(to_ms));
        if grain != Grain::WeekHour {
            let (label, start_ms) = (run[0].label(grain), Some(start_ms));
            groups.push(Group { label, start_ms, complete, spans: vec![part] });
        } else if complete {
            let local = run[0].local;
            let place = local.date().weekday().to_monday_zero_offset();
            let place = i32::from(place) * 24 + i32::from(local.hour());
            groups[usize::try_from(place).expect("an hour of the week")].spans.push(part);
        }
    }
    Window { span, groups }
}
