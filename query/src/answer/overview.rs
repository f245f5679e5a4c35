//! Collects an ingest's parts of an overview of an account.
//!
//! *Invariants*: parts come without a gap; each pair is there once; a pair has no more
//! conversations of a kind than open ones. What breaks the contract of the wire is refused, never
//! guessed.

use std::collections::BTreeMap;

use botstats_common::wire::overview::PairNow;
use botstats_common::wire::{AnswerSize, Pair};

use super::cells::Malformed;
use super::collect::{Collect, Part};

/// A whole overview.
#[derive(Debug, Default)]
pub(crate) struct Overview {
    /// Everything stored in the stream up to this instant (Unix ms) is counted.
    pub(crate) as_of_ms: i64,
    /// What lies at or after this instant (Unix ms) is complete; `None` without events.
    pub(crate) complete_since_ms: Option<i64>,
    /// Every bot on a channel that had an event.
    pub(crate) pairs: BTreeMap<Pair, PairNow>,
}

/// An overview whose parts are still coming.
#[derive(Debug, Default)]
pub(crate) struct CollectingOverview {
    next: u32,
    is_whole: bool,
    size: AnswerSize,
    overview: Overview,
}

impl Collect for CollectingOverview {
    type Whole = Overview;

    fn add(&mut self, part: Part<'_>) -> Result<(), Malformed> {
        let Part::Overview(part) = part else {
            return Err(Malformed::Kind);
        };
        if self.is_whole {
            return Err(Malformed::AfterLast);
        }
        if part.number != self.next {
            return Err(Malformed::Gap);
        }
        self.next += 1;
        self.is_whole = part.last;
        self.overview.as_of_ms = part.as_of_ms;
        self.overview.complete_since_ms = part.complete_since_ms;
        for now in part.pairs {
            let PairNow { open, waiting, waiting_active, with_operator, unanswered, .. } = now;
            let fits = waiting.checked_add(with_operator).is_some_and(|some| some <= open)
                && waiting_active <= waiting
                && unanswered <= open
                && (waiting_active == 0) == now.oldest_request_ms.is_none();
            if !fits {
                return Err(Malformed::Samples);
            }
            self.size.add_pair(&now.pair);
            if self.overview.pairs.insert(now.pair.clone(), now).is_some() {
                return Err(Malformed::RowTwice);
            }
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.is_whole
    }

    fn size(&self) -> AnswerSize {
        self.size
    }

    fn finish(self) -> Result<Overview, Malformed> {
        if self.is_whole { Ok(self.overview) } else { Err(Malformed::NoLast) }
    }
}

#[cfg(test)]
mod tests {
    use botstats_common::wire::overview;

    use super::*;

    fn pair(bot: &str, open: u32) -> PairNow {
        let pair = Pair { bot: bot.parse().unwrap(), channel: "c".parse().unwrap() };
        PairNow { open, ..PairNow::without(pair) }
    }

    fn part(number: u32, last: bool, pairs: Vec<PairNow>) -> overview::Part {
        overview::Part { number, last, as_of_ms: 7, complete_since_ms: None, pairs }
    }

    fn collect(parts: Vec<overview::Part>) -> Result<usize, Malformed> {
        let mut collecting = CollectingOverview::default();
        parts.into_iter().try_for_each(|part| collecting.add(Part::Overview(part)))?;
        collecting.finish().map(|overview| overview.pairs.len())
    }

    #[test]
    fn parts_must_be_whole_and_make_sense() {
        let more = |change: fn(&mut PairNow)| {
            let mut changed = pair("x", 2);
            change(&mut changed);
            vec![part(0, true, vec![changed])]
        };
        for (parts, expected) in [
            (vec![], Err(Malformed::NoLast)),
            (vec![part(0, false, vec![])], Err(Malformed::NoLast)),
            (vec![part(1, true, vec![])], Err(Malformed::Gap)),
            (vec![part(0, true, vec![]), part(1, true, vec![])], Err(Malformed::AfterLast)),
            (vec![part(0, false, vec![pair("a", 0)]), part(1, true, vec![pair("b", 1)])], Ok(2)),
            (vec![part(0, true, vec![pair("a", 0), pair("a", 0)])], Err(Malformed::RowTwice)),
            (more(|pair| (pair.waiting, pair.with_operator) = (1, 1)), Ok(1)),
            (more(|pair| (pair.waiting, pair.with_operator) = (2, 1)), Err(Malformed::Samples)),
            (more(|pair| pair.unanswered = 3), Err(Malformed::Samples)),
            (more(|pair| (pair.waiting, pair.waiting_active) = (1, 1)), Err(Malformed::Samples)),
            (more(|pair| pair.oldest_request_ms = Some(1)), Err(Malformed::Samples)),
        ] {
            assert_eq!(collect(parts.clone()), expected, "{parts:?}");
        }
    }
}
