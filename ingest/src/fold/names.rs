//! Names of goals, tags, intents, integrations and operators, while one batch is counted.
//!
//! *Why* numbers: an event and a sample stay small and cheap to copy. The numbers live as long as
//! [`Names`], which is one batch; they are stored nowhere, and nothing is ordered by them.

use std::cmp::Ordering;

use rustc_hash::FxHashMap;

use crate::event::MAX_NAME_BYTES;

/// A name of [`Names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct NameId(u32);

impl NameId {
    /// No name was sent.
    pub(crate) const ABSENT: NameId = NameId(0);

    /// A number that no other name of the batch has.
    pub(crate) fn number(self) -> u32 {
        self.0
    }

    pub(crate) fn of_number(number: u32) -> Self {
        Self(number)
    }

    /// Its place among the names.
    fn place(self) -> Option<usize> {
        usize::try_from(self.0.checked_sub(1)?).ok()
    }
}

/// The names of one batch.
#[derive(Debug, Default)]
pub(crate) struct Names {
    texts: Vec<Box<str>>,
    /// The name that each counts for.
    counted: Vec<NameId>,
    ids: FxHashMap<Box<str>, NameId>,
}

impl Names {
    /// The number of a name as it was sent.
    pub(crate) fn id(&mut self, text: Option<&str>) -> NameId {
        let Some(text) = text else { return NameId::ABSENT };
        if let Some(id) = self.ids.get(text) {
            return *id;
        }
        let counted = cut(text).map(|cut| self.id(Some(cut)));
        self.texts.push(text.into());
        let id = NameId(u32::try_from(self.texts.len()).unwrap_or(u32::MAX));
        self.counted.push(counted.unwrap_or(id));
        self.ids.insert(text.into(), id);
        id
    }

    /// The name that it counts for: itself, or without what is beyond [`MAX_NAME_BYTES`].
    pub(crate) fn counted(&self, id: NameId) -> NameId {
        id.place().and_then(|place| self.counted.get(place)).copied().unwrap_or(id)
    }

    /// The name as it was sent.
    pub(crate) fn text(&self, id: NameId) -> Option<&str> {
        self.texts.get(id.place()?).map(|text| &**text)
    }

    /// The order of events of one millisecond and type: those without a name first, then by bytes.
    pub(crate) fn compare(&self, a: NameId, b: NameId) -> Ordering {
        if a == b { Ordering::Equal } else { self.text(a).cmp(&self.text(b)) }
    }

    /// Forgets all names.
    pub(crate) fn clear(&mut self) {
        self.texts.clear();
        self.counted.clear();
        self.ids.clear();
    }
}

/// A name that is too long, up to a boundary between characters.
fn cut(text: &str) -> Option<&str> {
    let end = (0..=MAX_NAME_BYTES).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end?).filter(|_| text.len() > MAX_NAME_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_ordered_as_sent_and_counted_as_cut() {
        let mut names = Names::default();
        let begin = "x".repeat(126);
        let [euro, more, zs] =
            ["\u{20ac}", "\u{20ad}", "zz"].map(|end| names.id(Some(&format!("{begin}{end}"))));
        assert!(names.compare(euro, more).is_lt() && names.compare(zs, euro).is_lt());
        assert_eq!(names.text(names.counted(euro)), Some(&*begin));
        assert_eq!(names.counted(more), names.counted(euro));
        assert_eq!((names.counted(zs), names.counted(NameId::ABSENT)), (zs, NameId::ABSENT));
    }

    #[test]
    fn names_have_one_number_each_and_order_by_bytes() {
        let mut names = Names::default();
        let [b, a, empty] = ["b", "a", ""].map(|text| names.id(Some(text)));
        assert_eq!(names.id(None), NameId::ABSENT);
        assert_eq!(names.id(Some("b")), b);
        assert_eq!((names.text(a), names.text(NameId::ABSENT)), (Some("a"), None));
        let mut all = [b, a, empty, NameId::ABSENT];
        all.sort_unstable_by(|x, y| names.compare(*x, *y));
        assert_eq!(all, [NameId::ABSENT, empty, a, b]);
    }
}
