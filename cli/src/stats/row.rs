//! A row of the endpoint, and its numbers as people read them.

use std::collections::BTreeMap;

use botstats_common::metric::{Kind, TypeCode};
use botstats_common::stat::Stat;
use serde::Deserialize;
use serde_json::Value;

use crate::output::{grouped, printable};

/// A row of the endpoint. A column that was not asked for is absent.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Row {
    pub(super) period: Option<Period>,
    pub(super) group_label: String,
    pub(super) bot_name: Option<String>,
    pub(super) channel_name: Option<String>,
    pub(super) split_name: Option<String>,
    pub(super) event_label: String,
    pub(super) event_type: u8,
    pub(super) value: Option<f64>,
    pub(super) count: u64,
    pub(super) unit: String,
    pub(super) bot_id: Option<String>,
    pub(super) channel_id: Option<String>,
    pub(super) split_id: Option<String>,
    pub(super) complete: bool,
    /// The other columns, with those of `stats` among them.
    #[serde(flatten)]
    more: BTreeMap<String, Value>,
}

/// The window that a row is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Period {
    Current,
    Previous,
}

/// What a row is about, beside its time: in the order of the endpoint's rows.
pub(super) type RowKey<'a> = [Option<&'a str>; 6];

impl Row {
    /// `None` for a metric that only a newer endpoint knows.
    pub(super) fn kind(&self) -> Option<Kind> {
        TypeCode::try_from(self.event_type).ok().map(TypeCode::kind)
    }

    /// True if the value is itself a count, so that it has no samples behind it.
    pub(super) fn is_count(&self) -> bool {
        matches!(self.kind(), Some(Kind::Users | Kind::Count))
    }

    pub(super) fn is_previous(&self) -> bool {
        self.period == Some(Period::Previous)
    }

    pub(super) fn key(&self) -> RowKey<'_> {
        let Self { bot_name, bot_id, channel_name, channel_id, split_name, split_id, .. } = self;
        [bot_name, bot_id, channel_name, channel_id, split_name, split_id]
            .map(|part| part.as_deref())
    }

    /// The value; `-` without one. `is_mean`: users and counts are means too, as in `weekhour`.
    pub(super) fn shown_value(&self, is_mean: bool) -> String {
        match (self.kind(), self.value) {
            (_, None) => "-".to_owned(),
            (Some(Kind::Users | Kind::Count), Some(value)) if is_mean => format!("{value:.2}"),
            // Value and Count are the same number here, and an integer needs no rounding.
            (Some(Kind::Users | Kind::Count), Some(_)) => grouped(self.count),
            (Some(Kind::Mean { .. }), Some(value)) => format!("{value:.3}"),
            (Some(Kind::Ratio), Some(value)) => format!("{value:.2}"),
            (None, Some(value)) => value.to_string(),
        }
    }

    /// The number in the column of a stat; `-` without one.
    pub(super) fn shown_stat(&self, stat: Stat) -> String {
        let value = self.more.get(&stat.column()).and_then(Value::as_f64);
        match (value, stat) {
            (None, _) => "-".to_owned(),
            (Some(value), Stat::Within(_)) => format!("{value:.2}"),
            (Some(value), Stat::Percentile(_) | Stat::Min | Stat::Max) => format!("{value:.3}"),
        }
    }

    /// Whether the row has a sample: an empty one is there for `fill` alone.
    pub(super) fn has_samples(&self) -> bool {
        self.count > 0
    }
}

/// The heading of a stat's column, with its unit.
pub(super) fn heading(stat: Stat) -> String {
    match stat {
        Stat::Within(seconds) => format!("<={seconds}s (%)"),
        Stat::Percentile(_) | Stat::Min | Stat::Max => {
            format!("{} (s)", stat.column().to_uppercase())
        }
    }
}

/// A name that may be merged away.
pub(super) fn name(name: Option<&str>) -> String {
    printable(name.unwrap_or_default())
}
