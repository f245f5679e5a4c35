//! What goes on at a moment.

use std::collections::BTreeMap;

use super::accept::{Event, Kind};
use super::session::{self, Operator};
use super::{Model, Pair};

/// A waiting conversation is active as long after its last `message.received`.
const ACTIVE_MS: i64 = 30 * 60_000;

/// What goes on in a bot on a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    pub open: u32,
    pub waiting: u32,
    pub waiting_active: u32,
    pub with_operator: u32,
    pub unanswered: u32,
    /// The earliest request of those that wait and are active, in Unix milliseconds.
    pub oldest_request_ms: Option<i64>,
}

impl Model {
    /// What goes on in every pair of an account that has an event, at a moment in Unix
    /// milliseconds.
    pub fn now(&self, account: &str, now_ms: i64) -> BTreeMap<Pair, Now> {
        let pairs = self.facts.get(account).into_iter().flat_map(BTreeMap::keys);
        let mut all: BTreeMap<Pair, Now> =
            pairs.map(|pair| (pair.clone(), Now::default())).collect();
        for ([of, bot, channel, _], places) in &self.conversations {
            if of == account {
                let mut events: Vec<&Event> =
                    places.iter().map(|&place| &self.events[place].1).collect();
                session::sort(&mut events);
                let pair = all.get_mut(&(bot.clone(), channel.clone()));
                let last = session::cut(&events).pop().expect("it has an event");
                pair.expect("every event made its pair").count(last, now_ms);
            }
        }
        all
    }
}

impl Now {
    /// Counts a conversation with that last session.
    fn count(&mut self, session: &[&Event], now_ms: i64) {
        let ago_ms = |event: &Event| now_ms.max(event.time_ms) - event.time_ms;
        let last_message = session.iter().rfind(|event| event.kind.is_message());
        let is_request = |event: &&Event| event.kind == Kind::Requested;
        let is_join = |event: &&Event| event.kind == Kind::Joined;
        let is_of_people = session.iter().any(|event| is_request(event) || is_join(event));
        let last = session.last().expect("a session has an event");
        let state = session::states(session).pop().expect("a state after the last event");
        let has_ended = last.kind == Kind::Ended;
        if has_ended || last_message.is_none() && !is_of_people || ago_ms(last) > state.idle_ms() {
            return;
        }
        self.open += 1;
        if last_message.is_some_and(|event| event.kind == Kind::Received) {
            self.unanswered += 1;
        }
        match state {
            Operator::Nobody => {}
            Operator::InControl { .. } => self.with_operator += 1,
            Operator::Requested { at_ms } => {
                self.waiting += 1;
                let received = session.iter().rfind(|event| event.kind == Kind::Received);
                if received.is_some_and(|event| ago_ms(event) <= ACTIVE_MS) {
                    self.waiting_active += 1;
                    let earliest = self.oldest_request_ms.into_iter().chain([at_ms]).min();
                    self.oldest_request_ms = earliest;
                }
            }
        }
    }
}
