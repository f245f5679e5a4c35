//! A small installation in which everything runs and some accounts have some events.

use std::collections::BTreeMap;

use botstats_common::io::clock;
use serde_json::{Value, json};

use super::{Answer, Login, Outgoing, PATIENCE, Process, Query, Site, publish, stored};
use crate::model::{ALL, Directory, GroupMode, Model, Question};

/// nats-server, one ingest, one query, and accounts that have events.
pub struct Stage {
    pub query: Query,
    pub ingest: Process,
    /// The accounts' logins, account `acct-0` first.
    pub logins: Vec<Login>,
    /// Names and zone of every account.
    pub directory: Directory,
    // Last: the others use it.
    /// Everything below.
    pub site: Site,
}

impl Stage {
    /// Starts everything with that throttle window, and waits until it answers.
    pub async fn start(window: &str, accounts: usize) -> Self {
        Self::start_in(Site::start(window).await, accounts).await
    }

    /// The same, with a throttle window of bots' calls, too.
    pub async fn start_with(window: &str, of_bots: &str, accounts: usize) -> Self {
        let mut site = Site::start(window).await;
        site.more.push(("BOTSTATS_BOT_THROTTLE_WINDOW", of_bots.to_owned()));
        Self::start_in(site, accounts).await
    }

    /// The same at a site of the caller.
    pub async fn start_in(site: Site, accounts: usize) -> Self {
        let ingest = site.ingest("ingest");
        let text = |text: &str| text.to_owned();
        let directory = Directory {
            timezone: text("Asia/Kathmandu"),
            bots: BTreeMap::from([(text("b1"), text("Pizza, \"hot\""))]),
            channels: BTreeMap::from([((text("b1"), text("web")), text("Web"))]),
        };
        let mut logins = Vec::new();
        for number in 0..accounts {
            let account = format!("acct-{number}");
            logins.push(site.add_account(&account, &directory, &["b1", "b2"]).await);
            publish(&site.js, some_events(&account)).await;
        }
        let query = site.query("query").await;
        query.ready().await;
        site.applied(PATIENCE).await;
        Self { query, ingest, logins, directory, site }
    }

    /// Waits until everything is applied, and checks that the answer to everything about account
    /// `acct-0` is the model's for what the stream holds now.
    pub async fn equals_the_model(&self, mode: GroupMode, days: u32) {
        self.site.applied(PATIENCE).await;
        let model = Model::of(&stored(&self.site.js).await);
        let question = Question::of_all("acct-0", mode, days);
        self.query.check(&model, &self.logins[0], &question, &self.directory).await;
    }

    /// Publishes an event of an account in each of `channels` channels, and waits until they are
    /// applied. With a dozen channels an answer to [`large`] is larger than what sockets hold for a
    /// client.
    pub async fn add_channels(&self, account: &str, channels: usize) {
        let event = |channel| {
            let place = [account, "b1", &format!("channel-{channel}")];
            event(place, "message.received", clock::now_ms(), "wide", &json!({}))
        };
        publish(&self.site.js, (0..channels).map(event).collect::<Vec<_>>()).await;
        self.site.applied(PATIENCE).await;
    }

    /// Asks for all metrics of all bots of the last two days.
    pub async fn ask(&self, login: &Login) -> Answer {
        self.query.ask_all(&login.token).await
    }
}

/// The tokens of the bot `b1` of each account, in the order of the logins.
pub fn bot_tokens(stage: &Stage) -> Vec<String> {
    stage.logins.iter().map(|login| login.bot_tokens["b1"].clone()).collect()
}

/// The path of the largest question: every hour of thirty days for every channel and metric.
pub fn large() -> String {
    format!("{}?fill=zero", ALL.replace("/day/2", "/hour/30"))
}

pub fn event(
    [account, bot, channel]: [&str; 3],
    name: &str,
    time_ms: i64,
    id: &str,
    data: &Value,
) -> Outgoing {
    let mut data = data.clone();
    for (field, usual) in [("conversationid", "c1"), ("userid", "u1")] {
        if data.get(field).is_none() {
            data[field] = usual.into();
        }
    }
    let envelope = json!({
        "specversion": "1.0",
        "id": id,
        "source": "/test",
        "type": format!("io.botstats.{name}.v1"),
        "time": clock::rfc3339_ms(time_ms),
        "data": data,
    });
    let headers = vec![("Content-Type".to_owned(), "application/cloudevents+json".to_owned())];
    (
        format!("botstats.events.{account}.{bot}.{channel}"),
        headers,
        envelope.to_string().into_bytes(),
    )
}

/// Events of the last minutes that give most metrics a sample.
fn some_events(account: &str) -> Vec<Outgoing> {
    let now_ms = clock::now_ms();
    let of = |bot, name, seconds_ago: i64, data: Value| {
        let id = format!("{name}-{seconds_ago}");
        event([account, bot, "web"], name, now_ms - seconds_ago * 1_000, &id, &data)
    };
    vec![
        of("b1", "message.received", 100, json!({})),
        of("b1", "message.sent", 99, json!({"fallback": true})),
        of("b1", "nlp.evaluated", 98, json!({"detected": true})),
        of("b1", "integration.called", 97, json!({"kind": "api", "ok": false})),
        of("b1", "operator.requested", 90, json!({})),
        of("b1", "operator.joined", 77, json!({})),
        of("b1", "operator.message", 70, json!({})),
        of("b1", "operator.released", 61, json!({})),
        of("b1", "tag.set", 60, json!({"tag": "vip"})),
        of("b2", "message.received", 50, json!({})),
        of("b2", "goal.reached", 40, json!({"goal": "order"})),
    ]
}
