//! The memory for answers, shared by all calls.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The most that all answers together may hold, in units of [`UNIT_BYTES`]: 512 MiB.
const MAX_UNITS: usize = 8 * 1024;
const UNIT_BYTES: usize = 64 * 1024;

/// The budget. All clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

/// The budget does not have as much left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BudgetSpent;

/// A part of the budget; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Semaphore>,
    permit: OwnedSemaphorePermit,
}

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_UNITS)))
    }
}

impl Budget {
    /// A reservation of no size yet.
    ///
    /// # Errors
    /// Never: the budget is not closed.
    pub(crate) fn reserve(&self) -> Result<Reservation, BudgetSpent> {
        let budget = Arc::clone(&self.0);
        let permit = Arc::clone(&budget).try_acquire_many_owned(0).map_err(|_| BudgetSpent)?;
        Ok(Reservation { budget, permit })
    }

    /// What is reserved, and the most that can be, in bytes.
    pub(crate) fn held_bytes(&self) -> (usize, usize) {
        let held = MAX_UNITS - self.0.available_permits();
        (held * UNIT_BYTES, MAX_UNITS * UNIT_BYTES)
    }
}

impl Reservation {
    /// What is reserved, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.permit.num_permits() * UNIT_BYTES
    }

    /// Makes the reservation at least `bytes` large.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), BudgetSpent> {
        let more = bytes.div_ceil(UNIT_BYTES).saturating_sub(self.permit.num_permits());
        let more = u32::try_from(more).map_err(|_| BudgetSpent)?;
        let permit = Arc::clone(&self.budget).try_acquire_many_owned(more);
        self.permit.merge(permit.map_err(|_| BudgetSpent)?);
        Ok(())
    }
}
