//! A random stream through NATS and HTTP, against the model. (The package `faults` does the same
//! through faults.)

use std::collections::BTreeMap;

use botstats_common::io::clock;
use botstats_tests::generate::{Dice, Plan, question};
use botstats_tests::harness::{
    PATIENCE, Site, check_counts, check_dead_letters, get, outgoing, publish, stored, until,
};
use botstats_tests::model::{Model, Verdict};

const DAY_MS: i64 = 86_400_000;
const SEED: u64 = 20_261_120;

#[tokio::test(flavor = "multi_thread")]
async fn answers_equal_the_models() {
    let mut dice = Dice::new(SEED);
    let generated = Plan {
        seed: SEED,
        accounts: 4,
        events: 12_000,
        start_ms: clock::now_ms() - 26 * DAY_MS,
        days: 25,
        conflicts: true,
        bad: true,
    }
    .generate();

    let site = Site::start("0s").await;
    let mut ingest = site.ingest("ingest");
    let mut logins = BTreeMap::new();
    for (account, directory) in &generated.directories {
        let bots: Vec<&str> = generated.bots[account].iter().map(String::as_str).collect();
        logins.insert(account, site.add_account(account, directory, &bots).await);
    }
    let query = site.query("query").await;
    publish(&site.js, generated.messages.iter().map(outgoing)).await;
    site.applied(PATIENCE).await;
    query.ready().await;

    let messages = stored(&site.js).await;
    assert_eq!(messages.len(), generated.messages.len());
    let model = Model::of(&messages);
    for verdict in Verdict::ALL {
        assert!(model.count(verdict) > 0, "the stream has no {verdict:?}");
    }
    check_counts(&site, &model).await;
    check_dead_letters(&site, &model).await;
    let mut questions = Vec::new();
    for (account, directory) in &generated.directories {
        for _ in 0..12 {
            let question = question(&mut dice, &generated, account, 0);
            query.check(&model, &logins[account], &question, directory).await;
            questions.push((question, directory));
        }
    }

    // Another ingest, with a state of its own from the same stream, gives the same answers.
    let second = site.ingest("second");
    let address = second.address("internal listener ready").await;
    until("the second ingest is ready", PATIENCE, async || {
        let readyz = get(address, "/readyz", &[]).await;
        (readyz.status == 200).then_some(())
    })
    .await;
    ingest.kill();
    for (question, directory) in &questions {
        query.check(&model, &logins[&question.account], question, directory).await;
    }
}
