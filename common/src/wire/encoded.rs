//! Chunks in their encoded form, written and read cell by cell without decoding all of them.
//!
//! *Invariants*: the bytes are those of [`encode`](super::encode) over a [`Frame`](super::Frame)
//! (or those of version 1, for its requests), and what [`decode`](super::decode) refuses is refused
//! here too.
//!
//! *Why*: a large answer has a million samples. As values they take five times the memory, an
//! allocation a cell, and more time than it takes to count them.

use serde::Deserialize;

use super::{DecodeError, MIN_PAYLOAD_BYTES, Pair, RowKey, Samples, VERSION, overview, v1};
use crate::metric::TypeCode;
use crate::varint;

/// The most bytes of a chunk beside its pairs and cells: version, kind, numbers and lengths.
const AROUND_BYTES: usize = 48;
/// The most bytes of the numbers before a cell's samples.
const PLACE_BYTES: usize = 10;
/// The most bytes of a cell's samples: of each metric its code and two numbers.
const SAMPLES_BYTES: usize = 1 + TypeCode::ALL.len() * (1 + 2 * 10);
/// The most bytes of a cell's stats: their number, and 8 of each of the 7 durations.
const STATS_BYTES: usize = 1 + 7 * 8 * 10;
/// The most bytes of a pair.
const PAIR_BYTES: usize = 2 * (1 + 64);
/// The most bytes of a row's key: a pair and a name.
const ROW_BYTES: usize = PAIR_BYTES + 2 + 1 + 2 + 128;
/// The place of [`Frame::Chunk`](super::Frame) among its siblings.
const CHUNK: u8 = 2;

const _: () = assert!(
    AROUND_BYTES + PLACE_BYTES + SAMPLES_BYTES + STATS_BYTES + ROW_BYTES <= MIN_PAYLOAD_BYTES
);

/// A message of an answer, borrowed from its bytes. Its variants and their fields have the order of
/// those of [`Frame`](super::Frame).
#[derive(Debug, Deserialize)]
pub enum Reply<'a> {
    /// An ingest works on the request.
    Accepted {
        /// The id of its NATS service.
        instance: &'a str,
    },
    /// The request can't be answered; the text says why.
    Refused(&'a str),
    /// A part of the answer.
    Chunk(EncodedChunk<'a>),
    /// The answer is larger than any query takes.
    TooLarge,
    /// A window reaches further back than the ingest can answer completely.
    Incomplete {
        /// What lies at or after this instant (Unix ms) is complete.
        since_ms: i64,
    },
    /// Dates times pairs are too many.
    TooManyPairs {
        /// How many pairs were asked for.
        pairs: u32,
    },
    /// The answer has too many names.
    TooManyNames,
    /// A part of the answer to a request for an overview.
    Overview(overview::Part),
}

/// A part of an answer, like [`Chunk`](super::Chunk), its cells still encoded.
#[derive(Debug, Deserialize)]
pub struct EncodedChunk<'a> {
    /// `0`, `1`, ... in order of sending.
    pub number: u32,
    /// True on the last one.
    pub last: bool,
    /// Everything stored in the stream up to this instant (Unix ms, by the server's clock) is
    /// counted.
    pub as_of_ms: i64,
    /// More pairs, where rows are merged by channel.
    pub pairs: Vec<Pair>,
    /// More rows.
    pub rows: Vec<RowKey>,
    /// The cells.
    pub cells: EncodedCells<'a>,
}

impl<'a> Reply<'a> {
    /// Decodes a message up to its cells, which are checked as they are read.
    ///
    /// # Errors
    /// [`DecodeError`] if the version is unknown or the bytes are damaged.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (mut reply, rest): (Self, _) = match bytes.split_first() {
            Some((&VERSION, body)) => take(body)?,
            Some((&version, _)) => return Err(DecodeError::Version(version)),
            None => return Err(DecodeError::Empty),
        };
        match &mut reply {
            Reply::Chunk(chunk) => chunk.cells.rest = rest,
            _ if rest.is_empty() => {}
            _ => return Err(DecodeError::Trailing(rest.len())),
        }
        Ok(reply)
    }
}

/// The cells of a chunk, one by one; ends after the first that is damaged.
#[derive(Debug, Clone, Deserialize)]
pub struct EncodedCells<'a> {
    left: u32,
    /// What follows the front of the chunk: [`Reply::decode`] sets it.
    #[serde(skip)]
    rest: &'a [u8],
}

