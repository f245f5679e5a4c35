//! What a client must not be able to find out, and tokens that are not tokens any more.

use std::net::SocketAddr;
use std::time::Duration;

use botstats_common::io::{clock, settings, stop};
use botstats_common::secret::SecretHash;
use botstats_tests::generate::Dice;
use botstats_tests::harness::{ALL, Answer, Login, PATIENCE, Stage, ask_all, get, until};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PREFIX: &str = "/analytics/statistics/account";
/// Requests of each kind whose times are compared.
const PAIRS: usize = 1_000;
/// A difference is one if chance gives it once in a million.
const CHANCE: f64 = 1e-6;
/// Revocations that race with requests; `BOTSTATS_TEST_REVOCATIONS` makes it more (or fewer).
const REVOCATIONS: u32 = 200;

fn number(name: &str) -> Option<u32> {
    settings::variable(name).and_then(|value| value.to_str()?.parse().ok())
}

fn seed() -> u64 {
    let given = number("BOTSTATS_TEST_SEED").map(u64::from);
    let seed = given.unwrap_or_else(|| u64::try_from(clock::now_ms()).unwrap());
    eprintln!("seed {seed}");
    seed
}

/// The time from a request to its whole answer over a connection that stays.
async fn timed(
    socket: &mut TcpStream,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> (Duration, Vec<u8>) {
    buffer.clear();
    let began = clock::monotonic();
    socket.write_all(request).await.unwrap();
    loop {
        assert!(socket.read_buf(buffer).await.unwrap() > 0, "closed");
        let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let text = std::str::from_utf8(&buffer[..head]).unwrap();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        if buffer.len() >= head + 4 + length.unwrap().parse::<usize>().unwrap() {
            return (began.elapsed(), buffer.clone());
        }
    }
}

/// The chance that two samples of one distribution differ so much in their ranks (Mann and Whitney;
/// the normal approximation, two-sided).
fn chance_of_ranks(a: &[Duration], b: &[Duration]) -> f64 {
    let of = |times: &[Duration], first| times.iter().map(move |t| (*t, first)).collect::<Vec<_>>();
    let mut all = [of(a, true), of(b, false)].concat();
    all.sort();
    let (n, m) =
        (f64::from(u32::try_from(a.len()).unwrap()), f64::from(u32::try_from(b.len()).unwrap()));
    let (mut ranks, mut ties, mut rank) = (0.0, 0.0, 0.0);
    for equal in all.chunk_by(|x, y| x.0 == y.0) {
        let size = f64::from(u32::try_from(equal.len()).unwrap());
        let firsts =
            f64::from(u32::try_from(equal.iter().filter(|(_, first)| *first).count()).unwrap());
        ranks += firsts * (rank + f64::midpoint(size, 1.0));
        rank += size;
        ties += size.powi(3) - size;
    }
    let u = ranks - n * (n + 1.0) / 2.0;
    let all = n + m;
    let variance = n * m / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    let z = (u - n * m / 2.0) / variance.sqrt();
    // The tail of the normal distribution (Abramowitz and Stegun 7.1.26, error below 1.5e-7); far out,
    // where that is not exact enough, its bound.
    let x = z.abs() / std::f64::consts::SQRT_2;
    if x > 3.0 {
        return (-x * x).exp() / (x * std::f64::consts::PI.sqrt());
    }
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let poly = [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
    poly.iter().rev().fold(0.0, |sum, factor| (sum + factor) * t) * (-x * x).exp()
}

#[test]
fn the_rank_test_tells_apart_what_differs() {
    let mut dice = Dice::new(1);
    let mut sample = |from: i64| -> Vec<Duration> {
        let time =
            |dice: &mut Dice| u64::try_from(from + dice.below(1_000) + dice.below(1_000)).unwrap();
        (0..PAIRS).map(|_| Duration::from_micros(time(&mut dice))).collect()
    };
    let (a, b, slower) = (sample(0), sample(0), sample(100));
    assert!(chance_of_ranks(&a, &b) > 1e-4);
    assert!(chance_of_ranks(&a, &slower) < CHANCE);
    assert!((chance_of_ranks(&a, &a) - 1.0).abs() < 1e-6);
}

/// Asks both in random order again and again: heads and bodies must be the same, and the times must
/// not tell which was which.
async fn alike(address: SocketAddr, what: &str, [a, b]: [&str; 2], dice: &mut Dice) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let mut buffer = Vec::new();
    // A difference that is one shows every time; a busy machine's shows once.
    for attempt in 1..=3 {
        let (mut times, mut bodies) = ([Vec::new(), Vec::new()], Vec::new());
        for pair in 0..PAIRS {
            let first = dice.index(2);
            for which in [first, 1 - first] {
                let request = [a, b][which].as_bytes();
                let (time, answer) = timed(&mut socket, request, &mut buffer).await;
                times[which].push(time);
                if pair < 20 {
                    // The moment is no one's secret.
                    let text = String::from_utf8(answer).unwrap();
                    bodies.push(
                        text.lines().filter(|l| !l.starts_with("date: ")).collect::<String>(),
                    );
                }
            }
        }
        bodies.sort();
        bodies.dedup();
        assert_eq!(bodies.len(), 1, "{what}: {bodies:?}");
        let chance = chance_of_ranks(&times[0], &times[1]);
        times.iter_mut().for_each(|times| times.sort());
        eprintln!(
            "{what}: medians {:?} {:?}, p = {chance:.3e}",
            times[0][PAIRS / 2],
            times[1][PAIRS / 2]
        );
        if chance >= CHANCE {
            return;
        }
        assert!(attempt < 3, "{what}: the times differ, p = {chance:e}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_foreign_looks_like_what_is_absent() {
    let stage = Stage::start("1h", 50).await;
    let mut dice = Dice::new(seed());
    let [login, other, ..] = &stage.logins[..] else { panic!("accounts") };
    let request = |token: &str, tail: &str| {
        format!(
            "GET {PREFIX}/{tail}/1/day/1 HTTP/1.1\r\nHost: a\r\nX-Request-Id: r\r\n\
             Authorization: Bearer {token}\r\n\r\n"
        )
    };
    let foreign = &other.keys["b1"];
    let absent = "x".repeat(foreign.len());
    let address = stage.query.http;
    let keys = [request(&login.token, foreign), request(&login.token, &absent)];
    alike(address, "a foreign and an absent key", [&keys[0], &keys[1]], &mut dice).await;

    // A token that was one.
    let revoked = stage.logins[2].clone();
    stage.site.put("account.acct-2", &entry("another")).await;
    until("the revocation is known", PATIENCE, async || {
        (ask_all(&stage.query, &revoked).await.status == 401).then_some(())
    })
    .await;
    let unknown = format!("{}x", &revoked.token[..revoked.token.len() - 1]);
    let tokens = [request(&revoked.token, "*"), request(&unknown, "*")];
    alike(address, "a revoked and an unknown token", [&tokens[0], &tokens[1]], &mut dice).await;
    let near = format!("{}y", &login.token[..login.token.len() - 1]);
    let far = format!("y{}", &login.token[1..]);
    let tokens = [request(&near, "*"), request(&far, "*")];
    alike(address, "a token nearly right and one all wrong", [&tokens[0], &tokens[1]], &mut dice)
        .await;
}

/// An account's entry with that token.
fn entry(token: &str) -> serde_json::Value {
    let sha256 = String::from(SecretHash::of(token));
    json!({"timezone": "UTC", "tokens": [{"id": "t", "sha256": sha256}]})
}

fn removed(token: &str) -> serde_json::Value {
    let mut entry = entry(token);
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
        (0, false, "account.acct-0", entry("another"), 401),
        (1, false, "account.acct-1", removed("token-of-acct-1"), 404),
        (2, true, "bot.acct-2.b1", key, 404),
        (3, true, "bot.acct-3.b1", bot_removed, 404),
    ] {
        let login = &stage.logins[number];
        let path =
            if by_key { format!("{PREFIX}/{}/13/day/1", login.keys["b1"]) } else { ALL.to_owned() };
        let bearer = format!("Bearer {}", login.token);
        stage.ingest.signal("STOP");
        let headers = [("Authorization", bearer.as_str())];
        let ask = get(stage.query.http, &path, &headers);
        let meanwhile = async {
            // By then the entries were looked at, and the question waits for the ingest.
            tokio::time::sleep(Duration::from_millis(500)).await;
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
                let answer = ask_all(&stage.query, &renewed).await;
                (answer.status != 401 && answer.status != 503).then_some(answer)
            });
            assert_eq!(answer.await.status, 200, "the call was not used");
        }
    }
}

