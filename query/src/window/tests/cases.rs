//! Windows without an earlier one.

use super::*;

const MODES: [&str; 8] = ["15min", "hour", "day", "week", "month", "year", "total", "weekhour"];

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
    let labels = |now: &str, zone: &str| shown(&window(now, zone, 1, "hour"));
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

#[test]
fn quarters_of_an_hour() {
    assert_eq!(
        shown(&window("2026-11-20T00:20:00Z", "UTC", 1, "15min")),
        [
            "2026-11-20T00:00:00Z from 2026-11-20 00:00 [2026-11-20 00:00, 2026-11-20 00:15) +",
            "2026-11-20T00:15:00Z from 2026-11-20 00:15 [2026-11-20 00:15, 2026-11-20 00:30)",
        ]
    );
    let all = window("2026-10-25T22:59:59Z", "Europe/Rome", 1, "15min");
    assert_eq!(all.groups.len(), 100);
    assert_eq!(all.runs, [Run { parts: 100, quarters: 1, group: Some(0) }]);
    let labels: Vec<&str> = all.groups[11..13].iter().map(|group| group.label.as_str()).collect();
    assert_eq!(labels, ["2026-10-25T02:45:00+02:00", "2026-10-25T02:00:00+01:00"]);
}

#[test]
fn weeks_are_iso_weeks_of_local_days() {
    assert_eq!(
        shown(&window("2026-11-22T23:20:00Z", "Asia/Kolkata", 9, "week")),
        [
            "2026-W46 from 2026-11-08 18:30 [2026-11-14 18:30, 2026-11-15 18:30)",
            "2026-W47 from 2026-11-15 18:30 [2026-11-15 18:30, 2026-11-22 18:30) +",
            "2026-W48 from 2026-11-22 18:30 [2026-11-22 18:30, 2026-11-22 23:30)",
        ]
    );
    let labels = |from: &str, to: &str| {
        let query = format!("from={from}&to={to}");
        let window = windows("2030-01-01T00:00:00Z", "UTC", "week", "*", &query).current;
        window.groups.into_iter().map(|group| group.label).collect::<Vec<_>>()
    };
    assert_eq!(labels("2027-01-01", "2027-01-04"), ["2026-W53", "2027-W01"]);
    assert_eq!(labels("2024-12-29", "2024-12-30"), ["2024-W52", "2025-W01"]);
}

#[test]
fn a_total_is_one_group() {
    assert_eq!(
        shown(&window("2026-11-22T15:20:00Z", "Asia/Kolkata", 3, "total")),
        ["2026-11-20/2026-11-22 from 2026-11-19 18:30 [2026-11-19 18:30, 2026-11-22 15:30)"]
    );
    let total = |now: &str, from: &str, to: &str| {
        let query = format!("from={from}&to={to}");
        shown(&windows(now, "UTC", "total", "*", &query).current)
    };
    assert_eq!(
        total("2026-11-22T00:00:00Z", "2026-11-20", "2026-11-21"),
        ["2026-11-20/2026-11-21 from 2026-11-20 00:00 [2026-11-20 00:00, 2026-11-22 00:00) +"]
    );
    assert_eq!(
        total("2026-11-21T23:59:59.999Z", "2026-11-20", "2026-11-21"),
        ["2026-11-20/2026-11-21 from 2026-11-20 00:00 [2026-11-20 00:00, 2026-11-22 00:00)"]
    );
    assert_eq!(
        total("2026-11-20T00:00:00Z", "2026-11-20", "2026-12-24"),
        ["2026-11-20/2026-12-24 from 2026-11-20 00:00 [2026-11-20 00:00, 2026-11-20 00:15)"]
    );
}

#[test]
fn hours_of_a_week() {
    // From Sunday to Sunday.
    let window = window("2026-11-22T15:20:00Z", "UTC", 8, "weekhour");
    let labels: Vec<&str> = window.groups.iter().map(|group| group.label.as_str()).collect();
    assert_eq!(labels[..2], ["Mon 00", "Mon 01"]);
    assert_eq!((labels.len(), labels[24], labels[167]), (168, "Tue 00", "Sun 23"));
    assert!(window.groups.iter().all(|group| group.complete && group.start_utc.is_none()));
    assert_eq!(
        window.runs,
        [
            Run { parts: 7 * 24 + 15, quarters: 4, group: Some(6 * 24) },
            // The hour that goes on.
            Run { parts: 1, quarters: 2, group: None },
        ]
    );
    let occurrences: Vec<u32> = window.groups.iter().map(|group| group.parts).collect();
    assert_eq!(occurrences, [vec![1; 144], vec![2; 15], vec![1; 9]].concat());

    let on = |zone: &str, date: &str| {
        let query = format!("from={date}&to={date}");
        windows("2027-01-01T00:00:00Z", zone, "weekhour", "*", &query).current
    };
    let of_label = |window: &Window, label: &str| {
        window.groups.iter().find(|group| group.label == label).unwrap().parts
    };
    // The hour from 02:00 on comes twice, or is skipped.
    let autumn = on("Europe/Rome", "2026-10-25");
    assert_eq!([1, 2, 3].map(|hour| of_label(&autumn, &format!("Sun 0{hour}"))), [1, 2, 1]);
    let spring = on("Europe/Rome", "2026-03-29");
    assert_eq!([1, 2, 3].map(|hour| of_label(&spring, &format!("Sun 0{hour}"))), [1, 0, 1]);
    // A short hour counts as any other: it is whole.
    let short = on("Australia/Lord_Howe", "2026-10-04");
    assert_eq!([1, 2, 3].map(|hour| of_label(&short, &format!("Sun 0{hour}"))), [1, 1, 1]);
    assert_eq!(
        short.runs,
        [
            Run { parts: 2, quarters: 4, group: Some(144) },
            Run { parts: 1, quarters: 2, group: Some(146) },
            Run { parts: 21, quarters: 4, group: Some(147) },
        ]
    );
}

