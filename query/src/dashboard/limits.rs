//! The limits of the page, each of one replica: questions of a token from one address, and live
//! streams of a token and of an account.
//!
//! *Why* a sliding window and not a token bucket: the contract promises that no 60 seconds have
//! more than 120 questions. A token bucket would let nearly twice as many through.
//!
//! Behind a proxy the address is the proxy's: then all viewers with one token share its questions.
//! The address in a field such as `X-Forwarded-For` is not used, because any client can write it.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use botstats_common::ids::Account;
use botstats_common::secret::SecretHash;
use parking_lot::Mutex;

use crate::problem::Problem;
use crate::telemetry::METRICS;

/// The most questions of a token from one address within [`WINDOW`].
const MAX_QUESTIONS: usize = 120;
const WINDOW: Duration = Duration::from_secs(60);
/// The most pairs of a token and an address whose questions are remembered; beyond it the pair that
/// has been quiet for longest is forgotten. With 120 instants each this is 32 MiB.
const MAX_ASKERS: usize = 16 * 1024;
/// The most live streams of a token.
const MAX_OF_TOKEN: u32 = 16;
/// The most live streams of an account.
const MAX_OF_ACCOUNT: u32 = 64;
/// A viewer that was refused a stream asks again after 30 s: streams end when others leave the
/// page.
const STREAM_RETRY_S: u64 = 30;

/// The questions of the last minute.
#[derive(Debug, Default)]
pub(super) struct Questions(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    askers: HashMap<(SecretHash, IpAddr), VecDeque<Instant>>,
    /// When the askers without a question in the window were last dropped.
    swept: Option<Instant>,
}

impl Questions {
    /// Counts a question, unless there were too many.
    ///
    /// # Errors
    /// [`Problem::TooMany`], with the seconds after which the next question is answered.
    pub(super) fn count(
        &self,
        token: SecretHash,
        peer: IpAddr,
        now: Instant,
    ) -> Result<(), Problem> {
        let mut recent = self.0.lock();
        recent.sweep(now);
        let asker = (token, network(peer));
        if recent.askers.len() >= MAX_ASKERS && !recent.askers.contains_key(&asker) {
            recent.forget_the_quietest();
        }
        let asked = recent.askers.entry(asker).or_default();
        while asked.front().is_some_and(|at| now.saturating_duration_since(*at) >= WINDOW) {
            asked.pop_front();
        }
        match asked.front() {
            Some(first) if asked.len() >= MAX_QUESTIONS => {
                let left = WINDOW.saturating_sub(now.saturating_duration_since(*first));
                Err(Problem::TooMany {
                    what: "120 questions a minute are allowed for a token from one address",
                    retry_after_s: left.as_millis().div_ceil(1_000).try_into().unwrap_or(60),
                })
            }
            _ => {
                asked.push_back(now);
                Ok(())
            }
        }
    }
}

impl Recent {
    /// Once a window: drops the askers without a question in it.
    fn sweep(&mut self, now: Instant) {
        let is_old = |at: &Instant| now.saturating_duration_since(*at) >= WINDOW;
        if self.swept.as_ref().is_none_or(is_old) {
            self.swept = Some(now);
            self.askers.retain(|_, asked| asked.back().is_some_and(|last| !is_old(last)));
        }
    }

    fn forget_the_quietest(&mut self) {
        let quietest = self.askers.iter().min_by_key(|(_, asked)| asked.back().copied());
        if let Some(asker) = quietest.map(|(asker, _)| *asker) {
            self.askers.remove(&asker);
        }
    }
}

/// The address as one client has it: of IPv6 the first 64 bits, below which a client chooses
/// freely.
fn network(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

/// The open live streams. All clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    tokens: HashMap<SecretHash, u32>,
    accounts: HashMap<Account, u32>,
}

/// One of the streams that the limits allow; free again when it is dropped.
#[derive(Debug)]
pub(super) struct OpenStream {
    streams: Streams,
    token: SecretHash,
    account: Account,
}

