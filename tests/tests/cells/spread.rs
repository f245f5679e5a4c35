//! Four cells from the beginning.

use std::collections::BTreeMap;

use botstats_common::names::EVENTS_STREAM;
use botstats_common::slot::Slot;
use botstats_tests::harness::{
    ALL, Accounts, PATIENCE, Process, Site, Traffic, cell_stream, check_chains, done, get, get_as,
    held, metric, slots_by_stream, until, verified,
};

const SEED: u64 = 20_261_127;

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_four_cells_are_the_models_and_one_that_is_away_takes_only_its_accounts() {
    let site = Site::bare("0s").await;
    site.map_slots().await;
    done(&site, &["setup", "--cells", "4", "--throttle-window", "0s"]);
    done(&site, &["cells", "check"]);
    let names = [EVENTS_STREAM.to_owned(), cell_stream("2"), cell_stream("3"), cell_stream("4")];
    let by_stream = slots_by_stream(&site.js).await;
    assert_eq!(by_stream.keys().collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    assert!(by_stream.values().all(|slots| slots.len() == 64), "{by_stream:?}");

    let mut ingests: BTreeMap<String, Process> =
        names.iter().map(|name| (name.clone(), site.ingest_of(name, name))).collect();
    let query = site.query("query").await;
    let mut accounts = Accounts::add(&site, SEED, 24, 8_000).await;
    let published = Traffic::start(&site.js, accounts.messages(), 5_000).all().await;
    let counted = site.all_counted(4).await;
    let all = held(&site.js).await;
    assert_eq!(published.check(&all), 0, "messages are stored twice");
    check_chains(&site.js, &all, &counted).await;
    query.ready().await;
    accounts.judge(&query, &all, 6).await;
    verified(&site).await;

    // One cell is away: its accounts get 503, the others their answers.
    let away = cell_stream("3");
    ingests.get_mut(&away).unwrap().kill();
    let is_away = |account: &str| by_stream[&away].contains(Slot::of_token(account));
    let of_away = accounts.logins.values().filter(|login| is_away(&login.account)).count();
    assert!(of_away > 0 && of_away < accounts.logins.len(), "{of_away}");
    for login in accounts.logins.values() {
        let answer = get_as(&login.token, query.http, ALL, &[]).await;
        let expected = if is_away(&login.account) { 503 } else { 200 };
        assert_eq!(answer.status, expected, "{}: {answer:?}", login.account);
    }
    until("the metric of absent slots", PATIENCE, async || {
        let absent = metric(query.internal, "botstats_query_absent_slots").await;
        ((absent - 64.0).abs() < 0.1).then_some(())
    })
    .await;
    assert_eq!(get(query.internal, "/readyz", &[]).await.status, 200);

    ingests.get_mut(&away).unwrap().restart();
    site.all_counted(4).await;
    until("no absent slots", PATIENCE, async || {
        (metric(query.internal, "botstats_query_absent_slots").await < 0.1).then_some(())
    })
    .await;
    accounts.judge(&query, &all, 2).await;
}
