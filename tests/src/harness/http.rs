//! The HTTP client of all tests, over a plain socket: a request is sent byte for byte as the test
//! wrote it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{PATIENCE, until};

/// Room for what comes with one read.
const PIECE_BYTES: usize = 16 * 1024;

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Headers in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without transfer encoding; a content encoding stays.
    pub body: Vec<u8>,
    /// Whether the body came to its announced end.
    pub whole: bool,
}

impl Answer {
    /// The value of a header; several are joined with commas.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The code of the problem that this answer is: the last part of its type.
    pub fn problem(&self) -> String {
        let header = |name| self.header(name).unwrap_or_else(|| panic!("no {name}: {self:?}"));
        assert_eq!(header("content-type"), "application/problem+json", "{self:?}");
        assert_eq!(header("cache-control"), "no-store", "{self:?}");
        let body = self.json();
        assert_eq!(body["status"], self.status, "{body}");
        assert_eq!(body["request_id"], header("x-request-id"), "{body}");
        let text = |field: &str| match body[field].as_str() {
            Some(text) if !text.is_empty() => text,
            _ => panic!("no {field}: {body}"),
        };
        let (_title, _detail) = (text("title"), text("detail"));
        let code = text("type").strip_prefix("urn:botstats:problem:");
        code.unwrap_or_else(|| panic!("not a type of ours: {body}")).to_owned()
    }

    pub fn retry_after(&self) -> Option<u64> {
        self.header("retry-after")?.parse().ok()
    }
}

/// A connection that reads answers one after the other.
#[derive(Debug)]
pub struct Connection<S = TcpStream> {
    /// The socket, for what is sent.
    pub socket: S,
    /// Bytes that came behind the last answer.
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, buffer: Vec::with_capacity(PIECE_BYTES) })
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
    }
}

impl<S: AsyncRead + Unpin> Connection<S> {
    /// Reads the next answer; that to a HEAD request has no body. `None` if the server closes in
    /// order before an answer begins.
    pub async fn answer(&mut self, no_body: bool) -> io::Result<Option<Answer>> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let Some(end) = self.find(b"\r\n\r\n").await? else {
            let nothing = self.buffer.is_empty();
            return if nothing { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        };
        let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
        let head = String::from_utf8(head).map_err(|_| bad("a head that is not UTF-8"))?;
        let mut lines = head.trim_end().split("\r\n");
        let line = lines.next().unwrap_or_default();
        let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok());
        let status = status.ok_or_else(|| bad(&format!("no status line: {line}")))?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new(), whole: true };
        if no_body || status == 100 {
            return Ok(Some(answer));
        }
        if let Some(length) = answer.header("content-length") {
            let length = length.parse().map_err(|_| bad("a bad content-length"))?;
            answer.whole = self.take(length, &mut answer.body).await?;
        } else if answer.header("transfer-encoding").as_deref() == Some("chunked") {
            answer.whole = self.take_chunks(&mut answer.body).await?;
        } else {
            // The answer ends with the connection.
            self.take(usize::MAX, &mut answer.body).await?;
        }
        Ok(Some(answer))
    }

    /// Reads once more; false at the end of the connection.
    async fn more(&mut self) -> io::Result<bool> {
        Ok(tokio::time::timeout(PATIENCE, self.socket.read_buf(&mut self.buffer)).await?? > 0)
    }

    /// Where these bytes stand, once they have come.
    async fn find(&mut self, what: &[u8]) -> io::Result<Option<usize>> {
        loop {
            let found = self.buffer.windows(what.len()).position(|window| window == what);
            if found.is_some() || !self.more().await? {
                return Ok(found);
            }
        }
    }

    /// Moves that number of bytes into the body; false if there are fewer.
    async fn take(&mut self, length: usize, body: &mut Vec<u8>) -> io::Result<bool> {
        while self.buffer.len() < length && self.more().await? {}
        let there = length.min(self.buffer.len());
        body.extend(self.buffer.drain(..there));
        Ok(there == length)
    }

    /// Moves what is in the chunks into the body; false if the last chunk does not come.
    async fn take_chunks(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            let Some(end) = self.find(b"\r\n").await? else { return Ok(false) };
            let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let size = std::str::from_utf8(&line)
                .ok()
                .and_then(|line| usize::from_str_radix(line.split(';').next()?.trim(), 16).ok());
            let size = size.ok_or(io::ErrorKind::InvalidData)?;
            let whole = self.take(size, body).await? && self.take(2, &mut Vec::new()).await?;
            if !whole || size == 0 {
                return Ok(whole);
            }
        }
    }
}

/// Reads one answer; that to a HEAD request has no body.
pub async fn read_answer(socket: &mut TcpStream, no_body: bool) -> io::Result<Answer> {
    let mut connection = Connection { socket, buffer: Vec::with_capacity(PIECE_BYTES) };
    connection.answer(no_body).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Sends these bytes on a new connection and reads one answer.
pub async fn send(address: SocketAddr, bytes: &[u8], limit: Duration) -> io::Result<Answer> {
    let exchange = async {
        let mut socket = TcpStream::connect(address).await?;
        // The server may answer and close before it has read everything.
        let sent = socket.write_all(bytes).await;
        match (read_answer(&mut socket, bytes.starts_with(b"HEAD ")).await, sent) {
            (Ok(answer), _) => Ok(answer),
            (Err(_), Err(sending)) => Err(sending),
            (Err(reading), Ok(())) => Err(reading),
        }
    };
    tokio::time::timeout(limit, exchange)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The head of a GET request with these further headers, ready to send.
pub fn head_of(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// The same with a bearer token.
pub fn head_as(token: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let bearer = format!("Bearer {token}");
    head_of(path, &[&[("Authorization", bearer.as_str())], headers].concat())
}

pub async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    answered(address, path, &head_of(path, headers)).await
}

/// The same with a bearer token.
pub async fn get_as(
    token: &str,
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    answered(address, path, &head_as(token, path, headers)).await
}

/// Waits until a path gets this status.
pub async fn becomes(address: SocketAddr, token: &str, path: &str, status: u16) -> Answer {
    until(&format!("a {status} at {path}"), PATIENCE, async || {
        Some(get_as(token, address, path, &[]).await).filter(|answer| answer.status == status)
    })
    .await
}

/// The value of a series in the metrics of a program, by its name and labels.
pub async fn metric(internal: SocketAddr, series: &str) -> f64 {
    let metrics = get(internal, "/metrics", &[]).await;
    let line = metrics.text().lines().find_map(|line| line.strip_prefix(&format!("{series} ")));
    line.unwrap_or_else(|| panic!("no {series}")).trim().parse().expect("a number")
}

async fn answered(address: SocketAddr, path: &str, head: &[u8]) -> Answer {
    let answer = send(address, head, PATIENCE).await;
    answer.unwrap_or_else(|e| panic!("no answer to GET {path}: {e}"))
}
