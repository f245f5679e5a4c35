//! Years of one platform's traffic, day by day: never more of it in memory than what is still to
//! come.
//!
//! New users and old ones; conversations that never end, with a bot and with an operator;
//! conversations across midnights and the ends of months; events as late as they may be and later;
//! duplicates and conflicts as late as they can be told; users who are forgotten and come back; a
//! server's clock that may be wrong.

use std::collections::BTreeMap;

use super::{
    Arrival, DAY_MS, Dice, Draft, Generated, HOUR_MS, MINUTE_MS, NS_PER_MS, SECOND_MS, bad,
    bots_of, directories, form, latest_ms, places, script, stored_ns,
};
use crate::model::Message;

/// The time that a server gives a message which is really stored at that one, in Unix nanoseconds.
pub type ServerClock = fn(i64) -> i64;

/// How a platform lives.
#[derive(Debug, Clone)]
pub struct Life {
    /// Everything else being equal, another seed is another life.
    pub seed: u64,
    pub accounts: u64,
    /// The midnight, in UTC, with which it begins.
    pub start_ms: i64,
    /// About how many events a day.
    pub events: usize,
    /// Users of each account at the beginning.
    pub users: i64,
    /// Whether a third of the conversations is with new users.
    pub newcomers: bool,
    /// The server's clock.
    pub clock: ServerClock,
    /// Whether the bots have the same clock.
    pub bots_too: bool,
}

/// A life as it goes on: gives the messages of one day after the other, without an end.
#[derive(Debug)]
pub struct Lifetime {
    /// The accounts with their bots and names; no messages.
    pub scene: Generated,
    life: Life,
    dice: Dice,
    places: Vec<[String; 3]>,
    day: i64,
    conversations: u64,
    users: i64,
    sequence: u64,
    /// What is still to be stored, by the true time.
    waiting: BTreeMap<(i64, u64), Arrival>,
    arrivals: u64,
}

impl Life {
    pub fn begin(&self) -> Lifetime {
        let mut dice = Dice::new(self.seed);
        let places = places(&mut dice, self.accounts);
        let directories = directories(&mut dice, &places);
        let scene = Generated { messages: Vec::new(), directories, bots: bots_of(&places) };
        Lifetime {
            scene,
            life: self.clone(),
            dice,
            places,
            day: 0,
            conversations: 0,
            users: self.users,
            sequence: 0,
            waiting: BTreeMap::new(),
            arrivals: 0,
        }
    }
}

