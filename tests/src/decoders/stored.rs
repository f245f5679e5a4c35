//! What stands in the store.

use botstats_ingest::testing::{Reencoded as Again, StoredTable as Table, reencode as again};

/// The input: a byte that chooses the packed table, the length of a row's key, the key, the row.
pub(super) fn block(bytes: &[u8]) {
    const TABLES: [Table; 3] = [Table::SliceBlocks, Table::UserBlocks, Table::BucketBlocks];
    let [chosen, length, rest @ ..] = bytes else { return };
    let Some((key, value)) = rest.split_at_checked(usize::from(*length)) else { return };
    reads_again(TABLES[usize::from(*chosen) % TABLES.len()], key, value);
}

pub(super) fn slice(bytes: &[u8]) {
    reads_again(Table::Slices, &[], bytes);
}

/// The input: 0 for an hour, 1 for the names of a day; then its body.
pub(super) fn bucket(bytes: &[u8]) {
    const TABLES: [Table; 2] = [Table::Hours, Table::NamesOfDay];
    let Some((&chosen, value)) = bytes.split_first() else { return };
    reads_again(TABLES[usize::from(chosen) % TABLES.len()], &[], value);
}

/// The input: a byte that chooses the table, and a value of it.
pub(super) fn row(bytes: &[u8]) {
    const TABLES: [Table; 5] =
        [Table::Users, Table::Pairs, Table::Progress, Table::DeadLetters, Table::Forgotten];
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
