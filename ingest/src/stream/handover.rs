//! Batches between the reader and the fold: while the reader fills one, the fold applies the other.
//!
//! *Invariants*: there are never more than these two. The reader can hand over a batch only when the
//! fold has applied the one before, and fills the memory of that one next: fresh memory for each
//! batch costs a page fault for every 28 events, and each page is cleared first.

use tokio::sync::mpsc;

use crate::event::batch::Batch;
use crate::event::decoder::Arrival;

/// The fold has ended: it takes no more batches.
#[derive(Debug)]
pub(super) struct FoldEnded;

/// The reader's side.
#[derive(Debug)]
pub struct ToFold {
    filled: mpsc::Sender<Batch>,
    applied: mpsc::Receiver<Vec<Arrival>>,
}

/// The fold's side.
#[derive(Debug)]
pub struct FromReader {
    filled: mpsc::Receiver<Batch>,
    applied: mpsc::Sender<Vec<Arrival>>,
}

/// Both sides.
#[must_use]
pub fn handover() -> (ToFold, FromReader) {
    let (filled, to_apply) = mpsc::channel(1);
    let (emptied, applied) = mpsc::channel(1);
    // The memory of the second batch; there is room, as nothing was sent yet.
    let _sent = emptied.try_send(Vec::new());
    (ToFold { filled, applied }, FromReader { filled: to_apply, applied: emptied })
}

impl ToFold {
    /// Waits until a batch can be handed over; gives the memory for the next one. Cancel safe.
    pub(super) async fn ready(&mut self) -> Result<Vec<Arrival>, FoldEnded> {
        self.applied.recv().await.ok_or(FoldEnded)
    }

    /// Hands over a batch; only after [`ToFold::ready`].
    pub(super) fn hand_over(&self, batch: Batch) -> Result<(), FoldEnded> {
        self.filled.try_send(batch).map_err(|_| FoldEnded)
    }

    pub(super) fn has_fold_ended(&self) -> bool {
        self.filled.is_closed()
    }
}

impl FromReader {
    /// Waits for the next batch; none after the reader has ended. Not for asynchronous code.
    pub fn next(&mut self) -> Option<Batch> {
        self.filled.blocking_recv()
    }

    /// Gives back a batch that was applied, whose memory is used again. After a large one the next
    /// may be small, and then most of it is freed.
    pub fn applied(&self, Batch { mut arrivals, .. }: Batch) {
        let capacity = 2 * arrivals.len();
        arrivals.clear();
        arrivals.shrink_to(capacity);
        // The reader has ended if this fails.
        let _ended = self.applied.try_send(arrivals);
    }
}
