//! An installation on a copy of another's folders; NATS' own backup of a stream.

use std::path::Path;
use std::process::Command;

use async_nats::Client;
use futures::StreamExt as _;
use serde_json::{Value, json};

use super::Site;

impl Site {
    /// Starts another nats-server on a copy of the folder in which one that is stopped now keeps
    /// its streams. Nothing is made in it.
    pub async fn restored(store: &Path, window: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("nats")).expect("a folder for the server");
        copy(store, &folder.path().join("nats/jetstream"));
        Self::in_folder(folder, window, false).await
    }
}

/// Copies a folder, as `cp -a` does.
pub fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.expect("cp runs").success(), "{} to {}", from.display(), to.display());
}

/// What NATS' own backup of a stream consists of (NATS ADR-40).
pub struct Snapshot {
    config: Value,
    state: Value,
    chunks: Vec<Vec<u8>>,
}

async fn api(client: &Client, subject: String, request: &Value) -> Value {
    let answer = client.request(format!("$JS.API.{subject}"), request.to_string().into()).await;
    let answer = serde_json::from_slice(&answer.expect("an answer").payload);
    let answer: Value = answer.expect("an answer in JSON");
    assert!(answer.get("error").is_none(), "{subject}: {answer}");
    answer
}

impl Snapshot {
    /// Takes it, as `nats stream backup` does.
    pub async fn of(client: &Client, stream: &str) -> Self {
        let inbox = client.new_inbox();
        let mut arriving = client.subscribe(inbox.clone()).await.expect("an inbox");
        let request = json!({"deliver_subject": inbox, "no_consumers": true});
        let answer = api(client, format!("STREAM.SNAPSHOT.{stream}"), &request).await;
        let mut chunks = Vec::new();
        while let Some(chunk) = arriving.next().await {
            if chunk.payload.is_empty() {
                break;
            }
            chunks.push(chunk.payload.to_vec());
            if let Some(reply) = chunk.reply {
                client.publish(reply, "".into()).await.expect("an acknowledgement");
            }
        }
        Self { config: answer["config"].clone(), state: answer["state"].clone(), chunks }
    }

    /// Deletes the stream and restores it, as `nats stream restore` does.
    pub async fn put_back(&self, client: &Client, stream: &str) {
        api(client, format!("STREAM.DELETE.{stream}"), &json!({})).await;
        let request = json!({"config": self.config, "state": self.state});
        let answer = api(client, format!("STREAM.RESTORE.{stream}"), &request).await;
        let to = answer["deliver_subject"].as_str().expect("a subject").to_owned();
        for chunk in self.chunks.iter().cloned().chain([Vec::new()]) {
            client.request(to.clone(), chunk.into()).await.expect("the chunk is taken");
        }
    }
}
