//! A good client hardly notices slow clients, many clients and floods: its times are compared with
//! its own just before.

use std::time::Duration;

use botstats_common::io::{clock, stop};
use botstats_tests::harness::{
    ALL, Answer, Stage, allow_connections, flood, hammer, head_as, head_of, large, open, turn,
};
use tokio_util::sync::CancellationToken;

/// A good client's median may grow by this factor.
const RATIO: u32 = 8;
/// What is faster than that is not compared: it is noise on a busy machine.
const FLOOR: Duration = Duration::from_millis(20);
/// Requests of a flood, which last for as long as good clients are measured.
const FLOOD: usize = 20_000;

/// A good client's median time for an answer.
async fn median(asks: usize, mut ask: impl AsyncFnMut() -> Answer) -> Duration {
    let mut times = Vec::new();
    for _ in 0..asks {
        let began = clock::monotonic();
        let answer = ask().await;
        assert!(answer.status == 200 && answer.whole, "{answer:?}");
        times.push(began.elapsed());
    }
    times.sort();
    times[times.len() / 2]
}

fn hardly_slower(what: &str, before: Duration, during: Duration) {
    eprintln!("{what}: a good client's median {before:?} before, {during:?} meanwhile");
    assert!(during < before.max(FLOOR) * RATIO, "{what}: {before:?} before, {during:?} meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_many_do_not_slow_others() {
    let _turn = turn().await;
    let had = allow_connections(9_000);
    let stage = Stage::start("0s", 2).await;
    let address = stage.query.http;
    stage.add_channels("acct-1", 12).await;
    let good = async |asks| median(asks, async || stage.ask(&stage.logins[0]).await).await;
    let before = good(60).await;
    let ask = head_as(&stage.logins[1].token, &large(), &[]);
    let _readers = open(address, 200, &ask).await;
    hardly_slower("200 slow readers", before, good(40).await);
    let slow = had.min(8_000) / 4;
    let _heads = open(address, slow, b"GET /openapi.json HTTP/1.1\r\nHost: a\r\nx-").await;
    let _idle = open(address, slow, b"").await;
    hardly_slower(&format!("{slow} slow heads, {slow} idle"), before, good(40).await);
    let _crowd = open(address, had - 2 * slow, b"GET /").await;
    hardly_slower(&format!("{had} slow heads"), before, good(40).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_do_not_slow_others() {
    let _turn = turn().await;
    let stage = Stage::start("1h", 80).await;
    let [used, fresh @ ..] = &stage.logins[..] else { panic!("accounts") };
    assert_eq!(stage.ask(used).await.status, 200);
    let mut fresh = fresh.iter();
    let mut good =
        async || median(24, async || stage.query.ask_all(&fresh.next().unwrap().token).await).await;
    let before = good().await;
    let kept = |head: Vec<u8>| {
        String::from_utf8(head).unwrap().replace("Connection: close\r\n", "").into_bytes()
    };
    for (what, request, status) in [
        ("a flood without a token", head_of(ALL, &[]), 401),
        ("a flood with a used call", head_as(&used.token, ALL, &[]), 429),
    ] {
        let (address, request) = (stage.query.http, kept(request));
        let flooding = stop::spawn(async move { flood(address, &request, FLOOD, status).await });
        hardly_slower(what, before, good().await);
        flooding.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_hammers_hardly_delays_another() {
    let _turn = turn().await;
    let stage = Stage::start("0s", 2).await;
    let good = async || median(60, async || stage.ask(&stage.logins[1]).await).await;
    let before = good().await;
    let ended = CancellationToken::new();
    let hammering = hammer(stage.query.http, &stage.logins[0].token, ended.clone());
    hardly_slower("an account that hammers", before, good().await);
    ended.cancel();
    assert!(hammering.await.unwrap() > 0);
}
