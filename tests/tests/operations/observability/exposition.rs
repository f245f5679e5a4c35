//! A strict reader of Prometheus' text format 0.0.4, that knows the conventions of names as well.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};

/// Ends of names that say a unit other than the base unit.
const OTHER_UNITS: [&str; 9] = ["ms", "us", "ns", "minutes", "hours", "days", "kb", "kib", "mib"];

/// The metrics of a program by name.
pub(crate) type Exposition = BTreeMap<String, Family>;

/// A metric with all its series.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) samples: Vec<Sample>,
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Family {
    /// The names of its labels, without that of a histogram's buckets.
    pub(crate) fn label_names(&self) -> BTreeSet<String> {
        let names = self.samples.iter().flat_map(|s| s.labels.keys());
        names.filter(|name| *name != "le").cloned().collect()
    }

    /// The value of the series with these labels.
    pub(crate) fn value(&self, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: BTreeMap<String, String> =
            labels.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        self.samples.iter().find(|s| s.labels == wanted).map(|s| s.value)
    }
}

/// Reads a text.
pub(crate) fn parse(text: &str) -> Result<Exposition> {
    ensure!(text.ends_with('\n'), "the last line has no end");
    let mut all = Exposition::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').context("a HELP without a text")?;
            ensure!(!all.contains_key(name), "{name} is there twice");
            current = name.to_owned();
            all.insert(current.clone(), Family { help: help.to_owned(), ..Family::default() });
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("a TYPE without a type")?;
            ensure!(name == current, "{name}: a TYPE without a HELP before it");
            let family = all.get_mut(name).context("no family")?;
            ensure!(family.kind.is_empty() && family.samples.is_empty(), "{name}: a late TYPE");
            family.kind = kind.to_owned();
        } else {
            ensure!(!line.starts_with('#'), "a comment: {line}");
            let sample = sample(line).with_context(|| line.to_owned())?;
            let family = all.get_mut(&current).context("a sample before all")?;
            let own = sample.name.strip_prefix(&current);
            let fits = matches!(
                (family.kind.as_str(), own),
                ("histogram", Some("_bucket" | "_sum" | "_count"))
                    | ("counter" | "gauge", Some(""))
            );
            ensure!(fits, "{line}: not one of {current}, a {}", family.kind);
            let same = |s: &Sample| s.name == sample.name && s.labels == sample.labels;
            ensure!(!family.samples.iter().any(same), "{line}: the series is there twice");
            family.samples.push(sample);
        }
    }
    for (name, family) in &all {
        convention(name, family).with_context(|| name.clone())?;
    }
    Ok(all)
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !text.contains("__")
}

fn sample(line: &str) -> Result<Sample> {
    let end = line.find(['{', ' ']).context("no value")?;
    let (name, rest) = line.split_at(end);
    ensure!(is_name(name), "a bad name");
    let mut labels = BTreeMap::new();
    let value = match rest.strip_prefix('{') {
        None => rest,
        Some(mut rest) => loop {
            let (label, quoted) = rest.split_once("=\"").context("a label without a value")?;
            ensure!(is_name(label), "a bad label {label}");
            let (value, after) = unquote(quoted)?;
            ensure!(labels.insert(label.to_owned(), value).is_none(), "{label} is there twice");
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => break after.strip_prefix('}').context("no end of the labels")?,
            }
        },
    };
    let value = value.strip_prefix(' ').context("no space before the value")?;
    Ok(Sample { name: name.to_owned(), labels, value: value.parse().context("no number")? })
}

/// The text up to a quote, and what comes after the quote.
fn unquote(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((place, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[place + 1..])),
            '\\' => match chars.next().context("an escape at the end")?.1 {
                'n' => value.push('\n'),
                c @ ('"' | '\\') => value.push(c),
                c => bail!("an unknown escape \\{c}"),
            },
            c => value.push(c),
        }
    }
    bail!("no end of the value")
}

fn convention(name: &str, family: &Family) -> Result<()> {
    ensure!(is_name(name), "a bad name");
    ensure!(family.help.len() >= 10, "no help");
    ensure!(!family.samples.is_empty(), "no series");
    let base = name.strip_suffix("_total").unwrap_or(name);
    for unit in OTHER_UNITS {
        ensure!(!base.ends_with(&format!("_{unit}")), "not in a base unit");
    }
    for unit in ["seconds", "bytes"] {
        let has_it = base.ends_with(&format!("_{unit}"));
        ensure!(!has_it || family.help.contains(unit), "its help does not say its unit");
    }
    let labels: BTreeSet<Vec<&String>> = family
        .samples
        .iter()
        .map(|s| s.labels.keys().filter(|name| *name != "le").collect())
        .collect();
    ensure!(labels.len() == 1, "series with other labels than others: {labels:?}");
    match family.kind.as_str() {
        "counter" => {
            ensure!(name.ends_with("_total"), "a counter without _total");
            ensure!(family.samples.iter().all(|s| s.value >= 0.0), "below 0");
        }
        "gauge" => {
            let ends = ["_total", "_count", "_sum", "_bucket"];
            ensure!(!ends.iter().any(|end| name.ends_with(end)), "an end that is no gauge's");
        }
        "histogram" => histogram(name, family)?,
        kind => bail!("a {kind:?}"),
    }
    Ok(())
}

fn histogram(name: &str, family: &Family) -> Result<()> {
    ensure!(name.ends_with("_seconds"), "a histogram of something else than seconds");
    let mut buckets = Vec::new();
    for sample in family.samples.iter().filter(|s| s.name.ends_with("_bucket")) {
        ensure!(sample.labels.len() == 1, "labels that this reader does not expect");
        buckets.push((sample.labels["le"].parse::<f64>()?, sample.value));
    }
    ensure!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "not ascending: {buckets:?}");
    let bounds: Vec<f64> = buckets.iter().map(|(bound, _)| *bound).collect();
    let (first, last) = (bounds[0], bounds[bounds.len() - 2]);
    ensure!(bounds.len() > 10 && first <= 0.001 && last >= 10.0, "bounds {bounds:?}");
    let of = |end: &str| {
        let found = family.samples.iter().find(|s| s.name == format!("{name}{end}"));
        found.map(|s| s.value).with_context(|| format!("no {end}"))
    };
    ensure!(buckets.last() == Some(&(f64::INFINITY, of("_count")?)), "not all are counted");
    ensure!(of("_sum")? >= 0.0, "a sum below 0");
    Ok(())
}

#[test]
fn what_is_refused() {
    let good = "# HELP a_total Things of it\n# TYPE a_total counter\na_total{b=\"x\\\"y\"} 1\n";
    assert_eq!(parse(good).unwrap()["a_total"].value(&[("b", "x\"y")]), Some(1.0));
    for (from, to) in [
        ("# HELP a_total Things of it\n", ""),
        ("# TYPE a_total counter\n", ""),
        (" counter", " gauge"),
        (" counter", " summary"),
        ("a_total", "a"),
        ("a_total", "a_ms_total"),
        ("a_total", "a_seconds_total"),
        ("{b=", "{B="),
        ("{b=", "{b=\"\",b="),
        ("\\\"", "\\q"),
        ("\"} 1", "\"} -1"),
        ("\"} 1", "\"} x"),
        ("\"} 1", "\"} 1 "),
        ("\"} 1\n", "\"} 1"),
        ("\"} 1\n", "\"} 1\na_total{b=\"x\\\"y\"} 2\n"),
        ("\"} 1\n", "\"} 1\na_total 2\n"),
    ] {
        let bad = good.replace(from, to);
        assert!(bad != good && parse(&bad).is_err(), "{bad}");
    }
}
