//! What is asked of JetStream about streams of events, and changed.
//!
//! *Invariants*: an update changes the list of subjects only; all other settings go back as the
//! server gave them.

use anyhow::Context as _;
use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::{RequestError, RequestErrorKind};
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use botstats_common::io::nats::recent_violation;
use botstats_common::lineage::{Control, Fence, Lineage, first_sequence_after};
use botstats_common::names::{control_subject, is_events_stream};
use botstats_common::slot::Slots;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use super::stream::{Cell, fence};

/// The most requests in flight for descriptions of streams.
const AT_ONCE: usize = 16;
/// JetStream's error code for a stream that does not exist.
const STREAM_NOT_FOUND: u64 = 10_059;
/// JetStream's error code for subjects that another stream has.
const SUBJECT_OVERLAP: u64 = 10_065;
/// The prefix of metadata that the server itself writes.
const OF_SERVER: &str = "_nats.";

/// Why a request to JetStream did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{what}: no answer from JetStream")]
    Silent { what: String, source: RequestError },
    #[error("{what}: {description} (JetStream's error {err_code})")]
    Refused { what: String, code: u64, err_code: u64, description: String },
}

/// True if the same request may succeed a moment later: there was no answer, or the servers are
/// choosing a leader.
pub(super) fn is_transient(error: &anyhow::Error) -> bool {
    if recent_violation().is_some() {
        return false;
    }
    error.chain().any(|cause| match cause.downcast_ref::<ApiError>() {
        Some(ApiError::Silent { .. }) => true,
        Some(ApiError::Refused { code, err_code, .. }) => {
            *code >= 500 && *err_code != SUBJECT_OVERLAP
        }
        None => cause.is::<async_nats::jetstream::context::PublishError>(),
    })
}

/// The streams of events of a JetStream.
#[derive(Debug)]
pub(crate) struct Streams {
    js: Context,
}

impl Streams {
    pub(crate) fn new(js: Context) -> Self {
        Self { js }
    }

    /// Sends a request; `what` is what it is for, in the text of errors.
    async fn request(
        &self,
        subject: &str,
        payload: &Value,
        what: String,
    ) -> Result<Value, ApiError> {
        let asked: Result<Value, RequestError> = self.js.request(subject.to_owned(), payload).await;
        let answer = match asked {
            Ok(answer) => answer,
            Err(source) => {
                let what = match source.kind() {
                    RequestErrorKind::NoResponders => format!("{what}: is JetStream there?"),
                    _ => what,
                };
                return Err(ApiError::Silent { what, source });
            }
        };
        let Some(error) = answer.get("error") else { return Ok(answer) };
        let number = |field: &str| error[field].as_u64().unwrap_or_default();
        let description = error["description"].as_str().unwrap_or("an error without a text");
        Err(ApiError::Refused {
            what,
            code: number("code"),
            err_code: number("err_code"),
            description: description.to_owned(),
        })
    }

    /// All streams of events with their fences, in the order of their names.
    pub(crate) async fn all(&self) -> anyhow::Result<Vec<Cell>> {
        let names = self.names().await?;
        let read = |name: String| async move { self.find(&name).await };
        let found: Vec<Option<Cell>> =
            stream::iter(names).map(read).buffered(AT_ONCE).try_collect().await?;
        // A stream that was deleted since its name was read is left out.
        Ok(found.into_iter().flatten().collect())
    }

