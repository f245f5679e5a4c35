//! Bytes that a hostile client may send: the answer to each, what becomes of the connection, and
//! that none of them uses the account's call.

use std::net::SocketAddr;

use botstats_tests::generate::Dice;
use botstats_tests::harness::{ALL, Answer, Connection, Query, Stage, becomes};
use botstats_tests::{seed, setting};
use futures::future::join_all;
use tokio::io::AsyncWriteExt as _;

use self::Ending::{Closed, Open};
use self::Got::{Bare, Fine, Problem, Refused};

/// An answer, as far as the table says.
#[derive(Debug, Clone, Copy)]
enum Got {
    /// 200
    Fine,
    /// This status with this problem.
    Problem(u16, &'static str),
    /// This status without a body, from the parser.
    Bare(u16),
    /// This status, either way.
    Refused(u16),
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It takes another request.
    Open,
    /// The server closes it, in order.
    Closed,
}

/// Sends the bytes and compares all that comes back, to what becomes of the connection.
async fn check(address: SocketAddr, name: &str, bytes: &[u8], expected: &[Got], ending: Ending) {
    let mut connection = Connection::open(address).await.unwrap();
    // The server may have refused and closed before it took everything.
    let _sent = connection.send(bytes).await;
    for got in expected {
        let answer = connection.answer(bytes.starts_with(b"HEAD ")).await;
        let answer = answer.unwrap_or_else(|e| panic!("{name}: {e}"));
        let answer = answer.unwrap_or_else(|| panic!("{name}: closed, {got:?} was expected"));
        is(name, *got, &answer);
    }
    if ending == Open {
        assert!(connection.send(OPENAPI.as_bytes()).await.is_ok(), "{name}: closed");
        let answer = connection.answer(false).await;
        let answer = answer.unwrap_or_else(|e| panic!("{name}: the connection: {e}"));
        assert_eq!(answer.unwrap_or_else(|| panic!("{name}: closed")).status, 200, "{name}");
    } else {
        let end = connection.answer(false).await;
        let end = end.unwrap_or_else(|e| panic!("{name}: no end in order: {e}"));
        assert!(end.is_none(), "{name}: {end:?}");
    }
}

fn is(name: &str, got: Got, answer: &Answer) {
    let status = match got {
        Fine => 200,
        Problem(status, _) | Bare(status) | Refused(status) => status,
    };
    assert_eq!(answer.status, status, "{name}: {answer:?}");
    assert!(answer.whole, "{name}: {answer:?}");
    let has = |header: &str, value: &str| {
        let there = answer.header(header).unwrap_or_default();
        assert!(there.starts_with(value), "{name}: {header}: {answer:?}");
    };
    match got {
        // An answer to HEAD has no body.
        Problem(..) if answer.body.is_empty() => has("content-type", "application/problem+json"),
        Problem(_, code) => assert_eq!(answer.problem(), code, "{name}: {answer:?}"),
        Bare(_) => {
            has("connection", "close");
            assert!(answer.body.is_empty(), "{name}: {answer:?}");
        }
        Fine | Refused(_) => {}
    }
    match status {
        401 => has("www-authenticate", "Bearer realm="),
        405 => assert_eq!(answer.header("allow").as_deref(), Some("GET"), "{name}"),
        _ => {}
    }
}

const OPENAPI: &str = "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n";

/// A head of a GET for the description, with these lines added.
fn with(lines: &str) -> Vec<u8> {
    format!("GET /openapi.json HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

/// The same with what follows the head.
fn sent(lines: &str, body: &[u8]) -> Vec<u8> {
    [&with(lines), body].concat()
}

/// A line and a Host.
fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: a\r\n\r\n").into_bytes()
}

const BAD: &[Got] = &[Problem(400, "bad-request")];
const BARE: &[Got] = &[Bare(400)];
const NO_PATH: &[Got] = &[Problem(404, "unknown-path")];
const NO_METHOD: &[Got] = &[Problem(405, "method-not-allowed")];
const LARGE: &[Got] = &[Problem(431, "head-too-large")];

/// Framing, targets, methods: what the request is before anybody looks at its parameters.
fn shapes() -> Vec<(&'static str, Vec<u8>, &'static [Got], Ending)> {
    let bytes = |bytes: &[u8]| bytes.to_vec();
    let mut cases = vec![
        ("plain", with(""), &[Fine][..], Open),
        ("closing", with("Connection: close\r\n"), &[Fine], Closed),
        // Host
        ("no Host", bytes(b"GET /openapi.json HTTP/1.1\r\n\r\n"), BAD, Open),
        ("two Hosts", with("Host: a\r\n"), BAD, Open),
        ("two other Hosts", with("host: b\r\n"), BAD, Open),
        ("an empty Host", bytes(b"GET /openapi.json HTTP/1.1\r\nHost:\r\n\r\n"), &[Fine], Open),
        ("a bad Host", bytes(b"GET /openapi.json HTTP/1.1\r\nHost: a b/c\r\n\r\n"), BAD, Open),
        ("Host of a user", bytes(b"GET /openapi.json HTTP/1.1\r\nHost: u@a\r\n\r\n"), BAD, Open),
        ("Host of bytes", bytes(b"GET /openapi.json HTTP/1.1\r\nHost: \xff\r\n\r\n"), BAD, Open),
        // Bodies and their framing
        ("no length", with("Content-Length: 0\r\n"), &[Fine], Open),
        ("a byte", sent("Content-Length: 1\r\n", b"x"), &[Fine], Closed),
        ("a body that does not come", with("Content-Length: 10\r\n"), &[Fine], Closed),
        (
            "a body as large as is drained",
            [&with("Content-Length: 500000\r\n")[..], &[b'x'; 500_000]].concat(),
            &[Fine],
            Closed,
        ),
        (
            "a request in the body",
            [&with(&format!("Content-Length: {}\r\n", OPENAPI.len()))[..], OPENAPI.as_bytes()]
                .concat(),
            &[Fine],
            Closed,
        ),
        (
            "two equal lengths",
            sent("Content-Length: 1\r\nContent-Length: 1\r\n", b"x"),
            &[Fine],
            Closed,
        ),
        ("two lengths", with("Content-Length: 1\r\nContent-Length: 2\r\n"), BARE, Closed),
        ("a list of lengths", with("Content-Length: 1, 1\r\n"), BARE, Closed),
        ("a length with a sign", with("Content-Length: +1\r\n"), BARE, Closed),
        ("a negative length", with("Content-Length: -1\r\n"), BARE, Closed),
        ("a length in hex", with("Content-Length: 0x1\r\n"), BARE, Closed),
        ("an empty length", with("Content-Length:\r\n"), BARE, Closed),
        ("a length of 20 nines", with("Content-Length: 99999999999999999999\r\n"), BARE, Closed),
        ("2^64 - 1", with("Content-Length: 18446744073709551615\r\n"), &[Bare(431)], Closed),
        (
            "a length and a coding",
            sent("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
            BAD,
            Closed,
        ),
        (
            "a coding and a length",
            sent("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", b"0\r\n\r\n"),
            BAD,
            Closed,
        ),
        (
            "an empty chunked body and a request",
            [&with("Transfer-Encoding: chunked\r\n")[..], b"0\r\n\r\n", OPENAPI.as_bytes()]
                .concat(),
            BAD,
            Closed,
        ),
        ("chunked garbage", sent("Transfer-Encoding: chunked\r\n", b"zz\r\n"), BAD, Closed),
        (
            "a chunk size beyond all",
            sent("Transfer-Encoding: chunked\r\n", b"ffffffffffffffffff\r\n"),
            BAD,
            Closed,
        ),
        (
            "chunked twice",
            sent("Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"),
            BAD,
            Closed,
        ),
        ("another coding", with("Transfer-Encoding: gzip\r\n"), BARE, Closed),
        ("a coding that is none", with("Transfer-Encoding: identity\r\n"), BARE, Closed),
        ("nearly chunked", with("Transfer-Encoding: xchunked\r\n"), BARE, Closed),
        (
            "a coding in HTTP/1.0",
            bytes(b"GET /openapi.json HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            BARE,
            Closed,
        ),
        (
            "asks before it sends",
            with("Expect: 100-continue\r\nContent-Length: 5\r\n"),
            &[Fine],
            Closed,
        ),
        ("asks for nothing", with("Expect: 100-continue\r\n"), &[Fine], Open),
        ("expects something else", with("Expect: 200-ok\r\n"), &[Fine], Open),
        // Lines
        ("bare LF", bytes(b"GET /openapi.json HTTP/1.1\nHost: a\n\n"), &[Fine], Open),
        ("obs-fold", with("X: a\r\n b\r\n"), BARE, Closed),
        ("a fold after the first line", bytes(b"GET / HTTP/1.1\r\n X: 1\r\nHost: a\r\n\r\n"), BARE, Closed),
        ("space before the colon", with("X : a\r\n"), BARE, Closed),
        ("no colon", with("X\r\n"), BARE, Closed),
        ("no name", with(": x\r\n"), BARE, Closed),
        ("NUL in a value", with("X: a\0b\r\n"), BARE, Closed),
        ("CR in a value", with("X: a\rb\r\n"), BARE, Closed),
        ("NUL in a name", with("X\0: a\r\n"), BARE, Closed),
        ("bytes in a value", bytes(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\nX: \xff\xfe\r\n\r\n"), &[Fine], Open),
        ("empty lines first", [b"\r\n\r\n", OPENAPI.as_bytes()].concat(), &[Fine], Open),
        ("a space first", [b" ", OPENAPI.as_bytes()].concat(), BARE, Closed),
        // Versions
        ("HTTP/1.0", bytes(b"GET /openapi.json HTTP/1.0\r\n\r\n"), &[Fine], Closed),
        (
            "HTTP/1.0, kept",
            bytes(b"GET /openapi.json HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
            &[Fine],
            Open,
        ),
        ("HTTP/0.9", bytes(b"GET /openapi.json\r\n"), BARE, Closed),
        ("HTTP/1.2", line("GET /openapi.json HTTP/1.2"), BARE, Closed),
        ("HTTP/2.0", line("GET /openapi.json HTTP/2.0"), BARE, Closed),
        ("http/1.1", line("GET /openapi.json http/1.1"), BARE, Closed),
        ("the preface of HTTP/2", bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), &[], Closed),
        ("TLS", bytes(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), BARE, Closed),
        ("two spaces", line("GET  /openapi.json HTTP/1.1"), BARE, Closed),
        ("a tab", line("GET\t/openapi.json HTTP/1.1"), BARE, Closed),
        (
            "upgrade to h2c",
            with("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
            &[Fine],
            Open,
        ),
        (
            "upgrade to a web socket",
            with("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
            &[Fine],
            Open,
        ),
        // Targets
        ("absolute", line("GET http://a/openapi.json HTTP/1.1"), &[Fine], Open),
        ("absolute, another host", line("GET http://evil.example/openapi.json HTTP/1.1"), &[Fine], Open),
        ("absolute without Host", bytes(b"GET http://a/openapi.json HTTP/1.1\r\n\r\n"), BAD, Open),
        ("absolute without a path", line("GET http://a HTTP/1.1"), NO_PATH, Open),
        ("authority", line("GET a:80 HTTP/1.1"), NO_PATH, Open),
        ("asterisk", line("GET * HTTP/1.1"), NO_PATH, Open),
        ("no slash", line("GET openapi.json HTTP/1.1"), NO_PATH, Open),
        ("two slashes", line("GET //openapi.json HTTP/1.1"), NO_PATH, Open),
        ("a slash behind", line("GET /openapi.json/ HTTP/1.1"), NO_PATH, Open),
        ("dots", line("GET /x/../openapi.json HTTP/1.1"), NO_PATH, Open),
        ("encoded dots", line("GET /x/%2e%2e/openapi.json HTTP/1.1"), NO_PATH, Open),
        ("an encoded path", line("GET /openapi%2ejson HTTP/1.1"), &[Fine], Open),
        ("encoded twice", line("GET /openapi%252ejson HTTP/1.1"), NO_PATH, Open),
        ("an encoded slash", line("GET /%2Fopenapi.json HTTP/1.1"), NO_PATH, Open),
        ("the health", line("GET /healthz HTTP/1.1"), &[Fine], Open),
        ("the health, HEAD", line("HEAD /healthz HTTP/1.1"), &[Fine], Open),
        ("the health, HTTP/1.0", bytes(b"GET /healthz HTTP/1.0\r\n\r\n"), &[Fine], Closed),
        ("the health, HEAD, HTTP/1.0", bytes(b"HEAD /healthz HTTP/1.0\r\n\r\n"), &[Fine], Closed),
        ("the health without a Host", bytes(b"GET /healthz HTTP/1.1\r\n\r\n"), BAD, Open),
        ("a slash behind the health", line("GET /healthz/ HTTP/1.1"), NO_PATH, Open),
        ("another case", line("GET /OpenAPI.json HTTP/1.1"), NO_PATH, Open),
        ("NUL in the path", line("GET /open\0api.json HTTP/1.1"), BARE, Closed),
        ("a byte in the path", bytes(b"GET /open\xffapi.json HTTP/1.1\r\nHost: a\r\n\r\n"), BARE, Closed),
        ("an internal path", line("GET /metrics HTTP/1.1"), NO_PATH, Open),
        // Methods
        ("CONNECT", line("CONNECT a:80 HTTP/1.1"), NO_METHOD, Open),
        ("OPTIONS *", line("OPTIONS * HTTP/1.1"), NO_METHOD, Open),
        ("no path and no GET", line("POST /x HTTP/1.1"), NO_METHOD, Open),
        ("HEAD", line("HEAD /openapi.json HTTP/1.1"), NO_METHOD, Open),
        (
            "POST with a body",
            bytes(b"POST /openapi.json HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"),
            NO_METHOD,
            Closed,
        ),
        (
            "POST in chunks",
            bytes(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
            NO_METHOD,
            Closed,
        ),
        ("no method's name", line("GE(T /openapi.json HTTP/1.1"), BARE, Closed),
        // One behind the other
        ("three at once", OPENAPI.repeat(3).into_bytes(), &[Fine, Fine, Fine], Open),
        (
            "refused and good",
            [&line("GET /x HTTP/1.1")[..], OPENAPI.as_bytes(), &line("PUT / HTTP/1.1")].concat(),
            &[Problem(404, "unknown-path"), Fine, Problem(405, "method-not-allowed")],
            Open,
        ),
        ("good and garbage", [OPENAPI.as_bytes(), b"\x00\x01\r\n\r\n"].concat(), &[Fine, Bare(400)], Closed),
        (
            "after the last",
            [&with("Connection: close\r\n")[..], OPENAPI.as_bytes()].concat(),
            &[Fine],
            Closed,
        ),
        (
            "after a body",
            [&with("Content-Length: 2\r\n")[..], b"hi", OPENAPI.as_bytes()].concat(),
            &[Fine],
            Closed,
        ),
    ];
    for method in [
        "POST",
        "PUT",
        "DELETE",
        "OPTIONS",
        "PATCH",
        "TRACE",
        "PROPFIND",
        "get",
        "A!#$%&'*+-.^_`|~0",
    ] {
        cases.push((
            method_name(method),
            line(&format!("{method} {ALL} HTTP/1.1")),
            NO_METHOD,
            Open,
        ));
    }
    cases
}

fn method_name(method: &str) -> &'static str {
    if method == "get" { "get in small letters" } else { "another method" }
}

/// The limits of a head.
fn sizes() -> Vec<(String, Vec<u8>, &'static [Got], Ending)> {
    let mut cases = Vec::new();
    // With Host.
    for (more, expected, ending) in [
        (63, &[Fine][..], Open),
        (64, LARGE, Open),
        (99, LARGE, Open),
        // What the parser does not read.
        (100, &[Bare(431)], Closed),
        (5_000, &[Bare(431)], Closed),
    ] {
        let fields: String = (0..more).map(|n| format!("x-{n}:\r\n")).collect();
        cases.push((format!("{} fields", more + 1), with(&fields), expected, ending));
    }
    let empty = with("x: \r\n").len();
    let limit = 16 * 1024;
    for (bytes, expected, ending) in [
        (limit - 1, &[Fine][..], Open),
        (limit, &[Fine], Open),
        (limit + 1, LARGE, Open),
        (20_000, LARGE, Open),
    ] {
        for (filler, what) in [("x", "a value"), (" ", "white space")] {
            let head = with(&format!("x: {}\r\n", filler.repeat(bytes - empty)));
            cases.push((format!("{bytes} bytes of {what}"), head, expected, ending));
        }
        let lines = format!("{}{OPENAPI}", "\r\n".repeat((bytes - OPENAPI.len()).div_ceil(2)));
        let fits = if lines.len() <= limit { &[Fine][..] } else { LARGE };
        cases.push((format!("{} bytes with empty lines", lines.len()), lines.into(), fits, ending));
        let path = "y".repeat(bytes - line("GET / HTTP/1.1").len());
        let target = line(&format!("GET /{path} HTTP/1.1"));
        let unknown = if bytes <= limit { NO_PATH } else { LARGE };
        cases.push((format!("{bytes} bytes of path"), target, unknown, ending));
    }
    for bytes in [30_000, 50_000, 65_536, 66_000, 70_000, 100_000, 140_000, 500_000] {
        let large = "x".repeat(bytes);
        let refused: &[Got] = &[Refused(431)];
        // Which of the two limits it met cannot be said, but the answer can be read in any case.
        for (what, head) in [
            ("value", with(&format!("x: {large}\r\n"))),
            ("name", with(&format!("{large}: x\r\n"))),
            ("path", line(&format!("GET /{large} HTTP/1.1"))),
            ("query", line(&format!("GET /openapi.json?{large} HTTP/1.1"))),
            ("token", with(&format!("Authorization: Bearer {large}\r\n"))),
        ] {
            let with_end = [&head[..head.len() - 4], b"\r\nConnection: close\r\n\r\n"].concat();
            cases.push((format!("{bytes} bytes of {what}"), with_end, refused, Closed));
        }
    }
    cases
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_has_its_answer() {
    let stage = Stage::start("1h", 1).await;
    let address = stage.query.http;
    for (name, bytes, expected, ending) in shapes() {
        check(address, name, &bytes, expected, ending).await;
    }
    for (name, bytes, expected, ending) in sizes() {
        check(address, &name, &bytes, expected, ending).await;
    }
    // However it arrives.
    let mut connection = Connection::open(address).await.unwrap();
    for byte in with("x: y\r\n") {
        connection.send(&[byte]).await.unwrap();
    }
    assert_eq!(connection.answer(false).await.unwrap().unwrap().status, 200);
    // A problem is a problem though nobody asked for its media type.
    let accept = "GET /x HTTP/1.1\r\nHost: a\r\nAccept: image/png\r\n\r\n";
    check(address, "Accept of a problem", accept.as_bytes(), NO_PATH, Open).await;
    assert_eq!(stage.ask(&stage.logins[0]).await.status, 200, "the call was not used");
}

/// A request about the statistics with these lines for the token and more.
fn statistics(tail: &str, lines: &str) -> Vec<u8> {
    format!("GET /analytics/statistics/account/{tail} HTTP/1.1\r\nHost: a\r\n{lines}\r\n").into()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_and_header_has_its_answer() {
    let stage = Stage::start("1h", 1).await;
    let address = stage.query.http;
    let login = &stage.logins[0];
    let token = format!("Authorization: Bearer {}\r\n", login.token);

    let bad: &[Got] = &[Problem(400, "bad-parameter")];
    // Bytes and encodings that HTTP treats specially: one for each rule. (The unit tests of
    // `query/src/request/question.rs` have all values of parameters.)
    for nasty in ["", "..", "%2e%2e", "%00", "%zz", "%FF", "%252A", "%0d%0a", "\u{661}", "\\"] {
        for place in 0..4 {
            let mut parts = ["*", "1", "day", "1"];
            parts[place] = nasty;
            let bytes = statistics(&parts.join("/"), &token);
            check(address, &format!("{nasty:?} at {place}"), &bytes, bad, Open).await;
        }
    }
    let long = "9".repeat(10_000);
    let (mode, types) = ("d".repeat(10_000), "1,".repeat(5_000));
    for tail in [
        format!("*/1/day/{long}"),
        format!("*/{long}/day/1"),
        format!("*/{types}1/day/1"),
        format!("*/1/{mode}/1"),
        format!("{long}/1/day/1"),
        "///".to_owned(),
        "*/1/day/1?".to_owned() + &"fill=zero&".repeat(1_000),
        "*/1/day/1?fill[]=zero".to_owned(),
        "*/1/day/1??".to_owned(),
        "*/1/day/1?%ff=%zz".to_owned(),
    ] {
        let name = tail.chars().take(40).collect::<String>();
        check(address, &name, &statistics(&tail, &token), bad, Open).await;
    }
    for tail in [
        "*/1/day",
        "*/1/day/1/",
        "*/1/day/1/2",
        "*",
        "",
        "a/b/*/1/day/1",
        "*%2F1/day/1",
        "%2A%2F1%2Fday%2F1",
    ] {
        check(address, tail, &statistics(tail, &token), NO_PATH, Open).await;
    }

    let no: &[Got] = &[Problem(401, "unauthorized")];
    let good = &login.token;
    for lines in [
        String::new(),
        "Authorization:\r\n".to_owned(),
        "Authorization: Bearer\r\n".to_owned(),
        "Authorization: Bearer \t \r\n".to_owned(),
        format!("Authorization: Bearer\t{good}\r\n"),
        format!("Authorization: {good}\r\n"),
        format!("Authorization: Bearer{good}\r\n"),
        format!("Authorization: Bearer={good}\r\n"),
        format!("Authorization: Bearer \"{good}\"\r\n"),
        format!("Authorization: Bearer {good},\r\n"),
        format!("Authorization: Bearer {good} {good}\r\n"),
        format!("Authorization: Bearer {good}%00\r\n"),
        format!("Authorization: Bearer token={good}\r\n"),
        format!("Authorization: Token {good}\r\n"),
        format!("Authorization: Basic {good}\r\n"),
        format!("Authorization: Negotiate {good}\r\n"),
        format!("Authorization: \u{feff}Bearer {good}\r\n"),
        format!("Proxy-Authorization: Bearer {good}\r\n"),
        format!("X-Authorization: Bearer {good}\r\n"),
        format!("Cookie: token={good}\r\n"),
        format!("{token}{token}"),
        format!("Authorization: Basic eA==\r\n{token}"),
        format!("{token}authorization: Bearer x\r\n"),
        format!("Authorization: Bearer {}\r\n", good.to_uppercase()),
        format!("Authorization: Bearer {good}=\r\n"),
        format!("Authorization: Bearer {}\r\n", &good[1..]),
        format!("Authorization: Bearer {}\r\n", "x".repeat(512)),
        format!("Authorization: Bearer {}\r\n", "x".repeat(513)),
        format!("Authorization: Bearer {}\r\n", "x".repeat(15_000)),
        "Authorization: Bearer \u{e9}\u{e9}\r\n".to_owned(),
    ] {
        let name: String = lines.chars().take(60).collect();
        check(address, &name, &statistics("*/1/day/1", &lines), no, Open).await;
    }
    let in_query = format!("*/1/day/1?access_token={good}");
    check(address, "a token in the query", &statistics(&in_query, ""), no, Open).await;

    // That a header is taken shows in a 404 behind it, which costs nothing.
    let missing: &[Got] = &[Problem(404, "not-found")];
    let none: &[Got] = &[Problem(406, "not-acceptable")];
    let thousand = |item: &str| vec![item; 1_000].join(",");
    for (lines, expected) in [
        (format!("Authorization:   BEARER    {good}  \r\n"), missing),
        (format!("aUTHORIZATION:bearer {good}\r\n"), missing),
        (format!("{token}Accept: */*;q=0.001\r\n"), missing),
        (format!("{token}Accept: {}\r\n", thousand("a/b")), none),
        (format!("{token}Accept: {},text/csv\r\n", thousand("a/b")), missing),
        (format!("{token}Accept: {}\r\n", thousand("*/*;q=0")), none),
        (format!("{token}Accept: ;,;,;q=1,/,//,*/,/*\r\n"), none),
        (format!("{token}Accept: */*;q=1.001\r\n"), none),
        (format!("{token}Accept: */*;q=-1\r\n"), none),
        (format!("{token}Accept: */*;q=0.0000\r\n"), none),
        (format!("{token}Accept: */*;q=\"1\"\r\n"), none),
        (format!("{token}Accept: \"*/*\r\n"), none),
        // A field that is no text is as good as none.
        (format!("{token}Accept: \u{e9}/\u{e9}, a/b\r\n"), missing),
        (format!("{token}{}", "Accept: a/b\r\n".repeat(50)), none),
        (format!("{token}{}Accept: */*\r\n", "Accept: a/b\r\n".repeat(50)), missing),
        (format!("{token}Accept-Encoding: {}\r\n", thousand("br")), missing),
        (format!("{token}Accept-Encoding: {}\r\n", thousand("identity;q=0")), none),
        (format!("{token}Accept-Encoding: *;q=0\r\n"), none),
        (format!("{token}Accept-Encoding: gzip;q=nan, identity;q=0\r\n"), none),
        (format!("{token}Accept-Encoding: \u{e9}\r\n"), missing),
        (
            format!("{token}Range: bytes=0-1\r\nIf-None-Match: *\r\nIf-Modified-Since: x\r\n"),
            missing,
        ),
        (format!("{token}X-Forwarded-Host: evil\r\nX-HTTP-Method-Override: POST\r\n"), missing),
    ] {
        let name: String =
            lines.chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
        check(address, &name, &statistics("no_such_key/1/day/1", &lines), expected, Open).await;
    }

    let bytes = [statistics("*/1/day/1", &token), statistics("*/1/day/1", &token)].concat();
    let used: &[Got] = &[Fine, Problem(429, "throttled")];
    check(address, "two calls in one piece, the first is the one", &bytes, used, Open).await;
}

/// A client that is gone before its answer has not used its call; one that reads it has.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_keeps_its_call() {
    let stage = Stage::start("1h", 8).await;
    let (mut kept, mut used) = (0, 0);
    for (number, login) in stage.logins.iter().enumerate() {
        let mut connection = Connection::open(stage.query.http).await.unwrap();
        let head = statistics("*/1/day/1", &format!("Authorization: Bearer {}\r\n", login.token));
        connection.send(&head).await.unwrap();
        connection.socket.shutdown().await.unwrap();
        let first = if number % 2 == 0 {
            let answer = connection.answer(false).await.ok().flatten();
            answer.filter(|answer| answer.whole).map(|answer| answer.status)
        } else {
            drop(connection);
            None
        };
        let then = stage.ask(login).await.status;
        match (first, then) {
            // It was faster than the end of the connection.
            (Some(200), 429) => used += 1,
            (None, 200) => kept += 1,
            (None, 429) if number % 2 == 1 => used += 1,
            (None, 429) => {
                // The claim was on its way, and is taken back.
                becomes(stage.query.http, &login.token, ALL, 200).await;
                kept += 1;
            }
            other => panic!("account {number}: {other:?}"),
        }
    }
    eprintln!("calls kept {kept}, used {used}");
}

/// Good requests with damage: whatever comes back is whole, is no 5xx, and nothing else suffers.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_requests() {
    let stage = Stage::start("0s", 1).await;
    // What keeps its connection open is waited for.
    let mut settings = stage.site.settings();
    settings.push(("BOTSTATS_HTTP_IDLE", "3s".to_owned()));
    let query = Query::start(&settings, "0s", &stage.site.folder("impatient")).await;
    query.ready().await;
    let address = query.http;
    let seed = seed();
    let good = statistics(
        "*/0,13/hour/2?fill=zero",
        &format!(
            "Authorization: Bearer {}\r\nAccept: text/csv;q=0.5, */*\r\nAccept-Encoding: gzip\r\n\
             Connection: close\r\n",
            stage.logins[0].token
        ),
    );
    // Found: damage can make the path that of a bot's call, which a token of an account may not
    // make.
    let text = String::from_utf8(good.clone()).unwrap();
    let found = text.replacen("account/*/0,", "accou,nt/*/0,?", 1).into_bytes();
    let mut dice = Dice::new(seed);
    let mut statuses = std::collections::BTreeMap::<u16, u32>::new();
    let mut left = setting("BOTSTATS_TEST_DAMAGED", 600);
    while left > 0 {
        let batch = left.min(300);
        left -= batch;
        let damaged = (0..batch).map(|_| damaged(&good, &mut dice));
        let all: Vec<Vec<u8>> = damaged.chain([found.clone()]).collect();
        let answers = all.iter().map(|bytes| async {
            let mut connection = Connection::open(address).await.unwrap();
            let _sent = connection.send(bytes).await;
            // What waits for more bytes ends by itself.
            let mut read = Vec::new();
            let shown = String::from_utf8_lossy(bytes);
            while let Some(answer) = connection
                .answer(bytes.starts_with(b"HEAD "))
                .await
                .unwrap_or_else(|e| panic!("seed {seed}: {e}: {shown:?}"))
            {
                assert!(answer.whole, "seed {seed}: cut off: {shown:?}");
                read.push(answer.status);
            }
            read
        });
        for (bytes, answers) in all.iter().zip(join_all(answers).await) {
            for status in answers {
                *statuses.entry(status).or_default() += 1;
                let shown = String::from_utf8_lossy(bytes);
                let path = shown.split([' ', '?']).nth(1).unwrap_or_default();
                let is_allowed = match status {
                    403 => !path.contains("/statistics/account/"),
                    _ => [100, 200, 400, 401, 404, 405, 406, 431].contains(&status),
                };
                assert!(is_allowed, "seed {seed}: {status} for {shown:?}");
            }
        }
    }
    eprintln!("{statuses:?}");
    assert!(statuses.contains_key(&403));
    assert_eq!(stage.ask(&stage.logins[0]).await.status, 200);
}

fn damaged(good: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=dice.index(4) {
        let at = dice.index(bytes.len());
        match dice.index(6) {
            0 => bytes[at] = u8::try_from(dice.below(256)).unwrap(),
            1 => bytes[at] = *dice.pick(b"\0\r\n \t:/%?&=,;\"*\x7f\xff"),
            2 => {
                bytes.remove(at);
            }
            3 => bytes.insert(at, *dice.pick(b"\0\r\n \t:/%?&=,;\"*\x7f\xff")),
            4 => bytes.truncate(at.max(1)),
            _ => {
                let end = (at + dice.index(40)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = dice.index(bytes.len());
                bytes.splice(to..to, copy);
            }
        }
        if bytes.is_empty() {
            bytes.push(b'G');
        }
    }
    bytes
}
