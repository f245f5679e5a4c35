//! The stored form of a session's state, with which the timeline of a day begins.
//!
//! *Format* of a stored state: one byte with bits of `mask`. Without `mask::SESSION` nothing
//! follows. Else, each only if its bits say so:
//!
//! | what | form |
//! | --- | --- |
//! | `mask::OPERATORS` | one byte with bits of `operators` |
//! | last event | milliseconds before the beginning of the day (`mask::OF_DAY`: after it) |
//! | `mask::RECEIVED` | first and last `message.received` |
//! | `mask::UNANSWERED` | first unanswered `message.received` |
//! | `operators::JOINED_UNANSWERED` | the last explicit join after it |
//! | `mask::MESSAGES` | last message; number of messages |
//! | `operators::REQUESTED` | the request |
//! | `operators::CONTROL` | the join; last message since |
//! | `operators::NAMED` | the operator in control: number of bytes, UTF-8 |
//!
//! Numbers are varints. Times but the first are milliseconds before the last event.

use botstats_common::varint;

use super::{Control, Messages, Received, SessionState, Unanswered};
use crate::event::MAX_SENT_BYTES;
use crate::fold::names::{NameId, Names};

/// A stored time is less than this many milliseconds (8,900 years) from the time that it is
/// relative to, so that no sum or difference of times overflows.
const MAX_DISTANCE_MS: u64 = 1 << 48;

/// Bits of a stored state.
mod mask {
    /// A session is open.
    pub(super) const SESSION: u8 = 1;
    /// The last event is not before the beginning of the day.
    pub(super) const OF_DAY: u8 = 1 << 1;
    pub(super) const RECEIVED: u8 = 1 << 2;
    pub(super) const MESSAGES: u8 = 1 << 3;
    /// The last message is a `message.received`.
    pub(super) const LAST_IS_RECEIVED: u8 = 1 << 4;
    pub(super) const UNANSWERED: u8 = 1 << 5;
    pub(super) const GOAL: u8 = 1 << 6;
    /// Operators were asked for or took part.
    pub(super) const OPERATORS: u8 = 1 << 7;
}

/// Bits of a stored state that has `mask::OPERATORS`.
mod operators {
    /// The session has an `operator.requested`.
    pub(super) const ASKED: u8 = 1;
    /// The session has a join.
    pub(super) const JOINED: u8 = 1 << 1;
    pub(super) const REQUESTED: u8 = 1 << 2;
    pub(super) const CONTROL: u8 = 1 << 3;
    /// The operator in control joined explicitly and has not yet written.
    pub(super) const AWAITS_FIRST: u8 = 1 << 4;
    /// The operator in control has a name.
    pub(super) const NAMED: u8 = 1 << 5;
    pub(super) const JOINED_UNANSWERED: u8 = 1 << 6;
    pub(super) const UNKNOWN: u8 = 1 << 7;
}

impl SessionState {
    /// Appends the stored form. The nearer the day's beginning is to the last event, the shorter.
    pub(crate) fn encode(&self, day_begin_ms: i64, names: &Names, out: &mut Vec<u8>) {
        let Some(last_ms) = self.last_ms else { return out.push(0) };
        let (mask, operators) = self.masks(day_begin_ms, names);
        out.push(mask);
        if mask & mask::OPERATORS != 0 {
            out.push(operators);
        }
        varint::write(out, last_ms.abs_diff(day_begin_ms));
        let mut time = |ms: i64| varint::write(out, last_ms.abs_diff(ms));
        if let Some(Received { first_ms, last_ms, unanswered }) = &self.received {
            time(*first_ms);
            time(*last_ms);
            if let Some(Unanswered { since_ms, joined_ms }) = unanswered {
                time(*since_ms);
                joined_ms.iter().for_each(|ms| time(*ms));
            }
        }
        if let Some(messages) = &self.messages {
            time(messages.last_ms);
            varint::write(out, messages.count.into());
        }
        let mut time = |ms: i64| varint::write(out, last_ms.abs_diff(ms));
        self.requested_ms.iter().for_each(|ms| time(*ms));
        if let Some(control) = &self.control {
            time(control.joined_ms);
            time(control.last_message_ms);
            if let Some(name) = names.text(control.operator) {
                varint::write(out, name.len() as u64);
                out.extend_from_slice(name.as_bytes());
            }
        }
    }

