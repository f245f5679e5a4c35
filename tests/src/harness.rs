//! The real thing for tests: a nats-server and the programs as child processes, each with a folder
//! of its own, on free ports of 127.0.0.1.
//!
//! *Invariants*: what is started here ends with its value, and also when the test is killed.
//! Nothing waits blindly: every wait is for a condition and has a limit.

mod accounts;
mod cluster;
mod configured;
mod http;
mod judge;
mod load;
mod lookalikes;
mod peer;
mod ports;
mod process;
mod proxy;
mod questions;
mod raw;
mod readers;
mod restored;
mod roles;
mod site;
mod slots;
mod splits;
mod stage;
mod status;
mod stream;
mod traffic;

use std::time::Duration;

use botstats_common::io::clock;
use tokio::sync::{Mutex, MutexGuard};

pub use crate::model::ALL;

pub use accounts::Accounts;
pub use configured::Configured;
pub use http::{
    Answer, Connection, becomes, get, get_as, head_as, head_of, metric, read_answer, send,
};
pub use judge::{check_counts, check_dead_letters};
pub use load::{allow_connections, flood, hammer, open};
pub use lookalikes::{account_entry, lookalikes};
pub use peer::{Behaviour, Peer};
pub use ports::free_ports;
pub use process::{Process, binary, run, signal};
pub use proxy::Proxy;
pub use questions::Judge;
pub use raw::{Raw, Said};
pub use readers::{Readers, Seen};
pub use restored::{Snapshot, copy};
pub use roles::{Roles, not_ready, ready, shipped_configuration, unready};
pub use site::{Login, Query, Site, connection};
pub use slots::{
    Held, as_one, check_chains, event_streams, held, held_of, map_slots_at, slots_by_stream,
};
pub use splits::{
    KilledSplit, SPLIT_LIMIT, SplitStep, botstats, cell_stream, done, introduce_slots,
    killed_split, split, verified,
};
pub use stage::{Stage, bot_tokens, event, large};
pub use status::statuses;
pub use stream::{Outgoing, header_map, outgoing, publish, publish_stubbornly, stored, stored_of};
pub use traffic::{Published, Receipt, Traffic};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(15);

/// How long anything may take that should take no time on a quiet machine.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Looks until there is something, or panics at the limit.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = clock::monotonic();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// A turn among the tests that load the machine or measure what it does: only one of them runs at a
/// time, since each would see the others' load. It ends with the value.
pub async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}
