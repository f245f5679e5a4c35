//! What a subject says: account, bot, channel, and the slot.
//!
//! | subject | account, bot, channel | slot |
//! | --- | --- | --- |
//! | `botstats.slot.<slot>.<account>.<bot>.<channel>` | the last three tokens | as it says; must be the account's |
//! | any other with at least three tokens | the last three tokens | the account's |

use std::borrow::Cow;

use botstats_common::ids::is_id;
use botstats_common::names::SLOT_PREFIX;
use botstats_common::slot::Slot;

use super::Address;

/// Whose event a message on that subject is; the error says what is wrong with the subject.
pub(super) fn address(subject: &str) -> Result<Address<'_>, Cow<'static, str>> {
    let (path, slot) = match subject.strip_prefix(SLOT_PREFIX) {
        None => (subject, None),
        Some(rest) => {
            let (token, path) = rest.split_once('.').unwrap_or((rest, ""));
            let Ok(slot) = token.parse::<Slot>() else {
                return Err("the slot is not a number from 0 to 255 without leading zeros".into());
            };
            if path.bytes().filter(|byte| *byte == b'.').count() != 2 {
                return Err("after the slot there is not just <account>.<bot>.<channel>".into());
            }
            (path, Some(slot))
        }
    };
    let mut tokens = path.rsplit('.');
    let (Some(channel), Some(bot), Some(account)) = (tokens.next(), tokens.next(), tokens.next())
    else {
        return Err("it does not end in <account>.<bot>.<channel>".into());
    };
    for (name, id) in [("account", account), ("bot", bot), ("channel", channel)] {
        if !is_id(id) {
            return Err(
                format!("the {name} is not 1 to 64 of the characters A-Z a-z 0-9 _ -").into()
            );
        }
    }
    if slot.is_some_and(|slot| slot != Slot::of_token(account)) {
        return Err("the slot is not that of the account".into());
    }
    let path = &path[path.len() - account.len() - bot.len() - channel.len() - 2..];
    Ok(Address { account, bot, channel, path })
}

/// The slot that a subject belongs to, whether the rest of the subject is valid or not; `None` if
/// the subject names no slot and no account.
pub(super) fn slot_of(subject: &str) -> Option<Slot> {
    match subject.strip_prefix(SLOT_PREFIX) {
        Some(rest) => rest.split_once('.')?.0.parse().ok(),
        None => subject.rsplit('.').nth(2).map(Slot::of_token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects() {
        // 175 is the slot of "acme".
        for (subject, slot, expect) in [
            ("botstats.events.acme.b1.web", Some(175), Ok(())),
            ("botstats.slot.175.acme.b1.web", Some(175), Ok(())),
            ("acme.b1.web", Some(175), Ok(())),
            ("botstats.slot.174.acme.b1.web", Some(174), Err("not that of the account")),
            ("botstats.slot.0.acme.b1.web", Some(0), Err("not that of the account")),
            ("botstats.slot.256.acme.b1.web", None, Err("0 to 255")),
            ("botstats.slot.0175.acme.b1.web", None, Err("without leading zeros")),
            ("botstats.slot.+175.acme.b1.web", None, Err("0 to 255")),
            ("botstats.slot.x.acme.b1.web", None, Err("0 to 255")),
            ("botstats.slot..acme.b1.web", None, Err("0 to 255")),
            ("botstats.slot.acme.b1.web", None, Err("0 to 255")),
            ("botstats.slot.175.b1.web", Some(175), Err("after the slot")),
            ("botstats.slot.175.x.acme.b1.web", Some(175), Err("after the slot")),
            ("botstats.slot.175", None, Err("after the slot")),
            ("botstats.slot.175.ac!me.b1.web", Some(175), Err("the account is not 1 to 64")),
            ("botstats.events.acme.b1.", Some(175), Err("the channel is not 1 to 64")),
            ("b1.web", None, Err("does not end in")),
            ("", None, Err("does not end in")),
        ] {
            assert_eq!(slot_of(subject), slot.map(Slot), "{subject}");
            match (address(subject), expect) {
                (Ok(address), Ok(())) => assert_eq!(address.path, "acme.b1.web", "{subject}"),
                (Err(why), Err(part)) => assert!(why.contains(part), "{subject}: {why}"),
                (other, _) => panic!("{subject}: {other:?}"),
            }
        }
    }
}
