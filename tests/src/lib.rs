//! The library of the end-to-end tests.
//!
//! * [`model`]: the judge. A naive statement of what every number means, which shares no code with
//!   the product;
//! * [`generate`]: seeded streams of events as nasty as the rules allow;
//! * [`in_process`]: the product without its sockets; [`disk`]: a disk that fails on command;
//! * [`decoders`]: every decoder of bytes from outside, and what must hold for any bytes;
//! * [`harness`]: a real nats-server and the real programs as child processes;
//! * [`spread`]: a real nats-server that spreads accounts over streams by their slots.
//!
//! The tests are in `tests/tests`, a program for each kind. The packages `bench`, `compose` and
//! `faults` use this library too. A test with real processes takes the programs from the folder in
//! which the test itself was built: `cargo build --workspace --bins` first. docs/CONTRIBUTING.md
//! lists the variables that make a test longer.
#![expect(
    clippy::expect_used,
    reason = "support of tests: a test panics if what it needs is missing"
)]
#![expect(missing_docs, reason = "support of tests: a name that says all needs no comment")]

pub mod decoders;
pub mod disk;
pub mod fixture;
pub mod generate;
pub mod harness;
pub mod in_process;
pub mod model;
pub mod spread;

/// The number in an environment variable; `default` if the variable is not set.
pub fn setting(name: &str, default: usize) -> usize {
    botstats_common::io::settings::variable(name)
        .map_or(default, |number| number.to_string_lossy().parse().expect("a number"))
}

/// The seed of a run, which `BOTSTATS_TEST_SEED` repeats; the time if the variable is not set.
pub fn seed() -> u64 {
    let now = usize::try_from(botstats_common::io::clock::now_ms()).expect("a time after 1970");
    let seed = setting("BOTSTATS_TEST_SEED", now);
    eprintln!("BOTSTATS_TEST_SEED={seed} repeats this run");
    u64::try_from(seed).expect("a seed")
}
