//! The benchmark: how fast the product is, beside what the same machine could do at best.
//!
//! `just bench` builds all programs and runs it;
//! [docs/performance.md](../../../docs/performance.md) has the commands, and says what each number
//! is. Each measure makes its own servers and data, interleaves the things that it compares, and
//! gives all its rounds; the report shows medians. CPU time an event is steadier than a rate: on a
//! busy machine trust it, and ratios of what was interleaved, and no rate alone.
//!
//! To add a measure: a module with
//! `pub(super) async fn run(scale: Scale) -> anyhow::Result<Vec<Row>>`, and an entry in
//! [`MEASURES`]. Its numbers of events, calls and the like are constants through [`Scale::of`],
//! which makes them small for `--quick` and for the test; its rounds are `scale.rounds`. A [`Row`]
//! has one value a round, and a [`Target`] if there is one. Blocks that the measures share:
//! [`load`] (events and streams full of them), [`usage`] (CPU time, memory and bytes of a process),
//! [`null`] (consumers that drop what they get, each in a process of its own), [`in_process`] (the
//! engine without a server), [`botstats_tests::harness`] (servers and programs). Progress goes to
//! standard error with [`say`].
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
use futures::future::LocalBoxFuture;
use serde::Serialize;

pub use report::{Measured, Report, Row, Target};

use shapes::Shape;

/// Rounds of each measure, if nothing else is asked for.
pub const ROUNDS: usize = 5;
/// The divisor of the number of events with `--quick`.
const QUICK: u64 = 10;
/// The divisor of the number of events in the test of this program.
const TINY: u64 = 2_000;

/// One of the things that are measured.
pub struct Measure {
    /// What it is called on the command line and in the report.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    pub run: fn(Scale) -> LocalBoxFuture<'static, anyhow::Result<Vec<Row>>>,
}

/// All measures, in the order in which they run.
pub const MEASURES: &[Measure] = &[
    Measure {
        name: "drain",
        about: "a full stream taken by consumers that drop it, and by ingest from an empty folder",
        run: |scale| Box::pin(drain::run(scale)),
    },
    Measure {
        name: "sparse",
        about: "as drain: a thousand small accounts, two events a user in a month",
        run: |scale| Box::pin(drain::of_shape(scale, Shape::Sparse)),
    },
    Measure {
        name: "conversations",
        about: "as drain: a thousand small accounts, seven events a conversation",
        run: |scale| Box::pin(drain::of_shape(scale, Shape::Conversations)),
    },
    Measure {
        name: "fold",
        about: "fold and commit alone, on sparse, conversations, dense and late traffic",
        run: |scale| Box::pin(async move { fold::run(scale) }),
    },
    Measure {
        name: "publish",
        about: "`botstats publish` of a file, beside a plain pipelined publisher",
        run: |scale| Box::pin(publish::run(scale)),
    },
    Measure {
        name: "rebuild",
        about: "`botstats-ingest rebuild` of a full stream",
        run: |scale| Box::pin(rebuild::run(scale)),
    },
    Measure {
        name: "restart",
        about: "an ingest that was stopped while the stream grew, until it has caught up",
        run: |scale| Box::pin(restart::run(scale)),
    },
    Measure {
        name: "steady",
        about: "from a publisher's acknowledgement to the event being counted, at 100/s, 50,000/s and 150,000/s",
        run: |scale| Box::pin(steady::run(scale)),
    },
    Measure {
        name: "growth",
        about: "the cost of an event with 1, 4 and 16 times the accounts and users",
        run: |scale| Box::pin(async move { growth::run(scale) }),
    },
    Measure {
        name: "conversation",
        about: "the cost of an event in conversations of 1,000, 10,000 and 100,000 events",
        run: |scale| Box::pin(async move { conversation::run(scale) }),
    },
    Measure {
        name: "late",
        about: "the cost of an event where one of ten comes days late",
        run: |scale| Box::pin(async move { late::run(scale) }),
    },
    Measure {
        name: "size",
        about: "the file after 20M events over 30 days",
        run: |scale| Box::pin(async move { size::run(scale) }),
    },
    Measure {
        name: "memory",
        about: "what ingest holds with 5M users known, while it drains",
        run: |scale| Box::pin(memory::run(scale)),
    },
    Measure {
        name: "reads",
        about: "a small, a medium and a huge read over HTTP, idle and while ingest drains",
        run: |scale| Box::pin(reads::run(scale)),
    },
    Measure {
        name: "questions",
        about: "a month by the hour with and without percentiles, and a year by day, in process",
        run: |scale| Box::pin(async move { questions::run(scale) }),
    },
    Measure {
        name: "429",
        about: "a throttled account that floods, beside a handler that always says 429",
        run: |scale| Box::pin(throttled::run(scale)),
    },
    Measure {
        name: "cells",
        about: "events over one, two and four streams: ingest, publish, and slots that move",
        run: |scale| Box::pin(cells::run(scale)),
    },
    Measure {
        name: "page",
        about: "account calls while 500 live streams are open and a flood of questions runs",
        run: |scale| Box::pin(page::run(scale)),
    },
];

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
    if let Some(name) = names.iter().find(|name| MEASURES.iter().all(|m| m.name != **name)) {
        let known: Vec<&str> = MEASURES.iter().map(|m| m.name).collect();
        anyhow::bail!("there is no measure {name}; there are: {}", known.join(", "));
    }
    let mut report = Report::begin(scale)?;
    for measure in MEASURES {
        if !names.is_empty() && names.iter().all(|name| name != measure.name) {
            continue;
        }
        say(&format!("{}: {}", measure.name, measure.about));
        let begun = clock::monotonic();
        let rows = (measure.run)(scale).await.with_context(|| measure.name.to_owned())?;
        let took = begun.elapsed();
        say(&format!("{}: took {:.0} s", measure.name, took.as_secs_f64()));
        report.add(measure.name, measure.about, took, rows);
    }
    Ok(report)
}

/// Says on standard error how far it is.
pub fn say(text: &str) {
    eprintln!("{text}");
}
