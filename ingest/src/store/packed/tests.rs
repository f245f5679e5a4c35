//! Packed tables against a map, and what no bytes may do.

use std::collections::BTreeMap;

use proptest::prelude::*;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadOnlyTable, ReadableDatabase as _, TableDefinition, WriteTransaction};

use super::block::largest;
use super::*;

const TABLE: TableDefinition<&[u8], &[u8]> = TableDefinition::new("packed");
/// Few bytes, so that small cases have many blocks.
const LIMIT: usize = 60;
const SHAPES: [Shape; 5] = [shape(0, 16), shape(3, 16), shape(7, 5), shape(3, 5), shape(0, 1)];

const fn shape(group: usize, key: usize) -> Shape {
    Shape { name: "packed", group, key }
}

type Place = (Vec<u8>, u128);
type Items = BTreeMap<Place, Vec<u8>>;
type Rows = Vec<(Vec<u8>, Vec<u8>)>;

fn database() -> Database {
    Database::builder().create_with_backend(InMemoryBackend::new()).unwrap()
}

fn table(
    write: &WriteTransaction,
    shape: Shape,
) -> Packed<Table<'_, &'static [u8], &'static [u8]>> {
    Packed::with_limit(write.open_table(TABLE).unwrap(), shape, LIMIT)
}

fn read_table(
    database: &Database,
    shape: Shape,
) -> Packed<ReadOnlyTable<&'static [u8], &'static [u8]>> {
    Packed::new(database.begin_read().unwrap().open_table(TABLE).unwrap(), shape)
}

/// Puts and removes items, block by block, in the way of a commit.
fn change<'a>(
    packed: &mut Packed<Table<'_, &'static [u8], &'static [u8]>>,
    model: &Items,
    changes: impl IntoIterator<Item = (&'a Place, &'a Option<Vec<u8>>)>,
) {
    let (mut block, mut changed) = (Block::default(), Changed::default());
    let mut blocks = 0;
    for ((group, key), body) in changes {
        if !block.covers(group, *key) {
            packed.put(&mut block, &mut changed).unwrap();
            packed.block_of(group, *key, &mut block).unwrap();
            assert!(block.covers(group, *key) && block.last_key().unwrap() >= *key);
            assert!(block.items().is_sorted_by(|a, b| a.0 < b.0));
            blocks += 1;
        }
        let known = model.get(&(group.clone(), *key));
        assert_eq!(block.get(*key), known.map(Vec::as_slice));
        match body {
            Some(body) => changed.put(*key, body),
            None => changed.remove(*key),
        }
    }
    packed.put(&mut block, &mut changed).unwrap();
    assert!(blocks == 0 || !block.covers(&[], 0));
}

fn rows(database: &Database) -> Rows {
    let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
    let mut rows = Rows::new();
    for row in ReadableTable::iter(&table).unwrap() {
        let (key, value) = row.unwrap();
        rows.push((key.value().to_vec(), value.value().to_vec()));
    }
    rows
}

fn items<T: ReadableTable<&'static [u8], &'static [u8]>>(
    packed: &Packed<T>,
) -> Result<Items, StoreError> {
    let mut found = Vec::new();
    packed.scan_all(|group, key, body| {
        found.push(((group.to_vec(), key), body.to_vec()));
        Ok::<_, StoreError>(())
    })?;
    assert!(found.is_sorted_by(|a, b| a.0 < b.0));
    Ok(found.into_iter().collect())
}

fn items_of_group<T: ReadableTable<&'static [u8], &'static [u8]>>(
    packed: &Packed<T>,
    group: &[u8],
    keys: RangeInclusive<u128>,
) -> Result<Vec<(u128, Vec<u8>)>, StoreError> {
    let mut found = Vec::new();
    packed.scan_keys(group, keys, |key, body| {
        found.push((key, body.to_vec()));
        Ok::<_, StoreError>(())
    })?;
    Ok(found)
}

