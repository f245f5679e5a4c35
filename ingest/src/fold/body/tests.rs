//! Hours against maps: whatever is merged in whatever order, the bytes say the same.

use std::collections::{BTreeMap, BTreeSet};

use botstats_common::metric::{self, TypeCode};
use botstats_common::split::Split;
use proptest::prelude::*;

use super::fields::{BY_PLACE, PLACES};
use super::samples::SAMPLED;
use super::*;
use crate::fold::metrics::{self, FIELDS, Field, fields_of_split};
use crate::fold::value_code::code_of;

/// The naive form: everything that an hour has, by name.
#[derive(Debug, Clone, Default, PartialEq)]
struct Naive {
    sums: BTreeMap<(u8, usize), u64>,
    users: BTreeMap<u32, BTreeSet<u8>>,
    samples: BTreeMap<u32, u64>,
    named: BTreeMap<(u8, u64), u64>,
}

#[derive(Debug, Clone)]
enum Change {
    Field(u8, usize, i64),
    Sample(u8, u16, u8, i64),
    User(u8, u32, bool),
    Named(u8, u64, i64),
}

impl Naive {
    fn apply(&mut self, change: &Change) {
        fn add<K: Ord>(map: &mut BTreeMap<K, u64>, key: K, amount: i64) {
            let total = map.entry(key).or_default();
            *total = total.saturating_add_signed(amount);
        }
        match *change {
            Change::Field(quarter, field, amount) => add(&mut self.sums, (quarter, field), amount),
            Change::Sample(metric, code, quarter, amount) => {
                add(&mut self.samples, sample_cell(metric, code, quarter), amount);
            }
            Change::User(quarter, ordinal, true) => {
                self.users.entry(ordinal).or_default().insert(quarter);
            }
            Change::User(quarter, ordinal, false) => {
                self.users.entry(ordinal).or_default().remove(&quarter);
            }
            Change::Named(section, cell, amount) => add(&mut self.named, (section, cell), amount),
        }
    }

    fn without_zeros(mut self) -> Self {
        self.sums.retain(|_, n| *n != 0);
        self.users.retain(|_, quarters| !quarters.is_empty());
        self.samples.retain(|_, n| *n != 0);
        self.named.retain(|_, n| *n != 0);
        self
    }

    fn of(hour: &Hour) -> Self {
        let mut naive = Self::default();
        for (quarter, totals) in (0..).zip(&hour.sums) {
            for (field, place) in PLACES.iter().enumerate() {
                naive.sums.insert((quarter, field), totals.0[usize::from(*place)]);
            }
        }
        for (ordinal, mask) in &hour.users {
            let quarters = (0..4).filter(|quarter| mask >> quarter & 1 != 0).collect();
            naive.users.insert(*ordinal, quarters);
        }
        naive.samples =
            hour.samples.iter().map(|(cell, n)| (u32::try_from(*cell).unwrap(), *n)).collect();
        naive.named = hour.named.iter().map(|(section, cell, n)| ((*section, *cell), *n)).collect();
        naive.without_zeros()
    }
}

fn add(changes: &mut HourChanges, change: &Change) {
    match *change {
        Change::Field(quarter, field, amount) => {
            let field = BY_PLACE[usize::from(PLACES[field])];
            HourChange::field(quarter, field, amount).for_each(|change| changes.add(change));
        }
        Change::Sample(metric, code, quarter, amount) => {
            let cell = sample_cell(metric, code, quarter);
            HourChange::sample(cell, amount).for_each(|change| changes.add(change));
        }
        Change::User(quarter, ordinal, adds) => {
            changes.add(HourChange::user(quarter, ordinal, adds));
        }
        Change::Named(section, cell, amount) => changes.add_named(section, cell, amount),
    }
}

