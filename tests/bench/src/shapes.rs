//! Traffic as a platform's long tail has it, from a seed: many small accounts, short conversations.
//!
//! A thousand accounts share the events by Zipf's law (exponent 1.05). An account has 1 to 20 bots,
//! a bot 1 to 4 channels, both by Zipf's law. A user belongs to one channel and has one
//! conversation there; a million events have about 500,000 users. The events spread over 30 days
//! with nights and days; a few are late. So most buckets have an event or two.
//!
//! *Invariants*: the same shape, number, seed and start give the same events, byte for byte (on one
//! kind of machine: logarithms and sines may differ in their last bit). The moments of storing
//! ascend. Ingest accepts all of them; their ids differ.
//!
//! *Why* there are two forms: `botstats-ingest` reads CloudEvents. The programs that are compared
//! with it (`tests/peers`) read a flat JSON object, which costs them least.

use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::time::Duration;

use botstats::simulate::{Dice, Event};
use clap::ValueEnum;
use jiff::Timestamp;

use super::in_process::ON_THE_WAY_MS;
use super::load::DAY_MS;

/// Days over which the events spread.
pub const DAYS: u32 = 30;
const ACCOUNTS: u32 = 1_000;
const ACCOUNTS_EXPONENT: f64 = 1.05;
const MAX_BOTS: u64 = 20;
const CHANNELS: [&str; 4] = ["web", "whatsapp", "telegram", "viber"];
/// The users that all accounts have together; not all of them are seen.
const USERS: f64 = 850_000.0;
/// The fewest users of an account.
const LEAST_USERS: u64 = 20;
/// How far nights and days bend time, in days.
const SWING_DAYS: f64 = 0.12;
/// Conversations that go on side by side.
const OPEN: usize = 512;
const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_U64_MS: u64 = 24 * HOUR_MS;

/// The kinds of events with their shares, as they stand in the flat form.
pub const KINDS: [(&str, u64); 16] = [
    ("user_wrote", 300),
    ("bot_replied", 280),
    ("topic_found", 60),
    ("talk_closed", 55),
    ("user_tagged", 35),
    ("bot_at_a_loss", 40),
    ("intent_found", 60),
    ("operator_called", 12),
    ("operator_came", 10),
    ("operator_wrote", 30),
    ("operator_left", 8),
    ("api_asked", 80),
    ("button_pressed", 18),
    ("goal_met", 4),
    ("api_failed", 4),
    ("intent_missed", 4),
];
/// The kinds that have a value in the flat form, in milliseconds.
const VALUED: [usize; 3] = [3, 9, 11];

/// How events follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Two events a user in a month; 2% of them up to two days late.
    Sparse,
    /// The same, but a conversation has about seven events one after the other.
    Conversations,
    /// As sparse, but 10% are one to five days late.
    Late,
}

impl Shape {
    /// The probability that an event goes on with one of the open conversations, in percent.
    fn sticky_percent(self) -> u64 {
        if self == Self::Conversations { 85 } else { 0 }
    }

    /// The share of late events in percent, their least delay and its range, in milliseconds.
    fn late(self) -> (u64, u64, u64) {
        match self {
            Self::Sparse | Self::Conversations => (2, 0, 48 * HOUR_MS),
            Self::Late => (10, DAY_U64_MS, 4 * DAY_U64_MS),
        }
    }
}

/// What an event says besides what is counted since the first version of the store's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Names of intents, goals, tags, integrations and operators, and durations of calls.
    Named,
    /// None of these, where the type of the event allows it.
    Bare,
}

/// One event of the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Happening {
    number: u64,
    id: u64,
    account: usize,
    bot: usize,
    channel: usize,
    user: u64,
    kind: usize,
    /// Random bits for names and values.
    bits: u64,
    time_ms: i64,
    /// When the stream stores it if it is published at once, in Unix milliseconds.
    pub stored_ms: i64,
}

/// An iterator over the events, in the order in which they are stored.
#[derive(Debug)]
pub struct Traffic {
    shape: Shape,
    dice: Dice,
    seed: u64,
    start_ms: i64,
    count: u64,
    next: u64,
    accounts: Vec<f64>,
    users: Vec<u64>,
    /// For 1 to 20 items: Zipf's law with exponent 1.
    zipf: Vec<Vec<f64>>,
    open: Vec<Option<(usize, u64)>>,
}

