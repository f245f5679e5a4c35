//! Any cut of any order of events must give the same timeline and the same sum of changes.

use std::collections::BTreeMap;

use botstats_common::metric::TypeCode;
use proptest::prelude::*;

use super::*;
use crate::event::{Kind, flag};
use crate::fold::timeline::{Admission, Admitted, Known, NewEvent, SLICE_DAYS, SliceError, admit};

/// How often there is each sample, less how often it was taken back; never 0.
type Totals = BTreeMap<(i64, TypeCode, i64), i64>;

fn add(totals: &mut Totals, s: Sample) {
    let sample = (s.at_ms, s.metric, s.value);
    *totals.entry(sample).or_default() += s.sign;
    if totals[&sample] == 0 {
        totals.remove(&sample);
    }
}

/// Everything at once: sort, fold, sum.
fn naive(events: &[Entry]) -> Totals {
    let mut events = events.to_vec();
    events.sort_unstable();
    let mut totals = Totals::new();
    let mut state = SessionState::default();
    for event in &events {
        state.step(event.step(), &mut |s| add(&mut totals, s));
    }
    state.open_samples(&mut |s| add(&mut totals, s));
    totals
}

/// Admits and inserts with all slices at hand; gives what was decided and what changes.
fn merge(slices: &mut Vec<Slice>, new: &[NewEvent]) -> (Vec<Admission>, Vec<Sample>) {
    let Admitted { admissions, accepted } = admit(new, &Known::of(slices, new.len()));
    let mut insertion = Insertion::begin(std::mem::take(slices), accepted);
    if insertion.needs_after().is_some() {
        insertion.give(None);
    }
    let Inserted { slices: merged, samples, .. } = insertion.finish();
    *slices = merged;
    (admissions, samples)
}

fn by_batches(
    batches: &[&[Entry]],
    prune: impl Fn(usize, &mut Vec<Slice>),
) -> (Totals, Vec<Slice>) {
    let mut totals = Totals::new();
    let mut slices = Vec::new();
    for (i, batch) in batches.iter().enumerate() {
        let new: Vec<NewEvent> =
            batch.iter().map(|&entry| NewEvent { entry, first_day: 0 }).collect();
        merge(&mut slices, &new).1.into_iter().for_each(|s| add(&mut totals, s));
        // What is stored must come back as it was.
        slices = slices
            .iter()
            .map(|s| Slice::decode(s.day, s.begins, &s.encode().unwrap()).unwrap())
            .collect();
        prune(i, &mut slices);
    }
    (totals, slices)
}

fn event() -> impl Strategy<Value = Entry> {
    // Steps of minutes around the idle limits, over three days, with ties.
    let time = prop_oneof![
        (0..4320_i64).prop_map(|m| m * 60_000),
        (0..144_i64).prop_map(|m| m * 30 * 60_000),
        (0..144_i64).prop_map(|m| m * 30 * 60_000 + 1),
    ];
    (time, 0..Kind::ALL.len(), 0..4_u8, any::<u64>()).prop_map(|(ms, kind, flags, id)| Entry {
        time_ms: 1_795_132_800_000 + ms,
        kind: Kind::ALL[kind],
        flags,
        id,
        content: 0,
    })
}

proptest! {
    #[test]
    fn order_and_batches_do_not_matter(
        events in prop::collection::vec(event(), 1..60),
        size in 1..10_usize,
    ) {
        let batches: Vec<&[Entry]> = events.chunks(size).collect();
        let (totals, slices) = by_batches(&batches, |_, _| {});
        prop_assert_eq!(&totals, &naive(&events));
        let mut sorted = events.clone();
        sorted.sort_unstable();
        let stored: Vec<Entry> = slices.iter().flat_map(|s| s.events.clone()).collect();
        prop_assert_eq!(stored, sorted.clone());
        let (at_once, same_slices) = by_batches(&[&sorted], |_, _| {});
        prop_assert_eq!(totals, at_once);
        // Where crowded days are split depends on the batches; the events and their order do not.
        let same_events: Vec<Entry> = same_slices.iter().flat_map(|s| s.events.clone()).collect();
        prop_assert_eq!(same_events, sorted);
    }

    #[test]
    fn duplicates_change_nothing(events in prop::collection::vec(event(), 1..30), again in prop::collection::vec(any::<prop::sample::Index>(), 0..30)) {
        let repeated: Vec<Entry> = again.iter().map(|i| *i.get(&events)).collect();
        let (totals, _) = by_batches(&[&events, &repeated], |_, _| {});
        prop_assert_eq!(totals, naive(&events));
    }

    #[test]
    fn decode_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _any = Slice::decode(3, SortKey::default(), &bytes);
    }
}