fn change() -> impl Strategy<Value = Change> {
    let amount = || prop_oneof![4 => 1..3_i64, 1 => 0..1_i64 << 40];
    let sample = (0..7_u8, prop_oneof![0..3_u16, 0..15_000_u16], 0..4_u8, amount());
    let named = (1..8_u8, prop_oneof![0..20_u64, 0..1_u64 << 50], amount());
    prop_oneof![
        3 => (0..4_u8, 0..FIELDS, amount()).prop_map(|(q, f, n)| Change::Field(q, f, n)),
        2 => sample.prop_map(|(m, c, q, n)| Change::Sample(m, c, q, n)),
        2 => (0..4_u8, prop_oneof![0..9_u32, any::<u32>()], prop::bool::weighted(0.8))
            .prop_map(|(q, user, adds)| Change::User(q, user, adds)),
        2 => named.prop_map(|(s, c, n)| Change::Named(s, c, n)),
    ]
}

fn negated(change: &Change) -> Change {
    match *change {
        Change::Field(quarter, field, amount) => Change::Field(quarter, field, -amount),
        Change::Sample(metric, code, quarter, n) => Change::Sample(metric, code, quarter, -n),
        Change::User(quarter, ordinal, _) => Change::User(quarter, ordinal, false),
        Change::Named(section, cell, amount) => Change::Named(section, cell, -amount),
    }
}

/// Merges commits one by one; gives the body after the last.
fn merged(commits: &[Vec<Change>], is_whole: bool) -> Result<Option<Vec<u8>>, BodyError> {
    let mut changes = HourChanges::default();
    let mut body: Option<Vec<u8>> = None;
    for commit in commits {
        changes.clear();
        commit.iter().for_each(|change| add(&mut changes, change));
        let mut out = vec![0xee];
        let any = changes.merge(body.as_deref(), is_whole, &mut out)?;
        assert_eq!(any, out.len() > 1);
        body = any.then(|| out.split_off(1));
    }
    Ok(body)
}

#[test]
fn the_bytes_of_version_1_do_not_change() {
    use Change::{Field, Named, Sample, User};
    let check = |commits: &[Vec<Change>], expect: &[u8]| {
        assert_eq!(merged(commits, true).unwrap().unwrap(), expect, "{commits:?}");
    };
    let field = |field: metrics::Field| field as usize;
    let (incoming, sum) = (field(metrics::Field::Incoming), field(metrics::Field::LengthSum));
    check(&[vec![Field(0, incoming, 1)]], &[0x11, 3]);
    check(&[vec![Field(3, incoming, 1), Field(3, sum, 300)]], &[0x18, 0x83, 2, 0xac, 2]);
    check(&[vec![Field(1, incoming, 2), Field(1, sum, 3)]], &[0x12, 0x82, 2, 2, 3]);
    check(
        &[vec![User(0, 5, true), User(3, 5, true), User(1, 200, true)]],
        &[0x10, 0x59, 0xb2, 0x18],
    );
    check(
        &[vec![Sample(0, 0, 2, 1), Sample(0, 0, 3, 4), Sample(0, 70, 0, 1)]],
        &[0x10, 0, 6, 3, 2, 0xaa, 4],
    );
    check(
        &[vec![Named(1, 4, 1), Named(5, 0, 7), Field(0, incoming, 1)]],
        &[0x11, 3, 0, 0, 1, 10, 0, 5, 3, 5],
    );
    check(&[vec![User(0, 0, true), Named(2, 0, 1)]], &[0x10, 1, 0, 0, 2, 2]);
    check(
        &[vec![User(0, 1, true), User(0, 2, true)], vec![User(0, 1, false), User(1, 9, false)]],
        &[0x10, 0x21],
    );
}

#[test]
fn stored_places_do_not_change() {
    let fields: Vec<u8> = BY_PLACE.iter().map(|field| *field as u8).collect();
    assert_eq!(
        fields,
        [
            7, 16, 12, 24, 22, 0, 1, 13, 27, 28, 4, 2, 8, 31, 32, 3, 5, 6, 23, 11, 9, 25, 26, 10,
            17, 14, 15, 18, 19, 20, 21, 29, 30, 33, 34
        ]
    );
    assert_eq!(SAMPLED.map(TypeCode::number), [8, 105, 107, 106, 9, 11, 16]);
}

