//! Seeded streams of events, as nasty as the rules allow.
//!
//! What is in them: duplicates (some days later), events out of order by days, operators of every
//! kind, threads without an end, events at and beside the limits of quarters, hours, midnights and
//! idle times, ties within a millisecond, identities that differ in one part only, names and
//! durations at the edges of what is kept, users who are forgotten at any time, every form an
//! envelope may have, and messages that break each rule.
//!
//! *Invariants*: the same [`Plan`] gives the same stream, on any machine and with any version of a
//! library: the dice are in this crate.

mod bad;
mod dice;
mod form;
mod life;
mod names;
mod plain;
mod questions;
mod script;

use std::collections::BTreeMap;

pub use dice::Dice;
pub use life::{Life, Lifetime, ServerClock};
pub use plain::plain;
pub use questions::{asked, operators};

use crate::model::{CODES, Directory, GroupMode, Kind, Message, Question};

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const QUARTER_MS: i64 = 15 * MINUTE_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
const NS_PER_MS: i64 = 1_000_000;

/// Zones with odd offsets, odd clock changes, skipped dates, and some plain ones.
pub const ZONES: [&str; 20] = [
    "UTC",
    "Europe/Rome",
    "Europe/London",
    "America/New_York",
    "America/St_Johns",
    "America/Sao_Paulo",
    "America/Santiago",
    "America/Havana",
    "America/Nuuk",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Asia/Tehran",
    "Asia/Beirut",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Australia/Lord_Howe",
    "Australia/Adelaide",
    "Pacific/Chatham",
    "Pacific/Apia",
    "Pacific/Kiritimati",
];

#[derive(Debug, Clone)]
pub struct Plan {
    /// Everything else being equal, another seed is another stream.
    pub seed: u64,
    pub accounts: u64,
    /// About how many events, without duplicates and bad messages.
    pub events: usize,
    /// The first moment an event may have, Unix milliseconds.
    pub start_ms: i64,
    /// How long conversations begin after it, in days.
    pub days: i64,
    /// Whether second events of an identity with other content are sprinkled in.
    pub conflicts: bool,
    /// Whether messages that break a rule are sprinkled in.
    pub bad: bool,
}

/// A stream with the directories of its accounts.
#[derive(Debug, Clone)]
pub struct Generated {
    /// The messages as the stream holds them, sequences from 1.
    pub messages: Vec<Message>,
    /// Names and zones by account. Some bots and channels have no name.
    pub directories: BTreeMap<String, Directory>,
    pub bots: BTreeMap<String, Vec<String>>,
}

/// An event before it is written down.
#[derive(Debug, Clone)]
struct Draft {
    account: String,
    bot: String,
    channel: String,
    conversation: String,
    user: String,
    source: String,
    id: String,
    time_ms: i64,
    kind: Kind,
}

/// A message with the moment at which it is stored.
#[derive(Debug, Clone)]
struct Arrival {
    stored_ns: i64,
    subject: String,
    headers: Vec<(String, String)>,
    payload: Vec<u8>,
}

impl Plan {
    pub fn generate(&self) -> Generated {
        let mut dice = Dice::new(self.seed);
        let mut arrivals = Vec::new();
        let places = places(&mut dice, self.accounts);
        let mut drafts = 0;
        for number in 0.. {
            if drafts >= self.events {
                break;
            }
            let place = dice.pick(&places).clone();
            let start_ms = self.start_ms + dice.below(self.days * DAY_MS);
            let happening = if dice.one_in(15) {
                script::departures(&mut dice, &place, number, start_ms)
            } else {
                script::conversation(&mut dice, &place, number, start_ms, self.events)
            };
            for draft in happening {
                drafts += 1;
                self.arrive(&mut dice, &draft, &mut arrivals);
            }
        }
        arrivals.sort_by_key(|a| a.stored_ns);
        let messages = (1..).zip(arrivals).map(|(sequence, a)| Message {
            sequence,
            stored_ns: a.stored_ns,
            subject: a.subject,
            headers: a.headers,
            payload: a.payload,
        });
        let messages = messages.collect();
        Generated { messages, directories: directories(&mut dice, &places), bots: bots_of(&places) }
    }

    fn arrive(&self, dice: &mut Dice, draft: &Draft, arrivals: &mut Vec<Arrival>) {
        let stored = stored_ns(dice, draft.kind, draft.time_ms);
        let first = form::write(dice, draft, stored);
        if dice.one_in(10) {
            let mut again = first.clone();
            again.stored_ns += match dice.below(4) {
                0 => dice.below(SECOND_MS * NS_PER_MS),
                1 => dice.below(HOUR_MS) * NS_PER_MS,
                2 => dice.below(3 * DAY_MS) * NS_PER_MS,
                _ => dice.below(37 * DAY_MS) * NS_PER_MS,
            };
            arrivals.push(again);
        }
        if self.conflicts && dice.one_in(15) {
            let other = script::other_content(dice, draft);
            // As long as the first one could come again, its identity is taken; not for ever.
            let latest_ns = (draft.time_ms + latest_ms(draft.kind)) * NS_PER_MS;
            let stored = stored_ns(dice, other.kind, other.time_ms).min(latest_ns);
            arrivals.push(form::write(dice, &other, stored));
        }
        if self.bad && dice.one_in(25) {
            arrivals.push(bad::message(dice, draft, first.stored_ns));
        }
        arrivals.push(first);
    }
}