    fn masks(&self, day_begin_ms: i64, names: &Names) -> (u8, u8) {
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        let unanswered = self.received.as_ref().and_then(|received| received.unanswered.as_ref());
        let control = self.control.as_ref();
        let operators = bit(self.asked, operators::ASKED)
            | bit(self.joined, operators::JOINED)
            | bit(self.requested_ms.is_some(), operators::REQUESTED)
            | bit(control.is_some(), operators::CONTROL)
            | bit(control.is_some_and(|c| c.awaits_first_message), operators::AWAITS_FIRST)
            | bit(control.is_some_and(|c| names.text(c.operator).is_some()), operators::NAMED)
            | bit(unanswered.is_some_and(|u| u.joined_ms.is_some()), operators::JOINED_UNANSWERED);
        let mask = mask::SESSION
            | bit(self.last_ms.is_some_and(|last| last >= day_begin_ms), mask::OF_DAY)
            | bit(self.received.is_some(), mask::RECEIVED)
            | bit(self.messages.is_some(), mask::MESSAGES)
            | bit(self.last_message_is_received(), mask::LAST_IS_RECEIVED)
            | bit(unanswered.is_some(), mask::UNANSWERED)
            | bit(self.has_goal, mask::GOAL)
            | bit(operators != 0, mask::OPERATORS);
        (mask, operators)
    }

    /// Takes a stored form off the front; `None` if the bytes are damaged. `day_begin_ms` is that
    /// of [`SessionState::encode`].
    pub(crate) fn decode(bytes: &mut &[u8], day_begin_ms: i64, names: &mut Names) -> Option<Self> {
        let mask = byte(bytes)?;
        if mask & mask::SESSION == 0 {
            return (mask == 0).then(Self::default);
        }
        let has = |bit: u8| mask & bit != 0;
        let operators = if has(mask::OPERATORS) { byte(bytes)? } else { 0 };
        let had = |bit: u8| operators & bit != 0;
        let is_damaged = had(operators::UNKNOWN)
            || has(mask::OPERATORS) && operators == 0
            || has(mask::RECEIVED | mask::LAST_IS_RECEIVED) && !has(mask::MESSAGES)
            || has(mask::LAST_IS_RECEIVED | mask::UNANSWERED) && !has(mask::RECEIVED)
            || had(operators::JOINED_UNANSWERED) && !has(mask::UNANSWERED)
            || had(operators::REQUESTED) && !had(operators::ASKED)
            || had(operators::CONTROL) && (!had(operators::JOINED) || had(operators::REQUESTED))
            || had(operators::AWAITS_FIRST | operators::NAMED) && !had(operators::CONTROL);
        if is_damaged {
            return None;
        }
        let from_day = distance(bytes)?;
        let last_ms =
            if has(mask::OF_DAY) { day_begin_ms + from_day } else { day_begin_ms - from_day };
        let time = |bytes: &mut &[u8]| Some(last_ms - distance(bytes)?);
        let mut state = Self { last_ms: Some(last_ms), ..Self::default() };
        if has(mask::RECEIVED) {
            let (first_ms, last_ms) = (time(bytes)?, time(bytes)?);
            let mut unanswered = None;
            if has(mask::UNANSWERED) {
                let since_ms = time(bytes)?;
                let joined_ms =
                    if had(operators::JOINED_UNANSWERED) { Some(time(bytes)?) } else { None };
                unanswered = Some(Unanswered { since_ms, joined_ms });
            }
            state.received = Some(Received { first_ms, last_ms, unanswered });
        }
        if has(mask::MESSAGES) {
            let last_ms = time(bytes)?;
            let count = u32::try_from(varint::read(bytes)?).ok().filter(|count| *count > 0)?;
            let last_is_received = has(mask::LAST_IS_RECEIVED);
            state.messages = Some(Messages { count, last_ms, last_is_received });
        }
        state.has_goal = has(mask::GOAL);
        state.asked = had(operators::ASKED);
        state.joined = had(operators::JOINED);
        if had(operators::REQUESTED) {
            state.requested_ms = Some(time(bytes)?);
        }
        if had(operators::CONTROL) {
            let (joined_ms, last_message_ms) = (time(bytes)?, time(bytes)?);
            let operator =
                if had(operators::NAMED) { names.id(Some(name(bytes)?)) } else { NameId::ABSENT };
            let awaits_first_message = had(operators::AWAITS_FIRST);
            let control = Control { joined_ms, last_message_ms, awaits_first_message, operator };
            state.control = Some(control);
        }
        Some(state)
    }
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(*first)
}

/// Takes a number of milliseconds below [`MAX_DISTANCE_MS`] off the front.
fn distance(bytes: &mut &[u8]) -> Option<i64> {
    varint::read(bytes).filter(|ms| *ms < MAX_DISTANCE_MS)?.try_into().ok()
}

