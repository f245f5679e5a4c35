//! The names by which a (bot, channel) counts on one UTC day, and the limit of their number
//! (`docs/metrics.md`).
//!
//! A name has an index by which the buckets of the day refer to it. [`NONE`] stands for no name and
//! [`OTHER`] for all names without an index of their own; both take no place. Of a bounded kind of
//! name a day keeps the `max_names` names with the smallest (hash, name). If one more comes, the
//! largest is evicted for good: what it counted moves to [`OTHER`].
//!
//! *Invariant*: the bound only falls, so an evicted or refused name never returns, and a kept name
//! was kept since its first event. Kept counts and those of [`OTHER`] do not depend on the order of
//! events or on their batches; only the indexes do.
//!
//! *Format* (version 1): the version byte; for each split that has names, ascending: its number,
//! the number of names as a varint, and in the order of their indexes for each the length as a
//! varint and the bytes; length 0 stands for an evicted name.

use std::ops::Range;

use botstats_common::split::{NO_NAME, OTHER_NAMES, Split};
use botstats_common::varint;
use xxhash_rust::xxh3::xxh3_64;

use crate::event::MAX_NAME_BYTES;
use crate::fold::metrics::is_bounded;

/// The index of counts without a name.
pub(crate) const NONE: u32 = 0;
/// The index of counts of all names without an index of their own.
pub(crate) const OTHER: u32 = 1;
/// The first index of a name.
const FIRST: u32 = 2;
/// The most names of a bounded kind that a day keeps; a part of the rules by which sums are made.
pub(crate) const MAX_NAMES: usize = 4096;
const VERSION: u8 = 1;
const SPLITS: usize = Split::ALL.len();

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NamesError {
    #[error("the names of a day have version {0}, this program knows version {VERSION}")]
    Version(u8),
    #[error("the names of a day are malformed")]
    Damaged,
    #[error("a day has no index left for a name")]
    Full,
}

/// The index of a name that is not kept by its text.
pub(crate) fn fixed_index(name: Option<&str>) -> Option<u32> {
    match name {
        None | Some("" | NO_NAME) => Some(NONE),
        Some(OTHER_NAMES) => Some(OTHER),
        Some(_) => None,
    }
}

/// A name that a batch counts by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'n> {
    /// Not one of [`fixed_index`].
    pub(crate) name: &'n str,
    /// Set by [`NamesOfDay::resolve`].
    pub(crate) index: u32,
    /// For the caller.
    pub(crate) tag: usize,
}

impl<'n> Wanted<'n> {
    const UNKNOWN: u32 = u32::MAX;

    pub(crate) fn new(name: &'n str, tag: usize) -> Self {
        Self { name, index: Self::UNKNOWN, tag }
    }

    fn key(&self) -> (usize, &'n str) {
        (self.name.len(), self.name)
    }
}

/// The names of one (bot, channel) and day. The memory of one serves the next.
#[derive(Debug, Default)]
pub(crate) struct NamesOfDay {
    texts: String,
    /// By split and index: where the name stands in `texts`, `None` if it was evicted.
    names: [Vec<Option<Range<usize>>>; SPLITS],
    is_changed: bool,
}

impl NamesOfDay {
    pub(crate) fn clear(&mut self) {
        self.texts.clear();
        self.names.iter_mut().for_each(Vec::clear);
        self.is_changed = false;
    }

    /// Becomes the stored names; without a body there are none.
    ///
    /// # Errors
    /// If the bytes are damaged or of an unknown version.
    pub(crate) fn load(&mut self, body: Option<&[u8]>) -> Result<(), NamesError> {
        self.clear();
        match body.map(<[u8]>::split_first) {
            None => Ok(()),
            Some(Some((&VERSION, rest))) => self.load_splits(rest).ok_or(NamesError::Damaged),
            Some(Some((&version, _))) => Err(NamesError::Version(version)),
            Some(None) => Err(NamesError::Damaged),
        }
    }

