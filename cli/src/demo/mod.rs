//! The demo: an account with two bots, a month of history, and live traffic. `botstats up --demo`
//! runs it in its own installation, `botstats simulate --live` in an existing one.

mod directory;
mod traffic;

use std::time::Duration;

use anyhow::bail;
use async_nats::Client;
use botstats_common::io::nats::{ConnectError, NatsSettings, Role};
use botstats_common::io::producer::Publisher;
use botstats_common::io::readiness::Readiness;
use botstats_common::io::{clock, stop};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::directory::{Directory, tokens};
use crate::output::{self, Answer};
use crate::{stats, status};

pub(crate) use directory::ACCOUNT;
pub(crate) use traffic::Traffic;

use directory::Tokens;

/// The time limit for the history to be counted and the tokens to be known.
const COUNTED_LIMIT: Duration = Duration::from_secs(120);
/// The interval in which both are checked.
const POLL: Duration = Duration::from_millis(100);

/// A running demo.
pub(crate) struct Demo {
    tokens: Tokens,
    /// The stream's last sequence when the history was published.
    last_sequence: u64,
}

impl Demo {
    /// Makes account and bots if they are absent and new tokens, publishes the history, and starts
    /// the live traffic. Without a page there is no view token.
    pub(crate) async fn start(
        client: &Client,
        nats: &NatsSettings,
        traffic: &Traffic,
        with_page: bool,
    ) -> anyhow::Result<Self> {
        let (account, cast) = directory::cast()?;
        let js = nats.jetstream(client);
        let tokens = directory::make(&Directory::open(&js).await?, &account, with_page).await?;
        let publisher = Publisher::new(nats.connect(Role::Producer).await?);
        let history = traffic::history(&js, &publisher, &cast).await?;
        let last_sequence = history.last_sequence;
        traffic.start(traffic::live(js, publisher, cast, history));
        Ok(Self { tokens, last_sequence })
    }

    pub(crate) fn token(&self) -> &str {
        self.tokens.account.expose_secret()
    }

    /// The link that opens the page, if there is one.
    pub(crate) fn page(&self, url: &str) -> Option<String> {
        self.tokens.view.as_ref().map(|token| tokens::link(url, token))
    }

    /// The curl line for the demo's statistics.
    pub(crate) fn curl(&self, url: &str) -> String {
        let token = self.token();
        format!(
            "curl -H 'Authorization: Bearer {token}' \
             '{url}/analytics/statistics/account/*/0,2,3,8,10,13/day/7'"
        )
    }

    /// Waits until the history is counted and the query at that URL knows the tokens, so that link
    /// and curl line work. Without a URL, waits only for the history.
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
                Some(url) if counted => self.are_known(url).await,
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

    /// Sends bad requests on purpose: a known token gets a 400, which uses no call.
    async fn are_known(&self, url: &str) -> bool {
        let refused = async |path: &str, token: &SecretString| {
            stats::get(format!("{url}{path}/*/none/day/1"), token.clone(), stats::JSON)
                .await
                .is_ok_and(|reply| reply.status == 400)
        };
        refused("/analytics/statistics/account", &self.tokens.account).await
            && match &self.tokens.view {
                Some(token) => refused("/dashboard/data", token).await,
                None => true,
            }
    }
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
        let demo = Demo::start(&client, nats, &traffic, true).await?;
        demo.wait_until_counted(&client, None).await?;
        let (page, curl) = (demo.page(url).unwrap_or_default(), demo.curl(url));
        let told = if as_json {
            json!({"account": ACCOUNT, "token": demo.token(), "url": url, "page": page, "curl": curl})
                .to_string()
        } else {
            format!(
                "Made-up traffic of account {ACCOUNT} runs until SIGTERM. To look at it, open\n\n  \
                 {page}\n\nThe same numbers for a program:\n\n  {curl}\n"
            )
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
