//! Stores of a child that begin with a copy of the parent's, and a rebuild along the chain.

use botstats_common::names::EVENTS_STREAM;
use botstats_tests::harness::{
    Accounts, PATIENCE, Site, Traffic, cell_stream, check_chains, copy, held, introduce_slots,
    ready, run, split, until, verified,
};
use tokio::task::block_in_place;

/// Messages a second.
const RATE: usize = 1_000;
const SEED: u64 = 20_261_130;

#[tokio::test(flavor = "multi_thread")]
async fn a_childs_store_may_begin_as_a_copy_of_the_parents_before_the_fence() {
    let site = Site::start("0s").await;
    let mut root = site.ingest("root");
    let query = site.query("query").await;
    introduce_slots(&site).await;
    let mut accounts = Accounts::add(&site, SEED, 20, 5_000).await;
    let mut first = accounts.messages();
    let second = first.split_off(first.len() / 2);
    Traffic::start(&site.js, first, RATE).all().await;
    let mut spare = site.ingest("spare");
    ready(spare.address("internal listener ready").await).await;
    spare.stop().await;
    copy(&site.folder("spare"), &site.folder("copied"));

    let child = cell_stream("B");
    let traffic = Traffic::start(&site.js, second, RATE);
    let mut ingests = split(&site, [EVENTS_STREAM, &child, "100-255"], &["copied"]).await;
    traffic.all().await;
    site.all_counted(2).await;
    let all = held(&site.js).await;
    accounts.judge(&query, &all, 3).await;
    verified(&site).await;

    // A rebuild reads both streams, and counts only what is the child's.
    ingests[0].kill();
    let mut settings = site.ingest_settings(&site.folder("copied"));
    settings.push(("BOTSTATS_STREAM", child.clone()));
    let rebuilt = block_in_place(|| run("botstats-ingest", &["rebuild"], &settings));
    assert!(rebuilt.status.success(), "{rebuilt:?}");
    ingests[0].restart();
    let counted = site.all_counted(2).await;
    check_chains(&site.js, &all, &counted).await;
    accounts.judge(&query, &all, 3).await;

    // The parent's store has counted what came after the fence: it is not the child's past.
    root.stop().await;
    copy(&site.folder("root"), &site.folder("late"));
    root.restart();
    let _late = site.ingest_of(&child, "late");
    let refused = until("a copy that is refused", PATIENCE, async || {
        site.ingest_statuses().await.into_iter().find_map(|ingest| ingest.refused)
    });
    eprintln!("refused: {}", refused.await);
    site.all_counted(2).await;
    accounts.judge(&query, &all, 1).await;
}