    fn load_splits(&mut self, mut rest: &[u8]) -> Option<()> {
        let mut least = 0;
        while let Some((&split, after)) = rest.split_first() {
            if split < least {
                return None;
            }
            let names = self.names.get_mut(usize::from(split))?;
            least = split + 1;
            rest = after;
            // A name takes at least a byte.
            let count = usize::try_from(varint::read(&mut rest)?).ok();
            let count = count.filter(|count| (1..=rest.len()).contains(count))?;
            for _ in 0..count {
                let length = usize::try_from(varint::read(&mut rest)?).ok()?;
                if length == 0 {
                    names.push(None);
                    continue;
                }
                let name;
                (name, rest) =
                    rest.split_at_checked(length).filter(|_| length <= MAX_NAME_BYTES)?;
                let name = std::str::from_utf8(name).ok()?;
                let begin = self.texts.len();
                self.texts.push_str(name);
                names.push(Some(begin..self.texts.len()));
            }
        }
        Some(())
    }

    /// True if there is something else to store than what was loaded.
    pub(crate) fn is_changed(&self) -> bool {
        self.is_changed
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        for (split, names) in Split::ALL.iter().zip(&self.names).filter(|(_, n)| !n.is_empty()) {
            out.push(split.number());
            varint::write(out, names.len() as u64);
            for name in names {
                let name = name.clone().and_then(|name| self.texts.get(name)).unwrap_or_default();
                varint::write(out, name.len() as u64);
                out.extend_from_slice(name.as_bytes());
            }
        }
    }

    /// The name of an index: `None` if it stands for no name, for the others, or for nothing.
    pub(crate) fn name(&self, split: Split, index: u32) -> Option<&str> {
        let place = usize::try_from(index.checked_sub(FIRST)?).ok()?;
        let name = self.names.get(usize::from(split.number()))?.get(place)?.clone()?;
        self.texts.get(name)
    }

    /// The number of names of a split that are kept.
    #[cfg(test)]
    fn kept(&self, split: Split) -> usize {
        self.names[usize::from(split.number())].iter().flatten().count()
    }

