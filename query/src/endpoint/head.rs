//! The head of a request: how large it is, and whether it is HTTP as it should be.
//!
//! *Why* measured as it arrives: the parser drops white space around values and empty lines before the
//! request, so that what it gives says too little.

use std::collections::VecDeque;
use std::sync::Arc;

use http::Version;
use http::header::{HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Authority;
use parking_lot::Mutex;

use crate::problem::Problem;
use crate::question::Methods;

/// The most fields in a request's head.
pub const MAX_HEAD_FIELDS: usize = 64;
/// The largest head of a request, in bytes.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The size of a head as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadSize {
    /// All bytes, to the end of the empty line.
    pub bytes: usize,
    /// The lines after the first one.
    pub fields: usize,
}

/// Measures the heads that a connection brings. All clones are one.
///
/// A body would be taken for heads: a connection ends after a request that has one.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Mutex<Measured>>);

#[derive(Debug, Default)]
struct Measured {
    whole: VecDeque<HeadSize>,
    /// All that were ever whole.
    heads: u64,
    bytes: usize,
    lines: usize,
    /// Whether the line that is arriving has anything but its end.
    in_line: bool,
}

impl Meter {
    /// Takes the next bytes that arrived.
    pub fn feed(&self, bytes: &[u8]) {
        let mut measured = self.0.lock();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            measured.bytes += part.len();
            measured.in_line |= part.iter().any(|byte| !b"\r\n".contains(byte));
            if part.ends_with(b"\n") {
                measured.end_line();
            }
        }
    }

    /// How many heads were whole so far, and whether another has begun.
    #[must_use]
    pub fn progress(&self) -> (u64, bool) {
        let measured = self.0.lock();
        (measured.heads, measured.bytes > 0)
    }

    /// The size of the next head that is whole.
    #[must_use]
    pub fn next(&self) -> Option<HeadSize> {
        self.0.lock().whole.pop_front()
    }
}

impl Measured {
    fn end_line(&mut self) {
        if std::mem::take(&mut self.in_line) {
            self.lines += 1;
        } else if let Some(fields) = self.lines.checked_sub(1) {
            self.whole.push_back(HeadSize { bytes: self.bytes, fields });
            self.heads += 1;
            (self.bytes, self.lines) = (0, 0);
        }
    }
}

/// Checks what comes before any path: the limits, the one proper Host field that HTTP/1.1 needs
/// (RFC 9112, 3.2), the method (the path says only which are allowed), and that no body is framed
/// by a transfer coding, which smuggles requests past whatever stands before this service (RFC
/// 9112, 11.2).
///
/// # Errors
/// The first that is wrong.
pub fn check(head: &Parts, size: Option<HeadSize>, methods: Methods) -> Result<(), Problem> {
    let fits = |size: HeadSize| size.bytes <= MAX_HEAD_BYTES && size.fields <= MAX_HEAD_FIELDS;
    if !size.is_none_or(fits) {
        return Err(Problem::HeadTooLarge);
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    let proper = |host: &http::HeaderValue| {
        host.is_empty()
            || Authority::try_from(host.as_bytes()).is_ok_and(|host| !host.as_str().contains('@'))
    };
    match (hosts.next(), hosts.next()) {
        (None, _) if head.version != Version::HTTP_11 => {}
        (Some(host), None) if proper(host) => {}
        _ => return Err(Problem::BadRequest("one proper Host field is needed")),
    }
    if !methods.allow(&head.method) {
        return Err(Problem::MethodNotAllowed(methods));
    }
    if head.headers.contains_key(TRANSFER_ENCODING) {
        return Err(Problem::BadRequest("nothing here takes a Transfer-Encoding"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_measured_however_they_arrive() {
        let size = |bytes, fields| HeadSize { bytes, fields };
        for (bytes, expected) in [
            (&b""[..], vec![]),
            (b"GET / HTTP/1.1\r\n", vec![]),
            (b"GET / HTTP/1.1\r\n\r\n", vec![size(18, 0)]),
            (b"GET / HTTP/1.1\r\na: b\r\nc:   \r\n\r\n", vec![size(31, 2)]),
            (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", vec![size(22, 0)]),
            (b"GET / HTTP/1.1\na:b\n\n", vec![size(20, 1)]),
            (
                b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\na: b\r\n\r\nGET",
                vec![size(18, 0), size(24, 1)],
            ),
        ] {
            for piece in 1..=bytes.len().max(1) {
                let meter = Meter::default();
                bytes.chunks(piece).for_each(|piece| meter.feed(piece));
                let measured: Vec<_> = std::iter::from_fn(|| meter.next()).collect();
                assert_eq!(measured, expected, "{:?} by {piece}", String::from_utf8_lossy(bytes));
            }
        }
    }

    #[test]
    fn what_is_checked_before_the_path() {
        let bad_host = || Err(Problem::BadRequest("one proper Host field is needed"));
        let size = |bytes, fields| Some(HeadSize { bytes, fields });
        let small = size(100, 3);
        let check = |size, version, method: &str, fields: &[(&str, &str)]| {
            let mut request = http::Request::builder().method(method).version(version).uri("/");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            super::check(&request.body(()).unwrap().into_parts().0, size, Methods::Get)
        };
        let v11 = Version::HTTP_11;
        for host in ["a", "a.example:8080", "127.0.0.1", "[::1]:80", ""] {
            assert_eq!(check(small, v11, "GET", &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["a b", "a/b", "a@b", "a?b"] {
            assert_eq!(check(small, v11, "GET", &[("host", host)]), bad_host(), "{host}");
        }
        let host = ("host", "a");
        assert_eq!(check(small, v11, "GET", &[]), bad_host());
        assert_eq!(check(small, v11, "GET", &[host, host]), bad_host());
        assert_eq!(check(small, Version::HTTP_10, "GET", &[]), Ok(()));
        assert_eq!(check(small, Version::HTTP_10, "GET", &[host, host]), bad_host());
        for method in ["HEAD", "POST", "CONNECT", "get", "FOO"] {
            let coded = [host, ("transfer-encoding", "chunked")];
            let refused = Err(Problem::MethodNotAllowed(Methods::Get));
            assert_eq!(check(small, v11, method, &coded), refused);
        }
        let coded = [host, ("transfer-encoding", "chunked")];
        assert!(matches!(check(small, v11, "GET", &coded), Err(Problem::BadRequest(_))));
        for (size, fits) in [
            (size(MAX_HEAD_BYTES, MAX_HEAD_FIELDS), true),
            (size(MAX_HEAD_BYTES + 1, 3), false),
            (size(100, MAX_HEAD_FIELDS + 1), false),
        ] {
            assert_eq!(check(size, v11, "GET", &[host]).is_ok(), fits, "{size:?}");
        }
    }

    #[test]
    fn the_path_says_which_methods_are_allowed() {
        for (method, get, get_and_head) in [
            ("GET", true, true),
            ("HEAD", false, true),
            ("OPTIONS", false, false),
            ("get", false, false),
        ] {
            let request = http::Request::builder().method(method).uri("/").header("host", "a");
            let (head, ()) = request.body(()).unwrap().into_parts();
            for (methods, allowed) in [(Methods::Get, get), (Methods::GetAndHead, get_and_head)] {
                let expected =
                    if allowed { Ok(()) } else { Err(Problem::MethodNotAllowed(methods)) };
                assert_eq!(super::check(&head, None, methods), expected, "{method}");
            }
        }
    }
}