/// Everything that can be read is what the model has, and no block is longer than the limit unless
/// it is one item.
fn agrees(database: &Database, shape: Shape, model: &Items, keys: &[u128]) {
    let packed = read_table(database, shape);
    assert_eq!(items(&packed).unwrap(), *model);
    for (key, value) in rows(database) {
        let block = shape.decode(&key, &value).unwrap();
        assert!(value.len() <= LIMIT || block.items.len() == 1, "{block:?}");
        assert_eq!(shape.encode(&block), (key, value));
    }
    let mut body = Vec::new();
    for group in groups(shape) {
        for key in keys {
            let known = model.get(&(group.clone(), *key));
            assert_eq!(packed.get(&group, *key, &mut body).unwrap(), known.map(Vec::as_slice));
        }
        for ends in keys.chunks(2) {
            let (begin, end) = (ends[0], *ends.last().unwrap());
            if begin > end {
                assert_eq!(items_of_group(&packed, &group, begin..=end).unwrap(), []);
                continue;
            }
            let known: Vec<(u128, Vec<u8>)> = model
                .range((group.clone(), begin)..=(group.clone(), end))
                .map(|((_, key), body)| (*key, body.clone()))
                .collect();
            assert_eq!(items_of_group(&packed, &group, begin..=end).unwrap(), known);
        }
    }
}

/// Groups that differ in their first and last byte.
fn groups(shape: Shape) -> Vec<Vec<u8>> {
    let Some(last) = shape.group.checked_sub(1) else { return vec![vec![]] };
    let mut groups = vec![vec![7; shape.group]; 3];
    groups[0][last] = 6;
    groups[2][0] = 8;
    groups
}

fn keys() -> impl Strategy<Value = u128> {
    prop_oneof![
        4 => any::<u128>(),
        4 => 0_u128..40,
        2 => (0_u128..40).prop_map(|n| u128::MAX - n),
        3 => (0_u128..20, 0_u32..128).prop_map(|(n, shift)| n << shift),
        2 => (0_u128..20).prop_map(|n| 0x1234_5678_9abc_def0_1122_3344_5566_7788 ^ n),
    ]
}

fn bodies() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => prop::collection::vec(any::<u8>(), 0..12),
        1 => (any::<u8>(), 0_usize..300).prop_map(|(byte, n)| vec![byte; n]),
    ]
}

/// A group by its place in [`groups`], and a key of which the shape takes the last bytes.
fn places() -> impl Strategy<Value = (usize, u128)> {
    (0_usize..3, keys())
}

fn place(shape: Shape, (group, key): (usize, u128)) -> Place {
    let groups = groups(shape);
    (groups[group % groups.len()].clone(), key & largest(shape.key))
}

type Changes = Vec<((usize, u128), Option<Vec<u8>>)>;

