//! What can be asked about durations beside their mean: percentiles, extremes, shares.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most stats of a question: each is a column.
pub const MAX_STATS: usize = 8;
/// The most seconds of [`Stat::Within`]: a week.
pub const MAX_WITHIN_S: u32 = 604_800;
/// The values of `stats`, as texts say it.
pub const ALLOWED_STATS: &str = "p1 to p99, min, max and within:S with S from 1 to 604800 seconds";

/// A number made of the durations of a row, each kept to three digits of its milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stat {
    /// The duration at this percentage of all, by nearest rank; 1 to 99.
    Percentile(u8),
    /// The shortest duration.
    Min,
    /// The longest duration.
    Max,
    /// The share of durations that are at most this many seconds; 1 to [`MAX_WITHIN_S`].
    Within(u32),
}

impl Stat {
    /// The name of its column.
    #[must_use]
    pub fn column(self) -> String {
        match self {
            Stat::Percentile(percent) => format!("P{percent}"),
            Stat::Min => "Min".to_owned(),
            Stat::Max => "Max".to_owned(),
            Stat::Within(seconds) => format!("Within{seconds}"),
        }
    }
}

/// As it stands in a question.
impl fmt::Display for Stat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stat::Percentile(percent) => write!(f, "p{percent}"),
            Stat::Min => f.write_str("min"),
            Stat::Max => f.write_str("max"),
            Stat::Within(seconds) => write!(f, "within:{seconds}"),
        }
    }
}

impl FromStr for Stat {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let stat = match text {
            "min" => Stat::Min,
            "max" => Stat::Max,
            _ => match text.strip_prefix("within:") {
                Some(seconds) => Stat::Within(seconds.parse().map_err(|_| ())?),
                None => {
                    let percent = text.strip_prefix('p').ok_or(())?;
                    Stat::Percentile(percent.parse().map_err(|_| ())?)
                }
            },
        };
        // Only the plain decimal form of a number is allowed: no sign, no leading zero.
        let is_allowed = match stat {
            Stat::Percentile(percent) => (1..=99).contains(&percent),
            Stat::Within(seconds) => (1..=MAX_WITHIN_S).contains(&seconds),
            Stat::Min | Stat::Max => true,
        };
        if is_allowed && stat.to_string() == text { Ok(stat) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stats_as_they_stand_in_a_question() {
        for (text, column) in [
            ("p1", Some("P1")),
            ("p99", Some("P99")),
            ("min", Some("Min")),
            ("max", Some("Max")),
            ("within:1", Some("Within1")),
            ("within:604800", Some("Within604800")),
            ("p0", None),
            ("p100", None),
            ("p050", None),
            ("p+5", None),
            ("P50", None),
            ("p", None),
            ("within:0", None),
            ("within:604801", None),
            ("within:030", None),
            ("within:1.5", None),
            ("within", None),
            ("mean", None),
            ("", None),
        ] {
            let stat = text.parse::<Stat>().ok();
            assert_eq!(stat.map(Stat::column).as_deref(), column, "{text}");
        }
    }
}
