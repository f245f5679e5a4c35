//! Splits whose command is killed after each step, and that `cells resume` finishes.

use std::time::Duration;

use botstats_common::names::EVENTS_STREAM;
use botstats_tests::harness::{
    Accounts, Readers, Seen, Site, SplitStep, Traffic, cell_stream, check_chains, done, held,
    introduce_slots, killed_split, slots_by_stream, turn, verified,
};

/// The longest that a publisher may wait for an acknowledgement. Publishers of the moved slots wait
/// until `resume` is done; this limit only tells them from publishers that hang.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Messages a second.
const RATE: usize = 500;
const SEED: u64 = 20_261_129;

#[tokio::test(flavor = "multi_thread")]
async fn a_split_whose_command_is_killed_after_any_step_is_resumed() {
    let _turn = turn().await;
    let site = Site::start("0s").await;
    let mut ingests = vec![site.ingest("ingest")];
    let query = site.query("query").await;
    introduce_slots(&site).await;
    let mut accounts = Accounts::add(&site, SEED, 40, 30_000).await;
    let readers = Readers::start(&site, &query).await;
    let traffic = Traffic::start(&site.js, accounts.messages(), RATE);
    traffic.more(RATE).await;

    for (number, step) in (1..).zip(SplitStep::ALL) {
        let child = cell_stream(&format!("after-{number}"));
        let slots = format!("{}-{}", number * 40, number * 40 + 39);
        ingests.push(killed_split(&site, [EVENTS_STREAM, &child, &slots], step, &child).await);
        done(&site, &["cells", "list"]);
        done(&site, &["cells", "resume", &child]);
        assert_eq!(slots_by_stream(&site.js).await[&child].to_string(), slots);
        verified(&site).await;
    }
    let published = traffic.finish().await;
    let (messages, longest) = (published.receipts.len(), published.longest_wait());
    eprintln!("{messages} messages; the longest wait {longest:.0?}");
    assert!(longest < LONGEST_WAIT, "{longest:?}");
    let seen = readers.finish().await;
    let slowest = seen.iter().map(Seen::took_ms).max();
    eprintln!("{} answers, all of them right; the slowest took {slowest:?} ms", seen.len());
    let counted = site.all_counted(ingests.len()).await;
    let all = held(&site.js).await;
    eprintln!("{} messages are stored twice", published.check(&all));
    check_chains(&site.js, &all, &counted).await;
    accounts.judge(&query, &all, 2).await;
}
