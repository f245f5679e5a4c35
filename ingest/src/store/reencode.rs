//! Decodes stored bytes and encodes them again, for tests that feed arbitrary bytes to the
//! decoders.

use std::fmt::Debug;

use super::{
    BUCKETS_SHAPE, PairRow, Progress, SLICES_SHAPE, StoreError, StoredUser, USERS_SHAPE,
    decode_dead_letter, encode_dead_letter, meta,
};
use crate::fold::body::Hour;
use crate::fold::generations::Generations;
use crate::fold::names::Names;
use crate::fold::names_of_day::NamesOfDay;
use crate::fold::timeline::{StoredSlice, decode_slice, encode_long, encode_slice};

/// The kind of a stored value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say what they are")]
pub enum StoredTable {
    /// Rows of the packed tables.
    SliceBlocks,
    UserBlocks,
    BucketBlocks,
    /// Items of the packed tables.
    Slices,
    Users,
    Hours,
    NamesOfDay,
    /// Rows of the other tables.
    Forgotten,
    Pairs,
    Progress,
    DeadLetters,
}

/// What bytes were decoded to: as text, and encoded again.
#[derive(Debug, PartialEq, Eq)]
pub struct Reencoded {
    /// All fields.
    pub shown: String,
    /// The key, for a table whose decoder reads the key too; else empty.
    pub key: Vec<u8>,
    /// The stored form.
    pub value: Vec<u8>,
}

/// The day of the slices that are decoded here.
const DAY: u32 = 20_000;

/// Decodes a key and its value, and encodes them again.
///
/// # Errors
/// Those of the table's decoder.
pub fn reencode(table: StoredTable, key: &[u8], value: &[u8]) -> Result<Reencoded, StoreError> {
    let block = match table {
        StoredTable::SliceBlocks => Some(SLICES_SHAPE),
        StoredTable::UserBlocks => Some(USERS_SHAPE),
        StoredTable::BucketBlocks => Some(BUCKETS_SHAPE),
        _ => None,
    };
    if let Some(shape) = block {
        let block = shape.decode(key, value)?;
        let (key, value) = shape.encode(&block);
        return Ok(Reencoded { shown: format!("{block:?}"), key, value });
    }
    let mut again = Vec::new();
    match table {
        StoredTable::SliceBlocks | StoredTable::UserBlocks | StoredTable::BucketBlocks => {
            done((), again)
        }
        StoredTable::Slices => {
            let (mut names, mut events) = (Names::default(), Vec::new());
            let stored = decode_slice(DAY, value, &mut names, &mut events)?;
            match &stored {
                StoredSlice::Short(entry) => {
                    encode_slice(DAY, entry, &events, &names, &mut again);
                }
                StoredSlice::Long { next_number, parts } => {
                    encode_long(DAY, *next_number, parts, &names, &mut again);
                }
            }
            done((stored, events), again)
        }
        StoredTable::Users => {
            let user = StoredUser::decode(value)?;
            user.encode(&mut again);
            done(user, again)
        }
        StoredTable::Hours => {
            let hour = Hour::decode(value)?;
            hour.encode(&mut again);
            done(hour, again)
        }
        StoredTable::NamesOfDay => {
            let mut names = NamesOfDay::default();
            names.load(Some(value))?;
            names.encode(&mut again);
            done(names, again)
        }
        StoredTable::Forgotten => {
            let generations = Generations::decode(value)
                .ok_or_else(|| StoreError::value("forgotten", "malformed bytes"))?;
            let again = generations.encode();
            done(generations, again)
        }
        StoredTable::Pairs => {
            let row = PairRow::decode(value)?;
            let again = row.encode()?;
            done(row, again)
        }
        StoredTable::Progress => {
            let progress: Progress = meta::decode("meta", value)?;
            let again = meta::encode("meta", &progress)?;
            done(progress, again)
        }
        StoredTable::DeadLetters => {
            let (rule, reason) = decode_dead_letter(value)?;
            let again = encode_dead_letter(rule, &reason);
            done((rule, reason), again)
        }
    }
}

fn done(read: impl Debug, value: Vec<u8>) -> Result<Reencoded, StoreError> {
    Ok(Reencoded { shown: format!("{read:?}"), key: Vec::new(), value })
}
