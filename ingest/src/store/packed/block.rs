//! One block: its bytes, the keys that it covers, and how changed items are merged into it.
//!
//! *Invariants*: no bytes make a function of this file panic. Bytes that are decoded and encoded
//! again are the same bytes.

use std::ops::Range;

use botstats_common::varint;

/// A cut leaves about a sixteenth of each block unused, for items that come later.
const SPARE: usize = 16;
/// The bytes of the longest item key.
pub(super) const MAX_KEY: usize = 16;
const VERSION: u8 = 2;

/// Why bytes are not a block, or items do not belong into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BlockError {
    #[error("a block has version {0}, this program knows version {VERSION}")]
    Version(u8),
    #[error("a row's key is malformed")]
    Key,
    #[error("a block has no items")]
    Empty,
    #[error("a block ends before it begins")]
    Region,
    #[error("a block ends within an item")]
    Short,
    #[error("the length of an item is malformed")]
    Length,
    #[error("the items of a block do not ascend, or one lies outside the block")]
    Order,
    #[error("two blocks cover the same keys")]
    Overlap,
    #[error("a changed item does not belong into its block, or changed items do not ascend")]
    Changed,
}

/// The item keys that a block covers: from `first` to `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) first: u128,
    pub(super) last: u128,
}

impl Region {
    pub(super) fn covers(&self, key: u128) -> bool {
        self.first <= key && key <= self.last
    }
}

/// The largest item key; item keys have `width` bytes.
pub(super) fn largest(width: usize) -> u128 {
    key_of(&[u8::MAX; MAX_KEY][..width.min(MAX_KEY)])
}

/// The bytes of a block before its items: the version and the last key.
pub(super) fn header(width: usize) -> usize {
    1 + width
}

pub(super) fn key_of(bytes: &[u8]) -> u128 {
    match bytes.try_into() {
        Ok(whole) => u128::from_be_bytes(whole),
        // In two parts, as most keys of this kind fit into 64 bits.
        Err(_) => {
            let (high, low) = bytes.split_at(bytes.len().saturating_sub(8));
            let number = |part: &[u8]| part.iter().fold(0, |n, b| n << 8 | u64::from(*b));
            u128::from(number(high)) << 64 | u128::from(number(low))
        }
    }
}

/// Appends the bytes of an item key.
pub(super) fn push_key(out: &mut Vec<u8>, key: u128, width: usize) {
    out.extend_from_slice(&key.to_be_bytes()[MAX_KEY - width.min(MAX_KEY)..]);
}

fn push_header(out: &mut Vec<u8>, last: u128, width: usize) {
    out.push(VERSION);
    push_key(out, last, width);
}

fn push_item(out: &mut Vec<u8>, key: u128, body: &[u8], width: usize) {
    push_key(out, key, width);
    varint::write(out, body.len() as u64);
    out.extend_from_slice(body);
}

/// Takes the length of a body off the front. There is one form of each length.
fn take_length(rest: &mut &[u8]) -> Result<usize, BlockError> {
    if let Some((&byte, tail)) = rest.split_first().filter(|(byte, _)| **byte < 0x80) {
        *rest = tail;
        return Ok(byte.into());
    }
    let whole = *rest;
    let length = varint::read(rest).ok_or(BlockError::Length)?;
    if whole.get(whole.len() - rest.len() - 1) == Some(&0) {
        return Err(BlockError::Length);
    }
    usize::try_from(length).map_err(|_| BlockError::Length)
}

/// A stored block, of which only the head is checked yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) group: &'a [u8],
    pub(super) region: Region,
    width: usize,
    value: &'a [u8],
}

impl<'a> Row<'a> {
    pub(super) fn read(
        (group, width): (usize, usize),
        key: &'a [u8],
        value: &'a [u8],
    ) -> Result<Self, BlockError> {
        let (group, start) = key.split_at_checked(group).ok_or(BlockError::Key)?;
        if start.len() != width {
            return Err(BlockError::Key);
        }
        let last = match value {
            [VERSION, rest @ ..] if rest.len() > width => &rest[..width],
            [VERSION, ..] | [] => return Err(BlockError::Empty),
            [version, ..] => return Err(BlockError::Version(*version)),
        };
        let region = Region { first: key_of(start), last: key_of(last) };
        if region.last < region.first {
            return Err(BlockError::Region);
        }
        Ok(Self { group, region, width, value })
    }

    pub(super) fn items(&self) -> Items<'a> {
        Items { rest: &self.value[header(self.width)..], row: *self, previous: None }
    }

    /// Writes the value of a block with some of this row's items: `items` is where their bytes are
    /// in this row's value.
    pub(super) fn write_piece(&self, last: u128, items: &Range<usize>, out: &mut Vec<u8>) {
        out.clear();
        push_header(out, last, self.width);
        out.extend_from_slice(&self.value[items.clone()]);
    }
}

