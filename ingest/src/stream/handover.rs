//! Batches between the reader and the fold: while the reader fills one, the fold applies the other.
//!
//! *Invariants*: there are never more than these two. The reader can hand over a batch only when
//! the fold has applied the one before, and then fills the memory of that one: otherwise the kernel
//! would have to clear fresh memory for each batch.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::event::batch::Batch;
use crate::event::decoder::Arrival;

/// The fold has ended: it takes no more batches.
#[derive(Debug)]
pub(super) struct FoldEnded;

/// The reader's side.
#[derive(Debug)]
pub struct ToFold {
    filled: SyncSender<Batch>,
    applied: mpsc::Receiver<Vec<Arrival>>,
}

/// The fold's side.
#[derive(Debug)]
pub struct FromReader {
    filled: Receiver<Batch>,
    applied: mpsc::Sender<Vec<Arrival>>,
}

/// Both sides.
#[must_use]
pub fn handover() -> (ToFold, FromReader) {
    let (filled, to_apply) = sync_channel(1);
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
        self.applied.is_closed()
    }
}

impl FromReader {
    /// Waits for the next batch, for no longer than `limit`. Not for asynchronous code.
    ///
    /// # Errors
    /// If none came in that time, or the reader has ended.
    pub fn receive(&self, limit: Duration) -> Result<Batch, RecvTimeoutError> {
        self.filled.recv_timeout(limit)
    }

    /// Gives back a batch that was applied: its memory is used again, but not more than for twice
    /// as many messages as it had.
    pub fn applied(&self, Batch { mut arrivals, .. }: Batch) {
        let capacity = 2 * arrivals.len();
        arrivals.clear();
        arrivals.shrink_to(capacity);
        // The reader has ended if this fails.
        let _ended = self.applied.try_send(arrivals);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::event::Decoded;
    use crate::event::batch::Place;
    use crate::event::decoder::Said;
    use crate::store::{Ownership, StreamIdentity};

    fn batch(mut arrivals: Vec<Arrival>, messages: u64) -> Batch {
        arrivals.extend((1..=messages).map(|sequence| {
            let place = Place { sequence, stored_ns: 0, subject_hash: 0 };
            Arrival { place, said: Said::Event(Decoded::UnknownType) }
        }));
        Batch { arrivals, ..Batch::new(StreamIdentity::default(), Ownership::default()) }
    }

    /// Much longer than any of these tests takes.
    const LONG: Duration = Duration::from_secs(60);

    fn ready(to_fold: &mut ToFold) -> Option<Result<Vec<Arrival>, FoldEnded>> {
        to_fold.ready().now_or_never()
    }

    #[test]
    fn two_batches_go_round_and_keep_memory_for_twice_what_they_had() {
        let (mut to_fold, from_reader) = handover();
        let mut memory = ready(&mut to_fold).unwrap().unwrap();
        for (messages, least, most) in [(1_000, 1_000, 2_000), (10, 10, 20), (0, 0, 0)] {
            to_fold.hand_over(batch(memory, messages)).unwrap();
            let taken = from_reader.receive(LONG).unwrap();
            assert_eq!(taken.arrivals.len() as u64, messages);
            assert!(ready(&mut to_fold).is_none(), "the fold has not applied it yet");
            from_reader.applied(taken);
            memory = ready(&mut to_fold).unwrap().unwrap();
            assert!(memory.is_empty());
            assert!((least..=most).contains(&memory.capacity()), "{}", memory.capacity());
        }
        let nothing = from_reader.receive(Duration::from_millis(1));
        assert_eq!(nothing.unwrap_err(), RecvTimeoutError::Timeout);
        drop(to_fold);
        assert_eq!(from_reader.receive(LONG).unwrap_err(), RecvTimeoutError::Disconnected);
    }

    #[test]
    fn nothing_is_handed_over_after_the_fold_has_ended() {
        let (mut to_fold, from_reader) = handover();
        assert!(!to_fold.has_fold_ended());
        drop(from_reader);
        assert!(to_fold.has_fold_ended());
        assert!(to_fold.hand_over(batch(Vec::new(), 1)).is_err());
        // The memory of the second batch is still there, but no more comes.
        assert!(ready(&mut to_fold).unwrap().is_ok());
        assert!(ready(&mut to_fold).unwrap().is_err());
    }
}
