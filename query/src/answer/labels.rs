//! What rows are called, and the order that follows from it.
//!
//! *Invariant*: rows are ordered by name before id, for bots, then channels, then the names of a
//! split. A name or id that a row does not have sorts as the empty text.

use std::collections::BTreeMap;
use std::sync::Arc;

use botstats_common::directory::{BotEntry, Operators};
use botstats_common::ids::{Bot, Channel};
use botstats_common::split::{NO_NAME, OTHER_NAMES, Split};
use botstats_common::wire::{Pair, RowKey, RowName};

use super::as_usize;
use super::cells::Malformed;
use crate::request::question::Question;

/// The directory entries of an account's bots; a bot or channel without one shows as its id.
pub type Names = BTreeMap<Bot, BotEntry>;

/// The display names of the directory under which an answer's rows are shown.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// The entries of the bots.
    pub bots: Arc<Names>,
    /// The names of the operators.
    pub operators: Arc<Operators>,
}

/// The names and ids of a row; `None` for what rows are merged over, and for a row without a
/// `SplitId`. Rows that are not split have an empty `split_name`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RowLabels<'a> {
    pub(crate) bot_name: Option<&'a str>,
    pub(crate) bot_id: Option<&'a str>,
    pub(crate) channel_name: Option<&'a str>,
    pub(crate) channel_id: Option<&'a str>,
    pub(crate) split_name: &'a str,
    pub(crate) split_id: Option<&'a str>,
}

impl<'a> RowLabels<'a> {
    /// What rows of one group are ordered by.
    fn order(self) -> [&'a str; 6] {
        let Self { bot_name, bot_id, channel_name, channel_id, split_name, split_id } = self;
        [bot_name, bot_id, channel_name, channel_id, Some(split_name), split_id]
            .map(Option::unwrap_or_default)
    }
}

/// The rows of an answer in their order, and what they are called.
#[derive(Debug)]
pub(super) struct LabelledRows {
    rows: Vec<RowKey>,
    labels: Labels,
    /// Where rows are merged over bots but not over channels: the name of each channel that has
    /// one.
    merged_channels: BTreeMap<Channel, String>,
    split: Option<Split>,
}

impl LabelledRows {
    /// Puts the rows of an answer into their order; gives the new place of each by its old one too.
    ///
    /// # Errors
    /// If the question asks for rows of another shape.
    pub(super) fn new(
        question: &Question,
        labels: Labels,
        rows: Vec<RowKey>,
        pairs: &[Pair],
    ) -> Result<(Self, Vec<u32>), Malformed> {
        let split = question.split.map(|by| by.split);
        let by_channel = question.by.channel && !question.by.bot;
        let fits = |row: &RowKey| {
            row.bot.is_some() == question.by.bot
                && row.channel.is_some() == question.by.channel
                && match &row.name {
                    RowName::Unsplit => split.is_none(),
                    RowName::Absent | RowName::Other => split.is_some(),
                    RowName::Named(name) => {
                        split.is_some() && !["", NO_NAME, OTHER_NAMES].contains(&name.as_str())
                    }
                }
        };
        if !rows.iter().all(fits) || !(by_channel || pairs.is_empty()) {
            return Err(Malformed::Row);
        }
        let merged_channels = smallest_names(pairs, &labels.bots);
        let mut all = Self { rows, labels, merged_channels, split };
        let places = all.sort();
        Ok((all, places))
    }

    fn sort(&mut self) -> Vec<u32> {
        // Code points and UTF-8 bytes have the same order.
        let mut order: Vec<(u32, [&str; 6])> =
            (0..).zip(&self.rows).map(|(old, row)| (old, self.labels(row).order())).collect();
        order.sort_unstable_by_key(|(_, names)| *names);
        let order: Vec<u32> = order.into_iter().map(|(old, _)| old).collect();
        let mut places = vec![0; order.len()];
        for (new, old) in (0..).zip(&order) {
            if let Some(place) = places.get_mut(as_usize(*old)) {
                *place = new;
            }
        }
        let mut rows: Vec<_> = std::mem::take(&mut self.rows).into_iter().map(Some).collect();
        let taken = order.iter().filter_map(|old| rows.get_mut(as_usize(*old))?.take());
        self.rows = taken.collect();
        places
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// What the row of that place is called.
    pub(super) fn get(&self, place: usize) -> Option<RowLabels<'_>> {
        self.rows.get(place).map(|row| self.labels(row))
    }

