//! Accounts spread over several streams of events, each with ingests of its own: from the
//! beginning, and by splits while publishers publish and clients ask.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod copies;
mod grown;
mod hold;
mod interrupted;
mod spread;
