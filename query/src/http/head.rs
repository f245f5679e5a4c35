//! The head of a request: how large it is, and whether it is HTTP as it should be.
//!
//! *Why* measured as it arrives and not by hyper: hyper's own limits give a bare 431, and what it
//! parses has lost the white space around values and the empty lines before the request. The
//! contract promises a problem for heads beyond its limits *as they were sent*.

use std::collections::VecDeque;
use std::sync::Arc;

use http::header::{HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderValue, Method, Version};
use parking_lot::Mutex;

/// The most fields in a request's head.
const MAX_HEAD_FIELDS: usize = 64;
/// The largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Why a request is not answered by what its path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHead {
    /// Too many fields or bytes.
    TooLarge,
    /// Not HTTP as it should be.
    Malformed(&'static str),
    /// Another method than the allowed ones.
    MethodNotAllowed(Methods),
}

/// Methods that a path allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Methods {
    Get,
    GetAndHead,
}

impl Methods {
    /// As the field `Allow` lists them.
    pub(crate) fn names(self) -> &'static str {
        match self {
            Methods::Get => "GET",
            Methods::GetAndHead => "GET, HEAD",
        }
    }

    fn allow(self, method: &Method) -> bool {
        *method == Method::GET || (self == Methods::GetAndHead && *method == Method::HEAD)
    }
}

/// The size of a head as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadSize {
    /// All bytes, to the end of the empty line.
    bytes: usize,
    /// The lines after the first one.
    fields: usize,
}

/// Measures the heads that a connection brings, in their order. All clones are one.
///
/// It would take a body for heads, but a connection ends after a request that has a body.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadMeter(Arc<Mutex<Measured>>);

#[derive(Debug, Default)]
struct Measured {
    /// Heads that are whole and not taken yet.
    whole: VecDeque<HeadSize>,
    /// The number of all whole heads so far.
    heads: u64,
    /// Of the head that is arriving.
    bytes: usize,
    lines: usize,
    /// Whether the line that is arriving has anything but its end.
    in_line: bool,
}

impl HeadMeter {
    /// Takes the next bytes that arrived.
    pub(super) fn feed(&self, bytes: &[u8]) {
        let mut measured = self.0.lock();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            measured.bytes += part.len();
            measured.in_line |= part.iter().any(|byte| !b"\r\n".contains(byte));
            if part.ends_with(b"\n") {
                measured.end_line();
            }
        }
    }

    /// The number of whole heads so far, and whether another has begun.
    pub(super) fn progress(&self) -> (u64, bool) {
        let measured = self.0.lock();
        (measured.heads, measured.bytes > 0)
    }

    /// Takes the size of the next whole head.
    pub(super) fn next(&self) -> Option<HeadSize> {
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
/// (RFC 9112, 3.2), the method, and that no transfer coding frames a body, which smuggles requests
/// past whatever stands before this service (RFC 9112, 11.2).
pub(super) fn check(head: &Parts, size: Option<HeadSize>, methods: Methods) -> Result<(), BadHead> {
    let fits = |size: HeadSize| size.bytes <= MAX_HEAD_BYTES && size.fields <= MAX_HEAD_FIELDS;
    if !size.is_none_or(fits) {
        return Err(BadHead::TooLarge);
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    let proper = |host: &HeaderValue| {
        host.is_empty()
            || Authority::try_from(host.as_bytes()).is_ok_and(|host| !host.as_str().contains('@'))
    };
    match (hosts.next(), hosts.next()) {
        (None, _) if head.version != Version::HTTP_11 => {}
        (Some(host), None) if proper(host) => {}
        _ => return Err(BadHead::Malformed("one proper Host field is needed")),
    }
    if !methods.allow(&head.method) {
        return Err(BadHead::MethodNotAllowed(methods));
    }
    if head.headers.contains_key(TRANSFER_ENCODING) {
        return Err(BadHead::Malformed("nothing here takes a Transfer-Encoding"));
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
                let meter = HeadMeter::default();
                bytes.chunks(piece).for_each(|piece| meter.feed(piece));
                let measured: Vec<_> = std::iter::from_fn(|| meter.next()).collect();
                assert_eq!(measured, expected, "{:?} by {piece}", String::from_utf8_lossy(bytes));
            }
        }
    }

    #[test]
    fn checks_before_the_path() {
        let bad_host = || Err(BadHead::Malformed("one proper Host field is needed"));
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
            let refused = Err(BadHead::MethodNotAllowed(Methods::Get));
            assert_eq!(check(small, v11, method, &coded), refused);
        }
        let coded = [host, ("transfer-encoding", "chunked")];
        assert!(matches!(check(small, v11, "GET", &coded), Err(BadHead::Malformed(_))));
        for (size, fits) in [
            (size(MAX_HEAD_BYTES, MAX_HEAD_FIELDS), true),
            (size(MAX_HEAD_BYTES + 1, 3), false),
            (size(100, MAX_HEAD_FIELDS + 1), false),
        ] {
            assert_eq!(check(size, v11, "GET", &[host]).is_ok(), fits, "{size:?}");
        }
    }

    #[test]
    fn methods_depend_on_the_path() {
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
                    if allowed { Ok(()) } else { Err(BadHead::MethodNotAllowed(methods)) };
                assert_eq!(super::check(&head, None, methods), expected, "{method}");
            }
        }
    }
}
