//! What a client must not be able to find out, and tokens that are not tokens any more.

use std::collections::BTreeSet;
use std::time::Duration;

use botstats_common::io::{clock, stop};
use botstats_common::secret::SecretHash;
use botstats_tests::generate::Dice;
use botstats_tests::harness::{
    ALL, Connection, Login, PATIENCE, Stage, account_entry, becomes, get_as, lookalikes, turn,
    until,
};
use botstats_tests::{seed, setting};
use futures::StreamExt as _;
use serde_json::json;

const PREFIX: &str = "/analytics/statistics/account";
/// Revocations that race with requests; `BOTSTATS_TEST_REVOCATIONS` makes it more (or fewer).
const REVOCATIONS: usize = 200;

/// Query looks at the directory again before an answer, unless its first look is younger than 50
/// ms. The first look may end after the read is sent: this long after the read, it has ended and is
/// old, on a busy machine too.
const OLD_LOOK: Duration = Duration::from_millis(500);

/// What is foreign looks like what is absent, to the byte. (That the times do not tell: the program
/// `timing`.)
#[tokio::test(flavor = "multi_thread")]
async fn what_is_foreign_looks_like_what_is_absent() {
    let stage = Stage::start("1h", 3).await;
    for (what, pair) in lookalikes(&stage).await {
        let mut connection = Connection::open(stage.query.http).await.unwrap();
        let mut seen = BTreeSet::new();
        for request in pair.iter().cycle().take(40) {
            connection.send(request).await.unwrap();
            let mut answer = connection.answer(false).await.unwrap().unwrap();
            // The moment is no one's secret.
            answer.headers.retain(|(name, _)| name != "date");
            seen.insert((answer.status, answer.headers, answer.body));
        }
        assert_eq!(seen.len(), 1, "{what}: {seen:?}");
    }
}

fn removed(token: &str) -> serde_json::Value {
    let mut entry = account_entry(token);
    entry["removed"] = true.into();
    entry
}

/// What is revoked or removed while a request waits for its statistics gets none of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_revoked_while_its_answer_is_made_gets_none() {
    let stage = Stage::start("1h", 4).await;
    let key = json!({"name": "b", "key_sha256": String::from(SecretHash::of("another_key"))});
    let bot_removed = json!({"name": "b", "key_sha256": String::from(SecretHash::of("key_acct-3_b1")),
        "removed": true});
    for (number, by_key, at, entry, status) in [
        (0, false, "account.acct-0", account_entry("another"), 401),
        (1, false, "account.acct-1", removed("token-of-acct-1"), 404),
        (2, true, "bot.acct-2.b1", key, 404),
        (3, true, "bot.acct-3.b1", bot_removed, 404),
    ] {
        let login = &stage.logins[number];
        let path =
            if by_key { format!("{PREFIX}/{}/13/day/1", login.keys["b1"]) } else { ALL.to_owned() };
        stage.ingest.signal("STOP");
        let mut reads = stage.site.client.subscribe("botstats.read.v1.*").await.unwrap();
        stage.site.client.flush().await.unwrap();
        let ask = get_as(&login.token, stage.query.http, &path, &[]);
        let meanwhile = async {
            // The entries were looked at, and the question waits for the ingest.
            tokio::time::timeout(PATIENCE, reads.next()).await.unwrap().unwrap();
            tokio::time::sleep(OLD_LOOK).await;
            stage.site.put(at, &entry).await;
            stage.ingest.signal("CONT");
        };
        let (answer, ()) = tokio::join!(ask, meanwhile);
        // Too busy a machine is no defect.
        let late = answer.status == 503;
        assert!(late || answer.status == status, "{at}: {answer:?}");
        eprintln!("{at}: {}", answer.status);
        if number == 0 {
            let renewed = Login { token: "another".to_owned(), ..login.clone() };
            let answer = until("an answer to the new token", PATIENCE, async || {
                let answer = stage.query.ask_all(&renewed.token).await;
                (answer.status != 401 && answer.status != 503).then_some(answer)
            });
            assert_eq!(answer.await.status, 200, "the call was not used");
        }
    }
}

/// Revocations that race with requests: one that is sent after the acknowledgement never gets a
/// 200, and one that was on its way ends soon.
#[tokio::test(flavor = "multi_thread")]
async fn after_the_acknowledgement_no_revoked_token_gets_an_answer() {
    // It measures how soon what is on its way ends.
    let _turn = turn().await;
    let stage = Stage::start("0s", 1).await;
    let mut dice = Dice::new(seed());
    let rounds = setting("BOTSTATS_TEST_REVOCATIONS", REVOCATIONS);
    let (mut answered, mut refused, mut latest) = (0, 0, Duration::ZERO);
    for round in 0..rounds {
        let (token, key) = (format!("token-{round}"), "account.acct-0");
        stage.site.put(key, &account_entry(&token)).await;
        let login = Login { token: token.clone(), ..stage.logins[0].clone() };
        becomes(stage.query.http, &token, ALL, 200).await;
        let racing: Vec<_> = (0..4)
            .map(|_| {
                let (address, token) = (stage.query.http, token.clone());
                let wait = Duration::from_micros(dice.below(6_000).unsigned_abs());
                stop::spawn(async move {
                    tokio::time::sleep(wait).await;
                    let sent = clock::monotonic();
                    let answer = get_as(&token, address, ALL, &[]).await;
                    (sent, clock::monotonic(), answer.status)
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_micros(dice.below(6_000).unsigned_abs())).await;
        let after =
            if round % 2 == 0 { (account_entry("another"), 401) } else { (removed(&token), 404) };
        stage.site.put(key, &after.0).await;
        let acknowledged = clock::monotonic();
        for request in racing {
            let (sent, ended, status) = request.await.unwrap();
            assert!(status == 200 || status == after.1, "round {round}: {status}");
            if status == 200 {
                answered += 1;
                assert!(sent < acknowledged, "round {round}: a 200 to a revoked token");
                latest = latest.max(ended.saturating_duration_since(acknowledged));
            } else {
                refused += 1;
            }
        }
        assert_eq!(stage.query.ask_all(&login.token).await.status, after.1, "round {round}");
    }
    eprintln!(
        "{rounds} revocations: {answered} requests on their way were answered, {refused} were not; the \
         latest answer ended {latest:?} after the acknowledgement"
    );
    assert!(answered > 0 && refused > 0, "nothing raced");
    // The last look is at most 50 ms and a claim's round trip before the answer.
    assert!(latest < Duration::from_secs(2), "{latest:?}");
}
