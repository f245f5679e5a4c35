//! The real programs under seeded faults: the standard runs, and every case that once failed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::str::FromStr;

use botstats_faults::plan::{Fault, MOMENTS_MS, Numbers};
use botstats_faults::splits;

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
        let report = botstats_faults::run(&numbers, number(words.next())).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn splits_hold_through_faults_in_their_steps() {
    let report = splits::run(78, 5, false).await;
    eprintln!("{report:?}");
    assert!(report.splits == 5 && report.published > 0 && report.answers > 0, "{report:?}");
    // Once nats-server came back to an ingest that was just behind a fence, and stayed out of date.
    assert!(report.faults.contains_key("kill nats-server after StoreFence"), "{report:?}");
}

#[test]
fn sixteen_splits_have_each_fault_in_each_step() {
    let plan = splits::plan(7, 40);
    assert_eq!((plan.len(), &plan[..16]), (40, &splits::plan(7, 16)[..]));
    for (number, fault) in plan.iter().enumerate() {
        assert!(!plan[number / 16 * 16..number].contains(fault), "{fault:?} in {plan:?}");
    }
    assert_ne!(plan[..16], plan[16..32]);
    assert_ne!(plan[..16], splits::plan(8, 16)[..]);
}

#[test]
fn a_plan_has_what_was_ordered() {
    let numbers =
        Numbers { seed: 7, ingest_kills: 100, broker_kills: 30, others: 70, cluster: false };
    let episodes = numbers.episodes();
    assert_eq!(episodes, numbers.episodes());
    let faults: Vec<Fault> =
        episodes.iter().flat_map(|e| &e.steps).flat_map(|s| s.faults.clone()).collect();
    assert_eq!(faults.len(), 200);
    let of = |name: &str| faults.iter().filter(|fault| fault.what.name() == name).count();
    assert_eq!((of("kill ingest"), of("kill nats-server")), (100, 30));
    assert_eq!((of("cut connections"), of("kill query")), (10, 10));
    assert!(faults.iter().all(|fault| MOMENTS_MS.contains(&fault.after_ms.cast_signed())));
    let other = Numbers { seed: 8, ..numbers };
    assert_ne!(episodes, other.episodes());
}
