//! What goes on now: the pairs of a bot and a channel with open conversations.
//!
//! *Invariants*: rows are ordered by (BotName, BotId, ChannelName, ChannelId), by code points. Each
//! open conversation waits, has an operator, or (the rest) the bot.

use std::sync::Arc;
use std::time::{Duration, Instant};

use botstats_common::ids::{Bot, Channel};
use botstats_common::io::clock;
use botstats_common::wire::Pair;
use bytes::Bytes;
use http::Response;
use serde::Serialize;

use super::shared::Weigh;
use super::viewer::{Seen, Viewer};
use super::{Dashboard, json};
use crate::answer::Names;
use crate::answer::budget::Reservation;
use crate::answer::overview::Overview;
use crate::app::App;
use crate::deadlines::WAIT_LIMIT;
use crate::gather::Subject;
use crate::http::{Body, Request};
use crate::problem::Problem;

/// An overview is given to equal viewers for half a second. A stream asks every 2 s, so it shows
/// what happened within 3 s.
pub(super) const SHARED_FOR: Duration = Duration::from_millis(500);

/// What goes on in the bots that a token sees.
#[derive(Debug)]
pub(super) struct Now {
    pub(super) overview: Overview,
    /// The rows in JSON.
    pub(super) rows: Bytes,
    /// When it was read.
    pub(super) read_at: Instant,
    memory: usize,
    _held: Reservation,
}

impl Weigh for Arc<Now> {
    fn bytes(&self) -> usize {
        self.memory + self.rows.len()
    }
}

impl Now {
    /// The answer in JSON, in one line.
    pub(super) fn json(&self) -> Vec<u8> {
        let as_of = clock::rfc3339_ms(self.overview.as_of_ms);
        let before = format!("{{\"AsOf\":\"{as_of}\",\"Bots\":");
        [before.as_bytes(), &self.rows, b"}"].concat()
    }
}

/// A pair's row. The first four fields are the order of rows.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row<'a> {
    bot_name: &'a str,
    bot_id: &'a Bot,
    channel_name: &'a str,
    channel_id: &'a Channel,
    open: u32,
    waiting: u32,
    waiting_active: u32,
    with_operator: u32,
    with_bot: u32,
    unanswered: u32,
    oldest_request: Option<String>,
}

/// The rows of the pairs with open conversations, in JSON.
fn rows(overview: &Overview, names: &Names) -> Vec<u8> {
    let open = overview.pairs.values().filter(|now| now.open > 0);
    let mut rows: Vec<Row<'_>> = open
        .map(|now| {
            let Pair { bot, channel } = &now.pair;
            let entry = names.get(bot);
            Row {
                bot_name: entry.map_or(bot.as_str(), |entry| entry.shown_name(bot)),
                bot_id: bot,
                channel_name: entry.map_or(channel.as_str(), |entry| entry.channel_name(channel)),
                channel_id: channel,
                open: now.open,
                waiting: now.waiting,
                waiting_active: now.waiting_active,
                with_operator: now.with_operator,
                with_bot: now.open.saturating_sub(now.waiting).saturating_sub(now.with_operator),
                unanswered: now.unanswered,
                oldest_request: now.oldest_request_ms.map(clock::rfc3339_ms),
            }
        })
        .collect();
    rows.sort_unstable();
    // Plain strings and numbers always serialize.
    serde_json::to_vec(&rows).unwrap_or_default()
}

impl App {
    pub(super) async fn page_now(
        &self,
        page: &Dashboard,
        request: &Request,
    ) -> Result<Response<Body>, Problem> {
        let (viewer, coding) = self.viewer(request)?;
        page.count(&viewer, request)?;
        let by = request.began + WAIT_LIMIT;
        let now = self.now(page, &viewer, &request.id, by).await?;
        self.check_again(&viewer)?;
        Ok(json(now.json().into(), coding))
    }

    /// What goes on in the bots that a token sees, as of a moment ago.
    pub(super) async fn now(
        &self,
        page: &Dashboard,
        viewer: &Viewer,
        request_id: &str,
        by: Instant,
    ) -> Result<Arc<Now>, Problem> {
        let Seen { account, .. } = &viewer.seen;
        let compute = async {
            let bots = viewer.seen.asked();
            let _turn = page.turn(&viewer.seen, by).await?;
            let (backend, _at_work) = self.begin_work(by).await?;
            let subject = Subject { account, bots: bots.as_deref(), request_id };
            let (overview, held) = self.overview(backend, subject, by).await?;
            let rows = rows(&overview, &viewer.names()).into();
            let memory = held.bytes();
            let read_at = clock::monotonic();
            Ok(Arc::new(Now { overview, rows, read_at, memory, _held: held }))
        };
        page.now.get(viewer.seen.clone(), by, compute).await
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use botstats_common::directory::BotEntry;
    use botstats_common::wire::overview::PairNow;

    use super::*;

    fn pair(bot: &str, channel: &str, counts: [u32; 5], oldest: Option<i64>) -> (Pair, PairNow) {
        let pair = Pair { bot: bot.parse().unwrap(), channel: channel.parse().unwrap() };
        let [open, waiting, waiting_active, with_operator, unanswered] = counts;
        let now = PairNow {
            pair: pair.clone(),
            open,
            waiting,
            waiting_active,
            with_operator,
            unanswered,
            oldest_request_ms: oldest,
        };
        (pair, now)
    }

    #[test]
    fn rows_of_now() {
        let entry = BotEntry::parse(br#"{"name":"Zoo","channels":{"c1":"Web"}}"#).unwrap();
        let names = BTreeMap::from([("b1".parse().unwrap(), entry)]);
        let pairs = [
            pair("b1", "c1", [5, 2, 1, 1, 3], Some(1_795_168_800_001)),
            pair("b1", "a", [1, 0, 0, 0, 0], None),
            pair("b1", "z", [0, 0, 0, 0, 0], None),
            pair("b2", "c1", [1, 0, 0, 1, 1], None),
        ];
        let overview = Overview { pairs: pairs.into(), ..Overview::default() };
        let shown = String::from_utf8(rows(&overview, &names)).unwrap().replace("},", "},\n");
        insta::assert_snapshot!(shown, @r#"
        [{"BotName":"Zoo","BotId":"b1","ChannelName":"Web","ChannelId":"c1","Open":5,"Waiting":2,"WaitingActive":1,"WithOperator":1,"WithBot":2,"Unanswered":3,"OldestRequest":"2026-11-20T10:00:00.001Z"},
        {"BotName":"Zoo","BotId":"b1","ChannelName":"a","ChannelId":"a","Open":1,"Waiting":0,"WaitingActive":0,"WithOperator":0,"WithBot":1,"Unanswered":0,"OldestRequest":null},
        {"BotName":"b2","BotId":"b2","ChannelName":"c1","ChannelId":"c1","Open":1,"Waiting":0,"WaitingActive":0,"WithOperator":1,"WithBot":0,"Unanswered":1,"OldestRequest":null}]
        "#);
        assert_eq!(rows(&Overview::default(), &names), b"[]");
    }
}
