//! The profile `cells`: a split into a third cell while events are published and both queries are
//! asked, and a cell that is away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::jetstream;
use botstats_common::io::clock;
use botstats_common::io::nats::jetstream;
use botstats_common::slot::Slot;
use futures::future::join;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::clients::{RECEIVED, RECOVERY, all_are_counted, answered, ask, connect};
use super::confined;
use super::stack::{Stack, id};
use botstats_tests::harness::{event, publish_stubbornly, until};

/// The slots that the split moves, out of those of the second cell.
const MOVED: &str = "192-255";
/// An account of each cell: of the first, of the second, and one that moves to the third.
const ACCOUNTS: [&str; 3] = ["acct-1", "acme", "other"];
/// The pause between two events of an account.
const PAUSE: Duration = Duration::from_millis(20);

/// Events of all accounts from a publisher that knows nothing of cells.
struct Publisher {
    js: jetstream::Context,
    /// Events of each account that were acknowledged.
    sent: AtomicUsize,
}

impl Publisher {
    /// Publishes another event of each account; gives the longest time until an acknowledgement.
    async fn publish(&self) -> Duration {
        let number = self.sent.load(Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        for account in ACCOUNTS {
            let place = [account, "bot1", "web"];
            let id = format!("cells-{number}");
            let event = event(place, "message.received", clock::now_ms(), &id, &json!({}));
            let started = clock::monotonic();
            publish_stubbornly(&self.js, &event, RECOVERY).await;
            longest = longest.max(started.elapsed());
        }
        self.sent.store(number + 1, Ordering::Relaxed);
        longest
    }

    async fn publish_until(&self, stop: &CancellationToken) -> Duration {
        let mut longest = Duration::ZERO;
        while !stop.is_cancelled() {
            longest = longest.max(self.publish().await);
            tokio::time::sleep(PAUSE).await;
        }
        longest
    }
}

/// Asks both queries in turn until told to stop; gives how many answers there were.
async fn ask_until(stack: &Stack, tokens: &[String], stop: &CancellationToken) -> usize {
    let addresses = stack.addresses("cells-query").await;
    let mut answers = 0;
    for number in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let (address, token) =
            (addresses[number % addresses.len()], &tokens[number % tokens.len()]);
        let answer = ask(address, token, RECEIVED).await.expect("an answer");
        assert!(matches!(answer.status, 200 | 429), "{answer:?}");
        answers += 1;
    }
    answers
}

/// Brings up two cells, splits one of them, and stops the ingests of the third.
pub(super) async fn cells(stack: &Stack) -> String {
    stack.down(false).await;
    let started = clock::monotonic();
    stack.compose(&["--profile", "cells", "up", "-d", "cells-query"]).await;
    let up = started.elapsed();
    stack.healthy("cells-query", 2, RECOVERY).await;
    confined::check_all(stack).await;
    let slots = ACCOUNTS.map(|account| Slot::of_token(account).0);
    assert!(slots[0] < 128 && (128..192).contains(&slots[1]) && slots[2] >= 192, "{slots:?}");
    let mut tokens = Vec::new();
    for account in ACCOUNTS {
        let added = stack.botstats("cells-botstats", &["account", "add", account]).await;
        tokens.push(added["token"].as_str().expect("a token").to_owned());
    }
    let password = stack.password("cells-nats-1", "publisher").await;
    let client = connect(stack.cells_nats_port, "publisher", password).await;
    let publisher = Publisher { js: jetstream(&client, None), sent: AtomicUsize::new(0) };
    publisher.publish().await;
    all_are_counted(stack, "cells-query", &tokens, 1).await;

    let stop = CancellationToken::new();
    let split = async {
        let run = ["run", "--rm", "-T", "cells-operator", "cells", "split"];
        let what = ["BOTSTATS_EVENTS_2", "BOTSTATS_EVENTS_3", "--slots", MOVED];
        let arguments = [&run[..], &what].concat();
        let ingests =
            ["--profile", "cells-third", "up", "-d", "cells-ingest-3a", "cells-ingest-3b"];
        join(stack.compose(&arguments), stack.compose(&ingests)).await;
        stack.compose(&[&run[..5], &["verify"]].concat()).await;
        stop.cancel();
    };
    let at_work = join(publisher.publish_until(&stop), ask_until(stack, &tokens, &stop));
    let ((longest, answers), ()) = join(at_work, split).await;
    publisher.publish().await;
    let events = publisher.sent.load(Ordering::Relaxed);
    all_are_counted(stack, "cells-query", &tokens, events).await;

    for name in ["cells-ingest-3a", "cells-ingest-3b"] {
        let container = stack.container(name).await;
        stack.docker(&["stop", id(&container)]).await;
    }
    for address in stack.addresses("cells-query").await {
        let (_, answer) = answered(address, &tokens[1], RECEIVED).await;
        assert_eq!(answer.status, 200);
        let moved = until("a 503 for the cell that is away", RECOVERY, async || {
            let answer = ask(address, &tokens[2], RECEIVED).await.ok()?;
            (answer.status == 503).then_some(answer)
        });
        moved.await;
    }
    stack.compose(&["--profile", "cells-third", "start", "cells-ingest-3a"]).await;
    all_are_counted(stack, "cells-query", &tokens, events).await;
    format!(
        "up in {:.1} s; {events} events of each account and {answers} answers around a split, an \
         acknowledgement took {} ms at most; only the accounts of a cell that was away got 503",
        up.as_secs_f64(),
        longest.as_millis()
    )
}