/// Takes a name with its length off the front.
fn name<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::try_from(varint::read(bytes)?).ok().filter(|n| *n <= MAX_SENT_BYTES)?;
    let (name, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use Kind::*;
    use proptest::prelude::*;

    use super::super::Step;
    use super::super::tests::{Given, MIN, given, state_after};
    use super::*;
    use crate::event::Kind;

    proptest! {
        #[test]
        fn a_state_is_stored_and_read(events in given(), day in -3..4_i64) {
            let mut names = Names::default();
            let state = state_after(&events, &mut names);
            let mut bytes = Vec::new();
            state.encode(day * 24 * 60 * MIN, &names, &mut bytes);
            let length = bytes.len();
            bytes.push(7);
            let mut rest = &bytes[..];
            let read = SessionState::decode(&mut rest, day * 24 * 60 * MIN, &mut names);
            prop_assert_eq!((read, rest), (Some(state), &[7][..]));
            // In another batch the operator has another number, but the same name.
            let mut others = Names::default();
            others.id(Some("other"));
            let read = SessionState::decode(&mut &bytes[..], 0, &mut others).unwrap();
            let mut again = Vec::new();
            read.encode(0, &others, &mut again);
            prop_assert_eq!(&again[..], &bytes[..length]);
            for cut in 0..length {
                let read = SessionState::decode(&mut &bytes[..cut], 0, &mut Names::default());
                prop_assert_eq!(read, None);
            }
        }

        #[test]
        fn any_bytes_are_a_state_or_damaged(
            first in any::<u8>(),
            mut bytes in prop::collection::vec(prop_oneof![0..5_u8, any::<u8>()], 0..40),
        ) {
            bytes.insert(0, first | 1);
            let mut names = Names::default();
            let begin_ms = 20_000 * 24 * 60 * MIN;
            if let Some(state) = SessionState::decode(&mut &bytes[..], begin_ms, &mut names) {
                let mut again = Vec::new();
                state.encode(begin_ms, &names, &mut again);
                let read = SessionState::decode(&mut &again[..], begin_ms, &mut names);
                prop_assert_eq!(read, Some(state.clone()));
                // No sum of times overflows.
                let step = Step { time_ms: 0, kind: Ended, flags: 0, operator: NameId::ABSENT };
                state.clone().step(step, &mut |_| {});
            }
        }
    }

    #[test]
    fn the_stored_bytes_do_not_change() {
        let check = |events: &[Given], begin: i64, expect: &[u8]| {
            let mut names = Names::default();
            let state = state_after(events, &mut names);
            let mut bytes = Vec::new();
            state.encode(begin, &names, &mut bytes);
            assert_eq!(bytes, expect, "{events:?}");
            let read = SessionState::decode(&mut &bytes[..], begin, &mut names);
            assert_eq!(read, Some(state), "{events:?}");
        };
        check(&[], 0, &[0]);
        check(&[(0, Kind::Tag, 0, None)], 5, &[1, 5]);
        check(&[(0, Received, 0, None)], 300, &[0b11_1101, 0xac, 2, 0, 0, 0, 0, 1]);
        check(
            &[(0, Received, 0, None), (1, Sent, 0, None), (1, Goal, 0, None)],
            0,
            &[
                0b100_1111, 0xe0, 0xd4, 3, // the last event
                0xe0, 0xd4, 3, 0xe0, 0xd4, 3, // received
                0, 2, // messages
            ],
        );
        check(
            &[
                (0, Requested, 0, None),
                (1, Received, 0, None),
                (1, Joined, 0, Some("ö")),
                (2, Released, 0, None),
                (2, Requested, 0, None),
            ],
            120_001,
            &[
                0b1011_1101,
                0b100_0111,
                1, // the last event
                0xe0,
                0xd4,
                3,
                0xe0,
                0xd4,
                3,
                0xe0,
                0xd4,
                3,
                0xe0,
                0xd4,
                3, // received
                0xe0,
                0xd4,
                3,
                1, // messages
                0, // the request
            ],
        );
        check(&[(0, Joined, 0, Some("ö"))], 1, &[0b1000_0001, 0b11_1010, 1, 0, 0, 2, 0xc3, 0xb6]);
    }

    #[test]
    fn damaged_bytes_are_no_state() {
        for bytes in [
            &[][..],
            &[2],                                           // bits without a session
            &[1],                                           // no last event
            &[1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40], // too far away
            &[0b101, 0, 0, 0],                              // received without messages
            &[0b1_1001, 0, 0, 1],                           // a last message that is not there
            &[0b10_1001, 0, 0, 1],                          // unanswered without received
            &[0b1001, 0, 0, 0],                             // no message
            &[0b1000_0001, 0, 0],                           // no bit of operators
            &[0b1000_0001, 0x81, 0],                        // an unknown bit
            &[0b1000_0001, 0b100, 0, 0],                    // requested without a request
            &[0b1000_0001, 0b1000, 0, 0, 0],                // control without a join
            &[0b1000_0001, 0b1111, 0, 0, 0, 0],             // requested and in control
            &[0b1000_0001, 0b1_0010, 0],                    // waits for nobody's message
            &[0b1000_0001, 0b10_1010, 0, 0, 0, 1, 0xff],    // not UTF-8
            &[0b1000_0001, 0b10_1010, 0, 0, 0, 3, b'a'],    // a name that ends too early
        ] {
            let read = SessionState::decode(&mut &bytes[..], 0, &mut Names::default());
            assert_eq!(read, None, "{bytes:?}");
        }
        let mut long = vec![0b1000_0001, 0b10_1010, 0, 0, 0, 0x84, 1];
        long.extend([b'a'; MAX_SENT_BYTES + 1]);
        assert_eq!(SessionState::decode(&mut &long[..], 0, &mut Names::default()), None);
    }
}