    async fn names(&self) -> anyhow::Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        let mut offset = 0;
        loop {
            let page = self
                .request(
                    "STREAM.NAMES",
                    &json!({"offset": offset}),
                    "the names of streams".to_owned(),
                )
                .await?;
            let streams = page["streams"].as_array().map(Vec::as_slice).unwrap_or_default();
            offset += streams.len();
            names.extend(streams.iter().filter_map(Value::as_str).map(str::to_owned));
            let total = page["total"].as_u64().and_then(|total| usize::try_from(total).ok());
            if streams.is_empty() || total.is_none_or(|total| offset >= total) {
                break;
            }
        }
        names.retain(|name| is_events_stream(name));
        names.sort();
        Ok(names)
    }

    /// A stream with its fences; `None` if there is no such stream.
    pub(crate) async fn find(&self, name: &str) -> anyhow::Result<Option<Cell>> {
        let asked = self
            .request(&format!("STREAM.INFO.{name}"), &json!({}), format!("stream {name}"))
            .await;
        let info = match asked {
            Ok(info) => info,
            Err(ApiError::Refused { err_code: STREAM_NOT_FOUND, .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut cell = Cell::parse(&info).with_context(|| format!("stream {name}"))?;
        cell.fences = self.fences(name).await?;
        Ok(Some(cell))
    }

    /// The same; that there is none is an error.
    pub(crate) async fn get(&self, name: &str) -> anyhow::Result<Cell> {
        let found = self.find(name).await?;
        found.with_context(|| format!("there is no stream {name}; `botstats cells list` shows all"))
    }

    async fn fences(&self, name: &str) -> anyhow::Result<Vec<Fence>> {
        let stream = self.js.get_stream_no_info(name).await?;
        let subject = control_subject(name);
        let mut fences = Vec::new();
        let mut from = 1;
        loop {
            match stream.get_first_raw_message_by_subject(&subject, from).await {
                Ok(message) => {
                    fences.extend(fence(&message.payload));
                    from = message.sequence + 1;
                }
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                    return Ok(fences);
                }
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("the control messages of stream {name}"));
                }
            }
        }
    }

    /// Changes what a stream listens on.
    pub(crate) async fn set_subjects(
        &self,
        cell: &Cell,
        subjects: &[String],
    ) -> Result<(), ApiError> {
        let mut config = cell.config.clone();
        config["subjects"] = json!(subjects);
        let name = cell.name();
        let what = format!("the list of subjects of stream {name}");
        self.request(&format!("STREAM.UPDATE.{name}"), &config, what).await.map(|_| ())
    }

    /// Makes the stream that gets slots from `parent`. All other settings are the parent's.
    pub(crate) async fn make_child(
        &self,
        parent: &Cell,
        child: &str,
        slots: Slots,
    ) -> Result<(), ApiError> {
        let config = child_config(parent, child, slots);
        let what = format!("stream {child}");
        self.request(&format!("STREAM.CREATE.{child}"), &config, what).await.map(|_| ())
    }

    /// Stores a fence in a stream; returns its sequence.
    pub(crate) async fn store_fence(&self, parent: &str, fence: Fence) -> anyhow::Result<u64> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", parent);
        // If an acknowledgement is lost the fence is published again.
        headers.insert("Nats-Msg-Id", format!("fence {} {}", fence.to.name, fence.to.created_ns));
        let payload = Control::Moved(fence).encode();
        let failed = || format!("the fence in stream {parent}");
        let sent = self.js.publish_with_headers(control_subject(parent), headers, payload.into());
        let ack = sent.await.with_context(failed)?.await.with_context(failed)?;
        Ok(ack.sequence)
    }
}

/// The configuration of a new stream that gets slots from `parent`.
fn child_config(parent: &Cell, child: &str, slots: Slots) -> Value {
    let lineage = Lineage { slots, parent: Some(parent.identity.clone()) };
    let mut metadata = parent.config["metadata"].as_object().cloned().unwrap_or_default();
    metadata.retain(|key, _| !key.starts_with(OF_SERVER) && !key.starts_with("botstats."));
    metadata.extend(lineage.metadata().into_iter().map(|(key, value)| (key, value.into())));
    let mut config = parent.config.clone();
    config["name"] = child.into();
    config["subjects"] = json!([control_subject(child)]);
    config["metadata"] = Value::Object(metadata);
    config["first_seq"] = first_sequence_after(parent.first_sequence).into();
    config["compression"] = "s2".into();
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_has_its_parents_settings() {
        let parent = Cell::parse(&json!({
            "created": "1970-01-01T00:00:00.000000007Z",
            "config": {
                "name": "BOTSTATS_EVENTS", "subjects": ["botstats.cell.BOTSTATS_EVENTS"],
                "num_replicas": 3, "placement": {"tags": ["az:a"]}, "compression": "none",
                "a_setting_of_tomorrow": 7, "first_seq": 1,
                "metadata": {"_nats.level": "2", "botstats.slots": "0-99", "team": "x"},
            },
            "state": {"first_seq": 1, "last_seq": 9, "messages": 9},
        }));
        let config = child_config(&parent.unwrap(), "BOTSTATS_EVENTS_B", "7".parse().unwrap());
        let expect = json!({
            "name": "BOTSTATS_EVENTS_B", "subjects": ["botstats.cell.BOTSTATS_EVENTS_B"],
            "num_replicas": 3, "placement": {"tags": ["az:a"]}, "compression": "s2",
            "a_setting_of_tomorrow": 7, "first_seq": 1_099_511_627_777_u64,
            "metadata": {"botstats.from": "BOTSTATS_EVENTS 7", "botstats.slots": "7", "team": "x"},
        });
        assert_eq!(config, expect);
    }
}
