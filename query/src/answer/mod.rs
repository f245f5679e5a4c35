//! The answer: the cells that an ingest counted become ordered rows, then bytes.
//!
//! *Invariants*: the same question over the same cells and names gives the same bytes, in whatever
//! order the cells came. Rows are made one at a time while they are sent; only cells are held.
//!
//! *Not here*: NATS and HTTP.

pub(crate) mod budget;
pub(crate) mod cells;
mod number;
pub(crate) mod render;

use std::borrow::Borrow;
use std::collections::BTreeMap;

use botstats_common::directory::BotEntry;
use botstats_common::ids::Bot;
use botstats_common::metric::{TypeCode, TypeSet};
use botstats_common::wire::{Chunk, EncodedSamples, Pair, Samples};

use self::cells::{CellAt, Cells, Collecting, Malformed};
pub(crate) use self::render::Format;
use self::render::Rendering;
use crate::request::question::Question;
use crate::window::{Group, Window};

/// The directory entries of an account's bots; a bot or channel without one shows as its id.
pub type Names = BTreeMap<Bot, BotEntry>;

/// The most rows of an answer. A row has about 250 bytes as JSON, so this is 500 MB of text: a
/// program can still read it, and a replica sends it within the time of an answer.
pub(crate) const MAX_ROWS: usize = 2_000_000;

/// Cells in the order of their rows, with everything that the rows need.
#[derive(Debug)]
pub struct Answer<N> {
    groups: Vec<Group>,
    names: N,
    pairs: Vec<Pair>,
    cells: Vec<CellAt>,
    samples: cells::SampleStore,
    types: TypeSet,
    fill_zero: bool,
}

/// Where the next rows begin.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    cell: usize,
    group: usize,
    pair: usize,
}

/// All rows of a group, bot and channel, as the columns of `docs/metrics.md` name their parts.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    /// The group: `GroupLabel`, `GroupStart`, `Complete`.
    pub(crate) group: &'a Group,
    /// `BotName`
    pub(crate) bot_name: &'a str,
    /// `ChannelName`
    pub(crate) channel_name: &'a str,
    /// `BotId` and `ChannelId`
    pub(crate) pair: &'a Pair,
    /// The samples of all metrics, also of those that were not asked for.
    samples: EncodedSamples<'a>,
    types: TypeSet,
    fill_zero: bool,
}

impl Rows<'_> {
    /// The metrics that have a row, in order, each with its count and sum as the wire has them.
    pub(crate) fn for_each(&self, mut row: impl FnMut(TypeCode, u64, u64)) {
        let mut samples = self.samples.iter().peekable();
        for code in self.types.iter() {
            while samples.next_if(|samples| samples.code < code).is_some() {}
            match samples.next_if(|samples| samples.code == code) {
                Some(Samples { count, sum, .. }) => row(code, count, sum),
                None if self.fill_zero => row(code, 0, 0),
                None => {}
            }
        }
    }
}

impl<N: Borrow<Names>> Answer<N> {
    /// Puts cells into the order of rows: group, bot name, bot id, channel name, channel id.
    ///
    /// # Errors
    /// If the cells are not an answer to a question with these groups.
    pub fn new(
        question: &Question,
        window: &Window,
        names: N,
        cells: Cells,
    ) -> Result<Self, Malformed> {
        let Cells { pairs, mut cells, samples, .. } = cells;
        let (pairs, rank) = sorted(pairs, names.borrow());
        for cell in &mut cells {
            let pair = usize::try_from(cell.pair).ok().and_then(|pair| rank.get(pair));
            cell.pair = *pair.ok_or(Malformed::Pair)?;
        }
        cells.sort_unstable_by_key(|cell| (cell.group, cell.pair));
        let twice = cells
            .windows(2)
            .any(|two| matches!(two, [a, b] if (a.group, a.pair) == (b.group, b.pair)));
        let groups = window.groups.clone();
        let beyond = cells.last().is_some_and(|cell| as_usize(cell.group) >= groups.len());
        match (twice, beyond) {
            (true, _) => Err(Malformed::Twice),
            (_, true) => Err(Malformed::Group),
            _ => Ok(Self {
                groups,
                names,
                pairs,
                cells,
                samples,
                types: question.types,
                fill_zero: question.fill_zero,
            }),
        }
    }