/// Revocations that race with requests: one that is sent after the acknowledgement never gets a 200,
/// and one that was on its way ends soon.
#[tokio::test(flavor = "multi_thread")]
async fn after_the_acknowledgement_no_revoked_token_gets_an_answer() {
    let stage = Stage::start("0s", 1).await;
    let mut dice = Dice::new(seed());
    let rounds = number("BOTSTATS_TEST_REVOCATIONS").unwrap_or(REVOCATIONS);
    let (mut answered, mut refused, mut latest) = (0, 0, Duration::ZERO);
    for round in 0..rounds {
        let (token, key) = (format!("token-{round}"), "account.acct-0");
        stage.site.put(key, &entry(&token)).await;
        let login = Login { token: token.clone(), ..stage.logins[0].clone() };
        until("the token is known", PATIENCE, async || {
            (ask_all(&stage.query, &login).await.status == 200).then_some(())
        })
        .await;
        let racing: Vec<_> = (0..4)
            .map(|_| {
                let (address, bearer) = (stage.query.http, format!("Bearer {token}"));
                let wait = Duration::from_micros(dice.below(6_000).unsigned_abs());
                stop::spawn(async move {
                    tokio::time::sleep(wait).await;
                    let sent = clock::monotonic();
                    let answer: Answer = get(address, ALL, &[("Authorization", &bearer)]).await;
                    (sent, clock::monotonic(), answer.status)
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_micros(dice.below(6_000).unsigned_abs())).await;
        let after = if round % 2 == 0 { (entry("another"), 401) } else { (removed(&token), 404) };
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
        assert_eq!(ask_all(&stage.query, &login).await.status, after.1, "round {round}");
    }
    eprintln!(
        "{rounds} revocations: {answered} requests on their way were answered, {refused} were not; the \
         latest answer ended {latest:?} after the acknowledgement"
    );
    assert!(answered > 0 && refused > 0, "nothing raced");
    // The last look is at most 50 ms and a claim's round trip before the answer.
    assert!(latest < Duration::from_secs(2), "{latest:?}");
}
