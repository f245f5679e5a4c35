//! A NATS connection spoken by hand: it sends what no client library would.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// An answer that takes longer is none.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Raw {
    socket: BufReader<TcpStream>,
}

impl Raw {
    pub(crate) async fn connect(port: u16) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        let mut raw = Self { socket: BufReader::new(socket) };
        raw.line().await?;
        let options = json!({"verbose": false, "headers": true, "no_responders": true});
        raw.write(format!("CONNECT {options}\r\nSUB acks 1\r\nPING\r\n").as_bytes()).await?;
        while raw.line().await? != b"PONG" {}
        Ok(raw)
    }

    async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.socket.get_mut().write_all(bytes).await?)
    }

    async fn line(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut line = Vec::new();
        let reading = self.socket.read_until(b'\n', &mut line);
        let read = tokio::time::timeout(LIMIT, reading).await.context("no line")??;
        anyhow::ensure!(read > 0, "closed");
        Ok(line.trim_ascii_end().to_vec())
    }

    /// Publishes these bytes, whatever they are; gives the sequence under which the stream has
    /// them, or none if it does not take them.
    pub(crate) async fn publish(
        &mut self,
        subject: &[u8],
        headers: &[u8],
        payload: &[u8],
    ) -> anyhow::Result<Option<u64>> {
        self.send(subject, headers, payload).await?;
        self.acknowledged().await
    }

    /// Publishes without waiting; as many calls of [`Raw::acknowledged`] must follow.
    pub(crate) async fn send(
        &mut self,
        subject: &[u8],
        head: &[u8],
        body: &[u8],
    ) -> anyhow::Result<()> {
        let sizes = match head.len() {
            0 => format!(" acks {}\r\n", body.len()),
            size => format!(" acks {size} {}\r\n", size + body.len()),
        };
        let verb: &[u8] = if head.is_empty() { b"PUB " } else { b"HPUB " };
        self.write(&[verb, subject, sizes.as_bytes(), head, body, b"\r\n"].concat()).await
    }

    pub(crate) async fn acknowledged(&mut self) -> anyhow::Result<Option<u64>> {
        loop {
            let line = String::from_utf8_lossy(&self.line().await?).into_owned();
            let mut words = line.split(' ');
            match words.next() {
                Some("MSG" | "HMSG") => {
                    let size: usize = words.next_back().context("a size")?.parse()?;
                    let mut answer = vec![0; size + 2];
                    self.socket.read_exact(&mut answer).await?;
                    // Nobody listens there: the stream does not take that subject.
                    if answer.starts_with(b"NATS/1.0 503") {
                        return Ok(None);
                    }
                    let answer: Value = serde_json::from_slice(&answer)?;
                    return Ok(answer["seq"].as_u64().filter(|seq| *seq > 0));
                }
                Some("PING") => self.write(b"PONG\r\n").await?,
                Some("+OK" | "PONG" | "INFO") => {}
                // Said besides the answer that nobody takes it.
                Some("-ERR") if line.contains("Invalid Publish Subject") => {}
                _ => anyhow::bail!("the server says {line}"),
            }
        }
    }
}
