//! The meaning of the stream's answer to a message or batch.
//!
//! | answer | means |
//! | --- | --- |
//! | acknowledgement | stored, in the stream that it names |
//! | error 10176, batch incomplete | the stream did not get the whole batch, perhaps because its messages belong to several streams |
//! | any other error 4xx but 429, or a message that is too large | refused: the same bytes would be refused again |
//! | error 429 | again, but fewer at once: the server is overloaded |
//! | any other error, no answer, an unreadable answer | again |
//! | no responders | no stream, perhaps only for now |
//!
//! A missing right has no answer: see [`crate::io::nats::Violation`].

use std::borrow::Cow;
use std::sync::Arc;

use async_nats::{Message, StatusCode};
use serde::Deserialize;

/// The outcome of a message or batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The stream of that name has it.
    Stored(Arc<str>),
    /// Nothing of the batch is stored: the stream did not get the whole of it.
    Incomplete(String),
    /// The stream will never take it.
    Refused(String),
    /// The outcome is unknown: send it again.
    Again(String),
    /// Not stored: the server's queue for the stream is full, which the next moment changes.
    Busy(String),
    /// No stream listens on the subject.
    NoStream,
    /// Its answer can't be received.
    NoInbox(String),
}

const TOO_MANY_REQUESTS: u16 = 429;
/// JetStream's error code of a batch that is not whole.
const BATCH_INCOMPLETE: u32 = 10_176;

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    stream: Option<Cow<'a, str>>,
    error: Option<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerError {
    code: u16,
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

/// Judges an answer. `last` is the name of the stream that acknowledged before: a name that does
/// not change is not copied.
pub(super) fn judge(answer: &Message, last: &mut Arc<str>) -> Judgement {
    match answer.status {
        Some(StatusCode::NO_RESPONDERS) => Judgement::NoStream,
        _ => judge_payload(&answer.payload, last),
    }
}

fn judge_payload(payload: &[u8], last: &mut Arc<str>) -> Judgement {
    match serde_json::from_slice(payload) {
        Ok(Answer { error: Some(AnswerError { code, err_code, description }), .. }) => match code {
            _ if err_code == BATCH_INCOMPLETE => Judgement::Incomplete(description),
            TOO_MANY_REQUESTS => Judgement::Busy(description),
            400..500 => Judgement::Refused(description),
            _ => Judgement::Again(description),
        },
        Ok(Answer { stream: Some(stream), error: None }) => {
            if **last != *stream {
                *last = stream.into();
            }
            Judgement::Stored(last.clone())
        }
        Ok(Answer { stream: None, error: None }) | Err(_) => {
            Judgement::Again("an answer that is no acknowledgement".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let refused = |text: &str| Judgement::Refused(text.to_owned());
        let stored = |stream: &str| Judgement::Stored(stream.into());
        let again = |text: &str| Judgement::Again(text.to_owned());
        for (payload, expect) in [
            (r#"{"stream":"S","seq":7}"#, stored("S")),
            (r#"{"stream":"S_2","seq":7,"batch":"b","count":1000}"#, stored("S_2")),
            (r#"{"stream":"S\u005f3","seq":7}"#, stored("S_3")),
            (
                r#"{"error":{"code":400,"err_code":10176,"description":"batch publish is incomplete"},"stream":"S","seq":0}"#,
                Judgement::Incomplete("batch publish is incomplete".to_owned()),
            ),
            (
                r#"{"error":{"code":400,"err_code":10054,"description":"too big"},"stream":"S","seq":0}"#,
                refused("too big"),
            ),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}"#,
                again("maximum bytes exceeded"),
            ),
            (
                r#"{"error":{"code":429,"err_code":10167,"description":"too many requests"}}"#,
                Judgement::Busy("too many requests".to_owned()),
            ),
            ("{}", again("an answer that is no acknowledgement")),
            ("", again("an answer that is no acknowledgement")),
        ] {
            let mut last = Arc::from("S");
            assert_eq!(judge_payload(payload.as_bytes(), &mut last), expect, "{payload}");
        }
    }
}
