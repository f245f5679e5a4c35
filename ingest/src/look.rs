//! Looks at the stream: which one it is, where it ends, and what time the server has.

use std::time::Duration;

use async_nats::Client;
use botstats_common::names::{EVENTS_STREAM, EVENTS_SUBJECTS};
use botstats_common::shell::nats::{StreamConfig, StreamInfoError, chain, stream_info};
use botstats_common::shell::settings::show_duration;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::freshness::Look;
use crate::identity::StreamState;
use crate::shared::Shared;
use crate::store::StreamIdentity;

/// A look at the stream's end this often.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The state of the stream, as the server tells it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) state: StreamState,
    pub(crate) look: Look,
    pub(crate) config: StreamConfig,
}

/// Asks the server.
pub(crate) async fn look(client: &Client) -> Result<Seen, StreamInfoError> {
    let info = stream_info(client, EVENTS_STREAM).await?;
    let name = EVENTS_STREAM.to_owned();
    Ok(Seen {
        state: StreamState {
            identity: StreamIdentity { name, created_ns: info.created_ns },
            first_sequence: info.first_sequence,
            last_sequence: info.last_sequence,
        },
        look: Look { at_ms: info.at_ms, last_sequence: info.last_sequence },
        config: info.config,
    })
}

/// What about the settings of a stream can keep events from being counted, in words for its operator.
///
/// | setting | what it means |
/// | --- | --- |
/// | subjects without those of events | events of others are not stored: their publishers get no acknowledgement |
/// | `max_age`, `max_msgs_per_subject`, a size limit that discards the old | messages go: a rebuild lacks them, and a long pause of ingest |
pub(crate) fn doubts(config: &StreamConfig) -> Vec<String> {
    let mut doubts = Vec::new();
    let whole = [EVENTS_SUBJECTS, "botstats.events.>", "botstats.>", ">"];
    if !config.subjects.iter().any(|subject| whole.contains(&subject.as_str())) {
        let found = config.subjects.join(", ");
        doubts.push(format!("it stores {found}, not all of {EVENTS_SUBJECTS}"));
    }
    if config.max_age > 0 {
        let age = Duration::from_nanos(config.max_age.unsigned_abs());
        doubts.push(format!("its messages expire after {}", show_duration(age)));
    }
    if config.max_msgs_per_subject > 0 {
        doubts.push(format!("it keeps {} messages of a subject", config.max_msgs_per_subject));
    }
    if config.discard != "new" && (config.max_msgs > 0 || config.max_bytes > 0) {
        doubts.push("it drops its first messages when it is full".to_owned());
    }
    doubts
}

/// Whether the stream is there.
///
/// # Errors
/// If JetStream does not answer.
pub(crate) async fn stream_is_there(client: &Client) -> Result<bool, String> {
    match look(client).await {
        Ok(_) => Ok(true),
        Err(StreamInfoError::NoStream(_)) => Ok(false),
        Err(error) => Err(chain(&error)),
    }
}

/// Looks at the stream now and then, as long as somebody listens.
pub(crate) fn looks(client: Client, shared: Shared) -> watch::Sender<Option<StreamState>> {
    let (sender, _) = watch::channel(None);
    let task_sender = sender.clone();
    botstats_common::shell::stop::spawn(async move {
        loop {
            sleep(LOOK_INTERVAL).await;
            // The reader's own handle does not listen.
            if task_sender.receiver_count() == 0 {
                return;
            }
            match look(&client).await {
                Ok(seen) => {
                    shared.looked(&seen.state, seen.look);
                    task_sender.send_replace(Some(seen.state));
                }
                Err(error) => shared.unreachable(&chain(&error)),
            }
        }
    });
    sender
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_lose_events() {
        let good = StreamConfig {
            subjects: vec![EVENTS_SUBJECTS.to_owned()],
            discard: "new".to_owned(),
            max_msgs: -1,
            max_bytes: -1,
            max_msgs_per_subject: -1,
            ..StreamConfig::default()
        };
        let old = StreamConfig { discard: "old".to_owned(), ..good.clone() };
        let subjects = |list: &[&str]| StreamConfig {
            subjects: list.iter().map(|s| (*s).to_owned()).collect(),
            ..good.clone()
        };
        for (config, expect) in [
            (good.clone(), &[][..]),
            (old.clone(), &[]),
            (subjects(&["other", "botstats.events.>"]), &[]),
            (
                subjects(&["botstats.events.acme.*.*"]),
                &["it stores botstats.events.acme.*.*, not all of botstats.events.*.*.*"],
            ),
            (
                StreamConfig { max_age: 3_600_000_000_000, ..good.clone() },
                &["its messages expire after 1h"],
            ),
            (StreamConfig { max_bytes: 1, ..good.clone() }, &[]),
            (
                StreamConfig { max_bytes: 1, ..old.clone() },
                &["it drops its first messages when it is full"],
            ),
            (
                StreamConfig { max_msgs: 1, max_msgs_per_subject: 5, ..old },
                &[
                    "it keeps 5 messages of a subject",
                    "it drops its first messages when it is full",
                ],
            ),
        ] {
            assert_eq!(doubts(&config), expect, "{config:?}");
        }
    }
}
