//! Windows and groups: cases, and a naive walk from quarter to quarter as the judge.

mod cases;
mod naive;
mod previous;

use jiff::Timestamp;

use botstats_common::directory::time_zone;

use super::*;

fn ms(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_millisecond()
}

fn question(mode: &str, days: &str, query: &str) -> Question {
    Question::parse(["*", "0", mode, days], Some(query)).unwrap()
}

fn windows(now: &str, zone: &str, mode: &str, days: &str, query: &str) -> Windows {
    Windows::new(ms(now), &time_zone(zone).unwrap(), &question(mode, days, query)).unwrap()
}

fn window(now: &str, zone: &str, days: u8, mode: &str) -> Window {
    windows(now, zone, mode, &days.to_string(), "").current
}

/// The parts of a window `[from, to)`, in order, as an ingest reads them from the runs.
fn parts(window: &Window) -> Vec<(i64, i64, Option<usize>)> {
    let mut parts = Vec::new();
    let mut at = i64::from(window.start.0);
    for run in &window.runs {
        assert!(run.parts > 0 && run.quarters > 0, "{run:?}");
        for number in 0..run.parts {
            let group = run.group.map(|group| usize::try_from(group + number).unwrap());
            let end = at + i64::from(run.quarters);
            parts.push((at, end, group.map(|group| group % window.groups.len())));
            at = end;
        }
    }
    parts
}

/// An instant to the minute.
fn minute(rfc3339: &str) -> String {
    rfc3339.trim_end_matches(":00Z").replace('T', " ")
}

/// Each part as `label from start [from, to)`, with `+` if its group is complete.
fn shown(window: &Window) -> Vec<String> {
    let at = |quarter: i64| minute(&utc_label(quarter));
    parts(window)
        .into_iter()
        .map(|(from, to, group)| {
            let span = format!("[{}, {})", at(from), at(to));
            let Some(group) = group.map(|group| &window.groups[group]) else { return span };
            let start = group.start_utc.as_deref().map_or("nowhere".to_owned(), minute);
            let complete = if group.complete { " +" } else { "" };
            format!("{} from {start} {span}{complete}", group.label)
        })
        .collect()
}
