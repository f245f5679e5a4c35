//! Why a program is not ready yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The parts that a program lacks before it can answer. Clones are cheap and share their state.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, String>>>);

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
        self.0.lock().insert(part, why);
    }

    /// Removes a part from the missing ones.
    pub fn present(&self, part: &'static str) {
        self.0.lock().remove(part);
    }

    /// The reasons by missing part; empty if the program is ready.
    #[must_use]
    pub fn all_missing(&self) -> BTreeMap<String, String> {
        let parts = self.0.lock();
        parts.iter().map(|(part, why)| ((*part).to_owned(), why.clone())).collect()
    }

    /// True if no part is missing.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.lock().is_empty()
    }
}
