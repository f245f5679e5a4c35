//! An error in one line.

use std::error::Error;
use std::fmt::{Debug, Display};
use std::iter::successors;

use async_nats::jetstream::{consumer, context, kv, stream};

use super::violation::recent_violation;

/// An error with its causes, in one line.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in causes(error).skip(1) {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
    }
    text
}

/// The [`chain`] of an error about NATS. If nothing answered and the server has just denied a right
/// to this process, the text names that right.
#[must_use]
pub fn explain(error: &(dyn Error + 'static)) -> String {
    let text = chain(error);
    match recent_violation().filter(|_| causes(error).any(is_silence)) {
        Some(violation) => format!("{text} ({violation})"),
        None => text,
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |error| (*error).source())
}

/// True if a request got no answer in time, or a consumer no heartbeat: a denied right looks like
/// that.
fn is_silence(cause: &(dyn Error + 'static)) -> bool {
    use consumer::pull::{MessagesErrorKind, OrderedErrorKind};
    is(cause, async_nats::RequestErrorKind::TimedOut)
        || is(cause, context::RequestErrorKind::TimedOut)
        || is(cause, context::PublishErrorKind::TimedOut)
        || is(cause, context::CreateStreamErrorKind::TimedOut)
        || is(cause, stream::ConsumerErrorKind::TimedOut)
        || is(cause, stream::DirectGetErrorKind::TimedOut)
        || is(cause, consumer::StreamErrorKind::TimedOut)
        || is(cause, MessagesErrorKind::MissingHeartbeat)
        || is(cause, OrderedErrorKind::MissingHeartbeat)
        || is(cause, kv::EntryErrorKind::TimedOut)
        || is(cause, kv::UpdateErrorKind::TimedOut)
        || is(cause, kv::WatchErrorKind::TimedOut)
        || is(cause, kv::StatusErrorKind::TimedOut)
}

fn is<K>(cause: &(dyn Error + 'static), kind: K) -> bool
where
    K: Clone + Debug + Display + PartialEq + 'static,
{
    cause.downcast_ref::<async_nats::error::Error<K>>().is_some_and(|error| error.kind() == kind)
}