fn changes() -> impl Strategy<Value = Vec<Changes>> {
    let one = (places(), prop::option::weighted(0.7, bodies()));
    prop::collection::vec(prop::collection::vec(one, 0..60), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn like_a_map(which in 0..SHAPES.len(), commits in changes(), again in any::<bool>()) {
        let (shape, database) = (SHAPES[which], database());
        let mut model = Items::new();
        let mut keys = vec![0, largest(shape.key)];
        for (number, commit) in commits.into_iter().enumerate() {
            let mut changes: BTreeMap<Place, Option<Vec<u8>>> =
                commit.into_iter().map(|(at, body)| (place(shape, at), body)).collect();
            if again && number % 2 == 1 {
                // Most of what is there goes.
                let old = model.keys().enumerate().filter(|(i, _)| i % 8 != 0);
                changes.extend(old.map(|(_, at)| (at.clone(), None)));
            }
            let next = |key: u128| key.saturating_add(1).min(largest(shape.key));
            keys.extend(changes.keys().flat_map(|at| [at.1, next(at.1)]));
            let write = database.begin_write().unwrap();
            change(&mut table(&write, shape), &model, &changes);
            write.commit().unwrap();
            for (at, body) in changes {
                match body {
                    Some(body) => model.insert(at, body),
                    None => model.remove(&at),
                };
            }
            agrees(&database, shape, &model, &keys);
        }
        let all: BTreeMap<Place, Option<Vec<u8>>> =
            model.keys().map(|at| (at.clone(), None)).collect();
        let write = database.begin_write().unwrap();
        change(&mut table(&write, shape), &model, &all);
        write.commit().unwrap();
        prop_assert_eq!(rows(&database), []);
    }

    /// While items only come and grow, the blocks of a group cover all keys.
    #[test]
    fn growing_tables_have_no_gaps(which in 0..SHAPES.len(), commits in changes()) {
        let (shape, database) = (SHAPES[which], database());
        let mut model = Items::new();
        for commit in commits {
            let mut changes: BTreeMap<Place, Option<Vec<u8>>> = BTreeMap::new();
            for (at, body) in commit {
                let at = place(shape, at);
                let known = model.get(&at).cloned().unwrap_or_default();
                changes.insert(at, Some([known, body.unwrap_or_default()].concat()));
            }
            let write = database.begin_write().unwrap();
            change(&mut table(&write, shape), &model, &changes);
            write.commit().unwrap();
            model.extend(changes.into_iter().filter_map(|(at, body)| Some((at, body?))));
        }
        let mut ends: BTreeMap<Vec<u8>, u128> = BTreeMap::new();
        for (key, value) in rows(&database) {
            let DecodedBlock { group, first, last, .. } = shape.decode(&key, &value).unwrap();
            let before = ends.insert(group, last);
            prop_assert_eq!(first, before.map_or(0, |last| last + 1));
        }
        prop_assert!(ends.values().all(|last| *last == largest(shape.key)));
        prop_assert_eq!(items(&read_table(&database, shape)).unwrap(), model);
    }

    #[test]
    fn any_bytes(
        which in 0..SHAPES.len(),
        key in prop::collection::vec(any::<u8>(), 0..24),
        value in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let shape = SHAPES[which];
        if let Ok(block) = shape.decode(&key, &value) {
            prop_assert_eq!(shape.encode(&block), (key, value));
        }
    }

    /// Changed bytes of a row are an error, or the row of other items.
    #[test]
    fn damaged_rows(
        which in 0..SHAPES.len(),
        items in prop::collection::vec((keys(), bodies()), 1..12),
        ends in (keys(), keys()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4), 1..3),
    ) {
        let shape = SHAPES[which];
        let items: BTreeMap<u128, Vec<u8>> =
            items.into_iter().map(|(key, body)| (key & largest(shape.key), body)).collect();
        let (least, most) = (*items.keys().next().unwrap(), *items.keys().last().unwrap());
        let (first, last) = (ends.0 & least, most | (ends.1 & largest(shape.key)));
        let items: Vec<(u128, Vec<u8>)> = items.into_iter().collect();
        let group = groups(shape)[0].clone();
        let block = DecodedBlock { group: group.clone(), first, last, items };
        let (mut key, mut value) = shape.encode(&block);
        prop_assert_eq!(shape.decode(&key, &value).unwrap(), block);
        for (at, byte, how) in damage {
            match how {
                0 => value.truncate(at.index(value.len() + 1)),
                1 => value.insert(at.index(value.len() + 1), byte),
                2 if !value.is_empty() => {
                    let at = at.index(value.len());
                    value[at] ^= byte;
                }
                _ => {
                    let at = group.len() + at.index(key.len() - group.len());
                    key[at] ^= byte;
                }
            }
        }
        let decoded = shape.decode(&key, &value);
        if let Ok(block) = &decoded {
            prop_assert_eq!(shape.encode(block), (key.clone(), value.clone()));
        }
        let database = database();
        let write = database.begin_write().unwrap();
        write.open_table(TABLE).unwrap().insert(&key[..], &value[..]).unwrap();
        let mut packed = table(&write, shape);
        prop_assert_eq!(super::tests::items(&packed).is_ok(), decoded.is_ok());
        let (mut read, mut changed) = (Block::default(), Changed::default());
        let places = [0, largest(shape.key), first, last];
        for at in places {
            let mut body = Vec::new();
            let found = packed.get(&group, at, &mut body).map(|body| body.map(<[u8]>::to_vec));
            let of_group = items_of_group(&packed, &group, at..=largest(shape.key));
            if let Ok(block) = &decoded {
                let known = block.items.iter().find(|item| item.0 == at).map(|item| item.1.clone());
                prop_assert_eq!(found.unwrap(), known);
                prop_assert!(of_group.is_ok());
            }
        }
        for at in places {
            if packed.block_of(&group, at, &mut read).is_ok() {
                changed.put(at, b"new");
                packed.put(&mut read, &mut changed).unwrap();
                let mut body = Vec::new();
                prop_assert_eq!(packed.get(&group, at, &mut body).unwrap(), Some(&b"new"[..]));
            } else {
                prop_assert!(decoded.is_err());
                prop_assert!(!read.covers(&group, at));
            }
        }
    }
}

#[test]
fn golden() {
    let shape = shape(3, 5);
    let items = vec![
        (0xc0_0000_0001, b"a".to_vec()),
        (0xc0_0000_0002, vec![]),
        (0xff_ffff_ffff, vec![9; 130]),
    ];
    let (first, last) = (0xc0_0000_0000, 0xff_ffff_ffff);
    let block = DecodedBlock { group: vec![0, 0x4e, 0x20], first, last, items };
    let (key, value) = shape.encode(&block);
    assert_eq!(key, [0, 0x4e, 0x20, 0xc0, 0, 0, 0, 0]);
    let head = [2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc0, 0, 0, 0, 1, 1, b'a', 0xc0, 0, 0, 0, 2, 0];
    let long = [0xff, 0xff, 0xff, 0xff, 0xff, 0x82, 1];
    assert_eq!(value, [&head[..], &long, &[9; 130]].concat());
    assert_eq!(shape.decode(&key, &value).unwrap(), block);
}