/// A cell, its samples still encoded.
#[derive(Debug, Clone, Copy)]
pub struct EncodedCell<'a> {
    /// The group's number.
    pub group: u32,
    /// The row's place in the answer.
    pub row: u32,
    /// Its samples and stats.
    pub samples: EncodedSamples<'a>,
    /// How many stats it has.
    pub stats: u32,
}

impl<'a> EncodedCells<'a> {
    /// All bytes of the cells that were not taken yet.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.rest
    }

    /// How many cells were not taken yet.
    #[must_use]
    pub fn left(&self) -> u32 {
        self.left
    }

    fn take(&mut self) -> Result<EncodedCell<'a>, DecodeError> {
        let ((group, row), rest) = take(self.rest)?;
        let (samples, stats);
        (samples, stats, self.rest) = EncodedSamples::take(rest)?;
        Ok(EncodedCell { group, row, samples, stats })
    }
}

impl<'a> Iterator for EncodedCells<'a> {
    type Item = Result<EncodedCell<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            let rest = std::mem::take(&mut self.rest);
            return (!rest.is_empty()).then_some(Err(DecodeError::Trailing(rest.len())));
        }
        self.left -= 1;
        let cell = self.take();
        if cell.is_err() {
            (self.left, self.rest) = (0, &[]);
        }
        Some(cell)
    }
}

/// The samples of a cell: how many, then each; then its stats likewise.
#[derive(Debug, Clone, Copy, Default)]
pub struct EncodedSamples<'a>(&'a [u8]);

impl<'a> EncodedSamples<'a> {
    /// Takes a cell's samples and stats off the front; gives the number of stats too.
    fn take(bytes: &'a [u8]) -> Result<(Self, u32, &'a [u8]), DecodeError> {
        let (count, mut rest) = take::<u32>(bytes)?;
        let mut newest = None;
        for _ in 0..count {
            let sample: Samples;
            (sample, rest) = take(rest)?;
            if newest.is_some_and(|newest| newest >= sample.code) || sample.count == 0 {
                return Err(DecodeError::Samples);
            }
            newest = Some(sample.code);
        }
        let (stats, mut rest) = take::<u32>(rest)?;
        for _ in 0..stats {
            (_, rest) = take::<u64>(rest)?;
        }
        let length = bytes.len() - rest.len();
        Ok((Self(bytes.get(..length).unwrap_or_default()), stats, rest))
    }

    /// The samples at the front of bytes in which they were found before.
    #[must_use]
    pub fn at(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// The samples, one by one.
    pub fn iter(self) -> impl Iterator<Item = Samples> + 'a {
        let (mut left, mut rest) = take::<u32>(self.0).unwrap_or_default();
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let sample;
            (sample, rest) = take(rest).ok()?;
            Some(sample)
        })
    }

    /// The stats, one by one.
    pub fn stats(self) -> impl Iterator<Item = u64> + 'a {
        let (count, mut rest) = take::<u32>(self.0).unwrap_or_default();
        for _ in 0..count {
            rest = take::<Samples>(rest).map_or(&[][..], |(_, rest)| rest);
        }
        let (mut left, mut rest) = take::<u32>(rest).unwrap_or_default();
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let stat;
            (stat, rest) = take(rest).ok()?;
            Some(stat)
        })
    }
}

#[inline]
fn take<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), DecodeError> {
    Ok(postcard::take_from_bytes(bytes)?)
}

/// Appends the samples of a cell; nothing at all if there are none. Codes ascend, no count is 0.
pub fn put_samples(samples: impl Iterator<Item = Samples>, to: &mut Vec<u8>) {
    let start = to.len();
    let mut count = 0;
    // There are fewer metrics than one byte of a number can say.
    to.push(count);
    for Samples { code, count: n, sum } in samples {
        count += 1;
        to.push(code.number());
        varint::write(to, n);
        varint::write(to, sum);
    }
    match to.get_mut(start) {
        Some(length) if count > 0 => *length = count,
        _ => to.truncate(start),
    }
}

/// Writes an answer's chunks, each as large as it may be.
#[derive(Debug)]
pub struct ChunksWriter {
    version: u8,
    as_of_ms: i64,
    max_bytes: usize,
    pairs: Section,
    rows: Section,
    cells: Section,
    done: Vec<Vec<u8>>,
}

