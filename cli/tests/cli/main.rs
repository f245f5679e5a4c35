//! The real binary against real nats-servers, one for each test.
#![expect(clippy::unwrap_used, reason = "what goes wrong in a test ends it")]

mod completions;
mod directory;
mod events;
mod tools;
mod up;
mod usage;
