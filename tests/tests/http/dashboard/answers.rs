//! Who may see what, the rows, and the limits of questions.

use std::collections::BTreeSet;

use botstats_common::io::clock;
use botstats_tests::harness::{ALL, PATIENCE, Stage, becomes, bot_tokens, get_as, metric, until};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::tokens::view;

/// The page's question for all metrics of all bots of the last two days.
fn of_page() -> String {
    ALL.replace("/analytics/statistics/account/", "/dashboard/data/")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_token_sees_what_it_may() {
    let stage = Stage::start_with("1h", "1h", 2).await;
    let (address, account) = (stage.query.http, &stage.logins[0].token);
    let of_bot = &bot_tokens(&stage)[0];
    let past = json!("2026-01-01T00:00:00Z");
    for (id, entry) in [
        ("v1", view("all", &json!({}))),
        ("v2", view("one", &json!({"bots": ["b2", "gone", "never"]}))),
        ("v3", view("none", &json!({"bots": []}))),
        ("v4", view("operators", &json!({"bots": ["b1"], "operators": true}))),
        ("v5", view("expired", &json!({"expires": past}))),
    ] {
        stage.site.put(&format!("view.acct-0.{id}"), &entry).await;
    }
    stage.site.put("bot.acct-0.gone", &json!({"removed": true})).await;
    stage.site.put("operators.acct-0", &json!({"o1": "Ann"})).await;
    becomes(address, account, "/dashboard/account", 200).await;
    until("the operators are known", PATIENCE, async || {
        let answer = get_as(account, address, "/dashboard/account", &[]).await;
        (answer.json()["Operators"] == json!({"o1": "Ann"})).then_some(())
    })
    .await;

    let split = "/dashboard/data/*/9/day/1?split=operator";
    let bot = |bot: &str| format!("/dashboard/data/{bot}/0/day/1");
    let paths = [
        "/dashboard/account",
        "/dashboard/now",
        &of_page(),
        split,
        &bot("b1"),
        &bot("b2"),
        &bot("gone"),
        &bot("b9"),
        &bot("b%20"),
        "/dashboard/data/*/x/day/1",
    ];
    for (token, statuses) in [
        (account.as_str(), [200, 200, 200, 200, 200, 200, 404, 404, 400, 400]),
        ("all", [200, 200, 200, 403, 200, 200, 404, 404, 400, 400]),
        ("one", [200, 200, 200, 403, 404, 200, 404, 404, 400, 400]),
        ("none", [200, 200, 200, 403, 404, 404, 404, 404, 400, 400]),
        ("operators", [200, 200, 200, 200, 200, 404, 404, 404, 400, 400]),
        ("expired", [401; 10]),
        ("nobodys", [401; 10]),
        (of_bot, [403; 10]),
        (&stage.logins[1].token, [200, 200, 200, 200, 200, 200, 404, 404, 400, 400]),
    ] {
        let (mut unseen, mut live) = (BTreeSet::new(), 0);
        for (path, status) in paths.iter().zip(statuses) {
            let answer = get_as(token, address, path, &[("X-Request-Id", "r")]).await;
            assert_eq!(answer.status, status, "{token} {path}: {answer:?}");
            let vary = answer.header("vary");
            assert_eq!(vary.as_deref(), Some("Authorization, Accept, Accept-Encoding"));
            for (name, value) in [("cache-control", "no-store"), ("referrer-policy", "no-referrer")]
            {
                assert_eq!(answer.header(name).as_deref(), Some(value), "{answer:?}");
            }
            assert!(
                answer.header("ratelimit").is_none() && answer.header("ratelimit-policy").is_none()
            );
            match status {
                404 => {
                    unseen.insert(answer.text().to_owned());
                }
                200 => live += 1,
                _ => {}
            }
        }
        // What is unknown, removed or unseen cannot be told apart.
        assert!(unseen.len() <= 1, "{unseen:?}");
        assert!(live == 0 || unseen.len() == 1);
        let live = statuses[0].max(200);
        if live != 200 {
            let answer = get_as(token, address, "/dashboard/live", &[]).await;
            assert_eq!(answer.status, live, "{token}");
        }
    }

    // What the account is called.
    let of = async |token: &str| get_as(token, address, "/dashboard/account", &[]).await.json();
    let whole = of(account).await;
    let names = |account: &Value| -> Vec<String> {
        let bots = account["Bots"].as_array().unwrap();
        bots.iter().map(|bot| bot["BotId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        (&whole["Account"], &whole["TimeZone"]),
        (&json!("acct-0"), &json!("Asia/Kathmandu"))
    );
    assert_eq!(whole["FirstCompleteDate"].as_str().map(str::len), Some(10), "{whole}");
    assert_eq!(names(&whole), ["b1", "b2"]);
    assert_eq!(
        whole["Bots"][0],
        json!({"BotId": "b1", "BotName": "Pizza, \"hot\"",
            "Channels": [{"ChannelId": "web", "ChannelName": "Web"}]})
    );
    assert_eq!(whole["Bots"][1]["Channels"], json!([{"ChannelId": "web", "ChannelName": "web"}]));
    let (one, none, operators) = (of("one").await, of("none").await, of("operators").await);
    assert_eq!((names(&one), &one["Operators"]), (vec!["b2".to_owned()], &json!({})));
    assert_eq!(none["Bots"], json!([]));
    assert_eq!(operators["Operators"], json!({"o1": "Ann"}));
    assert!(!one.to_string().contains("Pizza"), "{one}");

    // What goes on now.
    let now = async |token: &str| get_as(token, address, "/dashboard/now", &[]).await.json();
    let open: Vec<String> = now(account).await["Bots"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| format!("{} {} {}", row["BotId"], row["Open"], row["Unanswered"]))
        .collect();
    assert_eq!(open, ["\"b1\" 1 0", "\"b2\" 1 1"]);
    assert_eq!(now("one").await["Bots"].as_array().unwrap().len(), 1);
    assert_eq!(now("none").await["Bots"], json!([]));

    // None of this used the hour, and a used hour changes nothing.
    assert_eq!(stage.ask(&stage.logins[0]).await.status, 200);
    assert_eq!(stage.ask(&stage.logins[0]).await.status, 429);
    assert_eq!(get_as(account, address, &of_page(), &[]).await.status, 200);
    assert_eq!(get_as("all", address, "/dashboard/now", &[]).await.status, 200);

    // A removed account.
    let mut entry = json!({"tokens": [{"id": "t1", "sha256": String::from(
        botstats_common::secret::SecretHash::of(account))}]});
    entry["removed"] = true.into();
    stage.site.put("account.acct-0", &entry).await;
    for path in [&of_page(), "/dashboard/now", "/dashboard/live", "/dashboard/account"] {
        for token in [account, "one"] {
            let gone = becomes(address, token, path, 404).await;
            assert_eq!(gone.problem(), "not-found");
        }
        assert_eq!(get_as(of_bot, address, path, &[]).await.status, 403);
    }
}

/// The rows of the account's call about bots, taken from the rows about all.
fn rows_of(bots: &[&str], all: &[u8]) -> Vec<u8> {
    let lines = all.split_inclusive(|byte| *byte == b'\n');
    let is_of = |line: &&[u8]| {
        let row: Value = serde_json::from_slice(line).unwrap();
        bots.contains(&row["BotId"].as_str().unwrap())
    };
    lines.filter(is_of).flatten().copied().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_are_those_of_the_accounts_call() {
    let stage = Stage::start_with("0s", "0s", 1).await;
    let (address, login) = (stage.query.http, &stage.logins[0]);
    for (id, bots) in [("v1", json!(null)), ("v2", json!(["b2"])), ("v3", json!([]))] {
        let entry = view(id, &json!({"bots": bots, "operators": true}));
        stage.site.put(&format!("view.acct-0.{id}"), &entry).await;
    }
    becomes(address, "v3", "/dashboard/now", 200).await;
    let day = clock::rfc3339_ms(clock::now_ms() - 86_400_000)[..10].to_owned();
    let to = clock::rfc3339_ms(clock::now_ms())[..10].to_owned();
    let dates = format!("*?from={day}&to={to}");
    let questions = [
        "0,1,2,3/day/2".to_owned(),
        "0,1,2,3/day/2?fill=zero".to_owned(),
        "9,11/hour/1?split=operator".to_owned(),
        "100,101,8/total/7?previous=period&stats=p50,max".to_owned(),
        "3/weekhour/7".to_owned(),
        format!("0,12/15min/{dates}&by=bot"),
    ];
    for question in &questions {
        for accept in ["application/json", "text/csv", "application/x-ndjson"] {
            let headers = [("Accept", accept)];
            until(&format!("the same rows of {question}"), PATIENCE, async || {
                let ask = async |token: &str, path: &str| {
                    get_as(token, address, &format!("{path}/{question}"), &headers).await
                };
                let expected = ask(&login.token, "/analytics/statistics/account/*").await;
                let by_key = format!("/analytics/statistics/account/{}", login.keys["b1"]);
                let of_one = ask(&login.token, &by_key).await;
                let answers = [
                    ask(&login.token, "/dashboard/data/*").await,
                    ask("v1", "/dashboard/data/*").await,
                    ask(&login.token, "/dashboard/data/b1").await,
                ];
                assert_eq!(expected.status, 200, "{expected:?}");
                for answer in &answers {
                    assert_eq!(answer.status, 200, "{question}: {answer:?}");
                    let of = |name| (expected.header(name), answer.header(name));
                    for name in ["content-type", "content-disposition"] {
                        assert_eq!(of(name).0, of(name).1);
                    }
                    assert!(answer.header("data-as-of").is_some());
                }
                let [whole, of_view, of_b1] = &answers;
                let mut same = whole.body == expected.body
                    && of_view.body == expected.body
                    && of_b1.body == of_one.body;
                if accept == "application/x-ndjson" {
                    for (token, bots) in [("v2", &["b2"][..]), ("v3", &[])] {
                        let some = ask(token, "/dashboard/data/*").await;
                        assert_eq!(some.status, 200, "{some:?}");
                        same &= some.body == rows_of(bots, &expected.body);
                    }
                }
                same.then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_questions_share_an_answer() {
    let stage = Stage::start("1h", 1).await;
    let (query, login) = (&stage.query, &stage.logins[0]);
    for (id, bots) in [("v1", json!(["b1"])), ("v2", json!(["b1"])), ("v3", json!(["b2"]))] {
        let entry = view(id, &json!({"bots": bots}));
        stage.site.put(&format!("view.acct-0.{id}"), &entry).await;
    }
    becomes(query.http, "v3", "/dashboard/now", 200).await;
    let computed = async || {
        metric(query.internal, "botstats_query_page_answers_total{how=\"computed\"}").await
    };
    // Viewers of the same bots share, whatever their token; formats and codings follow each.
    let before = computed().await;
    let ask = async |token: &str| {
        let answer = get_as(token, query.http, &of_page(), &[]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text().to_owned()
    };
    let answers = join_all((0..20).map(|n| ask(["v1", "v2"][n % 2]))).await;
    assert!(answers.iter().all(|answer| *answer == answers[0] && answer.contains("\"b1\"")));
    let between = computed().await;
    // A second is over now and then on a slow machine.
    assert!((1.0..=3.0).contains(&(between - before)), "{before} {between}");
    let [one, other, all] = [ask("v1").await, ask("v3").await, ask(&login.token).await];
    assert!(!other.contains("\"b1\"") && !one.contains("\"b2\""), "{other}");
    assert!(all.contains("\"b1\"") && all.contains("\"b2\""));
    assert!(computed().await - between >= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_of_questions() {
    let stage = Stage::start("1h", 1).await;
    let (query, login) = (&stage.query, &stage.logins[0]);
    // 31 days of hours of four pairs and two codes, each with a row.
    let large = "/dashboard/data/*/0,1,2,3,4,5,6,7,8,10/hour/30?fill=zero";
    let refused = get_as(&login.token, query.http, large, &[]).await;
    assert_eq!((refused.status, refused.problem().as_str()), (400, "answer-too-large"));
    assert!(refused.text().contains("at most 5000"), "{refused:?}");

    let mut statuses = Vec::new();
    for _ in 0..4 {
        let asked = (0..30).map(|_| get_as(&login.token, query.http, "/dashboard/now", &[]));
        statuses.extend(join_all(asked).await);
    }
    let refused: Vec<_> = statuses.iter().filter(|answer| answer.status == 429).collect();
    assert!(statuses.iter().all(|answer| [200, 429].contains(&answer.status)));
    // One was asked before.
    assert_eq!(refused.len(), 1, "in one minute");
    let refused = refused[0];
    assert_eq!(refused.problem(), "too-many");
    assert!(refused.retry_after().is_some_and(|s| (1..=60).contains(&s)), "{refused:?}");
    assert!(refused.header("ratelimit").is_none() && refused.header("ratelimit-policy").is_none());
    let limited = metric(query.internal, "botstats_query_page_refusals_total{limit=\"questions\"}");
    assert!(limited.await >= 1.0);
    // The account's call is not among them.
    assert_eq!(stage.ask(login).await.status, 200);
}

/// While an ingest hangs: one question computes, eight wait, and the others learn at once that
/// there are too many.
#[tokio::test(flavor = "multi_thread")]
async fn few_questions_of_an_account_wait() {
    let stage = Stage::start("1h", 2).await;
    let (query, login) = (&stage.query, &stage.logins[0]);
    stage.ingest.signal("STOP");
    let ask = async |days: usize| {
        let (path, begun) = (format!("/dashboard/data/*/0/day/{days}"), clock::monotonic());
        let answer = get_as(&login.token, query.http, &path, &[]).await;
        assert_eq!((answer.status, answer.problem().as_str()), (503, "unavailable"), "{answer:?}");
        assert!(answer.retry_after().is_some());
        (begun.elapsed().as_millis(), answer.text().contains("too many questions of the account"))
    };
    let mut answers = join_all((1..=12).map(ask)).await;
    stage.ingest.signal("CONT");
    answers.sort_unstable();
    let at_once = answers.iter().filter(|(ms, too_many)| *ms < 1_000 && *too_many).count();
    assert_eq!(at_once, 3, "{answers:?}");
    assert!(answers.iter().all(|(ms, _)| *ms < 2_500), "{answers:?}");
    let refused = metric(query.internal, "botstats_query_page_refusals_total{limit=\"computing\"}");
    assert!(refused.await >= 3.0);
    becomes(query.http, &login.token, "/dashboard/data/*/0/day/1", 200).await;
    assert_eq!(stage.ask(login).await.status, 200);
}
