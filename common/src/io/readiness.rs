//! Why a program is not ready yet, and what a ready one cannot do.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The parts that a program lacks before it can answer, and those without which it answers only
/// some calls. Clones are cheap and share their state.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<Parts>>);

type Reasons = BTreeMap<&'static str, String>;

#[derive(Debug, Default)]
struct Parts {
    missing: Reasons,
    limited: Reasons,
}

impl Readiness {
    /// A readiness that lacks all of these parts.
    #[must_use]
    pub fn waiting_for(parts: &[&'static str]) -> Self {
        let readiness = Self::default();
        for part in parts {
            readiness.missing(part, "not there yet".to_owned());
        }
        readiness
    }

    /// Adds a missing part with the reason, or changes its reason.
    pub fn missing(&self, part: &'static str, why: String) {
        self.0.lock().missing.insert(part, why);
    }

    /// Adds a part that only some calls need, with the reason why it is missing: the program is
    /// ready all the same.
    pub fn limited(&self, part: &'static str, why: String) {
        self.0.lock().limited.insert(part, why);
    }

    /// Removes a part from those that are missing, for all calls or for some.
    pub fn present(&self, part: &'static str) {
        let mut parts = self.0.lock();
        parts.missing.remove(part);
        parts.limited.remove(part);
    }

    /// The reasons by missing part; empty if the program is ready.
    #[must_use]
    pub fn all_missing(&self) -> BTreeMap<String, String> {
        owned(&self.0.lock().missing)
    }

    /// The reasons by part that only some calls need and that is missing.
    #[must_use]
    pub fn all_limited(&self) -> BTreeMap<String, String> {
        owned(&self.0.lock().limited)
    }

    /// True if no part is missing that all calls need.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.lock().missing.is_empty()
    }
}

fn owned(reasons: &Reasons) -> BTreeMap<String, String> {
    reasons.iter().map(|(part, why)| ((*part).to_owned(), why.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_some_calls_need_leaves_the_program_ready() {
        let readiness = Readiness::waiting_for(&["all"]);
        readiness.limited("some", "gone".to_owned());
        assert!(!readiness.is_ready());
        readiness.present("all");
        assert!(readiness.is_ready() && readiness.all_missing().is_empty());
        assert_eq!(readiness.all_limited(), BTreeMap::from([("some".into(), "gone".into())]));
        readiness.present("some");
        assert!(readiness.all_limited().is_empty());
    }
}
