//! The events of one conversation and their times, from its random numbers alone.

use super::dice::Dice;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// The most turns between a user and a bot.
const MAX_TURNS: u64 = 30;

/// What bots call: kind and name.
const INTEGRATIONS: [(&str, &str); 10] = [
    ("api", "stock"),
    ("api", "stock"),
    ("api", "stock"),
    ("api", "payment"),
    ("api", "payment"),
    ("api", "calendar"),
    ("database", "orders"),
    ("database", "customers"),
    ("nlp", "translation"),
    ("nlp", "sentiment"),
];

/// What users reach, want and are; how operators are busy. A name that stands several times is that
/// much more frequent.
const GOALS: [&str; 12] = [
    "order", "order", "order", "order", "order", "order", "booking", "booking", "booking",
    "signup", "signup", "callback",
];
const TAGS: [&str; 12] = [
    "support",
    "support",
    "support",
    "support",
    "sales",
    "sales",
    "sales",
    "complaint",
    "complaint",
    "newsletter",
    "newsletter",
    "vip",
];
const INTENTS: [&str; 16] = [
    "order", "order", "order", "order", "order", "status", "status", "status", "price", "price",
    "hours", "hours", "hello", "hello", "human", "cancel",
];
/// Numbers of operators, from 1 to 12.
const OPERATORS: [i64; 24] =
    [1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12];

/// The content of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Say {
    Received { kind: &'static str },
    Sent { fallback: bool, parts: i64 },
    Nlp { detected: bool, intent: &'static str, confidence: i64 },
    Integration { kind: &'static str, name: &'static str, ok: bool, status: i64, duration_ms: i64 },
    Requested { by: &'static str },
    Joined { operator: i64 },
    Operator { operator: i64, automatic: bool },
    Released { reason: &'static str },
    Goal { goal: &'static str },
    Tag { tag: &'static str },
    Feedback { score: u8, question: &'static str },
    Ended { reason: &'static str },
}

/// One event of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Step {
    /// Milliseconds after the first event of the conversation.
    pub(super) at_ms: i64,
    pub(super) say: Say,
}

/// The events of a conversation, in order of time; at least one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Script {
    pub(super) steps: Vec<Step>,
}

struct Writer<'a> {
    dice: &'a mut Dice,
    now_ms: i64,
    steps: Vec<Step>,
}

impl Script {
    pub(super) fn of(dice: &mut Dice) -> Self {
        let mut writer = Writer { dice, now_ms: 0, steps: Vec::with_capacity(24) };
        writer.conversation();
        Self { steps: writer.steps }
    }

    /// Shortens all times if the conversation would take longer than `most_ms`.
    pub(super) fn fit(&mut self, most_ms: i64) {
        let Some(last_ms) = self.steps.last().map(|step| step.at_ms) else { return };
        if last_ms > most_ms {
            for step in &mut self.steps {
                step.at_ms = step.at_ms * most_ms.max(0) / last_ms;
            }
        }
    }
}

impl Writer<'_> {
    fn say(&mut self, say: Say) {
        self.steps.push(Step { at_ms: self.now_ms, say });
    }

    fn wait(&mut self, low_ms: i64, high_ms: i64) {
        self.now_ms += self.dice.between(low_ms, high_ms);
    }

    fn conversation(&mut self) {
        let mut turns = 1;
        while turns < MAX_TURNS && self.dice.percent(72) {
            turns += 1;
        }
        for turn in 0..turns {
            if turn > 0 {
                self.wait(2 * SECOND, 75 * SECOND);
                // Some users come back after more than the idle timeout: a second session.
                if self.dice.percent(2) {
                    self.wait(35 * MINUTE, 6 * HOUR);
                }
            }
            self.turn();
        }
        if self.dice.percent(8) {
            self.operator();
        }
        if self.dice.percent(14) {
            self.wait(100, 900);
            let goal = self.dice.pick(GOALS);
            self.say(Say::Goal { goal });
        }
        if self.dice.percent(22) {
            self.wait(50, 500);
            let tag = self.dice.pick(TAGS);
            self.say(Say::Tag { tag });
        }
        if self.dice.percent(12) {
            self.wait(2 * SECOND, 40 * SECOND);
            let score = self.dice.pick([5, 5, 5, 4, 4, 3, 2, 1]);
            let question = self.dice.pick(["Did this help?", "How was your chat?"]);
            self.say(Say::Feedback { score, question });
        }
        if self.dice.percent(45) {
            self.wait(SECOND, 2 * MINUTE);
            let reason = self.dice.pick(["done", "timeout", "left"]);
            self.say(Say::Ended { reason });
        }
    }

    /// A turn: the user writes, the bot understands or not, may call an integration, and answers.
    fn turn(&mut self) {
        let kind = self.dice.pick(["text", "text", "text", "text", "button", "button", "image"]);
        self.say(Say::Received { kind });
        let mut understood = true;
        if kind == "text" {
            self.wait(15, 140);
            understood = self.dice.percent(86);
            let intent = if understood { self.dice.pick(INTENTS) } else { "" };
            let confidence = self
                .dice
                .between(if understood { 60 } else { 5 }, if understood { 99 } else { 45 });
            self.say(Say::Nlp { detected: understood, intent, confidence });
        }
        if self.dice.percent(28) {
            let duration_ms = self.dice.between(20, 1_800);
            self.now_ms += duration_ms;
            let (kind, name) = self.dice.pick(INTEGRATIONS);
            let ok = self.dice.percent(95);
            let status = if ok { 200 } else { self.dice.pick([404, 429, 500, 503]) };
            self.say(Say::Integration { kind, name, ok, status, duration_ms });
        }
        self.wait(80, 900);
        let parts = self.dice.between(1, 3);
        self.say(Say::Sent { fallback: !understood, parts });
    }

    /// An operator takes over, or no one does.
    fn operator(&mut self) {
        self.wait(SECOND, 20 * SECOND);
        let by = self.dice.pick(["user", "user", "bot"]);
        self.say(Say::Requested { by });
        if self.dice.percent(12) {
            return;
        }
        let operator = self.dice.pick(OPERATORS);
        self.wait(10 * SECOND, 8 * MINUTE);
        // Some operators begin to write without joining, which counts as a join.
        if self.dice.percent(88) {
            self.say(Say::Joined { operator });
            if self.dice.percent(40) {
                self.wait(200, 900);
                self.say(Say::Operator { operator, automatic: true });
            }
            self.wait(5 * SECOND, 90 * SECOND);
        }
        for _ in 0..self.dice.between(1, 6) {
            self.say(Say::Operator { operator, automatic: false });
            self.wait(5 * SECOND, 2 * MINUTE);
            if self.dice.percent(80) {
                self.say(Say::Received { kind: "text" });
                self.wait(5 * SECOND, 2 * MINUTE);
            }
        }
        if self.dice.percent(85) {
            let reason = self.dice.pick(["solved", "solved", "transferred", "timeout"]);
            self.say(Say::Released { reason });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_in_order_and_can_be_hurried() {
        for seed in 0..500 {
            let mut script = Script::of(&mut Dice::of(&[seed]));
            assert!(matches!(script.steps[0], Step { at_ms: 0, say: Say::Received { .. } }));
            assert!(script.steps.is_sorted_by_key(|step| step.at_ms));
            script.fit(1_000);
            assert!(script.steps.is_sorted_by_key(|step| step.at_ms));
            assert!(script.steps.last().unwrap().at_ms <= 1_000);
        }
    }
}
