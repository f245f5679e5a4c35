//! Questions with all parameters to real programs, against the model, to the byte.

use std::collections::BTreeMap;

use botstats_common::io::clock;
use botstats_common::secret::SecretHash;
use botstats_tests::generate::{Dice, Generated, Plan, ZONES, asked, operators};
use botstats_tests::harness::{
    Judge, Login, PATIENCE, Query, Site, event, get_as, outgoing, publish, stored,
};
use botstats_tests::model::{Asked, Contents, Directory, MAX_NAMES, Model};
use botstats_tests::{seed, setting};
use serde_json::json;

/// Questions of a run; `BOTSTATS_TEST_REAL_QUESTIONS` makes it more (or fewer).
const QUESTIONS: usize = 60;
const DAY_MS: i64 = 86_400_000;
/// Days of the stream. Nothing older than 35 days is accepted.
const DAYS: i64 = 33;

fn view_token(account: &str) -> String {
    format!("view-of-{account}")
}

/// The bots that the account's view token sees: every other one.
fn seen<'a>(bots: impl IntoIterator<Item = &'a String>) -> Vec<String> {
    bots.into_iter().step_by(2).cloned().collect()
}

/// Ten years.
const KEEP_DAYS: &str = "3650";

/// Programs with a stream behind them, and what questions about it need.
struct World {
    // Before the site, which they use.
    query: Query,
    logins: BTreeMap<String, Login>,
    generated: Generated,
    contents: Contents,
    operators: BTreeMap<String, String>,
    dice: Dice,
}

impl World {
    async fn new(site: &Site, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let plan = Plan {
            seed,
            accounts: 3,
            events: 4_000,
            start_ms: clock::now_ms() - (DAYS + 1) * DAY_MS,
            days: DAYS,
            conflicts: true,
            bad: true,
        };
        let mut generated = plan.generate();
        let operators = operators(&mut dice);
        let mut logins = BTreeMap::new();
        for (account, directory) in &mut generated.directories {
            directory.timezone = (*dice.pick(&ZONES)).to_owned();
            let bots: Vec<&str> = generated.bots[account].iter().map(String::as_str).collect();
            logins.insert(account.clone(), site.add_account(account, directory, &bots).await);
            site.put_operators(account, &operators).await;
            let entry = json!({
                "sha256": String::from(SecretHash::of(&view_token(account))),
                "bots": seen(&generated.bots[account]),
                "operators": true,
            });
            site.put(&format!("view.{account}.v1"), &entry).await;
        }
        let query = site.query("query").await;
        publish(&site.js, generated.messages.iter().map(outgoing)).await;
        site.applied(PATIENCE).await;
        query.ready().await;
        let model = Model::of(&stored(&site.js).await);
        let contents = model.contents(MAX_NAMES);
        Self { query, logins, generated, contents, operators, dice }
    }

    /// A question of now, and the names and zone of its account.
    fn question(&mut self, number: usize) -> (Asked, Directory) {
        let all = &self.generated.directories;
        let (account, directory) = all.iter().nth(number % all.len()).unwrap();
        let now_ms = clock::now_ms();
        let asked = asked(&mut self.dice, &self.generated, account, directory, now_ms);
        (asked, directory.clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_gets_the_models_answer() {
    let mut site = Site::start("0s").await;
    site.more.push(("BOTSTATS_BOT_THROTTLE_WINDOW", "0s".to_owned()));
    // All dates that a question may have are complete.
    let _ingest = site.ingest_with("ingest", &[("BOTSTATS_KEEP_DAYS", KEEP_DAYS.to_owned())]);
    let mut world = World::new(&site, seed()).await;
    let (mut bytes, mut of_bots, mut of_views) = (0, 0, 0);
    for number in 0..setting("BOTSTATS_TEST_REAL_QUESTIONS", QUESTIONS) {
        let (asked, directory) = world.question(number);
        let login = world.logins[&asked.account].clone();
        let judge = Judge { contents: &world.contents, operators: &world.operators };
        bytes += world.query.check_asked(judge, &login, &asked, &directory).await;
        // The page gets the same rows; with a view token those of the bots that it sees.
        match asked.bots.as_deref() {
            Some([bot]) => {
                world.query.check_page(&login.token, bot, judge, &asked, &directory).await;
            }
            _ => {
                world.query.check_page(&login.token, "*", judge, &asked, &directory).await;
                let bots = Some(seen(&world.generated.bots[&asked.account]));
                let some = Asked { bots, ..asked.clone() };
                let token = view_token(&asked.account);
                world.query.check_page(&token, "*", judge, &some, &directory).await;
                of_views += 1;
            }
        }
        // A question about one bot gets the same bytes with the bot's own token.
        if let Some([bot]) = asked.bots.as_deref()
            && let Some(token) = login.bot_tokens.get(bot)
        {
            world.query.check_bot(token, judge, &asked, &directory).await;
            of_bots += 1;
        }
    }
    // An answer without rows has two bytes.
    assert!(
        bytes > 10_000 && of_bots > 0 && of_views > 0,
        "{bytes} bytes, {of_bots} calls of bots, {of_views} of view tokens"
    );
}

/// The time of the events, and not that of the machine, says what is complete: a store whose events
/// cover a week deletes what is older than its days.
#[tokio::test(flavor = "multi_thread")]
async fn what_would_not_be_complete_is_refused() {
    let site = Site::start("1h").await;
    let _ingest = site.ingest("ingest");
    let directory = Directory::nameless("Pacific/Kiritimati");
    let login = site.add_account("acme", &directory, &["b1"]).await;
    let query = site.query("query").await;
    let now_ms = clock::now_ms();
    let old = |days: i64| {
        let (at_ms, id) = (now_ms - days * DAY_MS, days.to_string());
        event(["acme", "b1", "web"], "message.received", at_ms, &id, &json!({}))
    };
    publish(&site.js, [old(9), old(0)]).await;
    site.applied(PATIENCE).await;
    query.ready().await;

    // The default is 400 days. The zone is 14 hours ahead, so a local date that is wholly after the
    // UTC day `today - 400` begins on the UTC day after it.
    let today = now_ms.div_euclid(DAY_MS);
    let date = |day: i64| {
        let instant = jiff::Timestamp::from_millisecond(day * DAY_MS).unwrap();
        jiff::tz::TimeZone::UTC.to_datetime(instant).date()
    };
    let ask = async |from, to, more: &str| {
        let days = format!("*?from={from}&to={to}{more}");
        let path = format!("/analytics/statistics/account/*/13/day/{days}");
        get_as(&login.token, query.http, &path, &[]).await
    };
    let (before, first) = (date(today - 399), date(today - 398));
    for (from, to, more) in [
        (before, before, ""),
        (before, first, ""),
        (first, first, "&previous=period"),
        (first, first, "&previous=year"),
    ] {
        let answer = ask(from, to, more).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "incomplete"), "{answer:?}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(&format!("complete from {first} on")), "{detail}");
    }
    // No refusal has used the call.
    assert_eq!(ask(first, date(today), "").await.status, 200);
    assert_eq!(ask(first, date(today), "").await.status, 429);
}
