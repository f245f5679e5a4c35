//! A packed table: many small items in one row of redb, a *block*.
//!
//! An item has a group, a key and a body. The groups are apart from each other, so all items of old
//! days can go at once. Within a group, a block covers a range of keys, also those that have no
//! item yet. The first block of a group covers all keys; a block that grows beyond
//! [`MAX_BLOCK_BYTES`] is cut into pieces of about the same length. Blocks are never merged: they
//! go with their group, or when they are empty.
//!
//! A commit sorts the items that it touches by group and key, and goes through them block by block:
//! [`Packed::seek`] and [`Block::get`] for each item, at the end [`Packed::put`].
//!
//! *Invariants*: the blocks of a group cover different keys; no block is empty. Malformed rows are
//! errors. The same items in other commits may be cut into other blocks; what is read is the same.
//!
//! *Why*: a row for each item costs redb a look-up, a copied page and 30 bytes an item.
//!
//! *Format*: the key of a row is the group and the first item key that the block covers, most
//! significant byte first. The value (version 2): the version byte; the last item key that the
//! block covers; then the items, ascending: key, length of the body as a varint in its shortest
//! form, body.

mod block;
#[cfg(test)]
mod tests;

use std::ops::{Bound, RangeInclusive};

use redb::{ReadableTable, Table};

use super::StoreError;
pub(crate) use block::{Block, Changed, DecodedBlock};
use block::{BlockError, Cutter, Region, Row};

/// A longer block is cut. A leaf page of redb, 4,096 bytes, then holds at least one block.
const MAX_BLOCK_BYTES: usize = 4_000;
/// The longest key of a row, in bytes: a group of 16 and an item key of 16.
const MAX_ROW_KEY: usize = 32;

/// The name of a packed table, and the lengths of its keys in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// For errors.
    pub(crate) name: &'static str,
    pub(crate) group: usize,
    /// At most 16: an item key is a `u128` in memory.
    pub(crate) key: usize,
}

impl Shape {
    fn widths(self) -> (usize, usize) {
        (self.group, self.key)
    }

    fn error(self, error: BlockError) -> StoreError {
        StoreError::value(self.name, error)
    }

    /// Decodes a row.
    ///
    /// # Errors
    /// If the row is malformed.
    pub(crate) fn decode(self, key: &[u8], value: &[u8]) -> Result<DecodedBlock, StoreError> {
        DecodedBlock::decode(self.widths(), key, value).map_err(|e| self.error(e))
    }

    /// The key and the value of a row.
    pub(crate) fn encode(self, block: &DecodedBlock) -> (Vec<u8>, Vec<u8>) {
        block.encode(self.key)
    }

    fn row<'a>(self, key: &'a [u8], value: &'a [u8]) -> Result<Row<'a>, StoreError> {
        Row::read(self.widths(), key, value).map_err(|e| self.error(e))
    }

    /// Writes a row: a new one, or one that is stored and gets another value.
    ///
    /// # Errors
    /// [`BlockError::Overlap`] if a new row would take the place of another.
    fn insert(
        self,
        table: &mut Table<'_, &'static [u8], &'static [u8]>,
        key: &RowKey,
        value: &[u8],
        is_stored: bool,
    ) -> Result<(), StoreError> {
        match table.insert(key.bytes(), value)?.is_some() == is_stored {
            true => Ok(()),
            false => Err(self.error(BlockError::Overlap)),
        }
    }

    /// The key of a row.
    fn row_key(self, group: &[u8], key: u128) -> Result<RowKey, StoreError> {
        let mut row = RowKey { bytes: [0; MAX_ROW_KEY], end: self.group + self.key };
        if group.len() == self.group
            && key <= block::largest(self.key)
            && let Some((to, rest)) = row.bytes.split_at_mut_checked(self.group)
            && let Some(rest) = rest.get_mut(..self.key)
            && let Some(key) = key.to_be_bytes().get(block::MAX_KEY - self.key..)
        {
            to.copy_from_slice(group);
            rest.copy_from_slice(key);
            return Ok(row);
        }
        Err(self.error(BlockError::Key))
    }
}

/// The key of a row, without a memory of its own.
struct RowKey {
    bytes: [u8; MAX_ROW_KEY],
    end: usize,
}

impl RowKey {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.end]
    }
}

