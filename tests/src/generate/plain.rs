//! Events without finesse, for tests that need very many of a kind.

use super::{NS_PER_MS, SECOND_MS, form};
use crate::model::{Kind, Message};

/// The event's message, stored a second after its time; the sequence is its id. For kinds that need
/// no data but the conversation and the user.
pub fn plain(
    sequence: u64,
    place: [&str; 3],
    [conversation, user]: [&str; 2],
    kind: Kind,
    time_ms: i64,
) -> Message {
    let [account, bot, channel] = place;
    let time = jiff::Timestamp::from_millisecond(time_ms).expect("an instant of our age");
    let name = form::type_name(kind);
    let payload = format!(
        r#"{{"specversion":"1.0","id":"{sequence}","source":"/plain","type":"{name}","time":"{time}","data":{{"conversationid":"{conversation}","userid":"{user}"}}}}"#
    );
    Message {
        sequence,
        stored_ns: (time_ms + SECOND_MS) * NS_PER_MS,
        subject: format!("botstats.events.{account}.{bot}.{channel}"),
        headers: Vec::new(),
        payload: payload.into_bytes(),
    }
}
