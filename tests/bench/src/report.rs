//! What was measured: rows of rounds, their medians beside the targets, as a table and as JSON.

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use botstats::server::find;
use botstats_common::io::clock;
use serde::Serialize;

use super::Scale;

/// What a number should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Target {
    larger_is_better: bool,
    at_least: f64,
    /// What it should reach.
    aim: Option<f64>,
}

impl Target {
    /// The more, the better.
    pub fn more(at_least: f64, aim: impl Into<Option<f64>>) -> Self {
        Self { larger_is_better: true, at_least, aim: aim.into() }
    }

    /// The less, the better.
    pub fn less(at_least: f64, aim: impl Into<Option<f64>>) -> Self {
        Self { larger_is_better: false, at_least, aim: aim.into() }
    }

    /// What of it that number has reached.
    pub fn reached_by(&self, value: f64) -> &'static str {
        let reached =
            |limit: f64| if self.larger_is_better { value >= limit } else { value <= limit };
        match self.aim {
            Some(aim) if reached(aim) => "aim",
            Some(_) if reached(self.at_least) => "at least",
            None if reached(self.at_least) => "yes",
            _ => "no",
        }
    }
}

/// One number, as often as it was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub what: String,
    /// What it counts, such as `us` or `MiB`.
    pub unit: &'static str,
    pub rounds: Vec<f64>,
    pub target: Option<Target>,
}

impl Row {
    /// A number without a target.
    pub fn new(what: impl Into<String>, unit: &'static str, rounds: Vec<f64>) -> Self {
        Self { what: what.into(), unit, rounds, target: None }
    }

    pub fn should_be(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }

    /// The middle one of the rounds; of an even number of them the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        median(&self.rounds)
    }
}

/// The middle one; of an even number of them the mean of the two in the middle; of none no number.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len().is_multiple_of(2)) {
        (Some(upper), true) => f64::midpoint(sorted[middle - 1], *upper),
        (Some(value), false) => *value,
        (None, _) => f64::NAN,
    }
}

/// A percentile (nearest rank); NaN if there are no values.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

/// A measure's rows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    pub name: &'static str,
    pub about: &'static str,
    /// How long it took, data and servers included.
    pub took_s: f64,
    pub rows: Vec<Row>,
}

/// Where it was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    cores: usize,
    cpu: String,
    memory_bytes: u64,
    kernel: String,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Versions {
    botstats: &'static str,
    commit: String,
    nats_server: String,
    profile: &'static str,
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// When it began, RFC 3339.
    pub date: String,
    pub machine: Machine,
    pub versions: Versions,
    pub scale: Scale,
    pub measures: Vec<Measured>,
}

impl Report {
    /// One without numbers yet.
    pub fn begin(scale: Scale) -> anyhow::Result<Self> {
        let nats_server = find(super::say)?;
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Ok(Self {
            date: clock::rfc3339_ms(clock::now_ms()),
            machine: Machine {
                cores: std::thread::available_parallelism()?.get(),
                cpu: field_of("/proc/cpuinfo", "model name").unwrap_or_default(),
                memory_bytes: field_of("/proc/meminfo", "MemTotal")
                    .and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok())
                    .map_or(0, |kib| kib * 1024),
                kernel: kernel.trim().to_owned(),
            },
            versions: Versions {
                botstats: env!("CARGO_PKG_VERSION"),
                commit: first_line(Command::new("git").args(["describe", "--always", "--dirty"])),
                nats_server: first_line(Command::new(nats_server).arg("--version")),
                profile: if cfg!(debug_assertions) { "dev" } else { "release" },
            },
            scale,
            measures: Vec::new(),
        })
    }

    /// Adds what a measure gave.
    pub fn add(&mut self, name: &'static str, about: &'static str, took: Duration, rows: Vec<Row>) {
        self.measures.push(Measured { name, about, took_s: took.as_secs_f64(), rows });
    }

    /// Machine and versions in a paragraph, then a table, as Markdown.
    pub fn table(&self) -> String {
        let Self { machine, versions, scale, .. } = self;
        let mut text = format!(
            "{}: botstats {} ({}, profile {}), {}; {} cores ({}), {} MiB, Linux {}; medians of {} rounds\
             {}.\n\n",
            self.date,
            versions.botstats,
            versions.commit,
            versions.profile,
            versions.nats_server,
            machine.cores,
            machine.cpu,
            machine.memory_bytes >> 20,
            machine.kernel,
            scale.rounds,
            if scale.divisor == 1 {
                String::new()
            } else {
                format!(", {} times fewer events than in earnest", scale.divisor)
            },
        );
        let head = ["measure", "what", "median", "least", "most", "unit", "at least", "aim"];
        let head = head.into_iter().chain(["reached"]).map(str::to_owned).collect();
        let mut lines: Vec<Vec<String>> = vec![head];
        for measured in &self.measures {
            for row in &measured.rows {
                let least = row.rounds.iter().copied().fold(f64::INFINITY, f64::min);
                let most = row.rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let mut line = vec![measured.name.to_owned(), row.what.clone()];
                line.extend([row.median(), least, most].map(number));
                line.push(row.unit.to_owned());
                let target = row.target.as_ref();
                line.push(target.map_or_else(String::new, |t| number(t.at_least)));
                line.push(target.and_then(|t| t.aim).map_or_else(String::new, number));
                line.push(target.map_or("", |t| t.reached_by(row.median())).to_owned());
                lines.push(line);
            }
        }
        write_table(&mut text, &lines);
        text
    }
}

/// Writes lines as a Markdown table with columns of equal width; the first line is its head.
pub fn write_table(text: &mut String, lines: &[Vec<String>]) {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        lines.iter().filter_map(|l| l.get(column)).map(|t| t.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for (place, line) in lines.iter().enumerate() {
        for (cell, width) in line.iter().zip(&widths) {
            // Writing to a text cannot fail.
            let _written = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if place == 0 {
            for width in &widths {
                let _written = write!(text, "| {:-<width$} ", "");
            }
            text.push_str("|\n");
        }
    }
}

/// A number with about three digits that mean something.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn field_of(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let (_, value) = text.lines().find(|line| line.starts_with(name))?.split_once(':')?;
    Some(value.trim().to_owned())
}

fn first_line(command: &mut Command) -> String {
    let said = command.output().ok().filter(|output| output.status.success());
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    said.as_deref().and_then(|text| text.lines().next()).unwrap_or("unknown").to_owned()
}