/// A packed table over a table of redb that can be read, or also written.
pub(crate) struct Packed<T> {
    table: T,
    shape: Shape,
    limit: usize,
    merged: Vec<u8>,
    piece: Vec<u8>,
    cutter: Cutter,
}

impl<T> Packed<T> {
    pub(crate) fn new(table: T, shape: Shape) -> Self {
        Self::with_limit(table, shape, MAX_BLOCK_BYTES)
    }

    fn with_limit(table: T, shape: Shape, limit: usize) -> Self {
        let (merged, piece) = Default::default();
        Self { table, shape, limit, merged, piece, cutter: Cutter::default() }
    }
}

impl<T: ReadableTable<&'static [u8], &'static [u8]>> Packed<T> {
    /// Reads the block into which an item of that group and key belongs. If there is none, the
    /// block is an empty one that covers as many keys as it may.
    ///
    /// # Errors
    /// If the block is malformed or the file cannot be read.
    pub(crate) fn block_of(
        &self,
        group: &[u8],
        key: u128,
        block: &mut Block,
    ) -> Result<(), StoreError> {
        block.clear();
        let shape = self.shape;
        let first = shape.row_key(group, 0)?;
        let wanted = shape.row_key(group, key)?;
        let mut uncovered = Region { first: 0, last: block::largest(shape.key) };
        if let Some(row) = self.table.range(first.bytes()..=wanted.bytes())?.next_back() {
            let (row_key, value) = row?;
            let row = shape.row(row_key.value(), value.value())?;
            if row.region.covers(key) {
                return block.load(&row).map_err(|e| shape.error(e));
            }
            uncovered.first = row.region.last.saturating_add(1);
        }
        // No block covers the key. The empty one reaches as far as its neighbours allow.
        let last = shape.row_key(group, uncovered.last)?;
        let after = (Bound::Excluded(wanted.bytes()), Bound::Included(last.bytes()));
        if let Some(row) = self.table.range::<&[u8]>(after)?.next() {
            let (row_key, value) = row?;
            let row = shape.row(row_key.value(), value.value())?;
            uncovered.last = row.region.first.saturating_sub(1);
        }
        block.begin(group, uncovered, shape.key);
        Ok(())
    }

    /// Copies the body of one item into `body`, whose memory is used again.
    ///
    /// # Errors
    /// If the block is malformed or the file cannot be read.
    pub(crate) fn get<'b>(
        &self,
        group: &[u8],
        key: u128,
        body: &'b mut Vec<u8>,
    ) -> Result<Option<&'b [u8]>, StoreError> {
        let mut found = false;
        self.scan_keys(group, key..=key, |_, item| {
            body.clear();
            body.extend_from_slice(item);
            found = true;
            Ok::<_, StoreError>(())
        })?;
        Ok(found.then_some(&body[..]))
    }

    /// Calls `each` with the key and the body of every item of a group whose key is in the range,
    /// in the order of the keys.
    ///
    /// # Errors
    /// If a block is malformed, the file cannot be read, or `each` fails.
    pub(crate) fn scan_keys<E: From<StoreError>>(
        &self,
        group: &[u8],
        keys: RangeInclusive<u128>,
        mut each: impl FnMut(u128, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let shape = self.shape;
        let redb = |error: redb::StorageError| E::from(error.into());
        let first = shape.row_key(group, 0)?;
        let begin = shape.row_key(group, *keys.start())?;
        let end = shape.row_key(group, (*keys.end()).min(block::largest(shape.key)))?;
        // Most ranges lie in the block that covers their first key.
        let mut least = *keys.start();
        if let Some(row) =
            self.table.range(first.bytes()..=begin.bytes()).map_err(redb)?.next_back()
        {
            let (row_key, value) = row.map_err(redb)?;
            let row = shape.row(row_key.value(), value.value())?;
            each_item(shape, &row, &keys, &mut each)?;
            if row.region.last >= *keys.end() {
                return Ok(());
            }
            least = least.max(row.region.last.saturating_add(1));
        }
        let after = (Bound::Excluded(begin.bytes()), Bound::Included(end.bytes()));
        if begin.bytes() >= end.bytes() {
            return Ok(());
        }
        for row in self.table.range::<&[u8]>(after).map_err(redb)? {
            let (row_key, value) = row.map_err(redb)?;
            let row = shape.row(row_key.value(), value.value())?;
            if row.region.first < least {
                return Err(shape.error(BlockError::Overlap).into());
            }
            least = row.region.last.saturating_add(1);
            each_item(shape, &row, &keys, &mut each)?;
        }
        Ok(())
    }

    /// Calls `each` with the group, the key and the body of every item, in order.
    ///
    /// # Errors
    /// If a block is malformed, the file cannot be read, or `each` fails.
    pub(crate) fn scan_all<E: From<StoreError>>(
        &self,
        mut each: impl FnMut(&[u8], u128, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let shape = self.shape;
        let redb = |error: redb::StorageError| E::from(error.into());
        let all = 0..=block::largest(shape.key);
        let mut previous: Option<(Vec<u8>, u128)> = None;
        for row in self.table.iter().map_err(redb)? {
            let (row_key, value) = row.map_err(redb)?;
            let row = shape.row(row_key.value(), value.value())?;
            match &mut previous {
                Some((group, last)) if group == row.group => {
                    if row.region.first <= *last {
                        return Err(shape.error(BlockError::Overlap).into());
                    }
                    *last = row.region.last;
                }
                _ => previous = Some((row.group.to_vec(), row.region.last)),
            }
            each_item(shape, &row, &all, &mut |key, body: &[u8]| each(row.group, key, body))?;
        }
        Ok(())
    }
}

impl<T: ReadableTable<&'static [u8], &'static [u8]>> Packed<T> {
    /// The last group that has an item.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn last_group(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let Some((key, _)) = self.table.last()? else { return Ok(None) };
        Ok(key.value().get(..self.shape.group).map(<[u8]>::to_vec))
    }
}

