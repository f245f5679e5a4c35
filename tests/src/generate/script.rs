//! What happens in a conversation, and how long the pauses are.

use super::{DAY_MS, Dice, Draft, HOUR_MS, MINUTE_MS, QUARTER_MS, SECOND_MS};
use crate::model::Kind;

const IDLE_MS: i64 = 30 * MINUTE_MS;

#[derive(Clone, Copy)]
enum Style {
    /// User and bot.
    Bot,
    /// An operator is asked for, comes, writes, goes, comes back.
    Operator,
    /// Anything after anything.
    Chaos,
    /// Short pauses and no end.
    Thread,
    /// An operator in control for weeks, with a message a day.
    Vigil,
}

pub(super) fn conversation(
    dice: &mut Dice,
    [account, bot, channel]: &[String; 3],
    number: u64,
    start_ms: i64,
    budget: usize,
) -> Vec<Draft> {
    let style = match dice.below(40) {
        0 => Style::Thread,
        1 => Style::Vigil,
        2..15 => Style::Bot,
        15..30 => Style::Operator,
        _ => Style::Chaos,
    };
    let most = match style {
        // More than one piece of a day's timeline holds, if the stream is long enough.
        Style::Thread => i64::try_from(budget / 4).expect("a number of events").clamp(40, 3_000),
        Style::Vigil => 150,
        _ => *dice.pick(&[1, 4, 12, 40]),
    };
    // The same ids occur on other bots and channels: only all parts together are an identity.
    let conversation = match dice.below(20) {
        // As long as may be: 512 bytes.
        0 => format!("{number:06}-{}-", "ü".repeat(252)),
        // As a user is called too.
        1 => format!("u{number}"),
        _ => format!("c{number}"),
    };
    let mut time_ms = start_ms;
    let mut drafts = Vec::new();
    let mut twin = None;
    for step in 0..dice.below(most) + 1 {
        let kind = twin.take().unwrap_or_else(|| kind(dice, style));
        let users = if dice.one_in(8) { 40 } else { 6 };
        drafts.push(Draft {
            account: account.clone(),
            bot: bot.clone(),
            channel: channel.clone(),
            conversation: conversation.clone(),
            user: format!("u{}", dice.below(users)),
            // Two sources share an id.
            source: format!("/runtime/{}", step % 2),
            id: format!("e{}", step / 2),
            time_ms,
            kind,
        });
        // Somebody else does the same at the same time: who is first is said by the ids.
        if matches!(kind, Kind::Joined | Kind::OperatorMessage { .. }) && dice.one_in(4) {
            twin = Some(kind);
            continue;
        }
        if dice.one_in(80) {
            forget(dice, &mut drafts, &format!("f{number}-{step}"));
        }
        time_ms += pause_ms(dice, style, time_ms);
        // Some time goes backwards: clocks of different machines.
        if dice.one_in(30) {
            time_ms -= dice.below(90 * SECOND_MS);
        }
    }
    drafts
}

/// The user of the last draft is forgotten, about when that happened; or the user of the
/// conversation is, who may not be there.
fn forget(dice: &mut Dice, drafts: &mut Vec<Draft>, id: &str) {
    let Some(last) = drafts.last() else { return };
    let first = Draft {
        id: id.to_owned(),
        kind: Kind::Forgotten,
        time_ms: near(dice, last.time_ms),
        ..last.clone()
    };
    if dice.one_in(2) {
        let time_ms = near(dice, first.time_ms);
        drafts.push(Draft { id: format!("{id}-again"), time_ms, ..first.clone() });
    }
    drafts.push(first);
}

/// A moment of the same quarter of an hour, or a neighbouring one, or some hours later or earlier.
fn near(dice: &mut Dice, time_ms: i64) -> i64 {
    let quarter_ms = time_ms - time_ms.rem_euclid(QUARTER_MS);
    match dice.below(8) {
        0 => time_ms,
        1 => quarter_ms - 1,
        2 => quarter_ms,
        3 => quarter_ms + QUARTER_MS,
        4 => time_ms + dice.below(20 * HOUR_MS) - 10 * HOUR_MS,
        _ => quarter_ms + dice.below(QUARTER_MS),
    }
}

