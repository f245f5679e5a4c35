//! The demo: an account with two bots, a week of history, and live traffic. `botstats up --demo`
//! runs it in its own installation, `botstats simulate --live` in an existing one.

use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::Client;
use async_nats::jetstream::Context;
use botstats_common::directory::Expires;
use botstats_common::ids::{Account, Bot, Channel};
use botstats_common::io::logging::RateLimit;
use botstats_common::io::nats::{ConnectError, NatsSettings, Role};
use botstats_common::io::producer::{Message, Progress, PublishError, Publisher};
use botstats_common::io::readiness::Readiness;
use botstats_common::io::{clock, stop};
use botstats_common::names::EVENTS_STREAM;
use botstats_common::secret::{self, SecretHash, SecretKind};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::directory::rules::{self, AccountChange, BotChange};
use crate::directory::{Directory, tokens};
use crate::output::{self, Answer, counted};
use crate::simulate::{Cast, CastBot, Event, Simulation, Spread};
use crate::{stats, status};

/// The account's id.
pub(crate) const ACCOUNT: &str = "demo";
/// The bots: id, name, share of the traffic.
const BOTS: [(&str, &str, u64); 2] = [("pizza", "Pizza Palace", 3), ("taxi", "City Taxi", 2)];
/// The channels of each bot: id, name, share.
const CHANNELS: [(&str, &str, u64); 3] =
    [("web", "Web", 5), ("whatsapp", "WhatsApp", 3), ("telegram", "Telegram", 1)];
/// The prefix of the ids of tokens that the demo made; the next start of the demo revokes these.
const TOKEN_PREFIX: &str = "demo-";

/// The length of the history, in milliseconds: a week.
const HISTORY_MS: i64 = 7 * 24 * 3_600_000;
/// The shortest gap at the end of the history that is filled, in milliseconds.
const GAP_MS: i64 = 5 * 60_000;
/// The interval of the history's events, in milliseconds: 6,000 events a week.
const MS_PER_EVENT: i64 = HISTORY_MS / 6_000;
/// Live events a second.
const LIVE_PER_SECOND: i64 = 3;
/// The length of each piece in which live traffic is made, in milliseconds.
const LIVE_SPAN_MS: i64 = 3_600_000;
/// The live traffic begins this long before now, in milliseconds, so that conversations are in
/// progress at once.
const LIVE_RUN_UP_MS: i64 = 10 * 60_000;
/// The most live events that wait to be sent.
const LIVE_QUEUE: usize = 100;
/// Pause before the live traffic goes on after an error.
const LIVE_PAUSE: Duration = Duration::from_secs(2);
/// The time limit for the history to be counted and the token to be known.
const COUNTED_LIMIT: Duration = Duration::from_secs(120);
/// The interval in which both are checked.
const POLL: Duration = Duration::from_millis(100);
/// The time that the traffic has to stop.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// A running demo.
pub(crate) struct Demo {
    token: SecretString,
    /// The stream's last sequence when the history was published.
    last_sequence: u64,
}

/// The live traffic; it must be stopped before the services that take it.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    token: CancellationToken,
    tasks: TaskTracker,
}

