//! HTTP over a plain socket: what is sent is what stands here, byte for byte.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::PATIENCE;

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
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
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The body as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of UTF-8")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// `Retry-After` in seconds.
    #[must_use]
    pub fn retry_after(&self) -> Option<u64> {
        self.header("retry-after")?.parse().ok()
    }
}

/// Sends these bytes on a new connection and reads one answer.
///
/// # Errors
/// If the connection fails, is closed before an answer, or the limit is reached.
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
#[must_use]
pub fn head_of(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut head = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// Asks with GET.
///
/// # Panics
/// If no answer comes.
pub async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let answer = send(address, &head_of(path, headers), PATIENCE).await;
    answer.unwrap_or_else(|e| panic!("no answer to GET {path}: {e}"))
}

/// Reads one answer; that to a HEAD request has no body.
///
/// # Errors
/// If the connection fails or is closed before the end of the head.
pub async fn read_answer(socket: &mut TcpStream, no_body: bool) -> io::Result<Answer> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            break end;
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let body = bytes.split_off(head_end + 4);
    let head = String::from_utf8(bytes).map_err(|_| bad("a head that is not UTF-8"))?;
    let mut lines = head.trim_end().split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|s| s.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| bad(&format!("no status line: {status_line}")))?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body, whole: true };
    if no_body {
        return Ok(answer);
    }
    if let Some(length) = answer.header("content-length") {
        let length: usize = length.parse().map_err(|_| bad("a bad content-length"))?;
        while answer.body.len() < length && socket.read_buf(&mut answer.body).await? > 0 {}
        answer.whole = answer.body.len() == length;
        answer.body.truncate(length);
    } else {
        let chunked = answer.header("transfer-encoding").as_deref() == Some("chunked");
        loop {
            match dechunk(&answer.body).filter(|_| chunked) {
                Some(body) => {
                    answer.body = body;
                    break;
                }
                None if socket.read_buf(&mut answer.body).await? == 0 => {
                    answer.whole = !chunked;
                    break;
                }
                None => {}
            }
        }
    }
    Ok(answer)
}

/// The body in these chunks, if the last one is there.
fn dechunk(mut bytes: &[u8]) -> Option<Vec<u8>> {
    // A cheap look first: most reads do not end the body.
    if !bytes.ends_with(b"0\r\n\r\n") {
        return None;
    }
    let mut body = Vec::new();
    loop {
        let line = find(bytes, b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        bytes = &bytes[line + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size + 2..)?;
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