fn at(minute: i64, kind: Kind, id: u64) -> Entry {
    Entry { time_ms: 1_795_132_800_000 + minute * 60_000, kind, flags: 0, id, content: 0 }
}

#[test]
fn a_conflict_is_not_counted() {
    let first = at(0, Kind::Received, 1);
    let other = Entry { content: 9, ..first };
    let moved = at(3000, Kind::Received, 1);
    let mut totals = Totals::new();
    let mut slices = Vec::new();
    let new = [first, first, other, moved].map(|entry| NewEvent { entry, first_day: 0 });
    let (admissions, samples) = merge(&mut slices, &new);
    samples.into_iter().for_each(|s| add(&mut totals, s));
    use Admission::*;
    assert_eq!(admissions, [Accepted, Duplicate, Conflict, Conflict]);
    assert_eq!(totals, naive(&[first]));
    // Once the slice's day is out of reach, the identity is free again, deleted or not.
    let new = [NewEvent { entry: moved, first_day: moved.day() }];
    assert_eq!(merge(&mut slices, &new).0, [Accepted]);
}

#[test]
fn a_crowded_day_is_split_and_stays_right() {
    let events: Vec<Entry> = (0..5000_u32)
        .map(|i| {
            // Many in the same millisecond, too.
            let mut e = at(
                i64::from(i / 7) % 1400,
                Kind::ALL[i as usize % 11],
                u64::from(i).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            );
            e.flags = u8::from(i % 3 == 1) & flag::AUTOMATIC;
            e
        })
        .collect();
    let batches: Vec<&[Entry]> = events.chunks(700).collect();
    let (totals, slices) = by_batches(&batches, |_, _| {});
    assert_eq!(totals, naive(&events));
    assert!(slices.len() > 600 && slices.iter().all(|s| s.events.len() <= MAX_SLICE_EVENTS));
    assert!(slices.is_sorted_by(|a, b| (a.day, a.begins) < (b.day, b.begins)));
}

#[test]
fn deleting_old_slices_is_not_visible() {
    // A thread that an operator keeps alive for 60 days, an event every 23 hours, then a late one.
    let mut events = vec![at(0, Kind::Received, 1), at(1, Kind::Requested, 2)];
    let mut minute = 1;
    for i in 0..60 {
        minute += 23 * 60;
        events.push(at(minute, Kind::Sent, 100 + i));
    }
    events.push(at(minute + 60, Kind::Joined, 3));
    events.push(at(minute + 60 - 30 * 24 * 60, Kind::Received, 4));
    let batches: Vec<&[Entry]> = events.chunks(1).collect();
    let last_day = |i: usize| events[..=i].iter().map(Entry::day).max().unwrap();
    let (totals, slices) = by_batches(&batches, |i, slices| {
        slices.retain(|s| s.day + SLICE_DAYS >= last_day(i));
    });
    assert_eq!(totals, naive(&events));
    assert!(slices.len() < 42);
    assert!(totals.keys().any(|(_, metric, _)| *metric == TypeCode::TimeToPickUp));
}

#[test]
fn the_bytes_of_version_1_do_not_change() {
    let mut slices = Vec::new();
    let new = [at(0, Kind::Received, 1), at(1, Kind::Ended, 0x0102)]
        .map(|entry| NewEvent { entry, first_day: 0 });
    merge(&mut slices, &new);
    let bytes = slices[0].encode().unwrap();
    assert_eq!(
        bytes,
        [
            1, 0, 0, 0, 0, 0, 0, 2, //
            0, 0x00, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, //
            0xe0, 0xd4, 0x03, 0xa0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        ]
    );
    assert_eq!(Slice::decode(slices[0].day, SortKey::default(), &[9]), Err(SliceError::Version(9)));
    assert_eq!(
        Slice::decode(slices[0].day, SortKey::default(), &bytes[..20]),
        Err(SliceError::Damaged)
    );
}
