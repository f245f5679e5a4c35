//! Clients that ask for their accounts' statistics all the time while events are published, and
//! afterwards a judgement of every answer.
//!
//! An answer must count what was stored before its `Data-As-Of`, and may count what was stored
//! before it arrived. The server's time stamps and the clients' are of one machine's clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use botstats_common::io::{clock, stop};
use futures::future::join_all;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::{
    Login, Outgoing, PATIENCE, Query, Site, event, head_as, held_of, publish, publish_stubbornly,
    send, until,
};
use crate::model::{Directory, Model, Verdict};

/// How many ask at a time, each about an account of its own: calls of one account wait for each
/// other.
const READERS: usize = 4;
/// How often each asks, if answers come sooner.
const PACE: Duration = Duration::from_millis(10);
/// How often an event of each account is published.
const EVENT_PACE: Duration = Duration::from_millis(50);
/// Events of each account that are there before.
const HISTORY: usize = 1_000;
/// Their channels: they make an answer large.
const CHANNELS: usize = 200;
/// Messages received, by bot, channel and hour.
const PATH: &str = "/analytics/statistics/account/*/13/hour/2";

/// An answer, all times in Unix milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    pub account: usize,
    pub asked_ms: i64,
    /// When the whole answer was there.
    pub got_ms: i64,
    /// The status code; 0 if no whole answer came.
    pub status: u16,
    pub as_of_ms: i64,
    /// The messages received that it counts.
    pub count: usize,
}

impl Seen {
    /// Milliseconds from question to answer.
    pub fn took_ms(&self) -> i64 {
        self.got_ms - self.asked_ms
    }
}

/// Clients at work, and a publisher.
pub struct Readers {
    to: watch::Sender<SocketAddr>,
    stop: CancellationToken,
    answered: Arc<AtomicUsize>,
    readers: Vec<JoinHandle<Vec<Seen>>>,
    publisher: JoinHandle<()>,
    js: jetstream::Context,
}

impl Readers {
    /// Publishes a history, waits until it is counted, and starts asking that query service.
    pub async fn start(site: &Site, query: &Query) -> Self {
        let mut logins = Vec::new();
        let now_ms = clock::now_ms();
        for account in 0..READERS {
            let nameless = Directory::nameless("UTC");
            logins.push(site.add_account(&name(account), &nameless, &["b1"]).await);
            let history = (0..HISTORY).map(|n| {
                let quarters = i64::try_from(n / CHANNELS).expect("a small number");
                let time_ms = now_ms - quarters * 15 * 60_000;
                received(account, n % CHANNELS, time_ms, &format!("old-{n}"))
            });
            publish(&site.js, history).await;
        }
        site.applied(PATIENCE).await;
        query.ready().await;

        let (to, address) = watch::channel(query.http);
        let (stop, answered) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        let reader = |(account, login)| {
            let (to, stop) = (address.clone(), stop.clone());
            stop::spawn(read(to, account, login, stop, Arc::clone(&answered)))
        };
        let readers = logins.into_iter().enumerate().map(reader).collect();
        let publisher = stop::spawn(publish_on(site.js.clone(), stop.clone()));
        Self { to, stop, answered, readers, publisher, js: site.js.clone() }
    }

    /// Asks another query service from now on.
    pub fn ask(&self, query: &Query) {
        self.to.send_replace(query.http);
    }

    /// Waits for this number of further answers.
    pub async fn more(&self, answers: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + answers;
        until(&format!("{answers} more answers"), PATIENCE, async || {
            (self.answered.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .await;
    }

    /// Stops, checks that each answer is a right 200, and gives them in order of asking.
    pub async fn finish(self) -> Vec<Seen> {
        self.finish_among(&[200]).await
    }

    /// The same, but an answer may also have another of these status codes.
    pub async fn finish_among(self, statuses: &[u16]) -> Vec<Seen> {
        self.stop.cancel();
        let mut all = Vec::new();
        for reader in self.readers {
            all.extend(reader.await.expect("a reader"));
        }
        self.publisher.await.expect("the publisher");
        all.sort_by_key(|seen| seen.asked_ms);
        let bad: Vec<&Seen> = all.iter().filter(|seen| !statuses.contains(&seen.status)).collect();
        assert!(bad.is_empty(), "{} of {} answers, such as {:?}", bad.len(), all.len(), bad[0]);

        for account in 0..READERS {
            let messages = held_of(&self.js, &name(account)).await;
            let verdicts = Model::of(&messages).verdicts;
            let accepted = messages.iter().filter(|m| verdicts[&m.sequence] == Verdict::Accepted);
            let stored: Vec<i64> = accepted.map(|message| message.stored_ns / 1_000_000).collect();
            let given = all.iter().filter(|seen| seen.status == 200);
            for seen in given.filter(|seen| seen.account == account) {
                let least = stored.partition_point(|ms| *ms < seen.as_of_ms).max(HISTORY);
                let most = stored.partition_point(|ms| *ms <= seen.got_ms);
                assert!(
                    (least..=most).contains(&seen.count),
                    "{seen:?}: {least} were stored before, {most} in all"
                );
            }
        }
        all
    }
}

fn name(account: usize) -> String {
    format!("read-{account}")
}

/// True for subjects of the events that are published here.
pub(super) fn is_of_readers(subject: &str) -> bool {
    subject.contains(".read-")
}

fn received(account: usize, channel: usize, time_ms: i64, id: &str) -> Outgoing {
    let place = [&name(account), "b1", &format!("channel-{channel}")];
    event(place, "message.received", time_ms, id, &json!({}))
}

async fn publish_on(js: jetstream::Context, stop: CancellationToken) {
    let mut pace = interval(EVENT_PACE);
    for number in 0.. {
        pace.tick().await;
        if stop.is_cancelled() {
            return;
        }
        let new = |account| {
            received(account, number % CHANNELS, clock::now_ms(), &format!("new-{number}"))
        };
        // A split may be just moving an account to another stream.
        let events: Vec<Outgoing> = (0..READERS).map(new).collect();
        join_all(events.iter().map(|event| publish_stubbornly(&js, event, PATIENCE))).await;
    }
}

async fn read(
    to: watch::Receiver<SocketAddr>,
    account: usize,
    login: Login,
    stop: CancellationToken,
    answered: Arc<AtomicUsize>,
) -> Vec<Seen> {
    let head = head_as(&login.token, PATH, &[]);
    let mut pace = interval(PACE);
    let mut all = Vec::new();
    while !stop.is_cancelled() {
        pace.tick().await;
        let address = *to.borrow();
        let asked_ms = clock::now_ms();
        let answer = send(address, &head, PATIENCE).await;
        let got_ms = clock::now_ms();
        let mut seen = Seen { account, asked_ms, got_ms, status: 0, as_of_ms: 0, count: 0 };
        if let Ok(answer) = answer
            && answer.whole
        {
            seen.status = answer.status;
            if seen.status == 200 {
                let as_of = answer.header("data-as-of").expect("a Data-As-Of");
                let as_of: jiff::Timestamp = as_of.parse().expect("a time");
                seen.as_of_ms = as_of.as_millisecond();
                let rows = answer.json();
                let rows = rows.as_array().expect("rows").iter();
                let count: u64 = rows.map(|row| row["Count"].as_u64().expect("a count")).sum();
                seen.count = count.try_into().expect("a count");
            }
        }
        all.push(seen);
        answered.fetch_add(1, Ordering::Relaxed);
    }
    all
}
