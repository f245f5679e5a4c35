//! The judge: what every number means, said as plainly as possible.
//!
//! It reads all messages, keeps the accepted events for good, sorts each conversation and counts.
//! It prunes nothing: more messages make it cut each conversation that they touch anew, from its
//! first event. It walks through a window quarter by quarter and asks the time zone at each of
//! them.
//!
//! *Invariants*: nothing here comes from the product's crates; only the pages `docs/metrics.md` and
//! `docs/events.md` are its source.
//!
//! *Not here*: speed. A million events take some seconds.

mod accept;
mod ask;
mod calendar;
mod contents;
mod count;
mod json;
mod now;
mod session;
mod time;
mod window;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;

pub use accept::{Event, Fields, Kind, Rule};
pub use ask::{Asked, Row, Stat, answer, codes_of};
pub use calendar::{Dates, Grain, Group, Previous, Window, windows};
pub use contents::{Contents, MAX_NAMES, PairContents, SPLITS};
pub use count::{ALL, ALL_CODES, CODES, FIELDS, TYPES, text_of};
pub use now::Now;
pub use time::parse_time_ms;
pub use window::GroupMode;

/// A message as the stream holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub sequence: u64,
    /// The timestamp that JetStream gave it, in Unix nanoseconds.
    pub stored_ns: i64,
    pub subject: String,
    pub headers: Vec<(String, String)>,
    pub payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It counts.
    Accepted,
    /// An event of that identity and content is there already.
    Duplicate,
    /// An event of that identity and other content is there already.
    Conflict,
    /// A type that nobody counts.
    UnknownType,
    /// It breaks a rule.
    DeadLetter(Rule),
}

impl Verdict {
    pub const ALL: [Verdict; 8] = [
        Verdict::Accepted,
        Verdict::Duplicate,
        Verdict::Conflict,
        Verdict::UnknownType,
        Verdict::DeadLetter(Rule::Subject),
        Verdict::DeadLetter(Rule::Envelope),
        Verdict::DeadLetter(Rule::Data),
        Verdict::DeadLetter(Rule::Time),
    ];
}

/// Names and zone of one account, as they are at the moment of asking.
#[derive(Debug, Clone)]
pub struct Directory {
    /// IANA name of the account's time zone.
    pub timezone: String,
    pub bots: BTreeMap<String, String>,
    /// Channels' names by bot id and channel id.
    pub channels: BTreeMap<(String, String), String>,
}

impl Directory {
    /// One without names.
    pub fn nameless(zone: &str) -> Self {
        Self { timezone: zone.to_owned(), bots: BTreeMap::new(), channels: BTreeMap::new() }
    }
}

#[derive(Debug, Clone)]
pub struct Question {
    /// Whose statistics.
    pub account: String,
    /// Ids of the bots asked for; `None` is all of them.
    pub bots: Option<Vec<String>>,
    /// Type codes; order and repeats do not matter.
    pub types: Vec<u8>,
    pub mode: GroupMode,
    pub days: u32,
    /// Whether groups without a sample have rows too.
    pub fill: bool,
    /// The moment of asking, in Unix milliseconds.
    pub now_ms: i64,
}

impl Question {
    /// About all bots and metrics of an account, without empty groups, asked at 1970.
    pub fn of_all(account: &str, mode: GroupMode, days: u32) -> Self {
        let (account, types) = (account.to_owned(), CODES.to_vec());
        Self { account, bots: None, types, mode, days, fill: false, now_ms: 0 }
    }
}

/// A (bot, channel) of one account.
type Pair = (String, String);

/// One contribution to one metric.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sample {
    time_ms: i64,
    code: u8,
    /// Sessions, events or durations: one a sample.
    count: u64,
    /// Milliseconds for a duration, 1 or 0 for a ratio, messages for code 104, the same as `count`
    /// otherwise.
    sum: u64,
    /// The name by which the code can be split, as sent. `None` if it was absent, or the code has
    /// none.
    name: Option<String>,
}

impl Sample {
    /// With the name that the event has for it.
    fn named_by(self, event: &Event) -> Self {
        let field = contents::split_of(self.code).map(|(_, field)| field);
        Self { name: field.and_then(|field| event.field(field)).map(str::to_owned), ..self }
    }
}

/// What one user of a pair did, by quarters of an hour since 1970.
#[derive(Debug, Default)]
struct UserFacts {
    /// Those with a `message.received`.
    active: BTreeSet<i64>,
    /// Those with a `user.forgotten`.
    forgotten: BTreeSet<i64>,
}

impl UserFacts {
    /// As whom the user acts in that quarter: after each quarter with a `user.forgotten` as
    /// somebody new.
    fn generation(&self, quarter: i64) -> usize {
        self.forgotten.iter().filter(|forgotten| **forgotten < quarter).count()
    }

    /// The first quarter in which that generation, which is active, is so.
    fn first(&self, generation: usize) -> i64 {
        let mut of_it =
            self.active.iter().filter(|quarter| self.generation(**quarter) == generation);
        *of_it.next().expect("an active generation")
    }
}

#[derive(Debug, Default)]
struct Facts {
    /// By UTC day, so that a question looks at the days of its window only.
    days: BTreeMap<i64, DayFacts>,
    users: HashMap<String, UserFacts>,
}

