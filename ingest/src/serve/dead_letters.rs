//! Answers about dead letters over NATS.

use std::sync::Arc;

use async_nats::Client;
use botstats_common::io::nats::chain;
use botstats_common::names::{DEAD_LETTERS_SUBJECT, dead_letters_queue};
use botstats_common::status::{
    DeadLetter, DeadLettersReply, DeadLettersRequest, MAX_DEAD_LETTERS_PER_ANSWER,
};
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::serve::service::Context;
use crate::store::{Store, StoreError};

/// Answers until told to stop. Of the ingests of a stream one takes each request.
pub(super) async fn serve(client: Client, context: Context, stop: CancellationToken) {
    let queue = dead_letters_queue(&context.stream);
    let subscribed = client.queue_subscribe(DEAD_LETTERS_SUBJECT, queue).await;
    let Ok(mut requests) = subscribed else { return };
    while let Some(Some(request)) = stop.run_until_cancelled(requests.next()).await {
        let Some(reply) = request.reply else { continue };
        let Ok(asked) = serde_json::from_slice::<DeadLettersRequest>(&request.payload) else {
            continue;
        };
        if asked.stream.as_ref().is_some_and(|stream| *stream != context.stream) {
            continue;
        }
        let store = Arc::clone(&context.store);
        let found = tokio::task::spawn_blocking(move || dead_letters(&store, &asked)).await;
        match found {
            Ok(Ok(letters)) => {
                if let Some(json) = fitting(letters, client.max_payload()) {
                    let _nobody_waits = client.publish(reply, json.into()).await;
                }
            }
            Ok(Err(error)) => {
                context.note_broken();
                tracing::error!("dead letters cannot be read: {}", chain(&error));
            }
            Err(error) => tracing::error!("dead letters cannot be read: {error}"),
        }
    }
}

/// The newest letters that fit into a message of that size, as JSON; the asker asks again for the
/// rest.
fn fitting(mut letters: DeadLettersReply, max_bytes: usize) -> Option<Vec<u8>> {
    loop {
        let json = serde_json::to_vec(&letters).ok()?;
        if json.len() <= max_bytes || letters.letters.len() <= 1 {
            return Some(json);
        }
        letters.letters.truncate(letters.letters.len() / 2);
    }
}

fn dead_letters(store: &Store, asked: &DeadLettersRequest) -> Result<DeadLettersReply, StoreError> {
    let limit = asked.limit.min(MAX_DEAD_LETTERS_PER_ANSWER);
    let (before, limit) = match asked.sequence {
        Some(sequence) => (sequence.saturating_add(1), 1),
        None => (asked.before.unwrap_or(u64::MAX), limit),
    };
    let (kept, letters) =
        store.snapshot()?.dead_letters(before, usize::try_from(limit).unwrap_or(0))?;
    let letters = letters
        .into_iter()
        .filter(|l| asked.sequence.is_none_or(|s| s == l.sequence))
        .map(|l| DeadLetter {
            sequence: l.sequence,
            rule: l.rule.name().to_owned(),
            reason: l.reason,
        })
        .collect();
    Ok(DeadLettersReply { kept, letters })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::MAX_REASON_BYTES;

    #[test]
    fn dead_letters_fit_into_a_message() {
        let letter = |sequence| DeadLetter {
            sequence,
            rule: "envelope".to_owned(),
            reason: "x".repeat(MAX_REASON_BYTES),
        };
        let letters = (0..1_000).rev().map(letter).collect();
        let reply = DeadLettersReply { kept: 5_000, letters };
        for (max_bytes, at_least) in [(1024 * 1024, 1_000), (16 * 1024, 31), (8 * 1024, 15), (0, 1)]
        {
            let json = fitting(reply.clone(), max_bytes).unwrap();
            assert!(json.len() <= max_bytes.max(300), "{} of {max_bytes}", json.len());
            let cut: DeadLettersReply = serde_json::from_slice(&json).unwrap();
            assert!(cut.letters.len() >= at_least, "{} in {max_bytes}", cut.letters.len());
            assert_eq!(cut.kept, 5_000);
            assert_eq!(cut.letters, reply.letters[..cut.letters.len()]);
        }
    }
}
