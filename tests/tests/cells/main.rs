//! Accounts spread over several streams of events, each with ingests of its own: from the
//! beginning, and by splits while publishers publish and clients ask.

mod copies;
mod grown;
mod interrupted;
mod spread;
