//! Input and output that every program needs: settings, logs, NATS, the internal listener, the stop
//! signal.
//!
//! *Invariants*: in this crate only this module reads the environment, opens sockets or asks a
//! clock.

pub mod clock;
pub mod internal;
pub mod listen;
pub mod logging;
pub mod nats;
mod process;
pub mod producer;
pub mod readiness;
pub mod settings;
pub mod setup;
pub mod stop;
pub mod telemetry;
pub mod zoneinfo;
