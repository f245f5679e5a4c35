//! An installation that grows from one stream to four while publishers publish and clients ask.

use std::time::Duration;

use async_nats::jetstream::Context;
use botstats_common::names::EVENTS_STREAM;
use botstats_tests::harness::{
    Accounts, Outgoing, Process, Published, Readers, Seen, Site, Traffic, cell_stream,
    check_chains, done, held, introduce_slots, ready, slots_by_stream, split, turn, verified,
};

/// Messages a second.
const RATE: usize = 2_000;
/// The longest that a publisher may wait for an acknowledgement (`docs/scaling.md`). The gap of a
/// split is some tens of milliseconds.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The same for publishers who leave no processor time: a slow machine is late by itself then.
const LONGEST_SATURATED_WAIT: Duration = Duration::from_secs(3);
/// Answers that are waited for between two changes.
const ANSWERS: usize = 40;
const SEED: u64 = 20_261_128;
/// Messages that saturated publishers may send in one change: about twice what they send in a split
/// on two slow cores.
const BURST: usize = 40_000;

fn tell(published: &Published, longest: Duration) {
    eprintln!(
        "{} messages acknowledged, {} after more than one try; the longest wait {:.0?}",
        published.receipts.len(),
        published.retried(),
        published.longest_wait()
    );
    assert!(published.longest_wait() < longest, "{:?}", published.longest_wait());
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_are_introduced_while_events_flow() {
    let _turn = turn().await;
    let site = Site::start("0s").await;
    let _ingest = site.ingest("ingest");
    let query = site.query("query").await;
    let mut accounts = Accounts::add(&site, SEED, 12, 14_000).await;
    let traffic = Traffic::start(&site.js, accounts.messages(), RATE);
    traffic.more(RATE).await;
    introduce_slots(&site).await;
    traffic.more(RATE).await;
    let published = traffic.all().await;
    tell(&published, LONGEST_WAIT);
    let counted = site.all_counted(1).await;
    let all = held(&site.js).await;
    let forms = ["botstats.events.", "botstats.slot."];
    let of_form = |form: &&str| all.iter().any(|one| one.message.subject.starts_with(form));
    assert!(forms.iter().all(of_form), "messages of both forms");
    let twice = published.check(&all);
    eprintln!("{twice} messages are stored twice");
    check_chains(&site.js, &all, &counted).await;
    query.ready().await;
    accounts.judge(&query, &all, 4).await;
    verified(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_cell_becomes_two_and_four_with_twins() {
    grow(|js, messages| Traffic::start(js, messages, RATE), 50_000, LONGEST_WAIT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_cell_becomes_two_and_four_while_publishers_send_as_fast_as_they_can() {
    grow(Traffic::saturated, 4 * BURST, LONGEST_SATURATED_WAIT).await;
}

/// One cell becomes two and four, each with one ingest, then two, and then only the new one.
async fn grow(
    publish: impl Fn(&Context, Vec<Outgoing>) -> Traffic,
    events: usize,
    longest: Duration,
) {
    let _turn = turn().await;
    let site = Site::start("0s").await;
    let mut first = vec![site.ingest("ingest")];
    let query = site.query("query").await;
    introduce_slots(&site).await;
    let mut accounts = Accounts::add(&site, SEED, 40, events).await;
    let readers = Readers::start(&site, &query).await;
    let traffic = publish(&site.js, accounts.messages());
    readers.more(ANSWERS).await;

    let (b, c, d) = (cell_stream("B"), cell_stream("C"), cell_stream("D"));
    traffic.allow(BURST);
    first.extend(split(&site, [EVENTS_STREAM, &b, "128-255"], &["b"]).await);
    readers.more(ANSWERS).await;
    traffic.allow(BURST);
    first.extend(split(&site, [EVENTS_STREAM, &c, "64-127"], &["c"]).await);
    readers.more(ANSWERS).await;
    traffic.allow(BURST);
    first.extend(split(&site, [&b, &d, "160-223"], &["d"]).await);
    readers.more(ANSWERS).await;
    let by_stream = slots_by_stream(&site.js).await;
    assert!(by_stream.values().all(|slots| slots.len() == 64), "{by_stream:?}");

    // A twin for each, and then only the twins.
    let names = [EVENTS_STREAM.to_owned(), b, c, d];
    let twin = |name: &String| site.ingest_of(name, &format!("twin-{name}"));
    let twins: Vec<Process> = names.iter().map(twin).collect();
    for ingest in &twins {
        let internal = ingest.address("internal listener ready").await;
        ready(internal).await;
    }
    traffic.allow(BURST);
    readers.more(ANSWERS).await;
    first.iter_mut().for_each(Process::kill);
    readers.more(ANSWERS).await;
    first.iter_mut().for_each(Process::restart);
    let published = traffic.finish().await;
    tell(&published, longest);
    let seen = readers.finish().await;
    let slowest = seen.iter().map(Seen::took_ms).max();
    eprintln!("{} answers, all of them right; the slowest took {slowest:?} ms", seen.len());

    let counted = site.all_counted(8).await;
    assert_eq!(counted.len(), 8);
    let all = held(&site.js).await;
    let twice = published.check(&all);
    eprintln!("{} messages are stored, {twice} of them twice", all.len());
    check_chains(&site.js, &all, &counted).await;
    accounts.judge(&query, &all, 2).await;
    done(&site, &["cells", "list"]);
    verified(&site).await;
    for process in first.iter().chain(&twins) {
        assert!(!process.log().contains("panicked"), "{}", process.log());
    }
}