/// A user who comes, is forgotten and comes back, again and again: in the same quarter of an hour,
/// or after so long that nothing of before is remembered. Some are forgotten who never came.
///
/// Conversation and user have one id, and some of the forgetting has source and id of what was
/// said.
pub(super) fn departures(
    dice: &mut Dice,
    [account, bot, channel]: &[String; 3],
    number: u64,
    start_ms: i64,
) -> Vec<Draft> {
    let mut draft = Draft {
        account: account.clone(),
        bot: bot.clone(),
        channel: channel.clone(),
        conversation: format!("g{number}"),
        user: format!("g{number}"),
        source: "/runtime/0".to_owned(),
        id: String::new(),
        time_ms: start_ms,
        kind: Kind::Received,
    };
    let mut drafts = Vec::new();
    for step in 0..dice.below(12) + 2 {
        let forgotten = dice.one_in(3);
        draft.kind = if forgotten { Kind::Forgotten } else { Kind::Received };
        // Each id is used once for each of the two.
        draft.id = format!("e{}", step / 2 * 2);
        if drafts.iter().any(|before: &Draft| (&before.id, before.kind) == (&draft.id, draft.kind))
        {
            draft.id = format!("e{step}");
        }
        drafts.push(draft.clone());
        draft.time_ms = match dice.below(20) {
            0 => draft.time_ms + dice.below(10 * DAY_MS),
            1 => draft.time_ms + (35 + dice.below(4)) * DAY_MS,
            2 => draft.time_ms + 39 * DAY_MS + dice.below(5 * DAY_MS),
            3..6 => draft.time_ms + dice.below(DAY_MS),
            6 => draft.time_ms,
            _ => near(dice, draft.time_ms),
        };
    }
    drafts
}

/// Something that happens in a conversation without an end, with an operator or without.
pub(super) fn endless_kind(dice: &mut Dice, operator: bool) -> Kind {
    kind(dice, if operator { Style::Vigil } else { Style::Thread })
}

fn kind(dice: &mut Dice, style: Style) -> Kind {
    let received = Kind::Received;
    let sent = Kind::Sent { fallback: dice.one_in(4) };
    let nlp = Kind::Nlp { detected: dice.one_in(2) };
    let called = Kind::Integration { api: dice.one_in(2), ok: dice.one_in(2) };
    let written = Kind::OperatorMessage { automatic: false };
    let automatic = Kind::OperatorMessage { automatic: true };
    let (requested, joined, released) = (Kind::Requested, Kind::Joined, Kind::Released);
    let (goal, tag, ended) = (Kind::Goal, Kind::Tag, Kind::Ended);
    if dice.one_in(25) {
        return Kind::Feedback { satisfied: dice.one_in(2) };
    }
    match style {
        Style::Bot | Style::Thread if dice.one_in(60) => ended,
        Style::Thread if dice.one_in(25) => *dice.pick(&[requested, joined, written, released]),
        Style::Bot | Style::Thread => *dice
            .pick(&[received, received, received, sent, sent, sent, nlp, nlp, called, goal, tag]),
        Style::Vigil if dice.one_in(40) => *dice.pick(&[released, requested, ended]),
        Style::Vigil => *dice.pick(&[received, sent, joined, written, written, automatic, tag]),
        Style::Operator if dice.one_in(30) => ended,
        Style::Operator => *dice.pick(&[
            received, received, sent, requested, requested, joined, joined, written, written,
            automatic, released, tag,
        ]),
        Style::Chaos => *dice.pick(&[
            received, sent, nlp, called, requested, joined, written, automatic, released, goal,
            tag, ended,
        ]),
    }
}

fn pause_ms(dice: &mut Dice, style: Style, now_ms: i64) -> i64 {
    let to_next = |unit_ms: i64| unit_ms - now_ms.rem_euclid(unit_ms);
    let beside = dice.below(3) - 1;
    match dice.below(100) {
        0..70 if matches!(style, Style::Vigil) => dice.below(DAY_MS - HOUR_MS) + HOUR_MS,
        70..75 if matches!(style, Style::Vigil) => DAY_MS + beside,
        0..18 => 0,
        18..25 => 1,
        25..30 => to_next(QUARTER_MS) + beside,
        30..33 => to_next(HOUR_MS) + beside,
        33..35 => to_next(DAY_MS) + beside,
        35..42 => IDLE_MS + beside,
        42..90 if matches!(style, Style::Thread) => dice.below(5 * MINUTE_MS),
        42..46 => DAY_MS + beside,
        46..51 => dice.below(DAY_MS),
        51..52 => dice.below(6 * DAY_MS),
        52..62 => dice.below(IDLE_MS),
        _ => dice.below(2 * MINUTE_MS),
    }
}

/// The same identity with something else in it.
pub(super) fn other_content(dice: &mut Dice, draft: &Draft) -> Draft {
    let mut other = draft.clone();
    // With another kind it would be somebody's message, with an identity of its own.
    if draft.kind == Kind::Forgotten || dice.one_in(2) {
        other.time_ms += *dice.pick(&[-DAY_MS, -HOUR_MS, -1, 1, IDLE_MS, 3 * DAY_MS]);
    } else {
        // The same kind is the same event with other optional fields, or just written otherwise.
        let kinds = [draft.kind, draft.kind, Kind::Received, Kind::Joined, Kind::Ended, Kind::Tag];
        let satisfied = dice.one_in(2);
        let kinds = [&kinds[..], &[Kind::Feedback { satisfied }]].concat();
        other.kind = *dice.pick(&kinds);
    }
    other
}
