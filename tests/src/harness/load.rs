//! Many clients at once: connections that wait, floods of refused requests, an account that asks
//! without a pause.

use std::net::SocketAddr;

use botstats_common::io::stop;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{ALL, Connection, PATIENCE, head_as, send};

/// Open files that a test needs beside its connections.
const OTHER_FILES: usize = 500;
/// Clients of a flood, and of an account that hammers.
const CLIENTS: usize = 64;

/// Allows as many open files as there may be, and says how many connections of that number can be
/// had.
pub fn allow_connections(wanted: usize) -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("a limit");
    let allowed = maximum.map_or(usize::MAX, |all| usize::try_from(all).unwrap_or(usize::MAX));
    let had = wanted.min(allowed.saturating_sub(OTHER_FILES));
    if had < wanted {
        eprintln!("only {had} of {wanted} connections: the system allows no more open files");
    }
    had
}

/// Opens connections that have sent these bytes.
pub async fn open(address: SocketAddr, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let mut socket = TcpStream::connect(address).await.expect("a connection");
        // One that was displaced already can't be written to.
        let _sent = socket.write_all(bytes).await;
        sockets.push(socket);
    }
    sockets
}

/// Sends the request over many connections, one after the other on each, until that number is
/// answered.
pub async fn flood(address: SocketAddr, request: &[u8], total: usize, expected: u16) {
    let clients = (0..CLIENTS).map(|_| {
        let request = request.to_vec();
        stop::spawn(async move {
            let mut connection = Connection::open(address).await.expect("a connection");
            for _ in 0..total.div_ceil(CLIENTS) {
                connection.send(&request).await.expect("an open connection");
                let answer = connection.answer(request.starts_with(b"HEAD")).await;
                let answer = answer.expect("an answer").expect("no end of the connection");
                assert_eq!(answer.status, expected, "{answer:?}");
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("a client that gets its answers");
    }
}

/// Asks for everything with that token, without a pause, until `ended`; gives how many answers
/// there were.
pub fn hammer(address: SocketAddr, token: &str, ended: CancellationToken) -> JoinHandle<usize> {
    let request = head_as(token, ALL, &[]);
    stop::spawn(async move {
        let client = |_| stop::spawn(asks_on(address, request.clone(), ended.clone()));
        let mut answered = 0;
        for client in (0..CLIENTS).map(client).collect::<Vec<_>>() {
            answered += client.await.expect("a client that gets its answers");
        }
        answered
    })
}

async fn asks_on(address: SocketAddr, request: Vec<u8>, ended: CancellationToken) -> usize {
    let mut answered = 0;
    while !ended.is_cancelled() {
        let answer = send(address, &request, PATIENCE).await.expect("an answer");
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        answered += 1;
    }
    answered
}
