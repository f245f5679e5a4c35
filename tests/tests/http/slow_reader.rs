//! A client that does not read its answer: query closes it, its call is used, and other clients do
//! not notice.

use std::time::Duration;

use botstats_tests::harness::{Answer, PATIENCE, Stage, head_as, large, read_answer, send};
use botstats_tests::model::CODES;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Channels that make the answer larger than what sockets hold for a client.
const CHANNELS: usize = 12;
/// A pause after which the reader is still served.
const SHORT: Duration = Duration::from_secs(15);
/// A pause after which it is not: the limit is 30 s.
const LONG: Duration = Duration::from_secs(36);

/// Asks, reads nothing for a while, then reads on.
async fn pausing(stage: &Stage, account: usize, pause: Duration) -> std::io::Result<Answer> {
    let mut socket = TcpStream::connect(stage.query.http).await?;
    socket.write_all(&head_as(&stage.logins[account].token, &large(), &[])).await?;
    tokio::time::sleep(pause).await;
    tokio::time::timeout(PATIENCE, read_answer(&mut socket, false)).await?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_is_closed() -> anyhow::Result<()> {
    let stage = Stage::start("1h", 3).await;
    for login in &stage.logins {
        stage.add_channels(&login.account, CHANNELS).await;
    }

    let prompt = async {
        let head = head_as(&stage.logins[2].token, &large(), &[]);
        send(stage.query.http, &head, PATIENCE).await
    };
    let (short, long, prompt) =
        tokio::join!(pausing(&stage, 0, SHORT), pausing(&stage, 1, LONG), prompt);
    let prompt = prompt?;
    assert!(prompt.status == 200 && prompt.whole);
    let rows = prompt.json().as_array().map(Vec::len).unwrap_or_default();
    assert!(rows >= 29 * 24 * CODES.len() * CHANNELS, "{rows} rows");
    let short = short?;
    assert!(short.status == 200 && short.whole, "a pause of {SHORT:?}");
    // The connection ends before the answer does: closed, or reset.
    assert!(long.is_err() || long.is_ok_and(|answer| !answer.whole), "a pause of {LONG:?}");
    let again = stage.ask(&stage.logins[1]).await;
    assert_eq!(again.status, 429, "once the first byte is sent, the call is used");
    Ok(())
}