/// When an event of that time is stored: mostly soon, sometimes late by days or early by minutes,
/// and now and then exactly at or just beyond what is accepted.
fn stored_ns(dice: &mut Dice, kind: Kind, time_ms: i64) -> i64 {
    let time_ns = time_ms * NS_PER_MS;
    let (latest_ns, earliest_ns) = (latest_ms(kind) * NS_PER_MS, 5 * MINUTE_MS * NS_PER_MS);
    match dice.below(200) {
        0 => time_ns + latest_ns,
        1 => time_ns + latest_ns + 1,
        2 => time_ns + latest_ns + NS_PER_MS,
        3 => time_ns - earliest_ns,
        4 => time_ns - earliest_ns - 1,
        5 => time_ns - earliest_ns - NS_PER_MS,
        6..14 => time_ns - dice.below(earliest_ns),
        14..20 => time_ns + dice.below(latest_ns),
        20..30 => time_ns + dice.below(3 * DAY_MS).min(latest_ms(kind)) * NS_PER_MS,
        30..40 => time_ns + dice.below(2 * HOUR_MS) * NS_PER_MS,
        _ => time_ns + dice.below(2 * SECOND_MS * NS_PER_MS),
    }
}

/// How late an event of that kind is still accepted.
fn latest_ms(kind: Kind) -> i64 {
    if kind == Kind::Forgotten { DAY_MS } else { 35 * DAY_MS }
}

/// The (account, bot, channel) that talk.
fn places(dice: &mut Dice, accounts: u64) -> Vec<[String; 3]> {
    let mut places = Vec::new();
    for account in 0..accounts {
        for bot in 0..dice.below(4) + 1 {
            for channel in dice.some_of(&["web", "sms", "WhatsApp_1", "e-mail"]) {
                let bot = if bot == 0 { "b".repeat(64) } else { format!("b{bot}") };
                places.push([format!("acct-{account}"), bot, channel.to_owned()]);
            }
        }
    }
    places
}

fn bots_of(places: &[[String; 3]]) -> BTreeMap<String, Vec<String>> {
    let mut bots: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for [account, bot, _] in places {
        let bots = bots.entry(account.clone()).or_default();
        if !bots.contains(bot) {
            bots.push(bot.clone());
        }
    }
    bots
}

fn directories(dice: &mut Dice, places: &[[String; 3]]) -> BTreeMap<String, Directory> {
    // Few names, so that different bots share one and the order has to look at ids.
    let names = ["Pizza", "pizza", "Über", "𝔘nder", "Zoo", "ﬁ"];
    let mut directories = BTreeMap::new();
    for [account, bot, channel] in places {
        let nameless = || Directory::nameless(dice.pick::<&str>(&ZONES));
        let directory = directories.entry(account.clone()).or_insert_with(nameless);
        if dice.below(4) > 0 {
            directory.bots.insert(bot.clone(), (*dice.pick(&names)).to_owned());
            if dice.below(3) > 0 {
                let name = (*dice.pick(&names)).to_owned();
                directory.channels.insert((bot.clone(), channel.clone()), name);
            }
        }
    }
    directories
}

/// Draws a question about an account of the stream.
pub fn question(dice: &mut Dice, generated: &Generated, account: &str, now_ms: i64) -> Question {
    let bots = match dice.below(3) {
        0 => Some(vec![dice.pick(&generated.bots[account]).clone()]),
        _ => None,
    };
    let all = CODES.to_vec();
    let types = if dice.one_in(3) { dice.some_of(&all) } else { all };
    Question {
        account: account.to_owned(),
        bots,
        types,
        mode: *dice.pick(&GroupMode::ALL),
        days: *dice.pick(&[1, 1, 2, 3, 7, 29, 30]),
        fill: dice.one_in(3),
        now_ms,
    }
}

/// Draws a moment of asking: anywhere, or at or beside the limit of a quarter, an hour or a UTC
/// day.
pub fn moment(dice: &mut Dice, from_ms: i64, to_ms: i64) -> i64 {
    let ms = from_ms + dice.below(to_ms - from_ms);
    let unit = *dice.pick(&[QUARTER_MS, HOUR_MS, DAY_MS]);
    match dice.below(4) {
        0 => ms,
        1 => ms / unit * unit,
        2 => ms / unit * unit - 1,
        _ => ms / unit * unit + 1,
    }
}
