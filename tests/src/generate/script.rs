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
        _ => format!("c{number}"),
    };
    let mut time_ms = start_ms;
    let mut drafts = Vec::new();
    for step in 0..dice.below(most) + 1 {
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
            kind: kind(dice, style),
        });
        time_ms += pause_ms(dice, style, time_ms);
        // Some time goes backwards: clocks of different machines.
        if dice.one_in(30) {
            time_ms -= dice.below(90 * SECOND_MS);
        }
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
    if dice.one_in(2) {
        other.time_ms += *dice.pick(&[-DAY_MS, -HOUR_MS, -1, 1, IDLE_MS, 3 * DAY_MS]);
    } else {
        // The same kind is the same event with other optional fields, or just written otherwise.
        let kinds = [draft.kind, draft.kind, Kind::Received, Kind::Joined, Kind::Ended, Kind::Tag];
        other.kind = *dice.pick(&kinds);
    }
    other
}
