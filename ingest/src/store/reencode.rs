//! Decodes stored bytes and encodes them again, for tests that feed arbitrary bytes to the
//! decoders.

use std::fmt::Debug;

use super::{
    Bucket, PairRow, Progress, StoreError, decode_dead_letter, decode_slice, decode_user,
    encode_dead_letter, encode_user, keys, meta,
};

/// The kind of a stored value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredTable {
    /// Slices of timelines.
    Timelines,
    /// Buckets.
    Buckets,
    /// Rows of users.
    Users,
    /// Rows of (bot, channel) pairs.
    Pairs,
    /// The progress.
    Progress,
    /// Dead letters.
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

/// Decodes a key and its value, and encodes them again.
///
/// # Errors
/// Those of the table's decoder.
pub fn reencode(table: StoredTable, key: &[u8], value: &[u8]) -> Result<Reencoded, StoreError> {
    let wrong = |table, reason: &str| StoreError::value(table, reason);
    match table {
        StoredTable::Timelines => {
            let (day, pair, conversation) =
                keys::slice_conversation(key).ok_or_else(|| wrong("timelines", "malformed key"))?;
            let slice = decode_slice(day, key, value)?;
            let prefix = keys::slice_prefix(day, pair, conversation);
            let value = slice.encode().map_err(|e| StoreError::value("timelines", e))?;
            done((pair, conversation, &slice), keys::slice_key(&prefix, slice.begins), value)
        }
        StoredTable::Buckets => {
            let bucket = Bucket::decode(value)?;
            let mut again = Vec::new();
            bucket.encode(&mut again);
            done(bucket, Vec::new(), again)
        }
        StoredTable::Users => {
            let row = decode_user(value.try_into().map_err(|_| wrong("users", "wrong length"))?)?;
            done(row, Vec::new(), encode_user(row).to_vec())
        }
        StoredTable::Pairs => {
            let row = PairRow::decode(value)?;
            let again = row.encode()?;
            done(row, Vec::new(), again)
        }
        StoredTable::Progress => {
            let progress: Progress = meta::decode("meta", value)?;
            let again = meta::encode("meta", &progress)?;
            done(progress, Vec::new(), again)
        }
        StoredTable::DeadLetters => {
            let (rule, reason) = decode_dead_letter(value)?;
            let again = encode_dead_letter(rule, &reason);
            done((rule, reason), Vec::new(), again)
        }
    }
}

fn done(read: impl Debug, key: Vec<u8>, value: Vec<u8>) -> Result<Reencoded, StoreError> {
    Ok(Reencoded { shown: format!("{read:?}"), key, value })
}
