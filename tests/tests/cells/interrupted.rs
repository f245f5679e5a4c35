//! Splits that end after each step, and that `cells resume` finishes.

use botstats_common::names::EVENTS_STREAM;
use botstats_tests::harness::{
    Accounts, SPLIT_STEPS, SPLIT_WAIT, Site, Traffic, cell_stream, check_chains, done, held,
    introduce_slots, part_of_split, slots_by_stream, turn, verified,
};

/// Messages a second.
const RATE: usize = 500;
const SEED: u64 = 20_261_129;

#[tokio::test(flavor = "multi_thread")]
async fn a_split_that_ended_after_any_step_is_resumed() {
    let _turn = turn().await;
    let site = Site::start("0s").await;
    let mut ingests = vec![site.ingest("ingest")];
    let query = site.query("query").await;
    introduce_slots(&site).await;
    let mut accounts = Accounts::add(&site, SEED, 40, 30_000).await;
    let traffic = Traffic::start(&site.js, accounts.messages(), RATE);
    traffic.more(RATE).await;

    for steps in 1..=SPLIT_STEPS {
        let child = cell_stream(&format!("after-{steps}"));
        let slots = format!("{}-{}", steps * 40, steps * 40 + 39);
        ingests.push(part_of_split(&site, [EVENTS_STREAM, &child, &slots], steps, &child).await);
        done(&site, &["cells", "list"]);
        done(&site, &["cells", "resume", &child]);
        assert_eq!(slots_by_stream(&site.js).await[&child].to_string(), slots);
        verified(&site).await;
    }
    let published = traffic.finish().await;
    let (messages, longest) = (published.receipts.len(), published.longest_wait());
    eprintln!("{messages} messages; the longest wait {longest:.0?}");
    // Publishers of the moved slots wait until `resume` is done.
    assert!(longest < SPLIT_WAIT, "{longest:?}");
    let counted = site.all_counted(SPLIT_STEPS + 1).await;
    let all = held(&site.js).await;
    eprintln!("{} messages are stored twice", published.check(&all));
    check_chains(&site.js, &all, &counted).await;
    accounts.judge(&query, &all, 2).await;
}