    /// The number of rows, if it is more than `MAX_ROWS`.
    #[must_use]
    pub fn too_many_rows(&self) -> Option<usize> {
        // Without `fill` the rows are counted sample by sample, so only where there may be too
        // many.
        let of_a_pair = self.types.iter().count();
        if !self.fill_zero && self.cells.len().saturating_mul(of_a_pair) <= MAX_ROWS {
            return None;
        }
        Some(self.row_count()).filter(|rows| *rows > MAX_ROWS)
    }

    fn row_count(&self) -> usize {
        if self.fill_zero {
            let places = self.groups.len().saturating_mul(self.pairs.len());
            return places.saturating_mul(self.types.iter().count());
        }
        let asked = |samples: &Samples| self.types.contains(samples.code);
        self.cells.iter().map(|cell| self.samples.of(cell).iter().filter(asked).count()).sum()
    }

    /// The next group, bot and channel that may have rows, in their order.
    pub(crate) fn next_rows(&self, cursor: &mut Cursor) -> Option<Rows<'_>> {
        if !self.fill_zero {
            let cell = self.cells.get(cursor.cell)?;
            cursor.cell += 1;
            return self.rows(as_usize(cell.group), as_usize(cell.pair), Some(cell));
        }
        if cursor.pair == self.pairs.len() {
            cursor.pair = 0;
            cursor.group += 1;
        }
        let here = |cell: &&CellAt| {
            (as_usize(cell.group), as_usize(cell.pair)) == (cursor.group, cursor.pair)
        };
        let cell = self.cells.get(cursor.cell).filter(here);
        let rows = self.rows(cursor.group, cursor.pair, cell);
        cursor.cell += usize::from(cell.is_some());
        cursor.pair += 1;
        rows
    }

    fn rows(&self, group: usize, pair: usize, cell: Option<&CellAt>) -> Option<Rows<'_>> {
        let pair = self.pairs.get(pair)?;
        let (bot_name, channel_name) = names_of(pair, self.names.borrow());
        Some(Rows {
            group: self.groups.get(group)?,
            bot_name,
            channel_name,
            pair,
            samples: cell.map(|cell| self.samples.of(cell)).unwrap_or_default(),
            types: self.types,
            fill_zero: self.fill_zero,
        })
    }
}

/// Answers a question from an ingest's chunks, whole and at once.
///
/// # Errors
/// If the chunks are not an answer to that question.
pub fn render_all(
    question: &Question,
    names: &Names,
    window: &Window,
    chunks: &[Chunk],
    format: Format,
) -> Result<Vec<u8>, Malformed> {
    let mut collecting = Collecting::default();
    for chunk in chunks {
        collecting.add_value(chunk.clone())?;
    }
    let answer = Answer::new(question, window, names, collecting.finish()?)?;
    let mut rendering = Rendering::new(answer, format);
    let mut bytes = Vec::new();
    while let Some(piece) = rendering.next_piece() {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

fn names_of<'a>(pair: &'a Pair, names: &'a Names) -> (&'a str, &'a str) {
    names.get(&pair.bot).map_or((pair.bot.as_str(), pair.channel.as_str()), |entry| {
        (entry.shown_name(&pair.bot), entry.channel_name(&pair.channel))
    })
}

/// The pairs in the order of rows, and the new index of each by its old index.
fn sorted(pairs: Vec<Pair>, names: &Names) -> (Vec<Pair>, Vec<u32>) {
    let mut order: Vec<(u32, Pair)> = (0..).zip(pairs).collect();
    // Code points and UTF-8 bytes have the same order.
    order.sort_unstable_by(|(_, a), (_, b)| row_key(a, names).cmp(&row_key(b, names)));
    let mut rank = vec![0; order.len()];
    let mut sorted = Vec::with_capacity(order.len());
    for (new, (old, pair)) in (0_u32..).zip(order) {
        if let Some(rank) = rank.get_mut(as_usize(old)) {
            *rank = new;
        }
        sorted.push(pair);
    }
    (sorted, rank)
}

fn row_key<'a>(pair: &'a Pair, names: &'a Names) -> [&'a str; 4] {
    let (bot_name, channel_name) = names_of(pair, names);
    [bot_name, pair.bot.as_str(), channel_name, pair.channel.as_str()]
}

