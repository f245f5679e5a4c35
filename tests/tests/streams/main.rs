//! Events on their way from a publisher to an answer: bad messages, servers and connections that
//! fail, streams that are restored or exchanged, several ingests.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backup;
mod broker_connection;
mod broker_server;
mod chain;
mod identity;
mod model_end_to_end;
mod outages;
mod poison;
mod slots;
mod spread;
mod twins;
