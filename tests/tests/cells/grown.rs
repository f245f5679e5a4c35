//! An installation that grows from one stream to four while publishers publish and clients ask.

use botstats_common::names::EVENTS_STREAM;
use botstats_tests::harness::{
    Accounts, Process, Published, Readers, SPLIT_WAIT, Site, Traffic, cell_stream, check_chains,
    done, held, introduce_slots, ready, slots_by_stream, split, turn, verified,
};

/// Messages a second.
const RATE: usize = 2_000;
/// Answers that are waited for between two changes.
const ANSWERS: usize = 40;
const SEED: u64 = 20_261_128;

fn tell(published: &Published) {
    eprintln!(
        "{} messages acknowledged, {} after more than one try; the longest wait {:.0?}",
        published.receipts.len(),
        published.retried(),
        published.longest_wait()
    );
    assert!(published.longest_wait() < SPLIT_WAIT, "{:?}", published.longest_wait());
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
    tell(&published);
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
    let _turn = turn().await;
    let site = Site::start("0s").await;
    let mut first = vec![site.ingest("ingest")];
    let query = site.query("query").await;
    introduce_slots(&site).await;
    let mut accounts = Accounts::add(&site, SEED, 40, 50_000).await;
    let readers = Readers::start(&site, &query).await;
    let traffic = Traffic::start(&site.js, accounts.messages(), RATE);
    readers.more(ANSWERS).await;

    let (b, c, d) = (cell_stream("B"), cell_stream("C"), cell_stream("D"));
    first.extend(split(&site, [EVENTS_STREAM, &b, "128-255"], &["b"]).await);
    readers.more(ANSWERS).await;
    first.extend(split(&site, [EVENTS_STREAM, &c, "64-127"], &["c"]).await);
    readers.more(ANSWERS).await;
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
    readers.more(ANSWERS).await;
    first.iter_mut().for_each(Process::kill);
    readers.more(ANSWERS).await;
    first.iter_mut().for_each(Process::restart);
    let published = traffic.finish().await;
    tell(&published);
    let seen = readers.finish().await;
    let slowest = seen.iter().map(|seen| seen.took_ms()).max();
    eprintln!("{} answers, all of them right; the slowest took {slowest:?} ms", seen.len());

    let counted = site.all_counted(8).await;
    assert_eq!(counted.len(), 8);
    let all = held(&site.js).await;
    // The clients' own accounts have events too.
    let ours: Vec<_> =
        all.iter().filter(|one| !one.message.subject.contains(".read-")).cloned().collect();
    let twice = published.check(&ours);
    eprintln!("{} messages are stored, {twice} of them twice", ours.len());
    check_chains(&site.js, &all, &counted).await;
    accounts.judge(&query, &all, 2).await;
    done(&site, &["cells", "list"]);
    verified(&site).await;
    for process in first.iter().chain(&twins) {
        assert!(!process.log().contains("panicked"), "{}", process.log());
    }
}
