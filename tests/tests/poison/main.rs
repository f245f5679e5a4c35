//! Messages that no client library would send: each is judged and passed, and never blocks what
//! follows.

use std::time::Duration;

use anyhow::Context as _;
use botstats_common::shell::clock;
use botstats_tests::harness::{Outgoing, PATIENCE, Stage, event, until};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// A NATS connection spoken by hand.
struct Raw {
    socket: BufReader<TcpStream>,
}

impl Raw {
    async fn connect(port: u16) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        let mut raw = Self { socket: BufReader::new(socket) };
        raw.line_with("INFO").await?;
        let options = json!({"verbose": false, "headers": true, "no_responders": true});
        raw.write(format!("CONNECT {options}\r\nSUB acks 1\r\nPING\r\n").as_bytes()).await?;
        raw.line_with("PONG").await?;
        Ok(raw)
    }

    async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.socket.get_mut().write_all(bytes).await?)
    }

    async fn line_with(&mut self, word: &str) -> anyhow::Result<String> {
        loop {
            let mut line = String::new();
            let reading = self.socket.read_line(&mut line);
            let read = tokio::time::timeout(Duration::from_secs(5), reading).await;
            anyhow::ensure!(read.with_context(|| format!("no {word}"))?? > 0, "closed");
            if line.contains(word) {
                return Ok(line);
            }
        }
    }

    /// Publishes with these header bytes, whatever they are, and waits until the stream has it.
    async fn publish(&mut self, header: &[u8], event: &Outgoing) -> anyhow::Result<()> {
        let (subject, _, payload) = event;
        let (head, all) = (header.len(), header.len() + payload.len());
        self.write(format!("HPUB {subject} acks {head} {all}\r\n").as_bytes()).await?;
        self.write(&[header, payload, b"\r\n"].concat()).await?;
        let ack = self.line_with("stream").await?;
        anyhow::ensure!(ack.contains("\"seq\""), "{ack}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_header_bytes_block_nothing() -> anyhow::Result<()> {
    let stage = Stage::start("0s", 1).await;
    let status = stage.site.applied(PATIENCE).await;
    let accepted_before = status.events.get("accepted").copied().unwrap_or_default();
    let mut raw = Raw::connect(stage.site.nats.port()).await?;
    let headers: [&[u8]; 10] = [
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\n: no name\r\n\r\n",
        b"NATS/1.0\r\nname with space: x\r\n\r\n",
        b"NATS/1.0\r\nce-id: \xff\xfe\r\n\r\n",
        b"NATS/1.0\r\n\xff\xfe: x\r\n\r\n",
        b"NATS/1.0\r\nce-id: a\0b\r\n\r\n",
        b"NATS/9.9\r\nce-id: x\r\n\r\n",
        b"not headers at all",
        b"\r\n\r\n",
        b"NATS/1.0 999999\r\n\r\n",
    ];
    let mut good = 0;
    for (number, header) in headers.into_iter().enumerate() {
        let of = |id: String| {
            let place = ["acct-0", "b1", "web"];
            event(place, "goal.reached", clock::now_ms(), &id, &json!({"goal": "order"}))
        };
        raw.publish(header, &of(format!("bad-{number}"))).await?;
        raw.publish(b"NATS/1.0\r\n\r\n", &of(format!("good-{number}"))).await?;
        good += 1;
    }
    let status = stage.site.applied(PATIENCE).await;
    let last = stage.site.last_sequence().await;
    assert_eq!(status.events.values().sum::<u64>(), last, "each is judged once: {status:?}");
    let accepted = status.events.get("accepted").copied().unwrap_or_default() - accepted_before;
    let letters = status.events.get("dead_letter").copied().unwrap_or_default();
    assert_eq!(accepted + letters, 2 * good, "{status:?}");
    assert!(letters > 0, "bytes that are no headers are not an event: {status:?}");

    // The good ones count, and the ingest still answers.
    until("an answer with all good events", PATIENCE, async || {
        let answer = stage.ask(&stage.logins[0]).await;
        if answer.status != 200 {
            return None;
        }
        let rows = answer.json();
        let goals = rows.as_array()?.iter().filter(|row| row["EventType"] == 12);
        let goals: u64 = goals.filter_map(|row| row["Count"].as_u64()).sum();
        // One goal was there before.
        (goals == 1 + accepted && accepted >= good).then_some(())
    })
    .await;
    Ok(())
}