/// What one (bot, channel) has on one UTC day.
#[derive(Debug, Default)]
struct DayFacts {
    /// Samples that events are by themselves.
    samples: Vec<Sample>,
    /// Samples of sessions, by conversation.
    sessions: BTreeMap<String, Vec<Sample>>,
    /// Time and user of every `message.received`.
    received: Vec<(i64, String)>,
}

impl Facts {
    fn day(&mut self, time_ms: i64) -> &mut DayFacts {
        self.days.entry(day_of(time_ms)).or_default()
    }
}

const QUARTERS_PER_DAY: u32 = 96;

fn quarter_of(time_ms: i64) -> i64 {
    time_ms.div_euclid(window::QUARTER_MS)
}

fn day_of(time_ms: i64) -> i64 {
    time_ms.div_euclid(86_400_000)
}

/// Everything that a set of messages means.
#[derive(Debug, Default)]
pub struct Model {
    /// What became of each message, by stream sequence.
    pub verdicts: BTreeMap<u64, Verdict>,
    /// The first accepted event of each identity, by stream sequence.
    pub events: Vec<(u64, Event)>,
    first_of: HashMap<accept::Identity, usize>,
    /// Places in `events`, by account, bot, channel and conversation id.
    conversations: BTreeMap<[String; 4], Vec<usize>>,
    facts: HashMap<String, BTreeMap<Pair, Facts>>,
}

impl Model {
    /// Judges the messages and works out every sample. Their order in the slice does not matter.
    pub fn of(messages: &[Message]) -> Self {
        let mut model = Self::default();
        model.add(messages);
        model
    }

    /// Judges more messages, whose sequences are above those of all before.
    pub fn add(&mut self, messages: &[Message]) {
        let mut in_order: Vec<&Message> = messages.iter().collect();
        in_order.sort_by_key(|m| m.sequence);
        let mut touched = BTreeSet::new();
        for message in in_order {
            let verdict = match accept::judge(message) {
                Err(refusal) => refusal,
                Ok((identity, event)) => match self.first_of.get(&identity) {
                    Some(&first) if self.events[first].1 == event => Verdict::Duplicate,
                    Some(_) => Verdict::Conflict,
                    None => {
                        self.first_of.insert(identity, self.events.len());
                        touched.extend(self.count_event(&event));
                        self.events.push((message.sequence, event));
                        Verdict::Accepted
                    }
                },
            };
            let before = self.verdicts.insert(message.sequence, verdict);
            assert!(before.is_none(), "sequence {} came before", message.sequence);
        }
        for conversation in touched {
            self.count_sessions(&conversation);
        }
    }

    /// What the event is by itself; gives its conversation, if it is part of sessions.
    fn count_event(&mut self, event: &Event) -> Option<[String; 4]> {
        let Event { account, bot, channel, conversation, .. } = event.clone();
        let pairs = self.facts.entry(account.clone()).or_default();
        let facts = pairs.entry((bot.clone(), channel.clone())).or_default();
        let quarter = quarter_of(event.time_ms);
        match event.kind {
            Kind::Received => {
                facts.users.entry(event.user.clone()).or_default().active.insert(quarter);
                facts.day(event.time_ms).received.push((event.time_ms, event.user.clone()));
            }
            Kind::Forgotten => {
                facts.users.entry(event.user.clone()).or_default().forgotten.insert(quarter);
            }
            _ => {}
        }
        facts.day(event.time_ms).samples.extend(count::of_event(event));
        if !event.kind.is_of_session() {
            return None;
        }
        let key = [account, bot, channel, conversation];
        self.conversations.entry(key.clone()).or_default().push(self.events.len());
        Some(key)
    }

    fn count_sessions(&mut self, key: &[String; 4]) {
        let [account, bot, channel, conversation] = key;
        let events = self.conversations[key].iter().map(|&place| &self.events[place].1);
        let mut events: Vec<&Event> = events.collect();
        session::sort(&mut events);
        let pair = (bot.clone(), channel.clone());
        let facts = self.facts.get_mut(account).and_then(|pairs| pairs.get_mut(&pair));
        let facts = facts.expect("every event made its pair");
        for event in &events {
            facts.day(event.time_ms).sessions.remove(conversation);
        }
        // Sessions count at events, so no other day had a sample of this conversation.
        for sample in session::cut(&events).into_iter().flat_map(session::samples) {
            let sessions = &mut facts.day(sample.time_ms).sessions;
            sessions.entry(conversation.clone()).or_default().push(sample);
        }
    }

    /// Everything that is known of all accounts, in quarters of an hour, with at most `max_names`
    /// names of its own for each pair, UTC day and split ([`MAX_NAMES`] outside of tests).
    pub fn contents(&self, max_names: usize) -> Contents {
        Contents::of(&self.facts, max_names)
    }

    /// The rows that answer the question, in order.
    pub fn rows(&self, question: &Question, directory: &Directory) -> Vec<Value> {
        let empty = BTreeMap::new();
        let pairs = self.facts.get(&question.account).unwrap_or(&empty);
        count::rows(pairs, question, directory)
    }

    /// How many messages met that fate.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.verdicts.values().filter(|v| **v == verdict).count()
    }

    /// The accounts that have an accepted event.
    pub fn accounts(&self) -> HashSet<&str> {
        self.facts.keys().map(String::as_str).collect()
    }
}
