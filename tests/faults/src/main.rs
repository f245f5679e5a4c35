//! Runs the real programs under seeded faults, with the model as judge.
//!
//! `cargo build --workspace --bins`, then
//! `cargo run -p botstats-faults -- --ingest-kills 1000 --broker-kills 300 --others 300`.
//! Add `--release` to both for the optimised programs.

use std::io::Write as _;

use botstats_common::io::clock;
use botstats_faults::plan::Numbers;
use clap::Parser;

/// Kills, freezes and cuts off ingest, nats-server and query while events flow, and compares what
/// they say with the model. Ends with an error at the first difference; what it said before tells
/// how to repeat it.
#[derive(Debug, Parser)]
#[command(name = "faults")]
struct Arguments {
    /// The same seed has the same events and faults; by default another one each time
    #[arg(long)]
    seed: Option<u64>,
    /// Kills of ingest
    #[arg(long, default_value_t = 50)]
    ingest_kills: usize,
    /// Kills of nats-server
    #[arg(long, default_value_t = 30)]
    broker_kills: usize,
    /// Other faults: cut, silent and slow connections, frozen processes, deleted consumers, killed
    /// queries
    #[arg(long, default_value_t = 20)]
    others: usize,
    /// A cluster of three servers, whose leaders are killed and frozen; others are then frozen
    /// leaders and ingests, deleted consumers and killed queries
    #[arg(long)]
    cluster: bool,
    /// Only splits of cells, that number of them, each with a fault in one of its steps: 16 have
    /// each fault in each step once
    #[arg(long, conflicts_with_all = ["ingest_kills", "broker_kills", "others", "episode"])]
    splits: Option<usize>,
    /// Run only that episode of the plan
    #[arg(long)]
    episode: Option<usize>,
    /// Write the result as JSON to standard output
    #[arg(long)]
    json: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(|| clock::now_ms().unsigned_abs());
    let Arguments { ingest_kills, broker_kills, others, cluster, episode, json, .. } = arguments;
    let numbers = Numbers { seed, ingest_kills, broker_kills, others, cluster };
    let begun = clock::monotonic();
    if let Some(splits) = arguments.splits {
        eprintln!("{splits} splits, seed {seed}");
        let report = botstats_faults::splits::run(seed, splits, cluster).await;
        eprintln!(
            "{}\neverything held; {:.0?}",
            serde_json::to_string_pretty(&report)?,
            begun.elapsed()
        );
        if json {
            writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?)?;
        }
        return Ok(());
    }
    let report = botstats_faults::run(&numbers, episode).await;
    let took = begun.elapsed();
    eprintln!("{}\neverything held; {took:.0?}", serde_json::to_string_pretty(&report)?);
    if json {
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?)?;
    }
    Ok(())
}
