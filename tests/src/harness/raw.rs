//! NATS over a plain socket: what a client library would refuse to send, or not tell.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// A connection to a nats-server.
pub struct Raw {
    socket: BufReader<TcpStream>,
}

impl Raw {
    pub async fn connect(port: u16, user: &str, password: &str) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let socket = TcpStream::connect(address).await.expect("a connection");
        let mut raw = Self { socket: BufReader::new(socket) };
        let login = json!({
            "user": user, "pass": password, "verbose": false, "pedantic": false,
            "headers": true, "no_responders": true,
        });
        let said = raw.tell(&format!("CONNECT {login}\r\n")).await;
        assert!(said.errors.is_empty(), "{user}: {said:?}");
        raw
    }

    /// Sends that, and gives what the server said until it had read it all.
    pub async fn tell(&mut self, bytes: &str) -> Said {
        let told = timeout(PATIENCE, self.tell_and_hear(bytes)).await;
        told.expect("the server answers").expect("a connection that holds")
    }

    /// Publishes; gives what the server said until it had read it.
    pub async fn publish(&mut self, subject: &str, reply: &str, payload: &str) -> Said {
        let size = payload.len();
        self.tell(&format!("PUB {subject} {reply} {size}\r\n{payload}\r\n")).await
    }

    async fn tell_and_hear(&mut self, bytes: &str) -> io::Result<Said> {
        self.socket.get_mut().write_all(bytes.as_bytes()).await?;
        self.socket.get_mut().write_all(b"PING\r\n").await?;
        let mut said = Said::default();
        loop {
            let mut line = String::new();
            if self.socket.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            if line == "PONG" {
                return Ok(said);
            } else if line == "PING" {
                self.socket.get_mut().write_all(b"PONG\r\n").await?;
            } else if let Some(error) = line.strip_prefix("-ERR ") {
                said.errors.push(error.trim_matches('\'').to_owned());
            } else if line.starts_with("MSG ") || line.starts_with("HMSG ") {
                let size = line.rsplit(' ').next().and_then(|size| size.parse().ok());
                let mut body = vec![0; size.unwrap_or(0) + "\r\n".len()];
                self.socket.read_exact(&mut body).await?;
                said.messages.push(String::from_utf8_lossy(&body).trim_end().to_owned());
            }
        }
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub errors: Vec<String>,
    /// Bodies of messages, with their headers.
    pub messages: Vec<String>,
}

impl Said {
    /// Whether it said that a right is missing.
    pub fn denied(&self) -> bool {
        self.errors.iter().any(|error| error.starts_with("Permissions Violation"))
    }
}
