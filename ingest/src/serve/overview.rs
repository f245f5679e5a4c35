//! Answers requests for an overview: which bots an account has, and what goes on in them now
//! (`docs/metrics.md`, *Now*).
//!
//! *Why* from memory: a page asks again and again. What is open is kept up to date by the commits;
//! only the first complete day is read from the store.

use std::sync::Arc;

use botstats_common::ids::Account;
use botstats_common::wire::overview::{PairNow, Part, Request};
use botstats_common::wire::{self, Frame, MAX_CHUNK_BYTES, Pair};
use parking_lot::RwLock;

use super::open::{Open, OpenConversations};
use super::read::ReadError;
use super::read::limits::{check_pairs, complete_since};
use crate::event::registry::{NamedPair, Registry};
use crate::store::Store;

/// A waiting conversation is active if its last `message.received` is no longer ago than this many
/// milliseconds.
const ACTIVE_MS: i64 = 30 * 60 * 1000;
/// A part takes at most this many bytes beside its pairs: two for version and frame, and numbers of
/// 32 and 64 bits.
const PART_BYTES: usize = 2 + 5 + 1 + 10 + 11 + 5;
/// A pair takes at most this many bytes beside its ids: the lengths of two, five counts, a time.
const PAIR_BYTES: usize = 2 + 5 * 5 + 11;

/// Answers requests for an overview. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Overviews {
    store: Arc<Store>,
    registry: Arc<RwLock<Registry>>,
    open: Arc<RwLock<OpenConversations>>,
    /// How many UTC days of buckets the store keeps.
    keep_days: u32,
}

impl Overviews {
    pub(crate) fn new(
        store: Arc<Store>,
        registry: Arc<RwLock<Registry>>,
        open: Arc<RwLock<OpenConversations>>,
        keep_days: u32,
    ) -> Self {
        Self { store, registry, open, keep_days }
    }

    /// The whole overview, as messages of at most `max_bytes` to send. `as_of_ms` must be taken
    /// before the call: the overview has everything that was committed before, and perhaps more.
    ///
    /// # Errors
    /// If the account has too many pairs, or the store cannot be read.
    pub fn gather(
        &self,
        account: &Account,
        request: &Request,
        as_of_ms: i64,
        max_bytes: usize,
    ) -> Result<Vec<Vec<u8>>, ReadError> {
        let complete_since_ms = complete_since(&self.store.snapshot()?.progress()?, self.keep_days);
        let asked = self.registry.read().pairs(account, request.bots.as_deref());
        let (_, pairs) = asked.unwrap_or_default();
        check_pairs(1, pairs.len())?;
        let pairs = {
            let open = self.open.read();
            let now = |pair: &Arc<NamedPair>| pair_now(pair, open.of(pair.number), request.now_ms);
            pairs.iter().map(now).collect()
        };
        let part = Part { number: 0, last: true, as_of_ms, complete_since_ms, pairs };
        let encode = |part| wire::encode(&Frame::Overview(part)).map_err(|_| ReadError::TooLarge);
        split(part, max_bytes.min(MAX_CHUNK_BYTES)).into_iter().map(encode).collect()
    }
}

fn pair_now<'a>(pair: &NamedPair, all: impl Iterator<Item = &'a Open>, now_ms: i64) -> PairNow {
    let NamedPair { bot, channel, .. } = pair;
    let mut now = PairNow::without(Pair { bot: bot.clone(), channel: channel.clone() });
    all.for_each(|open| count(&mut now, open, now_ms));
    now
}

/// Counts a conversation, if it is open at that moment.
fn count(now: &mut PairNow, open: &Open, now_ms: i64) {
    // An instant that is still to come is no time ago.
    let is_within = |ms: i64, limit_ms| now_ms.saturating_sub(ms) <= limit_ms;
    if !is_within(open.last_ms, open.idle_ms) {
        return;
    }
    now.open += 1;
    now.with_operator += u32::from(open.is_with_operator);
    now.unanswered += u32::from(open.is_unanswered);
    if let Some(requested_ms) = open.requested_ms {
        now.waiting += 1;
        if open.received_ms.is_some_and(|ms| is_within(ms, ACTIVE_MS)) {
            now.waiting_active += 1;
            let oldest_ms = now.oldest_request_ms.map_or(requested_ms, |ms| ms.min(requested_ms));
            now.oldest_request_ms = Some(oldest_ms);
        }
    }
}

