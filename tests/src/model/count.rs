//! From samples to rows: adding up, rounding, naming, ordering.

use std::collections::{BTreeMap, HashSet};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::accept::{Event, Kind};
use super::window::{self, Group};
use super::{Directory, Facts, Pair, Question, Sample};

/// How a metric's value is made of its samples.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    Users,
    Count,
    Mean,
    /// A mean of numbers that are no durations.
    MeanCount,
    Ratio,
}

macro_rules! metrics {
    (0 $first:literal $made_first:ident; $($code:literal $label:literal $made:ident;)*) => {
        const METRICS: [(&str, Made); CODES.len()] =
            [($first, Made::$made_first), $(($label, Made::$made)),*];

        pub const CODES: [u8; [0, $($code),*].len()] = [0, $($code),*];

        /// All codes as a question has them.
        pub const TYPES: &str = concat!("0", $(",", $code),*);

        /// The path of a question about everything in two days.
        pub const ALL: &str =
            concat!("/analytics/statistics/account/*/0", $(",", $code,)* "/day/2");
    };
}

// The list of the tests: whoever adds a metric adds it here, and no other test names all codes.
metrics! {
    0 "New User" Users;
    1 "Returning User" Users;
    2 "Active User" Users;
    3 "Messages" Count;
    4 "Action Messages" Count;
    5 "Fallback Reply" Count;
    6 "NLP Detected" Count;
    7 "NLP Missed" Count;
    8 "Conversation Length" Mean;
    9 "Time To Pick Up" Mean;
    10 "Takeover Rate" Ratio;
    11 "Support Conversation Length" Mean;
    12 "Goal Reached" Count;
    13 "Incoming Message" Count;
    14 "API Request" Count;
    15 "API Request Error" Count;
    16 "Time To First Message" Mean;
    17 "Operator Message" Count;
    18 "Tag Hit" Count;
}

/// The metrics that only questions of part two ask for.
const OUTCOMES: [(u8, &str, Made); 9] = [
    (100, "Conversations", Made::Count),
    (101, "Contained Rate", Made::Ratio),
    (102, "Unanswered Requests", Made::Ratio),
    (103, "Goal Rate", Made::Ratio),
    (104, "Messages Per Conversation", Made::MeanCount),
    (105, "Bot Reply Time", Made::Mean),
    (106, "Operator Reply Time", Made::Mean),
    (107, "API Time", Made::Mean),
    (108, "Satisfaction", Made::Ratio),
];

/// The codes that any question may ask for.
pub const ALL_CODES: [u8; CODES.len() + OUTCOMES.len()] = {
    let mut all = [0; CODES.len() + OUTCOMES.len()];
    let mut place = 0;
    while place < all.len() {
        all[place] =
            if place < CODES.len() { CODES[place] } else { OUTCOMES[place - CODES.len()].0 };
        place += 1;
    }
    all
};

/// Label of a code, and how its value is made.
pub(super) fn metric(code: u8) -> (&'static str, Made) {
    let of_part_two = OUTCOMES.iter().find(|(of, ..)| *of == code);
    of_part_two.map_or_else(|| METRICS[usize::from(code)], |(_, label, made)| (label, *made))
}

/// The samples that an event is by itself, whatever its session.
pub(super) fn of_event(event: &Event) -> Vec<Sample> {
    let codes: &[u8] = match event.kind {
        Kind::Received => &[13],
        Kind::Sent { fallback: false } => &[3],
        Kind::Sent { fallback: true } => &[3, 5],
        Kind::Nlp { detected: true } => &[6],
        Kind::Nlp { detected: false } => &[7],
        Kind::Integration { api: false, .. } => &[4],
        Kind::Integration { api: true, ok: true } => &[4, 14],
        Kind::Integration { api: true, ok: false } => &[4, 14, 15],
        Kind::OperatorMessage { automatic: false } => &[17],
        Kind::Goal => &[12],
        Kind::Tag => &[18],
        Kind::Feedback { satisfied } => return vec![share(108, event.time_ms, satisfied)],
        Kind::OperatorMessage { automatic: true }
        | Kind::Requested
        | Kind::Joined
        | Kind::Released
        | Kind::Ended
        | Kind::Forgotten => &[],
    };
    let mut samples: Vec<Sample> = codes.iter().map(|code| one(*code, event.time_ms)).collect();
    let is_api = matches!(event.kind, Kind::Integration { api: true, .. });
    if let Some(sum) = event.duration_ms.filter(|_| is_api) {
        samples.push(Sample { sum, ..one(107, event.time_ms) });
    }
    samples.into_iter().map(|sample| sample.named_by(event)).collect()
}

/// One thing that is counted.
pub(super) fn one(code: u8, time_ms: i64) -> Sample {
    Sample { time_ms, code, count: 1, sum: 1, name: None }
}

/// One thing of which a ratio says how many are so.
pub(super) fn share(code: u8, time_ms: i64, is_so: bool) -> Sample {
    Sample { sum: is_so.into(), ..one(code, time_ms) }
}

/// A duration, which counts at its end.
pub(super) fn duration(code: u8, from_ms: i64, to_ms: i64) -> Sample {
    let sum = u64::try_from(to_ms - from_ms).expect("events are sorted");
    Sample { sum, ..one(code, to_ms) }
}

/// The fields of a row, in the order in which they are written.
pub const FIELDS: [&str; 13] = [
    "GroupLabel",
    "BotName",
    "ChannelName",
    "EventLabel",
    "EventType",
    "Value",
    "Count",
    "Sum",
    "Unit",
    "BotId",
    "ChannelId",
    "GroupStart",
    "Complete",
];

