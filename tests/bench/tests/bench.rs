//! The benchmark works: every measure gives its rows, with a tiny number of events. No test judges
//! how fast anything is.

use std::collections::BTreeSet;
use std::time::Duration;

use botstats::server::find;
use botstats::simulate::Event;
use botstats_bench::report::{median, percentile, write_table};
use botstats_bench::shapes::{Detail, Shape, Traffic};
use botstats_bench::{MEASURES, Target, usage};
use botstats_tests::harness::run;
use serde_json::Value;

#[test]
fn every_measure_gives_its_rows() {
    let server = find(|_| {}).unwrap().display().to_string();
    let output = run("bench", &["--tiny", "--json"], &[("NATS_SERVER_BIN", server)]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0, "{report}");
    assert!(report["versions"]["nats_server"].as_str().unwrap().contains("nats-server"));
    let measures = report["measures"].as_array().unwrap();
    let names: Vec<&str> = measures.iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, MEASURES.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for measure in measures {
        let rows = measure["rows"].as_array().unwrap();
        assert!(!rows.is_empty(), "{measure}");
        for row in rows {
            let rounds = row["rounds"].as_array().unwrap();
            assert!(!rounds.is_empty() && rounds.iter().all(Value::is_number), "{row}");
        }
    }
}

#[test]
fn an_unknown_measure_is_named_beside_those_there_are() {
    let output = run("bench", &["--tiny", "drane"], &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("no measure drane"), "{said}");
    assert!(MEASURES.iter().all(|(name, _)| said.contains(name)), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn traffic_follows_from_its_seed() {
    const COUNT: u64 = 20_000;
    const START_MS: i64 = 1_800_000_000_000;
    for shape in [Shape::Sparse, Shape::Conversations, Shape::Late] {
        let traffic = || Traffic::new(shape, COUNT, 7, START_MS);
        let events: Vec<(i64, Event)> = traffic().cloud_events(Detail::Named).collect();
        assert_eq!(u64::try_from(events.len()).unwrap(), COUNT);
        assert!(events.is_sorted_by_key(|(stored_ms, _)| *stored_ms), "{shape:?}");
        assert!(events.iter().all(|(stored, event)| (START_MS..*stored).contains(&event.time_ms)));
        assert!(traffic().cloud_events(Detail::Named).eq(events.iter().cloned()), "{shape:?}");

        let mut ids = BTreeSet::new();
        let (mut late, mut users) = (0, BTreeSet::new());
        for (happening, (stored_ms, event)) in traffic().zip(&events) {
            let event: Value = serde_json::from_slice(&event.payload).unwrap();
            let flat: Value = serde_json::from_str(&happening.flat()).unwrap();
            assert!(ids.insert(flat["id"].to_string()));
            assert_eq!([&flat["id"], &flat["ts"]], [&event["id"], &event["time"]]);
            assert_eq!(flat["user"], event["data"]["userid"]);
            users.insert(flat["user"].to_string());
            let time: jiff::Timestamp = flat["ts"].as_str().unwrap().parse().unwrap();
            late += u64::from(stored_ms - time.as_millisecond() > 1_000);
        }
        let (late, users) = (late * 100 / COUNT, users.len());
        match shape {
            Shape::Sparse => assert!((1..=2).contains(&late) && users > 15_000, "{late} {users}"),
            Shape::Conversations => assert!(users < 5_000, "{users}"),
            Shape::Late => assert!((8..=10).contains(&late), "{late}"),
        }
    }
}

#[test]
fn middle_and_ends() {
    assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    assert!(median(&[]).is_nan());
    let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
    assert_eq!((percentile(&hundred, 50), percentile(&hundred, 99)), (50.0, 99.0));
    assert_eq!(percentile(&[7.0], 99), 7.0);
}

#[test]
fn targets() {
    let more = Target::more(0.55, 0.65);
    assert_eq!([0.5, 0.6, 0.65].map(|v| more.reached_by(v)), ["no", "at least", "aim"]);
    let less = Target::less(1.5, None);
    assert_eq!([1.6, 1.5].map(|v| less.reached_by(v)), ["no", "yes"]);
    assert_eq!(less.reached_by(f64::NAN), "no");
}

#[test]
fn a_table_is_aligned() {
    let mut text = String::new();
    let lines = [["a", "bb"], ["ccc", "d"]].map(|l| l.map(str::to_owned).to_vec());
    write_table(&mut text, &lines);
    assert_eq!(text, "| a   | bb |\n| --- | -- |\n| ccc | d  |\n");
}

#[test]
fn work_is_seen() {
    let own = std::process::id();
    let (before, exact) = (usage::of(own), usage::own_cpu());
    let mut sum = 0_u64;
    while usage::own_cpu() - exact < Duration::from_millis(60) {
        sum = std::hint::black_box(sum + 1);
    }
    let used = (usage::of(own) - before).cpu;
    assert!(used >= Duration::from_millis(30), "{used:?}");
    assert!(usage::peak_bytes(own).unwrap() > 0 && !usage::has_ended(own));
}