/// The items of a stored block, checked one by one.
#[derive(Debug)]
pub(super) struct Items<'a> {
    rest: &'a [u8],
    row: Row<'a>,
    previous: Option<u128>,
}

impl<'a> Items<'a> {
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u128, &'a [u8])>, BlockError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (key, mut rest) =
            self.rest.split_at_checked(self.row.width).ok_or(BlockError::Short)?;
        let key = key_of(key);
        if self.previous.is_some_and(|previous| key <= previous) || !self.row.region.covers(key) {
            return Err(BlockError::Order);
        }
        let length = take_length(&mut rest)?;
        let (body, rest) = rest.split_at_checked(length).ok_or(BlockError::Short)?;
        self.previous = Some(key);
        self.rest = rest;
        Ok(Some((key, body)))
    }
}

/// Where the items of a block begin, and where the last one ends.
fn index(row: &Row<'_>, offsets: &mut Vec<u32>) -> Result<(), BlockError> {
    let mut items = row.items();
    let end = |items: &Items<'_>| {
        u32::try_from(row.value.len() - items.rest.len()).map_err(|_| BlockError::Length)
    };
    offsets.clear();
    offsets.push(end(&items)?);
    while items.next()?.is_some() {
        offsets.push(end(&items)?);
    }
    Ok(())
}

/// A block that was read, in memory of its own that the next one uses again. A new one covers
/// nothing.
#[derive(Debug, Default)]
pub(crate) struct Block {
    group: Vec<u8>,
    region: Option<Region>,
    width: usize,
    /// True if the table has a row of it.
    stored: bool,
    value: Vec<u8>,
    /// Where the items begin in `value`, and where the last one ends.
    offsets: Vec<u32>,
}

impl Block {
    /// True if an item of that group and key belongs into this block.
    pub(crate) fn covers(&self, group: &[u8], key: u128) -> bool {
        self.region.is_some_and(|region| region.covers(key)) && self.group == group
    }

    /// The last key of its group that belongs into this block.
    #[cfg(test)]
    pub(crate) fn last_key(&self) -> Option<u128> {
        self.region.map(|region| region.last)
    }

    /// The body of an item.
    pub(crate) fn get(&self, key: u128) -> Option<&[u8]> {
        self.item(self.position(0, key)).filter(|item| item.0 == key).map(|item| item.1)
    }

    /// The items in the order of their keys.
    #[cfg(test)]
    pub(crate) fn items(&self) -> impl Iterator<Item = (u128, &[u8])> {
        (0..self.count()).filter_map(|place| self.item(place))
    }

    pub(super) fn group(&self) -> &[u8] {
        &self.group
    }

    pub(super) fn is_stored(&self) -> bool {
        self.stored
    }

    pub(super) fn clear(&mut self) {
        self.region = None;
        self.stored = false;
        self.group.clear();
        self.value.clear();
        self.offsets.clear();
    }

    pub(super) fn load(&mut self, row: &Row<'_>) -> Result<(), BlockError> {
        self.clear();
        index(row, &mut self.offsets)?;
        self.group.extend_from_slice(row.group);
        self.value.extend_from_slice(row.value);
        self.width = row.width;
        self.stored = true;
        self.region = Some(row.region);
        Ok(())
    }

    /// Becomes a block without items.
    pub(super) fn begin(&mut self, group: &[u8], region: Region, width: usize) {
        self.clear();
        self.group.extend_from_slice(group);
        self.width = width;
        self.region = Some(region);
    }