/// A widening conversion on every machine that this program runs on.
fn as_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use botstats_common::wire::Cell;
    use proptest::prelude::*;

    use super::*;

    fn question(types: &str, query: Option<&str>) -> Question {
        Question::parse(["*", types, "hour", "1"], query).unwrap()
    }

    /// Hours of a day in UTC, the last one running.
    fn window(hours: i64) -> Window {
        let midnight_ms = 20_000 * botstats_common::quarter::DAY_MS;
        let now_ms = midnight_ms + (hours - 1) * 3_600_000 + 1;
        let asked = question("0", None);
        Window::new(now_ms, &jiff::tz::TimeZone::UTC, asked.days, asked.mode)
    }

    fn pair(bot: &str, channel: &str) -> Pair {
        Pair { bot: bot.parse().unwrap(), channel: channel.parse().unwrap() }
    }

    /// An id and a name.
    type Named = (&'static str, &'static str);

    fn names(bots: &[(&str, &str, &[Named])]) -> Names {
        let entry = |name: &str, channels: &[Named]| {
            let channels: BTreeMap<_, _> = channels.iter().copied().collect();
            let json = serde_json::json!({"name": name, "channels": channels}).to_string();
            BotEntry::parse(json.as_bytes()).unwrap()
        };
        bots.iter()
            .map(|(id, name, channels)| (id.parse().unwrap(), entry(name, channels)))
            .collect()
    }

    /// One chunk in which every pair has `codes` once in every group named.
    fn chunk(pairs: &[Pair], groups: &[u32], codes: &[u8]) -> Chunk {
        let samples: Vec<Samples> = codes
            .iter()
            .map(|code| Samples { code: (*code).try_into().unwrap(), count: 1, sum: 1 })
            .collect();
        let places = 0..u32::try_from(pairs.len()).unwrap();
        let cell = |group: u32, pair| Cell { group, pair, samples: samples.clone() };
        let cells = groups.iter().flat_map(|g| places.clone().map(|p| cell(*g, p))).collect();
        Chunk { last: true, pairs: pairs.to_vec(), cells, ..Chunk::default() }
    }

    fn render(question: &Question, names: &Names, chunk: Chunk, format: Format) -> String {
        let bytes = render_all(question, names, &window(3), &[chunk], format).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn rows_are_ordered_by_code_points_of_names_then_ids() {
        let names = names(&[
            ("b1", "Zoo", &[]),
            ("b2", "apple", &[]),
            ("b3", "Zoo", &[("w2", "Alpha"), ("w1", "Beta")]),
            ("b5", "\u{e9}t\u{e9}", &[]),
            ("b6", "\u{1f355}", &[]),
        ]);
        let pairs = [
            pair("b6", "w"),
            pair("b5", "w"),
            pair("b4", "w"),
            pair("b3", "w1"),
            pair("b3", "w2"),
            pair("b3", "w0"),
            pair("b2", "w"),
            pair("b1", "w"),
        ];
        let text = render(&question("3", None), &names, chunk(&pairs, &[1], &[3]), Format::Ndjson);
        let rows: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let order: Vec<String> = rows
            .iter()
            .map(|r| {
                ["BotName", "BotId", "ChannelName", "ChannelId"]
                    .map(|f| r[f].as_str().unwrap())
                    .join(" ")
            })
            .collect();
        assert_eq!(
            order,
            [
                "Zoo b1 w w",
                "Zoo b3 Alpha w2",
                "Zoo b3 Beta w1",
                "Zoo b3 w0 w0",
                "apple b2 w w",
                "b4 b4 w w",
                "\u{e9}t\u{e9} b5 w w",
                "\u{1f355} b6 w w",
            ]
        );
    }

    #[test]
    fn bytes_of_each_format() {
        let names = names(&[("b1", "A \"b\", c", &[])]);
        let pairs = [pair("b1", "web")];
        let asked = question("9,13", Some("fill=zero"));
        let of = |format| render(&asked, &names, chunk(&pairs, &[2], &[9]), format);
        insta::assert_snapshot!(of(Format::Csv).replace("\r\n", "|\n"), @r#"
        GroupLabel,BotName,ChannelName,EventLabel,EventType,Value,Count,Sum,Unit,BotId,ChannelId,GroupStart,Complete|
        2024-10-04T00:00:00Z,"A ""b"", c",web,Time To Pick Up,9,,0,0,seconds,b1,web,2024-10-04T00:00:00Z,true|
        2024-10-04T00:00:00Z,"A ""b"", c",web,Incoming Message,13,0,0,0,count,b1,web,2024-10-04T00:00:00Z,true|
        2024-10-04T01:00:00Z,"A ""b"", c",web,Time To Pick Up,9,,0,0,seconds,b1,web,2024-10-04T01:00:00Z,true|
        2024-10-04T01:00:00Z,"A ""b"", c",web,Incoming Message,13,0,0,0,count,b1,web,2024-10-04T01:00:00Z,true|
        2024-10-04T02:00:00Z,"A ""b"", c",web,Time To Pick Up,9,0.001,1,0.001,seconds,b1,web,2024-10-04T02:00:00Z,false|
        2024-10-04T02:00:00Z,"A ""b"", c",web,Incoming Message,13,0,0,0,count,b1,web,2024-10-04T02:00:00Z,false|
        "#);
        assert_eq!(of(Format::Ndjson).lines().count(), 6);
        let first = r#"[{"GroupLabel":"2024-10-04T00:00:00Z","BotName":"A \"b\", c","ChannelName":"web","EventLabel":"Time To Pick Up","EventType":9,"Value":null,"Count":0,"Sum":0,"Unit":"seconds","BotId":"b1","ChannelId":"web","GroupStart":"2024-10-04T00:00:00Z","Complete":true},{"#;
        assert!(of(Format::Json).starts_with(first), "{}", of(Format::Json));
    }

    #[test]
    fn nothing_is_an_empty_answer() {
        for query in [None, Some("fill=zero")] {
            let of =
                |format| render(&question("0", query), &Names::new(), chunk(&[], &[], &[]), format);
            assert_eq!(of(Format::Json), "[]");
            assert_eq!(of(Format::Ndjson), "");
            assert_eq!(of(Format::Csv), format!("{}\r\n", render::COLUMNS.join(",")));
        }
        // A pair whose samples are of other types only has rows where they are filled in.
        let other = || chunk(&[pair("b", "c")], &[0], &[]);
        assert_eq!(render(&question("0", None), &Names::new(), other(), Format::Json), "[]");
        let filled = question("0", Some("fill=zero"));
        let filled = render(&filled, &Names::new(), other(), Format::Ndjson);
        assert_eq!(filled.lines().count(), 3);
    }

    #[test]
    fn cells_that_do_not_fit_the_question_are_refused() {
        let pairs = [pair("b", "c")];
        for (chunk, expected) in [
            (chunk(&pairs, &[3], &[0]), Malformed::Group),
            (chunk(&pairs, &[1, 1], &[0]), Malformed::Twice),
        ] {
            let asked = question("0", None);
            let got = render_all(&asked, &Names::new(), &window(3), &[chunk], Format::Json);
            assert_eq!(got.unwrap_err(), expected);
        }
    }

    proptest! {
        /// Rows by the definition: every combination, kept if it was asked for and sampled (or
        /// filled in), sorted.
        #[test]
        fn rows_as_their_definition_says(
            cells in prop::collection::btree_map((0_u32..3, 0_u32..4), prop::collection::btree_map(0_u8..19, 1_u64..9, 0..19), 0..12),
            types in prop::collection::btree_set(TypeCode::OFFERED_NUMBERS, 1..TypeCode::OFFERED.len()),
            fill in any::<bool>(),
        ) {
            let pairs = [pair("b2", "x"), pair("b1", "y"), pair("b1", "x"), pair("b3", "x")];
            let names = names(&[("b1", "same", &[]), ("b2", "same", &[]), ("b3", "first", &[])]);
            let wire_cells = cells.iter().map(|((group, pair), samples)| Cell {
                group: *group,
                pair: *pair,
                samples: samples
                    .iter()
                    .map(|(code, count)| Samples { code: (*code).try_into().unwrap(), count: *count, sum: *count })
                    .collect(),
            });
            let sent = Chunk { last: true, pairs: pairs.to_vec(), cells: wire_cells.collect(), ..Chunk::default() };
            let list: Vec<_> = types.iter().map(u8::to_string).collect();
            let asked = question(&list.join(","), fill.then_some("fill=zero"));
            let text = render(&asked, &names, sent, Format::Ndjson);
            let got: Vec<_> = text
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
                .map(|row| (
                    row["GroupStart"].as_str().unwrap().to_owned(),
                    row["BotId"].as_str().unwrap().to_owned(),
                    row["ChannelId"].as_str().unwrap().to_owned(),
                    row["EventType"].as_u64().unwrap(),
                    row["Count"].as_u64().unwrap(),
                ))
                .collect();
            let mut expected = Vec::new();
            for group in 0..3_u32 {
                // By name, then id: "first" before "same".
                for (bot, channel, place) in [("b3", "x", 3), ("b1", "x", 2), ("b1", "y", 1), ("b2", "x", 0_u32)] {
                    for code in &types {
                        let count = cells.get(&(group, place)).and_then(|s| s.get(code)).copied();
                        if count.is_some() || fill {
                            expected.push((
                                format!("2024-10-04T0{group}:00:00Z"),
                                bot.to_owned(),
                                channel.to_owned(),
                                u64::from(*code),
                                count.unwrap_or(0),
                            ));
                        }
                    }
                }
            }
            prop_assert_eq!(got, expected);
        }
    }

    #[test]
    fn rows_are_counted_before_they_are_made() {
        let answer = |pairs: u32, types: &str, codes: &[u8], query| {
            let pairs: Vec<Pair> = (0..pairs).map(|i| pair(&format!("b{i}"), "web")).collect();
            let mut collecting = Collecting::default();
            collecting.add_value(chunk(&pairs, &[0, 1], codes)).unwrap();
            let cells = collecting.finish().unwrap();
            Answer::new(&question(types, query), &window(3), Names::new(), cells).unwrap()
        };
        let all = (0..19).map(|code| code.to_string()).collect::<Vec<_>>().join(",");
        let of =
            |pairs, types, codes: &[u8], query| answer(pairs, types, codes, query).too_many_rows();
        // Filled up: 3 groups, whatever has samples.
        let fill = Some("fill=zero");
        assert_eq!(of(35_000, &all, &[], fill), None);
        assert_eq!(of(35_100, &all, &[], fill), Some(35_100 * 3 * 19));
        assert_eq!(of(2, &all, &[], fill), None);
        // Else 2 cells of each pair, with the samples that were asked for.
        let (many, few): (Vec<u8>, Vec<u8>) = ((0..19).collect(), (0..16).collect());
        assert_eq!(of(62_500, &all, &few, None), None, "2,000,000");
        assert_eq!(of(62_501, &all, &few, None), Some(2_000_032));
        assert_eq!(of(62_501, "0,1,2", &many, None), None);
        // The count is that of the rows that are made.
        for query in [None, fill] {
            let small = answer(50, "0,3,18", &[0, 2, 18], query);
            let mut rows = 0;
            let mut cursor = Cursor::default();
            while let Some(some) = small.next_rows(&mut cursor) {
                some.for_each(|_, _, _| rows += 1);
            }
            assert_eq!(small.row_count(), rows);
            assert_eq!(rows, if query.is_some() { 50 * 3 * 3 } else { 50 * 2 * 2 });
        }
    }

    #[test]
    fn many_pieces_are_one_document() {
        let pairs: Vec<Pair> = (0..100).map(|i| pair(&format!("b{i}"), "web")).collect();
        let all: Vec<u8> = (0..19).collect();
        let sent = chunk(&pairs, &[0, 1, 2], &all);
        let types = all.iter().map(u8::to_string).collect::<Vec<_>>().join(",");
        let of = |format| render(&question(&types, None), &Names::new(), sent.clone(), format);
        let json: Vec<serde_json::Value> = serde_json::from_str(&of(Format::Json)).unwrap();
        assert_eq!(json.len(), 100 * 3 * 19);
        let lines: Vec<serde_json::Value> =
            of(Format::Ndjson).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(json, lines);
        assert_eq!(of(Format::Csv).matches("\r\n").count(), json.len() + 1);
    }
}