impl Lifetime {
    /// The true time up to which messages came, in Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        // Events of the next day may be stored a little before it begins.
        self.life.start_ms + self.day * DAY_MS - HOUR_MS
    }

    fn live(&mut self) {
        let mut drafts = Vec::new();
        for place in 0..self.places.len() {
            self.endless(place, &mut drafts);
        }
        while drafts.len() < self.life.events {
            self.conversation(&mut drafts);
        }
        for mut draft in drafts {
            let true_ms = draft.time_ms;
            if self.life.bots_too {
                draft.time_ms = (self.life.clock)(true_ms * NS_PER_MS) / NS_PER_MS;
            }
            self.arrive(&draft, draft.time_ms - true_ms);
        }
        self.day += 1;
    }

    /// What happens today in the conversation that never ends; every second place has one with an
    /// operator.
    fn endless(&mut self, place: usize, drafts: &mut Vec<Draft>) {
        let Self { dice, places, day, .. } = self;
        let [account, bot, channel] = places[place].clone();
        let mut time_ms = self.life.start_ms + *day * DAY_MS + dice.below(HOUR_MS);
        for step in 0.. {
            time_ms += if dice.one_in(3) { dice.below(20 * MINUTE_MS) } else { dice.below(DAY_MS) };
            if time_ms >= self.life.start_ms + (*day + 1) * DAY_MS {
                break;
            }
            drafts.push(Draft {
                account: account.clone(),
                bot: bot.clone(),
                channel: channel.clone(),
                conversation: "endless".to_owned(),
                user: format!("u{}", dice.below(self.life.users)),
                source: "/runtime/endless".to_owned(),
                id: format!("{day}-{step}"),
                time_ms,
                kind: script::endless_kind(dice, place.is_multiple_of(2)),
            });
        }
    }

    fn conversation(&mut self, drafts: &mut Vec<Draft>) {
        let dice = &mut self.dice;
        let place = dice.pick(&self.places).clone();
        let today_ms = self.life.start_ms + self.day * DAY_MS;
        let start_ms = match dice.below(4) {
            0 => today_ms + DAY_MS - dice.below(20 * MINUTE_MS) - 1,
            _ => today_ms + dice.below(DAY_MS),
        };
        let first_user = if self.life.newcomers && dice.one_in(3) {
            self.users += 1;
            self.users
        } else {
            dice.below(self.users)
        };
        self.conversations += 1;
        if dice.one_in(20) {
            drafts.append(&mut script::departures(dice, &place, self.conversations, start_ms));
            return;
        }
        let length = self.life.events * 4;
        let mut new = script::conversation(dice, &place, self.conversations, start_ms, length);
        for draft in &mut new {
            // Most are the conversation's own user; a few of its others are older users.
            let own = matches!(draft.user.as_str(), "u0" | "u1" | "u2" | "u3");
            let user = if own { first_user } else { dice.below(self.life.users) };
            draft.user = format!("u{user}");
        }
        drafts.append(&mut new);
    }

    fn arrive(&mut self, draft: &Draft, wrong_ms: i64) {
        let dice = &mut self.dice;
        let latest_ns = (draft.time_ms + latest_ms(draft.kind)) * NS_PER_MS;
        let moment_ns = |dice: &mut Dice| match dice.below(5) {
            0 => 0,
            1 => dice.below(SECOND_MS * NS_PER_MS),
            2 => dice.below(3 * HOUR_MS) * NS_PER_MS,
            _ => dice.below(3 * DAY_MS) * NS_PER_MS,
        };
        let stored = match dice.below(30) {
            0 => latest_ns - moment_ns(dice),
            _ => stored_ns(dice, draft.kind, draft.time_ms),
        };
        let first = form::write(dice, draft, stored);
        let mut arrivals = Vec::new();
        if dice.one_in(8) {
            let mut again = first.clone();
            again.stored_ns = match dice.below(4) {
                0 => first.stored_ns + moment_ns(dice),
                1 => latest_ns + 1 + moment_ns(dice),
                _ => latest_ns - moment_ns(dice),
            };
            arrivals.push(again);
        }
        if dice.one_in(25) {
            let other = script::other_content(dice, draft);
            // As long as the first one could come again, its identity is taken; not for ever.
            let stored = stored_ns(dice, other.kind, other.time_ms).min(latest_ns);
            arrivals.push(form::write(dice, &other, stored));
        }
        if dice.one_in(40) {
            arrivals.push(bad::message(dice, draft, first.stored_ns));
        }
        arrivals.push(first);
        for arrival in arrivals {
            self.arrivals += 1;
            self.waiting.insert((arrival.stored_ns - wrong_ms * NS_PER_MS, self.arrivals), arrival);
        }
    }
}

impl Iterator for Lifetime {
    type Item = Vec<Message>;

    fn next(&mut self) -> Option<Vec<Message>> {
        self.live();
        let later = self.waiting.split_off(&(self.now_ms() * NS_PER_MS, 0));
        let today = std::mem::replace(&mut self.waiting, later).into_iter();
        let (clock, sequence) = (self.life.clock, &mut self.sequence);
        Some(
            today
                .map(|((stored_ns, _), a)| {
                    *sequence += 1;
                    Message {
                        sequence: *sequence,
                        stored_ns: clock(stored_ns),
                        subject: a.subject,
                        headers: a.headers,
                        payload: a.payload,
                    }
                })
                .collect(),
        )
    }
}
