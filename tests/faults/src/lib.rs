//! Faults while events flow: real programs and a real nats-server are killed, frozen and cut off at
//! seeded moments, and the model judges what they say afterwards.
//!
//! * [`plan`]: from a seed to faults, as plain data;
//! * [`episode`]: one installation that lives through some of them;
//! * [`splits`]: splits of cells, with a fault in a step of each;
//! * [`callers`]: clients that use up their calls meanwhile, and what must hold of the answers;
//! * [`report`]: what was done and measured.
//!
//! *Invariants* that are checked: an acknowledged event is in the stream under its sequence; every
//! event counts once, whatever was published again; counts, dead letters and answers are the
//! model's; the checkpoint of an ingest that answers never decreases; an account has at most one
//! 200 a window; after each step of faults everything works again without a person.
//!
//! *Not here*: faults of disks (`tests/tests/storage`), and a stream that is restored or exchanged
//! (`tests/tests/streams/identity.rs`).
#![expect(
    clippy::expect_used,
    reason = "support of tests: a panic is how a test says that its ground is gone"
)]
#![expect(missing_docs, reason = "support of tests: a name that says all needs no comment")]

pub mod callers;
pub mod episode;
pub mod plan;
pub mod report;
pub mod splits;

use plan::{Episode, Numbers};
use report::Report;

/// Runs the episodes of a plan, or only one of them, and tells on standard error what happens.
pub async fn run(numbers: &Numbers, only: Option<usize>) -> Report {
    let episodes = numbers.episodes();
    let count = episodes.len();
    eprintln!("{numbers:?}: {count} episodes");
    let mut report = Report::new(numbers, only);
    let chosen = |episode: &&Episode| only.is_none_or(|number| number == episode.number);
    for episode in episodes.iter().filter(chosen) {
        eprintln!("episode {} of {count}, seed {}", episode.number, episode.seed);
        report.add(episode::run(episode).await);
    }
    report
}