/// A list in the making.
#[derive(Debug, Default)]
struct Section {
    count: u64,
    bytes: Vec<u8>,
}

impl ChunksWriter {
    /// An answer with everything up to that instant, in chunks of at most that size;
    /// [`MIN_PAYLOAD_BYTES`] hold any pair and any cell.
    #[must_use]
    pub fn new(as_of_ms: i64, max_bytes: usize) -> Self {
        Self::of_version(VERSION, as_of_ms, max_bytes)
    }

    /// The same in the form of version 1, where a row is a pair and a cell has no stats.
    #[must_use]
    pub fn of_version_1(as_of_ms: i64, max_bytes: usize) -> Self {
        Self::of_version(v1::VERSION, as_of_ms, max_bytes)
    }

    fn of_version(version: u8, as_of_ms: i64, max_bytes: usize) -> Self {
        let [pairs, rows, cells] = [(); 3].map(|()| Section::default());
        Self { version, as_of_ms, max_bytes, pairs, rows, cells, done: Vec::new() }
    }

    /// Adds a pair, where rows are merged by channel.
    pub fn pair(&mut self, pair: &Pair) {
        self.make_room(PAIR_BYTES);
        put_ids([pair.bot.as_str(), pair.channel.as_str()], &mut self.pairs);
    }

    /// Adds a row; the first is number 0.
    pub fn row(&mut self, row: &RowKey) {
        match (self.version, &row.bot, &row.channel) {
            (v1::VERSION, Some(bot), Some(channel)) => {
                self.make_room(PAIR_BYTES);
                put_ids([bot.as_str(), channel.as_str()], &mut self.pairs);
            }
            _ => {
                self.make_room(ROW_BYTES);
                let bytes = std::mem::take(&mut self.rows.bytes);
                // Only if memory runs out is there an error.
                self.rows.bytes = postcard::to_extend(row, bytes).unwrap_or_default();
                self.rows.count += 1;
            }
        }
    }

    /// Adds a cell of a row that was added before; [`put_samples`] made the samples. Version 1 has
    /// no stats. Gives the number of bytes of samples and stats.
    pub fn cell(&mut self, group: u32, row: u32, samples: &[u8], stats: &[u64]) -> usize {
        let has_stats = self.version != v1::VERSION;
        let room = if has_stats { (1 + stats.len()) * varint::MAX_BYTES } else { 0 };
        self.make_room(PLACE_BYTES + samples.len() + room);
        let to = &mut self.cells.bytes;
        varint::write(to, group.into());
        varint::write(to, row.into());
        let begin = to.len();
        to.extend_from_slice(samples);
        if has_stats {
            varint::write(to, stats.len() as u64);
            stats.iter().for_each(|stat| varint::write(to, *stat));
        }
        self.cells.count += 1;
        to.len() - begin
    }

    /// The messages, the last one marked.
    #[must_use]
    pub fn finish(mut self) -> Vec<Vec<u8>> {
        self.end_chunk(true);
        self.done
    }

    fn make_room(&mut self, bytes: usize) {
        let held = self.pairs.bytes.len() + self.rows.bytes.len() + self.cells.bytes.len();
        if held > 0 && held + bytes + AROUND_BYTES > self.max_bytes {
            self.end_chunk(false);
        }
    }

    fn end_chunk(&mut self, last: bool) {
        let Self { pairs, rows, cells, .. } = self;
        let held = pairs.bytes.len() + rows.bytes.len() + cells.bytes.len();
        let mut chunk = Vec::with_capacity(AROUND_BYTES + held);
        chunk.extend_from_slice(&[self.version, CHUNK]);
        varint::write(&mut chunk, self.done.len() as u64);
        chunk.push(last.into());
        varint::write(&mut chunk, ((self.as_of_ms << 1) ^ (self.as_of_ms >> 63)).cast_unsigned());
        let has_rows = self.version != v1::VERSION;
        for section in [Some(pairs), has_rows.then_some(rows), Some(cells)].into_iter().flatten() {
            varint::write(&mut chunk, section.count);
            chunk.append(&mut section.bytes);
            section.count = 0;
        }
        self.done.push(chunk);
    }
}