    fn labels<'a>(&'a self, row: &'a RowKey) -> RowLabels<'a> {
        let RowKey { bot, channel, name } = row;
        let entry = bot.as_ref().and_then(|bot| self.labels.bots.get(bot));
        let (split_name, split_id) = match name {
            RowName::Unsplit => ("", None),
            RowName::Absent => (NO_NAME, None),
            RowName::Other => (OTHER_NAMES, None),
            RowName::Named(id) => (self.shown_name(id), Some(id.as_str())),
        };
        RowLabels {
            bot_name: bot.as_ref().map(|bot| match entry {
                Some(entry) => entry.shown_name(bot),
                None => bot.as_str(),
            }),
            bot_id: bot.as_ref().map(Bot::as_str),
            channel_name: channel.as_ref().map(|channel| match entry {
                Some(entry) => entry.channel_name(channel),
                None => self.merged_channels.get(channel).map_or(channel.as_str(), String::as_str),
            }),
            channel_id: channel.as_ref().map(Channel::as_str),
            split_name,
            split_id,
        }
    }

    fn shown_name<'a>(&'a self, id: &'a str) -> &'a str {
        let operator = match self.split {
            Some(Split::Operator) => self.labels.operators.get(id),
            _ => None,
        };
        operator.map_or(id, String::as_str)
    }
}