impl Traffic {
    /// `count` events of the [`DAYS`] from `start_ms` on.
    pub fn new(shape: Shape, count: u64, seed: u64, start_ms: i64) -> Self {
        let weights: Vec<f64> =
            (1..=ACCOUNTS).map(|rank| f64::from(rank).powf(-ACCOUNTS_EXPONENT)).collect();
        let sum: f64 = weights.iter().sum();
        let users = weights.iter().map(|w| whole(USERS * w / sum).max(LEAST_USERS)).collect();
        let zipf = |items: u32| running((1..=items).map(|rank| 1.0 / f64::from(rank)));
        Self {
            shape,
            dice: Dice::new(seed),
            seed,
            start_ms,
            count,
            next: 0,
            accounts: running(weights.into_iter()),
            users,
            zipf: (1..=u32::try_from(MAX_BOTS).expect("small")).map(zipf).collect(),
            open: vec![None; OPEN],
        }
    }

    /// The same, so that the last event is just before `end_ms`.
    pub fn until(shape: Shape, count: u64, seed: u64, end_ms: i64) -> Self {
        Self::new(shape, count, seed, end_ms - i64::from(DAYS) * DAY_MS)
    }

    /// As CloudEvents, each with the moment at which it is stored (Unix milliseconds).
    pub fn cloud_events(self, detail: Detail) -> impl Iterator<Item = (i64, Event)> + Send {
        self.map(move |happening| (happening.stored_ms, happening.cloud_event(detail)))
    }

    /// A number in `[0, 1)`.
    fn share(&mut self) -> f64 {
        unit(self.dice.next_bits())
    }

    /// Account and user of the next event.
    fn who(&mut self) -> (usize, u64) {
        let sticky = self.shape.sticky_percent();
        if sticky > 0 && below(self.dice.next_bits(), 100) < sticky {
            let slot = place(self.dice.next_bits(), OPEN);
            if let Some(talk) = self.open[slot] {
                return talk;
            }
        }
        let ball = self.share();
        let account = find(&self.accounts, ball);
        // The square makes the first users of an account more frequent.
        let bits = self.dice.next_bits();
        let talk = (account, below(below(bits, bits), self.users[account]));
        if sticky > 0 {
            let slot = place(self.dice.next_bits(), OPEN);
            self.open[slot] = Some(talk);
        }
        talk
    }

    /// When event `next` is stored, in milliseconds since the start; more by day than by night.
    fn offset_ms(&mut self) -> i64 {
        let place = float(self.next) + self.share();
        let day = place / float(self.count) * f64::from(DAYS);
        let day = (day - SWING_DAYS * (TAU * day).sin()).max(0.0);
        i64::try_from(whole(day * float(DAY_U64_MS))).expect("less than a year")
    }
}

impl Iterator for Traffic {
    type Item = Happening;