fn put_ids(ids: [&str; 2], to: &mut Section) {
    for id in ids {
        varint::write(&mut to.bytes, id.len() as u64);
        to.bytes.extend_from_slice(id.as_bytes());
    }
    to.count += 1;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Cell, Chunk, Frame, MAX_CHUNK_BYTES, RowName, decode, encode};
    use super::*;

    fn chunks() -> impl Strategy<Value = Vec<Chunk>> {
        let number = || prop_oneof![0..200_u64, any::<u64>()];
        let samples = prop::collection::btree_map(
            prop::sample::select(&TypeCode::ALL[..]),
            (number(), number()),
            1..TypeCode::ALL.len(),
        );
        let stats = prop::collection::vec(number(), 0..9);
        let cell = (any::<u32>(), any::<u32>(), samples, stats).prop_map(
            |(group, row, samples, stats)| Cell {
                group,
                row,
                samples: samples
                    .into_iter()
                    .map(|(code, (count, sum))| Samples { code, count: count.max(1), sum })
                    .collect(),
                stats,
            },
        );
        let pair = "[a-zA-Z0-9_-]{1,64}"
            .prop_map(|id| Pair { bot: id.parse().unwrap(), channel: id.parse().unwrap() });
        let name = prop_oneof![
            Just(RowName::Unsplit),
            Just(RowName::Absent),
            Just(RowName::Other),
            "[a-z\u{e9}]{1,60}".prop_map(RowName::Named),
        ];
        let part = || prop::option::of("[a-zA-Z0-9_-]{1,64}");
        let row = (part(), part(), name).prop_map(|(bot, channel, name)| RowKey {
            bot: bot.map(|id| id.parse().unwrap()),
            channel: channel.map(|id| id.parse().unwrap()),
            name,
        });
        let pairs = prop::collection::vec(pair, 0..5);
        let rows = prop::collection::vec(row, 0..5);
        let chunk = (pairs, rows, prop::collection::vec(cell, 0..9));
        (any::<i64>(), prop::collection::vec(chunk, 1..4)).prop_map(|(as_of_ms, chunks)| {
            let count = chunks.len();
            (0_u32..)
                .zip(chunks)
                .map(|(number, (pairs, rows, cells))| {
                    let last = number as usize + 1 == count;
                    Chunk { number, last, as_of_ms, pairs, rows, cells }
                })
                .collect()
        })
    }

    /// The chunk as it is written here.
    fn write(chunk: &Chunk) -> Vec<u8> {
        let mut writer = ChunksWriter::new(chunk.as_of_ms, MAX_CHUNK_BYTES);
        writer.done = vec![Vec::new(); chunk.number as usize];
        chunk.pairs.iter().for_each(|pair| writer.pair(pair));
        chunk.rows.iter().for_each(|row| writer.row(row));
        for cell in &chunk.cells {
            let mut samples = Vec::new();
            put_samples(cell.samples.iter().copied(), &mut samples);
            writer.cell(cell.group, cell.row, &samples, &cell.stats);
        }
        writer.end_chunk(chunk.last);
        writer.done.pop().unwrap()
    }

    /// The message as it is read here, cells and all.
    fn read(bytes: &[u8]) -> Result<Frame, DecodeError> {
        Ok(match Reply::decode(bytes)? {
            Reply::Accepted { instance } => Frame::Accepted { instance: instance.to_owned() },
            Reply::Refused(why) => Frame::Refused(why.to_owned()),
            Reply::TooLarge => Frame::TooLarge,
            Reply::Incomplete { since_ms } => Frame::Incomplete { since_ms },
            Reply::TooManyPairs { pairs } => Frame::TooManyPairs { pairs },
            Reply::TooManyNames => Frame::TooManyNames,
            Reply::Overview(part) => Frame::Overview(part),
            Reply::Chunk(EncodedChunk { number, last, as_of_ms, pairs, rows, cells }) => {
                let cells = cells.map(|cell| {
                    let EncodedCell { group, row, samples, .. } = cell?;
                    let of_cell = EncodedSamples::at(samples.bytes());
                    let (samples, stats) = (of_cell.iter().collect(), of_cell.stats().collect());
                    Ok(Cell { group, row, samples, stats })
                });
                let cells = cells.collect::<Result<_, DecodeError>>()?;
                Frame::Chunk(Chunk { number, last, as_of_ms, pairs, rows, cells })
            }
        })
    }

    #[test]
    fn a_large_answer_is_several_chunks() {
        for max_bytes in [MAX_CHUNK_BYTES, 16 * 1024, MIN_PAYLOAD_BYTES] {
            large_answer(max_bytes);
        }
    }

    fn large_answer(max_bytes: usize) {
        let mut writer = ChunksWriter::new(7, max_bytes);
        let code = TypeCode::TagHit;
        let mut samples = Vec::new();
        put_samples([Samples { code, count: u64::MAX, sum: u64::MAX }].into_iter(), &mut samples);
        for group in 0..30_000 {
            let id = format!("{group:064}");
            let pair = Pair { bot: id.parse().unwrap(), channel: id.parse().unwrap() };
            writer.row(&pair.into());
            writer.cell(group, group, &samples, &[u64::MAX]);
        }
        let (mut rows, mut cells) = (0, 0);
        let messages = writer.finish();
        for (place, message) in messages.iter().enumerate() {
            assert!(message.len() <= max_bytes, "{}", message.len());
            let Ok(Frame::Chunk(chunk)) = decode(message) else { panic!("no chunk") };
            assert_eq!((chunk.number as usize, chunk.as_of_ms), (place, 7));
            assert_eq!(chunk.last, place + 1 == messages.len());
            // A row is there before its cells.
            cells += chunk.cells.len();
            rows += chunk.rows.len();
            assert!(cells <= rows);
        }
        assert_eq!((rows, cells), (30_000, 30_000));
        let bytes: usize = messages.iter().map(Vec::len).sum();
        assert!(messages.len() <= 2 * bytes.div_ceil(max_bytes), "{} chunks", messages.len());
    }

    #[test]
    fn no_samples_are_nothing() {
        let mut bytes = vec![1];
        put_samples(std::iter::empty(), &mut bytes);
        assert_eq!(bytes, [1]);
    }

    #[test]
    fn samples_keep_the_contract() {
        let sample = |code, count| Samples { code, count, sum: 1 };
        let (a, b) = (TypeCode::Messages, TypeCode::TagHit);
        for (samples, good) in [
            (vec![], true),
            (vec![sample(a, 1), sample(b, 1)], true),
            (vec![sample(b, 1), sample(a, 1)], false),
            (vec![sample(a, 1), sample(a, 1)], false),
            (vec![sample(a, 0)], false),
        ] {
            let stats = Vec::new();
            let cells = vec![Cell { group: 0, row: 0, samples: samples.clone(), stats }];
            let bytes = encode(&Frame::Chunk(Chunk { cells, ..Chunk::default() })).unwrap();
            let refused = matches!(read(&bytes), Err(DecodeError::Samples));
            assert_eq!(refused, !good, "{samples:?}");
        }
    }

    #[test]
    fn version_1_has_its_own_chunks() {
        let pair = Pair { bot: "b".parse().unwrap(), channel: "c".parse().unwrap() };
        let sample = Samples { code: TypeCode::TagHit, count: 2, sum: 2 };
        let mut writer = ChunksWriter::of_version_1(-1, MAX_CHUNK_BYTES);
        writer.row(&pair.into());
        let mut samples = Vec::new();
        put_samples([sample].into_iter(), &mut samples);
        writer.cell(3, 0, &samples, &[]);
        // Version, chunk, number, last, as of; the pair; the cell.
        let expected: &[&[u8]] =
            &[&[1, 2, 0, 1, 1], &[1, 1, b'b', 1, b'c'], &[1, 3, 0, 1, 18, 2, 2]];
        assert_eq!(writer.finish(), [expected.concat()]);
    }

    proptest! {
        #[test]
        fn written_as_postcard_writes(chunks in chunks()) {
            for chunk in chunks {
                let bytes = encode(&Frame::Chunk(chunk.clone())).unwrap();
                prop_assert_eq!(&write(&chunk), &bytes);
                prop_assert_eq!(read(&bytes).unwrap(), Frame::Chunk(chunk));
            }
        }

        #[test]
        fn read_as_postcard_reads(chunks in chunks(), at in any::<usize>(), byte in any::<u8>()) {
            for chunk in chunks {
                let mut bytes = write(&chunk);
                let length = bytes.len();
                bytes[at % length] = byte;
                bytes.truncate(at / 7 % length + 1);
                match (read(&bytes), decode::<Frame>(&bytes)) {
                    (Ok(here), Ok(there)) => prop_assert_eq!(here, there),
                    (Err(DecodeError::Samples), Ok(_)) | (Err(_), Err(_)) => {}
                    (here, there) => prop_assert!(false, "{here:?} {there:?}"),
                }
            }
        }
    }
}