impl Traffic {
    fn start(&self, traffic: impl Future<Output = ()> + Send + 'static) {
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

impl Demo {
    /// Makes account and bots if they are absent and a new token, publishes the history, and starts
    /// the live traffic.
    pub(crate) async fn start(
        client: &Client,
        nats: &NatsSettings,
        traffic: &Traffic,
    ) -> anyhow::Result<Self> {
        let (account, cast) = cast()?;
        let token =
            make_directory(&Directory::open(&nats.jetstream(client)).await?, &account).await?;
        let publisher = Publisher::new(nats.connect(Role::Producer).await?);
        let last_sequence = history(&nats.jetstream(client), &publisher, &cast).await?;
        traffic.start(async move { live_traffic(&publisher, &cast).await });
        Ok(Self { token, last_sequence })
    }

    pub(crate) fn token(&self) -> &str {
        self.token.expose_secret()
    }

    /// Waits until the history is counted and the query at that URL knows the token, so that the
    /// curl line works. Without a URL, waits only for the history.
    pub(crate) async fn wait_until_counted(
        &self,
        client: &Client,
        url: Option<&str>,
    ) -> anyhow::Result<()> {
        let started = clock::monotonic();
        loop {
            let counted = status::ask(client).await?.iter().any(|status| {
                status.ready
                    && status.ingest.as_ref().is_some_and(|i| i.sequence >= self.last_sequence)
            });
            let known = match url {
                Some(url) if counted => self.is_known(url).await,
                _ => true,
            };
            if counted && known {
                return Ok(());
            }
            if started.elapsed() >= COUNTED_LIMIT {
                bail!("the demo's history was not counted within {} s", COUNTED_LIMIT.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends a bad request on purpose: a known token gets a 400, which uses no call.
    async fn is_known(&self, url: &str) -> bool {
        let wrong = format!("{url}/analytics/statistics/account/*/none/day/1");
        stats::get(wrong, self.token.clone(), stats::JSON)
            .await
            .is_ok_and(|reply| reply.status == 400)
    }
}

/// The curl line for the demo's statistics.
pub(crate) fn curl(url: &str, token: &str) -> String {
    format!(
        "curl -H 'Authorization: Bearer {token}' \
         '{url}/analytics/statistics/account/*/0,2,3,8,10,13/day/7'"
    )
}

/// Runs the demo on an existing installation until a stop signal. `url` is the endpoint for the
/// person who reads the answer; it need not be reachable from here.
pub(crate) async fn live(nats: &NatsSettings, url: &str, as_json: bool) -> anyhow::Result<Answer> {
    let stop = CancellationToken::new();
    stop::on_signal(&stop)?;
    let nothing = Answer::new("", "").silent();
    let client = match nats.connect_when_there(Role::Admin, &Readiness::default(), &stop).await {
        Ok(client) => client,
        Err(ConnectError::Stopped) => return Ok(nothing),
        Err(error) => return Err(error.into()),
    };
    let traffic = Traffic::default();
    let working = async {
        let demo = Demo::start(&client, nats, &traffic).await?;
        demo.wait_until_counted(&client, None).await?;
        let curl = curl(url, demo.token());
        let told = if as_json {
            json!({"account": ACCOUNT, "token": demo.token(), "url": url, "curl": curl}).to_string()
        } else {
            format!("Made-up traffic of account {ACCOUNT} runs until SIGTERM. Ask:\n\n  {curl}\n")
        };
        output::print_in_thread(told).await;
        std::future::pending::<anyhow::Result<()>>().await
    };
    let ended = tokio::select! {
        () = stop.cancelled() => Ok(()),
        failed = working => failed,
    };
    traffic.stop().await;
    ended.map(|()| nothing)
}

fn cast() -> anyhow::Result<(Account, Cast)> {
    let account: Account = ACCOUNT.parse()?;
    let channels = CHANNELS
        .iter()
        .map(|(id, _, share)| Ok((id.parse::<Channel>()?, *share)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let bots = BOTS
        .iter()
        .map(|(id, _, share)| {
            let bot: Bot = id.parse()?;
            Ok(CastBot { account: account.clone(), bot, channels: channels.clone(), share: *share })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok((account, Cast::new(bots)))
}

async fn make_directory(directory: &Directory, account: &Account) -> anyhow::Result<SecretString> {
    let (token, entry) = tokens::new_token(TOKEN_PREFIX, clock::now_ms(), Expires::Never)?;
    directory
        .change_account(account, |current| match current {
            // Tokens that a person made for this account stay.
            Some(mut there) if !there.removed => {
                there.tokens.retain(|token| !token.id.starts_with(TOKEN_PREFIX));
                rules::add_token(Some(there), entry.clone())
            }
            absent => {
                let change = AccountChange { name: Some(Some("Demo".to_owned())), timezone: None };
                rules::add_account(absent, &change, entry.clone(), true)
            }
        })
        .await?;
    let channels: BotChange = BotChange {
        name: None,
        channels: CHANNELS
            .iter()
            .map(|(id, name, _)| Ok((id.parse()?, Some((*name).to_owned()))))
            .collect::<anyhow::Result<_>>()?,
    };
    for (id, name, _) in BOTS {
        let bot: Bot = id.parse()?;
        // Nobody is told this key: `botstats key rotate demo` makes one that somebody has.
        let key = SecretHash::of(secret::generate(SecretKind::ApiKey)?.expose_secret());
        let change = BotChange { name: Some(Some(name.to_owned())), ..channels.clone() };
        directory
            .change_bot(account, &bot, |current| match current {
                Some(there) if !there.removed => Ok(there),
                absent => rules::add_bot(absent, &change, key, true),
            })
            .await?;
    }
    Ok(token)
}

/// Publishes the missing part of the last week; returns the stream's last sequence after that.
async fn history(js: &Context, publisher: &Publisher, cast: &Cast) -> anyhow::Result<u64> {
    let mut stream = js.get_stream(EVENTS_STREAM).await?;
    let now_ms = clock::now_ms();
    let subjects = format!("botstats.events.{ACCOUNT}.>");
    let last = stream.get_last_raw_message_by_subject(&subjects).await.ok();
    let last_ms = last.map_or(0, |m| m.time.unix_timestamp_nanos() / 1_000_000);
    let start_ms = i64::try_from(last_ms)?.max(now_ms - HISTORY_MS);
    if now_ms - start_ms >= GAP_MS {
        let events = u64::try_from((now_ms - start_ms) / MS_PER_EVENT)?;
        let seed = u64::try_from(now_ms)?;
        let spread = Spread::DayAndNight;
        let simulation = Simulation::of(cast.clone(), start_ms, now_ms, events, seed, spread);
        tracing::info!("publishing {} of made-up history", counted(events, "event"));
        let messages = simulation.map(message);
        let published = publisher.publish_all(messages, warn_refused).await;
        published.context("the demo's history")?;
    }
    Ok(stream.info().await?.state.last_sequence)
}

static PAUSED: RateLimit = RateLimit::new();

async fn live_traffic(publisher: &Publisher, cast: &Cast) {
    loop {
        if let Err(error) = live_span(publisher, cast).await {
            if let Some(suppressed) = PAUSED.due(&error.to_string()) {
                tracing::warn!("the demo's traffic pauses: {error}{suppressed}");
            }
            tokio::time::sleep(LIVE_PAUSE).await;
        }
    }
}

/// Publishes an hour of traffic, each event at its time.
async fn live_span(publisher: &Publisher, cast: &Cast) -> Result<(), PublishError> {
    let now_ms = clock::now_ms();
    let (start_ms, end_ms) = (now_ms - LIVE_RUN_UP_MS, now_ms + LIVE_SPAN_MS);
    let events = u64::try_from((end_ms - start_ms) / 1_000 * LIVE_PER_SECOND).unwrap_or_default();
    let seed = u64::try_from(now_ms).unwrap_or_default();
    let simulation = Simulation::of(cast.clone(), start_ms, end_ms, events, seed, Spread::Even);
    let (sender, receiver) = mpsc::channel(LIVE_QUEUE);
    let feeding = async move {
        for event in simulation.skip_while(|event| event.time_ms < now_ms) {
            let wait = u64::try_from(event.time_ms - clock::now_ms()).unwrap_or_default();
            tokio::time::sleep(Duration::from_millis(wait)).await;
            if sender.send(message(event)).await.is_err() {
                break;
            }
        }
    };
    let (published, ()) = tokio::join!(publisher.publish(receiver, warn_refused), feeding);
    published.map(drop)
}

fn message(event: Event) -> Message {
    Message { tag: 0, subject: event.subject, payload: event.payload }
}

fn warn_refused(progress: &Progress) {
    for refused in &progress.refused {
        tracing::warn!("a made-up event was refused: {}", refused.reason);
    }
}
