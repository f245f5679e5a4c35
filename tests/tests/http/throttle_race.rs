//! One call an account or bot a window, whatever races: four replicas, sixty-four clients, two
//! hundred accounts.
//!
//! The instant at which a call was used is not visible from outside: it is between the sending of
//! the request and the arrival of the answer. Each check uses that end of this range with which a
//! correct product never fails.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use botstats_common::io::{clock, stop};
use botstats_tests::generate::Dice;
use botstats_tests::harness::{
    ALL, PATIENCE, Process, Query, Stage, becomes, bot_tokens, get_as, turn, until,
};

const WINDOW: Duration = Duration::from_secs(2);
const REPLICAS: usize = 4;
const CLIENTS: u64 = 64;
const ACCOUNTS: usize = 200;
/// How long all clients send requests.
const RACE: Duration = Duration::from_secs(12);
/// How long after the end of a window a call may still be refused. The server takes a quarter of a
/// second to expire an entry, and `Retry-After` is rounded up to whole seconds, plus one.
const LATE: Duration = Duration::from_millis(3_000);

/// One request with its answer.
struct Call {
    account: usize,
    sent: Instant,
    answered: Instant,
    status: u16,
    retry_after_s: Option<u64>,
}

/// A token, and the path that is asked with it.
type Caller = (String, String);

/// One caller for each account, which asks for all metrics of all bots of the last two days.
fn accounts(stage: &Stage) -> Vec<Caller> {
    stage.logins.iter().map(|login| (login.token.clone(), ALL.to_owned())).collect()
}

async fn call(query: &Query, account: usize, (token, path): &Caller) -> Call {
    let sent = clock::monotonic();
    let answer = get_as(token, query.http, path, &[]).await;
    let answered = clock::monotonic();
    let retry_after_s = answer.retry_after();
    Call { account, sent, answered, status: answer.status, retry_after_s }
}

async fn client(
    seed: u64,
    queries: Arc<Vec<Query>>,
    callers: Arc<Vec<Caller>>,
    end: Instant,
) -> Vec<Call> {
    let mut dice = Dice::new(seed);
    let mut calls = Vec::new();
    while clock::monotonic() < end {
        let account = dice.index(callers.len());
        calls.push(call(dice.pick(&queries), account, &callers[account]).await);
    }
    calls
}

/// Starts the replicas, and lets all clients send requests while `meanwhile` runs. Returns when the
/// race began, and each caller's calls in the order of their answers.
async fn race(
    stage: &mut Stage,
    callers: Vec<Caller>,
    meanwhile: impl AsyncFnOnce(&mut Stage, Instant),
) -> (Instant, HashMap<usize, Vec<Call>>) {
    let mut queries = Vec::new();
    for replica in 0..REPLICAS {
        queries.push(stage.site.query(&format!("replica-{replica}")).await);
    }
    for query in &queries {
        query.ready().await;
    }
    let (queries, callers) = (Arc::new(queries), Arc::new(callers));
    let begin = clock::monotonic();
    let end = begin + RACE;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|seed| stop::spawn(client(seed, Arc::clone(&queries), Arc::clone(&callers), end)))
        .collect();
    meanwhile(stage, begin).await;
    let mut by_account: HashMap<usize, Vec<Call>> = HashMap::new();
    for client in clients {
        for call in client.await.unwrap() {
            by_account.entry(call.account).or_default().push(call);
        }
    }
    by_account.values_mut().for_each(|calls| calls.sort_by_key(|call| call.answered));
    (begin, by_account)
}

