//! The real programs under seeded faults: the standard run, and every case that once failed.

use std::str::FromStr;

use botstats_tests::faults;
use botstats_tests::faults::plan::Numbers;

const CASES: &str = include_str!("fixtures/faults.txt");

fn number<T: FromStr>(text: Option<&str>) -> Option<T> {
    text?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_holds_through_faults() {
    let cases = CASES.lines().filter(|line| !line.starts_with('#'));
    for case in cases {
        let mut words = case.split(' ');
        let cluster = words.next() == Some("cluster");
        let mut next = || number::<usize>(words.next()).expect(case);
        let seed = u64::try_from(next()).expect(case);
        let (ingest_kills, broker_kills, others) = (next(), next(), next());
        let numbers = Numbers { seed, ingest_kills, broker_kills, others, cluster };
        let report = faults::run(&numbers, number(words.next())).await;
        let faults: usize = report.faults.values().sum();
        assert!(faults > 0 && report.compared > 0 && report.looks > 0, "{report:?}");
        eprintln!("{report:?}");
    }
}
