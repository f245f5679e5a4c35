//! Messages of the stream, in order, decoded: an event begins here.

mod batch;
pub(crate) mod chain;
mod delivery;
pub(crate) mod handover;
pub(crate) mod identity;
pub(crate) mod info;
mod poll;
mod pull;
pub(crate) mod raw_message;
pub(crate) mod reader;
