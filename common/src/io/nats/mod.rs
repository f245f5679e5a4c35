//! The connection to NATS: its settings, how every program makes and watches it, and requests to
//! JetStream.
//!
//! `servers` and `settings` say where and as whom; `connect` connects once, `guard` until it works
//! and keeps subscriptions alive; `violation` reads what the server denies; `error` puts an error
//! into one line; `request` asks JetStream; `status` answers for a program's status.

mod connect;
mod error;
mod guard;
mod request;
mod servers;
mod settings;
mod status;
mod violation;

pub use connect::{ConnectError, MIN_SERVER};
pub use error::{chain, explain};
pub(super) use request::NO_JETSTREAM;
pub use request::{
    REQUEST_TIMEOUT, StreamInfo, StreamInfoError, jetstream, put_prefix, stream_info,
};
pub use servers::Servers;
pub use settings::{NatsSettings, Role};
pub use status::answer_status;
pub(super) use violation::violation_of;
pub use violation::{Violation, recent_violation};
