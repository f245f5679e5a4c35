//! The generations of a user that was forgotten.
//!
//! *Format* (version 1): the version byte; the number of quarters in which the user was to be
//! forgotten, as a varint; these quarters, ascending, as varints; then for each generation (one
//! more than quarters) 0 if nothing of it is known, else 1 + ordinal and the first quarter, as
//! varints.

use botstats_common::quarter::Quarter;
use botstats_common::varint;

const VERSION: u8 = 1;

/// A user between two moments at which it was forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation {
    /// Its number among the users of its pair.
    pub(crate) ordinal: u32,
    /// The first quarter in which it was active.
    pub(crate) first_seen: u32,
}

/// All generations of a user that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Generations {
    /// The quarters in which it was to be forgotten, ascending: each is the last of a generation.
    ends: Vec<u32>,
    /// One more than `ends`; none of a generation that was not active.
    generations: Vec<Option<Generation>>,
}

/// A generation that was cut in two.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) ordinal: u32,
    /// The quarter after its last.
    pub(crate) end: u32,
}

impl Generations {
    /// A user that was not forgotten yet.
    pub(crate) fn of(only: Option<Generation>) -> Self {
        Self { ends: Vec::new(), generations: vec![only] }
    }

    /// Ends a generation after that quarter. Gives the generation if it may have been active
    /// before and after: it keeps what it did before.
    pub(crate) fn forget_at(&mut self, quarter: u32) -> Option<Cut> {
        let place = match self.ends.binary_search(&quarter) {
            Ok(_) => return None,
            Err(place) => place,
        };
        let generation = self.generations.get(place).copied().flatten();
        let end = self.ends.get(place).map_or(u32::MAX, |end| end.saturating_add(1));
        self.ends.insert(place, quarter);
        let is_later = generation.is_some_and(|generation| generation.first_seen > quarter);
        self.generations.insert(if is_later { place } else { place + 1 }, None);
        let cut = generation.filter(|_| !is_later)?;
        Some(Cut { ordinal: cut.ordinal, end })
    }

    fn index(&self, quarter: u32) -> usize {
        self.ends.partition_point(|end| *end < quarter)
    }

    /// The generation to which an activity in that quarter belongs, and its number.
    pub(crate) fn at(&self, quarter: u32) -> (usize, Option<Generation>) {
        let index = self.index(quarter);
        (index, self.generations.get(index).copied().flatten())
    }

    pub(crate) fn at_mut(&mut self, quarter: u32) -> Option<&mut Generation> {
        let index = self.index(quarter);
        self.generations.get_mut(index)?.as_mut()
    }

    /// Sets the generation to which an activity in that quarter belongs.
    pub(crate) fn put(&mut self, quarter: u32, generation: Generation) {
        let index = self.index(quarter);
        if let Some(place) = self.generations.get_mut(index) {
            *place = Some(generation);
        }
    }

    /// Whether a generation ended on a day before that one.
    pub(crate) fn has_end_before(&self, day: u32) -> bool {
        self.ends.first().is_some_and(|end| Quarter(*end).day() < day)
    }

    /// Drops the generations that ended on days before that one.
    pub(crate) fn prune(&mut self, before_day: u32) {
        let old = self.ends.partition_point(|end| Quarter(*end).day() < before_day);
        self.ends.drain(..old);
        self.generations.drain(..old);
    }

    /// The only generation, if no other is kept.
    pub(crate) fn only(&self) -> Option<Option<Generation>> {
        self.ends.is_empty().then(|| self.generations.first().copied().flatten())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        varint::write(&mut out, self.ends.len() as u64);
        self.ends.iter().for_each(|end| varint::write(&mut out, u64::from(*end)));
        for generation in &self.generations {
            match generation {
                None => varint::write(&mut out, 0),
                Some(Generation { ordinal, first_seen }) => {
                    varint::write(&mut out, u64::from(*ordinal) + 1);
                    varint::write(&mut out, u64::from(*first_seen));
                }
            }
        }
        out
    }

    /// Decodes the stored form; `None` if the bytes are malformed or of another version.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (VERSION, mut rest) = bytes.split_first().map(|(version, rest)| (*version, rest))?
        else {
            return None;
        };
        let read = |rest: &mut &[u8]| u32::try_from(varint::read(rest)?).ok();
        let count = usize::try_from(read(&mut rest)?).ok().filter(|count| *count <= rest.len())?;
        let ends = (0..count).map(|_| read(&mut rest)).collect::<Option<Vec<u32>>>()?;
        let mut generations = Vec::with_capacity(count + 1);
        for _ in 0..=count {
            generations.push(match read(&mut rest)?.checked_sub(1) {
                None => None,
                Some(ordinal) => Some(Generation { ordinal, first_seen: read(&mut rest)? }),
            });
        }
        (rest.is_empty() && ends.is_sorted_by(|a, b| a < b)).then_some(Self { ends, generations })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_cut_where_the_user_was_forgotten() {
        let first = Generation { ordinal: 7, first_seen: 100 };
        let mut user = Generations::of(Some(first));
        assert_eq!(user.forget_at(120), Some(Cut { ordinal: 7, end: u32::MAX }));
        assert_eq!(user.forget_at(120), None);
        assert_eq!((user.at(120), user.at(121)), ((0, Some(first)), (1, None)));
        let second = Generation { ordinal: 9, first_seen: 130 };
        user.put(130, second);
        // Before its first activity, so that activity is of the generation after it.
        assert_eq!(user.forget_at(125), None);
        assert_eq!((user.at(123), user.at(126)), ((1, None), (2, Some(second))));
        assert_eq!(user.forget_at(110), Some(Cut { ordinal: 7, end: 121 }));
        assert_eq!((user.at(110), user.at(111)), ((0, Some(first)), (1, None)));
        assert_eq!(Generations::decode(&user.encode()), Some(user.clone()));
        assert_eq!(user.encode(), [1, 3, 110, 120, 125, 8, 100, 0, 0, 10, 130, 1]);
        assert!(!user.has_end_before(1) && user.has_end_before(2));
        user.prune(2);
        assert_eq!(user.only(), Some(Some(second)));
    }

    #[test]
    fn what_are_no_generations_is_refused() {
        for bytes in [&[][..], &[2, 0, 0], &[1, 1, 5, 0], &[1, 2, 6, 5, 0, 0, 0], &[1, 0, 0, 0]] {
            assert_eq!(Generations::decode(bytes), None, "{bytes:?}");
        }
    }
}