#[test]
fn every_duration_has_a_number() {
    for code in TypeCode::ALL {
        let number = sampled(code);
        assert_eq!(number.is_some(), code.kind() == metric::Kind::DURATION, "{code}");
        let Some(number) = number else { continue };
        let cell = sample_cell(number, code_of(123_456), 3);
        assert_eq!(sample_of(cell.into()), Some((code, code_of(123_456), 3)));
        let Some(split) = Split::of(code) else { continue };
        let cell = section::sample(split, code, code_of(u64::MAX), 2).unwrap();
        let section = section::of_samples(split).unwrap();
        assert_eq!(section::split(section), Some((split, true)));
        let named = section::with_index(split, true, u32::MAX, cell);
        assert_eq!(section::index_of(split, true, named), (u32::MAX.into(), cell.into()));
        let counts = Counts::Sample(code, code_of(u64::MAX));
        assert_eq!(section::counts(split, true, cell.into()), Some((counts, 2)));
    }
    for split in Split::ALL {
        assert_eq!(section::split(section::of_fields(split)), Some((split, false)));
        for field in fields_of_split(split) {
            let cell = section::field(field, 1).unwrap();
            let named = section::with_index(split, false, 9, cell);
            assert_eq!(section::index_of(split, false, named), (9, cell.into()));
            let counts = section::counts(split, false, cell.into());
            assert_eq!(counts, Some((Counts::Field(field), 1)));
        }
    }
    assert_eq!((section::split(0), section::split(8)), (None, None));
}

#[test]
fn totals_below_zero_are_refused_in_whole_hours_only() {
    for change in [Change::Field(1, 3, 2), Change::Sample(2, 9, 0, 2), Change::Named(4, 70, 2)] {
        let more = vec![negated(&change), negated(&change)];
        let commits = [vec![change], more];
        assert_eq!(merged(&commits, true), Err(BodyError::Negative), "{commits:?}");
        assert_eq!(merged(&commits, false), Ok(None), "{commits:?}");
    }
}

#[test]
fn what_is_no_bucket_is_refused() {
    for (bytes, error) in [
        (&[][..], BodyError::Damaged),
        (&[0x20], BodyError::Version(2)),
        // A quarter without bytes; with a field that is not known; a field without a value.
        (&[0x11], BodyError::Damaged),
        (&[0x11, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20], BodyError::Damaged),
        (&[0x11, 2], BodyError::Damaged),
        // A zero byte at the end; a user without quarters, or twice.
        (&[0x10, 0], BodyError::Damaged),
        (&[0x10, 0x20], BodyError::Damaged),
        (&[0x10, 0x21, 0x01], BodyError::Damaged),
        // A count that is missing; a sample of no metric; sections 0 and 8, twice, without cells.
        (&[0x10, 0, 3], BodyError::Damaged),
        (&[0x10, 0, 0x80, 0x80, 0x80, 0x10], BodyError::Damaged),
        (&[0x10, 0, 0, 0, 2], BodyError::Damaged),
        (&[0x10, 0, 0, 8, 2], BodyError::Damaged),
        (&[0x10, 0, 0, 1, 2, 0, 1, 2], BodyError::Damaged),
        (&[0x10, 0, 0, 1], BodyError::Damaged),
        (&[0x10, 0, 0, 1, 0, 2, 2], BodyError::Damaged),
    ] {
        assert_eq!(Hour::decode(bytes), Err(error), "{bytes:x?}");
    }
}

