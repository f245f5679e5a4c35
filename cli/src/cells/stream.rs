//! A stream of events, as the server describes it.

use anyhow::Context as _;
use botstats_common::lineage::{Control, Fence, Lineage, StreamIdentity};
use botstats_common::names::EVENTS_SUBJECTS;
use botstats_common::rules::{StreamConfig, meets};
use botstats_common::slot::Slots;
use serde_json::Value;

/// A stream of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    /// Name, and when it was made.
    pub(crate) identity: StreamIdentity,
    /// What it listens on.
    pub(crate) subjects: Vec<String>,
    /// The slots that it listens on.
    pub(crate) slots: Slots,
    /// The slots that it was made for, and the stream that had them before.
    pub(crate) lineage: Lineage,
    /// The sequence that its first message got or will get.
    pub(crate) first_sequence: u64,
    /// The first sequence that is still stored.
    pub(crate) oldest_sequence: u64,
    pub(crate) last_sequence: u64,
    pub(crate) messages: u64,
    /// The fences in it, oldest first. They are read apart from the rest.
    pub(crate) fences: Vec<Fence>,
    /// The configuration with all settings, also those that this program does not know.
    pub(crate) config: Value,
}

impl Cell {
    /// Reads the server's description.
    ///
    /// # Errors
    /// Says what is missing or malformed.
    pub(super) fn parse(info: &Value) -> anyhow::Result<Self> {
        let config = info.get("config").context("the configuration is missing")?.clone();
        let name = config["name"].as_str().context("the name is missing")?.to_owned();
        let known: StreamConfig = serde_json::from_value(config.clone())?;
        let created: jiff::Timestamp =
            info["created"].as_str().context("the time of its making is missing")?.parse()?;
        let number = |field: &str| info["state"][field].as_u64().unwrap_or_default();
        Ok(Self {
            identity: StreamIdentity { name, created_ns: i64::try_from(created.as_nanosecond())? },
            subjects: known.subjects().to_vec(),
            slots: known.slots(),
            lineage: known.lineage()?,
            first_sequence: known.first_sequence(),
            oldest_sequence: number("first_seq"),
            last_sequence: number("last_seq"),
            messages: number("messages"),
            fences: Vec::new(),
            config,
        })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.identity.name
    }

    /// True if events without a slot in their subject are stored in it.
    pub(crate) fn takes_unmapped(&self) -> bool {
        self.subjects.iter().any(|subject| meets(subject, EVENTS_SUBJECTS))
    }

    /// True if it has the fence that gives these slots to that stream.
    pub(crate) fn has_fence(&self, slots: Slots, to: &StreamIdentity) -> bool {
        self.fences.iter().any(|fence| fence.slots == slots && fence.to == *to)
    }
}

/// The fence in a control message, if it is one.
pub(super) fn fence(payload: &[u8]) -> Option<Fence> {
    Control::decode(payload).map(|Control::Moved(fence)| fence)
}

/// Reads a set of slots that is not empty.
///
/// # Errors
/// Says what is allowed.
pub(crate) fn some_slots(text: &str) -> Result<Slots, String> {
    let slots: Slots = text.parse().map_err(|error| format!("{error}"))?;
    if slots.is_empty() {
        return Err("at least one slot is needed, as in 0-63,200".to_owned());
    }
    Ok(slots)
}

/// `slot 7`, `slots 0-63,200`.
pub(crate) fn shown(slots: Slots) -> String {
    let plural = if slots.len() == 1 { "" } else { "s" };
    format!("slot{plural} {slots}")
}
