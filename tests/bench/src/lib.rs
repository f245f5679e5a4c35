//! The benchmark: how fast the product is, beside what the same machine could do at best.
//!
//! `just bench` builds all programs and runs it;
//! [docs/performance.md](../../../docs/performance.md) has the commands, and says what each number
//! is. Each measure makes its own servers and data, interleaves the things that it compares, and
//! gives all its rounds; the report shows medians. CPU time an event is steadier than a rate: on a
//! busy machine trust it, and ratios of what was interleaved, and no rate alone.
//!
//! To add a measure: a module with
//! `pub(super) async fn run(scale: Scale) -> anyhow::Result<Vec<Row>>`, an entry in [`MEASURES`]
//! and an arm in `measure`. Its numbers of events, calls and the like are constants through
//! [`Scale::of`], which makes them small for `--quick` and for the test; its rounds are
//! `scale.rounds`. A [`Row`] has one value a round, and a [`Target`] if there is one. Blocks that
//! the measures share: [`load`] (events and streams full of them), [`usage`] (CPU time, memory and
//! bytes of a process), [`null`] (consumers that drop what they get, each in a process of its own),
//! [`in_process`] (the engine without a server), [`botstats_tests::harness`] (servers and
//! programs). Progress goes to standard error with [`say`].
//!
//! *Not here*: any judgement. A target that is missed is shown as such and fails nothing.
#![expect(
    clippy::expect_used,
    reason = "support of tests: a panic is how a test says that its ground is gone"
)]
#![expect(missing_docs, reason = "support of tests: a name that says all needs no comment")]

pub mod cells;
mod conversation;
mod drain;
pub mod fixed;
pub mod fold;
mod growth;
pub mod in_process;
mod ingest;
mod late;
pub mod load;
mod memory;
pub mod null;
mod page;
mod publish;
mod questions;
mod reads;
mod rebuild;
pub mod report;
mod restart;
pub mod shapes;
mod size;
mod steady;
mod throttled;
pub mod usage;

use anyhow::Context as _;
use botstats_common::io::clock;
use serde::Serialize;

pub use report::{Measured, Report, Row, Target};

use shapes::Shape;

/// Rounds of each measure, if nothing else is asked for.
pub const ROUNDS: usize = 5;
/// The divisor of the number of events with `--quick`.
const QUICK: u64 = 10;
/// The divisor of the number of events in the test of this program.
const TINY: u64 = 2_000;

/// All measures in the order in which they run: the name, and what it does, in a line.
pub const MEASURES: &[(&str, &str)] = &[
    ("drain", "a full stream taken by consumers that drop it, and by ingest from an empty folder"),
    ("sparse", "as drain: a thousand small accounts, two events a user in a month"),
    ("conversations", "as drain: a thousand small accounts, seven events a conversation"),
    ("fold", "fold and commit alone, on sparse, conversations, dense and late traffic"),
    ("publish", "`botstats publish` of a file, beside a plain pipelined publisher"),
    ("rebuild", "`botstats-ingest rebuild` of a full stream"),
    ("restart", "an ingest that was stopped while the stream grew, until it has caught up"),
    (
        "steady",
        "from a publisher's acknowledgement to the event being counted, at 100/s, 50,000/s and 150,000/s",
    ),
    ("growth", "the cost of an event with 1, 4 and 16 times the accounts and users"),
    ("conversation", "the cost of an event in conversations of 1,000, 10,000 and 100,000 events"),
    ("late", "the cost of an event where one of ten comes days late"),
    ("size", "the file after 20M events over 30 days"),
    ("memory", "what ingest holds with 5M users known, while it drains"),
    ("reads", "a small, a medium and a huge read over HTTP, idle and while ingest drains"),
    (
        "questions",
        "a month by the hour with and without percentiles, and a year by day, in process",
    ),
    ("429", "a throttled account that floods, beside a handler that always says 429"),
    ("cells", "events over one, two and four streams: ingest, publish, and slots that move"),
    ("page", "account calls while 500 live streams are open and a flood of questions runs"),
];

/// The rows of the measure of that name.
async fn measure(name: &str, scale: Scale) -> anyhow::Result<Vec<Row>> {
    match name {
        "drain" => drain::run(scale).await,
        "sparse" => drain::of_shape(scale, Shape::Sparse).await,
        "conversations" => drain::of_shape(scale, Shape::Conversations).await,
        "fold" => fold::run(scale),
        "publish" => publish::run(scale).await,
        "rebuild" => rebuild::run(scale).await,
        "restart" => restart::run(scale).await,
        "steady" => steady::run(scale).await,
        "growth" => growth::run(scale),
        "conversation" => conversation::run(scale),
        "late" => late::run(scale),
        "size" => size::run(scale),
        "memory" => memory::run(scale).await,
        "reads" => reads::run(scale).await,
        "questions" => questions::run(scale),
        "429" => throttled::run(scale).await,
        "cells" => cells::run(scale).await,
        "page" => page::run(scale).await,
        _ => anyhow::bail!("there is no measure {name}"),
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Scale {
    /// How often.
    pub rounds: usize,
    /// How many times fewer events than in earnest.
    pub divisor: u64,
    /// A folder with the programs of an older version, to be measured too.
    pub before: Option<&'static str>,
}

impl Scale {
    /// In earnest.
    pub fn full(rounds: usize) -> Self {
        Self { rounds, divisor: 1, before: None }
    }

    /// For a first look.
    pub fn quick(rounds: usize) -> Self {
        Self { rounds, divisor: QUICK, before: None }
    }

    /// Proves only that the benchmark works.
    pub fn tiny() -> Self {
        Self { rounds: 2, divisor: TINY, before: None }
    }

    /// The number `full` of a complete run, scaled to this run; at least one.
    pub fn of(&self, full: u64) -> u64 {
        (full / self.divisor).max(1)
    }
}

/// Runs the measures of these names (all, if there are none), one after the other.
pub async fn run(names: &[String], scale: Scale) -> anyhow::Result<Report> {
    let known: Vec<&str> = MEASURES.iter().map(|(name, _)| *name).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        anyhow::bail!("there is no measure {name}; there are: {}", known.join(", "));
    }
    let mut report = Report::begin(scale)?;
    for &(name, about) in MEASURES {
        if !names.is_empty() && names.iter().all(|asked| asked != name) {
            continue;
        }
        say(&format!("{name}: {about}"));
        let begun = clock::monotonic();
        let rows = measure(name, scale).await.context(name)?;
        let took = begun.elapsed();
        say(&format!("{name}: took {:.0} s", took.as_secs_f64()));
        report.add(name, about, took, rows);
    }
    Ok(report)
}

/// Says on standard error how far it is.
pub fn say(text: &str) {
    eprintln!("{text}");
}