#[test]
fn evicted_names_move_to_another() {
    let cell = |index, field| {
        let cell = section::field(field, 2).unwrap();
        section::with_index(Split::Integration, false, index, cell)
    };
    let sample = |index, code| {
        let cell = section::sample(Split::Integration, TypeCode::ApiTime, code, 1).unwrap();
        section::with_index(Split::Integration, true, index, cell)
    };
    let (sums, samples) = (4, 6);
    let body = merged(
        &[vec![
            Change::Named(2, 5 << 2, 9),
            Change::Named(sums, cell(1, Field::Actions), 1),
            Change::Named(sums, cell(5, Field::Actions), 3),
            Change::Named(sums, cell(6, Field::Actions), 4),
            Change::Named(sums, cell(7, Field::Actions), 5),
            Change::Named(sums, cell(7, Field::ApiTimeSum), 500),
            Change::Named(samples, sample(5, 40), 2),
            Change::Named(samples, sample(6, 40), 1),
        ]],
        true,
    )
    .unwrap()
    .unwrap();
    let mut changes = HourChanges::default();
    changes.move_names(&body, Split::Integration, &[5, 7], 1).unwrap();
    let mut out = Vec::new();
    changes.merge(Some(&body), true, &mut out).unwrap();
    let mut expect = [
        (2, 5 << 2, 9),
        (sums, cell(1, Field::Actions), 9),
        (sums, cell(1, Field::ApiTimeSum), 500),
        (sums, cell(6, Field::Actions), 4),
        (samples, sample(1, 40), 2),
        (samples, sample(6, 40), 1),
    ];
    expect.sort_unstable();
    assert_eq!(Hour::decode(&out).unwrap().named, expect);
}

/// The sizes that the format was chosen for.
#[test]
fn small_hours_have_few_bytes() {
    let session = |quarter: u8, user| {
        let field = |field: Field, n| Change::Field(quarter, field as usize, n);
        vec![
            field(metrics::Field::Incoming, 1),
            field(metrics::Field::Sessions, 1),
            field(metrics::Field::LengthCount, 1),
            field(metrics::Field::SessionMessages, 1),
            field(metrics::Field::Contained, 1),
            field(metrics::Field::NewUsers, 1),
            Change::Sample(0, 0, quarter, 1),
            Change::User(quarter, user, true),
        ]
    };
    let one = session(2, 500);
    let mut two = one.clone();
    two.extend(session(2, 730));
    let mut answered = session(1, 500);
    answered.extend([
        Change::Field(1, Field::Messages as usize, 1),
        Change::Field(1, Field::SessionMessages as usize, 1),
        Change::Field(1, Field::BotReplyCount as usize, 1),
        Change::Field(1, Field::BotReplySum as usize, 2_345),
        Change::Field(1, Field::LengthSum as usize, 2_345),
        Change::Sample(0, 0, 1, -1),
        Change::Sample(0, code_of(2_345), 1, 1),
        Change::Sample(1, code_of(2_345), 1, 1),
    ]);
    let sizes = [one, two, answered].map(|commit| merged(&[commit], true).unwrap().unwrap().len());
    assert_eq!(sizes, [6, 15, 23]);
}