    /// Gives each wanted name its index, after new names were added and too many evicted. `wanted`
    /// has no name twice and is put into another order. `evicted` gets the indexes whose counts
    /// move to [`OTHER`], ascending.
    ///
    /// # Errors
    /// [`NamesError::Full`] if there are no indexes left.
    pub(crate) fn resolve(
        &mut self,
        split: Split,
        wanted: &mut [Wanted<'_>],
        max_names: usize,
        evicted: &mut Vec<u32>,
    ) -> Result<(), NamesError> {
        let Some(names) = self.names.get_mut(usize::from(split.number())) else { return Ok(()) };
        wanted.sort_unstable_by(|a, b| a.key().cmp(&b.key()));
        // Most names are of another length than the wanted ones, and then need no comparison.
        let lengths = wanted.iter().fold(0_u128, |all, wanted| all | length_bit(wanted.name.len()));
        let mut kept = 0;
        for (index, name) in (FIRST..).zip(&*names) {
            let Some(place) = name else { continue };
            kept += 1;
            if lengths & length_bit(place.len()) == 0 {
                continue;
            }
            let name = self.texts.get(place.clone()).unwrap_or_default();
            let found = wanted.binary_search_by(|wanted| wanted.key().cmp(&(name.len(), name)));
            if let Some(wanted) = found.ok().and_then(|place| wanted.get_mut(place)) {
                wanted.index = index;
            }
        }
        let missing = wanted.iter().filter(|wanted| wanted.index == Wanted::UNKNOWN).count();
        if missing == 0 {
            return Ok(());
        }
        if is_bounded(split) && kept + missing > max_names {
            Bound::of(&self.texts, names, wanted, max_names).keep(names, wanted, evicted);
            self.is_changed |= !evicted.is_empty();
        }
        for wanted in wanted.iter_mut().filter(|wanted| wanted.index == Wanted::UNKNOWN) {
            let index = u32::try_from(names.len()).ok().and_then(|len| len.checked_add(FIRST));
            wanted.index = index.filter(|n| *n != Wanted::UNKNOWN).ok_or(NamesError::Full)?;
            let begin = self.texts.len();
            self.texts.push_str(wanted.name);
            names.push(Some(begin..self.texts.len()));
            self.is_changed = true;
        }
        Ok(())
    }
}

/// A bit for each length of a name, which is not 0.
fn length_bit(length: usize) -> u128 {
    const _: () = assert!(MAX_NAME_BYTES <= 128, "a length has a bit of its own");
    1 << (length.saturating_sub(1) & 127)
}

/// What is beyond the limit.
struct Bound {
    /// Places of kept names, ascending.
    evicted: Vec<usize>,
    /// Places of wanted names.
    refused: Vec<usize>,
}

impl Bound {
    fn of(
        texts: &str,
        names: &[Option<Range<usize>>],
        wanted: &[Wanted<'_>],
        max_names: usize,
    ) -> Self {
        enum Place {
            Kept(usize),
            Wanted(usize),
        }
        let kept = names
            .iter()
            .enumerate()
            .filter_map(|(place, name)| Some((texts.get(name.clone()?)?, Place::Kept(place))));
        let new = wanted.iter().enumerate().filter(|(_, new)| new.index == Wanted::UNKNOWN);
        let new = new.map(|(place, wanted)| (wanted.name, Place::Wanted(place)));
        let mut all: Vec<(u64, &str, Place)> =
            kept.chain(new).map(|(name, place)| (hash(name), name, place)).collect();
        let mut bound = Self { evicted: Vec::new(), refused: Vec::new() };
        if max_names < all.len() {
            all.select_nth_unstable_by(max_names, |a, b| (a.0, a.1).cmp(&(b.0, b.1)));
            for (_, _, place) in all.drain(max_names..) {
                match place {
                    Place::Kept(place) => bound.evicted.push(place),
                    Place::Wanted(place) => bound.refused.push(place),
                }
            }
            bound.evicted.sort_unstable();
        }
        bound
    }

    fn keep(
        self,
        names: &mut [Option<Range<usize>>],
        wanted: &mut [Wanted<'_>],
        evicted: &mut Vec<u32>,
    ) {
        for place in self.evicted {
            if let (Some(name), Ok(index)) = (names.get_mut(place), u32::try_from(place)) {
                *name = None;
                evicted.push(index.saturating_add(FIRST));
                // A name that is counted and evicted by one batch counts for the others.
                for wanted in wanted.iter_mut().filter(|w| w.index == index.saturating_add(FIRST)) {
                    wanted.index = OTHER;
                }
            }
        }
        for place in self.refused {
            if let Some(wanted) = wanted.get_mut(place) {
                wanted.index = OTHER;
            }
        }
    }
}

fn hash(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn resolve(
        names: &mut NamesOfDay,
        split: Split,
        wanted: &[&str],
        max_names: usize,
    ) -> (Vec<u32>, Vec<u32>) {
        let mut all: Vec<Wanted<'_>> =
            wanted.iter().enumerate().map(|(tag, name)| Wanted::new(name, tag)).collect();
        let mut evicted = Vec::new();
        names.resolve(split, &mut all, max_names, &mut evicted).unwrap();
        all.sort_unstable_by_key(|wanted| wanted.tag);
        (all.into_iter().map(|wanted| wanted.index).collect(), evicted)
    }

    fn encoded(names: &NamesOfDay) -> Vec<u8> {
        let mut bytes = Vec::new();
        names.encode(&mut bytes);
        bytes
    }

    #[test]
    fn names_as_cases() {
        let mut names = NamesOfDay::default();
        assert_eq!(resolve(&mut names, Split::Goal, &["b", "a"], 2), (vec![3, 2], vec![]));
        assert_eq!(resolve(&mut names, Split::Operator, &["x"], 0), (vec![2], vec![]));
        assert_eq!(encoded(&names), [1, 0, 2, 1, b'a', 1, b'b', 4, 1, 1, b'x']);
        assert_eq!(fixed_index(None), Some(NONE));
        assert_eq!(["", "(none)"].map(|name| fixed_index(Some(name))), [Some(NONE); 2]);
        assert_eq!(fixed_index(Some("(other)")), Some(OTHER));
        assert_eq!(fixed_index(Some("other")), None);
        // The largest of three has to go; the two others keep or get an index.
        let mut order = ["a", "b", "c"];
        order.sort_unstable_by_key(|name| hash(name));
        let largest = order[2];
        let (indexes, evicted) = resolve(&mut names, Split::Goal, &["c", "a", "b"], 2);
        for (name, index) in ["c", "a", "b"].into_iter().zip(indexes) {
            assert_eq!(index == OTHER, name == largest, "{name}");
            assert_eq!(names.name(Split::Goal, index), (name != largest).then_some(name));
        }
        assert_eq!(evicted.is_empty(), largest == "c");
        assert_eq!((names.kept(Split::Goal), names.kept(Split::Operator)), (2, 1));
    }

    #[test]
    fn what_are_no_names_is_refused() {
        let mut names = NamesOfDay::default();
        let long = [&[1, 0, 1, 129, 1][..], &[b'a'; 129]].concat();
        for (bytes, error) in [
            (&[][..], NamesError::Damaged),
            (&[2], NamesError::Version(2)),
            (&[1, 5, 1, 0], NamesError::Damaged),
            (&[1, 0], NamesError::Damaged),
            (&[1, 0, 0], NamesError::Damaged),
            (&[1, 0, 2, 1, b'a'], NamesError::Damaged),
            (&[1, 0, 1, 1, 0xff], NamesError::Damaged),
            (&[1, 1, 1, 0, 0, 1, 0], NamesError::Damaged),
            (&long, NamesError::Damaged),
        ] {
            assert_eq!(names.load(Some(bytes)), Err(error), "{bytes:?}");
        }
        assert_eq!(names.load(None), Ok(()));
        assert_eq!(encoded(&names), [VERSION]);
    }

    proptest! {
        /// Kept counts and those of the others are as `docs/metrics.md` says, in any order and any
        /// batches.
        #[test]
        fn counts_as_the_smallest_names(
            batches in prop::collection::vec(prop::collection::vec(0..12_u8, 0..6), 0..10),
            max_names in 1..5_usize,
        ) {
            let name = |n: u8| format!("name {n}");
            let mut expect: BTreeMap<String, u64> = BTreeMap::new();
            batches.iter().flatten().for_each(|n| *expect.entry(name(*n)).or_default() += 1);
            let mut order: Vec<String> = expect.keys().cloned().collect();
            order.sort_unstable_by_key(|name| (xxh3_64(name.as_bytes()), name.clone()));
            let others: u64 =
                order.iter().skip(max_names).map(|name| expect.remove(name).unwrap()).sum();

            let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
            let mut names = NamesOfDay::default();
            let mut body: Option<Vec<u8>> = None;
            for batch in batches {
                names.load(body.as_deref()).unwrap();
                let mut texts: Vec<String> = batch.iter().map(|n| name(*n)).collect();
                texts.sort_unstable();
                texts.dedup();
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                let (indexes, evicted) = resolve(&mut names, Split::Tag, &texts, max_names);
                prop_assert!(evicted.is_sorted());
                for index in evicted {
                    *counts.entry(OTHER).or_default() += counts.remove(&index).unwrap();
                }
                for n in batch {
                    let place = texts.iter().position(|text| *text == name(n)).unwrap();
                    *counts.entry(indexes[place]).or_default() += 1;
                }
                prop_assert!(names.kept(Split::Tag) <= max_names);
                if names.is_changed() {
                    body = Some(encoded(&names));
                } else {
                    prop_assert_eq!(encoded(&names), body.clone().unwrap_or(vec![VERSION]));
                }
            }
            prop_assert_eq!(counts.remove(&OTHER).unwrap_or(0), others);
            let counts: BTreeMap<String, u64> = counts
                .into_iter()
                .map(|(index, n)| (names.name(Split::Tag, index).unwrap().to_owned(), n))
                .collect();
            prop_assert_eq!(counts, expect);
        }

        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(prop_oneof![0..5_u8, any::<u8>()], 0..64)) {
            let mut names = NamesOfDay::default();
            for bytes in [bytes.clone(), [&[VERSION][..], &bytes].concat()] {
                if names.load(Some(&bytes)).is_ok() {
                    let again = encoded(&names);
                    let mut other = NamesOfDay::default();
                    other.load(Some(&again)).unwrap();
                    prop_assert_eq!(encoded(&other), again);
                }
            }
        }
    }
}