    fn next(&mut self) -> Option<Happening> {
        if self.next == self.count {
            return None;
        }
        let (account, user) = self.who();
        let seat = mixed(&[self.seed, number(account), user]);
        let bots = &self.zipf[place(mixed(&[self.seed, number(account)]), self.zipf.len())];
        let bot = find(bots, unit(seat));
        let channels = place(mixed(&[self.seed, number(account), number(bot), 1]), CHANNELS.len());
        let channel = find(&self.zipf[channels], unit(mixed(&[seat])));
        let offset_ms = self.offset_ms();
        let (late_percent, least_ms, range_ms) = self.shape.late();
        let (ball, delay) = (self.dice.next_bits(), self.dice.next_bits());
        let delay_ms = i64::try_from(least_ms + below(delay, range_ms)).expect("some days");
        // An event cannot have happened before the start.
        let late = below(ball, 100) < late_percent && delay_ms <= offset_ms;
        let time_ms = self.start_ms + offset_ms - if late { delay_ms } else { 0 };
        let total = KINDS.iter().map(|(_, share)| share).sum();
        let mut ball = below(self.dice.next_bits(), total);
        let kind = KINDS.iter().position(|(_, share)| {
            let hit = ball < *share;
            ball = ball.saturating_sub(*share);
            hit
        });
        let happening = Happening {
            number: self.next,
            id: mixed(&[self.seed, self.next, 2]),
            account,
            bot,
            channel,
            user,
            kind: kind.expect("the ball is below the total"),
            bits: self.dice.next_bits(),
            time_ms,
            stored_ms: self.start_ms + offset_ms + ON_THE_WAY_MS,
        };
        self.next += 1;
        Some(happening)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.count - self.next).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl Happening {
    /// The event as bots publish it: a CloudEvent in structured mode.
    pub fn cloud_event(&self, detail: Detail) -> Event {
        let (account, bot, user) = (self.account, self.bot, self.user);
        let channel = CHANNELS[self.channel];
        let subject = format!("botstats.events.acc{account:04}.bot{account:04}-{bot:02}.{channel}");
        let mut text = String::with_capacity(320);
        let (kind, data) = self.data(detail);
        // Writing to a text cannot fail.
        let _written = write!(
            text,
            r#"{{"specversion":"1.0","id":"{:016x}{:08x}","source":"/bench","type":"io.botstats.{kind}.v1","time":"{:.3}","data":{{"conversationid":"u{account:04}-{user:06}","userid":"u{account:04}-{user:06}"{data}}}}}"#,
            self.id,
            self.number,
            self.time(),
        );
        Event { subject, payload: text.into(), time_ms: self.time_ms }
    }

    /// The same as one flat JSON object, as programs read it that know no CloudEvents.
    pub fn flat(&self) -> String {
        let (account, bot, user) = (self.account, self.bot, self.user);
        let mut text = format!(
            r#"{{"id":"{:016x}{:08x}","ts":"{:.3}","account":"acc{account:04}","bot":"bot{account:04}-{bot:02}","channel":"{}","user":"u{account:04}-{user:06}","type":"{}""#,
            self.id,
            self.number,
            self.time(),
            CHANNELS[self.channel],
            KINDS[self.kind].0,
        );
        if VALUED.contains(&self.kind) {
            let _written = write!(text, r#","value":{}"#, self.value_ms());
        }
        text.push('}');
        text
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_millisecond(self.time_ms).expect("a time of these years")
    }

    /// A duration from 50 ms to 149 s; short ones are more frequent.
    fn value_ms(&self) -> u64 {
        whole(50.0 * (8.0 * unit(self.bits)).exp())
    }

    /// One of `names` numbers; small ones are more frequent.
    fn name(&self, names: u64) -> u64 {
        let bits = mixed(&[self.bits]);
        below(below(bits, bits), names)
    }

    /// The name of the CloudEvent's type, and its data without the two ids.
    fn data(&self, detail: Detail) -> (&'static str, String) {
        let named = |field: &str, name: String| match detail {
            Detail::Named => format!(r#","{field}":"{name}""#),
            Detail::Bare => String::new(),
        };
        let operator = || named("operatorid", format!("op-{}", self.name(12)));
        match self.kind {
            0 => ("message.received", String::new()),
            1 => ("message.sent", String::new()),
            2 | 6 => {
                let intent = named("intent", format!("intent-{}", self.name(60)));
                ("nlp.evaluated", format!(r#","detected":true{intent}"#))
            }
            3 => ("conversation.ended", String::new()),
            4 => ("tag.set", format!(r#","tag":"tag-{}""#, self.name(30))),
            5 => ("message.sent", r#","fallback":true"#.to_owned()),
            7 => ("operator.requested", String::new()),
            8 => ("operator.joined", operator()),
            9 => ("operator.message", operator()),
            10 => ("operator.released", String::new()),
            11 | 14 => {
                let name = named("name", format!("api-{}", self.name(15)));
                let took = match detail {
                    Detail::Named => format!(r#","durationms":{}"#, self.value_ms()),
                    Detail::Bare => String::new(),
                };
                let ok = self.kind == 11;
                ("integration.called", format!(r#","kind":"api","ok":{ok}{name}{took}"#))
            }
            12 => ("message.received", r#","kind":"button""#.to_owned()),
            13 => ("goal.reached", format!(r#","goal":"goal-{}""#, self.name(8))),
            _ => ("nlp.evaluated", r#","detected":false"#.to_owned()),
        }
    }
}

/// The place in a list of running sums that a number in `[0, 1)` falls on.
fn find(sums: &[f64], share: f64) -> usize {
    sums.partition_point(|sum| *sum <= share).min(sums.len() - 1)
}

/// The running sums of weights, of which the last is 1.
fn running(weights: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sum = 0.0;
    let mut sums: Vec<f64> = weights
        .map(|weight| {
            sum += weight;
            sum
        })
        .collect();
    sums.iter_mut().for_each(|at| *at /= sum);
    sums
}

/// The whole part of a number that is not negative.
fn whole(value: f64) -> u64 {
    Duration::from_secs_f64(value).as_secs()
}

/// A whole number below 2^53.
fn float(value: u64) -> f64 {
    value as f64
}

/// 64 random bits as a number in `[0, 1)`.
fn unit(bits: u64) -> f64 {
    float(bits >> 11) / float(1 << 53)
}

/// 64 random bits as a number in `[0, bound)`.
fn below(bits: u64, bound: u64) -> u64 {
    u64::try_from((u128::from(bits) * u128::from(bound)) >> 64).unwrap_or_default()
}

/// 64 random bits as a place in a list.
fn place(bits: u64, length: usize) -> usize {
    usize::try_from(below(bits, number(length))).unwrap_or_default()
}

fn number(place: usize) -> u64 {
    u64::try_from(place).unwrap_or(u64::MAX)
}

/// Bits that look random and follow from these numbers.
fn mixed(numbers: &[u64]) -> u64 {
    let seed = numbers.iter().fold(0, |seed, number| Dice::new(seed ^ number).next_bits());
    Dice::new(seed).next_bits()
}
