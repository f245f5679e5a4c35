//! The public HTTP endpoint.
//!
//! *Invariants*: the checks of a call are made in the order of `docs/http.md`; the claim of the
//! account's call is the last thing before the head of a 200 is sent.

pub mod auth;
pub mod body;
pub mod call;
pub mod crowd;
pub mod exchange;
pub mod head;
pub mod patience;
pub mod respond;
pub mod server;
pub mod socket;
pub mod stall;
