//! Earlier windows.

use super::*;

#[test]
fn the_dates_of_an_earlier_window() {
    for (from, to, previous, expected) in [
        ("2026-11-01", "2026-11-10", "period", "2026-10-22/2026-10-31"),
        ("2026-11-10", "2026-11-10", "period", "2026-11-09/2026-11-09"),
        ("1971-01-01", "1971-01-10", "period", "1970-12-22/1970-12-31"),
        ("2026-11-10", "2026-11-10", "week", "2026-11-03/2026-11-03"),
        ("2026-11-10", "2026-11-16", "week", "2026-11-03/2026-11-09"),
        ("2026-11-10", "2026-11-17", "week", "2026-10-27/2026-11-03"),
        ("2026-11-10", "2026-11-23", "week", "2026-10-27/2026-11-09"),
        ("2026-11-10", "2026-11-24", "week", "2026-10-20/2026-11-03"),
        ("2026-11-10", "2026-11-24", "month", "2026-10-10/2026-10-24"),
        ("2026-01-10", "2026-01-24", "month", "2025-12-10/2025-12-24"),
        // A month without that day.
        ("2026-03-31", "2026-03-31", "month", "2026-02-28/2026-02-28"),
        ("2026-03-28", "2026-03-30", "month", "2026-02-28/2026-02-28"),
        ("2024-03-30", "2024-04-02", "month", "2024-02-29/2024-03-02"),
        ("2024-02-29", "2024-02-29", "year", "2023-02-28/2023-02-28"),
        ("2026-11-10", "2026-11-24", "year", "2025-11-10/2025-11-24"),
        // Whole months.
        ("2026-11-01", "2026-11-30", "month", "2026-10-01/2026-10-31"),
        ("2026-03-01", "2026-03-31", "month", "2026-02-01/2026-02-28"),
        ("2026-02-01", "2026-03-31", "month", "2026-01-01/2026-02-28"),
        ("2025-02-01", "2025-02-28", "year", "2024-02-01/2024-02-29"),
        ("2024-02-01", "2024-02-29", "year", "2023-02-01/2023-02-28"),
        ("2026-01-01", "2026-12-31", "year", "2025-01-01/2025-12-31"),
        ("2026-01-01", "2026-12-31", "month", "2025-12-01/2026-11-30"),
        // Nearly: the day of `to` stays.
        ("2026-11-02", "2026-11-30", "month", "2026-10-02/2026-10-30"),
        ("2026-11-01", "2026-11-29", "month", "2026-10-01/2026-10-29"),
        ("2024-02-01", "2024-02-28", "year", "2023-02-01/2023-02-28"),
        // Whole months are nothing special where days are counted.
        ("2026-11-01", "2026-11-30", "period", "2026-10-02/2026-10-31"),
        ("2026-02-01", "2026-02-28", "week", "2026-01-04/2026-01-31"),
        // More dates than are asked for.
        ("2026-02-01", "2027-03-07", "month", "2026-01-01/2027-02-07"),
    ] {
        let query = format!("from={from}&to={to}&previous={previous}");
        let windows = windows("2030-01-01T00:00:00Z", "UTC", "total", "*", &query);
        let earlier = windows.earlier.unwrap();
        assert_eq!(earlier.groups[0].label, expected, "{query}");
        assert!(earlier.groups[0].complete, "{query}");
        let number = |(first, last): (&str, &str)| {
            let [first, last] = [first, last].map(|text| text.parse::<Date>().unwrap());
            (last - first).get_days() + 1
        };
        let dates = number((from, to)) + number(expected.split_once('/').unwrap());
        assert_eq!(i64::from(windows.dates), i64::from(dates), "{query}");
        assert_eq!(windows.last_date.to_string(), to);
    }
}

/// The parts of the earlier window.
fn earlier(now: &str, zone: &str, mode: &str, days: &str, query: &str) -> Vec<String> {
    shown(&windows(now, zone, mode, days, query).earlier.unwrap())
}

