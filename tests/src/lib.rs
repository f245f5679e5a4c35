//! What the end-to-end tests stand on.
//!
//! * [`model`]: the judge. A naive statement of what every number means, which shares no code with
//!   the product;
//! * [`generate`]: seeded streams of events as nasty as the rules allow;
//! * [`in_process`]: the product without its sockets; [`disk`]: a disk that fails on command;
//! * [`decoders`]: every reader of foreign bytes, and what must hold for any bytes;
//! * [`harness`]: a real nats-server and the real programs as child processes;
//!
//! The tests themselves are in `tests/`. Those with real processes take the programs from where they
//! themselves were built: `cargo build --workspace --bins` first. `BOTSTATS_TEST_STREAMS` sets how many random
//! streams are tried (40), `BOTSTATS_TEST_EVENTS` how many events the large run has (1,000,000),
//! `BOTSTATS_TEST_DISK` how many times as thorough the tests of a failing disk are (1). Others have
//! theirs: see the head of each test.
#![expect(
    clippy::expect_used,
    reason = "support of tests: a panic is how a test says that its ground is gone"
)]

pub mod decoders;
pub mod disk;
pub mod fixture;
pub mod generate;
pub mod harness;
pub mod in_process;
pub mod model;

/// The number in an environment variable; without it, the other.
///
/// # Panics
/// If it is no number.
#[must_use]
pub fn setting(name: &str, default: usize) -> usize {
    botstats_common::io::settings::variable(name)
        .map_or(default, |number| number.to_string_lossy().parse().expect("a number"))
}
