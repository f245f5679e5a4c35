//! What stands in the store.

use botstats_ingest::testing::{Reencoded as Again, StoredTable as Table, reencode as again};

/// The input: the length of a key, the key of a timeline's slice, the slice.
pub(super) fn slice(bytes: &[u8]) {
    let Some((&length, rest)) = bytes.split_first() else { return };
    let Some((key, value)) = rest.split_at_checked(length.into()) else { return };
    reads_again(Table::Timelines, key, value);
}

pub(super) fn bucket(bytes: &[u8]) {
    reads_again(Table::Buckets, &[], bytes);
}

/// The input: a byte that chooses the table, and a value of it.
pub(super) fn row(bytes: &[u8]) {
    const TABLES: [Table; 4] = [Table::Users, Table::Pairs, Table::Progress, Table::DeadLetters];
    let Some((&chosen, value)) = bytes.split_first() else { return };
    reads_again(TABLES[usize::from(chosen) % TABLES.len()], &[], value);
}

/// What was read and is written reads the same, and is then written the same.
fn reads_again(table: Table, key: &[u8], value: &[u8]) {
    let read = |key: &[u8], value: &[u8]| again(table, key, value).map_err(|e| e.to_string());
    let first = read(key, value);
    assert_eq!(read(key, value), first, "not repeatable");
    match first {
        Ok(first) => {
            let Again { key, value, .. } = &first;
            assert_eq!(read(key, value).as_ref(), Ok(&first));
        }
        Err(reason) => assert!(reason.len() < 1_000, "a long reason: {reason}"),
    }
}