#[test]
fn dates_from_and_to() {
    let now = "2026-11-22T15:20:00Z";
    let of = |from: &str, to: &str| {
        let windows = windows(now, "Asia/Kolkata", "day", "*", &format!("from={from}&to={to}"));
        (shown(&windows.current), windows.dates, windows.last_date.to_string())
    };
    assert_eq!(
        of("2026-11-19", "2026-11-20"),
        (
            vec![
                "2026-11-19 from 2026-11-18 18:30 [2026-11-18 18:30, 2026-11-19 18:30) +"
                    .to_owned(),
                "2026-11-20 from 2026-11-19 18:30 [2026-11-19 18:30, 2026-11-20 18:30) +"
                    .to_owned(),
            ],
            2,
            "2026-11-20".to_owned()
        )
    );
    // No group lies in the future.
    assert_eq!(
        of("2026-11-22", "2026-12-24"),
        (
            vec![
                "2026-11-22 from 2026-11-21 18:30 [2026-11-21 18:30, 2026-11-22 15:30)".to_owned()
            ],
            33,
            "2026-11-22".to_owned()
        )
    );
    let question = question("day", "*", "from=2026-11-23&to=2026-11-24");
    let asked = |zone: &str, now: &str| {
        Windows::new(ms(now), &time_zone(zone).unwrap(), &question).map_err(|e| e.to_string())
    };
    assert_eq!(
        asked("Asia/Kolkata", now),
        Err(
            "query parameter from: 2026-11-23 is after today; dates up to 2026-11-22 are allowed, \
             which is today in the account's time zone"
                .to_owned()
        )
    );
    assert!(asked("Pacific/Kiritimati", now).is_ok());
    assert!(asked("Asia/Kolkata", "2026-11-22T18:29:59.999Z").is_err());
    assert!(asked("Asia/Kolkata", "2026-11-22T18:30:00Z").is_ok());
}

#[test]
fn a_skipped_date_alone_is_an_empty_window() {
    for mode in MODES {
        let query = "from=2011-12-30&to=2011-12-30";
        let windows = windows("2026-11-22T15:20:00Z", "Pacific/Apia", mode, "*", query);
        assert_eq!((windows.current.groups, windows.current.runs), (vec![], vec![]), "{mode}");
        assert_eq!((windows.dates, windows.last_date.to_string().as_str()), (1, "2011-12-30"));
    }
}

#[test]
fn any_moment_has_windows() {
    for now in [i64::MIN, -1, 0, i64::MAX] {
        for mode in MODES {
            for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Niue"] {
                let query = if mode == "weekhour" { "" } else { "previous=year" };
                let question = question(mode, "30", query);
                let windows = Windows::new(now, &time_zone(zone).unwrap(), &question).unwrap();
                assert!(!parts(&windows.current).is_empty(), "{now} {mode} {zone}");
                // Before 1970 there are groups, but nothing that an ingest can be asked for.
                assert!(windows.earlier.is_none_or(|window| !window.groups.is_empty()));
            }
        }
    }
}

#[test]
fn the_first_date_that_is_complete() {
    for (since, zone, date) in [
        ("2026-01-05T00:00:00Z", "UTC", "2026-01-05"),
        ("2026-01-05T00:00:00.001Z", "UTC", "2026-01-06"),
        ("2026-01-04T23:59:59.999Z", "UTC", "2026-01-05"),
        ("2026-01-05T00:00:00Z", "Europe/Rome", "2026-01-06"),
        ("2026-01-04T23:00:00Z", "Europe/Rome", "2026-01-05"),
        ("2026-01-04T23:00:01Z", "Europe/Rome", "2026-01-06"),
        ("2026-01-05T00:00:00Z", "America/New_York", "2026-01-05"),
        ("2026-01-05T05:00:00Z", "America/New_York", "2026-01-05"),
        ("2026-01-05T05:00:01Z", "America/New_York", "2026-01-06"),
        ("2026-01-04T18:15:00Z", "Asia/Kathmandu", "2026-01-05"),
        ("2026-01-04T18:15:01Z", "Asia/Kathmandu", "2026-01-06"),
        // At midnight back to 23:00 of the day before, which then is not reached again.
        ("2026-10-24T21:00:00Z", "Asia/Beirut", "2026-10-25"),
        ("2026-10-24T22:00:00Z", "Asia/Beirut", "2026-10-25"),
        ("2026-10-24T22:00:01Z", "Asia/Beirut", "2026-10-26"),
        // At 00:01 back to 23:01: the next day had begun.
        ("2010-11-07T02:30:00Z", "America/St_Johns", "2010-11-07"),
        ("2010-11-07T02:30:01Z", "America/St_Johns", "2010-11-08"),
        ("2010-11-07T03:30:00Z", "America/St_Johns", "2010-11-08"),
        // A date that is skipped begins with the next.
        ("2011-12-30T10:00:00Z", "Pacific/Apia", "2011-12-30"),
        ("2011-12-30T10:15:00Z", "Pacific/Apia", "2012-01-01"),
    ] {
        let since_ms = ms(since);
        let found = first_date_since(since_ms, &time_zone(zone).unwrap());
        assert_eq!(found.to_string(), date, "{since} in {zone}");
    }
    for since_ms in [i64::MIN, i64::MAX] {
        let _some_date = first_date_since(since_ms, &TimeZone::UTC);
    }
}
