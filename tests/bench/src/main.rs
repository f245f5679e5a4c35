//! Measures how fast the product is; [`botstats_bench`] says how, `docs/performance.md` what the
//! numbers mean.

use std::io::Write as _;

use anyhow::Context as _;
use botstats_bench::{MEASURES, ROUNDS, Report, Scale, cells, fixed, fold, null};
use botstats_common::io::clock;
use clap::Parser;

/// Measures how fast botstats is: prints a table, and with --json the same with every round.
///
/// The programs must be built first, in the same profile:
/// `cargo build --release -p botstats -p botstats-ingest -p botstats-query -p botstats-bench
/// --bins`, then `cargo run --release -p botstats-bench --bin bench`.
#[derive(Debug, Parser)]
#[command(name = "bench", after_help = measures())]
struct Arguments {
    /// What to measure; by default everything
    measures: Vec<String>,
    /// How often
    #[arg(long, default_value_t = ROUNDS, value_parser = rounds)]
    rounds: usize,
    /// A tenth of the events
    #[arg(long)]
    quick: bool,
    /// So few events that it proves only that it works
    #[arg(long, hide = true)]
    tiny: bool,
    /// Measure the programs in that folder too, of an older version (publish)
    #[arg(long, value_name = "FOLDER")]
    before: Option<String>,
    /// Instead, count a million accounts over 64 cells in process (cells)
    #[arg(long, requires = "measures")]
    simulate: bool,
    /// JSON instead of the table on standard output
    #[arg(long)]
    json: bool,
    /// Write events of that kind, as lines that --fold reads, and measure nothing
    #[arg(long, value_name = "KIND", conflicts_with = "measures")]
    write: Option<fold::Kind>,
    /// How many events to write
    #[arg(long, default_value_t = fold::EVENTS, requires = "write")]
    count: u64,
    /// Measure fold and commit of the events in that file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["measures", "write"])]
    fold: Option<std::path::PathBuf>,
    /// Messages of a commit
    #[arg(long, default_value_t = fold::BATCHES[0], requires = "fold")]
    commit: usize,
    /// Be a consumer that drops what it gets
    #[arg(long, hide = true, requires_all = ["null_url", "null_count"])]
    null: Option<null::Null>,
    /// Be a server that says what stands in that folder
    #[arg(long, hide = true)]
    serve: Option<std::path::PathBuf>,
    #[arg(long, hide = true)]
    null_url: Option<String>,
    #[arg(long, hide = true)]
    null_count: Option<u64>,
}

fn rounds(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|n| (1..=99).contains(n)).ok_or_else(|| "1 to 99".to_owned())
}

fn measures() -> String {
    let width = MEASURES.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, about): &(&str, &str)| format!("  {name:width$}  {about}");
    format!("Measures:\n{}", MEASURES.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn simulated(scale: Scale) -> anyhow::Result<Report> {
    let mut report = Report::begin(scale)?;
    let begun = clock::monotonic();
    let rows = cells::simulation::run(scale)?;
    report.add("cells", "a million accounts over 64 cells, in process", begun.elapsed(), rows);
    Ok(report)
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(folder) = arguments.serve {
        return tokio::runtime::Runtime::new()?.block_on(fixed::serve(&folder));
    }
    if let Some(kind) = arguments.write {
        let mut to = std::io::BufWriter::new(std::io::stdout().lock());
        return fold::write(kind, arguments.count, clock::now_ms(), &mut to);
    }
    if let Some(file) = &arguments.fold {
        let folded = fold::of_file(file, arguments.commit)?;
        return Ok(writeln!(std::io::stdout(), "{}", serde_json::to_string(&folded)?)?);
    }
    let printed = match (arguments.null, arguments.null_url, arguments.null_count) {
        (Some(null), Some(url), Some(count)) => {
            // One thread is the least for the raw consumer; our reader has what ingest gives it.
            let mut builder = match null {
                null::Null::Raw => tokio::runtime::Builder::new_current_thread(),
                null::Null::Reader => tokio::runtime::Builder::new_multi_thread(),
            };
            let runtime = builder.enable_all().build()?;
            serde_json::to_string(&runtime.block_on(null::take(null, &url, count))?)?
        }
        _ => {
            let own = std::env::current_exe()?;
            for program in ["botstats-ingest", "botstats-query", "botstats"] {
                anyhow::ensure!(
                    own.with_file_name(program).is_file(),
                    "there is no {program} beside this program: build the programs first, \
                     `cargo build --release -p botstats -p botstats-ingest -p botstats-query \
                     -p botstats-bench --bins`"
                );
            }
            let mut scale = match (arguments.quick, arguments.tiny) {
                (_, true) => Scale::tiny(),
                (true, _) => Scale::quick(arguments.rounds),
                _ => Scale::full(arguments.rounds),
            };
            if arguments.simulate {
                anyhow::ensure!(arguments.measures == ["cells"], "only cells can be simulated");
                let report = simulated(scale)?;
                let text =
                    if arguments.json { serde_json::to_string(&report)? } else { report.table() };
                return Ok(writeln!(std::io::stdout(), "{}", text.trim_end())?);
            }
            scale.before = arguments.before.map(|folder| &*folder.leak());
            let runtime = tokio::runtime::Runtime::new()?;
            let report = runtime.block_on(botstats_bench::run(&arguments.measures, scale))?;
            if arguments.json { serde_json::to_string(&report)? } else { report.table() }
        }
    };
    writeln!(std::io::stdout(), "{}", printed.trim_end()).context("standard output")
}
