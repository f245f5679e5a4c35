//! What the programs say of themselves.

use std::time::Duration;

use botstats_common::names::STATUS_SUBJECT;
use botstats_common::status::Status;
use futures::StreamExt as _;

/// How long the answers to one request are collected.
const STATUS_WAIT: Duration = Duration::from_millis(500);

/// What every program says of itself.
pub async fn statuses(client: &async_nats::Client) -> Vec<Status> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.expect("an inbox");
    let sent = client.publish_with_reply(STATUS_SUBJECT, inbox, "".into());
    sent.await.expect("a request");
    let mut statuses = Vec::new();
    while let Ok(Some(answer)) = tokio::time::timeout(STATUS_WAIT, answers.next()).await {
        if answer.status.is_some() {
            break;
        }
        statuses.push(serde_json::from_slice(&answer.payload).expect("a status"));
    }
    statuses
}
