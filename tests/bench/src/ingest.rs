//! How far a running ingest is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::Client;
use botstats_common::io::clock;
use botstats_common::names::STATUS_SUBJECT;
use botstats_common::status::Status;
use botstats_ingest::testing::STORE_FILE;

/// How long it may take to count what there is.
const LIMIT: Duration = Duration::from_secs(600);
/// How often ingest is asked how far it is: seldom, as that costs it time too.
const ASK_EVERY: Duration = Duration::from_millis(10);

/// Waits until the one ingest that runs has applied that sequence.
pub(super) async fn applied(client: &Client, sequence: u64) {
    let begun = clock::monotonic();
    while applied_sequence(client).await.is_none_or(|applied| applied < sequence) {
        assert!(begun.elapsed() < LIMIT, "sequence {sequence} is not applied within {LIMIT:?}");
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// The last sequence that the one ingest that runs has applied; none before it answers.
pub(super) async fn applied_sequence(client: &Client) -> Option<u64> {
    let answer = client.request(STATUS_SUBJECT, "".into()).await.ok()?;
    let status: Status = serde_json::from_slice(&answer.payload).ok()?;
    Some(status.ingest?.sequence)
}

/// The store's file of an ingest on that folder.
pub(super) fn data_file(folder: &Path) -> PathBuf {
    folder.join("data").join(STORE_FILE)
}