/// Splits a part into numbered ones whose messages have at most `max_bytes`, as far as a pair fits.
fn split(whole: Part, max_bytes: usize) -> Vec<Part> {
    let Part { as_of_ms, complete_since_ms, .. } = whole;
    let new = |number| Part { number, last: false, as_of_ms, complete_since_ms, pairs: Vec::new() };
    let (mut parts, mut part, mut bytes) = (Vec::new(), new(0), PART_BYTES);
    for pair in whole.pairs {
        let Pair { bot, channel } = &pair.pair;
        let more = PAIR_BYTES + bot.as_str().len() + channel.as_str().len();
        if bytes + more > max_bytes && !part.pairs.is_empty() {
            let next = new(part.number + 1);
            parts.push(std::mem::replace(&mut part, next));
            bytes = PART_BYTES;
        }
        part.pairs.push(pair);
        bytes += more;
    }
    part.last = true;
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_MS: i64 = 60 * 1000;

    fn open(minutes: i64, idle_minutes: i64) -> Open {
        Open {
            last_ms: minutes * MINUTE_MS,
            idle_ms: idle_minutes * MINUTE_MS,
            requested_ms: None,
            is_with_operator: false,
            is_unanswered: false,
            received_ms: None,
        }
    }

    fn pair(number: u32) -> NamedPair {
        let bot = format!("{number:064}").parse().unwrap();
        NamedPair { number, bot, channel: "c".repeat(64).parse().unwrap() }
    }

    /// Open, waiting, active, with an operator, unanswered; the minute of the oldest request.
    type Counts = ([u32; 5], Option<i64>);

    fn counts(all: &[Open], now_ms: i64) -> Counts {
        let now = pair_now(&pair(0), all.iter(), now_ms);
        let PairNow { open, waiting, waiting_active, with_operator, unanswered, .. } = now;
        let oldest = now.oldest_request_ms.map(|ms| ms / MINUTE_MS);
        ([open, waiting, waiting_active, with_operator, unanswered], oldest)
    }

    #[test]
    fn counts_at_the_edges() {
        let talks = open(0, 30);
        let unanswered = Open { is_unanswered: true, received_ms: Some(0), ..talks };
        let with_operator = Open { is_with_operator: true, ..open(0, 24 * 60) };
        let waits = Open { requested_ms: Some(-7 * MINUTE_MS), ..open(0, 24 * 60) };
        let asks = Open { received_ms: Some(0), is_unanswered: true, ..waits };
        let half = 30 * MINUTE_MS;
        let day = 24 * 60 * MINUTE_MS;
        for (open, now_ms, expect) in [
            (talks, half, ([1, 0, 0, 0, 0], None)),
            (talks, half + 1, ([0, 0, 0, 0, 0], None)),
            (talks, -1, ([1, 0, 0, 0, 0], None)),
            (talks, i64::MIN, ([1, 0, 0, 0, 0], None)),
            (talks, i64::MAX, ([0, 0, 0, 0, 0], None)),
            (unanswered, half, ([1, 0, 0, 0, 1], None)),
            (unanswered, half + 1, ([0, 0, 0, 0, 0], None)),
            (with_operator, day, ([1, 0, 0, 1, 0], None)),
            (with_operator, day + 1, ([0, 0, 0, 0, 0], None)),
            (waits, 0, ([1, 1, 0, 0, 0], None)),
            (waits, day, ([1, 1, 0, 0, 0], None)),
            (waits, day + 1, ([0, 0, 0, 0, 0], None)),
            (asks, -1, ([1, 1, 1, 0, 1], Some(-7))),
            (asks, half, ([1, 1, 1, 0, 1], Some(-7))),
            // Still waiting, but its user has not written for longer than that.
            (asks, half + 1, ([1, 1, 0, 0, 1], None)),
        ] {
            assert_eq!(counts(&[open], now_ms), expect, "{open:?} at {now_ms}");
        }
        // The oldest request of all does not count if its conversation is not active.
        let older = Open { requested_ms: Some(-9 * MINUTE_MS), ..asks };
        let silent = Open { requested_ms: Some(-99 * MINUTE_MS), ..waits };
        let all = [asks, older, silent, with_operator, talks];
        assert_eq!(counts(&all, 0), ([5, 3, 2, 1, 2], Some(-9)));
    }

    #[test]
    fn parts_fit_into_messages() {
        for (count, max_bytes) in [(0, 1), (1, 1), (3, 1), (1_000, 8 * 1024), (1_000, 1 << 20)] {
            let mut all: Vec<PairNow> =
                (0..count).map(|n| pair_now(&pair(n), std::iter::empty(), 0)).collect();
            for now in &mut all {
                let most = u32::MAX;
                (now.open, now.waiting, now.waiting_active) = (most, most, most);
                (now.with_operator, now.unanswered) = (most, most);
                now.oldest_request_ms = Some(i64::MIN);
            }
            let (as_of_ms, complete_since_ms) = (i64::MIN, Some(i64::MIN));
            let pairs = all.clone();
            let whole = Part { number: 0, last: true, as_of_ms, complete_since_ms, pairs };
            let parts = split(whole, max_bytes);
            let least = if max_bytes == 1 { 0 } else { max_bytes - 200 };
            for (number, part) in (0..).zip(&parts) {
                assert_eq!(part.number, number);
                assert_eq!(part.last, part.number as usize + 1 == parts.len());
                assert_eq!((part.as_of_ms, part.complete_since_ms), (as_of_ms, complete_since_ms));
                let bytes = wire::encode(&Frame::Overview(part.clone())).unwrap().len();
                assert!(bytes <= max_bytes.max(250), "{bytes} of {max_bytes}");
                assert!(part.last || bytes >= least, "{bytes} of {max_bytes}");
            }
            let pairs: Vec<PairNow> = parts.into_iter().flat_map(|part| part.pairs).collect();
            assert_eq!(pairs, all);
        }
    }
}
