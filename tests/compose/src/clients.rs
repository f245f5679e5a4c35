//! Publishers and callers outside the containers, on ports of this machine.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use botstats_common::io::clock;
use botstats_common::io::nats::jetstream;
use serde_json::Value;
use tokio::time::sleep;

use super::stack::Stack;
use botstats_tests::harness::{
    Answer, Login, PATIENCE, get, head_as, head_of, send, statuses, stored, until,
};
use botstats_tests::model::{Directory, Model, Question, text_of};

/// Milliseconds in a quarter of an hour, on which alone an answer depends.
const QUARTER_MS: i64 = 15 * 60_000;
/// How long an answer may take while containers come and go.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// All messages of a month, in one row for each bot and channel.
pub(super) const RECEIVED: &str = "/analytics/statistics/account/*/13/year/30";
/// How long until something works again after a fault: docker restarts a container, both reconnect.
pub(super) const RECOVERY: Duration = Duration::from_secs(60);
/// An answer that was begun and did not come to its end.
pub(super) const CUT: io::ErrorKind = io::ErrorKind::InvalidData;
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection to NATS as a role of `docs/deploy/compose/nats/accounts.conf`.
pub(super) async fn connect(port: u16, role: &str, password: String) -> async_nats::Client {
    // The programs' answers go to the admin's inbox.
    let inbox = if role == "operator" { "admin" } else { role };
    async_nats::ConnectOptions::new()
        .user_and_password(role.to_owned(), password)
        .custom_inbox_prefix(format!("_INBOX_{inbox}"))
        .retry_on_initial_connect()
        .connect(format!("nats://127.0.0.1:{port}"))
        .await
        .expect("a connection")
}

/// Everything that the stream holds now, once all ingests have applied it.
pub(super) async fn all_applied(operator: &async_nats::Client, ingests: usize) -> Model {
    let messages = stored(&jetstream(operator, None)).await;
    let last = messages.last().map_or(0, |message| message.sequence);
    eprintln!("    waiting for {ingests} ingest to apply sequence {last}");
    until(&format!("{ingests} ingest at sequence {last}"), RECOVERY, async || {
        let found = statuses(operator).await;
        let applied = found.iter().filter_map(|one| one.ingest.as_ref());
        (applied.filter(|ingest| ingest.sequence >= last).count() == ingests).then_some(())
    })
    .await;
    Model::of(&messages)
}

/// Asks once.
pub(super) async fn ask(address: SocketAddr, token: &str, path: &str) -> io::Result<Answer> {
    let answer = send(address, &head_as(token, path, &[]), ANSWER_LIMIT).await?;
    if answer.whole { Ok(answer) } else { Err(CUT.into()) }
}

/// Asks until there is a 200 in the same quarter of an hour as the question; gives that moment with
/// it. What else is allowed on the way is a used call and, while something recovers, a 503.
pub(super) async fn answered(address: SocketAddr, token: &str, path: &str) -> (i64, Answer) {
    let quarter = |ms: i64| ms.div_euclid(QUARTER_MS);
    until(&format!("a 200 for {path}"), RECOVERY, async || {
        let before_ms = clock::now_ms();
        let answer = ask(address, token, path).await.ok()?;
        match answer.status {
            200 => {
                let same = quarter(before_ms) == quarter(clock::now_ms());
                return same.then_some((before_ms, answer));
            }
            429 => {
                let wait = answer.retry_after().expect("Retry-After");
                sleep(Duration::from_secs(wait)).await;
            }
            503 => sleep(PAUSE).await,
            _ => panic!("{answer:?}"),
        }
        None
    })
    .await
}

/// Checks that the answer is the model's, to the byte.
pub(super) async fn equals(
    address: SocketAddr,
    model: &Model,
    login: &Login,
    question: &Question,
    directory: &Directory,
) {
    let (now_ms, answer) = answered(address, &login.token, &login.path(question)).await;
    let wanted = text_of(&model.rows(&Question { now_ms, ..question.clone() }, directory));
    let got = answer.text();
    assert!(got == wanted, "{question:?} at {now_ms}: {got}\nthe model says\n{wanted}");
}

/// The sum of all rows' counts.
pub(super) fn counted(rows: &Value) -> u64 {
    rows.as_array().into_iter().flatten().filter_map(|row| row["Count"].as_u64()).sum()
}

/// Waits until a query service answers at all: 401, as nobody says who they are.
pub(super) async fn listens(address: SocketAddr) {
    until(&format!("somebody at {address}"), PATIENCE, async || {
        let answer = send(address, &head_of("/analytics", &[]), ANSWER_LIMIT).await.ok()?;
        (answer.status > 0).then_some(())
    })
    .await;
}

/// Whether somebody answers HTTP there.
pub(super) async fn is_open(address: SocketAddr) -> bool {
    send(address, &head_of("/", &[]), Duration::from_secs(2)).await.is_ok()
}

/// The described API, which needs no token.
pub(super) async fn describes_itself(address: SocketAddr) -> bool {
    get(address, "/openapi.json", &[]).await.status == 200
}

/// Waits until all replicas of a query count `wanted` events of each account.
pub(super) async fn all_are_counted(stack: &Stack, query: &str, tokens: &[String], wanted: usize) {
    for address in stack.addresses(query).await {
        for token in tokens {
            until(&format!("an answer with {wanted} events"), RECOVERY, async || {
                let (_, answer) = answered(address, token, RECEIVED).await;
                let now = usize::try_from(counted(&answer.json())).ok()?;
                assert!(now <= wanted, "{now} of {wanted} events are counted");
                (now == wanted).then_some(())
            })
            .await;
        }
    }
}