/// The rows as they are sent: no space anywhere, numbers in their shortest form.
pub fn text_of(rows: &[Value]) -> String {
    let row = |row: &Value| {
        let fields = FIELDS.map(|field| format!("\"{field}\":{}", row[field]));
        format!("{{{}}}", fields.join(","))
    };
    format!("[{}]", rows.iter().map(row).collect::<Vec<_>>().join(","))
}

/// What one pair has in one group: count and sum by code, of the codes in [`CODES`].
type Tally = [(u64, u64); CODES.len()];

pub(super) fn rows(
    pairs: &BTreeMap<Pair, Facts>,
    question: &Question,
    directory: &Directory,
) -> Vec<Value> {
    let zone = jiff::tz::db().get(&directory.timezone).expect("a zone of the database");
    let groups = window::groups(&zone, question.mode, question.days, question.now_ms);
    let asked_for =
        |bot: &str| question.bots.as_ref().is_none_or(|bots| bots.iter().any(|asked| asked == bot));

    let mut ordered = Vec::new();
    for ((bot, channel), facts) in pairs.iter().filter(|((bot, _), _)| asked_for(bot)) {
        let tallies: Vec<Tally> = tallies(facts, &groups);
        if tallies.iter().flatten().all(|(count, _)| *count == 0) {
            continue;
        }
        let bot_name = directory.bots.get(bot).unwrap_or(bot);
        let channel_name =
            directory.channels.get(&(bot.clone(), channel.clone())).unwrap_or(channel);
        for (group, tally) in groups.iter().zip(&tallies) {
            for (code, (&(count, sum), (label, made))) in (0_u8..).zip(tally.iter().zip(METRICS)) {
                if !question.types.contains(&code) || (count == 0 && !question.fill) {
                    continue;
                }
                let row = json!({
                    "GroupLabel": group.label,
                    "BotName": bot_name,
                    "ChannelName": channel_name,
                    "EventLabel": label,
                    "EventType": code,
                    "Value": value(made, count, sum),
                    "Count": count,
                    "Sum": if made == Made::Mean { decimal(sum, 1_000) } else { sum.into() },
                    "Unit": made.unit(),
                    "BotId": bot,
                    "ChannelId": channel,
                    "GroupStart": utc(group.start_ms),
                    "Complete": group.complete,
                });
                ordered.push(((group.from_ms, bot_name, bot, channel_name, channel, code), row));
            }
        }
    }
    ordered.sort_by_key(|(place, _)| *place);
    ordered.into_iter().map(|(_, row)| row).collect()
}

/// One tally for each group.
fn tallies(facts: &Facts, groups: &[Group]) -> Vec<Tally> {
    let mut tallies = vec![[(0, 0); CODES.len()]; groups.len()];
    let group_of = |ms: i64| {
        let after = groups.partition_point(|g| g.from_ms <= ms);
        after.checked_sub(1).filter(|&group| ms < groups[group].to_ms)
    };
    let (Some(first), Some(last)) = (groups.first(), groups.last()) else { return tallies };
    let window = super::day_of(first.from_ms)..=super::day_of(last.to_ms);
    let days = || facts.days.range(window.clone()).map(|(_, day)| day);
    let samples = days().flat_map(|day| day.samples.iter().chain(day.sessions.values().flatten()));
    for sample in samples {
        if let Some(group) = group_of(sample.time_ms)
            && let Some((count, sum)) = tallies[group].get_mut(usize::from(sample.code))
        {
            *count += sample.count;
            *sum += sample.sum;
        }
    }
    let mut active: Vec<HashSet<(&str, usize)>> = vec![HashSet::new(); groups.len()];
    for (ms, user) in days().flat_map(|day| &day.received) {
        if let Some(group) = group_of(*ms) {
            let generation = facts.users[user].generation(super::quarter_of(*ms));
            active[group].insert((user, generation));
        }
    }
    for (group, users) in active.iter().enumerate() {
        let is_new = |(user, generation): &&(&str, usize)| {
            let first = facts.users[*user].first(*generation);
            group_of(first * window::QUARTER_MS) == Some(group)
        };
        let new = users.iter().filter(is_new).count();
        for (code, number) in [(0, new), (1, users.len() - new), (2, users.len())] {
            let number = u64::try_from(number).expect("a count of users");
            tallies[group][code] = (number, number);
        }
    }
    tallies
}

impl Made {
    pub(super) fn unit(self) -> &'static str {
        match self {
            Made::Users => "users",
            Made::Count | Made::MeanCount => "count",
            Made::Mean => "seconds",
            Made::Ratio => "percent",
        }
    }
}

fn value(made: Made, count: u64, sum: u64) -> Value {
    match made {
        Made::Users | Made::Count => count.into(),
        _ if count == 0 => Value::Null,
        Made::Mean => decimal(half_up(sum, count), 1_000),
        Made::MeanCount => decimal(half_up(sum * 1_000, count), 1_000),
        Made::Ratio => decimal(half_up(sum * 10_000, count), 100),
    }
}

/// `sum / count` to the nearest integer, half up.
pub(super) fn half_up(sum: u64, count: u64) -> u64 {
    (2 * sum + count) / (2 * count)
}

/// `number / parts` (parts being 100 or 1,000) in its shortest form.
pub(super) fn decimal(number: u64, parts: u64) -> Value {
    if number.is_multiple_of(parts) {
        return (number / parts).into();
    }
    let places = if parts == 100 { 2 } else { 3 };
    let text = format!("{}.{:0places$}", number / parts, number % parts);
    Value::Number(text.parse().expect("digits, a point, digits"))
}

pub(super) fn utc(ms: i64) -> String {
    let instant = Timestamp::from_millisecond(ms).expect("an instant of our age");
    instant.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