/// Checks that no two answers of an account are less than a window apart.
fn windows_hold(account: usize, given: &[&Call], window: Duration) {
    for pair in given.windows(2) {
        // An upper bound for the time between the two uses: if it is less than a window, so was
        // that time.
        let at_most = pair[1].answered - pair[0].sent;
        assert!(at_most >= window, "account {account}: two calls within {at_most:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_a_window_through_crashes_of_nats() {
    let _turn = turn().await;
    let window = Duration::from_secs(5);
    let mut stage = Stage::start("5s", 50).await;
    let callers = accounts(&stage);
    let (_, by_account) = race(&mut stage, callers, async |stage, begin| {
        for crash in 1..=3 {
            until("the time of the crash", RACE, async || {
                (begin.elapsed() > Duration::from_secs(3) * crash).then_some(())
            })
            .await;
            stage.site.nats.kill();
            stage.site.nats.restart().unwrap();
        }
    })
    .await;
    let mut given = 0;
    for (account, calls) in by_account {
        for call in &calls {
            assert!(matches!(call.status, 200 | 429 | 503), "account {account}: {}", call.status);
        }
        let ok: Vec<&Call> = calls.iter().filter(|call| call.status == 200).collect();
        windows_hold(account, &ok, window);
        given += ok.len();
    }
    assert!(given >= 50, "{given} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_a_window() {
    let _turn = turn().await;
    let mut stage = Stage::start("2s", ACCOUNTS).await;
    let callers = accounts(&stage);
    one_call_of_each(&mut stage, callers).await;
}

/// The bots' calls, while the accounts' are all used.
#[tokio::test(flavor = "multi_thread")]
async fn one_call_of_a_bot_a_window() {
    let _turn = turn().await;
    let mut stage = Stage::start_with("1h", "2s", ACCOUNTS).await;
    let tokens = bot_tokens(&stage);
    for login in &stage.logins {
        assert_eq!(stage.ask(login).await.status, 200);
    }
    let path = ALL.replace("account/*/", "");
    let callers = tokens.into_iter().map(|token| (token, path.clone())).collect();
    one_call_of_each(&mut stage, callers).await;
    for login in &stage.logins {
        assert_eq!(stage.ask(login).await.status, 429);
    }
}

/// Checks calls in a window of [`WINDOW`].
async fn one_call_of_each(stage: &mut Stage, callers: Vec<Caller>) {
    let (begin, by_account) = race(stage, callers, async |_, _| {}).await;
    let (mut given, mut refused) = (0, 0);
    for (account, calls) in by_account {
        for call in &calls {
            assert!(matches!(call.status, 200 | 429), "account {account}: {}", call.status);
            let allowed = 1..=WINDOW.as_secs() + 2;
            let honest = call.retry_after_s.is_some_and(|s| allowed.contains(&s));
            assert!(call.status == 200 || honest, "{:?}", call.retry_after_s);
        }
        let (ok, no): (Vec<&Call>, Vec<&Call>) = calls.iter().partition(|call| call.status == 200);
        windows_hold(account, &ok, WINDOW);
        // A call may be refused only if another was used within the window before.
        for refusal in &no {
            let reason = ok.iter().any(|used| {
                used.sent <= refusal.answered && refusal.sent <= used.answered + WINDOW + LATE
            });
            let after = refusal.sent - begin;
            assert!(reason, "account {account}: refused {after:?} after the start for nothing");
        }
        given += ok.len();
        refused += no.len();
    }
    let windows = usize::try_from(RACE.as_secs() / (WINDOW + LATE).as_secs()).unwrap();
    assert!(given >= ACCOUNTS * windows, "{given} calls in at least {windows} windows");
    assert!(refused > ACCOUNTS, "{refused} refusals are no race");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_as_told_gets_an_answer() {
    let _turn = turn().await;
    // The window is twice the longest sleep before the call that must be refused.
    let stage = Stage::start("4s", 8).await;
    let second = stage.site.query("second").await;
    second.ready().await;
    let both = Arc::new(vec![stage.query, second]);
    let waiting = stage.logins.iter().cloned().enumerate().map(|(number, login)| {
        let both = Arc::clone(&both);
        stop::spawn(async move {
            let mut dice = Dice::new(number.try_into().unwrap());
            for round in 0..4 {
                let first = dice.pick(&both).ask_all(&login.token).await;
                assert_eq!(first.status, 200, "account {number}, round {round}: {first:?}");
                // Two replicas must say the same, at any moment of the window.
                tokio::time::sleep(Duration::from_millis(dice.below(1_900).unsigned_abs())).await;
                let refused = dice.pick(&both).ask_all(&login.token).await;
                assert_eq!(refused.status, 429, "account {number}, round {round}: {refused:?}");
                let wait_s = refused.retry_after().unwrap();
                tokio::time::sleep(Duration::from_secs(wait_s)).await;
            }
        })
    });
    for client in waiting.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_other_than_the_buckets_is_refused() {
    let stage = Stage::start_with("2s", "3s", 1).await;
    for (accounts, bots, named) in [
        ("1h", "3s", ["BOTSTATS_THROTTLE_WINDOW", "2s", "1h"]),
        ("2s", "40m", ["BOTSTATS_BOT_THROTTLE_WINDOW", "3s", "40m"]),
    ] {
        let mut settings = vec![("NATS_URL", stage.site.url())];
        settings.push(("BOTSTATS_HTTP_ADDR", "127.0.0.1:0".to_owned()));
        settings.push(("BOTSTATS_INTERNAL_ADDR", "127.0.0.1:0".to_owned()));
        settings.push(("BOTSTATS_THROTTLE_WINDOW", accounts.to_owned()));
        settings.push(("BOTSTATS_BOT_THROTTLE_WINDOW", bots.to_owned()));
        let folder = stage.site.folder(&format!("other-window-{bots}"));
        let mut other = Process::start("botstats-query", &[], &settings, &folder);
        let status = other.ended(PATIENCE).await;
        assert_eq!(status.code(), Some(64));
        let log = other.log();
        assert!(named.iter().all(|word| log.contains(word)), "not {named:?}: {log}");
    }
    // The others go on.
    becomes(stage.query.http, &stage.logins[0].token, ALL, 200).await;
}
