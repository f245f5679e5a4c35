//! The real programs under seeded faults: the standard runs, and every case that once failed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::str::FromStr;

use botstats_tests::faults;
use botstats_tests::faults::plan::Numbers;

const CASES: &str = include_str!("fixtures/faults.txt");

fn number<T: FromStr>(text: Option<&str>) -> Option<T> {
    text?.parse().ok()
}

/// Runs the cases of one server, or those of a cluster.
async fn run_cases(servers: &str) {
    let cases = CASES.lines().filter_map(|line| line.strip_prefix(servers)?.strip_prefix(' '));
    let mut runs = 0;
    for case in cases {
        let mut words = case.split(' ');
        let mut next = || number::<usize>(words.next()).unwrap();
        let seed = u64::try_from(next()).unwrap();
        let (ingest_kills, broker_kills, others) = (next(), next(), next());
        let cluster = servers == "cluster";
        let numbers = Numbers { seed, ingest_kills, broker_kills, others, cluster };
        let report = faults::run(&numbers, number(words.next())).await;
        let faults: usize = report.faults.values().sum();
        assert!(faults > 0 && report.compared > 0 && report.looks > 0, "{report:?}");
        eprintln!("{report:?}");
        runs += 1;
    }
    assert!(runs > 0, "no case of {servers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_holds_through_faults() {
    run_cases("one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_holds_through_the_loss_of_leaders() {
    run_cases("cluster").await;
}