impl Streams {
    /// A place for one more stream.
    pub(super) fn open(&self, token: SecretHash, account: &Account) -> Result<OpenStream, Problem> {
        let mut open = self.0.lock();
        let too_many = |what| Problem::TooMany { what, retry_after_s: STREAM_RETRY_S };
        if open.tokens.get(&token).is_some_and(|streams| *streams >= MAX_OF_TOKEN) {
            return Err(too_many("16 live streams of a token are allowed"));
        }
        if open.accounts.get(account).is_some_and(|streams| *streams >= MAX_OF_ACCOUNT) {
            return Err(too_many("64 live streams of an account are allowed"));
        }
        *open.tokens.entry(token).or_default() += 1;
        *open.accounts.entry(account.clone()).or_default() += 1;
        METRICS.live_streams.increment(1);
        Ok(OpenStream { streams: self.clone(), token, account: account.clone() })
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock();
        take_one(&mut open.tokens, &self.token);
        take_one(&mut open.accounts, &self.account);
        METRICS.live_streams.decrement(1);
    }
}

fn take_one<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use botstats_common::io::clock;

    use super::*;

    fn token(name: &str) -> SecretHash {
        SecretHash::of(name)
    }

    #[test]
    fn no_minute_has_more_than_120_questions() {
        let (questions, start) = (Questions::default(), clock::monotonic());
        let at = |ms: u64| start + Duration::from_millis(ms);
        let ask =
            |name, peer: &str, ms| questions.count(token(name), peer.parse().unwrap(), at(ms));
        let retry = |asked: Result<(), Problem>| asked.unwrap_err().retry_after_s().unwrap();
        for number in 0..120 {
            ask("a", "10.0.0.1", number * 100).unwrap();
        }
        assert_eq!(retry(ask("a", "10.0.0.1", 12_000)), 48);
        assert_eq!(retry(ask("a", "10.0.0.1", 59_999)), 1);
        // Another token and another address have questions of their own.
        ask("b", "10.0.0.1", 12_000).unwrap();
        ask("a", "10.0.0.2", 12_000).unwrap();
        // The refused ones did not count, and one comes free every 100 ms.
        ask("a", "10.0.0.1", 60_000).unwrap();
        assert_eq!(retry(ask("a", "10.0.0.1", 60_050)), 1);
        ask("a", "10.0.0.1", 60_100).unwrap();
        assert!(ask("a", "10.0.0.1", 60_100).is_err());
    }

    #[test]
    fn addresses_of_one_client_are_one() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("::1"), "::");
    }

    #[test]
    fn askers_are_bounded_and_forgotten() {
        let (questions, start) = (Questions::default(), clock::monotonic());
        let count = |number: u32, ms: u64| {
            let at = start + Duration::from_millis(ms);
            questions.count(token("a"), IpAddr::from(number.to_be_bytes()), at).unwrap();
            questions.0.lock().askers.len()
        };
        for number in 0..=u32::try_from(MAX_ASKERS).unwrap() {
            assert!(count(number, u64::from(number / 1_000)) <= MAX_ASKERS);
        }
        assert_eq!(questions.0.lock().askers.len(), MAX_ASKERS);
        assert_eq!(count(7, 200_000), 1);
    }

    #[test]
    fn streams_of_a_token_and_of_an_account() {
        let (streams, account) = (Streams::default(), "a".parse().unwrap());
        let open = |name: &str| streams.open(token(name), &account);
        let mut all: Vec<OpenStream> = (0..16).map(|_| open("t0").unwrap()).collect();
        assert!(open("t0").is_err());
        for name in ["t1", "t2", "t3"] {
            all.extend((0..16).map(|_| open(name).unwrap()));
        }
        assert!(open("t4").is_err(), "64 of the account");
        assert!(streams.open(token("t4"), &"b".parse().unwrap()).is_ok());
        all.pop();
        all.push(open("t4").unwrap());
        drop(all);
        let left = streams.0.lock();
        assert!(left.tokens.is_empty() && left.accounts.is_empty());
    }
}
