//! What this program says of itself over NATS, for `botstats status`.

use async_nats::Client;
use botstats_common::io::internal::Readiness;
use botstats_common::names::STATUS_SUBJECT;
use botstats_common::status::Status;
use botstats_common::zones;
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

/// Answers until the token is cancelled.
pub async fn keep(client: Client, instance: String, readiness: Readiness, stop: CancellationToken) {
    let mut asked = match client.subscribe(STATUS_SUBJECT).await {
        Ok(asked) => asked,
        Err(error) => {
            tracing::warn!("this program's status can't be asked over NATS: {error}");
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
            zones: Some(zones::release().to_owned()),
            ingest: None,
        };
        if let (Some(reply), Ok(json)) = (message.reply, serde_json::to_vec(&status)) {
            // Who asked may be gone already.
            let _sent = client.publish(reply, json.into()).await;
        }
    }
}