#[test]
fn golden_of_a_long_key() {
    let items = vec![(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10, vec![5])];
    let block = DecodedBlock { group: vec![], first: 0, last: u128::MAX >> 1, items };
    let (key, value) = shape(0, 16).encode(&block);
    assert_eq!(key, [0; 16]);
    let last = [[0x7f].as_slice(), &[0xff; 15]].concat();
    let item = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 1, 5];
    assert_eq!(value, [&[2], &last[..], &item].concat());
}

#[test]
fn malformed_rows() {
    let key = [0, 0, 1, 0x80, 0, 0, 0, 0];
    let head = [2, 0x90, 0, 0, 0, 0];
    let refused = |key: &[u8], value: &[u8], error: BlockError| {
        let found = shape(3, 5).decode(key, value).unwrap_err().to_string();
        assert_eq!(found, StoreError::value("packed", error).to_string());
    };
    let with = |items: &[u8]| [&head, items].concat();
    let short = with(&[0x80, 0, 0, 0, 0, 2, 7]);
    let whole = with(&[0x80, 0, 0, 0, 0, 1, 7]);
    assert!(shape(3, 5).decode(&key, &whole).is_ok());
    refused(&key[..7], &short, BlockError::Key);
    refused(&[0; 9], &short, BlockError::Key);
    refused(&key, &[], BlockError::Empty);
    refused(&key, &[2], BlockError::Empty);
    refused(&key, &head[..5], BlockError::Empty);
    refused(&key, &head, BlockError::Empty);
    refused(&key, &[&[1], &whole[1..]].concat(), BlockError::Version(1));
    refused(&key, &[&[2, 0x7f], &whole[2..]].concat(), BlockError::Region);
    refused(&key, &short, BlockError::Short);
    refused(&key, &with(&[0x80, 0]), BlockError::Short);
    refused(&key, &with(&[0x80, 0, 0, 0, 0]), BlockError::Length);
    refused(&key, &with(&[0x80, 0, 0, 0, 0, 0x81, 0, 7]), BlockError::Length);
    refused(&key, &with(&[0x7f, 0, 0, 0, 0, 1, 7]), BlockError::Order);
    refused(&key, &with(&[0x90, 0, 0, 0, 1, 1, 7]), BlockError::Order);
    refused(&key, &with(&[0x80, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0]), BlockError::Order);
}

#[test]
fn blocks_that_cover_the_same_keys() {
    let (shape, database) = (shape(3, 5), database());
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(TABLE).unwrap();
        for (first, last) in [(0, 7), (5, 6), (8, largest(5))] {
            let items = vec![(first, vec![1])];
            let block = DecodedBlock { group: vec![0; 3], first, last, items };
            let (key, value) = shape.encode(&block);
            table.insert(&key[..], &value[..]).unwrap();
        }
    }
    let packed = table(&write, shape);
    assert!(items(&packed).is_err());
    assert!(items_of_group(&packed, &[0; 3], 1..=largest(5)).is_err());
}

/// A cut never replaces the row of another block.
#[test]
fn a_piece_that_would_replace_a_block_is_refused() {
    let (shape, database) = (shape(3, 5), database());
    let write = database.begin_write().unwrap();
    let mut packed = table(&write, shape);
    let (mut block, mut changed) = (Block::default(), Changed::default());
    packed.block_of(&[0; 3], 0, &mut block).unwrap();
    let items = vec![(7, vec![1])];
    let other = DecodedBlock { group: vec![0; 3], first: 7, last: largest(5), items };
    let (key, value) = shape.encode(&other);
    packed.table.insert(&key[..], &value[..]).unwrap();
    (0..10).for_each(|key| changed.put(key, &[1; 30]));
    let refused = packed.put(&mut block, &mut changed).unwrap_err().to_string();
    assert_eq!(refused, StoreError::value("packed", BlockError::Overlap).to_string());
}

