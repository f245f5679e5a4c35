//! The account: what it and its bots, channels and operators are called, as far as a token sees
//! them.

use std::collections::BTreeMap;

use botstats_common::directory::{BotEntry, Operators, time_zone};
use botstats_common::ids::{Account, Bot, Channel};
use http::Response;
use serde::Serialize;

use super::viewer::Viewer;
use super::{Dashboard, json};
use crate::answer::Names;
use crate::answer::overview::Overview;
use crate::app::App;
use crate::deadlines::WAIT_LIMIT;
use crate::http::{Body, Request};
use crate::problem::Problem;
use crate::window::first_date_since;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shown<'a> {
    account: &'a Account,
    name: &'a str,
    time_zone: &'a str,
    /// `YYYY-MM-DD`; `null` in a store without events, in which nothing is missing.
    first_complete_date: Option<String>,
    bots: Vec<ShownBot<'a>>,
    operators: &'a Operators,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownBot<'a> {
    bot_id: &'a Bot,
    bot_name: &'a str,
    channels: Vec<ShownChannel<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ShownChannel<'a> {
    channel_id: &'a Channel,
    channel_name: &'a str,
}

/// The bots that are not removed, by name, then id; each with its channels likewise: those with a
/// name, and those that had an event.
fn bots<'a>(names: &'a Names, overview: &'a Overview) -> Vec<ShownBot<'a>> {
    let mut used: BTreeMap<&Bot, Vec<&Channel>> = BTreeMap::new();
    for pair in overview.pairs.keys() {
        used.entry(&pair.bot).or_default().push(&pair.channel);
    }
    let shown = |(bot, entry): (&'a Bot, &'a BotEntry)| {
        let used = used.get(bot).into_iter().flatten().copied();
        let mut channels: Vec<&Channel> = entry.channels.keys().chain(used).collect();
        channels.sort_unstable_by_key(|channel| (entry.channel_name(channel), *channel));
        channels.dedup();
        let channels = channels.into_iter().map(|channel| ShownChannel {
            channel_id: channel,
            channel_name: entry.channel_name(channel),
        });
        ShownBot { bot_id: bot, bot_name: entry.shown_name(bot), channels: channels.collect() }
    };
    let live = names.iter().filter(|(_, entry)| !entry.removed);
    let mut bots: Vec<ShownBot<'_>> = live.map(shown).collect();
    bots.sort_unstable_by_key(|bot| (bot.bot_name, bot.bot_id));
    bots
}

fn shown(viewer: &Viewer, overview: &Overview) -> Result<Vec<u8>, Problem> {
    let zone = time_zone(&viewer.zone).map_err(|_| Problem::Internal)?;
    let (names, operators) = (viewer.names(), viewer.operators());
    let first = overview.complete_since_ms.map(|ms| first_date_since(ms, &zone));
    let shown = Shown {
        account: &viewer.seen.account,
        name: &viewer.name,
        time_zone: &viewer.zone,
        first_complete_date: first.map(|date| date.to_string()),
        bots: bots(&names, overview),
        operators: &operators,
    };
    serde_json::to_vec(&shown).map_err(|_| Problem::Internal)
}

impl App {
    pub(super) async fn page_account(
        &self,
        page: &Dashboard,
        request: &Request,
    ) -> Result<Response<Body>, Problem> {
        let (viewer, coding) = self.viewer(request)?;
        page.count(&viewer, request)?;
        let now = self.now(page, &viewer, &request.id, request.began + WAIT_LIMIT).await?;
        self.check_again(&viewer)?;
        Ok(json(shown(&viewer, &now.overview)?.into(), coding))
    }
}

#[cfg(test)]
mod tests {
    use botstats_common::wire::Pair;
    use botstats_common::wire::overview::PairNow;

    use super::*;

    #[test]
    fn bots_by_name_then_id_with_all_their_channels() {
        let entry = |json: &str| BotEntry::parse(json.as_bytes()).unwrap();
        let names = BTreeMap::from([
            ("b1".parse().unwrap(), entry(r#"{"name":"Zoo","channels":{"w":"Web","never":"A"}}"#)),
            ("b2".parse().unwrap(), entry(r#"{"name":"Zoo"}"#)),
            ("b3".parse().unwrap(), entry(r#"{"name":"A","removed":true}"#)),
            ("b4".parse().unwrap(), entry("{}")),
        ]);
        let pairs = [("b1", "w"), ("b1", "sms"), ("b2", "w"), ("b3", "w"), ("b9", "w")];
        let pairs = pairs.map(|(bot, channel)| {
            let pair = Pair { bot: bot.parse().unwrap(), channel: channel.parse().unwrap() };
            (pair.clone(), PairNow::without(pair))
        });
        let overview = Overview { pairs: pairs.into(), ..Overview::default() };
        let json = serde_json::to_string(&bots(&names, &overview)).unwrap();
        insta::assert_snapshot!(json.replace("]},", "]},\n"), @r#"
        [{"BotId":"b1","BotName":"Zoo","Channels":[{"ChannelId":"never","ChannelName":"A"},{"ChannelId":"w","ChannelName":"Web"},{"ChannelId":"sms","ChannelName":"sms"}]},
        {"BotId":"b2","BotName":"Zoo","Channels":[{"ChannelId":"w","ChannelName":"w"}]},
        {"BotId":"b4","BotName":"b4","Channels":[]}]
        "#);
    }
}