#[test]
fn a_part_is_compared_with_an_equally_long_part() {
    let now = "2026-11-22T15:20:00Z";
    assert_eq!(
        earlier(now, "UTC", "day", "2", "previous=period"),
        [
            "2026-11-19 from 2026-11-19 00:00 [2026-11-19 00:00, 2026-11-20 00:00) +",
            "2026-11-20 from 2026-11-20 00:00 [2026-11-20 00:00, 2026-11-20 15:30)",
        ]
    );
    assert_eq!(
        earlier(now, "UTC", "total", "2", "previous=period"),
        ["2026-11-19/2026-11-20 from 2026-11-19 00:00 [2026-11-19 00:00, 2026-11-20 15:30)"]
    );
    // The hour that the cut shortens is not complete.
    let hours = earlier(now, "UTC", "hour", "1", "previous=week");
    assert_eq!(
        hours[14..],
        [
            "2026-11-15T14:00:00Z from 2026-11-15 14:00 [2026-11-15 14:00, 2026-11-15 15:00) +",
            "2026-11-15T15:00:00Z from 2026-11-15 15:00 [2026-11-15 15:00, 2026-11-15 15:30)",
        ]
    );
    // Dates that are still to come have no part of the earlier window either.
    assert_eq!(
        earlier(now, "UTC", "total", "*", "from=2026-11-20&to=2026-11-30&previous=period"),
        ["2026-11-09/2026-11-19 from 2026-11-09 00:00 [2026-11-09 00:00, 2026-11-11 15:30)"]
    );
    assert_eq!(
        earlier(now, "UTC", "total", "*", "from=2026-11-01&to=2026-11-30&previous=month"),
        ["2026-10-01/2026-10-31 from 2026-10-01 00:00 [2026-10-01 00:00, 2026-10-22 15:30)"]
    );
    // 31 March: the day is cut to the length of February, so its part of that day is compared.
    assert_eq!(
        earlier("2026-03-31T15:20:00Z", "UTC", "day", "2", "previous=month"),
        ["2026-02-28 from 2026-02-28 00:00 [2026-02-28 00:00, 2026-02-28 15:30)"]
    );
    // The window ends with its last date, and the running quarter with it: nothing is cut off.
    assert_eq!(
        earlier("2026-11-22T23:50:00Z", "UTC", "day", "1", "previous=period"),
        ["2026-11-21 from 2026-11-21 00:00 [2026-11-21 00:00, 2026-11-22 00:00) +"]
    );
    // The window ended before the running quarter.
    assert_eq!(
        earlier(now, "UTC", "total", "*", "from=2026-11-20&to=2026-11-21&previous=period"),
        ["2026-11-18/2026-11-19 from 2026-11-18 00:00 [2026-11-18 00:00, 2026-11-20 00:00) +"]
    );
}

#[test]
fn the_cut_goes_by_the_local_clock() {
    // 02:30 was skipped a week before, so the part ends with the quarter from 03:00 on.
    assert_eq!(
        earlier("2026-04-05T00:40:00Z", "Europe/Rome", "day", "1", "previous=week"),
        ["2026-03-29 from 2026-03-28 23:00 [2026-03-28 23:00, 2026-03-29 01:15)"]
    );
    // 02:30 came twice: the first time counts.
    assert_eq!(
        earlier("2026-11-01T01:40:00Z", "Europe/Rome", "day", "1", "previous=week"),
        ["2026-10-25 from 2026-10-24 22:00 [2026-10-24 22:00, 2026-10-25 00:45)"]
    );
    // 23:15 was skipped, and 23:00 too: the date ends first.
    assert_eq!(
        earlier("2024-04-07T00:20:00Z", "America/Nuuk", "day", "1", "previous=week"),
        ["2024-03-30 from 2024-03-30 02:00 [2024-03-30 02:00, 2024-03-31 01:00) +"]
    );
    // The clock went back from the new day to 23:01: the new day goes on at 23:15.
    assert_eq!(
        earlier("2010-11-07T02:50:00Z", "America/St_Johns", "day", "1", "previous=period"),
        ["2010-11-06 from 2010-11-06 02:30 [2010-11-06 02:30, 2010-11-07 02:00)"]
    );
    // Samoa skipped 30 December 2011.
    assert_eq!(
        earlier("2011-12-31T00:00:00Z", "Pacific/Apia", "day", "1", "previous=period"),
        [""; 0]
    );
    assert_eq!(
        earlier("2011-12-31T00:00:00Z", "Pacific/Apia", "total", "1", "previous=period"),
        [""; 0]
    );
}

#[test]
fn no_window_is_larger_than_an_ingest_takes() {
    use botstats_common::wire::{MAX_GROUPS, MAX_RUNS, MAX_WINDOW_QUARTERS};
    for (now, zone, mode, query, days) in [
        // 403 dates, one of them with 25 hours.
        (
            "2015-12-01T00:00:00Z",
            "Europe/Moscow",
            "day",
            "from=2014-02-01&to=2015-03-07&previous=month",
            403,
        ),
        // 65 dates, one of them with 25 hours.
        (
            "2015-12-01T00:00:00Z",
            "Pacific/Fiji",
            "15min",
            "from=2015-01-05&to=2015-03-07&previous=month",
            65,
        ),
    ] {
        let window = windows(now, zone, mode, "*", query).earlier.unwrap();
        let quarters: u32 = window.runs.iter().map(|run| run.parts * run.quarters).sum();
        assert_eq!(quarters, days * 96 + 4, "{query}");
        assert!(quarters <= MAX_WINDOW_QUARTERS);
        assert!(window.groups.len() <= usize::try_from(MAX_GROUPS).unwrap());
        assert!(window.runs.len() <= MAX_RUNS);
    }
}