/// The first items of a group fill nearly all of their blocks; later ones leave at most a third
/// unused.
#[test]
fn pieces_are_filled() {
    let (shape, database) = (shape(3, 16), database());
    let write = database.begin_write().unwrap();
    let mut packed = Packed::new(write.open_table(TABLE).unwrap(), shape);
    let mut model = Items::new();
    for (commit, filled) in [(0_u128, 0.9), (1, 0.67), (2, 0.67)] {
        let keys = (0..4_000_u128).map(|n| (3 * n + commit).wrapping_mul(0x9e37_79b9 << 96 | n));
        let changes: BTreeMap<Place, Option<Vec<u8>>> =
            keys.map(|key| ((vec![7; 3], key), Some(vec![1; 60]))).collect();
        change(&mut packed, &model, &changes);
        model.extend(changes.into_iter().filter_map(|(at, body)| Some((at, body?))));
        let rows = redb::ReadableTableMetadata::len(&packed.table).unwrap();
        let least = model.len() * (16 + 1 + 60) / MAX_BLOCK_BYTES;
        assert!(rows as f64 * filled <= least as f64, "{rows} rows, {least} full ones would do");
    }
}

#[test]
fn wrong_use_is_an_error() {
    let (shape, database) = (shape(3, 5), database());
    let write = database.begin_write().unwrap();
    let mut packed = table(&write, shape);
    let (mut block, mut changed) = (Block::default(), Changed::default());
    changed.put(1, b"x");
    assert!(packed.put(&mut block, &mut changed).is_err(), "a block that was not read");
    assert!(changed.is_empty());
    assert!(packed.block_of(&[0; 2], 1, &mut block).is_err());
    assert!(packed.block_of(&[0; 3], 1 << 40, &mut block).is_err());
    packed.block_of(&[0; 3], 1, &mut block).unwrap();
    changed.put(2, b"x");
    changed.put(1, b"x");
    assert!(packed.put(&mut block, &mut changed).is_err(), "descending");
    packed.block_of(&[0; 3], 1, &mut block).unwrap();
    changed.put(1 << 40, b"x");
    assert!(packed.put(&mut block, &mut changed).is_err(), "outside");
    assert_eq!(items(&packed).unwrap(), Items::new());
    assert!(items_of_group(&packed, &[0; 2], 0..=1).is_err());
}

#[test]
fn old_groups_go() {
    let (shape, database) = (shape(7, 5), database());
    let write = database.begin_write().unwrap();
    let mut packed = table(&write, shape);
    let changes: BTreeMap<Place, Option<Vec<u8>>> = (0..90_u8)
        .map(|n| ((vec![0, 0, n / 30, 0, 0, 0, n % 3], u128::from(n) << 30), Some(vec![n; 9])))
        .collect();
    change(&mut packed, &Items::new(), &changes);
    packed.delete_before(&[0, 0, 2]).unwrap();
    let left = items(&packed).unwrap();
    assert_eq!(left.len(), 30);
    assert!(left.keys().all(|(group, _)| group[2] == 2));
    packed.delete_before(&[0, 0, 3]).unwrap();
    assert_eq!(items(&packed).unwrap(), Items::new());
}

#[test]
fn a_block_of_the_limit_is_whole() {
    let (shape, database) = (shape(0, 16), database());
    let write = database.begin_write().unwrap();
    let mut packed = Packed::new(write.open_table(TABLE).unwrap(), shape);
    let (mut block, mut changed) = (Block::default(), Changed::default());
    let longest = MAX_BLOCK_BYTES - 17 - 17 - 18;
    for (bytes, rows) in [(longest, 1), (longest + 1, 2)] {
        packed.block_of(&[], 0, &mut block).unwrap();
        changed.put(0, &[]);
        changed.put(1, &vec![0; bytes]);
        packed.put(&mut block, &mut changed).unwrap();
        assert_eq!(redb::ReadableTableMetadata::len(&packed.table).unwrap(), rows);
    }
}

#[test]
fn a_long_item_is_alone_and_those_beside_it_stay_together() {
    let (shape, database) = (shape(0, 16), database());
    let write = database.begin_write().unwrap();
    let bytes = |key| if key == 50 { 10 * MAX_BLOCK_BYTES } else { 20 };
    let changes: BTreeMap<Place, Option<Vec<u8>>> =
        (0..100).map(|key| ((vec![], key), Some(vec![7; bytes(key)]))).collect();
    let mut packed = Packed::new(write.open_table(TABLE).unwrap(), shape);
    change(&mut packed, &Items::new(), &changes);
    drop(packed);
    write.commit().unwrap();
    let items = |(key, value): &(Vec<u8>, Vec<u8>)| shape.decode(key, value).unwrap().items.len();
    assert_eq!(rows(&database).iter().map(items).collect::<Vec<_>>(), [50, 1, 49]);
}
