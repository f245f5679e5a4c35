//! What an expression of PromQL asks for: metrics, and labels of them. Not a parser: enough to see
//! that what is named exists.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

/// Words that are no metric, although no bracket follows them.
const WORDS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "inf"];
/// Words before a list of labels.
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// What is asked for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Asked {
    pub(crate) selectors: Vec<Selector>,
    /// Labels in lists.
    pub(crate) grouped: BTreeSet<String>,
}

/// A metric and the labels that it must have.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Selector {
    pub(crate) metric: String,
    /// (label, operator, value).
    pub(crate) matchers: Vec<(String, String, String)>,
}

/// Reads an expression.
pub(crate) fn asked(expression: &str) -> Result<Asked> {
    let mut asked = Asked::default();
    let mut rest = expression;
    while let Some(c) = rest.chars().next() {
        if c == '[' {
            rest = &rest[rest.find(']').context("no end of the range")? + 1..];
        } else if c.is_ascii_digit() {
            let number = |c: char| c.is_ascii_alphanumeric() || c == '.';
            rest = rest.trim_start_matches(number);
        } else if c.is_ascii_alphabetic() || c == '_' {
            let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = after.trim_start();
            if LISTS.contains(&word) {
                let list = rest.strip_prefix('(').context("no list of labels")?;
                let (list, after) = list.split_once(')').context("no end of the list")?;
                let labels = list.split(',').map(|l| l.trim().to_owned());
                asked.grouped.extend(labels.filter(|label| !label.is_empty()));
                rest = after;
                continue;
            }
            let is_function = rest.starts_with('(')
                || ["by (", "without ("].iter().any(|list| rest.starts_with(list));
            if !is_function && !WORDS.contains(&word) {
                let mut selector = Selector { metric: word.to_owned(), ..Selector::default() };
                if let Some(inside) = rest.strip_prefix('{') {
                    let (inside, after) = inside.split_once('}').context("no end of the labels")?;
                    selector.matchers = inside.split(',').map(matcher).collect::<Result<_>>()?;
                    rest = after;
                }
                asked.selectors.push(selector);
            }
        } else {
            rest = &rest[c.len_utf8()..];
        }
    }
    Ok(asked)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

fn matcher(text: &str) -> Result<(String, String, String)> {
    let end = text.find(|c: char| !is_word(c)).context("no operator")?;
    let (label, rest) = text.split_at(end);
    let (operator, value) = rest.split_once('"').context("no quoted value")?;
    let value = value.strip_suffix('"').context("no end of the value")?;
    Ok((label.trim().to_owned(), operator.trim().to_owned(), value.to_owned()))
}

/// Whether an alternative of a simple regular expression (`.` for one character, no others) fits.
pub(crate) fn fits(alternative: &str, value: &str) -> bool {
    alternative.len() == value.len()
        && alternative.chars().zip(value.chars()).all(|(a, v)| a == '.' || a == v)
}

#[test]
fn expressions() {
    let selector = |metric: &str, matchers: &[(&str, &str, &str)]| Selector {
        metric: metric.to_owned(),
        matchers: matchers
            .iter()
            .map(|(l, o, v)| ((*l).to_owned(), (*o).to_owned(), (*v).to_owned()))
            .collect(),
    };
    let grouped = |labels: &[&str]| labels.iter().map(|l| (*l).to_owned()).collect();
    let text = "histogram_quantile(0.9, sum by (job, le) (rate(a_bucket{x=\"y\",z=~\"5..|4\"}[5m]))) > 1e3 \
         and on(job) b == 0 or vector(1)";
    let expected = Asked {
        selectors: vec![
            selector("a_bucket", &[("x", "=", "y"), ("z", "=~", "5..|4")]),
            selector("b", &[]),
        ],
        grouped: grouped(&["job", "le"]),
    };
    assert_eq!(asked(text).unwrap(), expected);
    let expected =
        Asked { selectors: vec![selector("up", &[("job", "=", "x")])], ..Asked::default() };
    assert_eq!(asked("absent(up{job=\"x\"} == 1)").unwrap(), expected);
    assert!(fits("5..", "503") && !fits("5..", "404") && !fits("200", "20"));
}
