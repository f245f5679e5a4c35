//! Clients that ask query services with a throttle window all the time: through every fault an
//! account gets at most one 200 a window, and a call that gets none is refused soon.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use botstats_common::io::{clock, stop};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use botstats_tests::generate::Dice;
use botstats_tests::harness::{Login, head_as, send};

/// The window of the services that they ask.
pub const WINDOW: Duration = Duration::from_secs(2);
/// Clients of each service. Each of them asks about the same accounts in the same order as its like
/// at the other services: so they race.
const CALLERS: u64 = 2;
/// Pause of a client between two calls.
const PAUSE: Duration = Duration::from_millis(25);
/// The longest that a client waits for an answer.
const LIMIT: Duration = Duration::from_secs(20);
/// A question that is quickly answered.
const PATH: &str = "/analytics/statistics/account/*/13/day/1";

/// One request with its answer.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    account: usize,
    sent: Instant,
    answered: Instant,
    status: u16,
}

/// Clients at work.
pub struct Callers {
    stop: CancellationToken,
    tasks: Vec<JoinHandle<Vec<Call>>>,
}

/// How many calls had which answer.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// Answered 200.
    pub given: usize,
    /// Answered 429.
    pub refused: usize,
    /// Answered 503.
    pub unavailable: usize,
    /// The longest that a 503 took.
    pub slowest_unavailable: Duration,
}

impl Callers {
    /// Starts them; the services' addresses may change.
    pub fn start(seed: u64, addresses: &[watch::Receiver<SocketAddr>], logins: &[Login]) -> Self {
        let stop = CancellationToken::new();
        let caller = |address: &watch::Receiver<SocketAddr>, number| {
            let (address, logins, stop) = (address.clone(), logins.to_vec(), stop.clone());
            let mut dice = Dice::new(seed.wrapping_add(number));
            stop::spawn(async move {
                let mut calls = Vec::new();
                while !stop.is_cancelled() {
                    let account = dice.index(logins.len());
                    let head = head_as(&logins[account].token, PATH, &[]);
                    let to = *address.borrow();
                    let sent = clock::monotonic();
                    // A service that was just killed does not answer.
                    if let Ok(answer) = send(to, &head, LIMIT).await {
                        let (answered, status) = (clock::monotonic(), answer.status);
                        calls.push(Call { account, sent, answered, status });
                    }
                    sleep(PAUSE).await;
                }
                calls
            })
        };
        let tasks =
            addresses.iter().flat_map(|a| (0..CALLERS).map(|n| caller(a, n)).collect::<Vec<_>>());
        Self { tasks: tasks.collect(), stop }
    }

    /// Stops them, and checks what they were told.
    pub async fn finish(self) -> Answers {
        self.stop.cancel();
        let mut calls = Vec::new();
        for task in self.tasks {
            calls.extend(task.await.expect("a client that does not panic"));
        }
        calls.sort_by_key(|call| (call.account, call.answered));
        check(&calls, WINDOW);
        let of = |status| calls.iter().filter(move |call| call.status == status);
        Answers {
            given: of(200).count(),
            refused: of(429).count(),
            unavailable: of(503).count(),
            slowest_unavailable: of(503).map(|c| c.answered - c.sent).max().unwrap_or_default(),
        }
    }
}

/// Checks calls that are sorted by account and answer.
///
/// When a call was used is not known from outside, only that it was between question and answer:
/// the check takes the end of that range which can't accuse wrongly.
fn check(calls: &[Call], window: Duration) {
    for call in calls {
        assert!(matches!(call.status, 200 | 429 | 503), "{call:?}");
    }
    let given: Vec<&Call> = calls.iter().filter(|call| call.status == 200).collect();
    for pair in given.windows(2).filter(|pair| pair[0].account == pair[1].account) {
        let at_most = pair[1].answered - pair[0].sent;
        assert!(at_most >= window, "two calls of a window within {at_most:?}: {pair:?}");
    }
}
