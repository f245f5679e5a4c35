//! Why a program is not ready yet.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// What a program still lacks before it can answer. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Readiness {
    /// Not ready for any of these reasons yet.
    #[must_use]
    pub fn waiting_for(parts: &[&'static str]) -> Self {
        let readiness = Self::default();
        for part in parts {
            readiness.missing(part, "not there yet".to_owned());
        }
        readiness
    }

    /// Says that a part is missing, and why.
    pub fn missing(&self, part: &'static str, why: String) {
        self.0.lock().insert(part, why);
    }

    /// Says that a part is there.
    pub fn present(&self, part: &'static str) {
        self.0.lock().remove(part);
    }

    /// What is missing, by part; empty if ready.
    #[must_use]
    pub fn all_missing(&self) -> BTreeMap<String, String> {
        let parts = self.0.lock();
        parts.iter().map(|(part, why)| ((*part).to_owned(), why.clone())).collect()
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.lock().is_empty()
    }
}
