//! The demo's traffic: a history, then live events.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::Context;
use botstats_common::io::clock;
use botstats_common::io::logging::RateLimit;
use botstats_common::io::producer::{Message, Progress, Publisher};
use botstats_common::names::EVENTS_STREAM;
use botstats_common::quarter::DAY_MS;
use futures::TryStreamExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::directory::ACCOUNT;
use crate::output::counted;
use crate::simulate::{Cast, Event, MAX_DAYS, Simulation, Spread};

/// The length of the history, in milliseconds: as long as ingest accepts, so that a month can be
/// compared with the days before it.
const HISTORY_MS: i64 = MAX_DAYS as i64 * DAY_MS;
/// The interval of the history's events, in milliseconds: 3,000 events a day. More would make the
/// first start slow.
const MS_PER_EVENT: i64 = DAY_MS / 3_000;
/// The interval of live events, in milliseconds: a few conversations are always open, and today
/// does not soon dwarf the days before it.
const LIVE_MS_PER_EVENT: i64 = 3_000;
/// The length of each piece in which live traffic is made, in milliseconds.
const LIVE_SPAN_MS: i64 = DAY_MS;
/// The live traffic begins this long before now, in milliseconds: longer than the idle timeout, so
/// that as many conversations are open at once as later.
const RUN_UP_MS: i64 = 40 * 60_000;
/// The mean number of events after which a channel of the simulation has a new user.
const EVENTS_PER_USER: u64 = 26;
/// The most live events that wait to be sent.
const LIVE_QUEUE: usize = 100;
/// Pause before the live traffic goes on after an error.
const LIVE_PAUSE: Duration = Duration::from_secs(2);
/// The time that the traffic has to stop.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// The live traffic; it must be stopped before the services that take it.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Traffic {
    pub(super) fn start(&self, traffic: impl Future<Output = ()> + Send + 'static) {
        let token = self.token.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = traffic => {}
            }
        });
    }

    pub(crate) async fn stop(&self) {
        self.token.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_LIMIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("the demo's traffic did not stop in time");
        }
    }
}

/// What the stream has of the demo.
struct Before {
    /// When the last event was stored, in Unix milliseconds; 0 if there is none.
    last_ms: i64,
    /// About how many users each channel of the cast has seen, in the cast's order.
    users: Vec<u64>,
}

async fn before(js: &Context, cast: &Cast) -> anyhow::Result<Before> {
    let stream = js.get_stream(EVENTS_STREAM).await?;
    let subjects = format!("botstats.events.{ACCOUNT}.>");
    let last = stream.get_last_raw_message_by_subject(&subjects).await.ok();
    let last_ms = last.map_or(0, |m| m.time.unix_timestamp_nanos() / 1_000_000);
    let counts: HashMap<String, usize> =
        stream.info_with_subjects(&subjects).await?.try_collect().await?;
    let events = |subject: String| counts.get(&subject).map_or(0, |count| *count);
    let users =
        cast.subjects().map(|subject| Ok(u64::try_from(events(subject))? / EVENTS_PER_USER));
    Ok(Before { last_ms: i64::try_from(last_ms)?, users: users.collect::<anyhow::Result<_>>()? })
}

/// The history that was published.
pub(super) struct History {
    /// The stream's last sequence.
    pub(super) last_sequence: u64,
    /// The live traffic goes on from here, in Unix milliseconds.
    end_ms: i64,
}

/// Publishes the part of the history that the stream does not have.
pub(super) async fn history(
    js: &Context,
    publisher: &Publisher,
    cast: &Cast,
) -> anyhow::Result<History> {
    let before = before(js, cast).await?;
    let now_ms = clock::now_ms();
    let start_ms = before.last_ms.max(now_ms - HISTORY_MS);
    let end_ms = start_ms.max(now_ms - RUN_UP_MS);
    let events = u64::try_from((end_ms - start_ms) / MS_PER_EVENT)?;
    if events > 0 {
        let seed = u64::try_from(now_ms)?;
        let spread = Spread::DayAndNight;
        let simulation = Simulation::of(cast.clone(), start_ms, end_ms, events, seed, spread)
            .after_users(before.users);
        tracing::info!("publishing {} of made-up history", counted(events, "event"));
        let published = publisher.publish_all(simulation.map(message), warn_refused).await;
        published.context("the demo's history")?;
    }
    let stream = js.get_stream(EVENTS_STREAM).await?;
    Ok(History { last_sequence: stream.cached_info().state.last_sequence, end_ms })
}

static PAUSED: RateLimit = RateLimit::new();

/// Publishes live traffic for ever, from the end of the history on.
pub(super) async fn live(js: Context, publisher: Publisher, cast: Cast, history: History) {
    let mut from_ms = Some(history.end_ms);
    loop {
        if let Err(error) = live_span(&js, &publisher, &cast, from_ms.take()).await {
            if let Some(suppressed) = PAUSED.due(&error.to_string()) {
                tracing::warn!("the demo's traffic pauses: {error:#}{suppressed}");
            }
            tokio::time::sleep(LIVE_PAUSE).await;
        }
    }
}

/// Publishes a day of traffic, each event at its time. It begins with the events since `from_ms`,
/// by default since the last one, of at most [`RUN_UP_MS`].
async fn live_span(
    js: &Context,
    publisher: &Publisher,
    cast: &Cast,
    from_ms: Option<i64>,
) -> anyhow::Result<()> {
    let before = before(js, cast).await?;
    let now_ms = clock::now_ms();
    let (start_ms, end_ms) = (now_ms - RUN_UP_MS, now_ms + LIVE_SPAN_MS);
    let from_ms = from_ms.unwrap_or(before.last_ms);
    let events = u64::try_from((end_ms - start_ms) / LIVE_MS_PER_EVENT)?;
    let seed = u64::try_from(now_ms)?;
    let simulation = Simulation::of(cast.clone(), start_ms, end_ms, events, seed, Spread::Even)
        .after_users(before.users);
    let (sender, receiver) = mpsc::channel(LIVE_QUEUE);
    let feeding = async move {
        for event in simulation.skip_while(|event| event.time_ms < from_ms) {
            let wait = u64::try_from(event.time_ms - clock::now_ms()).unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(wait)).await;
            if sender.send(message(event)).await.is_err() {
                break;
            }
        }
    };
    let (published, ()) = tokio::join!(publisher.publish(receiver, warn_refused), feeding);
    Ok(published.map(drop)?)
}

fn message(event: Event) -> Message {
    Message { tag: 0, subject: event.subject, payload: event.payload }
}

fn warn_refused(progress: &Progress) {
    for refused in &progress.refused {
        tracing::warn!("a made-up event was refused: {}", refused.reason);
    }
}
