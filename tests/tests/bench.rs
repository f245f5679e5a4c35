//! The benchmark works: every measure gives its rows, with a tiny number of events. How fast anything is, is
//! looked at by people.

use botstats::server::find;
use botstats_tests::bench::MEASURES;
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
    assert_eq!(names, MEASURES.iter().map(|m| m.name).collect::<Vec<_>>());
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
    assert!(MEASURES.iter().all(|m| said.contains(m.name)), "{said}");
    assert!(output.stdout.is_empty());
}
