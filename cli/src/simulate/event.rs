//! A conversation on a channel, and its events as CloudEvents.

use botstats_common::event::{self as published, What};
use botstats_common::names;

use super::Event;
use super::cast::Pair;
use super::dice::Dice;
use super::script::{Say, Script};

/// The share of conversations with a new user, in percent.
const NEW_USER_PERCENT: u64 = 45;

/// A conversation with its script.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Talk {
    subject: String,
    source: &'static str,
    conversation: String,
    user: String,
    start_ms: i64,
    seed: u64,
    number: u64,
    script: Script,
}

impl Talk {
    /// `users` is how many users the channel has seen.
    pub(super) fn new(
        pair: &Pair<'_>,
        users: Option<&mut u64>,
        script: Script,
        seed: u64,
        number: u64,
        start_ms: i64,
        dice: &mut Dice,
    ) -> Self {
        let seen = users.map_or(0, |users| {
            if *users == 0 || dice.percent(NEW_USER_PERCENT) {
                *users += 1;
                *users - 1
            } else {
                // Recent users are more likely.
                let (a, b) = (dice.below(*users), dice.below(*users));
                a.max(b)
            }
        });
        let subject = names::event_subject(pair.account, pair.bot, pair.channel);
        let user = Dice::of(&[hash(&subject), seen]).next_bits();
        // On the web each visit is a conversation; elsewhere a user has one thread.
        let conversation = if pair.channel.as_str() == "web" {
            format!("c-{:016x}", Dice::of(&[seed, number, 2]).next_bits())
        } else {
            format!("t-{user:016x}")
        };
        let source = dice.pick(["/runtime/eu-1", "/runtime/eu-2", "/runtime/us-1"]);
        let user = format!("u-{user:016x}");
        Self { subject, source, conversation, user, start_ms, seed, number, script }
    }

    /// When its event number `step` happens.
    pub(super) fn time(&self, step: usize) -> Option<i64> {
        self.script.steps.get(step).map(|step| self.start_ms + step.at_ms)
    }
}

/// A number that follows from a text (FNV-1a).
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn what(say: Say) -> What<'static> {
    let operator_id = |number: i64| Some(format!("op-{number}").into());
    match say {
        Say::Received { kind } => What::MessageReceived { kind: Some(kind.into()) },
        Say::Sent { fallback, parts } => {
            What::MessageSent { fallback: Some(fallback), parts: u32::try_from(parts).ok() }
        }
        Say::Nlp { detected, intent, confidence } => {
            let percent = f64::from(i32::try_from(confidence).unwrap_or_default());
            let intent = detected.then(|| intent.into());
            What::NlpEvaluated { detected, confidence: Some(percent / 100.0), intent }
        }
        Say::Integration { kind, name, ok, status, duration_ms } => What::IntegrationCalled {
            kind: kind.into(),
            ok,
            status: Some(status),
            duration_ms: u64::try_from(duration_ms).ok(),
            name: Some(name.into()),
        },
        Say::Requested { by } => What::OperatorRequested { by: Some(by.into()) },
        Say::Joined { operator } => What::OperatorJoined { operator: operator_id(operator) },
        Say::Operator { operator, automatic } => {
            What::OperatorMessage { operator: operator_id(operator), automatic: Some(automatic) }
        }
        Say::Released { reason } => What::OperatorReleased { reason: Some(reason.into()) },
        Say::Goal { goal } => What::GoalReached { goal: goal.into() },
        Say::Tag { tag } => What::TagSet { tag: tag.into() },
        Say::Feedback { score, question } => {
            What::FeedbackGiven { score, question: Some(question.into()) }
        }
        Say::Ended { reason } => What::ConversationEnded { reason: Some(reason.into()) },
    }
}

/// An event of a conversation as it is published.
pub(super) fn render(talk: &Talk, step: usize) -> Option<Event> {
    let time_ms = talk.time(step)?;
    let mut dice = Dice::of(&[talk.seed, talk.number, 3, u64::try_from(step).ok()?]);
    let mut random = [0_u8; 10];
    let bytes = dice.next_bits().to_le_bytes().into_iter().chain(dice.next_bits().to_le_bytes());
    random.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    let unix_ms = u64::try_from(time_ms).unwrap_or_default();
    let id = uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid().to_string();
    let event = published::Event {
        id: id.into(),
        source: talk.source.into(),
        time_ms,
        conversation: talk.conversation.as_str().into(),
        user: talk.user.as_str().into(),
        what: what(talk.script.steps.get(step)?.say),
    };
    let payload = event.render().ok()?;
    Some(Event { subject: talk.subject.clone(), payload, time_ms })
}