    fn count(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    fn key_at(&self, offset: u32) -> u128 {
        let offset = offset as usize;
        key_of(&self.value[offset..offset + self.width])
    }

    /// The place of the first item from a place on whose key is not below the given one.
    fn position(&self, from: usize, key: u128) -> usize {
        let offsets = self.offsets.get(from..self.count()).unwrap_or_default();
        from + offsets.partition_point(|offset| self.key_at(*offset) < key)
    }

    fn item(&self, place: usize) -> Option<(u128, &[u8])> {
        let [begin, end] = *self.offsets.get(place..)?.first_chunk()?;
        let (key, mut body) =
            self.value.get(begin as usize..end as usize)?.split_at_checked(self.width)?;
        varint::read(&mut body)?;
        Some((key_of(key), body))
    }

    /// Writes what the block becomes with the changed items. Gives the keys that it covers.
    pub(super) fn merge(&self, changed: &Changed, out: &mut Vec<u8>) -> Result<Region, BlockError> {
        let region = self.region.ok_or(BlockError::Changed)?;
        out.clear();
        push_header(out, region.last, self.width);
        let mut from = 0;
        let mut previous = None;
        for (key, body) in changed.items() {
            if !region.covers(key) || previous.is_some_and(|previous| key <= previous) {
                return Err(BlockError::Changed);
            }
            previous = Some(key);
            let place = self.position(from, key);
            out.extend_from_slice(self.stretch(from..place));
            from = place + usize::from(self.item(place).is_some_and(|item| item.0 == key));
            if let Some(body) = body {
                push_item(out, key, body, self.width);
            }
        }
        out.extend_from_slice(self.stretch(from..self.count()));
        Ok(region)
    }

    /// The bytes of these items.
    fn stretch(&self, places: Range<usize>) -> &[u8] {
        match (self.offsets.get(places.start), self.offsets.get(places.end)) {
            (Some(begin), Some(end)) => &self.value[*begin as usize..*end as usize],
            _ => &[],
        }
    }
}

/// Changed items of one block, in the order of their keys; their bodies are in one buffer.
#[derive(Debug, Default)]
pub(crate) struct Changed {
    items: Vec<(u128, Option<Range<usize>>)>,
    bodies: Vec<u8>,
}

impl Changed {
    /// The item gets this body.
    pub(crate) fn put(&mut self, key: u128, body: &[u8]) {
        self.put_with(key, |out| out.extend_from_slice(body));
    }

    /// The item gets the body that `encode` appends.
    pub(crate) fn put_with<R>(&mut self, key: u128, encode: impl FnOnce(&mut Vec<u8>) -> R) -> R {
        let begin = self.bodies.len();
        let result = encode(&mut self.bodies);
        self.items.push((key, Some(begin..self.bodies.len())));
        result
    }

    /// The item goes, if there is one.
    pub(crate) fn remove(&mut self, key: u128) {
        self.items.push((key, None));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.bodies.clear();
    }

    fn items(&self) -> impl Iterator<Item = (u128, Option<&[u8]>)> {
        let body = |range: &Range<usize>| self.bodies.get(range.clone()).unwrap_or_default();
        self.items.iter().map(move |(key, range)| (*key, range.as_ref().map(body)))
    }
}

/// Cuts a block that is longer than `limit` bytes.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    offsets: Vec<u32>,
    /// The blocks that it becomes, with the bytes of their items.
    pieces: Vec<(Region, Range<usize>)>,
}

impl Cutter {
    /// Cuts a block into pieces of about the same length, about as many as are needed if none is
    /// quite full ([`SPARE`]). No piece is longer than `limit`, but for one that is a single item.
    pub(super) fn cut(
        &mut self,
        row: &Row<'_>,
        limit: usize,
    ) -> Result<&[(Region, Range<usize>)], BlockError> {
        index(row, &mut self.offsets)?;
        let begin = header(row.width);
        let (bytes, room) = (row.value.len() - begin, limit.saturating_sub(begin).max(1));
        // A row has an item: there is at least one byte.
        let wanted = bytes.div_ceil(bytes.div_ceil(room - room / SPARE));
        self.pieces.clear();
        let (mut first, mut from) = (row.region.first, begin);
        for item in self.offsets.windows(2) {
            let (item, end) = (item[0] as usize, item[1] as usize);
            if item > from && (item - from >= wanted || end - from > room) {
                let key = key_of(&row.value[item..item + row.width]);
                self.pieces.push((Region { first, last: key.saturating_sub(1) }, from..item));
                (first, from) = (key, item);
            }
        }
        self.pieces.push((Region { first, last: row.region.last }, from..row.value.len()));
        Ok(&self.pieces)
    }
}

/// A decoded row, for tests that feed arbitrary bytes to the decoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodedBlock {
    pub(crate) group: Vec<u8>,
    pub(crate) first: u128,
    pub(crate) last: u128,
    pub(crate) items: Vec<(u128, Vec<u8>)>,
}

impl DecodedBlock {
    pub(super) fn decode(
        shape: (usize, usize),
        key: &[u8],
        value: &[u8],
    ) -> Result<Self, BlockError> {
        let row = Row::read(shape, key, value)?;
        let mut items = row.items();
        let mut decoded = Vec::new();
        while let Some((key, body)) = items.next()? {
            decoded.push((key, body.to_vec()));
        }
        Ok(Self {
            group: row.group.to_vec(),
            first: row.region.first,
            last: row.region.last,
            items: decoded,
        })
    }

    /// The key and the value of its row; item keys have `width` bytes.
    pub(super) fn encode(&self, width: usize) -> (Vec<u8>, Vec<u8>) {
        let mut key = self.group.clone();
        push_key(&mut key, self.first, width);
        let mut value = Vec::new();
        push_header(&mut value, self.last, width);
        for (key, body) in &self.items {
            push_item(&mut value, *key, body, width);
        }
        (key, value)
    }
}