fn each_item<E: From<StoreError>>(
    shape: Shape,
    row: &Row<'_>,
    keys: &RangeInclusive<u128>,
    each: &mut impl FnMut(u128, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut items = row.items();
    while let Some((key, body)) = items.next().map_err(|e| shape.error(e))? {
        if key > *keys.end() {
            break;
        }
        if key >= *keys.start() {
            each(key, body)?;
        }
    }
    Ok(())
}

impl Packed<Table<'_, &'static [u8], &'static [u8]>> {
    /// Writes a block with its changed items, and clears both: the block covers nothing until
    /// another is read into it.
    ///
    /// # Errors
    /// If an item does not belong into the block, if items do not ascend, or if the file cannot be
    /// written. The transaction must not be committed then.
    pub(crate) fn put(
        &mut self,
        block: &mut Block,
        changed: &mut Changed,
    ) -> Result<(), StoreError> {
        let result = if changed.is_empty() { Ok(()) } else { self.write(block, changed) };
        block.clear();
        changed.clear();
        result
    }

    /// Makes `block` the block of an item: if it is another one, that is written first, as by
    /// [`Packed::put`].
    ///
    /// # Errors
    /// As [`Packed::put`], and if the block is malformed or the file cannot be read.
    pub(crate) fn seek(
        &mut self,
        group: &[u8],
        key: u128,
        block: &mut Block,
        changed: &mut Changed,
    ) -> Result<(), StoreError> {
        if block.covers(group, key) {
            return Ok(());
        }
        self.put(block, changed)?;
        self.block_of(group, key, block)
    }

    fn write(&mut self, block: &Block, changed: &Changed) -> Result<(), StoreError> {
        let shape = self.shape;
        let wrong = |e| shape.error(e);
        let region = block.merge(changed, &mut self.merged).map_err(wrong)?;
        let row_key = shape.row_key(block.group(), region.first)?;
        if self.merged.len() <= block::header(shape.key) {
            if block.is_stored() {
                self.table.remove(row_key.bytes())?;
            }
            return Ok(());
        }
        if self.merged.len() <= self.limit {
            return shape.insert(&mut self.table, &row_key, &self.merged, block.is_stored());
        }
        let row = Row::read(shape.widths(), row_key.bytes(), &self.merged).map_err(wrong)?;
        for (region, items) in self.cutter.cut(&row, self.limit).map_err(wrong)? {
            row.write_piece(region.last, items, &mut self.piece);
            let is_stored = block.is_stored() && region.first == row.region.first;
            let row_key = shape.row_key(block.group(), region.first)?;
            shape.insert(&mut self.table, &row_key, &self.piece, is_stored)?;
        }
        Ok(())
    }

    /// Deletes all groups before that one, which can be the first bytes of a group.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn delete_before(&mut self, group: &[u8]) -> Result<(), StoreError> {
        Ok(self.table.retain_in(..group, |_, _| false)?)
    }
}
