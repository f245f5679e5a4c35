//! A million events of realistic traffic: a command publishes them, ingest counts them in bounded
//! memory, and every answer is exact. `BOTSTATS_TEST_EVENTS` sets how many events there are.

use std::time::Duration;

use botstats_common::io::clock;
use botstats_tests::harness::{Site, run, stored_of, turn};
use botstats_tests::model::{Directory, GroupMode, Model, Question, text_of};
use botstats_tests::setting;
use serde_json::Value;

/// Events of a run; `BOTSTATS_TEST_EVENTS` makes it more (or fewer).
const EVENTS: usize = 1_000_000;
const ACCOUNTS: u64 = 10;
const DAYS: u32 = 25;
/// The most memory that ingest may take, in bytes.
const MEMORY: u64 = 256 * 1024 * 1024;
/// How long counting may take after the last event is stored.
const LIMIT: Duration = Duration::from_secs(120);

/// Everything about all bots.
fn question(account: &str, mode: GroupMode, days: u32) -> Question {
    Question { now_ms: clock::now_ms(), ..Question::of_all(account, mode, days) }
}

fn directory(number: u64) -> Directory {
    Directory {
        timezone: if number.is_multiple_of(2) { "Europe/Rome" } else { "Asia/Kolkata" }.to_owned(),
        bots: [("bot-1".to_owned(), "One".to_owned())].into(),
        channels: [].into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_events() {
    let _turn = turn().await;
    let events = u64::try_from(setting("BOTSTATS_TEST_EVENTS", EVENTS)).unwrap();
    let site = Site::start("0s").await;
    let ingest = site.ingest("ingest");
    let query = site.query("query").await;

    let started = clock::monotonic();
    let numbers = [ACCOUNTS, u64::from(DAYS), events].map(|number| number.to_string());
    let [accounts, days, number] = &numbers;
    let arguments =
        ["simulate", "--json", "--accounts", accounts, "--days", days, "--events", number];
    let output = run("botstats", &arguments, &site.settings());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // One whose acknowledgement came late is there twice.
    let stored = site.last_sequence().await;
    assert!(stored >= events, "{:?}", String::from_utf8_lossy(&output.stdout));
    let published = started.elapsed();
    let status = site.applied(LIMIT).await;
    let applied = started.elapsed();
    assert_eq!(status.events.get("accepted"), Some(&events), "{status:?}");
    let memory = ingest.peak_rss_bytes();
    assert!(memory < MEMORY, "ingest took {memory} bytes");
    query.ready().await;

    let (mut counted, mut first) = (0, None);
    for number in 1..=ACCOUNTS {
        let account = format!("sim-{number}");
        let directory = directory(number);
        let login = site.add_account(&account, &directory, &["bot-1"]).await;
        let messages = stored_of(&site.js, &format!("botstats.events.{account}.*.*")).await;
        let model = Model::of(&messages);
        counted += messages.len();
        for (mode, days) in [(GroupMode::Hour, 2), (GroupMode::Day, 30), (GroupMode::Year, 30)] {
            let question = question(&account, mode, days);
            assert!(!model.rows(&question, &directory).is_empty(), "{account} has no rows");
            query.check(&model, &login, &question, &directory).await;
        }
        first = first.or(Some((model, login, directory)));
    }
    assert_eq!(u64::try_from(counted).unwrap(), stored);

    // Another ingest that begins at the beginning says nothing before it has counted everything.
    let (model, login, directory) = first.unwrap();
    let mut ingest = ingest;
    ingest.kill();
    let second = site.ingest("second");
    let question = question("sim-1", GroupMode::Day, 30);
    let (now_ms, answer) = query.answer(&login, &question, LIMIT).await;
    let wanted = text_of(&model.rows(&Question { now_ms, ..question }, &directory));
    assert!(answer.text() == wanted, "the second ingest's first answer is not whole");
    let memory = memory.max(second.peak_rss_bytes());
    assert!(memory < MEMORY, "the second ingest took {memory} bytes");
    let stdout: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    eprintln!(
        "{events} events: stored after {published:?}, counted after {applied:?} with at most {} \
         MiB, all checked after {:?}; {stdout}",
        memory / 1024 / 1024,
        started.elapsed()
    );
}