/// The smallest name of each channel among the bots that have it.
fn smallest_names(pairs: &[Pair], bots: &Names) -> BTreeMap<Channel, String> {
    let mut smallest: BTreeMap<Channel, String> = BTreeMap::new();
    for Pair { bot, channel } in pairs {
        let Some(name) = bots.get(bot).and_then(|entry| entry.channels.get(channel)) else {
            continue;
        };
        match smallest.get_mut(channel) {
            None => {
                smallest.insert(channel.clone(), name.clone());
            }
            Some(known) if name < known => known.clone_from(name),
            Some(_) => {}
        }
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::super::tests::{names, pair, question};
    use super::*;

    fn row(bot: &str, channel: &str, name: RowName) -> RowKey {
        let id = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        RowKey {
            bot: id(bot).map(|id| id.parse().unwrap()),
            channel: id(channel).map(|id| id.parse().unwrap()),
            name,
        }
    }

    fn named(name: &str) -> RowName {
        RowName::Named(name.to_owned())
    }

    /// The rows in their order, each as its names and ids.
    fn ordered(
        question: &Question,
        labels: &Labels,
        rows: &[RowKey],
        pairs: &[Pair],
    ) -> Result<Vec<String>, Malformed> {
        let (all, places) = LabelledRows::new(question, labels.clone(), rows.to_vec(), pairs)?;
        for (row, place) in rows.iter().zip(places) {
            assert_eq!(all.rows[as_usize(place)], *row);
        }
        let shown = |place| {
            let RowLabels { bot_name, bot_id, channel_name, channel_id, split_name, split_id } =
                all.get(place).unwrap();
            [bot_name, bot_id, channel_name, channel_id, Some(split_name), split_id]
                .map(|text| text.unwrap_or("-"))
                .join(" ")
        };
        Ok((0..all.len()).map(shown).collect())
    }

    #[test]
    fn rows_are_ordered_by_code_points_of_names_then_ids() {
        let labels = names(&[
            ("b1", "Zoo", &[]),
            ("b2", "apple", &[]),
            ("b3", "Zoo", &[("w2", "Alpha"), ("w1", "Beta")]),
            ("b5", "\u{e9}t\u{e9}", &[]),
            ("b6", "\u{1f355}", &[]),
        ]);
        let of = |bot, channel| row(bot, channel, RowName::Unsplit);
        let rows = [
            of("b6", "w"),
            of("b5", "w"),
            of("b4", "w"),
            of("b3", "w1"),
            of("b3", "w2"),
            of("b3", "w0"),
            of("b2", "w"),
            of("b1", "w"),
        ];
        let expected = [
            "Zoo b1 w w  -",
            "Zoo b3 Alpha w2  -",
            "Zoo b3 Beta w1  -",
            "Zoo b3 w0 w0  -",
            "apple b2 w w  -",
            "b4 b4 w w  -",
            "\u{e9}t\u{e9} b5 w w  -",
            "\u{1f355} b6 w w  -",
        ];
        assert_eq!(ordered(&question("3", "day"), &labels, &rows, &[]).unwrap(), expected);
    }

    #[test]
    fn a_merged_channel_has_the_smallest_name_of_the_bots_that_use_it() {
        let mut asked = question("3", "day");
        asked.by.bot = false;
        let labels = names(&[
            ("b1", "A", &[("web", "Web"), ("sms", "Sms")]),
            ("b2", "B", &[("web", "Site"), ("app", "Never used")]),
            ("b3", "C", &[("web", "Aside")]),
        ]);
        let rows: Vec<RowKey> =
            ["sms", "web", "app"].map(|channel| row("", channel, RowName::Unsplit)).to_vec();
        // Bot 3 has no sample on the web, bot 2 none in the app.
        let pairs = [("b2", "web"), ("b1", "web"), ("b1", "sms"), ("b4", "web"), ("b3", "app")];
        let pairs = pairs.map(|(bot, channel)| pair(bot, channel));
        assert_eq!(
            ordered(&asked, &labels, &rows, &pairs).unwrap(),
            ["- - Site web  -", "- - Sms sms  -", "- - app app  -"]
        );
        asked.by.channel = false;
        let one = [row("", "", RowName::Unsplit)];
        assert_eq!(ordered(&asked, &labels, &one, &[]).unwrap(), ["- - - -  -"]);
        assert_eq!(ordered(&asked, &labels, &one, &pairs), Err(Malformed::Row));
    }

    #[test]
    fn names_of_a_split_are_shown_and_ordered() {
        let mut labels = names(&[]);
        let operators = [("o1", "Zoe"), ("o2", "Ann"), ("o3", "Ann"), ("(none)", "x")];
        labels.operators =
            Arc::new(operators.map(|(id, name)| (id.to_owned(), name.to_owned())).into());
        let rows: Vec<RowKey> =
            [named("o1"), RowName::Other, named("o9"), named("o3"), RowName::Absent, named("o2")]
                .map(|name| row("b", "c", name))
                .to_vec();
        let of = |split: &str, types: &str| {
            let mut asked = question(types, "day");
            let split = split.parse().unwrap();
            asked.split = Some(botstats_common::wire::SplitBy { split, top: 50 });
            ordered(&asked, &labels, &rows, &[]).unwrap()
        };
        let of_operators = of("operator", "17");
        assert_eq!(
            of_operators,
            [
                "b b c c (none) -",
                "b b c c (other) -",
                "b b c c Ann o2",
                "b b c c Ann o3",
                "b b c c Zoe o1",
                "b b c c o9 o9",
            ]
        );
        // A tag is its own name, even if an operator has this id.
        assert_eq!(of("tag", "18")[2..4], ["b b c c o1 o1", "b b c c o2 o2"]);
    }

    #[test]
    fn rows_of_another_shape_are_refused() {
        let asked = question("18", "day");
        let mut split = asked.clone();
        let tag = botstats_common::wire::SplitBy { split: Split::Tag, top: 1 };
        split.split = Some(tag);
        let mut by_bot = asked.clone();
        by_bot.by.channel = false;
        let unsplit = RowName::Unsplit;
        for (question, row, is_good) in [
            (&asked, row("b", "c", unsplit.clone()), true),
            (&asked, row("b", "", unsplit.clone()), false),
            (&asked, row("", "c", unsplit.clone()), false),
            (&asked, row("b", "c", named("x")), false),
            (&asked, row("b", "c", RowName::Absent), false),
            (&asked, row("b", "c", RowName::Other), false),
            (&by_bot, row("b", "", unsplit.clone()), true),
            (&by_bot, row("b", "c", unsplit.clone()), false),
            (&split, row("b", "c", named("x")), true),
            (&split, row("b", "c", RowName::Absent), true),
            (&split, row("b", "c", RowName::Other), true),
            (&split, row("b", "c", unsplit), false),
            (&split, row("b", "c", named("")), false),
            (&split, row("b", "c", named("(none)")), false),
            (&split, row("b", "c", named("(other)")), false),
        ] {
            let got = ordered(question, &Labels::default(), std::slice::from_ref(&row), &[]);
            assert_eq!(got.is_ok(), is_good, "{row:?}");
        }
        let pairs = [pair("b", "c")];
        let got = ordered(&asked, &Labels::default(), &[], &pairs);
        assert_eq!(got, Err(Malformed::Row), "pairs that were not asked for");
    }
}
