//! The proxy that takes a tool its answers.

use std::time::Duration;

use botstats_tests::harness::Proxy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How long an answer has to be held: without the hold it arrives within a millisecond.
const HELD: Duration = Duration::from_millis(300);

async fn passes(from: &mut TcpStream, to: &mut TcpStream, text: &str) {
    from.write_all(text.as_bytes()).await.unwrap();
    let mut got = vec![0; text.len()];
    to.read_exact(&mut got).await.unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), text);
}

#[tokio::test]
async fn a_request_in_two_pieces_reaches_the_server_and_its_answer_reaches_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let proxy = Proxy::holding_after(port, "UPDATE.ONE ").await;
    let url = proxy.url();
    let mut client = TcpStream::connect(url.strip_prefix("nats://").unwrap()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();

    passes(&mut client, &mut server, "PUB UPDATE.ONE_AND_MORE PUB UPD").await;
    passes(&mut server, &mut client, "an answer").await;
    assert!(!proxy.holds());
    passes(&mut client, &mut server, "ATE.ONE 300").await;
    assert!(proxy.holds());
    // A long request is more than one piece.
    passes(&mut client, &mut server, &"x".repeat(300)).await;
    server.write_all(b"its answer").await.unwrap();
    let mut got = [0; 1];
    let read = tokio::time::timeout(HELD, client.read(&mut got)).await;
    assert!(read.is_err(), "{read:?} {got:?}");
}
