//! Answers requests for a program's status (`botstats status`).

use async_nats::Client;
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::names::STATUS_SUBJECT;
use crate::status::Status;

/// Answers with what `status` gives, until the token is cancelled.
pub async fn answer_status<F: Future<Output = Status>>(
    client: Client,
    stop: CancellationToken,
    status: impl Fn() -> F,
) {
    let mut asked = match client.subscribe(STATUS_SUBJECT).await {
        Ok(asked) => asked,
        Err(error) => {
            tracing::warn!(
                "cannot subscribe to {STATUS_SUBJECT}, so `botstats status` does not show this program: {error}"
            );
            return;
        }
    };
    while let Some(Some(message)) = stop.run_until_cancelled(asked.next()).await {
        let status = status().await;
        if let (Some(reply), Ok(json)) = (message.reply, serde_json::to_vec(&status)) {
            // The program that asked may be gone already.
            let _sent = client.publish(reply, json.into()).await;
        }
    }
}