proptest! {
    #[test]
    fn merged_as_a_map(
        mut commits in prop::collection::vec(prop::collection::vec(change(), 0..30), 1..6),
        taken in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        cut in any::<prop::sample::Index>(),
    ) {
        // Takes back what was added, so that nothing falls below 0.
        let all = commits.concat();
        if !all.is_empty() {
            let mut places: Vec<usize> = taken.iter().map(|index| index.index(all.len())).collect();
            places.sort_unstable();
            places.dedup();
            commits.push(places.into_iter().map(|place| negated(&all[place])).collect());
        }
        let mut naive = Naive::default();
        commits.iter().flatten().for_each(|change| naive.apply(change));
        let naive = naive.without_zeros();
        let body = merged(&commits, true).unwrap();
        let hour = body.as_deref().map(Hour::decode).transpose().unwrap();
        prop_assert_eq!(hour.as_ref().map(Naive::of).unwrap_or_default(), naive);
        // The bytes do not depend on how the changes were cut into commits.
        let all = commits.concat();
        let cut = cut.index(all.len() + 1);
        let (first, second) = (all[..cut].to_vec(), all[cut..].to_vec());
        prop_assert_eq!(&merged(&[first, second], true).unwrap(), &body);
        let (mut again, hour) = (Vec::new(), hour.unwrap_or_default());
        hour.encode(&mut again);
        prop_assert_eq!(body.unwrap_or(vec![VERSION << 4]), again);
    }

    #[test]
    fn not_whole_as_a_map(
        commits in prop::collection::vec(
            prop::collection::vec((change(), any::<bool>()), 0..20), 1..5
        ),
    ) {
        let mut naive = Naive::default();
        let mut sums = Vec::new();
        for commit in commits {
            // A commit adds its changes up first: each cell is changed once in a commit.
            let mut seen = BTreeSet::new();
            let commit: Vec<Change> = commit
                .iter()
                .map(|(change, less)| if *less { negated(change) } else { change.clone() })
                .filter(|change| match *change {
                    Change::Field(quarter, field, _) => seen.insert((0, quarter, field as u64)),
                    Change::Sample(m, c, q, _) => seen.insert((1, 0, sample_cell(m, c, q).into())),
                    Change::Named(section, cell, _) => seen.insert((2, section, cell)),
                    Change::User(..) => true,
                })
                .collect();
            commit.iter().for_each(|change| naive.apply(change));
            sums.push(commit);
        }
        let body = merged(&sums, false).unwrap();
        let hour = body.as_deref().map(Hour::decode).transpose().unwrap().unwrap_or_default();
        prop_assert_eq!(Naive::of(&hour), naive.without_zeros());
    }

    #[test]
    fn added_as_decoded(
        commit in prop::collection::vec(change(), 1..60),
        (at, byte, cut) in (any::<usize>(), any::<u8>(), any::<bool>()),
    ) {
        let Some(bytes) = merged(&[commit], true).unwrap() else { return Ok(()) };
        let length = bytes.len();
        let mut damaged = bytes.clone();
        damaged[at % length] = byte;
        damaged.truncate(if cut { at / 7 % length } else { length });
        for bytes in [bytes, damaged] {
            let (mut totals, mut users) = (Totals::default(), Vec::new());
            let added = totals.add_stored(&bytes).and_then(|(any, stored)| {
                stored.for_each(|ordinal, mask| users.push((ordinal, mask)))?;
                assert_eq!(stored.is_empty(), users.is_empty());
                Ok(any != 0)
            });
            let mut changes = HourChanges::default();
            let mut out = Vec::new();
            let merged = changes.merge(Some(&bytes), true, &mut out);
            let _ = changes.move_names(&bytes, Split::Operator, &[3], 1);
            let Ok(hour) = Hour::decode(&bytes) else { continue };
            // What is decoded can be encoded, and then decoded to the same.
            let mut again = Vec::new();
            hour.encode(&mut again);
            prop_assert_eq!(&Hour::decode(&again).unwrap(), &hour);
            prop_assert_eq!(merged, Ok(again.len() > 1));
            if again.len() > 1 {
                prop_assert_eq!(&out, &again);
            }
            let mut expected = Totals::default();
            // Sums that do not fit are refused.
            if hour.sums.iter().try_for_each(|quarter| expected.add(quarter)).is_err() {
                prop_assert!(added.is_err());
                continue;
            }
            prop_assert_eq!(totals, expected);
            prop_assert_eq!(users, hour.users);
            prop_assert_eq!(added, Ok(expected.fields() != 0));
            let mut quarters = [Totals::default(); QUARTERS];
            Totals::add_quarters(&mut quarters, &bytes).unwrap();
            prop_assert_eq!(quarters, hour.sums);
        }
    }

    #[test]
    fn any_bytes_never_panic(
        head in 0x10..0x20_u8,
        bytes in prop::collection::vec(prop_oneof![0..8_u8, any::<u8>()], 0..64),
    ) {
        let bytes: Vec<u8> = std::iter::once(head).chain(bytes).collect();
        let _ = HourChanges::default().merge(Some(&bytes), false, &mut Vec::new());
        let _ = HourChanges::default().move_names(&bytes, Split::Goal, &[0], 1);
        if let Ok(hour) = Hour::decode(&bytes) {
            let mut again = Vec::new();
            hour.encode(&mut again);
            prop_assert_eq!(Hour::decode(&again).unwrap(), hour);
        }
    }
}
