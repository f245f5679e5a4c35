//! Asks the server which stream it has, where the stream ends, and what time it is there.

use std::time::Instant;

use async_nats::jetstream::Context;
use botstats_common::io::clock::monotonic;
use botstats_common::io::nats::{StreamInfoError, explain, stream_info};
use botstats_common::lineage::{Lineage, LineageError};
use botstats_common::rules::{self, Finding};
use botstats_common::slot::Slots;

use crate::serve::freshness::StreamEnd;
use crate::store::StreamIdentity;
use crate::stream::identity::StreamState;

/// What the server says about the stream.
#[derive(Debug, Clone)]
pub(crate) struct Observation {
    pub(crate) state: StreamState,
    pub(crate) end: StreamEnd,
    /// When the server was asked.
    pub(crate) asked: Instant,
    /// The first sequence that the stream ever had.
    pub(crate) first: u64,
    /// Where the events of the stream's slots come from.
    pub(crate) lineage: Result<Lineage, LineageError>,
    /// What is wrong with the stream's settings.
    pub(crate) findings: Vec<Finding>,
    /// The slots that the stream listens on, each by its own subject; none without cells.
    pub(crate) slots: Slots,
}

pub(crate) async fn observe(js: &Context, stream: &str) -> Result<Observation, StreamInfoError> {
    let asked = monotonic();
    let info = stream_info(js, stream).await?;
    Ok(Observation {
        state: StreamState {
            identity: StreamIdentity { name: stream.to_owned(), created_ns: info.created_ns },
            first_sequence: info.first_sequence,
            last_sequence: info.last_sequence,
        },
        end: StreamEnd { at_ms: info.at_ms, last_sequence: info.last_sequence },
        asked,
        first: info.config.first_sequence(),
        lineage: info.config.lineage(),
        findings: rules::events(&info.config),
        slots: info.config.slots(),
    })
}

/// Whether the stream is there; the error says why JetStream does not answer.
pub(crate) async fn exists(js: &Context, stream: &str) -> Result<bool, String> {
    match observe(js, stream).await {
        Ok(_) => Ok(true),
        Err(StreamInfoError::NoStream(_)) => Ok(false),
        Err(error) => Err(explain(&error)),
    }
}
