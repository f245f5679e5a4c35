//! Random streams through NATS, kills, restarts and HTTP, against the model.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use botstats_common::names::DEAD_LETTERS_SUBJECT;
use botstats_common::shell::{clock, stop};
use botstats_common::status::{DeadLettersReply, DeadLettersRequest};
use botstats_tests::generate::{Dice, Generated, Plan, question};
use botstats_tests::harness::{PATIENCE, Process, Site, get, outgoing, publish, stored, until};
use botstats_tests::model::{Model, Rule, Verdict};

const DAY_MS: i64 = 86_400_000;
/// How often ingest is killed while a stream is published.
const KILLS: usize = 10;
const SEED: u64 = 20_261_120;

/// Publishes in pieces, and kills ingest within each at a moment that depends on nothing.
async fn publish_and_kill(
    site: &mut Site,
    ingest: &mut Process,
    generated: &Generated,
    dice: &mut Dice,
) {
    let messages = &generated.messages;
    for (piece, part) in messages.chunks(messages.len() / KILLS + 1).enumerate() {
        let before = site.last_sequence().await;
        let batch: Vec<_> = part.iter().map(outgoing).collect();
        let js = site.js.clone();
        let publishing = stop::spawn(async move { publish(&js, batch).await });
        let moment = before + 1 + u64::try_from(dice.index(part.len())).unwrap();
        until("the moment of the kill", PATIENCE, async || {
            (site.last_sequence().await >= moment).then_some(())
        })
        .await;
        ingest.restart();
        publishing.await.unwrap();
        if piece == KILLS / 2 {
            // A kill of the server between two acknowledged messages loses nothing.
            site.nats.kill();
            site.nats.restart().unwrap();
            until("the server is back", PATIENCE, async || {
                site.client.flush().await.ok()?;
                site.js.get_stream("BOTSTATS_EVENTS").await.ok().map(|_| ())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_equal_the_models_through_kills() {
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

    let mut site = Site::start("0s").await;
    let mut ingest = site.ingest("ingest");
    let mut logins = BTreeMap::new();
    for (account, directory) in &generated.directories {
        let bots: Vec<&str> = generated.bots[account].iter().map(String::as_str).collect();
        logins.insert(account, site.add_account(account, directory, &bots).await);
    }
    let query = site.query("query").await;
    publish_and_kill(&mut site, &mut ingest, &generated, &mut dice).await;
    site.applied(PATIENCE).await;
    query.ready().await;

    let messages = stored(&site.js).await;
    assert_eq!(messages.len(), generated.messages.len());
    let model = Model::of(&messages);
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

async fn check_counts(site: &Site, model: &Model) {
    let status = site.applied(PATIENCE).await;
    let count = |verdict| u64::try_from(model.count(verdict)).unwrap();
    let letters = [
        ("subject", Rule::Subject),
        ("envelope", Rule::Envelope),
        ("data", Rule::Data),
        ("time", Rule::Time),
    ]
    .map(|(name, rule)| (name, count(Verdict::DeadLetter(rule))));
    let events = [
        ("accepted", count(Verdict::Accepted)),
        ("duplicate", count(Verdict::Duplicate)),
        ("conflict", count(Verdict::Conflict)),
        ("unknown_type", count(Verdict::UnknownType)),
        ("dead_letter", letters.iter().map(|(_, number)| number).sum()),
    ];
    for (name, wanted) in events {
        let got = status.events.get(name).copied().unwrap_or_default();
        assert_eq!(got, wanted, "{name} in {status:?}");
    }
    for (rule, wanted) in letters {
        assert!(wanted > 0, "the stream has no dead letter of rule {rule}");
        let got = status.dead_letters.get(rule).copied().unwrap_or_default();
        assert_eq!(got, wanted, "{rule} in {status:?}");
    }
}

async fn check_dead_letters(site: &Site, model: &Model) {
    let mut wanted: Vec<(u64, &str)> = Vec::new();
    for (sequence, verdict) in &model.verdicts {
        if let Verdict::DeadLetter(rule) = verdict {
            let name = match rule {
                Rule::Subject => "subject",
                Rule::Envelope => "envelope",
                Rule::Data => "data",
                Rule::Time => "time",
            };
            wanted.push((*sequence, name));
        }
    }
    wanted.reverse();
    let mut got: Vec<(u64, String)> = Vec::new();
    loop {
        let before = got.last().map(|(sequence, _)| *sequence);
        let request = DeadLettersRequest { before, sequence: None, limit: 300 };
        let request = serde_json::to_vec(&request).unwrap();
        let answer = site.client.request(DEAD_LETTERS_SUBJECT, request.into()).await.unwrap();
        let reply: DeadLettersReply = serde_json::from_slice(&answer.payload).unwrap();
        assert_eq!(reply.kept, u64::try_from(wanted.len()).unwrap());
        if reply.letters.is_empty() {
            break;
        }
        assert!(reply.letters.iter().all(|letter| !letter.reason.is_empty()));
        got.extend(reply.letters.into_iter().map(|letter| (letter.sequence, letter.rule)));
    }
    let got: Vec<(u64, &str)> = got.iter().map(|(s, rule)| (*s, rule.as_str())).collect();
    assert_eq!(got, wanted);
}
