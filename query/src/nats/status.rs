//! Answers requests for this program's status over NATS (`botstats status`).

use async_nats::Client;
use botstats_common::io::readiness::Readiness;
use botstats_common::names::STATUS_SUBJECT;
use botstats_common::status::Status;
use botstats_common::zones;
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

/// Answers until the token is cancelled.
pub(crate) async fn answer(
    client: Client,
    instance: String,
    readiness: Readiness,
    stop: CancellationToken,
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
    loop {
        let message = tokio::select! {
            () = stop.cancelled() => return,
            message = asked.next() => message,
        };
        let Some(message) = message else {
            return;
        };
        let missing = readiness.all_missing();
        let status = Status {
            program: "query".to_owned(),
            instance: instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: missing.is_empty(),
            missing,
            limited: readiness.all_limited(),
            zones: Some(zones::release().to_owned()),
            ingest: None,
        };
        if let (Some(reply), Ok(json)) = (message.reply, serde_json::to_vec(&status)) {
            // The program that asked may be gone already.
            let _sent = client.publish(reply, json.into()).await;
        }
    }
}
