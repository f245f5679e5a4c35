//! The meaning of the stream's answer to a message or batch.
//!
//! | answer | means |
//! | --- | --- |
//! | acknowledgement | stored |
//! | error 4xx but 429, or a message that is too large | refused: the same bytes would be refused again |
//! | error 429 | again, but fewer at once: the server is overloaded |
//! | any other error, no answer, an unreadable answer | again |
//! | no responders | no stream, perhaps only for now |
//!
//! A missing right has no answer: see [`crate::io::nats::Violation`].

use async_nats::{Message, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The outcome of a message or batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The stream has it.
    Stored,
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

#[derive(Deserialize)]
struct Answer {
    stream: Option<IgnoredAny>,
    error: Option<AnswerError>,
}

#[derive(Deserialize)]
struct AnswerError {
    code: u16,
    #[serde(default)]
    description: String,
}

pub(super) fn judge(answer: &Message) -> Judgement {
    match answer.status {
        Some(StatusCode::NO_RESPONDERS) => Judgement::NoStream,
        _ => judge_payload(&answer.payload),
    }
}

fn judge_payload(payload: &[u8]) -> Judgement {
    match serde_json::from_slice(payload) {
        Ok(Answer { error: Some(AnswerError { code, description }), .. }) => match code {
            TOO_MANY_REQUESTS => Judgement::Busy(description),
            400..500 => Judgement::Refused(description),
            _ => Judgement::Again(description),
        },
        Ok(Answer { stream: Some(_), error: None }) => Judgement::Stored,
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
        let again = |text: &str| Judgement::Again(text.to_owned());
        for (payload, expect) in [
            (r#"{"stream":"S","seq":7}"#, Judgement::Stored),
            (r#"{"stream":"S","seq":7,"batch":"b","count":1000}"#, Judgement::Stored),
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
            assert_eq!(judge_payload(payload.as_bytes()), expect, "{payload}");
        }
    }
}
